//! Checksums of sources: looked for, compared, and named where there are none.
//!
//! A flipped bit in a snapshot can change ids or payloads without any error (8 of 60 did), so a
//! source without a checksum is never called verified.
//!
//! Keeps true: every checksum that is found must match; one that cannot be read is an error, not
//! nothing.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::snapshot::{Hashes, Sha256Hex};

/// Largest checksum or manifest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A SHA-256 that a source must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The hash.
    pub sha256: Sha256Hex,
    /// Who says so.
    pub by: String,
}

/// What is known about a source's integrity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Checksum {
    /// Every byte was read and hashed, and the hash is what was expected.
    Verified {
        /// The SHA-256 of the file.
        sha256: Sha256Hex,
        /// Who said what it must be.
        by: Vec<String>,
    },
    /// There is a checksum, and it has not been compared yet.
    Unchecked {
        /// Who says what it must be.
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
            Self::Verified { by, .. } => format!("SHA-256 verified by {}", by.join(", ")),
            Self::Unchecked { by } => format!("SHA-256 by {}, not compared yet", by.join(", ")),
            Self::Unverified => "UNVERIFIED: no checksum found".into(),
            Self::Live => "live, read from the server".into(),
        }
    }
}

/// Reads `64 hexadecimal digits`, as Qdrant and `sha256sum` write them.
pub fn parse_sha256(text: &str) -> Option<Sha256Hex> {
    let word = text.split_whitespace().next()?;
    (word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| word.to_ascii_lowercase())
}

/// Every checksum that is to be found for the snapshot at `path`: Qdrant's own `FILE.checksum`
/// beside it, snapmerge's `FILE.manifest.json`, the same for the file without `.gz`, and what was
/// `given` on the command line.
pub fn expectations(path: &Path, given: Option<&str>) -> Result<Vec<Expectation>> {
    let mut found = Vec::new();
    if let Some(sha256) = given {
        found.push(Expectation {
            sha256: sha256.to_owned(),
            by: "--sha256".into(),
        });
    }
    let mut bases = vec![path.to_owned()];
    if path.extension().is_some_and(|ending| ending == "gz") {
        bases.push(path.with_extension(""));
    }
    for base in bases {
        let checksum = with_suffix(&base, ".checksum");
        if let Some(text) = read(&checksum)? {
            let sha256 = parse_sha256(&text).ok_or_else(|| unreadable(&checksum))?;
            found.push(Expectation {
                sha256,
                by: file_name(&checksum),
            });
        }
        let manifest = with_suffix(&base, ".manifest.json");
        if let Some(text) = read(&manifest)? {
            let sha256 = serde_json::from_str::<serde_json::Value>(&text)
                .ok()
                .and_then(|value| parse_sha256(value.get("sha256")?.as_str()?))
                .ok_or_else(|| unreadable(&manifest))?;
            found.push(Expectation {
                sha256,
                by: file_name(&manifest),
            });
        }
    }
    Ok(found)
}

/// Compares what a snapshot must be with what it is. `hashes` are those of the file at `path`.
pub fn compare(path: &Path, expected: &[Expectation], hashes: &Hashes) -> Result<Checksum> {
    let wrong: Vec<String> = expected
        .iter()
        .filter(|wanted| wanted.sha256 != hashes.file && wanted.sha256 != hashes.content)
        .map(|wanted| format!("{} says {}", wanted.by, wanted.sha256))
        .collect();
    if !wrong.is_empty() {
        let content = if hashes.content == hashes.file {
            String::new()
        } else {
            format!(", decompressed {}", hashes.content)
        };
        return Err(Error::damaged(
            format!("checking {}", path.display()),
            format!(
                "its SHA-256 is {}{content}, but {}",
                hashes.file,
                wrong.join(" and ")
            ),
        )
        .next("the file was changed after its checksum was taken: fetch or copy it again"));
    }
    if expected.is_empty() {
        return Ok(Checksum::Unverified);
    }
    Ok(Checksum::Verified {
        sha256: hashes.file.clone(),
        by: expected.iter().map(|wanted| wanted.by.clone()).collect(),
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

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

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
    fn one_wrong_checksum_refuses_the_source() {
        let path = Path::new("a.snapshot.gz");
        let hashes = Hashes {
            file: B.into(),
            content: A.into(),
            content_bytes: 0,
        };
        let wanted = |sha256: &str| Expectation {
            sha256: sha256.into(),
            by: "x".into(),
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
