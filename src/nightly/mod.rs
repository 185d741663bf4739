//! A whole run by a plan: capture, archive, merge, verify, restore, publish, retention, report.
//!
//! Invariants: whatever can be known to be wrong is found before anything is done; a step that fails
//! ends what depends on it and nothing else; the alias moves to a verified master or not at all;
//! nothing is forgotten in a run in which something went wrong; what a killed run did is checked
//! before it is relied on, and what it left undone is done by the next one.

mod ahead;
mod dry_run;
mod history;
mod hooks;
mod journal;
mod master;
mod metrics;
mod notify;
mod outputs;
mod plan;
mod process;
mod publish;
mod report;
mod retention;
mod run;
mod sources;
mod state;
mod target;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use chrono::{TimeDelta, Utc};

pub use self::dry_run::{DryRun, dry_run};
pub use self::history::{PastRun, RUNS_MAX, RunHistory};
pub use self::plan::{Plan, TEMPLATE, schema};
pub use self::report::{
    How, RunArchive, RunError, RunMaster, RunOutcome, RunReport, RunSource, RunStep, StepReports,
};

use self::journal::Journal;
use self::run::{INCOMING, MASTER, Run, SOURCES, archive, connect};
use self::sources::targets;
use self::state::StateFile;
use self::target::{AheadOfTurn, ArchivedSource, Target};
use crate::base::durable;
use crate::base::error::{Error, Kind, Result};
use crate::base::{own, scratch};
use crate::capture::{captured_in, discard};

/// A run that came to its end and was not reported yet.
pub struct Finished<'a> {
    plan: &'a Plan,
    /// None if the run could not start.
    run: Option<Run<'a>>,
    report: RunReport,
    steps: StepReports,
    /// None if no reports are written.
    history: Option<RunHistory>,
}

/// Runs `plan`, with `fresh` from the start even where an interrupted run could be resumed. Errors on
/// the way are in the report; an error here is that another run of the plan is at work.
pub fn run(plan: &Plan, fresh: bool) -> Result<Finished<'_>> {
    let started = Instant::now();
    let opened = plan
        .require_state()
        .and_then(|()| Journal::open(&plan.state, &format!("run {}", plan.name)));
    let begin = match opened {
        Err(err) if err.kind() == Kind::Locked => return Err(err),
        opened => opened.and_then(|journal| Run::begin(plan, fresh, journal)),
    };
    let mut run = match begin {
        Ok(run) => run,
        Err(err) => {
            // Failures here are reported through the same files and notifications.
            let now = Utc::now();
            let mut report = RunReport::begin(&plan.name, &plan.archive.place, "none", now, false);
            report.failed("begin", &err);
            hooks::after(&plan.hooks, false, &mut report);
            report.end(started, Utc::now());
            return Ok(Finished {
                history: history(plan, &mut report),
                plan,
                run: None,
                report,
                steps: StepReports::default(),
            });
        }
    };
    let _span = tracing::info_span!("run", plan = plan.name, id = run.begin.id).entered();
    tracing::info!(resumed = run.report.resumed, "started");
    match hooks::before(&plan.hooks, &run.report) {
        Err(err) => run.report.failed("run_before", &err),
        Ok(()) => {
            if let Err(err) = run.all() {
                // Whatever has a step of its own is in the report already.
                run.report.failed("run", &err);
            }
        }
    }
    hooks::after(&plan.hooks, true, &mut run.report);
    Ok(run.finish(started))
}

impl<'a> Run<'a> {
    /// Starts a run, or resumes one that was interrupted.
    fn begin(plan: &'a Plan, fresh: bool, mut journal: Journal) -> Result<Self> {
        match plan.work.starts_with(&plan.state) {
            true => own::folder(&plan.work)?,
            false => durable::make_folder(&plan.work)?,
        }
        own::folder(&plan.work.join(INCOMING))?;
        let state_file = StateFile::open(&plan.state, &plan.name)?;
        let archive = archive(plan)?;
        let now = Utc::now();
        let within = TimeDelta::from_std(plan.resume_within).unwrap_or(TimeDelta::MAX);
        let interrupted = journal
            .interrupted(&plan.sha256, now, within)
            .filter(|_| !fresh);
        let resumed = interrupted.is_some();
        let begin = match interrupted {
            Some(begin) => begin,
            None => {
                clear_work(&plan.work)?;
                journal.begin(&plan.sha256, now)?
            }
        };
        let place = &plan.archive.place;
        Ok(Self {
            report: RunReport::begin(&plan.name, place, &begin.id, begin.started, resumed),
            plan,
            begin,
            archive,
            entries: Vec::new(),
            journal,
            state_file,
            servers: BTreeMap::new(),
            ahead: AheadOfTurn::default(),
        })
    }
}

impl<'a> Run<'a> {
    fn all(&mut self) -> Result<()> {
        self.open_archive()?;
        for (name, server) in &self.plan.servers {
            let members = connect(server)?;
            if server.settings.insecure && server.address.is_encrypted() {
                self.report.notes.push(format!(
                    "servers.{name}: insecure: the certificate is NOT checked; whoever stands between can \
                     read and change everything, the API key included"
                ));
            }
            if members.first.shows_its_key() {
                self.report.notes.push(format!(
                    "servers.{name}: the API key is sent unencrypted; use https: where you can"
                ));
            }
            self.servers.insert(name.clone(), members);
        }
        let targets = targets(self.plan, &self.servers, &mut self.report.notes)?;
        self.vanished(&targets);
        let Some(kept) = self.sources(&targets)? else {
            return Ok(());
        };
        if self.plan.master.is_some() && !self.master(&kept)? {
            return Ok(());
        }
        self.stopped()?;
        if self.report.errors.is_empty() {
            retention::forget(self, &targets);
        }
        Ok(())
    }

    /// Tells, once, of sources that are not there any more: a pattern does not miss them, and the master
    /// is made without.
    fn vanished(&mut self, targets: &[Target]) {
        let there: Vec<String> = targets.iter().map(Target::key).collect();
        let gone = self.state_file.state.sources.keys();
        let gone: Vec<String> = gone.filter(|key| !there.contains(key)).cloned().collect();
        for key in gone {
            if let Some(seen) = self.state_file.state.sources.remove(&key) {
                self.report.differs(format!(
                    "{key} was a source, and is none now; a master is made without it, and its last \
                     snapshot stays in the archive as {}",
                    seen.entry
                ));
            }
        }
    }

    /// Opens the archive, or makes it. What killed runs of this plan held locked is let go.
    fn open_archive(&mut self) -> Result<()> {
        match self.archive.chain_for(&self.plan.archive.encrypt) {
            Err(err) if err.kind() == Kind::NotFound && self.plan.archive.create => {
                self.archive.init_for(&self.plan.archive.encrypt)?;
            }
            opened => self.entries = opened?.entries(),
        }
        if self.journal.killed.is_empty() {
            return Ok(());
        }
        // The journal's lock is ours, so those processes are gone, on whatever machine they were.
        let mut killed = self.journal.killed.iter();
        if let Some(holder) = self.archive.holder()?
            && killed.any(|killed| holder.is_process_of(killed))
        {
            self.archive.unlock(holder)?;
        }
        self.journal.let_go()
    }

    /// Captures and archives the sources; none if the master cannot be made of them.
    fn sources(&mut self, targets: &[Target]) -> Result<Option<Vec<ArchivedSource>>> {
        self.ahead.targets = targets.to_vec();
        let kept = self.sources_in_turn(targets);
        let discarded = self.ahead.discard();
        let kept = kept?;
        discarded?;
        Ok(kept)
    }

    fn sources_in_turn(&mut self, targets: &[Target]) -> Result<Option<Vec<ArchivedSource>>> {
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
    fn master(&mut self, kept: &[ArchivedSource]) -> Result<bool> {
        let made = match master::make(self, kept) {
            Ok(made) => made,
            Err((step, err)) => {
                self.report.failed(&step, &err);
                return Ok(false);
            }
        };
        if self.plan.publish.is_none() {
            return Ok(true);
        }
        match publish::publish(self, made) {
            Ok(()) => Ok(true),
            Err((step, err)) => {
                self.report.failed(&step, &err);
                Ok(false)
            }
        }
    }

    /// Decides how the run ended.
    fn finish(mut self, started: Instant) -> Finished<'a> {
        if let Ok(chain) = self.archive.chain() {
            self.report.archive.entries = chain.entries().len() as u64;
            self.report.last_proven_restore = chain.last_proven();
        }
        self.report.end(started, Utc::now());
        let state = &self.state_file.state;
        self.report.last_proven = state.master.as_ref().map(|master| master.proven);
        self.report.last_success = match self.report.run_outcome {
            RunOutcome::Done => Some(self.report.ended),
            RunOutcome::Differs | RunOutcome::Failed => state.success,
        };
        Finished {
            history: history(self.plan, &mut self.report),
            plan: self.plan,
            report: self.report.clone(),
            steps: master::reports(&self),
            run: Some(self),
        }
    }
}

impl Finished<'_> {
    /// The report so far.
    pub fn report(&self) -> &RunReport {
        &self.report
    }

    /// The reports of the merge and the verification, as far as there were any.
    pub fn steps(&self) -> &StepReports {
        &self.steps
    }

    /// The runs before this one, if the plan has their reports kept.
    pub fn history(&self) -> Option<&RunHistory> {
        self.history.as_ref()
    }

    /// Writes the report where the plan wants it, with the HTML page `page`, and notifies. The journal
    /// is ended last: a run that is killed before reports again.
    pub fn publish(mut self, page: Result<String>) -> RunReport {
        outputs::write(self.plan, &mut self.report, page);
        let Some(mut run) = self.run.filter(|_| self.report.errors.is_empty()) else {
            return self.report;
        };
        run.state_file.state.success = self.report.last_success;
        let ended = run
            .state_file
            .write()
            .and_then(|()| run.journal.end())
            .and_then(|()| clear_work(&self.plan.work));
        if let Err(err) = ended {
            self.report.failed("end", &err);
        }
        self.report
    }
}

/// The runs before the one of `report`; what could not be read of them is noted there.
fn history(plan: &Plan, report: &mut RunReport) -> Option<RunHistory> {
    let folder = plan.report.folder.as_ref()?;
    let history = RunHistory::read(folder, &report.plan, &report.id);
    report.notes.extend(history.note());
    Some(history)
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
        own::require_folder(&server)?;
        for file in captured_in(&server)? {
            discard(&file)?;
        }
    }
    Ok(())
}
