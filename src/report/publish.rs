//! Reports of `publish` and `rollback` as text.

use crate::publish::AliasReport;

impl AliasReport {
    /// It as text.
    pub fn text(&self) -> String {
        let change = &self.change;
        let done = match (change.dry_run, change.moved) {
            (true, true) => "would point to",
            (false, true) => "points to",
            (_, false) => "points already to",
        };
        let mut lines = vec![format!(
            "{} {done} {} ({} points)",
            change.alias, change.to, change.points
        )];
        if let Some(from) = change.from.as_ref().filter(|from| **from != change.to) {
            let points = change
                .points_before
                .map_or(String::new(), |points| format!(" ({points} points)"));
            lines.push(format!("  before   {from}{points}"));
        }
        for name in &change.removed {
            let done = match change.dry_run {
                true => "would be removed",
                false => "was removed: older than those to keep, and nothing points to it",
            };
            lines.push(format!("  {name} {done}"));
        }
        for note in &change.notes {
            lines.push(format!("  note     {note}"));
        }
        if !change.dry_run {
            lines.push(format!("  state    {}", change.state));
        }
        lines.join("\n") + "\n"
    }
}
