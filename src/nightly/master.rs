//! The master of a night: merged by a process of its own, compared with its sources, kept in the
//! archive.
//!
//! Keeps true: its sources come out of the archive, so that what is merged is what is kept; a master
//! whose inputs are those of the last one is the last one; only a proven one goes on from here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::hands::Calling;
use super::night::{MASTER, Night, SOURCES, one_of};
use super::plan::{Mastering, Verify};
use super::remembered::LastMaster;
use super::sources::Kept;
use super::told::MasterTold;
use crate::archive::{Adding, Entry};
use crate::base::durable;
use crate::base::error::{Error, Kind, Result};
use crate::base::scratch;
use crate::capture::beside;
use crate::format::hash_file;
use crate::server::CollectionAddress;

/// An error with the step that it happened in.
pub type Failed = (String, Error);

/// What merging came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Merged {
    points: u64,
    bytes: Option<u64>,
    sha256: Option<String>,
    route: String,
    /// What the merge found that differs.
    differs: Vec<String>,
    notes: Vec<String>,
    /// The collection, if it was written into one.
    collection: Option<String>,
}

/// Makes the master of these sources, or finds that the last one is it.
pub fn make(night: &mut Night<'_>, kept: &[Kept]) -> Result<LastMaster, Failed> {
    let at_inputs = |err| ("merge".to_owned(), err);
    let plan = night.plan;
    let master = plan
        .master
        .as_ref()
        .ok_or_else(|| at_inputs(Error::usage("making the master", "the plan has none")))?;
    let inputs = inputs(night, master, kept).map_err(at_inputs)?;
    if let Some(last) = unchanged(night, &inputs).map_err(at_inputs)? {
        // One that this very night has made before it was broken off is new.
        let is_old = !night.journal.has("merge");
        tell(night, master, &last, is_old);
        return Ok(last);
    }
    let about = json!({ "inputs": inputs });
    let live = master.live;
    let merged: Merged = night.step(
        "merge",
        &about,
        |night, merged: &Merged| match live {
            true => is_there(night, merged.collection.as_deref(), merged.points),
            false => is_file(&master_file(night), merged.sha256.as_deref()),
        },
        |night| merge(night, master, kept),
    )?;
    for what in &merged.differs {
        night.told.differs(format!("the master: {what}"));
    }
    night.told.notes.extend(merged.notes.clone());
    let at_checks = |why: String| {
        let err = Error::new(Kind::Differs, "checking the master", why);
        (
            "verify".to_owned(),
            err.next("look at its sources; the alias stays where it is"),
        )
    };
    if merged.points < plan.checks.points_min {
        return Err(at_checks(format!(
            "it has {} points, and checks.points_min is {}",
            merged.points, plan.checks.points_min
        )));
    }
    if plan.checks.verify != Verify::None || plan.checks.queries.is_some() {
        night.step(
            "verify",
            &about,
            |_, _: &bool| Ok(true),
            |night| verify(night, kept),
        )?;
    }
    let entry = match live {
        true => None,
        false => {
            let sha256 = merged.sha256.clone().unwrap_or_default();
            let entry = night.step(
                "keep",
                &about,
                |night, entry: &String| Ok(night.entry(entry, &sha256)?.is_some()),
                |night| keep(night, master, &merged),
            )?;
            Some(entry)
        }
    };
    let before = night.memory.now.master.take();
    let last = LastMaster {
        inputs,
        entry,
        sha256: merged.sha256,
        points: merged.points,
        bytes: merged.bytes,
        route: merged.route,
        // Gone on with, it is as old as it was.
        proven: match before.filter(|before| before.inputs == about["inputs"]) {
            Some(before) => before.proven,
            None => Utc::now(),
        },
        collection: merged.collection,
        published: false,
    };
    night.memory.now.master = Some(last.clone());
    night
        .memory
        .write()
        .map_err(|err| ("keep".to_owned(), err))?;
    tell(night, master, &last, false);
    Ok(last)
}

/// A hash of all that decides what the master is.
fn inputs(night: &Night<'_>, master: &Mastering, kept: &[Kept]) -> Result<String> {
    // The chain is read once, not for each of them.
    let entries = night.archive.chain()?.entries();
    let mut sources = Vec::new();
    for one in kept {
        let entry = one_of(&entries, &one.entry, &one.sha256).ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                format!("looking for {}", one.entry),
                "it is not in the archive any more",
            )
            .next("run it again: it is captured anew")
        })?;
        let content = night.archive.recipe(entry)?.content();
        sources.push(json!([one.name, content]));
    }
    let mut flags = Vec::new();
    for flag in &master.flags {
        let flag = flag.to_string_lossy();
        // What is in the file counts, not what it is called.
        flags.push(match flag.strip_prefix("--config=") {
            Some(path) => format!("--config={}", hash_file(Path::new(path))?),
            None => flag.into_owned(),
        });
    }
    let all = json!({
        "sources": sources, "flags": flags, "name": master.name, "live": master.live,
        "snapmerge": env!("CARGO_PKG_VERSION"),
    });
    Ok(blake3::hash(all.to_string().as_bytes())
        .to_hex()
        .to_string())
}

/// The last master, if it was made of just these inputs and is still there.
fn unchanged(night: &Night<'_>, inputs: &str) -> Result<Option<LastMaster>> {
    let Some(last) = &night.memory.now.master else {
        return Ok(None);
    };
    if last.inputs != inputs {
        return Ok(None);
    }
    let there = match (&last.entry, &last.sha256) {
        (Some(entry), Some(sha256)) => night.entry(entry, sha256)?.is_some(),
        _ => is_there(night, last.collection.as_deref(), last.points)?,
    };
    Ok(there.then(|| last.clone()))
}

/// Whether a collection is on the server that the master is published on, green and with all its points.
pub(super) fn is_there(night: &Night<'_>, collection: Option<&str>, points: u64) -> Result<bool> {
    let (Some(collection), Some(publish)) = (collection, &night.plan.publish) else {
        return Ok(false);
    };
    let server = &night.members(&publish.server)?.first;
    if !server.collections()?.iter().any(|one| one == collection) {
        return Ok(false);
    }
    let green = server
        .collection(collection)?
        .is_some_and(|info| info.is_green());
    Ok(green && server.count(collection, None)? == points)
}

/// Where the master is written.
pub(super) fn master_file(night: &Night<'_>) -> PathBuf {
    night.plan.work.join(MASTER).join("master.snapshot")
}

/// Whether `file` is there with this SHA-256, byte for byte.
pub(super) fn is_file(file: &Path, sha256: Option<&str>) -> Result<bool> {
    Ok(file.exists() && Some(hash_file(file)?.as_str()) == sha256)
}

/// Gets the entry `id` with this SHA-256, one of `entries`, out of the archive as `file`.
pub(super) fn get(
    night: &Night<'_>,
    entries: &[Entry],
    (id, sha256): (&str, &str),
    file: &Path,
) -> Result<()> {
    let entry = one_of(entries, id, sha256).ok_or_else(|| {
        Error::new(
            Kind::NotFound,
            format!("getting {id}"),
            "it is not in the archive",
        )
    })?;
    night.archive.get(entry, file, true).map(|_| ())
}

/// The sources as files, got out of the archive.
fn files(night: &Night<'_>, kept: &[Kept]) -> Result<Vec<PathBuf>> {
    let folder = night.plan.work.join(SOURCES);
    durable::make_folder(&folder)?;
    let mut missing = Vec::new();
    let mut files = Vec::new();
    for one in kept {
        let file = folder.join(format!("{}.snapshot", one.name));
        // Beside it before it is there: killed in between, it is not left without.
        durable::write(&beside(&file, ".checksum"), one.sha256.as_bytes(), true)?;
        if !is_file(&file, Some(&one.sha256))? {
            missing.push((one, file.clone()));
        }
        files.push(file);
    }
    let bytes = missing.iter().map(|(one, _)| one.bytes).sum();
    scratch::require_free(&folder, bytes, "getting the sources out of the archive")?;
    if missing.is_empty() {
        return Ok(files);
    }
    // The chain is read once, not for each of them.
    let entries = night.archive.chain()?.entries();
    for (one, file) in missing {
        get(night, &entries, (&one.entry, &one.sha256), &file)?;
    }
    Ok(files)
}

fn merge(night: &mut Night<'_>, master: &Mastering, kept: &[Kept]) -> Result<Merged> {
    let doing = format!("merging {}", master.name);
    let files = files(night, kept)?;
    let folder = night.plan.work.join(MASTER);
    durable::make_folder(&folder)?;
    let mut args: Vec<OsString> = vec!["merge".into()];
    args.extend(files.into_iter().map(OsString::from));
    for arg in ["--json", "--quiet", "--require-checksum", "--scratch"] {
        args.push(arg.into());
    }
    args.push(folder.clone().into());
    if master.live || master.scratch_server.is_some() {
        args.push("--state".into());
        args.push(night.plan.of_servers().into());
    }
    args.extend(master.flags.iter().cloned());
    let mut collection = None;
    let mut server = master.scratch_server.as_deref();
    match (&night.plan.publish, master.live) {
        (Some(publish), true) => {
            let name = night.collection();
            let address = night
                .members(&publish.server)?
                .first
                .address()
                .collection(&name);
            night.memory.will_make(&publish.server, &name)?;
            args.push(format!("--into={}", CollectionAddress::to_string(&address)).into());
            collection = Some(name);
            server = Some(publish.server.as_str());
        }
        _ => {
            args.extend(["--force".into(), "--output".into()]);
            args.push(master_file(night).into());
        }
    }
    let called = (night.hand)(&Calling {
        args,
        key: key(night, server),
    })?;
    let (report, differs) = called.report(&doing)?;
    keep_report(night, "merge", &report)?;
    let refuse = |what: &str| {
        Error::failed(doing.as_str(), format!("its report says {what}"))
            .next("this is a fault of snapmerge: please report it")
    };
    if report.pointer("/proof/proven") != Some(&Value::Bool(true)) {
        return Err(refuse("nothing of a proof"));
    }
    let text = |pointer: &str| {
        report
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let list = |pointer: &str| -> Vec<String> {
        let items = report.pointer(pointer).and_then(Value::as_array);
        items
            .into_iter()
            .flatten()
            .map(|item| {
                item.as_str()
                    .map_or_else(|| item.to_string(), str::to_owned)
            })
            .collect()
    };
    let mut what = list("/missing");
    what.extend(list("/differences"));
    if differs && what.is_empty() {
        what.push("the merge ended with 3; its report says why".into());
    }
    if master.live && !list("/differences").is_empty() {
        return Err(Error::new(Kind::Differs, doing, what.join("; "))
            .next("look at the report of the merge; the alias stays where it is"));
    }
    Ok(Merged {
        points: report
            .pointer("/master/points")
            .and_then(Value::as_u64)
            .ok_or_else(|| refuse("no number of points"))?,
        bytes: report.pointer("/master/file_bytes").and_then(Value::as_u64),
        sha256: text("/master/sha256"),
        route: text("/route").unwrap_or_default(),
        differs: what,
        notes: called.warnings(),
        collection,
    })
}

/// The key of the server that a process of its own talks to, if the plan has it in a variable.
fn key(night: &Night<'_>, server: Option<&str>) -> Option<String> {
    let variable = night.plan.servers.get(server?)?.key_variable.as_ref()?;
    std::env::var(variable).ok()
}

/// Compares the master's file with its sources once more.
fn verify(night: &mut Night<'_>, kept: &[Kept]) -> Result<bool> {
    let doing = "verifying the master";
    let checks = night.plan.checks;
    let mut args: Vec<OsString> = vec!["verify".into(), master_file(night).into()];
    args.extend(["--json".into(), "--quiet".into(), "--scratch".into()]);
    args.push(night.plan.work.join(MASTER).into());
    match checks.verify {
        Verify::Sample => args.push("--sample=1%".into()),
        Verify::Deep => args.push("--deep".into()),
        Verify::None | Verify::Full => {}
    }
    if let Some(queries) = checks.queries {
        args.push(format!("--queries={queries}").into());
    }
    if night
        .plan
        .master
        .as_ref()
        .is_some_and(|master| master.allow_incomplete)
    {
        args.push("--allow-incomplete".into());
    }
    args.push("--against".into());
    args.extend(files(night, kept)?.into_iter().map(OsString::from));
    let called = (night.hand)(&Calling { args, key: None })?;
    let (report, differs) = called.report(doing)?;
    night.told.notes.extend(called.warnings());
    keep_report(night, "verify", &report)?;
    let proven = report["verdict"].as_str() == Some("proven");
    let incomplete = report["missing"]
        .as_array()
        .is_some_and(|missing| !missing.is_empty());
    if !proven || (differs && !incomplete) {
        return Err(Error::new(
            Kind::Differs,
            doing,
            format!(
                "it is not the union of its sources: {} differences",
                report["differences"]
            ),
        )
        .next("look at the report of the verification; the alias stays where it is"));
    }
    Ok(true)
}

/// Puts the master's file into the archive.
fn keep(night: &mut Night<'_>, master: &Mastering, merged: &Merged) -> Result<String> {
    let file = master_file(night);
    // What it was made of, which lies beside it, goes along.
    let added = night.archive.add(&Adding {
        path: file,
        name: Some(master.name.clone()),
        time: Some(night.begin.begun),
        tags: night.plan.archive.tags.clone(),
        sha256: merged.sha256.clone(),
        require_checksum: true,
        passed: None,
    })?;
    if !added.already {
        night.told.archive.new_bytes += added.entry.new_bytes;
    }
    Ok(added.entry.id)
}

/// Keeps the JSON report of a process of its own beside the night's.
fn keep_report(night: &Night<'_>, what: &str, report: &Value) -> Result<()> {
    let folder = night.plan.work.join(MASTER);
    durable::make_folder(&folder)?;
    let bytes = serde_json::to_vec(report)
        .map_err(|err| Error::failed(format!("writing the report of {what}"), err))?;
    durable::write(&report_file(&folder, what), &bytes, true)
}

/// Where the report of `what` is kept in `folder`.
fn report_file(folder: &Path, what: &str) -> PathBuf {
    folder.join(format!("{what}.report.json"))
}

/// The reports of the processes of their own, as far as there were any.
pub(super) fn reports(night: &Night<'_>) -> Vec<Value> {
    let folder = night.plan.work.join(MASTER);
    ["merge", "verify"]
        .iter()
        .filter_map(|what| std::fs::read(report_file(&folder, what)).ok())
        .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
        .collect()
}

fn tell(night: &mut Night<'_>, master: &Mastering, last: &LastMaster, unchanged: bool) {
    night.told.master = Some(MasterTold {
        name: master.name.clone(),
        unchanged,
        entry: last.entry.clone(),
        route: last.route.clone(),
        points: last.points,
        bytes: last.bytes,
        sha256: last.sha256.clone(),
        proven: last.proven,
        collection: None,
        alias: None,
        before: None,
    });
}
