//! What an auditor asks of the chain: is every record there, unaltered and in its place, and who
//! signed it?
//!
//! Keeps true: it says how many records it looked at, and what it cannot know: whoever can replace
//! the whole archive can shorten the chain, unless its head or its signer is known from elsewhere.

use serde::Serialize;

use super::Archive;
use super::chain::{Chain, ChainFinding, Head};
use super::name::Name;
use crate::base::error::Result;

/// What is known from elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The public key that every record must be signed with.
    pub key: Option<String>,
    /// The hash of a record that must be in the chain: the head, as it was noted some day.
    pub head: Option<Name>,
}

/// What was found out.
#[derive(Debug, Clone, Serialize)]
pub struct Verified {
    /// Records that were looked at.
    pub records: u64,
    /// Entries that are there.
    pub entries: u64,
    /// Records that are signed.
    pub signed: u64,
    /// The keys that they are signed with.
    pub keys: Vec<String>,
    /// The last record.
    pub head: Option<Head>,
    /// What is wrong.
    pub findings: Vec<ChainFinding>,
}

impl Archive {
    /// Looks at the whole chain.
    pub fn verify_chain(&self, trust: &Trust) -> Result<Verified> {
        let (chain, mut findings) = Chain::look(&*self.store)?;
        let mut keys: Vec<String> = Vec::new();
        let mut signed = 0;
        for kept in &chain.records {
            let seq = kept.record.seq;
            if let Some(seal) = &kept.seal {
                signed += 1;
                if !keys.contains(&seal.key) {
                    keys.push(seal.key.clone());
                }
            }
            if let Some(key) = &trust.key
                && kept.seal.as_ref().is_none_or(|seal| seal.key != *key)
            {
                let why = match &kept.seal {
                    None => format!("record {seq} is not signed"),
                    Some(seal) => format!("record {seq} is signed with another key, {}", seal.key),
                };
                findings.push(ChainFinding {
                    seq: Some(seq),
                    why,
                });
            }
        }
        if let Some(head) = trust.head
            && !chain.records.iter().any(|kept| kept.hash == head)
        {
            findings.push(ChainFinding {
                seq: None,
                why: format!(
                    "no record has the hash {head}: the chain was shortened or written anew since \
                     that was noted"
                ),
            });
        }
        Ok(Verified {
            records: chain.records.len() as u64,
            entries: chain.entries().len() as u64,
            signed,
            keys,
            head: chain.head(),
            findings,
        })
    }
}
