//! A run that is going on: what its steps share, and how a step is done once.
//!
//! Invariants: a step that an earlier run did with the same inputs is not done again; what was done
//! is in the journal before the next step begins.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::journal::{Begin, Journal};
use super::plan::{ArchivePlan, Plan, Server};
use super::report::{RunReport, RunStep};
use super::state::StateFile;
use super::target::AheadOfTurn;
use crate::archive::{
    Added, Archive, ArchiveOptions, Entry, IdentityOptions, SigningOptions, SourceArchiveOptions,
    TrustOptions, WritableArchiveOptions,
};
use crate::base::error::{Error, Result};
use crate::base::stop;
use crate::capture::Members;
use crate::input::members;
use crate::server::{Connection, StateFolder};

/// A run that is going on.
pub(super) struct Run<'a> {
    pub plan: &'a Plan,
    pub begin: Begin,
    pub archive: Archive,
    /// Archive entries when the run started.
    pub entries: Vec<Entry>,
    pub journal: Journal,
    pub state_file: StateFile,
    pub servers: BTreeMap<String, Members>,
    pub report: RunReport,
    /// Sources prepared before their turn.
    pub ahead: AheadOfTurn,
}

/// The archive of a plan, to be written.
pub(super) fn archive(plan: &Plan) -> Result<Archive> {
    let ArchivePlan {
        place, sign_key, ..
    } = &plan.archive;
    WritableArchiveOptions {
        archive: ArchiveOptions {
            archive: place.clone(),
            trust: trust(plan),
            key: key(plan),
        },
        signing: SigningOptions {
            sign_key: sign_key.clone(),
        },
    }
    .open()
}

/// The plan's archive, for a process of its own that reads sources in it.
pub(super) fn source_archive(plan: &Plan) -> SourceArchiveOptions {
    SourceArchiveOptions {
        archive: Some(plan.archive.place.clone()),
        trust: trust(plan),
        key: key(plan),
    }
}

/// Identity for the plan's archive, if it is encrypted.
fn key(plan: &Plan) -> IdentityOptions {
    IdentityOptions {
        identity: plan.archive.identity.clone(),
        identity_command: plan.archive.identity_command.clone(),
    }
}

fn trust(plan: &Plan) -> TrustOptions {
    // The state that commands keep of the archive counts here too; a service without a home has its own.
    let state = StateFolder::of_environment();
    let state = state.map_or_else(|| plan.state.clone(), |state| state.path().to_owned());
    TrustOptions {
        trust: plan.archive.trust.clone(),
        state: Some(state),
    }
}

/// A connection to each server, with the members of its cluster.
pub(super) fn connect(server: &Server) -> Result<Members> {
    let connection = Connection::open(&server.address, &server.settings)?;
    let options = &server.options;
    let members = members(&connection, &options.peer, options.members_from.as_ref())?;
    Members::new(&connection, &members)
}

/// The entry `id` of `entries`, if it is there with this SHA-256.
pub(super) fn one_of<'e>(entries: &'e [Entry], id: &str, sha256: &str) -> Option<&'e Entry> {
    let mut entries = entries.iter();
    entries.find(|entry| entry.id == id && entry.sha256 == sha256)
}

impl Run<'_> {
    /// Does `step`, unless an earlier run of this night has done it with the same inputs and `still`
    /// finds it so.
    pub fn step<T: Serialize + DeserializeOwned>(
        &mut self,
        step: &str,
        inputs: &Value,
        still: impl FnOnce(&mut Self, &T) -> Result<bool>,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T, (String, Error)> {
        let span = tracing::info_span!("step", step);
        let _entered = span.enter();
        tracing::info!("started");
        let started = Instant::now();
        let done = self.stopped().and_then(|()| {
            let earlier: Option<T> = self.journal.done(step, inputs);
            if let Some(earlier) = earlier
                && still(self, &earlier)?
            {
                return Ok((earlier, true));
            }
            let result = work(self)?;
            let value = serde_json::to_value(&result)
                .map_err(|err| Error::failed("writing the journal", err))?;
            let seconds = started.elapsed().as_secs_f64();
            self.journal.write(step, inputs, value, seconds)?;
            Ok((result, false))
        });
        let (result, earlier) = done.map_err(|err| (step.to_owned(), err))?;
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(seconds, earlier, "done");
        self.report.steps.push(RunStep {
            step: step.to_owned(),
            seconds,
            earlier,
        });
        Ok(result)
    }

    /// The error of a night that somebody asked to stop.
    pub fn stopped(&self) -> Result<()> {
        match stop::times() {
            0 => Ok(()),
            _ => Err(stop::cancelled(&format!("running {}", self.plan.name))
                .next("run it again: it goes on where it was")),
        }
    }

    /// Tells what was found in the archive while a snapshot was stored.
    pub fn stored(&mut self, added: &Added) {
        if !added.repaired.is_empty() {
            self.report.notes.push(format!(
                "the archive: {} was damaged, and is whole again",
                added.repaired.join(", ")
            ));
        }
        if !added.lost.is_empty() {
            self.report.differs(format!(
                "the archive: {} objects that older entries may need are missing or damaged; see what \
                 is lost: snapmerge archive check",
                added.lost.len()
            ));
        }
        if let Some(left) = &added.lock_left {
            self.report.differs(format!("the archive: {left}"));
        }
    }

    /// The server called `name` in the plan.
    pub fn members(&self, name: &str) -> Result<&Members> {
        self.servers
            .get(name)
            .ok_or_else(|| Error::usage(format!("looking for server {name}"), "there is none"))
    }

    /// The entry `id` of the archive, if it is there with this SHA-256. For what was there when the
    /// night began the chain is not read anew; whoever gets it out of the archive sees if it is gone.
    pub fn entry(&self, id: &str, sha256: &str) -> Result<Option<Entry>> {
        if let Some(entry) = one_of(&self.entries, id, sha256) {
            return Ok(Some(entry.clone()));
        }
        Ok(one_of(&self.archive.chain()?.entries(), id, sha256).cloned())
    }

    /// Returns the name of this run's master as a collection: `NAME_20261122_030000`.
    pub fn collection(&self) -> String {
        let master = self.plan.master.as_ref();
        let name = master.map_or("master", |master| master.name.as_str());
        format!("{name}_{}", self.begin.id)
    }

    /// Returns the folder of the servers' state.
    pub fn state(&self) -> Result<StateFolder> {
        StateFolder::find(Some(&self.plan.of_servers()), None, None)
    }
}

/// The folder of sources that earlier versions copied out of the archive.
pub(super) const SOURCES: &str = "sources";
/// The folder of the master.
pub(super) const MASTER: &str = "master";
/// The folder of what is being captured.
pub(super) const INCOMING: &str = "incoming";
