//! Which shard a point belongs to: Qdrant's own hash ring.
//!
//! From lib/collection/src/hash_ring.rs: 100 nodes a shard on a ring of SipHash-2-4 with key 0; a
//! point lies on the first node at or after its own hash.
//!
//! Invariants: a point is where a server would look for it. A server restores points in wrong
//! shards without a word, and has them twice from the next update on.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use hashring::HashRing;
use siphasher::sip::SipHasher24;

use crate::point::PointId;

/// Nodes of one shard on the ring (`HASH_RING_SHARD_SCALE`).
const NODES_PER_SHARD: u32 = 100;

/// A ring of shards.
#[derive(Debug, Clone)]
pub struct ShardRing {
    ring: HashRing<Node, BuildHasherDefault<SipHasher24>>,
    first: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    shard: u32,
    replica: u32,
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.shard.to_le_bytes());
        state.write(&self.replica.to_le_bytes());
    }
}

/// A point id as the ring hashes it (`StableHash` in lib/segment/src/types.rs).
struct Key(PointId);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.0 {
            PointId::Num(num) => {
                state.write(&0_u64.to_le_bytes());
                state.write(&num.to_le_bytes());
            }
            PointId::Uuid(uuid) => {
                state.write(&1_u64.to_le_bytes());
                state.write(&16_u64.to_le_bytes());
                state.write(uuid.as_bytes());
            }
        }
    }
}

impl ShardRing {
    /// The ring of `shards`, which are not empty.
    pub fn new(shards: &[u32]) -> Self {
        let mut ring = HashRing::with_hasher(BuildHasherDefault::default());
        for shard in shards {
            for replica in 0..NODES_PER_SHARD {
                ring.add(Node {
                    shard: *shard,
                    replica,
                });
            }
        }
        Self {
            ring,
            first: shards.first().copied().unwrap_or(0),
        }
    }

    /// The shard of the point with `id`.
    pub fn shard(&self, id: PointId) -> u32 {
        self.ring
            .get(&Key(id))
            .map_or(self.first, |node| node.shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn shards(ring: &ShardRing) -> Vec<u32> {
        (0..20).map(|id| ring.shard(PointId::Num(id))).collect()
    }

    /// The vectors were taken from Qdrant's own ring.
    #[test]
    fn points_lie_where_qdrant_puts_them() {
        let two = ShardRing::new(&[0, 1]);
        let three = ShardRing::new(&[0, 1, 2]);
        assert_eq!(
            shards(&two),
            [0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0]
        );
        assert_eq!(
            shards(&three),
            [2, 2, 2, 2, 2, 0, 2, 2, 0, 1, 1, 2, 2, 0, 2, 2, 0, 1, 1, 0]
        );
        let uuid = Uuid::try_parse("550e8400-e29b-41d4-a716-446655440000").unwrap();
        assert_eq!(two.shard(PointId::Uuid(uuid)), 1);
        assert_eq!(three.shard(PointId::Uuid(uuid)), 1);
    }

    #[test]
    fn the_order_of_shards_does_not_matter() {
        let there = ShardRing::new(&[4, 9, 7]);
        let back = ShardRing::new(&[7, 9, 4]);
        for id in 0..2_000 {
            let id = PointId::Num(id);
            assert_eq!(there.shard(id), back.shard(id));
            assert!([4, 7, 9].contains(&there.shard(id)));
        }
    }
}
