//! Whether captures of what changed can be relied on.
//!
//! An increment reuses, from the entry before, the files that the server says are as they were. Where
//! all of a collection was captured, these can be compared, without asking the server again.
//!
//! Invariants: only files are compared whose versions are of one lineage; a file counts as another only if
//! its contents are, not if holes became zeros.

use std::collections::BTreeMap;

use super::compose::contents;
use super::manifest::PartialState;
use super::options::Checked;
use crate::archive::{Archive, Entry};
use crate::base::error::Result;
use crate::format::layout;

/// Files that are told of a comparison.
const FILES_TOLD: usize = 20;

/// Compares what an increment would have taken from the entry `older`, which is at `held`, with the whole
/// capture `newer`, which is at `state`.
pub fn check(
    archive: &Archive,
    (older, held): (&Entry, &PartialState),
    (newer, state): (&Entry, Option<&PartialState>),
) -> Result<Checked> {
    let not = |why: &str| Ok(Checked::NotCompared { why: why.into() });
    let Some(state) = state else {
        return not("the whole capture is not one of partial snapshots");
    };
    if let Some(why) = state.lineage.parts_from(&held.lineage) {
        return not(&why);
    }
    let hashes = |entry: &Entry| -> Result<BTreeMap<String, String>> {
        let files = archive.recipe(entry)?.files.into_iter();
        Ok(files.map(|file| (file.path, file.blake3)).collect())
    };
    let (before, after) = (hashes(older)?, hashes(newer)?);
    let (mut files, mut differing) = (0, Vec::new());
    for (number, shard) in &state.shards {
        let Some(then) = held.shards.get(number) else {
            continue;
        };
        for (id, segment) in &shard.segments {
            for file in segment.same_as(then.segments.get(id)) {
                let path = layout::segment_file_of(*number, id, file);
                files += 1;
                if before.get(&path) != after.get(&path) {
                    differing.push(path);
                }
            }
        }
    }
    // A hole may have become zeros.
    if !differing.is_empty() {
        let reader = archive.reader();
        let read = |entry: &Entry| -> Result<BTreeMap<String, String>> {
            contents(&reader.open(entry, &entry.id)?.into(), &differing)
        };
        let (before, after) = (read(older)?, read(newer)?);
        differing.retain(|path| before.get(path) != after.get(path));
        differing.truncate(FILES_TOLD);
    }
    Ok(match (files, differing.is_empty()) {
        (0, _) => return not("the server has changed every file since"),
        (_, true) => Checked::Equal {
            base: older.id.clone(),
            files,
        },
        (_, false) => Checked::Differs {
            base: older.id.clone(),
            increments: held.increments,
            files: differing,
        },
    })
}
