//! Dry run: the actions and faults of a run, found out without doing anything.
//!
//! Invariants: nothing is written, here or on a server; every fault that shows is told, not only the
//! first.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::plan::Plan;
use super::run::{archive, connect, one_of};
use super::sources::targets;
use super::state::{RunState, StateFile};
use super::target::Target;
use crate::archive::{Chain, Entry, Forgetting, Holder};
use crate::base::error::{Error, Kind, Result};
use crate::base::operation::{Envelope, Outcome};
use crate::capture::{Members, change_token};
use crate::server::StateFolder;

/// Actions of a run that was planned and not done.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct DryRun {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    /// The plan's name.
    pub plan: String,
    /// Actions in their order.
    pub would: Vec<String>,
    /// Faults that would stop it.
    pub faults: Vec<String>,
}

impl DryRun {
    fn would(&mut self, what: impl Into<String>) {
        self.would.push(what.into());
    }

    fn fault(&mut self, err: &Error) {
        if self.envelope.outcome == Outcome::DONE {
            self.envelope.outcome = err.kind().into();
        }
        let next = err
            .next_step()
            .map_or(String::new(), |next| format!("\n      next: {next}"));
        self.faults
            .push(format!("{}: {}{next}", err.doing(), err.why()));
    }

    /// Looks what would become of the source `target`.
    fn source(&mut self, target: &Target, members: &Members, state: &RunState, entries: &[Entry]) {
        let known = state.sources.get(&target.key());
        let kept = known.filter(|seen| one_of(entries, &seen.entry, &seen.sha256).is_some());
        match (change_token(members, &target.collection), kept) {
            (Err(err), _) => self.fault(&err),
            (Ok(Ok(now)), Some(seen)) if seen.sign.as_ref() == Some(&now) => self.would(format!(
                "take {} as it is in the archive: nothing was written to {} since",
                seen.entry,
                target.key()
            )),
            (Ok(_), _) => self.would(format!(
                "capture {} and keep it as {}",
                target.key(),
                target.name
            )),
        }
    }
}

/// Looks what a night of `plan` would do.
pub fn dry_run(plan: &Plan) -> Result<DryRun> {
    let mut look = DryRun {
        envelope: Envelope::new("run plan", 2, Outcome::DONE),
        plan: plan.name.clone(),
        would: Vec::new(),
        faults: Vec::new(),
    };
    let state_file = StateFile::open(&plan.state, &plan.name)?;
    let keeping = archive(plan)?;
    let chain = match keeping.chain_for(&plan.archive.encrypt) {
        Ok(chain) => {
            if let Some(holder) = keeping.holder()?.filter(|holder| !Holder::is_gone(holder)) {
                look.fault(&Error::new(
                    Kind::Locked,
                    format!("locking {}", keeping.what()),
                    format!("it is locked by {holder}"),
                ));
            }
            Some(chain)
        }
        Err(err) if err.kind() == Kind::NotFound && plan.archive.create => {
            look.would(format!("make an archive in {}", plan.archive.place));
            None
        }
        Err(err) => {
            look.fault(&err);
            None
        }
    };
    let mut servers = BTreeMap::new();
    for (name, server) in &plan.servers {
        let connected = connect(server).and_then(|members| {
            members.first.server_info()?;
            Ok(members)
        });
        match connected {
            Ok(members) => drop(servers.insert(name.clone(), members)),
            Err(err) => look.fault(&err.within(format!("servers.{name}"))),
        }
    }
    if !plan.hooks.run_before.is_empty() {
        look.would(format!("run {}", plan.hooks.run_before.join(" ")));
    }
    let mut names = Vec::new();
    // Without one of its servers nobody knows what there is to capture.
    if servers.len() == plan.servers.len() {
        let mut notes = Vec::new();
        let found = targets(plan, &servers, &mut notes);
        for note in notes {
            look.would(note);
        }
        match found {
            Err(err) => look.fault(&err),
            Ok(targets) => {
                let entries = chain.as_ref().map(Chain::entries).unwrap_or_default();
                for target in &targets {
                    let Some(members) = servers.get(&target.server) else {
                        continue;
                    };
                    look.source(target, members, &state_file.state, &entries);
                }
                names.extend(targets.into_iter().map(|target| target.name));
            }
        }
    }
    if let Some(master) = &plan.master {
        look.would(format!(
            "merge them into {} by route {:?}, unless none of them has changed",
            master.name, master.options.route
        ));
    }
    if let Some(publish) = &plan.publish {
        look.would(format!("restore it to {} and compare", publish.server));
        let state = StateFolder::find(Some(&plan.of_servers()), None, None)?;
        if let Some(members) = servers.get(&publish.server) {
            let server = &members.first;
            let now = server.aliases()?.get(&publish.alias).cloned();
            let history = state.history(server.address(), &publish.alias)?;
            let from = now
                .as_deref()
                .map_or("where there is none yet".to_owned(), |now| {
                    format!("from {now}")
                });
            match history.is_as_left(now.as_deref()) {
                true => look.would(format!("move alias {} to it, {from}", publish.alias)),
                false => look.would(format!("leave alias {} where somebody else has moved it ({}), unless if_moved is \"take\"", publish.alias, now.as_deref().unwrap_or("nothing"))),
            }
            if server.collections()?.contains(&publish.alias) {
                look.fault(&Error::new(
                    Kind::Refused,
                    format!("publishing as {}", publish.alias),
                    "that is the name of a collection, and an alias cannot have it",
                ));
            }
        }
    }
    if let (Some(policy), Some(_)) = (&plan.keep, &chain) {
        names.extend(plan.master.as_ref().map(|master| master.name.clone()));
        // No names would mean all of them.
        if !names.is_empty() {
            let swept = keeping.forget(&Forgetting::By(policy.clone(), names), true)?;
            look.would(format!(
                "give up what is past its time (now it would be {} entries)",
                swept.forgotten
            ));
        }
    }
    if !plan.hooks.run_after.is_empty() {
        look.would(format!("run {}", plan.hooks.run_after.join(" ")));
    }
    Ok(look)
}
