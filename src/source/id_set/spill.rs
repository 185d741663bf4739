//! The scratch file that runs of ids go to when there are too many of them for memory.
//!
//! Invariants: nothing is written while memory is enough; the file has no name, so that it is gone
//! with its process, however that ends; each block has a checksum, and what was not written here is an
//! error, never other ids.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::piece::{self, Piece, WRITTEN_BYTES_MAX};
use crate::base::error::{Error, Result};
use crate::base::scratch::{self, Scratch};
use crate::format::FileSize;
use crate::format::ids;

/// Pieces that are held in memory before they are laid out and written: 25 MB.
const PIECES_MAX: usize = 1 << 19;
/// Pieces that all sets of one scratch file keep in memory together: 13 MB.
const KEPT_MAX: usize = 1 << 18;
/// Bytes of a block.
const BLOCK_BYTES: usize = 64 << 10;
/// Length and checksum of a block.
const BLOCK_HEAD_BYTES: usize = 8;

/// Bounds of memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Pieces that are collected at once.
    pub pieces: usize,
    /// Pieces that are kept.
    pub kept: usize,
}

/// Where sets of ids go that are too large for memory.
#[derive(Debug, Clone)]
pub struct Spill {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    place: Place,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Place {
    /// A folder in scratch.
    Folder(PathBuf),
    /// A folder in which scratch is made if it is needed.
    Parent(PathBuf),
}

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<File>>,
    end: u64,
    kept: usize,
    /// Kept for its lock.
    scratch: Option<Scratch>,
}

impl Spill {
    /// Spills into a scratch folder that there is.
    pub fn into_scratch(scratch: &Scratch) -> Self {
        Self::new(Place::Folder(scratch.path().to_owned()))
    }

    /// Spills into scratch of its own, which is made in `parent` if it is needed.
    pub fn within(parent: &Path) -> Self {
        Self::new(Place::Parent(parent.to_owned()))
    }

    fn new(place: Place) -> Self {
        let limits = Limits {
            pieces: PIECES_MAX,
            kept: KEPT_MAX,
        };
        Self::with_limits(place, limits)
    }

    fn with_limits(place: Place, limits: Limits) -> Self {
        Self {
            inner: Arc::new(Inner {
                place,
                limits,
                state: Mutex::default(),
            }),
        }
    }

    /// The same with little memory, for tests.
    #[cfg(test)]
    pub(super) fn tiny(folder: &Path, pieces: usize, kept: usize) -> Self {
        Self::with_limits(Place::Folder(folder.to_owned()), Limits { pieces, kept })
    }

    /// Bytes that the scratch file may come to for a segment with these files, at the most.
    pub fn bytes_max<'a>(files: impl Iterator<Item = (&'a String, &'a FileSize)>) -> u64 {
        let mappings = files
            .filter(|(name, _)| ids::is_mappings(name))
            .map(|(_, size)| size.bytes);
        // A record of a number has 9 to 13 bytes and becomes a piece of 21, of a UUID 17 to 21 and one of
        // 25; one that lies within another takes a second one.
        mappings.fold(0, |sum, bytes| sum.saturating_add(bytes.saturating_mul(4)))
    }

    pub(super) fn limits(&self) -> Limits {
        self.inner.limits
    }

    /// Keeps laid out pieces in memory, or writes them; there are `count` of them.
    pub(super) fn keep(&self, count: usize, pieces: impl Iterator<Item = Piece>) -> Result<Run> {
        {
            let mut state = self.lock();
            if state.kept + count <= self.inner.limits.kept {
                state.kept += count;
                let mut kept = Vec::with_capacity(count);
                kept.extend(pieces);
                return Ok(Run::Kept(kept));
            }
        }
        self.write(pieces)
    }

    /// Writes laid out pieces.
    pub(super) fn write(&self, pieces: impl Iterator<Item = Piece>) -> Result<Run> {
        let mut state = self.lock();
        let file = self.file(&mut state)?;
        let from = state.end;
        let failed = |err: std::io::Error| self.error("writing", &err);
        let mut block = Vec::with_capacity(BLOCK_BYTES + WRITTEN_BYTES_MAX);
        let mut rest = pieces.peekable();
        while rest.peek().is_some() {
            block.clear();
            block.resize(BLOCK_HEAD_BYTES, 0);
            while block.len() < BLOCK_BYTES
                && let Some(piece) = rest.next()
            {
                piece::write(&piece, &mut block);
            }
            seal(&mut block);
            file.write_all_at(&block, state.end).map_err(failed)?;
            state.end += block.len() as u64;
        }
        let to = state.end;
        Ok(Run::Written {
            spill: self.clone(),
            file,
            from,
            to,
        })
    }

    fn file(&self, state: &mut State) -> Result<Arc<File>> {
        if let Some(file) = &state.file {
            return Ok(Arc::clone(file));
        }
        let folder = match &self.inner.place {
            Place::Folder(folder) => folder.clone(),
            Place::Parent(parent) => {
                let scratch = Scratch::new(parent)?;
                let folder = scratch.path().to_owned();
                state.scratch = Some(scratch);
                folder
            }
        };
        let path = folder.join(format!("ids-{}", uuid::Uuid::new_v4().simple()));
        let file = Arc::new(scratch::create_unnamed(&path)?);
        state.file = Some(Arc::clone(&file));
        Ok(file)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Whatever a thread that panicked left behind is read with its checksums.
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, act: &str, err: &std::io::Error) -> Error {
        let (Place::Folder(folder) | Place::Parent(folder)) = &self.inner.place;
        Error::io(&format!("{act} ids in scratch,"), folder, err)
    }

    fn damaged(&self, why: &str) -> Error {
        let (Place::Folder(folder) | Place::Parent(folder)) = &self.inner.place;
        Error::failed(
            format!("reading ids back from scratch in {}", folder.display()),
            why,
        )
        .next("look after the disk: it does not return what was written to it")
    }
}

/// Writes length and checksum of a block into its head.
fn seal(block: &mut [u8]) {
    let Some((head, body)) = block.split_first_chunk_mut::<BLOCK_HEAD_BYTES>() else {
        return;
    };
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    let sum = crc32c::crc32c(body).to_le_bytes();
    for (to, from) in head.iter_mut().zip(len.into_iter().chain(sum)) {
        *to = from;
    }
}

/// Pieces that were laid out, in memory or in the file.
#[derive(Debug, Clone)]
pub(super) enum Run {
    Kept(Vec<Piece>),
    Written {
        spill: Spill,
        file: Arc<File>,
        from: u64,
        to: u64,
    },
}

impl Run {
    /// The pieces from the first on.
    pub(super) fn pieces(&self) -> Pieces<'_> {
        match self {
            Self::Kept(pieces) => Pieces::Kept(pieces.iter()),
            Self::Written {
                spill,
                file,
                from,
                to,
            } => Pieces::Written(Blocks {
                spill,
                file,
                next: *from,
                to: *to,
                block: Vec::new(),
                at: 0,
                last: None,
            }),
        }
    }
}

/// Reads a run.
pub(super) enum Pieces<'a> {
    Kept(std::slice::Iter<'a, Piece>),
    Written(Blocks<'a>),
}

impl Pieces<'_> {
    /// The next piece.
    pub(super) fn next(&mut self) -> Result<Option<Piece>> {
        match self {
            Self::Kept(rest) => Ok(rest.next().copied()),
            Self::Written(blocks) => blocks.next(),
        }
    }
}

/// Reads a run block by block.
pub(super) struct Blocks<'a> {
    spill: &'a Spill,
    file: &'a File,
    next: u64,
    to: u64,
    block: Vec<u8>,
    at: usize,
    last: Option<crate::point::PointId>,
}

impl Blocks<'_> {
    fn next(&mut self) -> Result<Option<Piece>> {
        if self.at == self.block.len() && !self.fill()? {
            return Ok(None);
        }
        let mut rest = self.block.get(self.at..).unwrap_or_default();
        let before = rest.len();
        let piece = piece::read(&mut rest).filter(|piece| self.last < Some(piece.start));
        let piece = piece.ok_or_else(|| self.spill.damaged("a piece is not what was written"))?;
        self.at += before - rest.len();
        self.last = Some(piece.last());
        Ok(Some(piece))
    }

    /// Reads the next block, if there is one.
    fn fill(&mut self) -> Result<bool> {
        if self.next >= self.to {
            return Ok(false);
        }
        let mut head = [0; BLOCK_HEAD_BYTES];
        self.read(&mut head)?;
        let (len, sum) = match head {
            [a, b, c, d, sum @ ..] => (u32::from_le_bytes([a, b, c, d]), sum),
        };
        let len = len as usize;
        if len == 0 || len > BLOCK_BYTES + WRITTEN_BYTES_MAX {
            return Err(self.spill.damaged("a block has an impossible length"));
        }
        let mut block = std::mem::take(&mut self.block);
        block.resize(len, 0);
        self.read(&mut block)?;
        if crc32c::crc32c(&block).to_le_bytes() != sum {
            return Err(self.spill.damaged("a block's checksum is wrong"));
        }
        self.block = block;
        self.at = 0;
        Ok(true)
    }

    fn read(&mut self, to: &mut [u8]) -> Result<()> {
        let read = self.file.read_exact_at(to, self.next);
        read.map_err(|err| self.spill.error("reading", &err))?;
        self.next += to.len() as u64;
        Ok(())
    }
}
