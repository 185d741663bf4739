//! Doing risky work in a child process, so that a user sees an error and not a crash.
//!
//! The engine maps files into memory; a file that is shorter than it should be, or a full disk
//! under a sparse one, ends the process with a signal. The parent knows from [`crate::base::status`] what
//! the child was doing, says so, and removes what it left.
//!
//! Invariants: however the child ends, its folders are removed and the user gets one of the exit
//! codes of the table; when the parent is killed, the child goes with it; a child that wants more
//! memory than the machine has ends alone.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::io::retry_on_intr;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getpid, getppid, getrlimit, kill_process,
    set_parent_process_death_signal, setrlimit, waitid,
};

use crate::base::error::{Error, Kind, Result};
use crate::base::scratch;
use crate::base::status;
use crate::base::status::Status;
use crate::base::stop;
use crate::server::KEY_VARIABLE;

/// Tells a child that it is one, and whose.
const WORKER: &str = "SNAPMERGE_WORKER";
/// Tells a child that its request is in the file that is its standard input.
const REQUEST: &str = "SNAPMERGE_REQUEST";
/// Longest time that a child may take to clean up what it made on servers.
const PUTTING_AWAY: Duration = Duration::from_secs(60);
/// Interval between checks whether a child is to end.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Settings of glibc's allocator in the child: with an arena for each of its many threads, and with
/// thresholds that grow by themselves, it would keep much of what was freed. Elsewhere these mean nothing.
const ALLOCATOR: [(&str, &str); 2] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_TRIM_THRESHOLD_", "1048576"),
];

/// Returns true if this process is a child that does the work.
pub fn is_worker() -> bool {
    std::env::var_os(WORKER).is_some()
}

/// Prepares this process, which is a child: it ends with its parent, and tells what it does. Returns
/// its request, if it was given one.
pub fn be_worker() -> Result<Option<Vec<u8>>> {
    let failed = |err: std::io::Error| Error::failed("preparing the working process", err);
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|err| failed(err.into()))?;
    // The parent may have died before this was asked for.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if parent != std::env::var(WORKER).ok() {
        return Err(Error::new(
            Kind::Cancelled,
            "working",
            "the process that began this is gone",
        ));
    }
    limit_memory();
    // Whoever has something on a server puts it away; all else is killed by the parent.
    stop::listen()?;
    // Standard input is the unnamed file that the parent reads.
    let file = std::os::fd::AsFd::as_fd(&std::io::stdin())
        .try_clone_to_owned()
        .map_err(failed)?;
    let file = File::from(file);
    let request = match std::env::var_os(REQUEST) {
        Some(_) => Some(status::get(&file).map_err(failed)?),
        None => None,
    };
    status::watch(file);
    Ok(request)
}

/// A damaged length in a file can ask for more memory than there is. Then this process is to end, and
/// not whichever the system picks when it has run out.
fn limit_memory() {
    let Some(bytes) = memory_bytes() else {
        return;
    };
    let limit = getrlimit(Resource::Data);
    if limit.current.is_none_or(|current| current > bytes) {
        // Without it the work goes on as well.
        let _ = setrlimit(
            Resource::Data,
            Rlimit {
                current: Some(bytes),
                maximum: limit.maximum,
            },
        );
    }
}

/// The memory of this machine in bytes.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Runs this program as a child that reads `request` and answers in the same file; `key` is the API
/// key, which stands in no file.
pub(super) fn ask(request: &[u8], key: Option<&str>) -> Result<Vec<u8>> {
    let file = tempfile::tempfile().map_err(not_started)?;
    status::put(&file, request).map_err(not_started)?;
    stop::listen()?;
    let mut command = worker(&file)?;
    command.env(REQUEST, "1");
    if let Some(key) = key {
        command.env(KEY_VARIABLE, key);
    }
    let mut child = command.spawn().map_err(not_started)?;
    let (status, asked) = wait(&mut child, &file)?;
    let mut told = status::read(&file);
    match told.answer.take().filter(|_| status.success()) {
        Some(answer) => Ok(answer.into_bytes()),
        None => Err(explain(status, &told, asked)),
    }
}

/// Waits for `child`, and stops it when it is asked for by Ctrl-C and the like: what it leaves is
/// removed by this process, but if it has made something on a server it is asked first, and given
/// time to put that away. Tells whether it was stopped.
fn wait(child: &mut Child, told: &File) -> Result<(ExitStatus, bool)> {
    let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // Hears of its end at once, and leaves it unreaped: until then its number is nobody else's.
    let (says, end) = channel::<()>();
    std::thread::spawn(move || {
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        if let Some(number) = number {
            let _ = retry_on_intr(|| waitid(WaitId::Pid(number), ended));
        }
        drop(says);
    });
    let mut asked: Option<(u32, Instant)> = None;
    while end.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
        let times = stop::times();
        if times > asked.map_or(0, |(times, _)| times) {
            let puts_away = times == stop::WORK && !status::read(told).remote.is_empty();
            let how = if puts_away {
                Signal::TERM
            } else {
                Signal::KILL
            };
            signal(number, how);
            asked = Some((times, Instant::now()));
        } else if asked.is_some_and(|(_, since)| since.elapsed() > PUTTING_AWAY) {
            signal(number, Signal::KILL);
        }
    }
    let status = child.wait().map_err(not_started)?;
    Ok((status, asked.is_some()))
}

fn not_started(err: std::io::Error) -> Error {
    Error::failed("starting the working process", err)
}

/// This program as a child that tells `told` what it does.
fn worker(told: &File) -> Result<Command> {
    let unset = ALLOCATOR
        .iter()
        .filter(|(name, _)| std::env::var_os(name).is_none());
    let mut command = Command::new(std::env::current_exe().map_err(not_started)?);
    command
        .env(WORKER, getpid().as_raw_nonzero().to_string())
        .envs(unset.copied())
        .stdin(Stdio::from(told.try_clone().map_err(not_started)?));
    Ok(command)
}

fn signal(child: Option<Pid>, signal: Signal) {
    if let Some(pid) = child {
        // It may have ended already.
        let _ = kill_process(pid, signal);
    }
}

fn explain(status: ExitStatus, told: &Status, cancelled: bool) -> Error {
    let full = told.folders.iter().any(|folder| scratch::is_full(folder));
    let published: Vec<String> = told
        .published()
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let left: Vec<String> = told
        .folders
        .iter()
        // Folders that the child removed itself are not there any more.
        .filter(|folder| folder.exists() && scratch::remove(folder).is_err())
        .map(|folder| folder.display().to_string())
        .collect();
    let cancel = |doing: String| {
        let mut why = "cancelled".to_owned();
        if !told.remote.is_empty() {
            let remote = told.remote.join(" and ");
            why += &format!("; {remote} is still there, and the next run removes it or resumes it");
        }
        match published.as_slice() {
            [] => {}
            done => why += &format!("; {} was complete already", done.join(" and ")),
        }
        match left.as_slice() {
            [] => why += "; nothing was left behind",
            left => why += &format!("; could not remove {}", left.join(" and ")),
        }
        Error::new(Kind::Cancelled, doing, why)
    };
    if cancelled {
        return cancel("working".into());
    }
    let doing = match told.acts.as_slice() {
        [] => "working".to_owned(),
        [act] => act.clone(),
        acts => format!("one of: {}", acts.join("; ")),
    };
    if full {
        return Error::new(Kind::NoSpace, doing, "the disk is full").next(scratch::MORE_ROOM);
    }
    const KILL: i32 = 9;
    const INTERRUPT: i32 = 2;
    const TERMINATE: i32 = 15;
    let Some(signal) = status.signal() else {
        return Error::failed(doing, format!("the working process ended with {status}"))
            .next("this is a fault of snapmerge: please report it");
    };
    // The only way for a file of our own to be shorter than it is mapped is a disk without a page
    // for it; what the dead process held is free again by now, so the disk need not look full.
    const BUS: i32 = 7;
    match signal {
        BUS if told.only_own => {
            Error::new(Kind::NoSpace, doing, "the disk was full").next(scratch::MORE_ROOM)
        }
        KILL => Error::failed(doing, "the working process was killed").next(
            "if nobody killed it, the system ran out of memory (see its log): free some and try \
             again",
        ),
        INTERRUPT | TERMINATE => cancel(doing),
        signal => Error::damaged(
            doing,
            format!("the storage engine died of signal {signal} on a file that is damaged"),
        )
        .next("fetch or copy the snapshot again, and compare its SHA-256 with the server's"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_child_is_explained() {
        let told = Status {
            acts: vec!["opening shard 0 of a.snapshot".into()],
            ..Status::default()
        };
        let explained = |signal| explain(ExitStatus::from_raw(signal), &told, false);
        for (signal, kind) in [
            (7, Kind::Damaged),
            (11, Kind::Damaged),
            (6, Kind::Damaged),
            (9, Kind::Failed),
            (2, Kind::Cancelled),
        ] {
            let err = explained(signal);
            assert_eq!(err.kind(), kind, "{signal}");
            assert!(err.doing().contains("a.snapshot"), "{err}");
        }
        let own = Status {
            only_own: true,
            ..told.clone()
        };
        let full = explain(ExitStatus::from_raw(7), &own, false);
        assert_eq!(full.kind(), Kind::NoSpace);
        let cancelled = explain(ExitStatus::from_raw(9), &told, true);
        assert_eq!(cancelled.kind().exit_code(), 130);
    }
}
