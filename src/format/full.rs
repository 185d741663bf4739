//! Snapshots of a whole storage (`POST /snapshots`): the snapshots of its collections in one tar, with a
//! config.json that says which is which and which aliases there were
//! (lib/storage/src/content_manager/snapshots/mod.rs).
//!
//! Invariants: the snapshot of a collection is read where it lies; only members that config.json names are
//! handed out, and a name in it never becomes a path.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::file::SnapshotFile;
use super::input::{Input, Sha256Hex};
use super::layout::CONFIG;
use super::tar::{MemberKind, Walker};
use crate::base::error::{Error, Result};

/// Largest config.json, in bytes.
const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// Bytes that are hashed at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// A snapshot of a whole storage.
#[derive(Debug)]
pub struct FullSnapshot {
    /// The file, plain.
    pub path: PathBuf,
    /// The members that are snapshots of collections, by the collection.
    pub members: BTreeMap<String, Place>,
    /// The aliases, each with its collection.
    pub aliases: BTreeMap<String, String>,
    hashes: Mutex<Option<Arc<FullHashes>>>,
}

/// Place of the snapshot of one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the file, as Qdrant gave it: `album_2017-6053835381806815-2026-11-22-14-15-16.snapshot`.
    pub file: String,
    /// Bytes of the whole that are that file.
    pub range: Range<u64>,
}

/// SHA-256 of a snapshot of a whole storage, and of what is in it, all from one read.
#[derive(Debug)]
pub struct FullHashes {
    /// Of the whole.
    pub whole: Sha256Hex,
    /// Of the snapshots of collections, by the collection.
    pub members: BTreeMap<String, Sha256Hex>,
}

/// The snapshot of one collection in that of a whole storage.
#[derive(Debug, Clone)]
pub struct FullMember {
    /// The whole.
    pub full: Arc<FullSnapshot>,
    /// The collection.
    pub collection: String,
    /// Where it lies.
    pub place: Place,
}

impl FullMember {
    /// The aliases that pointed to the collection.
    pub fn aliases(&self) -> Vec<String> {
        let aliases = self.full.aliases.iter();
        aliases
            .filter(|(_, collection)| **collection == self.collection)
            .map(|(alias, _)| alias.clone())
            .collect()
    }
}

/// Its config.json.
#[derive(Deserialize)]
struct Config {
    collections_mapping: BTreeMap<String, String>,
    #[serde(default)]
    collections_aliases: BTreeMap<String, String>,
}

impl FullSnapshot {
    /// Reads the snapshot at `path`; none if it is one of something else, or is too damaged to tell. One that is
    /// compressed is an error, since nothing in it can be read where it lies.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let what = path.display().to_string();
        let Ok(input) = Input::open(&path.into(), None, None) else {
            return Ok(None);
        };
        let is_compressed = input.is_compressed();
        let mut walker = Walker::new(input, what.as_str());
        let mut config: Option<Config> = None;
        let mut places = BTreeMap::new();
        loop {
            let member = match walker.next_member() {
                Ok(Some(member)) => member,
                Ok(None) => break,
                Err(err) if config.is_some() => return Err(err),
                // Whoever opens it as the snapshot of one collection meets the same damage, and tells of it.
                Err(_) => return Ok(None),
            };
            if member.kind != MemberKind::File || member.path.contains('/') {
                // All of a storage's lies side by side.
                return Ok(None);
            }
            if member.path == CONFIG {
                let Ok(bytes) = walker.read_small(&member, CONFIG_BYTES_MAX) else {
                    return Ok(None);
                };
                // A collection's has no such map.
                match serde_json::from_slice(&bytes) {
                    Ok(read) => config = Some(read),
                    Err(_) => return Ok(None),
                }
            } else if member.pieces.is_none() {
                let range = member.position..member.position + member.bytes;
                let file = member.path.clone();
                places.insert(member.path, Place { file, range });
            }
        }
        let Some(config) = config.filter(|config| !config.collections_mapping.is_empty()) else {
            return Ok(None);
        };
        if is_compressed {
            return Err(Error::usage(
                format!("reading {what}"),
                "it is a compressed snapshot of a whole storage, and collections in it are read where they lie",
            )
            .next(format!("decompress it first: gunzip --keep {what}")));
        }
        let mut members = BTreeMap::new();
        for (name, file) in config.collections_mapping {
            let place = places.get(&file).ok_or_else(|| {
                walker.damaged(format!(
                    "config.json names {file}, the snapshot of {name}, and there is no such member"
                ))
            })?;
            members.insert(name, place.clone());
        }
        Ok(Some(Self {
            path: path.to_owned(),
            members,
            aliases: config.collections_aliases,
            hashes: Mutex::default(),
        }))
    }

    /// The snapshots of the collections in it, by name.
    pub fn into_files(self) -> Vec<SnapshotFile> {
        let full = Arc::new(self);
        let members = full.members.iter();
        members
            .map(|(collection, place)| {
                SnapshotFile::Member(Arc::new(FullMember {
                    full: Arc::clone(&full),
                    collection: collection.clone(),
                    place: place.clone(),
                }))
            })
            .collect()
    }

    /// The hashes of all of it. It is read once, however many ask.
    pub fn hashes(&self) -> Result<Arc<FullHashes>> {
        let mut known = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hashes) = &*known {
            return Ok(Arc::clone(hashes));
        }
        let hashes = self.hash().map_err(|err| {
            Error::reading(format!("reading snapshot {}", self.path.display()), &err)
        })?;
        let hashes = Arc::new(hashes);
        *known = Some(Arc::clone(&hashes));
        Ok(hashes)
    }

    fn hash(&self) -> io::Result<FullHashes> {
        let mut reader = SnapshotFile::from(self.path.as_path()).reader()?;
        let mut whole = Sha256::new();
        let mut hashers: Vec<(&String, &Range<u64>, Sha256)> = (self.members.iter())
            .map(|(name, place)| (name, &place.range, Sha256::new()))
            .collect();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut position = 0;
        loop {
            let count = reader.read(&mut buffer)?;
            let block = buffer.get(..count).unwrap_or_default();
            if block.is_empty() {
                break;
            }
            whole.update(block);
            let end = position + block.len() as u64;
            for (_, range, hasher) in &mut hashers {
                let within =
                    |at: u64| usize::try_from(at.clamp(position, end) - position).unwrap_or(0);
                hasher.update(
                    block
                        .get(within(range.start)..within(range.end))
                        .unwrap_or_default(),
                );
            }
            position = end;
        }
        let hex = |hasher: Sha256| hex::encode(hasher.finalize());
        Ok(FullHashes {
            whole: hex(whole),
            members: (hashers.into_iter())
                .map(|(name, _, hasher)| (name.clone(), hex(hasher)))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tar::Stream as _;

    fn tar(members: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = tar::Builder::new(file.as_file());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o600);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.finish().unwrap();
        drop(builder);
        file
    }

    #[test]
    fn only_what_the_config_names_is_taken_out() {
        let config =
            br#"{"collections_mapping":{"a":"a-1.snapshot"},"collections_aliases":{"now":"a"}}"#;
        let whole: &[(&str, &[u8])] = &[
            ("a-1.snapshot", b"inner"),
            ("other", b"x"),
            ("config.json", config),
        ];
        let file = tar(whole);
        let full = FullSnapshot::open(file.path()).unwrap().unwrap();
        let hashes = full.hashes().unwrap();
        let sha256 = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
        assert_eq!(hashes.whole, sha256(&std::fs::read(file.path()).unwrap()));
        let files = full.into_files();
        let [SnapshotFile::Member(member)] = files.as_slice() else {
            panic!("{files:?}");
        };
        assert_eq!(member.collection, "a");
        assert_eq!(member.aliases(), ["now"]);
        assert_eq!(hashes.members["a"], sha256(b"inner"));
        let read = |range| {
            let mut bytes = Vec::new();
            files[0]
                .read_range(range)
                .unwrap()
                .read_to_end(&mut bytes)
                .unwrap();
            bytes
        };
        assert_eq!(read(0..u64::MAX), b"inner");
        assert_eq!(read(1..3), b"nn");
        assert_eq!(read(4..9), b"r");
        let mut reader = files[0].reader().unwrap();
        reader.skip(4).unwrap();
        assert!(reader.skip(2).is_err(), "that is another file's");

        let lost = FullSnapshot::open(tar(&whole[1..]).path()).unwrap_err();
        assert!(lost.why().contains("a-1.snapshot"), "{lost}");
        let collection: &[(&str, &[u8])] = &[("config.json", b"{\"params\":{}}")];
        let none = |file: &Path| assert!(FullSnapshot::open(file).unwrap().is_none());
        none(tar(collection).path());
        let cut = tar(whole);
        cut.as_file().set_len(1000).unwrap();
        none(cut.path());
    }
}
