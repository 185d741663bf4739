//! `merge`, seen from outside: sources in, a master out, and the master held to what a test computes
//! from the truth files on its own.

mod by_field;
mod changes;
mod config;
mod many;
pub mod policies;
mod refused;
mod shards;
mod stages;
mod together;
pub mod vectors;

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::export::exported;
use crate::support::cases::Case;
use crate::support::packed::Packed;
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = env.per_case("merge/one", |case| one_is_itself(&case));
    for name in ["album_2018", "sparse_dense", "shard_keys"] {
        let name_of = format!("merge/compressed/{name}");
        trials.push(Trial::new(name_of, move || compressed(&env.case(name))));
    }
    trials.extend(policies::trials(env));
    trials.extend(by_field::trials(env));
    trials.extend(changes::trials(env));
    trials.extend(vectors::trials(env));
    trials.extend(shards::trials(env));
    trials.extend(stages::trials(env));
    trials.extend(together::trials(env));
    trials.extend(many::trials(env));
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

    /// Merges all sources by the route `rebuild`, which fits any flags.
    pub fn rebuild(&self, flags: &[&str]) -> Outcome<Master> {
        self.merge(&[&["--route", "rebuild"], flags].concat())
    }

    /// Merges all sources with `flags` into `master.snapshot`, which must succeed; the route is the
    /// program's to choose.
    pub fn merge(&self, flags: &[&str]) -> Outcome<Master> {
        let master = self.path("master.snapshot");
        let run = cli!["merge", "--json", "--force", "-o", &master]
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

/// Removes what says the hashes of the master at `path`, so that a change is looked at.
pub fn forget_checksums(path: &Path) -> Outcome {
    std::fs::remove_file(path.with_extension("snapshot.checksum"))?;
    let beside = path.with_extension("snapshot.provenance.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&beside)?)?;
    record["sha256"] = json!("");
    record["xxh3"].take();
    Ok(std::fs::write(&beside, record.to_string())?)
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

    /// By the route `rebuild` it is digested point by point; `graft` carries points without a look.
    pub fn digest(&self) -> Outcome<&str> {
        let digest = self.report["master"]["digest"].as_str();
        digest.ok_or_else(|| "the report has no digest".into())
    }
}

/// Any case, merged alone, is itself by either route: points, config, payload indexes.
fn one_is_itself(case: &Case) -> Outcome {
    let sources = Sources::of(vec![case.clone()])?;
    let truth = &sources.truths[0];
    let mut want = case.info["config"].clone();
    drop_nulls(&mut want);
    for route in ["rebuild", "graft"] {
        let master = sources.merge(&["--route", route])?;
        ensure_eq!(master.report["route"], json!(route), "route");
        master.ensure_holds(truth)?;
        let mut config = master.packed.config()?;
        // The server that restores the master gives it a uuid of its own.
        ensure!(
            config["uuid"].is_null(),
            "it has the uuid of another collection"
        );
        drop_nulls(&mut config);
        if route == "graft" {
            keep_segments(&mut config, &want, &master)?;
        }
        ensure_eq!(config, want, "config by {route}");
        ensure_eq!(
            types(&master.packed.json("payload_index.json")?["schema"]),
            types(&case.info["payload_schema"]),
            "payload indexes by {route}"
        );
    }

    let snapshot = format!("{}.snapshot", case.name);
    let mut names = vec![
        "master.snapshot",
        "master.snapshot.checksum",
        "master.snapshot.provenance.json",
        &snapshot,
    ];
    names.sort_unstable();
    ensure_eq!(names_in(sources.dir())?, names, "files afterwards");
    Ok(())
}

/// A grafted master may say that it has more segments than the sources wanted, lest a server merges
/// them: never fewer, and no more than it has. Puts the sources' number back.
fn keep_segments(config: &mut Value, want: &Value, master: &Master) -> Outcome {
    const AT: &str = "/optimizer_config/default_segment_number";
    let wanted = want.pointer(AT).and_then(Value::as_u64);
    let there = config.pointer_mut(AT).ok_or("no default_segment_number")?;
    if there.as_u64() != wanted {
        let mut most = 0;
        for shard in master.packed.shards()? {
            most = most.max(master.packed.segments(shard)?.len() as u64);
        }
        ensure_eq!(there.as_u64(), Some(most), "default_segment_number");
        ensure!(there.as_u64() > wanted, "fewer segments than the sources'");
        *there = json!(wanted);
    }
    Ok(())
}

/// Fields and kinds of payload indexes, as `payload_index.json` or as a server states them.
fn types(fields: &Value) -> Vec<(String, Value)> {
    let kind = |index: &Value| match (index.get("data_type"), index.get("type")) {
        (Some(kind), _) | (None, Some(kind)) => kind.clone(),
        (None, None) => index.clone(),
    };
    let fields = fields.as_object().into_iter().flatten();
    let mut types: Vec<_> = fields
        .map(|(field, index)| (field.clone(), kind(index)))
        .collect();
    types.sort_by(|a, b| a.0.cmp(&b.0));
    types
}

/// Compressed in, compressed out, by either route: what is inside is the same.
fn compressed(case: &Case) -> Outcome {
    let sources = Sources::of(vec![case.clone()])?;
    let plain = sources.rebuild(&[])?;
    for route in ["rebuild", "graft"] {
        let zipped = sources.path(&format!("{route}.snapshot.gz"));
        let run = cli![
            "merge",
            &case.snapshot_gz,
            "-o",
            &zipped,
            "--json",
            "--route",
            route
        ]
        .run()?
        .ok()?;
        let report = run.json()?;
        if route == "rebuild" {
            ensure_eq!(
                report["master"]["digest"].as_str(),
                Some(plain.digest()?),
                "digest"
            );
        }
        let mut inside = Vec::new();
        let file = std::fs::File::open(&zipped)?;
        flate2::read::GzDecoder::new(file).read_to_end(&mut inside)?;
        let unzipped = sources.path("unzipped.snapshot");
        std::fs::write(&unzipped, inside)?;
        Packed::open(&unzipped)?.ensure_whole()?;
        ensure_same(&exported(&zipped)?, &sources.truths[0])?;
    }
    Ok(())
}

/// A key that is null and one that is not there are the same to Qdrant.
pub fn drop_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(drop_nulls);
    }
}
