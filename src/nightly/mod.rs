//! A whole night by a plan: capture, archive, merge, verify, restore, publish, retention, report.
//!
//! Keeps true: whatever can be known to be wrong is found before anything is done; the alias moves to
//! a proven master or not at all; what a killed run did is checked before it is relied on, and what it
//! left undone is done by the next one.

mod hands;
mod journal;
mod look;
mod master;
mod metrics;
mod night;
mod notify;
mod plan;
mod publish;
mod remembered;
mod retention;
mod sources;
mod told;
mod written;

pub use self::hands::{Called, Calling, Hand};
pub use self::look::{Look, look};
pub use self::night::{Options, run};
pub use self::plan::{Plan, Reader, TEMPLATE, schema};
pub use self::told::{Outcome, Told};
