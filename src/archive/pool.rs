//! Buffers that are used again, so that a pipeline allocates each of them once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Buffers that were used and may be again.
pub struct Pool<T>(Mutex<Vec<T>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Default> Pool<T> {
    /// One that was used, or a new one.
    pub fn take(&self) -> T {
        self.lock().pop().unwrap_or_default()
    }

    pub fn give(&self, used: T) {
        self.lock().push(used);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool<Vec<u8>> {
    /// Gives back what others may still look at; the last to do so really does.
    pub fn give_shared(&self, used: Arc<Vec<u8>>) {
        if let Some(used) = Arc::into_inner(used) {
            self.give(used);
        }
    }
}
