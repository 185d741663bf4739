//! Audit of the chain: is every record there, unaltered and in its place, and who signed it?
//!
//! Invariants: it says how many records it looked at, what was known of them from elsewhere, and what
//! it cannot know.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chain::{ChainFinding, Head};
use super::trust::{SeenHead, Trust};
use super::{Archive, Chain};
use crate::base::error::Result;

/// Result of the verification of a chain.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    /// Records that were looked at.
    pub records: u64,
    /// Entries that are there.
    pub entries: u64,
    /// True if the archive is encrypted and its key was not given: how many entries there are is not known.
    #[serde(default)]
    pub without_key: bool,
    /// Records that are signed.
    pub signed: u64,
    /// The keys that they are signed with.
    pub keys: Vec<String>,
    /// The last record.
    pub head: Option<Head>,
    /// The last record when this machine last looked, if it has ever.
    pub seen: Option<SeenHead>,
    /// Why the last record could not be remembered, if so.
    pub not_remembered: Option<String>,
    /// Faults that were found.
    pub findings: Vec<ChainFinding>,
}

impl Archive {
    /// Looks at the whole chain. With `anew` what this machine remembers of it is replaced by what is
    /// there now.
    pub fn verify_chain(&self, trust: &Trust, anew: bool) -> Result<Verified> {
        let seen = self.seen()?;
        let (chain, mut findings) = match anew {
            true => {
                let (chain, mut findings) = Chain::examine(&*self.store)?;
                findings.extend(self.trust.findings(&chain));
                (chain, findings)
            }
            false => self.examine()?,
        };
        findings.extend(trust.findings(&chain));
        let mut keys: Vec<String> = Vec::new();
        let seals = chain.records.iter().filter_map(|kept| kept.seal.as_ref());
        let signed = seals.clone().count() as u64;
        for seal in seals {
            if !keys.contains(&seal.key) {
                keys.push(seal.key.clone());
            }
        }
        let recorded = match findings.is_empty() {
            true => self.try_remember(&chain, anew),
            false => Ok(()),
        };
        Ok(Verified {
            records: chain.records.len() as u64,
            entries: chain.entries().len() as u64,
            without_key: chain.is_closed(),
            signed,
            keys,
            head: chain.head(),
            seen,
            not_remembered: recorded.err().map(|err| err.to_string()),
            findings,
        })
    }
}
