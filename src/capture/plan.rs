//! Plan of a capture: the member from which each shard is taken.
//!
//! A collection snapshot holds the shards of one member alone (qdrant#7851, #6575, #2893), so on a
//! cluster it takes as many as cover all shards.
//!
//! Invariants: every shard is taken exactly once, and from a replica that every member calls Active;
//! nothing is taken while shards move.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::error::{Error, Kind, Result};
use crate::format::schema::ShardKeys;
use crate::server::{ACTIVE, Topology};

/// Shards that are taken from one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Take {
    /// The member.
    pub peer: u64,
    /// The shards, in rising order.
    pub shards: Vec<u32>,
}

/// Assignment of shards to the members that they are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One for each member, the one that was asked first before all others.
    pub takes: Vec<Take>,
    /// The collection's shard keys.
    pub keys: ShardKeys,
}

impl Plan {
    /// The member that a shard is taken from.
    pub fn peer_of(&self, shard: u32) -> Option<u64> {
        let take = self
            .takes
            .iter()
            .find(|take| take.shards.contains(&shard))?;
        Some(take.peer)
    }

    /// All shards, in rising order.
    pub fn shards(&self) -> Vec<u32> {
        let all: BTreeSet<u32> = self
            .takes
            .iter()
            .flat_map(|take| take.shards.iter().copied())
            .collect();
        all.into_iter().collect()
    }
}

/// The plan for `collection` as the members that can be reached see it; the first is the one that
/// was asked for the collection.
pub fn plan(collection: &str, seen: &[Topology]) -> Result<Plan> {
    let doing = || format!("finding out who holds the shards of {collection}");
    let refuse = |why: String, next: &str| {
        Err(Error::new(Kind::Refused, doing(), why).next(next.to_owned()))
    };
    for topology in seen {
        if let Some(moves) = topology.moves() {
            return refuse(
                format!("member {} says that {moves}", topology.peer_id),
                "try again when GET /collections/NAME/cluster shows no transfers any more",
            );
        }
    }
    // A replica counts only if nobody calls it anything but Active.
    let mut states: BTreeMap<(u32, u64), BTreeSet<&str>> = BTreeMap::new();
    for topology in seen {
        for (shard, peer, state) in topology.replicas() {
            states.entry((shard, peer)).or_default().insert(state);
        }
    }
    let shards: BTreeSet<u32> = states.keys().map(|(shard, _)| *shard).collect();
    if shards.is_empty() {
        return refuse(
            "it has no shard".into(),
            "with custom sharding, create a shard key and put points there first",
        );
    }
    let is_active = |shard: u32, peer: u64| {
        let states = states.get(&(shard, peer));
        states.is_some_and(|states| states.iter().all(|state| *state == ACTIVE))
    };
    let mut left = shards;
    let mut takes = Vec::new();
    let mut free: Vec<u64> = seen.iter().map(|topology| topology.peer_id).collect();
    while !left.is_empty() {
        let of = |peer: u64| -> Vec<u32> {
            let own = left.iter().copied();
            own.filter(|shard| is_active(*shard, peer)).collect()
        };
        // The first of those with the most: fewer snapshots, and the same ones each time.
        let mut best: Option<(u64, Vec<u32>)> = None;
        for peer in &free {
            let own = of(*peer);
            if own.len() > best.as_ref().map_or(0, |(_, best)| best.len()) {
                best = Some((*peer, own));
            }
        }
        let Some((peer, own)) = best else {
            return unreachable(collection, &left, &states, seen);
        };
        free.retain(|other| *other != peer);
        left.retain(|shard| !own.contains(shard));
        takes.push(Take { peer, shards: own });
    }
    let keys = match seen.first() {
        Some(first) => first.shard_keys()?,
        None => ShardKeys::default(),
    };
    Ok(Plan { takes, keys })
}

/// Why the shards in `left` can be taken from nobody.
fn unreachable(
    collection: &str,
    left: &BTreeSet<u32>,
    states: &BTreeMap<(u32, u64), BTreeSet<&str>>,
    seen: &[Topology],
) -> Result<Plan> {
    let known: BTreeSet<u64> = seen.iter().map(|topology| topology.peer_id).collect();
    let mut unknown = BTreeSet::new();
    let mut told = Vec::new();
    for shard in left {
        let mut replicas = Vec::new();
        for ((_, peer), states) in states.iter().filter(|((one, _), _)| one == shard) {
            let states: Vec<&str> = states.iter().copied().collect();
            replicas.push(format!("{} on member {peer}", states.join("/")));
            if !known.contains(peer) && states == [ACTIVE] {
                unknown.insert(*peer);
            }
        }
        told.push(format!("shard {shard} is {}", replicas.join(", ")));
    }
    let doing = format!("finding out who holds the shards of {collection}");
    let why = told.join("; ");
    if unknown.is_empty() {
        let why = format!("no Active replica of every shard can be reached: {why}");
        return Err(Error::new(Kind::Refused, doing, why).next(
            "wait until the cluster has recovered: a replica that is not Active lacks points",
        ));
    }
    let peers: Vec<String> = unknown
        .iter()
        .map(|peer| format!("--peer {peer}=http://HOST:6333"))
        .collect();
    Err(Error::new(Kind::Refused, doing, why).next(format!(
        "a cluster does not tell the REST addresses of its members: give {}",
        peers.join(" and ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As member `peer` sees it: its own shards, and those of others with their members.
    fn seen(peer: u64, local: &[(u32, &str)], remote: &[(u32, u64, &str)]) -> Topology {
        serde_json::from_value(json!({
            "peer_id": peer,
            "local_shards": local.iter().map(|(shard, state)| {
                json!({"shard_id": shard, "points_count": 1, "state": state})
            }).collect::<Vec<_>>(),
            "remote_shards": remote.iter().map(|(shard, peer, state)| {
                json!({"shard_id": shard, "peer_id": peer, "state": state})
            }).collect::<Vec<_>>(),
            "shard_transfers": [],
        }))
        .unwrap()
    }

    fn takes(seen: &[Topology]) -> Vec<(u64, Vec<u32>)> {
        let plan = plan("c", seen).unwrap();
        plan.takes
            .into_iter()
            .map(|take| (take.peer, take.shards))
            .collect()
    }

    #[test]
    fn every_shard_is_taken_once() {
        let alone = seen(1, &[(0, "Active"), (1, "Active")], &[]);
        assert_eq!(takes(&[alone]), [(1, vec![0, 1])]);
        // Three members, two replicas of each of three shards.
        let three = [
            seen(
                1,
                &[(0, "Active"), (1, "Active")],
                &[
                    (0, 2, "Active"),
                    (2, 2, "Active"),
                    (1, 3, "Active"),
                    (2, 3, "Active"),
                ],
            ),
            seen(
                2,
                &[(0, "Active"), (2, "Active")],
                &[
                    (0, 1, "Active"),
                    (1, 1, "Active"),
                    (1, 3, "Active"),
                    (2, 3, "Active"),
                ],
            ),
            seen(
                3,
                &[(1, "Active"), (2, "Active")],
                &[
                    (0, 1, "Active"),
                    (1, 1, "Active"),
                    (0, 2, "Active"),
                    (2, 2, "Active"),
                ],
            ),
        ];
        assert_eq!(takes(&three), [(1, vec![0, 1]), (2, vec![2])]);
        // A member with everything is enough.
        let all = [
            seen(1, &[(0, "Active")], &[(0, 2, "Active"), (1, 2, "Active")]),
            seen(2, &[(0, "Active"), (1, "Active")], &[(0, 1, "Active")]),
        ];
        assert_eq!(takes(&all), [(2, vec![0, 1])]);
    }

    #[test]
    fn a_replica_that_anybody_doubts_is_not_taken() {
        let doubted = [
            seen(1, &[(0, "Active")], &[(0, 2, "Active")]),
            seen(2, &[(0, "Active")], &[(0, 1, "Dead")]),
        ];
        assert_eq!(takes(&doubted), [(2, vec![0])]);
        for state in [
            "Partial",
            "Dead",
            "Initializing",
            "Listener",
            "PartialSnapshot",
            "Recovery",
            "Resharding",
            "ReshardingScaleDown",
            "ActiveRead",
            "ManualRecovery",
            "SomethingNew",
        ] {
            let err = plan("c", &[seen(1, &[(0, state)], &[])]).unwrap_err();
            assert_eq!(err.kind(), Kind::Refused);
            assert!(err.why().contains(state), "{err}");
        }
    }

    #[test]
    fn members_that_cannot_be_reached_are_named() {
        let first = seen(1, &[(0, "Active")], &[(1, 77, "Active")]);
        let err = plan("c", &[first]).unwrap_err();
        assert!(err.to_string().contains("--peer 77="), "{err}");
        let moving = Topology {
            shard_transfers: vec![json!({})],
            ..seen(1, &[(0, "Active")], &[])
        };
        let err = plan("c", &[moving]).unwrap_err();
        assert!(err.why().contains("transferred"), "{err}");
        assert!(plan("c", &[seen(1, &[], &[])]).is_err());
    }
}
