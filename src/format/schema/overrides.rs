//! A user's values for the master's config in place of the sources'.
//!
//! Invariants: every value is checked before it is used, and wrong ones are listed together; a
//! key that Qdrant does not know is an error, never ignored; `null` or an absent key states nothing
//! (the sources' value stays), except where Qdrant gives `null` a meaning: thresholds, and
//! quantization ("none").

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::config_keys::{self, Reading};
use super::enums::ShardingMethod;
use super::new_index::NewIndex;
use super::vectors::{self, SparseParams, VectorParams};
use crate::base::error::{Error, Result};
use crate::base::text::serde_as_text;

/// Settings of the master that a user states; `None` leaves what the sources say.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
#[command(next_help_heading = "Config of the master")]
#[serde(default)]
pub struct Overrides {
    /// Number of shards of the master, with shard keys of each key [default: as the sources]
    #[arg(long = "shards", value_name = "N")]
    #[serde(rename = "shards")]
    pub shard_number: Option<u32>,
    /// Distribution of points over shards; custom needs sources that all have shard keys.
    #[arg(skip)]
    #[serde(skip)]
    pub sharding_method: Option<ShardingMethod>,
    /// Edges per node of the HNSW graph: 0 for no graph, else 4 to 1000
    #[arg(long, value_name = "N")]
    pub hnsw_m: Option<u64>,
    /// Neighbours considered while the HNSW graph is built, 4 to 100000
    #[arg(long, value_name = "N")]
    pub hnsw_ef_construct: Option<u64>,
    /// Whether vectors are left on disk
    #[arg(long, value_name = "true|false")]
    pub on_disk_vectors: Option<bool>,
    /// Whether payload is left on disk
    #[arg(long, value_name = "true|false")]
    pub on_disk_payload: Option<bool>,
    /// Size in KB from which a segment gets an index; 0 for never
    #[arg(long, value_name = "KB")]
    pub indexing_threshold: Option<u64>,
    /// Size in KB from which vectors are memory-mapped; 0 for never
    #[arg(long, value_name = "KB")]
    pub memmap_threshold: Option<u64>,
    /// Quantization: none, scalar, scalar:QUANTILE, product:xN or binary
    #[arg(long, value_name = "KIND")]
    pub quantization: Option<Quantization>,
    /// Payload index that the master has besides the sources', or in place of theirs:
    /// FIELD=TYPE[,is_tenant][,on_disk], as group_id=keyword,is_tenant, or FIELD={"type": …} with
    /// Qdrant's own JSON; repeat it for more
    #[arg(long, value_name = "FIELD=TYPE")]
    pub payload_index: Vec<NewIndex>,
    /// Qdrant's own JSON, which the other settings here override.
    #[arg(skip)]
    #[serde(skip)]
    pub config: Option<UserConfig>,
}

impl Overrides {
    /// Fails with every value that cannot be meant.
    pub fn check(&self) -> Result<()> {
        let mut problems = Vec::new();
        let shards_most = config_keys::SHARDS_MOST;
        match self.shard_number {
            Some(n) if n == 0 || u64::from(n) > shards_most => {
                problems.push(format!("--shards wants 1 to {shards_most}, has {n}"));
            }
            _ => {}
        }
        match self.hnsw_m {
            Some(m) if !config_keys::is_hnsw_m(m) => problems.push(format!(
                "--hnsw-m wants 0 (no graph) or 4 to {}, has {m}",
                config_keys::HNSW_M_MOST
            )),
            _ => {}
        }
        let (least, most) = (
            config_keys::EF_CONSTRUCT_LEAST,
            config_keys::EF_CONSTRUCT_MOST,
        );
        match self.hnsw_ef_construct {
            Some(ef) if !(least..=most).contains(&ef) => problems.push(format!(
                "--hnsw-ef-construct wants {least} to {most}, has {ef}"
            )),
            _ => {}
        }
        if let Some(ShardingMethod::Other(word)) = &self.sharding_method {
            let known = ShardingMethod::KNOWN.join(", ");
            problems.push(format!(
                "the sharding method wants one of {known}, has {word}"
            ));
        }
        for (at, index) in self.payload_index.iter().enumerate() {
            let earlier = self.payload_index.iter().take(at);
            if earlier.clone().any(|other| other.field() == index.field()) {
                problems.push(format!("--payload-index names '{}' twice", index.field()));
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Error::usage(
                "reading the master's settings",
                problems.join("; "),
            ))
        }
    }
}

/// Quantization of the master's vectors.
#[derive(Debug, Clone, PartialEq)]
pub enum Quantization {
    /// None, even where the sources have one.
    None,
    /// This one, in Qdrant's JSON: `{"scalar": {…}}`.
    Use {
        /// The short word that it was read from.
        word: String,
        /// `quantization_config`.
        config: Value,
    },
}

serde_as_text!(
    Quantization,
    "Quantization",
    "none, scalar, scalar:QUANTILE, product:xN or binary"
);

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Use { word, .. } => word,
        })
    }
}

impl FromStr for Quantization {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::from_word(text)
    }
}

impl Quantization {
    /// Reads a short word: `none`, `scalar`, `scalar:QUANTILE` (0.5 to 1), `product:xN` (N of 4, 8,
    /// 16, 32, 64), `binary`.
    pub fn from_word(text: &str) -> Result<Self> {
        let (kind, detail) = match text.split_once(':') {
            Some((kind, detail)) => (kind, Some(detail)),
            None => (text, None),
        };
        let using = |config: Value| {
            Ok(Self::Use {
                word: text.to_owned(),
                config,
            })
        };
        let bad = |why: String| {
            Error::usage(format!("reading the quantization \"{text}\""), why).next(
                "give none, scalar, scalar:0.99, product:x16 or binary; state anything else with \
                 --config",
            )
        };
        match (kind, detail) {
            ("none", None) => Ok(Self::None),
            ("scalar", None) => using(json!({"scalar": {"type": "int8"}})),
            ("scalar", Some(quantile)) => match quantile.parse::<f64>() {
                Ok(q) if (0.5..=1.0).contains(&q) => {
                    using(json!({"scalar": {"type": "int8", "quantile": q}}))
                }
                _ => Err(bad(format!("{quantile} is no quantile from 0.5 to 1"))),
            },
            ("product", Some(compression)) if config_keys::COMPRESSIONS.contains(&compression) => {
                using(json!({"product": {"compression": compression}}))
            }
            ("product", _) => Err(bad(format!(
                "product wants its compression, one of {}",
                config_keys::COMPRESSIONS.join(", ")
            ))),
            ("binary", None) => using(json!({"binary": {}})),
            ("none" | "binary", Some(_)) => Err(bad(format!("{kind} takes no detail"))),
            _ => Err(bad(format!("{kind} is no kind of quantization"))),
        }
    }

    /// The JSON of `quantization_config`; null for none.
    pub fn to_json(&self) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Use { config, .. } => config.clone(),
        }
    }
}

/// A user's file of Qdrant's own JSON, checked: a whole `config.json`, or the body of
/// `PUT /collections/NAME`.
#[derive(Debug, Clone, PartialEq)]
pub struct UserConfig {
    pub(super) file: String,
    pub(super) params: Map<String, Value>,
    pub(super) vectors: BTreeMap<String, VectorParams>,
    pub(super) sparse: BTreeMap<String, SparseParams>,
    pub(super) hnsw: Map<String, Value>,
    pub(super) optimizer: Map<String, Value>,
    pub(super) wal: Map<String, Value>,
    /// `Some(Null)` for "none".
    pub(super) quantization: Option<Value>,
    /// `strict_mode_config` and `metadata`, where stated.
    pub(super) whole: Map<String, Value>,
}

impl UserConfig {
    /// Reads and checks the bytes of `file`, which is named in errors.
    ///
    /// The form is told by `params`, which only a `config.json` has at its top. A `uuid` is read
    /// over: the server gives a restored collection its own.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self> {
        let bad = |why: String| {
            Error::usage(format!("reading the config file {file}"), why).next(
                "give a collection's config.json, or the body of PUT /collections/NAME; name only \
                 what should differ from the sources",
            )
        };
        let value: Value = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
        let Value::Object(map) = value else {
            return Err(bad(format!("wants an object, has {value}")));
        };
        let mut problems = Vec::new();
        let full = map.contains_key("params");
        let table = if full {
            config_keys::FULL
        } else {
            config_keys::CREATE
        };
        let mut read = config_keys::read_table(&map, table, "", Reading::User, &mut problems);
        let mut take = |key: &str| match read.remove(key) {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let hnsw = take("hnsw_config");
        let optimizer = take(if full {
            "optimizer_config"
        } else {
            "optimizers_config"
        });
        let wal = take("wal_config");
        let mut params = take("params");
        let quantization = read.remove("quantization_config");
        let mut whole = Map::new();
        for (key, value) in read {
            match key.as_str() {
                "uuid" => {}
                "strict_mode_config" | "metadata" => {
                    whole.insert(key, value);
                }
                // The remaining keys at the top of a create body are in `params` elsewhere.
                _ => {
                    params.insert(key, value);
                }
            }
        }
        let dense = params.remove("vectors");
        let sparse = params.remove("sparse_vectors");
        // Problems that the tables found in the vectors have a better path.
        let checked = problems.is_empty();
        let mut later = Vec::new();
        let vectors = vectors::read_dense(dense.as_ref(), &mut later);
        let sparse = vectors::read_sparse(sparse.as_ref(), &vectors, &mut later);
        if checked {
            problems = later;
        }
        if !problems.is_empty() {
            return Err(bad(problems.join("; ")));
        }
        Ok(Self {
            file: file.to_owned(),
            params,
            vectors,
            sparse,
            hnsw,
            optimizer,
            wal,
            quantization,
            whole,
        })
    }

    /// The file's name, for reports.
    pub fn file(&self) -> &str {
        &self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;
    use crate::format::schema::config::tests::config_json;

    #[test]
    fn short_words_of_quantization() {
        for (word, want) in [
            ("none", json!(null)),
            ("scalar", json!({"scalar": {"type": "int8"}})),
            (
                "scalar:0.99",
                json!({"scalar": {"type": "int8", "quantile": 0.99}}),
            ),
            (
                "scalar:1",
                json!({"scalar": {"type": "int8", "quantile": 1.0}}),
            ),
            ("product:x16", json!({"product": {"compression": "x16"}})),
            ("binary", json!({"binary": {}})),
        ] {
            let read = Quantization::from_word(word).unwrap();
            assert_eq!(read.to_json(), want, "{word}");
            assert!(want.is_null() || config_keys::is_known_quantization(&want));
            // In a plan or a request it is the word: null would be no value at all.
            let told = serde_json::to_value(&read).unwrap();
            assert_eq!(told, json!(word));
            let again: Quantization = serde_json::from_value(told).unwrap();
            assert_eq!(again.to_json(), read.to_json(), "{word}");
        }
        for word in [
            "",
            "None",
            "scalar:",
            "scalar:0.4",
            "scalar:1.1",
            "scalar:NaN",
            "product",
            "product:16",
            "product:x5",
            "binary:2",
            "none:1",
            "turbo",
        ] {
            let err = Quantization::from_word(word).unwrap_err();
            assert_eq!(err.kind(), Kind::Usage, "{word}");
            assert!(err.doing().contains(&format!("\"{word}\"")), "{err}");
            assert!(err.next_step().unwrap().contains("product:x16"));
        }
    }

    #[test]
    fn values_are_checked_all_at_once() {
        assert!(Overrides::default().check().is_ok());
        let good = Overrides {
            shard_number: Some(1),
            hnsw_m: Some(0),
            hnsw_ef_construct: Some(4),
            indexing_threshold: Some(0),
            ..Overrides::default()
        };
        assert!(good.check().is_ok());
        let bad = Overrides {
            shard_number: Some(0),
            hnsw_m: Some(3),
            hnsw_ef_construct: Some(3),
            sharding_method: Some(ShardingMethod::from_word("geo")),
            ..Overrides::default()
        };
        let err = bad.check().unwrap_err();
        assert_eq!(err.kind(), Kind::Usage);
        for part in ["--shards", "--hnsw-m", "--hnsw-ef-construct", "geo"] {
            assert!(err.why().contains(part), "{err}");
        }
        let many = Overrides {
            shard_number: Some(10_001),
            hnsw_m: Some(1_001),
            ..Overrides::default()
        };
        assert_eq!(many.check().unwrap_err().why().matches("has 10").count(), 2);
    }

    #[test]
    fn both_forms_say_the_same() {
        let full = config_json(
            json!({"shard_number": 4}),
            json!({"hnsw_config": {"m": 32}, "optimizer_config": {"indexing_threshold": 9},
                "wal_config": {}, "quantization_config": {"binary": {}}, "metadata": {"a": 1}}),
        );
        let create = json!({
            "vectors": {"size": 16, "distance": "Cosine"}, "shard_number": 4,
            "replication_factor": 1, "write_consistency_factor": 1, "on_disk_payload": true,
            "hnsw_config": {"m": 32}, "optimizers_config": {"indexing_threshold": 9},
            "quantization_config": {"binary": {}}, "metadata": {"a": 1}
        });
        let full = UserConfig::parse("f", full.to_string().as_bytes()).unwrap();
        let create = UserConfig::parse("f", create.to_string().as_bytes()).unwrap();
        assert_eq!(full, create);
        assert_eq!(full.params["shard_number"], 4);
        assert_eq!(full.vectors[""].size, 16);
        assert_eq!(full.hnsw["m"], 32);
        assert_eq!(full.optimizer["indexing_threshold"], 9);
        assert_eq!(full.quantization, Some(json!({"binary": {}})));
        assert_eq!(full.whole["metadata"], json!({"a": 1}));
    }

    #[test]
    fn null_states_none_only_where_qdrant_says_so() {
        let text = r#"{"quantization_config": null, "hnsw_config": {"m": null},
            "optimizers_config": {"memmap_threshold": null}, "shard_number": null}"#;
        let read = UserConfig::parse("f", text.as_bytes()).unwrap();
        assert_eq!(read.quantization, Some(Value::Null));
        assert!(read.hnsw.is_empty() && read.params.is_empty());
        assert_eq!(read.optimizer.get("memmap_threshold"), Some(&Value::Null));
        let absent = UserConfig::parse("f", b"{}").unwrap();
        assert_eq!(absent.quantization, None);
    }

    #[test]
    fn a_file_that_cannot_be_meant_is_refused() {
        for (text, says) in [
            ("", "EOF"),
            ("[]", "wants an object"),
            (
                r#"{"hnsw_confg": {}}"#,
                "hnsw_confg: unknown key; did you mean hnsw_config?",
            ),
            (r#"{"params": {}, "vectors": {}}"#, "vectors: unknown key"),
            (r#"{"params": {"shards": 2}}"#, "params.shards: unknown key"),
            (r#"{"vectors": {"size": 4}}"#, "vectors.distance: missing"),
            (
                r#"{"vectors": {"sise": 4, "distance": "Dot"}}"#,
                "vectors.sise: unknown key",
            ),
            (
                r#"{"vectors": {"../a": {"size": 4, "distance": "Dot"}}}"#,
                "leads out",
            ),
            (r#"{"sparse_vectors": {"": {}}}"#, "without a name"),
        ] {
            let err = UserConfig::parse("my.json", text.as_bytes()).unwrap_err();
            assert_eq!(err.kind(), Kind::Usage, "{text}");
            assert_eq!(err.doing(), "reading the config file my.json");
            assert!(err.why().contains(says), "{text}: {err}");
        }
    }
}
