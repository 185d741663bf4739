//! Objects that were read and decompressed, for all readers of one operation.
//!
//! Invariants: an object is here only if its SHA-256 is its name; whoever wants one that another thread is
//! reading waits for that; of those that are kept, the ones that were used last stay.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::archive::name::Name;
use crate::archive::object::{Object, Opener, STORED_BYTES_MAX};
use crate::archive::pool::Pool;
use crate::archive::recipe::PackRef;
use crate::archive::store::{Store, key_of};
use crate::archive::{OBJECTS, missing_object};
use crate::base::error::{Error, Result};
use crate::base::parallel::lock;

/// Bytes of objects that are kept.
const KEPT_BYTES: usize = 24 << 20;
/// Tools of threads that are kept for the next.
const TOOLS_MAX: usize = 4;

/// Objects by name.
#[derive(Default)]
pub(super) struct ObjectCache {
    state: Mutex<State>,
    changed: Condvar,
    tools: Mutex<Vec<Tools>>,
    /// Memory of objects that nobody needs any more.
    buffers: Arc<Pool<Vec<u8>>>,
}

#[derive(Default)]
struct State {
    slots: HashMap<Name, Slot>,
    /// Bytes of those that are here.
    bytes: usize,
    /// Counts uses.
    clock: u64,
}

enum Slot {
    /// A thread reads it.
    Loading,
    Here {
        object: Arc<Object>,
        used: u64,
    },
}

/// Buffers and decoder that reading an object takes.
struct Tools {
    opener: Opener,
    stored: Vec<u8>,
}

impl ObjectCache {
    /// The object `part` of `store`; true if it was read for this call.
    pub fn get(&self, store: &dyn Store, part: &PackRef) -> Result<(Arc<Object>, bool)> {
        let mut state = self.lock();
        loop {
            state.clock += 1;
            let clock = state.clock;
            match state.slots.get_mut(&part.name) {
                Some(Slot::Here { object, used }) => {
                    *used = clock;
                    return Ok((Arc::clone(object), false));
                }
                // If it fails, this thread tries it, too, and has an error of its own.
                Some(Slot::Loading) => {
                    let waited = self.changed.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
                None => break,
            }
        }
        state.slots.insert(part.name, Slot::Loading);
        drop(state);
        let loading = Loading { of: self, part };
        let object = Arc::new(self.load(store, part)?);
        loading.done(&object);
        Ok((object, true))
    }

    /// Reads an object.
    fn load(&self, store: &dyn Store, part: &PackRef) -> Result<Object> {
        let tools = lock(&self.tools).pop();
        let mut tools = match tools {
            Some(tools) => tools,
            None => Tools {
                opener: Opener::new(key_of(store))?,
                stored: Vec::new(),
            },
        };
        let path = part.name.path(OBJECTS);
        if !store.get_into(&path, STORED_BYTES_MAX, &mut tools.stored)? {
            return Err(missing_object(part.name));
        }
        let object = tools
            .opener
            .open_own(part.name, &tools.stored, &self.buffers)?;
        // What readers keep is counted by what recipes say.
        if object.len() != part.raw {
            let why = format!(
                "it has {} bytes, and the recipe says {}",
                object.len(),
                part.raw
            );
            return Err(Error::damaged(format!("reading object {}", part.name), why));
        }
        let mut kept = lock(&self.tools);
        if kept.len() < TOOLS_MAX {
            kept.push(tools);
        }
        Ok(object)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Lets go of those that were not used for longest, but not of `but`.
    fn evict(&mut self, but: Name) {
        while self.bytes > KEPT_BYTES {
            let here = self.slots.iter().filter_map(|(name, slot)| match slot {
                Slot::Here { used, .. } if *name != but => Some((*used, *name)),
                _ => None,
            });
            let Some((_, oldest)) = here.min() else {
                return;
            };
            if let Some(Slot::Here { object, .. }) = self.slots.remove(&oldest) {
                self.bytes -= object.memory();
            }
        }
    }
}

/// An object that this thread reads. Dropped, it is not read by anybody.
struct Loading<'a> {
    of: &'a ObjectCache,
    part: &'a PackRef,
}

impl Loading<'_> {
    fn done(self, object: &Arc<Object>) {
        let name = self.part.name;
        let mut state = self.of.lock();
        let used = state.clock;
        let object = Arc::clone(object);
        state.bytes += object.memory();
        state.slots.insert(name, Slot::Here { object, used });
        state.evict(name);
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        let mut state = self.of.lock();
        if let Some(Slot::Loading) = state.slots.get(&self.part.name) {
            state.slots.remove(&self.part.name);
        }
        drop(state);
        self.of.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngCore as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::archive::object::{PackBuilder, RAW_BYTES_MAX, Sealer};
    use crate::archive::store::Local;

    const BYTES: usize = 3 << 20;

    #[test]
    fn those_that_were_used_last_are_kept_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let store = Local::new(dir.path());
        let mut sealer = Sealer::new([1; 16], None).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut parts = Vec::new();
        for _ in 0..20 {
            let mut raw = vec![0; BYTES];
            random.fill_bytes(&mut raw);
            let pack = PackBuilder {
                raw,
                rows: Vec::new(),
            };
            let sealed = sealer.seal(&pack).unwrap();
            store
                .put_new(&sealed.name.path(OBJECTS), sealed.bytes)
                .unwrap();
            parts.push(PackRef {
                name: sealed.name,
                raw: BYTES as u64,
                stored: sealed.bytes.len() as u64,
                table: sealed.table,
            });
        }
        let cache = ObjectCache::default();
        let is_read = |at: usize| cache.get(&store, &parts[at]).unwrap().1;
        for at in 0..parts.len() {
            assert!(is_read(at));
            assert!(!is_read(at), "it was just read");
            // The first is used again and again.
            assert!(!is_read(0));
            let state = cache.lock();
            let memory: usize = state
                .slots
                .values()
                .map(|slot| match slot {
                    Slot::Here { object, .. } => object.memory(),
                    Slot::Loading => 0,
                })
                .sum();
            assert_eq!(memory, state.bytes);
            assert!(memory <= KEPT_BYTES, "{memory}");
        }
        let kept = KEPT_BYTES / RAW_BYTES_MAX;
        assert!(!is_read(parts.len() - kept + 1));
        assert!(is_read(1));
        assert!(lock(&cache.tools).len() <= TOOLS_MAX);
    }
}
