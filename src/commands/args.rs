//! The arguments of verbs that are not in the verbs' own files yet.

mod capture;
mod deliver;
pub mod drill;
mod report;
mod run;

pub use self::capture::CaptureArgs;
pub use self::deliver::{KnownServers, PublishArgs, RestoreArgs, RollbackArgs};
pub use self::report::ReportArgs;
pub use self::run::{InitPlanArgs, LogFormat, RunArgs};
