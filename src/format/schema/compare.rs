//! Comparison of sources' configs: differences that block a merge, and those that do not.
//!
//! Invariants: all differences are found at once, each with the value of every source and what it
//! means for the merge; settings that only look different (a default stated or left out, the same
//! placement in its old and its new spelling) are no finding; the collections' uuids are none.

mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Source;
use super::config::CollectionConfig;
use super::payload::{index_type, same_index, show_index};
use super::vectors::{SparseParams, VectorParams, vector_label};
pub(super) use settings::{canonical, dense_tuning, show, sparse_tuning};
use settings::{differing_settings, weigh};

/// Severity of a finding.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The sources cannot be merged as they are.
    Blocks,
    /// The sources can be merged, and the master takes one side's value.
    Differs,
    /// Worth knowing; it changes nothing about points or searches.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocks => "blocks",
            Self::Differs => "differs",
            Self::Note => "note",
        })
    }
}

/// Value of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceValue {
    /// The source's name.
    pub source: String,
    /// The value in readable form.
    pub value: String,
}

/// One thing about which sources disagree, or that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Severity of the finding.
    pub severity: Severity,
    /// Subject of the finding: "vector 'image' size", "hnsw_config.m".
    pub about: String,
    /// Values of the sources that have one, in the order of the sources.
    pub values: Vec<SourceValue>,
    /// Meaning for the merge, and the ways out.
    pub meaning: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.severity, self.about)?;
        // Sources that say the same are named together.
        let mut said: Vec<(&str, Vec<&str>)> = Vec::new();
        for SourceValue { source, value } in &self.values {
            match said.iter_mut().find(|(known, _)| known == value) {
                Some((_, sources)) => sources.push(source),
                None => said.push((value, vec![source])),
            }
        }
        for (i, (value, sources)) in said.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{value} ({})", sources.join(", "))?;
        }
        write!(f, "\n  {}", self.meaning)
    }
}

/// Compares the sources in the order given; findings that block come first. One source alone has
/// findings too, where its config holds what this version does not know.
pub fn compare(sources: &[Source<'_>]) -> Vec<Finding> {
    let mut findings = unknown(sources);
    dense(sources, &mut findings);
    sparse(sources, &mut findings);
    kinds(sources, &mut findings);
    for setting in differing_settings(sources) {
        let (severity, meaning) = weigh(&setting.path);
        let values = sources
            .iter()
            .zip(&setting.values)
            .map(|((name, _, _), value)| said(name, show(value.as_ref())))
            .collect();
        findings.push(Finding {
            severity,
            about: setting.path,
            values,
            meaning: meaning.to_owned(),
        });
    }
    payload(sources, &mut findings);
    findings.sort_by_key(|finding| finding.severity);
    findings
}

fn said(source: &str, value: impl Into<String>) -> SourceValue {
    SourceValue {
        source: source.to_owned(),
        value: value.into(),
    }
}

fn unknown(sources: &[Source<'_>]) -> Vec<Finding> {
    let mut by_about: BTreeMap<String, Vec<SourceValue>> = BTreeMap::new();
    for (name, config, payload) in sources {
        for unknown in [config.unknown_values(), payload.unknown_values()].concat() {
            let values = by_about.entry(unknown.about).or_default();
            values.push(said(name, unknown.value));
        }
    }
    by_about
        .into_iter()
        .map(|(about, values)| {
            let way_out = if about.ends_with("quantization_config") {
                "build the master with another: --quantization none|scalar|product:x16|binary"
            } else {
                "use a newer snapmerge"
            };
            Finding {
                severity: Severity::Blocks,
                about,
                values,
                meaning: format!("not known to this version of snapmerge; {way_out}"),
            }
        })
        .collect()
}

/// Each vector's name with its params in every source that has it.
fn by_name<'a, T>(
    sources: &'a [Source<'a>],
    vectors: impl Fn(&'a CollectionConfig) -> &'a BTreeMap<String, T>,
) -> BTreeMap<&'a str, Vec<(&'a str, &'a T)>> {
    let mut out: BTreeMap<&str, Vec<(&str, &T)>> = BTreeMap::new();
    for (source, config, _) in sources {
        for (name, params) in vectors(config) {
            out.entry(name).or_default().push((source, params));
        }
    }
    out
}

/// A finding about what `owners` hold, if they do not all hold the same.
fn if_differs<T>(
    owners: &[(&str, &T)],
    about: String,
    severity: Severity,
    meaning: &str,
    value: impl Fn(&T) -> String,
    findings: &mut Vec<Finding>,
) {
    let values: Vec<SourceValue> = owners.iter().map(|(s, t)| said(s, value(t))).collect();
    let first = values.first().map(|v| v.value.clone());
    if values.iter().any(|v| Some(&v.value) != first.as_ref()) {
        findings.push(Finding {
            severity,
            about,
            values,
            meaning: meaning.to_owned(),
        });
    }
}

/// One fact of a vector: its name, its value as text, and what it means if sources differ in it.
type Fact<T> = (&'static str, fn(&T) -> String, &'static str);

fn dense(sources: &[Source<'_>], findings: &mut Vec<Finding>) {
    let facts: [Fact<VectorParams>; 4] = [
        (
            "size",
            |v| v.size.to_string(),
            "vectors of different sizes cannot share a name: embed one side again with the other's \
             model, or merge the sources apart",
        ),
        (
            "distance",
            |v| v.distance.to_string(),
            "scores of different distances do not compare (Cosine vectors are even stored \
             normalized): create one side again with the other's distance",
        ),
        (
            "datatype",
            |v| v.datatype().to_string(),
            "converting would change stored values: create one side again with the other's datatype",
        ),
        (
            "multivector",
            |v| {
                v.multivector
                    .as_ref()
                    .map_or("none".to_owned(), ToString::to_string)
            },
            "one vector a point and many vectors a point cannot share a name, nor can two ways of \
             comparing them",
        ),
    ];
    for (name, owners) in by_name(sources, CollectionConfig::vectors) {
        let label = vector_label(name);
        for (fact, value, meaning) in facts {
            let about = format!("{label} {fact}");
            if_differs(&owners, about, Severity::Blocks, meaning, value, findings);
        }
        tuning(&label, &owners, dense_tuning, findings);
        only_in_some(sources, &label, &owners, show_dense, findings);
    }
}

fn sparse(sources: &[Source<'_>], findings: &mut Vec<Finding>) {
    let facts: [Fact<SparseParams>; 2] = [
        (
            "modifier",
            |v| v.modifier().to_string(),
            "the same query would mean two things: give all sources the same modifier",
        ),
        (
            "index datatype",
            |v| v.datatype().to_string(),
            "the same query would score differently: give all sources the same index datatype",
        ),
    ];
    for (name, owners) in by_name(sources, CollectionConfig::sparse_vectors) {
        let label = vector_label(name);
        for (fact, value, meaning) in facts {
            let about = format!("{label} {fact}");
            if_differs(&owners, about, Severity::Blocks, meaning, value, findings);
        }
        tuning(&label, &owners, sparse_tuning, findings);
        only_in_some(sources, &label, &owners, show_sparse, findings);
    }
}

/// Names that are dense in one source and sparse in another.
fn kinds(sources: &[Source<'_>], findings: &mut Vec<Finding>) {
    let dense = by_name(sources, CollectionConfig::vectors);
    let sparse = by_name(sources, CollectionConfig::sparse_vectors);
    for name in dense.keys().filter(|name| sparse.contains_key(*name)) {
        let values = sources.iter().filter_map(|(source, config, _)| {
            let kind = if config.vectors().contains_key(*name) {
                "dense"
            } else if config.sparse_vectors().contains_key(*name) {
                "sparse"
            } else {
                return None;
            };
            Some(said(source, kind))
        });
        findings.push(Finding {
            severity: Severity::Blocks,
            about: format!("{} kind", vector_label(name)),
            values: values.collect(),
            meaning: "a dense and a sparse vector cannot share a name".to_owned(),
        });
    }
}

fn tuning<T>(
    label: &str,
    owners: &[(&str, &T)],
    flatten: impl Fn(&T) -> BTreeMap<String, Value>,
    findings: &mut Vec<Finding>,
) {
    let flat: Vec<(&str, BTreeMap<String, Value>)> =
        owners.iter().map(|(s, t)| (*s, flatten(t))).collect();
    let flat: Vec<(&str, &BTreeMap<String, Value>)> = flat.iter().map(|(s, f)| (*s, f)).collect();
    let keys: BTreeSet<&String> = flat.iter().flat_map(|(_, f)| f.keys()).collect();
    for key in keys {
        if_differs(
            &flat,
            format!("{label} {key}"),
            Severity::Differs,
            "tuning only: the master takes the first source's; --config states it otherwise",
            |f| show(f.get(key)),
            findings,
        );
    }
}

fn only_in_some<T>(
    sources: &[Source<'_>],
    label: &str,
    owners: &[(&str, &T)],
    show: impl Fn(&T) -> String,
    findings: &mut Vec<Finding>,
) {
    if owners.len() == sources.len() {
        return;
    }
    let mut meaning = "the master has it; points of the other sources go without it".to_owned();
    if label == vector_label("") {
        meaning.push_str("; a search that names no vector means this one");
    }
    let mut left = owners.iter().peekable();
    let values =
        sources.iter().map(
            |(source, _, _)| match left.next_if(|(owner, _)| *owner == source) {
                Some((_, params)) => said(source, show(params)),
                None => said(source, "none"),
            },
        );
    findings.push(Finding {
        severity: Severity::Differs,
        about: label.to_owned(),
        values: values.collect(),
        meaning,
    });
}

fn show_dense(v: &VectorParams) -> String {
    let multi = v
        .multivector
        .as_ref()
        .map_or(String::new(), |m| format!(" {m}"));
    format!("{} x {} {}{multi}", v.size, v.datatype(), v.distance)
}

fn show_sparse(v: &SparseParams) -> String {
    format!("sparse {} modifier {}", v.datatype(), v.modifier())
}

fn payload(sources: &[Source<'_>], findings: &mut Vec<Finding>) {
    let fields: BTreeSet<&String> = sources
        .iter()
        .flat_map(|(_, _, payload)| payload.fields().keys())
        .collect();
    for field in fields {
        let indexes: Vec<Option<&Value>> = sources
            .iter()
            .map(|(_, _, payload)| payload.fields().get(field))
            .collect();
        let mut owned = indexes.iter().flatten();
        let Some(first) = owned.next() else { continue };
        let others: Vec<&Value> = owned.copied().collect();
        let meaning = if others.iter().any(|i| index_type(i) != index_type(first)) {
            "a field has one index: the master takes the first source's that has one, and values of \
             another type are not found through it"
        } else if others.iter().any(|i| !same_index(i, first)) {
            "the master takes the first source's that has one"
        } else if indexes.contains(&None) {
            "the master has it, over the points of all sources"
        } else {
            continue;
        };
        let values = sources.iter().zip(&indexes).map(|((source, _, _), index)| {
            said(source, index.map_or("none".to_owned(), show_index))
        });
        findings.push(Finding {
            severity: Severity::Differs,
            about: format!("payload index of '{field}'"),
            values: values.collect(),
            meaning: meaning.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests;
