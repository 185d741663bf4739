//! The sources of a night: found on their servers, captured unless nothing was written to them, and
//! kept in the archive.
//!
//! Invariants: a source is passed over only by a certain sign, and only while its last snapshot is in
//! the archive; one that cannot be captured does not keep the others from being captured; masters of
//! this plan are no sources of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::Utc;
use serde_json::{Value, json};
use wildmatch::WildMatch;

use super::journal::is_run_id;
use super::plan::{IfBroken, Plan};
use super::report::{How, RunSource};
use super::run::{INCOMING, Run};
use super::state::SourceState;
use super::target::{ArchivedSource, Prepared, Target};
use crate::archive::{Entry, newest};
use crate::base::error::{Error, Result};
use crate::base::own;
use crate::base::progress::Progress;
use crate::capture::{
    CaptureOptions, Captured, Checked, Members, Storing, capture_into, captured_earlier,
    change_token_after, clear_leftovers, discard, matching, store,
};

/// Returns true if `collection` is a master that this plan made: `NAME_20261122_030000`.
fn is_master(plan: &Plan, collection: &str) -> bool {
    let Some(master) = &plan.master else {
        return false;
    };
    let rest = collection.strip_prefix(master.name.as_str());
    rest.and_then(|rest| rest.strip_prefix('_'))
        .is_some_and(is_run_id)
}

/// The collections that `plan` means, in its order; what is worth knowing of them is added to `notes`.
pub fn targets(
    plan: &Plan,
    servers: &BTreeMap<String, Members>,
    notes: &mut Vec<String>,
) -> Result<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    for (of, source) in plan.sources.iter().enumerate() {
        let members = servers.get(&source.server).ok_or_else(|| {
            Error::usage(
                format!("looking for server {}", source.server),
                "there is none",
            )
        })?;
        let except: Vec<WildMatch> = source
            .except
            .iter()
            .map(|one| WildMatch::new(one))
            .collect();
        let there = matching(&members.first, &source.collections)?;
        notes.extend(there.note());
        let before = targets.len();
        for collection in there.names {
            let target = Target {
                server: source.server.clone(),
                name: format!("{}{collection}", source.prefix),
                collection,
                of,
            };
            let is_out = except.iter().any(|one| one.matches(&target.collection))
                || is_master(plan, &target.collection)
                || targets.iter().any(|one| one.key() == target.key());
            if is_out {
                continue;
            }
            let clash = plan
                .master
                .as_ref()
                .is_some_and(|one| one.name == target.name);
            if let Some(other) = named
                .insert(target.name.clone(), target.key())
                .or_else(|| clash.then(|| "the master".to_owned()))
            {
                return Err(Error::usage(
                    format!("naming {} in the archive", target.key()),
                    format!("{other} is called {} already", target.name),
                )
                .next("give one of the sources a prefix = \"…\" in the plan"));
            }
            targets.push(target);
        }
        if targets.len() == before {
            return Err(Error::usage(
                format!("looking for sources[{of}] of the plan"),
                format!(
                    "of {} nothing is left that is not a master, excepted or named before",
                    source.collections.join(", ")
                ),
            )
            .next("look at its collections and except"));
        }
    }
    Ok(targets)
}

impl Run<'_> {
    /// Captures a source and keeps it, unless its last snapshot is what it is now.
    pub(super) fn source(&mut self, target: &Target) -> Result<ArchivedSource> {
        let (step, inputs) = self.step_of(target)?;
        let done = self.step(
            &step,
            &inputs,
            |run, kept: &ArchivedSource| Ok(run.entry(&kept.entry, &kept.sha256)?.is_some()),
            |run| run.take(target),
        );
        let kept = done.map_err(|(_, err)| err)?;
        // Only now that it is written down: killed before, it is stored from here.
        let folder = self.incoming(&target.server);
        if let Some((file, _)) = captured_earlier(&folder, &target.collection)? {
            discard(&file)?;
        }
        self.tell(target, &kept);
        Ok(kept)
    }

    /// The step that captures `target`, and its inputs.
    pub(super) fn step_of(&self, target: &Target) -> Result<(String, Value)> {
        let address = self.members(&target.server)?.first.address().to_string();
        let inputs = json!({ "server": address, "name": target.name });
        Ok((format!("capture {}", target.key()), inputs))
    }

    /// Options to capture `target` into the folder.
    pub(super) fn capture_options<'a>(
        &'a self,
        target: &'a Target,
        folder: &'a Path,
    ) -> Result<(CaptureOptions<'a>, Storing<'a>)> {
        let source = self.plan.sources.get(target.of);
        let options = CaptureOptions {
            members: self.members(&target.server)?,
            collection: &target.collection,
            folder,
            stream: source.is_some_and(|source| source.stream),
            rate: self.plan.rate,
            require_checksum: source.is_some_and(|source| source.require_checksum),
            own_restores: &self.state_file.state.own_restores,
            progress: Progress::Quiet,
        };
        let storing = Storing {
            archive: &self.archive,
            name: &target.name,
            tags: &self.plan.archive.tags,
            options: source.map(|source| source.incremental).unwrap_or_default(),
        };
        Ok((options, storing))
    }

    /// Folder of what is being captured from the server called `server`.
    pub(super) fn incoming(&self, server: &str) -> PathBuf {
        self.plan.work.join(INCOMING).join(server)
    }

    fn take(&mut self, target: &Target) -> Result<ArchivedSource> {
        let Prepared { before, ahead } = self.prepared(target)?;
        let members = self.members(&target.server)?;
        let mut note = before.as_ref().err().cloned();
        let mut is_sure = note.is_none();
        if let Some(seen) = self.state_file.state.sources.get(&target.key())
            && let Some(known) = &seen.sign
            && before.as_ref().ok() == Some(known)
            && let Some(entry) = self.entry(&seen.entry, &seen.sha256)?
        {
            let points = Some(known.points);
            return Ok(kept(target, &entry, points, How::Unchanged, None, 0));
        }
        let folder = self.incoming(&target.server);
        own::folder(&folder)?;
        let mut read_until = None;
        // Files here were captured in this same run: the folder is cleared when a run starts.
        let (added, manifest, moved_bytes) = match captured_earlier(&folder, &target.collection)? {
            Some((file, manifest)) => {
                is_sure = false;
                note = Some("captured by a run that was interrupted".into());
                // It may have left the server's own snapshot behind.
                for left in clear_leftovers(members, &folder, &[])? {
                    tracing::warn!(left, "left by an earlier run");
                }
                let tags = &self.plan.archive.tags;
                let added = store(&self.archive, &file, &manifest, &target.name, tags)?;
                (added, manifest, None)
            }
            None => {
                let (options, storing) = self.capture_options(target, &folder)?;
                let (captured, added) = match ahead? {
                    Some(ahead) => ahead.store(&options, &storing)?,
                    None => {
                        let collection = std::slice::from_ref(&target.collection);
                        for left in clear_leftovers(members, &folder, collection)? {
                            tracing::warn!(left, "left by an earlier run");
                        }
                        capture_into(&options, &storing)?
                    }
                };
                read_until = captured.read_until;
                let why = self.captured(target, &captured);
                note = note.or(why);
                let moved = captured.increment.map(|one| one.moved_bytes);
                (added, captured.manifest, moved)
            }
        };
        // Only what was so before and after is certainly what was captured.
        let certain = match (&before, read_until) {
            (Ok(before), Some(read_until)) if is_sure => {
                let members = self.members(&target.server)?;
                let after = change_token_after(members, &target.collection, read_until)?;
                after.ok().filter(|after| after == before)
            }
            _ => None,
        };
        self.stored(&added);
        let seen = SourceState {
            entry: added.entry.id.clone(),
            sha256: added.entry.sha256.clone(),
            sign: certain,
        };
        self.state_file.state.sources.insert(target.key(), seen);
        self.state_file.write()?;
        let new_bytes = if added.already {
            0
        } else {
            added.entry.new_bytes
        };
        Ok(ArchivedSource {
            moved_bytes,
            ..kept(
                target,
                &added.entry,
                manifest.points,
                How::Captured,
                note,
                new_bytes,
            )
        })
    }

    /// Tells what came of a capture. Why all of it was moved, if it was.
    fn captured(&mut self, target: &Target, captured: &Captured) -> Option<String> {
        for what in &captured.notes {
            self.report.notes.push(format!("{}: {what}", target.name));
        }
        for left in &captured.left {
            self.report.differs(format!(
                "{}: {left} could not be removed from the server; the next night tries again",
                target.name
            ));
        }
        let increment = captured.increment.as_ref()?;
        match &increment.checked {
            Some(Checked::Differs {
                base,
                increments,
                files,
            }) => self.report.differs(format!(
                "{}: not as they were in {base}, though the server says so: {}; the last {increments} \
                 captures may be wrong, this one is whole",
                target.name,
                files.join(", ")
            )),
            Some(Checked::NotCompared { why }) => self
                .report
                .notes
                .push(format!("{}: not compared with the entry before: {why}", target.name)),
            Some(Checked::Equal { .. }) | None => {}
        }
        if let Some(why) = &increment.no_base {
            self.report.notes.push(format!(
                "{}: the next capture takes all of it again: {why}",
                target.name
            ));
        }
        increment.why_whole.clone()
    }

    /// Returns the replacement for a source that could not be captured: its newest snapshot in the archive,
    /// if the plan allows that; none otherwise. Adds either case to the report.
    pub(super) fn in_its_place(
        &mut self,
        target: &Target,
        err: &Error,
    ) -> Result<Option<ArchivedSource>> {
        let step = format!("capture {}", target.key());
        let source = self.plan.sources.get(target.of);
        let entries = self.archive.chain()?.entries();
        let of_name = entries.iter().filter(|entry| entry.name == target.name);
        let last = newest(of_name, Utc::now());
        match (source.map(|source| source.if_broken), last) {
            (Some(IfBroken::UseLast), Some(entry)) => {
                let why = format!("{}: {}", err.doing(), err.why());
                self.report.differs(format!(
                    "{} is used in place of {}: {why}",
                    entry.id,
                    target.key()
                ));
                let kept = kept(target, entry, None, How::Last, Some(why), 0);
                self.tell(target, &kept);
                Ok(Some(kept))
            }
            _ => {
                self.report.failed(&step, err);
                self.report.sources.push(RunSource {
                    name: target.name.clone(),
                    collection: target.collection.clone(),
                    server: target.server.clone(),
                    how: How::Broken,
                    entry: None,
                    points: None,
                    bytes: 0,
                    new_bytes: 0,
                    moved_bytes: None,
                    note: Some(err.why().to_owned()),
                });
                Ok(None)
            }
        }
    }

    fn tell(&mut self, target: &Target, kept: &ArchivedSource) {
        self.report.archive.new_bytes += kept.new_bytes;
        self.report.sources.push(RunSource {
            name: kept.name.clone(),
            collection: target.collection.clone(),
            server: target.server.clone(),
            how: kept.how,
            entry: Some(kept.entry.clone()),
            points: kept.points,
            bytes: kept.bytes,
            new_bytes: kept.new_bytes,
            moved_bytes: kept.moved_bytes,
            note: kept.note.clone(),
        });
    }
}

fn kept(
    target: &Target,
    entry: &Entry,
    points: Option<u64>,
    how: How,
    note: Option<String>,
    new_bytes: u64,
) -> ArchivedSource {
    ArchivedSource {
        name: target.name.clone(),
        entry: entry.id.clone(),
        sha256: entry.sha256.clone(),
        bytes: entry.bytes,
        new_bytes,
        points,
        how,
        note,
        moved_bytes: None,
    }
}
