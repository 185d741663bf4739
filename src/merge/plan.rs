//! The plan of a merge: a value that can be printed, made before a byte moves.
//!
//! Invariants: everything that can be refused is refused here, all reasons at once; the plan
//! depends on the sources' headers and the settings alone.

use std::collections::BTreeSet;

use super::parts::keep_parts;
use super::route::{KeptSegments, Targets, built_otherwise, most_segments, route};
use super::settings::{Route, SegmentRule, Segments, Settings};
use crate::base::Workspace;
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Unit;
use crate::base::scratch::require_free;
use crate::build::{BuiltShard, Needs, Shape, engine_bytes, refuse_lossy};
use crate::engine::{ShardConfig, refuse_index};
use crate::format::schema::United;
use crate::point::ShardKey;
use crate::source::{Source, SourceLabel};
use crate::stream::{Flow, Layout, LayoutChoice, Stamp, master_shape, opening_bytes};

/// Hint for vectors that cannot be written again.
const CARRIES: &str = "use --route graft, which carries what is stored";
/// Disk space that any merge needs, in bytes: sparse files, folders, small files.
pub const BASE_BYTES: u64 = 16 << 20;
/// Times that what is unpacked lies in scratch once more while it is changed, built and indexed.
const CHANGED: u64 = 3;

/// A planned merge.
#[derive(Debug)]
pub struct Plan {
    /// The sources in their order.
    pub sources: Vec<SourceLabel>,
    /// Route by which the master is made.
    pub route: Route,
    /// Reason for the route.
    pub because: String,
    /// The master's config, payload indexes, and how they came to be.
    pub united: United,
    /// The master's shards.
    pub layout: Layout,
    /// The shard of the master that each shard of each source joins, by `graft`, and where one shard is made by
    /// itself.
    pub targets: Targets,
    /// The one shard of the master that is made; none for all.
    pub only: Option<u32>,
    /// Number of segments that a server is to leave alone, if that is asked for.
    pub kept: Option<KeptSegments>,
    /// By `graft`, maximum number of segments of a shard, if there is one.
    pub segments_max: Option<usize>,
    /// Parts that the sources lack, if that was allowed.
    pub missing: Vec<String>,
    /// Notes worth reading before the merge.
    pub notes: Vec<String>,
    /// Disk space.
    pub needs: Needs,
}

impl Plan {
    /// Refuses if there is no room in scratch for `bytes` bytes of segments that the engine is to change or merge:
    /// unpacked, changed, and indexed beside.
    pub fn require_to_change(&self, bytes: u64, site: Workspace<'_>) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let engine = engine_bytes(&self.united.config, &self.united.payload);
        let needed = engine + (1 + CHANGED) * bytes;
        require_free(site.scratch.path(), needed, "changing segments")
    }

    /// The master's config, payload indexes and shards.
    pub fn shape(&self) -> Shape<'_> {
        Shape {
            config: &self.united.config,
            payload: &self.united.payload,
            layout: &self.layout,
        }
    }

    /// Returns true if the shard `number` of the master is made.
    pub fn makes(&self, number: u32) -> bool {
        self.only.is_none_or(|only| only == number)
    }

    /// The shards of the master that are made.
    pub fn shards(&self) -> impl Iterator<Item = u32> {
        let all = self.layout.shards.iter().copied();
        all.filter(|number| self.makes(*number))
    }

    /// The shards of the source at the place `source` that are needed for those of the master that are made,
    /// where it is known which shard each joins.
    pub fn needed_of(&self, source: usize) -> BTreeSet<u32> {
        let of_source = self.targets.range((source, 0)..=(source, u32::MAX));
        of_source
            .filter(|(_, target)| self.makes(**target))
            .map(|((_, number), _)| *number)
            .collect()
    }

    /// Has the config allow for as many segments as the fullest of `shards` has, which are all of the master's:
    /// opening them may have made some that nobody knew of when this was planned.
    pub fn allow_segments(&mut self, shards: &[BuiltShard]) -> Result<()> {
        let Some(mut kept) = self.kept else {
            return Ok(());
        };
        let most = shards.iter().map(|shard| shard.segments).max().unwrap_or(0);
        kept.allow(most, &mut self.united, &mut self.notes)?;
        if let Some(wanted) = self.segments_max.filter(|wanted| most > *wanted as u64) {
            self.notes.push(format!(
                "a shard has {most} segments instead of {wanted}: a server adds points to no segment with a \
                 graph, so that one may come on top, and none grows above the config's max_segment_size"
            ));
        }
        self.kept = Some(kept);
        Ok(())
    }

    /// Gives the master the shards for the values of the field by which it is laid out, if it is, out of the
    /// `flow` of `sources`.
    pub fn lay_out_by_field(
        &mut self,
        flow: &Flow<'_>,
        sources: &[Source],
        settings: &Settings,
        site: Workspace<'_>,
    ) -> Result<()> {
        if settings.union.layout.field().is_none() {
            return Ok(());
        }
        let stage = site.progress.stage("read keys", None, Unit::Points);
        let shards = settings.overrides.shard_number.unwrap_or(1);
        let keys = flow.keys_by_field(shards, &stage)?;
        let keys: Vec<(ShardKey, u32)> = keys.into_iter().map(|key| (key, shards)).collect();
        self.layout = Layout::by_key(&keys)?;
        let by_server = settings.segments == Segments::By(SegmentRule::Server);
        if self.route == Route::Rebuild && !by_server {
            let shards = self.layout.shards.len();
            let note = keep_parts(sources, shards, settings.segments, &mut self.united)?;
            self.notes.extend(note);
        }
        Ok(())
    }
}

/// Plans the merge of `sources` under `settings`.
pub fn plan(sources: &[Source], settings: &Settings) -> Result<Plan> {
    if let Some(part) = sources.iter().find(|source| source.is_part())
        && settings.union.layout.is_by_source()
    {
        return Err(Error::usage(
            "planning a shard key for each source",
            format!("{} is one node's part of a collection", part.name),
        )
        .next("merge the nodes' snapshots into one first, without --layout by-source"));
    }
    let mut missing = Vec::new();
    let mut reasons: Vec<Error> = Vec::new();
    for source in sources {
        match source.refuse_unreadable(settings.allow_incomplete) {
            Ok(lacking) => missing.extend(
                lacking
                    .into_iter()
                    .map(|what| format!("{}: {what}", source.name)),
            ),
            Err(err) => reasons.push(err),
        }
    }
    refuse_all(reasons)?;
    let (mut united, layout) = master_shape(sources, &settings.union, &settings.overrides)?;
    if let Some(stamp) = &settings.union.stamp {
        refuse_unknown_stamps(stamp, sources)?;
    }
    for given in &settings.overrides.payload_index {
        refuse_index(given.field(), given.index())?;
    }
    let mut notes = notes(sources);
    notes.extend(unindexed(settings, &united));
    let mut kept = None;
    let mut segments_max = None;
    let by_server = settings.segments == Segments::By(SegmentRule::Server);
    let (route, because, targets) = route(sources, settings, &layout)?;
    match route {
        Route::Graft => {
            segments_max = settings
                .segments
                .most(ShardConfig::new(&united.config)?.segments_max());
            if !by_server {
                let mut keep = KeptSegments::new(&united);
                // How many are left where some are merged is known afterwards.
                if segments_max.is_none() {
                    keep.allow(most_segments(sources, &targets), &mut united, &mut notes)?;
                }
                kept = Some(keep);
            }
            notes.extend(built_otherwise(sources, &settings.union.vectors, &united));
        }
        Route::Rebuild => {
            refuse_lossy(&united.config, "planning the route rebuild", CARRIES)?;
            // By a field, the shards are known when the sources are read.
            if !by_server && settings.union.layout.field().is_none() {
                let shards = layout.shards.len();
                notes.extend(keep_parts(sources, shards, settings.segments, &mut united)?);
            }
        }
        Route::Replay => refuse_lossy(&united.config, "planning the route replay", CARRIES)?,
    }
    if settings.union.layout != LayoutChoice::Same && route != Route::Replay {
        notes.push(
            "a server restores a master with shard keys only into a collection that was made with \
             sharding_method custom, and whose keys were made in the order of their shards' \
             numbers; into a new name it restores nothing and reports success (qdrant#10135)"
                .into(),
        );
    }
    Ok(Plan {
        sources: sources.iter().map(Source::label).collect(),
        route,
        because,
        notes,
        needs: match route {
            Route::Replay => Needs {
                scratch_bytes: BASE_BYTES + opened(sources),
                output_bytes: 0,
                changing_bytes: 0,
            },
            Route::Graft | Route::Rebuild => needs(sources, &united, settings, route),
        },
        united,
        layout,
        targets,
        only: None,
        kept,
        segments_max,
        missing,
    })
}

fn refuse_all(mut reasons: Vec<Error>) -> Result<()> {
    if reasons.len() < 2 {
        return reasons.pop().map_or(Ok(()), Err);
    }
    let kind = reasons.first().map_or(Kind::Failed, Error::kind);
    let text: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    Err(Error::new(
        kind,
        format!("reading {} sources", reasons.len()),
        text.join("\n"),
    ))
}

fn refuse_unknown_stamps(stamp: &Stamp, sources: &[Source]) -> Result<()> {
    for name in stamp.values.keys() {
        if !sources.iter().any(|source| source.name == *name) {
            let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
            return Err(Error::usage(
                format!("reading --stamp-value {name}=…"),
                format!("no source has this name; they are {}", names.join(", ")),
            ));
        }
    }
    Ok(())
}

fn notes(sources: &[Source]) -> Vec<String> {
    let mut notes = Vec::new();
    for source in sources {
        let name = &source.name;
        if source.config_is_derived {
            notes.push(format!(
                "{name} is a {} without a collection's config: what its segments tell was taken, \
                 and Qdrant's defaults for the rest",
                source.snapshot.form.words()
            ));
        }
        let (inside, count, all) = source.in_rocks();
        if source.by_server.is_none() && !inside.is_nothing() {
            notes.push(format!(
                "{count} of {all} segments of {name} keep {} in RocksDB, as servers up to 1.17 do: they \
                 are converted in scratch",
                inside.words()
            ));
        }
        let keys = source.keys_once_numbers();
        notes.extend(keys.map(|note| format!("{name}: {note}")));
        for (number, shard) in &source.snapshot.shards {
            if !shard.has_log {
                notes.push(format!(
                    "shard {number} of {name} has no log: deletes that the optimizer held back \
                     while the snapshot was taken are not in it"
                ));
            }
        }
        let (unknown, names) = &source.snapshot.unknown;
        if *unknown > 0 {
            notes.push(format!(
                "{unknown} members of {name} are not known and were not looked at: {}",
                names.join(", ")
            ));
        }
    }
    notes
}

/// The sources that may be unpacked: what is read from a server is not.
fn on_disk(sources: &[Source]) -> impl Iterator<Item = &Source> {
    let is_unpacked = |source: &&Source| source.by_server.is_none() || source.snapshot.compressed;
    sources.iter().filter(is_unpacked)
}

/// Bytes that sources take when all of them are unpacked.
fn unpacked(sources: &[Source]) -> u64 {
    let bytes = on_disk(sources).map(|source| source.snapshot.unpacked_bytes);
    bytes.sum()
}

/// Bytes that sources take while they are read record by record.
fn opened(sources: &[Source]) -> u64 {
    opening_bytes(&on_disk(sources).collect::<Vec<_>>(), false)
}

/// Bytes that the points of live collections take when they are stored, by what their config says of
/// their vectors, and a guess for the rest: nobody knows before they are read.
fn live_bytes(sources: &[Source]) -> u64 {
    const REST_BYTES: u64 = 2 << 10;
    const MULTI: u64 = 32;
    let of = |source: &Source| {
        let points = source.live.as_ref().map_or(0, |live| live.points());
        let dense = source.config.vectors().values();
        let vectors: u64 = dense
            .map(|vector| match vector.multivector {
                None => 4 * vector.size,
                Some(_) => 4 * vector.size * MULTI,
            })
            .sum();
        points * (vectors + REST_BYTES)
    };
    sources.iter().map(of).sum()
}

fn needs(sources: &[Source], united: &United, settings: &Settings, route: Route) -> Needs {
    let files = sources
        .iter()
        .filter(|source| source.live.is_none())
        .flat_map(|source| source.snapshot.shards.values())
        .flat_map(|shard| shard.segments.values())
        .flat_map(|segment| segment.files.values());
    let stored: u64 = files.map(|file| file.stored_bytes).sum();
    let segments = stored + live_bytes(sources);
    // Ids of the sources, and then of the master, that are too many for memory; stamped payloads lie in scratch, then
    // in the master.
    let ids: u64 = sources.iter().map(Source::ids_bytes_max).sum();
    let stamps = stamped_bytes(sources, settings);
    let engine = engine_bytes(&united.config, &united.payload);
    let always = BASE_BYTES + 2 * ids + 2 * stamps;
    match route {
        Route::Graft => Needs {
            scratch_bytes: always,
            output_bytes: BASE_BYTES + segments + stamps,
            changing_bytes: engine + unpacked(sources) + CHANGED * segments,
        },
        // Built, and indexed beside; then, when the sources are gone, unpacked again to be proven.
        Route::Rebuild | Route::Replay => Needs {
            scratch_bytes: always + engine + opened(sources) + CHANGED * segments,
            output_bytes: BASE_BYTES + 2 * segments + stamps,
            changing_bytes: 0,
        },
    }
}

/// Bytes by which a stamp makes the sources' payloads larger, at the most that is usual: each may begin
/// another block of the storage.
fn stamped_bytes(sources: &[Source], settings: &Settings) -> u64 {
    const BLOCK_BYTES: u64 = 128;
    const VERSION_BYTES: u64 = 8;
    let Some(stamp) = &settings.union.stamp else {
        return 0;
    };
    let of = |source: &Source| {
        let segments = (source.snapshot.shards.values()).flat_map(|shard| shard.segments.values());
        let files = segments.flat_map(|segment| &segment.files);
        // A version for each point that the segment ever had.
        let versions = files.filter(|(name, _)| name.ends_with("id_tracker.versions"));
        let points: u64 = versions.map(|(_, size)| size.bytes / VERSION_BYTES).sum();
        let stamp_bytes =
            stamp.field.to_string().len() + stamp.value(&source.name).to_string().len();
        points.saturating_mul(stamp_bytes as u64 + BLOCK_BYTES)
    };
    sources.iter().map(of).sum()
}

/// Note on a stamp whose field has no index: a server in strict mode may refuse filters on it.
fn unindexed(settings: &Settings, united: &United) -> Option<String> {
    let field = &settings.union.stamp.as_ref()?.field;
    let is_indexed = united.payload.fields().contains_key(&field.to_string());
    (!is_indexed).then(|| {
        format!(
            "the stamped field '{field}' has no payload index: a filter by it looks at every point, and \
             a server in strict mode may refuse it (unindexed_filtering_retrieve); --payload-index \
             {field}=TYPE gives it one"
        )
    })
}
