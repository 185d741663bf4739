//! Thirty nights of a collection of which 1 % changes every day: what they cost together, against
//! the first one alone. They are made by the engine, and by a real server where one is at hand.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rand::seq::index::sample;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};
use snapmerge::engine::{Shard, ShardConfig, closed_segments};
use snapmerge::format::schema::CollectionConfig;
use snapmerge::format::{PackedShard, SnapshotWriter, ToPack, layout};
use snapmerge::point::{PointId, Record, Vector};

use super::{archive, entries, findings, make, walk};
use crate::support::config::config;
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome, Trial, sha256, temp_dir};

const NIGHTS: u64 = 30;
/// All nights may cost so much more than the first.
const TIMES_MAX: f64 = 1.5;
const POINTS: u64 = 6000;
/// Dimensions of a server's album, which has a log beside its points, and of the engine's, as users'
/// albums have them.
const DIMS: [usize; 2] = [256, 512];

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        env.live("archive/nights/of_a_server", of_a_server),
        Trial::new("archive/nights/of_the_engine", of_the_engine),
    ]
}

/// What is stored of an album, and how it changes.
struct Album {
    random: ChaCha8Rng,
    dims: usize,
}

impl Album {
    fn new(dims: usize) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(11),
            dims,
        }
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..self.dims)
            .map(|_| self.random.random_range(-1.0..1.0))
            .collect()
    }

    fn payload(&mut self, id: u64, night: u64) -> Map<String, Value> {
        let camera = self.random.random_range(0..7);
        let payload = json!({
            "year": 2017,
            "camera": format!("cam{camera}"),
            "path": format!("/photos/2017/{id:07}.jpg"),
            "seen": night,
        });
        match payload {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    /// The ids that change in a night.
    fn changed(&mut self) -> Vec<u64> {
        let count = usize::try_from(POINTS / 100).unwrap_or(1);
        let all = usize::try_from(POINTS).unwrap_or(1);
        let picked = sample(&mut self.random, all, count);
        picked.into_iter().map(|at| at as u64).collect()
    }
}

/// Bytes of all files of an archive.
fn bytes_of(root: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for file in walk(root)? {
        bytes += std::fs::metadata(file)?.len();
    }
    Ok(bytes)
}

/// Stores one night and forgets its file; what the archive is then, in bytes.
fn store(root: &Path, file: &Path, night: u64) -> Outcome<u64> {
    let time = format!("2026-10-{:02}T03:00:00Z", night + 1);
    archive("add", root)
        .arg(file)
        .args(["--name", "album", "--time", &time])
        .run()?
        .ok()?;
    bytes_of(root)
}

/// Every night must come out as it went in; then what they cost.
fn judge(what: &str, root: &Path, hashes: &[String], sizes: &[u64]) -> Outcome {
    let dir = temp_dir()?;
    let stored = entries(root)?;
    ensure_eq!(stored.len() as u64, NIGHTS, "entries");
    for (entry, hash) in stored.iter().zip(hashes) {
        ensure_eq!(entry["sha256"].as_str(), Some(hash.as_str()), "a hash");
        let id = entry["id"].as_str().unwrap_or_default();
        let got = dir.path().join("got");
        archive("get", root)
            .arg(id)
            .arg("-o")
            .arg(&got)
            .arg("--force")
            .run()?
            .ok()?;
        ensure_eq!(sha256(&got)?, *hash, "what came out of {id}");
    }
    ensure_eq!(findings(root)?, Vec::<Value>::new(), "findings");
    let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else {
        return Err("no nights".into());
    };
    let times = *last as f64 / *first as f64;
    println!("archive: {NIGHTS} nights {what}: {last} bytes, {times:.3} times the first");
    let cheap = times <= TIMES_MAX;
    ensure!(cheap, "{times:.3} times the first: {sizes:?}");
    Ok(())
}

/// A shard that the engine keeps and optimizes, packed every night as a server packs it, but without
/// a log.
fn of_the_engine() -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let mut album = Album::new(DIMS[1]);
    let mut raw = config(DIMS[1]);
    // So little is stored here that it would be neither indexed nor cleared of what is deleted.
    raw["optimizer_config"]["indexing_threshold"] = json!(1000);
    raw["optimizer_config"]["vacuum_min_vector_number"] = json!(100);
    let config = CollectionConfig::parse("the album", raw.to_string().as_bytes())?;
    let config = ShardConfig::new(&config)?.without_log();
    let folder = dir.path().join("shard");
    std::fs::create_dir(&folder)?;
    Shard::create(&folder, &config, "the album")?.close()?;
    let (mut hashes, mut sizes) = (Vec::new(), Vec::new());
    let (mut uuids, mut rewritten) = (BTreeSet::new(), 0);
    for night in 0..NIGHTS {
        let shard = Shard::reopen(&folder, &config, "the album")?;
        let ids = match night {
            0 => (0..POINTS).collect(),
            _ => album.changed(),
        };
        for some in ids.chunks(200) {
            let records = some.iter().map(|id| Record {
                id: PointId::Num(*id),
                vectors: vec![(String::new(), Vector::Dense(album.vector()))],
                payload: album.payload(*id, night),
                shard_key: None,
            });
            shard.upsert(records.collect())?;
        }
        shard.optimize()?;
        ensure_eq!(shard.count(None)?, POINTS, "points in night {night}");
        shard.close()?;
        let file = dir.path().join(format!("{night}.snapshot"));
        let mut packer = SnapshotWriter::new(File::create_new(&file)?, &file)?;
        let mut version_max = 0;
        let segments = closed_segments(&folder)?;
        for segment in &segments {
            let path = layout::segment_tar(0, segment.uuid);
            packer.segment(&path, &ToPack::measure(segment.folder.clone())?)?;
            version_max = version_max.max(segment.version);
        }
        packer.shard(PackedShard {
            number: 0,
            version_max,
        })?;
        let written = packer.finish(&raw, &json!({}), &json!({"schema": {}}))?;
        hashes.push(written.read_back()?.sha256);
        let now: BTreeSet<_> = segments.iter().map(|segment| segment.uuid).collect();
        rewritten += u64::from(night > 0 && now != uuids);
        uuids = now;
        sizes.push(store(&root, &file, night)?);
    }
    // Otherwise nothing was tried but a segment that grows.
    ensure!(rewritten > 0, "the optimizer rewrote nothing");
    println!("archive: in {rewritten} nights the engine rewrote segments");
    judge("of the engine", &root, &hashes, &sizes)
}

fn of_a_server(bin: &Path) -> Outcome {
    let server = Server::start(bin)?;
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let mut album = Album::new(DIMS[0]);
    // Thresholds as much lower as the collection is smaller than those they are made for: so that
    // within thirty nights segments are indexed, and rewritten when a fifth of them is deleted.
    server.put(
        "/collections/album",
        &json!({
            "vectors": {"size": DIMS[0], "distance": "Cosine"},
            "optimizers_config": {"indexing_threshold": 1000, "vacuum_min_vector_number": 100},
        }),
    )?;
    let upsert = |album: &mut Album, ids: &[u64], night: u64| -> Outcome {
        for some in ids.chunks(200) {
            let points: Vec<Value> = some
                .iter()
                .map(|id| {
                    let vector = album.vector();
                    json!({"id": id, "vector": vector, "payload": album.payload(*id, night)})
                })
                .collect();
            let body = json!({ "points": points });
            server.put("/collections/album/points?wait=true", &body)?;
        }
        Ok(())
    };
    upsert(&mut album, &(0..POINTS).collect::<Vec<_>>(), 0)?;
    let (mut hashes, mut sizes) = (Vec::new(), Vec::new());
    for night in 0..NIGHTS {
        if night > 0 {
            let ids = album.changed();
            upsert(&mut album, &ids, night)?;
        }
        server.wait_green("album", Duration::from_secs(120))?;
        let file = dir.path().join("album.snapshot");
        let hash = server.snapshot("album", &file)?;
        std::fs::write(dir.path().join("album.snapshot.checksum"), &hash)?;
        sizes.push(store(&root, &file, night)?);
        hashes.push(hash);
    }
    judge("of a server", &root, &hashes, &sizes)
}
