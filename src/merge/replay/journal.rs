//! Journal of a replay's progress, in a file that nothing else depends on: without it, `--sync`
//! does the same by comparing.
//!
//! Each line is a JSON object: first the target and the plan that the journal is for, then that the
//! collection was made, then every mark that was reached, then that all was sent and that all was
//! proven.
//!
//! Invariants: whatever is recorded is so on the server; a last line that was cut off is ignored;
//! the journal of another merge is never taken for this one's.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::durable::Log;
use crate::base::error::{Error, Result};

/// The name and version of its form.
const FORMAT: &str = "snapmerge-replay/1";

/// A point in the order of what is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Points up to it.
    pub points: u64,
    /// Their digest.
    pub digest: String,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Line {
    /// The first.
    Begins {
        /// The form.
        format: String,
        /// Address of the collection.
        target: String,
        /// Fingerprint of the sources' names, settings and config.
        plan: String,
    },
    /// The collection was made by this.
    Made,
    /// Everything up to here is on the server.
    Reached(Mark),
    /// All is on the server.
    Sent(Mark),
    /// The server has it all, and what it has was compared; its own digest.
    Proven {
        /// The digest of what the server has.
        digest: String,
    },
}

/// Progress of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// Address of the collection.
    pub target: String,
    /// Fingerprint of the sources' names, settings and config.
    pub plan: String,
    /// True if the run made the collection.
    pub made: bool,
    /// The last mark.
    pub reached: Mark,
    /// True if everything was sent.
    pub sent: bool,
    /// Digest of the collection's content, once it was proven.
    pub proven: Option<String>,
}

/// A journal that is written.
pub struct Journal {
    log: Log,
}

impl Journal {
    /// The journal at `path`, and what an earlier run wrote; no other run may have it open.
    pub fn open(path: &Path) -> Result<(Self, Option<Earlier>)> {
        let (log, text) = Log::open(path)?;
        let earlier = read(&text).map_err(|why| {
            Error::failed(format!("reading journal {}", path.display()), why)
                .next("name another file with --journal, or remove this one")
        })?;
        Ok((Self { log }, earlier))
    }

    /// Forgets everything, and begins for `target` and `plan`.
    pub fn begin(&mut self, target: &str, plan: &str) -> Result<()> {
        self.log.clear()?;
        self.add(&Line::Begins {
            format: FORMAT.into(),
            target: target.to_owned(),
            plan: plan.to_owned(),
        })
    }

    /// Adds a line; it is on the disk when this returns.
    pub fn add(&mut self, line: &Line) -> Result<()> {
        self.log.add(line)
    }
}

fn read(text: &str) -> Result<Option<Earlier>, String> {
    let mut earlier: Option<Earlier> = None;
    for line in text.split_inclusive('\n') {
        // The process was killed while it wrote this.
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        let line: Line = serde_json::from_str(line).map_err(|err| err.to_string())?;
        match (line, &mut earlier) {
            (
                Line::Begins {
                    format,
                    target,
                    plan,
                },
                None,
            ) => {
                if format != FORMAT {
                    return Err(format!("it is a {format}, this version writes {FORMAT}"));
                }
                earlier = Some(Earlier {
                    target,
                    plan,
                    made: false,
                    reached: Mark::default(),
                    sent: false,
                    proven: None,
                });
            }
            (Line::Begins { .. }, Some(_)) => return Err("it begins twice".into()),
            (_, None) => return Err("it does not begin with what it is for".into()),
            (Line::Made, Some(earlier)) => earlier.made = true,
            (Line::Reached(mark), Some(earlier)) => earlier.reached = mark,
            (Line::Sent(mark), Some(earlier)) => {
                earlier.reached = mark;
                earlier.sent = true;
            }
            (Line::Proven { digest }, Some(earlier)) => earlier.proven = Some(digest),
        }
    }
    Ok(earlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(points: u64) -> Mark {
        Mark {
            points,
            digest: format!("v1:{points}:00"),
        }
    }

    #[test]
    fn what_was_written_is_read_and_a_cut_line_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.journal");
        let (mut journal, earlier) = Journal::open(&path).unwrap();
        assert_eq!(earlier, None);
        journal.begin("http://a/b", "plan-1").unwrap();
        journal.add(&Line::Made).unwrap();
        journal.add(&Line::Reached(mark(10))).unwrap();
        journal.add(&Line::Reached(mark(20))).unwrap();
        // Nobody else writes at the same time.
        let busy = Journal::open(&path).err().unwrap();
        assert!(busy.why().contains("another"), "{busy}");
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let (mut journal, earlier) = Journal::open(&path).unwrap();
        let earlier = earlier.unwrap();
        assert!(earlier.made && !earlier.sent && earlier.proven.is_none());
        assert_eq!(earlier.reached, mark(10));
        assert_eq!(
            (earlier.target.as_str(), earlier.plan.as_str()),
            ("http://a/b", "plan-1")
        );
        // The next line stands by itself.
        journal.add(&Line::Sent(mark(30))).unwrap();
        let digest = "v1:30:11".to_owned();
        journal
            .add(&Line::Proven {
                digest: digest.clone(),
            })
            .unwrap();
        drop(journal);
        let (mut journal, earlier) = Journal::open(&path).unwrap();
        let earlier = earlier.unwrap();
        assert!(earlier.sent);
        assert_eq!((earlier.reached, earlier.proven), (mark(30), Some(digest)));
        journal.begin("http://a/b", "plan-2").unwrap();
        drop(journal);
        let (_, earlier) = Journal::open(&path).unwrap();
        assert_eq!(earlier.unwrap().reached, Mark::default());
    }

    #[test]
    fn what_is_no_journal_is_refused() {
        for text in [
            "hello\n",
            "{\"event\":\"made\"}\n",
            "{\"event\":\"begins\",\"format\":\"snapmerge-replay/9\",\"target\":\"a\",\"plan\":\"b\"}\n",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read("{\"event\":\"beg").unwrap(), None);
    }
}
