//! Proof: that a master holds what it should.
//!
//! Invariants: what is proven is read back from the packed file as any reader would find it, never
//! from memory; what was looked at is counted, and an empty sample is never a pass.

mod answers;
mod carried;
mod compare;
mod diff;
mod differ;
mod difference;
mod frame;
mod graphs;
mod near;
mod provenance;
mod readback;
mod report;
mod request;
mod settings;

pub use answers::{
    Answers, Asking, DifferentAnswer, FilteredBy, KindAnswers, Latency, SetStructure, Structure,
};
pub use carried::read_carried;
pub use compare::{
    ByBytes, Placement, Points, ProofRequest, Proven, Rules, ShardShape, Verified, Walked,
    by_bytes, compare_lanes, verify, walk,
};
pub use diff::{Change, Changed, Diffed, SyncStep, diff_streams};
pub use differ::{DiffReport, DiffRequest};
pub use difference::{Difference, SettingDifference, Wrong};
pub use frame::frame_differences;
pub use near::{Likeness, Nearness};
pub use provenance::{Outcome, Provenance, ProvenanceSource, ProvenanceStamp};
pub use readback::{Expected, Packed, Proof, read_back};
pub use report::{MadeWith, Verdict, VerifyReport};
pub use request::VerifyRequest;
pub use settings::{ExpectedConfig, config_differences, setting_differences};
