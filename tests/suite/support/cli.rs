//! Runs the built program, as a user would: arguments in, exit code and output out.
//!
//! Keeps true: nothing of the caller's `SNAPMERGE_*`, `QDRANT*` or `AWS_*` reaches it, it never waits for a
//! terminal, and it never outlives its test.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};
use serde_json::Value;

use super::{Outcome, Trial};

/// Generous: two busy cores, a debug build, an index to build. A test of speed sets its own.
const TIMEOUT: Duration = Duration::from_secs(300);

/// `cli!["merge", &a, &b, "-o", &out]`: a command line of anything that can be an argument.
macro_rules! cli {
    ($($arg:expr),* $(,)?) => {
        $crate::support::cli::Cli::new()$(.arg($arg))*
    };
}

/// A command line, not yet run.
#[derive(Debug, Clone)]
pub struct Cli {
    program: PathBuf,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    timeout: Duration,
}

impl Cli {
    /// The program that cargo built for this suite.
    pub fn new() -> Self {
        Self::of(env!("CARGO_BIN_EXE_snapmerge"))
    }

    fn of(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            envs: Vec::new(),
            dir: None,
            timeout: TIMEOUT,
        }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub fn args(self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let pair = (key.as_ref().to_owned(), value.as_ref().to_owned());
        self.envs.push(pair);
        self
    }

    /// The same, run by another program that gets it as its last arguments.
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        let (program, before) = wrapper.split_first().expect("a wrapper is a program");
        let inner = std::mem::replace(&mut self.program, program.into());
        let args = std::mem::take(&mut self.args);
        self.args = before.iter().map(OsString::from).collect();
        self.args.push(inner.into());
        self.args.extend(args);
        self
    }

    /// The folder to run in; the checkout otherwise.
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs it to its end.
    pub fn run(self) -> Outcome<Run> {
        self.start()?.wait()
    }

    /// Starts it, for a test that interrupts it or looks at it on its way.
    pub fn start(self) -> Outcome<Running> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that it can be stopped together with whatever it starts.
        command.process_group(0);
        command.current_dir(
            self.dir
                .as_deref()
                .unwrap_or(Path::new(env!("CARGO_MANIFEST_DIR"))),
        );
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if ["SNAPMERGE", "QDRANT", "AWS_"]
                .iter()
                .any(|own| name.starts_with(own))
            {
                command.env_remove(&key);
            }
        }
        // What is remembered of archives is the suite's, not the user's.
        command.env(
            "XDG_STATE_HOME",
            concat!(env!("CARGO_TARGET_TMPDIR"), "/state"),
        );
        command.envs(self.envs.iter().map(|(k, v)| (k, v)));
        let mut child = command
            .spawn()
            .map_err(|e| format!("starting {}: {e}", self.program.display()))?;
        Ok(Running {
            stdout: Some(read_all(child.stdout.take().expect("stdout is piped"))),
            stderr: Some(read_all(child.stderr.take().expect("stderr is piped"))),
            child,
            shown: self.shown(),
            timeout: self.timeout,
            started: Instant::now(),
        })
    }

    fn shown(&self) -> String {
        let name = self.program.file_name().unwrap_or_default();
        std::iter::once(name.to_string_lossy())
            .chain(self.args.iter().map(|arg| arg.to_string_lossy()))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// Both pipes are read at once: a program that fills one while nobody reads it would stand still.
fn read_all(mut pipe: impl Read + Send + 'static) -> JoinHandle<std::io::Result<Vec<u8>>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes)?;
        Ok(bytes)
    })
}

/// The program on its way; stopped, with all that it started, when the value goes away.
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<std::io::Result<Vec<u8>>>>,
    stderr: Option<JoinHandle<std::io::Result<Vec<u8>>>>,
    shown: String,
    timeout: Duration,
    started: Instant,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it come to its end?
    pub fn ended(&mut self) -> Outcome<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Sends a signal to the program alone, as `kill -INT PID` does.
    pub fn signal(&self, signal: Signal) -> Outcome {
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(|e| format!("{}: sending {signal:?}: {e}", self.shown).into())
    }

    /// Sends a signal to the program and all that it started, as Ctrl-C on a terminal does.
    pub fn signal_group(&self, signal: Signal) -> Outcome {
        kill_process_group(Pid::from_child(&self.child), signal)
            .map_err(|e| format!("{}: sending {signal:?} to all: {e}", self.shown).into())
    }

    /// Waits for its end, or stops it after the timeout and fails.
    pub fn wait(mut self) -> Outcome<Run> {
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(
                self.started.elapsed() < self.timeout,
                "{}: still running after {:?}",
                self.shown,
                self.timeout
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        let elapsed = self.started.elapsed();
        let mut text = |pipe: fn(&mut Self) -> Option<JoinHandle<_>>| -> Outcome<String> {
            let reader = pipe(&mut self).expect("a pipe is read once");
            let bytes = reader
                .join()
                .map_err(|_| "the reader of a pipe panicked")??;
            String::from_utf8(bytes).map_err(|e| format!("output is not UTF-8: {e}").into())
        };
        Ok(Run {
            stdout: text(|running| running.stdout.take())?,
            stderr: text(|running| running.stderr.take())?,
            status,
            elapsed,
            shown: std::mem::take(&mut self.shown),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Not waited for, the child still is who it was, and so is the group that it leads.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Run {
    pub stdout: String,
    pub stderr: String,
    pub status: ExitStatus,
    pub elapsed: Duration,
    shown: String,
}

impl Run {
    /// Fails unless the exit code is 0.
    pub fn ok(self) -> Outcome<Self> {
        self.code(0)
    }

    /// Fails unless it exited by itself with `code`, and without a panic, whatever the code.
    pub fn code(self, code: i32) -> Outcome<Self> {
        ensure!(
            self.status.code() == Some(code),
            "exit code {code} expected\n{}",
            self.told()
        );
        ensure!(
            !self.stderr.contains("panicked at"),
            "it panicked\n{}",
            self.told()
        );
        Ok(self)
    }

    /// The signal that ended it, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Fails unless stderr holds every one of `parts`: the file, the reason, the next step.
    pub fn says(self, parts: &[&str]) -> Outcome<Self> {
        for part in parts {
            ensure!(
                self.stderr.contains(part),
                "stderr lacks {part:?}\n{}",
                self.told()
            );
        }
        Ok(self)
    }

    /// Fails unless stdout has all `parts` in it.
    pub fn prints(self, parts: &[&str]) -> Outcome<Self> {
        for part in parts {
            ensure!(
                self.stdout.contains(part),
                "stdout lacks {part:?}\n{}",
                self.told()
            );
        }
        Ok(self)
    }

    /// Stdout as one JSON value.
    pub fn json(&self) -> Outcome<Value> {
        serde_json::from_str(&self.stdout)
            .map_err(|e| format!("stdout is not JSON: {e}\n{}", self.told()).into())
    }

    /// Stdout as JSON lines.
    pub fn json_lines(&self) -> Outcome<Vec<Value>> {
        self.stdout
            .lines()
            .enumerate()
            .map(|(n, line)| {
                serde_json::from_str(line)
                    .map_err(|e| format!("line {} is not JSON: {e}\n{}", n + 1, self.told()).into())
            })
            .collect()
    }

    /// All there is to see, for a message: the ends of long output.
    pub fn told(&self) -> String {
        let end = |text: &str| {
            let skip = text.chars().count().saturating_sub(2000);
            text.chars().skip(skip).collect::<String>()
        };
        format!(
            "$ {}\n{} after {:.1?}\n-- stdout\n{}\n-- stderr\n{}",
            self.shown,
            self.status,
            self.elapsed,
            end(&self.stdout),
            end(&self.stderr)
        )
    }
}

/// The helper itself, tried on the shell: it must see a wrong code, a panic, a signal and no end.
pub fn trials() -> Vec<Trial> {
    let sh = |script: &str| Cli::of("sh").arg("-c").arg(script);
    vec![
        Trial::new("support/cli/runs_the_program_that_was_built", || {
            let run = cli!["-V"].run()?.ok()?;
            let version = concat!("snapmerge ", env!("CARGO_PKG_VERSION"));
            ensure_eq!(run.stdout.trim(), version, "what -V says");
            Ok(())
        }),
        Trial::new("support/cli/sees_how_it_ended", move || {
            ensure!(sh("exit 3").run()?.ok().is_err(), "code 3 passed as 0");
            let run = sh("echo '{\"a\":1}'; echo '[2]'; echo why >&2; exit 13").run()?;
            let run = run.code(13)?.says(&["why"])?;
            ensure!(
                run.clone().says(&["wherefore"]).is_err(),
                "said what it did not say"
            );
            ensure_eq!(
                run.json_lines()?,
                vec![serde_json::json!({"a": 1}), serde_json::json!([2])],
                "lines"
            );
            ensure!(run.json().is_err(), "two values passed as one");
            let panicked = sh("echo \"thread 'main' panicked at src\" >&2; exit 1").run()?;
            ensure!(panicked.code(1).is_err(), "a panic passed");
            let running = sh("exec sleep 60").start()?;
            running.signal(Signal::TERM)?;
            let run = running.wait()?;
            ensure_eq!(run.signal(), Some(Signal::TERM.as_raw()), "the signal");
            ensure!(
                run.code(143).is_err(),
                "ended by a signal, passed as a code"
            );
            Ok(())
        }),
        Trial::new("support/cli/never_hangs", move || {
            // More than a pipe holds, on both, with a child of its own that keeps them open.
            let much = sh(
                "head -c 300000 /dev/zero | tr '\\0' a; head -c 300000 /dev/zero | tr '\\0' b >&2",
            );
            let run = much.run()?.ok()?;
            ensure_eq!(
                (run.stdout.len(), run.stderr.len()),
                (300_000, 300_000),
                "all of it"
            );
            let start = Instant::now();
            let late = sh("sleep 60; true")
                .timeout(Duration::from_millis(200))
                .run();
            ensure!(late.is_err(), "a program without end passed");
            ensure!(
                start.elapsed() < Duration::from_secs(30),
                "the timeout came late"
            );
            Ok(())
        }),
        Trial::new("support/cli/clears_the_environment", move || {
            // The suite itself may run with these set (scripts/test.sh --live).
            let script = "env | grep -cE '^(SNAPMERGE|QDRANT)' || true";
            let run = sh(script).env("SNAPMERGE_TEST", "x").run()?.ok()?;
            ensure_eq!(run.stdout.trim(), "1", "only what the test gave");
            Ok(())
        }),
    ]
}
