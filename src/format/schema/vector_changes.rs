//! Vectors of sources that have another name in a master, or are left out of it.
//!
//! Invariants: a vector of a source has one name in the master or none; two vectors of a source never get
//! one name; of a config nothing else changes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::Source;
use super::config::CollectionConfig;
use super::vectors::vector_label;
use crate::base::error::{Error, Result};

/// Bytes of a vector's name, at the most.
const NAME_BYTES_MAX: usize = 200;
/// Characters that are in no name of a vector.
const NOT_IN_NAMES: [char; 11] = ['<', '>', ':', '"', '/', '\\', '|', '?', '*', '\0', '\u{1F}'];

/// Vectors that have another name in the master, and those that are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VectorChanges {
    renamed: BTreeMap<String, String>,
    dropped: BTreeSet<String>,
}

impl VectorChanges {
    /// Those that are `renamed`, new names by old ones, and `dropped`.
    ///
    /// # Errors
    /// [`crate::base::error::Kind::Usage`] if a vector is both, or a new name cannot be part of a file's name.
    pub fn new(
        renamed: impl IntoIterator<Item = (String, String)>,
        dropped: impl IntoIterator<Item = String>,
    ) -> Result<Self> {
        let mut changes = Self {
            renamed: BTreeMap::new(),
            dropped: dropped.into_iter().collect(),
        };
        for (old, new) in renamed {
            let refuse = |why: String| {
                Err(Error::usage(
                    format!("reading --rename-vector {old}={new}"),
                    why,
                ))
            };
            // As a server has it, since segments have files that are called after their vectors
            // (`validate_vector_name` in lib/common/common/src/validation.rs).
            if new.contains(NOT_IN_NAMES) || [".", ".."].contains(&new.as_str()) {
                return refuse("the new name cannot be that of a file".into());
            }
            if new.len() > NAME_BYTES_MAX {
                return refuse(format!("a name has at most {NAME_BYTES_MAX} bytes"));
            }
            if changes.dropped.contains(&old) {
                return refuse(format!(
                    "{} is left out by --drop-vector",
                    vector_label(&old)
                ));
            }
            if let Some(other) = changes.renamed.insert(old.clone(), new.clone())
                && other != new
            {
                return refuse(format!("it is renamed to '{other}' too"));
            }
        }
        Ok(changes)
    }

    /// The same of literals, in tests.
    #[cfg(test)]
    pub fn of(renamed: &[(&str, &str)], dropped: &[&str]) -> Result<Self> {
        let renamed = renamed
            .iter()
            .map(|(old, new)| ((*old).to_owned(), (*new).to_owned()));
        Self::new(renamed, dropped.iter().map(ToString::to_string))
    }

    /// Returns true if every vector stays as it is.
    pub fn is_none(&self) -> bool {
        self.renamed.is_empty() && self.dropped.is_empty()
    }

    /// New names by old ones.
    pub fn renamed(&self) -> &BTreeMap<String, String> {
        &self.renamed
    }

    /// Vectors that are left out.
    pub fn dropped(&self) -> &BTreeSet<String> {
        &self.dropped
    }

    /// The name in the master of the vector that a source calls `name`; none if it is left out.
    pub fn name<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        if self.dropped.contains(name) {
            return None;
        }
        Some(self.renamed.get(name).map_or(name, String::as_str))
    }

    /// The name in a source with `config` of the vector that the master calls `name`; none if the source has
    /// no such vector.
    pub fn name_in<'a>(&self, config: &'a CollectionConfig, name: &str) -> Option<&'a str> {
        let mut names = config
            .vectors()
            .keys()
            .chain(config.sparse_vectors().keys());
        let found = names.find(|own| self.name(own) == Some(name));
        found.map(String::as_str)
    }

    /// `map`, whose keys are names of vectors, as the master has it; the two names that would be one, if
    /// there are any.
    pub fn keys(&self, map: Map<String, Value>) -> Result<Map<String, Value>, (String, String)> {
        let mut old: BTreeMap<String, String> = BTreeMap::new();
        let mut changed = Map::new();
        for (name, value) in map {
            let Some(new) = self.name(&name) else {
                continue;
            };
            if let Some(other) = old.insert(new.to_owned(), name.clone()) {
                return Err((other, name));
            }
            changed.insert(new.to_owned(), value);
        }
        Ok(changed)
    }

    /// `config`, of the source called `source`, as the master would have it of this source alone.
    ///
    /// # Errors
    /// [`crate::base::error::Kind::Usage`] if two of its vectors would get one name, or the master cannot have
    /// such names.
    pub fn config(&self, source: &str, config: &CollectionConfig) -> Result<CollectionConfig> {
        let refuse = |why: String| {
            Error::usage(format!("renaming the vectors of {source}"), why)
                .next("choose other names, or leave one of them out with --drop-vector")
        };
        let both = |(one, other): (String, String)| {
            let (one, other) = (vector_label(&one), vector_label(&other));
            refuse(format!("{one} and {other} would get the same name"))
        };
        let mut raw = config.raw().clone();
        let Some(params) = raw.get_mut("params").and_then(Value::as_object_mut) else {
            return Ok(config.clone());
        };
        let dense = config.vectors().iter();
        let dense: Map<String, Value> = dense
            .map(|(name, vector)| (name.clone(), vector.raw.clone().into()))
            .collect();
        let mut dense = self.keys(dense).map_err(both)?;
        // The vector without a name is the only dense one, in a form of its own.
        if dense.contains_key("") && dense.len() > 1 {
            return Err(refuse(
                "beside the unnamed vector there can be no other dense one".into(),
            ));
        }
        let dense = dense.remove("").unwrap_or(Value::Object(dense));
        params.insert("vectors".into(), dense);
        if let Some(Value::Object(sparse)) = params.get_mut("sparse_vectors") {
            *sparse = self.keys(std::mem::take(sparse)).map_err(both)?;
        }
        // Limits of the strict mode by vector.
        if let Some(Value::Object(strict)) = raw.get_mut("strict_mode_config") {
            for key in ["multivector_config", "sparse_config"] {
                if let Some(Value::Object(limits)) = strict.get_mut(key) {
                    *limits = self.keys(std::mem::take(limits)).map_err(both)?;
                }
            }
        }
        CollectionConfig::from_map(raw).map_err(refuse)
    }

    /// Refuses names that no source has: they are typed wrongly.
    pub fn refuse_unknown(&self, sources: &[Source<'_>]) -> Result<()> {
        let names: BTreeSet<&str> = sources
            .iter()
            .flat_map(|(_, config, _)| {
                let sparse = config.sparse_vectors().keys();
                config.vectors().keys().chain(sparse)
            })
            .map(String::as_str)
            .collect();
        let renamed = self.renamed.keys().map(|name| ("--rename-vector", name));
        let dropped = self.dropped.iter().map(|name| ("--drop-vector", name));
        for (option, name) in renamed.chain(dropped) {
            if !names.contains(name.as_str()) {
                let labels: Vec<String> = names.iter().map(|name| vector_label(name)).collect();
                return Err(Error::usage(
                    format!("reading {option} {name}"),
                    format!(
                        "no source has {}; there are {}",
                        vector_label(name),
                        labels.join(", ")
                    ),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::PayloadSchema;
    use super::*;

    fn changes(renamed: &[(&str, &str)], dropped: &[&str]) -> VectorChanges {
        VectorChanges::of(renamed, dropped).unwrap()
    }

    fn config(vectors: Value, sparse: Value) -> CollectionConfig {
        let config = json!({
            "params": {"vectors": vectors, "sparse_vectors": sparse, "shard_number": 1},
            "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
            "optimizer_config": {"default_segment_number": 0, "flush_interval_sec": 5},
            "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
            "strict_mode_config": {"enabled": true, "sparse_config": {"words": {"max_length": 9}}},
        });
        CollectionConfig::parse("test", config.to_string().as_bytes()).unwrap()
    }

    fn dense(size: u64) -> Value {
        json!({"size": size, "distance": "Dot", "on_disk": true})
    }

    #[test]
    fn a_config_has_the_new_names_and_is_the_same_otherwise() {
        let before = config(
            json!({"image": dense(4), "text": dense(8), "old": dense(2)}),
            json!({"words": {}, "tags": {"modifier": "idf"}}),
        );
        // Two that change places, one that is left out, sparse ones too.
        let swap = changes(
            &[("image", "text"), ("text", "image"), ("words", "terms")],
            &["old", "tags"],
        );
        let after = swap.config("a", &before).unwrap();
        let wanted = config(
            json!({"text": dense(4), "image": dense(8)}),
            json!({"terms": {}}),
        );
        let mut wanted = wanted.raw().clone();
        wanted["strict_mode_config"] =
            json!({"enabled": true, "sparse_config": {"terms": {"max_length": 9}}});
        assert_eq!(after.raw(), &wanted);
        assert_eq!(swap.name_in(&before, "text"), Some("image"));
        assert_eq!(swap.name_in(&before, "old"), None);
        assert_eq!(swap.name_in(&before, "words"), None);
    }

    #[test]
    fn the_unnamed_vector_gets_a_name_and_loses_it() {
        let unnamed = config(dense(4), Value::Null);
        let named = config(json!({"image": dense(4)}), Value::Null);
        let give = changes(&[("", "image")], &[]);
        assert_eq!(give.config("a", &unnamed).unwrap().raw(), named.raw());
        let take = changes(&[("image", "")], &[]);
        assert_eq!(take.config("a", &named).unwrap().raw(), unnamed.raw());
        let both = config(json!({"image": dense(4), "text": dense(4)}), Value::Null);
        let refused = take.config("a", &both).unwrap_err().to_string();
        assert!(refused.contains("no other dense one"), "{refused}");
        let none = changes(&[], &[""]).config("a", &unnamed).unwrap();
        assert!(none.vectors().is_empty());
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        for (renamed, dropped, why) in [
            (&[("a", "b/c")][..], &[][..], "cannot be that of a file"),
            (&[("a", "..")], &[], "cannot be that of a file"),
            (&[("a", "b\\c")], &[], "cannot be that of a file"),
            (&[("a", "b")], &["a"], "left out by --drop-vector"),
            (&[("a", "b"), ("a", "c")], &[], "renamed to 'b' too"),
        ] {
            let refused = VectorChanges::of(renamed, dropped).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
        let there = config(json!({"a": dense(4), "b": dense(4)}), json!({"words": {}}));
        let refused = changes(&[("a", "b")], &[]).config("x", &there).unwrap_err();
        assert!(refused.to_string().contains("the same name"), "{refused}");
        let refused = changes(&[("a", "words")], &[]).config("x", &there);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("both dense and sparse"), "{refused}");
        let payload = PayloadSchema::default();
        let sources = [("x".to_owned(), &there, &payload)];
        let refused = changes(&[("c", "d")], &[]).refuse_unknown(&sources);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("no source has vector 'c'"), "{refused}");
        assert!(
            changes(&[("a", "d")], &["words"])
                .refuse_unknown(&sources)
                .is_ok()
        );
    }
}
