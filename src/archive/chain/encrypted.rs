//! Records of an encrypted archive: encrypted as they are written, decrypted as they are read.
//!
//! The frame of the chain stays readable: the archive's id, the program, the number, the time, and the
//! hash of the record before. What happened, and to which entry, is encrypted.
//!
//! Invariants: in an encrypted archive every record but the first is encrypted, and in another none is; a
//! record that does not decrypt is a finding.

use std::sync::Arc;

use serde_json::Value;

use super::{Chain, ChainFinding, Event, Record};
use crate::archive::encryption::ArchiveKey;
use crate::archive::store::Store;
use crate::base::error::{Error, Kind, Result};
use crate::base::parallel::in_parallel;

/// Records that are decrypted at once.
const AT_ONCE: usize = 4;

impl Chain {
    /// A record as it is written next to those that are here.
    pub(super) fn as_written(&self, store: &dyn Store, record: &Record) -> Result<Value> {
        let failed = |err| Error::failed("writing a record", err);
        if self.encryption().is_none() {
            return serde_json::to_value(record).map_err(failed);
        }
        let key = store.keyring().and_then(|keyring| keyring.key());
        let key = key.ok_or_else(|| {
            Error::failed("writing a record", "the key of the archive was not read")
        })?;
        let plain = serde_json::to_vec(&record.event).map_err(failed)?;
        let encrypted = Record {
            event: Event::Encrypted {
                body: key.encrypt_body(&plain)?,
            },
            ..record.clone()
        };
        serde_json::to_value(encrypted).map_err(failed)
    }

    /// Decrypts the records of an encrypted archive, if its key was given.
    pub(super) fn decrypt(
        &mut self,
        store: &dyn Store,
        findings: &mut Vec<ChainFinding>,
    ) -> Result<()> {
        // Whoever lacks the first record does not know.
        let first = self.records.first().map(|kept| &kept.record.event);
        if !matches!(first, Some(Event::Begin { .. })) {
            return Ok(());
        }
        let is_encrypted = self.encryption().is_some();
        for kept in self.records.iter().skip(1) {
            let seq = kept.record.seq;
            if matches!(kept.record.event, Event::Encrypted { .. }) != is_encrypted {
                let why = match is_encrypted {
                    true => format!("record {seq} is not encrypted, as the archive is"),
                    false => format!("record {seq} is encrypted, and the archive is not"),
                };
                findings.push(ChainFinding {
                    seq: Some(seq),
                    why,
                });
            }
        }
        let (Some(encryption), Some(keyring)) = (self.encryption(), store.keyring()) else {
            return Ok(());
        };
        let key = match keyring.learn(encryption) {
            Ok(key) => key,
            // A first record that was altered is not told from one of another owner.
            Err(err) if err.kind() == Kind::Damaged || !findings.is_empty() => {
                findings.push(ChainFinding {
                    seq: Some(1),
                    why: format!("the key in record 1 cannot be opened: {}", err.why()),
                });
                return Ok(());
            }
            Err(err) => return Err(err),
        };
        if !key.opens() {
            return Ok(());
        }
        let events = in_parallel(&self.records, AT_ONCE, |kept| {
            Ok(match &kept.record.event {
                Event::Encrypted { body } => Some(event_in(&key, body)),
                _ => None,
            })
        })?;
        for (kept, event) in self.records.iter_mut().zip(events) {
            match event {
                None => {}
                Some(Ok(event)) => Arc::make_mut(kept).record.event = event,
                Some(Err(why)) => findings.push(ChainFinding {
                    seq: Some(kept.record.seq),
                    why: format!("record {} was altered: {why}", kept.record.seq),
                }),
            }
        }
        Ok(())
    }
}

/// The event in the body of a record, or why there is none.
fn event_in(key: &ArchiveKey, body: &str) -> Result<Event, String> {
    let plain = key.decrypt_body(body).map_err(|err| err.why().to_owned())?;
    match serde_json::from_slice(&plain) {
        Ok(Event::Begin { .. } | Event::Encrypted { .. }) => {
            Err("what is encrypted in it is no event".to_owned())
        }
        event => event.map_err(|err| err.to_string()),
    }
}
