//! The lock that keeps two writers from getting in each other's way.
//!
//! It is a courtesy: it spares the second writer its work. What makes two writers safe is the chain,
//! of which only one can write the next record; so to break a lock is to write a record, after which
//! whoever held it can commit nothing (see [`super::chain`]).
//!
//! Invariants: a lock says whose it is; one whose process is certainly gone is broken without being
//! asked, any other only by hand; a lock that could not be given back is told.

use chrono::Utc;

use super::Archive;
use super::chain::{Chain, Event};
use super::holder::Holder;
use super::store::{Store, refuses_taken};
use crate::base::error::{Error, Kind, Result};

/// Path of the lock file in the archive.
pub const LOCK: &str = "lock.json";
/// More bytes no lock has.
const BYTES_MAX: u64 = 64 << 10;

/// A held lock; given back by [`Self::release`], or when dropped.
pub struct Lock<'a> {
    store: &'a dyn Store,
    holder: Holder,
    is_held: bool,
}

impl<'a> Lock<'a> {
    /// Takes the lock of the archive, whose chain is read under it.
    pub fn take(archive: &'a Archive, doing: &str) -> Result<(Self, Chain)> {
        Self::take_from_gone(archive, doing, |chain, gone| {
            break_lock(archive, chain, gone)
        })
    }

    /// The same of a copy, which has no records of its own: a lock whose process is gone is removed, and
    /// no record says so.
    pub fn take_for_copy(archive: &'a Archive) -> Result<(Self, Chain)> {
        let taken = Self::take_from_gone(archive, "archive copy", |_, _| {
            archive.store.remove(LOCK)?;
            archive.store.sync()
        });
        taken.map_err(|err| match err.kind() {
            Kind::Locked => err.next(format!(
                "wait for its end; if it will never end (its machine is gone), remove {LOCK} there by hand: \
                 `archive unlock` writes a record, and a copy has none of its own"
            )),
            _ => err,
        })
    }

    fn take_from_gone(
        archive: &'a Archive,
        doing: &str,
        break_lock: impl FnOnce(&mut Chain, Holder) -> Result<()>,
    ) -> Result<(Self, Chain)> {
        let store = &*archive.store;
        let holder = Holder::this(doing);
        let json =
            serde_json::to_vec(&holder).map_err(|err| Error::failed("writing the lock", err))?;
        // An archive is there before it is locked.
        let mut chain = archive.chain_to_add_to()?;
        if !store.put_new(LOCK, &json)? {
            match held(store)? {
                // Given back this moment.
                None => {}
                Some(other) if other.is_gone_soon() => break_lock(&mut chain, other)?,
                Some(other) => return Err(locked(store, &other)),
            }
            if !store.put_new(LOCK, &json)? {
                return Err(match held(store)? {
                    Some(other) => locked(store, &other),
                    None => Error::new(
                        Kind::Locked,
                        format!("locking {}", store.what()),
                        "others lock it and give it back all the time",
                    )
                    .next("run it again"),
                });
            }
        }
        let lock = Self {
            store,
            holder,
            is_held: true,
        };
        if let Err(err) = refuses_taken(store, LOCK) {
            // The lock file may hold the other bytes now.
            let _ = store.remove(LOCK);
            return Err(err);
        }
        // In a store without conditional puts, another run may have put its lock over this one.
        if let Some(other) = held(store)?
            && other.owner != lock.holder.owner
        {
            return Err(locked(store, &other));
        }
        store.sync()?;
        let chain = archive.chain_to_add_to()?;
        Ok((lock, chain))
    }

    /// Gives it back, if it is still ours. What stays, the next run on this machine finds to be of a
    /// process that is gone.
    pub fn release(mut self) -> Result<()> {
        self.try_release()
    }

    fn try_release(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_held) {
            return Ok(());
        }
        if let Some(holder) = held(self.store)?
            && holder.owner == self.holder.owner
        {
            self.store.remove(LOCK)?;
            self.store.sync()?;
        }
        Ok(())
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // Of work that failed: its own error is the one that is told.
        let _ = self.try_release();
    }
}

impl Archive {
    /// Does `work` on the chain while the archive is locked; an error if it is encrypted and its key was not
    /// given. Beside what came of it, why the lock
    /// could not be given back, if so: what was written is written all the same.
    pub(super) fn while_locked<T>(
        &self,
        doing: &str,
        work: impl FnOnce(&mut Chain) -> Result<T>,
    ) -> Result<(T, Option<String>)> {
        self.while_locked_closed(doing, |chain| {
            chain.require_opened()?;
            work(chain)
        })
    }

    /// The same, also of an archive whose key was not given.
    pub(super) fn while_locked_closed<T>(
        &self,
        doing: &str,
        work: impl FnOnce(&mut Chain) -> Result<T>,
    ) -> Result<(T, Option<String>)> {
        let (lock, mut chain) = Lock::take(self, doing)?;
        let done = work(&mut chain)?;
        self.remember(&chain);
        self.seen.see(&chain);
        let left = lock.release().err().map(|err| {
            format!("the lock could not be given back ({err}); a later run may have to wait for it")
        });
        Ok((done, left))
    }
}

/// Returns the holder of the lock, if it is held.
pub fn held(store: &dyn Store) -> Result<Option<Holder>> {
    let Some(bytes) = store.get(LOCK, BYTES_MAX)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|err| {
        Error::new(
            Kind::Damaged,
            format!("reading {LOCK} of {}", store.what()),
            err,
        )
        .next("see that nobody works on the archive, and remove that file")
    })
}

/// Breaks the lock that `holder` holds: from now on it can commit nothing.
pub fn break_lock(archive: &Archive, chain: &mut Chain, holder: Holder) -> Result<()> {
    let store = &*archive.store;
    let broken = Event::Unlock { broken: holder };
    chain.append(store, broken, archive.signer.as_ref(), Utc::now())?;
    store.remove(LOCK)?;
    store.sync()
}

fn locked(store: &dyn Store, holder: &Holder) -> Error {
    Error::new(
        Kind::Locked,
        format!("locking {}", store.what()),
        format!("it is locked by {holder}"),
    )
    .next(
        "wait for its end; if it will never end (its machine is gone), break the lock: \
         snapmerge archive unlock --force",
    )
}
