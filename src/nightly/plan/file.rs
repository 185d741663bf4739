//! The plan as it is written: what nightly.toml may say, and the schema that editors check it by.
//!
//! Keeps true: every key is described here and nowhere else, since help, schema and the search for
//! misspelt keys are made of it; no key holds a secret, only where one is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What one night does.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "nightly.toml of snapmerge")]
pub struct PlanFile {
    /// What reports and metrics call this plan; the file's name otherwise.
    pub name: Option<String>,
    /// The folder of what is remembered: the journal, the lock, what aliases pointed to. Beside a
    /// local archive by default, as ARCHIVE.nightly/NAME. Each plan has one of its own.
    pub state: Option<PathBuf>,
    /// Where snapshots are kept.
    pub archive: ArchivePart,
    /// The servers, by the names that the rest of the plan calls them by.
    pub servers: BTreeMap<String, ServerPart>,
    /// What is captured. The order decides conflicts: by `last` the later source wins.
    pub sources: Vec<SourcePart>,
    /// The master that is made of them; without it they are only captured and kept.
    pub master: Option<MasterPart>,
    /// What the master has to pass besides the proof that every merge ends with.
    #[serde(default)]
    pub checks: ChecksPart,
    /// Where the master is restored and which alias is moved to it; without it, it is only archived.
    pub publish: Option<PublishPart>,
    /// What the archive keeps, for each name; without it, everything.
    pub keep: Option<KeepPart>,
    /// How much of the machine and of the network is used.
    #[serde(default)]
    pub limits: LimitsPart,
    /// Where it is written how the night went.
    #[serde(default)]
    pub report: ReportPart,
    /// Who is told.
    #[serde(default)]
    pub notify: NotifyPart,
}

/// Where snapshots are kept.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchivePart {
    /// A folder, or s3://BUCKET/PREFIX (keys, region and endpoint come from AWS_*).
    pub place: String,
    /// Make the archive if there is none.
    #[serde(default)]
    pub create: bool,
    /// The file of an ed25519 key (PEM) that signs what is written.
    pub sign_key: Option<PathBuf>,
    /// Words that every snapshot is kept by.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// A server.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerPart {
    /// Its address, as http://HOST:6333.
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
    /// How long an answer may take, in seconds.
    pub timeout: Option<u64>,
    /// How often a call that fails for a passing reason is repeated.
    pub retries: Option<u32>,
    /// The port of gRPC, if it is not the one after REST's.
    pub grpc_port: Option<u16>,
    /// Where the other members of its cluster answer REST, by their ids.
    #[serde(default)]
    pub peers: BTreeMap<String, String>,
}

/// Collections to capture.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourcePart {
    /// The server's name in this plan.
    pub server: String,
    /// What their names in the archive and in the master begin with, where collections of several
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
    /// What becomes of the master when one of these cannot be captured.
    #[serde(default)]
    pub if_broken: IfBroken,
}

/// What becomes of the master when a source cannot be captured.
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
#[serde(deny_unknown_fields)]
pub struct MasterPart {
    /// What it is called in the archive, and what the names of its collections begin with.
    pub name: String,
    /// How it comes to be: auto, graft, rebuild, replay (written into the new collection over gRPC) or
    /// scratch (read by the server of `scratch_server`).
    pub route: Option<String>,
    /// The server that reads snapshots with the route scratch, by its name in this plan.
    pub scratch_server: Option<String>,
    /// Who wins when an id is in more than one source: last, first, newest:FIELD, fail or remap.
    pub on_conflict: Option<String>,
    /// The payload field that each point's source is written into.
    pub stamp: Option<String>,
    /// What is written there instead of a source's name.
    #[serde(default)]
    pub stamp_values: BTreeMap<String, Value>,
    /// Only points that match this filter, in Qdrant's filter language.
    pub filter: Option<Map<String, Value>>,
    /// Top-level payload keys that are left out.
    #[serde(default)]
    pub drop_payload: Vec<String>,
    /// How it is laid out: same (as the sources) or by-source (a shard key for each source).
    pub layout: Option<String>,
    /// Number of shards.
    pub shards: Option<u32>,
    /// Edges per node of the HNSW graph.
    pub hnsw_m: Option<u64>,
    /// Neighbours considered while the graph is built.
    pub hnsw_ef_construct: Option<u64>,
    /// Whether vectors are left on disk.
    pub on_disk_vectors: Option<bool>,
    /// Whether payload is left on disk.
    pub on_disk_payload: Option<bool>,
    /// Size in KB from which a segment gets an index; 0 for never.
    pub indexing_threshold: Option<u64>,
    /// Size in KB from which vectors are memory-mapped; 0 for never.
    pub memmap_threshold: Option<u64>,
    /// Quantization: none, scalar, scalar:QUANTILE, product:xN or binary.
    pub quantization: Option<String>,
    /// A file with the master's config.
    pub config: Option<PathBuf>,
    /// Keep the sources' default_segment_number, so that a server merges carried segments.
    #[serde(default)]
    pub server_consolidates: bool,
    /// By the route graft, merge the carried segments before the master is packed.
    #[serde(default)]
    pub consolidate: bool,
    /// Merge sources that lack shards or whose replica was not active; the run ends with 3.
    #[serde(default)]
    pub allow_incomplete: bool,
}

/// What the master has to pass.
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

/// How a master is compared with its sources after its merge.
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
    /// How many masters stay on the server; all, if it is not said.
    pub keep: Option<u32>,
    /// How many percent fewer points the new one may have, as "5%".
    pub max_shrink: Option<String>,
    /// Publish although: not-green, empty, missing-indexes.
    #[serde(default)]
    pub allow: Vec<String>,
    /// What is done when somebody else has moved the alias.
    #[serde(default)]
    pub if_moved: IfMoved,
    /// Replicas of each shard.
    pub replication_factor: Option<u32>,
    /// How long the collection may take to become green, in seconds.
    pub wait: Option<u64>,
}

/// What is done when somebody else has moved the alias.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IfMoved {
    /// It stays where it is, and the run ends with 3.
    #[default]
    Leave,
    /// It is moved to the new master.
    Take,
}

/// What the archive keeps, for each name.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeepPart {
    /// So many of the newest.
    pub last: u32,
    /// The newest of so many days.
    pub daily: u32,
    /// The newest of so many weeks.
    pub weekly: u32,
    /// The newest of so many months.
    pub monthly: u32,
    /// The newest of so many years.
    pub yearly: u32,
    /// All that have one of these tags.
    pub tags: Vec<String>,
}

/// How much is used.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsPart {
    /// The folder with room for the sources and the master; in the folder of what is remembered by
    /// default.
    pub work: Option<PathBuf>,
    /// Bytes a second from and to servers at the most, as "500k", "20M" or "1G".
    pub rate: Option<String>,
    /// How many hours a night that was broken off may be gone on with; 12 by default.
    pub go_on_hours: Option<u32>,
}

/// Where it is written how the night went.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReportPart {
    /// A folder for a JSON file and an HTML page of each night.
    pub folder: Option<PathBuf>,
    /// How many nights' files stay there; 60 by default.
    pub keep: Option<u32>,
    /// A file for the textfile collector of Prometheus' node exporter; its name ends in .prom.
    pub prometheus: Option<PathBuf>,
}

/// Who is told.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyPart {
    /// When the night did not end with 0.
    pub failure: Option<TellPart>,
    /// When it did.
    pub success: Option<TellPart>,
}

/// How somebody is told. Both get the JSON report: a command on its standard input, a webhook as a POST.
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
