//! Content of a snapshot file, found in one walk over its headers.
//!
//! A plain file is sought over, so that gigabytes take milliseconds; a .gz is decompressed once,
//! and hashed on the way.
//!
//! Invariants: only the small files that are asked for are read; what is unknown is listed; nothing
//! here opens a segment, so nothing here can be hurt by what is in one.

mod outline;
mod shard;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use uuid::Uuid;

use self::outline::Outline;
use self::shard::{FILE_OVERHEAD_BYTES, JSON_BYTES_MAX};
pub use self::shard::{FileSize, Segment, Shard, Strays};
use super::file::SnapshotFile;
use super::input::{Algorithm, Hashes, Input};
use super::layout::{self, Place, ShardMember};
use super::tar::{Member, MemberKind, Stream, Walker};
use crate::base::error::{Error, Result};

/// Maximum memory for names and small files, in bytes: Qdrant's come to some kilobytes a segment,
/// and a .gz can claim a thousand times its size.
const KEPT_BYTES_MAX: u64 = 256 << 20;
/// Members that no Qdrant is known to write: a newer one may have a few.
const UNKNOWN_MAX: u64 = 1000;
/// Unknown members that are listed by name.
const UNKNOWN_LISTED_MAX: usize = 20;

/// Parts of a snapshot that are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Want {
    /// The id trackers of the segments; of a plain file only where they are, unless they are small. Of a
    /// .gz they are held: some 24 bytes a point.
    pub trackers: bool,
    /// The log.
    pub log: bool,
    /// The hash of the whole file.
    pub hash: Option<Algorithm>,
}

/// Options of the walk over a snapshot.
#[derive(Clone, Copy)]
struct Reading<'a> {
    want: Want,
    /// The file, if parts of it can be read later.
    file: Option<&'a SnapshotFile>,
    /// Shards that are looked into; none for all.
    only: Option<&'a BTreeSet<u32>>,
}

/// The form of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A whole collection: `POST /collections/NAME/snapshots`.
    Collection,
    /// One shard: `POST /collections/NAME/shards/ID/snapshots`.
    Shard,
    /// One shard, streamed: `GET /collections/NAME/shards/ID/snapshot`.
    StreamedShard,
}

impl Form {
    /// The form in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Collection => "collection snapshot",
            Self::Shard => "shard snapshot",
            Self::StreamedShard => "streamed shard snapshot",
        }
    }
}

/// A snapshot file and what lies in it.
#[derive(Debug)]
pub struct Snapshot {
    /// File with the snapshot's bytes.
    pub file: SnapshotFile,
    /// True if the file is a .gz.
    pub compressed: bool,
    /// The file's size in bytes.
    pub file_bytes: u64,
    /// Form of the snapshot.
    pub form: Form,
    /// `config.json`.
    pub config: Option<Vec<u8>>,
    /// `payload_index.json`.
    pub payload_index: Option<Vec<u8>>,
    /// `shard_key_mapping.json`.
    pub shard_keys: Option<Vec<u8>>,
    /// The shards by number; a shard snapshot has its one shard as number 0.
    pub shards: BTreeMap<u32, Shard>,
    /// Members that no known Qdrant writes: how many, and the first names.
    pub unknown: (u64, Vec<String>),
    /// The hashes, if they were asked for.
    pub hashes: Option<Hashes>,
    /// Bytes that its files take on disk when unpacked, at the most.
    pub unpacked_bytes: u64,
    /// Memory that is kept for names and small files, in bytes.
    kept_bytes: u64,
    /// Of one in parts, where its shards and segments lie.
    outline: Outline,
}

impl Snapshot {
    /// Returns an empty snapshot in place of one, for a source called `what` that has no file.
    pub fn of_none(what: &str) -> Self {
        Self::empty(SnapshotFile::from(Path::new(what)))
    }

    fn empty(file: SnapshotFile) -> Self {
        Self {
            file,
            compressed: false,
            file_bytes: 0,
            form: Form::Collection,
            config: None,
            payload_index: None,
            shard_keys: None,
            shards: BTreeMap::new(),
            unknown: (0, Vec::new()),
            hashes: None,
            unpacked_bytes: 0,
            kept_bytes: 0,
            outline: Outline::default(),
        }
    }

    /// Walks over the snapshot in `file`. `passed` counts the file's bytes for a progress bar.
    pub fn open(file: &SnapshotFile, want: Want, passed: Option<Arc<AtomicU64>>) -> Result<Self> {
        Self::walk(file, want, None, passed)
    }

    /// The file without the shards, and the segments of shards, that are not `wanted`: a snapshot as well. A file on
    /// disk comes back whole, since passing over some of it costs nothing.
    pub fn part(&self, wanted: impl Fn(u32, Option<Uuid>) -> bool) -> SnapshotFile {
        match &self.file {
            SnapshotFile::Stored(stored) => self.outline.part(stored, wanted),
            SnapshotFile::Disk(_) | SnapshotFile::Member(_) => self.file.clone(),
        }
    }

    /// The number of a segment that is packed as a tar among all such, if it is known before it is read.
    pub fn number_of(&self, shard: u32, segment: Uuid) -> Option<u64> {
        self.outline.number(shard, segment)
    }

    /// Reads the id trackers and logs of the shards that are `wanted`, after it was opened without; of the
    /// others nothing is read.
    pub fn look_inside(&mut self, wanted: &BTreeSet<u32>) -> Result<()> {
        let inside = Want {
            trackers: true,
            log: true,
            hash: None,
        };
        let part = self.part(|shard, _| wanted.contains(&shard));
        let found = Self::walk(&part, inside, Some(wanted), None)?;
        for (number, mut shard) in found.shards {
            if let Some(own) = self.shards.get_mut(&number) {
                for (uuid, segment) in &mut shard.segments {
                    // It lies elsewhere in what was read now.
                    segment.tar = own.segments.get(uuid).and_then(|own| own.tar);
                }
                *own = shard;
            }
        }
        Ok(())
    }

    fn walk(
        file: &SnapshotFile,
        want: Want,
        only: Option<&BTreeSet<u32>>,
        passed: Option<Arc<AtomicU64>>,
    ) -> Result<Self> {
        let file_bytes = file.bytes()?;
        let mut input = Input::open(file, want.hash, passed)?;
        let mut snapshot = Self {
            compressed: input.is_compressed(),
            file_bytes,
            ..Self::empty(file.clone())
        };
        let reading = Reading {
            want,
            file: (!snapshot.compressed).then_some(file),
            only,
        };
        let mut roots = Roots::default();
        let mut walker = Walker::new(&mut input, file.to_string());
        let is_outlined = matches!(file, SnapshotFile::Stored(_));
        while let Some(member) = walker.next_member()? {
            if is_outlined {
                snapshot.outline.add(&member);
            }
            snapshot.take(&mut walker, &member, reading, &mut roots)?;
        }
        if is_outlined {
            snapshot.outline.finish(file_bytes);
        }
        snapshot.form = roots.form(&snapshot)?;
        snapshot.hashes = input.into_hashes();
        Ok(snapshot)
    }

    /// Gives back what tells where segments lie and what is in them, once all of it was read: of thousands of
    /// snapshots that is most of the memory that they take.
    pub fn forget_segments(&mut self) {
        self.outline = Outline::default();
        for shard in self.shards.values_mut() {
            *shard = Shard::default();
        }
        for kept in [
            &mut self.config,
            &mut self.payload_index,
            &mut self.shard_keys,
        ] {
            *kept = None;
        }
    }

    /// The name of the collection it was taken of, as far as the file's name tells: what Qdrant
    /// appends (peer and time) and the endings are taken away.
    pub fn source_name(&self) -> String {
        self.file.source_name()
    }

    /// The hashes of the whole file as it is now.
    pub fn hash(&self, algorithm: Algorithm) -> Result<Option<Hashes>> {
        Input::hash(&self.file, algorithm)
    }

    /// Writes the whole snapshot, decompressed, to `to`.
    pub fn decompress(&self, to: &mut impl std::io::Write) -> Result<()> {
        let mut input = Input::open(&self.file, None, None)?;
        std::io::copy(&mut input, to)
            .map_err(|err| Error::reading(format!("decompressing {}", self.file), &err))
            .map(|_| ())
    }

    /// Name in errors and reports: the path of the file, or its name in an archive.
    pub fn what(&self) -> String {
        self.file.to_string()
    }

    /// Notes a member that no known Qdrant writes: it is told, kept, and never unpacked.
    fn add_unknown<S: Stream>(&mut self, name: &str, walker: &Walker<S>) -> Result<()> {
        self.unknown.0 += 1;
        if self.unknown.0 > UNKNOWN_MAX {
            return Err(walker
                .damaged(format!(
                    "it has more than {UNKNOWN_MAX} members that no Qdrant is known to write, such \
                     as {name}"
                ))
                .next("give a file that Qdrant's snapshot API returned, plain or .gz"));
        }
        if self.unknown.1.len() < UNKNOWN_LISTED_MAX {
            self.unknown.1.push(name.to_owned());
        }
        Ok(())
    }

    fn take<S: Stream>(
        &mut self,
        walker: &mut Walker<S>,
        member: &Member,
        reading: Reading<'_>,
        roots: &mut Roots,
    ) -> Result<()> {
        let place = layout::place(&member.path, member.kind == MemberKind::Directory);
        if member.kind == MemberKind::File {
            let bytes = member.stored_bytes.saturating_add(FILE_OVERHEAD_BYTES);
            self.unpacked_bytes = self.unpacked_bytes.saturating_add(bytes);
        }
        match place {
            Place::Nothing => {}
            Place::Unknown => {
                // Whatever lies there, the engine of a server would take it for a segment.
                let among = layout::among_segments(&member.path);
                if let (MemberKind::File, Some(shard)) = (member.kind, among) {
                    let number = shard.unwrap_or(0);
                    let shard = self.shards.entry(number).or_default();
                    shard.strays.add(&member.path);
                }
                self.add_unknown(&member.path, &*walker)?;
            }
            Place::InnerSnapshot => roots.inner_snapshots += 1,
            Place::Collection(name) => {
                let bytes = walker.read_small(member, JSON_BYTES_MAX)?;
                self.kept_bytes += member.bytes;
                match name {
                    layout::CONFIG => self.config = Some(bytes),
                    layout::PAYLOAD_INDEX => self.payload_index = Some(bytes),
                    layout::SHARD_KEYS => self.shard_keys = Some(bytes),
                    _ => {}
                }
            }
            Place::Shard { shard, part } => {
                match shard {
                    Some(_) => roots.numbered = true,
                    None => roots.bare = true,
                }
                let number = shard.unwrap_or(0);
                if matches!(part, ShardMember::SegmentFile(..)) {
                    roots.streamed = true;
                }
                if reading.only.is_some_and(|only| !only.contains(&number)) {
                    return Ok(());
                }
                let shard = self.shards.entry(number).or_default();
                let inner = shard.take(walker, member, part, reading, number)?;
                self.unpacked_bytes = self.unpacked_bytes.saturating_add(inner.unpacked_bytes);
                self.kept_bytes += inner.kept_bytes;
                for name in inner.strays {
                    self.add_unknown(&name, &*walker)?;
                }
            }
        }
        if self.kept_bytes > KEPT_BYTES_MAX {
            return Err(walker
                .damaged(format!(
                    "the names and configs of its segments come to more than {KEPT_BYTES_MAX} \
                     bytes; no snapshot's do"
                ))
                .next("give a file that Qdrant's snapshot API returned, plain or .gz"));
        }
        Ok(())
    }
}

/// Entries at the root of the tar, by which the form is told.
#[derive(Default)]
struct Roots {
    numbered: bool,
    bare: bool,
    streamed: bool,
    inner_snapshots: u64,
}

impl Roots {
    fn form(&self, snapshot: &Snapshot) -> Result<Form> {
        let doing = format!("reading {}", snapshot.file);
        if self.inner_snapshots > 0 {
            return Err(Error::usage(
                doing,
                format!(
                    "it is a full storage snapshot with {} collection snapshots inside, and nothing says of which collections",
                    self.inner_snapshots
                ),
            )
            .next("unpack it with tar and give the collection snapshots that are in it"));
        }
        match (self.numbered, self.bare, &snapshot.config) {
            (true, true, _) => Err(Error::damaged(
                doing,
                "it has shards in folders and a shard at its root; no Qdrant writes both",
            )),
            (_, false, Some(_)) => Ok(Form::Collection),
            (true, false, None) => Err(Error::damaged(
                doing,
                "it has shards but no config.json, so its vectors' sizes and distances are unknown",
            )
            .next("fetch or copy the snapshot again")),
            (false, true, None) if self.streamed => Ok(Form::StreamedShard),
            (false, true, None) => Ok(Form::Shard),
            (false, true, Some(_)) => Err(Error::damaged(
                doing,
                "it has a config.json and a shard at its root; no Qdrant writes both",
            )),
            (false, false, None) => Err(Error::damaged(
                doing,
                "it holds no collection and no shard: it is no Qdrant snapshot",
            )
            .next("give a file that Qdrant's snapshot API returned, plain or .gz")),
        }
    }
}
