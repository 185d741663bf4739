//! The lock that keeps two writers from getting in each other's way.
//!
//! It is a courtesy: it spares the second writer its work. What makes two writers safe is the chain,
//! of which only one can write the next record; so to break a lock is to write a record, after which
//! whoever held it can commit nothing (see [`super::chain`]).
//!
//! Keeps true: a lock says whose it is; one whose process is certainly gone is broken without being
//! asked, any other only by hand.

use std::fmt;

use chrono::{DateTime, SubsecRound as _, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::chain::{Chain, Event};
use super::sign::Signer;
use super::store::{Store, refuses_taken};
use crate::error::{Error, Kind, Result};

/// Where it lies.
pub const LOCK: &str = "lock.json";
/// More bytes no lock has.
const BYTES_MAX: u64 = 64 << 10;

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Unlike any other.
    pub owner: Uuid,
    /// The machine's name.
    pub host: String,
    /// Which start of that machine.
    pub boot: String,
    /// The process on it.
    pub pid: u32,
    /// When that process started, in the machine's ticks.
    pub started: u64,
    /// What it does.
    pub doing: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on {}, process {}, since {}",
            self.doing,
            self.host,
            self.pid,
            self.since.format("%Y-%m-%d %H:%M:%S UTC")
        )
    }
}

impl Holder {
    /// This process.
    pub fn this(doing: &str) -> Self {
        let pid = std::process::id();
        let host = rustix::system::uname();
        Self {
            owner: Uuid::new_v4(),
            host: host.nodename().to_string_lossy().into_owned(),
            boot: boot(),
            pid,
            started: started(pid).unwrap_or(0),
            doing: doing.to_owned(),
            since: Utc::now().trunc_subsecs(0),
        }
    }

    /// Whether its process is certainly gone: it was one of this machine, which has started anew
    /// since, or has no such process.
    pub fn is_gone(&self) -> bool {
        let here = Self::this("");
        if self.host != here.host {
            return false;
        }
        if here.boot.is_empty() || self.boot.is_empty() {
            return false;
        }
        self.boot != here.boot || started(self.pid) != Some(self.started)
    }
}

/// This start of the machine. In a container, whose processes have numbers of their own, it is told
/// apart by the namespace too.
fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    match id.trim() {
        "" => String::new(),
        id => format!("{id} {}", space.display()),
    }
}

/// When the process `pid` started, in ticks since the machine did.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, whatever that holds.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    // A zombie has ended.
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

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
