//! Mapping of columns of tables and keys of JSON lines to parts of points.
//!
//! Invariants: a column that is given is in some file, or told; what is in none of them is no typing error that
//! passes silently.

use std::collections::BTreeSet;
use std::str::FromStr;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::input::Input;
use crate::base::error::{Error, Result};
use crate::base::text::serde_as_text;
use crate::format::schema::CollectionConfig;
use crate::table::{Fields, Mapping, VectorColumn};

/// The column of the unnamed vector, or of all of them, where nothing else is said.
const VECTOR: &str = "vector";
/// The column of whole payloads.
const PAYLOAD: &str = "payload";

/// Mapping of the columns of a table, or of the keys of JSON lines, to parts of a point.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
pub struct ColumnOptions {
    /// The column of the ids: numbers, or UUIDs as text
    #[arg(long, value_name = "COLUMN", default_value = "id")]
    pub id: String,
    /// A column of vectors and the vector's name; without a name it is the unnamed one; repeat it for more
    /// [default: columns that are called as the config's vectors, 'vector' for the unnamed one]
    #[arg(long, value_name = "[NAME=]COLUMN")]
    pub vector: Vec<GivenVector>,
    /// Columns that become payload fields, or '*' for all that are nothing else [default: the object, or its JSON,
    /// in the column 'payload'; where there is none, all]
    #[arg(long, value_name = "COLUMN,COLUMN", value_delimiter = ',')]
    pub payload: Option<Vec<String>>,
    /// The column of the shard keys, with custom sharding
    #[arg(long, value_name = "COLUMN", default_value = "shard_key")]
    pub shard_key: String,
}

impl ColumnOptions {
    /// Columns that are given for vectors and fields, with the options that give them.
    fn given(&self) -> impl Iterator<Item = (&String, &'static str)> {
        let vectors = self.vector.iter().map(|GivenVector(one)| &one.column);
        let fields = (self.payload.iter().flatten()).filter(|one| !one.is_empty() && *one != "*");
        (vectors.map(|one| (one, "--vector"))).chain(fields.map(|one| (one, "--payload")))
    }

    /// Mapping of the columns of `input`, which are `columns` if it is a table, for collections with `config`. A column
    /// that is given and that another of the `inputs` has, or may have, need not be in it.
    pub(super) fn mapping(
        &self,
        input: &Input,
        inputs: &[Input],
        columns: Option<&[&str]>,
        config: &CollectionConfig,
    ) -> Result<Mapping> {
        let given = self;
        let names = || {
            config
                .vectors()
                .keys()
                .chain(config.sparse_vectors().keys())
        };
        for GivenVector(one) in &given.vector {
            if !names().any(|name| *name == one.name) {
                let names: Vec<&str> = names().map(String::as_str).collect();
                return Err(Error::usage(
                    format!("reading --vector {}={}", one.name, one.column),
                    format!(
                        "the config has no such vector; it has '{}'",
                        names.join("', '")
                    ),
                ));
            }
        }
        let is_elsewhere =
            |column: &str| !input.may_have(column) && inputs.iter().any(|one| one.may_have(column));
        let carried = input.meta.as_ref().filter(|_| given.vector.is_empty());
        let vectors: Vec<VectorColumn> = match (carried, given.vector.is_empty()) {
            (Some(meta), _) => (meta.vectors.iter())
                .map(|(name, column)| VectorColumn {
                    name: name.clone(),
                    column: column.clone(),
                })
                .collect(),
            (None, false) => given
                .vector
                .iter()
                .map(|GivenVector(one)| one.clone())
                .filter(|one| !is_elsewhere(&one.column))
                .collect(),
            (None, true) => names()
                .map(|name| VectorColumn {
                    name: name.clone(),
                    column: if name.is_empty() {
                        VECTOR.into()
                    } else {
                        name.clone()
                    },
                })
                .filter(|one| {
                    ![&given.id, &given.shard_key].contains(&&one.column) && one.column != PAYLOAD
                })
                .filter(|one| columns.is_none_or(|columns| columns.contains(&one.column.as_str())))
                .collect(),
        };
        if let Some(columns) = columns
            && vectors.is_empty()
            && carried.is_none()
        {
            return Err(Error::usage(
                format!("looking for the vectors in {}", input.name),
                format!(
                    "none of its columns is called as one: {}",
                    columns.join(", ")
                ),
            )
            .next("say which it is with --vector NAME=COLUMN"));
        }
        let fields = match &given.payload {
            None => Fields::Whole,
            Some(all) if all.iter().any(|one| one == "*") => Fields::All,
            Some(only) => {
                let named = only
                    .iter()
                    .filter(|one| !one.is_empty() && !is_elsewhere(one));
                Fields::Only(named.cloned().collect())
            }
        };
        Ok(Mapping {
            id: given.id.clone(),
            shard_key: given.shard_key.clone(),
            payload: PAYLOAD.into(),
            vectors,
            fields,
            // Without the column that they repeat, they are all that is left.
            repeats: (input.meta.iter())
                .filter(|_| columns.is_some_and(|columns| columns.contains(&PAYLOAD)))
                .flat_map(|meta| meta.repeats.keys().cloned())
                .collect(),
            is_given: !given.vector.is_empty(),
            is_ours: input.meta.is_some(),
        })
    }

    /// Columns that are given, and that none of the tables among `inputs` has.
    pub(super) fn unseen(&self, inputs: &[Input]) -> BTreeSet<String> {
        let has = |column: &&String| {
            inputs.iter().any(|input| match &input.columns {
                Some(columns) => columns.contains(*column),
                None => false,
            })
        };
        let given = self.given().map(|(column, _)| column);
        given.filter(|column| !has(column)).cloned().collect()
    }

    /// Refuses a column that was given and is `unseen` at the end: a name that was typed wrongly.
    pub(super) fn refuse(&self, unseen: &BTreeSet<String>) -> Result<()> {
        match self.given().find(|(column, _)| unseen.contains(*column)) {
            None => Ok(()),
            Some((column, option)) => Err(Error::usage(
                "reading the rows",
                format!("none has {column}, which {option} names"),
            )
            .next("correct the name of the column")),
        }
    }
}

/// A column of vectors, as it is typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenVector(VectorColumn);

impl FromStr for GivenVector {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, column) = text.split_once('=').unwrap_or(("", text));
        match column {
            "" => Err(format!("'{text}' names no column")),
            column => Ok(Self(VectorColumn {
                name: name.to_owned(),
                column: column.to_owned(),
            })),
        }
    }
}

impl std::fmt::Display for GivenVector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.0.name, self.0.column)
    }
}

serde_as_text!(GivenVector, "GivenVector", "NAME=COLUMN");
