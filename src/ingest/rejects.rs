//! Rows that are no points.
//!
//! Invariants: each of them is written with its file, its number and the reason, or ends the ingest; the file of them
//! gets its name when the points have theirs.

use std::path::Path;

use serde::Serialize;

use super::input::Input;
use crate::base::durable::Staged;
use crate::base::error::{Error, Kind, Result};
use crate::base::lines::Lines;
use crate::base::overwrite::ReadFiles;

/// A reason with at most as many characters as are of use: it may have the row's value in it.
fn shortened(why: &str) -> String {
    const CHARS_MAX: usize = 500;
    match why.char_indices().nth(CHARS_MAX) {
        None => why.to_owned(),
        Some((at, _)) => format!("{}…", why.get(..at).unwrap_or_default()),
    }
}

/// Where rows go that are no points.
pub struct Rejects {
    out: Option<(Lines<'static>, Staged)>,
    /// Number of them.
    pub count: u64,
}

#[derive(Serialize)]
struct Rejected<'a> {
    file: &'a str,
    row: u64,
    why: &'a str,
}

impl Rejects {
    /// To the file at `path`, if there is one, which is none of those that are `read`.
    pub fn new(path: Option<&Path>, read: &ReadFiles, replace: bool) -> Result<Self> {
        let out = match path {
            None => None,
            Some(path) => {
                read.refuse(path)?;
                let staged = Staged::new(path, replace)?;
                let file = Box::new(staged.create()?);
                Some((Lines::to(file, "writing rejected rows"), staged))
            }
        };
        Ok(Self { out, count: 0 })
    }

    /// Takes the row `row` of `input`, which is no point because of `why`.
    pub fn add(&mut self, input: &Input, row: u64, why: &str) -> Result<()> {
        self.count += 1;
        let why = &shortened(why);
        match &mut self.out {
            Some((lines, _)) => {
                let file = input.name.as_str();
                lines.print(&Rejected { file, row, why }).map(drop)
            }
            None => Err(Error::new(
                Kind::Refused,
                format!("reading row {row} of {}", input.name),
                why,
            )
            .next("correct it, or have such rows written to a file with --reject FILE")),
        }
    }

    /// Writes the rest of them; the file waits for its name.
    pub fn close(self) -> Result<Option<Staged>> {
        let Some((lines, staged)) = self.out else {
            return Ok(None);
        };
        lines.end()?;
        Ok(Some(staged))
    }
}
