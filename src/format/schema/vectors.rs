//! The vectors of a collection as its config describes them.
//!
//! Invariants: every described vector has a size within Qdrant's bounds and a distance; a name is
//! either dense or sparse and stays inside a segment's directory, where it becomes part of a file
//! name; the original JSON of each is kept beside what was read from it.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Serialize;
use serde_json::{Map, Value};

use super::config_keys::{self, Reading};
use super::enums::{Comparator, Datatype, Distance, Memory, Modifier};

/// One dense vector of a collection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VectorParams {
    /// Elements in the vector, 1 to 65,536.
    pub size: u64,
    /// Measure of closeness.
    pub distance: Distance,
    /// Storage type of one element; `None` stands for 32-bit floating point.
    pub datatype: Option<Datatype>,
    /// Comparison of the vectors under one name; `None` if a point has just one.
    pub multivector: Option<Comparator>,
    /// The older switch for leaving vectors on disk; see [`VectorParams::placement`].
    pub on_disk: Option<bool>,
    /// Placement of the vectors; wins over `on_disk`.
    pub memory: Option<Memory>,
    /// Settings of this vector that differ from the collection's `hnsw_config`.
    pub hnsw_config: Option<Map<String, Value>>,
    /// Quantization of this vector in place of the collection's.
    pub quantization_config: Option<Value>,
    /// The vector's JSON as it was, unknown keys included.
    #[serde(skip)]
    pub raw: Map<String, Value>,
}

impl VectorParams {
    /// Returns the storage type of one element, the default resolved.
    pub fn datatype(&self) -> Datatype {
        self.datatype.clone().unwrap_or(Datatype::Float32)
    }

    /// Returns the size of the vectors of `points` points in bytes; how many a multivector has is not known here:
    /// it counts as one.
    pub fn bytes(&self, points: u64) -> u64 {
        let element = match self.datatype() {
            Datatype::Uint8 => 1,
            Datatype::Float16 => 2,
            _ => 4,
        };
        points.saturating_mul(self.size).saturating_mul(element)
    }

    /// Returns the placement of the vectors while served, `memory` and `on_disk` resolved as Qdrant
    /// does.
    pub fn placement(&self) -> Memory {
        self.memory
            .clone()
            .unwrap_or_else(|| Memory::from_on_disk(self.on_disk.unwrap_or(false)))
    }

    pub(super) fn read(raw: &Map<String, Value>) -> Result<Self, String> {
        let mut problems = Vec::new();
        let read =
            config_keys::read_table(raw, config_keys::VECTOR, "", Reading::Source, &mut problems);
        let size = match read.get("size").and_then(Value::as_u64) {
            Some(size) if (1..=config_keys::SIZE_MOST).contains(&size) => size,
            _ => {
                let has = raw.get("size").map_or("none".to_owned(), Value::to_string);
                problems.retain(|p| !p.starts_with("size:"));
                problems.push(format!(
                    "size: wants 1 to {}, has {has}",
                    config_keys::SIZE_MOST
                ));
                0
            }
        };
        let distance = word(&read, "distance");
        if distance.is_none() {
            problems.push("distance: missing".to_owned());
        }
        let multivector = match read.get("multivector_config") {
            Some(Value::Object(config)) => {
                let comparator = word(config, "comparator").map(Comparator::from_word);
                if comparator.is_none() {
                    problems.push("multivector_config.comparator: missing".to_owned());
                }
                comparator
            }
            _ => None,
        };
        match distance {
            Some(distance) if problems.is_empty() => Ok(Self {
                size,
                distance: Distance::from_word(distance),
                datatype: word(&read, "datatype").map(Datatype::from_word),
                multivector,
                on_disk: read.get("on_disk").and_then(Value::as_bool),
                memory: word(&read, "memory").map(Memory::from_word),
                hnsw_config: read
                    .get("hnsw_config")
                    .and_then(Value::as_object)
                    .filter(|diff| !diff.is_empty())
                    .cloned(),
                quantization_config: read.get("quantization_config").cloned(),
                raw: raw.clone(),
            }),
            _ => Err(problems.join("; ")),
        }
    }
}

/// One sparse vector of a collection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SparseParams {
    /// The older switch for leaving the index on disk; see [`SparseParams::placement`].
    pub on_disk: Option<bool>,
    /// Placement of the index; wins over `on_disk`.
    pub memory: Option<Memory>,
    /// Below this number of vectors a search scans them all.
    pub full_scan_threshold: Option<u64>,
    /// Storage type of one weight in the index; `None` stands for 32-bit floating point.
    pub datatype: Option<Datatype>,
    /// Modifier of values at query time; `None` stands for no modifier.
    pub modifier: Option<Modifier>,
    /// The vector's JSON as it was, unknown keys included.
    #[serde(skip)]
    pub raw: Map<String, Value>,
}

impl SparseParams {
    /// Returns the storage type of one weight in the index, the default resolved.
    pub fn datatype(&self) -> Datatype {
        self.datatype.clone().unwrap_or(Datatype::Float32)
    }

    /// Returns the modifier of values at query time, the default resolved.
    pub fn modifier(&self) -> Modifier {
        self.modifier.clone().unwrap_or(Modifier::None)
    }

    /// Returns the placement of the index while served, `memory` and `on_disk` resolved as Qdrant
    /// does.
    pub fn placement(&self) -> Memory {
        self.memory
            .clone()
            .unwrap_or_else(|| Memory::from_on_disk_or_pinned(self.on_disk.unwrap_or(false)))
    }

    pub(super) fn read(raw: &Map<String, Value>) -> Result<Self, String> {
        let mut problems = Vec::new();
        let read =
            config_keys::read_table(raw, config_keys::SPARSE, "", Reading::Source, &mut problems);
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        let none = Map::new();
        let index = read
            .get("index")
            .and_then(Value::as_object)
            .unwrap_or(&none);
        Ok(Self {
            on_disk: index.get("on_disk").and_then(Value::as_bool),
            memory: word(index, "memory").map(Memory::from_word),
            full_scan_threshold: index.get("full_scan_threshold").and_then(Value::as_u64),
            datatype: word(index, "datatype").map(Datatype::from_word),
            modifier: word(&read, "modifier").map(Modifier::from_word),
            raw: raw.clone(),
        })
    }
}

fn word<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    map.get(key).and_then(Value::as_str)
}

/// Returns the name of a vector in reports: "vector 'image'", or "the unnamed vector".
pub fn vector_label(name: &str) -> String {
    if name.is_empty() {
        "the unnamed vector".to_owned()
    } else {
        format!("vector '{name}'")
    }
}

/// The dense vectors in `params.vectors`; the unnamed one has the name "".
pub(super) fn read_dense(
    vectors: Option<&Value>,
    problems: &mut Vec<String>,
) -> BTreeMap<String, VectorParams> {
    match vectors {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(Value::Object(map)) if config_keys::is_unnamed_vector(map) => {
            let mut out = BTreeMap::new();
            match VectorParams::read(map) {
                Ok(params) => {
                    out.insert(String::new(), params);
                }
                Err(why) => problems.push(format!("{}: {why}", vector_label(""))),
            }
            out
        }
        Some(value) => read_named(value, "vectors", VectorParams::read, problems),
    }
}

/// The sparse vectors in `params.sparse_vectors`, checked against the names of the dense ones.
pub(super) fn read_sparse(
    vectors: Option<&Value>,
    dense: &BTreeMap<String, VectorParams>,
    problems: &mut Vec<String>,
) -> BTreeMap<String, SparseParams> {
    let sparse = match vectors {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(value) => read_named(value, "sparse_vectors", SparseParams::read, problems),
    };
    for name in sparse.keys() {
        if name.is_empty() {
            problems.push("a sparse vector without a name".to_owned());
        }
        if dense.contains_key(name) {
            let label = vector_label(name);
            problems.push(format!("{label} is both dense and sparse"));
        }
    }
    sparse
}

fn read_named<T>(
    value: &Value,
    what: &str,
    read: impl Fn(&Map<String, Value>) -> Result<T, String>,
    problems: &mut Vec<String>,
) -> BTreeMap<String, T> {
    let mut out = BTreeMap::new();
    let Value::Object(map) = value else {
        problems.push(format!("{what}: wants an object, has {value}"));
        return out;
    };
    for (name, entry) in map {
        let label = vector_label(name);
        if escapes(name) {
            problems.push(format!(
                "{label}: its name leads out of a segment's directory"
            ));
            continue;
        }
        match entry.as_object().map(&read) {
            Some(Ok(params)) => {
                out.insert(name.clone(), params);
            }
            Some(Err(why)) => problems.push(format!("{label}: {why}")),
            None => problems.push(format!("{label}: wants an object, has {entry}")),
        }
    }
    out
}

/// Returns true if a directory named after the vector could lie outside of its segment. The engine
/// joins names to paths, and older servers allowed `a/b`, so only a name that leads out is refused.
fn escapes(name: &str) -> bool {
    name.contains('\0')
        || Path::new(name)
            .components()
            .any(|component| !matches!(component, Component::Normal(_) | Component::CurDir))
}
