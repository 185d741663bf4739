//! A whole snapshot put together of what was streamed and of an older snapshot.
//!
//! Invariants: every file of every segment is there once, as its manifest names it: as it came, or of the
//! version that the manifest says out of the older snapshot; everything else of a shard that changed is as
//! it came, and a shard that did not change is the older one, byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::assemble::{Placed, Streamed};
use super::stream::StreamedShards;
use super::unfit::Unfit;
use crate::base::error::Result;
use crate::format::{Composition, Input, ShardManifest, SnapshotFile, Walker, layout};

/// An older snapshot, of which it is known how far each of its files is.
pub struct Older<'a> {
    /// The snapshot.
    pub file: &'a SnapshotFile,
    /// The manifests of its shards.
    pub shards: &'a BTreeMap<u32, ShardManifest>,
}

/// Snapshot composed of an older one and of what is newer.
pub struct Composed {
    /// The whole.
    pub composition: Arc<Composition>,
    /// The manifests of its shards.
    pub shards: BTreeMap<u32, ShardManifest>,
}

/// Puts it together.
pub fn compose(older: &Older<'_>, newer: &StreamedShards) -> Result<Composed, Unfit> {
    let mut members = members(older.file)?;
    let new = SnapshotFile::from(newer.path.as_path());
    let mut composition = Composition::default();
    let mut shards = BTreeMap::new();
    let nothing = ShardManifest::default();
    for (number, streamed) in &newer.shards {
        let have = older.shards.get(number).unwrap_or(&nothing);
        let held = members.remove(number).unwrap_or_default();
        match streamed {
            None => {
                if !older.shards.contains_key(number) {
                    return Err(Unfit::from(format!(
                        "nothing came of shard {number}, which is new"
                    )));
                }
                for member in held {
                    composition.push(older.file, member.range);
                }
                shards.insert(*number, have.clone());
            }
            Some(streamed) => {
                let kept = kept(streamed, have, &held)
                    .map_err(|why| Unfit::from(format!("shard {number}: {why}")))?;
                for member in &streamed.members {
                    composition.push(&new, member.range.clone());
                }
                for range in kept {
                    composition.push(older.file, range);
                }
                shards.insert(*number, streamed.manifest.clone());
            }
        }
    }
    composition.push(&new, newer.collection.clone());
    Ok(Composed {
        composition: Arc::new(composition),
        shards,
    })
}

/// Places of the files that are taken from the older shard, whose members are `held`.
fn kept(
    streamed: &Streamed,
    have: &ShardManifest,
    held: &[Placed],
) -> Result<Vec<Range<u64>>, String> {
    let mut wanted: BTreeSet<(&str, String)> = BTreeSet::new();
    for (id, sent) in streamed.sent()? {
        if let Some(manifest) = streamed.manifest.segments.get(id) {
            let files = manifest.kept(have.segments.get(id), &sent)?;
            wanted.extend(files.into_iter().map(|file| (id, file)));
        }
    }
    let mut ranges = Vec::new();
    for member in held {
        if let Some((id, file)) = layout::segment_file(&member.path)
            && wanted.remove(&(id, file.to_owned()))
        {
            ranges.push(member.range.clone());
        }
    }
    match wanted.first() {
        None => Ok(ranges),
        Some((id, file)) => Err(format!(
            "{id}/{file} did not come, and the older snapshot does not have it"
        )),
    }
}

/// The members of a snapshot by shard, in order.
fn members(file: &SnapshotFile) -> Result<BTreeMap<u32, Vec<Placed>>> {
    let mut walker = Walker::new(Input::open(file, None, None)?, file.to_string());
    let mut shards: BTreeMap<u32, Vec<Placed>> = BTreeMap::new();
    let mut start = 0;
    while let Some(member) = walker.next_member()? {
        let end = member.end();
        if let Some((shard, path)) = member.path.split_once('/')
            && let Ok(shard) = shard.parse()
        {
            shards.entry(shard).or_default().push(Placed {
                path: path.to_owned(),
                range: start..end,
            });
        }
        start = end;
    }
    Ok(shards)
}

/// The hashes of the contents of some files of a snapshot, holes filled with zeros, by path.
pub fn contents(file: &SnapshotFile, wanted: &[String]) -> Result<BTreeMap<String, String>> {
    let mut walker = Walker::new(Input::open(file, None, None)?, file.to_string());
    let mut hashes = BTreeMap::new();
    while let Some(member) = walker.next_member()? {
        if !wanted.contains(&member.path) {
            continue;
        }
        let mut hash = blake3::Hasher::new();
        let read = hash.update_reader(walker.contents(&member)).map(drop);
        if let Err(err) = read {
            return Err(walker.read_error(&err));
        }
        hashes.insert(member.path, hash.finalize().to_hex().to_string());
    }
    Ok(hashes)
}
