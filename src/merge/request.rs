//! A merge as a request, and all that is resolved before it begins.
//!
//! Invariants: what can be refused is refused before a byte is written.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::options::{MergeOptions, RouteChoice};
use super::plan::{Plan, plan};
use super::replay::{ExistingTarget, Target};
use super::scratch_collection::{ScratchCollection, scratch_collection};
use super::settings::Settings;
use crate::base::durable::Staged;
use crate::base::error::{Error, Result};
use crate::base::operation::Context;
use crate::base::overwrite::ReadFiles;
use crate::base::path::folder_of;
use crate::base::scratch::Scratch;
use crate::base::sidecar::Sidecar;
use crate::base::stage::Stages;
use crate::input::{InputOptions, Inputs, LiveInputOptions, Servers};
use crate::server::{Address, CollectionAddress, Connection, Rate, StateOptions, is_address};
use crate::source::{Source, join_nodes, path_of, refuse_twice, tell_apart};

/// A merge.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct MergeRequest {
    /// Sources to merge: snapshot files, plain or .gz, archive:NAME@DATE, and collections of a running
    /// Qdrant, as http://HOST:6333/COLLECTION; their order decides conflicts. archive:PATTERN is the
    /// newest entry of each such name, in the order of the names; the snapshot of a whole storage is
    /// every collection in it, or those of FILE#PATTERN
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<PathBuf>,
    /// The master to write; compressed if it ends in .gz
    #[arg(short, long, value_name = "FILE", required_unless_present = "into")]
    pub output: Option<PathBuf>,
    /// Replace the output if it exists
    #[arg(long)]
    pub force: bool,
    /// Where to unpack and build [default: the folder of the output; with --into the system's
    /// folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Write every conflict to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Give the master its name without reading it back and proving it
    #[arg(long)]
    pub no_verify: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub options: MergeOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub input: InputOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub live: LiveOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub servers: LiveInputOptions,
}

/// Where a live master is, and how it is written.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Live master")]
#[serde(default)]
pub struct LiveOptions {
    /// Write the master into this new collection of a running Qdrant: http://HOST:6333/COLLECTION.
    /// A run that was killed is resumed
    #[arg(long, value_name = "URL", conflicts_with_all = ["output", "force"])]
    pub into: Option<String>,
    /// With --route scratch: the server that restores each snapshot file into a collection of its
    /// own, from where it is read, and which is then removed: http://HOST:6333
    #[arg(long, value_name = "URL")]
    pub scratch_server: Option<String>,
    /// Resume an earlier run of the same merge, or fail
    #[arg(long, conflicts_with = "sync")]
    pub resume: bool,
    /// Bring the collection to the sources' state, whoever made it: points that differ are written,
    /// points that no source has are deleted. Not with --on-conflict remap, whose new ids come in no
    /// order, so that what is gone could not be told without keeping all of them: merge into a new
    /// collection then, and move the alias
    #[arg(long)]
    pub sync: bool,
    /// Where it is written down how far the collection is [default: a file for each collection in the
    /// folder of --state]
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub state: StateOptions,
    /// Send at most so many bytes a second, as 500k, 20M or 1G
    #[arg(long, value_name = "RATE")]
    pub limit_rate: Option<Rate>,
}

impl LiveOptions {
    /// Returns the permitted use of an existing collection.
    pub(super) fn asked(&self) -> ExistingTarget {
        match (self.resume, self.sync) {
            (true, _) => ExistingTarget::Resume,
            (_, true) => ExistingTarget::Sync,
            _ => ExistingTarget::Usual,
        }
    }
}

/// A merge that was looked at and can begin.
pub(super) struct Prepared<'a> {
    servers: Servers<'a>,
    pub settings: Settings,
    pub sources: Vec<Source>,
    pub plan: Plan,
    /// The collection of --into.
    pub target: Option<Target>,
}

impl MergeRequest {
    /// The folder that scratch is made in.
    pub(super) fn scratch_parent(&self) -> PathBuf {
        match (&self.scratch, &self.output) {
            (Some(scratch), _) => scratch.clone(),
            (None, Some(output)) => folder_of(output).to_owned(),
            (None, None) => std::env::temp_dir(),
        }
    }

    /// Opens the sources and plans the merge.
    pub(super) fn prepare<'a>(
        &'a self,
        context: &'a Context,
        stages: &mut Stages,
    ) -> Result<Prepared<'a>> {
        let settings = self.options.settings(self.live.into.is_some())?;
        let route = self.options.route;
        let inside = self.live.into.is_none()
            && !matches!(route, RouteChoice::Rebuild | RouteChoice::Scratch);
        self.prepare_with(settings, inside, context, stages)
    }

    /// The same under `settings` that were resolved before; with `inside`, ids and logs of files are read unless
    /// there are live sources.
    pub(super) fn prepare_with<'a>(
        &'a self,
        settings: Settings,
        inside: bool,
        context: &'a Context,
        stages: &mut Stages,
    ) -> Result<Prepared<'a>> {
        self.refuse_output()?;
        let inputs = Inputs::find(&self.sources, &self.input)?;
        let mut servers = Servers::new(&self.servers, context);
        let target = self.target(&mut servers)?;
        // By graft, ids and logs are looked at without the engine.
        let inside = inside && !inputs.has_live();
        let mut sources = inputs.open(inside, &mut servers, context)?;
        let bytes = sources.iter().map(|source| source.snapshot.file_bytes);
        stages.end("open").bytes(bytes.sum());
        refuse_twice(&sources, "merging")?;
        tell_apart(&mut sources);
        let joined = join_nodes(&mut sources);
        if let Some(connection) = self.scratch_server(&mut servers)? {
            let info = connection.server_info()?;
            // One that does not say how old it is may be one that reads no RocksDB.
            let version = info.numbers().unwrap_or((u32::MAX, 0, 0));
            for source in sources.iter_mut().filter(|source| source.live.is_none()) {
                source.by_server = Some(version);
            }
        }
        let plan = match plan(&sources, &settings) {
            Ok(mut plan) => {
                plan.notes.extend(joined);
                plan
            }
            Err(err) => {
                // A source that cannot be merged as it is may only be damaged: a config with a
                // flipped bit.
                for source in &mut sources {
                    source.verify()?;
                }
                return Err(err);
            }
        };
        stages.end("plan");
        Ok(Prepared {
            servers,
            settings,
            sources,
            plan,
            target,
        })
    }

    /// Refuses an output that would be lost or would cost a source, before anything is read.
    fn refuse_output(&self) -> Result<()> {
        let sidecars = |path: &PathBuf| Sidecar::ALL.map(|sidecar| sidecar.of(path));
        let with_sidecars = |path: PathBuf| {
            let sidecars = sidecars(&path);
            std::iter::once(path).chain(sidecars)
        };
        let sources = self.sources.iter().map(|source| path_of(source));
        let read = ReadFiles::new(sources.flat_map(with_sidecars));
        let of_output: Vec<PathBuf> = self
            .output
            .iter()
            .cloned()
            .flat_map(with_sidecars)
            .collect();
        for file in of_output.iter().chain(&self.ledger) {
            if read.has(file) {
                return Err(Error::usage(
                    format!("writing {}", file.display()),
                    "it is one of the sources, or lies beside one with its checksum; sources are only \
                     read",
                )
                .next("choose another name"));
            }
        }
        // By the real folder, since none of them need be there yet.
        let place = |path: &Path| {
            let folder = std::fs::canonicalize(folder_of(path)).ok()?;
            Some(folder.join(path.file_name()?))
        };
        if let Some(ledger) = &self.ledger
            && let Some(same) =
                (of_output.iter()).find(|file| place(file) == place(ledger) || *file == ledger)
        {
            return Err(Error::usage(
                format!("writing {}", ledger.display()),
                format!(
                    "it is the ledger, and {}, which belongs to the output",
                    same.display()
                ),
            )
            .next("choose another name for --ledger"));
        }
        // Both names are tried now, so that a merge of hours does not end with this.
        for file in self.output.iter().chain(&self.ledger) {
            drop(Staged::new(file, self.force)?);
        }
        Ok(())
    }

    /// The collection that `--into` names, if it does.
    fn target(&self, servers: &mut Servers<'_>) -> Result<Option<Target>> {
        let live = &self.live;
        let Some(text) = &live.into else {
            for (given, name) in [
                (live.resume, "--resume"),
                (live.sync, "--sync"),
                (live.journal.is_some(), "--journal"),
                (live.limit_rate.is_some(), "--limit-rate"),
            ] {
                if given {
                    return Err(Error::usage(
                        format!("reading {name}"),
                        "it belongs to --into, which was not given",
                    ));
                }
            }
            return Ok(None);
        };
        let address = CollectionAddress::parse(text)?;
        let is_target = |source: &&PathBuf| {
            is_address(&source.to_string_lossy())
                && CollectionAddress::parse(&source.to_string_lossy())
                    .is_ok_and(|source| source == address)
        };
        if self.sources.iter().any(|source| is_target(&source)) {
            return Err(Error::usage(
                format!("writing to {address}"),
                "it is one of the sources, which are only read",
            )
            .next("choose another name"));
        }
        Ok(Some(Target {
            connection: servers.at(&address.server)?,
            address,
        }))
    }

    /// The server that reads snapshots with the route scratch, if that was asked for.
    fn scratch_server(&self, servers: &mut Servers<'_>) -> Result<Option<Connection>> {
        let address = match (&self.live.scratch_server, self.options.route) {
            (None, RouteChoice::Scratch) => {
                return Err(
                    Error::usage("taking the route scratch", "nothing names the server")
                        .next("name one with --scratch-server http://HOST:6333"),
                );
            }
            (Some(text), RouteChoice::Scratch) => Address::parse(text)?,
            (Some(_), _) => {
                return Err(Error::usage(
                    "reading --scratch-server",
                    "it belongs to --route scratch, which was not given",
                ));
            }
            (None, _) => return Ok(None),
        };
        servers.at(&address).map(Some)
    }
}

impl Prepared<'_> {
    /// Restores the snapshots on the server of `--scratch-server`, with the route scratch.
    pub fn scratch_collection(
        &mut self,
        request: &MergeRequest,
        context: &Context,
    ) -> Result<Vec<ScratchCollection>> {
        let Some(connection) = request.scratch_server(&mut self.servers)? else {
            return Ok(Vec::new());
        };
        let folder = request.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let scratch = Scratch::new(&folder)?;
        let notes = request.live.state.folder()?.lent();
        let sources = &mut self.sources;
        scratch_collection(
            sources,
            &connection,
            &notes,
            scratch.path(),
            context.progress,
        )
    }
}
