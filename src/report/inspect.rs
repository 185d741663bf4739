//! The report of `inspect` as text.
//!
//! Invariants: the verdict comes first, then what is in the way with its way out, then the rest; a
//! small snapshot fits on one screen.

mod lines;
mod table;

use serde_json::Value;

use self::lines::{fact, indented, line};
use self::table::table;
use super::words::{count, counted, size};
use crate::format::schema::{Severity, show_index, vector_label};
use crate::inspect::{
    Contents, HnswReport, Inspection, MergeReport, Problem, ShardReport, SnapshotReport, Verdict,
};
use crate::source::Checksum;

impl Inspection {
    /// The whole report, ending in a line break.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if self.snapshots.len() > 1 {
            let of = |verdict| {
                let with = self.snapshots.iter().filter(|s| s.verdict == verdict);
                with.count() as u64
            };
            line(
                &mut out,
                format_args!(
                    "{} snapshots: {} readable, {} incomplete, {} unreadable; {}\n",
                    self.snapshots.len(),
                    of(Verdict::Readable),
                    of(Verdict::Incomplete),
                    of(Verdict::Unreadable),
                    self.merge.words()
                ),
            );
        }
        for snapshot in &self.snapshots {
            snapshot_text(snapshot, &mut out);
            line(&mut out, format_args!(""));
        }
        let several = self.snapshots.len() > 1;
        if several || !self.merge.findings.is_empty() {
            line(&mut out, format_args!("merge: {}", self.merge.words()));
            for finding in &self.merge.findings {
                indented(&mut out, "  ", &finding.to_string());
            }
        } else {
            // The blank line parts snapshots; after the last one there is nothing to part.
            out.pop();
        }
        out
    }
}

impl MergeReport {
    fn words(&self) -> String {
        let of = |severity| {
            let with = self.findings.iter().filter(|f| f.severity == severity);
            with.count() as u64
        };
        let mut why = Vec::new();
        if self.unreadable_count > 0 {
            why.push(
                counted(self.unreadable_count, "snapshot cannot", "snapshots cannot") + " be read",
            );
        }
        if self.incomplete_count > 0 {
            why.push(
                counted(self.incomplete_count, "snapshot", "snapshots")
                    + " may lack points (--allow-incomplete takes them)",
            );
        }
        if self.blocking_count > 0 {
            why.push(counted(self.blocking_count, "thing", "things") + " in the way");
        }
        let differs = of(Severity::Differs);
        let differing = match differs {
            0 => "nothing differs".to_owned(),
            1 => "1 thing only differs".to_owned(),
            many => format!("{} things only differ", count(many)),
        };
        why.push(differing);
        let can = if self.possible { "can" } else { "CANNOT" };
        format!("{can} be merged as they are: {}", why.join(", "))
    }
}

fn snapshot_text(snapshot: &SnapshotReport, out: &mut String) {
    let contents = snapshot.contents.as_ref();
    let verdict = match snapshot.verdict {
        Verdict::Readable => "readable",
        Verdict::Incomplete => "INCOMPLETE",
        Verdict::Unreadable => "CANNOT BE READ",
    };
    match contents {
        None => line(out, format_args!("{}: {verdict}", snapshot.file)),
        Some(contents) => {
            let points = match contents.points_count {
                Some(points) => counted(points, "point", "points"),
                None => "points unknown".to_owned(),
            };
            let pending = match (
                contents.points_count,
                contents.log_not_provably_taken_in_count,
            ) {
                (None, _) | (_, Some(0)) => String::new(),
                (_, Some(pending)) => format!(
                    " in its segments, {} not provably taken in",
                    counted(pending, "log entry", "log entries")
                ),
                (_, None) => " in its segments, log unreadable".to_owned(),
            };
            let form = contents.form.words();
            line(
                out,
                format_args!("{}: {form}, {points}{pending}, {verdict}", snapshot.file),
            );
        }
    }
    problems_text(&snapshot.problems, out);
    for note in &snapshot.notes {
        line(out, format_args!("  note: {note}"));
    }
    if let Some(contents) = contents {
        line(out, format_args!(""));
        facts(contents, out);
        for shard in &contents.shards {
            line(out, format_args!(""));
            shard_text(shard, out);
        }
    }
}

/// Problems with the same way out share it.
fn problems_text(problems: &[Problem], out: &mut String) {
    for (at, problem) in problems.iter().enumerate() {
        let place = match (problem.shard, problem.segment) {
            (Some(shard), Some(segment)) if !problem.why.contains(&segment.to_string()) => {
                format!("segment {segment} of shard {shard}: ")
            }
            _ => String::new(),
        };
        line(out, format_args!("  problem: {place}{}", problem.why));
        let next = problem.next.as_ref();
        if next != problems.get(at + 1).and_then(|after| after.next.as_ref())
            && let Some(next) = next
        {
            line(out, format_args!("    next: {next}"));
        }
    }
}

fn facts(contents: &Contents, out: &mut String) {
    let packed = if contents.compressed {
        ", compressed"
    } else {
        ""
    };
    fact(
        out,
        "file",
        &[format!(
            "{}{packed}; unpacks to {} at the most",
            size(contents.file_bytes),
            size(contents.unpacked_bytes_max)
        )],
    );
    let mut checksum = vec![checksum_words(&contents.checksum)];
    if let (Some(sha256), Checksum::Unverified) = (&contents.sha256, &contents.checksum) {
        checksum.push(format!("SHA-256 is {sha256}"));
    }
    fact(out, "checksum", &checksum);
    fact(
        out,
        "size",
        &[format!(
            "segments {}, log {}",
            size(contents.segments_bytes),
            size(contents.log_bytes)
        )],
    );
    let keys: Vec<String> = contents
        .shard_keys
        .keys()
        .iter()
        .map(|(key, ids)| {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            format!("key {key} on shard {}", ids.join(" and "))
        })
        .collect();
    let mut sharding = vec![format!(
        "{}, {} here",
        contents.sharding_method,
        counted(contents.shards.len() as u64, "shard", "shards")
    )];
    sharding.extend(keys);
    fact(out, "sharding", &sharding);
    for (name, vector) in &contents.vectors {
        let multi = match &vector.multivector {
            Some(comparator) => format!(", multivector {comparator}"),
            None => String::new(),
        };
        let mut parts = vec![
            format!(
                "{}: {} x {}, {}{multi}",
                vector_label(name),
                vector.size,
                vector.datatype,
                vector.distance
            ),
            place_words(&vector.memory),
            hnsw_words(&vector.hnsw),
        ];
        parts.extend(vector.quantization.as_ref().map(quantization_words));
        fact(out, "vectors", &parts);
    }
    for (name, vector) in &contents.sparse_vectors {
        fact(
            out,
            "sparse",
            &[
                format!("{}: {}", vector_label(name), vector.datatype),
                format!("modifier {}", vector.modifier),
                format!("index {}", place_words(&vector.memory)),
            ],
        );
    }
    let indexes: Vec<String> = contents
        .payload_schema
        .fields()
        .iter()
        .map(|(field, index)| format!("{field} {}", show_index(index)))
        .collect();
    let place = if contents.payload_on_disk {
        "on disk"
    } else {
        "in memory"
    };
    let mut payload = vec![place.to_owned()];
    if indexes.is_empty() {
        payload.push("no indexes".into());
    } else {
        payload.push(format!(
            "{}:",
            counted(indexes.len() as u64, "index", "indexes")
        ));
        payload.extend(indexes);
    }
    fact(out, "payload", &payload);
}

fn checksum_words(checksum: &Checksum) -> String {
    match checksum {
        Checksum::Unchecked { by } => format!(
            "found ({}), NOT compared: --check reads the file and compares",
            by.join(", ")
        ),
        Checksum::PartsVerified { by } => format!(
            "found ({}), NOT compared, but for the SHA-256 of each part read: --check reads all and \
             compares",
            by.join(", ")
        ),
        other => other.words(),
    }
}

fn place_words(memory: &str) -> String {
    match memory {
        "cold" => "on disk",
        "cached" => "cached in memory",
        "pinned" => "in memory",
        other => other,
    }
    .to_owned()
}

fn hnsw_words(hnsw: &HnswReport) -> String {
    if hnsw.m == 0 && hnsw.payload_m.is_none_or(|m| m == 0) {
        return "no HNSW graph".to_owned();
    }
    let payload_m = hnsw
        .payload_m
        .map_or(String::new(), |m| format!(" payload_m {m}"));
    let place = if hnsw.on_disk { " on disk" } else { "" };
    format!(
        "HNSW m {} ef_construct {}{payload_m}{place}",
        hnsw.m, hnsw.ef_construct
    )
}

/// `{"scalar":{"type":"int8","always_ram":true}}` as "scalar quantization (always ram true, type
/// int8)".
fn quantization_words(quantization: &Value) -> String {
    let kinds = quantization.as_object().into_iter().flatten();
    let kinds: Vec<String> = kinds
        .map(|(kind, params)| {
            let params: Vec<String> = params
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| {
                    let value = value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned);
                    format!("{} {value}", key.replace('_', " "))
                })
                .collect();
            if params.is_empty() {
                format!("{kind} quantization")
            } else {
                format!("{kind} quantization ({})", params.join(", "))
            }
        })
        .collect();
    kinds.join(", ")
}

fn shard_text(shard: &ShardReport, out: &mut String) {
    let key = match &shard.shard_key {
        Some(key) => format!(" (key {key})"),
        None => String::new(),
    };
    let mut parts = Vec::new();
    match &shard.replicas {
        None => parts.push("replica state unknown".to_owned()),
        Some(replicas) => {
            let own = replicas.own_state.as_deref().unwrap_or("unknown");
            let others = replicas.states.len().saturating_sub(1);
            parts.push(if others == 0 {
                format!("replica {own}")
            } else {
                let all: Vec<&str> = replicas.states.values().map(String::as_str).collect();
                format!("replica {own} ({} in all: {})", others + 1, all.join(", "))
            });
        }
    }
    let segments = counted(shard.segments.len() as u64, "segment", "segments");
    parts.push(match shard.points_count {
        Some(points) => format!("{} in {segments}", counted(points, "point", "points")),
        None => format!("points unknown in {segments}"),
    });
    match shard.ids_in_several_segments_count {
        None | Some(0) => {}
        Some(1) => parts.push("1 id in more than one of them".to_owned()),
        Some(ids) => parts.push(format!("{} ids in more than one of them", count(ids))),
    }
    parts.push(size(shard.segments_bytes));
    line(
        out,
        format_args!("  shard {}{key}: {}", shard.shard, parts.join(", ")),
    );
    if let Some(log) = &shard.log {
        let mut names: Vec<String> = log
            .not_provably_taken_in
            .iter()
            .map(|(name, entries)| format!("{} {name}", count(*entries)))
            .collect();
        let names = if names.is_empty() {
            String::new()
        } else {
            names.sort();
            format!(" ({})", names.join(", "))
        };
        line(
            out,
            format_args!(
                "    log: {}, {}, {} applied again on load, not provably taken in: {}{names}",
                size(log.bytes),
                counted(log.entries_count, "entry", "entries"),
                count(log.tail_count),
                count(log.not_provably_taken_in_count)
            ),
        );
    }
    if !shard.segments.is_empty() {
        table(&shard.segments, out);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantization_is_told_in_words() {
        let scalar = json!({"scalar": {"always_ram": true, "quantile": null}});
        assert_eq!(
            quantization_words(&scalar),
            "scalar quantization (always ram true)"
        );
        assert_eq!(
            quantization_words(&json!({"binary": {}})),
            "binary quantization"
        );
    }

    #[test]
    fn problems_with_one_way_out_share_it() {
        let problem = |why: &str, next: &str| Problem {
            shard: Some(0),
            segment: None,
            why: why.into(),
            next: Some(next.into()),
            incomplete: false,
        };
        let mut out = String::new();
        problems_text(
            &[problem("a", "x"), problem("b", "x"), problem("c", "y")],
            &mut out,
        );
        assert_eq!(
            out,
            "  problem: a\n  problem: b\n    next: x\n  problem: c\n    next: y\n"
        );
    }
}
