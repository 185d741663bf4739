//! Rust source as tokens, without comments, without what is inside literals, and without test code:
//! enough to ask which paths, methods and macros a file names, and on which line. No parser; what it
//! has to get right is tested below.

use super::Trial;

/// One word or sign, with its line (from 1). `::` is one token; a literal is one token, `""`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A path as written, groups taken apart: `use a::{b, c::d}` is `a::b` and `a::c::d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub parts: Vec<String>,
    pub line: usize,
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// All tokens of a file.
pub fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let (mut i, mut line, mut tokens) = (0, 1, Vec::new());
    while i < chars.len() {
        let start = i;
        let c = chars[i];
        let text = if c.is_whitespace() {
            i += 1;
            None
        } else if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
            None
        } else if c == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            loop {
                match (at(i), at(i + 1)) {
                    ('/', '*') => (depth, i) = (depth + 1, i + 2),
                    ('*', '/') => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
                if depth == 0 || i >= chars.len() {
                    break None;
                }
            }
        } else if let Some(end) = literal_end(&chars, i) {
            i = end;
            Some("\"\"".to_owned())
        } else if is_word(c) {
            while is_word(at(i)) {
                i += 1;
            }
            Some(chars[start..i].iter().collect())
        } else if c == ':' && at(i + 1) == ':' {
            i += 2;
            Some("::".to_owned())
        } else {
            i += 1;
            Some(c.to_string())
        };
        tokens.extend(text.map(|text| Token { text, line }));
        line += chars[start..i.min(chars.len())]
            .iter()
            .filter(|c| **c == '\n')
            .count();
    }
    tokens
}

/// Where the string or character literal that begins at `i` ends, if one begins there.
fn literal_end(chars: &[char], i: usize) -> Option<usize> {
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut j = i;
    if matches!(at(j), 'b' | 'c') && matches!(at(j + 1), '"' | '\'' | 'r') {
        j += 1;
    }
    if at(j) == 'r' && matches!(at(j + 1), '"' | '#') {
        let hashes = chars[j + 1..].iter().take_while(|c| **c == '#').count();
        if at(j + 1 + hashes) != '"' {
            return None; // r#type, a word
        }
        j += hashes + 2;
        while j < chars.len() {
            if chars[j] == '"' && chars[j + 1..].iter().take_while(|c| **c == '#').count() >= hashes
            {
                return Some(j + 1 + hashes);
            }
            j += 1;
        }
        return Some(chars.len());
    }
    let quote = match at(j) {
        '"' => '"',
        // 'a' and '\n' are characters, 'a without a second quote is a lifetime.
        '\'' if at(j + 1) == '\\' || at(j + 2) == '\'' => '\'',
        _ => return None,
    };
    j += 1;
    while j < chars.len() && chars[j] != quote {
        j += if chars[j] == '\\' { 2 } else { 1 };
    }
    Some((j + 1).min(chars.len()))
}

/// The tokens of the program alone: items under `#[cfg(test)]` (or any `cfg` that names `test` and
/// does not negate it) are left out.
pub fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let is = |i: usize, text: &str| tokens.get(i).is_some_and(|t| t.text == text);
    let mut kept = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if !(is(i, "#") && is(i + 1, "[") && is(i + 2, "cfg")) {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        let end = closing(tokens, i + 1);
        let attribute = &tokens[i..end];
        let names = |word: &str| attribute.iter().any(|t| t.text == word);
        if !names("test") || names("not") {
            kept.extend_from_slice(attribute);
            i = end;
            continue;
        }
        // Further attributes, then the item: up to its `;`, or to the end of its braces.
        i = end;
        while is(i, "#") && is(i + 1, "[") {
            i = closing(tokens, i + 1);
        }
        while i < tokens.len() && !is(i, ";") && !is(i, "{") {
            i = if is(i, "(") || is(i, "[") {
                closing(tokens, i)
            } else {
                i + 1
            };
        }
        i = if is(i, "{") {
            closing(tokens, i)
        } else {
            i + 1
        };
    }
    kept
}

/// The place after the bracket that closes the one at `open`.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    tokens.len()
}

/// Every path of two parts or more.
pub fn paths(tokens: &[Token]) -> Vec<Path> {
    let mut found = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if tokens[i].text.starts_with(is_word) && tokens.get(i + 1).is_some_and(|t| t.text == "::")
        {
            i = path(tokens, i, &mut Vec::new(), &mut found);
        } else {
            i += 1;
        }
    }
    found
}

/// Reads one path (or one entry of a group) that begins at `i` after `before`; the place after it.
fn path(tokens: &[Token], mut i: usize, before: &mut Vec<String>, found: &mut Vec<Path>) -> usize {
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text.as_str());
    let (outer, line) = (before.len(), tokens.get(i).map_or(0, |t| t.line));
    let mut grouped = false;
    while text(i).starts_with(is_word) || text(i) == "*" {
        before.push(text(i).to_owned());
        i += 1;
        if text(i) != "::" {
            break;
        }
        i += 1;
        if text(i) == "{" {
            grouped = true;
            i += 1;
            while !text(i).is_empty() && text(i) != "}" {
                // An entry ends at its comma, which is stepped over.
                let next = path(tokens, i, before, found);
                i = if next == i { i + 1 } else { next };
            }
            i += 1;
        }
    }
    if outer > 0 && text(i) == "as" {
        i += 2;
    }
    if !grouped && before.len() > outer.max(1) {
        let parts = before.clone();
        found.push(Path { parts, line });
    }
    before.truncate(outer);
    i
}

pub fn trials() -> Vec<Trial> {
    let words = |source: &str| -> Vec<String> {
        tokens(source).into_iter().map(|token| token.text).collect()
    };
    let shown = |source: &str| -> Vec<String> {
        let paths = paths(&without_tests(&tokens(source)));
        paths
            .iter()
            .map(|p| format!("{}:{}", p.line, p.parts.join("::")))
            .collect()
    };
    vec![
        Trial::new("support/rust/leaves_out_comments_and_literals", move || {
            let cases: [(&str, &[&str]); 9] = [
                ("a // b\nc", &["a", "c"]),
                ("a /* b /* c */ d */ e", &["a", "e"]),
                (r#"f("x \" y") g"#, &["f", "(", "\"\"", ")", "g"]),
                (r##"r#"a " b"# c"##, &["\"\"", "c"]),
                (
                    "b'\\'' b\"x\" c\"y\" br\"z\" d",
                    &["\"\"", "\"\"", "\"\"", "\"\"", "d"],
                ),
                (
                    "'a' '\\n' '漢' 'b: x",
                    &["\"\"", "\"\"", "\"\"", "'", "b", ":", "x"],
                ),
                ("r#type raw break", &["r", "#", "type", "raw", "break"]),
                ("a::b:c", &["a", "::", "b", ":", "c"]),
                ("\"open", &["\"\""]),
            ];
            for (source, want) in cases {
                ensure_eq!(words(source), want, "tokens of {source:?}");
            }
            let lines: Vec<usize> = tokens("a\n\"x\ny\"\n/*\n*/ b")
                .iter()
                .map(|t| t.line)
                .collect();
            ensure_eq!(lines, [1, 2, 5], "lines");
            Ok(())
        }),
        Trial::new("support/rust/takes_paths_apart", move || {
            let cases: [(&str, &[&str]); 6] = [
                (
                    "use a::{b, c::{self, d as e},\n f::*}; g::h(i)",
                    &["1:a::b", "1:a::c::self", "1:a::c::d", "2:a::f::*", "2:g::h"],
                ),
                (
                    "let x: crate::a::B<crate::c::D> = y.z();",
                    &["1:crate::a::B", "1:crate::c::D"],
                ),
                ("format!(\"{}\", crate::a::b())", &["1:crate::a::b"]),
                ("Vec::<u8>::new(); <T as A::B>::c", &["1:A::B"]),
                ("x as usize :: y", &["1:usize::y"]),
                (
                    "use {crate::a, crate::b::C};",
                    &["1:crate::a", "1:crate::b::C"],
                ),
            ];
            for (source, want) in cases {
                let got: Vec<String> = shown(source)
                    .into_iter()
                    .filter(|p| !p.contains(":Vec"))
                    .collect();
                ensure_eq!(got, want, "paths of {source:?}");
            }
            Ok(())
        }),
        Trial::new("support/rust/leaves_out_test_code", move || {
            let cases: [(&str, &[&str]); 5] = [
                (
                    "#[cfg(test)] mod tests { use a::b; fn f() { c::d() } } e::f()",
                    &["1:e::f"],
                ),
                ("#[cfg(test)] mod tests; e::f()", &["1:e::f"]),
                (
                    "#[cfg(all(test, unix))] #[allow(x)] fn g(a: [u8; 3]) { c::d() } e::f()",
                    &["1:e::f"],
                ),
                ("#[cfg(not(test))] fn g() { c::d() }", &["1:c::d"]),
                ("#[cfg(unix)] fn g() { c::d() }", &["1:c::d"]),
            ];
            for (source, want) in cases {
                ensure_eq!(shown(source), want, "paths of {source:?}");
            }
            Ok(())
        }),
    ]
}
