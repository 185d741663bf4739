//! Snapshots that are whole tars and yet cannot be read whole: parts missing, of older or unknown
//! kinds, or of replicas that were not complete. And those that can, with what is to be said.

use serde_json::{Value, json};

use crate::support::craft::{Member, Tar, gz};
use crate::support::{Env, Outcome, Trial, points};

use super::{Bad, Bed, plain};

pub(super) fn bad() -> Vec<Bad> {
    let edited = |name, says: &[&'static str], file: &'static str, from: &'static str, to| {
        Bad::new(name, says, move |env| {
            changed(env, "uint8", |tar| tar.find(file)?.edit(from, to))
        })
    };
    let stated = |name, says: &[&'static str], from: &'static str, to| {
        Bad::new(name, says, move |env| {
            in_state(env, "uint8", |state| state.edit(from, to))
        })
    };
    vec![
        Bad::new("config_missing", &["no config.json"], |env| {
            changed(env, "uint8", |tar| tar.remove(|path| path == "config.json"))
        }),
        edited(
            "config_no_json",
            &["config.json"],
            "config.json",
            "{\"params\"",
            "{params",
        ),
        edited(
            "config_of_4_billion_shards",
            &["shard_number", "4294967295"],
            "config.json",
            "\"shard_number\":1",
            "\"shard_number\":4294967295",
        ),
        edited(
            "config_without_vector_size",
            &["config.json", "size"],
            "config.json",
            "\"size\":16,",
            "",
        ),
        edited(
            "shard_keys_no_json",
            &["shard_key_mapping.json"],
            "shard_key_mapping.json",
            "[]",
            "[",
        ),
        edited(
            "payload_index_no_json",
            &["payload_index.json"],
            "payload_index.json",
            "{",
            "[",
        ),
        Bad::new(
            "shard_missing",
            &["shard 1 is missing", "each node's"],
            |env| {
                changed(env, "three_shards", |tar| {
                    tar.remove(|path| path.starts_with("1/"))
                })
            },
        )
        .incomplete(),
        Bad::new("all_shards_missing", &["shard 0 is missing"], |env| {
            changed(env, "uint8", |tar| {
                tar.remove(|path| path.starts_with("0/"))
            })
        })
        .incomplete(),
        // As 1.19 lists them: one that is named is not there.
        Bad::new(
            "segment_that_is_listed_missing",
            &["is missing, which segments_manifest.json names"],
            |env| {
                changed(env, "uint8", |tar| {
                    let listed = r#"{"11111111-2222-4333-8444-555555555555":"active"}"#;
                    let list = Member::file("0/segments_manifest.json", listed.as_bytes());
                    tar.members.insert(0, list);
                    Ok(())
                })
            },
        )
        .incomplete(),
        stated(
            "version_near_the_largest_number",
            &["no server numbers so many operations"],
            r#""version":"#,
            r#""version":999999999999999999"#,
        ),
        // The last file of a shard: without it the server failed while it streamed.
        Bad::new(
            "shard_config_missing",
            &["shard_config.json of shard 0 is missing"],
            |env| {
                changed(env, "uint8", |tar| {
                    tar.remove(|path| path.ends_with("shard_config.json"))
                })
            },
        ),
        Bad::new(
            "replica_state_missing",
            &["replica_state.json of shard 0 is missing"],
            |env| {
                changed(env, "uint8", |tar| {
                    tar.remove(|path| path.ends_with("replica_state.json"))
                })
            },
        ),
        edited(
            "replica_partial",
            &["Partial", "--allow-incomplete"],
            "replica_state.json",
            "\"Active\"",
            "\"Partial\"",
        )
        .incomplete(),
        edited(
            "replica_dead",
            &["Dead"],
            "replica_state.json",
            "\"Active\"",
            "\"Dead\"",
        )
        .incomplete(),
        edited(
            "replica_elsewhere",
            &["other nodes"],
            "replica_state.json",
            "\"is_local\":true",
            "\"is_local\":false",
        )
        .incomplete(),
        Bad::new(
            "ids_in_rocksdb",
            &["its ids lie in RocksDB, and its database is missing"],
            ids_in_rocksdb,
        ),
        Bad::new("ids_missing", &["vectors but no ids"], |env| {
            in_segment(env, "uint8", |segment| {
                segment.remove(|path| path.contains("/id_tracker."))
            })
        }),
        Bad::new(
            "sparse_without_storage_type",
            &["its sparse vectors lie in RocksDB, and its database is missing"],
            |env| {
                in_state(env, "sparse_dense", |state| {
                    state.edit(",\"storage_type\":\"mmap\"", "")
                })
            },
        ),
        stated(
            "vectors_in_rocksdb",
            &["its vectors lie in RocksDB, and its database is missing"],
            "InRamMmap",
            "Memory",
        ),
        stated(
            "payload_in_rocksdb",
            &["its payload lie in RocksDB, and its database is missing"],
            "{\"type\":\"mmap\"}",
            "{\"type\":\"in_memory\"}",
        ),
        stated(
            "vectors_of_unknown_storage",
            &["'Holographic'", "newer Qdrant"],
            "InRamMmap",
            "Holographic",
        ),
        stated(
            "payload_of_unknown_storage",
            &["'paper'", "newer Qdrant"],
            "{\"type\":\"mmap\"}",
            "{\"type\":\"paper\"}",
        ),
        stated(
            "unknown_index",
            &["'crystal'", "newer Qdrant"],
            "\"type\":\"hnsw\"",
            "\"type\":\"crystal\"",
        ),
        stated(
            "segment_state_no_json",
            &["segment.json", "cannot be read"],
            "{\"initial",
            "(\"initial",
        ),
        // Its ids are in the files of a segment that takes no points: a server would find none, and count 0.
        Bad::new(
            "segment_state_of_another_kind",
            &["segment.json says that it takes points", "empty one"],
            |env| {
                in_state(env, "named", |member| {
                    let mut state: Value = serde_json::from_slice(&member.data)?;
                    state["config"]["vector_data"] = json!({});
                    member.set(state.to_string().into_bytes());
                    Ok(())
                })
            },
        ),
        Bad::new(
            "segment_state_missing",
            &["segment.json is missing"],
            |env| {
                in_segment(env, "uint8", |segment| {
                    segment.remove(|path| path.ends_with("segment.json"))
                })
            },
        ),
        Bad::new(
            "segment_version_missing",
            &["version.info is missing"],
            |env| {
                in_segment(env, "uint8", |segment| {
                    segment.remove(|path| path.ends_with("version.info"))
                })
            },
        ),
        Bad::new(
            "segment_state_of_20_megabytes",
            &["segment.json claims"],
            |env| {
                in_state(env, "uint8", |state| {
                    state.set(vec![b' '; 20 << 20]);
                    Ok(())
                })
            },
        ),
    ]
}

/// A snapshot as servers of old made them: a segment's ids lie in RocksDB, which Qdrant 1.18 and the
/// engine here take for a segment without points.
pub fn ids_in_rocksdb(env: &Env) -> Outcome<Vec<u8>> {
    in_segment(env, "uint8", |segment| {
        segment.remove(|path| path.contains("/id_tracker."))?;
        let table = "snapshot/db_backup/shared_checksum/000012_sX_1.sst";
        segment.members.push(Member::file(table, b"x"));
        Ok(())
    })
}

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("damage/log_missing_is_read_and_said", || {
            let bytes = changed(env, "uint8", |tar| {
                tar.remove(|path| path.contains("/wal/"))
            })?;
            let bed = Bed::new("a.snapshot", &bytes)?;
            let run = bed.export().run()?.ok()?;
            points::ensure_same(&run.json_lines()?, &env.case("uint8").truth()?)?;
            bed.is_clean()?;
            let run = bed.merge().run()?.ok()?;
            ensure!(
                run.stdout.contains("has no log"),
                "not said\n{}",
                run.told()
            );
            let export = cli!["export", bed.out()].run()?.ok()?;
            points::ensure_same(&export.json_lines()?, &env.case("uint8").truth()?)?;
            Ok(())
        }),
        Trial::new("damage/gz_in_two_members_is_read", || {
            let bytes = plain(env, "uint8")?;
            let (first, second) = bytes.split_at(bytes.len() / 2);
            let bed = Bed::new("a.snapshot.gz", &[gz(first)?, gz(second)?].concat())?;
            let run = bed.export().run()?.ok()?;
            points::ensure_same(&run.json_lines()?, &env.case("uint8").truth()?)?;
            bed.is_clean()
        }),
        Trial::new("damage/gz_with_zero_padding_is_read", || {
            // As tapes and some object stores leave it, and as gzip reads it.
            let padded = [gz(&plain(env, "uint8")?)?, vec![0; 10_240]].concat();
            let bed = Bed::new("a.snapshot.gz", &padded)?;
            let run = bed.export().run()?.ok()?;
            points::ensure_same(&run.json_lines()?, &env.case("uint8").truth()?)?;
            bed.is_clean()?;
            let garbage = [padded, b"garbage".to_vec()].concat();
            let bed = Bed::new("a.snapshot.gz", &garbage)?;
            bed.export().run()?.code(13)?;
            bed.is_clean()
        }),
        Trial::new("damage/unknown_members_are_said", || {
            let bytes = changed(env, "uint8", |tar| {
                tar.members.push(Member::file("0/news.json", b"{}"));
                Ok(())
            })?;
            let bed = Bed::new("a.snapshot", &bytes)?;
            let run = bed.merge().run()?.ok()?;
            ensure!(
                run.stdout.contains("0/news.json"),
                "not said\n{}",
                run.told()
            );
            Ok(())
        }),
        Trial::new("damage/incomplete_is_read_when_allowed", || {
            let lacking = |path: &str| path.starts_with("1/");
            let bytes = changed(env, "three_shards", |tar| tar.remove(lacking))?;
            let bed = Bed::new("a.snapshot", &bytes)?;
            let run = bed.export().arg("--allow-incomplete").run()?;
            let run = run.code(3)?.says(&["a.snapshot", "shard 1 is missing"])?;
            let all = env.case("three_shards").points();
            let read = run.json_lines()?.len();
            ensure!(0 < read && read < all, "{read} of {all}");
            bed.is_clean()?;
            let run = bed.merge().arg("--allow-incomplete").run()?.code(3)?;
            ensure!(
                run.stdout.contains("shard 1 is missing"),
                "not said\n{}",
                run.told()
            );
            let export = cli!["export", bed.out()].run()?.ok()?;
            ensure_eq!(export.json_lines()?.len(), read, "points of the master");

            let partial = changed(env, "uint8", |tar| {
                tar.find("replica_state.json")?
                    .edit("\"Active\"", "\"Partial\"")
            })?;
            let bed = Bed::new("a.snapshot", &partial)?;
            let run = bed.merge().arg("--allow-incomplete").run()?.code(3)?;
            ensure!(run.stdout.contains("Partial"), "not said\n{}", run.told());
            Ok(())
        }),
        Trial::new("damage/checksum_required", || {
            let bed = Bed::new("a.snapshot", &plain(env, "uint8")?)?;
            for run in [bed.merge(), bed.export()] {
                let run = run.arg("--require-checksum").run()?.code(13)?;
                super::is_one_error(&run, "a.snapshot")?;
                bed.is_clean()?;
            }
            super::write_checksum(&bed.source, &bed.bytes)?;
            let run = bed.merge().arg("--require-checksum").run()?.ok()?;
            ensure!(!run.stdout.contains("UNVERIFIED"), "it is\n{}", run.told());
            // A checksum that says nothing is not passed over.
            let mut name = bed.source.as_os_str().to_owned();
            name.push(".checksum");
            std::fs::write(name, "none")?;
            let run = bed
                .export()
                .run()?
                .code(13)?
                .says(&["a.snapshot.checksum"])?;
            super::is_one_error(&run, "a.snapshot")
        }),
    ]
}

/// The snapshot of a case, changed.
fn changed(env: &Env, case: &str, change: impl FnOnce(&mut Tar) -> Outcome) -> Outcome<Vec<u8>> {
    let mut tar = Tar::parse(&plain(env, case)?)?;
    change(&mut tar)?;
    Ok(tar.bytes())
}

/// The same for its first segment that has an index.
fn in_segment(env: &Env, case: &str, change: impl FnOnce(&mut Tar) -> Outcome) -> Outcome<Vec<u8>> {
    changed(env, case, |tar| tar.segment("id_tracker.mappings", change))
}

/// The same for that segment's `segment.json`.
fn in_state(
    env: &Env,
    case: &str,
    change: impl FnOnce(&mut Member) -> Outcome,
) -> Outcome<Vec<u8>> {
    in_segment(env, case, |segment| change(segment.find("segment.json")?))
}
