//! Foundation of every part of snapmerge, which knows nothing of Qdrant.
//!
//! | module | what it is for |
//! |---|---|
//! | [`error`] | the one error type and its kinds |
//! | [`operation`] | typed requests and reports |
//! | [`durable`] | files published whole: staged, synced, renamed |
//! | [`scratch`] | working folders that go away, and free disk space |
//! | [`overwrite`] | files that are read, which nothing may overwrite |
//! | [`own`] | files and folders that are this user's alone |
//! | [`path`] | what a path tells of its file |
//! | [`parallel`] | pieces of work side by side |
//! | [`progress`], [`stage`] | progress while work lasts, times when it is done |
//! | [`printable`] | text of others as it may be shown |
//! | [`status`], [`stop`] | what a supervised process tells its parent; Ctrl-C |
//!
//! Invariants: nothing here names another module of the crate.

pub mod durable;
pub mod error;
pub mod lines;
pub mod operation;
pub mod overwrite;
pub mod own;
pub mod parallel;
pub mod path;
pub mod printable;
pub mod progress;
pub mod scratch;
pub mod sidecar;
pub mod stage;
pub mod status;
pub mod stop;
pub(crate) mod text;
pub mod words;

mod workspace;

pub use self::workspace::Workspace;
