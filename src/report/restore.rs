//! Reports of `restore` as text, of one collection and of many.

use std::fmt::Write as _;

use super::words::size;
use crate::restore::{ManyRestored, ManyState, RestoreManyReport, RestoreReport};
use crate::source::Checksum;

impl RestoreReport {
    /// It as text.
    pub fn text(&self) -> String {
        let restored = &self.restored;
        let bytes = size(restored.bytes);
        let mut text = match &restored.verdict {
            Some(verdict) => format!(
                "{}: {} points, {bytes}, green\n",
                restored.target, verdict.points
            ),
            None => format!("{}: {bytes} would be restored\n", restored.target),
        };
        let mut line = |name: &str, value: String| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {name:<9}{value}");
        };
        line(
            "server",
            format!("{}, members: {}", restored.server_version, restored.members),
        );
        line(
            "checksum",
            match &self.checksum {
                Checksum::Unverified => format!(
                    "{}, UNVERIFIED: none was found for the file",
                    restored.sha256
                ),
                known => known.words(),
            },
        );
        if let Some(verdict) = &restored.verdict {
            line(
                "compared",
                format!(
                    "points of {} shards, shard keys, config, payload indexes, {} vectors in an index",
                    verdict.shards.len(),
                    verdict.indexed_vectors
                ),
            );
            for open in &verdict.open {
                line("open", open.clone());
            }
        }
        if let Some((sent, green)) = restored.seconds {
            line(
                "seconds",
                format!("{sent:.2} until restored, {green:.2} until green and compared"),
            );
        }
        if restored.finished_earlier {
            line("note", "an earlier run had all but finished it".into());
        }
        for note in &restored.notes {
            line("note", note.clone());
        }
        text
    }
}

impl RestoreManyReport {
    /// It as text.
    pub fn text(&self) -> String {
        let of = |state: ManyState| {
            self.collections
                .iter()
                .filter(move |one| one.state == state)
        };
        let bytes: u64 = self.collections.iter().map(|one| one.bytes).sum();
        let all = self.collections.len();
        let failed = of(ManyState::Failed).count();
        let earlier = of(ManyState::RestoredEarlier).count();
        let mut text = match (self.dry_run, failed) {
            (true, _) => format!(
                "{}: {all} collections, {} would be restored\n",
                self.target,
                size(bytes)
            ),
            (false, 0) => format!(
                "{}: {all} collections, {}, restored and compared in {:.1} s\n",
                self.target,
                size(bytes),
                self.seconds
            ),
            (false, failed) => format!(
                "{}: {failed} of {all} collections COULD NOT BE RESTORED\n",
                self.target
            ),
        };
        let mut line = |line: String| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{line}");
        };
        line(format!("  server   {}", self.server_version));
        match &self.checksum {
            None => {}
            Some(Checksum::Unverified) => {
                line("  checksum UNVERIFIED: none was found for the file".into());
            }
            Some(known) => line(format!("  checksum {}", known.words())),
        }
        if earlier > 0 {
            line(format!(
                "  earlier  {earlier} of them by an earlier run, compared again"
            ));
        }
        let width = |column: fn(&ManyRestored) -> &str| {
            let widths = self
                .collections
                .iter()
                .map(|one| column(one).chars().count());
            widths.max().unwrap_or(0).max(10)
        };
        let (source, name) = (width(|one| &one.source), width(|one| &one.collection));
        line(format!(
            "\n  {:<source$}  {:<name$}  {:>12}  {:>10}  state",
            "snapshot", "collection", "points", "bytes"
        ));
        for one in &self.collections {
            let points = one.points.map_or("-".into(), |points| points.to_string());
            let state = match one.state {
                ManyState::Planned => "planned".into(),
                ManyState::Restored => format!("green in {:.1} s", one.seconds.unwrap_or(0.0)),
                ManyState::RestoredEarlier => "green, restored earlier".into(),
                ManyState::Failed => "FAILED".into(),
            };
            line(format!(
                "  {:<source$}  {:<name$}  {points:>12}  {:>10}  {state}",
                one.source,
                one.collection,
                size(one.bytes)
            ));
        }
        for one in &self.collections {
            if let Some(err) = &one.error {
                line(format!("\n  {}: {err}", one.collection));
            }
            for open in &one.open {
                line(format!("  open     {}: {open}", one.collection));
            }
        }
        if !self.aliases.is_empty() {
            let set = if self.aliases_set {
                "set, in one call"
            } else {
                "not set"
            };
            line(format!("\n  aliases ({set})"));
        }
        for one in &self.aliases {
            let before = one.before.as_ref();
            let before = before.map_or(String::new(), |before| format!(", before to {before}"));
            line(format!(
                "    {} points to {}{before}",
                one.alias, one.collection
            ));
        }
        for note in &self.notes {
            line(format!("  note     {note}"));
        }
        text
    }
}
