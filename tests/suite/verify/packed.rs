//! The proof, proven, on files: one thing changed in a packed master, which the built program is to
//! find and to name. Every setting of the config; payload indexes, in the collection's list and in a
//! segment; bits of vectors as they lie in a segment; segments gone, or of another source.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::merge::{Sources, forget_checksums};
use crate::support::cli::Run;
use crate::support::craft::Tar;
use crate::support::{Env, Outcome, Trial};

/// Bits that are changed in vectors.
const BITS: usize = 30;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("verify/packed/config", || config(env)),
        Trial::new("verify/packed/indexes", || indexes(env)),
        Trial::new("verify/packed/shard_keys", || shard_keys(env)),
        Trial::new("verify/packed/bits", || bits(env)),
        Trial::new("verify/packed/segments", || segments(env)),
        Trial::new("verify/packed/doubled", || doubled(env)),
    ]
}

/// A master that can be changed, and what is said of it then.
pub(super) struct Bed {
    sources: Sources,
    master: std::path::PathBuf,
    bytes: Vec<u8>,
}

impl Bed {
    pub(super) fn new(env: &Env, names: &[&str], flags: &[&str]) -> Outcome<Self> {
        let sources = Sources::named(env, names)?;
        let master = sources.merge(flags)?.path;
        // Checksums would tell every change before it is looked at.
        forget_checksums(&master)?;
        let bed = Self {
            bytes: std::fs::read(&master)?,
            sources,
            master,
        };
        bed.verify(&[])?.ok()?;
        Ok(bed)
    }

    fn verify(&self, flags: &[&str]) -> Outcome<Run> {
        cli!["verify", &self.master, "-q", "--json"]
            .args(flags)
            .arg("--against")
            .args(&self.sources.files)
            .run()
    }

    /// What is said of the master with this change.
    fn changed(&self, change: impl FnOnce(&mut Tar) -> Outcome) -> Outcome<Run> {
        self.changed_with(&[], change)
    }

    /// The same, asked with these flags.
    pub(super) fn changed_with(
        &self,
        flags: &[&str],
        change: impl FnOnce(&mut Tar) -> Outcome,
    ) -> Outcome<Run> {
        let mut tar = Tar::parse(&self.bytes)?;
        change(&mut tar)?;
        std::fs::write(&self.master, tar.bytes())?;
        self.verify(flags)
    }

    /// The same for a change of a JSON file of the collection.
    fn changed_json(&self, file: &str, change: impl FnOnce(&mut Value) -> Outcome) -> Outcome<Run> {
        self.changed(|tar| {
            let member = tar.find(file)?;
            let mut value: Value = serde_json::from_slice(&member.data)?;
            change(&mut value)?;
            member.set(value.to_string().into_bytes());
            Ok(())
        })
    }
}

/// Paths of everything in `value` that has a value of its own.
pub fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                leaves(value, &format!("{path}/{key}"), found);
            }
        }
        Value::Null => {}
        _ => found.push(path.to_owned()),
    }
}

/// Another value of the kind, if there is one.
pub fn another(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(flag) => Some(json!(!flag)),
        Value::Number(number) => Some(match number.as_u64() {
            Some(whole) => json!(whole + 1),
            None => json!(number.as_f64()? / 2.0),
        }),
        Value::String(word) => match word.as_str() {
            "Cosine" => Some(json!("Dot")),
            "Dot" => Some(json!("Cosine")),
            "float32" => Some(json!("float16")),
            "idf" => Some(json!("none")),
            // There is only one kind of scalar quantization.
            _ => None,
        },
        _ => None,
    }
}

/// Every single value of a config, changed to another that can be meant.
fn config(env: &Env) -> Outcome {
    let mut looked_at = 0;
    for name in ["album_2018", "quant_scalar", "sparse_dense", "named"] {
        let bed = Bed::new(env, &[name], &["--route", "graft"])?;
        let config: Value =
            serde_json::from_slice(&Tar::parse(&bed.bytes)?.find("config.json")?.data)?;
        let mut paths = Vec::new();
        leaves(&config, "", &mut paths);
        for path in paths {
            let Some(other) = config.pointer(&path).and_then(another) else {
                continue;
            };
            let run = bed.changed_json("config.json", |config| {
                *config.pointer_mut(&path).ok_or("no such value")? = other;
                Ok(())
            })?;
            let key = path.rsplit('/').next().unwrap_or_default();
            let told = match run.status.code() {
                // What a collection cannot be is damage.
                Some(13) => run.stderr.clone(),
                _ => {
                    let report = run.clone().code(3)?.json()?;
                    ensure_eq!(report["verdict"], "differs", "{path}");
                    ensure_eq!(report["differences"], 0, "{path}: points");
                    report["settings"].to_string()
                }
            };
            let word = key.trim_end_matches("_kb");
            ensure!(
                told.contains(word)
                    || told.contains("quantization")
                    // What it means is told, in the newer of its two spellings.
                    || (word == "on_disk" && told.contains("memory"))
                    || (word == "shard_number" && told.contains("shard 1 is missing")),
                "{name}: {path} was not named\n{}",
                run.told()
            );
            looked_at += 1;
        }
    }
    ensure!(looked_at >= 60, "only {looked_at} values");
    Ok(())
}

fn indexes(env: &Env) -> Outcome {
    let bed = Bed::new(env, &["all_indexes"], &["--route", "graft"])?;
    let file = "payload_index.json";
    let schema: Value = serde_json::from_slice(&Tar::parse(&bed.bytes)?.find(file)?.data)?;
    let fields: Vec<String> = schema["schema"]
        .as_object()
        .ok_or("no schema")?
        .keys()
        .cloned()
        .collect();
    ensure!(fields.len() >= 8, "only {fields:?}");
    for field in &fields {
        let run = bed.changed(|tar| {
            // The list lies at the top; a segment has a folder of the same name.
            let member = tar.members.iter_mut().find(|member| member.path == file);
            let member = member.ok_or("no list")?;
            let mut value: Value = serde_json::from_slice(&member.data)?;
            value["schema"]
                .as_object_mut()
                .ok_or("no schema")?
                .remove(field);
            member.set(value.to_string().into_bytes());
            Ok(())
        })?;
        let report = run.code(3)?.json()?;
        let told = report["settings"].to_string();
        ensure!(told.contains(&format!("'{field}'")), "{field}: {told}");
        ensure_eq!(report["differences"], 0, "{field}: points");
    }
    // A segment that lacks it, whatever the collection says.
    for field in fields.iter().take(3) {
        let run = bed.changed(|tar| {
            tar.segment("payload_index/config.json", |segment| {
                let member = segment.find("payload_index/config.json")?;
                let mut value: Value = serde_json::from_slice(&member.data)?;
                value["indexed_fields"]
                    .as_object_mut()
                    .ok_or("no fields")?
                    .remove(field);
                member.set(value.to_string().into_bytes());
                Ok(())
            })
        })?;
        let report = run.code(3)?.json()?;
        let told = report["settings"].to_string();
        ensure!(
            told.contains(&format!("'{field}' in segment")) && told.contains("nothing"),
            "{field}: {told}"
        );
    }
    Ok(())
}

fn shard_keys(env: &Env) -> Outcome {
    let bed = Bed::new(env, &["shard_keys"], &["--route", "graft"])?;
    let file = "shard_key_mapping.json";
    let keys: Value = serde_json::from_slice(&Tar::parse(&bed.bytes)?.find(file)?.data)?;
    for at in 0..3 {
        let of_key = |point: &&Value| point["shard_key"] == keys[at]["key"];
        let points = bed.sources.truths[0].iter().filter(of_key).count();
        ensure!(points > 0, "no points under {}", keys[at]);
        let run = bed.changed_json(file, |keys| {
            keys[at]["key"] = json!("another");
            Ok(())
        })?;
        let report = run.code(3)?.json()?;
        ensure!(
            report["settings"].to_string().contains("another"),
            "{report}"
        );
        // Its points lie under another key now, all of them: they are others.
        for what in ["missing", "extra"] {
            ensure_eq!(report["points"][what], points, "{what}: {report}");
        }
        ensure_eq!(report["points"]["differing"], 0, "{}", report["points"]);
    }
    Ok(())
}

/// A bit of a vector, where it lies in its segment.
fn bits(env: &Env) -> Outcome {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for (name, route) in [("plain_dot", "graft"), ("album_2017", "rebuild")] {
        let bed = Bed::new(env, &[name], &["--route", route])?;
        for number in 0..BITS / 2 {
            let points = &bed.sources.truths[0];
            let point = &points[rng.random_range(0..points.len())];
            let vector: Vec<f32> = serde_json::from_value(point["vector"].clone())?;
            let bytes: Vec<u8> = vector
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            let bit = rng.random_range(0..bytes.len() * 8);
            let mut changed = 0;
            let run = bed.changed(|tar| {
                for member in tar.members.iter_mut().filter(|m| m.path.ends_with(".tar")) {
                    let place = member
                        .data
                        .windows(bytes.len())
                        .position(|window| window == bytes);
                    if let Some(place) = place {
                        member.data[place + bit / 8] ^= 1 << (bit % 8);
                        changed += 1;
                    }
                }
                Ok(())
            })?;
            ensure_eq!(
                changed,
                1,
                "{name} {number}: places of the vector of {}",
                point["id"]
            );
            let report = run.code(3)?.json()?;
            let told = json!([{
                "id": point["id"],
                "difference": "differs",
                "source": name,
                "vectors": [""],
            }]);
            ensure_eq!(report["first"], told, "{name} {number}, bit {bit}");
        }
    }
    Ok(())
}

/// A segment that is gone, or another's in its place.
fn segments(env: &Env) -> Outcome {
    let bed = Bed::new(env, &["album_2017", "album_2018"], &["--route", "graft"])?;
    let other = Bed::new(env, &["uuid_ids"], &["--route", "graft"])?;
    let of = |tar: &Tar| -> Vec<usize> {
        let places = tar.members.iter().enumerate();
        places
            .filter(|(_, m)| m.path.ends_with(".tar"))
            .map(|(at, _)| at)
            .collect()
    };
    let places = of(&Tar::parse(&bed.bytes)?);
    ensure!(places.len() >= 4, "only {} segments", places.len());
    let mut missing = 0;
    for at in places {
        let run = bed.changed(|tar| {
            tar.members.remove(at);
            Ok(())
        })?;
        let report = run.json()?;
        let points = &report["points"];
        if points["how"] == "walk" && points["missing"] == 0 {
            // A segment without points is nothing that a reader would miss.
            run.ok()?;
            continue;
        }
        run.code(3)?;
        let gone = points["missing"].as_u64().ok_or("no count")?;
        ensure_eq!(report["differences"], gone, "differences");
        missing += gone;

        let mut theirs = Tar::parse(&other.bytes)?;
        let from = of(&theirs)[0];
        let run = bed.changed(|tar| {
            tar.members[at].set(theirs.members.swap_remove(from).data);
            Ok(())
        })?;
        run.code(3)?;
    }
    ensure_eq!(missing, 2000, "all segments together");
    Ok(())
}

/// A segment that is there twice, in one shard: each of its points is, and neither is the older one.
/// What a log wrote beside the older copies is right.
fn doubled(env: &Env) -> Outcome {
    let bed = Bed::new(env, &["album_2017"], &["--route", "rebuild"])?;
    let own = Tar::parse(&bed.bytes)?;
    let with_points = |member: &&crate::support::craft::Member| {
        member.path.ends_with(".tar") && member.data.len() > 100_000
    };
    let uuid = uuid::Uuid::from_u128(7);
    let run = bed.changed(|tar| {
        let member = own.members.iter().find(with_points).ok_or("no segment")?;
        let path = format!("0/segments/{uuid}.tar");
        let at = tar.members.iter().position(|one| one.path == member.path);
        let copy = crate::support::craft::Member::file(&path, &member.data);
        tar.members.insert(at.ok_or("no place")?, copy);
        Ok(())
    })?;
    let report = run.code(3)?.json()?;
    let twice = report["doubled"].as_u64().ok_or("no count")?;
    ensure!(twice > 0 && twice == report["differences"], "{report}");
    let first = &report["first"][0];
    ensure_eq!(first["difference"], "doubled", "{first}");
    ensure_eq!(first["shard"], 0, "{first}");
    ensure!(
        first["segments"].to_string().contains(&uuid.to_string()),
        "{first}"
    );
    let bed = Bed::new(env, &["log_pending"], &["--route", "graft"])?;
    let report = bed.verify(&[])?.ok()?.json()?;
    ensure_eq!(report["doubled"], 0, "beside what a log wrote");
    Ok(())
}
