//! Text that was typed and cannot be meant: help, and errors that quote it.
//!
//! Invariants: no password of a URL that was typed is shown, and nothing that a terminal obeys.

use crate::base::printable::{printable_lines, without_passwords};

/// Shows help, or an error that quotes nothing secret, in colour and as wide as the terminal. Any other
/// error is returned as it may be shown. Either way with the exit code.
pub fn refuse(err: &clap::Error) -> (u8, Option<String>) {
    let text = err.render().to_string();
    let hidden = without_passwords(&text);
    let shown = printable_lines(&hidden);
    let code = u8::try_from(err.exit_code()).unwrap_or(2);
    if shown != text {
        return (code, Some(shown.into_owned()));
    }
    // A reader that has seen enough is no failure.
    let _ = err.print();
    (code, None)
}
