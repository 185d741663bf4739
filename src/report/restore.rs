//! Reports of `restore` as text.

use std::fmt::Write as _;

use crate::restore::RestoreReport;
use crate::source::Checksum;

impl RestoreReport {
    /// It as text.
    pub fn text(&self) -> String {
        let restored = &self.restored;
        let bytes = humansize::format_size(restored.bytes, humansize::BINARY);
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
