//! Names, commands and texts as a reader of a page wants them.
//!
//! Invariants: a name breaks after its own separators, and in the middle of a word only where it has
//! none for long; no character of a name turns the text after it around.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use crate::base::printable::printable;
pub use crate::report::words::{NONE, count, counted, shell};

/// No-break space: between a number and its unit.
const NBSP: &str = "\u{a0}";

/// A size; the unit stays with its number.
pub fn size(bytes: u64) -> String {
    crate::report::words::size(bytes).replace(' ', NBSP)
}

/// A time that something took; the unit stays with its number.
pub fn duration(seconds: f64) -> String {
    crate::report::words::duration(seconds).replace(' ', NBSP)
}

/// Letters of a name without a separator before it may break anywhere.
const NAME_LETTERS: usize = 20;
/// Digits of a hash before it may break.
const HASH_DIGITS: usize = 16;

/// A point in time, to the second; the zone stays with it.
pub fn moment(time: DateTime<Utc>) -> String {
    crate::report::words::moment(time).replace(" UTC", &format!("{NBSP}UTC"))
}

/// A name, which may break after its separators.
pub fn name(text: &str) -> Markup {
    with_breaks(text, NAME_LETTERS)
}

/// A hash, with the words around it.
pub fn hash(text: &str) -> Markup {
    with_breaks(text, HASH_DIGITS)
}

/// A text: its words are whole, but for those that are longer than words are.
pub fn prose(text: &str) -> Markup {
    html! {
        @for (at, word) in text.split(' ').enumerate() {
            @if at > 0 { " " }
            @if word.chars().count() > NAME_LETTERS { (name(word)) } @else { (printable(word)) }
        }
    }
}

/// Returns true if there is a hyphen between digits, behind which a browser would break.
fn has_date(part: &str) -> bool {
    let bytes = part.as_bytes();
    bytes.windows(3).any(|three| {
        matches!(three, [before, b'-', after] if before.is_ascii_digit() && after.is_ascii_digit())
    })
}

fn with_breaks(text: &str, letters_max: usize) -> Markup {
    let text = printable(text);
    let separates = |char: char| "_-./@,=:?&".contains(char);
    let mut parts = vec![String::new()];
    let mut letters = 0;
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        if let Some(part) = parts.last_mut() {
            part.push(char);
        }
        letters += 1;
        // A date, a time (19:04:24), the number of a port and an IP address stay whole.
        let joins = |next: char| match char {
            ':' => next.is_ascii_digit(),
            '-' | '.' => before.is_ascii_digit() && next.is_ascii_digit(),
            _ => false,
        };
        let ends = match chars.peek() {
            None => false,
            Some(next) if joins(*next) => false,
            Some(next) => separates(char) && !separates(*next) || letters >= letters_max,
        };
        before = char;
        if ends {
            parts.push(String::new());
        }
        if ends || char.is_whitespace() {
            letters = 0;
        }
    }
    html! {
        @for (at, part) in parts.iter().enumerate() {
            @if at > 0 { wbr; }
            @if has_date(part) { span.whole { (part) } } @else { (part) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_break_after_separators_and_words_do_not() {
        let broken = |markup: Markup| markup.into_string().replace("<wbr>", "|");
        assert_eq!(broken(name("album_2017")), "album_|2017");
        assert_eq!(
            broken(name("a/b-c@2026-11-29T19:04:24Z")),
            "a/|b-|c@|<span class=\"whole\">2026-11-29T19:04:24Z</span>"
        );
        assert_eq!(broken(name("http://host:6333/x")), "http://|host:6333/|x");
        assert_eq!(
            broken(name("http://127.0.0.1:6333/x_1.tar")),
            "http://|127.0.0.1:6333/|x_|1.|tar"
        );
        assert_eq!(
            broken(name(&"x".repeat(21))),
            format!("{}|x", "x".repeat(20))
        );
        assert_eq!(broken(name("<b>")), "&lt;b&gt;");
        // The order of the letters after it stays what it is.
        assert!(!name("a\u{202e}b").into_string().contains('\u{202e}'));
        assert_eq!(
            broken(prose("it is well-known, and true")),
            "it is well-known, and true"
        );
        let path = format!("in /{}/x", "a".repeat(30));
        assert_eq!(
            broken(prose(&path)),
            format!("in /|{}|{}/|x", "a".repeat(20), "a".repeat(10))
        );
    }

    #[test]
    fn a_shell_takes_a_name_for_one_word() {
        assert_eq!(shell("a/b-1.snapshot"), "a/b-1.snapshot");
        assert_eq!(shell("a b; rm *"), "'a b; rm *'");
        assert_eq!(shell("it's"), r"'it'\''s'");
        assert_eq!(shell(""), "''");
    }
}
