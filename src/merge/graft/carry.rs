//! Carrying segments from the sources' tars into the master's.
//!
//! Invariants: each source is read once here, and hashed on the way if its checksum was not compared yet;
//! a mismatch, or a change while it is read, ends the merge before the master has a name; no two
//! segments of a shard have one UUID.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::thread::JoinHandle;

use uuid::Uuid;

use crate::base::Workspace;
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Unit;
use crate::base::scratch;
use crate::format::{PackedSegment, PackedShard, layout};
use crate::merge::carried::{CarriedCounts, ToIndex};
use crate::merge::members::{MemberWriter, Place};
use crate::merge::plan::Plan;
use crate::source::Source;
use crate::stream::{SegmentPlan, ShardPlan};

/// The shards of a master, packed.
pub struct Packed {
    /// Segments by shard.
    pub segments: BTreeMap<u32, u64>,
    /// Vectors in an index by shard.
    pub indexed: BTreeMap<u32, u64>,
    /// Counts of the carried segments.
    pub carried: CarriedCounts,
}

/// Writes the shards of the master of `plan` with `writer` out of `shard_plans`.
pub fn carry(
    sources: &mut [Source],
    shard_plans: &[ShardPlan],
    plan: &Plan,
    writer: &mut MemberWriter,
    site: Workspace<'_>,
) -> Result<Packed> {
    let total = sources
        .iter()
        .map(|source| source.snapshot.file_bytes)
        .sum();
    let stage = site.progress.stage("carry", Some(total), Unit::Bytes);
    let mut cart = MasterWriter {
        carrier: writer,
        names: BTreeSet::new(),
        carried: CarriedCounts::default(),
        removing: Vec::new(),
    };
    for (at, source) in sources.iter_mut().enumerate() {
        let name = source.name.clone();
        let carried: BTreeMap<(u32, Uuid), (&ShardPlan, &SegmentPlan)> = shard_plans
            .iter()
            .filter(|shard_plan| shard_plan.source == at && shard_plan.reasons.is_empty())
            .flat_map(|shard_plan| {
                let number = shard_plan.number;
                shard_plan
                    .segments
                    .iter()
                    .filter(|segment| segment.repacked.is_none())
                    .map(move |segment| ((number, segment.uuid), (shard_plan, segment)))
            })
            .collect();
        if carried.is_empty() && !source.is_unchecked() {
            continue;
        }
        let mut seen = 0;
        source.walk_segments(
            Some(stage.counter()),
            |number, uuid| carried.contains_key(&(number, uuid)),
            |packed, reader| {
                let PackedSegment {
                    shard: number,
                    uuid,
                    bytes,
                    what,
                    ..
                } = packed;
                let place = Place::Carried(at, packed.number);
                let Some((shard_plan, segment)) = carried.get(&(number, uuid)) else {
                    return Ok(());
                };
                seen += 1;
                let from = format!("{name}/{number}");
                let failed = |err: &io::Error| read_failed(what, err);
                if let Some(splice) = &segment.splice {
                    // What is not the same segment any more has not its name either.
                    let own = format!("{from}/{uuid}/rewritten");
                    let own = Uuid::new_v5(&Uuid::NAMESPACE_URL, own.as_bytes());
                    let path = cart.name(shard_plan.target, own, &from);
                    let mut reader = splice.reader(reader)?;
                    cart.carrier
                        .member(place, &path, splice.bytes(), &mut reader, &failed)?;
                    cart.carried.rewritten_segments += 1;
                    cart.carried.rewritten_bytes += splice.bytes();
                    return splice.discard();
                }
                let path = cart.name(shard_plan.target, uuid, &from);
                cart.carrier.member(place, &path, bytes, reader, &failed)?;
                cart.carried.untouched_segments += 1;
                cart.carried.untouched_bytes += bytes;
                Ok(())
            },
        )?;
        if seen != carried.len() {
            return Err(changed(&name));
        }
    }
    for shard_plan in shard_plans {
        let name = sources
            .get(shard_plan.source)
            .map(|source| source.name.clone())
            .unwrap_or_default();
        let shard = format!("shard {} of {name}", shard_plan.number);
        if !shard_plan.reasons.is_empty() {
            let reasons = shard_plan.reasons.join("; ");
            cart.carried.repacked.push(format!("{shard}: {reasons}"));
        }
        if let (true, Some(tail)) = (shard_plan.has_tail(), &shard_plan.tail) {
            cart.carried
                .tails
                .push(format!("{shard}: {}", tail.entries));
        }
        let packed = shard_plan.segments.iter();
        for (index, segment) in (0..).zip(packed.filter(|one| one.repacked.is_some())) {
            let place = Place::Packed(shard_plan.source, shard_plan.number, index);
            cart.repacked(place, shard_plan, segment, &name)?;
        }
    }
    drop(stage);
    let mut segments = BTreeMap::new();
    let mut indexed = BTreeMap::new();
    for number in plan.shards() {
        let of_shard: Vec<&SegmentPlan> = shard_plans
            .iter()
            .filter(|shard_plan| shard_plan.target == number)
            .flat_map(|shard_plan| &shard_plan.segments)
            .collect();
        let version_max = of_shard.iter().map(|segment| segment.version).max();
        let shard = PackedShard {
            number,
            version_max: version_max.unwrap_or(0),
        };
        cart.carrier.shard(Place::Shard(number), shard)?;
        segments.insert(number, of_shard.len() as u64);
        let vectors = of_shard.iter().map(|segment| segment.indexed_vectors).sum();
        indexed.insert(number, vectors);
    }
    let waiting: Vec<u64> = shard_plans
        .iter()
        .flat_map(|shard_plan| &shard_plan.segments)
        .map(|segment| segment.to_index)
        .filter(|points| *points > 0)
        .collect();
    if !waiting.is_empty() {
        cart.carried.to_index = Some(ToIndex {
            segments: waiting.len() as u64,
            points: waiting.iter().sum(),
        });
    }
    let MasterWriter {
        carried, removing, ..
    } = cart;
    for thread in removing {
        thread
            .join()
            .map_err(|_| Error::failed("removing scratch folders", "a thread ended"))??;
    }
    Ok(Packed {
        segments,
        indexed,
        carried,
    })
}

/// The master as it grows.
struct MasterWriter<'a> {
    carrier: &'a mut MemberWriter,
    names: BTreeSet<(u32, Uuid)>,
    carried: CarriedCounts,
    removing: Vec<JoinHandle<Result<()>>>,
}

impl MasterWriter<'_> {
    /// The member's name for a segment in shard `shard`; of two with one UUID, the second gets a
    /// new one, made of where it came `from`.
    fn name(&mut self, shard: u32, uuid: Uuid, from: &str) -> String {
        let mut own = uuid;
        let mut round = 0;
        while !self.names.insert((shard, own)) {
            round += 1;
            let name = format!("{from}/{uuid}/{round}");
            own = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
        }
        layout::segment_tar(shard, own)
    }

    fn repacked(
        &mut self,
        place: Place,
        shard_plan: &ShardPlan,
        segment: &SegmentPlan,
        source: &str,
    ) -> Result<()> {
        let Some(repacked) = &segment.repacked else {
            return Err(Error::failed(
                format!("packing segment {} of {source}", segment.uuid),
                "it was not repacked",
            ));
        };
        let from = format!("{source}/{}", shard_plan.number);
        let name = self.name(shard_plan.target, segment.uuid, &from);
        self.carrier.segment(place, &name, repacked)?;
        // A file that is removed before the disk has written it costs the disk nothing; but
        // removing takes a while, and nothing needs to wait for it.
        let folder = repacked.folder.clone();
        let removing = std::thread::spawn(move || scratch::remove_folder(&folder));
        self.removing.push(removing);
        self.carried.repacked_segments += 1;
        self.carried.repacked_bytes += repacked.bytes();
        Ok(())
    }
}

fn changed(source: &str) -> Error {
    Error::damaged(
        format!("carrying the segments of {source}"),
        "it is not what it was when it was looked into",
    )
    .next("the file changed while it was read: try again")
}

fn read_failed(what: &str, err: &io::Error) -> Error {
    if let Some(carried) = Error::carried(err) {
        return carried.clone().within(format!("carrying {what}"));
    }
    let kind = match err.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            Kind::Damaged
        }
        _ => Kind::Failed,
    };
    Error::new(kind, format!("carrying {what}"), err)
        .next("the source was damaged or changed while it was read: fetch or copy it again")
}
