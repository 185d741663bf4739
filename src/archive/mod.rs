//! The archive: snapshots of many nights, each byte kept once and every byte checked.
//!
//! Keeps true: an entry is there with everything that it needs, or not at all; whatever is read is
//! hashed before it is believed; what is removed is needed by no entry; a run that is killed at any
//! moment leaves an archive that the next one goes on with.
//!
//! ---
#![doc = include_str!("FORMAT.md")]

mod add;
mod chain;
mod check;
mod cuts;
mod find;
mod forget;
mod get;
mod holder;
mod index;
mod lock;
mod name;
mod object;
mod recipe;
mod retention;
mod sign;
mod store;
mod verify;

pub use self::add::{Added, Adding};
pub use self::chain::{
    Chain, ChainFinding, Entry, Event, FORMAT, Forgotten, Head, Kept, Proven, Record,
};
pub use self::check::{Checked, Finding, Loss, Subset};
pub use self::find::EntryRef;
pub use self::forget::{Forgetting, Swept};
pub use self::get::Got;
pub use self::holder::Holder;
pub use self::name::Name;
pub use self::recipe::{FileEntry, Recipe};
pub use self::retention::{Candidate, Decision, Policy};
pub use self::sign::{Signer, read_public};
pub use self::store::{Listed, Local, Location, Remote, Store, conforms};
pub use self::verify::{Trust, Verified};

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use self::lock::Lock;

use crate::base::error::{Kind, Result};
use crate::base::stop;

/// The folder of the objects.
pub const OBJECTS: &str = "objects";
/// How long a drill waits for a lock, and how often it looks.
const LOCKED_MAX: Duration = Duration::from_secs(900);
const LOCKED_LOOK: Duration = Duration::from_millis(500);
/// The folder of the recipes.
pub const RECIPES: &str = "recipes";

/// An archive.
pub struct Archive {
    store: Box<dyn Store>,
    signer: Option<Signer>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Archive({})", self.store.what())
    }
}

impl Archive {
    /// The archive in `store`; whether there is one is seen when it is used. What it writes is
    /// signed by `signer`.
    pub fn new(store: Box<dyn Store>, signer: Option<Signer>) -> Self {
        Self { store, signer }
    }

    /// The archive at `location`.
    pub fn at(location: &str, signer: Option<Signer>) -> Result<Self> {
        Ok(Self::new(Location::parse(location)?.open()?, signer))
    }

    /// What it is, for errors and reports.
    pub fn what(&self) -> String {
        self.store.what()
    }

    /// Makes it.
    pub fn init(&self) -> Result<Chain> {
        Chain::begin(&*self.store, self.signer.as_ref())
    }

    /// Everything that was ever done to it; an error if that is not whole.
    pub fn chain(&self) -> Result<Chain> {
        Chain::open(&*self.store)
    }

    /// The recipe of an entry.
    pub fn recipe(&self, entry: &Entry) -> Result<Recipe> {
        index::read_recipe(&*self.store, entry.recipe)
    }

    /// Writes down, for good, that entries were restored and proven. What took hours is not given up
    /// for the sake of a run that has the lock for minutes: it is waited for that.
    pub fn note_proven(&self, proven: Vec<Proven>) -> Result<DateTime<Utc>> {
        let store = &*self.store;
        let begun = Instant::now();
        let (_lock, mut chain) = loop {
            match Lock::take(store, "drill", self.signer.as_ref()) {
                Err(err) if err.kind() == Kind::Locked && begun.elapsed() < LOCKED_MAX => {
                    if stop::times() > 0 {
                        return Err(stop::cancelled("waiting for the archive's lock"));
                    }
                    std::thread::sleep(LOCKED_LOOK);
                }
                taken => break taken?,
            }
        };
        let now = Self::now();
        chain.append(store, Event::Drill { proven }, self.signer.as_ref(), now)?;
        Ok(now)
    }

    /// Who is writing to it.
    pub fn holder(&self) -> Result<Option<Holder>> {
        self.chain()?;
        lock::held(&*self.store)
    }

    /// Breaks the lock that `holder` holds; it can commit nothing any more.
    pub fn unlock(&self, holder: Holder) -> Result<()> {
        let mut chain = self.chain()?;
        lock::break_lock(&*self.store, &mut chain, holder, self.signer.as_ref())
    }

    fn now() -> DateTime<Utc> {
        Utc::now()
    }
}

#[cfg(test)]
mod tests;
