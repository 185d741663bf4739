//! Many collections of one server between two looks at its telemetry.
//!
//! Keeps true: looks do not grow with the number of collections; what happens between two looks that are shared
//! has a collection captured by itself, and never another entry.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{CREATE, exported, next_second, run_with};
use crate::archive::{archive, entries, findings, make};
use crate::server::Stage;
use crate::support::partial::PartialShard;
use crate::support::points::ensure_same;
use crate::support::scripted::Fault;
use crate::support::{Env, Outcome, Trial, names_in};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = vec![
        Trial::new("server/increment/together/looks", || looks(env)),
        Trial::new("server/increment/together/large_by_itself", || large(env)),
        Trial::new("server/increment/together/one_fails", || one_fails(env)),
    ];
    for between in [
        Between::Restored,
        Between::Dropped,
        Between::Written,
        Between::StartedAgain,
    ] {
        let name = format!("server/increment/together/{between:?}").to_lowercase();
        trials.push(Trial::new(name, move || came_between(env, between)));
    }
    trials.push(Trial::new(
        "server/increment/together/says_unchanged",
        || says_unchanged(env),
    ));
    trials
}

/// A server with albums that are alike, and an archive.
struct Albums {
    stage: Stage,
    root: PathBuf,
    names: Vec<String>,
}

impl Albums {
    fn new(env: &Env, count: usize) -> Outcome<Self> {
        let stage = Stage::new(env)?;
        let shard = PartialShard::of(&stage.snapshot)?;
        let names: Vec<String> = (0..count).map(|at| format!("album_{at:02}")).collect();
        {
            let mut fake = stage.scripted.fake();
            let collection = fake.collections.remove("album").ok_or("no album")?;
            let operations = fake.operations.insert(Default::default());
            for name in &names {
                operations.insert(name.clone(), 100);
            }
            for name in &names {
                fake.collections.insert(name.clone(), collection.clone());
                fake.partial.insert(name.clone(), shard.clone());
            }
        }
        let root = make(stage.dir.path())?;
        Ok(Self { stage, root, names })
    }

    fn looks(&self) -> usize {
        self.stage.scripted.asked("GET", "/telemetry")
    }

    /// A night that ends with `code`; what it told, and how often the telemetry was looked at.
    fn night(&self, code: i32) -> Outcome<(Value, usize)> {
        next_second();
        let before = self.looks();
        let url = self.stage.scripted.url();
        let args = [
            "capture",
            &url,
            "album_*",
            "-q",
            "--json",
            "--timeout=3",
            "--retries=1",
        ];
        let run = run_with(self.stage.dir.path(), &args)
            .arg("--archive")
            .arg(&self.root);
        let told = run.run()?.code(code)?.json()?;
        let incoming = format!("{}.incoming", self.root.display());
        ensure_eq!(
            names_in(Path::new(&incoming))?,
            Vec::<String>::new(),
            "left"
        );
        Ok((told, self.looks() - before))
    }

    /// Somebody writes to one.
    fn write(&self, name: &str) -> Outcome {
        let mut fake = self.stage.scripted.fake();
        fake.partial.get_mut(name).ok_or("no shard")?.write()?;
        let operations = fake.operations.as_mut().ok_or("no operations")?;
        *operations.get_mut(name).ok_or("no album")? += 1;
        Ok(())
    }

    /// What was told of a collection.
    fn increment<'a>(&self, told: &'a Value, name: &str) -> Outcome<&'a Value> {
        let at = self.names.iter().position(|one| one == name);
        let captured = &told["captured"][at.ok_or("no album")?];
        ensure_eq!(captured["manifest"]["collection"], json!(name), "{told}");
        Ok(&captured["increment"])
    }

    /// Entries of some collections have the fixture's points.
    fn right(&self, env: &Env, count: usize) -> Outcome {
        let truth = env.case(super::ALBUM).truth()?;
        let entries = entries(&self.root)?;
        ensure_eq!(entries.len(), count, "entries");
        for entry in entries.iter().rev().take(4) {
            let got = self.stage.dir.path().join("got.snapshot");
            let id = entry["id"].as_str().unwrap_or_default();
            let get = archive("get", &self.root)
                .arg(id)
                .arg("--force")
                .arg("-o")
                .arg(&got);
            get.run()?.ok()?;
            ensure_same(&exported(&got)?, &truth)?;
        }
        ensure_eq!(findings(&self.root)?, Vec::<Value>::new(), "findings");
        Ok(())
    }
}

fn looks(env: &Env) -> Outcome {
    for count in [3, 12] {
        let albums = Albums::new(env, count)?;
        let (told, looks) = albums.night(0)?;
        ensure_eq!(
            told["captured"].as_array().map(Vec::len),
            Some(count),
            "{told}"
        );
        ensure_eq!(looks, 2, "looks at {count}, all of them whole");
        for name in &albums.names {
            ensure_eq!(
                albums.increment(&told, name)?["no_base"],
                Value::Null,
                "{told}"
            );
        }
        let name = &albums.names[1];
        albums.write(name)?;
        let (told, looks) = albums.night(0)?;
        ensure_eq!(looks, 2, "looks at {count}, one of them written to");
        for one in &albums.names {
            let increment = albums.increment(&told, one)?;
            ensure!(increment["base"].is_string(), "{one}: {told}");
            let moved = increment["moved_bytes"].as_u64() > Some(0);
            ensure_eq!(moved, one == name, "{one} is moved: {told}");
        }
        albums.right(env, 2 * count)?;
    }
    Ok(())
}

/// What the server says is large, or does not say, is captured between looks of its own.
fn large(env: &Env) -> Outcome {
    let albums = Albums::new(env, 4)?;
    let mut told = albums.stage.scripted.fake().telemetry();
    let shard =
        |at: usize| format!("/collections/collections/{at}/shards/0/local/vectors_size_bytes");
    *told.pointer_mut(&shard(1)).ok_or("no size")? = json!(65 << 20);
    *told.pointer_mut(&shard(2)).ok_or("no size")? = Value::Null;
    albums
        .stage
        .scripted
        .fault("GET", "/telemetry", 1, Fault::Body(json!({"result": told})));
    let (told, looks) = albums.night(0)?;
    ensure_eq!(looks, 2 + 2 * 2, "looks");
    for name in &albums.names {
        ensure_eq!(
            albums.increment(&told, name)?["no_base"],
            Value::Null,
            "{told}"
        );
    }
    albums.right(env, 4)
}

/// One that fails, and fails by itself, keeps none of the others from being captured.
fn one_fails(env: &Env) -> Outcome {
    let albums = Albums::new(env, 3)?;
    let path = format!("/collections/{}/", albums.names[1]);
    albums
        .stage
        .scripted
        .fault("GET", &path, 1000, Fault::Status(500));
    let (told, looks) = albums.night(12)?;
    let failed = told["failed"].as_array().ok_or("none failed")?;
    ensure_eq!(failed.len(), 1, "{told}");
    ensure_eq!(failed[0]["collection"], json!(albums.names[1]), "{told}");
    ensure_eq!(looks, 2, "looks");
    albums.right(env, 2)
}

/// What comes in between two looks that all share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    Restored,
    Dropped,
    Written,
    StartedAgain,
}

fn came_between(env: &Env, between: Between) -> Outcome {
    let albums = Albums::new(env, 3)?;
    albums.night(0)?;
    let mut after = albums.stage.scripted.fake().telemetry();
    let calls = after
        .pointer_mut("/requests/rest/responses")
        .and_then(Value::as_object_mut)
        .ok_or("no calls")?;
    match between {
        Between::Restored => {
            let recover = "PUT /collections/{collection_name}/snapshots/recover";
            calls.insert(recover.into(), json!({"200": {"count": 1}}));
        }
        Between::Dropped => {
            calls.insert(
                "DELETE /collections/{collection_name}".into(),
                json!({"200": {"count": 1}}),
            );
        }
        Between::Written => {
            let queue = "/collections/collections/1/shards/0/local/update_queue/op_num";
            *after.pointer_mut(queue).ok_or("no log")? = json!(101);
        }
        Between::StartedAgain => after["id"] = json!("another life"),
    }
    let scripted = &albums.stage.scripted;
    scripted.fault_after(
        "GET",
        "/telemetry",
        1,
        1,
        Fault::Body(json!({"result": after})),
    );
    let (told, looks) = albums.night(0)?;
    scripted.ensure_faults_came_up()?;
    // The first that it concerns is captured once more, between two looks of its own that are as ever; the
    // others go by the last of these.
    ensure_eq!(looks, 2 + 2, "looks");
    for name in &albums.names {
        let increment = albums.increment(&told, name)?;
        ensure!(increment["base"].is_string(), "{name}: {told}");
        ensure_eq!(increment["moved_bytes"], json!(0), "{name}: {told}");
    }
    albums.right(env, 6)
}

/// Somebody writes after the first look, and the server says that nothing has changed: that is found out.
fn says_unchanged(env: &Env) -> Outcome {
    let albums = Albums::new(env, 3)?;
    albums.night(0)?;
    let before = albums.stage.scripted.fake().telemetry();
    let name = &albums.names[1];
    albums.write(name)?;
    let scripted = &albums.stage.scripted;
    if let Some(shard) = scripted.fake().partial.get_mut(name) {
        shard.says_unchanged = true;
    }
    scripted.fault(
        "GET",
        "/telemetry",
        1,
        Fault::Body(json!({"result": before})),
    );
    let (told, _) = albums.night(0)?;
    scripted.ensure_faults_came_up()?;
    for one in &albums.names {
        let increment = albums.increment(&told, one)?;
        let why = increment["why_whole"].as_str().unwrap_or_default();
        ensure_eq!(
            why.contains("its log went on"),
            one == name,
            "{one}: {told}"
        );
    }
    let asked = scripted.asked("POST", &format!("/{name}/shards/0{CREATE}"));
    ensure!(asked >= 3, "asked only {asked} times");
    albums.right(env, 6)
}
