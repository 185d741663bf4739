//! The verification of a master as an operation.
//!
//! Invariants: whatever cannot be compared is an error or a difference, never passed over; nothing
//! is written but scratch and the ledger.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::report::{MadeWith, Verdict, VerifyReport};
use super::{Asking, ExpectedConfig, ProofRequest, Provenance, frame_differences, verify};
use crate::base::Workspace;
use crate::base::error::{Error, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::base::path::is_gz;
use crate::base::scratch::{Scratch, require_free};
use crate::base::sidecar::Sidecar;
use crate::base::stage::Stages;
use crate::engine::take_warnings;
use crate::format::schema::Overrides;
use crate::input::{InputOptions, Inputs, LiveInputOptions, Servers};
use crate::point::Sample;
use crate::server::Clustering;
use crate::source::{Source, join_nodes, refuse_twice, tell_apart};
use crate::stream::{Ledger, RecordOptions, UnionOptions, master_shape, opening_bytes};

/// A verification.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifyRequest {
    /// The master: a snapshot file, plain or .gz, archive:NAME@DATE, or a live collection as
    /// http://HOST:6333/COLLECTION
    #[arg(value_name = "MASTER")]
    pub master: PathBuf,
    /// The sources that it was made of, each a file, archive:NAME@DATE, or a live collection;
    /// archive:PATTERN is the newest entry of each such name
    #[arg(long, required = true, num_args = 1.., value_name = "SOURCE")]
    pub against: Vec<PathBuf>,
    /// The record of what the master was made with [default: MASTER.provenance.json]; a merge's JSON
    /// report will do
    #[arg(long, value_name = "FILE", conflicts_with = "no_provenance")]
    pub provenance: Option<PathBuf>,
    /// Go by the flags alone; without any, by merge's defaults
    #[arg(long)]
    pub no_provenance: bool,
    /// Compare the points one by one even where bytes would show that they are right, and look whether
    /// the master's graphs lead to what is near
    #[arg(long)]
    pub deep: bool,
    /// Compare only this share of the points, by the hashes of their ids
    #[arg(long, value_name = "PERCENT", conflicts_with = "deep")]
    pub sample: Option<Sample>,
    /// Compare answers too: the nearest points to so many vectors of the sources, by exact search in
    /// the sources and in the master, and by the master's indexes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub queries: Option<u32>,
    /// Number of nearest points that --queries asks for
    #[arg(long, value_name = "K", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub top: u32,
    /// Look for clusters among so many points of each source and of the master, and say how well
    /// they are apart
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(20..=5000))]
    pub structure: Option<u32>,
    /// By how much the silhouette of the master's clusters may be lower than the sources'
    #[arg(
        long,
        value_name = "DROP",
        default_value = "0.2",
        requires = "structure"
    )]
    pub max_drop: f64,
    /// Have this service look for the clusters of --structure instead: it is sent
    /// {"data": VECTORS, "algorithm": "hdbscan"} and answers {"labels": [0, 1, -1]}
    #[arg(long, value_name = "URL", requires = "structure")]
    pub cluster_url: Option<String>,
    /// Write every difference to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Replace the ledger if it exists
    #[arg(long)]
    pub force: bool,
    /// Where to unpack [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    #[command(flatten, next_help_heading = "What the master was made with")]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub records: RecordOptions,
    /// Read snapshots that lack shards or whose replica was not active
    #[arg(long)]
    pub allow_incomplete: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub input: InputOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub servers: LiveInputOptions,
}

impl Default for VerifyRequest {
    fn default() -> Self {
        Self {
            master: PathBuf::new(),
            against: Vec::new(),
            provenance: None,
            no_provenance: false,
            deep: false,
            sample: None,
            queries: None,
            top: 10,
            structure: None,
            max_drop: 0.2,
            cluster_url: None,
            ledger: None,
            force: false,
            scratch: None,
            records: RecordOptions::default(),
            allow_incomplete: false,
            input: InputOptions::default(),
            servers: LiveInputOptions::default(),
        }
    }
}

impl Operation for VerifyRequest {
    const NAME: &'static str = "verify";
    type Report = VerifyReport;

    fn run(self, context: &Context) -> Result<VerifyReport> {
        let started = Instant::now();
        let mut stages = Stages::since(started);
        let parent = self.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let inputs = Inputs::find_against(&self.master, &self.against, &self.input)?;
        let mut servers = Servers::new(&self.servers, context);
        let mut opened = inputs.open(true, &mut servers, context)?;
        let mut sources = opened.split_off(1);
        refuse_twice(&sources, "verifying against")?;
        tell_apart(&mut sources);
        let joined = join_nodes(&mut sources);
        let Some(mut master) = opened.pop() else {
            return Err(Error::usage("opening the master", "there is none"));
        };
        let mut missing = Vec::new();
        for source in std::iter::once(&master).chain(&sources) {
            let lacking = source.refuse_unreadable(self.allow_incomplete)?;
            let named = |what: &String| format!("{}: {what}", source.name);
            missing.extend(lacking.iter().map(named));
        }
        let (provenance, told_by) = find_provenance(&self)?;
        if let Some(provenance) = &provenance {
            provenance.arrange(&mut sources)?;
        }
        let base = match &provenance {
            Some(provenance) => provenance.options()?,
            None => UnionOptions::default(),
        };
        let options = self.records.over(base)?;
        let (wanted, mut notes) = wanted(&master, &sources, &options, provenance.as_ref())?;
        notes.extend(joined);

        let scratch = Scratch::new(&parent)?;
        let mut ledger = Ledger::new(self.ledger.as_deref(), self.force)?;
        let clusters = self.cluster_url.as_deref();
        let clusters = clusters
            .map(|url| Clustering::new(url, &self.servers.connection.settings()?))
            .transpose()?;
        let frame = frame_differences(&master, provenance.is_some());
        let asked = ProofRequest {
            settings: &options,
            wanted: &wanted,
            frame: &frame,
            deep: self.deep,
            sample: self.sample,
            near: master.live.is_some() && provenance.as_ref().is_none_or(Provenance::was_replayed),
            asking: self.asking(clusters.as_ref()),
        };
        let site = Workspace {
            scratch: &scratch,
            progress: context.progress,
        };
        let stay = asked.asking.is_some_and(|asking| asking.queries > 0);
        let files: Vec<&Source> = std::iter::once(&master).chain(&sources).collect();
        let unpacked = opening_bytes(&files, stay);
        let room = || require_free(&parent, unpacked, "unpacking");
        // The master's are looked at twice.
        let ids =
            2 * master.ids_bytes_max() + sources.iter().map(Source::ids_bytes_max).sum::<u64>();
        require_free(&parent, ids, "sorting ids")?;
        stages.end("open");
        let (verified, answers) = verify(
            &mut master,
            &mut sources,
            asked,
            &mut ledger,
            &room,
            site,
            &mut stages,
        )?;
        for source in std::iter::once(&master).chain(&sources) {
            let named = |what: &String| format!("{}: {what}", source.name);
            missing.extend(source.refused.iter().map(named));
        }
        drop(scratch);
        stages.end("clean up");
        notes.extend(take_warnings());
        let verdict = Verdict::of(&verified, answers.as_ref());
        let fine = verdict == Verdict::Proven && missing.is_empty() && verified.changed.is_empty();
        let report = VerifyReport {
            envelope: Envelope::new("verify", 2, Outcome::differs_if(!fine)),
            verdict,
            master: master.label(),
            sources: sources.iter().map(Source::label).collect(),
            made_with: MadeWith::new(&options, told_by),
            sample: self.sample,
            looked_at: verified.looked_at(),
            differences: verified.differences(),
            first: ledger.first().to_vec(),
            ledger: ledger.path().map(|path| path.display().to_string()),
            verified,
            answers,
            missing,
            notes,
            stages: stages.into_reports(),
            seconds: started.elapsed().as_secs_f64(),
        };
        ledger.publish()?;
        Ok(report)
    }
}

impl VerifyRequest {
    fn asking<'a>(&self, clusters: Option<&'a Clustering>) -> Option<Asking<'a>> {
        if self.queries.is_none() && self.structure.is_none() {
            return None;
        }
        Some(Asking {
            queries: self.queries.unwrap_or(0) as usize,
            top: self.top as usize,
            structure: self.structure.unwrap_or(0) as usize,
            drop_max: self.max_drop,
            clusters,
        })
    }
}

/// Finds the provenance of the master, and says where it is from.
fn find_provenance(request: &VerifyRequest) -> Result<(Option<Provenance>, String)> {
    if request.no_provenance {
        return Ok((None, "the flags alone (--no-provenance)".into()));
    }
    if let Some(path) = &request.provenance {
        let Some(found) = Provenance::read(path)? else {
            return Err(Error::usage(
                format!("reading --provenance {}", path.display()),
                "there is no such file",
            ));
        };
        return Ok((Some(found), path.display().to_string()));
    }
    let mut places = vec![Sidecar::Provenance.of(&request.master)];
    if is_gz(&request.master) {
        places.push(Sidecar::Provenance.of(&request.master.with_extension("")));
    }
    for path in places {
        if let Some(found) = Provenance::read(&path)? {
            return Ok((Some(found), path.display().to_string()));
        }
    }
    let told = "the flags alone: there is no provenance beside the master";
    Ok((None, told.into()))
}

/// The config that the master must have: the planned one, as the provenance says; without one, what
/// merge would plan now.
fn wanted(
    master: &Source,
    sources: &[Source],
    options: &UnionOptions,
    provenance: Option<&Provenance>,
) -> Result<(ExpectedConfig, Vec<String>)> {
    if let Some(provenance) = provenance {
        let (config, payload, keys) = provenance.expected()?;
        let wanted = ExpectedConfig {
            config,
            payload,
            keys,
            ignored: Vec::new(),
        };
        return Ok((wanted, Vec::new()));
    }
    let (united, layout) = master_shape(sources, options, &Overrides::default())?;
    let note = "without a provenance the master's config is compared with what merge would make of \
                the sources without further flags, except for default_segment_number, which depends \
                on the route";
    let wanted = ExpectedConfig {
        config: united.config,
        payload: united.payload,
        // Which values a field has is known when the points are compared, each with its key.
        keys: match options.layout.field() {
            None => layout.keys,
            Some(_) => master.shard_keys.clone(),
        },
        ignored: vec!["optimizer_config.default_segment_number".into()],
    };
    Ok((wanted, vec![note.into()]))
}
