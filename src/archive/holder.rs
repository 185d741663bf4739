//! The holder of the archive's lock, and whether its process is certainly gone.
//!
//! Invariants: a process is called gone only where its number can be looked up: in the same start of
//! the same kernel and the same PID namespace, or (for processes of no container) after a restart of
//! the same machine. A name of a machine proves nothing: containers and clones share it.

use std::fmt;
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound as _, Utc};
use rustix::process::{Pid, test_kill_process};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// For so long it is waited for a killed process to end.
const KILLED_WAIT: Duration = Duration::from_secs(30);
/// The PID namespace of processes that are in no container (the kernel's PROC_PID_INIT_INO).
const INITIAL_NAMESPACE: &str = "pid:[4026531836]";

/// Process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Holder {
    /// Unlike any other.
    pub owner: Uuid,
    /// The machine's name.
    pub host: String,
    /// A hash of the machine's id (`/etc/machine-id`, which is not to be shown); empty where there is
    /// none.
    #[serde(default)]
    pub machine: String,
    /// The start of its kernel (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// The namespace in which [`Self::pid`] is a number of a process.
    #[serde(default)]
    pub pid_namespace: String,
    /// The process.
    pub pid: u32,
    /// When that process started, in the kernel's ticks since it started.
    pub started: u64,
    /// Operation that the process performs.
    pub doing: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let container = match self.pid_namespace.as_str() {
            "" | INITIAL_NAMESPACE => "",
            _ => " in a container",
        };
        write!(
            f,
            "{} on {}, process {}{container}, since {}",
            self.doing,
            self.host,
            self.pid,
            self.since.format("%Y-%m-%d %H:%M:%S UTC")
        )
    }
}

impl Holder {
    /// This process.
    pub fn this(doing: &str) -> Self {
        let pid = std::process::id();
        let host = rustix::system::uname();
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let machine = match read("/etc/machine-id").trim() {
            "" => String::new(),
            id => blake3::Hasher::new_derive_key("snapmerge archive lock")
                .update(id.as_bytes())
                .finalize()
                .to_hex()
                .to_string(),
        };
        Self {
            owner: Uuid::new_v4(),
            host: host.nodename().to_string_lossy().into_owned(),
            machine,
            boot: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
            pid_namespace: std::fs::read_link("/proc/self/ns/pid")
                .map(|link| link.display().to_string())
                .unwrap_or_default(),
            pid,
            started: match process(pid) {
                Process::Started(at) => at,
                Process::Gone | Process::Unknown => 0,
            },
            doing: doing.to_owned(),
            since: Utc::now().trunc_subsecs(0),
        }
    }

    /// Returns true if the holder's process is certainly gone.
    pub fn is_gone(&self) -> bool {
        self.is_gone_here(&Self::this(""))
    }

    /// The same, after a wait for the end of a process that was killed and has not ended yet: it does
    /// when the disk has answered it.
    pub fn is_gone_soon(&self) -> bool {
        let here = Self::this("");
        let until = Instant::now() + KILLED_WAIT;
        loop {
            if self.is_gone_here(&here) {
                return true;
            }
            let is_ending = self.boot == here.boot
                && self.pid_namespace == here.pid_namespace
                && is_killed(self.pid);
            if !is_ending || Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_gone_here(&self, here: &Self) -> bool {
        let same = |own: &String, other: &String| !own.is_empty() && own == other;
        if same(&self.boot, &here.boot) {
            return same(&self.pid_namespace, &here.pid_namespace)
                && match process(self.pid) {
                    Process::Gone => true,
                    Process::Started(at) => at != self.started,
                    Process::Unknown => false,
                };
        }
        // The machine has started anew. A container's processes may live on another one, which has
        // the same id if it was made of the same image.
        same(&self.machine, &here.machine)
            && same(&self.host, &here.host)
            && [&self.boot, &here.boot].iter().all(|boot| !boot.is_empty())
            && [self, here]
                .iter()
                .all(|one| one.pid_namespace == INITIAL_NAMESPACE)
    }

    /// Returns true if both are the same process; false if the kernel's boot id is not known.
    pub fn is_process_of(&self, other: &Self) -> bool {
        let of = |holder: &Self| {
            (
                holder.machine.clone(),
                holder.host.clone(),
                holder.boot.clone(),
                holder.pid_namespace.clone(),
                holder.pid,
                holder.started,
            )
        };
        !self.boot.is_empty() && of(self) == of(other)
    }
}

/// Returns true if a process was killed (SIGKILL is pending) but has not ended yet.
fn is_killed(pid: u32) -> bool {
    const KILL: u64 = 1 << (9 - 1);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status.lines().filter_map(|line| {
        line.strip_prefix("SigPnd:")
            .or(line.strip_prefix("ShdPnd:"))
    });
    pending
        .filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .any(|mask| mask & KILL != 0)
}

/// State of a process, looked up by its number.
enum Process {
    Gone,
    /// Ticks since the kernel started.
    Started(u64),
    /// It is there, but may not be looked at (`hidepid`).
    Unknown,
}

fn process(pid: u32) -> Process {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let is_there = || {
        number.is_some_and(|pid| !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH)))
    };
    if !is_there() {
        return Process::Gone;
    }
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        // It may have ended between the two looks.
        return match is_there() {
            true => Process::Unknown,
            false => Process::Gone,
        };
    };
    // The second field is the program's name in parentheses, whatever that holds.
    let mut fields = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace();
    match (fields.next(), fields.nth(18).map(str::parse)) {
        // A zombie has ended.
        (Some("Z" | "X"), _) => Process::Gone,
        (_, Some(Ok(started))) => Process::Started(started),
        _ => Process::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_is_certainly_gone_is_gone() {
        let mut here = Holder::this("testing");
        assert!(!here.is_gone());
        // As on a machine of its own, whatever these tests run in.
        here.machine = "a".into();
        here.pid_namespace = INITIAL_NAMESPACE.into();
        let gone = |change: fn(&mut Holder)| {
            let mut holder = here.clone();
            change(&mut holder);
            holder.is_gone_here(&here)
        };
        assert!(!gone(|_| {}));
        assert!(gone(|h| h.started += 1));
        assert!(gone(|h| h.pid = u32::MAX));
        assert!(gone(|h| h.boot += "x"), "the machine has restarted");
        // The same kernel, but a container, whose processes have other numbers.
        assert!(!gone(|h| {
            h.pid_namespace = "pid:[4026532000]".into();
            h.pid = u32::MAX;
        }));
        // Another machine of the same name, or of which nothing is known.
        let elsewhere = |change: fn(&mut Holder)| {
            let mut holder = here.clone();
            holder.boot += "x";
            change(&mut holder);
            holder.is_gone_here(&here)
        };
        assert!(!elsewhere(|h| h.machine = "b".into()));
        assert!(!elsewhere(|h| h.machine.clear()));
        assert!(!elsewhere(|h| h.host += "x"));
        assert!(!elsewhere(|h| h.boot.clear()));
        // A container of another machine that was made of the same image.
        assert!(!elsewhere(|h| h.pid_namespace = "pid:[4026532000]".into()));
        let mut inside = here.clone();
        inside.pid_namespace = "pid:[4026532000]".into();
        let mut before = inside.clone();
        before.boot += "x";
        assert!(!before.is_gone_here(&inside));
    }

    #[test]
    fn a_lock_of_before_is_read_and_its_process_is_not_taken_for_gone() {
        let text = r#"{"owner":"11111111-2222-4333-8444-555555555555","host":"h","boot":"b pid:[1]",
            "pid":1,"started":1,"doing":"archive add","since":"2026-11-22T03:00:00Z"}"#;
        let holder: Holder = serde_json::from_str(text).unwrap();
        assert!(!holder.is_gone());
        assert!(holder.is_process_of(&holder.clone()));
        assert_eq!(
            holder.to_string(),
            "archive add on h, process 1, since 2026-11-22 03:00:00 UTC"
        );
    }
}
