//! The releases of Qdrant that this was tried with.
//!
//! Invariants: a cell says what a test of the suite has seen (`tests/suite/versions`, which makes its
//! tests out of this table); what nobody tried is told as such.

use std::fmt;

/// A release of Qdrant, and what was tried with it.
#[derive(Debug, Clone, Copy)]
pub struct Release {
    /// Version number, by which tests find snapshots and servers.
    pub version: &'static str,
    /// Result of reading its snapshots, merging them by both offline routes, and proving the
    /// masters.
    pub read: Tried,
    /// Result of capturing its collections and restoring its own snapshots to it, also by
    /// `--route scratch`.
    pub captured: Tried,
    /// Result of restoring masters of today's form to it.
    pub masters: Tried,
    /// Result of writing masters into it by `merge --into`, those of nightly runs included.
    pub replayed: Tried,
}

/// Result of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// It works.
    Works,
    /// It is refused before anything is changed, with what to do instead.
    Refused,
    /// Nobody tried.
    Not,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Works => "works",
            Self::Refused => "refused",
            Self::Not => "not tried",
        })
    }
}

use Tried::{Not, Refused, Works};

const fn tried(version: &'static str, captured: Tried, masters: Tried, replayed: Tried) -> Release {
    Release {
        version,
        read: Works,
        captured,
        masters,
        replayed,
    }
}

/// All of them, oldest first. A new one is a line here, and a folder of its snapshots.
pub const RELEASES: [Release; 8] = [
    tried("1.7.4", Works, Refused, Works),
    tried("1.10.1", Not, Not, Not),
    tried("1.13.6", Not, Not, Not),
    tried("1.15.5", Not, Not, Not),
    tried("1.16.3", Not, Not, Not),
    tried("1.17.1", Not, Not, Not),
    tried("1.18.3", Not, Not, Not),
    tried("1.19.0", Works, Works, Works),
];

/// The table in Markdown, which is also readable as it is.
pub fn table() -> String {
    let mut text = String::from(
        "| Qdrant | snapshots read | captured, restored | masters restored | `merge --into`, nights |\n\
         |---|---|---|---|---|\n",
    );
    for Release {
        version,
        read,
        captured,
        masters,
        replayed,
    } in RELEASES
    {
        text.push_str(&format!(
            "| {version} | {read} | {captured} | {masters} | {replayed} |\n"
        ));
    }
    text
}
