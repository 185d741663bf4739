//! Merging: plan, scan, resolve, and the routes by which a master comes to be.
//!
//! Keeps true: a plan is made and can be printed before anything is done; records flow in the order
//! of ids, in bounded memory; every record that is read is accounted for.

mod conflict;
mod flow;
mod graft;
mod layout;
mod ledger;
mod lend;
mod parts;
mod plan;
mod provenance;
mod rebuild;
mod replay;
mod resolve;
mod ring;
mod route;
mod scan;
mod union;
mod write;

pub use conflict::{Policy, Verdict, remapped};
pub use graft::{Carried, Consolidated, ShardLane, graft, look_into, overlaps};
pub use layout::Layout;
pub use ledger::{Conflict, Ledger};
pub use lend::{Lent, lend};
pub use plan::{Needs, Plan, PlanView, Settings, Stamp, plan, require_disk};
pub use provenance::{Outcome, Provenance, ProvenanceSource, ProvenanceStamp, provenance_file};
pub use rebuild::{Built, BuiltShard, Site, rebuild};
pub use replay::{Asked, Checked, Done, Onto, Replayed, Synced, Target, replay};
pub use resolve::{Resolver, Tally};
pub use ring::ShardRing;
pub use route::Route;
pub use scan::{Groups, Hashed, Lane, Reading, Scan, Scanned, lanes};
pub use union::Union;
