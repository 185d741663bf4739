//! Restoring many collections onto a server: all that an archive had at some time, or a snapshot of a
//! whole storage.
//!
//! Invariants: names and aliases of all are looked at before a byte moves, and each snapshot before its own
//! do; nothing that exists is touched unless that was
//! asked for; a collection that fails does not keep the others from being restored; aliases move in one
//! call, and only when every collection came out as its snapshot says; the same request goes on where a
//! run that was interrupted ended.

mod pieces;
mod plan;

use std::path::PathBuf;
use std::time::Instant;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::pieces::{Piece, Pieces};
pub use self::plan::Rename;
use self::plan::{Plan, plan};
use super::{Expected, RestoreOptions, restore, restored_earlier};
use crate::base::error::{Error, Kind, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::base::parallel::in_parallel;
use crate::base::progress::{Progress, Unit};
use crate::base::stop;
use crate::capture::Members;
use crate::server::{About, Address, StateFolder};
use crate::source::{Checksum, Opening};

/// Brings many snapshots onto a server, each as a collection of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RestoreManyRequest {
    /// Entries of an archive, as archive:PATTERN@WHEN, or a snapshot of a whole storage.
    pub snapshots: PathBuf,
    /// The server.
    pub to: Address,
    /// New names of collections; the first rule that fits counts.
    pub rename: Vec<Rename>,
    /// Set the aliases, too.
    pub aliases: bool,
    /// Collections that are restored at once.
    pub jobs: usize,
    /// The options of each.
    #[serde(flatten)]
    pub options: RestoreOptions,
}

/// Snapshots that were restored, or would be.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RestoreManyReport {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    /// The server.
    pub target: Address,
    /// Version of the server.
    pub server_version: String,
    /// True if nothing was to be done.
    pub dry_run: bool,
    /// The collections by name.
    pub collections: Vec<ManyRestored>,
    /// The aliases.
    pub aliases: Vec<ManyAlias>,
    /// True if the aliases were set.
    pub aliases_set: bool,
    /// Checksum of the snapshot of a whole storage, and who gave it; each entry of an archive has its own.
    pub checksum: Option<Checksum>,
    /// Duration in seconds.
    pub seconds: f64,
    /// Notes for the reader.
    pub notes: Vec<String>,
}

/// An alias of restored collections.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ManyAlias {
    /// The alias.
    pub alias: String,
    /// The collection that it is to point to.
    pub collection: String,
    /// The collection that it pointed to before.
    pub before: Option<String>,
}

/// State of a collection that was to be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ManyState {
    /// It would be restored.
    Planned,
    /// It was restored and compared.
    Restored,
    /// An earlier run had restored it; it was compared again.
    RestoredEarlier,
    /// It could not be restored.
    Failed,
}

/// A collection that was restored, or would be.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ManyRestored {
    /// The archive entry, or the collection in the snapshot of a storage.
    pub source: String,
    /// Name on the server.
    pub collection: String,
    /// State of it.
    pub state: ManyState,
    /// Size of its snapshot in bytes.
    pub bytes: u64,
    /// When the snapshot was taken, if that is known.
    pub time: Option<DateTime<Utc>>,
    /// Points: that the server counts, or, of what is planned, that the manifest tells.
    pub points: Option<u64>,
    /// Seconds until it was green and compared.
    pub seconds: Option<f64>,
    /// Values that could not be compared, and why.
    pub open: Vec<String>,
    /// Files that could not be removed from the server.
    pub left: Vec<String>,
    /// Why it could not be restored.
    pub error: Option<Error>,
}

/// Record of a set that is being restored.
#[derive(Serialize, Deserialize)]
struct RunRecord {
    // Its name on disk, where earlier versions wrote it, too.
    #[serde(rename = "begun")]
    started: DateTime<Utc>,
}

impl Operation for RestoreManyRequest {
    const NAME: &'static str = "restore-many";
    type Report = RestoreManyReport;

    fn run(self, context: &Context) -> Result<RestoreManyReport> {
        let started = Instant::now();
        let state = self.options.known.state.folder()?;
        let members = self.options.connect(&self.to)?;
        let pieces = Pieces::find(&self.snapshots, &self.options)?;
        let digest = plan::digest(&pieces, &self.rename)?;
        let about = About::RestoreMany(&digest);
        let earlier: Option<RunRecord> = state.read(&self.to, about)?;
        let is_resumed = self.options.resume || earlier.is_some();
        let plan = plan(&self, &pieces, &members, is_resumed)?;
        let mut report = RestoreManyReport {
            envelope: Envelope::new(Self::NAME, 1, Outcome::DONE),
            target: self.to.clone(),
            server_version: members.first.server_info()?.version,
            dry_run: self.options.dry_run,
            collections: Vec::new(),
            aliases: plan.aliases.clone(),
            aliases_set: false,
            checksum: pieces.checksum.clone(),
            seconds: 0.0,
            notes: Vec::new(),
        };
        if let Some(earlier) = earlier {
            let at = earlier.started.format("%Y-%m-%d %H:%M:%S UTC");
            report
                .notes
                .push(format!("the run that started at {at} is resumed"));
        }
        if self.options.dry_run {
            let planned = plan
                .targets
                .iter()
                .map(|(piece, name)| planned(piece, name));
            report.collections = planned.collect();
            return Ok(report);
        }
        if !is_resumed {
            state.write(
                &self.to,
                about,
                &RunRecord {
                    started: Utc::now(),
                },
            )?;
        }
        let all = All {
            request: &self,
            pieces: &pieces,
            members: &members,
            state: &state,
            is_resumed,
        };
        report.collections = all.restore(&plan, context.progress)?;
        self.finish(&mut report, &members)?;
        if report.collections.iter().all(|one| one.error.is_none()) {
            state.remove(&self.to, about)?;
        }
        report.seconds = started.elapsed().as_secs_f64();
        Ok(report)
    }
}

impl RestoreManyRequest {
    /// Sets the aliases, if every collection is there, and decides the outcome.
    fn finish(&self, report: &mut RestoreManyReport, members: &Members) -> Result<()> {
        let errors = || {
            report
                .collections
                .iter()
                .filter_map(|one| one.error.as_ref())
        };
        let stopped = errors().find(|err| err.kind() == Kind::Cancelled);
        if let Some(err) = stopped.or_else(|| errors().next()) {
            report.envelope.outcome = err.kind().into();
            report
                .notes
                .push("the same command restores what is missing".into());
            if !report.aliases.is_empty() {
                let note = "no alias was set: they move when every collection is there";
                report.notes.push(note.into());
            }
            return Ok(());
        }
        if !report.aliases.is_empty() {
            let pairs = report.aliases.iter();
            let pairs: Vec<(&str, &str)> = pairs
                .map(|one| (one.alias.as_str(), one.collection.as_str()))
                .collect();
            members.first.point_aliases(&pairs)?;
            report.aliases_set = true;
        }
        let left = report.collections.iter().any(|one| !one.left.is_empty());
        report.envelope.outcome = Outcome::differs_if(left);
        Ok(())
    }
}

/// Everything that the restore of each collection needs.
struct All<'a> {
    request: &'a RestoreManyRequest,
    pieces: &'a Pieces,
    members: &'a Members,
    state: &'a StateFolder,
    is_resumed: bool,
}

impl All<'_> {
    /// Restores all of `plan`, some at once.
    fn restore(&self, plan: &Plan<'_>, progress: Progress) -> Result<Vec<ManyRestored>> {
        let jobs = self.request.jobs.max(1);
        let total = plan.targets.iter().map(|(piece, _)| piece.bytes).sum();
        let stage = progress.stage("restore collections", Some(total), Unit::Bytes);
        in_parallel(plan.targets.iter(), jobs, |(piece, name)| {
            let mut one = planned(piece, name);
            match self.one(piece, &mut one) {
                Ok(state) => one.state = state,
                Err(err) => {
                    one.state = ManyState::Failed;
                    one.error = Some(err.within(piece.source.clone()));
                }
            }
            stage.add(piece.bytes);
            Ok(one)
        })
    }

    fn one(&self, piece: &Piece, one: &mut ManyRestored) -> Result<ManyState> {
        if stop::times() > 0 {
            return Err(stop::cancelled(&format!("restoring {}", one.collection)));
        }
        let started = Instant::now();
        let file = self.pieces.open(piece)?;
        let parent = self.request.options.parent();
        let expected = Expected::read(&file, &Opening::default(), &parent)?;
        let target = self.request.to.collection(&one.collection);
        let mut options = self.request.options.of_one(Progress::Quiet);
        options.resume = self.is_resumed;
        // What is written over may have been alike in everything that is compared.
        let earlier = match self.is_resumed && !options.overwrite {
            true => restored_earlier(&target, self.members, &expected, &options, self.state)?,
            false => None,
        };
        let (verdict, state) = match earlier {
            Some(verdict) => (Some(verdict), ManyState::RestoredEarlier),
            None => {
                let restored = restore(&target, self.members, &expected, &options, self.state)?;
                one.left = restored.left;
                let state = match restored.finished_earlier {
                    true => ManyState::RestoredEarlier,
                    false => ManyState::Restored,
                };
                (restored.verdict, state)
            }
        };
        if let Some(verdict) = verdict {
            one.points = Some(verdict.points);
            one.open = verdict.open;
        }
        one.seconds = Some(started.elapsed().as_secs_f64());
        Ok(state)
    }
}

fn planned(piece: &Piece, collection: &str) -> ManyRestored {
    ManyRestored {
        source: piece.source.clone(),
        collection: collection.to_owned(),
        state: ManyState::Planned,
        bytes: piece.bytes,
        time: piece.time,
        points: piece.points,
        seconds: None,
        open: Vec::new(),
        left: Vec::new(),
        error: None,
    }
}
