//! Which entries a drill takes.
//!
//! Invariants: all take their turn.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::*;
use crate::archive::{Event, Local, Name};

fn time(text: &str) -> DateTime<Utc> {
    format!("{text}T03:00:00Z").parse().unwrap()
}

fn entry(name: &str, day: &str, is_master: bool) -> Event {
    let entry = Entry {
        id: format!("{name}@{day}T03:00:00Z"),
        name: name.into(),
        time: time(day),
        file: "x.snapshot".into(),
        bytes: 1,
        sha256: Name::of(day.as_bytes()).to_string(),
        verified_by: Vec::new(),
        tags: Vec::new(),
        recipe: Name::of(name.as_bytes()),
        recipe_bytes: 1,
        new_objects: 0,
        new_bytes: 0,
        manifest: None,
        provenance: is_master.then(|| json!({})),
    };
    Event::Add {
        entry: Box::new(entry),
    }
}

fn proven(ids: &[&str]) -> Event {
    let one = |id: &&str| Proven {
        id: (*id).into(),
        points: 1,
        digest: "v2:1:x".into(),
        server: None,
    };
    Event::Drill {
        proven: ids.iter().map(one).collect(),
    }
}

#[test]
fn the_newest_master_and_the_source_that_waited_longest() {
    let folder = tempfile::tempdir().unwrap();
    let store = Local::new(folder.path());
    let mut chain = Chain::begin(&store, None, None).unwrap();
    let chosen = |chain: &Chain| -> Vec<String> {
        let chosen = choose(chain, &[]).unwrap();
        chosen.into_iter().map(|entry| entry.id).collect()
    };
    assert_eq!(choose(&chain, &[]).unwrap_err().kind(), Kind::NotFound);
    let add = |chain: &mut Chain, event, day| {
        chain.append(&store, event, None, time(day)).unwrap();
    };
    for day in ["2026-11-01", "2026-11-02"] {
        for name in ["b", "a", "c@x"] {
            add(&mut chain, entry(name, day, false), day);
        }
    }
    assert_eq!(chosen(&chain), ["a@2026-11-02T03:00:00Z"]);
    add(&mut chain, entry("m", "2026-11-01", true), "2026-11-02");
    add(&mut chain, entry("m", "2026-11-02", true), "2026-11-02");
    let master = "m@2026-11-02T03:00:00Z";
    assert_eq!(chosen(&chain), [master, "a@2026-11-02T03:00:00Z"]);
    assert_eq!(chain.last_proven(), None);
    // An older entry of the same name counts: it is names that take turns.
    add(
        &mut chain,
        proven(&["a@2026-11-01T03:00:00Z"]),
        "2026-11-03",
    );
    assert_eq!(chosen(&chain), [master, "b@2026-11-02T03:00:00Z"]);
    add(
        &mut chain,
        proven(&["b@2026-11-02T03:00:00Z"]),
        "2026-11-04",
    );
    assert_eq!(chosen(&chain), [master, "c@x@2026-11-02T03:00:00Z"]);
    let last = ["c@x@2026-11-02T03:00:00Z", master];
    add(&mut chain, proven(&last), "2026-11-05");
    assert_eq!(chosen(&chain), [master, "a@2026-11-02T03:00:00Z"]);
    assert_eq!(chain.last_proven(), Some(time("2026-11-05")));
    // Requested entries are the ones that are taken.
    let wanted = ["b@2026-11-01".parse().unwrap()];
    assert_eq!(
        choose(&chain, &wanted).unwrap()[0].id,
        "b@2026-11-01T03:00:00Z"
    );
}
