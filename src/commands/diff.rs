//! `snapmerge diff`: what changed from one snapshot to another.
//!
//! Keeps true: every change is told where it was asked for, and counted; nothing else is written but
//! scratch.

use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::Instant;

use super::args::DiffArgs;
use super::{Ended, Given};
use crate::engine::take_warnings;
use crate::error::{Error, Kind, Result};
use crate::merge::{Ledger, Site};
use crate::proof::{
    Change, SyncStep, Wanted, config_differences, diff_settled, discard_all, settle_all,
};
use crate::report::diff::DiffReport;
use crate::report::progress::Progress;
use crate::scratch::{Scratch, require_free};
use crate::source::{Purpose, Source};

/// Bytes of output that are held back.
const OUTPUT_BYTES: usize = 256 * 1024;

/// Runs the command.
pub fn run(args: &DiffArgs) -> Result<Ended> {
    let started = Instant::now();
    let progress = match args.quiet {
        true => Progress::Quiet,
        false => Progress::Shown,
    };
    if args.ledger.is_some() && args.ledger == args.sync_plan {
        return Err(Error::usage(
            "writing the changes",
            "--ledger and --sync-plan name the same file",
        ));
    }
    let given = Given::new(&args.checksums)?;
    given.all_used([args.before.as_path(), args.after.as_path()].into_iter())?;
    let open = |path: &Path| Source::open(path, &given.opening(path), None);
    let (mut before, mut after) = (open(&args.before)?, open(&args.after)?);
    let mut missing = Vec::new();
    for source in [&before, &after] {
        let lacking = source.refuse_unreadable(args.allow_incomplete)?;
        let file = source.snapshot.path.display();
        missing.extend(lacking.iter().map(|what| format!("{file}: {what}")));
    }
    let settings = config_differences(&Wanted::of(&before), &after);

    let parent = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let unpacked = before.snapshot.unpacked_bytes + after.snapshot.unpacked_bytes;
    require_free(&parent, unpacked, "unpacking")?;
    let scratch = Scratch::new(&parent)?;
    let mut ledger = Ledger::<Change>::new(args.ledger.as_deref(), args.force)?;
    let mut plan = Ledger::<SyncStep>::new(args.sync_plan.as_deref(), args.force)?;
    let mut lines = Lines {
        out: args
            .jsonl
            .then(|| BufWriter::with_capacity(OUTPUT_BYTES, io::stdout().lock())),
    };
    let site = Site {
        scratch: &scratch,
        progress,
    };
    let mut settled = settle_all(
        vec![&mut before, &mut after],
        "settled",
        |_| Purpose::Reading,
        site,
    )?;
    let (Some(of_after), Some(of_before)) = (settled.pop(), settled.pop()) else {
        return Err(Error::failed(
            "settling two snapshots",
            "one did not come back",
        ));
    };
    let tell = |change: Change| {
        plan.add(SyncStep::from(&change))?;
        lines.print(&change)?;
        ledger.add(change)
    };
    let diffed = diff_settled(&of_before, &of_after, args.sample, tell, site)?;
    discard_all([of_before, of_after])?;
    drop(scratch);
    lines.end()?;

    let shown = |path: Option<&Path>| path.map(|path| path.display().to_string());
    let report = DiffReport {
        format: "snapmerge-diff/1",
        version: env!("CARGO_PKG_VERSION"),
        before: before.label(),
        after: after.label(),
        sample: args.sample,
        diffed,
        settings,
        first: ledger.first().to_vec(),
        ledger: shown(ledger.path()),
        sync_plan: shown(plan.path()),
        missing,
        notes: take_warnings()
            .into_iter()
            .map(|warning| format!("the storage engine: {warning}"))
            .collect(),
        seconds: started.elapsed().as_secs_f64(),
    };
    ledger.publish()?;
    plan.publish()?;
    if args.json {
        super::print_json(&report)?;
    } else if !args.jsonl {
        super::print(&report.text())?;
    }
    Ok((!report.is_same()).then_some(Kind::Differs))
}

/// Standard output, a change a line, if it was asked for.
struct Lines<'a> {
    out: Option<BufWriter<io::StdoutLock<'a>>>,
}

impl Lines<'_> {
    fn print(&mut self, change: &Change) -> Result<()> {
        let Some(out) = &mut self.out else {
            return Ok(());
        };
        let written = serde_json::to_writer(&mut *out, change)
            .map_err(io::Error::from)
            .and_then(|()| out.write_all(b"\n"));
        self.check(written)
    }

    fn end(&mut self) -> Result<()> {
        let flushed = match &mut self.out {
            Some(out) => out.flush(),
            None => Ok(()),
        };
        self.check(flushed)
    }

    /// A reader that has seen enough is no failure: the rest is left out.
    fn check(&mut self, written: io::Result<()>) -> Result<()> {
        match written {
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => {
                self.out = None;
                Ok(())
            }
            Err(err) if err.kind() == io::ErrorKind::StorageFull => {
                Err(
                    Error::new(Kind::NoSpace, "writing changes to standard output", err)
                        .next("free some room where it leads to"),
                )
            }
            other => other.map_err(|err| Error::failed("writing changes to standard output", err)),
        }
    }
}
