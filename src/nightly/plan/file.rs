//! The plan as it is written: what nightly.toml may say, and the schema that editors check it by.
//!
//! Invariants: every key is described here and nowhere else, since help, schema and the search for
//! misspelt keys are made of it; no key holds a secret, only where one is.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::archive::{PLACES, Policy};
use crate::capture::Incremental;
use crate::merge::MergeOptions;

/// Plan of one night.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "nightly.toml of snapmerge")]
pub struct PlanFile {
    /// Name of this plan in reports and metrics; the file's name otherwise.
    pub name: Option<String>,
    /// The state folder: the journal, the lock, what aliases pointed to. Beside a
    /// local archive by default, as ARCHIVE.nightly/NAME. Each plan has one of its own.
    pub state: Option<PathBuf>,
    /// Where snapshots are kept.
    pub archive: ArchivePart,
    /// The servers, by the names that the rest of the plan calls them by.
    pub servers: BTreeMap<String, ServerPart>,
    /// Collections to capture. The order decides conflicts: by `last` the later source wins.
    pub sources: Vec<SourcePart>,
    /// The master that is made of them; without it they are only captured and kept.
    pub master: Option<MasterPart>,
    /// Checks of the master besides the proof that every merge ends with.
    #[serde(default)]
    pub checks: ChecksPart,
    /// Where the master is restored and which alias is moved to it; without it, it is only archived.
    pub publish: Option<PublishPart>,
    /// Retention of the archive, for each name; without it, everything is kept.
    pub keep: Option<Policy>,
    /// Limits on the machine and the network.
    #[serde(default)]
    pub limits: LimitsPart,
    /// Where it is written how the night went.
    #[serde(default)]
    pub report: ReportPart,
    /// Commands that are run before and after the work.
    #[serde(default)]
    pub hooks: HooksPart,
    /// Commands and webhooks that are told how a run ended.
    #[serde(default)]
    pub notify: NotifyPart,
}

/// Where snapshots are kept.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchivePart {
    /// The archive: one of [`PLACES`].
    #[schemars(description = format!("The archive: {PLACES}."))]
    pub place: String,
    /// Make the archive if there is none.
    #[serde(default)]
    pub create: bool,
    /// The file of an ed25519 key (PEM) that signs what is written.
    pub sign_key: Option<PathBuf>,
    /// Files of ed25519 public keys (PEM): a record of the archive that is signed with none of them is
    /// refused.
    #[serde(default)]
    pub trust: Vec<PathBuf>,
    /// Make the archive so that the secret keys of these public ones (age1…) open it, and nobody else; one
    /// that is there must be encrypted for them.
    #[serde(default)]
    pub encrypt: Vec<String>,
    /// The file of the secret key (an age identity) that opens an encrypted archive.
    pub identity: Option<PathBuf>,
    /// The command that prints that key; the shell runs it.
    pub identity_command: Option<String>,
    /// Tags of every snapshot.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// A server.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerPart {
    /// Address, as http://HOST:6333.
    pub url: String,
    /// The environment variable that holds the API key.
    pub api_key_env: Option<String>,
    /// The file that holds the API key.
    pub api_key_file: Option<PathBuf>,
    /// Certificates (PEM) that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Take any certificate.
    #[serde(default)]
    pub insecure: bool,
    /// Timeout of an answer, in seconds.
    pub timeout: Option<u64>,
    /// Number of retries of a call that fails for a passing reason.
    pub retries: Option<u32>,
    /// The port of gRPC, if it is not the one after REST's.
    pub grpc_port: Option<u16>,
    /// Where it answers gRPC, if that is elsewhere, as http://HOST:6334.
    pub grpc: Option<String>,
    /// Where the other members of its cluster answer REST, by their ids.
    #[serde(default)]
    pub peers: BTreeMap<String, String>,
    /// The name of DNS that has the addresses of all members, as that of a headless service: DNS or
    /// DNS:PORT. Each is asked for its id; `peers` come first.
    pub members_from: Option<String>,
}

/// Collections to capture.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourcePart {
    /// The server's name in this plan.
    pub server: String,
    /// Prefix of their names in the archive and in the master, where collections of several
    /// servers have the same name.
    pub prefix: Option<String>,
    /// Collections; * and ? stand for any letters.
    pub collections: Vec<String>,
    /// Collections of these that are left out; * and ? stand for any letters.
    #[serde(default)]
    pub except: Vec<String>,
    /// Stream shards instead of having the server make a snapshot.
    #[serde(default)]
    pub stream: bool,
    /// Refuse a server that gives no checksum.
    #[serde(default)]
    pub require_checksum: bool,
    /// Take only what changed since the last capture, where the server (1.16 and later, at rest, alone) tells
    /// what that is: auto, off, or require.
    #[serde(default)]
    pub incremental: Incremental,
    /// Every how many captures all of a collection is taken, and what did not change compared [default: 7].
    pub full_every: Option<NonZeroU32>,
    /// Effect on the master when one of these cannot be captured.
    #[serde(default)]
    pub if_broken: IfBroken,
}

/// Effect on the master when a source cannot be captured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IfBroken {
    /// None is made; the one that is published stays.
    #[default]
    Stop,
    /// It is made with the newest snapshot that the archive has of that source.
    UseLast,
}

/// The master.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MasterPart {
    /// Name in the archive, and the beginning of the names of its collections.
    pub name: String,
    /// The server that reads snapshots with the route scratch, by its name in this plan.
    pub scratch_server: Option<String>,
    /// The options of the merge.
    #[serde(flatten)]
    pub options: MergeOptions,
}

/// Checks of the master.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChecksPart {
    /// Compare it with its sources once more, in a process of its own: none, sample (1 % of the points),
    /// full or deep (point by point even where bytes would show it).
    pub verify: Verify,
    /// Compare the answers to so many searches too.
    pub queries: Option<u32>,
    /// Fewer points than this, and it is not published.
    pub points_min: Option<u64>,
}

/// Depth of the comparison of a master with its sources after its merge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// Not again: every merge ends with a proof.
    #[default]
    None,
    /// One point of a hundred.
    Sample,
    /// All of it.
    Full,
    /// All of it, point by point.
    Deep,
}

/// Where the master goes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishPart {
    /// The server's name in this plan.
    pub server: String,
    /// The alias that points to the newest master.
    pub alias: String,
    /// Number of masters that stay on the server; all by default.
    pub keep: Option<u32>,
    /// Limit of how many fewer points the new one may have, as "5%".
    pub max_shrink: Option<String>,
    /// Publish although: not-green, empty, missing-indexes.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Treatment of an alias that somebody else has moved.
    #[serde(default)]
    pub if_moved: IfMoved,
    /// Replicas of each shard.
    pub replication_factor: Option<u32>,
    /// Timeout until the collection is green, in seconds.
    pub wait: Option<u64>,
}

/// Treatment of an alias that somebody else has moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IfMoved {
    /// It stays where it is, and the run ends with 3.
    #[default]
    Leave,
    /// It is moved to the new master.
    Take,
}

/// Limits on the machine and the network.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsPart {
    /// The folder with room for the sources and the master; in the state folder by
    /// default.
    pub work: Option<PathBuf>,
    /// Bytes a second from and to servers at the most, as "500k", "20M" or "1G".
    pub rate: Option<String>,
    /// Hours for which an interrupted run may be resumed; 12 by default.
    pub resume_hours: Option<u32>,
}

/// Where it is written how the night went.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReportPart {
    /// A folder for a JSON file and an HTML page of each run.
    pub folder: Option<PathBuf>,
    /// Number of runs whose files stay there; 60 by default.
    pub keep: Option<u32>,
    /// A file for the textfile collector of Prometheus' node exporter; its name ends in .prom.
    pub prometheus: Option<PathBuf>,
    /// A Prometheus Pushgateway, as http://HOST:9091, which gets the same metrics; those of the run before
    /// are replaced.
    pub pushgateway: Option<String>,
}

/// Commands that are run before and after the work, each a program with its arguments. In their
/// environment are SNAPMERGE_PLAN, SNAPMERGE_RUN, SNAPMERGE_OUTCOME and SNAPMERGE_EXIT_CODE.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HooksPart {
    /// Before the work, which is not begun if it fails.
    pub run_before: Vec<String>,
    /// After the work, whatever became of it; not after a run that was killed.
    pub run_after: Vec<String>,
    /// After work that failed, before `run_after`.
    pub run_failed: Vec<String>,
    /// Timeout of each, in seconds; 600 by default.
    pub timeout: Option<u64>,
}

/// Commands and webhooks that are told how a run ended.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyPart {
    /// When the night did not end with 0.
    pub failure: Option<TellPart>,
    /// When it did.
    pub success: Option<TellPart>,
}

/// A command, a webhook, or both. Both get the JSON report: a command on its standard input, a webhook as a POST.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TellPart {
    /// A program with its arguments.
    pub command: Vec<String>,
    /// An address; one that is secret belongs into `webhook_env` or `webhook_file`.
    pub webhook: Option<String>,
    /// The environment variable that holds the address.
    pub webhook_env: Option<String>,
    /// The file that holds the address.
    pub webhook_file: Option<PathBuf>,
}

/// The schema of a plan, as editors read it.
pub fn schema() -> Value {
    schemars::schema_for!(PlanFile).to_value()
}
