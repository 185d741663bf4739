//! Reports of `drill` as text.

use std::fmt::Write as _;

use super::words::size;
use crate::drill::{DrillReport, Drilled};

impl DrillReport {
    /// It as text.
    pub fn text(&self) -> String {
        self.drilled.iter().map(text).collect()
    }
}

fn text(drilled: &Drilled) -> String {
    let verdict = match drilled.is_proven() {
        true => "PROVEN",
        false => "NOT PROVEN",
    };
    let mut text = format!(
        "{}: {verdict}: {} points, {}, in {:.1} s\n",
        drilled.id,
        drilled.points,
        size(drilled.bytes),
        drilled.seconds
    );
    let mut line = |name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name:<9}{value}");
    };
    line("digest", &drilled.digest);
    for equal in &drilled.compared {
        line("equal", equal);
    }
    for difference in &drilled.differences {
        line(
            "DIFFERS",
            &format!(
                "{}: {} was said, {} was found",
                difference.about, difference.expected, difference.found
            ),
        );
    }
    for open in &drilled.open {
        line("open", open);
    }
    text
}
