//! `snapmerge diff`: what changed from one snapshot, archive entry or live collection to another.
//!
//! Keeps true: every change is told where it was asked for, and counted; nothing else is written but
//! scratch.

use std::path::Path;
use std::time::Instant;

use super::args::DiffArgs;
use super::fetched::fetch;
use super::lines::Lines;
use super::open::{Servers, open_all};
use super::{Ended, Given};
use crate::base::Site;
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Progress;
use crate::base::scratch::{Scratch, require_free};
use crate::engine::take_warnings;
use crate::report::diff::DiffReport;
use crate::source::Purpose;
use crate::stream::Ledger;
use crate::stream::Sides;
use crate::verify::{Change, SyncStep, Wanted, config_differences, diff_lanes};

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
    let given = Given::new(&args.reading.checksums)?;
    let parent = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let mut paths = [args.before.clone(), args.after.clone()];
    let fetched = fetch(&mut paths, &args.reading.from_archive, || parent.clone())?;
    let mut servers = Servers::new(&args.connection);
    let mut sides = open_all(&paths, &given, false, &mut servers, progress)?;
    fetched.name(&mut sides);
    let (Some(mut after), Some(mut before)) = (sides.pop(), sides.pop()) else {
        return Err(Error::failed("opening two sides", "one did not come back"));
    };
    let mut missing = Vec::new();
    for source in [&before, &after] {
        let lacking = source.refuse_unreadable(args.allow_incomplete)?;
        let file = source.label().file;
        missing.extend(lacking.iter().map(|what| format!("{file}: {what}")));
    }
    let settings = config_differences(&Wanted::of(&before), &after);

    let unpacked = before.snapshot.unpacked_bytes + after.snapshot.unpacked_bytes;
    require_free(&parent, unpacked, "unpacking")?;
    let scratch = Scratch::new(&parent)?;
    let mut ledger = Ledger::<Change>::new(args.ledger.as_deref(), args.force)?;
    let mut plan = Ledger::<SyncStep>::new(args.sync_plan.as_deref(), args.force)?;
    let mut lines = args
        .jsonl
        .then(|| Lines::new("writing changes to standard output"));
    let site = Site {
        scratch: &scratch,
        progress,
    };
    let settled = Sides::settle(
        &mut before,
        std::slice::from_mut(&mut after),
        |_| Purpose::Reading,
        site,
    )?;
    let tell = |change: Change| {
        plan.add(SyncStep::from(&change))?;
        if let Some(lines) = &mut lines {
            lines.print(&change)?;
        }
        ledger.add(change)
    };
    let (of_before, of_after) = (
        settled.of_first(&before),
        settled.of_others(std::slice::from_ref(&after)),
    );
    let diffed = diff_lanes(&of_before, &of_after, args.sample, tell, site)?;
    settled.discard()?;
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
        changed,
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
