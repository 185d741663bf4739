//! Reports of `archive` as text.
//!
//! Invariants: what is lost stands before what is not; names, tags, paths and reasons of others cannot
//! begin a line or a command of a terminal.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use super::words::{moment as time, size};
use crate::archive::{
    AddReport, Added, CheckReport, Checked, CopyReport, Entry, Finding, ForgetReport, GetReport,
    InitReport, ListReport, Loss, Proven, ShowReport, UnlockReport, VerifyChainReport,
};
use crate::base::printable::printable;

/// Findings that are written out.
const FINDINGS_MAX: usize = 50;

fn list(words: &[String]) -> String {
    printable(&words.join(", ")).into_owned()
}

fn verified_by(entry: &Entry) -> String {
    match entry.verified_by.as_slice() {
        [] => "UNVERIFIED: it had no checksum when it was stored".into(),
        by => format!("verified by {}", list(by)),
    }
}

impl InitReport {
    /// It as text.
    pub fn text(&self) -> String {
        let mut text = format!("{}: an empty archive\n", printable(&self.archive));
        for recipient in &self.recipients {
            let _ = writeln!(text, "  opened by the secret key of {recipient}");
        }
        if !self.recipients.is_empty() {
            text +=
                "  KEEP     those keys elsewhere, too: without one of them nobody can read it\n";
        }
        text
    }
}

impl CopyReport {
    /// It as text.
    pub fn text(&self) -> String {
        let copied = &self.copied;
        let mut text = format!(
            "{}: {}, as in {}\n  records  {}, {} of them new\n  objects  {}, {} of them new ({})\n",
            printable(&self.to),
            entries(copied.entries, copied.without_key),
            printable(&self.from),
            copied.records,
            copied.new_records,
            copied.objects,
            copied.new_objects,
            size(copied.new_bytes)
        );
        if copied.removed > 0 {
            let bytes = size(copied.removed_bytes);
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "  removed  {} that no entry needs ({bytes})",
                copied.removed
            );
        }
        if copied.only_there > 0 {
            let _ = writeln!(
                text,
                "  kept     {} objects and recipes that are in the copy alone: without the key nobody knows \
                 whether they were given up or lost",
                copied.only_there
            );
        }
        if copied.without_key {
            let _ = writeln!(
                text,
                "  UNKNOWN  without the key: whether the archive missed anything that its entries need"
            );
        }
        if let Some(left) = &copied.lock_left {
            let _ = writeln!(
                text,
                "  lock     could not be given back: {}",
                printable(left)
            );
        }
        text
    }
}

impl Added {
    /// It as text.
    pub fn text(&self) -> String {
        let entry = &self.entry;
        let id = printable(&entry.id);
        let mut text = match (self.repaired.as_slice(), self.already) {
            ([], true) => format!("{id}: stored already, nothing changed\n"),
            ([], false) => {
                let new = entry.new_bytes + entry.recipe_bytes;
                format!(
                    "{id}: {} stored as {} ({:.1} %) in {} new objects\n  SHA-256  {} {}\n",
                    size(entry.bytes),
                    size(new),
                    100.0 * new as f64 / entry.bytes.max(1) as f64,
                    entry.new_objects,
                    entry.sha256,
                    verified_by(entry)
                )
            }
            (ids, _) => format!(
                "{id}: stored already, but damaged: stored again for {}\n",
                list(ids)
            ),
        };
        if self.without_key {
            let _ = writeln!(
                text,
                "  WHOLE    the key of the archive was not given: what is in it was not used or compared"
            );
        }
        if !self.lost.is_empty() {
            let _ = writeln!(
                text,
                "  DAMAGED  {} objects that older entries may need; see what is lost: snapmerge archive \
                 check",
                self.lost.len()
            );
        }
        if let Some(left) = &self.lock_left {
            let _ = writeln!(text, "  NOTE     {}", printable(left));
        }
        text
    }
}

impl AddReport {
    /// It as text.
    pub fn text(&self) -> String {
        let mut text: String = self.added.iter().map(Added::text).collect();
        if let Some(failed) = &self.failed {
            let snapshot = failed.snapshot.display().to_string();
            let _ = writeln!(
                text,
                "NOT STORED: {}: {}",
                printable(&snapshot),
                failed.error
            );
        }
        text
    }
}

impl ListReport {
    /// It as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let ids: Vec<_> = self
            .entries
            .iter()
            .map(|entry| printable(&entry.id))
            .collect();
        let width = ids.iter().map(|id| id.chars().count()).max().unwrap_or(0);
        for (entry, id) in self.entries.iter().zip(&ids) {
            let mut notes = String::new();
            if entry.verified_by.is_empty() {
                notes += "  UNVERIFIED";
            }
            if self.in_future.contains(&entry.id) {
                notes += "  IN THE FUTURE";
            }
            if !entry.tags.is_empty() {
                notes += &format!("  [{}]", list(&entry.tags));
            }
            let _ = writeln!(
                text,
                "{id:<width$}  {:>11}  new {:>11}  {}{notes}",
                size(entry.bytes),
                size(entry.new_bytes + entry.recipe_bytes),
                printable(entry.sha256.get(..12).unwrap_or_default()),
            );
        }
        let sum = |bytes: fn(&Entry) -> u64| size(self.entries.iter().map(bytes).sum());
        let _ = writeln!(
            text,
            "{} entries of {}, stored as {}",
            self.entries.len(),
            sum(|entry| entry.bytes),
            sum(|entry| entry.new_bytes + entry.recipe_bytes)
        );
        let _ = match self.last_proven {
            Some(at) => writeln!(text, "a restore was last proven on {}", time(at)),
            None => writeln!(
                text,
                "no restore was ever proven: snapmerge drill restores the newest ones and compares"
            ),
        };
        text
    }
}

impl ShowReport {
    /// It as text.
    pub fn text(&self) -> String {
        let entry = &self.entry;
        let mut text = format!("{}\n", printable(&entry.id));
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "  {name:<9} {}", printable(value));
        };
        line("file", &entry.file);
        line("taken", &time(entry.time).to_string());
        line("bytes", &format!("{} ({})", entry.bytes, size(entry.bytes)));
        line("SHA-256", &entry.sha256);
        line(
            "verified",
            verified_by(entry).trim_start_matches("verified "),
        );
        line(
            "restored",
            &restored(self.proven_at.zip(self.proven.as_ref())),
        );
        if !entry.tags.is_empty() {
            line("tags", &entry.tags.join(", "));
        }
        line(
            "stored",
            &format!(
                "in {} objects of {}, of which {} of {} were new",
                self.objects,
                size(self.stored_bytes),
                entry.new_objects,
                size(entry.new_bytes)
            ),
        );
        let recipe = format!("{} ({})", entry.recipe, size(entry.recipe_bytes));
        line("recipe", &recipe);
        line("files", &self.files_count.to_string());
        if let Some(manifest) = &entry.manifest {
            line("manifest", &manifest.to_string());
        }
        if let Some(provenance) = &entry.provenance {
            line("made of", &provenance.to_string());
        }
        if let Some(files) = &self.files {
            text.push('\n');
            for file in files {
                let _ = writeln!(
                    text,
                    "  {} {:>12} {}",
                    printable(file.blake3.get(..16).unwrap_or_default()),
                    file.stored,
                    printable(&file.path)
                );
            }
        }
        text
    }
}

fn restored(proven: Option<(DateTime<Utc>, &Proven)>) -> String {
    let Some((at, proven)) = proven else {
        return "never: snapmerge drill does it and compares".into();
    };
    let server = proven.server.as_ref();
    format!(
        "and proven on {}{}: {} points, digest {}",
        time(at),
        server.map_or(String::new(), |server| format!(", also on {server}")),
        proven.points,
        proven.digest
    )
}

impl GetReport {
    /// It as text.
    pub fn text(&self) -> String {
        format!(
            "{}: {}, {} from {} objects\n  SHA-256  {} as it was stored\n",
            printable(&self.output.display().to_string()),
            printable(&self.got.entry.id),
            size(self.got.entry.bytes),
            self.got.objects,
            self.got.sha256
        )
    }
}

impl CheckReport {
    /// It as text.
    pub fn text(&self) -> String {
        let checked = &self.checked;
        let mut text = String::new();
        for repaired in &checked.repaired {
            let _ = writeln!(text, "repaired: {}", printable(repaired));
        }
        for finding in checked.findings.iter().take(FINDINGS_MAX) {
            let _ = writeln!(text, "{}", printable(&self::finding(finding)));
        }
        if checked.findings.len() > FINDINGS_MAX {
            let more = checked.findings.len() - FINDINGS_MAX;
            let _ = writeln!(text, "and {more} more (--json has all)");
        }
        for loss in &checked.losses {
            let _ = writeln!(text, "{}", printable(&self::loss(loss)));
        }
        if checked.unsettled > 0 {
            let _ = writeln!(
                text,
                "{} files that nothing needs yet may be of a run at work",
                checked.unsettled
            );
        }
        if let Some(left) = &checked.lock_left {
            let _ = writeln!(text, "NOTE: {}", printable(left));
        }
        text + &verdict(checked)
    }
}

fn finding(finding: &Finding) -> String {
    match finding {
        Finding::Chain { finding } => format!("chain: {}", finding.why),
        Finding::Recipe { name, why } => format!("recipe {name}: {why}"),
        Finding::Object { name, why } => format!("object {name}: {why}"),
        Finding::Extra { path, bytes } => {
            format!("leftover: {path} ({}), which nothing needs", size(*bytes))
        }
    }
}

fn loss(loss: &Loss) -> String {
    let files = match loss.files.as_slice() {
        [] => String::new(),
        files => format!(" in {} files: {}", loss.files_hit, files.join(", ")),
    };
    format!("LOST in {}: {}{files}", loss.entry, size(loss.bytes))
}

fn verdict(checked: &Checked) -> String {
    let share = match checked.subset {
        Some(subset) => format!(" (share {}/{})", subset.which, subset.of),
        None => String::new(),
    };
    let looked = format!(
        "{} records, {} recipes, {} of {} objects{share} read: {}\n",
        checked.records,
        checked.recipes,
        checked.objects,
        checked.objects_all,
        size(checked.bytes)
    );
    if checked.without_key {
        return looked + without_key(checked);
    }
    let whole = checked.entries.saturating_sub(checked.losses.len() as u64);
    looked
        + &match (checked.is_damaged(), checked.findings.is_empty()) {
            (true, _) => format!(
                "DAMAGED: {whole} of {} entries are whole as far as was looked; the others lost what is \
                 said above\n  next: --repair COPY fetches it again from a copy of the archive\n",
                checked.entries
            ),
            (false, false) => format!(
                "nothing is lost: all {} entries are whole\n  next: snapmerge archive forget \
                 --leftovers removes recipes and objects that nothing needs\n",
                checked.entries
            ),
            (false, true) => format!("OK: all {} entries are whole\n", checked.entries),
        }
}

/// The verdict on an encrypted archive that was checked without its key.
fn without_key(checked: &Checked) -> &'static str {
    match checked.is_damaged() {
        true => {
            "DAMAGED: what is said above; which entries lost something by that is known with the key: \
             --identity FILE\n  next: --repair COPY fetches it again from a copy of the archive\n"
        }
        false => {
            "OK without the key: the chain is whole, and everything that was read has the SHA-256 that \
             names it\n  NOT CHECKED without the key: whether anything is missing, whether it can be \
             decrypted and put together, and whether there are files that nothing needs\n"
        }
    }
}

/// A number of entries, which is not known without the key.
fn entries(count: u64, without_key: bool) -> String {
    match without_key {
        true => "entries that are not known without the key".to_owned(),
        false => format!("{count} entries"),
    }
}

impl ForgetReport {
    /// It as text.
    pub fn text(&self) -> String {
        let swept = &self.swept;
        let mut text = String::new();
        for decision in &swept.decisions {
            let word = match decision.keep {
                true => "keep  ",
                false => "forget",
            };
            let line = format!("{word}  {}  {}", decision.id, decision.reasons.join(", "));
            let _ = writeln!(text, "{}", printable(&line));
        }
        let (would, remove) = match swept.dry_run {
            true => ("would give up", "remove"),
            false => ("gave up", "removed"),
        };
        let _ = writeln!(
            text,
            "{would} {} entries, {} are left; {remove} {} objects and recipes of {}",
            swept.forgotten,
            swept.left,
            swept.removed,
            size(swept.removed_bytes)
        );
        for left in &swept.left_behind {
            let _ = writeln!(text, "NOTE: {}", printable(left));
        }
        text
    }
}

impl VerifyChainReport {
    /// It as text.
    pub fn text(&self) -> String {
        let verified = &self.verified;
        let mut text = String::new();
        for finding in &verified.findings {
            let _ = writeln!(text, "{}", printable(&finding.why));
        }
        let _ = writeln!(
            text,
            "{} records, {}; {} records are signed",
            verified.records,
            entries(verified.entries, verified.without_key),
            verified.signed
        );
        for key in &verified.keys {
            let _ = writeln!(text, "  with key {}", printable(key));
        }
        if let Some(head) = &verified.head {
            let _ = writeln!(text, "head {} {}", head.seq, head.hash);
        }
        let _ = match (&verified.seen, &verified.not_remembered) {
            (_, Some(why)) => writeln!(text, "NOT REMEMBERED on this machine: {}", printable(why)),
            (Some(seen), None) => writeln!(
                text,
                "when this machine last looked, the head was {} {}",
                seen.head.seq, seen.head.hash
            ),
            (None, None) => writeln!(text, "this machine has not looked before"),
        };
        text + match verified.findings.is_empty() {
            true => "the chain is whole\n",
            false => "THE CHAIN IS BROKEN\n",
        }
    }
}

impl UnlockReport {
    /// It as text.
    pub fn text(&self) -> String {
        let archive = printable(&self.archive);
        match &self.broken {
            None => format!("{archive} is not locked\n"),
            Some(holder) => format!(
                "{archive}: broke the lock of {}; it can write nothing any more\n",
                printable(&holder.to_string())
            ),
        }
    }
}
