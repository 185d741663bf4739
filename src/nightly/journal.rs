//! The journal of a night: each step's inputs and result, written down before the next one begins; and
//! the lock that keeps two runs of one plan apart.
//!
//! The lock is the system's lock on the journal's file, which goes away with its process, however that
//! ends; `holder.json` beside it says whose it is.
//!
//! Invariants: a step that stands here was done; one that was killed does not stand here; what was
//! done with other inputs is not taken for done.

use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::archive::Holder;
use crate::base::durable;
use crate::base::durable::Log;
use crate::base::error::{Error, Kind, Result};

/// The journal's name.
const FILE: &str = "journal.jsonl";
/// The name of the file that says whose the lock is.
const HOLDER: &str = "holder.json";

/// Killed processes that are remembered.
const KILLED_MAX: usize = 64;

/// Format of run ids: `20261122_030000`.
const RUN_ID: &str = "%Y%m%d_%H%M%S";

/// Returns true if `text` has the form of a run id.
pub fn is_run_id(text: &str) -> bool {
    text.len() == 15
        && text.char_indices().all(|(at, char)| match at {
            8 => char == '_',
            _ => char.is_ascii_digit(),
        })
}

/// A line of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
enum Line {
    /// A night begins.
    Begin(Begin),
    /// A step was done.
    Done {
        step: String,
        inputs: Value,
        result: Value,
        at: DateTime<Utc>,
        seconds: f64,
    },
    /// The night came to its end.
    End { at: DateTime<Utc> },
}

/// Identity of a run, written when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// Id of the run, as `20261122_030000`.
    pub id: String,
    /// When it began.
    // Its name on disk, where earlier versions wrote it, too.
    #[serde(rename = "begun")]
    pub started: DateTime<Utc>,
    /// The SHA-256 of its plan.
    pub plan: String,
    /// Version of snapmerge that started it.
    pub snapmerge: String,
}

/// The journal, held by this process alone.
pub struct Journal {
    log: Log,
    lines: Vec<Line>,
    holder: PathBuf,
    own: Holder,
    /// Processes that held the lock before and were killed without releasing it, since the locks that they
    /// held elsewhere were last released.
    pub killed: Vec<Holder>,
}

/// The holder of the lock, and killed processes that never released it, oldest first. The oldest may still
/// hold the archive's lock, so the list is truncated at its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Holders {
    #[serde(flatten)]
    own: Holder,
    #[serde(default)]
    killed: Vec<Holder>,
}

impl Journal {
    /// Opens the journal in `state`, which is made if it is missing.
    pub fn open(state: &Path, doing: &str) -> Result<Self> {
        let path = state.join(FILE);
        let holder = state.join(HOLDER);
        let opened = match Log::open(&path) {
            // Of one that was killed and waits for its disk, the lock goes in a moment.
            Err(err) if err.kind() == Kind::Locked => {
                match read_holders(&holder).is_some_and(|holders| holders.own.is_gone_soon()) {
                    true => Log::open(&path),
                    false => Err(err),
                }
            }
            opened => opened,
        };
        let (log, text) = opened.map_err(|err| match err.kind() {
            Kind::Locked => locked(state, &holder),
            _ => err,
        })?;
        let mut lines = Vec::new();
        for (number, line) in text.lines().enumerate() {
            lines.push(serde_json::from_str(line).map_err(|err| {
                Error::failed(
                    format!("reading line {} of {}", number + 1, path.display()),
                    err,
                )
                .next("see what is in it, and move it away to begin a night anew")
            })?);
        }
        let mut killed = Vec::new();
        if let Some(before) = read_holders(&holder) {
            killed = before.killed;
            killed.push(before.own);
            killed.truncate(KILLED_MAX);
        }
        let journal = Self {
            log,
            lines,
            holder,
            own: Holder::this(doing),
            killed,
        };
        journal.write_holders()?;
        Ok(journal)
    }

    /// Forgets the killed: nothing of theirs is locked any more.
    pub fn let_go(&mut self) -> Result<()> {
        self.killed.clear();
        self.write_holders()
    }

    fn write_holders(&self) -> Result<()> {
        let holders = Holders {
            own: self.own.clone(),
            killed: self.killed.clone(),
        };
        durable::write_private_json(&self.holder, &holders)
    }

    /// The night that was interrupted, if it can be resumed: by the same plan and program, and not
    /// longer ago than `within`.
    pub fn interrupted(&self, plan: &str, now: DateTime<Utc>, within: TimeDelta) -> Option<Begin> {
        let Some(Line::Begin(begin)) = self.lines.first() else {
            return None;
        };
        let ended = self
            .lines
            .iter()
            .any(|line| matches!(line, Line::End { .. }));
        let is_same = begin.plan == plan && begin.snapmerge == env!("CARGO_PKG_VERSION");
        let is_recent = (now - begin.started).abs() <= within;
        (!ended && is_same && is_recent).then(|| begin.clone())
    }

    /// Begins a night anew. Nights are called by the second, each later than the one before; after one
    /// with a wrong clock only their times are true.
    pub fn begin(&mut self, plan: &str, now: DateTime<Utc>) -> Result<Begin> {
        let last = match self.lines.first() {
            Some(Line::Begin(last)) => NaiveDateTime::parse_from_str(&last.id, RUN_ID).ok(),
            _ => None,
        };
        let after = last.and_then(|last| last.checked_add_signed(TimeDelta::seconds(1)));
        let named = after.map_or(now.naive_utc(), |after| after.max(now.naive_utc()));
        let begin = Begin {
            id: named.format(RUN_ID).to_string(),
            started: now,
            plan: plan.to_owned(),
            snapmerge: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.log.clear()?;
        self.lines.clear();
        self.add(Line::Begin(begin.clone()))?;
        Ok(begin)
    }

    /// Returns the result of `step` if it was done with these inputs.
    pub fn done<T: DeserializeOwned>(&self, step: &str, inputs: &Value) -> Option<T> {
        self.lines.iter().rev().find_map(|line| match line {
            Line::Done {
                step: own,
                inputs: with,
                result,
                ..
            } if own == step && with == inputs => serde_json::from_value(result.clone()).ok(),
            _ => None,
        })
    }

    /// Returns true if `step` was done in this run, with any inputs.
    pub fn has(&self, step: &str) -> bool {
        let mut lines = self.lines.iter();
        lines.any(|line| matches!(line, Line::Done { step: own, .. } if own == step))
    }

    /// Writes down that `step` was done.
    pub fn write(&mut self, step: &str, inputs: &Value, result: Value, seconds: f64) -> Result<()> {
        self.add(Line::Done {
            step: step.to_owned(),
            inputs: inputs.clone(),
            result,
            at: Utc::now(),
            seconds,
        })
    }

    /// Writes down that the night came to its end.
    pub fn end(&mut self) -> Result<()> {
        self.add(Line::End { at: Utc::now() })
    }

    fn add(&mut self, line: Line) -> Result<()> {
        self.log.add(&line)?;
        self.lines.push(line);
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Whom a run could not care for, the next one does.
        if self.killed.is_empty() {
            // A file that stays says that this process was killed, which only makes the next one more
            // careful.
            let _ = durable::remove(&self.holder);
        }
    }
}

fn read_holders(path: &Path) -> Option<Holders> {
    durable::read_json(path).ok().flatten()
}

fn locked(state: &Path, holder: &Path) -> Error {
    let who = read_holders(holder).map_or_else(
        || "another run that does not say who it is".to_owned(),
        |holders| holders.own.to_string(),
    );
    Error::new(
        Kind::Locked,
        format!("locking {}", state.display()),
        format!("it is locked by {who}"),
    )
    .next(
        "wait for its end, or stop that process: the lock goes away with it, and the next run goes \
         on where it was",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_done_is_known_after_a_kill_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let now: DateTime<Utc> = "2026-11-22T03:00:00Z".parse().unwrap();
        let hours = TimeDelta::hours(12);
        let mut journal = Journal::open(folder.path(), "run").unwrap();
        assert_eq!(journal.interrupted("p", now, hours), None);
        assert_eq!(journal.begin("p", now).unwrap().id, "20261122_030000");
        journal
            .write("merge", &json!([1]), json!({"points": 7}), 0.5)
            .unwrap();
        let err = Journal::open(folder.path(), "run").err().unwrap();
        assert_eq!(err.kind(), Kind::Locked);
        assert!(err.why().contains("run on "), "{err}");
        // As SIGKILL leaves it: half a line, and the lock gone with the process.
        journal.log.append(b"{\"what\": \"done\", ").unwrap();
        let left = std::fs::read(folder.path().join(HOLDER)).unwrap();
        drop(journal);
        std::fs::write(folder.path().join(HOLDER), left).unwrap();
        let mut journal = Journal::open(folder.path(), "run").unwrap();
        assert_eq!(journal.killed.len(), 1);
        assert_eq!(journal.killed[0].pid, std::process::id());
        assert!(
            journal
                .interrupted("p", now + TimeDelta::hours(11), hours)
                .is_some()
        );
        assert!(
            journal
                .interrupted("p", now + TimeDelta::hours(13), hours)
                .is_none()
        );
        assert!(journal.interrupted("q", now, hours).is_none());
        assert_eq!(
            journal.done::<Value>("merge", &json!([1])).unwrap()["points"],
            7
        );
        assert_eq!(journal.done::<Value>("merge", &json!([2])), None);
        assert_eq!(journal.done::<Value>("restore", &json!([1])), None);
        journal.end().unwrap();
        assert!(journal.interrupted("p", now, hours).is_none());
        assert_eq!(journal.begin("p", now).unwrap().id, "20261122_030001");
    }

    #[test]
    fn a_wrong_clock_of_one_night_is_not_the_time_of_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), "run").unwrap();
        let wrong: DateTime<Utc> = "2099-01-01T00:00:00Z".parse().unwrap();
        let now: DateTime<Utc> = "2026-11-22T03:00:00Z".parse().unwrap();
        journal.begin("p", wrong).unwrap();
        for id in ["20990101_000001", "20990101_000002"] {
            let begin = journal.begin("p", now).unwrap();
            assert_eq!((begin.id.as_str(), begin.started), (id, now));
        }
    }

    #[test]
    fn a_killed_process_is_known_until_what_it_held_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Journal::open(folder.path(), "run").unwrap();
        let file = folder.path().join(HOLDER);
        let killed = |journal: Journal| {
            let left = std::fs::read(&file).unwrap();
            drop(journal);
            std::fs::write(&file, left).unwrap();
        };
        killed(open());
        // The archive was away, in a run that came to its end and in one that was killed too.
        drop(open());
        killed(open());
        let mut journal = open();
        assert!(journal.killed.len() >= 2, "{:?}", journal.killed);
        journal.let_go().unwrap();
        drop(journal);
        assert!(!file.exists());
        assert!(open().killed.is_empty());
    }
}
