//! A merge divided into parts, one for each of the master's shards, which are made by themselves, on whatever
//! machines, and joined.
//!
//! Where each shard of the sources joins one of the master's, a part is made of those that join its own. Elsewhere a run
//! is made of each source shard first, and a part of its range of every run.
//!
//! Invariants: every point that is read belongs into the shard that is made, or the part is refused, so that no two
//! parts have a point in common; a run and a part depend on the sources and the settings alone.

use std::collections::BTreeSet;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::built::{Built, Made};
use super::making::Making;
use super::members::{Member, MemberWriter};
use super::offline::{self, Planned};
use super::options::{ConfigFile, RouteChoice};
use super::proven::refuse_lost;
use super::rebuild::rebuild_of_runs;
use super::report::PlanReport;
use super::request::{MergeRequest, Prepared};
use super::route::shard_targets;
use super::runs::{self, MadeRun, Runs, SourceShard};
use super::settings::Route;
use super::share::TaskNeeds;
use crate::archive::EntryRef;
use crate::base::Workspace;
use crate::base::error::{Error, Result};
use crate::base::operation::Context;
use crate::base::stage::Stages;
use crate::build::Target;
use crate::engine::take_warnings;
use crate::format::{SnapshotFile, Written};
use crate::source::Source;
use crate::stream::{Ledger, Policy};

/// Hint for a merge that is not divided.
const WHOLE: &str = "merge in one process: snapmerge merge";

/// A merge that was planned and is divided.
pub struct DividedMerge {
    planned: Planned,
    /// True if parts are made of runs.
    by_runs: bool,
}

/// A source of a divided merge: an entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DividedSource {
    /// Id of the entry.
    pub id: String,
    /// Name of the source in the merge.
    pub name: String,
    /// The SHA-256 of the snapshot, as the archive's chain states it.
    pub sha256: String,
    /// Size of the snapshot in bytes.
    pub bytes: u64,
}

/// A part of a divided merge: one of the master's shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedPart {
    /// Number of the shard in the master.
    pub shard: u32,
    /// Shard key, with custom sharding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Shards of the sources that it is made of; none where it is made of runs.
    pub of: Vec<SourceShard>,
    /// Memory and disk of the task.
    #[serde(flatten)]
    pub needs: TaskNeeds,
}

/// A run of a divided merge: the records of one shard of a source, by the shards of the master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedRun {
    /// The shard that it is made of.
    pub of: SourceShard,
    /// Memory and disk of the task.
    #[serde(flatten)]
    pub needs: TaskNeeds,
}

/// A part that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MadePart {
    /// Number of the shard in the master.
    pub shard: u32,
    /// Shards, counts and digest.
    pub built: Built,
    /// Members of its file.
    pub members: Vec<Member>,
    /// Refused log entries, by source.
    pub refused: Vec<BTreeSet<String>>,
    /// Warnings of the storage engine.
    pub warnings: Vec<String>,
    /// Number of conflicts.
    pub conflicts: u64,
}

impl MergeRequest {
    /// Plans the merge, with the `config` that its options name, and divides it; refuses what is not divided.
    /// With `inside`, ids and logs are looked at, as `merge` does before it begins.
    pub fn divide(
        &self,
        config: Option<&ConfigFile>,
        inside: bool,
        context: &Context,
        stages: &mut Stages,
    ) -> Result<DividedMerge> {
        let settings = self.options.settings_with(false, config)?;
        self.refuse_undivided()?;
        let Prepared {
            settings,
            mut sources,
            mut plan,
            ..
        } = self.prepare_with(settings, inside, context, stages)?;
        let lined_up = shard_targets(&sources, &settings, &plan.layout);
        let by_runs = lined_up.is_err();
        plan.targets = lined_up.unwrap_or_default();
        for source in &mut sources {
            source.read_in_parts();
        }
        Ok(DividedMerge {
            planned: Planned {
                settings,
                sources,
                plan,
            },
            by_runs,
        })
    }

    /// Refuses what the request alone tells.
    fn refuse_undivided(&self) -> Result<()> {
        let is_entry = |path: &&std::path::PathBuf| EntryRef::of_source(path).is_some();
        if let Some(other) = self.sources.iter().find(|path| !is_entry(path)) {
            let why = format!(
                "{} is no entry of an archive, which every task can read",
                other.display()
            );
            return Err(refuse(why).next(
                "store it (snapmerge archive add) and give archive:NAME@DATE, or merge in one process",
            ));
        }
        if matches!(
            self.options.route,
            RouteChoice::Replay | RouteChoice::Scratch
        ) {
            return Err(refuse("its route needs a server, and tasks have none"));
        }
        if let Some(Policy::Remap) = self.options.records.on_conflict {
            return Err(refuse(
                "with --on-conflict remap a new id may belong into another shard",
            ));
        }
        if let Some(layout) = &self.options.records.layout
            && layout.field().is_some()
        {
            return Err(refuse(format!(
                "with --layout {layout} it is not known which shards there are before all is read"
            )));
        }
        Ok(())
    }
}

/// The refusal of a merge that is not divided.
fn refuse(why: impl std::fmt::Display) -> Error {
    Error::usage("dividing the merge into tasks", why).next(WHOLE)
}

impl DividedMerge {
    /// The sources in their order.
    pub fn sources(&self) -> Result<Vec<DividedSource>> {
        let described = self.planned.sources.iter().map(|source| {
            let SnapshotFile::Stored(stored) = &source.snapshot.file else {
                return Err(refuse(format!("{} is in no archive", source.name)));
            };
            Ok(DividedSource {
                id: stored.id.clone(),
                name: source.name.clone(),
                sha256: stored.sha256.clone(),
                bytes: stored.bytes,
            })
        });
        described.collect()
    }

    /// The parts, by the numbers of their shards.
    pub fn parts(&self) -> Result<Vec<PlannedPart>> {
        let shards = self.planned.plan.layout.shards.iter();
        shards.map(|shard| self.part(*shard)).collect()
    }

    /// The runs, by their sources and the numbers of their shards there; none where parts are made without.
    pub fn runs(&self) -> Vec<PlannedRun> {
        let sources = self.planned.sources.iter().enumerate();
        let sources = sources.filter(|_| self.by_runs);
        let of_source = |(at, source): (usize, &Source)| {
            let run = |shard: &u32| PlannedRun {
                of: SourceShard {
                    source: at,
                    shard: *shard,
                },
                needs: TaskNeeds::of_run(source, *shard),
            };
            source.snapshot.shards.keys().map(run).collect::<Vec<_>>()
        };
        sources.flat_map(of_source).collect()
    }

    fn part(&self, shard: u32) -> Result<PlannedPart> {
        let Planned {
            settings,
            sources,
            plan,
        } = &self.planned;
        let of: Vec<SourceShard> = (plan.targets.iter())
            .filter(|(_, target)| **target == shard)
            .map(|((source, shard), _)| SourceShard {
                source: *source,
                shard: *shard,
            })
            .collect();
        let needs = match self.by_runs {
            true => TaskNeeds::of_runs(shard, plan, sources, settings),
            false => TaskNeeds::of(shard, plan, sources, settings),
        };
        Ok(PlannedPart {
            shard,
            key: plan.layout.keys.key_of(shard).map(ToString::to_string),
            of,
            needs,
        })
    }

    /// The plan.
    pub fn into_report(self) -> PlanReport {
        self.planned.plan.report()
    }

    /// Makes the run of the shard `of` of a source, and writes it into `target`.
    pub fn make_run(
        self,
        of: SourceShard,
        target: Target,
        site: Workspace<'_>,
        stages: &mut Stages,
    ) -> Result<MadeRun> {
        let Planned {
            settings,
            mut sources,
            plan,
        } = self.planned;
        runs::make(&mut sources, of, &plan, &settings, target, site, stages)
    }

    /// Makes the shard `shard` of the master, of `runs` if there are any, and packs it into `target`, which is being
    /// read back; conflicts go to the file `conflicts`.
    pub fn make(
        self,
        shard: u32,
        runs: Option<Runs<'_>>,
        target: Target,
        conflicts: &Path,
        site: Workspace<'_>,
        stages: &mut Stages,
    ) -> Result<(MadePart, Written)> {
        let Planned {
            settings,
            mut sources,
            mut plan,
        } = self.planned;
        plan.only = Some(shard);
        if plan.route == Route::Graft {
            for (at, source) in sources.iter_mut().enumerate() {
                source.look_inside(&plan.needed_of(at))?;
                source.refuse_unreadable(settings.allow_incomplete)?;
            }
            stages.end("look inside");
        }
        let is_first = plan.layout.shards.first() == Some(&shard);
        let mut writer = MemberWriter::new(target)?;
        let making = Making {
            sources,
            plan,
            settings: &settings,
            ledger: Ledger::new(Some(conflicts), false)?,
            writer: &mut writer,
            site,
            stages,
        };
        let Made {
            mut sources,
            built,
            ledger,
            ..
        } = match runs {
            None => offline::make(making)?,
            Some(runs) => rebuild_of_runs(making, shard, runs)?,
        };
        refuse_lost(&sources, &built)?;
        let (written, members) = writer.end()?;
        let mut warnings = take_warnings();
        // What was told when runs were made is told once.
        for run in runs.iter().filter(|_| is_first).flat_map(|runs| runs.made) {
            if let Some(source) = sources.get_mut(run.of.source) {
                source.refused.extend(run.refused.iter().cloned());
            }
            let new = |warning: &&String| !warnings.contains(warning);
            let new: Vec<String> = run.warnings.iter().filter(new).cloned().collect();
            warnings.extend(new);
        }
        let made = MadePart {
            shard,
            built,
            members,
            refused: sources.into_iter().map(|source| source.refused).collect(),
            warnings,
            conflicts: ledger.count(),
        };
        ledger.publish()?;
        Ok((made, written))
    }

    /// The planned merge, to be joined.
    pub(super) fn into_planned(self) -> Planned {
        self.planned
    }
}
