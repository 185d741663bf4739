//! The parts of a divided merge joined into one master.
//!
//! Invariants: every shard of the master comes from one part, and no part is left over; members lie in the file in
//! the order in which one merge writes them, and conflicts come in the order in which it finds them; the master is
//! proven and published as that of a merge is.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::io::{self, Read};

use super::built::{Built, Made};
use super::divide::{DividedMerge, MadePart};
use super::making::Making;
use super::members::Member;
use super::offline::{self, Planned};
use super::report::MergeReport;
use super::request::MergeRequest;
use super::settings::Route;
use crate::base::error::{Error, Result};
use crate::base::operation::Context;
use crate::base::progress::Unit;
use crate::base::stage::Stages;
use crate::point::{PointId, ShardKey};
use crate::stream::Conflict;

/// Where the parts of a divided merge are, in the order in which they were given.
pub trait Parts {
    /// A reader of `member` of the part at the place `part`; errors of ours are carried by its own.
    fn member(&self, part: usize, member: &Member) -> Box<dyn Read + '_>;

    /// The conflicts of the part at the place `part`, in the order in which they were found.
    fn conflicts(&self, part: usize) -> Box<dyn Iterator<Item = Result<Conflict>> + '_>;
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
        let mut planned = self.into_planned();
        refuse_others(&planned, &made)?;
        let bytes = made.iter().flat_map(|part| &part.members);
        let bytes = bytes.map(|member| member.bytes).sum();
        let Planned { sources, plan, .. } = &mut planned;
        plan.need_for_joining(bytes, sources);
        offline::write(request, planned, output, context, stages, |making| {
            join(making, made, bytes, parts)
        })
    }
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

fn join(making: Making<'_>, made: Vec<MadePart>, bytes: u64, parts: &dyn Parts) -> Result<Made> {
    let Making {
        mut sources,
        mut plan,
        mut ledger,
        writer,
        site,
        stages,
        ..
    } = making;
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
    stages.end("conflicts");

    members.sort_unstable_by_key(|(member, _)| member.place);
    let stage = site.progress.stage("join", Some(bytes), Unit::Bytes);
    for (member, part) in members {
        let mut reader = parts.member(part, &member);
        writer.written(member, &mut reader, &read_failed)?;
        stage.add(member.bytes);
    }
    drop(stage);
    stages.end("join").bytes(bytes);
    Ok(Made {
        sources,
        plan,
        built,
        ledger,
    })
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
        let mut stream = parts.conflicts(*part);
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
