//! Recipes: how the very bytes of a snapshot come out of objects again.
//!
//! Invariants: a recipe's extents are the whole snapshot, without gap or overlap, and lie within
//! the objects that it names; a recipe that says otherwise is refused before anything is read by it.

use std::fmt;
use std::io::Read as _;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::chain::Entry;
use super::encryption::ArchiveKey;
use super::name::Name;
use super::object::{self, RAW_BYTES_MAX};
use super::store::{Store, key_of};
use crate::base::error::{Error, Result};

/// More bytes no recipe has as it lies there.
pub const STORED_BYTES_MAX: u64 = 128 << 20;
/// More bytes no recipe has, decompressed.
const JSON_BYTES_MAX: u64 = 512 << 20;
/// More objects no recipe needs.
const OBJECTS_MAX: usize = 1 << 20;
/// More numbers its extents do not have; see [`super::boundaries::CHUNKS_MAX`].
const EXTENTS_MAX: usize = 3 * (4 << 20);
/// More files no recipe names.
const FILES_MAX: usize = 1 << 20;
/// Zstandard level at which recipes are compressed.
const LEVEL: i32 = 6;

/// An object as a recipe knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackRef {
    /// Name of the object.
    pub name: Name,
    /// Size of the decompressed object in bytes.
    pub raw: u64,
    /// Size of the stored object in bytes.
    pub stored: u64,
    /// The SHA-256 of its first bytes, up to the end of its table of chunks, before they were encrypted.
    pub table: Name,
}

/// A file of the snapshot, tars inside included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileEntry {
    /// Path of the file.
    pub path: String,
    /// Size of the file in bytes, holes included.
    pub bytes: u64,
    /// Number of bytes of the file that the snapshot stores.
    pub stored: u64,
    /// Offset of the stored bytes in the snapshot, in bytes.
    pub start: u64,
    /// The BLAKE3 of what is stored.
    pub blake3: String,
}

/// The bytes that come next: those of the object `object`, from byte `start` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Which of [`Recipe::objects`].
    pub object: u32,
    /// Offset in the decompressed object, in bytes.
    pub start: u32,
    /// Length in bytes.
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
    #[serde(deserialize_with = "at_most::<_, _, OBJECTS_MAX>")]
    pub objects: Vec<PackRef>,
    /// The snapshot from its first byte to its last: object, start, length, and again.
    #[serde(deserialize_with = "at_most::<_, _, EXTENTS_MAX>")]
    pub extents: Vec<u32>,
    /// The files in it.
    #[serde(deserialize_with = "at_most::<_, _, FILES_MAX>")]
    pub files: Vec<FileEntry>,
    /// State of the collection's shards that the next capture builds on, as the capture wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Value>,
}

/// A list of no more than `MAX`, refused before there is memory for more.
fn at_most<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    struct Limited<T, const MAX: usize>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Limited<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = list.next_element()? {
                if all.len() == MAX {
                    return Err(A::Error::invalid_length(MAX + 1, &self));
                }
                all.push(one);
            }
            Ok(all)
        }
    }
    from.deserialize_seq(Limited::<T, MAX>(PhantomData))
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

    /// As it is to lie there, encrypted for `key` if there is one, with its name.
    pub fn seal(&self, key: Option<&ArchiveKey>) -> Result<(Name, Vec<u8>)> {
        let failed = |err: &dyn fmt::Display| Error::failed("writing a recipe", err);
        let json = serde_json::to_vec(self).map_err(|err| failed(&err))?;
        let mut bytes = zstd::bulk::compress(&json, LEVEL).map_err(|err| failed(&err))?;
        if let Some(key) = key {
            let compressed = std::mem::take(&mut bytes);
            key.encrypt(&compressed, &mut bytes)?;
        }
        // A recipe that would be refused when read is not written.
        let is_read = json.len() as u64 <= JSON_BYTES_MAX
            && bytes.len() as u64 <= STORED_BYTES_MAX
            && self.objects.len() <= OBJECTS_MAX
            && self.extents.len() <= EXTENTS_MAX
            && self.files.len() <= FILES_MAX;
        if !is_read {
            return Err(failed(&format!(
                "the snapshot is in {} pieces of {} objects and has {} files, more than a recipe may \
                 have",
                self.extents.len() / 3,
                self.objects.len(),
                self.files.len()
            )));
        }
        Ok((Name::of(&bytes), bytes))
    }

    /// The recipe of `entry`, which is that of its snapshot.
    pub fn of_entry(store: &dyn Store, entry: &Entry) -> Result<Self> {
        let name = entry.recipe;
        let damaged = |why: &str| {
            Error::damaged(format!("reading recipe {name}"), why)
                .next("see what is lost: snapmerge archive check; --repair OTHER fetches it again")
        };
        let bytes_max = entry.recipe_bytes.min(STORED_BYTES_MAX);
        let bytes = store.get(&name.path(super::RECIPES), bytes_max)?;
        let bytes = bytes.ok_or_else(|| damaged("it is missing"))?;
        let recipe = Self::open(name, &bytes, key_of(store).as_deref())?;
        match recipe.bytes == entry.bytes && recipe.sha256 == entry.sha256 {
            true => Ok(recipe),
            false => Err(damaged("it is another snapshot's")),
        }
    }

    /// The recipe `name`, which lies there as `bytes`, encrypted for `key` if there is one.
    pub fn open(name: Name, bytes: &[u8], key: Option<&ArchiveKey>) -> Result<Self> {
        let damaged = |why: String| {
            Error::damaged(format!("reading recipe {name}"), why)
                .next("see what is lost: snapmerge archive check; --repair OTHER fetches it again")
        };
        let is = Name::of(bytes);
        if is != name {
            return Err(damaged(format!("its SHA-256 is {is}")));
        }
        let mut decrypted = Vec::new();
        let bytes = match key {
            None => bytes,
            Some(key) => {
                key.decrypt(bytes, &format!("recipe {name}"), &mut decrypted)?;
                decrypted.as_slice()
            }
        };
        // The size that the frame declares is not trusted.
        let mut json = Vec::new();
        zstd::stream::read::Decoder::with_buffer(bytes)
            .and_then(|frame| frame.take(JSON_BYTES_MAX + 1).read_to_end(&mut json))
            .map_err(|err| damaged(format!("it cannot be decompressed: {err}")))?;
        if json.len() as u64 > JSON_BYTES_MAX {
            return Err(damaged(format!("it has more than {JSON_BYTES_MAX} bytes")));
        }
        let recipe: Self = serde_json::from_slice(&json)
            .map_err(|err| damaged(format!("it is no recipe: {err}")))?;
        recipe.validate().map_err(damaged)?;
        Ok(recipe)
    }

    fn validate(&self) -> Result<(), String> {
        if !self.extents.len().is_multiple_of(3) {
            return Err("its extents are not threes".into());
        }
        let is_large = |part: &&PackRef| {
            part.raw > RAW_BYTES_MAX as u64 || part.stored > object::STORED_BYTES_MAX
        };
        if let Some(part) = self.objects.iter().find(is_large) {
            return Err(format!(
                "object {} claims {} bytes, stored in {}",
                part.name, part.raw, part.stored
            ));
        }
        let is_within = |file: &FileEntry| {
            let end = file.start.checked_add(file.stored);
            end.is_some_and(|end| end <= self.bytes)
        };
        if let Some(file) = self.files.iter().find(|file| !is_within(file)) {
            return Err(format!("file {} is not within the snapshot", file.path));
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
            objects: vec![PackRef {
                name: Name::of(b"x"),
                raw: 60,
                stored: 30,
                table: Name::of(b"y"),
            }],
            files: vec![FileEntry {
                path: "config.json".into(),
                bytes: 60,
                stored: 60,
                start: 10,
                blake3: "00".repeat(32),
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
        // Pieces that follow each other in an object are one extent.
        assert_eq!(recipe.extents, [0, 0, 30, 0, 0, 40]);
        assert_eq!(recipe.used(), [70]);
        let (name, bytes) = recipe.seal(None).unwrap();
        assert_eq!(Recipe::open(name, &bytes, None).unwrap(), recipe);
        assert_eq!(
            Recipe::open(Name::of(b"other"), &bytes, None)
                .unwrap_err()
                .kind(),
            Kind::Damaged
        );
    }

    #[test]
    fn a_recipe_that_is_not_the_whole_snapshot_is_refused() {
        let wrong: [fn(&mut Recipe); 9] = [
            |r| r.bytes += 1,
            |r| r.extents[2] = 31 + 30,
            |r| r.extents[0] = 1,
            |r| r.extents.truncate(4),
            |r| r.extents.extend([0, 5, 0]),
            |r| r.objects[0].raw = 1 << 40,
            |r| r.objects[0].stored = 1 << 40,
            |r| r.files[0].stored = 71,
            |r| r.files[0].start = u64::MAX,
        ];
        for (n, spoil) in wrong.iter().enumerate() {
            let mut recipe = recipe();
            spoil(&mut recipe);
            let (name, bytes) = recipe.seal(None).unwrap();
            assert!(Recipe::open(name, &bytes, None).is_err(), "{n}");
        }
    }

    #[test]
    fn a_recipe_of_too_much_is_refused_before_it_is_read() {
        // A bomb: some kilobytes that say of themselves that they are gigabytes.
        let mut bytes = zstd::bulk::compress(&vec![b' '; 1 << 20], 3).unwrap();
        let zeros = bytes.clone();
        for _ in 0..JSON_BYTES_MAX >> 20 {
            bytes.extend(&zeros);
        }
        let err = Recipe::open(Name::of(&bytes), &bytes, None).unwrap_err();
        assert!(err.why().contains("more than"), "{err}");
        let short: Result<Vec<u8>, _> =
            at_most::<_, _, 3>(&mut serde_json::Deserializer::from_str("[1, 2, 3]"));
        assert_eq!(short.unwrap(), [1, 2, 3]);
        let long: Result<Vec<u8>, _> =
            at_most::<_, _, 3>(&mut serde_json::Deserializer::from_str("[1, 2, 3, 4"));
        assert!(long.unwrap_err().to_string().contains("at most 3"));
    }
}
