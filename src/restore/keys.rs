//! Shard keys, created so that their shards get the numbers that they have in a snapshot.
//!
//! A server numbers a new key's shards on from the highest number that is there. Restored into a
//! collection whose keys were made in another order, every point would lie under the wrong key, and
//! into one without keys nothing would be restored, and `true` be answered (qdrant#10135).
//!
//! Invariants: after the steps each key has exactly its numbers, and there is no other key; where no
//! order gives them, nothing is begun.

use crate::base::error::{Error, Result};
use crate::format::schema::ShardKeys;
use crate::point::ShardKey;
use crate::server::Connection;

/// Prefix of the names of keys that only take up shard numbers.
const FILLER: &str = "snapmerge-filler-";

/// One key to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The key.
    pub key: ShardKey,
    /// Number of shards it gets.
    pub shards: u32,
    /// True if it only takes up numbers that no key of the snapshot has; it is removed at the end.
    pub filler: bool,
}

/// The keys in the order in which they are to be created.
pub fn steps(keys: &ShardKeys) -> Result<Vec<Step>> {
    let refuse = |why: String| {
        Err(Error::failed("planning the shard keys", why).next(
            "have its shards numbered anew, and restore that: snapmerge merge FILE -o NEW.snapshot",
        ))
    };
    let mut runs: Vec<(u32, u32, &ShardKey)> = Vec::new();
    for (key, ids) in keys.keys() {
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
            return refuse(format!(
                "key {key} has no shard, which no server can create"
            ));
        };
        let length = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        if last - first + 1 != length {
            return refuse(format!(
                "the shards of key {key} are {ids:?}; a server gives a new key numbers in a row"
            ));
        }
        runs.push((*first, length, key));
    }
    runs.sort_unstable();
    // The first shard of the first key is number 1.
    let mut next = 1;
    let mut steps = Vec::new();
    for (first, length, key) in runs {
        if first < next {
            return refuse(format!(
                "key {key} has shard {first}, a number that a server does not give to a key"
            ));
        }
        if first > next {
            steps.push(Step {
                key: ShardKey::Word(format!("{FILLER}{next}")),
                shards: first - next,
                filler: true,
            });
        }
        steps.push(Step {
            key: key.clone(),
            shards: length,
            filler: false,
        });
        next = first + length;
    }
    Ok(steps)
}

/// Creates the keys of the new collection called `name` by these steps.
pub fn create(connection: &Connection, name: &str, steps: &[Step]) -> Result<()> {
    for step in steps {
        connection.create_shard_key(name, &step.key, step.shards)?;
    }
    for step in steps.iter().filter(|step| step.filler) {
        connection.delete_shard_key(name, &step.key)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(keys: &[(&str, &[u32])]) -> Result<Vec<(String, u32)>> {
        let word = |word: &str| ShardKey::Word(word.into());
        let keys = ShardKeys::new(keys.iter().map(|(key, ids)| (word(key), ids.to_vec())))?;
        let steps = steps(&keys)?.into_iter();
        Ok(steps
            .map(|step| (step.key.to_string().replace('"', ""), step.shards))
            .collect())
    }

    #[test]
    fn keys_are_made_in_the_order_of_their_numbers() {
        let owned = |steps: &[(&str, u32)]| -> Vec<(String, u32)> {
            steps.iter().map(|(key, n)| ((*key).into(), *n)).collect()
        };
        // By name they would come the other way round.
        let got = of(&[("a", &[3]), ("b", &[1]), ("c", &[2])]).unwrap();
        assert_eq!(got, owned(&[("b", 1), ("c", 1), ("a", 1)]));
        let got = of(&[("a", &[3, 4]), ("b", &[1, 2])]).unwrap();
        assert_eq!(got, owned(&[("b", 2), ("a", 2)]));
        // A key was removed once: its numbers have to be taken.
        let got = of(&[("a", &[2]), ("b", &[5])]).unwrap();
        assert_eq!(
            got,
            owned(&[
                ("snapmerge-filler-1", 1),
                ("a", 1),
                ("snapmerge-filler-3", 2),
                ("b", 1)
            ])
        );
        assert_eq!(of(&[]).unwrap(), owned(&[]));
    }

    #[test]
    fn numbers_that_no_order_gives_are_refused() {
        for keys in [
            &[("a", &[0_u32][..])][..],
            &[("a", &[1, 3]), ("b", &[2])],
            &[("a", &[])],
        ] {
            let err = of(keys).unwrap_err().to_string();
            assert!(err.contains("snapmerge merge FILE"), "{keys:?}: {err}");
        }
    }
}
