//! Bringing masters onto servers, and moving the alias.
//!
//! Keeps true: what can be refused is refused before a byte moves; a collection that is there is
//! never written over unless that was asked for; what does not come out as the snapshot says is
//! removed again; an alias moves in one call, and the way back is remembered.

mod expect;
mod history;
pub mod keys;
mod preflight;
mod publish;
mod restore;
mod shard;
mod state;
mod verify;

pub use expect::{Expected, Points};
pub use history::{History, Master};
pub use publish::{Allow, Change, PublishRequest, RollbackRequest, publish, rollback};
pub use restore::{Options, Restored, restore};
pub use state::{About, StateFolder};
pub use verify::Difference;
