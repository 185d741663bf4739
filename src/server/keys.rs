//! API keys, and which server each is for.
//!
//! Invariants: a key is wiped from memory when it is dropped, and nothing prints, logs or serialises
//! it; it leaves only as a header that is marked sensitive, to the server that it is for; text that
//! holds it is shown without it.

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::header::HeaderValue;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::metadata::{Ascii, MetadataValue};

use super::address::Address;
use crate::base::error::{Error, Result};

/// Largest file with keys that is read, in bytes.
const KEY_FILE_BYTES_MAX: usize = 64 << 10;
/// Text shown in place of a key.
const REDACTED: &str = "[key not shown]";
/// A shorter key is not searched for in texts: it would be found everywhere.
const REDACTED_BYTES_MIN: usize = 4;

/// The keys, and whom each is for.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// For servers without one of their own.
    any: Option<SecretString>,
    /// By `host` or `host:port`.
    hosts: BTreeMap<String, SecretString>,
}

impl Keys {
    /// The key that the environment's variable `name` holds, for every server that is named.
    pub fn from_variable(value: &str, name: &str) -> Result<Self> {
        Ok(Self {
            any: Some(parse(value, name)?),
            hosts: BTreeMap::new(),
        })
    }

    /// The keys in a file: one alone, or lines `HOST[:PORT] KEY`.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|err| Error::io("reading keys in", path, &err))?;
        let bytes = Zeroizing::new(bytes);
        let from = path.display().to_string();
        let refuse = |why: &str| {
            Error::usage(format!("reading keys in {from}"), why)
                .next("put the key there alone, or lines HOST KEY for several servers")
        };
        if bytes.len() > KEY_FILE_BYTES_MAX {
            return Err(refuse("it is too large to be a file of keys"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| refuse("it is no text"))?;
        let mut keys = Self::default();
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once(char::is_whitespace) {
                None if keys.any.is_some() => {
                    return Err(refuse("it has two keys without a host"));
                }
                None => keys.any = Some(parse(line, &from)?),
                Some((host, key)) => {
                    keys.hosts
                        .insert(host.to_ascii_lowercase(), parse(key, &from)?);
                }
            }
        }
        if keys.any.is_none() && keys.hosts.is_empty() {
            return Err(refuse("there is no key in it"));
        }
        Ok(keys)
    }

    /// The key for `address`, if it has one.
    pub(super) fn for_server(&self, address: &Address) -> Option<&SecretString> {
        let host = address.host().to_ascii_lowercase();
        self.hosts
            .get(&address.authority().to_ascii_lowercase())
            .or_else(|| self.hosts.get(&host))
            .or(self.any.as_ref())
    }
}

/// The key `text`, which came from `from` ("QDRANT_API_KEY", a file's name).
fn parse(text: &str, from: &str) -> Result<SecretString> {
    let text = text.trim();
    if text.is_empty() || HeaderValue::from_str(text).is_err() || !text.is_ascii() {
        return Err(Error::usage(
            format!("reading the API key in {from}"),
            "it is empty, or has characters that a header cannot carry",
        )
        .next("put the key there as the server has it, in one line"));
    }
    Ok(text.into())
}

/// The key as a header of HTTP.
pub(super) fn header(key: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(key.expose_secret()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The key as metadata of gRPC.
pub(super) fn metadata(key: &SecretString) -> Option<MetadataValue<Ascii>> {
    let mut value = MetadataValue::try_from(key.expose_secret()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `text` without the key.
pub(super) fn redact(key: &SecretString, text: &str) -> String {
    match key.expose_secret() {
        key if key.len() < REDACTED_BYTES_MIN => text.to_owned(),
        key => text.replace(key, REDACTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_for_its_host_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        let key_of = |text: &str, address: &str| {
            std::fs::write(&file, text).unwrap();
            let keys = Keys::from_file(&file).unwrap();
            keys.for_server(&Address::parse(address).unwrap())
                .map(|key| key.expose_secret().to_owned())
        };
        let lines = "# keys\nprod.example prod-key\nSPARE:7000  spare-key\n";
        for (text, address, key) in [
            ("other-key\n", "http://prod.example", Some("other-key")),
            (lines, "http://prod.example:9", Some("prod-key")),
            (lines, "https://spare:7000", Some("spare-key")),
            (lines, "https://spare:7001", None),
            (lines, "http://elsewhere", None),
        ] {
            let found = key_of(text, address);
            assert_eq!(found.as_deref(), key, "{address} with {text:?}");
        }
        for text in ["", "# nothing\n", "one-key\ntwo-keys\n"] {
            std::fs::write(&file, text).unwrap();
            assert!(Keys::from_file(&file).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = parse(" s3cr3t-key\n", "x").unwrap();
        assert!(!format!("{key:?}").contains("s3cr3t"));
        let header = header(&key).unwrap();
        assert!(header.is_sensitive());
        assert!(!format!("{header:?}").contains("s3cr3t"));
        assert_eq!(header.to_str().unwrap(), "s3cr3t-key");
        assert!(!format!("{:?}", metadata(&key).unwrap()).contains("s3cr3t"));
        assert_eq!(
            redact(&key, "invalid key 's3cr3t-key'!"),
            "invalid key '[key not shown]'!"
        );
    }

    #[test]
    fn what_no_header_can_carry_is_refused_without_being_shown() {
        for text in ["", "  \n", "two\nlines", "schlüssel"] {
            let err = parse(text, "QDRANT_API_KEY").unwrap_err();
            assert!(err.doing().contains("QDRANT_API_KEY"), "{err}");
            let shown = err.to_string();
            assert!(text.trim().is_empty() || !shown.contains(text), "{shown}");
        }
    }
}
