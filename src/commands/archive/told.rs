//! What `archive` tells, in text.
//!
//! Keeps true: it is made of the same values as the JSON; what is lost stands before what is not.

use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use humansize::{BINARY, format_size};

use crate::archive::{Added, Checked, Entry, Finding, Got, Proven, Recipe, Swept, Verified};

/// Findings that are written out.
const FINDINGS_MAX: usize = 50;

fn size(bytes: u64) -> String {
    format_size(bytes, BINARY)
}

/// What was stored.
pub fn added(added: &Added) -> String {
    let entry = &added.entry;
    if added.already {
        return format!("{}: stored already, nothing changed\n", entry.id);
    }
    let new = entry.new_bytes + entry.recipe_bytes;
    let share = 100.0 * new as f64 / entry.bytes.max(1) as f64;
    let by = match entry.verified_by.as_slice() {
        [] => "UNVERIFIED: no checksum found".to_owned(),
        by => format!("verified by {}", by.join(", ")),
    };
    format!(
        "{}: {} stored as {} ({share:.1} %) in {} new objects\n  SHA-256  {} {by}\n",
        entry.id,
        size(entry.bytes),
        size(new),
        entry.new_objects,
        entry.sha256,
    )
}

/// What is stored.
pub fn list(entries: &[Entry], last_proven: Option<DateTime<Utc>>) -> String {
    let mut text = String::new();
    let width = entries.iter().map(|entry| entry.id.chars().count()).max();
    let width = width.unwrap_or(0);
    for entry in entries {
        let new = entry.new_bytes + entry.recipe_bytes;
        let short = entry.sha256.get(..12).unwrap_or_default();
        let tags = match entry.tags.as_slice() {
            [] => String::new(),
            tags => format!("  [{}]", tags.join(", ")),
        };
        let unverified = match entry.verified_by.is_empty() {
            true => "  UNVERIFIED",
            false => "",
        };
        let _ = writeln!(
            text,
            "{:<width$}  {:>11}  new {:>11}  {short}{unverified}{tags}",
            entry.id,
            size(entry.bytes),
            size(new),
        );
    }
    let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let new: u64 = entries
        .iter()
        .map(|entry| entry.new_bytes + entry.recipe_bytes)
        .sum();
    let _ = writeln!(
        text,
        "{} entries of {}, stored as {}",
        entries.len(),
        size(bytes),
        size(new)
    );
    let _ = match last_proven {
        Some(time) => writeln!(text, "a restore was last proven on {}", told_time(time)),
        None => writeln!(
            text,
            "no restore was ever proven: snapmerge drill restores the newest ones and compares"
        ),
    };
    text
}

fn told_time(time: DateTime<Utc>) -> impl std::fmt::Display {
    time.format("%Y-%m-%d %H:%M:%S UTC")
}

/// All that is known of an entry.
pub fn entry(
    entry: &Entry,
    recipe: &Recipe,
    proven: Option<(DateTime<Utc>, &Proven)>,
    with_files: bool,
) -> String {
    let stored: u64 = recipe.objects.iter().map(|part| part.stored).sum();
    let mut text = format!("{}\n", entry.id);
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<9} {value}");
    };
    line("file", entry.file.clone());
    line("taken", told_time(entry.time).to_string());
    line("bytes", format!("{} ({})", entry.bytes, size(entry.bytes)));
    line("SHA-256", entry.sha256.clone());
    line(
        "verified",
        match entry.verified_by.as_slice() {
            [] => "UNVERIFIED: it had no checksum when it was stored".into(),
            by => format!("by {}", by.join(", ")),
        },
    );
    line(
        "restored",
        match proven {
            None => "never: snapmerge drill does it and compares".into(),
            Some((time, proven)) => format!(
                "and proven on {}{}: {} points, digest {}",
                told_time(time),
                match &proven.server {
                    Some(server) => format!(", also on {server}"),
                    None => String::new(),
                },
                proven.points,
                proven.digest
            ),
        },
    );
    if !entry.tags.is_empty() {
        line("tags", entry.tags.join(", "));
    }
    line(
        "stored",
        format!(
            "in {} objects of {}, of which {} of {} were new",
            recipe.objects.len(),
            size(stored),
            entry.new_objects,
            size(entry.new_bytes)
        ),
    );
    line(
        "recipe",
        format!("{} ({})", entry.recipe, size(entry.recipe_bytes)),
    );
    line("files", recipe.files.len().to_string());
    if let Some(manifest) = &entry.manifest {
        line("manifest", manifest.to_string());
    }
    if let Some(provenance) = &entry.provenance {
        line("made of", provenance.to_string());
    }
    if with_files {
        text.push('\n');
        for file in &recipe.files {
            let _ = writeln!(
                text,
                "  {} {:>12} {}",
                file.blake3.get(..16).unwrap_or_default(),
                file.stored,
                file.path
            );
        }
    }
    text
}

/// What was got.
pub fn got(got: &Got, output: &Path) -> String {
    format!(
        "{}: {}, {} from {} objects\n  SHA-256  {} as it was stored\n",
        output.display(),
        got.entry.id,
        size(got.entry.bytes),
        got.objects,
        got.sha256
    )
}

/// What was found.
pub fn checked(checked: &Checked) -> String {
    let mut text = String::new();
    for repaired in &checked.repaired {
        let _ = writeln!(text, "repaired: {repaired}");
    }
    for finding in checked.findings.iter().take(FINDINGS_MAX) {
        let _ = match finding {
            Finding::Chain { finding } => writeln!(text, "chain: {}", finding.why),
            Finding::Recipe { name, why } => writeln!(text, "recipe {name}: {why}"),
            Finding::Object { name, why } => writeln!(text, "object {name}: {why}"),
            Finding::Extra { path, bytes } => {
                writeln!(
                    text,
                    "leftover: {path} ({}), which nothing needs",
                    size(*bytes)
                )
            }
        };
    }
    if checked.findings.len() > FINDINGS_MAX {
        let more = checked.findings.len() - FINDINGS_MAX;
        let _ = writeln!(text, "and {more} more (--json has all)");
    }
    for loss in &checked.losses {
        let _ = writeln!(
            text,
            "LOST in {}: {}{}",
            loss.entry,
            size(loss.bytes),
            match loss.files.as_slice() {
                [] => String::new(),
                files => format!(" in {} files: {}", loss.files_hit, files.join(", ")),
            }
        );
    }
    let whole = checked.entries - checked.losses.len() as u64;
    let share = match checked.subset {
        None => String::new(),
        Some(subset) => format!(" (share {}/{})", subset.which, subset.of),
    };
    let _ = writeln!(
        text,
        "{} records, {} recipes, {} of {} objects{share} read: {}",
        checked.records,
        checked.recipes,
        checked.objects,
        checked.objects_all,
        size(checked.bytes)
    );
    let _ = match (checked.is_damaged(), checked.findings.is_empty()) {
        (true, _) => writeln!(
            text,
            "DAMAGED: {} of {} entries are whole as far as was looked; the others lost what is said \
             above\n  next: --repair COPY fetches it again from a copy of the archive",
            whole, checked.entries
        ),
        (false, false) => writeln!(
            text,
            "nothing is lost: all {} entries are whole\n  next: snapmerge archive forget \
             --leftovers removes recipes and objects that nothing needs",
            checked.entries
        ),
        (false, true) => writeln!(text, "sound: all {} entries are whole", checked.entries),
    };
    text
}

/// What was given up.
pub fn swept(swept: &Swept) -> String {
    let mut text = String::new();
    for decision in &swept.decisions {
        let word = match decision.keep {
            true => "keep  ",
            false => "forget",
        };
        let _ = writeln!(
            text,
            "{word}  {}  {}",
            decision.id,
            decision.reasons.join(", ")
        );
    }
    let would = match swept.dry_run {
        true => "would give up",
        false => "gave up",
    };
    let remove = match swept.dry_run {
        true => "remove",
        false => "removed",
    };
    let _ = writeln!(
        text,
        "{would} {} entries, {} are left; {remove} {} objects and recipes of {}",
        swept.forgotten,
        swept.left,
        swept.removed,
        size(swept.removed_bytes)
    );
    text
}

/// What is known of the chain.
pub fn verified(verified: &Verified) -> String {
    let mut text = String::new();
    for finding in &verified.findings {
        let _ = writeln!(text, "{}", finding.why);
    }
    let _ = writeln!(
        text,
        "{} records, {} entries; {} records are signed",
        verified.records, verified.entries, verified.signed
    );
    for key in &verified.keys {
        let _ = writeln!(text, "  with key {key}");
    }
    if let Some(head) = &verified.head {
        let _ = writeln!(text, "head {} {}", head.seq, head.hash);
    }
    text += match verified.findings.is_empty() {
        true => "the chain is whole\n",
        false => "THE CHAIN IS BROKEN\n",
    };
    text
}
