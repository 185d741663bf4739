//! The route `scratch`: snapshots restored on a server for as long as they are read there.
//!
//! A server of an older version can read snapshots that the engine here cannot (RocksDB forms,
//! say): it restores the snapshot into a collection of its own, which is scrolled like any live
//! source and then removed.
//!
//! Invariants: the name of such a collection is written down before it is made, in a file that is
//! locked as long as this process lives; what stands in a file without a lock is a leftover of ours
//! and is removed; nothing else is ever removed.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::base::durable;
use crate::base::durable::Log;
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::{Progress, Unit};
use crate::base::status;
use crate::base::status::Remote;
use crate::capture::SCRATCH_PREFIX;
use crate::format::schema::ShardingMethod;
use crate::format::{Algorithm, Form, SnapshotFile};
use crate::restore::keys;
use crate::server::{Connection, Polling, Upload, create_body};
use crate::source::Source;

/// Ending of the names of the files in which collections are recorded.
const ENDING: &str = ".lent.json";
const POLLING: Polling = Polling::every(Duration::from_millis(200));

/// A collection that was made to be read.
#[derive(Debug)]
pub struct ScratchCollection {
    connection: Connection,
    name: String,
    /// Record of the collection's name on disk; none once the collection was given back.
    note: Option<Log>,
    /// Whoever watches this process lets it remove the collection.
    _told: Remote,
}

/// Record of one such collection.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    server: String,
    collection: String,
}

/// Restores every one of `sources` on the server of `connection`, to be read there. `notes` is the
/// folder where names are written down, `scratch` one for files that have to be decompressed.
pub fn scratch_collection(
    sources: &mut [Source],
    connection: &Connection,
    notes: &Path,
    scratch: &Path,
    progress: Progress,
) -> Result<Vec<ScratchCollection>> {
    remove_leftovers(connection, notes)?;
    let mut lent = Vec::new();
    for source in sources.iter_mut().filter(|source| source.live.is_none()) {
        refuse_part(source)?;
        source.verify()?;
        let one = ScratchCollection::new(connection, notes)?;
        one.restore(source, scratch, progress)?;
        source.read_at(connection, &one.name)?;
        lent.push(one);
    }
    Ok(lent)
}

/// A server makes a new collection of a whole one's snapshot only.
fn refuse_part(source: &Source) -> Result<()> {
    match source.snapshot.form {
        Form::Collection => Ok(()),
        form => Err(Error::usage(
            format!("restoring {} to read it", source.snapshot.what()),
            format!(
                "it is a {}, and no server makes a collection of that",
                form.words()
            ),
        )
        .next("take a snapshot of the collection, or leave --route scratch out")),
    }
}

impl ScratchCollection {
    /// Writes a new name down.
    fn new(connection: &Connection, notes: &Path) -> Result<Self> {
        let name = format!("{SCRATCH_PREFIX}{}", Uuid::new_v4().simple());
        // Told before it is there: this process may be asked to stop at any moment.
        let told = status::remote(&format!("collection {name} of {}", connection.address()));
        let (mut log, _) = Log::open(&notes.join(format!("{name}{ENDING}")))?;
        let note = Note {
            server: connection.address().to_string(),
            collection: name.clone(),
        };
        log.add(&note)?;
        Ok(Self {
            connection: connection.clone(),
            _told: told,
            name,
            note: Some(log),
        })
    }

    fn restore(&self, source: &Source, scratch: &Path, progress: Progress) -> Result<()> {
        let connection = &self.connection;
        if *source.config.sharding_method() == ShardingMethod::Custom {
            // Into a new name a server restores nothing of it, and says that it did.
            let body = create_body(&source.config);
            connection.create_collection(&self.name, body.into())?;
            let steps = keys::steps(&source.shard_keys).map_err(|err| {
                err.next("merge the live collection itself, or a snapshot whose keys have numbers in a row")
            })?;
            keys::create(connection, &self.name, &steps)?;
        }
        let plain = plain(source, scratch)?;
        let file = &plain.file;
        let failed = |err| Error::reading(format!("reading {file}"), &err);
        let bytes = file.bytes()?;
        let stage = progress.stage("restore", Some(bytes), Unit::Bytes);
        let upload = Upload {
            collection: self.name.clone(),
            shard: None,
            file_name: kept_as(&self.name),
            bytes,
            sha256: plain.sha256.clone(),
            rate: None,
            sent: stage.counter(),
        };
        let open = || file.reader().map_err(failed);
        connection.upload_snapshot(&upload, open, || upload.landed(connection))?;
        drop(plain);
        self.wait(source)
    }

    /// Waits until the log is taken in, and refuses what was not restored whole.
    fn wait(&self, source: &Source) -> Result<()> {
        let doing = format!("restoring {} to read it", source.snapshot.what());
        let refuse = |why: String| Error::new(Kind::Refused, doing.clone(), why);
        self.connection.wait_until(&doing, POLLING, || {
            let info = self.connection.collection(&self.name)?;
            let info = info.ok_or_else(|| refuse("the server has no such collection".into()))?;
            if info.status == "red" {
                return Err(refuse(format!("the server says {}", info.optimizer_status)));
            }
            Ok((info.queued() == 0).then_some(()))
        })?;
        let topology = self.connection.topology(&self.name)?;
        let bad: Vec<String> = topology
            .replicas()
            .filter(|(_, _, state)| *state != crate::server::ACTIVE)
            .map(|(shard, _, state)| format!("shard {shard} is {state}"))
            .collect();
        if bad.is_empty() {
            return Ok(());
        }
        Err(refuse(bad.join(", ")).next("look at the server's log: it could not load the snapshot"))
    }

    /// Returns the collection's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Removes the collection.
    pub fn drop_remote(mut self) -> Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> Result<()> {
        let Some(note) = &self.note else {
            return Ok(());
        };
        erase(&self.connection, &self.name)
            .map_err(|err| err.next("the next run with this --scratch-server removes it"))?;
        durable::remove(note.path())?;
        self.note = None;
        Ok(())
    }
}

impl Drop for ScratchCollection {
    fn drop(&mut self) {
        // A collection that cannot be removed now stays recorded, and is removed by the next run.
        let _ = self.remove();
    }
}

/// A snapshot as a server takes it.
struct Plain {
    file: SnapshotFile,
    sha256: String,
    /// True if it was decompressed for this, and is to be removed afterwards.
    own: bool,
}

impl Drop for Plain {
    fn drop(&mut self) {
        if let (true, Some(path)) = (self.own, self.file.path()) {
            // It lies in scratch, which goes away as a whole.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The snapshot of `source`, decompressed into `scratch` if it has to be.
fn plain(source: &Source, scratch: &Path) -> Result<Plain> {
    let snapshot = &source.snapshot;
    let hashes = match &snapshot.hashes {
        Some(hashes) => Some(hashes.clone()),
        None => snapshot.hash(Algorithm::Sha256)?,
    };
    let sha256 = hashes
        .map(|hashes| hashes.content)
        .ok_or_else(|| Error::failed(format!("hashing {}", snapshot.what()), "there is no hash"))?;
    if !snapshot.compressed {
        return Ok(Plain {
            file: snapshot.file.clone(),
            sha256,
            own: false,
        });
    }
    let path = scratch.join(format!("{}.snapshot", Uuid::new_v4().simple()));
    let mut to = crate::base::scratch::create(&path)?;
    snapshot.decompress(&mut to)?;
    Ok(Plain {
        file: path.as_path().into(),
        sha256,
        own: true,
    })
}

/// The name that the server keeps the snapshot under that the collection `name` is made of.
fn kept_as(name: &str) -> String {
    format!("{name}.snapshot")
}

/// Removes the collection `name`, and before it the server's copy of what was uploaded: without its
/// collection it stays on the disk, where no call reaches it.
fn erase(connection: &Connection, name: &str) -> Result<()> {
    connection.delete_snapshot(name, &kept_as(name))?;
    Ok(connection.delete_collection(name)?)
}

/// Removes collections of the server of `connection` that killed runs of ours made and left, by what
/// is written down in `notes`.
fn remove_leftovers(connection: &Connection, notes: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(notes) {
        Ok(entries) => entries,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(Error::io("reading", notes, &err)),
    };
    let server = connection.address().to_string();
    for entry in entries {
        let path = entry
            .map_err(|err| Error::io("reading", notes, &err))?
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !(name.starts_with(SCRATCH_PREFIX) && name.ends_with(ENDING)) {
            continue;
        }
        // With its lock held its process lives.
        let Ok((log, text)) = Log::open(&path) else {
            continue;
        };
        let note: Option<Note> = serde_json::from_str(&text).ok();
        match note {
            Some(note) if note.server != server => continue,
            Some(note) if note.collection.starts_with(SCRATCH_PREFIX) => {
                erase(connection, &note.collection)?;
            }
            // Killed before its name was whole: then the collection was not made.
            _ => {}
        }
        durable::remove(log.path())?;
    }
    Ok(())
}
