//! Lines of a report, and what stands in them.
//!
//! Invariants: names from a snapshot are printed without control characters; what can be broken over
//! lines is.

use std::fmt;

/// Columns that lines keep to where they can be broken.
const WIDTH: usize = 100;
/// Columns of a fact's name.
const NAME_WIDTH: usize = 10;

/// A named fact; its parts are parted by commas, and broken over lines between them.
pub(super) fn fact(out: &mut String, name: &str, parts: &[String]) {
    let mut text = format!("  {name:<NAME_WIDTH$}");
    let indent = text.chars().count();
    let mut width = indent;
    for (at, part) in parts.iter().enumerate() {
        let part = clean(part);
        let last = at + 1 == parts.len();
        let comma = if last || part.ends_with(':') { "" } else { "," };
        let needed = part.chars().count() + comma.len();
        if width > indent {
            if width + 1 + needed > WIDTH {
                text.push('\n');
                text.push_str(&" ".repeat(indent));
                width = indent;
            } else {
                text.push(' ');
                width += 1;
            }
        }
        text.push_str(&part);
        text.push_str(comma);
        width += needed;
    }
    out.push_str(&text);
    out.push('\n');
}

/// Adds one line.
pub(super) fn line(out: &mut String, text: fmt::Arguments<'_>) {
    indented(out, "", &text.to_string());
}

/// Adds the lines of `text`, each behind `indent`.
pub(super) fn indented(out: &mut String, indent: &str, text: &str) {
    for part in text.split('\n') {
        out.push_str(indent);
        out.push_str(&clean(part));
        out.push('\n');
    }
}

/// Without control characters: a name in a snapshot could otherwise write to the terminal.
pub(super) fn clean(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.chars()
            .flat_map(|char| {
                let escaped = char.is_control().then(|| char.escape_default());
                let plain = (!char.is_control()).then_some(char);
                escaped.into_iter().flatten().chain(plain)
            })
            .collect()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_fact_is_broken_between_its_parts() {
        let mut out = String::new();
        let parts: Vec<String> = (0..30).map(|at| format!("field{at} keyword")).collect();
        fact(&mut out, "payload", &parts);
        assert!(out.lines().count() > 3, "{out}");
        assert!(
            out.lines().all(|line| line.chars().count() <= WIDTH),
            "{out}"
        );
        assert!(
            out.lines()
                .skip(1)
                .all(|line| line.starts_with(&" ".repeat(12))),
            "{out}"
        );
        assert_eq!(out.matches("keyword").count(), 30);
    }

    #[test]
    fn nothing_in_a_snapshot_writes_to_the_terminal() {
        let mut out = String::new();
        line(&mut out, format_args!("a\u{1b}[2Jb\rc"));
        assert_eq!(out, "a\\u{1b}[2Jb\\rc\n");
        assert_eq!(clean("Ümlaut"), "Ümlaut");
    }
}
