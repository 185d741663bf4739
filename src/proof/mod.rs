//! Proof: that a master holds what it should.
//!
//! Keeps true: what is proven is read back from the packed file as any reader would find it, never
//! from memory; what was looked at is counted, and nothing looked at is never a pass.

mod answers;
mod carried;
mod diff;
mod difference;
mod meet;
mod near;
mod readback;
mod sampled;
mod settings;
mod settled;
mod structure;
mod verify;

pub use answers::{Answers, Asking, DifferentAnswer, FilteredBy, KindAnswers, Latency};
pub use carried::read_carried;
pub use diff::{Change, Changed, Diffed, SyncStep, diff_lanes};
pub use difference::{Difference, SettingDifference, Wrong};
pub use meet::meet;
pub use near::{Likeness, Nearness};
pub use readback::{Expected, Proof, read_back};
pub use settings::{Wanted, config_differences, setting_differences};
pub use settled::Sides;
pub use structure::{SetStructure, Structure};
pub use verify::{
    Asked, ByBytes, Placement, Points, Proven, Rules, ShardShape, Verified, Walked, by_bytes,
    compare_lanes, verify, walk,
};
