//! Storage of an archive: a local folder, or a bucket of S3 and what speaks like it, of Google or Azure.
//!
//! Invariants: what is put under a name is whole or absent; nothing depends on a listing being
//! complete, names that matter are known from what is stored; [`Store::put_new`] never replaces,
//! whoever else puts at the same moment; both kinds pass the same tests.

mod cloud;
mod conformance;
mod keyed;
mod local;
mod remote;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub use self::cloud::{Cloud, PLACES};
pub use self::conformance::conforms;
pub use self::keyed::Keyed;
pub use self::local::Local;
pub use self::remote::Remote;
use super::encryption::{ArchiveKey, Keyring};
use crate::base::error::{Error, Result};

/// A name that a listing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// When it was put.
    pub modified: SystemTime,
}

/// Named bytes. Names are relative paths of ASCII letters, digits and `-._/`.
pub trait Store: Send + Sync {
    /// Returns the location of the store, for errors.
    fn what(&self) -> String;

    /// The keys of the archive in it; none of a store that is used without an archive.
    fn keyring(&self) -> Option<&Keyring> {
        None
    }

    /// Puts `bytes` under a name that is free; false, and nothing changed, if something else is there.
    /// Nobody else puts the same bytes: what is stored tells who made it.
    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<bool>;

    /// Puts `bytes` under a name, over whatever is there.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Returns the content of a name, if there is any. More than `bytes_max` bytes are an error.
    fn get(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>>;

    /// The same into `to`, whose content is replaced and whose memory is used again; false if there
    /// is nothing.
    fn get_into(&self, name: &str, bytes_max: u64, to: &mut Vec<u8>) -> Result<bool> {
        let got = self.get(name, bytes_max)?;
        let found = got.is_some();
        *to = got.unwrap_or_default();
        Ok(found)
    }

    /// The first `bytes` bytes of what is under a name, or all if there are fewer, and how many there
    /// are.
    fn head(&self, name: &str, bytes: u64) -> Result<Option<(Vec<u8>, u64)>>;

    /// Up to `bytes` bytes of what is under a name, from `start` on; fewer where it ends before. None if it is not there.
    fn get_range(&self, name: &str, start: u64, bytes: u64) -> Result<Option<Vec<u8>>>;

    /// Removes a name; false if it is not there.
    fn remove(&self, name: &str) -> Result<bool>;

    /// The names that begin with `folder` and a slash, or all if it is empty, sorted.
    fn list(&self, folder: &str) -> Result<Vec<Listed>>;

    /// Removes the folders that nothing is in, with that of the store itself. Nothing where there are none.
    fn prune(&self) -> Result<()> {
        Ok(())
    }

    /// Returns when everything that was put and removed stays so.
    fn sync(&self) -> Result<()>;

    /// Returns the number of concurrent calls that serve the store well.
    fn at_once(&self) -> usize;

    /// Gives up the room that [`Self::keep_reserve`] holds, so that what frees more can be written to a
    /// full disk; false if there is none.
    fn take_reserve(&self) -> Result<bool> {
        Ok(false)
    }

    /// Holds some room for the next [`Self::take_reserve`]. Nothing where disks do not get full.
    fn keep_reserve(&self) -> Result<()> {
        Ok(())
    }
}

/// The key that what is in `store` is encrypted with; none if it is not.
pub fn key_of(store: &dyn Store) -> Option<Arc<ArchiveKey>> {
    store.keyring()?.key().cloned()
}

/// The name of the file that holds some room.
pub const RESERVE: &str = "reserve";

/// Advice for a store that has no conditional puts.
const WITHOUT_CONDITIONS: &str = "use a store that knows conditional puts (If-None-Match); where \
     certainly no two runs write at once, AWS_CONDITIONAL_PUT=disabled does without";

/// An error if the store lets somebody put anew what is under `name`, which is taken: then the chain,
/// which relies on it, would let two writers overwrite each other's records. Some stores that speak
/// S3 take a conditional put for a plain one without a word. After the error, `name` may hold nothing.
pub fn refuses_taken(store: &dyn Store, name: &str) -> Result<()> {
    match store.put_new(name, &[])? {
        false => Ok(()),
        true => Err(Error::failed(
            format!("testing {}", store.what()),
            format!(
                "it put {name} anew, though it was there: it passes over conditions \
                 (If-None-Match: *), so two writers could overwrite each other's records"
            ),
        )
        .next(WITHOUT_CONDITIONS)),
    }
}

/// Location of an archive, as it is typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder.
    Folder(PathBuf),
    /// A prefix in a bucket.
    Bucket {
        /// Who keeps it.
        cloud: Cloud,
        /// The bucket.
        bucket: String,
        /// Prefix of all names in the bucket; empty for the whole bucket.
        prefix: String,
    },
}

impl Location {
    /// Reads one of [`PLACES`].
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Err(
                Error::usage(format!("reading the archive's location {text}"), why)
                    .next(format!("give {PLACES}")),
            )
        };
        let of_cloud = |cloud: Cloud| Some((cloud, text.strip_prefix(cloud.scheme())?));
        if let Some((cloud, rest)) = Cloud::ALL.into_iter().find_map(of_cloud) {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return refuse("it names no bucket");
            }
            // The text there may be a secret, and is not shown.
            if bucket.contains(['@', ':']) {
                let scheme = cloud.scheme();
                return Err(Error::usage(
                    format!("reading the archive's location {scheme}…"),
                    "there is a key or a port where the bucket's name is to be",
                )
                .next(format!("give {scheme}BUCKET/PREFIX; {}", cloud.keys())));
            }
            return Ok(Self::Bucket {
                cloud,
                bucket: bucket.to_owned(),
                prefix: prefix.trim_matches('/').to_owned(),
            });
        }
        if text.is_empty() {
            return refuse("it is empty");
        }
        match text.split_once("://") {
            Some(_) => refuse("it is neither a folder nor a bucket of S3, Google or Azure"),
            None => Ok(Self::Folder(Path::new(text).to_owned())),
        }
    }

    /// Opens it; whether there is an archive is not looked at.
    pub fn open(&self) -> Result<Box<dyn Store>> {
        Ok(match self {
            Self::Folder(folder) => Box::new(Local::new(folder)),
            Self::Bucket {
                cloud,
                bucket,
                prefix,
            } => Box::new(cloud.open(bucket, prefix)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;

    #[test]
    fn locations_are_folders_or_buckets() {
        let of = |cloud, bucket: &str, prefix: &str| Location::Bucket {
            cloud,
            bucket: bucket.into(),
            prefix: prefix.into(),
        };
        for (text, expected) in [
            ("backups", Location::Folder("backups".into())),
            ("/srv/s3:/x", Location::Folder("/srv/s3:/x".into())),
            ("s3://b", of(Cloud::S3, "b", "")),
            ("s3://b/", of(Cloud::S3, "b", "")),
            ("s3://b/a/c/", of(Cloud::S3, "b", "a/c")),
            ("gs://b/a/c", of(Cloud::Google, "b", "a/c")),
            ("az://b/a/c/", of(Cloud::Azure, "b", "a/c")),
        ] {
            assert_eq!(Location::parse(text).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "s3://",
            "s3:///x",
            "gs://",
            "az:///x",
            "abfs://b/x",
            "http://h/x",
            "az://KEY:hunter2@b/x",
            "s3://KEY:hunter2@b/x",
            "s3://KEY:hunter2/x",
            "gs://KEY:hunter2@b/x",
        ] {
            let err = Location::parse(text).unwrap_err();
            assert_eq!(err.kind(), Kind::Usage);
            assert!(!err.to_string().contains("hunter2"), "{err}");
        }
    }
}
