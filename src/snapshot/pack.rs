//! Packing a collection snapshot that any Qdrant restores.
//!
//! Keeps true: every mandatory part is written (a restore skips a shard without `wal/` and answers
//! `true`: lib/collection/src/shards/replica_set/snapshots.rs); no clocks, no queue position, no
//! engine's own files, no segment manifests; holes stay holes; times, owners and order are fixed,
//! so that what is packed depends on nothing but what it holds.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tar::{Builder, EntryType, Header, HeaderMode};
use uuid::Uuid;

use super::layout;
use super::log;
use super::walk::BLOCK;
use crate::error::{Error, Result};

/// What Qdrant writes into a collection's `version.info` in every version since 1.6.1.
pub(super) const COLLECTION_VERSION: &str = "0.4.2";
/// Peer id that a master names as its own; a restore puts the server's in its place
/// (lib/collection/src/shards/replica_set/snapshots.rs).
const PEER: u64 = 1;

/// Bytes copied at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// What [`std::os::unix::fs::MetadataExt::blocks`] counts in.
const DISK_BLOCK: u64 = 512;

/// A collection snapshot being written to a file.
pub struct Packer {
    out: Builder<File>,
    path: PathBuf,
}

/// A packed shard, besides its segments.
#[derive(Debug, Clone, Copy)]
pub struct PackedShard {
    /// Its number.
    pub number: u32,
    /// The highest version (operation number) of its segments.
    pub version_max: u64,
}

impl Packer {
    /// A packer that writes to `file`, which is new and empty; `path` names it in errors.
    pub fn new(file: File, path: &Path) -> Self {
        let mut out = Builder::new(file);
        out.mode(HeaderMode::Deterministic);
        out.sparse(true);
        Self {
            out,
            path: path.to_owned(),
        }
    }

    /// Adds a segment from its unpacked `folder` to shard `shard`, as a tar in the tar.
    pub fn segment(&mut self, shard: u32, uuid: Uuid, folder: &Path) -> Result<()> {
        let path = format!("{shard}/{}/{uuid}.tar", layout::SEGMENTS);
        let header_at = self.begin(&path)?;
        write_segment(folder, self.out.get_mut(), &self.path)?;
        self.end(&path, header_at)
    }

    /// Adds what a shard needs besides its segments: an empty log that goes on above every
    /// segment's version, the state of its one replica, and its kind.
    pub fn shard(&mut self, shard: PackedShard) -> Result<()> {
        let number = shard.number;
        let (name, bytes) = log::write_empty(shard.version_max + 1);
        self.bytes(&format!("{number}/{}/{name}", layout::LOG), &bytes)?;
        for (name, value) in shard_files() {
            self.json(&format!("{number}/{name}"), &value)?;
        }
        Ok(())
    }

    /// Adds what the collection has, and ends the tar. The file is not synced.
    pub fn finish(
        mut self,
        config: &impl Serialize,
        shard_keys: &impl Serialize,
        payload_index: &impl Serialize,
    ) -> Result<File> {
        self.bytes(layout::VERSION, COLLECTION_VERSION.as_bytes())?;
        self.json(layout::CONFIG, config)?;
        self.json(layout::SHARD_KEYS, shard_keys)?;
        self.json(layout::PAYLOAD_INDEX, payload_index)?;
        self.out
            .into_inner()
            .map_err(|err| Error::io("finishing", &self.path, &err))
    }

    fn json(&mut self, path: &str, value: &impl Serialize) -> Result<()> {
        let bytes = serde_json::to_vec(value)
            .map_err(|err| Error::failed(format!("packing {path}"), err))?;
        self.bytes(path, &bytes)
    }

    fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let mut header = header(bytes.len() as u64);
        self.out
            .append_data(&mut header, path, bytes)
            .map_err(|err| Error::io("packing into", &self.path, &err))
    }

    /// Leaves room for a header whose size is not known yet; returns where.
    fn begin(&mut self, path: &str) -> Result<u64> {
        let file = self.out.get_mut();
        let at = file.stream_position();
        at.and_then(|at| file.write_all(&[0; BLOCK as usize]).map(|()| at))
            .map_err(|err| Error::io("packing", Path::new(path), &err))
    }

    /// Writes the header that [`Self::begin`] left room for, now that the member is complete.
    fn end(&mut self, path: &str, header_at: u64) -> Result<()> {
        let file = self.out.get_mut();
        let mut write = || -> io::Result<()> {
            let end = file.stream_position()?;
            let mut header = header(end - header_at - BLOCK);
            header.set_path(path)?;
            header.set_cksum();
            file.seek(SeekFrom::Start(header_at))?;
            file.write_all(header.as_bytes())?;
            file.seek(SeekFrom::Start(end))?;
            Ok(())
        };
        write().map_err(|err| Error::io("packing into", &self.path, &err))
    }
}

/// The files of a shard with one active replica, besides its segments and its log.
pub(super) fn shard_files() -> [(&'static str, serde_json::Value); 2] {
    let state = serde_json::json!({
        "is_local": true,
        "this_peer_id": PEER,
        "peers": { PEER.to_string(): "Active" },
    });
    let kind = serde_json::json!({ "type": "ReplicaSet" });
    [(layout::REPLICA_STATE, state), (layout::SHARD_CONFIG, kind)]
}

/// Writes the segment in `folder` as a tar to `out`, which `path` names in errors.
pub fn write_segment(folder: &Path, out: &mut dyn io::Write, path: &Path) -> Result<()> {
    let buffer = vec![0; BUFFER_BYTES];
    pack_segment(folder, Writing { out, buffer }, path).map(|_| ())
}

/// How many bytes [`write_segment`] writes, found without reading more than it must.
pub fn segment_bytes(folder: &Path) -> Result<u64> {
    Ok(pack_segment(folder, Counting { bytes: 0 }, folder)?.bytes)
}

/// Packs the segment in `folder` into `out`, which `path` names in errors, and gives that back.
pub(super) fn pack_segment<O: Out>(folder: &Path, out: O, path: &Path) -> Result<O> {
    let mut files = Vec::new();
    list_files(folder, &mut files)?;
    files.sort();
    let mut tar = Builder::new(out);
    tar.mode(HeaderMode::Deterministic);
    tar.sparse(true);
    for file in &files {
        let name = file.strip_prefix(folder).unwrap_or(file);
        let to = Path::new(layout::SEGMENT_TAR_ROOT).join(name);
        let mut open =
            File::open(file).map_err(|err| Error::io("reading scratch file", file, &err))?;
        append(&mut tar, &to, &mut open).map_err(|err| Error::io("packing into", path, &err))?;
    }
    tar.into_inner()
        .map_err(|err| Error::io("packing into", path, &err))
}

/// Where a segment's tar goes.
pub(super) trait Out: io::Write {
    /// Takes all `bytes` bytes of `file`.
    fn content(&mut self, file: &mut File, bytes: u64) -> io::Result<()>;
}

impl<O: Out> Out for &mut O {
    fn content(&mut self, file: &mut File, bytes: u64) -> io::Result<()> {
        (**self).content(file, bytes)
    }
}

/// To a writer.
struct Writing<'a> {
    out: &'a mut dyn io::Write,
    buffer: Vec<u8>,
}

impl io::Write for Writing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Out for Writing<'_> {
    /// The crate copies 8 KiB at a time, which is too little for what is big.
    fn content(&mut self, file: &mut File, bytes: u64) -> io::Result<()> {
        let mut left = bytes;
        while left > 0 {
            let count = file.read(&mut self.buffer)?;
            let some = self.buffer.get(..count).unwrap_or_default();
            left = (left.checked_sub(count as u64))
                .filter(|_| count > 0)
                .ok_or_else(|| io::Error::other("a file changed its size while it was packed"))?;
            self.out.write_all(some)?;
        }
        Ok(())
    }
}

/// Nowhere: only counted.
struct Counting {
    bytes: u64,
}

impl io::Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Out for Counting {
    fn content(&mut self, _: &mut File, bytes: u64) -> io::Result<()> {
        self.bytes += bytes;
        Ok(())
    }
}

/// Adds a file. The crate looks for holes in all of it, but most of what is big has none.
fn append<O: Out>(tar: &mut Builder<O>, to: &Path, file: &mut File) -> io::Result<()> {
    let meta = file.metadata()?;
    let bytes = meta.len();
    let mut header = header(bytes);
    let has_holes = meta.blocks() * DISK_BLOCK < bytes;
    if has_holes || bytes < BUFFER_BYTES as u64 || header.set_path(to).is_err() {
        return tar.append_file(to, file);
    }
    header.set_cksum();
    let out = tar.get_mut();
    out.write_all(header.as_bytes())?;
    out.content(file, bytes)?;
    let padding = (BLOCK - bytes % BLOCK) % BLOCK;
    out.write_all(&vec![0; usize::try_from(padding).unwrap_or(0)])
}

pub(super) fn header(bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes);
    header
}

fn list_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |err: io::Error| Error::io("listing scratch folder", folder, &err);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            list_files(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
