//! Cutting a snapshot as it is read, and finding out what is stored already.
//!
//! Invariants: every byte that is fed is in exactly one extent, in order; a chunk is taken for one
//! that is stored only by its fingerprint, and the snapshot's SHA-256 is in the recipe to tell.

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;

use uuid::Uuid;

use crate::archive::boundaries::ChunkBoundaries;
use crate::archive::index::{At, Index, NEW};
use crate::archive::object::{CHUNK_BYTES_MAX, PackBuilder, RAW_BYTES, ROWS, Row, fingerprint_of};
use crate::archive::pool::Pool;
use crate::archive::recipe::{Extent, FileEntry, PackRef, Recipe};
use crate::base::error::{Error, Result};
use crate::format::TarExtents;

/// Cuts the bytes that it is fed into chunks.
pub struct Chunker<'a> {
    cuts: ChunkBoundaries<'a>,
    index: Index,
    packs: SyncSender<(u32, PackBuilder)>,
    pack: PackBuilder,
    /// Objects that were filled.
    filled: u32,
    position: u64,
    cut: Option<u64>,
    /// Offset in the pack at which the current chunk begins, in bytes.
    chunk_start: usize,
    extents: Vec<Extent>,
    used: &'a Pool<PackBuilder>,
}

/// Result of cutting a snapshot.
pub struct ChunkedStream {
    base: Vec<PackRef>,
    bytes: u64,
    extents: Vec<Extent>,
}

impl<'a> Chunker<'a> {
    /// A chunker of the snapshot that `runs` describes; what is filled goes to `packs`.
    pub fn new(
        runs: &'a TarExtents,
        index: Index,
        packs: SyncSender<(u32, PackBuilder)>,
        used: &'a Pool<PackBuilder>,
    ) -> Self {
        Self {
            cuts: ChunkBoundaries::new(runs),
            index,
            packs,
            pack: PackBuilder::default(),
            filled: 0,
            position: 0,
            cut: None,
            chunk_start: 0,
            extents: Vec::new(),
            used,
        }
    }

    /// Takes the bytes that come next.
    pub fn feed(&mut self, mut block: &[u8]) -> Result<()> {
        while !block.is_empty() {
            let cut = *self.cut.get_or_insert_with(|| self.cuts.at(self.position));
            let left = usize::try_from(cut - self.position).unwrap_or(usize::MAX);
            let (now, later) = block.split_at(left.min(block.len()));
            self.pack.raw.extend_from_slice(now);
            self.position += now.len() as u64;
            block = later;
            if self.position == cut {
                self.end_chunk()?;
            }
        }
        Ok(())
    }

    fn end_chunk(&mut self) -> Result<()> {
        self.cut = None;
        let chunk = self.pack.raw.get(self.chunk_start..).unwrap_or_default();
        let failed = |_| Error::failed("cutting a snapshot", "a chunk is too large");
        let bytes = u32::try_from(chunk.len()).map_err(failed)?;
        let print = fingerprint_of(chunk);
        let new = At {
            object: NEW | self.filled,
            start: u32::try_from(self.chunk_start).map_err(failed)?,
        };
        let at = match self.index.find_or_add(print, new) {
            Some(at) => {
                self.pack.raw.truncate(self.chunk_start);
                at
            }
            None => {
                self.pack.rows.push(Row { print, bytes });
                new
            }
        };
        push(&mut self.extents, at, bytes);
        if self.pack.raw.len() >= RAW_BYTES || self.pack.rows.len() >= ROWS {
            self.send();
        }
        self.chunk_start = self.pack.raw.len();
        Ok(())
    }

    fn send(&mut self) {
        let mut pack = self.used.take();
        pack.raw.clear();
        pack.rows.clear();
        pack.raw.reserve(RAW_BYTES + CHUNK_BYTES_MAX);
        std::mem::swap(&mut pack, &mut self.pack);
        // Whoever takes it has failed, and says why.
        let _ = self.packs.send((self.filled, pack));
        self.filled += 1;
    }

    /// Nothing comes any more.
    pub fn end(mut self) -> Result<ChunkedStream> {
        if self.pack.raw.len() > self.chunk_start {
            self.end_chunk()?;
        }
        if !self.pack.raw.is_empty() {
            self.send();
        }
        Ok(ChunkedStream {
            base: self.index.base,
            bytes: self.position,
            extents: self.extents,
        })
    }
}

/// Adds what comes next; goes on with the last extent where it can.
fn push(extents: &mut Vec<Extent>, at: At, bytes: u32) {
    if let Some(last) = extents.last_mut()
        && last.object == at.object
        && last.start.checked_add(last.bytes) == Some(at.start)
        && let Some(sum) = last.bytes.checked_add(bytes)
    {
        last.bytes = sum;
        return;
    }
    extents.push(Extent {
        object: at.object,
        start: at.start,
        bytes,
    });
}

impl ChunkedStream {
    /// The recipe, objects numbered as they are first needed.
    pub fn into_recipe(
        self,
        run: Uuid,
        new: &[PackRef],
        (runs, hashes): (&TarExtents, &[blake3::Hash]),
        sha256: String,
    ) -> Result<Recipe> {
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        let mut recipe = Recipe {
            run,
            bytes: self.bytes,
            sha256,
            ..Recipe::default()
        };
        let unknown = || Error::failed("writing a recipe", "it needs an object that is not there");
        for extent in self.extents {
            let number = match numbers.get(&extent.object) {
                Some(number) => *number,
                None => {
                    let (from, at) = match extent.object & NEW {
                        0 => (self.base.as_slice(), extent.object),
                        _ => (new, extent.object & !NEW),
                    };
                    let part = from.get(at as usize).ok_or_else(unknown)?;
                    let number = u32::try_from(recipe.objects.len()).map_err(|_| unknown())?;
                    recipe.objects.push(*part);
                    numbers.insert(extent.object, number);
                    number
                }
            };
            recipe.push(Extent {
                object: number,
                ..extent
            });
        }
        let mut starts = vec![None; runs.files.len()];
        for run in &runs.runs {
            if let Some(start) = starts.get_mut(run.file) {
                start.get_or_insert(run.start);
            }
        }
        for ((file, hash), start) in runs.files.iter().zip(hashes).zip(starts) {
            recipe.files.push(FileEntry {
                path: file.path.clone(),
                bytes: file.bytes,
                stored: file.stored_bytes,
                start: start.unwrap_or(0),
                blake3: hash.to_hex().to_string(),
            });
        }
        Ok(recipe)
    }
}
