//! Sources as one stream of points in the order of their identities.
//!
//! Invariants: memory is bounded by the number of streams times a page; every record of every stream
//! is yielded once; the same sources and options give the same records in the same order.

mod by_field;
mod change;
mod conflict;
mod flow;
mod frames;
mod join;
mod layout;
mod ledger;
mod newest;
mod opening;
mod options;
mod overlap;
mod placement;
mod point_stream;
mod resolve;
mod ring;
mod sampled;
mod scan;
mod segments;
mod shape;
mod sides;
mod sort;
mod union;

pub use change::{Changed, PayloadChange};
pub use conflict::{Policy, Verdict, decide, remapped};
pub use flow::{Flow, Flowed};
pub use frames::{Placed, read_placed, write_placed};
pub use join::merge_join;
pub use layout::Layout;
pub use ledger::{Conflict, Lacking, Ledger};
pub use newest::{DecidingField, Found, deciding_field, find, refuse_unknown_field};
pub use opening::{Opened, Reads, close_all, open_all, opening_bytes};
pub use options::{LayoutChoice, RecordOptions, Stamp, StampValue, UnionOptions};
pub use overlap::overlaps_by_key;
pub use placement::refuse_misplaced;
pub use point_stream::{PointStream, identity_key, in_master, point_streams};
pub use resolve::{Resolver, Tally};
pub use ring::ShardRing;
pub use sampled::sampled;
pub use scan::{Groups, Hashed, Scan, Scanned, digest};
pub use segments::{Expectations, SegmentPlan, ShardPlan, Tail, gets_index, plan_segments};
pub use shape::master_shape;
pub use sides::{Sides, count};
pub use sort::{Records, Sorted, Sorter};
pub use union::Union;
