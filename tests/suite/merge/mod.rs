//! `merge`, seen from outside: sources in, a master out, and the master held to what a test computes
//! from the truth files on its own.

mod changes;
mod config;
pub mod policies;
mod refused;
mod shards;
pub mod vectors;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::export::exported;
use crate::support::cases::Case;
use crate::support::packed::Packed;
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = env.per_case("merge/one", |case| one_is_itself(&case));
    trials.extend(policies::trials(env));
    trials.extend(changes::trials(env));
    trials.extend(vectors::trials(env));
    trials.extend(shards::trials(env));
    trials.extend(config::trials(env));
    trials.extend(refused::trials(env));
    trials
}

/// The three albums: 1000 points each, of which 200 are in the second and the third.
pub const ALBUMS: [&str; 3] = ["album_2017", "album_2018", "album_2019_overlap"];

/// Sources in a folder of their own, which goes away with the value; masters are written there too.
pub struct Sources {
    dir: tempfile::TempDir,
    pub cases: Vec<Case>,
    pub files: Vec<PathBuf>,
    pub truths: Vec<Vec<Value>>,
}

impl Sources {
    /// Unpacks cases.
    pub fn of(cases: Vec<Case>) -> Outcome<Self> {
        let dir = temp_dir()?;
        let mut sources = Self {
            files: Vec::new(),
            truths: Vec::new(),
            dir,
            cases,
        };
        for case in &sources.cases {
            sources.files.push(case.unpack(sources.dir.path())?);
            sources.truths.push(case.truth()?);
        }
        Ok(sources)
    }

    /// Unpacks cases of fixtures/.
    pub fn named(env: &Env, names: &[&str]) -> Outcome<Self> {
        Self::of(names.iter().map(|name| env.case(name)).collect())
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path beside the sources.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Merges all sources by the route rebuild with `flags` into `master.snapshot`, which must
    /// succeed.
    pub fn merge(&self, flags: &[&str]) -> Outcome<Master> {
        let master = self.path("master.snapshot");
        let run = cli![
            "merge",
            "--route=rebuild",
            "--json",
            "--force",
            "-o",
            &master
        ]
        .args(flags)
        .args(&self.files)
        .run()?
        .ok()?;
        Ok(Master {
            report: run.json()?,
            packed: Packed::open(&master)?,
            path: master,
        })
    }
}

/// A master with what was reported of it.
pub struct Master {
    pub path: PathBuf,
    pub report: Value,
    pub packed: Packed,
}

impl Master {
    /// Fails unless it holds exactly these points, says so, and is whole.
    pub fn ensure_holds<'a>(&self, want: impl IntoIterator<Item = &'a Value>) -> Outcome {
        let want: Vec<&Value> = want.into_iter().collect();
        ensure_same(&exported(&self.path)?, want.iter().copied())?;
        let master = &self.report["master"];
        ensure_eq!(master["points"], json!(want.len()), "points in the report");
        let shards = master["shards"].as_array().ok_or("no shards")?;
        let points: Option<u64> = shards.iter().map(|shard| shard["points"].as_u64()).sum();
        ensure_eq!(points, Some(want.len() as u64), "points of its shards");
        self.packed.ensure_whole()
    }

    pub fn digest(&self) -> Outcome<&str> {
        let digest = self.report["master"]["digest"].as_str();
        digest.ok_or_else(|| "the report has no digest".into())
    }
}

/// Any case, merged alone, is itself: points, config, payload indexes. So is the .gz of it, in and out.
fn one_is_itself(case: &Case) -> Outcome {
    let sources = Sources::of(vec![case.clone()])?;
    let truth = &sources.truths[0];
    let master = sources.merge(&[])?;
    master.ensure_holds(truth)?;

    // The server that restores the master gives it a uuid of its own.
    let mut config = master.packed.config()?;
    ensure!(
        config["uuid"].is_null(),
        "it has the uuid of another collection"
    );
    drop_nulls(&mut config);
    let mut want = case.info["config"].clone();
    drop_nulls(&mut want);
    ensure_eq!(config, want, "config");
    let schema = master.packed.json("payload_index.json")?;
    let types = |fields: &Value, of: fn(&Value) -> &Value| -> Vec<(String, Value)> {
        let fields = fields.as_object().into_iter().flatten();
        let mut types: Vec<_> = fields.map(|(k, v)| (k.clone(), of(v).clone())).collect();
        types.sort_by(|a, b| a.0.cmp(&b.0));
        types
    };
    ensure_eq!(
        types(&schema["schema"], |v| if v.is_object() {
            &v["type"]
        } else {
            v
        }),
        types(&case.info["payload_schema"], |v| &v["data_type"]),
        "payload indexes"
    );

    let zipped = sources.path("zipped.snapshot.gz");
    let run = cli![
        "merge",
        "--route=rebuild",
        &case.snapshot_gz,
        "-o",
        &zipped,
        "--json"
    ]
    .run()?
    .ok()?;
    ensure_eq!(
        run.json()?["master"]["digest"].as_str(),
        Some(master.digest()?),
        "digest of the same from a .gz"
    );
    ensure!(
        std::fs::read(&zipped)?.starts_with(&[0x1f, 0x8b]),
        "it is not compressed"
    );
    ensure_same(&exported(&zipped)?, truth)?;

    let snapshot = format!("{}.snapshot", case.name);
    let mut names = vec!["master.snapshot", "zipped.snapshot.gz"];
    let checksums: Vec<String> = names
        .iter()
        .map(|name| format!("{name}.checksum"))
        .collect();
    names.extend(checksums.iter().map(String::as_str));
    names.push(&snapshot);
    names.sort_unstable();
    ensure_eq!(names_in(sources.dir())?, names, "files afterwards");
    Ok(())
}

/// A key that is null and one that is not there are the same to Qdrant.
pub fn drop_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(drop_nulls);
    }
}
