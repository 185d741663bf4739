//! Comparison of a collection's settings with what they should be.
//!
//! Invariants: every setting of the config is compared by what it does, not by how it is written
//! down; a payload index counts only if every segment has it, since a server builds what is missing
//! and says nothing.

use super::difference::SettingDifference;
use crate::format::schema::{CollectionConfig, PayloadSchema, ShardKeys, compare, show_index};
use crate::source::{Lacking, Source, lacking_indexes};

/// Settings that a collection must have.
#[derive(Debug, Clone)]
pub struct ExpectedConfig {
    /// Config of the collection.
    pub config: CollectionConfig,
    /// Payload indexes.
    pub payload: PayloadSchema,
    /// Shard keys.
    pub keys: ShardKeys,
    /// Settings that are not compared, by what they are about.
    pub ignored: Vec<String>,
}

impl ExpectedConfig {
    /// To be as `source` is.
    pub fn of(source: &Source) -> Self {
        Self {
            config: source.config.clone(),
            payload: source.payload.clone(),
            keys: source.shard_keys.clone(),
            ignored: Vec::new(),
        }
    }
}

/// Compares the settings of `found`, in its segments too, with what is `wanted`.
pub fn setting_differences(wanted: &ExpectedConfig, found: &Source) -> Vec<SettingDifference> {
    let mut differences = config_differences(wanted, found);
    differences.extend(lacking(wanted, found));
    if let (Some(shards), None) = (found.shards_wanted(), &found.live) {
        let there: Vec<u32> = found.snapshot.shards.keys().copied().collect();
        if shards != there {
            differences.push(SettingDifference {
                about: "shards in the file".into(),
                expected: format!("{shards:?}"),
                found: format!("{there:?}"),
            });
        }
    }
    differences
}

/// Compares the config, the list of payload indexes and the shard keys of `found` with what is `wanted`.
pub fn config_differences(wanted: &ExpectedConfig, found: &Source) -> Vec<SettingDifference> {
    let sides = [
        ("wanted".to_owned(), &wanted.config, &wanted.payload),
        ("found".to_owned(), &found.config, &found.payload),
    ];
    let mut differences: Vec<SettingDifference> = compare(&sides)
        .into_iter()
        .filter(|finding| !wanted.ignored.contains(&finding.about))
        .filter_map(|finding| {
            let said = |side: &str| {
                let value = finding.values.iter().find(|value| value.source == side);
                value.map_or_else(|| "nothing".to_owned(), |value| value.value.clone())
            };
            let (expected, found) = (said("wanted"), said("found"));
            // A setting that neither this version nor the other side knows is the same on both.
            (expected != found).then_some(SettingDifference {
                about: finding.about,
                expected,
                found,
            })
        })
        .collect();
    if wanted.keys != found.shard_keys {
        let show = |keys: &ShardKeys| serde_json::to_string(keys).unwrap_or_default();
        differences.push(SettingDifference {
            about: "shard keys".into(),
            expected: show(&wanted.keys),
            found: show(&found.shard_keys),
        });
    }
    differences
}

/// Segments that lack a payload index.
fn lacking(wanted: &ExpectedConfig, found: &Source) -> Vec<SettingDifference> {
    let mut differences = Vec::new();
    for (number, shard) in &found.snapshot.shards {
        for (uuid, segment) in &shard.segments {
            for lacking in lacking_indexes(segment, &wanted.payload) {
                let Lacking { field, index, has } = lacking;
                differences.push(SettingDifference {
                    about: format!(
                        "payload index of '{field}' in segment {uuid} of shard {number}"
                    ),
                    expected: show_index(index),
                    found: has.map_or_else(|| "nothing".into(), |has| show_index(&has)),
                });
            }
        }
    }
    differences
}
