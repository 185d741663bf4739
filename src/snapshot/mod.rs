//! Snapshots as they lie on disk: read safely, unpacked, packed.
//!
//! Keeps true: nothing here trusts a byte of a snapshot, and nothing here needs the storage engine.

mod carry;
pub mod ids;
mod index;
mod input;
pub mod layout;
pub mod log;
mod name;
mod pack;
pub mod readable;
mod runs;
mod transplant;
mod unpack;
mod walk;
mod written;

pub use carry::Carrier;
pub use index::{FileSize, Form, Segment, Shard, Snapshot, Want};
pub use input::{Algorithm, Hashes, Input, Sha256Hex, hash_file};
pub use name::source_name;
pub use pack::{PackedShard, ToPack};
pub use runs::{PackedFile, Record, Run, Runs};
pub use transplant::{TRAILER_BYTES, Transplant, size_in_tar};
pub use unpack::{Unpacked, Unpacking, unpack, walk_segments};
pub use walk::{BLOCK, Member, MemberKind, Piece, Stream, Walker, skip_by_reading};
pub use written::{Sums, Written};
