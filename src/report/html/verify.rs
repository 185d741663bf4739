//! A verification on a page.

use humansize::{BINARY, format_size};
use maud::{Markup, PreEscaped, html};

use super::charts::{Bar, bars, boxes, colour, scatter};
use super::parts::{
    SourceRow, details, differences, open_ends, provenance, settings, sources, table, verdict,
};
use crate::base::error::Result;
use crate::report::verify::{DOUBLED, WRONG};
use crate::source::{Checksum, SourceLabel};
use crate::verify::{Answers, Points, ShardShape, Structure, Verdict, VerifyReport};

/// The title and the section.
pub fn section(report: &VerifyReport) -> Result<(String, Markup)> {
    let file = &report.master.file;
    let (class, words) = match report.verdict {
        Verdict::Proven => ("proven", "PROVEN"),
        Verdict::Differs => ("differs", "DIFFERS"),
        Verdict::NothingLookedAt => ("nothing", "NOT PROVEN: no point was in the sample"),
    };
    let verified = &report.verified;
    let (of, digests) = match &verified.points {
        Points::Bytes(shown) => (&shown.points_of, None),
        Points::Walk(walked) => {
            let digests = (walked.digest.to_string(), walked.stream_digest.clone());
            (&walked.expected_of, Some(digests))
        }
    };
    let row = |(at, source)| source_row(source, of.get(at).copied().unwrap_or(0));
    let first = report.first.iter();
    let first = first.map(|one| (one.id.to_string(), details(one)));
    let (digest, in_order) = digests.as_ref().map(|(a, b)| (a, b)).unzip();
    let section = html! {
        (verdict(file, class, words))
        (compared(report))
        (differences(first, report.ledger.as_deref()))
        (open_ends(&[
            ("Missing", &report.missing),
            ("Written to meanwhile", &verified.changed),
            ("Not looked at", &verified.unknown),
        ]))
        (settings(&verified.settings))
        (sources(report.sources.iter().enumerate().map(row))?)
        (shards(&verified.shards)?)
        @if let Some(found) = &report.answers {
            (answers(found)?)
            @if let Some(found) = &found.structure { (structure(found)?) }
        }
        (provenance(&report.envelope, report.seconds, &[
            ("made with, by", Some(&report.made_with.told_by)),
            ("conflicts won by", Some(&report.made_with.on_conflict)),
            ("digest of the points", digest),
            ("digest in order", in_order),
        ]))
    };
    Ok((format!("{file}: {words}"), section))
}

fn source_row(source: &SourceLabel, points: u64) -> SourceRow<'_> {
    let checksum = match &source.checksum {
        Checksum::Verified { sha256, hash, .. } => match hash.name() {
            "SHA-256" => format!("SHA-256 {sha256}"),
            hash => format!("SHA-256 {sha256}, by {hash}"),
        },
        Checksum::Unchecked { .. } => "UNCHECKED".to_owned(),
        Checksum::Unverified => "UNVERIFIED".to_owned(),
        Checksum::Live => "LIVE".to_owned(),
    };
    SourceRow {
        name: &source.name,
        points,
        file_bytes: source.file_bytes,
        checksum,
    }
}

/// Renders the number of points compared, and the method.
fn compared(report: &VerifyReport) -> Markup {
    let verified = &report.verified;
    let (how, wrong) = match &verified.points {
        Points::Bytes(shown) => (
            format!(
                "By bytes: its {} segments ({}) are the sources', no id is in two of them, and each \
                 point is in the shard where a server looks for it.",
                shown.segments,
                format_size(shown.bytes, BINARY)
            ),
            [0; 6],
        ),
        Points::Walk(walked) => (
            format!(
                "Point by point: {} compared bit by bit ({} of vectors and payloads); {} expected, {} \
                 found.",
                walked.compared,
                format_size(walked.compared_bytes, BINARY),
                walked.expected,
                walked.found
            ),
            walked.wrong(),
        ),
    };
    let kinds = WRONG.into_iter().zip(wrong);
    let wrong = kinds
        .chain([(DOUBLED, verified.doubled)])
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| [kind.to_owned(), count.to_string()]);
    html! {
        p {
            strong { (report.looked_at) " points" } " were looked at"
            @if let Some(sample) = report.sample { ", A SAMPLE OF " (sample) }
            ". " (how)
        }
        (table("What is wrong", &["wrong", "points"], wrong))
    }
}

/// The master's shards and segments.
fn shards(shards: &[ShardShape]) -> Result<Markup> {
    let (mut rows, mut chart) = (Vec::new(), Vec::new());
    for shard in shards {
        let name = match &shard.key {
            None => shard.shard.to_string(),
            Some(key) => format!("{} {key}", shard.shard),
        };
        let points = shard.points;
        let each: Vec<String> = shard.segments.iter().map(ToString::to_string).collect();
        chart.push(Bar::of_count(format!("shard {name}"), points, 0));
        rows.push([name, points.to_string(), each.join(", ")]);
    }
    if rows.is_empty() {
        return Ok(html! {});
    }
    let head = ["shard", "points", "points of each segment"];
    Ok(html! {
        h2 { "Points per shard and segment" }
        (PreEscaped(bars("Points per shard", &chart)?))
        (table("Shards", &head, rows))
    })
}

/// The master's answers beside the sources'.
fn answers(answers: &Answers) -> Result<Markup> {
    let (mut rows, mut recalls, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for kind in &answers.kinds {
        let name = match (kind.vector.as_str(), &kind.filtered_by) {
            ("", None) => "vectors".to_owned(),
            (name, None) => name.to_owned(),
            (name, Some(by)) => format!("{name} by {}", by.field).trim_start().to_owned(),
        };
        recalls.push(Bar {
            label: name.clone(),
            value: kind.recall_mean,
            words: format!("{:.3}", kind.recall_mean),
            series: 2,
        });
        let mut took = |series, how: &str, latency: &crate::verify::Latency| {
            let parts = [
                ("p50", latency.p50_ms),
                ("p95", latency.p95_ms),
                ("p99", latency.p99_ms),
            ];
            times.extend(parts.map(|(part, took)| Bar {
                label: format!("{name} {how} {part}"),
                value: took,
                words: format!("{took:.2} ms"),
                series,
            }));
            parts.map(|(_, took)| format!("{took:.2}")).join(" / ")
        };
        rows.push([
            name.clone(),
            kind.queries.to_string(),
            kind.differing.to_string(),
            format!("{:.3}", kind.recall_mean),
            format!("{:.3}", kind.recall_min),
            took(0, "exact", &kind.exact),
            took(1, "indexed", &kind.indexed),
        ]);
    }
    if rows.is_empty() && answers.skipped.is_empty() {
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
                "The " (answers.top) " nearest points to vectors of the sources: the master's exact \
                 answer beside the sources', and what its indexes find of it. Times: p50 / p95 / p99."
            }
            h3 { "Recall by index" }
            (PreEscaped(bars("Recall by index", &recalls)?))
            h3 { "Latency: exact and by index" }
            (PreEscaped(bars("Latency", &times)?))
            (table("Answers", &head, rows))
        }
        @if !answers.skipped.is_empty() {
            ul { @for one in &answers.skipped { li { "Not asked: " (one) } } }
        }
    })
}

/// Clusters, lengths of vectors, and where the points lie.
fn structure(structure: &Structure) -> Result<Markup> {
    let (mut rows, mut norms, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for set in structure.sources.iter().chain([&structure.master]) {
        rows.push([
            set.name.clone(),
            set.points.to_string(),
            set.clusters.to_string(),
            format!("{:.0} %", set.noise * 100.0),
            set.silhouette
                .map_or_else(|| "–".into(), |value| format!("{value:.3}")),
        ]);
        let [least, quarter, half, three, greatest] = set.norms.map(|norm| format!("{norm:.4}"));
        lengths.push([set.name.clone(), least, quarter, half, three, greatest]);
        norms.push((set.name.clone(), set.norms));
    }
    let points = &structure.projection;
    let names: Vec<&str> = structure
        .sources
        .iter()
        .map(|set| set.name.as_str())
        .collect();
    let about = format!(
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
    let quartiles = [
        "of",
        "least",
        "a quarter",
        "half",
        "three quarters",
        "greatest",
    ];
    Ok(html! {
        h2 { "Structure" }
        (table("Structure", &head, rows))
        h2 { "Lengths of vectors" }
        (PreEscaped(boxes("Lengths of vectors", &norms)?))
        (table("Lengths of vectors", &quartiles, lengths))
        @if !points.is_empty() {
            h2 { "The master in a plane" }
            (PreEscaped(scatter("The master in a plane", &about, points)?))
            p {
                @for (at, name) in names.iter().enumerate() {
                    span.key style={ "background:" (colour(at)) } {} (name) " "
                }
            }
        }
    })
}
