//! The exit codes: one table for the help, the tests and the process.
//!
//! Invariants: each code has one meaning, and success is only success.

use crate::base::error::Kind;

/// Everything was done.
pub const DONE: u8 = 0;

/// A code and its meaning.
pub const TABLE: [(u8, &str); 10] = [
    (DONE, "done"),
    (1, "failed"),
    (2, "wrong usage"),
    (3, "done, but something differs or was left out"),
    (10, "no such archive or entry"),
    (11, "locked"),
    (12, "refused by the server"),
    (13, "a source is damaged or cannot be read safely"),
    (14, "not enough disk"),
    (130, "cancelled"),
];

/// Returns the kind of error that an exit code stands for; `None` for 0, and [`Kind::Failed`] for a code that
/// no kind has.
pub fn kind(of: u8) -> Option<Kind> {
    (of != DONE).then(|| {
        let known = Kind::ALL.into_iter().find(|kind| kind.exit_code() == of);
        known.unwrap_or(Kind::Failed)
    })
}

/// The table as it stands in the help.
pub fn help() -> String {
    let lines: Vec<String> = TABLE
        .iter()
        .map(|(code, meaning)| format!("  {code:>3}  {meaning}"))
        .collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_code_of_its_own_in_the_table() {
        let mut codes: Vec<u8> = Kind::ALL.into_iter().map(Kind::exit_code).collect();
        assert!(
            Kind::ALL
                .iter()
                .all(|one| kind(one.exit_code()) == Some(*one))
        );
        assert_eq!(kind(DONE), None);
        codes.push(DONE);
        codes.sort_unstable();
        assert_eq!(codes, TABLE.map(|(code, _)| code));
    }
}
