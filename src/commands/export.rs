//! `snapmerge export`: a snapshot's points as JSON lines.
//!
//! Keeps true: a line is what Qdrant's scroll would have answered for the point; an id that is asked
//! for and not there is said, and changes the exit code.

use std::collections::BTreeSet;

use super::args::ExportArgs;
use super::fetched::fetch;
use super::lines::Lines;
use super::{Ended, Given};
use crate::base::error::{Error, Kind, Result};
use crate::base::scratch::{Scratch, require_free};
use crate::engine::{Columns, Filter};
use crate::point::{AsScrolled, PointId, Record};
use crate::source::{Purpose, Settled, Source};
use crate::stream::{Scan, lanes};

/// Ids that are read at once.
const IDS_AT_ONCE: usize = 256;

/// Runs the command.
pub fn run(args: &ExportArgs) -> Result<Ended> {
    let filter = args.filter.as_deref().map(Filter::parse).transpose()?;
    let ids = args.ids.as_ref().map(|ids| parse_ids(ids)).transpose()?;
    if filter.is_some() && ids.is_some() {
        return Err(Error::usage(
            "reading --ids and --filter",
            "only one of them can choose the points",
        )
        .next("put the ids into the filter: {\"must\":[{\"has_id\":[1,2]}]}"));
    }
    let given = Given::new(&args.reading.checksums)?;
    given.all_used(std::iter::once(args.snapshot.as_path()))?;
    let parent = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let mut paths = [args.snapshot.clone()];
    let _fetched = fetch(&mut paths, &args.reading.from_archive, || parent.clone())?;
    let [path] = paths;
    let mut source = Source::open(&path, &given.opening(&path), None)?;
    let missing = source.refuse_unreadable(args.allow_incomplete)?;
    require_free(&parent, source.snapshot.unpacked_bytes, "unpacking")?;
    let scratch = Scratch::new(&parent)?;
    let folder = scratch.folder("source")?;
    let purpose = match &filter {
        Some(_) => Purpose::Filtering,
        None => Purpose::Reading,
    };
    let settled = source.settle(&folder, purpose, None)?;

    let mut points = Points {
        lines: Lines::new("writing points to standard output"),
        with_vectors: !args.no_vectors,
        left: args.limit.unwrap_or(u64::MAX),
    };
    let absent = match ids {
        Some(ids) => by_ids(&settled, ids, &mut points)?,
        None => {
            all(&source, &settled, filter.as_ref(), &mut points)?;
            Vec::new()
        }
    };
    points.lines.end()?;
    drop(settled);
    drop(scratch);
    for what in &missing {
        super::warn(&format!("{}: {what}", args.snapshot.display()));
    }
    if !absent.is_empty() {
        let ids: Vec<String> = absent.iter().map(ToString::to_string).collect();
        super::warn(&format!(
            "not in {}: {}",
            args.snapshot.display(),
            ids.join(", ")
        ));
    }
    Ok((!missing.is_empty() || !absent.is_empty()).then_some(Kind::Differs))
}

fn parse_ids(texts: &[String]) -> Result<BTreeSet<PointId>> {
    texts
        .iter()
        .map(|text| {
            text.trim()
                .parse()
                .map_err(|why: String| Error::usage("reading --ids", why))
        })
        .collect()
}

/// Prints the points with `ids`; returns the ids that are not there.
fn by_ids(
    settled: &Settled,
    ids: BTreeSet<PointId>,
    points: &mut Points<'_>,
) -> Result<Vec<PointId>> {
    let mut absent = Vec::new();
    let ids: Vec<PointId> = ids.into_iter().collect();
    for some in ids.chunks(IDS_AT_ONCE) {
        let mut records = Vec::new();
        for shard in &settled.shards {
            for mut record in shard.shard.retrieve(some, points.columns())? {
                record.shard_key.clone_from(&shard.key);
                records.push(record);
            }
        }
        records.sort_by_key(|record| record.id);
        for id in some {
            if records
                .binary_search_by_key(id, |record| record.id)
                .is_err()
            {
                absent.push(*id);
            }
        }
        for record in &records {
            points.print(record)?;
        }
    }
    Ok(absent)
}

fn all(
    source: &Source,
    settled: &Settled,
    filter: Option<&Filter>,
    points: &mut Points<'_>,
) -> Result<()> {
    let lanes = lanes(0, source, settled);
    std::thread::scope(|scope| {
        let mut scan = Scan::start(scope, &lanes, filter)?;
        let mut group = Vec::new();
        while points.left > 0 && scan.next_group(&mut group)?.is_some() {
            for scanned in &group {
                points.print(&scanned.record)?;
            }
        }
        Ok(())
    })
}

/// The points that are printed.
struct Points<'a> {
    lines: Lines<'a>,
    with_vectors: bool,
    left: u64,
}

impl Points<'_> {
    fn columns(&self) -> Columns {
        Columns {
            vectors: self.with_vectors,
            payload: true,
        }
    }

    fn print(&mut self, record: &Record) -> Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        let line = AsScrolled {
            record,
            with_vectors: self.with_vectors,
        };
        if !self.lines.print(&line)? {
            self.left = 0;
        }
        Ok(())
    }
}
