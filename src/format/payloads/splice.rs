//! A packed segment with some of its files replaced, the others not even unpacked.
//!
//! Invariants: what stays is the same bytes in the same order, holes included, and headers but for the names
//! that change; the length of the result is known before a byte of it is written; what is replaced is left
//! out whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tar::Header;
use uuid::Uuid;

use super::vectors::renamed_file;
use super::{Declared, INDEXES_CONFIG, STORAGE, SegmentRewrite, index_folder, write_json};
use crate::base::error::{Error, Result};
use crate::base::scratch;
use crate::format::input::Input;
use crate::format::layout::{self, InSegment, Place, ShardMember};
use crate::format::pack::{Out, pack_segment};
use crate::format::snapshot::Snapshot;
use crate::format::tar::{MemberKind, Walker};
use crate::format::unpack::Sink;

/// The tar with what takes the place of what was taken out, in the segment's folder in scratch.
const ADDED: &str = "added.tar";

/// A segment of which some files were taken out.
#[derive(Debug, Clone)]
pub struct TakenOut {
    /// The folder in which the payload storage lies, if it was unpacked.
    pub folder: PathBuf,
    kept: Vec<Piece>,
}

/// A part of a tar that is made of another.
#[derive(Debug, Clone)]
enum Piece {
    /// Bytes of the other.
    Kept(Range<u64>),
    /// A header in place of one of the other's.
    Header(Vec<u8>),
}

impl Piece {
    fn bytes(&self) -> u64 {
        match self {
            Self::Kept(range) => range.end - range.start,
            Self::Header(bytes) => bytes.len() as u64,
        }
    }
}

/// A tar that consists of parts of another and of files that were added.
#[derive(Debug, Clone)]
pub struct Splice {
    kept: Vec<Piece>,
    added: PathBuf,
    bytes: u64,
    added_bytes: u64,
}

/// Takes what is `replaced` out of the packed segments of `snapshot`, by shard and UUID, into folders of
/// their own under `folder`, as `rewrite` says.
///
/// # Errors
/// [`crate::base::error::Kind::Damaged`] if the snapshot cannot be read, or has not all of these segments
/// any more.
pub fn take_out(
    snapshot: &Snapshot,
    replaced: &BTreeMap<(u32, Uuid), Declared>,
    rewrite: &SegmentRewrite<'_>,
    folder: &Path,
) -> Result<BTreeMap<(u32, Uuid), TakenOut>> {
    let mut taken = BTreeMap::new();
    let file =
        snapshot.part(|shard, uuid| uuid.is_some_and(|uuid| replaced.contains_key(&(shard, uuid))));
    let mut input = Input::open(&file, None, None)?;
    let mut sink = Sink::new(folder);
    let mut walker = Walker::new(&mut input, snapshot.what());
    while let Some(member) = walker.next_member()? {
        let Place::Shard {
            shard,
            part: ShardMember::SegmentTar(uuid),
        } = layout::place(&member.path, member.kind == MemberKind::Directory)
        else {
            continue;
        };
        let key = (shard.unwrap_or(0), uuid);
        let Some(declared) = replaced.get(&key) else {
            continue;
        };
        let home = format!("{}/{uuid}", key.0);
        let what = format!("{} of {}", member.path, walker.what());
        let mut inner = Walker::inner(walker.data(), what);
        let mut kept: Vec<Piece> = Vec::new();
        let mut end = 0;
        while let Some(file) = inner.next_member()? {
            let start = std::mem::replace(&mut end, file.end());
            let is_directory = file.kind == MemberKind::Directory;
            let name = match layout::in_segment_tar(&file.path, is_directory) {
                InSegment::File(name) => Some(name),
                InSegment::Plain(name) => {
                    let why = format!("it has {name}, as servers before 0.11 packed segments");
                    return Err(inner.damaged(why).next("use --route rebuild"));
                }
                // A server with RocksDB takes an empty `payload_index_db_backup` for a backup
                // (`unpack_snapshot` in lib/segment/src/segment/segment_ops.rs), and nothing needs a
                // folder without files.
                InSegment::Directory => continue,
                InSegment::Manifest | InSegment::Unknown => None,
            };
            let is_payload = |name: &str| {
                let rest = name.strip_prefix(STORAGE);
                !rewrite.keys.is_empty() && rest.is_some_and(|rest| rest.starts_with('/'))
            };
            let mut start = start;
            match name {
                Some(name) if is_payload(name) => {
                    sink.file(&mut inner, &file, &format!("{home}/{name}"))?;
                    continue;
                }
                Some(name) if index_folder(name).is_some_and(|one| !declared.keeps(one)) => {
                    continue;
                }
                Some(layout::SEGMENT_STATE) if !rewrite.vectors.is_none() => continue,
                Some(name) => match renamed_file(rewrite.vectors, name) {
                    None => continue,
                    Some(new) if new == name => {}
                    Some(new) => {
                        kept.push(Piece::Header(renamed_header(inner.header_read(), &new)?));
                        start = inner.header_end();
                    }
                },
                None => {}
            }
            match kept.last_mut() {
                Some(Piece::Kept(last)) if last.end == start => last.end = end,
                // An empty file has nothing behind its header.
                _ if start == end => {}
                _ => kept.push(Piece::Kept(start..end)),
            }
        }
        let folder = folder.join(&home);
        sink.folder(&folder)?;
        taken.insert(key, TakenOut { folder, kept });
    }
    match replaced.keys().find(|key| !taken.contains_key(key)) {
        None => Ok(taken),
        Some((shard, uuid)) => Err(Error::damaged(
            format!("reading {}", snapshot.what()),
            format!("segment {uuid} of shard {shard} is not there any more"),
        )
        .next("the file changed while it was read: try again")),
    }
}

/// The header of a member that is called `name` within its segment, made of the `header` that it had.
fn renamed_header(header: &Header, name: &str) -> Result<Vec<u8>> {
    let path = format!("{}/{name}", layout::SEGMENT_TAR_ROOT);
    let mut header = header.clone();
    // The part of a name that the other form of headers has in a field of its own.
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.prefix.fill(0);
    }
    // A name that is too long for it gets a header of its own before it.
    let mut tar = tar::Builder::new(Vec::new());
    let appended = tar.append_data(&mut header, &path, io::empty());
    appended.map_err(|err| Error::failed(format!("writing the tar header of {path}"), err))?;
    Ok(std::mem::take(tar.get_mut()))
}

/// Packs what takes the place of what was `taken` out: its payload indexes as they are `declared`, the
/// `segment.json` that is its new `state`, if there is one, and the payload storage in the folder `storage`,
/// if it was written anew; that is gone then.
pub fn splice(
    taken: &TakenOut,
    declared: &Declared,
    state: Option<&Value>,
    storage: Option<&Path>,
) -> Result<Splice> {
    let folder = taken.folder.join("added");
    let indexes = folder.join(layout::PAYLOAD_INDEXES);
    std::fs::create_dir_all(&indexes)
        .map_err(|err| Error::io("making scratch folder", &indexes, &err))?;
    write_json(&indexes.join(INDEXES_CONFIG), &declared.config)?;
    if let Some(state) = state {
        write_json(&folder.join(layout::SEGMENT_STATE), state)?;
    }
    if let Some(storage) = storage {
        scratch::move_folder(storage, &folder.join(STORAGE))?;
    }
    let added = taken.folder.join(ADDED);
    let file = scratch::create(&added)?;
    let (file, _) = pack_segment(&folder, file, &added)?;
    let added_bytes = (file.metadata())
        .map_err(|err| Error::io("writing", &added, &err))?
        .len();
    scratch::remove_folder(&folder)?;
    let kept: u64 = taken.kept.iter().map(Piece::bytes).sum();
    Ok(Splice {
        kept: taken.kept.clone(),
        added,
        bytes: kept + added_bytes,
        added_bytes,
    })
}

impl Out for File {
    fn content(&mut self, file: &mut File, bytes: u64) -> io::Result<()> {
        match io::copy(&mut Read::by_ref(file).take(bytes), self)? == bytes {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Splice {
    /// Length of the tar in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of it that were written anew.
    pub fn added_bytes(&self) -> u64 {
        self.added_bytes
    }

    /// The tar; `source` yields the tar that parts of it are of, from its first byte on.
    pub fn reader<'a>(&'a self, source: &'a mut dyn Read) -> Result<SpliceReader<'a>> {
        let added = File::open(&self.added);
        Ok(SpliceReader {
            source,
            at: 0,
            kept: &self.kept,
            written: 0,
            added: added.map_err(|err| Error::io("reading scratch file", &self.added, &err))?,
        })
    }

    /// Removes what it has in scratch, when it is of no more use.
    pub fn discard(&self) -> Result<()> {
        let removed = std::fs::remove_file(&self.added);
        removed.map_err(|err| Error::io("removing scratch file", &self.added, &err))
    }
}

/// Reads a [`Splice`].
pub struct SpliceReader<'a> {
    source: &'a mut dyn Read,
    /// Bytes of the source that were passed.
    at: u64,
    kept: &'a [Piece],
    /// Bytes of the first of these that were yielded, if it is a header.
    written: usize,
    added: File,
}

impl Read for SpliceReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some((piece, later)) = self.kept.split_first() {
            let range = match piece {
                Piece::Kept(range) => range,
                Piece::Header(header) => {
                    let mut left = header.get(self.written..).unwrap_or_default();
                    if left.is_empty() {
                        (self.kept, self.written) = (later, 0);
                        continue;
                    }
                    let count = left.read(buffer)?;
                    self.written += count;
                    return Ok(count);
                }
            };
            if self.at >= range.end {
                self.kept = later;
                continue;
            }
            if let Some(before) = range.start.checked_sub(self.at).filter(|bytes| *bytes > 0) {
                crate::format::skip_by_reading(self.source, before)?;
                self.at = range.start;
            }
            let left = usize::try_from(range.end - self.at).unwrap_or(usize::MAX);
            let most = left.min(buffer.len());
            let count = self
                .source
                .read(buffer.get_mut(..most).unwrap_or_default())?;
            if count == 0 && most > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.at += count as u64;
            return Ok(count);
        }
        self.added.read(buffer)
    }
}
