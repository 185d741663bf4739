//! Several sources together: each once, each with a name of its own, and those that are the parts of one
//! collection joined.
//!
//! Invariants: no source counts twice, however it was spelled; a shard of which several nodes have
//! replicas is read from one of them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::{Checksum, Source};
use crate::base::error::{Error, Result};
use crate::format::{FileIdentity, SnapshotFile};

/// Identity by which two sources are one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Same {
    /// The address of a collection.
    Address(String),
    /// The file.
    File(FileIdentity),
    /// The bytes, where somebody says their SHA-256: an archive's entry and the file that was stored.
    Bytes(String),
}

/// Refuses sources of which one is given twice; `doing` says what with.
pub fn refuse_twice(sources: &[Source], doing: &str) -> Result<()> {
    let mut seen: BTreeMap<Same, String> = BTreeMap::new();
    for source in sources {
        let file = &source.snapshot.file;
        let mut same = Vec::new();
        if source.checksum == Checksum::Live {
            same.push(Same::Address(file.to_string()));
        } else {
            same.push(Same::File(file.identity()?));
            // Several collections may lie in one file.
            let own = source.expected.iter().filter(|expected| !expected.of_full);
            same.extend(own.map(|expected| Same::Bytes(expected.sha256.clone())));
        }
        // Several of them may state the same SHA-256.
        same.sort_unstable();
        same.dedup();
        for same in same {
            match seen.entry(same) {
                Entry::Vacant(entry) => {
                    entry.insert(file.to_string());
                }
                Entry::Occupied(other) => {
                    return Err(Error::usage(
                        format!("{doing} {file}"),
                        format!("it is given twice (also as {})", other.get()),
                    )
                    .next("give each source once"));
                }
            }
        }
    }
    Ok(())
}

/// Joins snapshots that the nodes of one cluster took of one collection: each shard is read from the first
/// that has it, from an active replica if there is one. Returns what was joined, in words.
///
/// A node's snapshot has the data of that node's replicas alone; the collection is the one of the `uuid` in
/// its config, and the node the `this_peer_id` of its replicas
/// (lib/collection/src/shards/replica_set/snapshots.rs).
pub fn join_nodes(sources: &mut [Source]) -> Vec<String> {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, source) in sources.iter().enumerate() {
        let uuid = source
            .config
            .raw()
            .get("uuid")
            .filter(|uuid| !uuid.is_null());
        if let (Some(uuid), Some(_)) = (uuid, node(source)) {
            groups.entry(uuid.to_string()).or_default().push(at);
        }
    }
    let mut told = Vec::new();
    for parts in groups.into_values() {
        let nodes = parts.iter().filter_map(|at| node(sources.get(*at)?));
        let nodes: BTreeSet<u64> = nodes.collect();
        // Several snapshots of one node are several states of the collection.
        if parts.len() < 2 || nodes.len() < parts.len() {
            continue;
        }
        let from = owners(sources, &parts);
        for at in &parts {
            if let Some(source) = sources.get_mut(*at) {
                let others = from.iter().filter(|(_, owner)| *owner != at);
                source.elsewhere = others.map(|(number, _)| *number).collect();
                let elsewhere = &source.elsewhere;
                (source.snapshot.shards).retain(|number, _| !elsewhere.contains(number));
            }
        }
        let name = |at: &usize| sources.get(*at).map_or("", |source| source.name.as_str());
        let which: Vec<String> = (from.iter())
            .map(|(number, at)| format!("{number} from {}", name(at)))
            .collect();
        let names: Vec<&str> = parts.iter().map(name).collect();
        told.push(format!(
            "{} are what {} nodes of a cluster have of one collection: each shard was read once, {}",
            names.join(", "),
            nodes.len(),
            which.join(", ")
        ));
    }
    told
}

/// The node that took a source's snapshot, if all of its shards say the same.
fn node(source: &Source) -> Option<u64> {
    let shards = source.snapshot.shards.values();
    let nodes: BTreeSet<u64> = shards
        .map(|shard| shard.replicas().map(|replicas| replicas.this_peer_id))
        .collect::<Option<_>>()?;
    let mut nodes = nodes.into_iter();
    nodes.next().filter(|_| nodes.next().is_none())
}

/// By shard, which of the sources at the places `parts` it is read from.
fn owners(sources: &[Source], parts: &[usize]) -> BTreeMap<u32, usize> {
    // The first of the best.
    let mut found: BTreeMap<u32, (u8, usize)> = BTreeMap::new();
    for at in parts {
        let shards = sources.get(*at).map(|source| &source.snapshot.shards);
        for (number, shard) in shards.into_iter().flatten() {
            let replicas = shard.replicas().unwrap_or_default();
            let worth = match replicas.own().as_deref() {
                Some("Active") if replicas.is_local => 2,
                _ if replicas.is_local => 1,
                _ => 0,
            };
            let best = found.entry(*number).or_insert((worth, *at));
            if worth > best.0 {
                *best = (worth, *at);
            }
        }
    }
    found
        .into_iter()
        .map(|(number, (_, at))| (number, at))
        .collect()
}

/// Gives sources with the same name different ones: by the folders that they lie in or their ids in an
/// archive, and if that does not tell them apart, by their files.
pub fn tell_apart(sources: &mut [Source]) {
    rename_equal(sources, |source| match &source.snapshot.file {
        SnapshotFile::Disk(path) => {
            let folder = path.parent()?;
            let folder = Some(folder).filter(|folder| !folder.as_os_str().is_empty())?;
            Some(format!("{}/{}", folder.display(), source.name))
        }
        SnapshotFile::Member(_) => None,
        SnapshotFile::Stored(stored) => Some(stored.id.clone()),
    });
    rename_equal(sources, |source| Some(source.snapshot.what()));
}

fn rename_equal(sources: &mut [Source], name_of: impl Fn(&Source) -> Option<String>) {
    let names: Vec<String> = sources.iter().map(|source| source.name.clone()).collect();
    for (source, name) in sources.iter_mut().zip(&names) {
        let equal = names.iter().filter(|other| *other == name).count();
        if let (true, Some(new)) = (equal > 1, name_of(source)) {
            source.name = new;
        }
    }
}
