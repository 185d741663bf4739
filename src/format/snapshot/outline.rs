//! Where the shards and segments of a snapshot in parts lie, so that later walks read no more than they need.
//!
//! A header is some bytes of an object of megabytes, which is read and compared whole. The first walk over a snapshot
//! reads all headers; what is found then is not read again for what nobody asks for.
//!
//! Invariants: what is left out are whole members of the outer tar, so that what is left is a tar.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use uuid::Uuid;

use crate::format::composed::Composition;
use crate::format::file::{SnapshotFile, StoredSnapshot};
use crate::format::layout::{self, Place, ShardMember};
use crate::format::tar::{Member, MemberKind};

/// The members of a snapshot's tar in their order, those of one segment or one shard in a row taken together.
#[derive(Debug, Clone, Default)]
pub struct Outline {
    outlined: Vec<Outlined>,
    end: u64,
    /// Numbers of the segments that are packed as a tar, among all such.
    packed: BTreeMap<(u32, Uuid), u64>,
}

/// Some members in a row.
#[derive(Debug, Clone)]
struct Outlined {
    of: Of,
    range: Range<u64>,
}

/// Owner of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Collection,
    Shard(u32, Option<Uuid>),
}

impl Outline {
    /// Adds the member that comes next.
    pub fn add(&mut self, member: &Member) {
        let is_directory = member.kind == MemberKind::Directory;
        let of = match layout::place(&member.path, is_directory) {
            Place::Shard { shard, part } => {
                let shard = shard.unwrap_or(0);
                let segment = match part {
                    ShardMember::SegmentTar(uuid) => {
                        let next = self.packed.len() as u64;
                        self.packed.entry((shard, uuid)).or_insert(next);
                        Some(uuid)
                    }
                    ShardMember::SegmentFile(uuid, _) => Some(uuid),
                    _ => None,
                };
                Of::Shard(shard, segment)
            }
            _ => Of::Collection,
        };
        self.push(of, member.end());
    }

    /// Nothing comes any more of the `bytes` bytes.
    pub fn finish(&mut self, bytes: u64) {
        self.push(Of::Collection, bytes);
    }

    fn push(&mut self, of: Of, end: u64) {
        let range = std::mem::replace(&mut self.end, end)..end;
        match self.outlined.last_mut() {
            Some(last) if last.of == of => last.range.end = end,
            _ => self.outlined.push(Outlined { of, range }),
        }
    }

    /// The number of a segment that is packed as a tar, among all such.
    pub fn number(&self, shard: u32, segment: Uuid) -> Option<u64> {
        self.packed.get(&(shard, segment)).copied()
    }

    /// The members of `file` that belong to the collection, and to the shards and segments that are `wanted`.
    pub fn part(
        &self,
        file: &Arc<StoredSnapshot>,
        wanted: impl Fn(u32, Option<Uuid>) -> bool,
    ) -> SnapshotFile {
        let whole = SnapshotFile::Stored(Arc::clone(file));
        if self.outlined.is_empty() {
            return whole;
        }
        let mut composition = Composition::default();
        for Outlined { of, range } in &self.outlined {
            let is_wanted = match of {
                Of::Collection => true,
                Of::Shard(shard, segment) => wanted(*shard, *segment),
            };
            if is_wanted {
                composition.push(&whole, range.clone());
            }
        }
        if composition.bytes() == file.bytes {
            return whole;
        }
        SnapshotFile::from(StoredSnapshot {
            bytes: composition.bytes(),
            parts: Arc::new(composition),
            ..StoredSnapshot::clone(file)
        })
    }
}
