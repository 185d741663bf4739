//! Cutting a snapshot as it is read, and finding out what is stored already.
//!
//! Invariants: every byte that is fed is in exactly one extent, in order; a chunk is taken for one
//! that is stored only by its fingerprint, and the snapshot's SHA-256 is in the recipe to tell.

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;

use uuid::Uuid;

use super::pool::Pool;
use crate::archive::cuts::Cuts;
use crate::archive::index::{At, Index, NEW};
use crate::archive::object::{CHUNK_BYTES_MAX, Filling, RAW_BYTES, ROWS, Row, print_of};
use crate::archive::recipe::{Extent, FileEntry, Part, Recipe};
use crate::base::error::{Error, Result};
use crate::format::Runs;

/// Cuts what it is fed.
pub struct Cutter<'a> {
    cuts: Cuts<'a>,
    index: Index,
    fillings: SyncSender<(u32, Filling)>,
    filling: Filling,
    /// Objects that were filled.
    filled: u32,
    position: u64,
    cut: Option<u64>,
    /// Offset in the filling at which the current chunk begins, in bytes.
    begun: usize,
    extents: Vec<Extent>,
    used: &'a Pool<Filling>,
}

/// Result of cutting a snapshot.
pub struct WasCut {
    base: Vec<Part>,
    bytes: u64,
    extents: Vec<Extent>,
}

impl<'a> Cutter<'a> {
    /// A cutter of the snapshot that `runs` describes; what is filled goes to `fillings`.
    pub fn new(
        runs: &'a Runs,
        index: Index,
        fillings: SyncSender<(u32, Filling)>,
        used: &'a Pool<Filling>,
    ) -> Self {
        Self {
            cuts: Cuts::new(runs),
            index,
            fillings,
            filling: Filling::default(),
            filled: 0,
            position: 0,
            cut: None,
            begun: 0,
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
            self.filling.raw.extend_from_slice(now);
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
        let chunk = self.filling.raw.get(self.begun..).unwrap_or_default();
        let failed = |_| Error::failed("cutting a snapshot", "a chunk is too large");
        let bytes = u32::try_from(chunk.len()).map_err(failed)?;
        let print = print_of(chunk);
        let new = At {
            object: NEW | self.filled,
            start: u32::try_from(self.begun).map_err(failed)?,
        };
        let at = match self.index.find_or_add(print, new) {
            Some(at) => {
                self.filling.raw.truncate(self.begun);
                at
            }
            None => {
                self.filling.rows.push(Row { print, bytes });
                new
            }
        };
        push(&mut self.extents, at, bytes);
        if self.filling.raw.len() >= RAW_BYTES || self.filling.rows.len() >= ROWS {
            self.send();
        }
        self.begun = self.filling.raw.len();
        Ok(())
    }

    fn send(&mut self) {
        let mut filling = self.used.take();
        filling.raw.clear();
        filling.rows.clear();
        filling.raw.reserve(RAW_BYTES + CHUNK_BYTES_MAX);
        std::mem::swap(&mut filling, &mut self.filling);
        // Whoever takes it has failed, and says why.
        let _ = self.fillings.send((self.filled, filling));
        self.filled += 1;
    }

    /// Nothing comes any more.
    pub fn end(mut self) -> Result<WasCut> {
        if self.filling.raw.len() > self.begun {
            self.end_chunk()?;
        }
        if !self.filling.raw.is_empty() {
            self.send();
        }
        Ok(WasCut {
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

impl WasCut {
    /// The recipe, objects numbered as they are first needed.
    pub fn into_recipe(
        self,
        run: Uuid,
        new: &[Part],
        (runs, hashes): (&Runs, &[blake3::Hash]),
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
