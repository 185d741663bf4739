//! A file of rows, as it was looked at before it is read.
//!
//! Invariants: what a table says of itself is known before the first row.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::table::{FileForm, TableMeta};

/// A file that rows are read from.
pub struct Input {
    /// Path.
    pub path: PathBuf,
    /// Name in reports.
    pub name: String,
    /// Form.
    pub form: FileForm,
    /// Size in bytes; 0 where that is not known.
    pub bytes: u64,
    /// Description that a table carries.
    pub meta: Option<TableMeta>,
    /// Columns of a table; lines have none that are known before.
    pub columns: Option<BTreeSet<String>>,
}

impl Input {
    /// Returns true if it has `column`, or may have it.
    pub(super) fn may_have(&self, column: &str) -> bool {
        (self.columns.as_ref()).is_none_or(|columns| columns.contains(column))
    }
}
