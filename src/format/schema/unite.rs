//! The master's config, united from the sources' under a user's overrides.
//!
//! Invariants: the master holds every vector and every payload index that any source holds, so no
//! part of a point has nowhere to go; the first source's settings stand where sources differ, a
//! vector that it lacks keeps the settings of the first source that has it, and overrides win over
//! both; each such choice is a [`Decision`]; keys that this version does not know are kept.
//!
//! The master carries no `uuid`. It is a collection's identity on one server; a server that restores
//! a snapshot into a new collection makes a random one and warns about one it finds, and one that
//! restores into an existing collection keeps that collection's. Two collections with a source's
//! uuid would be mistaken for each other; a missing one is read as none.

mod draft;
mod overlay;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Source;
use super::compare::{Finding, Severity, compare};
use super::config::CollectionConfig;
use super::enums::ShardingMethod;
use super::overrides::Overrides;
use super::payload::{PayloadSchema, show_index};
use crate::base::error::{Error, Kind, Result};
use draft::Draft;

/// A choice that was made for the master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// Setting that the choice was made for: "hnsw_config.m", "vector 'image'".
    pub about: String,
    /// Value in the master.
    pub chosen: String,
    /// Reason for the choice.
    pub because: String,
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({})", self.about, self.chosen, self.because)
    }
}

/// Config and payload indexes of the master, and the choices that led to them.
#[derive(Debug, Clone, PartialEq)]
pub struct United {
    /// The master's config, without a uuid.
    pub config: CollectionConfig,
    /// The master's payload indexes.
    pub payload: PayloadSchema,
    /// Every choice between sources, and every override that changed something.
    pub decisions: Vec<Decision>,
    /// Findings of [`compare`]; none of them blocks.
    pub findings: Vec<Finding>,
}

impl United {
    /// Sets values in an object of the master's config.
    pub fn set(&mut self, object: &str, values: &[(&str, Value)]) -> Result<()> {
        let mut raw = self.config.raw().clone();
        if let Some(map) = raw.get_mut(object).and_then(Value::as_object_mut) {
            for (key, value) in values {
                map.insert((*key).into(), value.clone());
            }
        }
        let bytes = Value::Object(raw).to_string();
        self.config = CollectionConfig::parse("the master", bytes.as_bytes())?;
        Ok(())
    }
}

/// Unites the sources' configs, in their order, under `overrides`.
///
/// Fails with all differences at once if any stops the merge ([`Kind::Damaged`] if a source holds
/// what this version does not know, else [`Kind::Usage`]), and with all that does not fit if the
/// user's config contradicts the sources.
pub fn unite(sources: &[Source<'_>], overrides: &Overrides) -> Result<United> {
    overrides.check()?;
    let Some((_, first, _)) = sources.first() else {
        return Err(Error::usage(
            "uniting the sources' configs",
            "there are no sources",
        ));
    };
    let findings = compare(sources);
    refuse_what_blocks(sources, &findings, overrides)?;

    let mut draft = Draft::new(first);
    draft.choose(&findings, sources);
    draft.take_vectors(sources);
    if let Some(user) = &overrides.config {
        draft.fit(user, sources)?;
        draft.apply_config(user);
    }
    draft.apply_flags(overrides);
    draft.pin_later_vectors(overrides);

    let mut payload = PayloadSchema::default();
    for (i, (_, _, schema)) in sources.iter().enumerate() {
        if i == 0 {
            payload = (*schema).clone();
        }
        for (field, index) in schema.fields() {
            payload.add(field, index);
        }
    }
    for given in &overrides.payload_index {
        if payload.set(given.field(), given.index()) {
            let about = format!("payload index of '{}'", given.field());
            draft.decide(&about, show_index(given.index()), "--payload-index");
        }
    }
    let (config, decisions) = draft.finish()?;
    if *config.sharding_method() == ShardingMethod::Custom {
        let auto: Vec<&str> = sources
            .iter()
            .filter(|(_, c, _)| *c.sharding_method() != ShardingMethod::Custom)
            .map(|(name, _, _)| name.as_str())
            .collect();
        if !auto.is_empty() {
            return Err(Error::usage(
                "giving the master custom sharding",
                format!("points of {} have no shard key", auto.join(", ")),
            )
            .next("leave the master's sharding to be automatic"));
        }
    }
    Ok(United {
        config,
        payload,
        decisions,
        findings,
    })
}

fn refuse_what_blocks(
    sources: &[Source<'_>],
    findings: &[Finding],
    overrides: &Overrides,
) -> Result<()> {
    let blocks: Vec<String> = findings
        .iter()
        .filter(|f| f.severity == Severity::Blocks)
        // A quantization that is replaced need not be known.
        .filter(|f| overrides.quantization.is_none() || !f.about.ends_with("quantization_config"))
        .map(|f| format!("\n  {f}"))
        .collect();
    if blocks.is_empty() {
        return Ok(());
    }
    let unknown = sources
        .iter()
        .any(|(_, c, p)| !c.unknown_values().is_empty() || !p.unknown_values().is_empty());
    let (kind, next) = if unknown {
        let next = "update snapmerge, or fetch the snapshot again if its Qdrant is not newer; \
                    nothing was written";
        (Kind::Damaged, next)
    } else {
        let next = "merge only sources that fit each other; nothing was written";
        (Kind::Usage, next)
    };
    let names: Vec<&str> = sources.iter().map(|(name, _, _)| name.as_str()).collect();
    Err(Error::new(
        kind,
        format!("uniting the configs of {}", names.join(", ")),
        format!("{} thing(s) in the way:{}", blocks.len(), blocks.concat()),
    )
    .next(next))
}

#[cfg(test)]
mod tests;
