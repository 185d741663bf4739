//! Proving a grafted master: its bytes are the sources', and no id is in it twice.
//!
//! Segments that were carried untouched need no look at their points. The whole file is read back, so it is
//! byte for byte what was meant to be written; and the ids are read again from the packed id trackers, so
//! every point is there that should be, and once.
//!
//! Invariants: a master passes only if the file is what was written, every shard has as many
//! different ids as it should, and no id lies in two shards of one key.

use super::readback::{Expected, Packed, Proof, master_of};
use crate::base::error::{Error, Result};
use crate::base::scratch::Scratch;
use crate::format::Sums;
use crate::point::ShardKey;
use crate::source::{IdSet, ShardIds, Spill};
use crate::stream::overlaps_by_key;

/// Compares the `packed` master with what was written and what is `expected`.
pub fn read_carried(
    packed: Packed<'_>,
    expected: &Expected<'_>,
    scratch: &Scratch,
) -> Result<Proof> {
    let failed = |why: String| Error::failed("proving the master", why);
    let master = master_of(&packed.file(), expected, true)?;
    let spill = Spill::into_scratch(scratch);
    let mut held: Vec<(Option<ShardKey>, IdSet)> = Vec::new();
    let mut points = 0;
    for (number, shard) in &master.snapshot.shards {
        // An older copy may lie beside a newer one, in one shard, as in its source.
        let (of_shard, _) = ShardIds::of(shard, &format!("shard {number} of the master"), &spill)?;
        let of_shard = of_shard.into_set();
        let wanted = expected.shards.get(number).copied().unwrap_or(0);
        let count = of_shard.count()?;
        if count != wanted {
            return Err(failed(format!(
                "shard {number} has {count} points where {wanted} should be"
            )));
        }
        points += count;
        held.push((master.shard_keys.key_of(*number).cloned(), of_shard));
    }
    let keyed: Vec<(Option<ShardKey>, &IdSet)> =
        (held.iter()).map(|(key, ids)| (key.clone(), ids)).collect();
    overlaps_by_key(&keyed, |id, _, _| {
        Err(failed(format!("point {id} is in two shards")))
    })?;
    let Sums { sha256, xxh3 } = packed.sums()?;
    Ok(Proof {
        points,
        bytes: master.snapshot.file_bytes,
        digest: None,
        sha256,
        xxh3,
    })
}
