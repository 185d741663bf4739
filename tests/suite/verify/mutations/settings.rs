//! Changes to the settings of a master: values of its config, payload indexes in the collection's list
//! and in a segment, names of vectors.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use snapmerge::format::schema::{CollectionConfig, PayloadSchema};
use snapmerge::verify::setting_differences;

use super::{Counts, Open};
use crate::support::Outcome;
use crate::verify::packed::{another, leaves};

/// Kinds of changes to settings.
pub const KINDS: [&str; 4] = [
    "a config value",
    "an index gone from the list",
    "an index gone from a segment",
    "a vector name",
];

/// Makes so many changes, one at a time, each found and undone; kinds take turns.
pub fn mutate(open: &mut Open, wanted: usize, rng: &mut ChaCha8Rng) -> Outcome<Counts> {
    let right = told(open);
    ensure_eq!(right, Vec::<String>::new(), "told of a right master");
    let mut counts = Counts::new();
    let mut done = 0;
    let mut tried = 0;
    while done < wanted {
        let kind = KINDS[tried % KINDS.len()];
        tried += 1;
        ensure!(tried < 100 * wanted.max(1), "only {counts:?} can be made");
        let named = match kind {
            "a config value" => config_value(open, rng)?,
            "a vector name" => vector_name(open, rng)?,
            "an index gone from the list" => index_of_list(open, rng)?,
            _ => index_of_segment(open, rng)?,
        };
        let Some(named) = named else {
            continue;
        };
        ensure!(!named.told.is_empty(), "{kind} {}: not found", named.what);
        for line in &named.told {
            ensure!(
                named.words.iter().any(|word| line.contains(word)),
                "{kind} {}: told as {line}",
                named.what
            );
        }
        *counts.entry(kind).or_default() += 1;
        done += 1;
    }
    ensure_eq!(told(open), right, "told when all is undone");
    Ok(counts)
}

/// What was changed, what it may be called, and what was told.
struct Named {
    what: String,
    words: Vec<String>,
    told: Vec<String>,
}

fn told(open: &Open) -> Vec<String> {
    let differences = setting_differences(&open.wanted, &open.source);
    differences.iter().map(ToString::to_string).collect()
}

/// What is told with `config` in place of the master's own; none if a collection cannot be so.
fn with_config(open: &mut Open, config: &Value) -> Outcome<Option<Vec<String>>> {
    let Ok(config) = CollectionConfig::parse("a test", config.to_string().as_bytes()) else {
        return Ok(None);
    };
    let own = std::mem::replace(&mut open.source.config, config);
    let found = told(open);
    open.source.config = own;
    Ok(Some(found))
}

fn config_value(open: &mut Open, rng: &mut ChaCha8Rng) -> Outcome<Option<Named>> {
    let mut config = Value::Object(open.source.config.raw().clone());
    let mut paths = Vec::new();
    leaves(&config, "", &mut paths);
    let path = paths.choose(rng).ok_or("an empty config")?;
    let value = config.pointer_mut(path).ok_or("no such value")?;
    let Some(other) = another(value) else {
        return Ok(None);
    };
    *value = other;
    let Some(told) = with_config(open, &config)? else {
        return Ok(None);
    };
    let key = path.rsplit('/').next().unwrap_or_default();
    let mut words = vec![key.trim_end_matches("_kb").to_owned()];
    if path.contains("quantization") {
        words.push("quantization".into());
    }
    match key {
        // What it means is told, in the newer of its two spellings.
        "on_disk" => words.push("memory".into()),
        "shard_number" => words.push("shard".into()),
        _ => {}
    }
    Ok(Some(Named {
        what: path.clone(),
        words,
        told,
    }))
}

fn vector_name(open: &mut Open, rng: &mut ChaCha8Rng) -> Outcome<Option<Named>> {
    let mut config = Value::Object(open.source.config.raw().clone());
    let kind = ["vectors", "sparse_vectors"][rng.random_range(0..2)];
    let Some(vectors) = config["params"][kind].as_object_mut() else {
        return Ok(None);
    };
    // The unnamed one has its own settings here.
    let names: Vec<String> = match vectors.contains_key("size") {
        true => Vec::new(),
        false => vectors.keys().cloned().collect(),
    };
    let Some(name) = names.choose(rng) else {
        return Ok(None);
    };
    let settings = vectors.remove(name).ok_or("no such vector")?;
    vectors.insert("another".into(), settings);
    let told = with_config(open, &config)?.ok_or("a config with another name is none")?;
    ensure!(
        told.iter().any(|line| line.contains(&format!("'{name}'"))),
        "{name} is not named: {told:?}"
    );
    Ok(Some(Named {
        what: name.clone(),
        words: vec![format!("'{name}'"), "'another'".into()],
        told,
    }))
}

fn index_of_list(open: &mut Open, rng: &mut ChaCha8Rng) -> Outcome<Option<Named>> {
    let fields: Vec<String> = open.source.payload.fields().keys().cloned().collect();
    let Some(field) = fields.choose(rng) else {
        return Ok(None);
    };
    let mut list = open.source.payload.to_json();
    let schema = list["schema"].as_object_mut().ok_or("no schema")?;
    schema.remove(field);
    let list = PayloadSchema::parse("a test", list.to_string().as_bytes())?;
    let own = std::mem::replace(&mut open.source.payload, list);
    let told = told(open);
    open.source.payload = own;
    Ok(Some(Named {
        what: field.clone(),
        words: vec![format!("'{field}'")],
        told,
    }))
}

fn index_of_segment(open: &mut Open, rng: &mut ChaCha8Rng) -> Outcome<Option<Named>> {
    let mut held = Vec::new();
    for (number, shard) in &open.source.snapshot.shards {
        for (uuid, segment) in &shard.segments {
            let indexes: Value = match &segment.payload_index {
                Some(bytes) => serde_json::from_slice(bytes)?,
                None => continue,
            };
            let fields = indexes["indexed_fields"].as_object();
            let fields = fields.into_iter().flat_map(|fields| fields.keys());
            held.extend(fields.map(|field| (*number, *uuid, field.clone())));
        }
    }
    let Some((number, uuid, field)) = held.choose(rng) else {
        return Ok(None);
    };
    let shards = &mut open.source.snapshot.shards;
    let shard = shards.get_mut(number).ok_or("no such shard")?;
    let segment = shard.segments.get_mut(uuid).ok_or("no such segment")?;
    let own = segment.payload_index.clone().ok_or("no indexes")?;
    let mut indexes: Value = serde_json::from_slice(&own)?;
    let fields = indexes["indexed_fields"].as_object_mut();
    fields.ok_or("no indexes")?.remove(field);
    segment.payload_index = Some(indexes.to_string().into_bytes());
    let told = told(open);
    let shards = &mut open.source.snapshot.shards;
    let shard = shards.get_mut(number).ok_or("no such shard")?;
    let segment = shard.segments.get_mut(uuid).ok_or("no such segment")?;
    segment.payload_index = Some(own);
    Ok(Some(Named {
        what: format!("{field} of {uuid}"),
        words: vec![format!("'{field}' in segment {uuid} of shard {number}")],
        told,
    }))
}
