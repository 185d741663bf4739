//! Which records of the sources make the master, and how they are changed on the way: as a command
//! line, a plan and a request give it, and as it is meant.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::conflict::Policy;
use crate::base::error::{Error, Result};
use crate::base::text::serde_as_text;
use crate::engine::{Filter, PayloadField};
use crate::format::schema::VectorChanges;

/// Everything that decides which records the union of some sources has.
#[derive(Debug, Clone, Default)]
pub struct UnionOptions {
    /// Policy for conflicts.
    pub on_conflict: Policy,
    /// Field that is written into each payload.
    pub stamp: Option<Stamp>,
    /// Which points are read.
    pub filter: Option<Filter>,
    /// Payload fields that are left out.
    pub drop_payload: Vec<PayloadField>,
    /// Vectors that have another name in the master, or are left out.
    pub vectors: VectorChanges,
    /// Layout of the master's shards and keys.
    pub layout: LayoutChoice,
}

impl UnionOptions {
    /// Returns true if payloads are written anew.
    pub fn changes_payloads(&self) -> bool {
        self.stamp.is_some() || !self.drop_payload.is_empty()
    }
}

/// A payload field that tells each point's source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamp {
    /// The field, whose parts are keys.
    pub field: PayloadField,
    /// Values by the source's name; the name itself where there is none.
    pub values: BTreeMap<String, Value>,
}

impl Stamp {
    /// Returns the value for the points of the source called `name`.
    pub fn value(&self, name: &str) -> Value {
        self.values
            .get(name)
            .cloned()
            .unwrap_or_else(|| Value::String(name.to_owned()))
    }
}

/// Layout of the master's shards and keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LayoutChoice {
    /// As the sources.
    #[default]
    Same,
    /// A shard key for each source.
    BySource,
    /// A shard key for each value of a payload field.
    ByField(PayloadField),
}

impl LayoutChoice {
    /// Returns true if there is a shard key for each source.
    pub fn is_by_source(&self) -> bool {
        *self == Self::BySource
    }

    /// The field that tells the keys, if one does.
    pub fn field(&self) -> Option<&PayloadField> {
        match self {
            Self::ByField(field) => Some(field),
            Self::Same | Self::BySource => None,
        }
    }
}

impl FromStr for LayoutChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.split_once(':')) {
            ("same", _) => Ok(Self::Same),
            ("by-source", _) => Ok(Self::BySource),
            (_, Some(("by-field", field))) => PayloadField::of_keys(field).map(Self::ByField),
            _ => Err(format!(
                "'{text}' is none of same, by-source, by-field:FIELD"
            )),
        }
    }
}

impl fmt::Display for LayoutChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("same"),
            Self::BySource => f.write_str("by-source"),
            Self::ByField(field) => write!(f, "by-field:{field}"),
        }
    }
}

serde_as_text!(
    LayoutChoice,
    "LayoutChoice",
    "same, by-source (a shard key for each source) or by-field:FIELD (one for each value of a payload field)"
);

/// Value assigned to a name, as typed: `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment<V> {
    name: String,
    value: V,
}

/// Value of a stamp for one source: JSON, or else text.
pub type StampValue = Assignment<Value>;
/// New name of a vector.
pub type VectorRename = Assignment<String>;

impl FromStr for StampValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or("there is no '=': give it as SOURCE=VALUE")?;
        Ok(Self {
            name: name.to_owned(),
            value: serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned())),
        })
    }
}

impl FromStr for VectorRename {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or(
            "there is no '=': give it as OLD=NEW, and the unnamed vector as the empty name",
        )?;
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// Assignments as a table by name, in plans and requests.
mod table {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Assignment, BTreeMap};

    pub fn serialize<V: Serialize, S: Serializer>(
        assignments: &[Assignment<V>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(assignments.iter().map(|one| (&one.name, &one.value)))
    }

    pub fn deserialize<'de, V: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Assignment<V>>, D::Error> {
        let table = BTreeMap::<String, V>::deserialize(deserializer)?;
        let assignments = table
            .into_iter()
            .map(|(name, value)| Assignment { name, value });
        Ok(assignments.collect())
    }
}

/// Which records make the master and how they are changed on the way.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RecordOptions {
    /// Who wins when an id is in more than one source [default: last]: last, first, newest:FIELD,
    /// fail, or remap (the first keeps the id, the others get new ones)
    #[arg(long, value_name = "POLICY")]
    pub on_conflict: Option<Policy>,
    /// Write the source's name into this payload field of each point: a key, or a path like
    /// meta.year
    #[arg(long, value_name = "FIELD", value_parser = PayloadField::of_keys)]
    pub stamp: Option<PayloadField>,
    /// Value that --stamp writes for a source instead of its name: JSON, else text; repeat it for more
    #[arg(long = "stamp-value", value_name = "SOURCE=VALUE", requires = "stamp")]
    #[serde(with = "table")]
    #[schemars(with = "BTreeMap<String, Value>")]
    pub stamp_values: Vec<StampValue>,
    /// Only points that match this filter, in Qdrant's filter language
    #[arg(long, value_name = "JSON")]
    pub filter: Option<Filter>,
    /// Leave this payload field out: a key, or a path like exif.gps; repeat it for more
    #[arg(long, value_name = "FIELD")]
    pub drop_payload: Vec<PayloadField>,
    /// Give a vector another name: OLD=NEW, where the unnamed vector has the empty name, as =image;
    /// repeat it for more
    #[arg(long, value_name = "OLD=NEW")]
    #[serde(with = "table")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub rename_vector: Vec<VectorRename>,
    /// Leave this vector out; repeat it for more
    #[arg(long, value_name = "NAME")]
    pub drop_vector: Vec<String>,
    /// Layout of the master [default: same]: same (as the sources), by-source (a shard key
    /// for each source) or by-field:FIELD (a shard key for each value of a payload field, as
    /// by-field:tenant)
    #[arg(long, value_name = "LAYOUT")]
    pub layout: Option<LayoutChoice>,
}

impl RecordOptions {
    /// These options laid over `base`, which counts where nothing is given.
    pub fn over(&self, mut base: UnionOptions) -> Result<UnionOptions> {
        if let Some(policy) = &self.on_conflict {
            base.on_conflict = policy.clone();
        }
        if let Some(field) = &self.stamp {
            let values = self.stamp_values.iter();
            base.stamp = Some(Stamp {
                field: field.clone(),
                values: values
                    .map(|one| (one.name.clone(), one.value.clone()))
                    .collect(),
            });
        }
        if let Some(filter) = &self.filter {
            base.filter = Some(filter.clone());
        }
        if !self.drop_payload.is_empty() {
            base.drop_payload.clone_from(&self.drop_payload);
        }
        if !self.rename_vector.is_empty() || !self.drop_vector.is_empty() {
            let renamed = match self.rename_vector.as_slice() {
                [] => base.vectors.renamed().clone().into_iter().collect(),
                given => given
                    .iter()
                    .map(|one| (one.name.clone(), one.value.clone()))
                    .collect::<Vec<_>>(),
            };
            let dropped = match self.drop_vector.as_slice() {
                [] => base.vectors.dropped().iter().cloned().collect(),
                given => given.to_vec(),
            };
            base.vectors = VectorChanges::new(renamed, dropped)?;
        }
        if let Some(layout) = &self.layout {
            base.layout = layout.clone();
        }
        if let (Some(field), Some(stamp)) = (base.layout.field(), &base.stamp)
            && let (Some(keys), Some(stamped)) = (field.keys(), stamp.field.keys())
            && keys != stamped
            && (keys.starts_with(&stamped) || stamped.starts_with(&keys))
        {
            return Err(Error::usage(
                format!("reading --layout {}", base.layout),
                format!(
                    "--stamp {} changes a part of that field, or what it is in",
                    stamp.field
                ),
            )
            .next("stamp the field itself, or another"));
        }
        if base.layout.field().is_some() && base.on_conflict == Policy::Remap {
            return Err(Error::usage(
                format!("reading --layout {}", base.layout),
                "with --on-conflict remap it is not known in time which key a new id is under",
            )
            .next("choose another policy, or lay the master out in a second merge"));
        }
        Ok(base)
    }
}
