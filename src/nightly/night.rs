//! One night: its parts in their order, and what holds them together.
//!
//! Keeps true: a part that fails ends what depends on it and nothing else; nothing is forgotten in a
//! night in which something went wrong; whatever happens is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use chrono::{TimeDelta, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::hands::Hand;
use super::journal::{Begin, Journal};
use super::plan::{Plan, Server};
use super::remembered::Memory;
use super::sources::{Kept, Target, targets};
use super::told::{Outcome, StepTold, Told};
use super::{master, publish, retention, written};
use crate::archive::{Archive, Entry, Signer};
use crate::base::durable;
use crate::base::error::{Error, Kind, Result};
use crate::base::scratch;
use crate::base::stop;
use crate::capture::{Members, discard};
use crate::server::Connection;
use crate::server::StateFolder;

/// What a night is run with.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// How processes of their own are run.
    pub hand: Hand<'a>,
    /// Whether a night that was broken off is begun anew.
    pub fresh: bool,
    /// The exit code for an outcome.
    pub code: &'a dyn Fn(Option<Kind>) -> u8,
}

/// A night that is going on.
pub(super) struct Night<'a> {
    pub plan: &'a Plan,
    pub hand: Hand<'a>,
    pub begin: Begin,
    pub archive: Archive,
    /// What was in the archive when the night began.
    pub entries: Vec<Entry>,
    pub journal: Journal,
    pub memory: Memory,
    pub servers: BTreeMap<String, Members>,
    pub told: Told,
}

/// Runs a night of `plan`. What went wrong on the way is in what is told; an error is that another run
/// is at it.
pub fn run(plan: &Plan, options: Options<'_>) -> Result<Told> {
    let started = Instant::now();
    let opened = Journal::open(&plan.state, &format!("run {}", plan.name));
    let begun = match opened {
        Err(err) if err.kind() == Kind::Locked => return Err(err),
        opened => opened.and_then(|journal| Night::begin(plan, options, journal)),
    };
    let mut night = match begun {
        Ok(night) => night,
        Err(err) => {
            // Whoever is to be told when it fails is to be told of this.
            let now = Utc::now();
            let mut told = Told::begin(&plan.name, &plan.archive.place, "none", now, false);
            told.failed("begin", &err);
            told.end(started, Utc::now());
            written::write(plan, &mut told, Vec::new(), options.code);
            return Ok(told);
        }
    };
    let _span = tracing::info_span!("night", plan = plan.name, night = night.begin.night).entered();
    tracing::info!(went_on = night.told.went_on, "begun");
    if let Err(err) = night.all() {
        // Whatever has a step of its own has told it already.
        night.told.failed("night", &err);
    }
    night.finish(started, options.code);
    Ok(night.told)
}

/// The archive of a plan, to be written.
pub(super) fn archive(plan: &Plan) -> Result<Archive> {
    let signer = plan
        .archive
        .sign_key
        .as_deref()
        .map(Signer::read)
        .transpose()?;
    Archive::at(&plan.archive.place, signer)
}

/// A connection to each server, with the members of its cluster.
pub(super) fn connect(server: &Server) -> Result<Members> {
    let connection = Connection::open(&server.address, &server.settings)?;
    Members::new(&connection, &server.peers)
}

/// The entry `id` of `entries`, if it is there with this SHA-256.
pub(super) fn one_of<'e>(entries: &'e [Entry], id: &str, sha256: &str) -> Option<&'e Entry> {
    let mut entries = entries.iter();
    entries.find(|entry| entry.id == id && entry.sha256 == sha256)
}

impl<'a> Night<'a> {
    /// Begins a night, or goes on with one that was broken off.
    fn begin(plan: &'a Plan, options: Options<'a>, mut journal: Journal) -> Result<Self> {
        let memory = Memory::open(&plan.state, &plan.name)?;
        let archive = archive(plan)?;
        let now = Utc::now();
        let within = TimeDelta::from_std(plan.go_on_within).unwrap_or(TimeDelta::MAX);
        let broken_off = journal
            .broken_off(&plan.sha256, now, within)
            .filter(|_| !options.fresh);
        let went_on = broken_off.is_some();
        let begin = match broken_off {
            Some(begin) => begin,
            None => {
                clear_work(&plan.work)?;
                journal.begin(&plan.sha256, now)?
            }
        };
        let place = &plan.archive.place;
        Ok(Self {
            told: Told::begin(&plan.name, place, &begin.night, begin.begun, went_on),
            plan,
            hand: options.hand,
            begin,
            archive,
            entries: Vec::new(),
            journal,
            memory,
            servers: BTreeMap::new(),
        })
    }
}

impl Night<'_> {
    fn all(&mut self) -> Result<()> {
        for folder in [&self.plan.work, &self.plan.state] {
            durable::make_folder(folder)?;
        }
        self.open_archive()?;
        for (name, server) in &self.plan.servers {
            let members = connect(server)?;
            if server.settings.insecure && server.address.is_encrypted() {
                self.told.notes.push(format!(
                    "servers.{name}: insecure: the certificate is NOT checked; whoever stands between can \
                     read and change everything, the API key included"
                ));
            }
            if members.first.shows_its_key() {
                self.told.notes.push(format!(
                    "servers.{name}: the API key is sent unencrypted; use https: where you can"
                ));
            }
            self.servers.insert(name.clone(), members);
        }
        let targets = targets(self.plan, &self.servers)?;
        self.vanished(&targets);
        let Some(kept) = self.sources(&targets)? else {
            return Ok(());
        };
        if self.plan.master.is_some() && !self.master(&kept)? {
            return Ok(());
        }
        self.stopped()?;
        if self.told.errors.is_empty() {
            retention::forget(self, &targets);
        }
        Ok(())
    }

    /// Tells, once, of sources that are not there any more: a pattern does not miss them, and the master
    /// is made without.
    fn vanished(&mut self, targets: &[Target]) {
        let there: Vec<String> = targets.iter().map(Target::key).collect();
        let gone = self.memory.now.sources.keys();
        let gone: Vec<String> = gone.filter(|key| !there.contains(key)).cloned().collect();
        for key in gone {
            if let Some(seen) = self.memory.now.sources.remove(&key) {
                self.told.differs(format!(
                    "{key} was a source, and is none now; a master is made without it, and its last \
                     snapshot stays in the archive as {}",
                    seen.entry
                ));
            }
        }
    }

    /// Opens the archive, or makes it. What a killed run of this plan held locked is let go.
    fn open_archive(&mut self) -> Result<()> {
        match self.archive.chain() {
            Err(err) if err.kind() == Kind::NotFound && self.plan.archive.create => {
                self.archive.init()?;
            }
            opened => self.entries = opened?.entries(),
        }
        let Some(killed) = self.journal.killed.take() else {
            return Ok(());
        };
        let Some(holder) = self.archive.holder()? else {
            return Ok(());
        };
        // The journal's lock is ours, so that process is gone, on whatever machine it was.
        let is_it = |one: &crate::archive::Holder| {
            (one.host.clone(), one.boot.clone(), one.pid, one.started)
        };
        if is_it(&holder) == is_it(&killed) {
            self.archive.unlock(holder)?;
        }
        Ok(())
    }

    /// The sources, captured and kept; none if the master cannot be made of them.
    fn sources(&mut self, targets: &[Target]) -> Result<Option<Vec<Kept>>> {
        let mut all = Vec::new();
        let mut stops = false;
        for target in targets {
            self.stopped()?;
            match self.source(target) {
                Ok(kept) => all.push(kept),
                Err(err) if err.kind() == Kind::Cancelled => return Err(err),
                Err(err) => match self.in_its_place(target, &err)? {
                    Some(kept) => all.push(kept),
                    None => stops = true,
                },
            }
        }
        Ok((!stops).then_some(all))
    }

    /// The master, restored and published. Tells whether all of it was done that could be.
    fn master(&mut self, kept: &[Kept]) -> Result<bool> {
        let made = match master::make(self, kept) {
            Ok(made) => made,
            Err((step, err)) => {
                self.told.failed(&step, &err);
                return Ok(false);
            }
        };
        if self.plan.publish.is_none() {
            return Ok(true);
        }
        match publish::publish(self, made) {
            Ok(()) => Ok(true),
            Err((step, err)) => {
                self.told.failed(&step, &err);
                Ok(false)
            }
        }
    }

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
        tracing::info!("begun");
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
        self.told.steps.push(StepTold {
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

    /// What the collection is called that this night's master becomes.
    pub fn collection(&self) -> String {
        let master = self.plan.master.as_ref();
        let name = master.map_or("master", |master| master.name.as_str());
        format!("{name}_{}", self.begin.night)
    }

    /// What is remembered of servers.
    pub fn state(&self) -> Result<StateFolder> {
        StateFolder::find(Some(&self.plan.of_servers()), None, None)
    }

    /// Writes the night's end down. What goes wrong here is told, too. The journal comes last: killed
    /// before, the next run tells it all again.
    fn finish(&mut self, started: Instant, code: &dyn Fn(Option<Kind>) -> u8) {
        if let Ok(chain) = self.archive.chain() {
            self.told.archive.entries = chain.entries().len() as u64;
            self.told.last_proven_restore = chain.last_proven();
        }
        self.told.end(started, Utc::now());
        self.told.last_proven = self.memory.now.master.as_ref().map(|master| master.proven);
        self.told.last_success = match self.told.outcome {
            Outcome::Done => Some(self.told.ended),
            Outcome::Differs | Outcome::Failed => self.memory.now.success,
        };
        let others = master::reports(self);
        written::write(self.plan, &mut self.told, others, code);
        if !self.told.errors.is_empty() {
            return;
        }
        self.memory.now.success = self.told.last_success;
        let ended = self
            .memory
            .write()
            .and_then(|()| self.journal.end())
            .and_then(|()| clear_work(&self.plan.work));
        if let Err(err) = ended {
            self.told.failed("end", &err);
        }
    }
}

/// Removes what a night before this one left in the folder of its work; but for what capture needs to
/// clear away what it left on servers.
fn clear_work(work: &Path) -> Result<()> {
    for name in [SOURCES, MASTER] {
        let folder = work.join(name);
        if folder.exists() {
            scratch::remove_folder(&folder)?;
        }
    }
    let incoming = work.join(INCOMING);
    let servers = match std::fs::read_dir(&incoming) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|err| Error::io("listing", &incoming, &err))?,
    };
    for server in servers {
        let server = server
            .map_err(|err| Error::io("listing", &incoming, &err))?
            .path();
        for file in super::sources::captured_in(&server)? {
            discard(&file)?;
        }
    }
    Ok(())
}

/// The folder of the sources, got out of the archive.
pub(super) const SOURCES: &str = "sources";
/// The folder of the master.
pub(super) const MASTER: &str = "master";
/// The folder of what is being captured.
pub(super) const INCOMING: &str = "incoming";
