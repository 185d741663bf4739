//! Sources: real snapshots of photo albums, made with the house's own engine and packer, with logs as
//! servers leave them.
//!
//! Keeps true: the same shape gives the same points; a set of sources is whole or absent, so that an
//! interrupted run is not measured by the next; a log has what was written last, acknowledged up to its
//! last entry.

use std::f32::consts::TAU;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ciborium::{Value as Cbor, cbor};
use rand::{Rng, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use snapmerge::engine::{Shard, ShardConfig, closed_segments};
use snapmerge::format::schema::CollectionConfig;
use snapmerge::format::{PackedShard, SnapshotWriter, ToPack, layout};
use snapmerge::point::{PointId, Record, Vector};
use uuid::Uuid;

use super::config::config;
use super::log::{self, Log};
use super::{Outcome, fresh};

/// Changed whenever what is made changes.
const VERSION: u32 = 2;
/// Vectors lie around this many centres.
const CENTRES: usize = 64;
/// How far around.
const SPREAD: f32 = 0.6;
/// Points written at once.
const BATCH: u64 = 1000;
/// Of how many points of a source one is the previous source's too, under [`Kind::Overlap`].
const OVERLAP: u64 = 10;
/// Points in a log that its segments do not have, under [`Kind::Tail`].
const TAIL_POINTS: u64 = 1000;
/// Payload indexes.
const INDEXES: [(&str, &str); 2] = [("year", "integer"), ("camera", "keyword")];

/// What is made.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Points of all sources together.
    pub points: u64,
    /// Dimensions.
    pub dims: usize,
    /// Sources.
    pub sources: u64,
    /// Whether they have HNSW graphs.
    pub indexed: bool,
    /// What they have to do with each other, and with their logs.
    pub kind: Kind,
}

/// What makes merging sources harder than carrying their segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: no id is in two sources, and every log is in its segments.
    Disjoint,
    /// In the log of every source, some points are written once more; no segment has that yet.
    Tail,
    /// A tenth of each source's ids, but the first's, are the previous source's too.
    Overlap,
    /// Nothing; ids are UUIDs in no order.
    Uuids,
}

impl Shape {
    /// Ids that are in two sources.
    pub fn conflicts(&self) -> u64 {
        match self.kind {
            Kind::Disjoint | Kind::Tail | Kind::Uuids => 0,
            Kind::Overlap => (1..self.sources).map(|at| self.count(at) / OVERLAP).sum(),
        }
    }

    /// Points of one source.
    fn count(&self, at: u64) -> u64 {
        self.points * (at + 1) / self.sources - self.points * at / self.sources
    }

    fn folder(&self) -> String {
        let Self {
            points,
            dims,
            sources,
            ..
        } = self;
        let graphs = if self.indexed { "indexed" } else { "plain" };
        let kind = match self.kind {
            Kind::Disjoint => "",
            Kind::Tail => "-tail",
            Kind::Overlap => "-overlap",
            Kind::Uuids => "-uuids",
        };
        format!("v{VERSION}-{points}x{dims}-{sources}-{graphs}{kind}")
    }
}

/// The sources of `shape` under `dir`, made if they are not there.
pub fn make(dir: &Path, shape: Shape) -> Outcome<Vec<PathBuf>> {
    let folder = dir.join(shape.folder());
    let years: Vec<u64> = (0..shape.sources).map(|source| 2017 + source).collect();
    let files = |folder: &Path| -> Vec<PathBuf> {
        let name = |year| folder.join(format!("album_{year}.snapshot"));
        years.iter().map(name).collect()
    };
    if folder.exists() {
        return Ok(files(&folder));
    }
    if shape.kind == Kind::Tail {
        let disjoint = Shape {
            kind: Kind::Disjoint,
            ..shape
        };
        let whole = make(dir, disjoint)?;
        let making = fresh(&dir.join("making"))?;
        let mut first_id = 1;
        for (at, (from, to)) in (0..).zip(whole.iter().zip(files(&making))) {
            with_tail(from, &to, first_id..first_id + shape.count(at), shape.dims)?;
            first_id += shape.count(at);
        }
        std::fs::rename(&making, &folder)?;
        return Ok(files(&folder));
    }
    let making = fresh(&dir.join("making"))?;
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut centres = vec![0.0; CENTRES * shape.dims];
    normals(&mut random, &mut centres);
    let mut next_id = 1;
    for (at, (year, file)) in (0..).zip(years.iter().zip(files(&making))) {
        let count = shape.count(at);
        eprintln!("bench: making {} with {count} points", file.display());
        let mut album = Album {
            random: ChaCha8Rng::seed_from_u64(*year),
            centres: &centres,
            dims: shape.dims,
            year: *year,
            has_uuids: shape.kind == Kind::Uuids,
        };
        if shape.kind == Kind::Overlap && at > 0 {
            next_id -= count / OVERLAP;
        }
        album.make(next_id, count, shape.indexed, &making.join("shard"), &file)?;
        next_id += count;
    }
    std::fs::rename(&making, &folder)?;
    Ok(files(&folder))
}

/// Writes the snapshot `from` to `to` with a log in which some of its points are written again.
fn with_tail(from: &Path, to: &Path, ids: Range<u64>, dims: usize) -> Outcome {
    let mut random = ChaCha8Rng::seed_from_u64(ids.start);
    let step = ((ids.end - ids.start) / TAIL_POINTS).max(1) as usize;
    let points: Vec<Cbor> = ids
        .step_by(step)
        .map(|id| {
            let mut values = vec![0.0_f32; dims];
            normals(&mut random, &mut values);
            let vector = Cbor::serialized(&values)?;
            cbor!({"id" => id, "vector" => vector, "payload" => {"edited" => true}})
        })
        .collect::<Result<_, _>>()?;
    log::add_entry(from, to, &log::entry(points)?)
}

/// One source on its way.
struct Album<'a> {
    random: ChaCha8Rng,
    centres: &'a [f32],
    dims: usize,
    year: u64,
    has_uuids: bool,
}

impl Album<'_> {
    fn make(
        &mut self,
        first_id: u64,
        count: u64,
        indexed: bool,
        scratch: &Path,
        file: &Path,
    ) -> Outcome {
        let raw = config(self.dims);
        let parsed = CollectionConfig::parse("the bench's config", raw.to_string().as_bytes())?;
        let config = ShardConfig::new(&parsed)?.without_log();
        let folder = fresh(scratch)?;
        let shard = Shard::create(&folder, &config, "a shard of the bench")?;
        for (field, schema) in INDEXES {
            shard.create_index(field, &json!(schema))?;
        }
        let mut log = Log::default();
        let mut done = 0;
        while done < count {
            let batch = BATCH.min(count - done);
            let ids = first_id + done..first_id + done + batch;
            let points: Vec<Record> = ids.map(|id| self.point(id)).collect();
            log.add(&points)?;
            shard.upsert(points)?;
            done += batch;
        }
        if indexed {
            shard.optimize()?;
        }
        shard.close()?;

        let plain = scratch.with_extension("plain");
        let mut carrier = SnapshotWriter::new(File::create(&plain)?, &plain)?;
        let mut version_max = 0;
        for segment in closed_segments(&folder)? {
            let path = layout::segment_tar(0, segment.uuid);
            carrier.segment(&path, &ToPack::measure(segment.folder)?)?;
            version_max = version_max.max(segment.version);
        }
        carrier.shard(PackedShard {
            number: 0,
            version_max,
        })?;
        let schema: serde_json::Map<String, Value> = INDEXES
            .iter()
            .map(|(field, schema)| ((*field).to_owned(), json!(schema)))
            .collect();
        let written = carrier.finish(&raw, &json!({}), &json!({ "schema": schema }))?;
        written.read_back()?;
        log.write(&plain, file, version_max)?;
        std::fs::remove_file(&plain)?;
        std::fs::remove_dir_all(&folder)?;
        Ok(())
    }

    /// A photo as the users' albums have them.
    fn point(&mut self, id: u64) -> Record {
        let label = self.random.random_range(0..CENTRES);
        let mut values = vec![0.0; self.dims];
        normals(&mut self.random, &mut values);
        let centre = &self.centres[label * self.dims..(label + 1) * self.dims];
        for (value, centre) in values.iter_mut().zip(centre) {
            *value = centre + SPREAD * *value;
        }
        let payload = json!({
            "year": self.year,
            "camera": format!("cam{}", label % 7),
            "path": format!("/photos/{}/{id:07}.jpg", self.year),
            "tags": ["a", "b"],
            "exif": {"iso": 100 + id % 1000, "f": 2.8},
        });
        let Value::Object(payload) = payload else {
            unreachable!("an object");
        };
        Record {
            id: match self.has_uuids {
                true => PointId::Uuid(Uuid::from_u128(ChaCha8Rng::seed_from_u64(id).random())),
                false => PointId::Num(id),
            },
            vectors: vec![(String::new(), Vector::Dense(values))],
            payload,
            shard_key: None,
        }
    }
}

/// Fills `values` with normally distributed numbers (Box and Muller).
fn normals(random: &mut ChaCha8Rng, values: &mut [f32]) {
    for pair in values.chunks_mut(2) {
        let radius = (-2.0 * (1.0 - random.random::<f32>()).ln()).sqrt();
        let angle = TAU * random.random::<f32>();
        for (value, part) in pair.iter_mut().zip([angle.cos(), angle.sin()]) {
            *value = radius * part;
        }
    }
}
