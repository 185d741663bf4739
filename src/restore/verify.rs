//! Comparison of a restored collection with its snapshot.
//!
//! Invariants: counts are exact and by shard; every replica is counted that can be reached; what
//! could not be compared is said, and never passes for equal.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::expect::Expected;
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::{Progress, Unit};
use crate::capture::Members;
use crate::format::schema::{same_index, show_index};
use crate::server::{ACTIVE, CollectionAddress, CollectionInfo, Polling, Selection, require};

/// The first wait between two looks, and the longest.
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_secs(2);
/// Time that a collection may stay grey before an empty update wakes it.
const GREY: Duration = Duration::from_millis(300);

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// Subject of the difference.
    pub about: String,
    /// As the snapshot has it.
    pub expected: String,
    /// As the server has it.
    pub found: String,
}

/// Result of comparing a collection with its snapshot.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Differences; empty if all is well.
    pub differences: Vec<Difference>,
    /// Points, counted exactly.
    pub points: u64,
    /// Shards whose points were counted, with how many replicas of each.
    pub shards: BTreeMap<u32, usize>,
    /// Vectors in an index, as the server told.
    pub indexed_vectors: u64,
    /// Comparisons that could not be made.
    pub open: Vec<String>,
}

/// Waits until nothing is left to be done: the log taken in, every replica Active, all green.
pub fn wait_green(
    target: &CollectionAddress,
    members: &Members,
    within: Duration,
    progress: Progress,
) -> Result<CollectionInfo> {
    let doing = format!("waiting until {target} is green");
    let stage = progress.stage("wait for green", None, Unit::None);
    let mut grey_since: Option<Instant> = None;
    let mut lacks = None;
    let polling = Polling::every(LOOK_FIRST).up_to(LOOK_MAX).within(within);
    let green = members.first.wait_until(&doing, polling, || {
        lacks = None;
        let mut last = None;
        for member in std::iter::once(&members.first).chain(members.others.values()) {
            let info = require(target, member.collection(&target.collection)?)?;
            if info.status == "red" {
                let why = format!("{} is red: {}", target.collection, info.optimizer_status);
                return Err(Error::new(Kind::Differs, doing.as_str(), why)
                    .next("look at the server's log; the snapshot itself is as it was"));
            }
            if !info.is_green() {
                lacks = Some(format!("its status is {}", info.status));
            } else if info.queued() > 0 {
                lacks = Some(format!("{} updates wait to be applied", info.queued()));
            } else if info.deferred() > 0 {
                lacks = Some(format!("{} points are not shown yet", info.deferred()));
            }
            // Grey waits for an update before it goes on; nothing is an update, too.
            if info.status == "grey"
                && grey_since.get_or_insert_with(Instant::now).elapsed() >= GREY
            {
                let nothing = json!({ "optimizers_config": {} });
                member.patch_collection(&target.collection, nothing)?;
                grey_since = None;
            }
            last.get_or_insert(info);
        }
        let topology = members.first.topology(&target.collection)?;
        let waiting = topology.replicas().find(|(_, _, state)| *state != ACTIVE);
        if let Some((shard, peer, state)) = waiting {
            lacks = Some(format!("shard {shard} on member {peer} is {state}"));
        } else if let Some(moves) = topology.moves() {
            lacks = Some(moves);
        }
        Ok(last.filter(|_| lacks.is_none()))
    })?;
    drop(stage);
    green.ok_or_else(|| {
        let lacks = lacks.unwrap_or_else(|| "nobody answers".into());
        let why = format!("after {} s {lacks}", within.as_secs());
        Error::new(Kind::Differs, doing.as_str(), why)
            .next("give it longer with --wait SECONDS, or look at the server's log")
    })
}

/// Compares what is there with what has to be.
pub fn verify(
    target: &CollectionAddress,
    members: &Members,
    expected: &Expected,
    info: &CollectionInfo,
) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    counts(target, members, expected, &mut verdict)?;
    settings(target, expected, info, &mut verdict)?;
    payload(target, expected, info, &mut verdict)?;
    verdict.indexed_vectors = info.indexed_vectors_count.unwrap_or(0);
    if verdict.indexed_vectors < expected.indexed_min {
        verdict.differ(
            "vectors in an index",
            format!("{} or more", expected.indexed_min),
            verdict.indexed_vectors.to_string(),
        );
    }
    Ok(verdict)
}

impl Verdict {
    fn differ(&mut self, about: &str, expected: String, found: String) {
        self.differences.push(Difference {
            about: about.to_owned(),
            expected,
            found,
        });
    }
}

fn counts(
    target: &CollectionAddress,
    members: &Members,
    expected: &Expected,
    verdict: &mut Verdict,
) -> Result<()> {
    let name = target.collection.as_str();
    verdict.points = members.first.count(Selection::all(name))?;
    let all = expected.all_points();
    if let Some(all) = all.filter(|all| *all != verdict.points) {
        verdict.differ("points", all.to_string(), verdict.points.to_string());
    }
    let is_one = expected.shards.len() == 1;
    let mut found: BTreeMap<u32, Vec<(u64, Option<u64>)>> = BTreeMap::new();
    let mut there: Vec<u32> = Vec::new();
    for member in std::iter::once(&members.first).chain(members.others.values()) {
        let topology = member.topology(name)?;
        there.extend(topology.shard_ids());
        for shard in &topology.local_shards {
            let count = member.count_shard(name, shard.shard_id)?;
            let counts = found.entry(shard.shard_id).or_default();
            counts.push((topology.peer_id, count));
        }
    }
    there.sort_unstable();
    there.dedup();
    let wanted: Vec<u32> = expected.shards.keys().copied().collect();
    if there != wanted {
        verdict.differ("shards", format!("{wanted:?}"), format!("{there:?}"));
    }
    let mut uncounted = Vec::new();
    for (shard, wanted) in &expected.shards {
        let wanted = &wanted.or(all.filter(|_| is_one));
        let counts = found.remove(shard).unwrap_or_default();
        for (peer, count) in &counts {
            match (wanted, count) {
                (Some(wanted), Some(count)) if wanted != count => verdict.differ(
                    &format!("points of shard {shard} on member {peer}"),
                    wanted.to_string(),
                    count.to_string(),
                ),
                (Some(_), Some(_)) => *verdict.shards.entry(*shard).or_default() += 1,
                (_, None) => uncounted.push(*shard),
                (None, Some(count)) => verdict.open.push(format!(
                    "points of shard {shard}: how many there are its log, or its database, would have to tell; the \
                     server has {count}"
                )),
            }
        }
        if counts.is_empty() && there.contains(shard) {
            verdict.open.push(format!(
                "points of shard {shard}: no member that holds it could be asked"
            ));
        }
    }
    uncounted.dedup();
    if !uncounted.is_empty() {
        let all = match all {
            Some(_) => "those of all together were compared",
            None => "nor is it known how many there are",
        };
        verdict.open.push(format!(
            "points of the shards {uncounted:?}: the server does not count by shard; {all}"
        ));
    }
    let keys = members.first.topology(name)?.shard_keys()?;
    if keys != *expected.keys() {
        let show = |keys: &crate::format::schema::ShardKeys| {
            String::from_utf8_lossy(&keys.to_bytes()).into_owned()
        };
        verdict.differ("shard keys", show(expected.keys()), show(&keys));
    }
    Ok(())
}

fn settings(
    target: &CollectionAddress,
    expected: &Expected,
    info: &CollectionInfo,
    verdict: &mut Verdict,
) -> Result<()> {
    let found = info.config(&target.to_string())?;
    let wanted = expected.config();
    let pairs = [
        ("params/vectors", "vectors"),
        ("params/sparse_vectors", "sparse vectors"),
        ("params/sharding_method", "sharding method"),
        ("quantization_config", "quantization"),
        ("hnsw_config", "HNSW"),
    ];
    for (path, about) in pairs {
        let at = |raw: &serde_json::Map<String, Value>| {
            let mut value = Value::from(raw.clone());
            let mut value = value.pointer_mut(&format!("/{path}")).map(Value::take);
            if let Some(value) = &mut value {
                drop_nulls(value);
            }
            value.filter(|value| !value.is_null() && *value != json!({}) && *value != json!("auto"))
        };
        let (wanted, mut found) = (at(wanted.raw()), at(found.raw()));
        // What the snapshot of no server leaves unsaid of graphs, as one that was ingested does, the server chooses.
        if let ("hnsw_config", Some(Value::Object(wanted)), Some(Value::Object(found))) =
            (path, &wanted, &mut found)
        {
            found.retain(|key, _| wanted.contains_key(key));
        }
        if wanted != found {
            let show =
                |value: Option<Value>| value.map_or("none".into(), |value| value.to_string());
            verdict.differ(about, show(wanted), show(found));
        }
    }
    Ok(())
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(values) => values.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn payload(
    target: &CollectionAddress,
    expected: &Expected,
    info: &CollectionInfo,
    verdict: &mut Verdict,
) -> Result<()> {
    let found = info.payload_schema(&target.to_string())?;
    let (wanted, found) = (expected.payload().fields(), found.fields());
    let mut fields: Vec<&String> = wanted.keys().chain(found.keys()).collect();
    fields.sort_unstable();
    fields.dedup();
    for field in fields {
        let (wanted, found) = (wanted.get(field), found.get(field));
        let same = match (wanted, found) {
            (Some(wanted), Some(found)) => same_index(wanted, found),
            _ => false,
        };
        if !same {
            let show = |index: Option<&Value>| index.map_or("none".into(), show_index);
            verdict.differ(
                &format!("payload index of {field}"),
                show(wanted),
                show(found),
            );
        }
    }
    Ok(())
}
