//! What a grafted master is made of, byte by byte; what graft refuses, and how it says so.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

use super::{
    Given, ensure_adds_up, ensure_repacked, export, graft, graft_and_compare, has_note, members,
    merging, segments, sha256, union,
};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let trial = |name: &str, run: fn(&Env) -> Outcome| {
        Trial::new(format!("graft/{name}"), move || run(env))
    };
    vec![
        trial("has_every_part_and_nothing_else", parts),
        trial("one_uuid_twice", one_uuid_twice),
        trial("keeps_the_sources_segment_number", server_consolidates),
        trial("from_gz_to_gz", gz),
        trial("checksum_of_a_source", checksum),
        trial("refuses_with_all_reasons", reasons),
        trial("remap_goes_to_rebuild", remap),
        trial("three_sources", three_sources),
        trial("without_a_log", without_a_log),
    ]
}

pub(super) fn given(env: &Env, dir: &Path, name: &str) -> Outcome<Given> {
    let case = env.case(name);
    Ok(Given {
        file: case.unpack(dir)?,
        points: case.truth_by_id()?,
    })
}

pub(super) fn copy_of(given: &Given, name: &str) -> Outcome<Given> {
    let file = given.file.with_file_name(format!("{name}.snapshot"));
    std::fs::copy(&given.file, &file)?;
    Ok(Given {
        file,
        points: given.points.clone(),
    })
}

/// What is in a segment's tar, by its name there.
fn in_segment(tar: &[u8], name: &str) -> Outcome<Value> {
    let members = members(tar)?;
    let bytes = members
        .get(&format!("snapshot/files/{name}"))
        .ok_or_else(|| format!("no {name} in the segment"))?;
    Ok(serde_json::from_slice(bytes)?)
}

fn parts(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let a = given(env, dir.path(), "album_2017")?;
    let b = given(env, dir.path(), "album_2018")?;
    let c = given(env, dir.path(), "album_2019_overlap")?;
    let output = dir.path().join("master.snapshot");
    let report = graft(&[&a, &b, &c], &output, &["--on-conflict", "first"])?;
    ensure_repacked(&report, "album_2019_overlap", "lacks the payload index")?;
    ensure_repacked(
        &report,
        "album_2019_overlap",
        "200 of its points lose a conflict",
    )?;
    // The first two lack the last one's index.
    ensure_repacked(&report, "album_2017", "lacks the payload index of 'score'")?;

    let parts = members(File::open(&output)?)?;
    let packed = segments(&parts);
    let mut version = 0;
    for (uuid, tar) in &packed {
        let state = in_segment(tar, "segment.json")?;
        version = version.max(state["version"].as_u64().unwrap_or(0));
        let index = in_segment(tar, "payload_index/config.json")?;
        for field in ["camera", "score", "taken", "year"] {
            ensure!(
                index["indexed_fields"].get(field).is_some(),
                "segment {uuid} has no index of {field}: {index}"
            );
        }
        for name in members(*tar)?.keys() {
            ensure!(
                name.starts_with("snapshot/files/")
                    && !name.contains("manifest.json")
                    && !name.contains("edge_config")
                    && !name.contains("/wal/"),
                "segment {uuid} holds {name}"
            );
        }
    }
    ensure!(version > 0, "no version in any segment");
    let mut expected: BTreeSet<String> = [
        "version.info",
        "config.json",
        "shard_key_mapping.json",
        "payload_index.json",
        "0/replica_state.json",
        "0/shard_config.json",
    ]
    .map(str::to_owned)
    .into();
    let log = format!("0/wal/closed-{}", version + 1);
    expected.insert(log.clone());
    expected.extend(packed.keys().map(|uuid| format!("0/segments/{uuid}.tar")));
    let found: BTreeSet<String> = parts.keys().cloned().collect();
    ensure_eq!(found, expected, "members of the master");
    ensure_eq!(&parts[&log][..4], b"wal\0", "the log's first bytes");
    ensure_eq!(parts[&log].len(), 8, "an empty log");
    ensure_eq!(parts["version.info"], b"0.4.2", "the version");
    let part = |name: &str| -> Outcome<Value> { Ok(serde_json::from_slice(&parts[name])?) };
    ensure_eq!(part("0/replica_state.json")?["is_local"], true, "is_local");
    ensure_eq!(part("shard_key_mapping.json")?, json!([]), "shard keys");
    let number = &part("config.json")?["optimizer_config"]["default_segment_number"];
    ensure_eq!(*number, json!(packed.len()), "default_segment_number");
    let schema = part("payload_index.json")?;
    let fields: Vec<&String> = schema["schema"]
        .as_object()
        .ok_or("no schema")?
        .keys()
        .collect();
    ensure_eq!(fields, ["camera", "score", "taken", "year"], "indexes");
    ensure_eq!(
        report["master"]["sha256"],
        sha256(&std::fs::read(&output)?),
        "SHA-256 in the report"
    );
    let beside = dir.path().join("master.snapshot.checksum");
    ensure_eq!(
        std::fs::read_to_string(beside)?.trim(),
        report["master"]["sha256"],
        "SHA-256 beside"
    );

    // Without the third, nothing is in the way: the tars are the sources' own, byte by byte.
    let output = dir.path().join("two.snapshot");
    let report = graft(&[&a, &b], &output, &[])?;
    ensure_eq!(report["carried"]["repacked"], json!([]), "repacked");
    let mut theirs: Vec<(String, String)> = Vec::new();
    for source in [&a, &b] {
        let parts = members(File::open(&source.file)?)?;
        let of = segments(&parts).into_iter();
        theirs.extend(of.map(|(uuid, tar)| (uuid.to_owned(), sha256(tar))));
    }
    theirs.sort();
    let parts = members(File::open(&output)?)?;
    let ours: Vec<(String, String)> = segments(&parts)
        .into_iter()
        .map(|(uuid, tar)| (uuid.to_owned(), sha256(tar)))
        .collect();
    ensure_eq!(ours.len(), 4, "segments of two albums");
    ensure_eq!(ours, theirs, "segments");
    Ok(())
}

fn one_uuid_twice(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let a = given(env, dir.path(), "album_2017")?;
    let b = copy_of(&a, "copy")?;
    let output = dir.path().join("master.snapshot");
    let report = graft(&[&a, &b], &output, &[])?;
    let parts = members(File::open(&output)?)?;
    let source = members(File::open(&a.file)?)?;
    let (ours, theirs) = (segments(&parts), segments(&source));
    ensure_eq!(ours.len(), 4, "segments with UUIDs of their own");
    for (uuid, tar) in theirs {
        // The copy's travel untouched, and come first: they keep their names.
        ensure!(ours.get(uuid) == Some(&tar), "segment {uuid} is another");
    }
    let union = union(&[&a.points, &b.points], "last")?;
    ensure_eq!(union.lost, [1000, 0], "all of the first lose");
    ensure_same(&export(&output)?, union.points.values())?;
    ensure_adds_up(&report, &[&a, &b], &union)
}

fn server_consolidates(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let a = given(env, dir.path(), "album_2017")?;
    let b = given(env, dir.path(), "album_2018")?;
    for (args, number, noted) in [
        (&[][..], 4, true),
        (&["--segments", "server"][..], 2, false),
    ] {
        let output = dir.path().join(format!("{number}.snapshot"));
        let report = graft(&[&a, &b], &output, args)?;
        let note = [
            "default_segment_number is 4 instead of 2",
            "--segments server",
        ];
        ensure_eq!(has_note(&report, &note), noted, "{args:?}: the note");
        let parts = members(File::open(&output)?)?;
        let config: Value = serde_json::from_slice(&parts["config.json"])?;
        ensure_eq!(
            config["optimizer_config"]["default_segment_number"],
            number,
            "{args:?}"
        );
    }
    Ok(())
}

fn gz(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    // One that travels untouched, one to be repacked; both read more than once.
    let (a, b) = (env.case("album_2017"), env.case("log_pending"));
    let zipped = |case: &crate::support::cases::Case| -> Outcome<Given> {
        let file = dir.path().join(format!("{}.snapshot.gz", case.name));
        std::fs::copy(&case.snapshot_gz, &file)?;
        Ok(Given {
            file,
            points: case.truth_by_id()?,
        })
    };
    let zipped = [zipped(&a)?, zipped(&b)?];
    let output = dir.path().join("master.snapshot.gz");
    let args = ["--on-conflict", "first"];
    let report = graft(&[&zipped[0], &zipped[1]], &output, &args)?;
    let union = union(&[&zipped[0].points, &zipped[1].points], "first")?;
    ensure_same(&export(&output)?, union.points.values())?;
    ensure_adds_up(&report, &[&zipped[0], &zipped[1]], &union)?;
    ensure_eq!(
        report["master"]["sha256"],
        sha256(&std::fs::read(&output)?),
        "SHA-256 of what was compressed"
    );
    // What travels untouched is the same, wherever it comes from.
    let ours = members(flate2::read::MultiGzDecoder::new(File::open(&output)?))?;
    let theirs = members(File::open(a.unpack(dir.path())?)?)?;
    for (uuid, tar) in segments(&theirs) {
        let same = segments(&ours).get(uuid) == Some(&tar);
        ensure!(same, "segment {uuid} is missing, or another");
    }
    Ok(())
}

fn checksum(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    // The first travels untouched and is hashed on the way, the second is repacked.
    let a = given(env, dir.path(), "album_2017")?;
    let b = given(env, dir.path(), "log_pending")?;
    let beside = |given: &Given| {
        let name = given.file.file_name().unwrap_or_default().to_string_lossy();
        given.file.with_file_name(format!("{name}.checksum"))
    };
    for given in [&a, &b] {
        std::fs::write(beside(given), sha256(&std::fs::read(&given.file)?))?;
    }
    let output = dir.path().join("master.snapshot");
    let report = graft(&[&a, &b], &output, &["--require-checksum"])?;
    for source in report["sources"].as_array().ok_or("no sources")? {
        ensure_eq!(source["verified"], true, "{source}");
    }
    std::fs::remove_file(&output)?;
    std::fs::remove_file(dir.path().join("master.snapshot.checksum"))?;
    for wrong in [&a, &b] {
        let right = std::fs::read(beside(wrong))?;
        std::fs::write(beside(wrong), "0".repeat(64))?;
        let before = names_in(dir.path())?;
        merging([&a.file, &b.file], &output)
            .args(["--route", "graft"])
            .run()?
            .code(13)?
            .says(&[&wrong.name(), "SHA-256"])?;
        ensure_eq!(names_in(dir.path())?, before, "what is left");
        std::fs::write(beside(wrong), right)?;
    }
    Ok(())
}

fn reasons(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let a = given(env, dir.path(), "album_2017")?;
    let b = given(env, dir.path(), "three_shards")?;
    let before = names_in(dir.path())?;
    let output = dir.path().join("master.snapshot");
    merging([&a.file, &b.file], &output)
        .args(["--route", "graft", "--shards", "5"])
        .args(["--filter", r#"{"must":{"has_id":[1]}}"#])
        .args(["--on-conflict", "remap", "--hnsw-m", "8"])
        .run()?
        .code(2)?
        .says(&[
            "--filter changes records",
            "--on-conflict remap changes records",
            "settings were given that segments are built by",
            "album_2017 has 1 shards, the master 5",
            "three_shards has 3 shards, the master 5",
            "--route rebuild",
        ])?;
    ensure_eq!(names_in(dir.path())?, before, "what is left");
    // Left to choose, it rebuilds, and says why it does not graft.
    let run = merging([&a.file, &b.file], &output)
        .args(["--shards", "5", "--dry-run"])
        .run()?
        .ok()?;
    let plan = run.json()?;
    ensure_eq!(plan["route"], "rebuild", "the route");
    let because = plan["because"].as_str().unwrap_or_default();
    for reason in ["album_2017 has 1 shards", "three_shards has 3 shards"] {
        ensure!(because.contains(reason), "no '{reason}' in {because}");
    }
    // Shards by number and shards by key do not line up either.
    let c = given(env, dir.path(), "shard_keys")?;
    let run = merging([&a.file, &c.file], &output)
        .args(["--route", "graft"])
        .run()?
        .code(2)?;
    ensure!(!output.exists(), "it was written\n{}", run.told());
    Ok(())
}

fn remap(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let a = given(env, dir.path(), "three_shards")?;
    let b = copy_of(&a, "again")?;
    let before = names_in(dir.path())?;
    let output = dir.path().join("master.snapshot");
    let files = [&a.file, &b.file];
    merging(files, &output)
        .args(["--on-conflict", "remap", "--route", "graft"])
        .run()?
        .code(2)?
        .says(&["--on-conflict remap changes records", "--route rebuild"])?;
    ensure_eq!(names_in(dir.path())?, before, "what is left");
    let run = merging(files, &output)
        .args(["--on-conflict", "remap"])
        .run()?
        .ok()?;
    let report = run.json()?;
    ensure_eq!(report["route"], "rebuild", "the route");
    ensure_eq!(report["master"]["points"], 3000, "points");
    let exported = export(&output)?;
    ensure_same(&exported[..1500], a.points.values())?;
    ensure_eq!(exported.len(), 3000, "points in the file");
    Ok(())
}

/// Ids in three sources, losers in two of them.
fn three_sources(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let a = given(env, dir.path(), "edited")?;
    let b = given(env, dir.path(), "log_pending")?;
    let c = given(env, dir.path(), "uuid_ids")?;
    for policy in ["last", "first", "newest:score", "newest:taken"] {
        graft_and_compare(dir.path(), &[&a, &b, &c], policy)?;
    }
    Ok(())
}

/// A shard without a log, as none says where numbers go on: changes to it must still be newer than
/// what it holds.
fn without_a_log(env: &Env) -> Outcome {
    let dir = temp_dir()?;
    let mut sources = Vec::new();
    for name in ["album_2018", "album_2019_overlap"] {
        let mut given = given(env, dir.path(), name)?;
        let parts = members(File::open(&given.file)?)?;
        given.file = dir.path().join(format!("{name}_bare.snapshot"));
        let mut tar = tar::Builder::new(File::create(&given.file)?);
        for (path, bytes) in parts {
            if !path.contains("/wal/") {
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes.len() as u64);
                header.set_mode(0o644);
                tar.append_data(&mut header, path, bytes.as_slice())?;
            }
        }
        tar.into_inner()?;
        sources.push(given);
    }
    for policy in ["last", "first"] {
        let report = graft_and_compare(dir.path(), &[&sources[0], &sources[1]], policy)?;
        ensure!(has_note(&report, &["has no log"]), "{}", report["notes"]);
    }
    // The indexes that each lacks are there too.
    let output = dir.path().join("master.snapshot");
    graft(&[&sources[0], &sources[1]], &output, &[])?;
    let parts = members(File::open(&output)?)?;
    for (uuid, tar) in segments(&parts) {
        let index = in_segment(tar, "payload_index/config.json")?;
        for field in ["camera", "score"] {
            ensure!(
                index["indexed_fields"].get(field).is_some(),
                "segment {uuid} has no index of {field}: {index}"
            );
        }
    }
    Ok(())
}
