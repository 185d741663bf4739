//! Captures of what changed since an entry of an archive.
//!
//! A server tells of each file of a segment how far it is, and sends what is newer than what it is told
//! (`format::ShardManifest`). What comes of a capture is an entry as whole as any other: what did not
//! change is taken from the objects of the entry before, each of which is hashed as it is read.
//!
//! Invariants: what is sent to the server is what the archive's entry was captured with, and nothing else;
//! numbers are compared within one lineage alone; whatever does not fit, all of the collection is
//! captured, and it is told why; every Nth capture is whole and compared with what an increment would have
//! been.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};

use super::check::check;
use super::compose::{Composed, Older, compose};
use super::journal::Work;
use super::manifest::{Form, Manifest, PartialState, PeerPart};
use super::observe::{Observation, observe};
use super::options::{Checked, Increment, Incremental, IncrementalOptions};
use super::part::Hashes;
use super::proof::{Base, Start, TelemetryAge};
use super::stream::{StreamScope, StreamedShards, stream};
use super::unfit::Unfit;
use super::whole::{Span, can_stream, check_whole, manifest, recheck, streamed_name};
use super::{CaptureOptions, Captured, capture, capture_as, open_work, store};
use crate::archive::{Added, Adding, Archive, Entry, Stored, newest};
use crate::base::error::{Error, Kind, Result};
use crate::format::{Composition, Snapshot, SnapshotFile, StoredSnapshot, Want};
use crate::source::{ShardIds, Spill};

/// An archive that a capture is stored in, and how.
pub struct Storing<'a> {
    /// The archive.
    pub archive: &'a Archive,
    /// Name that the entry gets.
    pub name: &'a str,
    /// Words that it is kept by.
    pub tags: &'a [String],
    /// Options of the increment.
    pub options: IncrementalOptions,
}

/// Captures a collection and stores it: what changed, if that can be. The file of a whole capture lies
/// where it was captured to, for the caller to discard.
pub fn capture_into(
    request: &CaptureOptions<'_>,
    storing: &Storing<'_>,
) -> Result<(Captured, Added)> {
    let (mut captured, added) = if storing.options.incremental == Incremental::Off {
        let captured = capture(request)?;
        let added = stored(&captured, storing)?;
        (captured, added)
    } else {
        match StoredBase::find(storing, request.collection) {
            Ok(base) => after(request, storing, &base)?,
            Err(unfit) => whole(request, storing, unfit.why()?)?,
        }
    };
    // It is in the archive, and long.
    captured.manifest.partial = None;
    Ok((captured, added))
}

/// Captures what changed since `base`, or all of it.
fn after(
    request: &CaptureOptions<'_>,
    storing: &Storing<'_>,
    base: &StoredBase,
) -> Result<(Captured, Added)> {
    let due = base.why_due(storing);
    let is_due = due.is_some();
    let why = if let Some(why) = due {
        why
    } else {
        match increment(request, storing, base) {
            Ok(done) => return Ok(done),
            Err(unfit) => unfit.why()?,
        }
    };
    let done = whole(request, storing, why)?;
    compared(storing, base, is_due, done)
}

/// A whole capture, after it was compared with what an increment of `base` would have taken.
pub(super) fn compared(
    storing: &Storing<'_>,
    base: &StoredBase,
    is_due: bool,
    (mut captured, added): (Captured, Added),
) -> Result<(Captured, Added)> {
    let older = (&base.entry, &base.state);
    let newer = (&added.entry, captured.manifest.partial.as_ref());
    let checked = match check(storing.archive, older, newer) {
        Ok(checked) => checked,
        Err(err) if err.kind() == Kind::Cancelled => return Err(err),
        Err(err) => Checked::NotCompared {
            why: format!("{}: {}", err.doing(), err.why()),
        },
    };
    // That there is nothing to compare with is of interest only where it was to be.
    if is_due || !matches!(checked, Checked::NotCompared { .. }) {
        captured.increment.get_or_insert_default().checked = Some(checked);
    }
    Ok((captured, added))
}

fn stored(captured: &Captured, storing: &Storing<'_>) -> Result<Added> {
    store(
        storing.archive,
        &captured.file,
        &captured.manifest,
        storing.name,
        storing.tags,
    )
}

/// Captures all of it, since `why`.
fn whole(
    request: &CaptureOptions<'_>,
    storing: &Storing<'_>,
    why: String,
) -> Result<(Captured, Added)> {
    let captured = capture_as(request, storing.options.incremental)?;
    whole_stored(captured, storing, why)
}

/// Stores what was captured whole, since `why`.
pub(super) fn whole_stored(
    mut captured: Captured,
    storing: &Storing<'_>,
    why: String,
) -> Result<(Captured, Added)> {
    let added = stored(&captured, storing)?;
    let increment = captured.increment.get_or_insert_default();
    increment.moved_bytes = captured.manifest.moved_bytes();
    increment.why_whole = Some(why);
    Ok((captured, added))
}

/// An entry that a capture can be built on.
pub(super) struct StoredBase {
    entry: Entry,
    file: SnapshotFile,
    state: PartialState,
}

impl StoredBase {
    /// The newest entry of the name that something can be built on.
    pub(super) fn find(storing: &Storing<'_>, collection: &str) -> Result<Self, Unfit> {
        let chain = storing.archive.chain_to_add_to()?;
        if chain.is_closed() {
            return Err("the archive is encrypted, and its key was not given".into());
        }
        let entries = chain.entries_there();
        let of_it = entries.iter().map(AsRef::as_ref).filter(|entry| {
            let told = entry.manifest.as_ref();
            let of = told.and_then(|told| told["collection"].as_str());
            entry.name == storing.name && of == Some(collection)
        });
        let Some(entry) = newest(of_it, Utc::now()).cloned() else {
            return Err("the archive has nothing yet that it could be built on".into());
        };
        let mut recipe = storing.archive.recipe(&entry)?;
        // What another version wrote there may be anything.
        let state = recipe.state.take();
        let state = state.and_then(|state| serde_json::from_value::<PartialState>(state).ok());
        let Some(state) = state else {
            return Err(Unfit::from(format!(
                "{} was captured in a way that nothing can be built on",
                entry.id
            )));
        };
        state
            .shards
            .values()
            .try_for_each(|shard| shard.validate())?;
        let reader = storing.archive.reader();
        let file = SnapshotFile::from(reader.open_by(recipe, &entry, &entry.id));
        Ok(Self { entry, file, state })
    }

    /// Why the next capture is to be whole, if it is.
    pub(super) fn why_due(&self, storing: &Storing<'_>) -> Option<String> {
        let every = storing.options.full_every;
        let is_due = self.state.increments.saturating_add(1) >= every.get();
        is_due.then(|| format!("one of {every} is"))
    }

    /// The composed snapshot, as if it were a file called `name`.
    fn whole(&self, composition: Arc<Composition>, name: &str) -> SnapshotFile {
        SnapshotFile::from(StoredSnapshot {
            reference: format!("what changed since {}, put together with it", self.entry.id),
            id: name.to_owned(),
            name: name.strip_suffix(".snapshot").unwrap_or(name).to_owned(),
            bytes: composition.bytes(),
            // Nobody has read it yet.
            sha256: String::new(),
            parts_sha256: String::new(),
            manifest: None,
            parts: composition,
        })
    }

    /// Streams what is newer, and puts it together with this.
    fn newer(
        &self,
        request: &CaptureOptions<'_>,
        before: &Observation,
        work: &Work,
        age: TelemetryAge,
    ) -> Result<(StreamedShards, Composed, Base), Unfit> {
        can_stream(request, before)?;
        let start = Start::of(request, age)?;
        let lineage = &start.lineage;
        if let Some(why) = lineage.parts_from(&self.state.lineage) {
            return Err(why.into());
        }
        // Of a shard that has taken in nothing, the server could not tell whether it still has not.
        let mut have = self.state.shards.clone();
        have.retain(|_, shard| !shard.is_empty());
        let streamed = stream(request, before, work, StreamScope::Newer(&have))?;
        let mut unchanged = BTreeSet::new();
        for (shard, newer) in &streamed.shards {
            let number = |state: &BTreeMap<u32, u64>| state.get(shard).copied();
            let (then, now) = (
                number(&self.state.lineage.operations),
                number(&lineage.operations),
            );
            if newer.is_some() {
                continue;
            }
            match (then, now) {
                (Some(then), Some(now)) if then == now => {
                    unchanged.insert(*shard);
                }
                (Some(then), Some(now)) => {
                    return Err(Unfit::from(format!(
                        "the server says that nothing has changed in shard {shard}, but its log went \
                         on from operation {then} to {now}"
                    )));
                }
                _ => {
                    return Err(Unfit::from(format!(
                        "the server says that nothing has changed in shard {shard}, and not how far \
                         its log is"
                    )));
                }
            }
        }
        let older = Older {
            file: &self.file,
            shards: &self.state.shards,
        };
        let composed = compose(&older, &streamed)?;
        let base = Base {
            start,
            unchanged,
            shards: composed.shards.clone(),
        };
        Ok((streamed, composed, base))
    }
}

/// Captures what changed since `base` and stores it.
fn increment(
    request: &CaptureOptions<'_>,
    storing: &Storing<'_>,
    base: &StoredBase,
) -> Result<(Captured, Added), Unfit> {
    Newer::stream(request, base, TelemetryAge::New)?.store(request, storing, base)
}

/// Changes since an entry, streamed and composed with it, and not stored yet.
pub(super) struct Newer {
    work: Work,
    put: PutTogether,
}

struct PutTogether {
    started: DateTime<Utc>,
    before: Observation,
    after: Observation,
    peers: Vec<PeerPart>,
    file: SnapshotFile,
    name: String,
    config: Vec<u8>,
    next: Base,
    notes: Vec<String>,
    read_until: Instant,
}

impl Newer {
    /// Streams what changed since `base`.
    pub(super) fn stream(
        request: &CaptureOptions<'_>,
        base: &StoredBase,
        age: TelemetryAge,
    ) -> Result<Self, Unfit> {
        let work = open_work(request)?;
        if work.journal.is_some() {
            return Err("a whole capture that was killed is resumed".into());
        }
        match put_together(request, base, &work, age) {
            Ok(put) => Ok(Self { work, put }),
            Err(unfit) => {
                // Why it does not fit is what the user needs to know.
                let _ = work.remove();
                Err(unfit)
            }
        }
    }

    /// Bytes that came from the server.
    pub(super) fn bytes(&self) -> u64 {
        self.put.peers.iter().map(|part| part.bytes).sum()
    }

    /// Stores it, if nothing came in between.
    pub(super) fn store(
        self,
        request: &CaptureOptions<'_>,
        storing: &Storing<'_>,
        base: &StoredBase,
    ) -> Result<(Captured, Added), Unfit> {
        let done = store_newer(request, storing, base, self.put);
        let removed = self.work.remove();
        let done = done?;
        removed?;
        Ok(done)
    }

    /// Removes what was streamed.
    pub(super) fn discard(self) -> Result<()> {
        self.work.remove()
    }
}

fn put_together(
    request: &CaptureOptions<'_>,
    base: &StoredBase,
    work: &Work,
    age: TelemetryAge,
) -> Result<PutTogether, Unfit> {
    let started = Utc::now();
    let before = observe(request.members, request.collection)?;
    let (streamed, composed, next) = base.newer(request, &before, work, age)?;
    let mut notes = before.notes(request.collection);
    let after = recheck(request, &before, true, &mut notes)?;
    let read_until = Instant::now();
    let name = streamed_name(request, &before)?;
    let file = base.whole(composed.composition, &name);
    let want = Want {
        trackers: true,
        ..Want::default()
    };
    let snapshot = Snapshot::open(&file, want, None)?;
    let config = check_whole(&snapshot, &before, true)?;
    count(&snapshot, (&before, &after), work.path())?;
    drop(snapshot);
    Ok(PutTogether {
        started,
        before,
        after,
        peers: streamed.peers,
        file,
        name,
        config,
        next,
        notes,
        read_until,
    })
}

fn store_newer(
    request: &CaptureOptions<'_>,
    storing: &Storing<'_>,
    base: &StoredBase,
    put: PutTogether,
) -> Result<(Captured, Added), Unfit> {
    let state = PartialState {
        base: Some(base.entry.id.clone()),
        increments: base.state.increments + 1,
        ..put.next.end(request, put.read_until)?
    };
    let span = Span {
        started: put.started,
        before: &put.before,
        after: &put.after,
    };
    let what = (Form::Incremental, put.peers.as_slice());
    let describe = |stored: Stored<'_>| {
        let hashes = Hashes {
            sha256: stored.sha256.to_owned(),
            blake3: stored.blake3.to_owned(),
        };
        let described = Manifest {
            partial: Some(state.clone()),
            ..manifest(request, &span, what, (stored.bytes, &hashes), &put.config)?
        };
        serde_json::to_value(described).map_err(|err| Error::failed("writing the manifest", err))
    };
    let adding = Adding {
        name: Some(storing.name.to_owned()),
        time: Some(put.started),
        tags: storing.tags.to_vec(),
        is_capture: true,
        ..Adding::of(put.file)
    };
    let added = storing.archive.add_described(&adding, &describe)?;
    let manifest = added.entry.manifest.clone().unwrap_or_default();
    let manifest: Manifest = serde_json::from_value(manifest)
        .map_err(|err| Error::failed("reading the manifest", err))?;
    let captured = Captured {
        file: request.folder.join(put.name),
        notes: put.notes,
        read_until: Some(put.read_until),
        left: Vec::new(),
        finished_earlier: false,
        increment: Some(Increment {
            base: Some(base.entry.id.clone()),
            moved_bytes: manifest.moved_bytes(),
            ..Increment::default()
        }),
        manifest,
    };
    Ok((captured, added))
}

/// Counts the points of each shard, which have to be as many as the server counts.
fn count(
    snapshot: &Snapshot,
    (before, after): (&Observation, &Observation),
    folder: &Path,
) -> Result<(), Unfit> {
    let spill = Spill::within(folder);
    for (number, shard) in &snapshot.shards {
        let told = |observation: &Observation| observation.shard_points.get(number).copied();
        let (Some(before), Some(after)) = (told(before), told(after)) else {
            return Err(Unfit::from(format!(
                "the server does not count shard {number}"
            )));
        };
        let (ids, _) = ShardIds::of(shard, &snapshot.what(), &spill)?;
        let survey = ids.survey(None)?;
        if !survey.is_whole {
            return Err(Unfit::from(format!(
                "the ids of shard {number} cannot be read here"
            )));
        }
        // As many as there were at some moment in between, if somebody wrote.
        if !(before.min(after)..=before.max(after)).contains(&survey.ids) {
            return Err(Unfit::from(format!(
                "shard {number} comes to {} points, and the server counts {before} before and {after} \
                 after",
                survey.ids
            )));
        }
        if survey.in_several > 0 {
            return Err(Unfit::from(format!(
                "{} points of shard {number} lie in several segments",
                survey.in_several
            )));
        }
    }
    Ok(())
}
