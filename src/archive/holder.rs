//! Who holds the archive's lock, and whether that process is certainly gone.

use std::fmt;

use chrono::{DateTime, SubsecRound as _, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Unlike any other.
    pub owner: Uuid,
    /// The machine's name.
    pub host: String,
    /// Which start of that machine.
    pub boot: String,
    /// The process on it.
    pub pid: u32,
    /// When that process started, in the machine's ticks.
    pub started: u64,
    /// What it does.
    pub doing: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on {}, process {}, since {}",
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
        Self {
            owner: Uuid::new_v4(),
            host: host.nodename().to_string_lossy().into_owned(),
            boot: boot(),
            pid,
            started: started(pid).unwrap_or(0),
            doing: doing.to_owned(),
            since: Utc::now().trunc_subsecs(0),
        }
    }

    /// Whether its process is certainly gone: it was one of this machine, which has started anew
    /// since, or has no such process.
    pub fn is_gone(&self) -> bool {
        let here = Self::this("");
        if self.host != here.host {
            return false;
        }
        if here.boot.is_empty() || self.boot.is_empty() {
            return false;
        }
        self.boot != here.boot || started(self.pid) != Some(self.started)
    }
}

/// This start of the machine. In a container, whose processes have numbers of their own, it is told
/// apart by the namespace too.
fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    match id.trim() {
        "" => String::new(),
        id => format!("{id} {}", space.display()),
    }
}

/// When the process `pid` started, in ticks since the machine did.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, whatever that holds.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    // A zombie has ended.
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
