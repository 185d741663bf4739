//! What lies around the points of a master: what would stop its restore, or let it lose something, is told
//! by `verify`, quickly and with `--deep`.

use ciborium::cbor;
use serde_json::json;

use super::packed::Bed;
use crate::support::cases::Case;
use crate::support::craft::{Member, Tar};
use crate::support::wal::wal_file;
use crate::support::{Env, Outcome, Trial};

/// What is changed, the change, and what must be told of it.
type Change = (&'static str, fn(&mut Tar) -> Outcome, &'static str);

const CHANGES: [Change; 9] = [
    (
        "no_log",
        |tar| tar.remove(|path| path.starts_with("0/wal/")),
        "a restore skips the shard",
    ),
    (
        "log_begins_at_0",
        |tar| log(tar, 0, &[]),
        "it goes on with 0",
    ),
    (
        "manifest",
        |tar| add(tar, "0/segments_manifest.json"),
        "segments_manifest.json",
    ),
    (
        "clocks",
        |tar| add(tar, "0/newest_clocks.json"),
        "newest_clocks.json",
    ),
    ("unknown_member", |tar| add(tar, "0/stray"), "stray"),
    ("log_drops_an_index", drop_index, "the log drops it"),
    (
        "no_graph",
        |tar| {
            tar.segment("vector_index/graph.bin", |segment| {
                segment.remove(|path| path.contains("/vector_index/"))
            })
        },
        "not all of its files",
    ),
    ("no_links", |tar| links(tar, 64, 0), "the links of a graph"),
    (
        "links_all_zero",
        |tar| links(tar, 0, 0),
        "the links of a graph",
    ),
];

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let changes = CHANGES.into_iter().map(|(name, change, told)| {
        Trial::new(format!("verify/frame/{name}"), move || {
            changed(env, change, told)
        })
    });
    changes
        .chain([Trial::new("verify/frame/few_links", || few_links(env))])
        .chain(env.per_case("verify/frame/of_a_server", of_a_server))
        .collect()
}

fn changed(env: &Env, change: fn(&mut Tar) -> Outcome, told: &str) -> Outcome {
    for route in ["graft", "rebuild"] {
        let bed = Bed::new(env, &["album_2018"], &["--route", route])?;
        for how in [&[][..], &["--deep"][..]] {
            let report = bed.changed_with(how, change)?.code(3)?.json()?;
            ensure_eq!(report["verdict"], "differs", "{route} {how:?}: {report}");
            let settings = report["settings"].to_string();
            ensure!(settings.contains(told), "{route} {how:?}: {settings}");
        }
    }
    Ok(())
}

/// A graph with next to no links is as it was for whoever compares points, and finds next to nothing.
fn few_links(env: &Env) -> Outcome {
    for route in ["graft", "rebuild"] {
        let bed = Bed::new(env, &["album_2018"], &["--route", route])?;
        let report = bed.changed_with(&["--deep"], |tar| links(tar, 64, 40))?;
        let settings = report.code(3)?.json()?["settings"].to_string();
        ensure!(
            settings.contains("it leads to what is near"),
            "{route}: {settings}"
        );
    }
    Ok(())
}

/// Makes what lies behind the first bytes of the graphs' links zero, but for some bytes of the links.
fn links(tar: &mut Tar, header: usize, kept: usize) -> Outcome {
    tar.segment("vector_index/graph.bin", |segment| {
        let mut files = segment.members.iter_mut();
        let links = files.find(|member| member.path.contains("/vector_index/links"));
        let links = links.ok_or("no links")?;
        let word = |at: usize| -> Outcome<usize> {
            let bytes = links.data.get(at * 8..at * 8 + 8).ok_or("no header")?;
            Ok(usize::try_from(u64::from_le_bytes(bytes.try_into()?))?)
        };
        // Points and levels, of the compressed form: what tells where each point's links begin.
        let before = word(2)? * 8 + word(0)? * 4;
        let (start, end) = (64 + before, 64 + before + word(3)?);
        let mut data = links.data.clone();
        match header {
            0 => data.fill(0),
            _ => data.get_mut(start + kept..end).ok_or("no links")?.fill(0),
        }
        links.set(data);
        Ok(())
    })
}

/// What servers write around a collection's points is right.
fn of_a_server(case: Case) -> Outcome {
    let file = &case.snapshot_gz;
    let run = cli!["verify", file, "--against", file, "--json", "-q"].run()?;
    ensure_eq!(run.json()?["settings"], json!([]), "{}", run.told());
    Ok(())
}

fn add(tar: &mut Tar, path: &str) -> Outcome {
    tar.members.insert(0, Member::file(path, b"{}"));
    Ok(())
}

/// Another log: these entries from this number on.
fn log(tar: &mut Tar, first: u64, records: &[Vec<u8>]) -> Outcome {
    tar.remove(|path| path.starts_with("0/wal/"))?;
    let path = format!("0/wal/closed-{first}");
    tar.members.push(Member::file(&path, &wal_file(records)));
    Ok(())
}

fn drop_index(tar: &mut Tar) -> Outcome {
    let mut record = Vec::new();
    ciborium::into_writer(&cbor!({"delete_index" => "year"})?, &mut record)?;
    let mut paths = tar.members.iter().map(|member| &member.path);
    let before = paths.find(|path| path.starts_with("0/wal/closed-"));
    let number = before.and_then(|path| path.rsplit('-').next());
    let first = number.ok_or("no log")?.parse()?;
    log(tar, first, &[record])
}
