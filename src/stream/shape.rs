//! The shape of a master: its config, payload indexes and shards, as the sources say them.
//!
//! Invariants: it depends on the sources' headers and the options alone.

use serde_json::Value;

use super::layout::Layout;
use super::options::{LayoutChoice, UnionOptions};
use crate::base::error::Result;
use crate::format::schema::{Overrides, ShardingMethod, United, unite};
use crate::point::ShardKey;
use crate::source::Source;

/// The config, payload indexes and shards of the master of `sources`.
pub fn master_shape(
    sources: &[Source],
    options: &UnionOptions,
    overrides: &Overrides,
) -> Result<(United, Layout)> {
    // A derived config is a guess where the shard's own snapshot says nothing: it never wins over a stated
    // one.
    let mut stated: Vec<&Source> = sources.iter().collect();
    stated.sort_by_key(|source| source.config_is_derived);
    let mut described: Vec<_> = (stated.iter())
        .map(|source| (source.name.clone(), &source.config, &source.payload))
        .collect();
    let mut changed = Vec::new();
    if !options.vectors.is_none() {
        options.vectors.refuse_unknown(&described)?;
        for (name, config, _) in &described {
            changed.push(options.vectors.config(name, config)?);
        }
    }
    for ((_, config, _), changed) in described.iter_mut().zip(&changed) {
        *config = changed;
    }
    let mut united = unite(&described, overrides)?;
    if options.layout != LayoutChoice::Same {
        let params = [
            ("sharding_method", Value::from("custom")),
            (
                "shard_number",
                Value::from(overrides.shard_number.unwrap_or(1)),
            ),
        ];
        united.set("params", &params)?;
    }
    let layout = layout(sources, &united, options, overrides.shard_number)?;
    Ok((united, layout))
}

fn layout(
    sources: &[Source],
    united: &United,
    options: &UnionOptions,
    stated: Option<u32>,
) -> Result<Layout> {
    if *united.config.sharding_method() != ShardingMethod::Custom {
        return Ok(Layout::automatic(united.config.shard_number()));
    }
    // In the order in which they came up, so that a server that creates them so numbers their
    // shards as the first source's.
    let mut keys: Vec<(ShardKey, u32)> = Vec::new();
    for source in sources {
        if options.layout.field().is_some() {
            // The values of the field are known when the sources are read.
            break;
        }
        if options.layout.is_by_source() {
            keys.push((ShardKey::Word(source.name.clone()), stated.unwrap_or(1)));
            continue;
        }
        let mut own: Vec<(&ShardKey, &Vec<u32>)> = source.shard_keys.keys().iter().collect();
        own.sort_by_key(|(_, shards)| shards.first().copied());
        for (key, shards) in own {
            let wanted = stated.unwrap_or_else(|| u32::try_from(shards.len()).unwrap_or(u32::MAX));
            match keys.iter_mut().find(|(known, _)| known == key) {
                Some((_, count)) => *count = (*count).max(wanted),
                None => keys.push((key.clone(), wanted)),
            }
        }
    }
    Layout::by_key(&keys)
}
