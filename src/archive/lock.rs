//! The lock that keeps two writers from getting in each other's way.
//!
//! It is a courtesy: it spares the second writer its work. What makes two writers safe is the chain,
//! of which only one can write the next record; so to break a lock is to write a record, after which
//! whoever held it can commit nothing (see [`super::chain`]).
//!
//! Keeps true: a lock says whose it is; one whose process is certainly gone is broken without being
//! asked, any other only by hand.

use chrono::Utc;

use super::chain::{Chain, Event};
use super::holder::Holder;
use super::sign::Signer;
use super::store::{Store, refuses_taken};
use crate::base::error::{Error, Kind, Result};

/// Where it lies.
pub const LOCK: &str = "lock.json";
/// More bytes no lock has.
const BYTES_MAX: u64 = 64 << 10;

/// A held lock; given back when dropped.
pub struct Lock<'a> {
    store: &'a dyn Store,
    holder: Holder,
}

impl<'a> Lock<'a> {
    /// Takes the lock of the archive in `store`, whose chain is read under it.
    pub fn take(
        store: &'a dyn Store,
        doing: &str,
        signer: Option<&Signer>,
    ) -> Result<(Self, Chain)> {
        let holder = Holder::this(doing);
        let json =
            serde_json::to_vec(&holder).map_err(|err| Error::failed("writing the lock", err))?;
        // An archive is there before it is locked.
        let mut chain = Chain::open(store)?;
        if !store.put_new(LOCK, &json)? {
            match held(store)? {
                // Given back this moment.
                None => {}
                Some(other) if other.is_gone() => break_lock(store, &mut chain, other, signer)?,
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
        let lock = Self { store, holder };
        if let Err(err) = refuses_taken(store, LOCK) {
            // What is there may be the other bytes.
            let _ = store.remove(LOCK);
            return Err(err);
        }
        // Where a store has no conditions, somebody else may have put theirs over it.
        if let Some(other) = held(store)?
            && other.owner != lock.holder.owner
        {
            return Err(locked(store, &other));
        }
        store.sync()?;
        let chain = Chain::open(store)?;
        Ok((lock, chain))
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // Only while it is ours. What stays, the next run finds to be of a process that is gone.
        if let Ok(Some(holder)) = held(self.store)
            && holder.owner == self.holder.owner
        {
            let _ = self.store.remove(LOCK);
            let _ = self.store.sync();
        }
    }
}

/// Who holds the lock.
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
pub fn break_lock(
    store: &dyn Store,
    chain: &mut Chain,
    holder: Holder,
    signer: Option<&Signer>,
) -> Result<()> {
    let broken = Event::Unlock { broken: holder };
    chain.append(store, broken, signer, Utc::now())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_is_certainly_gone_is_gone() {
        let this = Holder::this("testing");
        assert!(!this.is_gone());
        let other = |change: fn(&mut Holder)| {
            let mut holder = this.clone();
            change(&mut holder);
            holder.is_gone()
        };
        assert!(other(|h| h.started += 1));
        assert!(other(|h| h.pid = u32::MAX));
        assert!(other(|h| h.boot += "x"));
        // Of another machine nothing is known.
        assert!(!other(|h| h.host += "x"));
        assert!(!other(|h| h.boot.clear()));
    }
}
