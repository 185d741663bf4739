//! Standard output, a line of JSON for each thing that a command tells.
//!
//! Invariants: a reader that has seen enough (`| head`) is no failure, and the rest is left out; any
//! other trouble with writing is one.

use std::io::{self, BufWriter, Write as _};

use serde::Serialize;

use super::error::{Error, Kind, Result};

/// Bytes of output that are held back.
const OUTPUT_BYTES: usize = 256 * 1024;

/// The lines.
pub struct Lines<'a> {
    out: Option<BufWriter<io::StdoutLock<'a>>>,
    doing: &'static str,
}

impl Lines<'_> {
    /// To standard output; `doing` is what fails if that does.
    pub fn new(doing: &'static str) -> Self {
        Self {
            out: Some(BufWriter::with_capacity(OUTPUT_BYTES, io::stdout().lock())),
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
        let flushed = match &mut self.out {
            Some(out) => out.flush(),
            None => Ok(()),
        };
        self.check(flushed)
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
