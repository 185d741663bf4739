//! Text of others (names, messages, tags) as it may be shown.
//!
//! Invariants: what is shown has no character that a terminal obeys, that ends a line, or that turns
//! the text after it around, and no password of a URL; nothing else is changed.

use std::borrow::Cow;

/// Returns true if `c` is a control character (C0, C1, DEL), ends a line, or changes the direction of the
/// text that follows.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// `text` with every such character escaped, as in a Rust string: `\u{1b}`, `\n`.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, is_unprintable)
}

/// The same for text of several lines, which are its own.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_unprintable(c) && c != '\n')
}

/// JSON with every such character escaped as JSON does; in its strings alone there are any.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let is_escaped = |c| is_unprintable(c) && c != '\n';
    escape(json, is_escaped, |c| format!("\\u{:04x}", u32::from(c)))
}

/// Returns true if a character ends a URL in the text around it.
fn ends_url(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>')
}

/// `text` with what stands before an `@` in its URLs replaced: `http://***@host`. A URL without its
/// scheme (`user:password@host`) is one too.
pub fn without_passwords(text: &str) -> Cow<'_, str> {
    if !(text.contains(':') && text.contains('@')) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        push_without_logins(&mut shown, before);
        shown.push_str("://");
        let (url, others) = after.split_at(after.find(ends_url).unwrap_or(after.len()));
        // A password may have a slash in it that was not encoded; then what looks like a port is none.
        let (authority, path) = url.split_at(url.find(['/', '?', '#']).unwrap_or(url.len()));
        let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        let is_whole = authority.contains('@')
            || authority
                .rsplit_once(':')
                .is_none_or(|(host, port)| is_port(port) || host.starts_with('['));
        let hidden = match is_whole {
            true => authority,
            false => url,
        };
        match hidden.rsplit_once('@') {
            Some((_, host)) => {
                shown.push_str("***@");
                shown.push_str(host);
                shown.push_str(match is_whole {
                    true => path,
                    false => "",
                });
            }
            None => shown.push_str(url),
        }
        rest = others;
    }
    push_without_logins(&mut shown, rest);
    Cow::Owned(shown)
}

/// Adds `text`, which has no `://`, to `shown`, with `user:password` before an `@` replaced.
fn push_without_logins(shown: &mut String, text: &str) {
    for word in text.split_inclusive(ends_url) {
        match word.rsplit_once('@') {
            // `archive:NAME@DATE` is an entry.
            Some((login, host)) if login.contains(':') && !login.contains("archive:") => {
                shown.push_str("***@");
                shown.push_str(host);
            }
            _ => shown.push_str(word),
        }
    }
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    escape(text, is_escaped, |c| c.escape_default().to_string())
}

fn escape(
    text: &str,
    is_escaped: impl Fn(char) -> bool,
    escape: impl Fn(char) -> String,
) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_escaped(c) {
            true => shown.push_str(&escape(c)),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_nothing_else() {
        for (text, shown) in [
            (
                "album_2017 ä 漢 'x' \"y\" \\",
                "album_2017 ä 漢 'x' \"y\" \\",
            ),
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("a\nsnapmerge: PROVEN", "a\\nsnapmerge: PROVEN"),
            ("\r\t\u{7f}\u{9b}", "\\r\\t\\u{7f}\\u{9b}"),
            ("\u{202e}gpj.exe\u{2028}", "\\u{202e}gpj.exe\\u{2028}"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(printable_lines("a\n\u{1b}b"), "a\n\\u{1b}b");
        let json = serde_json::to_string_pretty(&["a\u{1b}\u{9b}\u{202e}\n"]).unwrap();
        let shown = printable_json(&json);
        assert_eq!(shown, "[\n  \"a\\u001b\\u009b\\u202e\\n\"\n]");
        let read: [String; 1] = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, ["a\u{1b}\u{9b}\u{202e}\n"]);
    }

    #[test]
    fn no_url_shows_a_password() {
        for (text, shown) in [
            (
                "http://u:PW@h:6333/c is no address",
                "http://***@h:6333/c is no address",
            ),
            ("address u:PW@: it begins", "address ***@: it begins"),
            (
                "archive:album@2026-11 at 1:2",
                "archive:album@2026-11 at 1:2",
            ),
            ("(s3://KEY:SECRET@bucket/p)", "(s3://***@bucket/p)"),
            (
                "'http://u:P/W@h:1' and https://PW@h",
                "'http://***@h:1' and https://***@h",
            ),
            ("http://u:a@b@h/x@y", "http://***@h/x@y"),
            // Names may have an @ themselves.
            ("http://h:6333/a@2026", "http://h:6333/a@2026"),
            ("http://[::1]:6333/a@b", "http://[::1]:6333/a@b"),
            (
                "archive:a@latest of s3://b/p",
                "archive:a@latest of s3://b/p",
            ),
            ("://@", "://***@"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }
}
