//! Reports of `archive find` as text.

use std::fmt::Write as _;

use crate::archive::FindReport;
use crate::base::printable::printable;

impl FindReport {
    /// It as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let widest = self.entries.iter().map(|one| one.entry.chars().count());
        let widest = widest.max().unwrap_or(0);
        for one in &self.entries {
            let places: Vec<String> = one
                .places
                .iter()
                .map(|place| match &place.key {
                    Some(key) => format!("changed by operation {}, key {key}", place.version),
                    None => format!("changed by operation {}", place.version),
                })
                .collect();
            let what = match (&one.unknown, places.is_empty()) {
                (Some(why), _) => format!("not known: {why}"),
                (None, true) => "not there".to_owned(),
                (None, false) => places.join("; "),
            };
            let changed = if one.changed == Some(true) { "*" } else { " " };
            let _ = write!(
                text,
                "{changed} {:<widest$}  {}",
                printable(&one.entry),
                printable(&what)
            );
            if !one.pending.is_empty() {
                let _ = write!(
                    text,
                    "; its log may still change it: {}",
                    one.pending.join(", ")
                );
            }
            text.push('\n');
        }
        if self.entries.iter().any(|one| one.changed == Some(true)) {
            text.push_str("* otherwise than in the one before\n");
        }
        text
    }
}
