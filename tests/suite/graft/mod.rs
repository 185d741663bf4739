//! The route graft, from outside: every master that it makes is read back and compared with what
//! the servers said of the sources, point by point and bit by bit.
//!
//! Keeps true: what should be in a master is computed here, from the truths, and by nothing of the
//! program; a report is believed only as far as its numbers add up with that.

mod edges;
mod keyed;
pub mod kill;
mod live;
mod made;
mod model;
mod pairs;
mod segments;
mod stamped;
mod stamped_engine;
mod stamped_live;
mod vectors;
mod vectors_live;
mod whole;

pub use self::edges::swap_shards;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::points::{self, PointId};
use crate::support::{Env, Outcome, Trial};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    [
        pairs::trials(env),
        segments::trials(env),
        whole::trials(env),
        keyed::trials(env),
        edges::trials(env),
        model::trials(),
        kill::trials(env),
        live::trials(env),
        stamped::trials(env),
        stamped_engine::trials(),
        stamped_live::trials(env),
        vectors::trials(env),
        vectors_live::trials(env),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The points of one source by id.
type Points = BTreeMap<PointId, Value>;

/// A source of a merge: its file, and what is in it.
#[derive(Clone)]
struct Given {
    file: PathBuf,
    points: Points,
}

impl Given {
    /// The name that the program gives it, by its file's.
    fn name(&self) -> String {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        name.trim_end_matches(".gz")
            .trim_end_matches(".snapshot")
            .to_owned()
    }
}

/// These cases, unpacked into `dir`.
fn given(env: &Env, dir: &Path, names: &[&str]) -> Outcome<Vec<Given>> {
    let one = |name: &&str| {
        let case = env.case(name);
        Ok(Given {
            file: case.unpack(dir)?,
            points: case.truth_by_id()?,
        })
    };
    names.iter().map(one).collect()
}

/// What a merge must give.
struct Union {
    points: Points,
    /// By source, how many points lost.
    lost: Vec<u64>,
    /// Ids that more than one source has.
    conflicts: u64,
}

/// The union of `sources` under `policy`, which is not `fail`.
fn union(sources: &[&Points], policy: &str) -> Outcome<Union> {
    let ids: BTreeSet<&PointId> = sources.iter().flat_map(|points| points.keys()).collect();
    let mut union = Union {
        points: Points::new(),
        lost: vec![0; sources.len()],
        conflicts: 0,
    };
    for id in ids {
        let having: Vec<(usize, &Value)> = sources
            .iter()
            .enumerate()
            .filter_map(|(at, points)| Some((at, points.get(id)?)))
            .collect();
        let (winner, point) = match policy.split_once(':') {
            None if policy == "first" => having[0],
            None if policy == "last" => having[having.len() - 1],
            Some(("newest", field)) => newest(&having, field)?,
            _ => return Err(format!("no union under {policy}").into()),
        };
        union.points.insert(id.clone(), point.clone());
        for (at, _) in &having {
            union.lost[*at] += u64::from(*at != winner);
        }
        union.conflicts += u64::from(having.len() > 1);
    }
    Ok(union)
}

/// The last of those with the greatest value in `field`, which is a number, a date in UTC without
/// fractions, or missing.
fn newest<'a>(having: &[(usize, &'a Value)], field: &str) -> Outcome<(usize, &'a Value)> {
    let mut best = having[0];
    for next in &having[1..] {
        let at_least = match (&next.1["payload"][field], &best.1["payload"][field]) {
            (Value::Number(a), Value::Number(b)) => a.as_f64() >= b.as_f64(),
            (Value::String(a), Value::String(b)) => a >= b,
            (_, Value::Null) => true,
            (Value::Null, _) => false,
            (a, b) => return Err(format!("{a} and {b} are not compared here").into()),
        };
        if at_least {
            best = *next;
        }
    }
    Ok(best)
}

/// The report of a merge by graft that must succeed.
fn graft(sources: &[&Given], output: &Path, args: &[&str]) -> Outcome<Value> {
    let run = merging(sources.iter().map(|given| &given.file), output)
        .args(["--route", "graft"])
        .args(args)
        .run()?
        .ok()?;
    let report = run.json()?;
    ensure_eq!(report["route"], "graft", "the route");
    Ok(report)
}

/// A merge, not yet run.
fn merging(
    sources: impl IntoIterator<Item = impl AsRef<OsStr>>,
    output: &Path,
) -> crate::support::cli::Cli {
    cli!["merge"]
        .args(sources)
        .arg("-o")
        .arg(output)
        .args(["--json", "--quiet"])
}

/// What a snapshot holds, as the program exports it.
fn export(file: &Path) -> Outcome<Vec<Value>> {
    cli!["export", file].run()?.ok()?.json_lines()
}

/// Grafts `sources` under `policy` and compares points and report with their union.
fn graft_and_compare(dir: &Path, sources: &[&Given], policy: &str) -> Outcome<Value> {
    let output = dir.join(format!("{}.snapshot", policy.replace(':', "_")));
    let report = graft(sources, &output, &["--on-conflict", policy])?;
    let held: Vec<&Points> = sources.iter().map(|given| &given.points).collect();
    let union = union(&held, policy)?;
    points::ensure_same(&export(&output)?, union.points.values())
        .map_err(|why| format!("{policy}: {}", why.message().unwrap_or_default()))?;
    ensure_adds_up(&report, sources, &union)?;
    std::fs::remove_file(&output)?;
    Ok(report)
}

/// The report's numbers are those of the union, and add up.
fn ensure_adds_up(report: &Value, sources: &[&Given], union: &Union) -> Outcome {
    let number = |value: &Value| value.as_u64().ok_or(format!("no number: {value}"));
    let told = report["sources"].as_array().ok_or("no sources")?;
    ensure_eq!(told.len(), sources.len(), "sources in the report");
    for ((told, given), lost) in told.iter().zip(sources).zip(&union.lost) {
        let count = |what: &str| number(&told[what]);
        ensure_eq!(count("read")?, given.points.len() as u64, "read of {told}");
        ensure_eq!(count("lost")?, *lost, "lost of {told}");
        ensure_eq!(count("filtered")?, 0, "filtered of {told}");
        ensure_eq!(
            count("read")?,
            count("won")? + count("lost")? + count("filtered")?,
            "what became of {told}"
        );
        if *lost > 0 {
            ensure_repacked(
                report,
                &given.name(),
                &format!("{lost} of its points lose a conflict"),
            )
            .or_else(|why| {
                // Of several shards, each says its own number.
                let shards = report["master"]["shards"].as_array().map_or(0, Vec::len);
                match shards {
                    1 => Err(why),
                    _ => ensure_repacked(report, &given.name(), "of its points lose a conflict"),
                }
            })?;
        }
    }
    ensure_eq!(
        number(&report["conflicts"]["count"])?,
        union.conflicts,
        "conflicts"
    );
    let master = &report["master"];
    let sum = |what: &str| -> Outcome<u64> {
        let shards = master["shards"].as_array().ok_or("no shards")?;
        shards.iter().map(|shard| Ok(number(&shard[what])?)).sum()
    };
    let points = union.points.len() as u64;
    ensure_eq!(number(&master["points"])?, points, "points of the master");
    ensure_eq!(sum("points")?, points, "points of its shards");
    ensure_eq!(
        number(&report["proof"]["points"])?,
        points,
        "points in the proof"
    );
    let carried = &report["carried"];
    ensure_eq!(
        number(&carried["untouched_segments"])? + number(&carried["repacked_segments"])?,
        sum("segments")?,
        "segments in {carried}"
    );
    Ok(())
}

/// The report says that a shard of the source `name` was repacked, for this reason.
fn ensure_repacked(report: &Value, name: &str, reason: &str) -> Outcome {
    let open_shards = report["carried"]["repacked"].as_array().ok_or("no list")?;
    let found = open_shards
        .iter()
        .filter_map(Value::as_str)
        .any(|text| text.contains(&format!("{name}: ")) && text.contains(reason));
    ensure!(found, "no '{reason}' for {name} in {open_shards:?}");
    Ok(())
}

/// A note of the report holds all of `parts`.
fn has_note(report: &Value, parts: &[&str]) -> bool {
    report["notes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .any(|note| parts.iter().all(|part| note.contains(part)))
}

/// The members of a tar by name; a folder has none of its own. Twice one name is an error.
fn members(tar: impl Read) -> Outcome<BTreeMap<String, Vec<u8>>> {
    let mut members = BTreeMap::new();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_dir() {
            continue;
        }
        let name = entry.path()?.to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        ensure!(
            members.insert(name.clone(), bytes).is_none(),
            "{name} is there twice"
        );
    }
    Ok(members)
}

/// The segments among the members of a snapshot: UUID and tar.
fn segments(members: &BTreeMap<String, Vec<u8>>) -> BTreeMap<&str, &[u8]> {
    members
        .iter()
        .filter_map(|(name, bytes)| {
            let (_, name) = name.split_once("/segments/")?;
            Some((name.strip_suffix(".tar")?, bytes.as_slice()))
        })
        .collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The points with the shard key `key`, as a server tells it.
fn under_key(points: &Points, key: &str) -> Points {
    let mut points = points.clone();
    for point in points.values_mut() {
        point["shard_key"] = json!(key);
    }
    points
}
