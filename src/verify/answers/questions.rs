//! Which questions are asked.
//!
//! Invariants: they are drawn from the sources' points by the hashes of their ids, so that the same
//! sources are always asked the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::FilteredBy;
use crate::base::error::Result;
use crate::engine::{Columns, Filter};
use crate::format::schema::{Modifier, index_type};
use crate::point::{PointId, Record, Vector};
use crate::source::Source;
use crate::stream::sampled;
use crate::stream::{PointStream, UnionOptions};

/// One question.
#[derive(Debug, Clone)]
pub struct Question {
    /// The point that it was drawn from.
    pub of: PointId,
    /// The vector's name.
    pub name: String,
    /// The vector.
    pub vector: Vector,
    /// Among which points it is asked.
    pub filter: Option<Filter>,
}

/// Questions of one kind.
pub type Kind = (Option<FilteredBy>, Vec<Question>);

/// Questions with a filter that no index helps: each looks at every payload.
const UNINDEXED_MAX: usize = 10;
/// Payload indexes that say of a value whether it is there.
const MATCHING: [&str; 4] = ["keyword", "integer", "bool", "uuid"];

/// Draws about `wanted` points of the sources' `point_streams`, and makes questions of them, kind by kind; and
/// says what cannot be asked.
pub fn draw(
    master: &Source,
    point_streams: &[PointStream<'_>],
    settings: &UnionOptions,
    wanted: usize,
) -> Result<(Vec<Kind>, Vec<String>)> {
    let mut points = sampled(
        point_streams,
        settings.filter.as_ref(),
        Columns::ALL,
        wanted,
    )?;
    points.truncate(wanted.max(1));
    let mut skipped = Vec::new();
    let mut by_name: BTreeMap<&str, Vec<Question>> = BTreeMap::new();
    for record in &points {
        for (name, vector) in &record.vectors {
            by_name.entry(name).or_default().push(Question {
                of: record.id,
                name: name.clone(),
                vector: vector.clone(),
                filter: None,
            });
        }
    }
    let idf = |name: &str| {
        let params = master.config.sparse_vectors().get(name);
        params.is_some_and(|params| params.modifier == Some(Modifier::Idf))
    };
    let mut kinds: Vec<Kind> = Vec::new();
    let mut filtered = false;
    for (name, questions) in by_name {
        if idf(name) {
            skipped.push(format!(
                "the vector '{name}' is scored by how rare words are in the whole collection, which \
                 is not the same in a source"
            ));
            continue;
        }
        // One vector with filters is enough to try the payload indexes.
        if !filtered {
            filtered = true;
            for by in fields(master, &points, settings) {
                let mut some = with_filter(&by.field, &questions, &points);
                if !by.indexed {
                    some.truncate(UNINDEXED_MAX);
                }
                if !some.is_empty() {
                    kinds.push((Some(by), some));
                }
            }
        }
        kinds.push((None, questions));
    }
    if kinds.is_empty() {
        skipped.push("no point that was drawn has a vector to search with".into());
    }
    Ok((kinds, skipped))
}

/// A field with an index and one without, by which many of the points can be filtered.
fn fields(master: &Source, points: &[Record], settings: &UnionOptions) -> Vec<FilteredBy> {
    let mut counts: BTreeMap<&String, (usize, BTreeSet<String>)> = BTreeMap::new();
    for record in points {
        for (key, value) in &record.payload {
            let plain = !key.contains(['.', '[', '"']);
            let matches = match value {
                Value::String(_) | Value::Bool(_) => true,
                Value::Number(number) => number.is_i64(),
                _ => false,
            };
            if plain && matches {
                let (count, values) = counts.entry(key).or_default();
                *count += 1;
                values.insert(value.to_string());
            }
        }
    }
    // Fields that the merge changed are not in the sources as they are in the master.
    let stamp = settings.stamp.iter().map(|stamp| &stamp.field);
    let changed: BTreeSet<String> = stamp
        .chain(&settings.drop_payload)
        .filter_map(|field| field.keys()?.into_iter().next())
        .collect();
    counts.retain(|key, _| !changed.contains(*key));
    let index = |key: &str| master.payload.fields().get(key).and_then(index_type);
    let best = |indexed: bool| {
        let fits = |key: &str| match index(key) {
            Some(kind) => indexed && MATCHING.contains(&kind),
            None => !indexed,
        };
        let of_these = counts.iter().filter(|(key, _)| fits(key));
        // Many points that have it, and many of one value: a filter that leaves one point asks
        // nothing of a graph.
        let (field, _) = of_these.max_by_key(|(_, (count, values))| {
            let shared = values.len() > 1 && values.len() * 2 <= *count;
            (shared, *count, Reverse(values.len()))
        })?;
        Some(FilteredBy {
            field: (*field).clone(),
            indexed,
        })
    };
    [best(true), best(false)].into_iter().flatten().collect()
}

/// Each question among the points that have the same value there as its own.
fn with_filter(field: &str, questions: &[Question], points: &[Record]) -> Vec<Question> {
    let values: BTreeMap<PointId, &Value> = points
        .iter()
        .filter_map(|record| Some((record.id, record.payload.get(field)?)))
        .collect();
    questions
        .iter()
        .filter_map(|question| {
            let value = values.get(&question.of)?;
            let filter = json!({"must": [{"key": field, "match": {"value": value}}]});
            Some(Question {
                filter: Some(Filter::parse(&filter.to_string()).ok()?),
                ..question.clone()
            })
        })
        .collect()
}
