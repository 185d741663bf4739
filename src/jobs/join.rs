//! Joining the parts of a job into the master: a file, an entry of the archive, a collection of a running server.
//!
//! A master that becomes no file is read out of the parts, where they lie: for its proof, into the archive, and onto
//! the members of a cluster, each shard to those that hold it.
//!
//! Invariants: every part is there and belongs to the job, or nothing is made; the master is proven as that of
//! `merge` is, and its report says the same; what is stored or restored is the proven master.

use std::path::PathBuf;
use std::time::Instant;

use chrono::Utc;
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::folder::{JobFolder, JobPlan};
use super::parts::{StoredPart, StoredParts};
use super::task::{archive_of, divide};
use crate::archive::{
    Added, Adding, ArchiveOptions, SigningOptions, SourceArchiveOptions, WritableArchiveOptions,
};
use crate::base::error::{Error, Kind, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::base::stage::Stages;
use crate::format::SnapshotFile;
use crate::input::{InputOptions, Inputs, connect};
use crate::merge::{MergeReport, MergeRequest};
use crate::restore::{RestoreOptions, Restored};
use crate::server::{CollectionAddress, KnownServers, MembersFrom, PeerAddress, Rate};
use crate::source::Opening;
use crate::verify::Provenance;

/// The version of the report.
const VERSION: u32 = 1;

/// Joins the parts of a job.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The job, as `job plan` printed it
    #[arg(value_name = "JOB")]
    pub job: String,
    /// The master to write; compressed if it ends in .gz
    #[arg(short, long, value_name = "FILE", required_unless_present_any = ["into_archive", "to"])]
    pub output: Option<PathBuf>,
    /// Replace the output if it exists
    #[arg(long)]
    pub force: bool,
    /// Store the master in the archive of the sources, under this name
    #[arg(long, value_name = "NAME")]
    pub into_archive: Option<String>,
    /// Where to unpack what is proven [default: the folder of the output, or without -o the system's folder for temporary
    /// files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Write every conflict to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub live: JoinLiveOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub signing: SigningOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub from_archive: SourceArchiveOptions,
}

/// Where a joined master is restored to.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Live master")]
pub struct JoinLiveOptions {
    /// Restore the master to this collection of a running Qdrant, http://HOST:6333/COLLECTION: of a cluster every shard to
    /// the members that hold it, as `restore` does
    #[arg(long, value_name = "URL")]
    pub to: Option<CollectionAddress>,
    /// Write over a collection that is there; it keeps its own settings
    #[arg(long, requires = "to")]
    pub overwrite: bool,
    /// Go on with what an earlier run began to restore
    #[arg(long, requires = "to")]
    pub resume: bool,
    /// Replicas of each shard [default: as the master's config says]
    #[arg(long, value_name = "N", requires = "to", value_parser = clap::value_parser!(u32).range(1..))]
    pub replication_factor: Option<u32>,
    /// Where a member of the cluster answers REST; repeat it for each. GET /cluster tells the ids
    #[arg(long, value_name = "ID=URL", requires = "to")]
    pub peer: Vec<PeerAddress>,
    /// Find the members by a name of DNS that has the addresses of all: DNS or DNS:PORT
    #[arg(long, value_name = "DNS[:PORT]", requires = "to")]
    pub members_from: Option<MembersFrom>,
    /// Bytes a second at the most, as 500k, 20M or 1G
    #[arg(long, value_name = "RATE", requires = "to")]
    pub limit_rate: Option<Rate>,
    /// How long the collection may take to become green, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub wait: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub known: KnownServers,
}

/// A master that was joined.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct JoinReport {
    /// The report of `merge`.
    #[serde(flatten)]
    pub merge: MergeReport,
    /// The entry of the archive that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<Added>,
    /// The collection that it was restored to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
}

impl Operation for JoinRequest {
    const NAME: &'static str = "job-join";
    type Report = JoinReport;

    fn run(self, context: &Context) -> Result<JoinReport> {
        let mut stages = Stages::since(Instant::now());
        let folder = JobFolder::open(&self.job)?;
        let plan = folder.plan_of_this_version()?;
        self.refuse_target(context)?;
        let count = plan.tasks.len();
        let parts: Vec<StoredPart> = folder.all_outputs(&plan, count, "joining the parts")?;
        stages.end("parts");
        let request = MergeRequest {
            output: self.output.clone(),
            force: self.force,
            scratch: self.scratch.clone(),
            ledger: self.ledger.clone(),
            ..MergeRequest::default()
        };
        let (divided, request) = divide(
            &plan,
            &self.from_archive,
            Some(request),
            context,
            &mut stages,
        )?;
        let made = parts.iter().map(|part| part.part.clone()).collect();
        let stored = StoredParts::new(&folder.store, &parts);
        // Of a master that is no file a part lies in scratch, until it was read for the last time.
        let joined;
        let (merge, master, opening) = match &self.output {
            Some(output) => {
                let merge = divided.join(&request, made, &stored, context, stages)?;
                let (master, opening) = Inputs::find_one(output, &InputOptions::default())?;
                (merge, master, opening)
            }
            None => {
                let reference = format!("the master of {}", folder.what());
                joined =
                    divided.join_in_place(&request, &reference, made, &stored, context, stages)?;
                let master = SnapshotFile::from(joined.snapshot);
                (joined.report, master, Opening::default())
            }
        };
        let mut report = JoinReport {
            merge,
            archived: None,
            restored: None,
        };
        let mut stages = Stages::since(Instant::now());
        if let Some(name) = &self.into_archive {
            let added = self.archive(&plan, name, master.clone(), &report.merge.provenance)?;
            stages.end("archive").bytes(added.entry.bytes);
            if self.output.is_none() {
                report.merge.master.file = format!("archive:{}", added.entry.id);
            }
            report.archived = Some(added);
        }
        if let Some(to) = &self.live.to {
            let restored = self.restore(to, &master, &opening, context)?;
            stages.end("restore").bytes(restored.bytes);
            if self.output.is_none() && report.archived.is_none() {
                report.merge.master.file = to.to_string();
            }
            report.restored = Some(restored);
        }
        report.merge.seconds += stages.elapsed().as_secs_f64();
        report.merge.stages.extend(stages.into_reports());
        let restored = report.restored.as_ref();
        let differs = report.merge.envelope.outcome != Outcome::DONE
            || report.archived.as_ref().is_some_and(Added::differs)
            || restored.is_some_and(|restored| !restored.left.is_empty());
        report.merge.envelope = Envelope::new("job join", VERSION, Outcome::differs_if(differs));
        Ok(report)
    }
}

impl JoinRequest {
    fn scratch_parent(&self) -> PathBuf {
        self.scratch.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Refuses a server that is not there, and a collection that is, before anything is made for them.
    fn refuse_target(&self, context: &Context) -> Result<()> {
        let live = &self.live;
        let Some(to) = &live.to else {
            return Ok(());
        };
        let connection = connect(&to.server, &live.known.connection, context)?;
        let is_there = connection.collections()?.contains(&to.collection);
        match is_there && !live.overwrite && !live.resume {
            true => Err(Error::new(
                Kind::Refused,
                format!("restoring to {to}"),
                "a collection of that name exists already",
            )
            .next(
                "choose another name; --overwrite writes over it, and --resume goes on with what an earlier run began",
            )),
            false => Ok(()),
        }
    }

    /// Stores the `master` of `plan`, which was made as `provenance` says, as an entry called `name` of the sources'
    /// archive.
    fn archive(
        &self,
        plan: &JobPlan,
        name: &str,
        master: SnapshotFile,
        provenance: &Provenance,
    ) -> Result<Added> {
        let SourceArchiveOptions {
            archive,
            trust,
            key,
        } = archive_of(plan, &self.from_archive);
        let options = WritableArchiveOptions {
            archive: ArchiveOptions {
                archive: archive.unwrap_or_default(),
                trust,
                key,
            },
            signing: self.signing.clone(),
        };
        let provenance = serde_json::to_value(provenance);
        let provenance = provenance.map_err(|err| Error::failed("writing the provenance", err))?;
        options.open()?.add(&Adding {
            name: Some(name.to_owned()),
            time: Some(Utc::now()),
            require_checksum: true,
            provenance: Some(provenance),
            ..Adding::of(master)
        })
    }

    /// Restores the `master` to the collection `to`.
    fn restore(
        &self,
        to: &CollectionAddress,
        master: &SnapshotFile,
        opening: &Opening,
        context: &Context,
    ) -> Result<Restored> {
        let live = &self.live;
        let options = RestoreOptions {
            overwrite: live.overwrite,
            resume: live.resume,
            keep_failed: false,
            dry_run: false,
            replication_factor: live.replication_factor,
            peer: live.peer.clone(),
            members_from: live.members_from.clone(),
            limit_rate: live.limit_rate,
            wait: live.wait,
            scratch: Some(self.scratch_parent()),
            allow_incomplete: false,
            reading: InputOptions::default(),
            known: live.known.clone(),
        };
        let report = options.restore(master, opening, to, context)?;
        Ok(report.restored)
    }
}
