//! All sources opened to be read: those that may be open at once, and the records of all others copied.
//!
//! Invariants: whatever the number of sources, no more than [`OPEN_MAX`] shards stay open that are only read, the
//! largest if not all can; each of the others is open while it is copied, and nothing of it is left in scratch but its records.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::base::Workspace;
use crate::base::error::Result;
use crate::base::parallel::in_parallel;
use crate::base::scratch;
use crate::engine::Filter;
use crate::source::{OpenedShards, Purpose, Reading, RecordFiles, SMALL_BYTES, Source};

/// Shards that stay open. Each takes a thread, some 40 MiB of address space, twenty file descriptors for a
/// while, and a page of records.
const OPEN_MAX: usize = 48;
/// Sources that are opened at once.
const AT_ONCE: usize = 2;

/// A source to be opened, and the purpose.
#[derive(Debug)]
pub struct Opened<'a> {
    /// Purpose of its shards.
    pub purpose: Purpose,
    /// The shards that are wanted, if not all are.
    pub shards: Option<BTreeSet<u32>>,
    /// Filter of the points read from those that are not to be searched.
    pub filter: Option<&'a Filter>,
}

/// Reader of sources that do not stay open: the engine, or the files themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Without the engine where that is possible.
    Plainly,
    /// By the engine, as a server would: what proves a master does not rely on what made it.
    ByEngine,
}

/// Opens `sources`, each for what `what_for` says by its place, in folders of `site` that begin with `name`;
/// `passed` counts the files' bytes. Of live ones there is nothing to open.
pub fn open_all<'a>(
    sources: Vec<&mut Source>,
    what_for: impl Fn(usize) -> Opened<'a> + Sync,
    reads: Reads,
    name: &str,
    site: Workspace<'_>,
    passed: &Arc<AtomicU64>,
) -> Result<Vec<OpenedShards>> {
    let sizes: Vec<Size> = sources.iter().map(|source| Size::of(source)).collect();
    let stays = stay_open(&sizes, |at| !what_for(at).purpose.takes_records_only());
    let files = RecordFiles::default();
    in_parallel(
        sources.into_iter().zip(stays).enumerate(),
        AT_ONCE,
        |(at, (source, stays))| {
            let Opened {
                purpose,
                shards,
                filter,
            } = what_for(at);
            let name = folder_name(name, at);
            let passed = Some(Arc::clone(passed));
            let into = site.scratch.path();
            if reads == Reads::Plainly && !stays && purpose == Purpose::Reading {
                let folder = site.scratch.folder(&format!("plain-{name}"))?;
                let copying = (&files, into);
                let copied =
                    source.copy_plain(&folder, shards.as_ref(), copying, passed.clone())?;
                scratch::remove_folder(&folder)?;
                if let Some(copied) = copied {
                    source.snapshot.forget_segments();
                    return Ok(copied);
                }
            }
            let folder = site.scratch.folder(&name)?;
            source.forget();
            let opened = source.open_shards(&folder, shards.as_ref(), purpose, passed)?;
            if stays {
                return Ok(opened);
            }
            let reading = Reading {
                filter,
                ..Reading::default()
            };
            let copied = opened.copied(&files, into, reading)?;
            scratch::remove_folder(&folder)?;
            if reads == Reads::Plainly {
                source.snapshot.forget_segments();
            }
            Ok(copied)
        },
    )
}

/// Closes what [`open_all`] opened under `name`, and removes it: its disk space is needed.
pub fn close_all(opened: Vec<OpenedShards>, name: &str, site: Workspace<'_>) -> Result<()> {
    in_parallel(opened.into_iter().enumerate(), AT_ONCE, |(at, opened)| {
        opened.discard()?;
        let folder = site.scratch.path().join(folder_name(name, at));
        match folder.exists() {
            true => scratch::remove_folder(&folder),
            false => Ok(()),
        }
    })
    .map(drop)
}

fn folder_name(name: &str, at: usize) -> String {
    format!("{name}-{at}")
}

/// Bytes of scratch that `sources` take, at the most that is usual, while they are read, or searched if they
/// `stay`.
pub fn opening_bytes(sources: &[&Source], stay: bool) -> u64 {
    // A record takes more than what is stored of it where payloads were compressed.
    const GROWTH: u64 = 2;
    let sizes: Vec<Size> = sources.iter().map(|source| Size::of(source)).collect();
    let stays = stay_open(&sizes, |_| stay);
    let (open, copied): (Vec<_>, Vec<_>) = sources.iter().zip(stays).partition(|(_, stays)| *stays);
    let unpacked = |source: &Source| source.snapshot.unpacked_bytes;
    let open: u64 = open.iter().map(|(source, _)| unpacked(source)).sum();
    let records: u64 = copied
        .iter()
        .map(|(source, _)| source.snapshot.file_bytes)
        .sum();
    let largest = copied.iter().map(|(source, _)| unpacked(source)).max();
    open + GROWTH * records + AT_ONCE as u64 * largest.unwrap_or(0)
}

/// Size of a source, by which those that stay open are chosen.
#[derive(Debug, Clone, Copy)]
struct Size {
    shards: usize,
    bytes: u64,
}

impl Size {
    fn of(source: &Source) -> Self {
        Self {
            shards: match &source.live {
                Some(_) => 0,
                None => source.snapshot.shards.len(),
            },
            bytes: source.snapshot.file_bytes,
        }
    }
}

/// Which sources stay open: those that `must`, and all others if there is room for them; if not, those that are
/// large, the largest first. A small one is copied while it is in the page cache.
fn stay_open(sizes: &[Size], must: impl Fn(usize) -> bool) -> Vec<bool> {
    let mut stays: Vec<bool> = (0..sizes.len()).map(must).collect();
    let mut others: Vec<(usize, Size)> = sizes.iter().copied().enumerate().collect();
    others.retain(|(at, _)| stays.get(*at) == Some(&false));
    let shards: usize = others.iter().map(|(_, size)| size.shards).sum();
    let fits = shards <= OPEN_MAX;
    others.sort_by_key(|(_, size)| Reverse(size.bytes));
    let mut room = OPEN_MAX;
    for (at, size) in others {
        let is_open = fits || (size.bytes > SMALL_BYTES && size.shards <= room);
        if let (true, Some(stays)) = (is_open, stays.get_mut(at)) {
            *stays = true;
            room = room.saturating_sub(size.shards);
        }
    }
    stays
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_stay_open_and_what_must() {
        let size = |shards, bytes| Size { shards, bytes };
        let large = |shards, bytes| size(shards, SMALL_BYTES + bytes);
        let few = vec![size(OPEN_MAX - 1, 5), size(1, 1), size(0, 9)];
        assert_eq!(stay_open(&few, |_| false), [true; 3]);
        let many = vec![
            size(1, 1),
            large(9, 7),
            large(2, 9),
            large(40, 8),
            large(6, 2),
            size(1, 2),
        ];
        assert_eq!(
            stay_open(&many, |at| at == 0),
            [true, false, true, true, true, false]
        );
        // What must stay open leaves the others as they are.
        let must = vec![size(OPEN_MAX, 1), size(OPEN_MAX, 1)];
        assert_eq!(stay_open(&must, |at| at == 0), [true; 2]);
    }
}
