//! A reader of an entry from front to back.
//!
//! It begins piece by piece: a walk over headers needs a few bytes here and there, and each from one object.
//! Whoever goes on gets blocks, which become larger, and the next of which threads put together meanwhile.
//! Where the pieces of a snapshot are scattered over many objects, as after nights of changes, a block is
//! larger still: each object is decompressed once a block, whatever the order of its pieces.
//!
//! Invariants: what is passed over needs no object; a block is no larger than what was read before it makes
//! likely to be needed; the range that was asked for is not left.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::EntryParts;
use super::memory::Share;
use crate::archive::object::Object;
use crate::base::error::{Error, Result};
use crate::base::parallel::in_parallel;
use crate::format::Stream;

/// Bytes that are read in a row, or objects that are read for them, before there are blocks.
const ALONE_BYTES: u64 = 512 << 10;
const ALONE_LOADS: u32 = 2;
/// Bytes of the first block, at the least.
const FIRST_BYTES: u64 = 128 << 10;
/// A block may be so many times as large as what was read in a row before.
const GROWTH: u64 = 4;
/// Bytes of a block for each object that a store serves well at once.
const BLOCK_BYTES: u64 = 4 << 20;
/// Concurrent calls of a store for each of these.
const CALLS: usize = 4;
/// Blocks that are put together while one is read.
const AHEAD: usize = 2;
/// Bytes of a block whose pieces are scattered.
const SCATTERED_BYTES: u64 = 32 << 20;
/// Pieces are scattered if so many times the bytes that they have are decompressed for them.
const SCATTERED: u64 = 2;
/// Bytes that may be passed over without ending a row.
const GAP_BYTES: u64 = 16 << 10;

/// Reads a range of an entry.
pub(super) struct EntryStream {
    parts: Arc<EntryParts>,
    position: u64,
    end: u64,
    /// Bytes that were read in a row.
    row: u64,
    /// Objects that were read for them, one by one.
    loads: u32,
    block: Option<Block>,
    /// The blocks after that, in their order.
    ahead: VecDeque<Ahead>,
}

/// A part of the snapshot.
struct Block {
    start: u64,
    bytes: u64,
    content: Content,
    _share: Share,
}

/// The bytes of a block.
enum Content {
    /// Pieces of objects, those that were read to the end left out.
    Pieces(VecDeque<Held>),
    /// Put together, since the pieces are scattered.
    Gathered(Vec<u8>),
}

/// A piece of an object.
struct Held {
    /// Offset in the snapshot.
    at: u64,
    object: Arc<Object>,
    start: u32,
    bytes: u32,
}

impl Block {
    fn end(&self) -> u64 {
        self.start + self.bytes
    }

    /// The bytes from `position` on that are in one piece; none if that is not in it.
    fn at(&mut self, position: u64) -> Result<&[u8]> {
        match &mut self.content {
            Content::Gathered(bytes) => {
                let at = position.checked_sub(self.start);
                let at = at.and_then(|at| usize::try_from(at).ok());
                Ok(at.and_then(|at| bytes.get(at..)).unwrap_or_default())
            }
            Content::Pieces(pieces) => {
                // Nobody goes back.
                while (pieces.front()).is_some_and(|one| one.at + u64::from(one.bytes) <= position)
                {
                    pieces.pop_front();
                }
                let Some(first) = pieces.front().filter(|first| first.at <= position) else {
                    return Ok(&[]);
                };
                let passed = u32::try_from(position - first.at).unwrap_or(first.bytes);
                first
                    .object
                    .bytes(first.start + passed, first.bytes - passed)
            }
        }
    }
}

/// A block that is being put together.
struct Ahead {
    range: Range<u64>,
    thread: JoinHandle<Result<Block>>,
}

/// Parts that a block is made of.
struct Plan {
    start: u64,
    bytes: u64,
    /// Lengths in the order of the snapshot, with the place in `objects`.
    pieces: Vec<(usize, u32)>,
    /// For each object, where the pieces begin in it.
    objects: Vec<(u32, Vec<u32>)>,
    /// Bytes of these objects.
    decompressed: u64,
}

impl EntryStream {
    pub fn new(parts: Arc<EntryParts>, range: Range<u64>) -> Self {
        Self {
            parts,
            position: range.start,
            end: range.end,
            row: 0,
            loads: 0,
            block: None,
            ahead: VecDeque::new(),
        }
    }

    /// Reads from what is at hand: none if that is not the next byte.
    fn read_block(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        let Some(block) = &mut self.block else {
            return Ok(None);
        };
        let there = block.at(self.position)?;
        let count = there.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), there.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok((count > 0).then_some(count))
    }

    /// Reads from the object of the next byte.
    fn read_object(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(extent) = self.parts.extents.from(self.position).next() else {
            return Ok(0);
        };
        let (object, is_loaded) = self.parts.object(extent.object)?;
        self.loads += u32::from(is_loaded);
        let left = u32::try_from(self.end - self.position).unwrap_or(u32::MAX);
        let room = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let count = extent.bytes.min(left).min(room);
        let bytes = object.bytes(extent.start, count)?;
        if let Some(to) = buffer.get_mut(..bytes.len()) {
            to.copy_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    /// Has a block at hand with the next byte in it.
    fn next_block(&mut self) -> Result<()> {
        self.block = None;
        while (self.ahead.front()).is_some_and(|ahead| ahead.range.end <= self.position) {
            self.ahead.pop_front();
        }
        let block = match self.ahead.pop_front() {
            Some(ahead) => {
                self.look_ahead(ahead.range.end)?;
                ahead.thread.join().unwrap_or_else(|_| {
                    let doing = format!("getting {}", self.parts.entry.id);
                    Err(Error::failed(doing, "a thread ended"))
                })?
            }
            None => {
                let memory = &self.parts.shared.memory;
                let plan = self.plan(self.position, memory.left().max(BLOCK_BYTES));
                let share = memory.take(plan.bytes);
                self.look_ahead(plan.start + plan.bytes)?;
                self.parts.gather(plan, share)?
            }
        };
        self.block = Some(block);
        Ok(())
    }

    /// Has threads put the blocks together that come after the one that ends at `end`, as far as there is
    /// memory for them.
    fn look_ahead(&mut self, end: u64) -> Result<()> {
        let mut start = self.ahead.back().map_or(end, |last| last.range.end);
        while self.ahead.len() < AHEAD {
            let left = self.parts.shared.memory.left();
            if start >= self.end || left < BLOCK_BYTES {
                break;
            }
            let plan = self.plan(start, left);
            if plan.bytes == 0 {
                break;
            }
            let range = start..start + plan.bytes;
            start = range.end;
            let share = self.parts.shared.memory.take(plan.bytes);
            let parts = Arc::clone(&self.parts);
            let thread = std::thread::Builder::new()
                .name("archive".into())
                .spawn(move || parts.gather(plan, share))
                .map_err(|err| Error::failed("starting a thread", err))?;
            self.ahead.push_back(Ahead { range, thread });
        }
        Ok(())
    }

    /// Parts of the block that begins at `start` and has `most` bytes at the most.
    fn plan(&self, start: u64, most: u64) -> Plan {
        let calls = self.parts.shared.archive.store.at_once();
        let lanes = (calls / CALLS).clamp(1, CALLS) as u64;
        let likely = (self.row * GROWTH).max(FIRST_BYTES).min(self.end - start);
        let most = likely.min(SCATTERED_BYTES).min(most);
        let mut plan = Plan {
            start,
            bytes: 0,
            pieces: Vec::new(),
            objects: Vec::new(),
            decompressed: 0,
        };
        let mut places: HashMap<u32, usize> = HashMap::new();
        for extent in self.parts.extents.from(start) {
            let is_scattered = plan.decompressed > SCATTERED * plan.bytes;
            if plan.bytes >= most || (plan.bytes >= lanes * BLOCK_BYTES && !is_scattered) {
                break;
            }
            let left = u32::try_from(most - plan.bytes).unwrap_or(u32::MAX);
            let bytes = extent.bytes.min(left);
            let place = *places.entry(extent.object).or_insert_with(|| {
                plan.decompressed += self.parts.object_bytes(extent.object);
                plan.objects.push((extent.object, Vec::new()));
                plan.objects.len() - 1
            });
            if let Some((_, starts)) = plan.objects.get_mut(place) {
                starts.push(extent.start);
            }
            plan.pieces.push((place, bytes));
            plan.bytes += u64::from(bytes);
        }
        plan
    }
}

impl EntryParts {
    /// Puts a block together: each object is read once, some at the same time.
    fn gather(&self, plan: Plan, share: Share) -> Result<Block> {
        let content = match plan.decompressed > SCATTERED * plan.bytes {
            true => Content::Gathered(self.copy_pieces(&plan)?),
            false => Content::Pieces(self.hold_pieces(&plan)?),
        };
        Ok(Block {
            start: plan.start,
            bytes: plan.bytes,
            content,
            _share: share,
        })
    }

    fn hold_pieces(&self, plan: &Plan) -> Result<VecDeque<Held>> {
        let mut objects = self.of_each(&plan.objects, |(number, starts)| {
            let (object, _) = self.object(*number)?;
            Ok((object, starts.iter()))
        })?;
        let mut at = plan.start;
        let mut pieces = VecDeque::new();
        for (place, bytes) in &plan.pieces {
            if let Some((object, starts)) = objects.get_mut(*place)
                && let Some(start) = starts.next()
            {
                pieces.push_back(Held {
                    at,
                    object: Arc::clone(object),
                    start: *start,
                    bytes: *bytes,
                });
            }
            at += u64::from(*bytes);
        }
        Ok(pieces)
    }

    fn copy_pieces(&self, plan: &Plan) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(plan.bytes).unwrap_or(0)];
        let mut rest = bytes.as_mut_slice();
        let mut rooms: Vec<Vec<&mut [u8]>> = Vec::new();
        rooms.resize_with(plan.objects.len(), Vec::new);
        for (place, length) in &plan.pieces {
            let (room, after) = rest.split_at_mut((*length as usize).min(rest.len()));
            rest = after;
            if let Some(rooms) = rooms.get_mut(*place) {
                rooms.push(room);
            }
        }
        let work = plan.objects.iter().zip(rooms);
        self.of_each(work, |((number, starts), rooms)| {
            let (object, _) = self.object(*number)?;
            for (start, room) in starts.iter().zip(rooms) {
                let length = u32::try_from(room.len()).unwrap_or(u32::MAX);
                room.copy_from_slice(object.bytes(*start, length)?);
            }
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Does `work` for each object, for as many at once as serves the store well.
    fn of_each<P: Send, R: Send>(
        &self,
        objects: impl IntoIterator<Item = P, IntoIter: ExactSizeIterator + Send>,
        work: impl Fn(P) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let objects = objects.into_iter();
        match objects.len() {
            ..=1 => objects.map(work).collect(),
            _ => in_parallel(
                objects,
                self.shared.archive.store.at_once().min(CALLS),
                work,
            ),
        }
    }
}

impl Read for EntryStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.end || buffer.is_empty() {
            return Ok(0);
        }
        let is_row = self.row >= ALONE_BYTES || self.loads >= ALONE_LOADS;
        let mut count = self.read_block(buffer).map_err(Error::into_io)?;
        if count.is_none() && (is_row || !self.ahead.is_empty()) {
            self.next_block().map_err(Error::into_io)?;
            count = self.read_block(buffer).map_err(Error::into_io)?;
        }
        let count = match count {
            Some(count) => count,
            None => self.read_object(buffer).map_err(Error::into_io)?,
        };
        self.position += count as u64;
        self.row += count as u64;
        Ok(count)
    }
}

impl Stream for EntryStream {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let target = self.position.checked_add(bytes);
        let target = target.filter(|target| *target <= self.end);
        self.position = target.ok_or(io::ErrorKind::UnexpectedEof)?;
        let is_at_hand = |block: &Block| (block.start..=block.end()).contains(&self.position);
        let is_near = self.block.as_ref().is_some_and(is_at_hand)
            || (self.ahead.iter()).any(|ahead| ahead.range.contains(&self.position));
        if !is_near && (self.block.is_some() || bytes > GAP_BYTES) {
            self.block = None;
            self.ahead.clear();
            self.row = 0;
            self.loads = 0;
        }
        Ok(())
    }
}
