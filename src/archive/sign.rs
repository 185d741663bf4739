//! Signatures of records, with ed25519 keys as `openssl genpkey -algorithm ed25519` makes them.
//!
//! Invariants: a private key is read from a file and goes nowhere else, not into errors, not into
//! Debug.

use std::fmt;
use std::path::Path;

use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};

/// Largest key file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Signs records.
pub struct Signer {
    key: SigningKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public())
    }
}

impl Signer {
    /// Reads a private key in PEM (PKCS #8).
    pub fn read(path: &Path) -> Result<Self> {
        let text = read(path)?;
        match SigningKey::from_pkcs8_pem(&text) {
            Ok(key) => Ok(Self { key }),
            // The parser's error might quote a part of the key.
            Err(_) => Err(Error::usage(
                format!("reading key {}", path.display()),
                "it is no private ed25519 key in PEM",
            )
            .next("make one: openssl genpkey -algorithm ed25519 -out KEY.pem")),
        }
    }

    /// The public key, as records name it.
    pub fn public(&self) -> String {
        hex::encode(self.key.verifying_key().as_bytes())
    }

    /// Signs the line of a record.
    pub fn sign(&self, line: &[u8]) -> Seal {
        Seal {
            key: self.public(),
            signature: hex::encode(self.key.sign(line).to_bytes()),
        }
    }
}

/// Reads a public key in PEM; as records name it.
pub fn read_public(path: &Path) -> Result<String> {
    let text = read(path)?;
    let refuse = |why: String| {
        Error::usage(format!("reading key {}", path.display()), why)
            .next("take it from the private one: openssl pkey -in KEY.pem -pubout -out KEY.pub")
    };
    if text.contains("PRIVATE KEY") {
        return Err(refuse(
            "it is a private key; to check takes the public one".into(),
        ));
    }
    let key = VerifyingKey::from_public_key_pem(&text)
        .map_err(|err| refuse(format!("it is no public ed25519 key in PEM ({err})")))?;
    Ok(hex::encode(key.as_bytes()))
}

/// A signature as it stands in a record's second line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The public key.
    pub key: String,
    /// The signature of the first line.
    pub signature: String,
}

impl Seal {
    /// Returns true if this is the valid signature of `line` by the key that it names.
    pub fn holds(&self, line: &[u8]) -> bool {
        let check = || -> Option<()> {
            let key =
                VerifyingKey::from_bytes(&hex::decode(&self.key).ok()?.try_into().ok()?).ok()?;
            let signature =
                Signature::from_bytes(&hex::decode(&self.signature).ok()?.try_into().ok()?);
            key.verify_strict(line, &signature).ok()
        };
        check().is_some()
    }
}

fn read(path: &Path) -> Result<String> {
    use std::io::Read as _;
    let failed = |err: &std::io::Error| Error::io("reading key", path, err);
    let file = std::fs::File::open(path).map_err(|err| failed(&err))?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|err| failed(&err))?;
    Ok(text)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::base::error::Kind;

    /// Made by openssl for this test alone.
    pub const KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJgzErhY0YQi4b5uRQnHUrL6Ss48iFqRskr2LkMlKLyk
-----END PRIVATE KEY-----
";
    /// Public half of [`KEY`].
    pub const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAU6+Uf3pCTzapBAGzOnKUf3hdpj8N48W48TY0CXAZC7o=
-----END PUBLIC KEY-----
";

    #[test]
    fn what_is_signed_is_known_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        std::fs::write(&file, KEY).unwrap();
        let signer = Signer::read(&file).unwrap();
        let seal = signer.sign(b"a record");
        assert!(seal.holds(b"a record"));
        assert!(!seal.holds(b"another"));
        let mut other = seal.clone();
        other.key.replace_range(0..2, "00");
        assert!(!other.holds(b"a record"));
        assert_eq!(read_public(&file).unwrap_err().kind(), Kind::Usage);
        let garbage = folder.path().join("garbage");
        std::fs::write(&garbage, KEY.replace("MC4C", "AAAA")).unwrap();
        let err = Signer::read(&garbage).unwrap_err();
        assert!(!err.to_string().contains("BCIEI"), "{err}");
    }
}
