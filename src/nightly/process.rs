//! Commands of a plan: hooks and notifications.
//!
//! Invariants: a command that does not end is stopped; asked to stop often enough, nobody is waited for;
//! a command's output is not mixed with the report.

use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::report::RunReport;
use crate::base::error::{Error, Result};
use crate::base::stop;

/// Interval between checks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A command that is to be run.
pub(super) struct Command<'a> {
    /// The act, for errors: "telling mail".
    pub doing: String,
    /// The table of the plan that names it.
    pub from: &'a str,
    /// Longest time that it may run.
    pub limit: Duration,
    /// Number of requests to stop that end it.
    pub stopped_by: u32,
}

impl Command<'_> {
    /// Runs `program` with `input` on its standard input, and in its environment the run as far as
    /// `report` has it. It has to end with 0.
    pub fn run(
        &self,
        program: &str,
        args: &[String],
        report: &RunReport,
        input: Option<Vec<u8>>,
    ) -> Result<()> {
        let mut child = std::process::Command::new(program)
            .args(args)
            .env("SNAPMERGE_PLAN", &report.plan)
            .env("SNAPMERGE_RUN", &report.id)
            .env("SNAPMERGE_OUTCOME", report.run_outcome.word())
            .env(
                "SNAPMERGE_EXIT_CODE",
                report.envelope.outcome.exit_code().to_string(),
            )
            .stdin(match input {
                Some(_) => Stdio::piped(),
                None => Stdio::null(),
            })
            .stdout(std::io::stderr())
            .spawn()
            .map_err(|err| self.failed(err))?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            // A command that does not read it stops the writing by its end.
            std::thread::spawn(move || stdin.write_all(&input));
        }
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().map_err(|err| self.failed(err))? {
                return match status.success() {
                    true => Ok(()),
                    false => Err(self.failed(format!("it ended with {status}"))),
                };
            }
            if started.elapsed() > self.limit {
                self.kill(child)?;
                let seconds = self.limit.as_secs();
                return Err(self.failed(format!("it had not ended after {seconds} s")));
            }
            if stop::times() >= self.stopped_by {
                self.kill(child)?;
                return Err(stop::cancelled(&self.doing));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn kill(&self, mut child: Child) -> Result<()> {
        let killed = child.kill().and_then(|()| child.wait());
        killed.map(drop).map_err(|err| self.failed(err))
    }

    fn failed(&self, why: impl std::fmt::Display) -> Error {
        let next = format!("see that the command of [{}] is right", self.from);
        Error::failed(self.doing.as_str(), why).next(next)
    }
}
