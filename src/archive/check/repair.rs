//! Repairing an archive from a copy: what is damaged is fetched again if the copy has the same bytes.
//!
//! Invariants: recipes and objects are taken by their SHA-256, records only from a copy of the same
//! archive that holds the last record that is known here; a copy that both sides have written to since
//! they parted is refused before anything is changed.

use std::collections::BTreeMap;

use super::super::chain::{self, Chain, ChainFinding, Head};
use super::super::name::Name;
use super::super::recipe;
use super::super::store::Store;
use crate::archive::Archive;
use crate::base::error::{Error, Result};

/// Puts what `other` has under `path` in its place, if that is what `name` says.
pub fn fetch_again(store: &dyn Store, other: &dyn Store, path: &str, name: Name) -> Result<bool> {
    match other.get(path, recipe::STORED_BYTES_MAX)? {
        Some(bytes) if Name::of(&bytes) == name => {
            store.replace(path, &bytes)?;
            store.sync()?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Puts records in their place that a copy of the archive has, as far as what is known here says what
/// they must be. What was repaired; nothing if `other` is another archive.
pub fn repair_chain(
    archive: &Archive,
    other: &Archive,
    chain: &Chain,
    broken: &[ChainFinding],
) -> Result<Vec<String>> {
    let store = &*archive.store;
    let theirs = other.closed_chain()?;
    let is_same = match (chain.records.first(), theirs.records.first()) {
        (Some(ours), Some(theirs)) => ours.record.archive == theirs.record.archive,
        _ => true,
    };
    if !is_same {
        return Ok(Vec::new());
    }
    let hashes = |chain: &Chain| -> BTreeMap<u64, Name> {
        let records = chain.records.iter();
        records.map(|kept| (kept.record.seq, kept.hash)).collect()
    };
    let (ours, known) = (hashes(chain), hashes(&theirs));
    // A head that names a record by another number, or another record than both have, is damaged.
    let head = chain::read_head(store)?.filter(|head| {
        let is_elsewhere = ours
            .iter()
            .any(|(seq, hash)| *hash == head.hash && *seq != head.seq);
        let (here, there) = (ours.get(&head.seq), known.get(&head.seq));
        !is_elsewhere && (here != there || here.is_none_or(|hash| *hash == head.hash))
    });
    let mut anchors: Vec<Head> = archive.seen()?.map(|seen| seen.head).into_iter().collect();
    anchors.extend(head);
    // The last record, unless something is wrong with it.
    let is_good = |last: &Head| head.is_none() || !broken.iter().any(|it| it.seq == Some(last.seq));
    anchors.extend(chain.head().filter(is_good));
    let expected = chain.expected(&anchors);
    let parted = expected
        .iter()
        .find(|(seq, hash)| known.get(seq).is_some_and(|known| known != *hash));
    if let Some((seq, _)) = parted {
        return Err(Error::usage(
            format!("repairing {} from {}", archive.what(), other.what()),
            format!(
                "record {seq} is another one there: both were written since one was copied from the \
                 other"
            ),
        )
        .next("repair it from a copy that was not written to"));
    }
    // A chain of hashes: what leads up to a record that must be is what must be.
    let proven = expected.keys().rev().find(|seq| known.contains_key(seq));
    let Some(proven) = proven.copied().filter(|_| !broken.is_empty()) else {
        return Ok(Vec::new());
    };
    let last = match head {
        Some(_) => proven,
        // Nothing says here which record was the last.
        None => known.keys().next_back().copied().unwrap_or(proven),
    };
    let mut repaired = Vec::new();
    for (seq, hash) in known.range(..=last) {
        if ours.get(seq) != Some(hash)
            && fetch_again(store, &*other.store, &chain::path(*seq), *hash)?
        {
            repaired.push(format!("record {seq}"));
        }
    }
    let is_behind = head.is_none_or(|head| head.seq < last);
    if is_behind && let Some(hash) = known.get(&last) {
        let last = ours.keys().next_back().copied().unwrap_or(0).max(last);
        let hash = ours.get(&last).unwrap_or(hash);
        chain::write_head(
            store,
            Head {
                hash: *hash,
                seq: last,
            },
        )?;
        repaired.push(chain::HEAD.to_owned());
    }
    Ok(repaired)
}
