//! The master of a night on its server: restored, compared, and the alias moved to it.
//!
//! Invariants: the alias moves only to a collection that was compared, and only if nobody else has
//! moved it; a collection stands in what is remembered before it is made.

use serde_json::json;

use super::master::{Failed, get, is_there, master_file};
use super::plan::{IfMoved, PublishPlan};
use super::run::Run;
use super::state::LastMaster;
use crate::base::error::{Error, Kind, Result};
use crate::base::own;
use crate::base::progress::Progress;
use crate::capture::Members;
use crate::publish::publish as move_to;
use crate::publish::{Change, PublishOptions};
use crate::restore::{Expected, Options, restore};
use crate::server::About;
use crate::source::Opening;

/// Restores the master, if it is not there yet, and publishes it.
pub fn publish(run: &mut Run<'_>, master: LastMaster) -> Result<(), Failed> {
    let plan = run.plan;
    let Some(publishing) = &plan.publish else {
        return Ok(());
    };
    let at_restore = |err| ("restore".to_owned(), err);
    let known = master.collection.clone();
    let is_known = is_there(run, known.as_deref(), master.points).map_err(at_restore)?;
    let was_published = is_known && master.published;
    let collection = match known.filter(|_| is_known) {
        Some(collection) => collection,
        None => {
            let collection = run.step(
                "restore",
                &json!({ "inputs": master.inputs }),
                |run, collection: &String| is_there(run, Some(collection), master.points),
                |run| bring(run, publishing, &master),
            )?;
            if let Some(last) = &mut run.state_file.state.master {
                last.collection = Some(collection.clone());
            }
            run.state_file.write().map_err(at_restore)?;
            collection
        }
    };
    if let Some(report) = &mut run.report.master {
        report.collection = Some(collection.clone());
    }
    let at_publish = |err| ("publish".to_owned(), err);
    if let Some(why) = moved(run, publishing, &collection, was_published).map_err(at_publish)? {
        run.report.differs(why);
        return Ok(());
    }
    let change: Change = run.step(
        "publish",
        &json!({ "collection": collection, "alias": publishing.alias, "keep": publishing.keep }),
        |run, _: &Change| {
            let aliases = run.members(&publishing.server)?.first.aliases()?;
            Ok(aliases.get(&publishing.alias) == Some(&collection))
        },
        |run| {
            let request = PublishOptions {
                collection: &collection,
                alias: &publishing.alias,
                keep: publishing.keep,
                max_shrink: publishing.max_shrink,
                allow: &publishing.allow,
                dry_run: false,
            };
            move_to(
                &run.members(&publishing.server)?.first,
                &request,
                &run.state()?,
            )
        },
    )?;
    if let Some(last) = &mut run.state_file.state.master {
        last.published = true;
    }
    run.state_file.write().map_err(at_publish)?;
    for note in &change.notes {
        run.report.notes.push(note.clone());
    }
    for removed in &change.removed {
        run.report.notes.push(format!(
            "{removed} was removed from the server: publish.keep leaves no more masters there"
        ));
    }
    if let Some(report) = &mut run.report.master {
        report.before = change.from.clone().filter(|from| *from != collection);
        report.alias = Some(change.alias);
    }
    Ok(())
}

/// Restores the master as a new collection, and returns its name.
fn bring(run: &mut Run<'_>, publishing: &PublishPlan, master: &LastMaster) -> Result<String> {
    let collection = run.collection();
    let state = run.state()?;
    let target = run
        .members(&publishing.server)?
        .first
        .address()
        .collection(&collection);
    let record: Option<serde_json::Value> =
        state.read(&target.server, About::Restore(&collection))?;
    if record.is_none() && is_there(run, Some(&collection), master.points)? {
        // An earlier run of this night was killed after its restore had come to its end, and before it
        // could write that down.
        return Ok(collection);
    }
    let file = master_file(run);
    let opening = Opening {
        sha256: master.sha256.clone(),
        require_checksum: true,
        ..Opening::default()
    };
    // Read once, and hashed by that: what is not the master, whatever is wrong with it, is got anew.
    let there = file
        .exists()
        .then(|| Expected::read(&file.as_path().into(), &opening, &run.plan.work));
    let expected = match there {
        Some(Ok(expected)) => expected,
        none_or_wrong => {
            let (Some(entry), Some(sha256)) = (&master.entry, &master.sha256) else {
                let none = || Error::failed("restoring the master", "there is no file of it");
                return Err(none_or_wrong.and_then(Result::err).unwrap_or_else(none));
            };
            if let Some(folder) = file.parent() {
                own::folder(folder)?;
            }
            let entries = run.archive.chain()?.entries();
            get(run, &entries, (entry, sha256), &file)?;
            Expected::read(&file.as_path().into(), &opening, &run.plan.work)?
        }
    };
    let options = Options {
        overwrite: false,
        resume: true,
        keep_failed: false,
        allow_incomplete: run.plan.allows_incomplete(),
        replication_factor: publishing.replication_factor,
        rate: run.plan.rate,
        wait: publishing.wait,
        dry_run: false,
        progress: Progress::Quiet,
    };
    run.state_file.will_make(&publishing.server, &collection)?;
    let members = run.members(&publishing.server)?;
    let before = restores(members)?;
    let attempt = || restore(&target, members, &expected, &options, &state);
    let restored = match attempt() {
        // Data that a killed run had sent may have arrived in between; it was removed with the failed
        // attempt.
        Err(err) if record.is_some() && err.kind() != Kind::Cancelled => attempt()?,
        restored => restored?,
    };
    let after = restores(members)?;
    if let (Some((process, before)), Some((same, after))) = (before, after)
        && process == same
    {
        run.state_file.own_restore(&process, before, after);
    }
    for note in restored.notes {
        run.report.notes.push(note);
    }
    for left in restored.left {
        run.report
            .differs(format!("{left} could not be removed from the server"));
    }
    Ok(collection)
}

/// Returns the server's current process and the number of snapshots restored in it, if it tells both.
fn restores(members: &Members) -> Result<Option<(String, u64)>> {
    let telemetry = members.first.telemetry()?;
    Ok(telemetry.process.zip(telemetry.restores))
}

/// Why the alias is not to be moved, if somebody else has moved it.
fn moved(
    run: &Run<'_>,
    publishing: &PublishPlan,
    collection: &str,
    was_published: bool,
) -> Result<Option<String>> {
    if publishing.if_moved == IfMoved::Take {
        return Ok(None);
    }
    let server = &run.members(&publishing.server)?.first;
    let state = run.state()?;
    let alias = &publishing.alias;
    let history = state.history(server.address(), alias)?;
    let now = server.aliases()?.get(alias).cloned();
    let show = now.as_deref().unwrap_or("nothing");
    if !history.is_as_left(now.as_deref()) && now.as_deref() != Some(collection) {
        let left = history.masters.iter().rev().find(|one| !one.pending);
        return Ok(Some(format!(
            "somebody else has moved {alias}: it points to {show}, and was left at {}. {collection} is \
             restored and compared, and the alias stays; to move it: snapmerge publish {} {collection} \
             --alias {alias}, or if_moved = \"take\" in the plan",
            left.map_or("nothing", |one| one.collection.as_str()),
            server.address()
        )));
    }
    // Published in an earlier night, and rolled back since: there is nothing newer to go on to.
    if was_published && now.as_deref() != Some(collection) {
        return Ok(Some(format!(
            "{alias} was rolled back from {collection} to {show}, and nothing has changed that a new \
             master could be made of: the alias stays; to go forward again: snapmerge publish {} \
             {collection} --alias {alias}",
            server.address()
        )));
    }
    Ok(None)
}
