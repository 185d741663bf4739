//! The parts of a divided merge joined into one master.
//!
//! Invariants: every shard of the master comes from one part, and no part is left over; members lie in the file in
//! the order in which one merge writes them, and conflicts come in the order in which it finds them; the master is
//! proven and published as that of a merge is.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::io;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::built::{Built, Made};
use super::divide::{DividedMerge, MadePart};
use super::members::{Member, MemberWriter};
use super::offline::{self, Planned};
use super::plan::Plan;
use super::proven::{MasterFile, Unproven, prove};
use super::report::MergeReport;
use super::request::MergeRequest;
use super::settings::Route;
use super::tell::conflicts;
use crate::base::Workspace;
use crate::base::error::{Error, Result};
use crate::base::operation::Context;
use crate::base::progress::Unit;
use crate::base::scratch::{self, Scratch, require_free};
use crate::base::stage::Stages;
use crate::build::Target;
use crate::format::{Composition, SnapshotFile, StoredSnapshot, Sums};
use crate::point::{PointId, ShardKey};
use crate::source::Source;
use crate::stream::{Conflict, Ledger};
use crate::verify::Packed;

/// Where the parts of a divided merge are, in the order in which they were given.
pub trait Parts {
    /// The file with the members of the part at the place `part`.
    fn members(&self, part: usize) -> Result<&SnapshotFile>;

    /// The conflicts of the part at the place `part`, in the order in which they were found.
    fn conflicts(&self, part: usize) -> Result<Box<dyn Iterator<Item = Result<Conflict>> + '_>>;
}

/// A master that was joined and is no file: it is read out of its parts, where they lie.
pub struct JoinedMaster {
    /// The same report as that of a file.
    pub report: MergeReport,
    /// The master.
    pub snapshot: StoredSnapshot,
    /// Where its end lies, which is in no part: removed with this.
    _scratch: Scratch,
}

impl DividedMerge {
    /// Joins the parts that were `made` and lie in `parts` into the master that `request` names as its output.
    pub fn join(
        self,
        request: &MergeRequest,
        made: Vec<MadePart>,
        parts: &dyn Parts,
        context: &Context,
        stages: Stages,
    ) -> Result<MergeReport> {
        let Some(output) = request.output.as_deref() else {
            return Err(Error::usage("joining a master", "nothing says where to")
                .next("name a file with -o"));
        };
        let (planned, bytes) = self.planned_for(&made, true)?;
        offline::write(request, planned, output, context, stages, |making| {
            let writer = &mut *making.writer;
            let stage = making.site.progress.stage("join", Some(bytes), Unit::Bytes);
            let (joined, members) =
                add_up(making.sources, making.plan, making.ledger, made, parts)?;
            making.stages.end("conflicts");
            for (member, part) in members {
                let range = member.start..member.start.saturating_add(member.bytes);
                let reader = parts.members(part)?.read_range(range);
                let mut reader = reader.map_err(|err| read_failed(&err))?;
                writer.written(member, &mut reader, &read_failed)?;
                stage.add(member.bytes);
            }
            making.stages.end("join").bytes(bytes);
            Ok(joined)
        })
    }

    /// Joins the parts that were `made` and lie in `parts` into a master called `reference`, of which nothing is
    /// written but what ends its file: that lies in scratch.
    pub fn join_in_place(
        self,
        request: &MergeRequest,
        reference: &str,
        made: Vec<MadePart>,
        parts: &dyn Parts,
        context: &Context,
        mut stages: Stages,
    ) -> Result<JoinedMaster> {
        let (planned, _) = self.planned_for(&made, false)?;
        let Planned {
            sources,
            plan,
            settings,
        } = planned;
        let parent = request.scratch_parent();
        require_free(&parent, plan.needs.scratch_bytes, "proving the master")?;
        let scratch = Scratch::new(&parent)?;
        let ledger = Ledger::new(request.ledger.as_deref(), request.force)?;
        let count = made.len();
        let (joined, members) = add_up(sources, plan, ledger, made, parts)?;
        let Made {
            sources,
            mut plan,
            built,
            ledger,
        } = joined;
        stages.end("conflicts");
        plan.allow_segments(&built.shards)?;

        let mut composition = Composition::default();
        for (member, part) in members {
            let range = member.start..member.start.saturating_add(member.bytes);
            composition.push(parts.members(part)?, range);
        }
        let path = scratch.path().join("end");
        let writer = MemberWriter::new(Target {
            file: scratch::create(&path)?,
            path: path.clone(),
        })?;
        let written = writer.finish(plan.shape())?;
        let end = written.bytes();
        let Sums {
            sha256: end_sha256, ..
        } = written.read_back()?;
        composition.push(&SnapshotFile::from(path.as_path()), 0..end);
        let snapshot = StoredSnapshot {
            reference: reference.to_owned(),
            id: reference.to_owned(),
            name: reference.to_owned(),
            bytes: composition.bytes(),
            // Nobody has read it yet.
            sha256: String::new(),
            parts_sha256: parts_sha256(count, parts, &end_sha256)?,
            manifest: None,
            parts: Arc::new(composition),
        };
        stages.end("join").bytes(snapshot.bytes);

        let site = Workspace {
            scratch: &scratch,
            progress: context.progress,
        };
        let made = Unproven {
            sources,
            plan,
            built,
            settings: &settings,
        };
        let snapshot = Arc::new(snapshot);
        let proven = prove(made, Packed::Stored(&snapshot), true, site)?;
        let proof = &proven.proof;
        stages.end("verify").points(proof.points).bytes(proof.bytes);
        let snapshot = StoredSnapshot {
            sha256: proof.sha256.clone(),
            ..StoredSnapshot::clone(&snapshot)
        };
        let provenance = proven.provenance(&snapshot.sha256, false);
        let conflicts = conflicts(&settings, &ledger);
        ledger.publish()?;
        let master = MasterFile {
            file: reference.to_owned(),
            bytes: snapshot.bytes,
            sha256: snapshot.sha256.clone(),
        };
        let report = proven.report(master, provenance, conflicts, stages)?;
        Ok(JoinedMaster {
            report,
            snapshot,
            _scratch: scratch,
        })
    }

    /// The plan, with the disk space that joining the parts that were `made` takes; and their bytes.
    fn planned_for(self, made: &[MadePart], into_file: bool) -> Result<(Planned, u64)> {
        let mut planned = self.into_planned();
        refuse_others(&planned, made)?;
        let bytes_of = |part: &MadePart| part.members.iter().map(|member| member.bytes).sum();
        let bytes: Vec<u64> = made.iter().map(bytes_of).collect();
        let Planned { sources, plan, .. } = &mut planned;
        plan.need_for_joining(&bytes, into_file, sources);
        Ok((planned, bytes.iter().sum()))
    }
}

/// The SHA-256 of the list of all that a master is read from: its `count` parts, and its end.
fn parts_sha256(count: usize, parts: &dyn Parts, end: &str) -> Result<String> {
    let mut hash = Sha256::new();
    for part in 0..count {
        if let SnapshotFile::Stored(stored) = parts.members(part)? {
            hash.update(&stored.parts_sha256);
        }
    }
    hash.update(end);
    Ok(hex::encode(hash.finalize()))
}

/// Refuses parts that are not those of the master.
fn refuse_others(planned: &Planned, made: &[MadePart]) -> Result<()> {
    let damaged = |why: String| {
        Err(Error::damaged("joining the parts of a master", why)
            .next("remove the part and run its task again: snapmerge job rm JOB --part INDEX"))
    };
    let mut left: BTreeSet<u32> = planned.plan.layout.shards.iter().copied().collect();
    for part in made {
        if !left.remove(&part.shard) {
            return damaged(format!(
                "there are two parts for shard {}, or the master has none",
                part.shard
            ));
        }
        let shards: Vec<u32> = part.built.shards.iter().map(|shard| shard.number).collect();
        let sources = planned.sources.len();
        if shards != [part.shard]
            || part.built.tallies.len() != sources
            || part.refused.len() != sources
        {
            return damaged(format!(
                "the part for shard {} tells of other shards or sources",
                part.shard
            ));
        }
    }
    match left.first() {
        None => Ok(()),
        Some(shard) => damaged(format!("there is no part for shard {shard}")),
    }
}

/// Adds up what was `made`, and passes the conflicts of all to the `ledger`; with the members in their order,
/// each with the place of its part.
fn add_up(
    mut sources: Vec<Source>,
    mut plan: Plan,
    mut ledger: Ledger,
    made: Vec<MadePart>,
    parts: &dyn Parts,
) -> Result<(Made, Vec<(Member, usize)>)> {
    let mut members: Vec<(Member, usize)> = Vec::new();
    let mut built: Option<Built> = None;
    let mut counts = Vec::new();
    for (at, part) in made.into_iter().enumerate() {
        members.extend(part.members.into_iter().map(|member| (member, at)));
        counts.push((at, part.conflicts));
        for (source, refused) in sources.iter_mut().zip(part.refused) {
            source.refused.extend(refused);
        }
        for warning in part.warnings {
            if !plan.notes.contains(&warning) {
                plan.notes.push(warning);
            }
        }
        match &mut built {
            Some(built) => built.join(part.built),
            None => built = Some(part.built),
        }
    }
    let Some(built) = built else {
        return Err(Error::failed(
            "joining the parts of a master",
            "there is none",
        ));
    };
    built.deciding_field.clone().refuse_unknown()?;
    all_conflicts(&counts, parts, plan.route == Route::Graft, |conflict| {
        ledger.conflict(conflict)
    })?;

    members.sort_unstable_by_key(|(member, _)| member.place);
    let made = Made {
        sources,
        plan,
        built,
        ledger,
    };
    Ok((made, members))
}

fn read_failed(err: &io::Error) -> Error {
    let doing = "reading a part of the master";
    match Error::carried(err) {
        Some(carried) => carried.clone().within(doing),
        None => Error::damaged(doing, err),
    }
}

/// Place of a conflict among all: `graft` finds them key by key, `rebuild` by id.
type Order = (Option<ShardKey>, PointId, Option<ShardKey>);

fn order(conflict: &Conflict, key_first: bool) -> Order {
    let id = &conflict.id;
    match key_first {
        true => (id.shard_key.clone(), id.id, None),
        false => (None, id.id, id.shard_key.clone()),
    }
}

/// Calls `take` with the conflicts of all parts, whose numbers `counts` says, in the order in which one merge finds
/// them.
fn all_conflicts(
    counts: &[(usize, u64)],
    parts: &dyn Parts,
    key_first: bool,
    mut take: impl FnMut(Conflict) -> Result<()>,
) -> Result<()> {
    let mut streams = Vec::new();
    let mut next: BinaryHeap<Reverse<(Order, usize)>> = BinaryHeap::new();
    let mut heads: Vec<Option<Conflict>> = Vec::new();
    for (at, (part, expected)) in counts.iter().enumerate() {
        let mut stream = parts.conflicts(*part)?;
        let head = stream.next().transpose()?;
        next.extend(
            head.iter()
                .map(|head| Reverse((order(head, key_first), at))),
        );
        heads.push(head);
        streams.push((stream, *expected, 0_u64));
    }
    while let Some(Reverse((_, at))) = next.pop() {
        let (Some(head), Some((stream, _, count))) = (heads.get_mut(at), streams.get_mut(at))
        else {
            continue;
        };
        let following = stream.next().transpose()?;
        next.extend((following.iter()).map(|following| Reverse((order(following, key_first), at))));
        *count += 1;
        if let Some(conflict) = std::mem::replace(head, following) {
            take(conflict)?;
        }
    }
    match streams
        .iter()
        .find(|(_, expected, count)| expected != count)
    {
        None => Ok(()),
        Some((_, expected, count)) => Err(Error::damaged(
            "reading the conflicts of a part",
            format!("{count} are there, {expected} were found"),
        )),
    }
}
