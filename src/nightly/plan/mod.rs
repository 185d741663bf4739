//! The plan of a night, as it is meant: read, compared with its schema, and every value resolved.
//!
//! Invariants: whatever can be known to be wrong without asking a server is found here, all of it at
//! once; paths are those beside the plan's file, so that it means the same wherever it is run from.

mod faults;
mod file;
mod resolve;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use url::Url;

use self::file::PlanFile;
pub use self::file::{IfBroken, IfMoved, Verify, schema};
use crate::archive::{Location, Policy, Recipient};
use crate::base::error::{Error, Result};
use crate::base::{durable, own};
use crate::capture::IncrementalOptions;
use crate::input::LiveInputOptions;
use crate::merge::MergeOptions;
use crate::publish::Allow;
use crate::server::{Address, ConnectionSettings, Rate};

/// A commented plan to start from.
pub const TEMPLATE: &str = include_str!("template.toml");
/// Largest plan that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A plan that can be carried out as far as is known without asking.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Path of the plan's file.
    pub file: PathBuf,
    /// The SHA-256 of its text.
    pub sha256: String,
    /// Name in reports and metrics.
    pub name: String,
    /// Folder of the state: journal, lock, history of aliases.
    pub state: PathBuf,
    /// True if the plan names `state`; false for the default folder.
    pub is_state_named: bool,
    /// The folder with room for snapshots.
    pub work: PathBuf,
    /// The archive that snapshots are kept in.
    pub archive: ArchivePlan,
    /// The servers by name.
    pub servers: BTreeMap<String, Server>,
    /// Collections to capture, in the order that decides conflicts.
    pub sources: Vec<SourcePlan>,
    /// The master.
    pub master: Option<MasterPlan>,
    /// Checks that the master has to pass.
    pub checks: Checks,
    /// Server and alias that the master is published to, if it is.
    pub publish: Option<PublishPlan>,
    /// Retention policy of the archive; none keeps everything.
    pub keep: Option<Policy>,
    /// Bytes a second at the most.
    pub rate: Option<Rate>,
    /// Age up to which an interrupted run is resumed.
    pub resume_within: Duration,
    /// Report and metrics files of a run.
    pub report: ReportPlan,
    /// Commands before and after the work.
    pub hooks: HooksPlan,
    /// Notification of a run that did not end with 0.
    pub on_failure: Option<NotifyPlan>,
    /// Notification of a run that ended with 0.
    pub on_success: Option<NotifyPlan>,
}

/// Commands before and after the work; an empty one is none.
#[derive(Debug, Clone)]
pub struct HooksPlan {
    /// Before the work.
    pub run_before: Vec<String>,
    /// After the work.
    pub run_after: Vec<String>,
    /// After work that failed.
    pub run_failed: Vec<String>,
    /// Longest time that each may run.
    pub timeout: Duration,
}

/// The archive of a plan.
#[derive(Debug, Clone)]
pub struct ArchivePlan {
    /// Location as the plan gives it.
    pub place: String,
    /// The same, parsed.
    pub location: Location,
    /// True if a missing archive is created.
    pub create: bool,
    /// The key that signs.
    pub sign_key: Option<PathBuf>,
    /// Public keys, of which every record has to be signed with one; none if any will do.
    pub trust: Vec<PathBuf>,
    /// Those who open it, if it is encrypted.
    pub encrypt: Vec<Recipient>,
    /// File of the secret key that opens it.
    pub identity: Option<PathBuf>,
    /// Command that prints that key.
    pub identity_command: Option<String>,
    /// Words that snapshots are kept by.
    pub tags: Vec<String>,
}

/// A server.
#[derive(Debug, Clone)]
pub struct Server {
    /// REST address.
    pub address: Address,
    /// Connection settings.
    pub settings: ConnectionSettings,
    /// The same for a worker process, with the other members of its cluster.
    pub options: LiveInputOptions,
    /// The variable that holds the key.
    pub key_variable: Option<String>,
}

/// Collections to capture.
#[derive(Debug, Clone)]
pub struct SourcePlan {
    /// The server's name.
    pub server: String,
    /// Prefix of their names in the archive.
    pub prefix: String,
    /// Names; `*` and `?` are wildcards.
    pub collections: Vec<String>,
    /// Names of these that are left out; `*` and `?` are wildcards.
    pub except: Vec<String>,
    /// True if shards are streamed instead of having the server make a snapshot.
    pub stream: bool,
    /// True if a server without checksums is refused.
    pub require_checksum: bool,
    /// Choice of incremental or whole captures.
    pub incremental: IncrementalOptions,
    /// Effect on the master if one of them cannot be captured.
    pub if_broken: IfBroken,
}

/// The master.
#[derive(Debug, Clone)]
pub struct MasterPlan {
    /// Name in the archive, and prefix of the names of its collections.
    pub name: String,
    /// Options of the merge.
    pub options: MergeOptions,
    /// True if it is written into a live collection.
    pub live: bool,
    /// The server that reads snapshots.
    pub scratch_server: Option<String>,
}

/// Checks that the master has to pass.
#[derive(Debug, Clone, Copy)]
pub struct Checks {
    /// Comparison with its sources after the merge.
    pub verify: Verify,
    /// Searches that are compared.
    pub queries: Option<u32>,
    /// Points at the least.
    pub points_min: u64,
}

/// Server and alias that the master is published to.
#[derive(Debug, Clone)]
pub struct PublishPlan {
    /// The server's name.
    pub server: String,
    /// The alias.
    pub alias: String,
    /// Masters kept on the server; none for all.
    pub keep: Option<u32>,
    /// Largest allowed loss of points, in percent.
    pub max_shrink: f64,
    /// Conditions that are allowed although publishing usually refuses them.
    pub allow: Vec<Allow>,
    /// Action if somebody else has moved the alias.
    pub if_moved: IfMoved,
    /// Replicas of each shard.
    pub replication_factor: Option<u32>,
    /// Longest wait for the collection to become green.
    pub wait: Duration,
}

/// Report and metrics files of a run.
#[derive(Debug, Clone)]
pub struct ReportPlan {
    /// The folder of the nights' reports.
    pub folder: Option<PathBuf>,
    /// Runs whose reports are kept there.
    pub keep: u32,
    /// The file of the metrics.
    pub prometheus: Option<PathBuf>,
    /// The Pushgateway that gets them.
    pub pushgateway: Option<Url>,
}

/// One notification: a command, a webhook, or both.
#[derive(Clone)]
pub struct NotifyPlan {
    /// A program with its arguments.
    pub command: Vec<String>,
    /// An address, which may be a secret.
    pub webhook: Option<String>,
}

impl std::fmt::Debug for NotifyPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NotifyPlan")
            .field("command", &self.command)
            .field("webhook", &self.webhook.is_some())
            .finish()
    }
}

/// The environment: what a variable holds.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Plan {
    /// Makes the folder of what is remembered. One that the plan does not name has a name that others
    /// can guess, and has to be this user's own.
    pub fn require_state(&self) -> Result<()> {
        match self.is_state_named {
            true => durable::make_folder(&self.state),
            false => own::folder(&self.state),
        }
    }

    /// The folder of what is remembered of servers.
    pub fn of_servers(&self) -> PathBuf {
        self.state.join("servers")
    }

    /// Returns true if sources of the master may be incomplete.
    pub fn allows_incomplete(&self) -> bool {
        let master = self.master.as_ref();
        master.is_some_and(|master| master.options.allow_incomplete)
    }

    /// Reads the plan in `file`.
    pub fn read(file: &Path, variable: Variables<'_>) -> Result<Self> {
        let failed = |err: &std::io::Error| Error::io("reading plan", file, err);
        let bytes = std::fs::metadata(file).map_err(|err| failed(&err))?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(Error::usage(
                format!("reading plan {}", file.display()),
                format!("it is {bytes} bytes long"),
            )
            .next("give a plan, as snapmerge init writes one"));
        }
        let text = std::fs::read_to_string(file).map_err(|err| failed(&err))?;
        Self::parse(file, &text, variable)
    }

    /// Reads `text`, the plan of `file`.
    pub fn parse(file: &Path, text: &str, variable: Variables<'_>) -> Result<Self> {
        let doing = format!("reading plan {}", file.display());
        let refuse = |found: Vec<String>| {
            let why = match found.as_slice() {
                [one] => one.clone(),
                many => format!("{} faults:\n  - {}", many.len(), many.join("\n  - ")),
            };
            Error::usage(doing.as_str(), why)
                .next("mend the plan; snapmerge init shows one with every key, nothing was done")
        };
        let value: toml::Table =
            toml::from_str(text).map_err(|err| refuse(vec![err.to_string().trim().to_owned()]))?;
        let value = serde_json::to_value(value).map_err(|err| refuse(vec![err.to_string()]))?;
        let found = faults::faults(&value, &schema());
        if !found.is_empty() {
            return Err(refuse(found));
        }
        let read: PlanFile =
            serde_json::from_value(value).map_err(|err| refuse(vec![err.to_string()]))?;
        let mut hash = Sha256::new();
        hash.update(text.as_bytes());
        let sha256 = hex::encode(hash.finalize());
        resolve::resolve(file, sha256, read, variable).map_err(refuse)
    }
}

#[cfg(test)]
mod tests;
