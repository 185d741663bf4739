//! Recipes: how the very bytes of a snapshot come out of objects again.
//!
//! Keeps true: a recipe's extents are the whole snapshot, without gap or overlap, and lie within
//! the objects that it names; a recipe that says otherwise is refused before anything is read by it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::name::Name;
use super::object::RAW_BYTES_MAX;
use crate::base::error::{Error, Result};

/// More bytes no recipe has as it lies there.
pub const STORED_BYTES_MAX: u64 = 256 << 20;
/// More bytes no recipe has, decompressed.
const JSON_BYTES_MAX: usize = 1 << 30;
/// How well it is compressed.
const LEVEL: i32 = 6;

/// An object as a recipe knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: Name,
    /// Its size in bytes, decompressed.
    pub raw: u64,
    /// Its size in bytes as it lies there.
    pub stored: u64,
    /// The SHA-256 of its first bytes, up to the end of its table of chunks.
    pub table: Name,
}

/// A file of the snapshot, tars inside included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its path.
    pub path: String,
    /// Its size in bytes, holes included.
    pub bytes: u64,
    /// What the snapshot stores of it, in bytes.
    pub stored: u64,
    /// Where that begins in the snapshot, in bytes.
    pub start: u64,
    /// The BLAKE3 of what is stored.
    pub blake3: String,
}

/// The bytes that come next: those of the object `object`, from byte `start` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Which of [`Recipe::objects`].
    pub object: u32,
    /// Where in it, decompressed.
    pub start: u32,
    /// How many.
    pub bytes: u32,
}

/// A recipe.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Recipe {
    /// Unlike any other run's, so that no two runs write the same recipe.
    pub run: Uuid,
    /// Size of the snapshot in bytes.
    pub bytes: u64,
    /// The snapshot's SHA-256.
    pub sha256: String,
    /// The objects that it is made of.
    pub objects: Vec<Part>,
    /// The snapshot from its first byte to its last: object, start, length, and again.
    pub extents: Vec<u32>,
    /// The files in it.
    pub files: Vec<FileEntry>,
}

impl Recipe {
    /// The extents in order.
    pub fn extents(&self) -> impl Iterator<Item = Extent> + '_ {
        let (threes, _) = self.extents.as_chunks::<3>();
        threes.iter().map(|[object, start, bytes]| Extent {
            object: *object,
            start: *start,
            bytes: *bytes,
        })
    }

    /// Adds what comes next; goes on with the last extent where it can.
    pub fn push(&mut self, extent: Extent) {
        if let [.., object, start, bytes] = self.extents.as_mut_slice()
            && *object == extent.object
            && start.checked_add(*bytes) == Some(extent.start)
            && let Some(sum) = bytes.checked_add(extent.bytes)
        {
            *bytes = sum;
            return;
        }
        self.extents
            .extend([extent.object, extent.start, extent.bytes]);
    }

    /// Bytes that it uses of each object; what is used twice counts twice.
    pub fn used(&self) -> Vec<u64> {
        let mut used = vec![0; self.objects.len()];
        for extent in self.extents() {
            if let Some(used) = used.get_mut(extent.object as usize) {
                *used += u64::from(extent.bytes);
            }
        }
        used
    }

    /// A hash of what is in the snapshot, whenever it was written down: of its files' paths, sizes and
    /// bytes, without the tars around them, which have times.
    pub fn content(&self) -> String {
        let mut files: Vec<&FileEntry> = self.files.iter().collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut hash = blake3::Hasher::new();
        for file in files {
            let FileEntry {
                path,
                bytes,
                blake3,
                ..
            } = file;
            for part in [path.as_bytes(), &bytes.to_le_bytes(), blake3.as_bytes()] {
                hash.update(&(part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
        hash.finalize().to_hex().to_string()
    }

    /// As it is to lie there, with its name.
    pub fn seal(&self) -> Result<(Name, Vec<u8>)> {
        let failed = |err: &dyn std::fmt::Display| Error::failed("writing a recipe", err);
        let json = serde_json::to_vec(self).map_err(|err| failed(&err))?;
        let bytes = zstd::bulk::compress(&json, LEVEL).map_err(|err| failed(&err))?;
        Ok((Name::of(&bytes), bytes))
    }

    /// The recipe `name`, which lies there as `bytes`.
    pub fn open(name: Name, bytes: &[u8]) -> Result<Self> {
        let damaged = |why: String| {
            Error::damaged(format!("reading recipe {name}"), why)
                .next("see what is lost: snapmerge archive check; --repair OTHER fetches it again")
        };
        let is = Name::of(bytes);
        if is != name {
            return Err(damaged(format!("its SHA-256 is {is}")));
        }
        let bound = zstd::bulk::Decompressor::upper_bound(bytes)
            .unwrap_or(JSON_BYTES_MAX)
            .min(JSON_BYTES_MAX);
        let json = zstd::bulk::decompress(bytes, bound)
            .map_err(|err| damaged(format!("it cannot be decompressed: {err}")))?;
        let recipe: Self = serde_json::from_slice(&json)
            .map_err(|err| damaged(format!("it is no recipe: {err}")))?;
        recipe.validate().map_err(damaged)?;
        Ok(recipe)
    }

    fn validate(&self) -> Result<(), String> {
        if !self.extents.len().is_multiple_of(3) {
            return Err("its extents are not threes".into());
        }
        if let Some(part) = self.objects.iter().find(|p| p.raw > RAW_BYTES_MAX as u64) {
            return Err(format!("object {} claims {} bytes", part.name, part.raw));
        }
        let mut bytes = 0_u64;
        for extent in self.extents() {
            let part = self.objects.get(extent.object as usize).ok_or_else(|| {
                format!(
                    "it names object {} of {}",
                    extent.object,
                    self.objects.len()
                )
            })?;
            if u64::from(extent.start) + u64::from(extent.bytes) > part.raw || extent.bytes == 0 {
                return Err(format!("an extent is not within object {}", part.name));
            }
            bytes += u64::from(extent.bytes);
        }
        if bytes != self.bytes {
            return Err(format!(
                "its extents come to {bytes} bytes, the snapshot to {}",
                self.bytes
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;

    fn recipe() -> Recipe {
        let mut recipe = Recipe {
            bytes: 70,
            sha256: "00".repeat(32),
            objects: vec![Part {
                name: Name::of(b"x"),
                raw: 60,
                stored: 30,
                table: Name::of(b"y"),
            }],
            ..Recipe::default()
        };
        for (start, bytes) in [(0, 10), (10, 20), (0, 40)] {
            recipe.push(Extent {
                object: 0,
                start,
                bytes,
            });
        }
        recipe
    }

    #[test]
    fn a_recipe_is_read_as_it_was_written() {
        let recipe = recipe();
        // What goes on is one extent.
        assert_eq!(recipe.extents, [0, 0, 30, 0, 0, 40]);
        assert_eq!(recipe.used(), [70]);
        let (name, bytes) = recipe.seal().unwrap();
        assert_eq!(Recipe::open(name, &bytes).unwrap(), recipe);
        assert_eq!(
            Recipe::open(Name::of(b"other"), &bytes).unwrap_err().kind(),
            Kind::Damaged
        );
    }

    #[test]
    fn a_recipe_that_is_not_the_whole_snapshot_is_refused() {
        let wrong: [fn(&mut Recipe); 6] = [
            |r| r.bytes += 1,
            |r| r.extents[2] = 31 + 30,
            |r| r.extents[0] = 1,
            |r| r.extents.truncate(4),
            |r| r.extents.extend([0, 5, 0]),
            |r| r.objects[0].raw = 1 << 40,
        ];
        for (n, spoil) in wrong.iter().enumerate() {
            let mut recipe = recipe();
            spoil(&mut recipe);
            let (name, bytes) = recipe.seal().unwrap();
            assert!(Recipe::open(name, &bytes).is_err(), "{n}");
        }
    }
}
