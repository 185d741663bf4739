//! Which archive is meant, and how it is read and written: one set of options for the command line,
//! plans and requests.
//!
//! Invariants: they hold no key, only where one is.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::trust::HeadMemory;
use super::{Archive, IdentityOptions, Location, PLACES, Signer, Trust, read_public};
use crate::base::error::{Error, Result};
use crate::server::StateFolder;

/// Whose records are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct TrustOptions {
    /// Every record of the archive must be signed with this public key (PEM); repeat it for more keys
    #[arg(long, value_name = "FILE", env = "SNAPMERGE_TRUST_KEY_FILE")]
    pub trust: Vec<PathBuf>,
    /// The folder in which this machine remembers the last record that it saw; none to remember
    /// nothing.
    #[arg(skip = StateFolder::of_environment().map(|state| state.path().to_owned()))]
    // Requests have another folder of state beside it, and all their keys in one object.
    #[serde(rename = "head_memory")]
    pub state: Option<PathBuf>,
}

/// Key that signs records of the chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct SigningOptions {
    /// Sign what is written with the ed25519 key in this file (PEM, as `openssl genpkey -algorithm
    /// ed25519` makes it)
    #[arg(long, value_name = "FILE", env = "SNAPMERGE_SIGN_KEY_FILE")]
    pub sign_key: Option<PathBuf>,
}

/// An archive that is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct ArchiveOptions {
    /// The archive: one of [`PLACES`].
    #[arg(long, value_name = "PLACE", env = "SNAPMERGE_ARCHIVE", help = format!("The archive: {PLACES}"))]
    pub archive: String,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub trust: TrustOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub key: IdentityOptions,
}

/// An archive that is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[expect(missing_docs, reason = "flattened")]
pub struct WritableArchiveOptions {
    #[command(flatten)]
    #[serde(flatten)]
    pub archive: ArchiveOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub signing: SigningOptions,
}

impl ArchiveOptions {
    /// The archive, to be read; whether there is one is seen when it is used.
    pub fn open(&self) -> Result<Archive> {
        let location = Location::parse(&self.archive)?;
        let TrustOptions { trust, state } = &self.trust;
        let keys = trust.iter().map(|path| read_public(path));
        let archive = Archive::opened_by(location.open()?, None, self.key.clone());
        Ok(Archive {
            trust: Trust {
                keys: keys.collect::<Result<_>>()?,
                head: None,
            },
            memory: state
                .as_deref()
                .map(|state| HeadMemory::new(state, &location)),
            ..archive
        })
    }
}

impl WritableArchiveOptions {
    /// The archive, to be written.
    pub fn open(&self) -> Result<Archive> {
        let signer = self.signing.sign_key.as_deref().map(Signer::read);
        Ok(Archive {
            signer: signer.transpose()?,
            ..self.archive.open()?
        })
    }
}

/// The archive that sources given as `archive:…` lie in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceArchiveOptions {
    /// Where sources given as archive:NAME@DATE are: one of [`PLACES`].
    #[arg(
        long,
        value_name = "PLACE",
        env = "SNAPMERGE_ARCHIVE",
        help = format!("Where sources given as archive:NAME@DATE or archive:NAME@latest are: {PLACES}")
    )]
    pub archive: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub trust: TrustOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub key: IdentityOptions,
}

impl SourceArchiveOptions {
    /// The archive, which must have been given.
    pub fn open(&self) -> Result<Archive> {
        let Some(archive) = self.archive.clone() else {
            return Err(Error::usage(
                "looking for sources in an archive",
                "nobody said where it is",
            )
            .next("give --archive PLACE, or set SNAPMERGE_ARCHIVE"));
        };
        let (trust, key) = (self.trust.clone(), self.key.clone());
        ArchiveOptions {
            archive,
            trust,
            key,
        }
        .open()
    }
}
