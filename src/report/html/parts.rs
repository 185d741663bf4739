//! The parts of a page, each out of the JSON of a report.
//!
//! Keeps true: a part for which a report has nothing is not there; a number is shown as it stands in
//! the report, or rounded.

use humansize::{BINARY, format_size};
use maud::{Markup, PreEscaped, html};
use serde_json::Value;

use super::charts::{Bar, bars, boxes, colour, scatter};
use super::text;
use crate::base::error::Result;
use crate::report::verify::{DOUBLED, WRONG};

pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn number(value: &Value, pointer: &str) -> Option<f64> {
    value.pointer(pointer).and_then(Value::as_f64)
}

fn count(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "the length of a bar")]
fn length(count: u64) -> f64 {
    count as f64
}

/// A table with a head; in a box that can be scrolled by keyboard.
pub fn table(label: &str, head: &[&str], rows: &[Vec<String>]) -> Markup {
    let is_number = |cell: &str| cell.starts_with(|first: char| first.is_ascii_digit());
    let column = |at: usize| {
        let cell = rows.first().and_then(|row| row.get(at));
        cell.is_some_and(|cell| is_number(cell))
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label) {
            table {
                thead {
                    tr {
                        @for (at, name) in head.iter().enumerate() {
                            th.n[column(at)] scope="col" { (name) }
                        }
                    }
                }
                tbody {
                    @for row in rows {
                        tr { @for cell in row { td.n[is_number(cell)] { (cell) } } }
                    }
                }
            }
        }
    }
}

/// What was looked at, and how.
pub fn compared(report: &Value) -> Markup {
    let how = match text(report, "/points/how") {
        "bytes" => format!(
            "By bytes: its {} segments ({}) are the sources', no id is in two of them, and each point \
             is in the shard where a server looks for it.",
            count(report, "/points/segments"),
            format_size(count(report, "/points/bytes"), BINARY)
        ),
        _ => format!(
            "Point by point: {} compared bit by bit ({} of vectors and payloads); {} expected, {} \
             found.",
            count(report, "/points/compared"),
            format_size(count(report, "/points/compared_bytes"), BINARY),
            count(report, "/points/expected"),
            count(report, "/points/found")
        ),
    };
    let sample = text(report, "/sample");
    let mut kinds: Vec<(&str, u64)> = WRONG
        .iter()
        .map(|kind| (*kind, count(report, &format!("/points/{kind}"))))
        .collect();
    kinds.push((DOUBLED, count(report, "/doubled")));
    let wrong: Vec<Vec<String>> = kinds
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| vec![(*kind).to_owned(), count.to_string()])
        .collect();
    html! {
        p {
            strong { (count(report, "/looked_at")) " points" } " were looked at"
            @if !sample.is_empty() { ", A SAMPLE OF " (sample) }
            ". " (how)
        }
        @if !wrong.is_empty() { (table("What is wrong", &["wrong", "points"], &wrong)) }
    }
}

/// The first differences or changes.
pub fn differences(report: &Value) -> Markup {
    let first = list(report, "/first");
    let rows: Vec<Vec<String>> = first
        .iter()
        .map(|one| {
            let what = one["difference"].as_str().or(one["change"].as_str());
            let details: Vec<String> = one
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(key, _)| !["id", "difference", "change"].contains(&key.as_str()))
                .map(|(key, value)| match value {
                    Value::String(word) => format!("{key}: {word}"),
                    other => format!("{key}: {other}"),
                })
                .collect();
            let id = match &one["id"] {
                Value::String(uuid) => uuid.clone(),
                other => other.to_string(),
            };
            vec![
                format!("point {id}"),
                what.unwrap_or("").to_owned(),
                details.join(", "),
            ]
        })
        .collect();
    let ledger = text(report, "/ledger");
    html! {
        @if !rows.is_empty() {
            h2 { "Points that differ" }
            p {
                "The first " (rows.len())
                @if !ledger.is_empty() { "; all of them are in " code { (ledger) } }
                "."
            }
            (table("Points that differ", &["point", "what", "where"], &rows))
        }
    }
}

/// Settings that differ.
pub fn settings(report: &Value) -> Markup {
    let rows: Vec<Vec<String>> = list(report, "/settings")
        .iter()
        .map(|one| {
            ["about", "expected", "found"].map(|key| one[key].as_str().unwrap_or("").to_owned())
        })
        .map(Vec::from)
        .collect();
    html! {
        @if !rows.is_empty() {
            h2 { "Settings that differ" }
            (table("Settings that differ", &["setting", "should be", "is"], &rows))
        }
    }
}

/// The sources, and their share of the master.
pub fn sources(report: &Value) -> Result<Markup> {
    let sources = list(report, "/sources");
    let of = match list(report, "/points/expected_of") {
        [] => list(report, "/points/points_of"),
        of => of,
    };
    let share = |at: usize, source: &Value| {
        of.get(at)
            .or(source.get("won"))
            .and_then(Value::as_u64)
            .unwrap_or(0)
    };
    let mut rows = Vec::new();
    let mut chart = Vec::new();
    for (at, source) in sources.iter().enumerate() {
        let points = share(at, source);
        let name = text(source, "/name").to_owned();
        let checksum = match &source["checksum"] {
            Value::String(words) => words.clone(),
            other => match text(other, "/sha256") {
                "" => text(other, "/state").to_uppercase(),
                sha256 => match text(other, "/hash") {
                    "" | "sha256" => format!("SHA-256 {sha256}"),
                    hash => format!("SHA-256 {sha256}, by {}", hash.to_uppercase()),
                },
            },
        };
        rows.push(vec![
            name.clone(),
            points.to_string(),
            format_size(count(source, "/file_bytes"), BINARY),
            checksum,
        ]);
        chart.push(Bar {
            label: name,
            value: length(points),
            words: points.to_string(),
            series: at,
        });
    }
    let head = ["source", "points in the master", "file", "checksum"];
    Ok(html! {
        h2 { "Sources and their share" }
        (PreEscaped(bars("Points of each source in the master", &chart)?))
        (table("Sources", &head, &rows))
    })
}

/// The master's shards and segments.
pub fn shards(report: &Value) -> Result<Markup> {
    let mut rows = Vec::new();
    let mut chart = Vec::new();
    for shard in list(report, "/shards") {
        let name = match &shard["key"] {
            Value::Null => shard["shard"].to_string(),
            key => format!("{} {key}", shard["shard"]),
        };
        let segments: Vec<u64> = list(shard, "/segments")
            .iter()
            .filter_map(Value::as_u64)
            .collect();
        let points = shard["points"]
            .as_u64()
            .unwrap_or_else(|| segments.iter().sum());
        let each: Vec<String> = segments.iter().map(ToString::to_string).collect();
        chart.push(Bar {
            label: format!("shard {name}"),
            value: length(points),
            words: points.to_string(),
            series: 0,
        });
        rows.push(vec![name, points.to_string(), each.join(", ")]);
    }
    if rows.is_empty() {
        return Ok(html! {});
    }
    let head = ["shard", "points", "points of each segment"];
    Ok(html! {
        h2 { "Points per shard and segment" }
        (PreEscaped(bars("Points per shard", &chart)?))
        (table("Shards", &head, &rows))
    })
}

/// How the master answers beside the sources.
pub fn answers(report: &Value) -> Result<Markup> {
    let kinds = list(report, "/answers/kinds");
    let (mut rows, mut recalls, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for kind in kinds {
        let name = match (text(kind, "/vector"), text(kind, "/filtered_by/field")) {
            ("", "") => "vectors".to_owned(),
            (name, "") => name.to_owned(),
            (name, field) => format!("{name} by {field}").trim_start().to_owned(),
        };
        let recall = number(kind, "/recall_mean").unwrap_or(0.0);
        recalls.push(Bar {
            label: name.clone(),
            value: recall,
            words: format!("{recall:.3}"),
            series: 2,
        });
        let mut row = vec![
            name.clone(),
            count(kind, "/queries").to_string(),
            count(kind, "/differing").to_string(),
            format!("{recall:.3}"),
            format!("{:.3}", number(kind, "/recall_min").unwrap_or(0.0)),
        ];
        for (series, how) in ["exact", "indexed"].iter().enumerate() {
            let mut all = Vec::new();
            for part in ["p50", "p95", "p99"] {
                let took = number(kind, &format!("/{how}/{part}_ms")).unwrap_or(0.0);
                all.push(format!("{took:.2}"));
                times.push(Bar {
                    label: format!("{name} {how} {part}"),
                    value: took,
                    words: format!("{took:.2} ms"),
                    series,
                });
            }
            row.push(all.join(" / "));
        }
        rows.push(row);
    }
    let skipped: Vec<&str> = list(report, "/answers/skipped")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if rows.is_empty() && skipped.is_empty() {
        return Ok(html! {});
    }
    let head = [
        "questions about",
        "asked",
        "answers that differ",
        "recall",
        "least",
        "exact, ms",
        "by index, ms",
    ];
    Ok(html! {
        h2 { "Answers" }
        @if !rows.is_empty() {
            p {
                "The " (count(report, "/answers/top")) " nearest points to vectors of the sources: the \
                 master's exact answer beside the sources', and what its indexes find of it. Times: half, \
                 95 % and 99 % of the questions took no longer."
            }
            h3 { "Recall by index" }
            (PreEscaped(bars("Recall by index", &recalls)?))
            h3 { "Latency: exact and by index" }
            (PreEscaped(bars("Latency", &times)?))
            (table("Answers", &head, &rows))
        }
        @if !skipped.is_empty() { ul { @for one in &skipped { li { "Not asked: " (one) } } } }
    })
}

/// Clusters, lengths of vectors, and where the points lie.
pub fn structure(report: &Value) -> Result<Markup> {
    let Some(structure) = report.pointer("/answers/structure") else {
        return Ok(html! {});
    };
    let sources = list(structure, "/sources");
    let sets: Vec<&Value> = sources.iter().chain(structure.get("master")).collect();
    let mut rows = Vec::new();
    let (mut norms, mut lengths) = (Vec::new(), Vec::new());
    for set in &sets {
        let name = text(set, "/name").to_owned();
        let silhouette = number(set, "/silhouette");
        rows.push(vec![
            name.clone(),
            count(set, "/points").to_string(),
            count(set, "/clusters").to_string(),
            format!("{:.0} %", number(set, "/noise").unwrap_or(0.0) * 100.0),
            silhouette.map_or_else(|| "–".into(), |value| format!("{value:.3}")),
        ]);
        let at = |place: usize| set["norms"][place].as_f64().unwrap_or(0.0);
        let quartiles = [0, 1, 2, 3, 4].map(at);
        let words = quartiles.map(|length| format!("{length:.4}"));
        lengths.push(std::iter::once(name.clone()).chain(words).collect());
        norms.push((name, quartiles));
    }
    let points: Vec<(f64, f64, Option<usize>)> = list(structure, "/projection")
        .iter()
        .filter_map(|point| {
            let home = point[2]
                .as_u64()
                .and_then(|home| usize::try_from(home).ok());
            Some((point[0].as_f64()?, point[1].as_f64()?, home))
        })
        .collect();
    let names: Vec<&str> = sources.iter().map(|set| text(set, "/name")).collect();
    let told = format!(
        "{} points of the master in the plane in which they differ most, of {}",
        points.len(),
        names.join(", ")
    );
    let head = [
        "points of",
        "looked at",
        "clusters",
        "in none",
        "silhouette",
    ];
    Ok(html! {
        h2 { "Structure" }
        (table("Structure", &head, &rows))
        h2 { "Lengths of vectors" }
        (PreEscaped(boxes("Lengths of vectors", &norms)?))
        (table("Lengths of vectors", &["of", "least", "a quarter", "half", "three quarters", "greatest"], &lengths))
        @if !points.is_empty() {
            h2 { "The master in a plane" }
            (PreEscaped(scatter("The master in a plane", &told, &points)?))
            p {
                @for (at, name) in names.iter().enumerate() {
                    span.key style={ "background:" (colour(at)) } {} (name) " "
                }
            }
        }
    })
}

/// Conflicts of a merge.
pub fn conflicts(report: &Value) -> Markup {
    let rows: Vec<Vec<String>> = list(report, "/conflicts/first")
        .iter()
        .map(|one| {
            let sources: Vec<&str> = list(one, "/sources")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            vec![
                format!("point {}", one["id"].to_string().trim_matches('"')),
                sources.join(", "),
                text(one, "/winner").to_owned(),
            ]
        })
        .collect();
    html! {
        h2 { "Conflicts" }
        p { (count(report, "/conflicts/count")) " ids are in more than one source; " (text(report, "/conflicts/policy")) " wins." }
        @if !rows.is_empty() { (table("Conflicts", &["point", "in", "winner"], &rows)) }
    }
}

/// Where the sources' configs differ, and what was chosen.
pub fn findings(report: &Value) -> Markup {
    let rows: Vec<Vec<String>> = list(report, "/findings")
        .iter()
        .map(|one| {
            let values: Vec<String> = list(one, "/values")
                .iter()
                .map(|value| format!("{} ({})", text(value, "/value"), text(value, "/source")))
                .collect();
            vec![
                text(one, "/about").to_owned(),
                values.join(", "),
                text(one, "/meaning").to_owned(),
            ]
        })
        .collect();
    html! {
        @if !rows.is_empty() {
            h2 { "Configs that differ" }
            (table("Configs that differ", &["setting", "values", "meaning"], &rows))
        }
    }
}

/// How long what took.
pub fn stages(report: &Value) -> Result<Markup> {
    let chart: Vec<Bar> = list(report, "/stages")
        .iter()
        .map(|stage| {
            let seconds = number(stage, "/seconds").unwrap_or(0.0);
            Bar {
                label: text(stage, "/stage").to_owned(),
                value: seconds,
                words: format!("{seconds:.2} s"),
                series: 0,
            }
        })
        .collect();
    let rows: Vec<Vec<String>> = chart
        .iter()
        .map(|bar| vec![bar.label.clone(), bar.words.clone()])
        .collect();
    Ok(html! {
        h2 { "Time" }
        (PreEscaped(bars("Time of each stage", &chart)?))
        (table("Time", &["stage", "took"], &rows))
    })
}

/// What changed from one snapshot to another.
pub fn changes(report: &Value) -> Result<Markup> {
    let kinds = ["same", "added", "removed", "changed"];
    let chart: Vec<Bar> = kinds
        .iter()
        .enumerate()
        .map(|(series, kind)| {
            let points = count(report, &format!("/points/{kind}"));
            Bar {
                label: (*kind).to_owned(),
                value: length(points),
                words: points.to_string(),
                series,
            }
        })
        .collect();
    let mut rows: Vec<Vec<String>> = chart
        .iter()
        .map(|bar| vec![bar.label.clone(), bar.words.clone()])
        .collect();
    for (what, pointer) in [
        ("vector", "/points/changed_vectors"),
        ("payload key", "/points/changed_payload"),
    ] {
        let counts = report.pointer(pointer).and_then(Value::as_object);
        for (name, count) in counts.into_iter().flatten() {
            rows.push(vec![format!("changed {what} '{name}'"), count.to_string()]);
        }
    }
    Ok(html! {
        (PreEscaped(bars("Points", &chart)?))
        (table("Points", &["points", "how many"], &rows))
    })
}
