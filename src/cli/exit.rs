//! The exit codes: one table for the help, the tests and the process.
//!
//! Keeps true: each code has one meaning, and success is only success.

use crate::error::Kind;

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

/// The exit code for an error.
pub fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Failed => 1,
        Kind::Usage => 2,
        Kind::Differs => 3,
        Kind::NotFound => 10,
        Kind::Locked => 11,
        Kind::Refused => 12,
        Kind::Damaged => 13,
        Kind::NoSpace => 14,
        Kind::Cancelled => 130,
    }
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
        let kinds = [
            Kind::Failed,
            Kind::Usage,
            Kind::Differs,
            Kind::NotFound,
            Kind::Locked,
            Kind::Refused,
            Kind::Damaged,
            Kind::NoSpace,
            Kind::Cancelled,
        ];
        let mut codes: Vec<u8> = kinds.into_iter().map(code).collect();
        codes.push(DONE);
        codes.sort_unstable();
        assert_eq!(codes, TABLE.map(|(code, _)| code));
    }
}
