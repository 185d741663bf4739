//! Captures into an archive of what changed: on a real server night by night, and on one that fails by
//! script.
//!
//! Keeps true: every entry is compared with what the server scrolled when it was captured, whatever it was
//! made of; what went wrong is a whole capture or an error, and never another entry.

mod live;
mod together;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Stage, run_with};
use crate::archive::{archive, entries, findings, make};
use crate::support::cli::Cli;
use crate::support::partial::PartialShard;
use crate::support::points::ensure_same;
use crate::support::scripted::Fault;
use crate::support::{Env, Outcome, Trial};

/// What asks for what changed.
const CREATE: &str = "/snapshot/partial/create";
const ALBUM: &str = "album_2017";

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = vec![
        Trial::new("server/increment/scripted", || scripted(env)),
        Trial::new("server/increment/checked", || checked(env)),
        Trial::new("server/increment/require", || require(env)),
        Trial::new("server/increment/without_key", || without_key(env)),
        Trial::new("server/increment/lost_object", || lost(env, "objects")),
        Trial::new("server/increment/lost_recipe", || lost(env, "recipes")),
    ];
    type Spoil = fn(&Nights);
    let faults: [(&str, Spoil, &str); 9] = [
        ("short", |n| n.fault(Fault::Short(5000)), "tar"),
        ("cut", |n| n.fault(Fault::Cut(5000)), "ended"),
        ("failed", |n| n.fault(Fault::Status(500)), "500"),
        ("refused", |n| n.fault(Fault::Status(422)), "422"),
        ("unknown", |n| n.fault(Fault::Status(404)), "404"),
        (
            "says_unchanged",
            |n| n.shard(|shard| shard.says_unchanged = true),
            "its log went on",
        ),
        (
            "file_missing",
            |n| n.shard(|shard| shard.withheld.push("payload_index/config.json".into())),
            "did not come",
        ),
        (
            "went_back",
            |n| {
                n.shard(|shard| {
                    for segment in shard.segments.values_mut().filter(|one| one.version > 1) {
                        segment.version -= 2;
                        for (_, version) in segment.files.values_mut() {
                            *version = version.map(|version| version - 1);
                        }
                    }
                });
            },
            "older state",
        ),
        (
            "restored",
            |n| n.stage.scripted.fake().uploads += 1,
            "restored",
        ),
    ];
    for (name, spoil, says) in faults {
        let name = format!("server/increment/{name}");
        trials.push(Trial::new(name, move || fault(env, spoil, says)));
    }
    trials.extend(together::trials(env));
    trials.extend(live::trials(env));
    trials
}

/// The capture of a collection into an archive.
fn capture(dir: &Path, url: &str, root: &Path, args: &[&str]) -> Cli {
    run_with(dir, &["capture", url, ALBUM, "-q", "--json"])
        .arg("--archive")
        .arg(root)
        .args(args)
}

/// What a capture told of what it moved.
fn increment(told: &Value) -> &Value {
    &told["captured"][0]["increment"]
}

fn entry_of(told: &Value) -> Outcome<String> {
    let id = told["archived"][0]["entry"]["id"].as_str();
    Ok(id.ok_or_else(|| format!("no entry: {told}"))?.to_owned())
}

/// Waits until the names of entries, which hold the second, are others.
fn next_second() {
    std::thread::sleep(Duration::from_millis(1100));
}

/// The points of a snapshot, in id order.
fn exported(file: &Path) -> Outcome<Vec<Value>> {
    let run = cli!["export", file].run()?.ok()?;
    let points = crate::support::points::by_id(run.json_lines()?)?;
    Ok(points.into_values().collect())
}

/// A scripted server with partial snapshots, and an archive.
struct Nights {
    stage: Stage,
    root: PathBuf,
}

impl Nights {
    fn new(env: &Env) -> Outcome<Self> {
        let stage = Stage::new(env)?;
        let shard = PartialShard::of(&stage.snapshot)?;
        {
            let mut fake = stage.scripted.fake();
            let collection = fake.collections.remove("album").ok_or("no album")?;
            fake.collections.insert(ALBUM.into(), collection);
            fake.partial.insert(ALBUM.into(), shard);
            fake.operations = Some([(ALBUM.to_owned(), 100)].into());
        }
        let root = make(stage.dir.path())?;
        Ok(Self { stage, root })
    }

    fn night(&self, args: &[&str]) -> Cli {
        next_second();
        let args = [&["--timeout=3", "--retries=1"][..], args].concat();
        capture(
            self.stage.dir.path(),
            &self.stage.scripted.url(),
            &self.root,
            &args,
        )
    }

    fn shard(&self, change: impl FnOnce(&mut PartialShard)) {
        let mut fake = self.stage.scripted.fake();
        change(fake.partial.get_mut(ALBUM).expect("it is there"));
    }

    /// Somebody writes.
    fn write(&self) {
        self.shard(|shard| shard.write().expect("it is written"));
        let mut fake = self.stage.scripted.fake();
        *fake
            .operations
            .as_mut()
            .and_then(|all| all.get_mut(ALBUM))
            .expect("it is there") += 1;
    }

    fn fault(&self, fault: Fault) {
        // The whole capture that follows goes the same way, and finds the server well again.
        self.stage.scripted.fault("POST", CREATE, 3, fault);
    }

    /// Every entry has the fixture's points.
    fn all_right(&self, env: &Env, count: usize) -> Outcome {
        let truth = env.case(ALBUM).truth()?;
        let entries = entries(&self.root)?;
        ensure_eq!(entries.len(), count, "entries");
        for entry in entries {
            let got = self.stage.dir.path().join("got.snapshot");
            archive("get", &self.root)
                .arg(entry["id"].as_str().unwrap_or_default())
                .arg("--force")
                .arg("-o")
                .arg(&got)
                .run()?
                .ok()?;
            ensure_same(&exported(&got)?, &truth)?;
        }
        ensure_eq!(findings(&self.root)?, Vec::<Value>::new(), "findings");
        let left = self.stage.scripted.fake().snapshots_left();
        ensure_eq!(left, Vec::<String>::new(), "left on the server");
        Ok(())
    }
}

fn scripted(env: &Env) -> Outcome {
    let nights = Nights::new(env)?;
    let told = nights.night(&[]).run()?.ok()?.json()?;
    ensure_eq!(increment(&told)["base"], Value::Null, "the first");
    let all = increment(&told)["moved_bytes"].as_u64().unwrap_or(0);
    nights.write();
    let run = nights.night(&[]).run()?.ok()?;
    let told = run.json()?;
    ensure!(increment(&told)["base"].is_string(), "{told}");
    let some = increment(&told)["moved_bytes"].as_u64().unwrap_or(0);
    ensure!(some > 0 && some < all, "{some} of {all} bytes");
    ensure_eq!(
        told["captured"][0]["manifest"]["form"],
        json!("incremental"),
        "form"
    );
    // Nothing changed: no object is stored, and the aliases of this night are.
    nights
        .stage
        .scripted
        .fake()
        .aliases
        .insert("newest".into(), ALBUM.into());
    let told = nights.night(&[]).run()?.ok()?.json()?;
    ensure_eq!(increment(&told)["moved_bytes"], json!(0), "{told}");
    let entry = &told["archived"][0]["entry"];
    ensure_eq!(entry["new_objects"], json!(0), "{told}");
    ensure_eq!(entry["manifest"]["aliases"], json!(["newest"]), "{told}");
    // A server whose checksum is wanted gives none of a stream.
    let told = nights.night(&["--require-checksum"]).run()?.ok()?.json()?;
    let why = increment(&told)["why_whole"].as_str().unwrap_or_default();
    ensure!(
        why.contains("a checksum of the server is required"),
        "{told}"
    );
    let told = nights.night(&["--incremental=off"]).run()?.ok()?.json()?;
    ensure_eq!(increment(&told), &Value::Null, "{told}");
    ensure_eq!(
        told["captured"][0]["manifest"]["form"],
        json!("collection"),
        "as ever"
    );
    // In words, and on an entry that has what can be built on.
    nights.night(&[]).run()?.ok()?;
    nights.write();
    next_second();
    run_with(
        nights.stage.dir.path(),
        &["capture", &nights.stage.scripted.url(), ALBUM],
    )
    .arg("--archive")
    .arg(&nights.root)
    .run()?
    .ok()?
    .prints(&["what changed, streamed", "moved    ", "with album_2017@"])?;
    nights.all_right(env, 7)
}

/// The third is whole and compared; a server whose versions do not hold is found out.
fn checked(env: &Env) -> Outcome {
    let nights = Nights::new(env)?;
    for (night, outcome) in [None, None, Some("equal"), None, Some("differs")]
        .into_iter()
        .enumerate()
    {
        if night == 4 {
            // A file is another, and its version is not.
            nights.shard(|shard| {
                let segment = shard.segments.values_mut().find(|one| one.version > 0);
                let files = segment.map(|one| &mut one.files).expect("a segment");
                let (file, _) = files
                    .iter_mut()
                    .find(|(name, _)| name.starts_with("vector_storage/"))
                    .map(|(_, file)| file)
                    .expect("vectors");
                file.data[100] ^= 1;
            });
        }
        nights.write();
        let run = nights.night(&["--full-every=2"]).run()?;
        let told = run.code(if night == 4 { 3 } else { 0 })?.json()?;
        let checked = &increment(&told)["checked"];
        match outcome {
            None => ensure_eq!(checked, &Value::Null, "night {night}: {told}"),
            Some(outcome) => ensure_eq!(checked["outcome"], json!(outcome), "{told}"),
        }
    }
    Ok(())
}

/// A machine that only writes to an encrypted archive has no key, and captures all of it.
fn without_key(env: &Env) -> Outcome {
    let nights = Nights::new(env)?;
    let vault = nights.stage.dir.path().join("vault");
    archive("init", &vault)
        .args(["--encrypt", crate::archive::encrypted::PUBLIC])
        .run()?
        .ok()?;
    for says in ["nothing yet", "its key was not given"] {
        nights.write();
        next_second();
        let (dir, url) = (nights.stage.dir.path(), nights.stage.scripted.url());
        let told = capture(dir, &url, &vault, &[]).run()?.ok()?.json()?;
        let why = increment(&told)["why_whole"].as_str().unwrap_or_default();
        ensure!(why.contains(says), "{told}");
    }
    Ok(())
}

fn require(env: &Env) -> Outcome {
    let nights = Nights::new(env)?;
    nights.stage.scripted.fake().version = "1.14.1".into();
    let run = nights.night(&["--incremental=require"]).run()?.code(12)?;
    run.says(&[
        "Qdrant 1.14.1 does not tell what changed",
        "--incremental auto",
    ])?;
    ensure_eq!(entries(&nights.root)?.len(), 0, "entries");
    // Otherwise all of it is captured, as ever.
    let told = nights.night(&[]).run()?.ok()?.json()?;
    let why = increment(&told)["no_base"].as_str().unwrap_or_default();
    ensure!(why.contains("1.14.1"), "{told}");
    nights.all_right(env, 1)
}

/// An answer that is not what it should be: all of it is captured, and what the entries have is right.
fn fault(env: &Env, spoil: fn(&Nights), says: &str) -> Outcome {
    let nights = Nights::new(env)?;
    nights.night(&[]).run()?.ok()?;
    nights.write();
    spoil(&nights);
    let told = nights.night(&[]).run()?.ok()?.json()?;
    let why = increment(&told)["why_whole"].as_str().unwrap_or_default();
    ensure!(why.contains(says), "{told}");
    nights.all_right(env, 2)
}

/// Something of the entry that is built on is lost: all is captured, and nothing made of what is left.
fn lost(env: &Env, folder: &str) -> Outcome {
    let nights = Nights::new(env)?;
    nights.night(&[]).run()?.ok()?;
    nights.write();
    let files = crate::archive::walk(&nights.root.join(folder))?;
    std::fs::remove_file(files.first().ok_or("no files")?)?;
    let told = nights.night(&[]).run()?.json()?;
    let entries = entries(&nights.root)?;
    ensure!(increment(&told)["base"].is_null(), "{told}");
    ensure_eq!(entries.len(), 2, "entries");
    let got = nights.stage.dir.path().join("got.snapshot");
    let last = entries[1]["id"].as_str().unwrap_or_default();
    archive("get", &nights.root)
        .arg(last)
        .arg("-o")
        .arg(&got)
        .run()?
        .ok()?;
    ensure_same(&exported(&got)?, &env.case(ALBUM).truth()?).map(drop)
}
