//! State that this machine keeps about servers: restores and merges under way, and histories of aliases.
//!
//! It lies in one folder: `--state DIR`, else `$XDG_STATE_HOME/snapmerge`, else
//! `~/.local/state/snapmerge`; in it a folder for each server, in it a file for each alias and each
//! collection that is being restored.
//!
//! Invariants: a file is whole or absent; it holds no key; one that cannot be read is an error, not
//! nothing.

use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::base::own;
use crate::server::Address;

/// The folder.
#[derive(Debug, Clone)]
pub struct StateFolder {
    path: PathBuf,
}

/// Subject of a state file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About<'a> {
    /// An alias.
    Alias(&'a str),
    /// A collection that is being restored.
    Restore(&'a str),
    /// Collections that are being restored together, by the digest of what becomes of what.
    RestoreMany(&'a str),
    /// A collection that a merge is written into.
    Replay(&'a str),
}

impl StateFolder {
    /// The folder of the names of collections that were made to be read and removed.
    pub fn lent(&self) -> PathBuf {
        self.path.join("lent")
    }

    /// The folder that was given, or the system's place for it: `home` and `state_home` are what the
    /// environment says.
    pub fn find(
        given: Option<&Path>,
        state_home: Option<PathBuf>,
        home: Option<PathBuf>,
    ) -> Result<Self> {
        let absolute = |path: &PathBuf| path.is_absolute();
        let path = match (given, state_home.filter(absolute), home.filter(absolute)) {
            (Some(given), _, _) => given.to_owned(),
            (None, Some(state), _) => state.join("snapmerge"),
            (None, None, Some(home)) => home.join(".local/state/snapmerge"),
            (None, None, None) => {
                return Err(Error::usage(
                    "looking for the folder of recorded state",
                    "there is neither XDG_STATE_HOME nor HOME",
                )
                .next("give it with --state DIR"));
            }
        };
        Ok(Self { path })
    }

    /// The system's place for it; none if the environment names none.
    pub fn of_environment() -> Option<Self> {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        Self::find(None, variable("XDG_STATE_HOME"), variable("HOME")).ok()
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file about something on a server.
    pub fn file(&self, server: &Address, about: About<'_>) -> PathBuf {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (kind, name) = match about {
            About::Alias(name) => ("alias", name),
            About::Restore(name) => ("restore", name),
            About::RestoreMany(digest) => ("restore-many", digest),
            About::Replay(name) => ("replay", name),
        };
        let server = encode(&server.to_string());
        self.path
            .join(server)
            .join(format!("{kind}-{}.json", encode(name)))
    }

    /// Reads the state about something on a server; none if there is none.
    pub fn read<T: DeserializeOwned>(
        &self,
        server: &Address,
        about: About<'_>,
    ) -> Result<Option<T>> {
        durable::read_json(&self.file(server, about))
            .map_err(|err| err.next("see what is in it, mend it or move it away, and run it again"))
    }

    /// Remembers `value`.
    pub fn write<T: Serialize>(&self, server: &Address, about: About<'_>, value: &T) -> Result<()> {
        let path = self.file(server, about);
        let folder = path.parent().unwrap_or(&self.path);
        own::folder(folder)?;
        durable::write_private_json(&path, value)
    }

    /// Forgets it.
    pub fn remove(&self, server: &Address, about: About<'_>) -> Result<()> {
        let path = self.file(server, about);
        match std::fs::remove_file(&path) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("removing", &path, &err))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_found_again_by_server_and_name() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::find(Some(folder.path()), None, None).unwrap();
        let a = Address::parse("http://a:1").unwrap();
        let b = Address::parse("http://b:1").unwrap();
        let about = About::Alias("album/../x");
        assert_eq!(state.read::<u32>(&a, about).unwrap(), None);
        state.write(&a, about, &7).unwrap();
        assert_eq!(state.read::<u32>(&a, about).unwrap(), Some(7));
        assert_eq!(state.read::<u32>(&b, about).unwrap(), None);
        let other = About::Restore("album/../x");
        assert_eq!(state.read::<u32>(&a, other).unwrap(), None);
        assert!(state.file(&a, about).starts_with(folder.path()));
        std::fs::write(state.file(&a, about), b"{").unwrap();
        assert!(state.read::<u32>(&a, about).is_err());
        state.remove(&a, about).unwrap();
        state.remove(&a, about).unwrap();
        assert_eq!(state.read::<u32>(&a, about).unwrap(), None);
    }

    #[test]
    fn the_folder_is_what_was_given_or_the_systems() {
        let find = |given: Option<&str>, state: Option<&str>, home: Option<&str>| {
            let path = |text: Option<&str>| text.map(PathBuf::from);
            StateFolder::find(given.map(Path::new), path(state), path(home)).map(|it| it.path)
        };
        assert_eq!(find(Some("x"), Some("/s"), None).unwrap(), Path::new("x"));
        let state = find(None, Some("/s"), Some("/h")).unwrap();
        assert_eq!(state, Path::new("/s/snapmerge"));
        let home = find(None, Some("relative"), Some("/h")).unwrap();
        assert_eq!(home, Path::new("/h/.local/state/snapmerge"));
        assert!(find(None, None, None).is_err());
    }
}
