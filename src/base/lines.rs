//! Lines of JSON, one for each thing that a command tells, on standard output or elsewhere.
//!
//! Invariants: a reader that has seen enough (`| head`) is no failure, and the rest is left out; any
//! other trouble with writing is one.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};

use flate2::write::GzEncoder;
use serde::Serialize;

use super::error::{Error, Kind, Result};

/// Bytes of output that are held back.
const OUTPUT_BYTES: usize = 256 * 1024;

/// A writer that has something to do at its end.
pub trait Finish: io::Write {
    /// Writes what is left.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

impl Finish for io::StdoutLock<'_> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.flush()
    }
}

impl Finish for File {
    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

impl Finish for GzEncoder<File> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        GzEncoder::finish(*self).map(drop)
    }
}

/// The lines.
pub struct Lines<'a> {
    out: Option<BufWriter<Box<dyn Finish + 'a>>>,
    doing: &'static str,
}

impl<'a> Lines<'a> {
    /// To standard output; `doing` is what fails if that does.
    pub fn new(doing: &'static str) -> Self {
        Self::to(Box::new(io::stdout().lock()), doing)
    }

    /// To `out`.
    pub fn to(out: Box<dyn Finish + 'a>, doing: &'static str) -> Self {
        Self {
            out: Some(BufWriter::with_capacity(OUTPUT_BYTES, out)),
            doing,
        }
    }

    /// Prints one line. False if nobody reads on.
    pub fn print(&mut self, line: &impl Serialize) -> Result<bool> {
        let Some(out) = &mut self.out else {
            return Ok(false);
        };
        let written = serde_json::to_writer(&mut *out, line)
            .map_err(io::Error::from)
            .and_then(|()| out.write_all(b"\n"));
        self.check(written)?;
        Ok(self.out.is_some())
    }

    /// Writes what was held back.
    pub fn end(mut self) -> Result<()> {
        let finished = match self.out.take() {
            Some(out) => out
                .into_inner()
                .map_err(io::IntoInnerError::into_error)
                .and_then(Finish::finish),
            None => Ok(()),
        };
        self.check(finished)
    }

    fn check(&mut self, written: io::Result<()>) -> Result<()> {
        match written {
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => {
                self.out = None;
                Ok(())
            }
            Err(err) if err.kind() == io::ErrorKind::StorageFull => {
                Err(Error::new(Kind::NoSpace, self.doing, err)
                    .next("free some room where it leads to"))
            }
            other => other.map_err(|err| Error::failed(self.doing, err)),
        }
    }
}
