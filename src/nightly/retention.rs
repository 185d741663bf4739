//! What is past its time: entries of the archive, collections that were made and never published, old
//! reports.
//!
//! Keeps true: only what this plan made is removed, and nothing that an alias points to or that stands
//! in its history.

use serde_json::json;

use super::night::Night;
use super::sources::Target;
use crate::archive::{Forgetting, Swept};
use crate::base::error::Result;
use crate::publish::History;

/// Forgets what is past its time.
pub fn forget(night: &mut Night<'_>, targets: &[Target]) {
    if let Err(err) = unpublished(night) {
        night.told.failed("retention", &err);
    }
    let Some(policy) = night.plan.keep.clone() else {
        return;
    };
    let mut names: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
    names.extend(night.plan.master.as_ref().map(|master| master.name.clone()));
    let forgetting = Forgetting::By(policy, names);
    let swept: Result<Told, _> = night.step(
        "retention",
        &json!({}),
        |_, _: &Told| Ok(true),
        |night| night.archive.forget(&forgetting, false).map(Told::from),
    );
    match swept {
        Ok(swept) => {
            night.told.archive.forgotten = swept.forgotten;
            night.told.archive.removed_bytes = swept.removed_bytes;
        }
        Err((step, err)) => night.told.failed(&step, &err),
    }
}

/// What is told of it.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
struct Told {
    forgotten: u64,
    removed_bytes: u64,
}

impl From<Swept> for Told {
    fn from(swept: Swept) -> Self {
        Self {
            forgotten: swept.forgotten,
            removed_bytes: swept.removed_bytes,
        }
    }
}

/// Removes collections that were made to be published and never were: of nights that were broken off,
/// or whose alias somebody else had moved.
fn unpublished(night: &mut Night<'_>) -> Result<()> {
    let current = night.memory.now.master.as_ref();
    let current = current.and_then(|last| last.collection.clone());
    let state = night.state()?;
    for (name, made) in night.memory.now.made.clone() {
        let Some(members) = night.servers.get(&name) else {
            // A server that the plan does not name any more is left alone.
            continue;
        };
        let server = &members.first;
        let there = server.collections()?;
        let aliases = server.aliases()?;
        let history = match &night.plan.publish {
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
                    night.told.notes.push(format!(
                        "{collection} was removed from the server: it was never published"
                    ));
                }
            }
        }
        night.memory.now.made.insert(name, left);
    }
    night.memory.write()
}
