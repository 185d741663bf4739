//! Knowledge of an archive from elsewhere: keys that its records must be signed with, and the last record
//! that this machine has seen there.
//!
//! Whoever may write everything in an archive can shorten its chain, or write all of it anew. The head
//! that is remembered outside of the archive shows the first, and a key that only its writers have the
//! second.
//!
//! Invariants: what is remembered never gets older; a chain that lacks it is not whole.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::chain::{Chain, ChainFinding, Head};
use super::name::Name;
use super::{Archive, Location};
use crate::base::durable;
use crate::base::error::Result;
use crate::base::own;
use crate::base::printable::without_passwords;

/// Expectations of an archive that come from elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Public keys, of which every record must be signed with one; none if any is good.
    pub keys: Vec<String>,
    /// The hash of a record that must be in the chain: the head, as it was noted some day.
    pub head: Option<Name>,
}

impl Trust {
    /// Returns the faults of a chain that does not meet these expectations.
    pub(super) fn findings(&self, chain: &Chain) -> Vec<ChainFinding> {
        let mut findings = Vec::new();
        for kept in chain.records.iter().filter(|_| !self.keys.is_empty()) {
            let seq = kept.record.seq;
            let why = match &kept.seal {
                Some(seal) if self.keys.contains(&seal.key) => continue,
                Some(seal) => format!("record {seq} is signed with another key, {}", seal.key),
                None => format!("record {seq} is not signed"),
            };
            findings.push(ChainFinding {
                seq: Some(seq),
                why,
            });
        }
        if let Some(head) = self.head
            && !chain.records.iter().any(|kept| kept.hash == head)
        {
            let why = format!(
                "no record has the hash {head}: the chain was shortened or written anew since that \
                 was noted"
            );
            findings.push(ChainFinding { seq: None, why });
        }
        findings
    }
}

/// The last record of an archive that this machine has seen, in a file outside of the archive.
#[derive(Debug, Clone)]
pub struct HeadMemory {
    file: PathBuf,
    place: String,
}

/// Content of the file in which this machine remembers the last record of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SeenHead {
    /// Location of the archive.
    pub place: String,
    /// UUID of the archive.
    pub archive: Uuid,
    /// Last record of the archive.
    #[serde(flatten)]
    pub head: Head,
}

impl HeadMemory {
    /// The memory in the folder `state` of what lies at `location`.
    pub fn new(state: &Path, location: &Location) -> Self {
        let place = match location {
            Location::Folder(folder) => folder
                .canonicalize()
                .or_else(|_| std::path::absolute(folder))
                .unwrap_or_else(|_| folder.clone())
                .display()
                .to_string(),
            Location::Bucket {
                cloud,
                bucket,
                prefix,
            } => {
                let at = cloud.endpoint().map(|endpoint| format!(" at {endpoint}"));
                let scheme = cloud.scheme();
                let place = format!("{scheme}{bucket}/{prefix}{}", at.unwrap_or_default());
                without_passwords(&place).into_owned()
            }
        };
        let hash = blake3::hash(place.as_bytes()).to_hex();
        let file = state.join("archives").join(format!("{hash:.32}.json"));
        Self { file, place }
    }

    /// Returns the record that was seen last; `None` if none was.
    pub fn seen(&self) -> Result<Option<SeenHead>> {
        // A folder that is none, or that this user may not look into: nothing was ever put there.
        if self.file.symlink_metadata().is_err() {
            return Ok(None);
        }
        durable::read_json(&self.file).map_err(|err| {
            err.next("see what is in it and move it away; the archive is seen anew then")
        })
    }

    /// Returns the fault of a chain that lacks the record that was seen last.
    fn finding(&self, chain: &Chain) -> Result<Option<ChainFinding>> {
        let Some(SeenHead { archive, head, .. }) = self.seen()? else {
            return Ok(None);
        };
        let first = chain.records.first();
        if first.is_some_and(|first| first.record.archive != archive) {
            return Ok(Some(ChainFinding {
                seq: None,
                why: format!(
                    "another archive was here when this machine last looked: {archive}, with {} \
                     records",
                    head.seq
                ),
            }));
        }
        if chain.records.iter().any(|kept| kept.hash == head.hash) {
            return Ok(None);
        }
        Ok(Some(ChainFinding {
            seq: Some(head.seq),
            why: format!(
                "record {} ({}) is missing, which was the last when this machine last looked: the \
                 chain was shortened or written anew",
                head.seq, head.hash
            ),
        }))
    }

    /// Remembers the last record of a chain that is whole; with `anew` also one that is older.
    fn remember(&self, chain: &Chain, anew: bool) -> Result<()> {
        let (Some(first), Some(head)) = (chain.records.first(), chain.head()) else {
            return Ok(());
        };
        let seen = self.seen()?;
        if seen.is_some_and(|seen| seen.head == head || (seen.head.seq > head.seq && !anew)) {
            return Ok(());
        }
        let seen = SeenHead {
            place: self.place.clone(),
            archive: first.record.archive,
            head,
        };
        own::folder(self.file.parent().unwrap_or(Path::new(".")))?;
        durable::write_private_json(&self.file, &seen)
    }

    /// Forgets what was seen.
    fn forget(&self) -> Result<()> {
        durable::remove(&self.file)
    }
}

impl Archive {
    /// The chain, and everything that is wrong with it or with what is known of it from elsewhere.
    pub(super) fn examine(&self) -> Result<(Chain, Vec<ChainFinding>)> {
        let (chain, mut findings) = Chain::examine(&*self.store)?;
        findings.extend(self.findings_elsewhere(&chain)?);
        Ok((chain, findings))
    }

    /// Faults of a chain by what is known of it from elsewhere.
    pub(super) fn findings_elsewhere(&self, chain: &Chain) -> Result<Vec<ChainFinding>> {
        let mut findings = self.trust.findings(chain);
        if let Some(memory) = &self.memory {
            findings.extend(memory.finding(chain)?);
        }
        Ok(findings)
    }

    /// Remembers the last record of a chain that is whole. A state that cannot be written keeps nobody
    /// from reading an archive; `verify-chain` tells it.
    pub(super) fn remember(&self, chain: &Chain) {
        let _ = self.try_remember(chain, false);
    }

    pub(super) fn try_remember(&self, chain: &Chain, anew: bool) -> Result<()> {
        self.memory
            .as_ref()
            .map_or(Ok(()), |memory| memory.remember(chain, anew))
    }

    /// Returns the record that this machine has seen here last.
    pub fn seen(&self) -> Result<Option<SeenHead>> {
        self.memory.as_ref().map_or(Ok(None), HeadMemory::seen)
    }

    /// Forgets what this machine has seen here, for whoever makes another archive in the same place.
    pub fn forget_seen(&self) -> Result<()> {
        self.memory.as_ref().map_or(Ok(()), HeadMemory::forget)
    }
}
