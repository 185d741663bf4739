//! Names of what is stored: the SHA-256 of the very bytes that lie there.
//!
//! Invariants: bytes are trusted only after they were hashed and the hash is their name; so
//! `sha256sum` alone can check an archive.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
pub struct Name([u8; 32]);

impl Name {
    /// The name of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns the name made of the digest of `hasher`.
    pub fn from_hasher(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// The digest itself.
    pub fn digest(&self) -> [u8; 32] {
        self.0
    }

    /// Returns the path under which it is stored in `folder`.
    pub fn path(&self, folder: &str) -> String {
        let hex = self.to_string();
        let (shard, _) = hex.split_at(2);
        format!("{folder}/{shard}/{hex}.zst")
    }

    /// The name that a path made by [`Self::path`] holds.
    pub fn of_path(folder: &str, path: &str) -> Option<Self> {
        let file = path.rsplit('/').next()?;
        let name: Self = file.strip_suffix(".zst")?.parse().ok()?;
        (name.path(folder) == path).then_some(name)
    }

    /// Which of `shares` equal shares it belongs to.
    pub fn share(&self, shares: u32) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d]) % shares.max(1)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} is no SHA-256 (64 lowercase hexadecimal digits)");
        let mut digest = [0; 32];
        if text.len() != 64 {
            return Err(refuse());
        }
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            let mut value = 0;
            for digit in pair {
                value = value * 16
                    + match digit {
                        b'0'..=b'9' => digit - b'0',
                        b'a'..=b'f' => digit - b'a' + 10,
                        _ => return Err(refuse()),
                    };
            }
            *byte = value;
        }
        Ok(Self(digest))
    }
}

/// Begins the name of the folder of a job, which may lie in an archive's place and is none of its files.
pub const JOB_PREFIX: &str = "job-";
/// Hexadecimal digits of a job's name after that.
pub const JOB_DIGITS: usize = 32;

/// Returns true if what is called `name` in a store lies in the folder of a job.
pub fn is_of_job(name: &str) -> bool {
    let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    let is_job = |folder: &str| {
        folder
            .strip_prefix(JOB_PREFIX)
            .is_some_and(|digits| digits.len() == JOB_DIGITS && digits.chars().all(is_digit))
    };
    let mut folders = name.split('/');
    // The last is a file.
    folders.next_back();
    folders.any(is_job)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_jobs_are_told_by_the_folder_they_lie_in() {
        let job = "job-ffe52ddfe671a2b2645c0a9566ebb040";
        for name in ["plan.json", "parts/0.json", "parts/0/ab/members-00000000"] {
            assert!(is_of_job(&format!("{job}/{name}")), "{name}");
            assert!(is_of_job(&format!("jobs/{job}/{name}")), "{name}");
            assert!(!is_of_job(&format!("{}/{name}", &job[..35])), "{name}");
            assert!(
                !is_of_job(&format!("{}/{name}", job.to_uppercase())),
                "{name}"
            );
        }
        assert!(!is_of_job(job) && !is_of_job(&format!("objects/{job}")));
    }

    #[test]
    fn a_name_is_written_one_way() {
        let name = Name::of(b"abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(name.to_string(), hex);
        assert_eq!(hex.parse::<Name>().unwrap(), name);
        let path = name.path("objects");
        assert_eq!(path, format!("objects/ba/{hex}.zst"));
        assert_eq!(Name::of_path("objects", &path), Some(name));
        assert_eq!(Name::of_path("recipes", &path), None);
        assert_eq!(
            Name::of_path("objects", &path.replace("/ba/", "/bb/")),
            None
        );
        for wrong in ["", &hex[1..], &hex.to_uppercase(), &hex.replace('b', "g")] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
        let shares: Vec<u32> = (0..7).filter(|share| name.share(7) == *share).collect();
        assert_eq!(shares.len(), 1);
    }
}
