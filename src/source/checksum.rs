//! Checksums of sources: looked for, compared, and named where there are none.
//!
//! A file beside a snapshot that states its SHA-256 may state another hash of the same bytes, which is faster
//! to compare: a capture writes BLAKE3, a merge XXH3. Such files guard against what happens to disks and
//! copies, and any of these hashes finds that; against somebody who changes files, and the hashes beside
//! them, there is `--sha256`, which is compared itself, and an archive's signed chain. That states the SHA-256
//! of a snapshot and of the list of its parts, each of which is compared when it is read.
//!
//! A flipped bit in a snapshot can change ids or payloads without any error (8 of 60 did), so a
//! source without a checksum is never called verified.
//!
//! Invariants: every checksum that is found must match; one that cannot be read is an error, not
//! nothing.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::error::{Error, Result};
use crate::base::path::is_gz;
use crate::format::{Algorithm, Hashes, Sha256Hex, SnapshotFile, StoredSnapshot};

/// Largest checksum or manifest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Name of the command line's checksum in reports.
const GIVEN: &str = "--sha256";
/// Name of the checksum that an archive has of an entry.
const RECORDED: &str = "the archive's record";

/// A SHA-256 that a source must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The hash.
    pub sha256: Sha256Hex,
    /// Another hash of the same bytes, where a file beside the source states both; that is compared then. A
    /// SHA-256 from the user is not replaced by what a file states.
    pub other: Option<Other>,
    /// File or option that states it.
    pub by: String,
    /// True if it is of the snapshot of a whole storage, which the source lies in.
    pub of_full: bool,
}

/// Another hash of bytes whose SHA-256 is told with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    algorithm: Algorithm,
    hash: String,
    /// File that states both.
    by: String,
}

/// Integrity of a source, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Checksum {
    /// Every byte was read and hashed, and the hash is what was expected.
    Verified {
        /// The SHA-256 of the file; of a collection in the snapshot of a whole storage, that of its snapshot.
        sha256: Sha256Hex,
        /// Algorithm of the hash that was computed and compared. If that is not SHA-256, whatever states the
        /// hash states this SHA-256 of the same bytes with it.
        hash: Algorithm,
        /// Files or options that state the hash.
        by: Vec<String>,
    },
    /// There is a checksum, and it has not been compared yet.
    Unchecked {
        /// Files or options that state it.
        by: Vec<String>,
    },
    /// It is read from an archive: every part that is read was compared with its own SHA-256 first. That of
    /// the whole was not compared, since not all of it was read, or not in one go.
    PartsVerified {
        /// Who states the SHA-256 of the whole.
        by: Vec<String>,
    },
    /// There is none.
    Unverified,
    /// There is no file: the records come from a server.
    Live,
}

impl Checksum {
    /// In a few words, for a report.
    pub fn words(&self) -> String {
        match self {
            Self::Verified { hash, by, .. } => {
                format!("{} verified by {}", hash.name(), by.join(", "))
            }
            Self::Unchecked { by } => format!("SHA-256 by {}, not compared yet", by.join(", ")),
            Self::PartsVerified { by } => format!(
                "every part read matches its SHA-256; that of the whole, by {}, not compared",
                by.join(", ")
            ),
            Self::Unverified => "UNVERIFIED: no checksum found".into(),
            Self::Live => "live, read from the server".into(),
        }
    }
}

/// Reads `64 hexadecimal digits`, as Qdrant and `sha256sum` write them.
pub fn parse_sha256(text: &str) -> Option<Sha256Hex> {
    parse_hash(text, 64)
}

fn parse_hash(text: &str, digits: usize) -> Option<String> {
    let word = text.split_whitespace().next()?;
    (word.len() == digits && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| word.to_ascii_lowercase())
}

/// The checksums that the snapshot at `path` must have, as [`expectations`] finds them; that there is none is an
/// error where one `is_required`, which tells of the `option` that gives one.
pub fn required(
    path: &Path,
    given: Option<&str>,
    is_required: bool,
    option: &str,
) -> Result<Vec<Expectation>> {
    let expected = expectations(path, given)?;
    if is_required && expected.is_empty() {
        return Err(Error::damaged(
            format!("checking {}", path.display()),
            "there is no checksum for it, and --require-checksum was given",
        )
        .next(format!(
            "put Qdrant's checksum beside it as {}.checksum, or give {option}",
            file_name(path)
        )));
    }
    Ok(expected)
}

/// The checksums of a snapshot in an archive: its record states the SHA-256, and the parts that it was made
/// of; and what was `given` on the command line.
pub fn recorded(stored: &StoredSnapshot, given: Option<&str>) -> Vec<Expectation> {
    let recorded = Expectation {
        sha256: stored.sha256.clone(),
        other: Some(Other {
            algorithm: Algorithm::Sha256Parts,
            hash: stored.parts_sha256.clone(),
            by: RECORDED.to_owned(),
        }),
        by: RECORDED.to_owned(),
        of_full: false,
    };
    given_alone(given).into_iter().chain([recorded]).collect()
}

/// Checksum `given` on the command line, of a snapshot without sidecar files.
pub fn given_alone(given: Option<&str>) -> Option<Expectation> {
    given.map(|sha256| Expectation {
        sha256: sha256.to_owned(),
        other: None,
        by: GIVEN.into(),
        of_full: false,
    })
}

/// The checksum that the record of how a master was made tells.
pub fn of_provenance(record: &Value) -> Option<Expectation> {
    let by = "its provenance".to_owned();
    let (sha256, other) = hashes_of(record, &by)?;
    Some(Expectation {
        sha256,
        other,
        by,
        of_full: false,
    })
}

/// Every checksum that is to be found for the snapshot at `path`: Qdrant's own `FILE.checksum`
/// beside it, snapmerge's `FILE.manifest.json` and `FILE.provenance.json`, the first two for the
/// file without `.gz`, too, and what was `given` on the command line.
pub fn expectations(path: &Path, given: Option<&str>) -> Result<Vec<Expectation>> {
    let mut found: Vec<Expectation> = given_alone(given).into_iter().collect();
    let mut bases = vec![path.to_owned()];
    if is_gz(path) {
        bases.push(path.with_extension(""));
    }
    for base in bases {
        let checksum = with_suffix(&base, ".checksum");
        if let Some(text) = read(&checksum)? {
            let sha256 = parse_sha256(&text).ok_or_else(|| unreadable(&checksum))?;
            found.push(Expectation {
                sha256,
                other: None,
                by: file_name(&checksum),
                of_full: false,
            });
        }
        let manifest = with_suffix(&base, ".manifest.json");
        if let Some(text) = read(&manifest)? {
            let by = file_name(&manifest);
            let (sha256, other) = hashes_in(&text, &by).ok_or_else(|| unreadable(&manifest))?;
            found.push(Expectation {
                sha256,
                other,
                by,
                of_full: false,
            });
        }
    }
    // Of a master, the record of how it was made. One that cannot be read, or that is of a collection,
    // says nothing.
    let provenance = with_suffix(path, ".provenance.json");
    let by = file_name(&provenance);
    let of_master = read(&provenance).unwrap_or(None);
    if let Some((sha256, other)) = of_master.and_then(|text| hashes_in(&text, &by)) {
        found.push(Expectation {
            sha256,
            other,
            by,
            of_full: false,
        });
    }
    let told = found
        .iter()
        .filter_map(|one| Some((one.sha256.clone(), one.other.clone()?)));
    let told: Vec<(Sha256Hex, Other)> = told.collect();
    for one in &mut found {
        if one.by != GIVEN && one.other.is_none() {
            let same = told.iter().find(|(sha256, _)| *sha256 == one.sha256);
            one.other = same.map(|(_, other)| other.clone());
        }
    }
    Ok(found)
}

/// The hashes that a manifest or a provenance, the file `by`, tells: a SHA-256, and another if there is
/// one.
fn hashes_in(text: &str, by: &str) -> Option<(Sha256Hex, Option<Other>)> {
    hashes_of(&serde_json::from_str(text).ok()?, by)
}

fn hashes_of(value: &Value, by: &str) -> Option<(Sha256Hex, Option<Other>)> {
    let hash = |name: &str, digits: usize| parse_hash(value.get(name)?.as_str()?, digits);
    let other = |algorithm: Algorithm, hash: String| Other {
        algorithm,
        hash,
        by: by.to_owned(),
    };
    let blake3 = hash("blake3", 64).map(|hash| other(Algorithm::Blake3, hash));
    let xxh3 = || hash("xxh3", 32).map(|hash| other(Algorithm::Xxh3, hash));
    Some((hash("sha256", 64)?, blake3.or_else(xxh3)))
}

/// Returns the algorithm to hash a source with, so that it can be compared with all that is expected.
pub fn algorithm(expected: &[Expectation]) -> Algorithm {
    let mut others = expected
        .iter()
        .map(|wanted| wanted.other.as_ref().map(|other| other.algorithm));
    match others.next().flatten() {
        Some(first) if others.all(|other| other == Some(first)) => first,
        _ => Algorithm::Sha256,
    }
}

/// Compares what a snapshot must be with what it is. `hashes` are those of `file`.
pub fn compare(file: &SnapshotFile, expected: &[Expectation], hashes: &Hashes) -> Result<Checksum> {
    let told: Vec<(&str, &str)> = expected
        .iter()
        .map(|wanted| match (hashes.algorithm, &wanted.other) {
            (Algorithm::Sha256, _) => (wanted.sha256.as_str(), wanted.by.as_str()),
            (algorithm, Some(other)) if other.algorithm == algorithm => {
                (other.hash.as_str(), other.by.as_str())
            }
            _ => ("none", wanted.by.as_str()),
        })
        .collect();
    let wrong: Vec<String> = told
        .iter()
        .filter(|(hash, _)| *hash != hashes.file && *hash != hashes.content)
        .map(|(hash, by)| format!("{by} says {hash}"))
        .collect();
    if !wrong.is_empty() {
        let content = if hashes.content == hashes.file {
            String::new()
        } else {
            format!(", decompressed {}", hashes.content)
        };
        return Err(Error::damaged(
            format!("checking {file}"),
            format!(
                "its {} is {}{content}, but {}",
                hashes.algorithm.name(),
                hashes.file,
                wrong.join(" and ")
            ),
        )
        .next("the file was changed after its checksum was taken: fetch or copy it again"));
    }
    let Some(first) = expected.first() else {
        return Ok(Checksum::Unverified);
    };
    // One file may tell for others, too.
    let mut tellers: Vec<String> = Vec::new();
    for (_, by) in told {
        if !tellers.iter().any(|teller| teller == by) {
            tellers.push(by.to_owned());
        }
    }
    Ok(Checksum::Verified {
        sha256: match hashes.algorithm {
            Algorithm::Sha256 => hashes.file.clone(),
            Algorithm::Blake3 | Algorithm::Xxh3 | Algorithm::Sha256Parts => first.sha256.clone(),
        },
        hash: hashes.algorithm,
        by: tellers,
    })
}

fn read(path: &Path) -> Result<Option<String>> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(Error::io("reading checksum", path, &err)),
    };
    let mut text = String::new();
    match file.take(FILE_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) => Ok(Some(text)),
        Err(err) if err.kind() == std::io::ErrorKind::InvalidData => Err(unreadable(path)),
        Err(err) => Err(Error::io("reading checksum", path, &err)),
    }
}

fn unreadable(path: &Path) -> Error {
    Error::damaged(
        format!("reading checksum {}", path.display()),
        "there is no SHA-256 (64 hexadecimal digits) in it",
    )
    .next("fetch it again, or remove it to use the source unverified")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The name of the file at `path`, without its folder.
pub fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;

    const A: &str = "d5d6bf49bc08de32db0a9c6546e69ffabfec848965cc8cced89700e357d285b8";
    const B: &str = "f1e379f14aabd37848c13708660ce58d2ac10769966ce32449f710da3d310e5a";

    #[test]
    fn every_checksum_beside_a_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let gz = folder.path().join("a.snapshot.gz");
        assert_eq!(expectations(&gz, None).unwrap(), []);
        std::fs::write(folder.path().join("a.snapshot.checksum"), A).unwrap();
        std::fs::write(
            folder.path().join("a.snapshot.gz.checksum"),
            format!("{}  a.snapshot.gz\n", B.to_uppercase()),
        )
        .unwrap();
        std::fs::write(
            folder.path().join("a.snapshot.gz.manifest.json"),
            format!(r#"{{"sha256":"{B}"}}"#),
        )
        .unwrap();
        let found = expectations(&gz, Some(A)).unwrap();
        let pairs: Vec<(&str, &str)> = found
            .iter()
            .map(|wanted| (wanted.by.as_str(), wanted.sha256.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("--sha256", A),
                ("a.snapshot.gz.checksum", B),
                ("a.snapshot.gz.manifest.json", B),
                ("a.snapshot.checksum", A),
            ]
        );
        std::fs::write(folder.path().join("a.snapshot.checksum"), "none").unwrap();
        let err = expectations(&gz, None).unwrap_err();
        assert_eq!(err.kind(), Kind::Damaged);
    }

    #[test]
    fn another_hash_is_compared_where_files_tell_it_of_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.snapshot");
        let file = SnapshotFile::from(path.as_path());
        let sidecar = |ending: &str, text: &str| {
            std::fs::write(with_suffix(&path, ending), text).unwrap();
        };
        let tells = |ending: &str, sha256: &str, other: (&str, &str)| {
            let (name, hash) = other;
            let told = serde_json::json!({"sha256": sha256, name: hash});
            sidecar(ending, &told.to_string());
        };
        let by = |given: Option<&str>| algorithm(&expectations(&path, given).unwrap());
        let hashes = |blake3: &str| Hashes {
            algorithm: Algorithm::Blake3,
            file: blake3.into(),
            content: blake3.into(),
            content_bytes: 0,
        };
        sidecar(".checksum", A);
        assert_eq!(by(None), Algorithm::Sha256);
        tells(".provenance.json", B, ("blake3", B));
        // That is of other bytes, and both are compared.
        assert_eq!(by(None), Algorithm::Sha256);
        let both = expectations(&path, None).unwrap();
        let of_checksum = Hashes {
            algorithm: Algorithm::Sha256,
            ..hashes(A)
        };
        let err = compare(&file, &both, &of_checksum).unwrap_err();
        assert!(err.why().contains("provenance.json says"), "{err}");
        tells(".provenance.json", A, ("blake3", B));
        assert_eq!(by(None), Algorithm::Blake3);
        let expected = expectations(&path, None).unwrap();
        let Checksum::Verified { sha256, hash, .. } =
            compare(&file, &expected, &hashes(B)).unwrap()
        else {
            panic!("not verified");
        };
        assert_eq!((sha256.as_str(), hash), (A, Algorithm::Blake3));
        let err = compare(&file, &expected, &hashes(A)).unwrap_err();
        assert!(err.why().contains(B), "{err}");
        let xxh3 = "0123456789abcdef".repeat(2);
        tells(".provenance.json", A, ("xxh3", &xxh3));
        assert_eq!(by(None), Algorithm::Xxh3);
        // The hash that both state is compared.
        tells(".manifest.json", A, ("blake3", B));
        assert_eq!(by(None), Algorithm::Sha256);
        tells(".manifest.json", B, ("blake3", A));
        assert_eq!(by(None), Algorithm::Sha256);
        tells(".provenance.json", A, ("blake3", B));
        // The user gives the SHA-256, and no file says that another hash will do.
        assert_eq!(by(Some(A)), Algorithm::Sha256);
        tells(".manifest.json", B, ("blake3", A));
        let both = expectations(&path, None).unwrap();
        assert_eq!(algorithm(&both), Algorithm::Blake3);
        assert!(compare(&file, &both, &hashes(B)).is_err());
    }

    #[test]
    fn one_wrong_checksum_refuses_the_source() {
        let path = &SnapshotFile::from(Path::new("a.snapshot.gz"));
        let hashes = Hashes {
            algorithm: Algorithm::Sha256,
            file: B.into(),
            content: A.into(),
            content_bytes: 0,
        };
        let wanted = |sha256: &str| Expectation {
            sha256: sha256.into(),
            other: None,
            by: sha256.into(),
            of_full: false,
        };
        assert_eq!(compare(path, &[], &hashes).unwrap(), Checksum::Unverified);
        let both = compare(path, &[wanted(A), wanted(B)], &hashes).unwrap();
        assert!(matches!(both, Checksum::Verified { by, .. } if by.len() == 2));
        let other = A.replace('d', "e");
        let err = compare(path, &[wanted(A), wanted(&other)], &hashes).unwrap_err();
        assert_eq!(err.kind(), Kind::Damaged);
        assert!(err.why().contains(&other) && err.why().contains(B), "{err}");
    }
}
