//! Snapshots of a whole storage (`POST /snapshots`): the snapshots of its collections in one tar, with a
//! config.json that says which is which and which aliases there were
//! (lib/storage/src/content_manager/snapshots/mod.rs).
//!
//! Invariants: only members that config.json names are taken out, each is whole, and a name in it never
//! becomes a path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::input::Input;
use super::layout::CONFIG;
use super::tar::{MemberKind, Walker};
use super::unpack::Sink;
use crate::base::error::{Error, Result};

/// Largest config.json, in bytes.
const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// A snapshot of a whole storage.
#[derive(Debug)]
pub struct FullSnapshot {
    path: PathBuf,
    /// The collections, each with the size of its snapshot in bytes.
    pub collections: BTreeMap<String, u64>,
    members: BTreeMap<String, String>,
    /// The aliases, each with its collection.
    pub aliases: BTreeMap<String, String>,
}

/// Its config.json.
#[derive(Deserialize)]
struct Config {
    collections_mapping: BTreeMap<String, String>,
    #[serde(default)]
    collections_aliases: BTreeMap<String, String>,
}

impl FullSnapshot {
    /// Reads the snapshot at `path`; none if it is one of something else.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let mut walker = Walker::new(
            Input::open(&path.into(), None, None)?,
            path.display().to_string(),
        );
        let mut config: Option<Config> = None;
        let mut sizes = BTreeMap::new();
        while let Some(member) = walker.next_member()? {
            if member.path == CONFIG && member.kind == MemberKind::File {
                let bytes = walker.read_small(&member, CONFIG_BYTES_MAX)?;
                // A collection's has no such map.
                match serde_json::from_slice(&bytes) {
                    Ok(read) => config = Some(read),
                    Err(_) => return Ok(None),
                }
            } else if member.kind == MemberKind::File && !member.path.contains('/') {
                sizes.insert(member.path, member.bytes);
            }
        }
        let Some(config) = config else {
            return Ok(None);
        };
        let mut collections = BTreeMap::new();
        for (name, member) in &config.collections_mapping {
            let bytes = sizes.get(member).ok_or_else(|| {
                walker.damaged(format!("config.json names {member}, the snapshot of {name}, and there is no such member"))
            })?;
            collections.insert(name.clone(), *bytes);
        }
        Ok(Some(Self {
            path: path.to_owned(),
            collections,
            members: config.collections_mapping,
            aliases: config.collections_aliases,
        }))
    }

    /// Writes the snapshot of `collection` into `folder`, which is scratch, as `name`.
    pub fn extract(&self, collection: &str, folder: &Path, name: &str) -> Result<()> {
        let what = self.path.display().to_string();
        let gone = || {
            Error::damaged(
                format!("reading {what}"),
                format!("the snapshot of {collection} is not in it any more"),
            )
        };
        let wanted = self.members.get(collection).ok_or_else(gone)?;
        let mut walker = Walker::new(
            Input::open(&self.path.as_path().into(), None, None)?,
            what.clone(),
        );
        while let Some(member) = walker.next_member()? {
            if member.path == *wanted && member.kind == MemberKind::File {
                return Sink::new(folder).file(&mut walker, &member, name);
            }
        }
        Err(gone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(full.collections, BTreeMap::from([("a".to_owned(), 5)]));
        assert_eq!(full.aliases["now"], "a");
        let dir = tempfile::tempdir().unwrap();
        full.extract("a", dir.path(), "a.snapshot").unwrap();
        assert_eq!(
            std::fs::read(dir.path().join("a.snapshot")).unwrap(),
            b"inner"
        );
        assert!(full.extract("b", dir.path(), "b").is_err());

        let lost = FullSnapshot::open(tar(&whole[1..]).path()).unwrap_err();
        assert!(lost.why().contains("a-1.snapshot"), "{lost}");
        let collection: &[(&str, &[u8])] = &[("config.json", b"{\"params\":{}}")];
        assert!(
            FullSnapshot::open(tar(collection).path())
                .unwrap()
                .is_none()
        );
    }
}
