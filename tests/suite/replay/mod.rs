//! Live collections as sources and as masters, against a real server: what comes out of the server at
//! the end is held to the truth files, point for point; what was only read is what it was.

mod by_rest;
mod cluster;
mod faults;
mod keyed;
mod kill;
mod payloads;
mod refused;
mod rest;
mod scratch;
mod secure;
mod sync;
mod written;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::merge::policies::expected;
use crate::merge::{ALBUMS, Sources};
use crate::support::cases::Case;
use crate::support::cli::Cli;
use crate::support::points::{PointId, by_id, ensure_same};
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = Vec::new();
    for set in &env.sets {
        for case in set.cases.as_ref().into_iter().flatten() {
            // With shard keys a collection wants more: see `keyed`.
            if case.name == "shard_keys" {
                continue;
            }
            let name = format!("replay/case/{}/{}", set.version, case.name);
            trials.push(env.live(name, move |bin| one(bin, case)));
        }
    }
    for policy in ["last", "first", "newest:taken", "remap"] {
        let name = format!("replay/policy/{}", policy.replace(':', "_"));
        trials.push(env.live(name, move |bin| decides(env, bin, policy)));
    }
    trials.push(env.live("replay/policy/fail", |bin| fails(env, bin)));
    trials.push(env.live("replay/changes", |bin| changes(env, bin)));
    trials.push(env.live("replay/into_a_file", |bin| into_a_file(env, bin)));
    trials.extend(by_rest::trials(env));
    trials.extend(cluster::trials(env));
    trials.extend(faults::trials(env));
    trials.extend(keyed::trials(env));
    trials.extend(kill::trials(env));
    trials.extend(payloads::trials(env));
    trials.extend(refused::trials(env));
    trials.extend(rest::trials(env));
    trials.extend(scratch::trials(env));
    trials.extend(secure::trials(env));
    trials.extend(sync::trials(env));
    trials.extend(written::trials(env));
    trials
}

/// Long enough for a busy machine to index some thousand points.
const GREEN_WITHIN: Duration = Duration::from_secs(60);

/// A server of one test, and a folder for journals and files.
pub struct Place {
    pub server: Server,
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new(bin: &Path) -> Outcome<Self> {
        Ok(Self {
            server: Server::start(bin)?,
            dir: temp_dir()?,
        })
    }

    pub fn cluster(bin: &Path) -> Outcome<Self> {
        Ok(Self {
            server: Server::start_cluster(bin)?,
            dir: temp_dir()?,
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The address of a collection.
    pub fn at(&self, collection: &str) -> String {
        format!("{}/{collection}", self.server.url())
    }

    /// Restores a case under its own name; its address.
    pub fn restore(&self, case: &Case) -> Outcome<String> {
        let dir = temp_dir()?;
        self.server.upload(&case.name, &case.unpack(dir.path())?)?;
        self.server.wait_green(&case.name, GREEN_WITHIN)?;
        Ok(self.at(&case.name))
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the server speaks gRPC.
    pub fn grpc_port(&self) -> String {
        let url = self.server.grpc_url();
        url.rsplit(':').next().unwrap_or_default().to_owned()
    }

    /// `merge … --into COLLECTION --json`, with a journal and scratch of this place.
    pub fn merging<S: AsRef<std::ffi::OsStr>>(&self, sources: &[S], into: &str) -> Cli {
        let port = self.grpc_port();
        std::fs::create_dir_all(self.path("scratch")).expect("a folder in a temporary folder");
        cli![
            "merge",
            "--json",
            "--into",
            self.at(into),
            "--grpc-port",
            port
        ]
        .arg("--journal")
        .arg(self.path(&format!("{into}.journal")))
        .arg("--scratch")
        .arg(self.path("scratch"))
        .args(sources)
    }

    /// Fails unless the collection has exactly these points, and nothing is left in scratch.
    pub fn ensure_holds<'a>(
        &self,
        collection: &str,
        want: impl IntoIterator<Item = &'a Value>,
    ) -> Outcome<usize> {
        let there = self.server.scroll(collection)?;
        ensure_eq!(
            self.server.count(collection)?,
            there.len() as u64,
            "exact count and points of {collection}"
        );
        let left = names_in(&self.path("scratch")).unwrap_or_default();
        ensure_eq!(left, Vec::<String>::new(), "left in scratch");
        let want: Vec<&Value> = want.into_iter().collect();
        ensure_same(&there, want)
    }

    /// The last operation of every shard and all points: what reading must not change.
    pub fn state(&self, collection: &str) -> Outcome<(Vec<Value>, Vec<Value>)> {
        let cluster = self
            .server
            .get(&format!("/collections/{collection}/cluster"))?;
        let mut versions = Vec::new();
        for shard in cluster["local_shards"].as_array().into_iter().flatten() {
            let path = format!(
                "/collections/{collection}/shards/{}/snapshot/partial/manifest",
                shard["shard_id"]
            );
            let manifest = self.server.get(&path)?;
            let mut of: Vec<Value> = manifest
                .as_object()
                .into_iter()
                .flat_map(|map| map.values())
                .map(|segment| segment["segment_version"].clone())
                .collect();
            of.sort_by_key(|version| version.as_u64());
            versions.push(json!([shard["shard_id"], of]));
        }
        Ok((versions, self.server.scroll(collection)?))
    }
}

/// What the report says was done on the server.
pub fn live(report: &Value) -> &Value {
    &report["master"]["live"]
}

/// A case replayed from its file, and from the live collection, is what it was.
fn one(bin: &Path, case: &Case) -> Outcome {
    let place = Place::new(bin)?;
    let truth = case.truth()?;
    let source = place.restore(case)?;
    let before = place.state(&case.name)?;
    let file = case.unpack(place.dir.path())?;
    for (target, from) in [("of_file", file.as_os_str()), ("of_live", source.as_ref())] {
        let run = place.merging(&[from], target).run()?;
        let report = run.ok()?.json()?;
        ensure_eq!(
            place.ensure_holds(target, &truth)?,
            case.points(),
            "points compared"
        );
        let read = &report["sources"][0]["read"];
        ensure_eq!(*read, json!(case.points()), "read of {target}");
        ensure_eq!(
            report["master"]["points"],
            json!(case.points()),
            "points of {target}"
        );
        ensure_eq!(live(&report)["status"], "green", "{target}");
        let info = place.server.wait_green(target, GREEN_WITHIN)?;
        let schema = |info: &Value| {
            let mut schema = info["payload_schema"].clone();
            crate::merge::drop_nulls(&mut schema);
            schema
        };
        ensure_eq!(
            schema(&info),
            schema(&case.info),
            "payload schema of {target}"
        );
        let (mut config, mut want) = (info["config"].clone(), case.info["config"].clone());
        crate::merge::drop_nulls(&mut config);
        crate::merge::drop_nulls(&mut want);
        // The default, which the config did not say, is said after it was held back.
        if want["optimizer_config"]["indexing_threshold"].is_null() {
            want["optimizer_config"]["indexing_threshold"] = json!(10_000);
        }
        ensure_eq!(config["params"], want["params"], "params of {target}");
        for part in ["hnsw_config", "quantization_config"] {
            ensure_eq!(config[part], want[part], "{part} of {target}");
        }
        let threshold = "/optimizer_config/indexing_threshold";
        ensure_eq!(
            config.pointer(threshold),
            want.pointer(threshold),
            "{target}"
        );
        let was_indexed = case.info["indexed"].as_u64() > Some(0);
        let is_indexed = info["indexed_vectors_count"].as_u64() > Some(0);
        ensure_eq!(is_indexed, was_indexed, "indexed: {target}");
    }
    let after = place.state(&case.name)?;
    ensure_eq!(after.0, before.0, "operations of the source");
    ensure_same(&after.1, &before.1)?;
    Ok(())
}

/// Two live albums and a file under a policy; then the same again, which changes nothing.
fn decides(env: &Env, bin: &Path, policy: &str) -> Outcome {
    let place = Place::new(bin)?;
    let sources = Sources::named(env, &ALBUMS)?;
    let want = expected(&ALBUMS, &sources.truths, policy)?;
    let mut given = Vec::new();
    for case in &sources.cases[..2] {
        given.push(PathBuf::from(place.restore(case)?));
    }
    given.push(sources.files[2].clone());
    let ledger = place.path("conflicts.jsonl");
    let merge = || {
        let run = place.merging(&given, "master");
        run.args(["--on-conflict", policy])
    };
    let run = merge().arg("--ledger").arg(&ledger).run()?.ok()?;
    let report = run.json()?;
    place.ensure_holds("master", want.points.values())?;
    let conflicts: Vec<Value> = std::fs::read_to_string(&ledger)?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    ensure_eq!(conflicts, want.conflicts, "the ledger");
    for (at, source) in report["sources"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        ensure_eq!(source["read"], json!(1000), "read of {source}");
        ensure_eq!(source["lost"], json!(want.lost[at]), "lost of {source}");
        ensure_eq!(
            source["remapped"],
            json!(want.remapped[at]),
            "remapped of {source}"
        );
    }
    ensure_eq!(
        live(&report)["written"],
        json!(want.points.len()),
        "points written"
    );

    let before = place.state("master")?;
    let again = merge().run()?.ok()?.json()?;
    ensure_eq!(
        live(&again)["requests"],
        json!(0),
        "requests of the second run"
    );
    ensure_eq!(
        again["master"]["digest"],
        report["master"]["digest"],
        "digest"
    );
    let after = place.state("master")?;
    ensure_eq!(after.0, before.0, "operations of the master");
    place.ensure_holds("master", want.points.values())?;

    // What is new in a source is not written into a finished master, which may be published: it is told.
    let new = json!({"points": [{"id": 987_654, "vector": vec![0.5; 16], "payload": {}}]});
    place
        .server
        .put("/collections/album_2017/points?wait=true", &new)?;
    merge()
        .run()?
        .code(3)?
        .says(&["the sources are not what they were", "--sync"])?;
    ensure_eq!(
        place.state("master")?.0,
        before.0,
        "operations of the master"
    );
    place.ensure_holds("master", want.points.values())?;
    Ok(())
}

fn fails(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let sources = Sources::named(env, &ALBUMS)?;
    let live = place.restore(&sources.cases[1])?;
    let given = [PathBuf::from(live), sources.files[2].clone()];
    let merge = |policy: &str| {
        place
            .merging(&given, "master")
            .args(["--on-conflict", policy])
            .run()
    };
    merge("fail")?
        .code(1)?
        .says(&["point 1800 is in album_2018 and album_2019_overlap"])?;
    // Of another merge: not to be gone on with.
    merge("last")?
        .code(12)?
        .says(&["it exists already", "--sync"])?;
    Ok(())
}

/// Filter, stamp and dropped payload, of a live source and of a file alike.
fn changes(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let sources = Sources::named(env, &["album_2017", "album_2018"])?;
    let live_source = place.restore(&sources.cases[0])?;
    let given = [PathBuf::from(live_source), sources.files[1].clone()];
    let filter = json!({"must": [{"key": "camera", "match": {"any": ["x100", "pixel"]}}]});
    let mut want = BTreeMap::new();
    let mut kept = [0, 0];
    for (at, truth) in sources.truths.iter().enumerate() {
        for (id, mut point) in by_id(truth.clone())? {
            let payload = point["payload"].as_object_mut().ok_or("no payload")?;
            let camera = payload.get("camera").and_then(Value::as_str);
            if !camera.is_some_and(|camera| ["x100", "pixel"].contains(&camera)) {
                continue;
            }
            payload.remove("caption");
            payload.insert("of".into(), [json!(2017), json!("album_2018")][at].clone());
            want.insert(id, point);
            kept[at] += 1;
        }
    }
    ensure!(kept[0] > 50 && kept[1] > 50, "the filter keeps {kept:?}");
    let report = place
        .merging(&given, "master")
        .args(["--filter", &filter.to_string(), "--drop-payload", "caption"])
        .args(["--stamp", "of", "--stamp-value", "album_2017=2017"])
        .run()?
        .ok()?
        .json()?;
    place.ensure_holds("master", want.values())?;
    for (at, kept) in kept.iter().enumerate() {
        let source = &report["sources"][at];
        ensure_eq!(source["won"], json!(kept), "{source}");
        ensure_eq!(source["filtered"], json!(1000 - kept), "{source}");
    }
    Ok(())
}

/// Live sources into a file: by rebuild, and the same as of their snapshots.
fn into_a_file(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let sources = Sources::named(env, &ALBUMS)?;
    let want = expected(&ALBUMS, &sources.truths, "last")?;
    let mut given = vec![PathBuf::from(place.restore(&sources.cases[0])?)];
    given.extend_from_slice(&sources.files[1..]);
    let output = place.path("master.snapshot");
    let port = place.server.grpc_url();
    let port = port.rsplit(':').next().unwrap_or_default();
    let report = cli!["merge", "--json", "-o", &output, "--grpc-port", port]
        .args(&given)
        .run()?
        .ok()?
        .json()?;
    ensure_eq!(report["route"], "rebuild", "the route");
    ensure_same(&crate::export::exported(&output)?, want.points.values())?;
    let of_files = sources.rebuild(&[])?;
    ensure_eq!(
        report["master"]["digest"],
        of_files.report["master"]["digest"],
        "digest"
    );

    // A graph cannot be carried out of a server.
    cli![
        "merge",
        "-o",
        place.path("other.snapshot"),
        "--route",
        "graft",
        "--grpc-port",
        port
    ]
    .args(&given)
    .run()?
    .code(2)?
    .says(&["album_2017 is read from a server"])?;
    Ok(())
}

/// The points of a case, by id.
pub fn points_of(case: &Case) -> Outcome<BTreeMap<PointId, Value>> {
    by_id(case.truth()?)
}
