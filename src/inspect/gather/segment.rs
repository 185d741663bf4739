//! Report on one segment, from its files.
//!
//! Invariants: kinds are told in Qdrant's own words; where a kind is not known here, nothing is said
//! about whether it is on disk.

use serde_json::Value;
use uuid::Uuid;

use crate::format::ids::Format;
use crate::format::rocks::InRocks;
use crate::format::{DenseStorage, Segment, layout};
use crate::inspect::{SegmentPoints, SegmentReport, SegmentVector, Storage};
use crate::source::SegmentCounts;

/// Returns the report of `segment`; `points` is given if they can be read.
pub(super) fn segment_report(
    uuid: Uuid,
    segment: &Segment,
    points: Option<&SegmentCounts>,
) -> SegmentReport {
    let state = segment.state_json();
    let config = &state["config"];
    let dense = entries(&config["vector_data"]).map(|(name, data)| dense(name, data, segment));
    let sparse = entries(&config["sparse_vector_data"]).map(|(name, data)| sparse(name, data));
    SegmentReport {
        uuid,
        version: state["version"].as_u64(),
        bytes: segment.bytes,
        files_count: segment.files.len() as u64,
        points: points.map(|points| SegmentPoints {
            ids: match points.format {
                Format::Nothing => "none",
                Format::Mutable => "mutable",
                Format::Immutable => "immutable",
                Format::Disk => "disk",
            }
            .into(),
            points_count: points.points,
            deleted_count: points.deleted,
            unversioned_count: points.unversioned,
            pending_deletes_count: points.pending_deletes,
        }),
        in_rocksdb: Some(InRocks::of(segment)).filter(|inside| !inside.is_nothing()),
        payload_storage: config["payload_storage_type"]["type"]
            .as_str()
            .map(|kind| Storage {
                kind: kind.to_owned(),
                on_disk: match kind {
                    "mmap" | "on_disk" => Some(true),
                    "in_ram_mmap" | "in_memory" => Some(false),
                    _ => None,
                },
            }),
        payload_indexes: entries(&segment.payload_index_json()["indexed_fields"])
            .map(|(field, _)| field.clone())
            .collect(),
        vectors: dense.chain(sparse).collect(),
    }
}

fn dense(name: &str, data: &Value, segment: &Segment) -> SegmentVector {
    let storage = data["storage_type"].as_str();
    let options = &data["index"]["options"];
    SegmentVector {
        name: name.to_owned(),
        sparse: false,
        storage: storage.map(|kind| Storage {
            kind: kind.to_owned(),
            on_disk: DenseStorage::of(kind).and_then(|storage| storage.on_disk),
        }),
        slots_count: slots(name, data, segment),
        index: data["index"]["type"].as_str().map(|kind| Storage {
            kind: kind.to_owned(),
            on_disk: (kind == "hnsw").then(|| options["on_disk"].as_bool().unwrap_or(false)),
        }),
        hnsw_m: options["m"].as_u64(),
        hnsw_ef_construct: options["ef_construct"].as_u64(),
        quantization: Some(data["quantization_config"].clone()).filter(|value| !value.is_null()),
    }
}

fn sparse(name: &str, data: &Value) -> SegmentVector {
    SegmentVector {
        name: name.to_owned(),
        sparse: true,
        storage: data["storage_type"].as_str().map(|kind| Storage {
            kind: kind.to_owned(),
            on_disk: (kind == "mmap").then_some(true),
        }),
        slots_count: None,
        index: data["index"]["index_type"].as_str().map(|kind| Storage {
            kind: kind.to_owned(),
            on_disk: match kind {
                "Mmap" => Some(true),
                "MutableRam" | "ImmutableRam" => Some(false),
                _ => None,
            },
        }),
        hnsw_m: None,
        hnsw_ef_construct: None,
        quantization: None,
    }
}

/// Returns how many vectors fit into `matrix.dat`: after four bytes of header it has one element after the
/// other (lib/segment/src/vector_storage/dense/immutable_dense_vectors.rs). Chunks are written ahead, and
/// multivectors have any number of rows, so their sizes tell nothing: `None`.
fn slots(name: &str, data: &Value, segment: &Segment) -> Option<u64> {
    const HEADER_BYTES: u64 = 4;
    if !data["multivector_config"].is_null() {
        return None;
    }
    let element_bytes = match &data["datatype"] {
        Value::Null => 4,
        Value::String(word) => match word.as_str() {
            "float32" => 4,
            "float16" => 2,
            "uint8" => 1,
            _ => return None,
        },
        _ => return None,
    };
    let folder = layout::vector_storage(name);
    let file = segment.files.get(&format!("{folder}/matrix.dat"))?;
    let vector_bytes = data["size"].as_u64()?.checked_mul(element_bytes)?;
    let bytes = file.bytes.checked_sub(HEADER_BYTES)?;
    (bytes.checked_rem(vector_bytes)? == 0).then(|| bytes / vector_bytes)
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::format::FileSize;

    fn segment(files: &[(&str, u64)]) -> Segment {
        let size = |bytes| FileSize {
            bytes,
            stored_bytes: bytes,
        };
        Segment {
            files: files
                .iter()
                .map(|(name, bytes)| ((*name).to_owned(), size(*bytes)))
                .collect(),
            ..Segment::default()
        }
    }

    #[test]
    fn slots_are_told_only_where_the_size_tells_them() {
        let files = segment(&[
            ("vector_storage/matrix.dat", 4 + 10 * 8 * 4),
            ("vector_storage-odd/matrix.dat", 4 + 10 * 8 * 4 + 1),
            ("vector_storage-none/matrix.dat", 3),
            ("vector_storage-chunks/vectors/chunk_0.mmap", 4096),
        ]);
        let plain = json!({"size": 8});
        for (name, data, want) in [
            ("", &plain, Some(10)),
            ("", &json!({"size": 8, "datatype": "float32"}), Some(10)),
            ("", &json!({"size": 8, "datatype": "float16"}), Some(20)),
            ("", &json!({"size": 8, "datatype": "uint8"}), Some(40)),
            ("", &json!({"size": 8, "datatype": "turbo4"}), None),
            (
                "",
                &json!({"size": 8, "multivector_config": {"comparator": "max_sim"}}),
                None,
            ),
            ("", &json!({"size": 0}), None),
            ("", &json!({"size": u64::MAX}), None),
            ("", &json!({}), None),
            ("odd", &plain, None),
            ("none", &plain, None),
            ("chunks", &plain, None),
            ("absent", &plain, None),
        ] {
            assert_eq!(slots(name, data, &files), want, "'{name}' {data}");
        }
    }
}
