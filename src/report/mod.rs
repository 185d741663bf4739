//! What is told: as text for people, as JSON for programs, as progress while it lasts.
//!
//! Keeps true: text and JSON are made of the same values; nothing here decides anything.

pub mod diff;
pub mod html;
pub mod inspect;
pub mod merge;
pub mod verify;
