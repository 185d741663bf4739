//! Words of messages: the nearest of one that was typed and is not known, and lists that may be long.
//!
//! Invariants: no word is taken for another one, the nearest is only suggested; how many a list leaves out is told.

/// Words that are less alike than this are no misspelling of each other.
const ALIKE_MIN: f64 = 0.7;
/// Names that a list in a message has, at the most.
const FEW: usize = 10;

/// The first of `names`, and how many more there are.
pub fn first_few(names: &[impl AsRef<str>]) -> String {
    let first: Vec<&str> = names.iter().take(FEW).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(FEW) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

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
