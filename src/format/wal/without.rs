//! Replaces some entries of a log in scratch by operations that do nothing.
//!
//! Invariants: every other entry keeps its number and its bytes; only scratch copies are changed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};

use super::{Name, read_failed, scan, scan_failed};
use crate::base::error::{Error, Result};
use crate::base::scratch;

/// An operation that does nothing, in CBOR: `{"delete_points": {"ids": []}}`.
const NOTHING: &[u8] = b"\xa1\x6ddelete_points\xa1\x63ids\x80";

/// Has the entries numbered `indexes` of the log in `folder` do nothing; `what` names it in errors.
pub fn without(folder: &Path, indexes: &BTreeSet<u64>, what: &str) -> Result<()> {
    let mut next = None;
    for (number, is_closed, path) in files(folder, what)? {
        let mut index = *next.get_or_insert(if is_closed { number } else { 0 });
        let doing = || format!("reading {} of {what}", path.display());
        let file = File::open(&path).map_err(|err| Error::io("reading scratch", &path, &err))?;
        let size = file
            .metadata()
            .map_err(|err| read_failed(doing(), &err))?
            .len();
        let (mut bytes, mut crc) = scan::begin();
        let (mut is_changed, mut is_whole) = (false, true);
        scan::scan(BufReader::new(file), size, |_, data| {
            let is_meant = indexes.contains(&index);
            let data = if is_meant { Some(NOTHING) } else { data };
            match data {
                Some(data) => crc = scan::append(&mut bytes, crc, data),
                None => is_whole = false,
            }
            is_changed |= is_meant;
            index = index.saturating_add(1);
        })
        .map_err(|err| scan_failed(doing(), err))?;
        next = Some(index);
        if !is_changed {
            continue;
        }
        if !is_whole {
            return Err(Error::damaged(
                doing(),
                "an entry of it is too large to be written again",
            ));
        }
        let length = size.max(bytes.len() as u64);
        let written = fs::remove_file(&path)
            .map_err(|err| Error::io("replacing scratch", &path, &err))
            .and_then(|()| scratch::create(&path));
        let mut file = written?;
        file.write_all(&bytes)
            .and_then(|()| file.set_len(length))
            .map_err(|err| Error::io("writing scratch", &path, &err))?;
    }
    Ok(())
}

/// The files of the log in their order: number, whether it is closed, and where it is.
fn files(folder: &Path, what: &str) -> Result<Vec<(u64, bool, PathBuf)>> {
    let failed = |err: std::io::Error| Error::io("listing scratch", folder, &err);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match Name::parse(&name) {
            Ok(Some(Name::Closed(number))) => files.push((number, true, path)),
            Ok(Some(Name::Open(number))) => files.push((number, false, path)),
            Ok(Some(Name::FirstIndex) | None) => {}
            Err(why) => return Err(Error::damaged(format!("reading {name} of {what}"), why)),
        }
    }
    // Closed ones come first.
    files.sort_by_key(|(number, is_closed, _)| (!is_closed, *number));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::wal::{LogFiles, Op, read};

    #[test]
    fn only_the_entries_that_are_named_do_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let record = |id: u64| {
            let mut bytes = Vec::new();
            let delete = serde_json::json!({"delete_points": {"ids": [id]}});
            ciborium::into_writer(&delete, &mut bytes).unwrap();
            bytes
        };
        let write = |name: &str, ids: std::ops::Range<u64>| {
            let (mut bytes, mut crc) = scan::begin();
            for id in ids {
                crc = scan::append(&mut bytes, crc, &record(id));
            }
            bytes.resize(4096, 0);
            fs::write(folder.path().join(name), bytes).unwrap();
        };
        write("closed-7", 7..10);
        write("open-1", 10..12);
        write("open-2", 12..13);
        without(folder.path(), &BTreeSet::from([8, 10, 12]), "a log").unwrap();
        let mut log = LogFiles::default();
        for name in ["closed-7", "open-1", "open-2"] {
            let path = folder.path().join(name);
            let file = File::open(&path).unwrap();
            let size = file.metadata().unwrap().len();
            assert_eq!(size, 4096);
            log.add(name, size, file, "a log").unwrap();
        }
        let log = read(log, "a log").unwrap();
        assert!(log.torn.is_empty());
        let left: Vec<(u64, usize)> = (log.entries.iter())
            .map(|entry| match &entry.op {
                Op::Delete(ids) => (entry.index, ids.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(left, [(7, 1), (8, 0), (9, 1), (10, 0), (11, 1), (12, 0)]);
    }
}
