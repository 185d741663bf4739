//! Opening shards: a source that is opened to be read, for which the engine leaves the ids on the disk, has
//! the same records as one that is opened as it is.
//!
//! Keeps true: every case of every version is opened both ways, and every record compared whole.

use std::path::{Path, PathBuf};

use snapmerge::base::scratch::Scratch;
use snapmerge::engine::Columns;
use snapmerge::point::{PointId, Record};
use snapmerge::source::Reading;
use snapmerge::source::{OpenedShards, Opening, Ordered, Purpose, Source};

use crate::support::cases::Case;
use crate::support::{Env, Outcome, Trial, temp_dir};

/// A page so small that a case has several.
const PAGE_BYTES: usize = 64 << 10;

/// Cases whose logs choose points by filters: payload indexes stay, and with them the segments that
/// points are added to.
const LOGS_FILTER: [&str; 2] = ["edited", "log_pending"];

pub fn trials(env: &'static Env) -> Vec<Trial> {
    env.per_case("open_shards/both_ways", |case| both_ways(&case))
}

fn both_ways(case: &Case) -> Outcome {
    let dir = temp_dir()?;
    let snapshot = case.unpack(dir.path())?;
    let scratch = Scratch::new(dir.path())?;
    let open = |name: &str, purpose: Purpose| -> Outcome<(PathBuf, OpenedShards)> {
        let folder = scratch.folder(name)?;
        let mut source = Source::open(&snapshot.as_path().into(), &Opening::default(), None)?;
        let open_shards = source.open_all_shards(&folder, purpose, None)?;
        Ok((folder, open_shards))
    };
    // To be filtered: nothing but the graphs is taken away.
    let (as_it_is, plain) = open("plain", Purpose::Filtering)?;
    let (on_disk, read) = open("read", Purpose::Reading)?;
    ensure_eq!(forms(&as_it_is)?.1, 0, "segments as they are, on the disk");
    let (in_memory, converted) = forms(&on_disk)?;
    if LOGS_FILTER.contains(&case.name.as_str()) {
        ensure!(in_memory > 0, "no segment has its ids in memory");
    } else {
        ensure_eq!(in_memory, 0, "segments with their ids in memory");
        ensure_eq!(converted > 0, case.points() > 0, "{converted} on the disk");
    }

    ensure_eq!(read.shards.len(), plain.shards.len(), "shards");
    let mut points = 0;
    for (read, plain) in read.shards.iter().zip(&plain.shards) {
        let (records, wanted) = (all(&read.shard)?, all(&plain.shard)?);
        ensure_eq!(records.len(), wanted.len(), "records of {}", read.number);
        for (record, wanted) in records.iter().zip(&wanted) {
            ensure!(record == wanted, "{record:?} is not {wanted:?}");
        }
        let ids: Vec<PointId> = wanted.iter().map(|record| record.id).collect();
        ensure_eq!(read.shard.ids()?, ids, "ids");
        ensure_eq!(read.shard.count(None)?, ids.len() as u64, "counted");
        // By ids, in another order, and some that are not there.
        let mut some: Vec<PointId> = ids.iter().rev().step_by(3).copied().collect();
        some.push(PointId::Num(u64::MAX));
        let got = Ordered::get(&read.shard, &some, Columns::ALL)?;
        let wanted: Vec<&Record> = wanted.iter().rev().step_by(3).rev().collect();
        ensure!(got.iter().eq(wanted), "records by their ids");
        points += ids.len();
    }
    ensure_eq!(points, case.points(), "points");
    plain.discard()?;
    read.discard()?;
    Ok(())
}

/// All records, in order.
fn all(shard: &dyn Ordered) -> Outcome<Vec<Record>> {
    let mut records = Vec::new();
    shard.read(Reading::default(), PAGE_BYTES, &mut |page| {
        records.extend(page);
        true
    })?;
    Ok(records)
}

/// How many of the segments under `folder` have ids that the engine holds in memory, and how many on
/// the disk. Those of its own making, for what a log adds, are empty until it flushes them.
fn forms(folder: &Path) -> Outcome<(usize, usize)> {
    let (mut in_memory, mut on_disk) = (0, 0);
    for shard in std::fs::read_dir(folder)? {
        for segment in std::fs::read_dir(shard?.path().join("segments"))? {
            let segment = segment?.path();
            let is_filled = |name: &str| {
                let meta = segment.join(name).metadata();
                meta.is_ok_and(|meta| meta.len() > 0)
            };
            if is_filled("id_tracker.i2e") {
                on_disk += 1;
            } else if is_filled("mutable_id_tracker.mappings") || is_filled("id_tracker.mappings") {
                in_memory += 1;
            }
        }
    }
    Ok((in_memory, on_disk))
}
