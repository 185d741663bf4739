//! A bucket of an S3-compatible store, or any other store of the `object_store` crate.
//!
//! Objects of an archive are some megabytes at the most, so each is put by one request, which is
//! atomic; there is nothing for a multi-part upload to do. Requests are retried by `object_store`.
//!
//! Invariants: a name is put anew by a conditional request (`If-None-Match: *`), never by looking
//! first and putting then, unless the user said that the store cannot do otherwise
//! (`AWS_CONDITIONAL_PUT=disabled`; Garage 2.5 is such a store, which answers a conditional put as if
//! it had been a plain one); keys come from the environment and are in no error; no request goes to an
//! address that the environment does not name.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutMode,
    PutPayload,
};
use tokio::runtime::{Builder, Runtime};

use super::{Listed, Store, WITHOUT_CONDITIONS};
use crate::base::error::{Error, Kind, Result};

/// Requests at once.
const LANES: usize = 16;

/// A remote store.
#[derive(Debug)]
pub struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    what: String,
    /// True if the store supports conditional puts.
    has_conditions: bool,
    runtime: Runtime,
}

impl Remote {
    /// A bucket of S3 or what speaks like it. Region, keys and endpoint come from the environment,
    /// under the names that Amazon's own tools use.
    pub fn s3(bucket: &str, prefix: &str) -> Result<Self> {
        let what = format!("s3://{bucket}/{prefix}");
        install_tls();
        let builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            // Names are removed one by one here, and not every store knows to remove many at once.
            .with_disable_bulk_delete(true);
        require_credentials(&builder, &what)?;
        let conditions = builder.get_config_value(&AmazonS3ConfigKey::ConditionalPut);
        let store = builder.build().map_err(|err| {
            Error::usage(format!("opening {what}"), err).next(
                "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION; for another \
                 store than Amazon's also AWS_ENDPOINT (and AWS_ALLOW_HTTP=true for http)",
            )
        })?;
        Ok(Self {
            has_conditions: conditions != Some(S3ConditionalPut::Disabled.to_string()),
            ..Self::new(Arc::new(store), prefix, what)?
        })
    }

    /// Any store of `object_store`; `what` names it in errors.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str, what: String) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|err| Error::failed(format!("opening {what}"), err))?;
        Ok(Self {
            store,
            prefix: Path::from(prefix),
            what,
            has_conditions: true,
            runtime,
        })
    }

    fn path(&self, name: &str) -> Path {
        let mut path = self.prefix.clone();
        for part in name.split('/').filter(|part| !part.is_empty()) {
            path = path.join(part);
        }
        path
    }

    fn failed(&self, act: &str, name: &str, err: &StoreError) -> Error {
        let doing = format!("{act} {name} in {}", self.what);
        match err {
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
                Error::failed(doing, err).next("check the store's keys and what they may do")
            }
            _ => Error::failed(doing, err).next("try again when the store can be reached"),
        }
    }

    fn fetch(&self, name: &str, range: Option<GetRange>) -> Result<Option<(u64, Vec<u8>)>> {
        let options = GetOptions {
            range,
            ..GetOptions::default()
        };
        let path = self.path(name);
        let fetched = self.runtime.block_on(async {
            let result = self.store.get_opts(&path, options).await?;
            let size = result.meta.size;
            Ok((size, result.bytes().await?.to_vec()))
        });
        match fetched {
            Ok(fetched) => Ok(Some(fetched)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(err) => Err(self.failed("reading", name, &err)),
        }
    }

    fn put(&self, name: &str, bytes: &[u8], mode: PutMode) -> Result<bool> {
        let path = self.path(name);
        let payload = PutPayload::from(bytes.to_vec());
        let put = self
            .runtime
            .block_on(async { self.store.put_opts(&path, payload, mode.into()).await });
        match put {
            Ok(_) => Ok(true),
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(false),
            Err(err @ (StoreError::NotImplemented { .. } | StoreError::NotSupported { .. })) => {
                Err(self.failed("writing", name, &err).next(WITHOUT_CONDITIONS))
            }
            Err(err) => Err(self.failed("writing", name, &err)),
        }
    }
}

/// Makes ring the provider of encryption; whoever came first has installed the same one.
pub fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Returns the endpoint that the environment names, if any: a bucket of the same name at another store is
/// another bucket.
pub fn s3_endpoint() -> Option<String> {
    AmazonS3Builder::from_env().get_config_value(&AmazonS3ConfigKey::Endpoint)
}

/// Address at which a machine of Amazon's gets the keys of its role.
const METADATA: &str = "http://169.254.169.254";

/// An error if nobody said where keys are. The builder would then ask the address at which a cloud's
/// machines find theirs; elsewhere, whoever answers there is somebody else.
fn require_credentials(builder: &AmazonS3Builder, what: &str) -> Result<()> {
    use AmazonS3ConfigKey as Key;
    let sources = [
        Key::AccessKeyId,
        Key::SecretAccessKey,
        Key::WebIdentityTokenFile,
        Key::ContainerCredentialsRelativeUri,
        Key::ContainerCredentialsFullUri,
        Key::MetadataEndpoint,
    ];
    let is_set = |key| {
        builder
            .get_config_value(&key)
            .is_some_and(|value| !value.is_empty())
    };
    let is_unsigned = builder.get_config_value(&Key::SkipSignature);
    if is_unsigned.as_deref() == Some("true") || sources.into_iter().any(is_set) {
        return Ok(());
    }
    Err(Error::usage(
        format!("opening {what}"),
        "there are no keys in the environment",
    )
    .next(format!(
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; AWS_METADATA_ENDPOINT={METADATA} asks the \
         machine for its role's, AWS_SKIP_SIGNATURE=true does without"
    )))
}

/// Returns true if a conditional put of `bytes` that was answered with `answer` was done. A request whose
/// answer was lost may have taken effect, and the same request sent again then finds the name taken; so the
/// content that is `there` decides.
fn was_put(
    answer: Result<bool>,
    bytes: &[u8],
    there: impl FnOnce() -> Result<Option<Vec<u8>>>,
) -> Result<bool> {
    if let Ok(true) = answer {
        return answer;
    }
    match (there(), answer) {
        (Ok(Some(there)), _) => Ok(there == bytes),
        // More than was to be put.
        (Err(err), Ok(_)) if err.kind() == Kind::Damaged => Ok(false),
        (Err(err), Ok(_)) => Err(err),
        (_, answer) => answer,
    }
}

impl Store for Remote {
    fn what(&self) -> String {
        self.what.clone()
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        if !self.has_conditions {
            return match self.head(name, 1)? {
                None => self.put(name, bytes, PutMode::Overwrite),
                Some(_) => Ok(false),
            };
        }
        let put = self.put(name, bytes, PutMode::Create);
        was_put(put, bytes, || self.get(name, bytes.len() as u64))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.put(name, bytes, PutMode::Overwrite).map(|_| ())
    }

    fn get(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        // One byte more than there may be, and nobody has to believe a size.
        let range = GetRange::Bounded(0..bytes_max.saturating_add(1));
        let fetched = match self.fetch(name, Some(range)) {
            // An empty object has no first byte to ask for.
            Err(_) if self.is_empty(name)? => return Ok(Some(Vec::new())),
            fetched => fetched?,
        };
        match fetched {
            Some((_, bytes)) if bytes.len() as u64 > bytes_max => Err(Error::new(
                Kind::Damaged,
                format!("reading {name} in {}", self.what),
                format!("it has more than the {bytes_max} bytes that are ever written"),
            )
            .next("see what is wrong: snapmerge archive check")),
            fetched => Ok(fetched.map(|(_, bytes)| bytes)),
        }
    }

    fn head(&self, name: &str, bytes: u64) -> Result<Option<(Vec<u8>, u64)>> {
        match self.fetch(name, Some(GetRange::Bounded(0..bytes.max(1)))) {
            Err(_) if self.is_empty(name)? => Ok(Some((Vec::new(), 0))),
            fetched => Ok(fetched?.map(|(size, bytes)| (bytes, size))),
        }
    }

    fn get_range(&self, name: &str, start: u64, bytes: u64) -> Result<Option<Vec<u8>>> {
        let range = GetRange::Bounded(start..start.saturating_add(bytes.max(1)));
        match self.fetch(name, Some(range)) {
            // There is nothing to answer beyond the end.
            Err(_) if self.size(name)?.is_some_and(|size| size <= start) => Ok(Some(Vec::new())),
            fetched => Ok(fetched?.map(|(_, mut range)| {
                range.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
                range
            })),
        }
    }

    fn remove(&self, name: &str) -> Result<bool> {
        let path = self.path(name);
        // S3 answers the same whether it was there or not.
        let known = self
            .runtime
            .block_on(async { self.store.head(&path).await });
        match known {
            Err(StoreError::NotFound { .. }) => return Ok(false),
            Err(err) => return Err(self.failed("removing", name, &err)),
            Ok(_) => {}
        }
        let removed = self
            .runtime
            .block_on(async { self.store.delete(&path).await });
        match removed {
            Ok(()) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(err) => Err(self.failed("removing", name, &err)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        let path = self.path(folder);
        let found: Result<Vec<_>, StoreError> = self
            .runtime
            .block_on(async { self.store.list(Some(&path)).try_collect().await });
        let found = found.map_err(|err| self.failed("listing", folder, &err))?;
        let mut listed: Vec<Listed> = found
            .into_iter()
            .filter_map(|meta| {
                let parts: Vec<_> = meta.location.prefix_match(&self.prefix)?.collect();
                let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
                Some(Listed {
                    name: parts.join("/"),
                    bytes: meta.size,
                    modified: meta.last_modified.into(),
                })
            })
            .collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn sync(&self) -> Result<()> {
        // A put that was answered with success is durable.
        Ok(())
    }

    fn at_once(&self) -> usize {
        LANES
    }
}

impl Remote {
    fn is_empty(&self, name: &str) -> Result<bool> {
        Ok(self.size(name)? == Some(0))
    }

    /// Size of what is under a name, in bytes; none if it is not there.
    fn size(&self, name: &str) -> Result<Option<u64>> {
        let path = self.path(name);
        let head = self
            .runtime
            .block_on(async { self.store.head(&path).await });
        match head {
            Ok(meta) => Ok(Some(meta.size)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(err) => Err(self.failed("reading", name, &err)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_decides_whether_it_was_put() {
        let failed = || Error::failed("writing", "the connection was reset");
        let there = |bytes: &[u8]| Ok(Some(bytes.to_vec()));
        for (answer, found, expected) in [
            (Ok(true), Err(failed()), Ok(true)),
            (Ok(false), there(b"ours"), Ok(true)),
            (Ok(false), there(b"theirs"), Ok(false)),
            (Ok(false), Ok(None), Ok(false)),
            (
                Ok(false),
                Err(Error::damaged("x", "it is longer")),
                Ok(false),
            ),
            (Ok(false), Err(failed()), Err(failed())),
            (Err(failed()), there(b"ours"), Ok(true)),
            (Err(failed()), there(b"theirs"), Ok(false)),
            (Err(failed()), Ok(None), Err(failed())),
            (Err(failed()), Err(failed()), Err(failed())),
        ] {
            let told = format!("{answer:?} {found:?}");
            assert_eq!(was_put(answer, b"ours", || found), expected, "{told}");
        }
    }
}
