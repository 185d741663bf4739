//! Provenance of a master: sources, settings and versions, in a small file that stays beside it, so that it
//! can be verified later without remembering the command line.
//!
//! Invariants: everything that decides what the master's points and config are is in it; of the
//! sources it has names and hashes, and no secret.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::base::error::{Error, Result};
use crate::engine::{Filter, PayloadField};
use crate::format::schema::{CollectionConfig, PayloadSchema, ShardKeys, United, VectorChanges};
use crate::source::{Checksum, Source};
use crate::stream::{LayoutChoice, Stamp, UnionOptions};

/// The name and version of the structure.
pub const FORMAT: &str = "snapmerge-provenance/1";
/// Largest file of it that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Provenance of a master.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Provenance {
    /// The name and version of this structure.
    pub format: String,
    /// snapmerge's version.
    pub version: String,
    /// The route.
    pub route: String,
    /// The sources in their order.
    pub sources: Vec<ProvenanceSource>,
    /// Policy for conflicts.
    pub on_conflict: String,
    /// Field that was written into each payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<ProvenanceStamp>,
    /// Which points were taken, in Qdrant's filter language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Value>,
    /// Payload fields that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop_payload: Vec<String>,
    /// New names of vectors, by the names that the sources have for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rename_vector: BTreeMap<String, String>,
    /// Vectors that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop_vector: Vec<String>,
    /// True if the master has a shard key for each source.
    #[serde(default)]
    pub by_source: bool,
    /// The payload field that has a shard key for each of its values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_field: Option<String>,
    /// The master's config as it was planned.
    pub config: Map<String, Value>,
    /// Payload indexes, as in `payload_index.json`.
    pub payload_index: Value,
    /// Shard keys, as in `shard_key_mapping.json`.
    pub shard_keys: Value,
    /// The master's points.
    pub points: u64,
    /// The digest of its points, where they were looked at one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The SHA-256 of its file.
    pub sha256: String,
    /// The XXH3, with 128 bits, of the same bytes, if its file is not compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xxh3: Option<String>,
    /// True if the master was proven before it got its name.
    pub proven: bool,
}

/// A source of a master.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProvenanceSource {
    /// Name of the source.
    pub name: String,
    /// Name of the file, without folders.
    pub file: String,
    /// The file's size in bytes.
    pub file_bytes: u64,
    /// The SHA-256 of the file, where it was compared; or that of an entry of an archive of which each part that
    /// was read was compared with its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// A stamp, with the value of every source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProvenanceStamp {
    /// The field.
    pub field: String,
    /// Values given to the points of each source, by its name.
    pub values: BTreeMap<String, Value>,
}

/// Result of a merge, as far as the provenance records it.
#[derive(Debug, Clone)]
pub struct Outcome<'a> {
    /// Number of points.
    pub points: u64,
    /// The digest of its points, if there is one.
    pub digest: Option<String>,
    /// The SHA-256 of its file.
    pub sha256: &'a str,
    /// The XXH3 of the same bytes, where it is known.
    pub xxh3: Option<String>,
    /// True if the master was proven.
    pub proven: bool,
}

impl Provenance {
    /// Of the master that was made of `sources` by `route` under `options`, with the config and
    /// payload indexes of `united` and the shard keys `keys`.
    pub fn new(
        sources: &[Source],
        route: &str,
        united: &United,
        keys: &ShardKeys,
        options: &UnionOptions,
        outcome: Outcome<'_>,
    ) -> Self {
        Self {
            format: FORMAT.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            route: route.to_owned(),
            sources: sources.iter().map(ProvenanceSource::new).collect(),
            on_conflict: options.on_conflict.to_string(),
            stamp: options.stamp.as_ref().map(|stamp| ProvenanceStamp {
                field: stamp.field.to_string(),
                values: sources
                    .iter()
                    .map(|source| (source.name.clone(), stamp.value(&source.name)))
                    .collect(),
            }),
            filter: options
                .filter
                .as_ref()
                .and_then(|filter| serde_json::from_str(filter.text()).ok()),
            drop_payload: (options.drop_payload.iter())
                .map(ToString::to_string)
                .collect(),
            rename_vector: options.vectors.renamed().clone(),
            drop_vector: options.vectors.dropped().iter().cloned().collect(),
            by_source: options.layout.is_by_source(),
            by_field: options.layout.field().map(ToString::to_string),
            config: united.config.raw().clone(),
            payload_index: united.payload.to_json(),
            shard_keys: serde_json::to_value(keys).unwrap_or_default(),
            points: outcome.points,
            digest: outcome.digest,
            sha256: outcome.sha256.to_owned(),
            xxh3: outcome.xxh3,
            proven: outcome.proven,
        }
    }

    /// Reads the record at `path`; none if there is no such file.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let refuse = |why: String| {
            Error::damaged(format!("reading {}", path.display()), why)
                .next("give what the master was made with as flags, and --no-provenance")
        };
        let meta = match std::fs::metadata(path) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|err| Error::io("reading", path, &err))?,
        };
        if meta.len() > FILE_BYTES_MAX {
            return Err(refuse(format!("it is {} bytes long", meta.len())));
        }
        let bytes = std::fs::read(path).map_err(|err| Error::io("reading", path, &err))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|err| refuse(err.to_string()))?;
        // A merge's report has it inside.
        let value = match value.get("provenance") {
            Some(inner) => inner.clone(),
            None => value,
        };
        Self::parse(value).map(Some).map_err(refuse)
    }

    /// Reads the record itself.
    pub fn parse(value: Value) -> Result<Self, String> {
        let found: Self = serde_json::from_value(value).map_err(|err| err.to_string())?;
        match found.format == FORMAT {
            true => Ok(found),
            false => Err(format!(
                "its format is {}, this version knows {FORMAT}",
                found.format
            )),
        }
    }

    /// The merge's options, as far as they decide about points.
    pub fn options(&self) -> Result<UnionOptions> {
        let refuse = |why: String| Error::damaged("reading the provenance of a master", why);
        Ok(UnionOptions {
            on_conflict: self.on_conflict.parse().map_err(refuse)?,
            stamp: match &self.stamp {
                None => None,
                Some(stamp) => Some(Stamp {
                    field: PayloadField::of_keys(&stamp.field).map_err(refuse)?,
                    values: stamp.values.clone(),
                }),
            },
            filter: self
                .filter
                .as_ref()
                .map(|filter| Filter::parse(&filter.to_string()))
                .transpose()?,
            drop_payload: (self.drop_payload.iter())
                .map(|field| field.parse().map_err(refuse))
                .collect::<Result<_>>()?,
            vectors: VectorChanges::new(self.rename_vector.clone(), self.drop_vector.clone())?,
            layout: match (&self.by_field, self.by_source) {
                (Some(field), _) => {
                    LayoutChoice::ByField(PayloadField::of_keys(field).map_err(refuse)?)
                }
                (None, true) => LayoutChoice::BySource,
                (None, false) => LayoutChoice::Same,
            },
        })
    }

    /// Puts `sources` in the order in which the master was made of them, under the names that they had
    /// then: they decide conflicts, stamps and new ids.
    pub fn arrange(&self, sources: &mut Vec<Source>) -> Result<()> {
        let refuse = |why: String| {
            Err(Error::usage("matching the sources with the master's provenance", why).next(
                "give the very sources that the master was made of, or say with --no-provenance and \
                 flags what it was made with",
            ))
        };
        let known = |source: &Source| self.sources.iter().any(|one| one.name == source.name);
        for source in sources.iter_mut() {
            if !known(source) {
                // Under another name it is the same if its hash is.
                source.verify()?;
            }
        }
        let mut arranged = Vec::new();
        for wanted in &self.sources {
            let by_name = |source: &Source| source.name == wanted.name;
            let by_hash = |source: &Source| match &source.checksum {
                Checksum::Verified { sha256, .. } => Some(sha256) == wanted.sha256.as_ref(),
                _ => false,
            };
            let by_file = |source: &Source| {
                source.snapshot.file_bytes == wanted.file_bytes
                    && source.snapshot.file.file_name() == wanted.file
            };
            let place = sources
                .iter()
                .position(by_name)
                .or_else(|| sources.iter().position(by_hash))
                .or_else(|| sources.iter().position(by_file));
            let Some(place) = place else {
                return refuse(format!(
                    "it was made of {}, and {} is not given",
                    self.sources
                        .iter()
                        .map(|source| source.name.as_str())
                        .collect::<Vec<_>>()
                        .join(", "),
                    wanted.name
                ));
            };
            let mut source = sources.remove(place);
            source.name.clone_from(&wanted.name);
            arranged.push(source);
        }
        if let Some(left) = sources.first() {
            return refuse(format!("it was not made of {}", left.name));
        }
        *sources = arranged;
        Ok(())
    }

    /// Returns true if a server wrote the vectors of the master anew, and may have normalized some.
    pub fn was_replayed(&self) -> bool {
        self.route == "replay"
    }

    /// The config, the payload indexes and the shard keys that the master must have.
    pub fn expected(&self) -> Result<(CollectionConfig, PayloadSchema, ShardKeys)> {
        let what = "the provenance of the master";
        let bytes = |value: &Value| value.to_string().into_bytes();
        Ok((
            CollectionConfig::parse(what, &bytes(&Value::Object(self.config.clone())))?,
            PayloadSchema::parse(what, &bytes(&self.payload_index))?,
            ShardKeys::parse(what, &bytes(&self.shard_keys))?,
        ))
    }
}

impl ProvenanceSource {
    fn new(source: &Source) -> Self {
        Self {
            name: source.name.clone(),
            file: source.snapshot.file.file_name(),
            file_bytes: source.snapshot.file_bytes,
            sha256: source.sha256().map(str::to_owned),
        }
    }
}
