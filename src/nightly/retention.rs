//! Retention: removes expired entries of the archive, and collections that were made and never published.
//!
//! Invariants: only what this plan made is removed, and nothing that an alias points to or that stands
//! in its history.

use serde_json::json;

use super::run::Run;
use super::target::Target;
use crate::archive::{Forgetting, PruneReport};
use crate::base::error::Result;
use crate::publish::History;

/// Forgets what is past its time.
pub fn forget(run: &mut Run<'_>, targets: &[Target]) {
    if let Err(err) = unpublished(run) {
        run.report.failed("retention", &err);
    }
    let Some(policy) = run.plan.keep.clone() else {
        return;
    };
    let mut names: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
    names.extend(run.plan.master.as_ref().map(|master| master.name.clone()));
    let forgetting = Forgetting::By(policy, names);
    let swept: Result<Pruned, _> = run.step(
        "retention",
        &json!({}),
        |_, _: &Pruned| Ok(true),
        |run| run.archive.forget(&forgetting, false).map(Pruned::from),
    );
    match swept {
        Ok(swept) => {
            run.report.archive.forgotten = swept.forgotten;
            run.report.archive.removed_bytes = swept.removed_bytes;
            if !swept.in_future.is_empty() {
                run.report.notes.push(format!(
                    "the archive: the times of {} are in the future, so some clock was wrong; no rule \
                     counts them, and they stay until they are given up by hand",
                    swept.in_future.join(", ")
                ));
            }
            for left in swept.left_behind {
                run.report.differs(format!("the archive: {left}"));
            }
        }
        Err((step, err)) => run.report.failed(&step, &err),
    }
}

/// Summary of a retention step, as it stands in the journal.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Pruned {
    forgotten: u64,
    removed_bytes: u64,
    #[serde(default)]
    in_future: Vec<String>,
    #[serde(default)]
    left_behind: Vec<String>,
}

impl From<PruneReport> for Pruned {
    fn from(swept: PruneReport) -> Self {
        let in_future = swept.decisions.iter().filter(|one| one.is_in_future);
        Self {
            forgotten: swept.forgotten,
            removed_bytes: swept.removed_bytes,
            in_future: in_future.map(|one| one.id.clone()).collect(),
            left_behind: swept.left_behind,
        }
    }
}

/// Removes collections that were made to be published and never were: of nights that were interrupted,
/// or whose alias somebody else had moved.
fn unpublished(run: &mut Run<'_>) -> Result<()> {
    let current = run.state_file.state.master.as_ref();
    let current = current.and_then(|last| last.collection.clone());
    let state = run.state()?;
    for (name, made) in run.state_file.state.made.clone() {
        let Some(members) = run.servers.get(&name) else {
            // A server that the plan does not name any more is left alone.
            continue;
        };
        let server = &members.first;
        let there = server.collections()?;
        let aliases = server.aliases()?;
        let history = match &run.plan.publish {
            Some(publish) => state.history(server.address(), &publish.alias)?,
            None => History::default(),
        };
        let mut left = Vec::new();
        for collection in made {
            let is_kept = Some(&collection) == current.as_ref()
                || aliases.values().any(|target| *target == collection)
                || history
                    .masters
                    .iter()
                    .any(|one| one.collection == collection);
            match (there.contains(&collection), is_kept) {
                (false, _) => {}
                (true, true) => left.push(collection),
                (true, false) => {
                    server.delete_collection(&collection)?;
                    run.report.notes.push(format!(
                        "{collection} was removed from the server: it was never published"
                    ));
                }
            }
        }
        run.state_file.state.made.insert(name, left);
    }
    run.state_file.write()
}
