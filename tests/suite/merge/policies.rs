//! Who wins an id that two sources have: every policy, against winners that are computed here from the
//! truth files; and the account of it, in the report and in the ledger.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{ALBUMS, Master, Sources};
use crate::support::cases::{Case, CaseSet};
use crate::support::points::PointId;
use crate::support::{Env, Outcome, Trial, names_in};

/// Every policy that lets someone win.
pub const POLICIES: [&str; 7] = [
    "last",
    "first",
    "newest:taken",
    "newest:score",
    "newest:exif.iso",
    "newest:year",
    "remap",
];

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = Vec::new();
    for policy in POLICIES {
        let name = format!("merge/policy/{}", policy.replace(':', "_"));
        trials.push(Trial::new(name, move || {
            decides(Sources::named(env, &ALBUMS)?, policy)
        }));
    }
    trials.push(Trial::new("merge/policy/fail", || fails(env)));
    trials.push(Trial::new("merge/policy/newest_of_no_field", || {
        newest_of_no_field(env)
    }));
    trials.push(Trial::new(
        "merge/policy/newest_of_a_field_elsewhere",
        || newest_of_a_field_elsewhere(env),
    ));
    trials.push(Trial::new("merge/policy/in_the_order_given", || {
        in_the_order_given(env)
    }));
    trials.push(Trial::new("merge/policy/same_again", || same_again(env)));
    trials.push(Trial::new("merge/policy/three_of_one_id", || {
        let all = ["edited", "three_shards", "album_2017", "all_indexes"];
        decides(Sources::named(env, &all)?, "newest:score")
    }));
    for set in &env.sets[1..] {
        let name = format!("merge/policy/{}/newest_taken", set.version);
        trials.push(Trial::needs(name, &albums(set), |albums| {
            decides(Sources::of(albums)?, "newest:taken")
        }));
    }
    // What three servers made, one album each.
    let mixed: Result<Vec<Case>, String> = env
        .sets
        .iter()
        .zip([0, 2, 1])
        .map(|(set, nth)| Ok(albums(set)?.swap_remove(nth)))
        .collect();
    trials.push(Trial::needs(
        "merge/policy/versions_mixed",
        &mixed,
        |mixed| decides(Sources::of(mixed)?, "newest:score"),
    ));
    trials
}

fn albums(set: &CaseSet) -> Result<Vec<Case>, String> {
    let cases = set.cases.as_ref().map_err(Clone::clone)?;
    let named = |name: &&str| cases.iter().find(|case| case.name == *name).cloned();
    ALBUMS
        .iter()
        .map(|name| named(name).ok_or_else(|| format!("{} has no {name}", set.version)))
        .collect()
}

/// What has to come of a merge.
#[derive(Default)]
pub struct Expected {
    pub points: BTreeMap<PointId, Value>,
    /// As it is in the ledger.
    pub conflicts: Vec<Value>,
    /// By source.
    pub lost: Vec<u64>,
    pub remapped: Vec<u64>,
}

/// The merge of `truths` under `policy`, the slow and plain way.
pub fn expected(names: &[&str], truths: &[Vec<Value>], policy: &str) -> Outcome<Expected> {
    let mut by_id: BTreeMap<PointId, Vec<(usize, &Value)>> = BTreeMap::new();
    for (source, truth) in truths.iter().enumerate() {
        for point in truth {
            by_id
                .entry(PointId::of(point)?)
                .or_default()
                .push((source, point));
        }
    }
    let mut all = Expected {
        lost: vec![0; names.len()],
        remapped: vec![0; names.len()],
        ..Expected::default()
    };
    for (id, group) in by_id {
        let winner = match policy {
            "last" => group.len() - 1,
            "first" | "remap" => 0,
            newest => {
                let field = newest.strip_prefix("newest:").ok_or("no such policy")?;
                newest_of(&group, field)?
            }
        };
        let mut new_ids = Vec::new();
        for (place, (source, point)) in group.iter().enumerate() {
            if place == winner {
                all.points.insert(id.clone(), (*point).clone());
            } else if policy == "remap" {
                let name = format!("snapmerge:{}/{id}", names[*source]);
                let new_id = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string();
                let mut point = (*point).clone();
                point["id"] = json!(new_id);
                all.points.insert(PointId::Uuid(new_id.clone()), point);
                all.remapped[*source] += 1;
                new_ids.push(new_id);
            } else {
                all.lost[*source] += 1;
            }
        }
        if group.len() > 1 {
            let sources: Vec<&str> = group.iter().map(|(source, _)| names[*source]).collect();
            let mut conflict =
                json!({"id": group[0].1["id"], "winner": sources[winner], "sources": sources});
            if policy == "remap" {
                conflict["remapped"] = json!(new_ids);
            }
            if let Some(field) = policy.strip_prefix("newest:") {
                let lacks = |(_, point): &&(usize, &Value)| {
                    point.pointer(&pointer(field)).is_none_or(Value::is_null)
                };
                let lacking: Vec<&str> = (group.iter().filter(lacks))
                    .map(|(source, _)| names[*source])
                    .collect();
                if !lacking.is_empty() {
                    conflict["lacking"] = json!(lacking);
                }
            }
            all.conflicts.push(conflict);
        }
    }
    Ok(all)
}

/// Where a field lies in a point.
fn pointer(field: &str) -> String {
    format!("/payload/{}", field.replace('.', "/"))
}

/// The greatest value; who has none stands below all; of equal ones the last.
fn newest_of(group: &[(usize, &Value)], field: &str) -> Outcome<usize> {
    let pointer = pointer(field);
    let mut best = 0;
    for place in 1..group.len() {
        let [old, new] = [best, place].map(|place| group[place].1.pointer(&pointer));
        let order = match (old, new) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            // The dates of the cases are all UTC, in one form.
            (Some(Value::String(old)), Some(Value::String(new))) => old.cmp(new),
            (Some(old), Some(new)) => old
                .as_f64()
                .partial_cmp(&new.as_f64())
                .ok_or_else(|| format!("{old} and {new}"))?,
        };
        if order != Ordering::Greater {
            best = place;
        }
    }
    Ok(best)
}

/// Merges `sources` under `policy`, and holds the master to the winners that are computed here.
pub fn decides(sources: Sources, policy: &str) -> Outcome {
    let names: Vec<&str> = sources
        .cases
        .iter()
        .map(|case| case.name.as_str())
        .collect();
    let want = expected(&names, &sources.truths, policy)?;
    // A policy that always chose the same side would pass for any other.
    let mut winners: Vec<String> = want
        .conflicts
        .iter()
        .map(|c| c["winner"].to_string())
        .collect();
    winners.sort();
    winners.dedup();
    let both_ways = policy.starts_with("newest");
    ensure!(
        (winners.len() > 1) == both_ways,
        "{policy} has the winners {winners:?}: the cases do not try it"
    );

    let rebuilt = sources.rebuild(&["--on-conflict", policy])?;
    ensure_merged(&sources, &rebuilt, &want, policy)?;
    ensure_eq!(
        rebuilt.report["conflicts"]["ledger"],
        Value::Null,
        "no ledger was asked for"
    );

    // By the route that it chooses itself, and with everything in the ledger.
    let ledger = sources.path("ledger.jsonl");
    let ledger_arg = ledger.to_str().ok_or("a path is not UTF-8")?;
    let master = sources.merge(&["--on-conflict", policy, "--ledger", ledger_arg])?;
    ensure_merged(&sources, &master, &want, policy)?;
    let shards_differ = sources.cases.iter().any(|case| case.name == "three_shards");
    let route = match policy == "remap" || shards_differ {
        true => "rebuild",
        false => "graft",
    };
    ensure_eq!(master.report["route"], json!(route), "route");
    if route == "rebuild" {
        let digests = (master.digest()?, rebuilt.digest()?);
        ensure_eq!(digests.0, digests.1, "digests of the same merge");
        ensure_eq!(
            master.packed.config()?,
            rebuilt.packed.config()?,
            "config of the same merge"
        );
    }
    ensure_eq!(
        master.report["conflicts"]["ledger"],
        json!(ledger_arg),
        "ledger"
    );
    let lines: Vec<Value> = std::fs::read_to_string(&ledger)?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    ensure_eq!(lines.len(), want.conflicts.len(), "lines of the ledger");
    for (got, want) in lines.iter().zip(&want.conflicts) {
        ensure_eq!(got, want, "a line of the ledger");
    }
    Ok(())
}

/// Fails unless the master holds the winners, and the report accounts for every point.
fn ensure_merged(sources: &Sources, master: &Master, want: &Expected, policy: &str) -> Outcome {
    master.ensure_holds(want.points.values())?;
    let report = &master.report;
    for (nth, case) in sources.cases.iter().enumerate() {
        let read = sources.truths[nth].len() as u64;
        let source = &report["sources"][nth];
        let got = ["read", "won", "lost", "filtered", "remapped"].map(|key| source[key].as_u64());
        let won = read - want.lost[nth];
        ensure_eq!(
            (&source["name"], got),
            (
                &json!(case.name),
                [read, won, want.lost[nth], 0, want.remapped[nth]].map(Some)
            ),
            "name, read, won, lost, filtered, remapped"
        );
    }
    let conflicts = &report["conflicts"];
    ensure_eq!(conflicts["policy"], json!(policy), "policy");
    ensure_eq!(conflicts["count"], json!(want.conflicts.len()), "count");
    let lacking = |all: bool| {
        let lacks = |conflict: &&Value| {
            let of = |key: &str| conflict[key].as_array().map_or(0, Vec::len);
            of("lacking") > 0 && (of("lacking") == of("sources")) == all
        };
        want.conflicts.iter().filter(lacks).count()
    };
    let want_lacking = json!({"some": lacking(false), "all": lacking(true)});
    ensure_eq!(conflicts["lacking"], want_lacking, "lacking");
    ensure_eq!(
        conflicts["first"],
        json!(want.conflicts[..20]),
        "the first 20"
    );
    Ok(())
}

/// The same sources and flags give the same points, config and digest, whatever files they lie in.
fn same_again(env: &Env) -> Outcome {
    let sources = Sources::named(env, &ALBUMS)?;
    let one = sources.rebuild(&[])?;
    let another = Sources::named(env, &ALBUMS)?;
    let other = another.rebuild(&[])?;
    ensure!(sources.dir() != another.dir(), "it is one folder");
    ensure_eq!(one.digest()?, other.digest()?, "digest");
    ensure_eq!(one.packed.config()?, other.packed.config()?, "config");
    let changed = another.rebuild(&["--on-conflict", "first"])?;
    ensure!(
        one.digest()? != changed.digest()?,
        "other points, the same digest"
    );
    Ok(())
}

fn fails(env: &Env) -> Outcome {
    let sources = Sources::named(env, &ALBUMS)?;
    let before = names_in(sources.dir())?;
    let ledger = sources.path("ledger.jsonl");
    cli![
        "merge",
        "--on-conflict",
        "fail",
        "--ledger",
        &ledger,
        "-o",
        sources.path("m.snapshot")
    ]
    .args(&sources.files)
    .run()?
    .code(1)?
    .says(&[
        "point 1800",
        "album_2018",
        "album_2019_overlap",
        "--on-conflict",
    ])?;
    ensure_eq!(names_in(sources.dir())?, before, "files afterwards");

    // Nobody meets, and nobody fails.
    let mut sources = sources;
    sources.files.pop();
    let master = sources.merge(&["--on-conflict", "fail"])?;
    master.ensure_holds(sources.truths[..2].iter().flatten())?;
    ensure_eq!(master.report["conflicts"]["count"], json!(0), "conflicts");
    Ok(())
}

/// A field that nobody has decides nothing, by any route; where there is nothing to decide it does no
/// harm.
fn newest_of_no_field(env: &Env) -> Outcome {
    let mut sources = Sources::named(env, &ALBUMS)?;
    let policy = ["--on-conflict", "newest:takn"];
    let says = ["newest:takn", "1800", "no record", "did you mean taken?"];
    let before = names_in(sources.dir())?;
    let master = sources.path("m.snapshot");
    for route in ["graft", "rebuild"] {
        cli!["merge", "--route", route, "-o", &master]
            .args(policy)
            .args(&sources.files)
            .run()?
            .code(2)?
            .says(&says)?;
        ensure_eq!(names_in(sources.dir())?, before, "files after {route}");
    }
    let merged = sources.merge(&[])?;
    cli![
        "verify",
        &merged.path,
        "--no-provenance",
        "--deep",
        "--against"
    ]
    .args(&sources.files)
    .args(policy)
    .run()?
    .code(2)?
    .says(&says)?;
    sources.files.pop();
    for route in ["graft", "rebuild"] {
        let args = ["--route", route, policy[0], policy[1]];
        let master = sources.merge(&args)?;
        master.ensure_holds(sources.truths[..2].iter().flatten())?;
    }
    Ok(())
}

/// A field that a source has, but no point in conflict: the last one wins, and that is told.
fn newest_of_a_field_elsewhere(env: &Env) -> Outcome {
    let mut sources = Sources::named(env, &ALBUMS)?;
    let stamped = sources.path("album_2017_stamped.snapshot");
    cli![
        "merge",
        &sources.files[0],
        "--stamp",
        "only.here",
        "-o",
        &stamped
    ]
    .run()?
    .ok()?;
    for point in &mut sources.truths[0] {
        point["payload"]["only"] = json!({"here": "album_2017"});
    }
    sources.files[0] = stamped;
    let names = ["album_2017_stamped", ALBUMS[1], ALBUMS[2]];
    let want = expected(&names, &sources.truths, "last")?;
    for route in ["graft", "rebuild"] {
        let policy = "newest:only.here";
        let args = ["--route", route, "--on-conflict", policy];
        let master = sources.merge(&args)?;
        master.ensure_holds(want.points.values())?;
        let conflicts = &master.report["conflicts"];
        ensure_eq!(
            conflicts["lacking"],
            json!({"some": 0, "all": want.conflicts.len()}),
            "lacking by {route}"
        );
    }
    Ok(())
}

fn in_the_order_given(env: &Env) -> Outcome {
    let names = [ALBUMS[2], ALBUMS[0], ALBUMS[1]];
    let sources = Sources::named(env, &names)?;
    let want = expected(&names, &sources.truths, "last")?;
    let from_2018 = sources.truths[2].iter().find(|p| p["id"] == 1900);
    ensure_eq!(
        want.points.get(&PointId::Num(1900)),
        from_2018,
        "the last one given"
    );
    sources.merge(&[])?.ensure_holds(want.points.values())
}
