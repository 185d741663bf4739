//! Unpacking a snapshot into scratch, where the engine may do with it what it likes.
//!
//! Invariants: only segments and logs are unpacked, each shard into a folder of its own as the
//! engine wants it (`SHARD/segments/UUID/…`, `SHARD/wal/…`); of a RocksDB backup, only what is to be
//! converted; files are created new, never written over; holes stay holes, and long runs of zeros
//! become such; the SHA-256 of the very bytes that were unpacked comes with them.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use uuid::Uuid;

use super::input::{Algorithm, Hashes, Input};
use super::layout::{self, InSegment, Place, ShardMember};
use super::rocks::InRocks;
use super::snapshot::Snapshot;
use super::tar::{Member, MemberKind, Stream, Walker};
use crate::base::error::{Error, Result};

/// Bytes copied at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// Zeros that are worth a hole.
const HOLE_BYTES: usize = 64 * 1024;

/// Result of an unpacking.
#[derive(Debug, Clone, Default)]
pub struct Unpacked {
    /// Files written.
    pub files: u64,
    /// Bytes written, holes not included.
    pub bytes: u64,
    /// The hashes, if they were asked for.
    pub hashes: Option<Hashes>,
}

/// Options of an unpacking.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unpacking<'a> {
    /// Shards to unpack; `None` for all that the snapshot has.
    pub wanted: Option<&'a BTreeSet<u32>>,
    /// Algorithm by which the whole file is hashed on the way, if it is.
    pub hash: Option<Algorithm>,
    /// True if each segment gets a shard's folder of its own (`SHARD/UUID/segments/UUID/…`), and
    /// logs are left out.
    pub apart: bool,
    /// True if segments are left out.
    pub logs_only: bool,
    /// Segments to unpack, by shard, and no log; `None` for all of them, and the logs.
    pub segments: Option<&'a BTreeSet<(u32, Uuid)>>,
    /// True if payload indexes are left out: most of the files of a small segment.
    pub no_payload_indexes: bool,
}

/// Unpacks the segments and logs of `snapshot` under `folder`, which exists. `passed` counts the
/// file's bytes for a progress bar.
pub fn unpack(
    snapshot: &Snapshot,
    folder: &Path,
    unpacking: Unpacking<'_>,
    passed: Option<Arc<AtomicU64>>,
) -> Result<Unpacked> {
    let Unpacking {
        wanted,
        hash,
        apart,
        logs_only,
        segments,
        no_payload_indexes,
    } = unpacking;
    let databases: BTreeSet<(u32, Uuid)> = (snapshot.shards.iter())
        .flat_map(|(number, shard)| {
            shard
                .segments
                .iter()
                .map(move |(uuid, segment)| (*number, *uuid, segment))
        })
        .filter(|(_, _, segment)| InRocks::of(segment).needs_database())
        .map(|(number, uuid, _)| (number, uuid))
        .collect();
    let place_of = |shard: u32, uuid: Uuid, name: &str| {
        if segments.is_some_and(|wanted| !wanted.contains(&(shard, uuid))) {
            return None;
        }
        match name.split_once('/') {
            Some((layout::INDEX_DATABASE, _)) => return None,
            Some((layout::PAYLOAD_INDEXES, _)) if no_payload_indexes => return None,
            Some((layout::DATABASE, _)) if !databases.contains(&(shard, uuid)) => return None,
            _ => {}
        }
        if apart {
            return Some(format!("{shard}/{uuid}/{}/{uuid}/{name}", layout::SEGMENTS));
        }
        Some(format!("{shard}/{}/{uuid}/{name}", layout::SEGMENTS))
    };
    // A shard that was taken out of the snapshot is read elsewhere.
    let is_wanted = |shard: &u32| {
        snapshot.shards.contains_key(shard) && wanted.is_none_or(|wanted| wanted.contains(shard))
    };
    let file = match hash {
        Some(_) => snapshot.file.clone(),
        None => snapshot.part(|shard, uuid| {
            let is_of = |wanted: &BTreeSet<(u32, Uuid)>| {
                uuid.is_some_and(|uuid| wanted.contains(&(shard, uuid)))
            };
            is_wanted(&shard) && segments.is_none_or(is_of) && !(logs_only && uuid.is_some())
        }),
    };
    let mut input = Input::open(&file, hash, passed)?;
    let mut sink = Sink::new(folder);
    let mut walker = Walker::new(&mut input, snapshot.what());
    while let Some(member) = walker.next_member()? {
        if member.kind == MemberKind::Directory {
            continue;
        }
        let Place::Shard { shard, part } = layout::place(&member.path, false) else {
            continue;
        };
        let shard = shard.unwrap_or(0);
        if !is_wanted(&shard) {
            continue;
        }
        match part {
            ShardMember::SegmentFile(..) | ShardMember::SegmentTar(_) if logs_only => {}
            ShardMember::SegmentFile(uuid, name) => {
                if let Some(to) = place_of(shard, uuid, name) {
                    sink.file(&mut walker, &member, &to)?;
                }
            }
            ShardMember::SegmentTar(uuid)
                if segments.is_some_and(|wanted| !wanted.contains(&(shard, uuid))) => {}
            ShardMember::Log(_) if apart || segments.is_some() => {}
            ShardMember::Log(name) => {
                let to = format!("{shard}/{}/{name}", layout::LOG);
                sink.file(&mut walker, &member, &to)?;
            }
            ShardMember::SegmentTar(uuid) => {
                let what = format!("{} of {}", member.path, walker.what());
                let mut inner = Walker::inner(walker.data(), what);
                while let Some(file) = inner.next_member()? {
                    let is_directory = file.kind == MemberKind::Directory;
                    let (InSegment::File(name) | InSegment::Plain(name)) =
                        layout::in_segment_tar(&file.path, is_directory)
                    else {
                        continue;
                    };
                    if let Some(to) = place_of(shard, uuid, name) {
                        sink.file(&mut inner, &file, &to)?;
                    }
                }
            }
            ShardMember::SegmentStray(..)
            | ShardMember::ReplicaState
            | ShardMember::ShardConfig
            | ShardMember::Left(_) => {}
        }
    }
    // A shard without points may have no segment at all; the engine wants the folder.
    let unpacked = |shard: &&u32| !apart && segments.is_none() && is_wanted(shard);
    for shard in snapshot.shards.keys().filter(unpacked) {
        sink.folder(&folder.join(shard.to_string()).join(layout::SEGMENTS))?;
    }
    Ok(Unpacked {
        hashes: input.into_hashes(),
        ..sink.done
    })
}

/// A packed segment of a snapshot.
pub struct PackedSegment<'a> {
    /// The number of its shard.
    pub shard: u32,
    /// UUID of the segment.
    pub uuid: Uuid,
    /// Number of the segment among all packed segments of the snapshot.
    pub number: u64,
    /// Length of its tar in bytes.
    pub bytes: u64,
    /// Name for errors.
    pub what: &'a str,
}

/// Calls `take` with every segment of the snapshot's shards that is packed as a tar and `wanted`, and its bytes; of a
/// file that is hashed or on disk, the others may come as well. Returns the hashes, if they were asked for.
pub fn walk_segments(
    snapshot: &Snapshot,
    hash: Option<Algorithm>,
    passed: Option<Arc<AtomicU64>>,
    wanted: impl Fn(u32, Uuid) -> bool,
    mut take: impl FnMut(PackedSegment<'_>, &mut dyn Read) -> Result<()>,
) -> Result<Option<Hashes>> {
    let file = match hash {
        Some(_) => snapshot.file.clone(),
        None => snapshot.part(|shard, uuid| uuid.is_some_and(|uuid| wanted(shard, uuid))),
    };
    let mut input = Input::open(&file, hash, passed)?;
    let mut walker = Walker::new(&mut input, snapshot.what());
    let mut walked = 0;
    while let Some(member) = walker.next_member()? {
        if let Place::Shard {
            shard,
            part: ShardMember::SegmentTar(uuid),
        } = layout::place(&member.path, member.kind == MemberKind::Directory)
        {
            let what = format!("{} of {}", member.path, walker.what());
            let shard = shard.unwrap_or(0);
            if snapshot.shards.contains_key(&shard) {
                let packed = PackedSegment {
                    shard,
                    uuid,
                    number: snapshot.number_of(shard, uuid).unwrap_or(walked),
                    bytes: member.bytes,
                    what: &what,
                };
                walked += 1;
                take(packed, &mut walker.data())?;
            }
        }
    }
    drop(walker);
    Ok(input.into_hashes())
}

/// Destination of unpacked files.
pub(super) struct Sink {
    root: PathBuf,
    folders: HashSet<PathBuf>,
    buffer: Vec<u8>,
    done: Unpacked,
}

impl Sink {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            folders: HashSet::new(),
            buffer: vec![0; BUFFER_BYTES],
            done: Unpacked::default(),
        }
    }

    pub(super) fn folder(&mut self, folder: &Path) -> Result<()> {
        if !self.folders.contains(folder) {
            fs::create_dir_all(folder)
                .map_err(|err| Error::io("making scratch folder", folder, &err))?;
            self.folders.insert(folder.to_owned());
        }
        Ok(())
    }

    pub(super) fn file<S: Stream>(
        &mut self,
        walker: &mut Walker<S>,
        member: &Member,
        to: &str,
    ) -> Result<()> {
        let path = self.root.join(to);
        if let Some(parent) = path.parent() {
            self.folder(parent)?;
        }
        let failed = |err: &io::Error| Error::io("unpacking into scratch file", &path, err);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|err| match err.kind() {
                // Two names of the tar that differ, but lead to one file: on a disk that takes
                // upper and lower case for the same.
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => walker.damaged(
                    format!("member {} would be unpacked over another one", member.path),
                ),
                _ => failed(&err),
            })?;
        match &member.pieces {
            None => self.copy(walker, &mut file, member.stored_bytes, &failed)?,
            Some(pieces) => {
                for piece in pieces {
                    file.seek(SeekFrom::Start(piece.offset))
                        .map_err(|err| failed(&err))?;
                    self.copy(walker, &mut file, piece.bytes, &failed)?;
                }
            }
        }
        // It may end in a hole.
        file.set_len(member.bytes).map_err(|err| failed(&err))?;
        self.done.files += 1;
        self.done.bytes += member.stored_bytes;
        Ok(())
    }

    fn copy<S: Stream>(
        &mut self,
        walker: &mut Walker<S>,
        file: &mut File,
        bytes: u64,
        failed: &dyn Fn(&io::Error) -> Error,
    ) -> Result<()> {
        let mut left = bytes;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let length = self.buffer.len().min(most);
            let Some(buffer) = self.buffer.get_mut(..length) else {
                break;
            };
            let count = walker
                .data()
                .read(buffer)
                .map_err(|err| walker.read_error(&err))?;
            let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else {
                return Err(walker.read_error(&io::ErrorKind::UnexpectedEof.into()));
            };
            // Servers up to 1.10 wrote their logs of 32 MiB with all the zeros after the last entry.
            match read.len() >= HOLE_BYTES && read.iter().all(|byte| *byte == 0) {
                true => file.seek_relative(count as i64),
                false => file.write_all(read),
            }
            .map_err(|err| failed(&err))?;
            left -= count as u64;
        }
        Ok(())
    }
}
