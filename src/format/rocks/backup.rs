//! A backup of a RocksDB, as its own `BackupEngine` made it, put together again in scratch.
//!
//! It has a list (`meta/1`) of its files, each with its CRC-32C: those of the backup alone under
//! `private/1/`, and tables under `shared_checksum/` by a name that begins with their number
//! (utilities/backup/backup_engine.cc in RocksDB). RocksDB's own engine would copy them, which takes
//! twice the room, and believe the list's names.
//!
//! Invariants: every file that the list names is there and has its CRC, or there is no database; no
//! file leaves the folder, whatever its name; what the list does not name is not looked at.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::base::scratch;

/// The list.
const LIST: &str = "meta/1";
/// The longest list that is read, in bytes: some hundred thousand files.
const LIST_BYTES_MAX: u64 = 16 << 20;
/// Bytes read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// A file of a backup.
#[derive(Debug, PartialEq, Eq)]
struct Listed<'a> {
    /// Path in the backup.
    path: &'a str,
    /// Name in the database.
    name: String,
    crc32c: u32,
}

/// The files that the backup's list `text` names and that `is_there` does not know.
pub fn missing(text: &[u8], is_there: impl Fn(&str) -> bool) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(text).map_err(|err| err.to_string())?;
    let files = parse(text)?.into_iter();
    let missing = files.filter(|file| !is_there(file.path));
    Ok(missing.map(|file| file.path.to_owned()).collect())
}

/// Moves the files of the backup in the folder `backup` into the folder `database`, which is new, where
/// RocksDB finds them.
///
/// # Errors
/// Why it is no whole backup.
pub fn restore(backup: &Path, database: &Path) -> Result<(), String> {
    let list = backup.join(LIST);
    let mut text = String::new();
    let file = File::open(&list).map_err(|err| format!("{LIST}: {err}"))?;
    file.take(LIST_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|err| format!("{LIST}: {err}"))?;
    std::fs::create_dir(database).map_err(|err| err.to_string())?;
    for listed in parse(&text)? {
        let path: PathBuf = backup.join(listed.path);
        let found = crc32c(&path).map_err(|err| format!("{}: {err}", listed.path))?;
        if found != listed.crc32c {
            return Err(format!(
                "the CRC-32C of {} is {found}, and the backup's list says {}",
                listed.path, listed.crc32c
            ));
        }
        let to = database.join(&listed.name);
        if to.exists() {
            return Err(format!("{LIST} names {} twice", listed.name));
        }
        scratch::move_folder(&path, &to).map_err(|err| err.to_string())?;
    }
    Ok(())
}

/// The files of a backup's list: a time, a sequence number, perhaps metadata, how many, and a line each.
fn parse(text: &str) -> Result<Vec<Listed<'_>>, String> {
    let wrong = |what: &str| format!("{LIST} is not a backup's list: {what}");
    let mut lines = text.lines();
    let mut number = |what: &str| -> Result<u64, String> {
        let line = lines.next().unwrap_or_default();
        line.parse().map_err(|_| wrong(what))
    };
    number("it does not begin with a time")?;
    number("it has no sequence number")?;
    let mut lines = text.lines().skip(2).peekable();
    lines.next_if(|line| line.starts_with("metadata "));
    let count: usize = (lines.next().unwrap_or_default().parse())
        .map_err(|_| wrong("it does not say how many files there are"))?;
    let files: Vec<Listed<'_>> = lines
        .map(|line| listed(line).ok_or_else(|| wrong(&format!("'{line}'"))))
        .collect::<Result<_, _>>()?;
    if files.len() != count {
        return Err(wrong(&format!("of {count} files it names {}", files.len())));
    }
    Ok(files)
}

/// `private/1/CURRENT crc32 2659179228`
fn listed(line: &str) -> Option<Listed<'_>> {
    let mut words = line.split(' ');
    let (path, kind, crc) = (words.next()?, words.next()?, words.next()?);
    if kind != "crc32" || words.next().is_some() {
        return None;
    }
    let name = if let Some(name) = path.strip_prefix("private/1/") {
        name.to_owned()
    } else if let Some(name) = path.strip_prefix("shared_checksum/") {
        let (number, _) = name.split_once('_')?;
        let (_, ending) = name.rsplit_once('.')?;
        format!("{number}.{ending}")
    } else {
        path.strip_prefix("shared/")?.to_owned()
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = !name.starts_with('.') && name.bytes().all(is_plain);
    let (_, file) = path.rsplit_once('/')?;
    let fits = is_name && file.bytes().all(is_plain) && !file.starts_with('.');
    if !fits {
        return None;
    }
    Some(Listed {
        path,
        name,
        crc32c: crc.parse().ok()?,
    })
}

fn crc32c(path: &Path) -> std::io::Result<u32> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut crc = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(crc);
        }
        crc = crc32c::crc32c_append(crc, buffer.get(..count).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list that Qdrant 1.7.4 wrote.
    const TEXT: &str = "1795904634\n1466\n3\n\
        shared_checksum/000022_sCEFY0FQR406UU9CYM20O_3.sst crc32 904928854\n\
        private/1/CURRENT crc32 2659179228\n\
        private/1/000004.log crc32 0\n";

    fn backup(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("meta/1", text),
            ("shared_checksum/000022_sCEFY0FQR406UU9CYM20O_3.sst", "abc"),
            ("private/1/CURRENT", "MANIFEST-000005\n"),
            ("private/1/000004.log", ""),
        ] {
            let path = folder.path().join("backup").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        folder
    }

    fn restored(text: &str) -> Result<Vec<String>, String> {
        let folder = backup(text);
        let database = folder.path().join("database");
        restore(&folder.path().join("backup"), &database)?;
        let mut names: Vec<String> = std::fs::read_dir(&database)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        Ok(names)
    }

    #[test]
    fn files_get_the_names_that_the_database_knows_them_by() {
        let crc = crc32c::crc32c(b"abc").to_string();
        let text = TEXT.replace("904928854", &crc);
        let names = ["000004.log", "000022.sst", "CURRENT"];
        assert_eq!(restored(&text).unwrap(), names);
        let with_metadata = text.replace("\n3\n", "\nmetadata 6162\n3\n");
        assert_eq!(restored(&with_metadata).unwrap(), names);
        let there = |path: &str| !path.contains("sst");
        let missing = missing(text.as_bytes(), there).unwrap();
        assert_eq!(
            missing,
            ["shared_checksum/000022_sCEFY0FQR406UU9CYM20O_3.sst"]
        );
    }

    #[test]
    fn whatever_is_not_as_the_list_says_is_refused() {
        let crc = crc32c::crc32c(b"abc").to_string();
        let text = TEXT.replace("904928854", &crc);
        for (from, to) in [
            (crc.as_str(), "7"),
            ("2659179228", "2659179229"),
            ("\n3\n", "\n4\n"),
            ("\n3\n", "\n"),
            ("1795904634", "x"),
            ("crc32 0", "crc32 -1"),
            ("crc32 0", "crc32 0 temp warm"),
            ("private/1/000004.log", "private/1/000005.log"),
            ("private/1/000004.log", "private/1/../1/000004.log"),
            ("private/1/CURRENT", "../private/1/CURRENT"),
            ("private/1/CURRENT", "/etc/hostname"),
            ("private/1/CURRENT", "shared/CURRENT"),
            ("private/1/000004.log", "private/1/CURRENT"),
        ] {
            let text = text.replacen(from, to, 1);
            assert!(restored(&text).is_err(), "{from} as {to}");
        }
        for end in 0..text.len() - 1 {
            let cut = text.get(..end).unwrap();
            assert!(restored(cut).is_err(), "cut at {end}");
        }
    }
}
