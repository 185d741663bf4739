//! Nights on a server that fails by script: what each leaves, and what it says.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{ALIAS, archive_is_whole, entries, named, night, sources, write_plan};
use crate::damage::disk::{mounts, on_disk};
use crate::server::album;
use crate::support::fake::Fake;
use crate::support::partial::PartialShard;
use crate::support::scripted::{Fault, Scripted, Seen};
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("nightly/scripted/nights", || nights(env)),
        Trial::new("nightly/scripted/no_sign_no_shortcut", || no_sign(env)),
        Trial::new("nightly/scripted/looks_are_shared", || looks(env)),
        Trial::new("nightly/scripted/key_for_some_collections", || {
            restricted(env)
        }),
        Trial::new("nightly/scripted/broken_source", || broken(env)),
        Trial::new("nightly/scripted/alias_moved_by_hand", || moved(env)),
        Trial::new("nightly/scripted/source_vanishes", || vanishes(env)),
        Trial::new("nightly/scripted/master_differs", || differs(env)),
        Trial::new("nightly/scripted/two_at_once", || two_at_once(env)),
        Trial::needs("nightly/scripted/full_disk", &mounts(), |how| {
            full_disk(env, &how)
        }),
    ]
}

/// A server with the albums of two years, and a plan for it.
pub struct Stage {
    pub scripted: Scripted,
    dir: tempfile::TempDir,
}

impl Stage {
    pub fn new(env: &Env, more: &str) -> Outcome<Self> {
        let (collection, snapshot) = album(env)?;
        let dir = temp_dir()?;
        let mut fake = Fake::new("album_2017", collection.clone(), snapshot);
        fake.collections
            .insert("album_2018".into(), collection.clone());
        let second = env.case("album_2018").unpack(dir.path())?;
        fake.own
            .insert("album_2018".into(), std::fs::read(&second)?);
        std::fs::remove_file(second)?;
        let mut restored = collection;
        restored.set_points(0, 2000);
        restored.info["indexed_vectors_count"] = json!(2000);
        fake.restored = Some(restored);
        fake.operations = Some(BTreeMap::from([
            ("album_2017".into(), 10),
            ("album_2018".into(), 10),
        ]));
        let scripted = Scripted::start(fake)?;
        write_plan(dir.path(), &scripted.url(), more)?;
        Ok(Self { scripted, dir })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A night that ends with `code`; what it told.
    pub fn night(&self, code: i32) -> Outcome<Value> {
        // Nights are told apart by the second.
        std::thread::sleep(Duration::from_millis(1100));
        let told = night(self.dir()).run()?.code(code)?.json()?;
        archive_is_whole(self.dir())?;
        ensure_eq!(
            self.scripted.fake().snapshots_left(),
            Vec::<String>::new(),
            "left on the server"
        );
        Ok(told)
    }

    fn alias(&self) -> Option<String> {
        self.scripted.fake().aliases.get(ALIAS).cloned()
    }

    fn made(&self, collection: &str) -> usize {
        let path = format!("/collections/{collection}/snapshots");
        let seen = self.scripted.seen();
        let makes = seen.iter();
        makes
            .filter(|one| one.method == "POST" && one.path == path)
            .count()
    }

    /// Ten of the second album's points go.
    pub fn change(&self, env: &Env) -> Outcome {
        let changed = self.dir().join("changed.snapshot");
        let ids: Vec<u64> = (1000..1010).collect();
        let filter = json!({"must_not": [{"has_id": ids}]}).to_string();
        let merge = cli![
            "merge",
            env.case("album_2018").snapshot_gz,
            "-q",
            "-o",
            &changed
        ];
        merge.args(["--filter", &filter]).run()?.ok()?;
        let mut fake = self.scripted.fake();
        fake.own
            .insert("album_2018".into(), std::fs::read(&changed)?);
        if let Some(album) = fake.collections.get_mut("album_2018") {
            album.set_points(0, 990);
        }
        if let Some(restored) = &mut fake.restored {
            restored.set_points(0, 1990);
        }
        if let Some(operations) = &mut fake.operations {
            operations.insert("album_2018".into(), 11);
        }
        for ending in ["", ".checksum", ".provenance.json"] {
            std::fs::remove_file(self.dir().join(format!("changed.snapshot{ending}")))?;
        }
        Ok(())
    }
}

/// A key that may not ask for the whole server: there is no sign that nothing changed, so that each
/// night captures.
fn restricted(env: &Env) -> Outcome {
    let stage = Stage::new(env, "")?;
    // Who may restore may ask for everything.
    let plan = stage.dir().join("nightly.toml");
    let text = std::fs::read_to_string(&plan)?;
    let publish = format!("[publish]\nserver = \"prod\"\nalias = \"{ALIAS}\"\nkeep = 2\n");
    ensure!(text.contains(&publish), "another plan");
    std::fs::write(&plan, text.replace(&publish, ""))?;
    stage.scripted.fake().restricted = true;
    for number in 0..2 {
        let told = stage.night(0)?;
        ensure_eq!(
            sources(&told),
            named(&[("album_2017", "captured"), ("album_2018", "captured")]),
            "night {number}"
        );
        ensure_eq!(told["master"]["points"], json!(2000), "points");
    }
    Ok(())
}

fn nights(env: &Env) -> Outcome {
    let stage = Stage::new(env, "")?;
    let told = stage.night(0)?;
    ensure_eq!(
        sources(&told),
        named(&[("album_2017", "captured"), ("album_2018", "captured")]),
        "first night"
    );
    let first = stage.alias().ok_or("there is no alias")?;
    ensure_eq!(told["master"]["collection"], json!(first), "the master");
    ensure_eq!(told["master"]["points"], json!(2000), "points");
    ensure_eq!(entries(stage.dir(), ALIAS)?, 1, "masters in the archive");

    // None is captured, nothing is made, and the alias is where it was.
    let told = stage.night(0)?;
    ensure_eq!(
        sources(&told),
        named(&[("album_2017", "unchanged"), ("album_2018", "unchanged")]),
        "a night with no change"
    );
    ensure_eq!(told["master"]["unchanged"], json!(true), "{told}");
    ensure_eq!(stage.alias().as_deref(), Some(first.as_str()), "the alias");
    ensure_eq!(stage.made("album_2017"), 1, "snapshots made");
    ensure_eq!(stage.scripted.fake().uploads, 1, "uploads");

    stage.change(env)?;
    let told = stage.night(0)?;
    ensure_eq!(
        sources(&told),
        named(&[("album_2017", "unchanged"), ("album_2018", "captured")]),
        "a night with changes"
    );
    ensure_eq!(told["master"]["points"], json!(1990), "points");
    ensure_eq!(told["master"]["before"], json!(first), "before");
    ensure_eq!(stage.made("album_2017"), 1, "snapshots made");
    let second = stage.alias().ok_or("there is no alias")?;
    ensure!(second != first, "the alias did not move");

    // Two masters stay; nothing else was left anywhere.
    let there: Vec<String> = stage.scripted.fake().collections.keys().cloned().collect();
    ensure_eq!(
        there,
        ["album_2017".to_owned(), "album_2018".into(), first, second],
        "collections"
    );
    let state = stage.dir().join("backups.nightly/nightly");
    ensure_eq!(
        names_in(&state.join("work"))?,
        ["incoming"],
        "left in the work folder"
    );
    ensure_eq!(
        names_in(&state.join("work/incoming/prod"))?,
        Vec::<String>::new(),
        "left of captures"
    );
    Ok(())
}

/// A server that does not tell how far its logs are, that was started again, or on which somebody
/// restored something, has every source captured again.
fn no_sign(env: &Env) -> Outcome {
    let stage = Stage::new(env, "")?;
    stage.night(0)?;
    let both = named(&[("album_2017", "captured"), ("album_2018", "captured")]);
    // Somebody restores another snapshot somewhere: the same numbers may mean other points.
    stage.scripted.fake().uploads += 1;
    let told = stage.night(0)?;
    ensure_eq!(sources(&told), both, "after somebody's restore");
    // What was captured is the same, and so is the master.
    ensure_eq!(told["master"]["unchanged"], json!(true), "{told}");
    stage.scripted.fake().operations = None;
    let told = stage.night(0)?;
    ensure_eq!(sources(&told), both, "without telemetry");
    ensure_eq!(told["master"]["unchanged"], json!(true), "{told}");
    let note = told["sources"][0]["note"].as_str().unwrap_or_default();
    ensure!(note.contains("does not tell"), "{note}");
    Ok(())
}

/// Sources of one server share looks at its telemetry.
fn looks(env: &Env) -> Outcome {
    let stage = Stage::new(env, "")?;
    {
        let mut fake = stage.scripted.fake();
        for album in ["album_2017", "album_2018"] {
            let shard = PartialShard::of(fake.own.get(album).unwrap_or(&fake.snapshot))?;
            fake.partial.insert(album.into(), shard);
        }
    }
    let looks = || {
        let seen = stage.scripted.seen();
        let of = |one: &&Seen| one.path == "/telemetry" && one.query.contains("details_level=3");
        seen.iter().filter(of).count()
    };
    let told = stage.night(0)?;
    let all = |how| named(&[("album_2017", how), ("album_2018", how)]);
    ensure_eq!(sources(&told), all("captured"), "the first");
    // One before and one after the captures, and as many around the restore of the master.
    ensure_eq!(looks(), 4, "looks of the first night");
    let told = stage.night(0)?;
    ensure_eq!(sources(&told), all("unchanged"), "the second");
    ensure_eq!(looks(), 4 + 1, "looks of the second night");
    Ok(())
}

fn broken(env: &Env) -> Outcome {
    let stage = Stage::new(env, "")?;
    stage.night(0)?;
    let before = stage.alias();
    stage.change(env)?;
    let path = "/collections/album_2018/snapshots";
    stage.scripted.fault("POST", path, 1, Fault::Status(500));
    let told = stage.night(12)?;
    ensure_eq!(
        sources(&told),
        named(&[("album_2017", "unchanged"), ("album_2018", "broken")]),
        "with a broken source"
    );
    ensure_eq!(
        told["errors"][0]["step"],
        json!("capture prod/album_2018"),
        "the step"
    );
    ensure!(
        told["errors"][0]["next"].is_string(),
        "no next step: {told}"
    );
    ensure_eq!(told["master"], Value::Null, "a master");
    ensure_eq!(stage.alias(), before, "the alias");
    // Mended, the same night is gone on with: what was captured is not captured again.
    let told = stage.night(0)?;
    ensure_eq!(told["resumed"], json!(true), "{told}");
    ensure_eq!(told["master"]["points"], json!(1990), "points");
    ensure!(stage.alias() != before, "the alias did not move");
    ensure_eq!(stage.made("album_2017"), 1, "snapshots made");

    // The plan may say that the last snapshot is good enough.
    let plan = stage.dir().join("nightly.toml");
    let text = std::fs::read_to_string(&plan)?;
    let text = text.replace("[[sources]]", "[[sources]]\nif_broken = \"use-last\"");
    std::fs::write(&plan, text)?;
    if let Some(operations) = &mut stage.scripted.fake().operations {
        operations.insert("album_2018".into(), 12);
    }
    stage.scripted.fault("POST", path, 1, Fault::Status(500));
    let told = stage.night(3)?;
    ensure_eq!(
        sources(&told),
        named(&[("album_2017", "unchanged"), ("album_2018", "last")]),
        "with the last one in its place"
    );
    ensure_eq!(told["outcome"], json!("differs"), "{told}");
    stage.scripted.ensure_faults_came_up()
}

fn moved(env: &Env) -> Outcome {
    let stage = Stage::new(env, "")?;
    stage.night(0)?;
    let first = stage.alias().ok_or("there is no alias")?;
    let point = |to: &str| {
        let mut fake = stage.scripted.fake();
        fake.aliases.insert(ALIAS.into(), to.to_owned());
    };
    point("album_2017");
    stage.change(env)?;
    let told = stage.night(3)?;
    let what = told["differs"][0].as_str().unwrap_or_default().to_owned();
    ensure!(
        what.contains("somebody else has moved") && what.contains("snapmerge publish"),
        "{what}"
    );
    ensure_eq!(stage.alias().as_deref(), Some("album_2017"), "the alias");
    let unpublished = told["master"]["collection"]
        .as_str()
        .ok_or("no collection")?
        .to_owned();
    ensure!(
        stage.scripted.fake().collections.contains_key(&unpublished),
        "{unpublished} is gone"
    );

    // Moved back, the night after publishes what it left.
    point(&first);
    let told = stage.night(0)?;
    ensure_eq!(
        stage.alias().as_deref(),
        Some(unpublished.as_str()),
        "the alias"
    );
    ensure_eq!(told["master"]["unchanged"], json!(true), "{told}");

    // Rolled back, nothing goes forward by itself to what was rolled back from.
    crate::server::run_with(
        stage.dir(),
        &["rollback", &stage.scripted.url(), "--alias", ALIAS],
    )
    .arg("--state")
    .arg(stage.dir().join("backups.nightly/nightly/servers"))
    .run()?
    .ok()?;
    ensure_eq!(
        stage.alias().as_deref(),
        Some(first.as_str()),
        "rolled back"
    );
    let told = stage.night(3)?;
    let what = told["differs"][0].as_str().unwrap_or_default();
    ensure!(what.contains("rolled back"), "{what}");
    ensure_eq!(stage.alias().as_deref(), Some(first.as_str()), "the alias");
    Ok(())
}

/// A source that a pattern does not find any more is missed, and a master that is so much smaller is
/// not published unless the plan says that it may be.
fn vanishes(env: &Env) -> Outcome {
    let stage = Stage::new(env, "")?;
    stage.night(0)?;
    let before = stage.alias();
    stage.scripted.fake().collections.remove("album_2018");
    if let Some(restored) = &mut stage.scripted.fake().restored {
        restored.set_points(0, 1000);
    }
    let told = stage.night(12)?;
    let what = told["differs"][0].as_str().unwrap_or_default().to_owned();
    ensure!(
        what.contains("prod/album_2018 was a source") && what.contains("album_2018@"),
        "{what}"
    );
    ensure_eq!(told["errors"][0]["step"], json!("publish"), "{told}");
    ensure_eq!(stage.alias(), before, "the alias");
    let plan = stage.dir().join("nightly.toml");
    let text = std::fs::read_to_string(&plan)?;
    std::fs::write(
        &plan,
        text.replace("keep = 2", "keep = 2\nmax_shrink = \"50%\""),
    )?;
    let told = stage.night(0)?;
    ensure_eq!(told["master"]["points"], json!(1000), "{told}");
    ensure!(stage.alias() != before, "the alias did not move");
    // Its snapshot stays: retention is for what the plan captures.
    ensure_eq!(entries(stage.dir(), "album_2018")?, 1, "entries");
    Ok(())
}

/// A master that does not come out on the server as it was sent is removed, and the alias stays.
fn differs(env: &Env) -> Outcome {
    let stage = Stage::new(env, "")?;
    stage.night(0)?;
    let before = stage.alias();
    stage.change(env)?;
    if let Some(restored) = &mut stage.scripted.fake().restored {
        restored.set_points(0, 1989);
    }
    let told = stage.night(3)?;
    ensure_eq!(told["errors"][0]["step"], json!("restore"), "{told}");
    ensure_eq!(told["run_outcome"], json!("failed"), "{told}");
    ensure_eq!(stage.alias(), before, "the alias");
    ensure_eq!(stage.scripted.fake().collections.len(), 3, "collections");
    // The proven master is in the archive; the next run brings it there.
    ensure_eq!(entries(stage.dir(), ALIAS)?, 2, "masters in the archive");
    if let Some(restored) = &mut stage.scripted.fake().restored {
        restored.set_points(0, 1990);
    }
    let told = stage.night(0)?;
    ensure_eq!(told["resumed"], json!(true), "{told}");
    ensure!(stage.alias() != before, "the alias did not move");
    ensure_eq!(entries(stage.dir(), ALIAS)?, 2, "masters in the archive");

    // Too few points for the plan.
    let plan = stage.dir().join("nightly.toml");
    let text = std::fs::read_to_string(&plan)? + "[checks]\npoints_min = 5000\nverify = \"full\"\n";
    std::fs::write(
        &plan,
        text.replace("[master]", "[master]\nstamp = \"from\""),
    )?;
    let before = stage.alias();
    let told = stage.night(3)?;
    ensure_eq!(told["errors"][0]["step"], json!("verify"), "{told}");
    ensure_eq!(stage.alias(), before, "the alias");
    // Enough: it is compared with its sources once more, and goes on.
    let text = std::fs::read_to_string(&plan)?;
    std::fs::write(&plan, text.replace("5000", "1990"))?;
    let told = stage.night(0)?;
    let steps = told["steps"].as_array().into_iter().flatten();
    ensure!(steps.clone().any(|step| step["step"] == "verify"), "{told}");
    Ok(())
}

fn two_at_once(env: &Env) -> Outcome {
    let stage = Stage::new(env, "")?;
    let slow = Fault::Slow(Duration::from_secs(3));
    stage
        .scripted
        .fault("POST", "/collections/album_2017/snapshots", 1, slow);
    let mut first = night(stage.dir()).start()?;
    while stage.made("album_2017") == 0 {
        ensure!(!first.ended()?, "it ended before it began");
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = night(stage.dir()).run()?.code(11)?;
    second.says(&[
        "it is locked by run nightly on ",
        "process ",
        "since ",
        "next:",
    ])?;
    first.wait()?.ok()?;
    archive_is_whole(stage.dir())
}

fn full_disk(env: &Env, how: &[&str]) -> Outcome {
    let stage = Stage::new(env, "[limits]\nwork = \"disk\"\n")?;
    stage.night(0)?;
    let before = stage.alias();
    let disk = stage.dir().join("disk");
    let mut full = 0;
    for (number, size) in ["64k", "600k", "1200k", "2500k", "4m"]
        .into_iter()
        .enumerate()
    {
        if let Some(operations) = &mut stage.scripted.fake().operations {
            operations.insert("album_2018".into(), 20 + number as u64);
        }
        stage.change(env)?;
        if let Some(operations) = &mut stage.scripted.fake().operations {
            operations.insert("album_2018".into(), 20 + number as u64);
        }
        std::thread::sleep(Duration::from_millis(1100));
        let options = format!("size={size}");
        let (run, _) = on_disk(how, &disk, &options, night(stage.dir()).arg("--fresh"), "")?;
        archive_is_whole(stage.dir())?;
        if run.status.code() == Some(0) {
            break;
        }
        let told = run.code(14)?.json()?;
        ensure!(
            told["errors"][0]["next"].is_string(),
            "{size}: no next step: {told}"
        );
        ensure_eq!(stage.alias(), before, "{size}: the alias");
        full += 1;
    }
    ensure!(full >= 3, "the disk was full {full} times only");
    // With room it goes through.
    stage.night(0)?;
    ensure!(stage.alias() != before, "the alias did not move");
    Ok(())
}
