//! The master of a night: merged by a process of its own, compared with its sources, kept in the
//! archive.
//!
//! Invariants: its sources come out of the archive, so that what is merged is what is kept; a master
//! whose inputs are those of the last one is the last one; only a proven one goes on from here.

use std::path::{Path, PathBuf};

use chrono::Utc;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::plan::{MasterPlan, Verify};
use super::report::{RunMaster, StepReports};
use super::run::{MASTER, Run, one_of, source_archive};
use super::state::LastMaster;
use super::target::ArchivedSource;
use crate::archive::{Adding, Entry};
use crate::base::durable;
use crate::base::error::{Error, Kind, Result};
use crate::base::operation::{Context, Outcome};
use crate::base::own;
use crate::base::progress::Progress;
use crate::format::hash_file;
use crate::input::InputOptions;
use crate::merge::MergeRequest;
use crate::server::Selection;
use crate::verify::{Verdict, VerifyRequest};
use crate::worker;

/// Nobody looks at a run while it lasts.
const QUIET: Context = Context {
    progress: Progress::Quiet,
};

/// An error with the step that it happened in.
pub type Failed = (String, Error);

/// Result of the merge step, as it stands in the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Merged {
    points: u64,
    bytes: Option<u64>,
    sha256: Option<String>,
    route: String,
    /// Omissions and differences that the merge reported.
    differs: Vec<String>,
    /// The collection, if it was written into one.
    collection: Option<String>,
}

/// Makes the master of these sources, or finds that the last one is it.
pub fn make(run: &mut Run<'_>, kept: &[ArchivedSource]) -> Result<LastMaster, Failed> {
    let at_inputs = |err| ("merge".to_owned(), err);
    let plan = run.plan;
    let master = plan
        .master
        .as_ref()
        .ok_or_else(|| at_inputs(Error::usage("making the master", "the plan has none")))?;
    let inputs = inputs(run, master, kept).map_err(at_inputs)?;
    if let Some(last) = unchanged(run, &inputs).map_err(at_inputs)? {
        // One that this very night has made before it was interrupted is new.
        let is_old = !run.journal.has("merge");
        tell(run, master, &last, is_old);
        return Ok(last);
    }
    let about = json!({ "inputs": inputs });
    let live = master.live;
    let merged: Merged = run.step(
        "merge",
        &about,
        |run, merged: &Merged| match live {
            true => is_there(run, merged.collection.as_deref(), merged.points),
            false => is_file(&master_file(run), merged.sha256.as_deref()),
        },
        |run| merge(run, master, kept),
    )?;
    for what in &merged.differs {
        run.report.differs(format!("the master: {what}"));
    }
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
        run.step(
            "verify",
            &about,
            |_, _: &bool| Ok(true),
            |run| verify(run, kept),
        )?;
    }
    let entry = match live {
        true => None,
        false => {
            let sha256 = merged.sha256.clone().unwrap_or_default();
            let entry = run.step(
                "keep",
                &about,
                |run, entry: &String| Ok(run.entry(entry, &sha256)?.is_some()),
                |run| keep(run, master, &merged),
            )?;
            Some(entry)
        }
    };
    let before = run.state_file.state.master.take();
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
    run.state_file.state.master = Some(last.clone());
    run.state_file
        .write()
        .map_err(|err| ("keep".to_owned(), err))?;
    tell(run, master, &last, false);
    Ok(last)
}

/// A hash of all that decides what the master is.
fn inputs(run: &Run<'_>, master: &MasterPlan, kept: &[ArchivedSource]) -> Result<String> {
    // The chain is read once, not for each of them.
    let entries = run.archive.chain()?.entries();
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
        let content = run.archive.recipe(entry)?.content();
        sources.push(json!([one.name, content]));
    }
    let mut options = serde_json::to_value(&master.options)
        .map_err(|err| Error::failed("hashing the options of the merge", err))?;
    if let Some(config) = &master.options.config {
        // The file's content counts, not its name.
        options["config"] = hash_file(config)?.into();
    }
    let all = json!({
        "sources": sources, "options": options, "name": master.name, "live": master.live,
        "snapmerge": env!("CARGO_PKG_VERSION"),
    });
    Ok(blake3::hash(all.to_string().as_bytes())
        .to_hex()
        .to_string())
}

/// The last master, if it was made of just these inputs and is still there.
fn unchanged(run: &Run<'_>, inputs: &str) -> Result<Option<LastMaster>> {
    let Some(last) = &run.state_file.state.master else {
        return Ok(None);
    };
    if last.inputs != inputs {
        return Ok(None);
    }
    let there = match (&last.entry, &last.sha256) {
        (Some(entry), Some(sha256)) => run.entry(entry, sha256)?.is_some(),
        _ => is_there(run, last.collection.as_deref(), last.points)?,
    };
    Ok(there.then(|| last.clone()))
}

/// Returns true if `collection` is on the server that the master is published to, is green, and has `points`
/// points.
pub(super) fn is_there(run: &Run<'_>, collection: Option<&str>, points: u64) -> Result<bool> {
    let (Some(collection), Some(publish)) = (collection, &run.plan.publish) else {
        return Ok(false);
    };
    let server = &run.members(&publish.server)?.first;
    if !server.collections()?.iter().any(|one| one == collection) {
        return Ok(false);
    }
    let green = server
        .collection(collection)?
        .is_some_and(|info| info.is_green());
    Ok(green && server.count(Selection::all(collection))? == points)
}

pub(super) fn master_file(run: &Run<'_>) -> PathBuf {
    run.plan.work.join(MASTER).join("master.snapshot")
}

/// Returns true if `file` exists and has this SHA-256.
pub(super) fn is_file(file: &Path, sha256: Option<&str>) -> Result<bool> {
    Ok(file.exists() && Some(hash_file(file)?.as_str()) == sha256)
}

/// Gets the entry `id` with this SHA-256, one of `entries`, out of the archive as `file`.
pub(super) fn get(
    run: &Run<'_>,
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
    run.archive.get(entry, file, true).map(|_| ())
}

/// The sources as they are given to a merge or a verification.
fn references(kept: &[ArchivedSource]) -> Vec<PathBuf> {
    let reference = |one: &ArchivedSource| format!("archive:{}", one.entry).into();
    kept.iter().map(reference).collect()
}

fn merge(run: &mut Run<'_>, master: &MasterPlan, kept: &[ArchivedSource]) -> Result<Merged> {
    let folder = run.plan.work.join(MASTER);
    own::folder(&folder)?;
    let mut request = MergeRequest {
        sources: references(kept),
        scratch: Some(folder),
        options: master.options.clone(),
        ..MergeRequest::default()
    };
    request.input.require_checksum = true;
    request.input.from_archive = source_archive(run.plan);
    request.live.state.state = Some(run.plan.of_servers());
    let mut server = master.scratch_server.as_deref();
    let mut collection = None;
    match (&run.plan.publish, master.live) {
        (Some(publish), true) => {
            let name = run.collection();
            let address = run.members(&publish.server)?.first.address();
            request.live.into = Some(address.collection(&name).to_string());
            request.live.limit_rate = run.plan.rate;
            run.state_file.will_make(&publish.server, &name)?;
            collection = Some(name);
            server = Some(publish.server.as_str());
        }
        _ => {
            request.output = Some(master_file(run));
            request.force = true;
        }
    }
    if let Some(server) = server.and_then(|name| run.plan.servers.get(name)) {
        request.servers = server.options.clone();
        if master.scratch_server.is_some() {
            request.live.scratch_server = Some(server.address.to_string());
        }
    }
    let report = worker::call(&request, &QUIET, key(run, server).as_deref())?;
    keep_report(run, "merge", &report)?;
    if !report.proof.proven {
        return Err(Error::failed(
            format!("merging {}", master.name),
            "its report says nothing of a proof",
        )
        .next("this is a fault of snapmerge: please report it"));
    }
    if master.live && !report.differences.is_empty() {
        let doing = format!("merging {}", master.name);
        return Err(
            Error::new(Kind::Differs, doing, report.differences.join("; "))
                .next("look at the report of the merge; the alias stays where it is"),
        );
    }
    let mut differs = report.missing;
    differs.extend(report.differences);
    if report.envelope.outcome != Outcome::DONE && differs.is_empty() {
        differs.push("the merge ended with 3; its report says why".into());
    }
    Ok(Merged {
        points: report.master.points,
        bytes: report.master.file_bytes,
        sha256: report.master.sha256,
        route: report.route.to_string(),
        differs,
        collection,
    })
}

/// The key of the server that a process of its own talks to, if the plan has it in a variable.
fn key(run: &Run<'_>, server: Option<&str>) -> Option<String> {
    let variable = run.plan.servers.get(server?)?.key_variable.as_ref()?;
    std::env::var(variable).ok()
}

/// Compares the master's file with its sources once more.
fn verify(run: &mut Run<'_>, kept: &[ArchivedSource]) -> Result<bool> {
    let checks = run.plan.checks;
    let input = InputOptions {
        from_archive: source_archive(run.plan),
        ..InputOptions::default()
    };
    let request = VerifyRequest {
        input,
        master: master_file(run),
        against: references(kept),
        scratch: Some(run.plan.work.join(MASTER)),
        deep: checks.verify == Verify::Deep,
        sample: match checks.verify {
            Verify::Sample => "1%".parse().ok(),
            Verify::None | Verify::Full | Verify::Deep => None,
        },
        queries: checks.queries,
        allow_incomplete: run.plan.allows_incomplete(),
        ..VerifyRequest::default()
    };
    let report = worker::call(&request, &QUIET, None)?;
    keep_report(run, "verify", &report)?;
    let differs = report.envelope.outcome != Outcome::DONE;
    if report.verdict != Verdict::Proven || (differs && report.missing.is_empty()) {
        return Err(Error::new(
            Kind::Differs,
            "verifying the master",
            format!(
                "it is not the union of its sources: {} differences",
                report.differences
            ),
        )
        .next("look at the report of the verification; the alias stays where it is"));
    }
    Ok(true)
}

/// Puts the master's file into the archive.
fn keep(run: &mut Run<'_>, master: &MasterPlan, merged: &Merged) -> Result<String> {
    let file = master_file(run);
    // The provenance file beside it is added with it.
    let added = run.archive.add(&Adding {
        name: Some(master.name.clone()),
        time: Some(run.begin.started),
        tags: run.plan.archive.tags.clone(),
        sha256: merged.sha256.clone(),
        require_checksum: true,
        ..Adding::of(file.as_path())
    })?;
    run.stored(&added);
    if !added.already {
        run.report.archive.new_bytes += added.entry.new_bytes;
    }
    Ok(added.entry.id)
}

/// Keeps the report of a worker process, for the run's page.
fn keep_report(run: &Run<'_>, step: &str, report: &impl Serialize) -> Result<()> {
    let folder = run.plan.work.join(MASTER);
    own::folder(&folder)?;
    let bytes = serde_json::to_vec(report)
        .map_err(|err| Error::failed(format!("writing the report of {step}"), err))?;
    durable::write(&report_file(run, step), &bytes, true)
}

fn report_file(run: &Run<'_>, step: &str) -> PathBuf {
    run.plan
        .work
        .join(MASTER)
        .join(format!("{step}.report.json"))
}

/// The reports of worker processes, as far as there were any.
pub(super) fn reports(run: &Run<'_>) -> StepReports {
    fn read<T: DeserializeOwned>(file: &Path) -> Option<T> {
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    }
    StepReports {
        merge: read(&report_file(run, "merge")),
        verify: read(&report_file(run, "verify")),
    }
}

fn tell(run: &mut Run<'_>, master: &MasterPlan, last: &LastMaster, unchanged: bool) {
    run.report.master = Some(RunMaster {
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
