//! Facts that a log's files give before they are put together.
//!
//! Invariants: as far as a log can be read, this is what [`super::read`] would say of it.

use std::collections::BTreeMap;

use super::op::Op;
use super::{LogFiles, ShardMember, count};

/// The operation that drops a payload index.
const DELETE_INDEX: &str = "delete_index";

impl LogFiles {
    /// The number that the next operation gets: [`Log::next`].
    pub fn next(&self) -> u64 {
        let start = self.closed.keys().next().copied().unwrap_or(0);
        self.parts().fold(start, |next, part| {
            next.saturating_add(count(&part.entries))
        })
    }

    /// The payload fields whose index the log drops and does not make again.
    pub fn dropped_indexes(&self) -> Vec<&str> {
        let mut dropped = BTreeMap::new();
        let records = self.parts().flat_map(|part| &part.entries);
        for record in records.filter_map(|raw| raw.record.as_ref().ok()) {
            if let Op::Index { field } = &record.op {
                dropped.insert(field.as_str(), record.name == DELETE_INDEX);
            }
        }
        let fields = dropped.into_iter().filter(|(_, is_dropped)| *is_dropped);
        fields.map(|(field, _)| field).collect()
    }

    /// Returns the closed files and then the open ones, so that entries come in the order of their
    /// numbers.
    fn parts(&self) -> impl Iterator<Item = &ShardMember> {
        self.closed.values().chain(self.open.values())
    }
}
