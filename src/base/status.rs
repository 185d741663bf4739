//! Status of this process, reported to the process that watches it.
//!
//! The storage engine can die of a damaged file by a signal, which nothing in the same process can
//! catch. So the work is done in a child, and the parent must know what it was doing and what it
//! left.
//!
//! Invariants: the acts in it are those that are going on at this moment, in all threads; a process
//! that nobody watches pays nothing for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

static WATCHED: Mutex<Option<Watched>> = Mutex::new(None);

struct Watched {
    file: File,
    next: u64,
    /// Each with whether it is done to files that this process made itself.
    acts: BTreeMap<u64, (String, bool)>,
    folders: Vec<PathBuf>,
    publishing: Vec<Publishing>,
    /// Items that were made on servers and are to be removed.
    remote: BTreeMap<u64, String>,
    answer: Option<String>,
}

/// A file that is about to get its final name, or has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publishing {
    /// Path until then.
    pub staged: PathBuf,
    /// Final path.
    pub target: PathBuf,
}

/// Last status that a process reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Acts that were going on, one for each thread.
    pub acts: Vec<String>,
    /// True if all of these acts were done to files that the process had made itself.
    #[serde(default)]
    pub only_own: bool,
    /// Folders of its that go away with it.
    pub folders: Vec<PathBuf>,
    /// Files that it was about to publish, or has published.
    pub publishing: Vec<Publishing>,
    /// Items that it made on servers and has not removed yet: it must be asked to stop, not killed.
    #[serde(default)]
    pub remote: Vec<String>,
    /// The answer to the request that it was given, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

impl Status {
    /// The files that were published; asked before [`Self::folders`] are removed.
    pub fn published(&self) -> Vec<&Path> {
        self.publishing
            .iter()
            .filter(|file| !file.staged.exists() && file.target.exists())
            .map(|file| file.target.as_path())
            .collect()
    }
}

/// Tells everything from now on to `file`.
pub fn watch(file: File) {
    *lock() = Some(Watched {
        file,
        next: 0,
        acts: BTreeMap::new(),
        folders: Vec::new(),
        publishing: Vec::new(),
        remote: BTreeMap::new(),
        answer: None,
    });
}

/// An act that goes on until this is dropped.
#[derive(Debug)]
pub struct Act {
    number: Option<u64>,
}

/// Tells that `doing` begins; `own` says that it is done to files that this process made itself.
pub fn act(doing: &dyn Fn() -> String, own: bool) -> Act {
    let mut watched = lock();
    let number = watched.as_mut().map(|watched| {
        let number = watched.next;
        watched.next += 1;
        watched.acts.insert(number, (doing(), own));
        watched.tell();
        number
    });
    Act { number }
}

impl Drop for Act {
    fn drop(&mut self) {
        if let (Some(number), Some(watched)) = (self.number, lock().as_mut()) {
            watched.acts.remove(&number);
            watched.tell();
        }
    }
}

/// Something on a server that is to be removed; told until this is dropped.
#[derive(Debug)]
pub struct Remote {
    number: Option<u64>,
}

/// Tells that `what` was made on a server, and that whoever made it removes it when asked to stop
/// ([`crate::base::stop`]).
pub fn remote(what: &str) -> Remote {
    let mut watched = lock();
    let number = watched.as_mut().map(|watched| {
        let number = watched.next;
        watched.next += 1;
        watched.remote.insert(number, what.to_owned());
        watched.tell();
        number
    });
    Remote { number }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let (Some(number), Some(watched)) = (self.number, lock().as_mut()) {
            watched.remote.remove(&number);
            watched.tell();
        }
    }
}

/// Tells that `folder` is to go away with this process.
pub fn folder(folder: &Path) {
    if let Some(watched) = lock().as_mut() {
        watched.folders.push(folder.to_owned());
        watched.tell();
    }
}

/// Tells that the file `staged` is about to become `target`.
pub fn publishing(staged: &Path, target: &Path) {
    if let Some(watched) = lock().as_mut() {
        watched.publishing.push(Publishing {
            staged: staged.to_owned(),
            target: target.to_owned(),
        });
        watched.tell();
    }
}

/// Answers the request that this process was given.
pub fn answer(answer: String) {
    if let Some(watched) = lock().as_mut() {
        watched.answer = Some(answer);
        watched.tell();
    }
}

/// The status that was written to `file` last; an empty one if that cannot be read.
pub fn read(file: &File) -> Status {
    let text = get(file).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Writes a message into `file` in place of the one that is there.
pub fn put(file: &File, message: &[u8]) -> io::Result<()> {
    let mut bytes = (message.len() as u64).to_le_bytes().to_vec();
    bytes.extend(message);
    file.write_all_at(&bytes, 0)
}

/// The message in `file`.
pub fn get(file: &File) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    file.read_exact_at(&mut length, 0)?;
    let length = u64::from_le_bytes(length).min(file.metadata()?.len());
    let mut message = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut message, 8)?;
    Ok(message)
}

impl Watched {
    fn tell(&self) {
        let status = Status {
            acts: self.acts.values().map(|(act, _)| act.clone()).collect(),
            only_own: !self.acts.is_empty() && self.acts.values().all(|(_, own)| *own),
            folders: self.folders.clone(),
            publishing: self.publishing.clone(),
            remote: self.remote.values().cloned().collect(),
            answer: self.answer.clone(),
        };
        let Ok(text) = serde_json::to_vec(&status) else {
            return;
        };
        // Whoever watches gets less of an explanation if this fails; the work goes on.
        let _ = put(&self.file, &text);
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<Watched>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_told_and_what_ended_is_not() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(read(&file), Status::default());
        watch(file.try_clone().unwrap());
        folder(Path::new("scratch"));
        let long = act(&|| "opening shard 0 of a.snapshot".into(), false);
        drop(act(&|| "counting".into(), true));
        let status = read(&file);
        assert!(
            status
                .acts
                .contains(&"opening shard 0 of a.snapshot".to_owned())
        );
        assert!(!status.acts.contains(&"counting".to_owned()));
        assert!(status.folders.contains(&PathBuf::from("scratch")));
        drop(long);
        assert!(
            !read(&file)
                .acts
                .contains(&"opening shard 0 of a.snapshot".to_owned())
        );
        *lock() = None;
    }
}
