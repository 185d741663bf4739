//! The master's config while it is being made: the sources' part of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::Decision;
use crate::base::error::{Error, Result};
use crate::format::schema::Source;
use crate::format::schema::compare::{Finding, Severity, compare};
use crate::format::schema::config::CollectionConfig;
use crate::format::schema::config_keys;
use crate::format::schema::config_keys::Reading;
use crate::format::schema::overrides::UserConfig;
use crate::format::schema::payload::PayloadSchema;

/// The master's config while it is being made, in parts.
pub(super) struct Draft<'a> {
    pub(super) raw: Map<String, Value>,
    pub(super) params: Map<String, Value>,
    pub(super) parts: BTreeMap<&'static str, Map<String, Value>>,
    pub(super) vectors: BTreeMap<String, Map<String, Value>>,
    pub(super) sparse: BTreeMap<String, Map<String, Value>>,
    /// Vectors that the first source lacks, with the first source that has each.
    pub(super) later: BTreeMap<String, (&'a str, &'a CollectionConfig)>,
    /// Settings that an override states: they are not pinned for later vectors.
    pub(super) stated: BTreeSet<String>,
    pub(super) decisions: Vec<Decision>,
}

pub(super) const HNSW: &str = "hnsw_config";
pub(super) const OPTIMIZER: &str = "optimizer_config";
pub(super) const WAL: &str = "wal_config";
pub(super) const QUANTIZATION: &str = "quantization_config";

impl<'a> Draft<'a> {
    pub(super) fn new(first: &CollectionConfig) -> Self {
        let mut raw = first.raw().clone();
        raw.remove("uuid");
        // Reading once more settles other spellings; its problems are a source's, found before.
        let part = |key: &str, table| {
            let empty = Map::new();
            let map = first.raw().get(key).and_then(Value::as_object);
            let map = map.unwrap_or(&empty);
            config_keys::read_table(map, table, "", Reading::Source, &mut Vec::new())
        };
        let parts = BTreeMap::from([
            (HNSW, part(HNSW, config_keys::HNSW)),
            (OPTIMIZER, part(OPTIMIZER, config_keys::OPTIMIZER)),
            (WAL, part(WAL, config_keys::WAL)),
        ]);
        Self {
            params: first.params().cloned().unwrap_or_default(),
            raw,
            parts,
            vectors: BTreeMap::new(),
            sparse: BTreeMap::new(),
            later: BTreeMap::new(),
            stated: BTreeSet::new(),
            decisions: Vec::new(),
        }
    }

    /// Records a choice; a later one about the same thing takes its place.
    pub(super) fn decide(
        &mut self,
        about: &str,
        chosen: impl Into<String>,
        because: impl Into<String>,
    ) {
        self.decisions.retain(|d| d.about != about);
        self.decisions.push(Decision {
            about: about.to_owned(),
            chosen: chosen.into(),
            because: because.into(),
        });
    }

    pub(super) fn decided(&self, about: &str) -> bool {
        self.decisions.iter().any(|d| d.about == about)
    }

    /// One decision for each difference between the sources.
    pub(super) fn choose(&mut self, findings: &[Finding], sources: &[Source<'_>]) {
        for finding in findings {
            if finding.severity == Severity::Blocks {
                continue;
            }
            match finding.about.as_str() {
                "shard_number" => {
                    let largest = sources
                        .iter()
                        .map(|(name, c, _)| (c.shard_number(), name))
                        // Of equals the first, so that the reason names the earliest source.
                        .reduce(|a, b| if b.0 > a.0 { b } else { a });
                    if let Some((n, name)) = largest {
                        self.params.insert("shard_number".to_owned(), n.into());
                        let because = format!("the largest, of {name}");
                        self.decide("shard_number", n.to_string(), because);
                    }
                }
                "sharding_method" => {
                    self.params.remove("sharding_method");
                    let because = "not every source has shard keys";
                    self.decide("sharding_method", "auto", because);
                }
                about => {
                    let lacking = finding.values.iter().any(|v| v.value == "none");
                    let Some(won) = finding.values.iter().find(|v| v.value != "none") else {
                        continue;
                    };
                    let because = if lacking {
                        format!("the first source that has it wins: {}", won.source)
                    } else {
                        format!("the first source wins: {}", won.source)
                    };
                    self.decide(about, won.value.clone(), because);
                }
            }
        }
    }

    pub(super) fn take_vectors(&mut self, sources: &'a [Source<'a>]) {
        for (i, (source, config, _)) in sources.iter().enumerate() {
            for (name, params) in config.vectors() {
                if !self.vectors.contains_key(name) {
                    self.vectors.insert(name.clone(), params.raw.clone());
                    if i > 0 {
                        self.later.insert(name.clone(), (source, config));
                    }
                }
            }
            for (name, params) in config.sparse_vectors() {
                self.sparse
                    .entry(name.clone())
                    .or_insert_with(|| params.raw.clone());
            }
        }
    }

    /// Fails with every vector of the user's config that contradicts the sources.
    pub(super) fn fit(&self, user: &UserConfig, sources: &[Source<'_>]) -> Result<()> {
        let mut problems = Vec::new();
        let own = (user.file.clone(), PayloadSchema::default());
        // The same comparison as between sources, with the file in a source's place.
        let stand_in = self.stand_in(user)?;
        for (name, config, payload) in sources {
            let pair = [
                (name.clone(), *config, *payload),
                (own.0.clone(), &stand_in, &own.1),
            ];
            let blocks = compare(&pair)
                .into_iter()
                .filter(|f| f.severity == Severity::Blocks && f.values.len() == 2);
            problems.extend(blocks.map(|f| {
                let said: Vec<String> = f
                    .values
                    .iter()
                    .map(|v| format!("{} in {}", v.value, v.source))
                    .collect();
                format!("{}: {}", f.about, said.join(", "))
            }));
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::usage(
            format!("giving the master the vectors of {}", user.file),
            problems.join("; "),
        )
        .next("state the sources' own values there, or leave the vectors out of the file"))
    }

    /// A config with the user's vectors and nothing else of theirs.
    pub(super) fn stand_in(&self, user: &UserConfig) -> Result<CollectionConfig> {
        let mut raw = self.raw.clone();
        let mut params = Map::new();
        let raws = |(name, raw): (&String, &Map<String, Value>)| (name.clone(), raw.clone().into());
        let dense: Map<String, Value> = user
            .vectors
            .iter()
            .map(|(n, v)| raws((n, &v.raw)))
            .collect();
        let sparse: Map<String, Value> =
            user.sparse.iter().map(|(n, v)| raws((n, &v.raw))).collect();
        params.insert("vectors".to_owned(), dense.into());
        params.insert("sparse_vectors".to_owned(), sparse.into());
        raw.insert("params".to_owned(), params.into());
        raw.remove(QUANTIZATION);
        CollectionConfig::from_map(raw)
            .map_err(|why| Error::usage(format!("reading the config file {}", user.file), why))
    }

    pub(super) fn finish(mut self) -> Result<(CollectionConfig, Vec<Decision>)> {
        let unnamed_form = self
            .params
            .get("vectors")
            .and_then(Value::as_object)
            .is_some_and(config_keys::is_unnamed_vector);
        let only_unnamed = self.vectors.len() == 1;
        let vectors = match self.vectors.get("") {
            Some(params) if unnamed_form && only_unnamed => params.clone(),
            _ => named(&self.vectors),
        };
        self.params.insert("vectors".to_owned(), vectors.into());
        if !self.sparse.is_empty() {
            let sparse = named(&self.sparse);
            self.params
                .insert("sparse_vectors".to_owned(), sparse.into());
        }
        self.raw.insert("params".to_owned(), self.params.into());
        for (part, map) in self.parts {
            self.raw.insert(part.to_owned(), map.into());
        }
        let config = CollectionConfig::from_map(self.raw)
            .map_err(|why| Error::failed("uniting the sources' configs", why))?;
        Ok((config, self.decisions))
    }
}

fn named(vectors: &BTreeMap<String, Map<String, Value>>) -> Map<String, Value> {
    vectors
        .iter()
        .map(|(name, params)| (name.clone(), params.clone().into()))
        .collect()
}
