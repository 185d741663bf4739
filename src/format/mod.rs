//! Snapshots as they lie on disk: read safely, unpacked, packed.
//!
//! Invariants: nothing here trusts a byte of a snapshot, and nothing here needs the storage engine.

mod composed;
mod extents;
mod file;
mod full;
mod graph;
mod gzip;
pub mod ids;
mod input;
mod kind;
pub mod layout;
mod member;
mod name;
mod pack;
mod partial;
pub mod payloads;
pub mod readable;
mod readback;
pub mod records;
pub mod releases;
pub mod rocks;
pub mod schema;
mod servers;
mod snapshot;
mod storage;
mod tar;
mod transplant;
mod unpack;
pub mod wal;
mod writer;

pub use composed::Composition;
pub use extents::{PackedFile, Record, Run, TarExtents};
pub use file::{FileIdentity, Parts, RangeReader, SnapshotFile, StoredSnapshot};
pub use input::{Algorithm, Hashes, Input, Sha256Hex, hash_file};
pub use kind::{DenseStorage, SegmentKind};
pub use member::{FullHashes, FullMember, FullSnapshot};
pub use name::source_name;
pub use pack::{PackedShard, ToPack};
pub use partial::{SegmentManifest, ShardManifest};
pub use readback::{Sums, Written};
pub use servers::{Servers, Version};
pub use snapshot::{FileSize, Form, Segment, Shard, Snapshot, Strays, Want};
pub use storage::Bits;
pub use tar::{Member, MemberKind, Piece, Stream, Walker, skip_by_reading, skip_within};
pub use transplant::{TRAILER_BYTES, Transplant, size_in_tar};
pub use unpack::{PackedSegment, Unpacked, Unpacking, unpack, walk_segments};
pub use writer::SnapshotWriter;
