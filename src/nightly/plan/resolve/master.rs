//! The master of a plan: the options of its merge, and where it is published.
//!
//! Invariants: options are checked by the merge itself, without its sources.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::ValueEnum as _;

use super::super::file::{MasterPart, PublishPart};
use super::super::{MasterPlan, PublishPlan};
use super::PlanResolver;
use crate::base::words::{did_you_mean, nearest};
use crate::merge::{MergeOptions, RouteChoice};
use crate::publish::Allow;
use crate::server::check_name;

/// Percent that a master may shrink.
const SHRINK: f64 = 5.0;
/// Seconds that green is waited for.
const WAIT: u64 = 3600;

impl PlanResolver<'_> {
    pub(super) fn master(
        &mut self,
        part: &MasterPart,
        servers: &BTreeSet<&str>,
    ) -> Option<MasterPlan> {
        if let Err(why) = check_name(&part.name) {
            self.find("master.name", why);
        }
        let live = part.options.route == RouteChoice::Replay;
        let options = MergeOptions {
            config: part.options.config.as_deref().map(|path| self.path(path)),
            ..part.options.clone()
        };
        if options.records.stamp.is_none() && !options.records.stamp_values.is_empty() {
            self.find(
                "master.stamp_values",
                "they belong to a stamp, which is missing",
            );
        }
        let checked = options
            .settings(live)
            .and_then(|settings| settings.overrides.check());
        if let Err(err) = checked {
            self.find("master", format!("{}: {}", err.doing(), err.why()));
        }
        let by_server = options.route == RouteChoice::Scratch;
        match (&part.scratch_server, by_server) {
            (Some(name), true) => self.is_server("master.scratch_server", name, servers),
            (None, true) => self.find("master.scratch_server", "the route scratch needs one"),
            (Some(_), false) => {
                self.find("master.scratch_server", "it belongs to the route scratch");
            }
            (None, false) => {}
        }
        Some(MasterPlan {
            name: part.name.clone(),
            options,
            live,
            scratch_server: part.scratch_server.clone(),
        })
    }

    pub(super) fn publish(&mut self, part: &PublishPart) -> Option<PublishPlan> {
        if let Err(why) = check_name(&part.alias) {
            self.find("publish.alias", why);
        }
        if part.keep == Some(0) {
            self.find(
                "publish.keep",
                "the one that is published stays: give 1 or more",
            );
        }
        if part.replication_factor == Some(0) {
            self.find("publish.replication_factor", "give 1 or more");
        }
        let max_shrink = match &part.max_shrink {
            None => Some(SHRINK),
            Some(text) => {
                let number = text.trim().trim_end_matches('%').trim_end().parse().ok();
                let number = number.filter(|percent: &f64| (0.0..=100.0).contains(percent));
                self.good(
                    "publish.max_shrink",
                    number.ok_or("give a percentage from \"0%\" to \"100%\""),
                )
            }
        };
        let mut allow = Vec::new();
        for word in &part.allow {
            match Allow::from_str(word, false) {
                Ok(one) => allow.push(one),
                Err(_) => {
                    let known = ["not-green", "empty", "missing-indexes"];
                    self.find(
                        "publish.allow",
                        format!(
                            "{word} is none of {}{}",
                            known.join(", "),
                            did_you_mean(nearest(word, &known))
                        ),
                    );
                }
            }
        }
        Some(PublishPlan {
            server: part.server.clone(),
            alias: part.alias.clone(),
            keep: part.keep,
            max_shrink: max_shrink?,
            allow,
            if_moved: part.if_moved,
            replication_factor: part.replication_factor,
            wait: Duration::from_secs(part.wait.unwrap_or(WAIT)),
        })
    }
}
