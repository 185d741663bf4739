//! Changes to points of an open master, and what must be told of each.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use snapmerge::point::{PointId, Record, ShardKey, Vector};

use super::Open;
use crate::support::Outcome;

/// The kind of change that not every float can take.
pub const LAST_DIGIT: &str = "a float's last digit";

/// A change: what is written and deleted, and what must be told.
pub struct Change {
    pub kind: &'static str,
    /// In which shard, what is written.
    pub written: Vec<(usize, Record)>,
    /// In which shard, what is deleted.
    pub deleted: Vec<(usize, PointId)>,
    pub told: Vec<Value>,
}

/// Kinds of changes to a point; those that few points can take come more often.
pub const KINDS: [&str; 15] = [
    "a bit of a vector",
    "a payload value",
    LAST_DIGIT,
    "a payload key gone",
    "a payload key more",
    "dropped",
    "doubled",
    "moved",
    "a sparse index",
    "a vector gone",
    "extra",
    "another's vector",
    "a sparse index",
    "a vector gone",
    "a sparse index",
];

/// A change of this kind, or none where the point has nothing to change so.
pub fn change(
    open: &Open,
    kind: &'static str,
    at: usize,
    record: &Record,
    rng: &mut ChaCha8Rng,
) -> Outcome<Option<Change>> {
    let id = json!(record.id);
    let source = open.source_of(record)?;
    // A point is named with its key.
    let named = |key: Option<&ShardKey>, mut told: Value| {
        if let Some(key) = key {
            told["shard_key"] = json!(key);
        }
        vec![told]
    };
    let key = record.shard_key.as_ref();
    let differs = |what: &str, names: Vec<&str>| {
        let mut told = json!({"id": id, "difference": "differs", "source": source});
        told[what] = json!(names);
        named(key, told)
    };
    let missing = || {
        let told = json!({"id": id, "difference": "missing", "source": source});
        named(key, told)
    };
    let extra = |id: PointId, key, shard| {
        named(
            key,
            json!({"id": id, "difference": "extra", "shard": shard}),
        )
    };
    let write = |changed: Record, told| {
        Ok(Some(Change {
            kind,
            written: vec![(at, changed)],
            deleted: Vec::new(),
            told,
        }))
    };
    let mut changed = record.clone();
    let shards = &open.master.shards;
    let other = (at + 1) % shards.len();
    // Every key has one shard here, so that a point in another is under another key.
    let other_key = shards[other].key.as_ref();
    match kind {
        "a bit of a vector" => {
            let Some((name, vector)) = changed.vectors.choose_mut_some(rng) else {
                return Ok(None);
            };
            let values = match vector {
                Vector::Dense(values)
                | Vector::Sparse { values, .. }
                | Vector::Multi { flat: values, .. } => values,
            };
            let Some(value) = values.choose_mut_some(rng) else {
                return Ok(None);
            };
            let flipped = f32::from_bits(value.to_bits() ^ (1 << rng.random_range(0..32)));
            if !flipped.is_finite() {
                return Ok(None);
            }
            *value = flipped;
            let told = differs("vectors", vec![name.as_str()]);
            write(changed.clone(), told)
        }
        "a payload value" => {
            let Some(key) = some_key(record, rng, |_| true) else {
                return Ok(None);
            };
            let value = changed.payload[&key].take();
            changed.payload.insert(key.clone(), json!([value]));
            write(changed, differs("payload", vec![&key]))
        }
        LAST_DIGIT => {
            let Some(key) = some_key(record, rng, Value::is_f64) else {
                return Ok(None);
            };
            let before = changed.payload[&key].as_f64().ok_or("no float")?;
            let after = f64::from_bits(before.to_bits() ^ 1);
            changed.payload.insert(key.clone(), json!(after));
            write(changed, differs("payload", vec![&key]))
        }
        "a payload key gone" => {
            let Some(key) = some_key(record, rng, |_| true) else {
                return Ok(None);
            };
            changed.payload.remove(&key);
            write(changed, differs("payload", vec![&key]))
        }
        "a payload key more" => {
            changed.payload.insert("new".into(), Value::Null);
            write(changed, differs("payload", vec!["new"]))
        }
        "dropped" => Ok(Some(Change {
            kind,
            written: Vec::new(),
            deleted: vec![(at, record.id)],
            told: missing(),
        })),
        "doubled" if other != at => {
            let mut numbers = [shards[at].number, shards[other].number];
            numbers.sort_unstable();
            Ok(Some(Change {
                kind,
                written: vec![(other, changed)],
                deleted: Vec::new(),
                told: match key {
                    Some(_) => extra(record.id, other_key, shards[other].number),
                    None => vec![json!({"id": id, "difference": "twice", "shards": numbers})],
                },
            }))
        }
        "moved" if other != at => Ok(Some(Change {
            kind,
            written: vec![(other, changed)],
            deleted: vec![(at, record.id)],
            told: match key {
                Some(_) => {
                    let extra = extra(record.id, other_key, shards[other].number);
                    missing().into_iter().chain(extra).collect()
                }
                None => vec![json!({
                    "id": id,
                    "difference": "misplaced",
                    "shard": shards[other].number,
                    "belongs": shards[at].number,
                })],
            },
        })),
        "a sparse index" => {
            let Some((name, indices)) =
                changed
                    .vectors
                    .iter_mut()
                    .find_map(|(name, vector)| match vector {
                        Vector::Sparse { indices, .. } if !indices.is_empty() => {
                            Some((name, indices))
                        }
                        _ => None,
                    })
            else {
                return Ok(None);
            };
            // The highest can always go up by one.
            let Some(last) = indices.last_mut() else {
                return Ok(None);
            };
            *last += 1;
            let told = differs("vectors", vec![name.as_str()]);
            write(changed.clone(), told)
        }
        "a vector gone" if changed.vectors.len() > 1 => {
            changed.vectors.shuffle(rng);
            let (name, _) = changed.vectors.pop().ok_or("no vectors")?;
            write(changed, differs("vectors", vec![&name]))
        }
        "another's vector" => {
            let Some((name, Vector::Dense(values))) = changed.vectors.first_mut() else {
                return Ok(None);
            };
            values.reverse();
            if values.iter().eq(values.iter().rev()) {
                return Ok(None);
            }
            let told = differs("vectors", vec![name.as_str()]);
            write(changed.clone(), told)
        }
        "extra" => {
            // An id that nobody has, in the shard where it belongs.
            let new = PointId::Num(1 << 40 | u64::from(rng.random::<u16>()));
            changed.id = new;
            let Some(number) = open.layout.shard_of(new, record.shard_key.as_ref()) else {
                return Ok(None);
            };
            let place = shards.iter().position(|shard| shard.number == number);
            Ok(Some(Change {
                kind,
                written: vec![(place.ok_or("no shard")?, changed)],
                deleted: Vec::new(),
                told: extra(new, key, number),
            }))
        }
        // In a master of one shard nothing lies in another.
        _ => Ok(None),
    }
}

fn some_key(
    record: &Record,
    rng: &mut ChaCha8Rng,
    fits: impl Fn(&Value) -> bool,
) -> Option<String> {
    let keys: Vec<&String> = record
        .payload
        .iter()
        .filter(|(_, value)| fits(value))
        .map(|(key, _)| key)
        .collect();
    keys.choose(rng).map(|key| (*key).clone())
}

/// One of a slice at random, to be changed.
trait ChooseMut<T> {
    fn choose_mut_some(&mut self, rng: &mut ChaCha8Rng) -> Option<&mut T>;
}

impl<T> ChooseMut<T> for Vec<T> {
    fn choose_mut_some(&mut self, rng: &mut ChaCha8Rng) -> Option<&mut T> {
        let at = rng.random_range(0..self.len().max(1));
        self.get_mut(at)
    }
}
