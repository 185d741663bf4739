//! From an opened source to what is told of it.
//!
//! Invariants: what cannot be read becomes a problem in its place; a number is told only if it
//! follows from what was read; the ids and the log are let go as soon as they are counted, so that
//! many snapshots need the memory of one.

mod segment;

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use self::segment::segment_report;
use super::{
    Contents, HnswReport, LogReport, Problem, ReplicasReport, ShardReport, SnapshotReport,
    SparseVectorReport, VectorReport, Verdict,
};
use crate::base::error::{Error, Kind, Result};
use crate::format::ids::Format;
use crate::format::readable::Obstacle;
use crate::format::rocks::InRocks;
use crate::format::schema::CollectionConfig;
use crate::format::{Form, Shard, SnapshotFile, wal};
use crate::source::{ShardIds, Source, Spill, Survey, not_taken_in};

impl SnapshotReport {
    /// Returns the report of a file that cannot be opened.
    pub fn of_error(file: &SnapshotFile, err: &Error) -> Self {
        Self {
            file: file.to_string(),
            name: file.source_name(),
            verdict: Verdict::Unreadable,
            problems: vec![Problem::of_error(None, None, err)],
            notes: Vec::new(),
            contents: None,
        }
    }

    /// Returns the report of `source`, which was opened with its trackers and its log; both are taken out of
    /// it and dropped.
    ///
    /// # Errors
    /// If something fails that is not the snapshot's fault.
    pub fn of_source(source: &mut Source) -> Result<Self> {
        let obstacles = source.obstacles();
        let mut problems: Vec<Problem> = obstacles.into_iter().map(Problem::from).collect();
        let mut notes = Vec::new();
        let what = source.snapshot.what();
        let mut shards = Vec::new();
        let mut logs_known = true;
        for (number, shard) in &mut source.snapshot.shards {
            if !shard.has_log {
                notes.push(format!(
                    "shard {number} has no log: readable; deletes that the optimizer held back at \
                     the time of the snapshot may be missing"
                ));
            }
            let mut gathered = shard_report(*number, shard, &what, &mut problems)?;
            gathered.shard_key = source.shard_keys.key_of(*number).cloned();
            logs_known &= gathered.log.is_some() || !shard.has_log;
            shards.push(gathered);
        }
        notes_of(source, &shards, &mut notes);
        let snapshot = &source.snapshot;
        let contents = Contents {
            form: snapshot.form,
            compressed: snapshot.compressed,
            file_bytes: snapshot.file_bytes,
            unpacked_bytes_max: snapshot.unpacked_bytes,
            checksum: source.checksum.clone(),
            sha256: snapshot.hashes.as_ref().map(|hashes| hashes.file.clone()),
            points_count: shards.iter().map(|shard| shard.points_count).sum(),
            segments_count: shards.iter().map(|shard| shard.segments.len() as u64).sum(),
            segments_bytes: shards.iter().map(|shard| shard.segments_bytes).sum(),
            log_bytes: snapshot.shards.values().map(|shard| shard.log_bytes).sum(),
            log_not_provably_taken_in_count: logs_known.then(|| {
                let logs = shards.iter().filter_map(|shard| shard.log.as_ref());
                logs.map(|log| log.not_provably_taken_in_count).sum()
            }),
            config: source.config.raw().clone(),
            config_is_derived: source.config_is_derived,
            vectors: vectors(&source.config),
            sparse_vectors: sparse_vectors(&source.config),
            payload_on_disk: source.config.on_disk_payload(),
            payload_schema: source.payload.clone(),
            sharding_method: source.config.sharding_method().to_string(),
            shard_keys: source.shard_keys.clone(),
            shards,
            restored_by: source.servers(),
            unknown_members_count: snapshot.unknown.0,
            unknown_members: snapshot.unknown.1.clone(),
        };
        Ok(Self {
            file: snapshot.what(),
            name: source.name.clone(),
            verdict: verdict(&problems),
            problems,
            notes,
            contents: Some(contents),
        })
    }
}

fn verdict(problems: &[Problem]) -> Verdict {
    if problems.iter().any(|problem| !problem.incomplete) {
        Verdict::Unreadable
    } else if problems.is_empty() {
        Verdict::Readable
    } else {
        Verdict::Incomplete
    }
}

impl Problem {
    fn of_error(shard: Option<u32>, segment: Option<Uuid>, err: &Error) -> Self {
        Self {
            shard,
            segment,
            why: format!("{}: {}", err.doing(), err.why()),
            next: err.next_step().map(ToOwned::to_owned),
            incomplete: false,
        }
    }
}

impl From<Obstacle> for Problem {
    fn from(obstacle: Obstacle) -> Self {
        Self {
            shard: obstacle.shard,
            segment: obstacle.segment,
            why: obstacle.why,
            next: Some(obstacle.next),
            incomplete: obstacle.incomplete,
        }
    }
}

fn notes_of(source: &Source, shards: &[ShardReport], notes: &mut Vec<String>) {
    let snapshot = &source.snapshot;
    if source.config_is_derived {
        notes.push(
            "a shard snapshot has no config: vectors and payload indexes are told by its segments, \
             the rest is Qdrant's defaults"
                .into(),
        );
    }
    if snapshot.form == Form::Collection && snapshot.payload_index.is_none() {
        notes.push("it has no payload_index.json: no payload indexes are known".into());
    }
    if let SnapshotFile::Member(member) = &snapshot.file {
        let aliases = member.aliases();
        notes.extend(
            aliases
                .iter()
                .map(|alias| format!("the alias {alias} points to it")),
        );
    }
    notes.extend(in_rocks(source));
    notes.extend(source.keys_once_numbers());
    if snapshot.unknown.0 > 0 {
        notes.push(format!(
            "{} members that no known Qdrant writes are passed over: {}{}",
            snapshot.unknown.0,
            snapshot.unknown.1.join(", "),
            if snapshot.unknown.0 > snapshot.unknown.1.len() as u64 {
                ", …"
            } else {
                ""
            }
        ));
    }
    for shard in shards {
        if shard.log.as_ref().is_some_and(|log| log.blank_first_index) {
            notes.push(format!(
                "the first-index of shard {}'s log says nothing, as a server that crashed leaves it: \
                 nothing counts as acknowledged, and all of the log is applied again",
                shard.shard
            ));
        }
        for file in shard.log.iter().flat_map(|log| &log.torn_files) {
            notes.push(format!(
                "{file} of shard {}'s log goes on after its last whole entry: an append that was \
                 cut off, or damage; the engine takes the rest for empty",
                shard.shard
            ));
        }
        for segment in &shard.segments {
            let Some(points) = &segment.points else {
                continue;
            };
            if points.unversioned_count > 0 {
                notes.push(format!(
                    "segment {} has {} points without a version, left by an interrupted flush: the \
                     engine drops them, and the log brings them back",
                    segment.uuid, points.unversioned_count
                ));
            }
            if points.pending_deletes_count > 0 {
                notes.push(format!(
                    "segment {} has {} points whose delete lies beside it; servers before 1.19 \
                     would show them",
                    segment.uuid, points.pending_deletes_count
                ));
            }
        }
    }
}

/// Returns a note on the segments that keep data in RocksDB; `None` if there are none.
fn in_rocks(source: &Source) -> Option<String> {
    let (inside, count, all) = source.in_rocks();
    if inside.is_nothing() {
        return None;
    }
    let uncounted = match inside.ids {
        true => "; points are not counted, since that takes opening it: see `snapmerge export`",
        false => "",
    };
    Some(format!(
        "{count} of {all} segments keep {} in RocksDB: Qdrant {} restores it as it is; a merge \
         converts them in scratch, and today's servers read the master{uncounted}",
        inside.words(),
        source.servers().words()
    ))
}

fn shard_report(
    number: u32,
    shard: &mut Shard,
    what: &str,
    problems: &mut Vec<Problem>,
) -> Result<ShardReport> {
    let mut ids = ShardIds::new(&Spill::within(&std::env::temp_dir()));
    let mut segments = Vec::new();
    for (uuid, segment) in &mut shard.segments {
        let trackers = std::mem::take(&mut segment.trackers);
        let what = format!("segment {uuid} of shard {number} of {what}");
        let points = match ids.add(&trackers, &what) {
            // Only who opens the database can tell.
            Ok(_) if InRocks::of(segment).ids => None,
            // Without any ids a segment counts as empty only if nothing is wrong with it.
            Ok(found) if found.format == Format::Nothing && is_obstructed(*uuid, problems) => None,
            Ok(found) => Some(found),
            Err(err) if err.kind() != Kind::Damaged => return Err(err),
            Err(err) => {
                problems.push(Problem::of_error(Some(number), Some(*uuid), &err));
                None
            }
        };
        segments.push(segment_report(*uuid, segment, points.as_ref()));
        if points.is_none() {
            ids.add_unread();
        }
    }
    let log = shard.has_log.then(|| std::mem::take(&mut shard.log));
    let log = log.and_then(|files| {
        let log = wal::read(files, &format!("the log of shard {number} of {what}"));
        log.inspect_err(|err| problems.push(Problem::of_error(Some(number), None, err)))
            .ok()
    });
    let survey = ids.survey(log.as_ref())?;
    let log = log.map(|log| log_report(&log, &survey, shard.log_bytes));
    let whole = Some(survey).filter(|survey| survey.is_whole);
    Ok(ShardReport {
        shard: number,
        shard_key: None,
        replicas: shard.replicas().map(|replicas| ReplicasReport {
            is_local: replicas.is_local,
            this_peer_id: replicas.this_peer_id,
            own_state: replicas.own(),
            states: replicas
                .peers
                .iter()
                .map(|(peer, state)| (peer.clone(), words(state)))
                .collect(),
        }),
        points_count: whole.as_ref().map(|survey| survey.ids),
        ids_in_several_segments_count: whole.as_ref().map(|survey| survey.in_several),
        segments_bytes: segments.iter().map(|segment| segment.bytes).sum(),
        segments,
        log,
    })
}

fn is_obstructed(uuid: Uuid, problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.segment == Some(uuid))
}

fn log_report(log: &wal::Log, survey: &Survey, bytes: u64) -> LogReport {
    let not_taken_in = not_taken_in(log, survey);
    let mut by_name = BTreeMap::new();
    for entry in &not_taken_in {
        *by_name.entry(entry.name.clone()).or_default() += 1;
    }
    LogReport {
        bytes,
        entries_count: log.next.saturating_sub(log.start),
        tail_count: log.entries.len() as u64,
        not_provably_taken_in_count: not_taken_in.len() as u64,
        not_provably_taken_in: by_name,
        torn_files: log.torn.iter().map(|torn| torn.file.clone()).collect(),
        blank_first_index: log.blank_first_index,
    }
}

fn vectors(config: &CollectionConfig) -> BTreeMap<String, VectorReport> {
    let report = |(name, params): (&String, &crate::format::schema::VectorParams)| {
        let hnsw = config.effective_hnsw(name);
        let report = VectorReport {
            size: params.size,
            distance: params.distance.to_string(),
            datatype: params.datatype().to_string(),
            multivector: params.multivector.as_ref().map(ToString::to_string),
            memory: params.placement().to_string(),
            hnsw: HnswReport {
                m: hnsw.m,
                ef_construct: hnsw.ef_construct,
                full_scan_threshold_kb: hnsw.full_scan_threshold,
                payload_m: hnsw.payload_m,
                on_disk: hnsw.on_disk,
            },
            quantization: config.effective_quantization(name).cloned(),
        };
        (name.clone(), report)
    };
    config.vectors().iter().map(report).collect()
}

fn sparse_vectors(config: &CollectionConfig) -> BTreeMap<String, SparseVectorReport> {
    let report = |(name, params): (&String, &crate::format::schema::SparseParams)| {
        let report = SparseVectorReport {
            datatype: params.datatype().to_string(),
            modifier: params.modifier().to_string(),
            memory: params.placement().to_string(),
            full_scan_threshold: params.full_scan_threshold,
        };
        (name.clone(), report)
    };
    config.sparse_vectors().iter().map(report).collect()
}

/// A JSON value as text, words without their quotes.
fn words(value: &Value) -> String {
    match value {
        Value::String(word) => word.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Segment;
    use crate::format::ids::Content;

    #[test]
    fn a_segment_that_cannot_be_read_is_a_problem_in_its_place() {
        let mut broken = Segment::default();
        let content = Content::Held(b"no mappings".to_vec());
        broken.trackers.add("id_tracker.mappings", content);
        let (good, bad) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut shard = Shard {
            segments: BTreeMap::from([(good, Segment::default()), (bad, broken)]),
            ..Shard::default()
        };
        let mut problems = Vec::new();
        let report = shard_report(3, &mut shard, "a.snapshot", &mut problems).unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(
            (problems[0].shard, problems[0].segment),
            (Some(3), Some(bad))
        );
        assert!(problems[0].why.contains("a.snapshot"), "{problems:?}");
        assert_eq!(report.points_count, None);
        assert_eq!(report.segments.len(), 2);
        let known: Vec<bool> = report.segments.iter().map(|s| s.points.is_some()).collect();
        assert_eq!(known, [true, false]);
        assert!(report.log.is_none());
        assert_eq!(verdict(&problems), Verdict::Unreadable);
        problems[0].incomplete = true;
        assert_eq!(verdict(&problems), Verdict::Incomplete);
        assert_eq!(verdict(&[]), Verdict::Readable);
    }

    #[test]
    fn a_segment_with_an_obstacle_and_no_ids_is_not_taken_for_an_empty_one() {
        let uuid = Uuid::from_u128(7);
        let mut shard = Shard {
            segments: BTreeMap::from([(uuid, Segment::default())]),
            ..Shard::default()
        };
        let mut problems = vec![Problem {
            shard: Some(0),
            segment: Some(uuid),
            why: "its ids lie in RocksDB".into(),
            next: None,
            incomplete: false,
        }];
        let report = shard_report(0, &mut shard, "a.snapshot", &mut problems).unwrap();
        assert_eq!(report.points_count, None);
        assert_eq!(problems.len(), 1);
    }
}
