//! Laying a user's overrides over the draft of the master's config.
//!
//! Invariants: the config file comes first and the flags over it; what is stated in one spelling
//! never loses to a source's other spelling; an override becomes a decision only if it changes
//! something or settles what sources differed in.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::draft::{Draft, HNSW, OPTIMIZER, QUANTIZATION, WAL};
use crate::format::schema::compare::{canonical, dense_tuning, show, sparse_tuning};
use crate::format::schema::config::{hnsw_placement, payload_on_disk};
use crate::format::schema::config_keys;
use crate::format::schema::enums::{Memory, ShardingMethod};
use crate::format::schema::overrides::{Overrides, UserConfig};
use crate::format::schema::vectors::{SparseParams, VectorParams, vector_label};

const STRICT: &str = "strict_mode_config";
/// The two spellings of where a part is kept; `memory` wins where both are stated.
const PLACEMENT: [&str; 2] = ["on_disk", "memory"];

impl Draft<'_> {
    pub(super) fn apply_config(&mut self, user: &UserConfig) {
        let because = format!("--config {}", user.file);
        let vectors = std::mem::take(&mut self.vectors);
        self.vectors = self.overlay(
            vectors,
            user.vectors.iter().map(|(n, v)| (n, &v.raw)),
            config_keys::VECTOR,
            &because,
            |raw| VectorParams::read(raw).map(|v| dense_tuning(&v)),
        );
        let sparse = std::mem::take(&mut self.sparse);
        self.sparse = self.overlay(
            sparse,
            user.sparse.iter().map(|(n, v)| (n, &v.raw)),
            config_keys::SPARSE,
            &because,
            |raw| SparseParams::read(raw).map(|v| sparse_tuning(&v)),
        );
        for (key, value) in &user.params {
            match key.as_str() {
                "on_disk_payload" | "payload" => {}
                "sharding_method" => {
                    let method = ShardingMethod::from_word(value.as_str().unwrap_or_default());
                    self.set_sharding(&method, &because);
                }
                _ => self.set_param(key, value.clone(), &because),
            }
        }
        self.set_payload_placement(&user.params, &because);
        self.set_graph_placement(&user.hnsw, &because);
        for (part, stated) in [
            (HNSW, &user.hnsw),
            (OPTIMIZER, &user.optimizer),
            (WAL, &user.wal),
        ] {
            for (key, value) in stated {
                if part != HNSW || !PLACEMENT.contains(&key.as_str()) {
                    self.set(part, key, value.clone(), &because);
                }
            }
        }
        if let Some(quantization) = &user.quantization {
            self.set_top(QUANTIZATION, quantization.clone(), &because);
        }
        if let Some(Value::Object(stated)) = user.whole.get(STRICT) {
            self.set_strict_mode(stated, &because);
        }
        if let Some(metadata) = user.whole.get("metadata") {
            self.set_top("metadata", metadata.clone(), &because);
        }
    }

    /// Puts the user's statement of each vector in place of the sources'. It is complete (it has to
    /// name size and distance), so what it leaves out is left out; only keys that no table lists
    /// stay from the source.
    pub(super) fn overlay<'b>(
        &mut self,
        mut vectors: BTreeMap<String, Map<String, Value>>,
        stated: impl Iterator<Item = (&'b String, &'b Map<String, Value>)>,
        table: &[config_keys::Field],
        because: &str,
        tuning: impl Fn(&Map<String, Value>) -> Result<BTreeMap<String, Value>, String>,
    ) -> BTreeMap<String, Map<String, Value>> {
        for (name, raw) in stated {
            let label = vector_label(name);
            let Some(had) = vectors.get_mut(name) else {
                vectors.insert(name.clone(), raw.clone());
                let because = format!("{because} names it; no source has it");
                self.decide(&label, "added, empty", because);
                continue;
            };
            self.later.remove(name);
            let of_this = format!("{label} ");
            self.decisions.retain(|d| !d.about.starts_with(&of_this));
            let mut merged: Map<String, Value> = had
                .iter()
                .filter(|(key, _)| !table.iter().any(|f| f.name == *key || f.alias == *key))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            merged.extend(raw.clone());
            if tuning(had) != tuning(&merged) {
                self.decide(&format!("{label} tuning"), "as stated", because);
            }
            *had = merged;
        }
        vectors
    }

    pub(super) fn apply_flags(&mut self, flags: &Overrides) {
        if let Some(n) = flags.shard_number {
            self.set_param("shard_number", n.into(), "--shards");
        }
        if let Some(method) = &flags.sharding_method {
            self.set_sharding(method, "stated");
        }
        for (key, flag, value) in [
            ("m", "--hnsw-m", flags.hnsw_m),
            (
                "ef_construct",
                "--hnsw-ef-construct",
                flags.hnsw_ef_construct,
            ),
        ] {
            if let Some(value) = value {
                self.set(HNSW, key, value.into(), flag);
                self.clear_own_hnsw(key, value, flag);
            }
        }
        for (key, flag, value) in [
            (
                "indexing_threshold",
                "--indexing-threshold",
                flags.indexing_threshold,
            ),
            (
                "memmap_threshold",
                "--memmap-threshold",
                flags.memmap_threshold,
            ),
        ] {
            if let Some(value) = value {
                self.set(OPTIMIZER, key, value.into(), flag);
            }
        }
        if let Some(on_disk) = flags.on_disk_payload {
            let stated = Map::from_iter([("on_disk_payload".to_owned(), on_disk.into())]);
            self.set_payload_placement(&stated, "--on-disk-payload");
        }
        if let Some(on_disk) = flags.on_disk_vectors {
            self.set_vectors_on_disk(on_disk);
        }
        if let Some(quantization) = &flags.quantization {
            self.set_top(QUANTIZATION, quantization.to_json(), "--quantization");
            let mut cleared = Vec::new();
            for (name, vector) in &mut self.vectors {
                let own = [vector.remove(QUANTIZATION), vector.remove("quantization")];
                if own.iter().flatten().any(|v| !v.is_null()) {
                    cleared.push(format!("{} {QUANTIZATION}", vector_label(name)));
                }
            }
            let chosen = show(Some(&quantization.to_json()));
            for about in cleared {
                self.decide(&about, chosen.clone(), "--quantization, for every vector");
            }
        }
    }

    /// A flag about the graph holds for every vector: those that state a number of their own follow
    /// it, except one that states to have no graph at all, which is a choice of another kind.
    pub(super) fn clear_own_hnsw(&mut self, key: &str, value: u64, flag: &str) {
        let mut decided = Vec::new();
        for (name, vector) in &mut self.vectors {
            let Some(Value::Object(diff)) = vector.get_mut(HNSW) else {
                continue;
            };
            let Some(own) = diff.get(key).and_then(Value::as_u64) else {
                continue;
            };
            let about = format!("{} {HNSW}.{key}", vector_label(name));
            if key == "m" && own == 0 {
                if value != 0 {
                    let because = format!("it has no graph by its own setting; {flag} leaves that");
                    decided.push((about, own, because));
                }
                continue;
            }
            diff.remove(key);
            if diff.is_empty() {
                vector.remove(HNSW);
            }
            if own != value {
                decided.push((about, value, format!("{flag}, for every vector")));
            }
        }
        for (about, chosen, because) in decided {
            self.decide(&about, chosen.to_string(), because);
        }
    }

    pub(super) fn set_vectors_on_disk(&mut self, on_disk: bool) {
        let wanted = Memory::from_on_disk(on_disk);
        let mut changed = Vec::new();
        for (name, vector) in &mut self.vectors {
            let had = VectorParams::read(vector).ok().map(|v| v.placement());
            vector.remove("memory");
            vector.insert("on_disk".to_owned(), on_disk.into());
            if had.as_ref() != Some(&wanted) {
                changed.push(format!("{} memory", vector_label(name)));
            }
        }
        for about in changed {
            self.decide(&about, wanted.as_word(), "--on-disk-vectors");
        }
    }

    /// A vector that the first source lacks was tuned under another collection's settings. Where
    /// those differ from the master's and nothing was stated, they become the vector's own.
    pub(super) fn pin_later_vectors(&mut self, overrides: &Overrides) {
        let global = self.parts.get(HNSW).cloned().unwrap_or_default();
        let quantization = self.raw.get(QUANTIZATION).filter(|v| !v.is_null()).cloned();
        let quantization_stated =
            overrides.quantization.is_some() || self.stated.contains(QUANTIZATION);
        let mut decided = Vec::new();
        for (name, (source, config)) in &self.later {
            let Some(vector) = self.vectors.get_mut(name) else {
                continue;
            };
            let label = vector_label(name);
            let because = format!("as in {source}, the first source that has the vector");
            let mut diff = VectorParams::read(vector)
                .ok()
                .and_then(|v| v.hnsw_config)
                .unwrap_or_default();
            let mut merged = global.clone();
            merged.extend(diff.clone());
            let was = config.effective_hnsw(name).raw;
            let mut pins = Vec::new();
            for (key, value) in &was {
                // Threads are the machine's affair, and the placement has two spellings.
                if ["max_indexing_threads", "on_disk", "memory"].contains(&key.as_str()) {
                    continue;
                }
                if merged.get(key).map(canonical) != Some(canonical(value)) {
                    pins.push((key.as_str(), value.clone()));
                }
            }
            let placement = hnsw_placement(&was);
            if placement != hnsw_placement(&merged) {
                let newer = merged.contains_key("memory") || placement == Memory::Pinned;
                pins.push(if newer {
                    ("memory", placement.as_word().into())
                } else {
                    ("on_disk", (placement == Memory::Cold).into())
                });
            }
            for (key, value) in pins {
                let spelled = if key == "on_disk" { "memory" } else { key };
                if self.stated.contains(&format!("{HNSW}.{spelled}")) {
                    continue;
                }
                let about = format!("{label} {HNSW}.{key}");
                decided.push((about, show(Some(&value)), because.clone()));
                diff.insert(key.to_owned(), value);
            }
            if !diff.is_empty() {
                vector.insert(HNSW.to_owned(), diff.into());
            }

            let own = config.effective_quantization(name);
            let about = format!("{label} {QUANTIZATION}");
            let same = own.map(canonical) == quantization.as_ref().map(canonical);
            let stated = VectorParams::read(vector).is_ok_and(|v| v.quantization_config.is_some());
            if same || stated || quantization_stated {
                continue;
            }
            if let Some(own) = own {
                decided.push((about, show(Some(own)), because));
                vector.insert(QUANTIZATION.to_owned(), own.clone());
            } else {
                let because = "the collection's: Qdrant cannot state none for one vector";
                decided.push((about, show(quantization.as_ref()), because.to_owned()));
            }
        }
        for (about, chosen, because) in decided {
            self.decide(&about, chosen, because);
        }
    }

    /// Takes over where payload is kept, if `stated` says so in either spelling; the other one must
    /// not stay behind and win.
    pub(super) fn set_payload_placement(&mut self, stated: &Map<String, Value>, because: &str) {
        let keys = ["on_disk_payload", "payload"];
        if !keys.iter().any(|key| stated.contains_key(*key)) {
            return;
        }
        let had = payload_on_disk(&self.params);
        if let Some(Value::Object(payload)) = self.params.get_mut("payload") {
            payload.remove("memory");
            if payload.is_empty() {
                self.params.remove("payload");
            }
        }
        for key in keys {
            if let Some(value) = stated.get(key) {
                self.params.insert(key.to_owned(), value.clone());
            }
        }
        let has = payload_on_disk(&self.params);
        if had != has || self.decided("on_disk_payload") {
            self.decide("on_disk_payload", has.to_string(), because);
        }
    }

    /// The same for graphs.
    pub(super) fn set_graph_placement(&mut self, stated: &Map<String, Value>, because: &str) {
        if !PLACEMENT.iter().any(|key| stated.contains_key(*key)) {
            return;
        }
        let hnsw = self.parts.entry(HNSW).or_default();
        let had = hnsw_placement(hnsw);
        for key in PLACEMENT {
            hnsw.remove(key);
            if let Some(value) = stated.get(key) {
                hnsw.insert(key.to_owned(), value.clone());
            }
        }
        let has = hnsw_placement(hnsw);
        let path = format!("{HNSW}.memory");
        if had != has || self.decided(&path) {
            self.decide(&path, has.as_word(), because);
        }
        self.stated.insert(path);
    }

    pub(super) fn set_sharding(&mut self, method: &ShardingMethod, because: &str) {
        let had = self.params.remove("sharding_method");
        let had = had.as_ref().and_then(Value::as_str).unwrap_or("auto");
        if had != method.as_word() || self.decided("sharding_method") {
            self.decide("sharding_method", method.as_word(), because);
        }
        // Automatic is the default, and older servers write nothing for it.
        if *method != ShardingMethod::Auto {
            let word = method.as_word().into();
            self.params.insert("sharding_method".to_owned(), word);
        }
    }

    pub(super) fn set_strict_mode(&mut self, stated: &Map<String, Value>, because: &str) {
        let had = self.raw.get(STRICT).and_then(Value::as_object);
        let mut strict = had.cloned().unwrap_or_default();
        for (key, value) in stated {
            let path = format!("{STRICT}.{key}");
            self.note(&path, strict.get(key), value, because);
            strict.insert(key.clone(), value.clone());
        }
        self.raw.insert(STRICT.to_owned(), strict.into());
    }

    pub(super) fn set(&mut self, part: &'static str, key: &str, value: Value, because: &str) {
        let path = format!("{part}.{key}");
        let had = self.parts.get(part).and_then(|map| map.get(key)).cloned();
        self.note(&path, had.as_ref(), &value, because);
        let map = self.parts.entry(part).or_default();
        map.insert(key.to_owned(), value);
        self.stated.insert(path);
    }

    pub(super) fn set_param(&mut self, key: &str, value: Value, because: &str) {
        let had = self.params.get(key).cloned();
        self.note(key, had.as_ref(), &value, because);
        self.params.insert(key.to_owned(), value);
    }

    pub(super) fn set_top(&mut self, key: &str, value: Value, because: &str) {
        let had = self.raw.get(key).cloned();
        self.note(key, had.as_ref(), &value, because);
        self.raw.insert(key.to_owned(), value);
        self.stated.insert(key.to_owned());
    }

    /// An override is a decision if it changes something, or settles what sources differed in.
    pub(super) fn note(&mut self, path: &str, had: Option<&Value>, value: &Value, because: &str) {
        let had = had.filter(|v| !v.is_null()).map(canonical);
        let has = Some(value).filter(|v| !v.is_null()).map(canonical);
        if had != has || self.decided(path) {
            self.decide(path, show(Some(value)), because);
        }
    }
}
