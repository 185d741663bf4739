//! The members of a master's tar, each with its place in the order of a whole master.
//!
//! A merge writes them one after the other. Where each of the master's shards is made by itself, the members of
//! all, by their places, are in the order in which one merge would have written them; so both make the same
//! file of the same members.
//!
//! Invariants: the place of a member depends on the sources and the plan alone, not on which other shards are
//! made with it; members are written by ascending places.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::build::{Shape, Target};
use crate::format::{PackedShard, SnapshotWriter, ToPack, Written};

/// Place of a member among all of a master, but for those that end the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A segment that is carried: index of its source, and of the segment among all in it.
    Carried(usize, u64),
    /// A segment that is packed again: index of its source, number of its shard there, and its index in that.
    Packed(usize, u32, u64),
    /// Segment built from records: number of its shard in the master, and its index in that.
    Built(u32, u64),
    /// Other files of a shard: its number in the master.
    Shard(u32),
}

/// A member that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Place among all.
    pub place: Place,
    /// Offset of its header in the file, in bytes.
    pub start: u64,
    /// Size in bytes, header and padding included.
    pub bytes: u64,
}

/// A file of members as it is written.
pub struct MemberWriter {
    writer: SnapshotWriter,
    members: Vec<Member>,
}

impl MemberWriter {
    /// A writer into `target`.
    pub fn new(target: Target) -> Result<Self> {
        Ok(Self {
            writer: SnapshotWriter::new(target.file, &target.path)?,
            members: Vec::new(),
        })
    }

    /// Adds a file, as [`SnapshotWriter::member`] does.
    pub fn member(
        &mut self,
        place: Place,
        path: &str,
        bytes: u64,
        reader: &mut dyn Read,
        what: &dyn Fn(&io::Error) -> Error,
    ) -> Result<()> {
        let start = self.writer.bytes();
        self.writer.member(path, bytes, reader, what)?;
        self.add(place, start)
    }

    /// Adds a segment as a tar called `path`.
    pub fn segment(&mut self, place: Place, path: &str, segment: &ToPack) -> Result<()> {
        let start = self.writer.bytes();
        self.writer.segment(path, segment)?;
        self.add(place, start)
    }

    /// Adds what a shard needs besides its segments.
    pub fn shard(&mut self, place: Place, shard: PackedShard) -> Result<()> {
        let start = self.writer.bytes();
        self.writer.shard(shard)?;
        self.add(place, start)
    }

    /// Adds a member that another writer wrote, which `reader` yields.
    pub fn written(
        &mut self,
        member: Member,
        reader: &mut dyn Read,
        what: &dyn Fn(&io::Error) -> Error,
    ) -> Result<()> {
        let start = self.writer.bytes();
        self.writer.written_member(member.bytes, reader, what)?;
        self.add(member.place, start)
    }

    fn add(&mut self, place: Place, start: u64) -> Result<()> {
        if self.members.last().is_some_and(|last| last.place >= place) {
            return Err(Error::failed(
                "packing the master",
                format!("{place:?} comes too late: its place is before what was packed last"),
            )
            .next("this is a fault of snapmerge: please report it; nothing was written"));
        }
        self.members.push(Member {
            place,
            start,
            bytes: self.writer.bytes() - start,
        });
        Ok(())
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    /// Ends the file as the snapshot of a collection of `shape`.
    pub fn finish(self, shape: Shape<'_>) -> Result<Written> {
        self.writer.finish(
            shape.config.raw(),
            &shape.layout.keys,
            &shape.payload.to_json(),
        )
    }

    /// Ends the file, which has some members of a snapshot and is none itself; returns them, too.
    pub fn end(self) -> Result<(Written, Vec<Member>)> {
        Ok((self.writer.end()?, self.members))
    }
}
