//! A store together with the keys of the archive in it.
//!
//! Invariants: names and bytes are those of the store; what is encrypted is so before it comes here.

use super::{Listed, Store};
use crate::archive::encryption::Keyring;
use crate::base::error::Result;

/// A store, and the keys of what is encrypted in it.
pub struct Keyed {
    store: Box<dyn Store>,
    keyring: Keyring,
}

impl Keyed {
    /// `store` with the keys of `keyring`.
    pub fn new(store: Box<dyn Store>, keyring: Keyring) -> Self {
        Self { store, keyring }
    }
}

impl Store for Keyed {
    fn what(&self) -> String {
        self.store.what()
    }

    fn keyring(&self) -> Option<&Keyring> {
        Some(&self.keyring)
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        self.store.put_new(name, bytes)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.store.replace(name, bytes)
    }

    fn get(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>> {
        self.store.get(name, bytes_max)
    }

    fn get_into(&self, name: &str, bytes_max: u64, to: &mut Vec<u8>) -> Result<bool> {
        self.store.get_into(name, bytes_max, to)
    }

    fn head(&self, name: &str, bytes: u64) -> Result<Option<(Vec<u8>, u64)>> {
        self.store.head(name, bytes)
    }

    fn get_range(&self, name: &str, start: u64, bytes: u64) -> Result<Option<Vec<u8>>> {
        self.store.get_range(name, start, bytes)
    }

    fn remove(&self, name: &str) -> Result<bool> {
        self.store.remove(name)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        self.store.list(folder)
    }

    fn prune(&self) -> Result<()> {
        self.store.prune()
    }

    fn sync(&self) -> Result<()> {
        self.store.sync()
    }

    fn at_once(&self) -> usize {
        self.store.at_once()
    }

    fn take_reserve(&self) -> Result<bool> {
        self.store.take_reserve()
    }

    fn keep_reserve(&self) -> Result<()> {
        self.store.keep_reserve()
    }
}
