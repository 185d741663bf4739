//! The comparison of two snapshots, archive entries or live collections as an operation.
//!
//! Invariants: every change is told where it was asked for, and counted; nothing else is written but
//! scratch.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Change, Diffed, ExpectedConfig, SettingDifference, SyncStep, config_differences, diff_streams,
};
use crate::base::Workspace;
use crate::base::error::{Error, Result};
use crate::base::lines::Lines;
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::base::scratch::{Scratch, require_free};
use crate::engine::take_warnings;
use crate::input::{InputOptions, Inputs, LiveInputOptions, Servers};
use crate::point::Sample;
use crate::source::{Purpose, SourceLabel};
use crate::stream::{Ledger, Sides};

/// A comparison.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct DiffRequest {
    /// State before: a snapshot file, plain or .gz, archive:NAME@DATE, or a live collection as
    /// http://HOST:6333/COLLECTION
    #[arg(value_name = "BEFORE")]
    pub before: PathBuf,
    /// State after
    #[arg(value_name = "AFTER")]
    pub after: PathBuf,
    /// Print every change on standard output as a JSON line, and no summary
    #[arg(long)]
    pub jsonl: bool,
    /// Write every change to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Write what brings BEFORE to the state of AFTER to this file, as JSON lines: which points to
    /// upsert and which to delete
    #[arg(long, value_name = "FILE")]
    pub sync_plan: Option<PathBuf>,
    /// Replace these files if they exist
    #[arg(long)]
    pub force: bool,
    /// Compare only this share of the points, by the hashes of their ids
    #[arg(long, value_name = "PERCENT")]
    pub sample: Option<Sample>,
    /// Where to unpack [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Read snapshots that lack shards or whose replica was not active
    #[arg(long)]
    pub allow_incomplete: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub input: InputOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub servers: LiveInputOptions,
}

/// The report.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DiffReport {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    /// The snapshot of before.
    pub before: SourceLabel,
    /// The snapshot of afterwards.
    pub after: SourceLabel,
    /// The share of the points that was looked at, if not all were.
    pub sample: Option<Sample>,
    /// Counts of the points, by what changed.
    #[serde(rename = "points")]
    pub diffed: Diffed,
    /// Settings that differ: `expected` has the value of before.
    pub settings: Vec<SettingDifference>,
    /// The first changes.
    pub first: Vec<Change>,
    /// The file that has them all, if one was asked for.
    pub ledger: Option<String>,
    /// The file that says what brings the first to the state of the second, if one was asked for.
    pub sync_plan: Option<String>,
    /// Parts that the snapshots lack, if that was allowed.
    pub missing: Vec<String>,
    /// Changes that others made to live collections in the meantime.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Notes for the reader.
    pub notes: Vec<String>,
    /// Wall-clock time of the whole, in seconds.
    pub seconds: f64,
}

impl DiffReport {
    /// Returns true if nothing differs and nothing was left out.
    pub fn is_same(&self) -> bool {
        self.diffed.changes() == 0
            && self.settings.is_empty()
            && self.missing.is_empty()
            && self.changed.is_empty()
    }
}

impl Operation for DiffRequest {
    const NAME: &'static str = "diff";
    type Report = DiffReport;

    fn run(self, context: &Context) -> Result<DiffReport> {
        let started = Instant::now();
        if self.ledger.is_some() && self.ledger == self.sync_plan {
            return Err(Error::usage(
                "writing the changes",
                "--ledger and --sync-plan name the same file",
            ));
        }
        let parent = self.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let inputs = Inputs::find_each(&[self.before.clone(), self.after.clone()], &self.input)?;
        let mut servers = Servers::new(&self.servers, context);
        let mut sides = inputs.open(false, &mut servers, context)?;
        let (Some(mut after), Some(mut before)) = (sides.pop(), sides.pop()) else {
            return Err(Error::failed("opening two sides", "one did not come back"));
        };
        let mut missing = Vec::new();
        for source in [&before, &after] {
            let lacking = source.refuse_unreadable(self.allow_incomplete)?;
            let file = source.label().file;
            missing.extend(lacking.iter().map(|what| format!("{file}: {what}")));
        }
        let settings = config_differences(&ExpectedConfig::of(&before), &after);

        let unpacked = before.snapshot.unpacked_bytes + after.snapshot.unpacked_bytes;
        require_free(&parent, unpacked, "unpacking")?;
        let scratch = Scratch::new(&parent)?;
        let mut ledger = Ledger::<Change>::new(self.ledger.as_deref(), self.force)?;
        let mut plan = Ledger::<SyncStep>::new(self.sync_plan.as_deref(), self.force)?;
        let mut lines = self
            .jsonl
            .then(|| Lines::new("writing changes to standard output"));
        let site = Workspace {
            scratch: &scratch,
            progress: context.progress,
        };
        let others = std::slice::from_mut(&mut after);
        let open_shards = Sides::open(&mut before, others, |_| Purpose::Reading, None, site)?;
        let tell = |change: Change| {
            plan.add(SyncStep::from(&change))?;
            if let Some(lines) = &mut lines {
                lines.print(&change)?;
            }
            ledger.add(change)
        };
        let of_before = open_shards.of_first(&before);
        let of_after = open_shards.of_others(std::slice::from_ref(&after));
        let diffed = diff_streams(&of_before, &of_after, self.sample, tell, site)?;
        open_shards.discard()?;
        for source in [&before, &after] {
            let file = source.label().file;
            missing.extend(source.refused.iter().map(|what| format!("{file}: {what}")));
        }
        drop(scratch);
        if let Some(lines) = lines {
            lines.end()?;
        }
        let mut changed = Vec::new();
        for live in [&before, &after]
            .into_iter()
            .filter_map(|side| side.live.as_ref())
        {
            changed.extend(live.changed("this comparison")?);
        }
        let shown = |path: Option<&Path>| path.map(|path| path.display().to_string());
        let warnings = take_warnings().into_iter();
        let mut report = DiffReport {
            envelope: Envelope::new("diff", 2, Outcome::DONE),
            before: before.label(),
            after: after.label(),
            sample: self.sample,
            diffed,
            settings,
            first: ledger.first().to_vec(),
            ledger: shown(ledger.path()),
            sync_plan: shown(plan.path()),
            missing,
            changed,
            notes: warnings.collect(),
            seconds: started.elapsed().as_secs_f64(),
        };
        report.envelope.outcome = Outcome::differs_if(!report.is_same());
        ledger.publish()?;
        plan.publish()?;
        Ok(report)
    }
}
