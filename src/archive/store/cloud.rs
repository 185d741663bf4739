//! Buckets of the clouds: which there are, and where the keys to them come from.
//!
//! Invariants: keys come from the environment, under the names that each cloud's own tools use, and are in no
//! error; no request goes to an address that the environment does not name, that of a machine's role included.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

use super::remote::{self, Remote};
use crate::base::error::{Error, Result};

/// The places that an archive can be in, for help texts and errors.
pub const PLACES: &str = "a folder, s3://BUCKET/PREFIX (keys, region and endpoint come from AWS_*), \
     gs://BUCKET/PREFIX (GOOGLE_*) or az://CONTAINER/PREFIX (AZURE_*)";

/// Who keeps a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// Amazon S3, or what speaks like it: `s3://`.
    S3,
    /// Google Cloud Storage: `gs://`.
    Google,
    /// Azure Blob Storage, whose buckets are called containers: `az://`.
    Azure,
}

impl Cloud {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::S3, Self::Google, Self::Azure];

    /// Scheme of a location's URL.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3://",
            Self::Google => "gs://",
            Self::Azure => "az://",
        }
    }

    /// Where its keys come from, for whoever typed them elsewhere.
    pub fn keys(self) -> &'static str {
        match self {
            Self::S3 => {
                "keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, another store's address from \
                 AWS_ENDPOINT"
            }
            Self::Google => "the key's file comes from GOOGLE_APPLICATION_CREDENTIALS",
            Self::Azure => {
                "the account and its key come from AZURE_STORAGE_ACCOUNT_NAME and \
                 AZURE_STORAGE_ACCOUNT_KEY"
            }
        }
    }

    /// The bucket `bucket`, in which all names begin with `prefix`.
    pub fn open(self, bucket: &str, prefix: &str) -> Result<Remote> {
        let what = format!("{}{bucket}/{prefix}", self.scheme());
        match self {
            Self::S3 => Remote::s3(bucket, prefix),
            Self::Google => Remote::new(google(bucket, &what)?, prefix, what),
            Self::Azure => Remote::new(azure(bucket, &what)?, prefix, what),
        }
    }

    /// Returns what the environment says of where the bucket is, if anything: one of the same name
    /// elsewhere is another.
    pub fn endpoint(self) -> Option<String> {
        match self {
            Self::S3 => remote::s3_endpoint(),
            Self::Google => {
                GoogleCloudStorageBuilder::from_env().get_config_value(&GoogleConfigKey::BaseUrl)
            }
            Self::Azure => {
                let builder = MicrosoftAzureBuilder::from_env();
                let said = [AzureConfigKey::Endpoint, AzureConfigKey::AccountName]
                    .map(|key| builder.get_config_value(&key));
                let said: Vec<String> = said.into_iter().flatten().collect();
                (!said.is_empty()).then(|| said.join(" of "))
            }
        }
    }
}

/// Returns true if a value was set, and not to nothing.
fn is_set(value: Option<String>) -> bool {
    value.is_some_and(|value| !["", "0", "false", "no", "off"].contains(&value.as_str()))
}

fn no_keys(what: &str, next: &str) -> Error {
    Error::usage(
        format!("opening {what}"),
        "there are no keys in the environment",
    )
    .next(next)
}

fn google(bucket: &str, what: &str) -> Result<Arc<dyn ObjectStore>> {
    use GoogleConfigKey as Key;
    remote::install_tls();
    let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
    // Without a signature (GOOGLE_SKIP_SIGNATURE) object_store asks the machine for a key all the same when it
    // puts something, so that is not enough.
    let sources = [
        Key::ServiceAccount,
        Key::ServiceAccountKey,
        Key::ApplicationCredentials,
        Key::BearerToken,
    ];
    let is_given = sources
        .into_iter()
        .any(|key| is_set(builder.get_config_value(&key)));
    // The names under which Google's own libraries look for it.
    let is_role = ["GCE_METADATA_HOST", "GCE_METADATA_ROOT"]
        .into_iter()
        .any(|name| is_set(std::env::var(name).ok()));
    if !is_given && !is_role {
        return Err(no_keys(
            what,
            "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account, or of what gcloud wrote; \
             GCE_METADATA_HOST=metadata.google.internal asks the machine for its role's",
        ));
    }
    let store = builder.build().map_err(|err| {
        Error::usage(format!("opening {what}"), err)
            .next("see that GOOGLE_APPLICATION_CREDENTIALS names the file of a key")
    })?;
    Ok(Arc::new(store))
}

fn azure(container: &str, what: &str) -> Result<Arc<dyn ObjectStore>> {
    use AzureConfigKey as Key;
    remote::install_tls();
    let builder = MicrosoftAzureBuilder::from_env().with_container_name(container);
    let sources = [
        Key::AccessKey,
        Key::SasKey,
        Key::Token,
        Key::MsiEndpoint,
        Key::UseAzureCli,
        Key::UseEmulator,
        Key::SkipSignature,
    ];
    let has = |key: Key| is_set(builder.get_config_value(&key));
    // Without all three the machine would be asked for its role's.
    let is_application = has(Key::ClientId)
        && has(Key::AuthorityId)
        && (has(Key::ClientSecret) || has(Key::FederatedTokenFile));
    let is_given = is_application || sources.into_iter().any(has);
    if !is_given {
        return Err(no_keys(
            what,
            "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN; of an \
             application AZURE_CLIENT_ID, AZURE_TENANT_ID, and AZURE_CLIENT_SECRET or \
             AZURE_FEDERATED_TOKEN_FILE; AZURE_MSI_ENDPOINT=http://169.254.169.254/metadata/identity/oauth2/token \
             asks the machine for its role's",
        ));
    }
    let store = builder.build().map_err(|err| {
        Error::usage(format!("opening {what}"), err)
            .next("see that AZURE_STORAGE_ACCOUNT_NAME and the key are set")
    })?;
    Ok(Arc::new(store))
}
