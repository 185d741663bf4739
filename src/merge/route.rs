//! Which route a merge takes.
//!
//! Keeps true: `graft` is taken only where it gives what was asked for; why it is not is told with
//! all reasons at once.

use std::collections::{BTreeMap, BTreeSet};

use super::conflict::Policy;
use super::layout::Layout;
use super::plan::Settings;
use crate::schema::{Overrides, ShardKey, ShardingMethod, vector_label};
use crate::source::Source;

/// The shard of the master that each shard of each source joins, by source and number.
pub type Targets = BTreeMap<(usize, u32), u32>;

/// Where each shard would go by `graft`, or all reasons why it cannot be.
pub fn graft_targets(
    sources: &[Source],
    settings: &Settings,
    layout: &Layout,
) -> Result<Targets, Vec<String>> {
    let mut reasons = Vec::new();
    changes(settings, &mut reasons);
    schemas(sources, &mut reasons);
    let targets = if settings.by_source {
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
    change(settings.stamp.is_some(), "--stamp");
    change(settings.filter.is_some(), "--filter");
    change(!settings.drop_payload.is_empty(), "--drop-payload");
    change(settings.on_conflict == Policy::Remap, "--on-conflict remap");
    // The number of shards is looked at with the layout.
    let others = Overrides {
        shard_number: None,
        ..settings.overrides.clone()
    };
    if others != Overrides::default() {
        reasons.push("settings were given that segments are built by".into());
    }
}

/// Segments of one shard must have the same vectors.
fn schemas(sources: &[Source], reasons: &mut Vec<String>) {
    let names = |source: &Source| -> BTreeSet<String> {
        let dense = source.config.vectors().keys();
        dense
            .chain(source.config.sparse_vectors().keys())
            .cloned()
            .collect()
    };
    let all: BTreeSet<String> = sources.iter().flat_map(names).collect();
    for source in sources {
        for name in all.difference(&names(source)) {
            reasons.push(format!("{} has no {}", source.name, vector_label(name)));
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
