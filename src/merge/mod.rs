//! Merging: plan, resolve the route, and make the master.
//!
//! Keeps true: a plan is made and can be printed before anything is done; records flow in the order
//! of ids, in bounded memory; every record that is read is accounted for.

mod built;
mod graft;
mod lend;
mod parts;
mod plan;
mod rebuild;
mod replay;
mod route;
mod settings;
mod write;

pub use built::{Built, BuiltShard, Carried, Consolidated};
pub use graft::graft;
pub use lend::{Lent, lend};
pub use plan::{Needs, Plan, PlanView, plan, require_disk};
pub use rebuild::rebuild;
pub use replay::{Asked, Checked, Done, Onto, Replayed, Synced, Target, replay};
pub use settings::{Route, Settings};
