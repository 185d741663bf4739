//! Which route a merge takes.
//!
//! Invariants: `graft` is taken only where it gives what was asked for; why it is not is told with
//! all reasons at once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::settings::{Route, Settings};
use crate::base::error::{Error, Result};
use crate::format::payloads::{unrenamable, unrenamable_state, unsuitable};
use crate::format::records::is_plain;
use crate::format::schema::{Overrides, ShardingMethod, United, VectorChanges, vector_label};
use crate::format::{Segment, SegmentKind};
use crate::point::ShardKey;
use crate::source::Source;
use crate::stream::Layout;
use crate::stream::Policy;

/// The shard of the master that each shard of each source joins, by source and number.
pub type Targets = BTreeMap<(usize, u32), u32>;

/// Returns the shard of the master that each source shard joins by `graft`, or all reasons why it
/// cannot be taken.
fn graft_targets(
    sources: &[Source],
    settings: &Settings,
    layout: &Layout,
) -> Result<Targets, Vec<String>> {
    let mut reasons = Vec::new();
    let by_server = |source: &&Source| source.live.is_some() || source.by_server.is_some();
    for source in sources.iter().filter(by_server) {
        reasons.push(format!("{} is read from a server", source.name));
    }
    changes(settings, &mut reasons);
    if settings.union.changes_payloads() {
        payloads(sources, &mut reasons);
    }
    vectors(sources, &settings.union.vectors, &mut reasons);
    let targets = match shard_targets(sources, settings, layout) {
        Ok(targets) => targets,
        Err(others) => {
            reasons.extend(others);
            Targets::new()
        }
    };
    if reasons.is_empty() {
        Ok(targets)
    } else {
        Err(reasons)
    }
}

/// Returns the shard of the master that all points of each source shard belong to, or all reasons why there is
/// none.
pub fn shard_targets(
    sources: &[Source],
    settings: &Settings,
    layout: &Layout,
) -> Result<Targets, Vec<String>> {
    let mut reasons = Vec::new();
    let targets = if settings.union.layout.field().is_some() {
        // Which shards there are is not known yet.
        Targets::new()
    } else if settings.union.layout.is_by_source() {
        by_source(sources, layout, &mut reasons)
    } else if layout.keys.is_empty() {
        automatic(sources, layout, &mut reasons)
    } else {
        by_key(sources, layout, &mut reasons)
    };
    if reasons.is_empty() {
        Ok(targets)
    } else {
        Err(reasons)
    }
}

fn changes(settings: &Settings, reasons: &mut Vec<String>) {
    let mut change = |asked: bool, what: &str| {
        if asked {
            reasons.push(format!("{what} changes records"));
        }
    };
    change(settings.union.filter.is_some(), "--filter");
    change(
        settings.union.on_conflict == Policy::Remap,
        "--on-conflict remap",
    );
    if let Some(field) = settings.union.layout.field() {
        reasons.push(format!(
            "the points of a segment may have several values of '{field}'"
        ));
    }
    // The number of shards is looked at with the layout; payload indexes are no part of what a graph is
    // built by.
    let others = Overrides {
        shard_number: None,
        payload_index: Vec::new(),
        ..settings.overrides.clone()
    };
    if others != Overrides::default() {
        reasons.push("settings were given that segments are built by".into());
    }
}

/// Payloads that are written anew must be of a form that is known.
fn payloads(sources: &[Source], reasons: &mut Vec<String>) {
    for source in sources {
        for (number, shard) in &source.snapshot.shards {
            let mut states = shard.segments.values().map(Segment::state_json);
            if let Some(why) = states.find_map(|state| unsuitable(&state)) {
                reasons.push(format!(
                    "a segment of shard {number} of {}: {why}",
                    source.name
                ));
            }
        }
    }
}

/// Segments of one shard must have the same vectors, and where some are renamed, files that can be.
fn vectors(sources: &[Source], changes: &VectorChanges, reasons: &mut Vec<String>) {
    let own = |source: &Source| -> Vec<String> {
        let dense = source.config.vectors().keys();
        let sparse = source.config.sparse_vectors().keys();
        dense.chain(sparse).cloned().collect()
    };
    let names = |source: &Source| -> BTreeSet<String> {
        let own = own(source);
        let kept = own.iter().filter_map(|name| changes.name(name));
        kept.map(str::to_owned).collect()
    };
    let all: BTreeSet<String> = sources.iter().flat_map(names).collect();
    for source in sources {
        for name in all.difference(&names(source)) {
            reasons.push(format!("{} has no {}", source.name, vector_label(name)));
        }
        if changes.is_none() {
            continue;
        }
        if let Some(why) = unrenamable(&own(source)) {
            reasons.push(format!("of {}, {why}", source.name));
        }
        for (number, shard) in &source.snapshot.shards {
            let mut states = shard.segments.values().map(Segment::state_json);
            if let Some(why) = states.find_map(|state| unrenamable_state(changes, state)) {
                reasons.push(format!(
                    "a segment of shard {number} of {}: {why}",
                    source.name
                ));
            }
        }
    }
}

fn automatic(sources: &[Source], layout: &Layout, reasons: &mut Vec<String>) -> Targets {
    let mut targets = Targets::new();
    for (at, source) in sources.iter().enumerate() {
        if *source.config.sharding_method() == ShardingMethod::Custom {
            reasons.push(format!(
                "{} has shard keys, the master has none",
                source.name
            ));
            continue;
        }
        let shards = source.config.shard_number();
        if shards as usize != layout.shards.len() {
            reasons.push(format!(
                "{} has {shards} shards, the master {}, so its points lie elsewhere there",
                source.name,
                layout.shards.len()
            ));
            continue;
        }
        targets.extend(
            source
                .snapshot
                .shards
                .keys()
                .map(|number| ((at, *number), *number)),
        );
    }
    targets
}

fn by_key(sources: &[Source], layout: &Layout, reasons: &mut Vec<String>) -> Targets {
    let mut targets = Targets::new();
    for (at, source) in sources.iter().enumerate() {
        for (key, numbers) in source.shard_keys.keys() {
            let there = layout.keys.keys().get(key).map_or(&[][..], Vec::as_slice);
            match (numbers.as_slice(), there) {
                ([one], [target]) => {
                    targets.insert((at, *one), *target);
                }
                (numbers, there) if numbers == there => {
                    targets.extend(numbers.iter().map(|number| ((at, *number), *number)));
                }
                (numbers, there) => reasons.push(format!(
                    "key {key} has the shards {numbers:?} in {} and {there:?} in the master, so \
                     its points lie elsewhere there",
                    source.name
                )),
            }
        }
    }
    targets
}

fn by_source(sources: &[Source], layout: &Layout, reasons: &mut Vec<String>) -> Targets {
    let mut targets = Targets::new();
    for (at, source) in sources.iter().enumerate() {
        let numbers: Vec<u32> = source.snapshot.shards.keys().copied().collect();
        let key = ShardKey::Word(source.name.clone());
        let there = layout.keys.keys().get(&key).map_or(&[][..], Vec::as_slice);
        match (numbers.as_slice(), there) {
            ([one], [target]) => {
                targets.insert((at, *one), *target);
            }
            ([_], there) => reasons.push(format!(
                "{} has 1 shard, {} are wanted under its key, so its points lie elsewhere there",
                source.name,
                there.len()
            )),
            (numbers, _) => reasons.push(format!(
                "{} has {} shards, which would get other numbers under its key, so its points lie \
                 elsewhere there",
                source.name,
                numbers.len()
            )),
        }
    }
    targets
}

/// The route of a merge, why it is taken, and where each shard goes by it.
pub fn route(
    sources: &[Source],
    settings: &Settings,
    layout: &Layout,
) -> Result<(Route, String, Targets)> {
    let none = Targets::new;
    match (settings.live_target, settings.route) {
        (true, None | Some(Route::Replay)) => {
            let because = "the master is to be a live collection".into();
            return Ok((Route::Replay, because, none()));
        }
        (true, Some(other)) => {
            return Err(Error::usage(
                format!("planning the route {other}"),
                "it makes a file, and --into names a live collection",
            )
            .next("leave --route out, or write a file with -o and bring it there with restore"));
        }
        (false, Some(Route::Replay)) => {
            return Err(Error::usage(
                "planning the route replay",
                "it writes into a live collection",
            )
            .next("name the collection with --into http://HOST:6333/COLLECTION"));
        }
        (false, _) => {}
    }
    match (settings.route, graft_targets(sources, settings, layout)) {
        (Some(Route::Rebuild | Route::Replay), _) => {
            Ok((Route::Rebuild, "it was asked for".into(), none()))
        }
        (Some(Route::Graft), Ok(targets)) => Ok((Route::Graft, "it was asked for".into(), targets)),
        (Some(Route::Graft), Err(reasons)) => Err(Error::usage(
            "planning the route graft",
            reasons.join("\n  and "),
        )
        .next("leave --route out, or give --route rebuild")),
        (None, Ok(_)) if !settings.segments_given && are_many_and_plain(sources) => Ok((
            Route::Rebuild,
            format!(
                "{} sources have no graph that could be carried, and a segment of each would make the \
                 master slow to search; --route graft carries them, --segments auto merges them there",
                sources.len()
            ),
            none(),
        )),
        (None, Ok(targets)) => Ok((
            Route::Graft,
            match (settings.union.changes_payloads(), settings.union.vectors.is_none()) {
                (false, true) => {
                    "the sources' vectors and shards line up and no record is changed, so segments can \
                     be carried over with their graphs"
                }
                (false, false) => {
                    "the sources' vectors and shards line up and vectors only get other names or are \
                     left out, so segments can be carried over with their graphs, the files of these \
                     renamed"
                }
                (true, _) => {
                    "the sources' vectors and shards line up and only payloads and names of vectors are \
                     changed, so segments can be carried over with their graphs, their payloads written anew"
                }
            }
            .into(),
            targets,
        )),
        (None, Err(reasons)) => Ok((
            Route::Rebuild,
            format!("segments cannot be carried over: {}", reasons.join("; ")),
            none(),
        )),
    }
}

/// From how many segments on those of plain sources are not carried: a server looks into each of them, and
/// keeps its files open.
const MANY: usize = 64;

/// Returns true if there are many segments, and no more is in them than is read record by record: no graph, and no
/// vectors that are stored lossily.
fn are_many_and_plain(sources: &[Source]) -> bool {
    let shards = sources
        .iter()
        .flat_map(|source| source.snapshot.shards.values());
    let segments: usize = shards.map(|shard| shard.segments.len()).sum();
    segments >= MANY
        && sources.iter().all(|source| {
            let shards = source.snapshot.shards.values();
            let mut segments = shards.flat_map(|shard| shard.segments.values());
            segments.all(|segment| {
                let state = segment.state_json();
                is_plain(&state, &source.config) && !SegmentKind::of(&state).indexed
            })
        })
}

/// Returns the number of segments of the master's fullest shard, as far as the sources tell before
/// any shard is opened.
pub fn most_segments(sources: &[Source], targets: &Targets) -> u64 {
    let mut by_target: BTreeMap<u32, u64> = BTreeMap::new();
    for ((source, number), target) in targets {
        let segments = sources
            .get(*source)
            .and_then(|source| source.snapshot.shards.get(number))
            .map_or(0, |shard| shard.segments.len() as u64);
        *by_target.entry(*target).or_default() += segments;
    }
    by_target.values().copied().max().unwrap_or(0)
}

/// The number of segments that a server leaves alone, where a master says it for itself.
///
/// A server merges segments, and indexes them anew, while a shard has more than
/// `default_segment_number`; so the master's says how many its fullest shard has.
#[derive(Debug, Clone, Copy)]
pub struct KeptSegments {
    /// `default_segment_number` of the sources' config; 0 if it is not set.
    stated: u64,
    /// Index of the plan's note about it.
    note: Option<usize>,
}

impl KeptSegments {
    /// Nothing is said yet in the config of `united`.
    pub fn new(united: &United) -> Self {
        let stated = united
            .config
            .optimizer_config()
            .and_then(|map| map.get("default_segment_number"))
            .and_then(Value::as_u64);
        Self {
            stated: stated.unwrap_or(0),
            note: None,
        }
    }

    /// Has the config allow for `most` segments, and `notes` tell of it.
    pub fn allow(&mut self, most: u64, united: &mut United, notes: &mut Vec<String>) -> Result<()> {
        // The number that Qdrant takes for 0, "by the number of processors", is never less.
        const LEAST: u64 = 2;
        let stated = self.stated;
        if most <= stated.max(LEAST) {
            return Ok(());
        }
        let number = [("default_segment_number", Value::from(most))];
        united.set("optimizer_config", &number)?;
        let text = format!(
            "the master's default_segment_number is {most} instead of {stated}, so that a server \
             leaves the carried segments and their graphs alone; a search looks into each of them, \
             which costs some time for some recall; --segments auto merges the small ones now, \
             --segments server keeps {stated}"
        );
        match self.note.and_then(|at| notes.get_mut(at)) {
            Some(note) => *note = text,
            None => {
                self.note = Some(notes.len());
                notes.push(text);
            }
        }
        Ok(())
    }
}

/// Sources whose segments were built with other settings than the master has.
pub fn built_otherwise(
    sources: &[Source],
    changes: &VectorChanges,
    united: &United,
) -> Option<String> {
    let master = &united.config;
    let differs = |source: &&Source| {
        source.config.vectors().keys().any(|name| {
            let Some(new) = changes.name(name) else {
                return false;
            };
            let (own, its) = (
                source.config.effective_hnsw(name),
                master.effective_hnsw(new),
            );
            (
                own.m,
                own.ef_construct,
                own.full_scan_threshold,
                own.payload_m,
                own.on_disk,
            ) != (
                its.m,
                its.ef_construct,
                its.full_scan_threshold,
                its.payload_m,
                its.on_disk,
            ) || source.config.effective_quantization(name) != master.effective_quantization(new)
        })
    };
    let names: Vec<&str> = sources
        .iter()
        .filter(differs)
        .map(|source| source.name.as_str())
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "the segments of {} are carried as they are, though they were built with other HNSW or \
             quantization settings than the master's: a server builds them anew in the background",
            names.join(", ")
        )
    })
}
