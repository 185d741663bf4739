//! The archive: snapshots of many nights, each byte kept once and every byte checked.
//!
//! Invariants: an entry is there with everything that it needs, or not at all; whatever is read is
//! hashed before it is believed; what is removed is needed by no entry; a run that is killed at any
//! moment leaves an archive that the next one resumes from.
//!
//! ---
#![doc = include_str!("FORMAT.md")]

mod add;
mod boundaries;
mod chain;
mod check;
mod copy;
mod encryption;
mod find;
mod forget;
mod get;
mod holder;
mod index;
mod lock;
mod name;
mod object;
mod operations;
mod options;
mod pool;
mod read;
mod recipe;
mod retention;
mod seen;
mod sign;
mod store;
mod sweep;
mod trust;
mod verify_chain;

pub use self::add::{Added, Adding, MemberManifest, Stored};
pub use self::chain::{
    Chain, ChainFinding, Entry, Event, FORMAT, Forgotten, Head, Proven, Record, StoredRecord,
};
pub use self::check::{Checked, Finding, Loss, Subset};
pub use self::copy::Copied;
pub use self::encryption::{Encryption, IdentityOptions, Recipient, parse_recipients};
pub use self::find::{ENTRY_PREFIX, EntryPattern, EntryRef, newest};
pub use self::forget::{Forgetting, PruneReport};
pub use self::get::Retrieved;
pub use self::holder::Holder;
pub use self::name::{JOB_DIGITS, JOB_PREFIX, Name};
pub use self::operations::{
    AddFailure, AddReport, AddRequest, CheckReport, CheckRequest, CopyReport, CopyRequest,
    FindReport, FindRequest, ForgetReport, ForgetRequest, FoundIn, GetReport, GetRequest,
    InitReport, InitRequest, ListReport, ListRequest, PointPlace, ShowReport, ShowRequest,
    UnlockReport, UnlockRequest, VerifyChainReport, VerifyChainRequest,
};
pub use self::options::{
    ArchiveOptions, SigningOptions, SourceArchiveOptions, TrustOptions, WritableArchiveOptions,
};
pub use self::read::EntryReader;
pub use self::recipe::{FileEntry, Recipe};
pub use self::retention::{Candidate, Decision, Policy, parse_timezone};
pub use self::sign::{Signer, read_public};
pub use self::store::{Cloud, Listed, Local, Location, PLACES, RESERVE, Remote, Store, conforms};
pub use self::trust::{SeenHead, Trust};
pub use self::verify_chain::Verified;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use self::encryption::Keyring;
use self::get::missing_object;
use self::seen::SeenArchive;
use self::store::Keyed;
use self::trust::HeadMemory;
use crate::base::error::{Error, Kind, Result};
use crate::base::stop;

/// The folder of the objects.
pub const OBJECTS: &str = "objects";
/// The folder of the recipes.
pub const RECIPES: &str = "recipes";
/// Time limit of a drill's wait for a lock, and the interval between two attempts.
const LOCKED_MAX: Duration = Duration::from_secs(900);
const LOCKED_LOOK: Duration = Duration::from_millis(500);

/// An archive.
pub struct Archive {
    store: Arc<dyn Store>,
    signer: Option<Signer>,
    trust: Trust,
    memory: Option<HeadMemory>,
    /// Records, recipes and tables that were read, for whoever adds many snapshots.
    seen: Arc<SeenArchive>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Archive({})", self.store.what())
    }
}

impl Archive {
    /// The archive in `store`; whether there is one is seen when it is used. What it writes is
    /// signed by `signer`; nothing is remembered of it.
    pub fn new(store: Box<dyn Store>, signer: Option<Signer>) -> Self {
        Self::opened_by(store, signer, IdentityOptions::default())
    }

    /// The same of an archive that may be encrypted, and is then opened by what `identity` says.
    pub fn opened_by(
        store: Box<dyn Store>,
        signer: Option<Signer>,
        identity: IdentityOptions,
    ) -> Self {
        Self {
            store: Arc::new(Keyed::new(store, Keyring::new(identity))),
            signer,
            trust: Trust::default(),
            memory: None,
            seen: Arc::default(),
        }
    }

    /// The same archive, all of whose records must be as `trust` says.
    #[must_use]
    pub fn trusting(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    /// The archive at `location`, of which nothing is known or remembered.
    pub fn at(location: &str, signer: Option<Signer>) -> Result<Self> {
        Ok(Self::new(Location::parse(location)?.open()?, signer))
    }

    /// A reader of its entries.
    pub fn reader(&self) -> EntryReader {
        EntryReader::new(Self {
            store: Arc::clone(&self.store),
            // It writes nothing.
            signer: None,
            trust: self.trust.clone(),
            memory: self.memory.clone(),
            seen: Arc::clone(&self.seen),
        })
    }

    /// Returns the location of the archive, for errors and reports.
    pub fn what(&self) -> String {
        self.store.what()
    }

    /// Makes it. An error if this machine has seen an archive there: that one is lost, or not mounted.
    pub fn init(&self) -> Result<Chain> {
        self.init_for(&[])
    }

    /// The same, encrypted so that `recipients` open it; not encrypted if there are none.
    pub fn init_for(&self, recipients: &[Recipient]) -> Result<Chain> {
        if let Some(seen) = self.seen()? {
            return Err(Error::damaged(
                format!("making an archive in {}", self.what()),
                format!(
                    "this machine has seen another one there, {} with {} records, which is gone",
                    seen.archive, seen.head.seq
                ),
            )
            .next(
                "look whether the disk is mounted; to begin anew all the same: snapmerge archive init",
            ));
        }
        let encryption = match recipients {
            [] => None,
            recipients => Some(Encryption::new(recipients)?),
        };
        let chain = Chain::begin(&*self.store, self.signer.as_ref(), encryption)?;
        self.store.keep_reserve()?;
        self.remember(&chain);
        Ok(chain)
    }

    /// Everything that was ever done to it; an error if that is not whole, or encrypted and the key was not
    /// given.
    pub fn chain(&self) -> Result<Chain> {
        self.closed_chain()?.opened()
    }

    /// The same of an archive that must be encrypted for `recipients`, if there are any.
    pub fn chain_for(&self, recipients: &[Recipient]) -> Result<Chain> {
        let chain = self.chain()?;
        let Some(encryption) = chain.encryption() else {
            return match recipients {
                [] => Ok(chain),
                _ => Err(self.other_recipients("it is not encrypted")),
            };
        };
        let wanted: BTreeSet<String> = recipients.iter().map(ToString::to_string).collect();
        let there: BTreeSet<String> = encryption.recipients.iter().cloned().collect();
        if recipients.is_empty() || wanted == there {
            return Ok(chain);
        }
        Err(
            self.other_recipients(match wanted.difference(&there).next() {
                Some(missing) => format!("it is not encrypted for {missing}"),
                None => {
                    let others: Vec<&str> = there.difference(&wanted).map(String::as_str).collect();
                    format!("{} opens it, too", others.join(", "))
                }
            }),
        )
    }

    fn other_recipients(&self, why: impl std::fmt::Display) -> Error {
        Error::usage(format!("opening archive {}", self.what()), why).next(
            "make another: snapmerge archive init --encrypt RECIPIENT; those of an archive stay",
        )
    }

    /// The same, also of an archive whose key was not given; see [`Chain::is_closed`].
    pub fn closed_chain(&self) -> Result<Chain> {
        let (chain, findings) = self.examine()?;
        let chain = chain.whole(&findings)?;
        self.remember(&chain);
        self.seen.see(&chain);
        Ok(chain)
    }

    /// The same for whoever adds to it again and again: records that this process has read are not read again, as
    /// long as nobody else has written any.
    pub fn chain_to_add_to(&self) -> Result<Chain> {
        let Some(chain) = self.seen.chain(&*self.store)? else {
            return self.closed_chain();
        };
        let findings = self.findings_elsewhere(&chain)?;
        chain.whole(&findings)
    }

    /// The recipe of an entry.
    pub fn recipe(&self, entry: &Entry) -> Result<Recipe> {
        Recipe::of_entry(&*self.store, entry)
    }

    /// Writes down, for good, that entries were restored and proven. What took hours is not given up
    /// for the sake of a run that has the lock for minutes: it is waited for that.
    pub fn note_proven(&self, proven: Vec<Proven>) -> Result<DateTime<Utc>> {
        let started = Instant::now();
        loop {
            let now = Self::now();
            let noted = self.while_locked("drill", |chain| {
                let event = Event::Drill {
                    proven: proven.clone(),
                };
                chain.append(&*self.store, event, self.signer.as_ref(), now)?;
                Ok(())
            });
            match noted {
                Err(err) if err.kind() == Kind::Locked && started.elapsed() < LOCKED_MAX => {
                    if stop::times() > 0 {
                        return Err(stop::cancelled("waiting for the archive's lock"));
                    }
                    std::thread::sleep(LOCKED_LOOK);
                }
                Err(err) => return Err(err),
                Ok((_, Some(left))) => {
                    return Err(Error::failed(
                        format!("giving back the lock of {}", self.what()),
                        left,
                    )
                    .next("what was proven is written down; see who holds the lock: snapmerge archive unlock"));
                }
                Ok((_, None)) => return Ok(now),
            }
        }
    }

    /// Returns the process that holds the archive's lock, if any.
    pub fn holder(&self) -> Result<Option<Holder>> {
        self.closed_chain()?;
        lock::held(&*self.store)
    }

    /// Breaks the lock that `holder` holds; it can commit nothing any more.
    pub fn unlock(&self, holder: Holder) -> Result<()> {
        let mut chain = self.closed_chain()?;
        lock::break_lock(self, &mut chain, holder)?;
        self.remember(&chain);
        Ok(())
    }

    fn now() -> DateTime<Utc> {
        Utc::now()
    }
}

#[cfg(test)]
mod tests;
