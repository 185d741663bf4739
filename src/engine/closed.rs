//! A shard's folder while the engine has not opened it.
//!
//! Invariants: everything here is scratch; what is changed in it is only how the engine opens a
//! segment, never what its points are.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::config::ShardConfig;
use crate::base::error::{Error, Result};
use crate::format::schema::CollectionConfig;
use crate::format::{DenseStorage, SegmentKind, layout};

/// The storage of vectors that no point has.
const EMPTY: &str = "Empty";
/// The storage of payload that the engine reads into memory when it opens a segment, and the same where it does
/// not.
const PAYLOAD_IN_MEMORY: (&str, &str) = ("in_ram_mmap", "mmap");

/// A segment of a closed shard, as it lies in its folder.
#[derive(Debug, Clone)]
pub struct ClosedSegment {
    /// UUID of the segment.
    pub uuid: Uuid,
    /// Folder of the segment.
    pub folder: PathBuf,
    /// The highest operation number that it holds.
    pub version: u64,
    /// Kind of the segment.
    pub kind: SegmentKind,
}

/// The segments of the closed shard in `folder`, by UUID.
pub fn closed_segments(folder: &Path) -> Result<Vec<ClosedSegment>> {
    let segments = folder.join(layout::SEGMENTS);
    let failed = |err: std::io::Error| Error::io("listing segments in", &segments, &err);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&segments).map_err(failed)? {
        let folder = entry.map_err(failed)?.path();
        let uuid = folder
            .file_name()
            .and_then(|name| Uuid::try_parse(&name.to_string_lossy()).ok());
        // The engine marks what it is about to delete by another name, and what is half-made by
        // the lack of a version.
        let (Some(uuid), true) = (uuid, folder.join("version.info").exists()) else {
            continue;
        };
        let state = read_state(&folder)?;
        found.push(ClosedSegment {
            uuid,
            version: state["version"].as_u64().unwrap_or(0),
            kind: SegmentKind::of(&state),
            folder,
        });
    }
    found.sort_by_key(|segment| segment.uuid);
    Ok(found)
}

/// Gives the closed shard in `folder` the distances that `config` has, after
/// [`ShardConfig::for_writing`] stored cosine vectors as they were.
pub fn restore_distances(folder: &Path, config: &ShardConfig) -> Result<()> {
    let cosine = config.cosine_vectors();
    // The engine keeps its own config beside the segments and would compare it with theirs.
    let own = folder.join("edge_config.json");
    if own.exists() {
        std::fs::remove_file(&own).map_err(|err| Error::io("removing", &own, &err))?;
    }
    if cosine.is_empty() {
        return Ok(());
    }
    for segment in closed_segments(folder)? {
        let mut state = read_state(&segment.folder)?;
        for name in &cosine {
            if let Some(distance) = state
                .pointer_mut("/config/vector_data")
                .and_then(|vectors| vectors.get_mut(*name))
                .and_then(|vector| vector.get_mut("distance"))
            {
                *distance = Value::String("Cosine".into());
            }
        }
        write_state(&segment.folder, &state)?;
    }
    Ok(())
}

/// Gives vectors of `config` for which segments of the closed shard in `folder` have no storage one in
/// which nothing was written yet, as servers do for a vector that is added to a collection. Such segments
/// are those that say `Empty`, which servers from 1.18 on may write and the engine here does not know, and
/// those that were there before the vector. The engine reads all of them as absent.
pub fn store_empty_vectors(folder: &Path, config: &CollectionConfig) -> Result<()> {
    let pick = |raw: &Map<String, Value>, keys: &[&str]| -> Map<String, Value> {
        let has = |key: &&&str| raw.get(**key).is_some_and(|value| !value.is_null());
        let picked = keys.iter().filter(has);
        picked
            .filter_map(|key| Some(((*key).to_owned(), raw.get(*key)?.clone())))
            .collect()
    };
    let dense = ["size", "distance", "multivector_config", "datatype"];
    let dense = (config.vectors().iter()).map(|(name, params)| (name, pick(&params.raw, &dense)));
    let sparse = config.sparse_vectors().iter();
    let sparse = sparse.map(|(name, params)| (name, pick(&params.raw, &["modifier"])));
    let plain = [
        ("storage_type", json!("InRamChunkedMmap")),
        ("index", json!({"type": "plain", "options": {}})),
    ];
    let mutable = [
        ("storage_type", json!("mmap")),
        ("index", json!({"index_type": "MutableRam"})),
    ];
    let kinds = [
        ("vector_data", dense.collect::<Vec<_>>(), plain),
        ("sparse_vector_data", sparse.collect(), mutable),
    ];
    for segment in closed_segments(folder)? {
        let mut state = read_state(&segment.folder)?;
        let mut is_changed = false;
        for (kind, vectors, storage) in &kinds {
            let Some(config) = state.get_mut("config").and_then(Value::as_object_mut) else {
                continue;
            };
            if vectors.is_empty() && !config.contains_key(*kind) {
                continue;
            }
            let there = config.entry(*kind).or_insert_with(|| json!({}));
            let Some(there) = there.as_object_mut() else {
                continue;
            };
            for (name, params) in vectors {
                if !there.contains_key(*name) {
                    there.insert((*name).clone(), Value::Object(params.clone()));
                    there[*name]["storage_type"] = json!(EMPTY);
                }
            }
            for (_, vector) in there.iter_mut() {
                let kind = vector["storage_type"].as_str();
                if kind.is_some_and(|kind| kind.eq_ignore_ascii_case(EMPTY)) {
                    for (key, value) in storage {
                        vector[*key] = value.clone();
                    }
                    is_changed = true;
                }
            }
        }
        if is_changed {
            write_state(&segment.folder, &state)?;
        }
    }
    Ok(())
}

/// Has the engine leave the storages of the closed shard in `folder` on the disk when it opens them, until
/// [`OnDisk::undo`]; payload indexes are removed unless `keeps_payload_indexes`.
pub fn leave_on_disk(folder: &Path, keeps_payload_indexes: bool) -> Result<OnDisk> {
    let mut configs = BTreeMap::new();
    for segment in closed_segments(folder)? {
        if !keeps_payload_indexes {
            remove_payload_indexes(&segment)?;
        }
        let mut state = read_state(&segment.folder)?;
        let before = state["config"].clone();
        if place_on_disk(&mut state) {
            write_state(&segment.folder, &state)?;
            configs.insert(segment.uuid, before);
        }
    }
    Ok(OnDisk { configs })
}

/// Storages that were left on the disk.
#[derive(Debug)]
pub struct OnDisk {
    /// The config of each segment, as it was.
    configs: BTreeMap<Uuid, Value>,
}

impl OnDisk {
    /// Gives the segments that are still in the closed shard in `folder` their own places of storages back.
    pub fn undo(self, folder: &Path) -> Result<()> {
        for (uuid, config) in self.configs {
            let segment = folder.join(layout::SEGMENTS).join(uuid.to_string());
            if segment.exists() {
                let mut state = read_state(&segment)?;
                state["config"] = config;
                write_state(&segment, &state)?;
            }
        }
        Ok(())
    }
}

fn remove_payload_indexes(segment: &ClosedSegment) -> Result<()> {
    let indexes = segment.folder.join(layout::PAYLOAD_INDEXES);
    match indexes.exists() {
        false => Ok(()),
        true => std::fs::remove_dir_all(&indexes)
            .map_err(|err| Error::io("removing scratch folder", &indexes, &err)),
    }
}

/// Has the engine leave on the disk what it would read into memory when it opens the segment, of vectors all
/// 32 MiB of a storage with a single one too; returns true if it changed anything.
fn place_on_disk(state: &mut Value) -> bool {
    let mut changed = false;
    let vectors = state.pointer_mut("/config/vector_data");
    let vectors = vectors.and_then(Value::as_object_mut);
    for (_, vector) in vectors.into_iter().flatten() {
        let storage = DenseStorage::of_vector(vector);
        if let Some(on_disk) = storage.and_then(|storage| storage.on_disk_form) {
            vector["storage_type"] = on_disk.into();
            changed = true;
        }
    }
    let (in_memory, on_disk) = PAYLOAD_IN_MEMORY;
    let payload = state.pointer_mut("/config/payload_storage_type/type");
    if let Some(kind) = payload.filter(|kind| **kind == in_memory) {
        *kind = on_disk.into();
        changed = true;
    }
    changed
}

/// Makes the closed shard in `folder` cheaper to open for who only reads points: with storages left on the disk,
/// without graphs and quantized vectors where the segment does not become another kind by that, and without
/// payload indexes unless `keeps_payload_indexes`. The engine would hold them in memory.
pub fn lighten(folder: &Path, keeps_payload_indexes: bool) -> Result<()> {
    for segment in closed_segments(folder)? {
        if !keeps_payload_indexes {
            remove_payload_indexes(&segment)?;
        }
        let mut state = read_state(&segment.folder)?;
        let placed = place_on_disk(&mut state);
        if forget_graphs(&mut state) || placed {
            write_state(&segment.folder, &state)?;
        }
    }
    Ok(())
}

/// Makes the closed `segment` one that nothing is added to; only of such a segment does the engine
/// leave the ids on disk. The segment must have no payload index and only be read by ids. Returns
/// true if it could be done.
///
/// The engine goes by the storage of the vectors, which stays as it is, or by their index. So the
/// first vector gets a graph of no points that its config forbids to search (`m` 0: the engine
/// looks at every vector). The files follow segment/index/hnsw_index/graph_layers.rs and
/// graph_links/header.rs.
pub fn forbid_additions(segment: &ClosedSegment) -> Result<bool> {
    let mut state = read_state(&segment.folder)?;
    let vectors = state
        .pointer_mut("/config/vector_data")
        .and_then(Value::as_object_mut);
    // A name may be a way out of the folder; that is for the engine to refuse.
    let first = (vectors.into_iter().flatten()).find(|(name, _)| !name.contains('/'));
    let Some((name, vector)) = first else {
        return Ok(false);
    };
    let folder = segment.folder.join(layout::vector_index(name));
    let failed = |err: std::io::Error| Error::io("writing", &folder, &err);
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let words = |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|w| w.to_le_bytes()).collect() };
    // m, m0, ef_construct; no entry points, no further ones, of which there may be one.
    std::fs::write(folder.join("graph.bin"), words(&[0, 0, 1, 0, 0, 1])).map_err(failed)?;
    // No points, one level, no neighbours, one offset, and five words without meaning; that the first
    // level begins at 0, and where the neighbours end.
    let links = words(&[0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
    std::fs::write(folder.join("links.bin"), links).map_err(failed)?;
    let options = json!({"m": 0, "ef_construct": 1, "full_scan_threshold": 0});
    vector["index"] = json!({"type": "hnsw", "options": options});
    write_state(&segment.folder, &state)?;
    Ok(true)
}

/// Removes graphs and quantization from `state`; returns true if it changed anything. A segment
/// whose vectors lie in a storage that things are added to is told from others by its index alone,
/// and must keep it.
fn forget_graphs(state: &mut Value) -> bool {
    let mut changed = false;
    let vectors = state
        .pointer_mut("/config/vector_data")
        .and_then(Value::as_object_mut);
    for (_, vector) in vectors.into_iter().flatten() {
        if !DenseStorage::of_vector(vector).is_some_and(|storage| storage.is_fixed) {
            continue;
        }
        if vector["index"]["type"] == "hnsw" {
            vector["index"] = json!({"type": "plain", "options": {}});
            changed = true;
        }
        if vector["quantization_config"].is_object() {
            vector["quantization_config"] = Value::Null;
            changed = true;
        }
    }
    changed
}

/// Empties every file in `folder` without making any shorter: who has one mapped reads zeros, and
/// there is nothing left to write to the disk.
pub(super) fn empty(folder: &Path) -> Result<()> {
    let failed = |path: &Path, err: std::io::Error| Error::io("emptying scratch", path, &err);
    for entry in std::fs::read_dir(folder).map_err(|err| failed(folder, err))? {
        let path = entry.map_err(|err| failed(folder, err))?.path();
        // A log prepares its next file in the background, and renames it when it is ready.
        let gone = |err: &std::io::Error| err.kind() == std::io::ErrorKind::NotFound;
        let meta = match path.symlink_metadata() {
            Err(err) if gone(&err) => continue,
            meta => meta.map_err(|err| failed(&path, err))?,
        };
        if meta.is_dir() {
            empty(&path)?;
        } else if meta.len() > 0 {
            let file = match OpenOptions::new().write(true).open(&path) {
                Err(err) if gone(&err) => continue,
                file => file.map_err(|err| failed(&path, err))?,
            };
            let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // A file system that cannot do it only costs time.
            let _ = fallocate(&file, how, 0, meta.len());
        }
    }
    Ok(())
}

fn read_state(segment: &Path) -> Result<Value> {
    let path = segment.join(layout::SEGMENT_STATE);
    let bytes = std::fs::read(&path).map_err(|err| Error::io("reading", &path, &err))?;
    serde_json::from_slice(&bytes)
        .map_err(|err| Error::failed(format!("reading {}", path.display()), err))
}

fn write_state(segment: &Path, state: &Value) -> Result<()> {
    let path = segment.join(layout::SEGMENT_STATE);
    let bytes = serde_json::to_vec(state)
        .map_err(|err| Error::failed(format!("writing {}", path.display()), err))?;
    std::fs::write(&path, bytes).map_err(|err| Error::io("writing", &path, &err))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_are_forgotten_only_where_the_segment_stays_what_it_is() {
        let vector = |storage: &str| {
            json!({
                "size": 4,
                "storage_type": storage,
                "index": {"type": "hnsw", "options": {"m": 16}},
                "quantization_config": {"scalar": {"type": "int8"}},
            })
        };
        let state = |storage: &str| json!({"config": {"vector_data": {"": vector(storage)}}});
        for storage in ["Mmap", "InRamMmap"] {
            let mut lighter = state(storage);
            assert!(forget_graphs(&mut lighter), "{storage}");
            let vector = &lighter["config"]["vector_data"][""];
            assert_eq!(vector["index"]["type"], "plain", "{storage}");
            assert_eq!(vector["quantization_config"], Value::Null, "{storage}");
            assert!(!forget_graphs(&mut lighter), "{storage}");
        }
        for storage in ["ChunkedMmap", "InRamChunkedMmap", "GraphInline", "Memory"] {
            let mut kept = state(storage);
            assert!(!forget_graphs(&mut kept), "{storage}");
            assert_eq!(kept, state(storage));
        }
    }

    #[test]
    fn an_emptied_file_keeps_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("file");
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        std::fs::write(&path, vec![7; 10_000]).unwrap();
        empty(folder.path()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 10_000);
        assert!(bytes.iter().all(|byte| *byte == 0 || *byte == 7));
    }
}
