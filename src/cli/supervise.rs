//! Doing risky work in a child process, so that a user sees an error and not a crash.
//!
//! The engine maps files into memory; a file that is shorter than it should be, or a full disk
//! under a sparse one, ends the process with a signal. The parent knows from [`crate::status`] what
//! the child was doing, says so, and removes what it left.
//!
//! Keeps true: however the child ends, its folders are removed and the user gets one of the exit
//! codes of the table; when the parent is killed, the child goes with it.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::error::{Error, Kind, Result};
use crate::scratch::free_bytes;
use crate::status::{self, Status};

/// Tells a child that it is one.
const WORKER: &str = "SNAPMERGE_WORKER";
/// A disk with less than this free is full for a file that is written page by page, in bytes.
const FULL_BYTES: u64 = 1 << 20;

/// Whether this process is a child that does the work. It then watches its parent's life.
pub fn is_worker() -> bool {
    std::env::var_os(WORKER).is_some()
}

/// Prepares this process, which is a child: it ends with its parent, and tells what it does.
pub fn be_worker() -> Result<()> {
    let failed = |err: std::io::Error| Error::failed("preparing the working process", err);
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|err| failed(err.into()))?;
    // Standard input is the unnamed file that the parent reads.
    let file = std::os::fd::AsFd::as_fd(&std::io::stdin())
        .try_clone_to_owned()
        .map_err(failed)?;
    status::watch(File::from(file));
    Ok(())
}

/// Runs this program again with the same arguments as a child; returns its exit code.
pub fn run() -> Result<u8> {
    let failed = |err: std::io::Error| Error::failed("starting the working process", err);
    let told = tempfile::tempfile().map_err(failed)?;
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(WORKER, "1")
        .stdin(Stdio::from(told.try_clone().map_err(failed)?))
        .spawn()
        .map_err(failed)?;
    let cancelled = stop_on_signal(&child)?;
    let status = child.wait().map_err(failed)?;
    if let Some(code) = status.code()
        && !cancelled.load(Ordering::SeqCst)
    {
        return Ok(u8::try_from(code).unwrap_or(1));
    }
    Err(explain(
        status,
        &status::told(&told),
        cancelled.load(Ordering::SeqCst),
    ))
}

/// Ctrl-C and the like stop the child at once; what it leaves is removed here.
fn stop_on_signal(child: &Child) -> Result<Arc<AtomicBool>> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancelled);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    ctrlc::set_handler(move || {
        flag.store(true, Ordering::SeqCst);
        if let Some(pid) = pid {
            // It may have ended already.
            let _ = kill_process(pid, Signal::KILL);
        }
    })
    .map_err(|err| Error::failed("listening for Ctrl-C", err))?;
    Ok(cancelled)
}

fn explain(status: ExitStatus, told: &Status, cancelled: bool) -> Error {
    let full = told
        .folders
        .iter()
        .any(|folder| free_bytes(folder).is_ok_and(|free| free < FULL_BYTES));
    for folder in &told.folders {
        // What it removed itself is not there any more.
        let _ = std::fs::remove_dir_all(folder);
    }
    if cancelled {
        return Error::new(
            Kind::Cancelled,
            "working",
            "cancelled; nothing was left behind",
        );
    }
    let doing = match told.acts.as_slice() {
        [] => "working".to_owned(),
        [act] => act.clone(),
        acts => format!("one of: {}", acts.join("; ")),
    };
    let signal = status.signal().unwrap_or(0);
    if full {
        return Error::new(Kind::NoSpace, doing, "the disk is full")
            .next("free some room, or point --scratch DIR and -o at other disks");
    }
    const KILL: i32 = 9;
    const INTERRUPT: i32 = 2;
    const TERMINATE: i32 = 15;
    match signal {
        KILL => Error::failed(doing, "the working process was killed").next(
            "if nobody killed it, the system ran out of memory (see its log): free some and try \
             again",
        ),
        INTERRUPT | TERMINATE => {
            Error::new(Kind::Cancelled, doing, "cancelled; nothing was left behind")
        }
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
    use crate::cli::exit;

    #[test]
    fn a_dead_child_is_explained() {
        let told = Status {
            acts: vec!["opening shard 0 of a.snapshot".into()],
            folders: Vec::new(),
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
        let cancelled = explain(ExitStatus::from_raw(9), &told, true);
        assert_eq!(exit::code(cancelled.kind()), 130);
    }
}
