//! Which columns of a file are what of a point.
//!
//! Invariants: every column of a file is either used, or left out because that was asked for or because it only
//! repeats what another has.

use std::collections::BTreeSet;

/// The column of a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorColumn {
    /// Name of the vector; empty for the unnamed one.
    pub name: String,
    /// Name of the column.
    pub column: String,
}

/// Columns that become payload fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fields {
    /// All that are nothing else, beside what a column of whole payloads has.
    All,
    /// All that are nothing else, unless there is a column that has whole payloads: then none, and others are
    /// refused.
    Whole,
    /// These.
    Only(Vec<String>),
}

/// Mapping of the columns of a file to parts of a point. In a file of JSON lines, they are the keys of its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Column of the ids.
    pub id: String,
    /// Column of the shard keys.
    pub shard_key: String,
    /// Column of whole payloads, where a file has it.
    pub payload: String,
    /// Columns of the vectors; none where a column `vector` has all of them, as in a scroll answer.
    pub vectors: Vec<VectorColumn>,
    /// Columns that become payload fields.
    pub fields: Fields,
    /// Columns that only repeat parts of the payloads, as the table says that was written here.
    pub repeats: BTreeSet<String>,
    /// True if the columns of the vectors were given, and not guessed.
    pub is_given: bool,
    /// True if the file is a table that was written here.
    pub is_ours: bool,
}

impl Mapping {
    /// Returns true if `column` becomes a field of the payload, where no column has whole ones.
    pub(super) fn is_field(&self, column: &str) -> bool {
        match &self.fields {
            Fields::Only(only) => only.iter().any(|one| one == column),
            Fields::All | Fields::Whole => !self.is_taken(column) && !self.repeats.contains(column),
        }
    }

    /// Returns true if `column` is an id, a shard key or a vector.
    pub fn is_taken(&self, column: &str) -> bool {
        column == self.id
            || column == self.shard_key
            || self.vectors.iter().any(|vector| vector.column == column)
    }
}
