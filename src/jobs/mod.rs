//! Jobs: one merge as tasks that some other engine places, retries and counts: Kubernetes, Slurm, Ray.
//!
//! A job is a folder in a store, a local one or a prefix in a bucket. `plan.json` says what is merged and how;
//! each task makes one of the master's shards, and says so in `parts/INDEX.json`; joining them gives the master. Where
//! the master has other shards than the sources, tasks make a run of each source shard before that, in `runs/INDEX.json`.
//!
//! Invariants: the same sources, options and version are the same job; what is written under a name is never
//! replaced; a task that is run again, or twice at once, changes nothing; every byte of a part is hashed when it is
//! written and compared when it is read.

mod chunks;
mod folder;
mod index;
mod join;
mod parts;
mod plan;
mod remove;
mod runs;
mod status;
mod task;

pub use self::index::Stage;
pub use self::join::{JoinReport, JoinRequest};
pub use self::plan::{JobPlanReport, JobPlanRequest, StagePlan};
pub use self::remove::{JobRemoveReport, JobRemoveRequest};
pub use self::status::{JobStatusReport, JobStatusRequest, TaskState};
pub use self::task::{TaskReport, TaskRequest};
