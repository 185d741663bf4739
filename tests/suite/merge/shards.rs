//! Shards: a point lies where Qdrant's own hash ring puts it, in any number of shards, and a shard key
//! keeps its points. The ring is computed here from its definition, not by the program's code.

use std::collections::BTreeMap;
use std::hash::Hasher;

use serde_json::{Value, json};
use siphasher::sip::SipHasher24;
use uuid::Uuid;

use super::Sources;
use crate::export::exported;
use crate::support::craft::Tar;
use crate::support::packed::Packed;
use crate::support::points::PointId;
use crate::support::{Env, Outcome, Trial, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("merge/shards/ring_of_the_test", ring_of_the_test),
        Trial::new("merge/shards/three_five_one", || three_five_one(env)),
        Trial::new("merge/shards/resharded_key", || resharded_key(env)),
        Trial::new("merge/shards/by_source", || by_source(env)),
        Trial::new("merge/shards/uuids", || uuids(env)),
        Trial::new("merge/shards/keys_kept", || keys_kept(env)),
        Trial::new("merge/shards/keys_of_some_sources", || {
            keys_of_some_sources(env)
        }),
    ]
}

/// A consistent hash ring: 100 places for each shard, SipHash-2-4 with the key 0.
pub struct Ring(BTreeMap<u64, u32>);

impl Ring {
    pub fn new(shards: &[u32]) -> Self {
        let mut places = BTreeMap::new();
        for shard in shards {
            for nth in 0..100_u32 {
                places.insert(sip(&[&shard.to_le_bytes(), &nth.to_le_bytes()]), *shard);
            }
        }
        Self(places)
    }

    /// The first place at or after the id's hash, and after the last the first.
    pub fn shard(&self, id: &PointId) -> Outcome<u32> {
        let hash = match id {
            PointId::Num(n) => sip(&[&0_u64.to_le_bytes(), &n.to_le_bytes()]),
            PointId::Uuid(text) => {
                let uuid = Uuid::parse_str(text)?;
                sip(&[&1_u64.to_le_bytes(), &16_u64.to_le_bytes(), uuid.as_bytes()])
            }
        };
        let place = self.0.range(hash..).chain(&self.0).next();
        Ok(*place.ok_or("a ring without shards")?.1)
    }
}

fn sip(parts: &[&[u8]]) -> u64 {
    let mut hasher = SipHasher24::new();
    hasher.write(&parts.concat());
    hasher.finish()
}

/// As real servers place points.
fn ring_of_the_test() -> Outcome {
    let uuid = PointId::Uuid("550e8400-e29b-41d4-a716-446655440000".to_owned());
    for (shards, want) in [
        (
            2,
            [0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0],
        ),
        (
            3,
            [2, 2, 2, 2, 2, 0, 2, 2, 0, 1, 1, 2, 2, 0, 2, 2, 0, 1, 1, 0],
        ),
    ] {
        let ring = Ring::new(&(0..shards).collect::<Vec<u32>>());
        let got = (0..20)
            .map(|id| ring.shard(&PointId::Num(id)))
            .collect::<Outcome<Vec<_>>>()?;
        ensure_eq!(got, want, "ids 0 to 19 in {shards} shards");
        ensure_eq!(ring.shard(&uuid)?, 1, "the UUID in {shards} shards");
    }
    Ok(())
}

/// The points of each shard, read from the shard alone.
fn by_shard(packed: &Packed) -> Outcome<BTreeMap<u32, Vec<Value>>> {
    let dir = temp_dir()?;
    let mut points = BTreeMap::new();
    for shard in packed.shards()? {
        let alone = packed.write_shard(shard, dir.path())?;
        points.insert(shard, exported(&alone)?);
    }
    Ok(points)
}

/// Fails unless each of the shards has points, and those that the ring gives it.
fn ensure_placed(packed: &Packed, shards: &[u32], points: usize) -> Outcome {
    let ring = Ring::new(shards);
    let by_shard = by_shard(packed)?;
    let mut placed = 0;
    for shard in shards {
        let there = &by_shard[shard];
        ensure!(!there.is_empty(), "shard {shard} is empty");
        for point in there {
            let id = PointId::of(point)?;
            ensure_eq!(*shard, ring.shard(&id)?, "shard of point {id}");
            placed += 1;
        }
    }
    ensure_eq!(placed, points, "points in shards");
    Ok(())
}

fn three_five_one(env: &Env) -> Outcome {
    let mut sources = Sources::named(env, &["three_shards"])?;
    let truth = sources.truths[0].clone();
    // What the server itself placed: the test's ring and its reading of shards are right.
    ensure_placed(&Packed::open(&sources.files[0])?, &[0, 1, 2], 1500)?;

    let mut digests = Vec::new();
    for shards in [5_u32, 1, 3] {
        let flag = shards.to_string();
        let master = sources.rebuild(&["--shards", &flag])?;
        master.ensure_holds(&truth)?;
        let numbers: Vec<u32> = (0..shards).collect();
        ensure_placed(&master.packed, &numbers, 1500)?;
        let config = master.packed.config()?;
        ensure_eq!(
            config["params"]["shard_number"],
            json!(shards),
            "shard_number"
        );
        ensure_eq!(
            master.report["master"]["shards"].as_array().map(Vec::len),
            Some(numbers.len()),
            "shards in the report"
        );
        digests.push(master.digest()?.to_owned());
        // The next one is made of this one.
        let file = sources.path(&format!("in_{shards}.snapshot"));
        std::fs::rename(&master.path, &file)?;
        std::fs::remove_file(sources.path("master.snapshot.checksum"))?;
        sources.files = vec![file];
    }
    ensure!(
        digests.iter().all(|digest| *digest == digests[0]),
        "the same points have the digests {digests:?}"
    );
    Ok(())
}

/// Shards of a key that are not in a row, as after resharding, and as no server makes them for a new key:
/// a master numbers them anew.
fn resharded_key(env: &Env) -> Outcome {
    let mut sources = Sources::named(env, &["shard_keys"])?;
    let mut tar = Tar::parse(&std::fs::read(&sources.files[0])?)?;
    let keys = json!([{"key": "2017", "shard_ids": [1, 3]}, {"key": "2018", "shard_ids": [2]}]);
    let mapping = tar.find("shard_key_mapping.json")?;
    mapping.set(keys.to_string().into_bytes());
    std::fs::write(&sources.files[0], tar.bytes())?;
    for point in &mut sources.truths[0] {
        if point["shard_key"] == 2019 {
            point["shard_key"] = json!("2017");
        }
    }
    let master = sources.merge(&[])?;
    master.ensure_holds(&sources.truths[0])?;
    let numbers: Vec<Vec<u32>> = (master.packed.keys()?.into_iter())
        .map(|(_, numbers)| numbers)
        .collect();
    ensure_eq!(numbers, [vec![1, 2], vec![3]], "numbers in a row");
    Ok(())
}

/// What config.json says of the shards of a key is what there is.
fn by_source(env: &Env) -> Outcome {
    let sources = Sources::named(env, &super::ALBUMS)?;
    for shards in [1, 3] {
        let number = shards.to_string();
        let master = sources.merge(&["--layout", "by-source", "--shards", &number])?;
        let config = master.packed.config()?;
        ensure_eq!(config["params"]["shard_number"], json!(shards), "shards");
        ensure_eq!(
            config["params"]["sharding_method"],
            json!("custom"),
            "method"
        );
        for (key, of_key) in master.packed.keys()? {
            ensure_eq!(of_key.len(), shards, "shards of {key}");
        }
        cli!["verify", &master.path, "--against"]
            .args(&sources.files)
            .run()?
            .ok()?;
    }
    Ok(())
}

fn uuids(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["uuid_ids"])?;
    let master = sources.merge(&["--shards", "4"])?;
    master.ensure_holds(&sources.truths[0])?;
    ensure_placed(&master.packed, &[0, 1, 2, 3], 800)
}

fn keys_kept(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["shard_keys"])?;
    for (flags, shards_per_key) in [
        (vec![], 1),
        (vec!["--route", "rebuild"], 1),
        (vec!["--shards", "2"], 2),
    ] {
        let master = sources.merge(&flags)?;
        master.ensure_holds(&sources.truths[0])?;
        ensure_eq!(
            master.packed.config()?["params"]["sharding_method"],
            json!("custom"),
            "sharding_method"
        );
        let keys = master.packed.keys()?;
        let mut names: Vec<String> = keys.iter().map(|(key, _)| key.to_string()).collect();
        names.sort();
        // A number is another key than the text of it.
        ensure_eq!(names, ["\"2017\"", "\"2018\"", "2019"], "keys");
        let mut ids: Vec<u32> = keys.iter().flat_map(|(_, ids)| ids.clone()).collect();
        ids.sort_unstable();
        let want: Vec<u32> = (1..=3 * shards_per_key).collect();
        ensure_eq!(ids, want, "shards, numbered as a server numbers them");

        let by_shard = by_shard(&master.packed)?;
        let mut placed = 0;
        for (key, shards) in &keys {
            let ring = Ring::new(shards);
            for shard in shards {
                for point in &by_shard[shard] {
                    let id = PointId::of(point)?;
                    let of_truth = sources.truths[0].iter().find(|p| p["id"] == point["id"]);
                    ensure_eq!(of_truth.map(|p| &p["shard_key"]), Some(key), "key of {id}");
                    ensure_eq!(*shard, ring.shard(&id)?, "shard of {id}");
                    placed += 1;
                }
            }
        }
        ensure_eq!(placed, 900, "points in shards");
    }
    Ok(())
}

/// Points without a key cannot lie under one: then nobody's do, and that is said.
fn keys_of_some_sources(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["shard_keys", "album_2018"])?;
    let mut want: Vec<Value> = sources.truths.concat();
    for point in &mut want {
        point.as_object_mut().ok_or("no point")?.remove("shard_key");
    }
    let master = sources.merge(&[])?;
    master.ensure_holds(&want)?;
    ensure_eq!(master.packed.keys()?, vec![], "keys");
    let findings = master.report["findings"].to_string();
    ensure!(
        findings.contains("sharding_method") && findings.contains("not carried over"),
        "the report does not tell that keys are gone: {findings}"
    );
    Ok(())
}
