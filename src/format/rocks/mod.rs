//! Segments of servers up to 1.17 that keep something in RocksDB, and their conversion into today's
//! form.
//!
//! Which server keeps what there differs: ids up to 1.14 (of optimized segments up to 1.10), payload
//! up to 1.12 (in memory up to 1.15), dense vectors with the storage `Memory` up to 1.11, sparse ones up
//! to 1.12. What was once there stays until a later server converts it, so a segment is looked at, and
//! never the version. Servers up to 1.17.1 convert such a segment when they load it
//! (`migrate_rocksdb_*` in lib/segment/src/segment_constructor/segment_constructor_base.rs there);
//! what is written here is what they write.
//!
//! Invariants:
//! - the database is a backup that was unpacked into scratch: each of its files has the CRC that the
//!   backup's list says before RocksDB sees it, and RocksDB opens it to be read only, and repairs nothing;
//! - of every point that the ids say lives, all dense and sparse vectors are there and its version and
//!   payload are kept, or the segment is damaged; none is left out without a word;
//! - memory is 16 bytes a point of the segment while its ids are converted, and a bit a point for the
//!   rest of it; everything else is streamed.

mod backup;
mod database;
mod ids;
mod inside;
mod payload;
mod segment;
mod vectors;

pub use backup::missing;
pub use inside::InRocks;
pub use segment::convert;

/// True if this build reads RocksDB.
pub const IS_BUILT_IN: bool = cfg!(feature = "rocksdb");
/// The way out without one.
pub const GET_IT: &str = "this build of snapmerge leaves RocksDB out: take a released one, or build it \
                          with the feature rocksdb, which is on by default; or let a Qdrant 1.17.1 read \
                          the snapshot, with `snapmerge merge --route scratch --scratch-server \
                          http://HOST:6333`";
