//! Leftovers of captures: cleared away at the end of each run, and by the next where one was killed.
//!
//! Invariants: nothing is removed from a server but what a journal names or had asked for; what cannot
//! be removed is said, and its journal stays for the next run.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::journal::{Made, PREFIX, Work};
use super::observe::Members;
use super::part;
use crate::base::error::{Error, Result};
use crate::server::{Connection, Polling};

/// Polling for the end of a snapshot that is no longer wanted.
const MAKING: Polling = Polling::every(Duration::from_millis(100))
    .within(Duration::from_secs(300))
    .in_cleanup();

/// Clears away what killed runs left in `folder` and on this server, but for `collections`, which are
/// about to be captured again. Returns what could not be removed.
pub fn clear_leftovers(
    members: &Members,
    folder: &Path,
    collections: &[String],
) -> Result<Vec<String>> {
    let server = members.first.address().to_string();
    let wanted: BTreeSet<String> = collections
        .iter()
        .map(|collection| Work::name(&server, collection))
        .collect();
    let mut left = Vec::new();
    for name in crate::base::scratch::KeptFolder::names(folder, PREFIX)? {
        if wanted.contains(&name) {
            continue;
        }
        let Some(work) = Work::open(folder, &name)? else {
            continue;
        };
        match &work.journal {
            Some(journal) if journal.server != server => {
                left.push(format!(
                    "{}: started with {}, which is not asked now",
                    work.path().display(),
                    journal.server
                ));
                continue;
            }
            Some(_) | None => {}
        }
        let here = clear(members, &work);
        finish(work, &here)?;
        left.extend(here);
    }
    Ok(left)
}

/// Removes the working folder, unless its journal is still needed.
pub(super) fn finish(work: Work, left: &[String]) -> Result<()> {
    if left.is_empty() {
        return work.remove();
    }
    for entry in std::fs::read_dir(work.path())
        .into_iter()
        .flatten()
        .flatten()
    {
        let is_part = entry.file_name().to_string_lossy().starts_with(part::PART);
        if is_part {
            // The next run removes what stays.
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Removes from the servers what the journal names, and then what was asked for and never got a name
/// there. Returns what could not be removed.
pub(super) fn clear(members: &Members, work: &Work) -> Vec<String> {
    let mut left = Vec::new();
    let Some(journal) = &work.journal else {
        return left;
    };
    let collection = journal.collection.as_str();
    let (named, nameless): (Vec<&Made>, Vec<&Made>) = journal
        .made
        .iter()
        .partition(|made| made.snapshot.is_some());
    for made in named.into_iter().chain(nameless) {
        let name = made.snapshot.as_ref().map(|one| one.name.clone());
        let shown = name.clone().unwrap_or_else(|| "a snapshot".into());
        let Some(member) = members.at(&made.address) else {
            left.push(format!(
                "{shown} on {}, which is not asked now",
                made.address
            ));
            continue;
        };
        let removed = match name {
            Some(name) => member
                .delete_snapshot(collection, &name)
                .map(|_| ())
                .map_err(Error::from),
            None => remove_nameless(member, collection, made).map(|_| ()),
        };
        if let Err(err) = removed {
            left.push(format!("{shown} on {} ({})", made.address, err.why()));
        }
    }
    left
}

/// Removes a snapshot that was asked for by a run that was killed before it got its name. Tells
/// whether there was one.
pub(super) fn remove_nameless(member: &Connection, collection: &str, made: &Made) -> Result<bool> {
    // A server goes on with what it was asked for, and it appears only at the end.
    let doing = format!("waiting for a snapshot of {collection}");
    member.wait_until(&doing, MAKING, || {
        Ok::<_, Error>((member.makings(collection)?.unwrap_or(0) == 0).then_some(()))
    })?;
    let there = member.snapshots_putting_away(collection)?;
    match made.is(&there) {
        Some(name) => Ok(member.delete_snapshot(collection, name)?),
        None => Ok(false),
    }
}

/// The error with what it leaves behind.
pub(super) fn and_left(err: Error, left: &[String]) -> Error {
    if left.is_empty() {
        return err;
    }
    let why = format!(
        "{}; {} could not be removed, and the next capture to the same folder tries again",
        err.why(),
        left.join(" and ")
    );
    let mut told = Error::new(err.kind(), err.doing(), why);
    if let Some(next) = err.next_step() {
        told = told.next(next);
    }
    told
}
