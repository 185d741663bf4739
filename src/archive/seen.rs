//! Records, recipes and tables of an archive that a process has read. Whoever adds thousands of snapshots would read
//! them all again for each.
//!
//! Invariants: a chain is believed unread only as long as `head.json` says the same and no record lies beyond it;
//! recipes and tables have names that are the hashes of what is in them, and memory for them is bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::chain::{self, Chain, read_head};
use super::name::Name;
use super::object::Row;
use super::recipe::PackRef;
use super::store::Store;
use crate::base::error::Result;
use crate::base::parallel::lock;

/// Chunks, and objects of recipes, that are kept: some 10 MB each.
const ROWS_MAX: usize = 256 << 10;
const PARTS_MAX: usize = 64 << 10;

/// Parts of an archive that were read.
#[derive(Default)]
pub struct SeenArchive {
    chain: Mutex<Option<Chain>>,
    parts: Mutex<BoundedCache<PackRef>>,
    tables: Mutex<BoundedCache<Row>>,
}

/// Lists by name.
struct BoundedCache<T> {
    lists: HashMap<Name, Arc<[T]>>,
    length: usize,
}

impl<T> Default for BoundedCache<T> {
    fn default() -> Self {
        Self {
            lists: HashMap::new(),
            length: 0,
        }
    }
}

impl<T> BoundedCache<T> {
    /// The list called `name`, as `read` gives it if it is not here, and is kept if there are no more than `most` in
    /// all lists; none if there is none.
    fn get(
        this: &Mutex<Self>,
        name: Name,
        most: usize,
        read: impl FnOnce() -> Result<Option<Vec<T>>>,
    ) -> Result<Option<Arc<[T]>>> {
        if let Some(list) = lock(this).lists.get(&name) {
            return Ok(Some(Arc::clone(list)));
        }
        let Some(list) = read()? else {
            return Ok(None);
        };
        let list: Arc<[T]> = list.into();
        let mut cache = lock(this);
        if cache.length.saturating_add(list.len()) <= most
            && cache.lists.insert(name, Arc::clone(&list)).is_none()
        {
            cache.length += list.len();
        }
        Ok(Some(list))
    }
}

impl SeenArchive {
    /// The chain that was seen whole, if it is still what lies in `store`.
    pub fn chain(&self, store: &dyn Store) -> Result<Option<Chain>> {
        let Some(chain) = lock(&self.chain).clone() else {
            return Ok(None);
        };
        let Some(head) = chain.head() else {
            return Ok(None);
        };
        let is_last =
            read_head(store)? == Some(head) && store.head(&chain::path(head.seq + 1), 1)?.is_none();
        Ok(is_last.then_some(chain))
    }

    /// Keeps a chain that is whole; of one that was not decrypted, what this process has added would be known, and
    /// the rest not.
    pub fn see(&self, chain: &Chain) {
        *lock(&self.chain) = (!chain.is_closed()).then(|| chain.clone());
    }

    /// The objects of the recipe `name`, as `read` gives them if they are not here.
    pub fn parts(
        &self,
        name: Name,
        read: impl FnOnce() -> Result<Vec<PackRef>>,
    ) -> Result<Arc<[PackRef]>> {
        let parts = BoundedCache::get(&self.parts, name, PARTS_MAX, || read().map(Some))?;
        Ok(parts.unwrap_or_default())
    }

    /// The table of the object `name`, as `read` gives it if it is not here.
    pub fn table(
        &self,
        name: Name,
        read: impl FnOnce() -> Result<Option<Vec<Row>>>,
    ) -> Result<Option<Arc<[Row]>>> {
        BoundedCache::get(&self.tables, name, ROWS_MAX, read)
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::super::chain::{Event, HEAD};
    use super::super::store::Local;
    use super::*;

    #[test]
    fn a_chain_is_read_again_as_soon_as_anybody_writes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Local::new(dir.path());
        let mut ours = Chain::begin(&store, None, None).unwrap();
        let seen = SeenArchive::default();
        assert_eq!(seen.chain(&store).unwrap(), None);
        seen.see(&ours);
        assert_eq!(seen.chain(&store).unwrap(), Some(ours.clone()));
        let head = std::fs::read(dir.path().join(HEAD)).unwrap();
        let proven = || Event::Drill { proven: Vec::new() };
        ours.append(&store, proven(), None, Utc::now()).unwrap();
        assert_eq!(
            seen.chain(&store).unwrap(),
            None,
            "a record of somebody else"
        );
        seen.see(&ours);
        assert_eq!(seen.chain(&store).unwrap(), Some(ours.clone()));
        // A run that was killed before it wrote the head; and one that took records away.
        let mut theirs = ours.clone();
        theirs.append(&store, proven(), None, Utc::now()).unwrap();
        let newest = std::fs::read(dir.path().join(HEAD)).unwrap();
        std::fs::write(dir.path().join(HEAD), &head).unwrap();
        assert_eq!(seen.chain(&store).unwrap(), None, "an older head");
        seen.see(&theirs);
        std::fs::write(dir.path().join(HEAD), &newest).unwrap();
        assert!(seen.chain(&store).unwrap().is_some());
        std::fs::remove_file(dir.path().join(HEAD)).unwrap();
        assert_eq!(seen.chain(&store).unwrap(), None, "no head");
    }

    #[test]
    fn lists_are_read_once_and_no_more_are_kept_than_there_is_room_for() {
        let seen = SeenArchive::default();
        let row = Row {
            print: super::super::object::fingerprint_of(b"x"),
            bytes: 1,
        };
        let name = |n: usize| Name::of(&n.to_le_bytes());
        let half = ROWS_MAX / 2;
        for n in 0..3 {
            let table = seen.table(name(n), || Ok(Some(vec![row; half]))).unwrap();
            assert_eq!(table.unwrap().len(), half);
        }
        let mut read = Vec::new();
        for n in 0..3 {
            let again = seen.table(name(n), || {
                read.push(n);
                Ok(None)
            });
            assert_eq!(again.unwrap().is_some(), n < 2);
        }
        assert_eq!(read, [2]);
        // One that is not there is looked for again.
        assert!(seen.table(name(9), || Ok(None)).unwrap().is_none());
        assert!(
            seen.table(name(2), || Ok(Some(Vec::new())))
                .unwrap()
                .is_some()
        );
    }
}
