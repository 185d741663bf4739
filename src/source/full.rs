//! Snapshots of a whole storage as sources: FILE is every collection in it, FILE#PATTERN those of such names.
//!
//! The checksum beside such a file, or given for it, is that of the whole. To compare it, all of the file is
//! read, once for all collections that are read from it, and each of them is hashed on the way; what is then
//! read of a collection must have the hash that it had in that.
//!
//! Invariants: a file whose own name has a `#` is that file; a pattern that fits nothing is an error.

use std::path::{Path, PathBuf};

use wildmatch::WildMatch;

use super::checksum::{self, Checksum, Expectation};
use crate::base::error::{Error, Kind, Result};
use crate::base::words::first_few;
use crate::format::{Algorithm, FullHashes, FullMember, FullSnapshot, Hashes, SnapshotFile};

/// The snapshots that `given` means: the file, or of the snapshot of a whole storage every collection in it or
/// those that are asked for.
pub fn files_of(given: &Path) -> Result<Vec<SnapshotFile>> {
    let (file, names) = parts(given);
    let doing = || format!("looking for {}", given.display());
    match (FullSnapshot::open(&file)?, names) {
        (None, None) => Ok(vec![file.as_path().into()]),
        (None, Some(_)) => Err(Error::usage(
            doing(),
            format!("{} is no snapshot of a whole storage", file.display()),
        )
        .next(format!("leave out what follows it: {}", file.display()))),
        (Some(full), None) => Ok(full.into_files()),
        (Some(full), Some(names)) => {
            let there: Vec<&String> = full.members.keys().collect();
            let there = first_few(&there);
            let names = WildMatch::new(&names);
            let mut files = full.into_files();
            files.retain(|file| {
                matches!(file, SnapshotFile::Member(member) if names.matches(&member.collection))
            });
            match files.is_empty() {
                false => Ok(files),
                true => Err(Error::new(
                    Kind::NotFound,
                    doing(),
                    format!("no collection in it is called so; there are {there}"),
                )),
            }
        }
    }
}

/// The snapshot that `given` means, for whoever reads one.
pub fn file_of(given: &Path) -> Result<SnapshotFile> {
    let files = match <[SnapshotFile; 1]>::try_from(files_of(given)?) {
        Ok([file]) => return Ok(file),
        Err(files) => files,
    };
    let names: Vec<String> = files.iter().map(SnapshotFile::source_name).collect();
    let first = names.first().map_or("NAME", String::as_str);
    Err(Error::usage(
        format!("reading {}", given.display()),
        format!(
            "it is the snapshot of a whole storage, and one collection is read here; there are {}",
            first_few(&names)
        ),
    )
    .next(format!("name one: {}#{first}", path_of(given).display())))
}

/// The file on disk that `given` is read from.
pub fn path_of(given: &Path) -> PathBuf {
    parts(given).0
}

/// FILE and PATTERN of `FILE#PATTERN`, if there is such a file and none of the whole name.
fn parts(given: &Path) -> (PathBuf, Option<String>) {
    let whole = || (given.to_owned(), None);
    let Some(text) = given.to_str().filter(|_| !given.exists()) else {
        return whole();
    };
    let found = text.match_indices('#').find_map(|(at, _)| {
        let (file, names) = (text.get(..at)?, text.get(at + 1..)?);
        let file = PathBuf::from(file);
        file.is_file().then(|| (file, Some(names.to_owned())))
    });
    found.unwrap_or_else(whole)
}

/// The checksums that `file` must have: what was `given` for it, and, where it lies in the snapshot of a whole
/// storage, what was given for that (`given_full`). That there is none is an error where one `is_required`, which
/// tells of the `option` that gives one.
pub fn expected_of(
    file: &SnapshotFile,
    given: Option<&str>,
    given_full: Option<&str>,
    is_required: bool,
    option: &str,
) -> Result<Vec<Expectation>> {
    match file {
        SnapshotFile::Disk(path) => checksum::required(path, given, is_required, option),
        SnapshotFile::Member(member) => {
            let own = checksum::given_alone(given);
            let is_required = is_required && own.is_none();
            let path = &member.full.path;
            let of_full = checksum::required(path, given_full, is_required, option)?;
            let of_full = of_full.into_iter().map(|one| Expectation {
                other: None,
                of_full: true,
                ..one
            });
            Ok(own.into_iter().chain(of_full).collect())
        }
        SnapshotFile::Stored(stored) => Ok(checksum::recorded(stored, given)),
    }
}

/// Compares what a snapshot must be with what it is. `hashes` are those of `file`.
pub fn compare(file: &SnapshotFile, expected: &[Expectation], hashes: &Hashes) -> Result<Checksum> {
    let SnapshotFile::Member(member) = file else {
        return checksum::compare(file, expected, hashes);
    };
    let (of_full, own): (Vec<_>, Vec<_>) = expected.iter().cloned().partition(|one| one.of_full);
    let own = checksum::compare(file, &own, hashes)?;
    compare_full(member, own, &of_full, hashes)
}

/// The same of the whole that `member` lies in, whose `own` checksums were compared.
fn compare_full(
    member: &FullMember,
    own: Checksum,
    expected: &[Expectation],
    hashes: &Hashes,
) -> Result<Checksum> {
    if expected.is_empty() {
        return Ok(own);
    }
    let full = &member.full;
    let found = full.hashes()?;
    refuse_other(full, expected, &found)?;
    if found.members.get(&member.collection) != Some(&hashes.file) {
        return Err(Error::damaged(
            format!("checking {}", full.path.display()),
            format!(
                "the snapshot of {} changed while it was read",
                member.collection
            ),
        )
        .next("run it again when nothing writes the file"));
    }
    let mut tellers = match own {
        Checksum::Verified { by, .. } => by,
        _ => Vec::new(),
    };
    tellers.extend(expected.iter().map(|one| one.by.clone()));
    Ok(Checksum::Verified {
        sha256: hashes.file.clone(),
        hash: hashes.algorithm,
        by: tellers,
    })
}

/// Compares the snapshot of a whole storage with the checksums that it must have, `given` among them. All of it is
/// read; what is read of it after that is compared with this.
pub fn check_full(full: &FullSnapshot, given: Option<&str>, is_required: bool) -> Result<Checksum> {
    let expected = checksum::required(&full.path, given, is_required, "--sha256 FILE=HEX")?;
    if expected.is_empty() {
        return Ok(Checksum::Unverified);
    }
    let found = full.hashes()?;
    refuse_other(full, &expected, &found)?;
    Ok(Checksum::Verified {
        sha256: found.whole.clone(),
        hash: Algorithm::Sha256,
        by: expected.into_iter().map(|one| one.by).collect(),
    })
}

fn refuse_other(full: &FullSnapshot, expected: &[Expectation], found: &FullHashes) -> Result<()> {
    match expected.iter().find(|one| one.sha256 != found.whole) {
        None => Ok(()),
        Some(Expectation { sha256, by, .. }) => Err(Error::damaged(
            format!("checking {}", full.path.display()),
            format!("its SHA-256 is {}, but {by} says {sha256}", found.whole),
        )
        .next("the file was changed after its checksum was taken: fetch or copy it again")),
    }
}
