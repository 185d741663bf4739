//! Snapshots settled to be compared.
//!
//! Keeps true: what was kept of them for other ends is given back first; nothing of it is left when
//! the comparison is done.

use crate::error::Result;
use crate::merge::{Lane, Site, in_parallel};
use crate::report::progress::Unit;
use crate::source::{Purpose, Settled, Source};

/// Snapshots that are settled at once.
const AT_ONCE: usize = 2;

/// Settles all of `sources`, in this order, under folders called `name` and a number; `purpose`
/// tells by the place what each is for.
pub fn settle_all(
    mut sources: Vec<&mut Source>,
    name: &str,
    purpose: impl Fn(usize) -> Purpose + Sync,
    site: Site<'_>,
) -> Result<Vec<Settled>> {
    for source in &mut sources {
        source.forget();
    }
    let total = sources
        .iter()
        .map(|source| source.snapshot.file_bytes)
        .sum();
    let stage = site.progress.stage("settle", Some(total), Unit::Bytes);
    in_parallel(
        sources.into_iter().enumerate().collect::<Vec<_>>(),
        AT_ONCE,
        |(at, source)| {
            let folder = site.scratch.folder(&format!("{name}-{at}"))?;
            source.settle(&folder, purpose(at), Some(stage.counter()))
        },
    )
}

/// The lanes of a settled source.
pub fn lanes(source: usize, settled: &Settled) -> Vec<Lane<'_>> {
    settled
        .shards
        .iter()
        .map(|shard| Lane {
            source,
            shard: &shard.shard,
            key: shard.key.clone(),
        })
        .collect()
}

/// The points of all `lanes`.
pub fn count(lanes: &[Lane<'_>]) -> Result<u64> {
    lanes.iter().map(|lane| lane.shard.count(None)).sum()
}

/// Closes what nobody needs any more, and removes it.
pub fn discard_all(settled: impl IntoIterator<Item = Settled>) -> Result<()> {
    settled.into_iter().try_for_each(Settled::discard)
}
