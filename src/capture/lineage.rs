//! Whether two states of a collection are of one history.
//!
//! A server numbers the operations of each shard, and files of segments by them. Whoever restores an older
//! snapshot over a collection and then writes as often as was written before comes to the same numbers in
//! the same segments, with other points (seen with Qdrant 1.19.0). So numbers are compared only within one
//! life of a server's process, and only while nothing was restored in it, which it counts.
//!
//! Invariants: a lineage is told only of a server that stands alone, and only if all of it is known.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::observe::Members;
use super::unfit::Unfit;
use crate::base::error::Error;
use crate::server::Telemetry;

/// History that a state belongs to, and how far that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lineage {
    /// The life of the server's process: one that was started again has another.
    pub process: String,
    /// Snapshots that others restored in it, of any collection, whether that succeeded or not.
    pub restores: u64,
    /// Vectors that were dropped in it, of any collection.
    pub vector_drops: u64,
    /// The last operation in each shard's log, as far as the server tells and nothing waits.
    pub operations: BTreeMap<u32, u64>,
}

impl Lineage {
    /// Why this state is not one that came of `older` by writing; none if it is.
    pub fn parts_from(&self, older: &Self) -> Option<String> {
        if self.process != older.process {
            return Some(
                "the server was started again, and what was restored to it is not known".into(),
            );
        }
        if self.restores != older.restores {
            return Some("a snapshot was restored on the server".into());
        }
        if self.vector_drops != older.vector_drops {
            return Some(
                "a vector was dropped on the server, whose name may mean another one now".into(),
            );
        }
        let went_back = |(shard, operation): (&u32, &u64)| {
            older
                .operations
                .get(shard)
                .is_some_and(|older| operation < older)
        };
        self.operations
            .iter()
            .any(went_back)
            .then(|| "the log of a shard went back".into())
    }
}

/// Restores that a plan did itself, to collections that it made, by the life of the server's process.
pub type OwnRestores = BTreeMap<String, u64>;

/// The lineage of `collection` at the moment that `telemetry` tells of.
pub fn lineage(
    members: &Members,
    collection: &str,
    own: &OwnRestores,
    telemetry: &Telemetry,
) -> Result<Lineage, Unfit> {
    let first = &members.first;
    let Some(cluster) = first.cluster_if_told().map_err(Error::from)? else {
        return Err(Unfit::from(
            "the server does not tell this key whether it is one of a cluster",
        ));
    };
    if cluster.peer_ids().len() > 1 || !members.others.is_empty() {
        return Err(Unfit::from(
            "the server is one of a cluster, whose members restore from each other",
        ));
    }
    let (Some(process), Some(restores), Some(vector_drops)) = (
        telemetry.process.clone(),
        telemetry.restores,
        telemetry.vector_drops,
    ) else {
        return Err(Unfit::from(
            "the server does not tell what it was asked for so far",
        ));
    };
    match telemetry.restoring(collection) {
        Some(0) => {}
        Some(_) => return Err(Unfit::from("a snapshot is being restored to it")),
        None => {
            return Err(Unfit::from(
                "the server does not tell whether a snapshot is being restored to it",
            ));
        }
    }
    let own = own.get(&process).copied().unwrap_or(0);
    let shards = telemetry.shards(collection).iter();
    Ok(Lineage {
        process,
        restores: restores.saturating_sub(own),
        vector_drops,
        operations: shards
            .filter_map(|(shard, told)| Some((*shard, told.operation?)))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_parts_from_another_history() {
        let older = Lineage {
            process: "p".into(),
            restores: 1,
            vector_drops: 1,
            operations: [(0, 7), (1, 3)].into(),
        };
        let newer = |change: fn(&mut Lineage)| {
            let mut newer = older.clone();
            change(&mut newer);
            newer.parts_from(&older)
        };
        assert_eq!(newer(|_| {}), None);
        assert_eq!(newer(|new| new.operations.extend([(0, 8), (2, 0)])), None);
        assert!(newer(|new| new.process.push('2')).is_some());
        assert!(newer(|new| new.restores += 1).is_some());
        assert!(newer(|new| new.restores -= 1).is_some());
        assert!(newer(|new| new.vector_drops += 1).is_some());
        assert!(newer(|new| new.operations.extend([(1, 2)])).is_some());
    }
}
