//! Encryption of an archive with its owner's key.
//!
//! The archive has a key of its own. Everything that is written is encrypted for its public half, which is
//! in the first record; its secret half is there too, encrypted for the recipients. So whoever writes needs
//! no secret, each recipient opens all of it, and there is one secret to ask for, once.
//!
//! Invariants: the name of what is stored is the hash of its encrypted bytes, and these are hashed before
//! they are decrypted; a key is used only if it is the secret half of the one that the first record names.

mod age;
mod identity;

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use self::age::{Fault, Identity};
pub use self::age::{Recipient, bytes_of_prefix};
pub use self::identity::IdentityOptions;
use crate::base::error::{Error, Kind, Result};

/// Encryption of an archive, as its first record states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    /// The public half of the archive's key, for which everything is encrypted.
    pub recipient: String,
    /// The secret half: a file of age for `recipients`, in base64.
    pub key: String,
    /// Those whose secret keys open the archive.
    pub recipients: Vec<String>,
}

impl Encryption {
    /// A new key for an archive that `recipients` open.
    pub fn new(recipients: &[Recipient]) -> Result<Self> {
        let failed = |fault: Fault| Error::failed("making the archive's key", fault);
        let identity = Identity::generate().map_err(failed)?;
        let secret = identity.to_text().map_err(failed)?;
        let mut key = Vec::new();
        age::encrypt(secret.expose_secret().as_bytes(), recipients, &mut key).map_err(failed)?;
        Ok(Self {
            recipient: identity.recipient().to_string(),
            key: STANDARD.encode(key),
            recipients: recipients.iter().map(ToString::to_string).collect(),
        })
    }

    /// The public keys of those who open it, for errors.
    pub fn readers(&self) -> String {
        self.recipients.join(", ")
    }

    /// The secret half, if one of `identities` opens it.
    fn open(&self, identities: &[Identity]) -> Result<Option<Identity>> {
        let damaged = |why: &str| Error::damaged("opening the archive's key", why);
        let key = STANDARD.decode(&self.key);
        let key = key.map_err(|_| damaged("it is not base64"))?;
        let mut text = Vec::new();
        match age::decrypt(&key, &identities.iter().collect::<Vec<_>>(), &mut text) {
            Ok(()) => {}
            Err(Fault::NoMatch) => return Ok(None),
            Err(Fault::Damaged(why)) => return Err(damaged(why)),
        }
        let text = age::secret_text(text).ok_or_else(|| damaged("it is no text"))?;
        let identity = age::identity_in(&text).map_err(damaged)?;
        match identity.recipient().to_string() == self.recipient {
            true => Ok(Some(identity)),
            false => Err(damaged("it is not the key that the first record names")),
        }
    }
}

/// The key of an archive.
#[derive(Debug)]
pub struct ArchiveKey {
    of: Encryption,
    recipient: Recipient,
    /// The secret half, if it is known.
    identity: Option<Identity>,
}

impl ArchiveKey {
    /// Encrypts `plain`. `out` is replaced.
    pub fn encrypt(&self, plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
        age::encrypt(plain, &[self.recipient], out)
            .map_err(|fault| Error::failed("encrypting", fault))
    }

    /// Returns true if the secret half is known.
    pub fn opens(&self) -> bool {
        self.identity.is_some()
    }

    fn identity(&self) -> Result<&Identity> {
        self.identity
            .as_ref()
            .ok_or_else(|| not_opened(&self.of.readers()))
    }

    /// Decrypts what was encrypted for this archive and is called `what`. `out` is replaced.
    pub fn decrypt(&self, bytes: &[u8], what: &str, out: &mut Vec<u8>) -> Result<()> {
        age::decrypt(bytes, &[self.identity()?], out).map_err(|fault| undecrypted(what, fault))
    }

    /// Decrypts at least the first `plain` bytes of a file of which `bytes`, of `size`, are the first;
    /// see [`bytes_of_prefix`]. `out` is replaced.
    pub fn decrypt_prefix(
        &self,
        bytes: &[u8],
        size: u64,
        plain: usize,
        what: &str,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if bytes.len() as u64 == size {
            return self.decrypt(bytes, what, out);
        }
        age::decrypt_prefix(bytes, self.identity()?, plain, out)
            .map_err(|fault| undecrypted(what, fault))
    }

    /// Encrypts the body of a record, as a record holds it.
    pub fn encrypt_body(&self, plain: &[u8]) -> Result<String> {
        let mut body = Vec::new();
        self.encrypt(plain, &mut body)?;
        Ok(STANDARD.encode(body))
    }

    /// The body of a record.
    pub fn decrypt_body(&self, body: &str) -> Result<Vec<u8>> {
        let what = "a record";
        let body = STANDARD.decode(body);
        let body = body.map_err(|_| undecrypted(what, Fault::Damaged("it is not base64")))?;
        let mut plain = Vec::new();
        self.decrypt(&body, what, &mut plain)?;
        Ok(plain)
    }
}

fn undecrypted(what: &str, fault: Fault) -> Error {
    Error::damaged(
        format!("reading {what}"),
        format!("it cannot be decrypted: {fault}"),
    )
    .next("see what is lost: snapmerge archive check; --repair OTHER fetches it again")
}

/// Hint: verbs that need no key.
const WITHOUT_KEY: &str = "without it, these still work: archive check, archive copy, archive \
     verify-chain, and archive add, which then stores snapshots whole";

/// The error of whoever needs the key of an archive that `readers` open, and has none.
pub fn not_opened(readers: &str) -> Error {
    Error::usage(
        "opening an encrypted archive",
        format!("the secret key was not given; that of one of these opens it: {readers}"),
    )
    .next(format!(
        "give --identity FILE or --identity-command COMMAND (a plan: archive.identity); {WITHOUT_KEY}"
    ))
}

/// The keys of an archive: where that of its owner is, and its own once the first record was read.
#[derive(Debug, Default)]
pub struct Keyring {
    options: IdentityOptions,
    key: OnceLock<Arc<ArchiveKey>>,
}

impl Keyring {
    /// A keyring that opens an archive by what `options` say.
    pub fn new(options: IdentityOptions) -> Self {
        Self {
            options,
            key: OnceLock::new(),
        }
    }

    /// The key of the archive; none if it is not encrypted, or its first record was not read yet.
    pub fn key(&self) -> Option<&Arc<ArchiveKey>> {
        self.key.get()
    }

    /// Learns the key from the first record. Without an owner's key only its public half. An error of
    /// [`Kind::Usage`] if the owner's key is another's.
    pub fn learn(&self, encryption: &Encryption) -> Result<Arc<ArchiveKey>> {
        let damaged = |why: &str| Error::damaged("opening the archive's key", why);
        if let Some(known) = self.key.get() {
            return match known.of == *encryption {
                true => Ok(Arc::clone(known)),
                false => Err(damaged("it is another than a moment ago")),
            };
        }
        let recipient = encryption.recipient.parse().map_err(damaged)?;
        let identity = match self.options.is_given() {
            true => Some(self.open(encryption)?),
            false => None,
        };
        let of = encryption.clone();
        let key = self.key.get_or_init(|| {
            Arc::new(ArchiveKey {
                of,
                recipient,
                identity,
            })
        });
        Ok(Arc::clone(key))
    }

    fn open(&self, encryption: &Encryption) -> Result<Identity> {
        let mut tried = Vec::new();
        for origin in self.options.origins() {
            let (from, identities) = origin?;
            if let Some(identity) = encryption.open(&identities)? {
                return Ok(identity);
            }
            let public = identities.iter().map(|one| one.recipient().to_string());
            tried.push(format!(
                "{from} ({})",
                public.collect::<Vec<_>>().join(", ")
            ));
        }
        Err(Error::new(
            Kind::Usage,
            "opening an encrypted archive",
            format!(
                "{} does not open it; the secret key of one of these does: {}",
                tried.join(" or "),
                encryption.readers()
            ),
        )
        .next(format!("give another --identity, or none: {WITHOUT_KEY}")))
    }
}

/// Reads the public keys of those who are to open an archive.
pub fn parse_recipients(texts: &[String]) -> Result<Vec<Recipient>> {
    let mut recipients = Vec::new();
    for text in texts {
        let recipient = text.trim().parse().map_err(|why: &str| {
            // A secret key that was given by mistake is not shown.
            Error::usage("reading the public key of a recipient", why)
                .next("make a key: age-keygen -o FILE; it prints the public key, age1…")
        })?;
        if !recipients.contains(&recipient) {
            recipients.push(recipient);
        }
    }
    Ok(recipients)
}
