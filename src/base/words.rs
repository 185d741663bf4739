//! Words that were typed and are not known.
//!
//! Invariants: none is taken for another one; the nearest is only suggested.

/// Words that are less alike than this are no misspelling of each other.
const ALIKE_MIN: f64 = 0.7;

/// The word of `known` that `word` is most like, if it is like one at all.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = |one: &str| strsim::jaro_winkler(word, one);
    known
        .iter()
        .copied()
        .max_by(|a, b| alike(a).total_cmp(&alike(b)))
        .filter(|one| alike(one) >= ALIKE_MIN)
}

/// ", did you mean X?", where there is one.
pub fn did_you_mean(near: Option<&str>) -> String {
    near.map_or(String::new(), |near| format!("; did you mean {near}?"))
}
