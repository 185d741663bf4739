//! A verification on a page.

use maud::{Markup, PreEscaped, html};

use super::charts::{Bar, bars, boxes, colour, scatter};
use super::parts::{
    Card, Column, Place, SourceRow, command, details, differences, open_ends, provenance, settings,
    sources, stages, table,
};
use super::words::{self, NONE, count, duration, prose, shell, size};
use crate::base::error::Result;
use crate::report::verify::{DOUBLED, WRONG};
use crate::source::{Checksum, SourceLabel};
use crate::verify::{Answers, Points, ShardShape, Structure, Verdict, VerifyReport};

/// The title and the section.
pub fn section(report: &VerifyReport, place: Place) -> Result<(String, Markup)> {
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
    let card = Card {
        kind: if place.is_step {
            "Step: verify"
        } else {
            "Verification"
        },
        name: file,
        class,
        verdict: words,
        facts: counts(report),
        next: next(report),
    };
    let section = html! {
        (card.show(place))
        (compared(report))
        (differences(first, report.ledger.as_deref()))
        (open_ends(&[
            ("Missing", &report.missing),
            ("Written to meanwhile", &verified.changed),
            ("Not looked at", &verified.unknown),
            ("Notes", &report.notes),
        ]))
        (settings(&verified.settings, ["should be", "is"]))
        (sources(report.sources.iter().enumerate().map(row))?)
        (shards(&verified.shards)?)
        @if let Some(found) = &report.answers {
            (answers(found)?)
            @if let Some(found) = &found.structure { (structure(found)?) }
        }
        (stages(&report.stages)?)
        (provenance(&report.envelope, report.seconds, &[
            ("made with, by", Some(&report.made_with.told_by)),
            ("conflicts won by", Some(&report.made_with.on_conflict)),
            ("digest of the points", digest),
            ("digest in order", in_order),
        ]))
    };
    let title = match place.is_step {
        true => format!("verify: {words}"),
        false => format!("{file}: {words}"),
    };
    Ok((title, section))
}

/// The counts on the first screen.
fn counts(report: &VerifyReport) -> Vec<(&'static str, String)> {
    let mut facts = vec![("points looked at", count(report.looked_at))];
    facts.extend(
        report
            .sample
            .map(|sample| ("A SAMPLE OF", sample.to_string())),
    );
    facts.push(("points that differ", count(report.differences)));
    let settings = report.verified.settings.len() as u64;
    facts.push(("settings that differ", count(settings)));
    facts.push(("sources", count(report.sources.len() as u64)));
    if let Some(answers) = &report.answers {
        let (asked, differing) = (answers.asked(), answers.differing());
        facts.push((
            "answers that differ",
            format!("{} of {}", count(differing), count(asked)),
        ));
    }
    facts.push(("took", duration(report.seconds)));
    facts
}

fn next(report: &VerifyReport) -> Vec<Markup> {
    let mut next = Vec::new();
    match report.verdict {
        Verdict::Proven if report.master.checksum == Checksum::Live => next.push(command(
            "Point an alias to the collection",
            "snapmerge publish http://HOST:6333 COLLECTION --alias ALIAS",
        )),
        Verdict::Proven => next.push(command(
            "Bring the master onto a server",
            &format!(
                "snapmerge restore {} --to http://HOST:6333/NAME",
                shell(&report.master.file)
            ),
        )),
        Verdict::Differs => next.push(html! {
            "Do not restore or publish this master before it is clear why it differs; the sources are \
             untouched, so it can be merged again."
        }),
        Verdict::NothingLookedAt => next.push(html! {
            "Verify again with a larger " code { "--sample" } ", or without one."
        }),
    }
    if report.sample.is_some() && report.verdict == Verdict::Proven {
        next.push(html! {
            "Only a sample was compared: without " code { "--sample" } " every point is."
        });
    }
    if !report.missing.is_empty() {
        next.push(html! { "Read under “Missing” what the snapshots lack: it was not compared." });
    }
    if !report.verified.changed.is_empty() {
        next.push(html! { "Verify again while nobody writes to the live collections." });
    }
    if report.differences > report.first.len() as u64 && report.ledger.is_none() {
        next.push(html! {
            "The page shows the first " (count(report.first.len() as u64)) " differences; "
            code { "--ledger FILE" } " writes down all of them."
        });
    }
    next
}

fn source_row(source: &SourceLabel, points: u64) -> SourceRow<'_> {
    let checksum = match &source.checksum {
        Checksum::Verified { sha256, hash, .. } => match hash.name() {
            "SHA-256" => format!("SHA-256 {sha256}"),
            hash => format!("SHA-256 {sha256}, by {hash}"),
        },
        Checksum::Unchecked { .. } => "UNCHECKED".to_owned(),
        Checksum::PartsVerified { .. } => "SHA-256 of what was read".to_owned(),
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
                count(shown.segments),
                size(shown.bytes)
            ),
            [0; 6],
        ),
        Points::Walk(walked) => (
            format!(
                "Point by point: {} compared bit by bit ({} of vectors and payloads); {} expected, {} \
                 found.",
                count(walked.compared),
                size(walked.compared_bytes),
                count(walked.expected),
                count(walked.found)
            ),
            walked.wrong(),
        ),
    };
    let kinds = WRONG.into_iter().zip(wrong);
    let wrong = kinds
        .chain([(DOUBLED, verified.doubled)])
        .filter(|(_, number)| *number > 0)
        .map(|(kind, number)| [kind.to_owned(), count(number)]);
    html! {
        p {
            strong { (count(report.looked_at)) " points" } " were compared"
            @if let Some(sample) = report.sample { ", A SAMPLE OF " (sample) }
            ". " (how)
        }
        @if let Some(reason) = &verified.not_by_bytes { p { "Not compared by bytes, because " (prose(reason)) "." } }
        (table("What is wrong", &[("wrong", Column::Words), ("points", Column::Number)], wrong))
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
        let each: Vec<String> = shard.segments.iter().map(|points| count(*points)).collect();
        chart.push(Bar::of_count(format!("shard {name}"), points, 0));
        rows.push([name, count(points), each.join(", ")]);
    }
    if rows.is_empty() {
        return Ok(html! {});
    }
    let columns = [
        ("shard", Column::Name),
        ("points", Column::Number),
        ("points of each segment", Column::Words),
    ];
    Ok(html! {
        h2 { "Points per shard and segment" }
        (PreEscaped(bars("Points per shard", &chart)?))
        (table("Shards", &columns, rows))
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
            count(kind.queries),
            count(kind.differing),
            format!("{:.3}", kind.recall_mean),
            format!("{:.3}", kind.recall_min),
            took(0, "exact", &kind.exact),
            took(1, "indexed", &kind.indexed),
        ]);
    }
    if rows.is_empty() && answers.skipped.is_empty() {
        return Ok(html! {});
    }
    let columns = [
        ("queries for", Column::Name),
        ("queries", Column::Number),
        ("answers that differ", Column::Number),
        ("mean recall", Column::Number),
        ("lowest recall", Column::Number),
        ("exact, ms", Column::Number),
        ("by index, ms", Column::Number),
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
            (table("Answers", &columns, rows))
        }
        @if !answers.skipped.is_empty() {
            ul { @for one in &answers.skipped { li { "Not asked: " (prose(one)) } } }
        }
    })
}

/// Clusters, lengths of vectors, and where the points lie.
fn structure(structure: &Structure) -> Result<Markup> {
    let (mut rows, mut norms, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for set in structure.sources.iter().chain([&structure.master]) {
        rows.push([
            set.name.clone(),
            count(set.points as u64),
            count(set.clusters as u64),
            format!("{:.0} %", set.noise * 100.0),
            set.silhouette
                .map_or_else(|| NONE.into(), |value| format!("{value:.3}")),
        ]);
        let [min, p25, p50, p75, max] = set.norms.map(|norm| format!("{norm:.4}"));
        lengths.push([set.name.clone(), min, p25, p50, p75, max]);
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
    let columns = [
        ("points of", Column::Name),
        ("sample", Column::Number),
        ("clusters", Column::Number),
        ("in no cluster", Column::Number),
        ("silhouette", Column::Number),
    ];
    let quartiles = [
        ("of", Column::Name),
        ("min", Column::Number),
        ("p25", Column::Number),
        ("p50", Column::Number),
        ("p75", Column::Number),
        ("max", Column::Number),
    ];
    Ok(html! {
        h2 { "Structure" }
        (table("Structure", &columns, rows))
        h2 { "Lengths of vectors" }
        (PreEscaped(boxes("Lengths of vectors", &norms)?))
        (table("Lengths of vectors", &quartiles, lengths))
        @if !points.is_empty() {
            h2 { "The master in a plane" }
            (PreEscaped(scatter("The master in a plane", &about, points)?))
            ul.keys {
                @for (at, name) in names.iter().enumerate() {
                    li { span.key style={ "background:" (colour(at)) } {} (words::name(name)) }
                }
            }
        }
    })
}
