//! `publish` and `rollback` on a server that is told what to be like.

use serde_json::{Value, json};

use crate::support::fake::Collection;
use crate::support::scripted::Fault;
use crate::support::{Env, Outcome, Trial};

use super::{Spoil, Stage, is_one_error};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("server/publish/there_and_back", || there_and_back(env)),
        Trial::new("server/publish/refused", || refused(env)),
        Trial::new("server/publish/moved_by_somebody_else", || moved(env)),
        Trial::new("server/publish/keeps_the_last", || keeps(env)),
        Trial::new("server/publish/faults", || faults(env)),
    ]
}

/// A server with these collections, all like the album.
fn with(env: &Env, names: &[&str]) -> Outcome<Stage> {
    let stage = Stage::new(env)?;
    {
        let mut fake = stage.scripted.fake();
        let album = fake.collections.remove("album").ok_or("no album")?;
        for name in names {
            fake.collections.insert((*name).into(), album.clone());
        }
    }
    Ok(stage)
}

fn change(stage: &Stage, name: &str, change: impl FnOnce(&mut Collection)) {
    if let Some(collection) = stage.scripted.fake().collections.get_mut(name) {
        change(collection);
    }
}

fn target(stage: &Stage) -> Option<String> {
    stage.scripted.fake().aliases.get("now").cloned()
}

fn rollback(stage: &Stage, args: &[&str]) -> crate::support::cli::Cli {
    let server = stage.scripted.url();
    stage.cli(&["rollback", &server, "--alias=now"]).args(args)
}

fn there_and_back(env: &Env) -> Outcome {
    let stage = with(env, &["m1", "m2", "m3"])?;
    let publish = |name: &str| stage.publish(&[name, "--alias=now"]);
    publish("m1").arg("--dry-run").run()?.ok()?;
    ensure_eq!(target(&stage), None, "after a dry run");
    for name in ["m1", "m2", "m3"] {
        publish(name).run()?.ok()?;
        ensure_eq!(target(&stage).as_deref(), Some(name), "the alias");
    }
    ensure_eq!(
        stage.scripted.asked("POST", "/collections/aliases"),
        3,
        "calls"
    );
    // Twice changes nothing.
    let run = publish("m3").arg("--json").run()?.ok()?;
    ensure_eq!(run.json()?["moved"], json!(false), "moved");
    ensure_eq!(
        stage.scripted.asked("POST", "/collections/aliases"),
        3,
        "calls"
    );
    rollback(&stage, &["--dry-run"]).run()?.ok()?;
    ensure_eq!(target(&stage).as_deref(), Some("m3"), "after a dry run");
    for name in ["m2", "m1"] {
        rollback(&stage, &[]).run()?.ok()?;
        ensure_eq!(target(&stage).as_deref(), Some(name), "the alias");
    }
    let run = rollback(&stage, &[]).run()?.code(12)?;
    is_one_error(&run.says(&["none before it"])?)?;
    // Forward again, and back past what is gone.
    publish("m3").run()?.ok()?;
    stage.scripted.fake().collections.remove("m1");
    let run = rollback(&stage, &[]).run()?.code(12)?;
    is_one_error(&run.says(&["m1", "not there any more"])?)?;
    ensure_eq!(target(&stage).as_deref(), Some("m3"), "the alias");
    Ok(())
}

fn refused(env: &Env) -> Outcome {
    let stage = with(env, &["old", "new"])?;
    let publish = |more: &[&str]| stage.publish(&["new", "--alias=now"]).args(more).run();
    let first = || -> Outcome {
        stage
            .scripted
            .fake()
            .aliases
            .insert("now".into(), "old".into());
        Ok(())
    };
    let cases: [(&str, Spoil, &[&str]); 5] = [
        (
            "yellow",
            |it| it.info["status"] = json!("yellow"),
            &["--allow=not-green"],
        ),
        (
            "no points",
            |it| it.set_points(0, 0),
            &["--allow=empty", "--max-shrink=100%"],
        ),
        ("fewer", |it| it.set_points(0, 949), &["--max-shrink=6%"]),
        (
            "payload indexes",
            |it| it.info["payload_schema"] = json!({}),
            &["--allow=missing-indexes"],
        ),
        (
            "updates to apply",
            |it| it.info["update_queue"] = json!({"length": 3}),
            &["--allow=not-green"],
        ),
    ];
    let as_it_was = stage.scripted.fake().collections["new"].clone();
    for (says, spoil, allow) in cases {
        first()?;
        change(&stage, "new", |it| *it = as_it_was.clone());
        change(&stage, "new", spoil);
        let run = publish(&[])?.code(12)?.says(&[says])?;
        is_one_error(&run)?;
        ensure_eq!(target(&stage).as_deref(), Some("old"), "{says}");
        publish(allow)?.ok()?;
        ensure_eq!(target(&stage).as_deref(), Some("new"), "{says}, allowed");
    }
    first()?;
    change(&stage, "new", |it| *it = as_it_was.clone());
    // Five percent are allowed by themselves.
    change(&stage, "new", |it| it.set_points(0, 950));
    publish(&[])?.ok()?;
    let run = stage.publish(&["new", "--alias=old"]).run()?.code(12)?;
    is_one_error(&run.says(&["name of a collection", "out of the way"])?)?;
    let run = stage.publish(&["nope", "--alias=now"]).run()?.code(12)?;
    is_one_error(&run.says(&["no collection nope"])?)?;
    stage.publish(&["new", "--alias=a/b"]).run()?.code(2)?;
    stage
        .publish(&["new", "--alias=a", "--max-shrink=101%"])
        .run()?
        .code(2)?;
    Ok(())
}

fn moved(env: &Env) -> Outcome {
    let stage = with(env, &["old", "new", "theirs"])?;
    stage
        .scripted
        .fake()
        .aliases
        .insert("now".into(), "old".into());
    // It is looked up, then somebody else moves it.
    stage.scripted.fake().mover = Some((1, "now".into(), "theirs".into()));
    let run = stage.publish(&["new", "--alias=now"]).run()?.code(12)?;
    is_one_error(&run.says(&["somebody else moved it"])?)?;
    ensure_eq!(target(&stage).as_deref(), Some("theirs"), "the alias");
    ensure_eq!(
        stage.scripted.asked("POST", "/collections/aliases"),
        0,
        "calls"
    );
    stage.scripted.fake().mover = None;

    // Between publish and rollback.
    stage.publish(&["new", "--alias=now"]).run()?.ok()?;
    stage
        .scripted
        .fake()
        .aliases
        .insert("now".into(), "old".into());
    let run = rollback(&stage, &[]).run()?.code(12)?;
    is_one_error(&run.says(&["somebody else moved it", "--allow moved"])?)?;
    ensure_eq!(target(&stage).as_deref(), Some("old"), "the alias");
    // In the very moment of it: the answer says yes, the alias says no.
    let stage = with(env, &["old", "new", "theirs"])?;
    stage.scripted.fake().mover = Some((2, "now".into(), "theirs".into()));
    let run = stage.publish(&["new", "--alias=now"]).run()?.code(3)?;
    is_one_error(&run.says(&["points to theirs"])?)?;
    let run = rollback(&stage, &[]).run()?;
    is_one_error(&run.code(12)?)
}

fn keeps(env: &Env) -> Outcome {
    let names = ["theirs", "m1", "m2", "m3", "m4", "m5"];
    let stage = with(env, &names)?;
    stage
        .scripted
        .fake()
        .aliases
        .insert("now".into(), "theirs".into());
    stage
        .scripted
        .fake()
        .aliases
        .insert("pinned".into(), "m2".into());
    let there = || -> Vec<String> { stage.scripted.fake().collections.keys().cloned().collect() };
    for name in &names[1..=4] {
        stage.publish(&[name, "--alias=now"]).run()?.ok()?;
    }
    let publish = |more: &[&str]| {
        stage
            .publish(&["m5", "--alias=now", "--keep=2", "--json"])
            .args(more)
            .run()
    };
    let run = publish(&["--dry-run"])?.ok()?;
    ensure_eq!(
        run.json()?["removed"],
        json!(["m3", "m1"]),
        "would be removed"
    );
    ensure_eq!(there().len(), names.len(), "after a dry run");
    let run = publish(&[])?.ok()?;
    ensure_eq!(run.json()?["removed"], json!(["m3", "m1"]), "removed");
    // What snapmerge did not publish, and what an alias points to, stays.
    ensure_eq!(there(), ["m2", "m4", "m5", "theirs"], "there");
    rollback(&stage, &[]).run()?.ok()?;
    ensure_eq!(target(&stage).as_deref(), Some("m4"), "the alias");
    Ok(())
}

fn faults(env: &Env) -> Outcome {
    let stage = with(env, &["old", "new"])?;
    stage
        .scripted
        .fake()
        .aliases
        .insert("now".into(), "old".into());
    stage
        .scripted
        .fault("POST", "/collections/aliases", 1, Fault::Status(403));
    let run = stage.publish(&["new", "--alias=now"]).run()?.code(12)?;
    is_one_error(&run.says(&["403"])?)?;
    ensure_eq!(target(&stage).as_deref(), Some("old"), "the alias");
    // Done, but the answer is lost: asked again, it is the same.
    stage
        .scripted
        .fault("POST", "/collections/aliases", 1, Fault::Silent);
    stage.publish(&["new", "--alias=now"]).run()?.ok()?;
    ensure_eq!(target(&stage).as_deref(), Some("new"), "the alias");
    let no = Fault::Body(Value::from("no JSON of ours"));
    stage.scripted.fault("GET", "/aliases", 1, no);
    let run = stage.publish(&["new", "--alias=now"]).run()?.code(12)?;
    is_one_error(&run.says(&["cannot be read"])?)?;
    stage.scripted.ensure_faults_came_up()
}
