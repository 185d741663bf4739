//! A key, kept out of everything that anybody reads.
//!
//! Keeps true: what is in it leaves only as a header that is marked sensitive; nothing that can be
//! printed, logged or serialised shows it; text that holds it is shown without it.

use std::fmt;

use reqwest::header::HeaderValue;
use tonic::metadata::{Ascii, MetadataValue};

use crate::base::error::{Error, Result};

/// What is shown in its place.
const HIDDEN: &str = "[key not shown]";
/// A shorter text than this is not searched for: it would be found everywhere.
const SEARCHED_MIN: usize = 4;

/// An API key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
}

impl Secret {
    /// The key `text`, which came from `from` ("QDRANT_API_KEY", a file's name).
    pub fn new(text: &str, from: &str) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() || HeaderValue::from_str(text).is_err() || !text.is_ascii() {
            return Err(Error::usage(
                format!("reading the API key in {from}"),
                "it is empty, or has characters that a header cannot carry",
            )
            .next("put the key there as the server has it, in one line"));
        }
        Ok(Self {
            text: text.to_owned(),
        })
    }

    /// As a header of HTTP.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&self.text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// As metadata of gRPC.
    pub(super) fn metadata(&self) -> Option<MetadataValue<Ascii>> {
        let mut value = MetadataValue::try_from(self.text.as_str()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// `text` without the key.
    pub fn hide(&self, text: &str) -> String {
        if self.text.len() < SEARCHED_MIN {
            return text.to_owned();
        }
        text.replace(&self.text, HIDDEN)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_shown() {
        let secret = Secret::new(" s3cr3t-key\n", "x").unwrap();
        assert!(!format!("{secret:?}").contains("s3cr3t"));
        let header = secret.header().unwrap();
        assert!(header.is_sensitive());
        assert!(!format!("{header:?}").contains("s3cr3t"));
        assert_eq!(header.to_str().unwrap(), "s3cr3t-key");
        assert!(!format!("{:?}", secret.metadata().unwrap()).contains("s3cr3t"));
        assert_eq!(
            secret.hide("invalid key 's3cr3t-key'!"),
            "invalid key '[key not shown]'!"
        );
    }

    #[test]
    fn what_no_header_can_carry_is_refused_without_being_shown() {
        for text in ["", "  \n", "two\nlines", "schlüssel"] {
            let err = Secret::new(text, "QDRANT_API_KEY").unwrap_err();
            assert!(err.doing().contains("QDRANT_API_KEY"), "{err}");
            let shown = err.to_string();
            assert!(text.trim().is_empty() || !shown.contains(text), "{shown}");
        }
    }
}
