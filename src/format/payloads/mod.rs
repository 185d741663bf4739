//! Segments whose payloads, payload indexes or names of vectors change, and nothing else of them.
//!
//! The payload storage is written anew, value by value, and the payload indexes that it concerns are left
//! to be built by who loads the segment; ids, vectors and graphs stay what they are, and move as they are
//! where they get another name. Of a packed segment
//! they are not even unpacked: [`take_out`] takes what is changed out of its tar, and a [`Splice`] is the
//! tar with what took its place.
//!
//! Invariants: every live point's payload is what its old one becomes by the declared change, read back
//! before it counts as written; offsets without a live point have no payload any more; memory is a bit
//! for each offset and one payload.

mod indexes;
mod splice;
mod text;
mod vectors;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Map, Value};
use xxhash_rust::xxh3::Xxh3;

pub use self::indexes::Declared;
pub use self::splice::{Splice, TakenOut, splice, take_out};
use self::text::change_members;
pub use self::vectors::{renamed_state, unrenamable, unrenamable_state};
use super::ids::{TrackerFiles, read};
use super::layout;
use super::schema::{PayloadSchema, VectorChanges};
use super::storage::{Bits, GridstoreReader, GridstoreWriter};
use crate::base::error::{Error, Result};
use crate::base::scratch;

/// The folder of a segment that holds its payloads.
pub const STORAGE: &str = "payload_storage";
/// The config of payload indexes, in their folder.
pub(super) const INDEXES_CONFIG: &str = "config.json";
/// The folder that a storage is written in until it is whole.
const NEW_STORAGE: &str = "payload_storage.new";

/// Changes a payload in place: it gets the members with the keys of [`SegmentRewrite::keys`] alone.
pub type Change<'a> = dyn FnMut(&mut Map<String, Value>) + 'a;

/// Changes to payloads and vectors of segments.
#[derive(Debug, Clone)]
pub struct SegmentRewrite<'a> {
    /// Keys of the payload members that may change; none if payloads stay as they are.
    pub keys: BTreeSet<String>,
    /// Payload indexes of the master.
    pub wanted: &'a PayloadSchema,
    /// Fields of them whose index is built by who loads the segment.
    pub rebuilt: BTreeSet<String>,
    /// Vectors that have another name in the master, or are left out.
    pub vectors: &'a VectorChanges,
}

impl SegmentRewrite<'_> {
    /// The payload indexes of a segment that has this `payload_index/config.json`.
    pub fn declared(&self, config: &Value) -> Declared {
        Declared::new(config, self.wanted, |field| self.rebuilt.contains(field))
    }

    /// Changes the unpacked segment in `folder`, called `what`.
    pub fn in_folder(&self, folder: &Path, change: &mut Change<'_>, what: &str) -> Result<()> {
        if !self.keys.is_empty() {
            let live = live(folder, what)?;
            let (old, new) = (folder.join(STORAGE), folder.join(NEW_STORAGE));
            rewrite_storage(&old, &new, &live, &self.keys, change, what)?;
            scratch::remove_folder(&old)?;
            scratch::move_folder(&new, &old)?;
        }
        let indexes = folder.join(layout::PAYLOAD_INDEXES);
        let path = indexes.join(INDEXES_CONFIG);
        let config = match std::fs::read(&path) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Value::Null,
            Err(err) => return Err(Error::io("reading", &path, &err)),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|err| Error::damaged(format!("reading {}", path.display()), err))?,
        };
        let declared = self.declared(&config);
        let failed = |err: std::io::Error| Error::io("listing", &indexes, &err);
        std::fs::create_dir_all(&indexes).map_err(failed)?;
        for entry in std::fs::read_dir(&indexes).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_folder = entry.file_type().map_err(failed)?.is_dir();
            match is_folder && declared.keeps(&entry.file_name().to_string_lossy()) {
                true => {}
                false if is_folder => scratch::remove_folder(&entry.path())?,
                false => std::fs::remove_file(entry.path()).map_err(failed)?,
            }
        }
        write_json(&path, &declared.config)?;
        match self.vectors.is_none() {
            true => Ok(()),
            false => vectors::rename_in_folder(self.vectors, folder),
        }
    }
}

/// Writes `value` into the scratch file at `path`.
fn write_json(path: &Path, value: &Value) -> Result<()> {
    let written = scratch::create(path)?.write_all(value.to_string().as_bytes());
    written.map_err(|err| Error::io("writing", path, &err))
}

/// Offsets of the live points of the unpacked segment in `folder`.
fn live(folder: &Path, what: &str) -> Result<Bits> {
    let files = TrackerFiles::in_folder(folder)?;
    Ok(Bits::of(
        read(&files, what)?.entries.iter().map(|entry| entry.offset),
    ))
}

/// Writes the payload storage in `from` anew into `to`, which is made: of the offsets that are `live`,
/// each payload as `change` leaves it. What is written is read back and compared. `what` names the
/// segment in errors.
pub fn rewrite_storage(
    from: &Path,
    to: &Path,
    live: &Bits,
    keys: &BTreeSet<String>,
    change: &mut Change<'_>,
    what: &str,
) -> Result<()> {
    let named = format!("the payloads of {what}");
    let mut old = GridstoreReader::open(from, &named)?;
    let mut new = GridstoreWriter::packed(to)?;
    let mut meant = Xxh3::new();
    for offset in live.iter() {
        let text = old.read(offset)?.unwrap_or_else(|| EMPTY.to_vec());
        let text = change_members(&text, keys, change).map_err(|why| {
            Error::damaged(
                format!("reading {named}"),
                format!("offset {offset}: {why}"),
            )
            .next("check the snapshot against its checksum; if that fits, take it again")
        })?;
        // Who has none has an empty one.
        if text != EMPTY {
            new.write(offset, &text)?;
        }
        add(&mut meant, offset, &text);
    }
    new.finish()?;
    let mut new = GridstoreReader::open(to, &named)?;
    let mut found = Xxh3::new();
    for offset in live.iter() {
        let text = new.read(offset)?.unwrap_or_else(|| EMPTY.to_vec());
        add(&mut found, offset, &text);
    }
    if found.digest128() != meant.digest128() {
        let doing = format!("writing {named} anew");
        return Err(
            Error::failed(doing, "what was written is not what is read back")
                .next("use --route rebuild, and please report this"),
        );
    }
    Ok(())
}

/// The payload of who has none.
const EMPTY: &[u8] = b"{}";

fn add(hash: &mut Xxh3, offset: u32, text: &[u8]) {
    hash.update(&offset.to_le_bytes());
    hash.update(&(text.len() as u64).to_le_bytes());
    hash.update(text);
}

/// Returns why the payloads of a segment with this `segment.json` cannot be written anew, if so.
pub fn unsuitable(state: &Value) -> Option<String> {
    let kind = &state["config"]["payload_storage_type"]["type"];
    match kind.as_str() {
        Some("mmap" | "in_ram_mmap" | "in_memory" | "on_disk") => None,
        _ => Some(format!(
            "its payload storage is {kind}, which is not known here"
        )),
    }
}

/// Returns true if the file called `name` of a segment belongs to its payload indexes, but for their
/// config; the folder that it lies in, if it does.
pub(super) fn index_folder(name: &str) -> Option<&str> {
    let (first, rest) = name.split_once('/')?;
    match first {
        layout::INDEX_DATABASE => Some(""),
        layout::PAYLOAD_INDEXES => Some(rest.split_once('/').map_or("", |(folder, _)| folder)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn live_payloads_are_changed_and_the_others_are_gone() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("old"), root.path().join("new"));
        let mut old = GridstoreWriter::new(&from).unwrap();
        old.write(0, br#"{"year":1,"a":1.0}"#).unwrap();
        old.write(1, br#"{"year":2}"#).unwrap();
        old.write(9, br#"{"b":"x"}"#).unwrap();
        old.finish().unwrap();
        let live = Bits::of([0, 3, 9]);
        let keys = BTreeSet::from(["year".to_owned()]);
        let mut seen = 0;
        let mut change = |payload: &mut Map<String, Value>| {
            seen += 1;
            payload.insert("year".into(), json!(2017));
        };
        rewrite_storage(&from, &to, &live, &keys, &mut change, "test").unwrap();
        assert_eq!(seen, 3);
        let mut new = GridstoreReader::open(&to, "test").unwrap();
        let mut text = |offset| {
            new.read(offset)
                .unwrap()
                .map(|text| String::from_utf8(text).unwrap())
        };
        assert_eq!(text(0).unwrap(), r#"{"a":1.0,"year":2017}"#);
        assert_eq!(text(1), None);
        assert_eq!(text(3).unwrap(), r#"{"year":2017}"#);
        assert_eq!(text(9).unwrap(), r#"{"b":"x","year":2017}"#);
        // A payload that is emptied is as none.
        let to = root.path().join("emptied");
        let mut remove = |payload: &mut Map<String, Value>| payload.clear();
        let one = Bits::of([1]);
        rewrite_storage(&from, &to, &one, &keys, &mut remove, "test").unwrap();
        let mut new = GridstoreReader::open(&to, "test").unwrap();
        assert_eq!(new.read(1).unwrap(), None);
    }

    #[test]
    fn a_payload_that_is_none_is_damage() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("old"), root.path().join("new"));
        let mut old = GridstoreWriter::packed(&from).unwrap();
        old.write(0, b"[1]").unwrap();
        old.finish().unwrap();
        let keys = BTreeSet::from(["year".to_owned()]);
        let failed = rewrite_storage(&from, &to, &Bits::of([0]), &keys, &mut |_| {}, "segment x");
        let text = failed.unwrap_err().to_string();
        assert!(
            text.contains("segment x") && text.contains("offset 0"),
            "{text}"
        );
    }

    #[test]
    fn files_of_indexes_are_told_by_their_folders() {
        for (name, wanted) in [
            ("payload_index/h-camera-map/data.bin", Some("h-camera-map")),
            ("payload_index/CURRENT", Some("")),
            ("payload_index_db_backup/meta/1", Some("")),
            ("payload_storage/page_0.dat", None),
            ("segment.json", None),
        ] {
            assert_eq!(index_folder(name), wanted, "{name}");
        }
    }
}
