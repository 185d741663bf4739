//! Metadata of a snapshot from its file and the sidecars beside it: name, time, manifest.
//!
//! Invariants: what is there and cannot be read is an error, not nothing.

use std::io::Read as _;
use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;

use crate::archive::chain::Chain;
use crate::base::error::{Error, Kind, Result};
use crate::base::printable::is_unprintable;
use crate::base::sidecar::Sidecar;
use crate::source::file_name;

/// Largest file beside a snapshot that is read, in bytes. Most of a manifest may be what the next capture
/// builds on, which no record has.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// The key of that in a manifest.
const STATE: &str = "partial";

/// Takes out of a capture's manifest what the next capture builds on; it is kept with the recipe.
pub fn take_state(manifest: Option<&mut Value>) -> Option<Value> {
    manifest?.as_object_mut()?.remove(STATE)
}

/// Names and tags stand in commands, paths and lists.
pub fn refuse_word(what: &str, word: &str) -> Result<()> {
    let why = match word {
        "" => "it is empty",
        word if word.len() > 255 => "it is longer than 255 bytes",
        word if word.contains(|c: char| c == '/' || is_unprintable(c)) => {
            "there is a slash or a control character in it"
        }
        _ => return Ok(()),
    };
    let next = match what {
        "name" => "name what it is a snapshot of: --name album_2017",
        _ => "give a word to keep it by: --tag before-upgrade",
    };
    Err(Error::usage(format!("reading the {what} {word:?}"), why).next(next))
}

/// A name that no entry has or had.
pub fn free_id(chain: &Chain, name: &str, time: DateTime<Utc>) -> String {
    let id = format!("{name}@{}", time.format("%Y-%m-%dT%H:%M:%SZ"));
    if chain.is_closed() {
        // Which there are is not known; but no two records have one number, and what is counted below is
        // always less than the number of its own record.
        let seq = chain.head().map_or(1, |head| head.seq + 1);
        return format!("{id}.{seq}");
    }
    let taken = |id: &str| chain.all_ids().any(|other| other == id);
    if !taken(&id) {
        return id;
    }
    (2_u64..)
        .map(|n| format!("{id}.{n}"))
        .find(|id| !taken(id))
        .unwrap_or(id)
}

/// Reads the content of this `sidecar` of a snapshot; `None` if there is no such file.
pub fn read_sidecar(snapshot: &Path, sidecar: Sidecar) -> Result<Option<Value>> {
    let path = sidecar.of(snapshot);
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(Error::io("reading", &path, &err)),
    };
    serde_json::from_reader(std::io::BufReader::new(file.take(MANIFEST_BYTES_MAX)))
        .map(Some)
        .map_err(|err| {
            Error::new(Kind::Damaged, format!("reading {}", path.display()), err)
                .next("make the snapshot again, or remove that file")
        })
}

/// When the snapshot at `path` was taken: by its manifest, by the name that Qdrant gave it, or else
/// as old as the file is.
pub fn taken(path: &Path, manifest: Option<&Value>) -> Result<DateTime<Utc>> {
    // As capture writes it.
    let told = manifest.and_then(|manifest| {
        manifest
            .get("begun")?
            .as_str()?
            .parse::<DateTime<Utc>>()
            .ok()
    });
    if let Some(time) = told.or_else(|| named_time(&file_name(path))) {
        return Ok(time);
    }
    let modified = std::fs::metadata(path)
        .and_then(|meta| meta.modified())
        .map_err(|err| Error::io("looking at", path, &err))?;
    Ok(modified.into())
}

/// The time in a name that Qdrant gave: `NAME-PEER-2026-11-22-14-15-16.snapshot`.
pub fn named_time(file: &str) -> Option<DateTime<Utc>> {
    let stem = file.strip_suffix(".gz").unwrap_or(file);
    let stem = stem.strip_suffix(".snapshot")?;
    let mut parts = stem.rsplitn(8, '-');
    let mut number = || parts.next()?.parse::<u32>().ok();
    let (second, minute, hour) = (number()?, number()?, number()?);
    let (day, month, year) = (number()?, number()?, number()?);
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    // A peer's number, and a name before it.
    parts.next()?.parse::<u64>().ok()?;
    parts.next()?;
    Some(date.and_hms_opt(hour, minute, second)?.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qdrant_names_tell_the_time() {
        for (file, expected) in [
            (
                "album_2017-6053835381806815-2026-11-22-14-15-16.snapshot",
                Some("2026-11-22T14:15:16Z"),
            ),
            (
                "a-b-1-2026-11-22-14-15-16.snapshot.gz",
                Some("2026-11-22T14:15:16Z"),
            ),
            ("album_2017.snapshot", None),
            ("a-1-2026-13-22-14-15-16.snapshot", None),
            ("a-2026-11-22-14-15-16.snapshot", None),
        ] {
            let expected = expected.map(|time| time.parse::<DateTime<Utc>>().unwrap());
            assert_eq!(named_time(file), expected, "{file}");
        }
    }
}
