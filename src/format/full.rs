//! Snapshots of a whole storage (`POST /snapshots`): the snapshots of its collections in one tar, with a
//! config.json that says which is which and which aliases there were
//! (lib/storage/src/content_manager/snapshots/mod.rs).
//!
//! Invariants: the snapshot of a collection is read where it lies; only members that config.json names are
//! handed out, and a name in it never becomes a path.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde::Deserialize;

use super::file::SnapshotFile;
use super::input::Input;
use super::layout::CONFIG;
use super::member::{FullMember, FullSnapshot, Place};
use super::tar::{MemberKind, Walker};
use crate::base::error::{Error, Result};

/// Largest config.json, in bytes.
const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// The storage's config.json.
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
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use sha2::{Digest as _, Sha256};

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
