//! The shards of a snapshot, and their segments, as the walk over its headers finds them.
//!
//! Invariants: only the small files that are asked for are read; a member that no known Qdrant writes
//! is counted with its segment or its shard.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::Reading;
use crate::base::error::{Error, Result};
use crate::format::graph;
use crate::format::ids::{Content, Trackers, is_tracker_file};
use crate::format::layout::{self, InSegment, ShardMember};
use crate::format::tar::{Member, MemberKind, Stream, Walker};
use crate::format::wal::LogFiles;

/// Largest JSON file of a snapshot that is read, in bytes.
pub(super) const JSON_BYTES_MAX: u64 = 16 << 20;
/// Largest file of an id tracker that is read, in bytes: some 170 million points in one segment.
const TRACKER_BYTES_MAX: u64 = 4 << 30;
/// Files of an id tracker up to this size are held in memory rather than read again.
const TRACKER_BYTES_HELD: u64 = 64 << 10;
/// Bytes that a file system spends on a file besides its content, at the most that is usual.
pub(super) const FILE_OVERHEAD_BYTES: u64 = 4096;
/// Memory that a remembered name takes besides its characters, in bytes.
const NAME_COST_BYTES: u64 = 128;

/// A file of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSize {
    /// Size in bytes, holes included.
    pub bytes: u64,
    /// Bytes that the snapshot stores for the file.
    pub stored_bytes: u64,
}

/// A segment as it lies in a snapshot.
#[derive(Debug, Default)]
pub struct Segment {
    /// Files by name within the segment.
    pub files: BTreeMap<String, FileSize>,
    /// `segment.json`.
    pub state: Option<Vec<u8>>,
    /// `version.info`.
    pub version: Option<Vec<u8>>,
    /// `payload_index/config.json`.
    pub payload_index: Option<Vec<u8>>,
    /// The list of files of its RocksDB backup.
    pub database_list: Option<Vec<u8>>,
    /// The files of the id tracker, if they were asked for.
    pub trackers: Trackers,
    /// Files of a graph's links that have none, if id trackers were asked for.
    pub linkless: Vec<String>,
    /// Members of it that no known Qdrant writes: how many, and the first name.
    pub strays: Strays,
    /// Bytes that the snapshot spends on it.
    pub bytes: u64,
    /// Offset and length of the segment's tar in the snapshot's tar, in bytes; none if it is
    /// streamed.
    pub tar: Option<(u64, u64)>,
}

impl Shard {
    /// Bytes of its segments and its log in the snapshot.
    pub fn bytes(&self) -> u64 {
        let segments: u64 = self.segments.values().map(|segment| segment.bytes).sum();
        segments + self.log_bytes
    }
}

impl Segment {
    /// `segment.json`; null if it is missing or cannot be read, which is among the obstacles.
    pub fn state_json(&self) -> Value {
        json_or_null(self.state.as_deref())
    }

    /// `payload_index/config.json`, the same way.
    pub fn payload_index_json(&self) -> Value {
        json_or_null(self.payload_index.as_deref())
    }
}

fn json_or_null(bytes: Option<&[u8]>) -> Value {
    bytes
        .and_then(|bytes| serde_json::from_slice(bytes).ok())
        .unwrap_or_default()
}

/// A shard as it lies in a snapshot.
#[derive(Debug, Default)]
pub struct Shard {
    /// Segments by UUID.
    pub segments: BTreeMap<Uuid, Segment>,
    /// `replica_state.json`.
    pub replica_state: Option<Vec<u8>>,
    /// `shard_config.json`.
    pub shard_config: Option<Vec<u8>>,
    /// `segments_manifest.json`.
    pub segment_list: Option<Vec<u8>>,
    /// The log's files, if they were asked for.
    pub log: LogFiles,
    /// True if there is a log at all.
    pub has_log: bool,
    /// Bytes that the snapshot spends on the log.
    pub log_bytes: u64,
    /// Names of clocks, queue positions and manifests.
    pub left: Vec<String>,
    /// Members among its segments that belong to none: how many, and the first name.
    pub strays: Strays,
}

impl Shard {
    /// Returns true if its id trackers and its log are at hand; of one that has none of them nobody knows.
    pub fn is_looked_inside(&self) -> bool {
        let mut segments = self.segments.values();
        !self.log.is_empty() && segments.all(|segment| !segment.trackers.is_empty())
    }
}

/// Members where a server would take anything for a part of a segment: how many, and the first name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strays {
    /// Number of such members.
    pub count: u64,
    /// The name of the first.
    pub first: String,
}

impl Strays {
    pub(super) fn add(&mut self, name: &str) {
        if self.count == 0 {
            name.clone_into(&mut self.first);
        }
        self.count += 1;
    }
}

/// Disk space and memory that one member takes, in bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Cost {
    /// Disk space of files that lie in a tar inside, beyond that tar's own.
    pub(super) unpacked_bytes: u64,
    /// Memory.
    pub(super) kept_bytes: u64,
    /// Names of what is in it that no known Qdrant writes.
    pub(super) strays: Vec<String>,
}

impl Shard {
    /// Takes one member in.
    pub(super) fn take<S: Stream>(
        &mut self,
        walker: &mut Walker<S>,
        member: &Member,
        part: ShardMember<'_>,
        reading: Reading<'_>,
        number: u32,
    ) -> Result<Cost> {
        let mut cost = Cost {
            kept_bytes: NAME_COST_BYTES + member.path.len() as u64,
            ..Cost::default()
        };
        match part {
            ShardMember::ReplicaState => {
                cost.kept_bytes += member.bytes;
                self.replica_state = Some(walker.read_small(member, JSON_BYTES_MAX)?);
            }
            ShardMember::ShardConfig => {
                cost.kept_bytes += member.bytes;
                self.shard_config = Some(walker.read_small(member, JSON_BYTES_MAX)?);
            }
            ShardMember::Left(name) => {
                self.left.push(name.to_owned());
                if name == layout::SEGMENT_LIST {
                    cost.kept_bytes += member.bytes;
                    self.segment_list = Some(walker.read_small(member, JSON_BYTES_MAX)?);
                }
            }
            ShardMember::Log(name) => {
                self.has_log = true;
                self.log_bytes += member.stored_bytes;
                if reading.want.log {
                    let what = format!("shard {number} of {}", walker.what());
                    self.log
                        .add(name, member.bytes, walker.contents(member), &what)?;
                }
            }
            ShardMember::SegmentFile(uuid, name) => {
                let segment = self.segments.entry(uuid).or_default();
                if segment.tar.is_some() {
                    return Err(twice(walker, uuid, number));
                }
                segment.bytes += member.stored_bytes;
                cost.kept_bytes += segment.take(walker, member, name, reading, 0)?;
                cost.unpacked_bytes = room(name, member).saturating_sub(member.stored_bytes);
            }
            ShardMember::SegmentStray(uuid, name) => {
                let segment = self.segments.entry(uuid).or_default();
                segment.bytes += member.stored_bytes;
                segment.strays.add(name);
                cost.strays.push(member.path.clone());
            }
            ShardMember::SegmentTar(uuid) => {
                if member.pieces.is_some() {
                    return Err(walker.damaged(format!(
                        "segment {} is stored as a sparse file, which Qdrant does not do",
                        member.path
                    )));
                }
                let mut segment = Segment {
                    bytes: member.bytes,
                    tar: Some((member.position, member.bytes)),
                    ..Segment::default()
                };
                let what = format!("{} of {}", member.path, walker.what());
                let mut inner = Walker::inner(walker.data(), what);
                let mut inner_bytes = 0_u64;
                // The first file tells the form; what has another would be unpacked beside it.
                let mut plain = None;
                while let Some(file) = inner.next_member()? {
                    let is_directory = file.kind == MemberKind::Directory;
                    let name = match layout::in_segment_tar(&file.path, is_directory) {
                        InSegment::Directory | InSegment::Manifest => continue,
                        InSegment::File(name) => Some((name, false)),
                        InSegment::Plain(name) => Some((name, true)),
                        InSegment::Unknown => None,
                    };
                    let name = name.filter(|(_, is)| plain.get_or_insert(*is) == is);
                    let Some((name, _)) = name else {
                        segment.strays.add(&file.path);
                        let name = format!("{}/{}", member.path, file.path);
                        cost.kept_bytes += NAME_COST_BYTES + name.len() as u64;
                        cost.strays.push(name);
                        continue;
                    };
                    inner_bytes = inner_bytes.saturating_add(room(name, &file));
                    cost.kept_bytes +=
                        segment.take(&mut inner, &file, name, reading, member.position)?;
                }
                if self.segments.insert(uuid, segment).is_some() {
                    return Err(twice(walker, uuid, number));
                }
                // The tar itself is not kept, only what is in it.
                cost.unpacked_bytes = inner_bytes.saturating_sub(member.stored_bytes);
            }
        }
        Ok(cost)
    }
}

/// Bytes that a file of a segment takes in scratch, at the most that is usual.
fn room(name: &str, file: &Member) -> u64 {
    // Data in RocksDB is compressed, and written again beside it.
    let times = match name.split_once('/') {
        Some((layout::INDEX_DATABASE, _)) => return 0,
        Some((layout::DATABASE, _)) => 5,
        _ if name.ends_with(".sst") => 5,
        _ => 1,
    };
    let bytes = file.stored_bytes.saturating_mul(times);
    bytes.saturating_add(FILE_OVERHEAD_BYTES)
}

fn twice<S: Stream>(walker: &Walker<S>, uuid: Uuid, shard: u32) -> Error {
    walker.damaged(format!("segment {uuid} is in shard {shard} twice"))
}

impl Segment {
    /// Takes one file in, of a tar that begins at `base` of the snapshot; returns what is kept of it in
    /// memory, in bytes.
    fn take<S: Stream>(
        &mut self,
        walker: &mut Walker<S>,
        member: &Member,
        name: &str,
        reading: Reading<'_>,
        base: u64,
    ) -> Result<u64> {
        let want = reading.want;
        let small = |walker: &mut Walker<S>| walker.read_small(member, JSON_BYTES_MAX);
        let mut kept_bytes = NAME_COST_BYTES + name.len() as u64;
        self.files.insert(
            name.to_owned(),
            FileSize {
                bytes: member.bytes,
                stored_bytes: member.stored_bytes,
            },
        );
        match name {
            layout::SEGMENT_STATE => self.state = Some(small(walker)?),
            layout::VERSION => self.version = Some(small(walker)?),
            layout::DATABASE_LIST => self.database_list = Some(small(walker)?),
            "payload_index/config.json" => self.payload_index = Some(small(walker)?),
            name if want.trackers && is_tracker_file(name) => {
                let is_large = member.bytes > TRACKER_BYTES_HELD && member.pieces.is_none();
                let content = match reading.file.filter(|_| is_large) {
                    Some(file) => Content::InFile {
                        file: file.clone(),
                        from: base.saturating_add(member.position),
                        bytes: member.bytes,
                    },
                    None => Content::Held(walker.read_small(member, TRACKER_BYTES_MAX)?),
                };
                self.trackers.add(name, content);
                return Ok(kept_bytes);
            }
            name if want.trackers && graph::is_links(name) => {
                let has_links = graph::has_links(walker.contents(member), member.bytes)
                    .map_err(|err| walker.read_error(&err))?;
                if !has_links {
                    self.linkless.push(name.to_owned());
                }
                return Ok(kept_bytes);
            }
            _ => return Ok(kept_bytes),
        }
        kept_bytes += member.bytes;
        Ok(kept_bytes)
    }
}
