//! Parts of a packed snapshot: headers, a segment as a tar, the small files of a shard.
//!
//! Invariants: no clocks, no queue position, no engine's own files, no segment manifests; holes
//! stay holes; times, owners and order are fixed, so that what is packed depends on nothing but
//! what it holds.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header, HeaderMode};

use super::layout;
use super::tar::{BLOCK, REST_BYTES_MAX};
use crate::base::error::{Error, Result};

/// Content of a collection's `version.info` in every Qdrant since 1.6.1.
pub(super) const COLLECTION_VERSION: &str = "0.4.2";
/// Peer id that a master names as its own; a restore puts the server's in its place
/// (lib/collection/src/shards/replica_set/snapshots.rs).
const PEER: u64 = 1;

/// Bytes copied at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// Unit in which [`std::os::unix::fs::MetadataExt::blocks`] counts, in bytes.
const DISK_BLOCK: u64 = 512;

/// A packed shard, besides its segments.
#[derive(Debug, Clone, Copy)]
pub struct PackedShard {
    /// Number of the shard.
    pub number: u32,
    /// The highest version (operation number) of its segments.
    pub version_max: u64,
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

/// A segment that is to be packed.
#[derive(Debug, Clone)]
pub struct ToPack {
    /// The folder that its files lie in.
    pub folder: PathBuf,
    bytes: u64,
    contents: u64,
}

impl ToPack {
    /// The segment in `folder`; how many bytes it has when it is packed is found without reading
    /// more than must be.
    pub fn measure(folder: PathBuf) -> Result<Self> {
        let (Counting { bytes }, contents) = pack_segment(&folder, Counting { bytes: 0 }, &folder)?;
        Ok(Self {
            folder,
            bytes,
            contents,
        })
    }

    /// Returns the size of the packed segment in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the number of zeros, in bytes, that must follow the packed data for it to have the
    /// measured size; none if there is no such number. `packed` is the size of the packed data in
    /// bytes, `contents` that of its files in all.
    ///
    /// A hole that was read by way of a mapped file is a page of zeros on tmpfs, until the kernel
    /// is short of memory and makes it a hole again (`shmem_recalc_inode` in Linux' mm/shmem.c). A
    /// tar may end with zeros, but with no more than readers allow.
    pub(super) fn lacks(&self, packed: u64, contents: u64) -> Option<u64> {
        let lacking = self.bytes.checked_sub(packed)?;
        let is_filled = contents == self.contents && lacking <= REST_BYTES_MAX;
        (lacking == 0 || is_filled).then_some(lacking)
    }
}

/// Packs the segment in `folder` into `out`, which `path` names in errors, and gives that back, with
/// how many bytes its files have in all, holes included.
pub(super) fn pack_segment<O: Out>(folder: &Path, out: O, path: &Path) -> Result<(O, u64)> {
    let mut contents = 0_u64;
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
        let bytes = append(&mut tar, &to, &mut open)
            .map_err(|err| Error::io("packing into", path, &err))?;
        contents = contents.saturating_add(bytes);
    }
    let out = tar
        .into_inner()
        .map_err(|err| Error::io("packing into", path, &err))?;
    Ok((out, contents))
}

/// Destination of a segment's tar.
pub(super) trait Out: io::Write {
    /// Takes all `bytes` bytes of `file`. The crate would copy 8 KiB at a time, which is too little
    /// for what is big.
    fn content(&mut self, file: &mut File, bytes: u64) -> io::Result<()>;
}

impl<O: Out> Out for &mut O {
    fn content(&mut self, file: &mut File, bytes: u64) -> io::Result<()> {
        (**self).content(file, bytes)
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

/// Adds a file, and returns how many bytes it has. The crate looks for holes in all of it, but most of
/// what is big has none.
fn append<O: Out>(tar: &mut Builder<O>, to: &Path, file: &mut File) -> io::Result<u64> {
    let meta = file.metadata()?;
    let bytes = meta.len();
    let mut header = header(bytes);
    let has_holes = meta.blocks() * DISK_BLOCK < bytes;
    if has_holes || bytes < BUFFER_BYTES as u64 || header.set_path(to).is_err() {
        return tar.append_file(to, file).map(|()| bytes);
    }
    header.set_cksum();
    let out = tar.get_mut();
    out.write_all(header.as_bytes())?;
    out.content(file, bytes)?;
    let padding = (BLOCK - bytes % BLOCK) % BLOCK;
    out.write_all(&vec![0; usize::try_from(padding).unwrap_or(0)])?;
    Ok(bytes)
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
