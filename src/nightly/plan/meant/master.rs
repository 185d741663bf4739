//! What a plan says of the master: how `merge` is told to make it, and where it is published.
//!
//! Keeps true: `merge` itself says whether it takes what the plan says.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::time::Duration;

use clap::ValueEnum as _;

use super::super::faults::{did_you_mean, nearest};
use super::super::file::{MasterPart, PublishPart};
use super::super::{Mastering, Publishing, Server, argument};
use super::Settling;
use crate::publish::Allow;
use crate::server::{Rate, check_name};

/// Percent that a master may shrink.
const SHRINK: f64 = 5.0;
/// Seconds that green is waited for.
const WAIT: u64 = 3600;

impl Settling<'_> {
    pub(super) fn master(
        &mut self,
        part: &MasterPart,
        target: Option<&Server>,
        servers: &BTreeMap<String, Option<Server>>,
        rate: Option<Rate>,
    ) -> Option<Mastering> {
        if let Err(why) = check_name(&part.name) {
            self.find("master.name", why);
        }
        let live = part.route.as_deref() == Some("replay");
        let mut flags: Vec<OsString> = Vec::new();
        let mut flag = |flag: &str, value: Option<OsString>| {
            if let Some(value) = value {
                // Together, so that a value may begin with a dash.
                let mut whole = OsString::from(format!("--{flag}="));
                whole.push(value);
                flags.push(whole);
            }
        };
        let text = |value: &Option<String>| value.as_ref().map(OsString::from);
        let number = |value: Option<u64>| value.map(|value| value.to_string().into());
        let switch = |value: Option<bool>| value.map(|value| value.to_string().into());
        flag("route", text(&part.route));
        flag("on-conflict", text(&part.on_conflict));
        flag("stamp", text(&part.stamp));
        for (source, value) in &part.stamp_values {
            flag(
                "stamp-value",
                Some(format!("{source}={}", argument(value)).into()),
            );
        }
        let filter = part.filter.clone().map(serde_json::Value::Object);
        flag("filter", filter.map(|filter| filter.to_string().into()));
        for key in &part.drop_payload {
            flag("drop-payload", Some(key.into()));
        }
        flag("layout", text(&part.layout));
        flag("shards", number(part.shards.map(u64::from)));
        flag("hnsw-m", number(part.hnsw_m));
        flag("hnsw-ef-construct", number(part.hnsw_ef_construct));
        flag("on-disk-vectors", switch(part.on_disk_vectors));
        flag("on-disk-payload", switch(part.on_disk_payload));
        flag("indexing-threshold", number(part.indexing_threshold));
        flag("memmap-threshold", number(part.memmap_threshold));
        flag("quantization", text(&part.quantization));
        flag(
            "config",
            part.config.as_deref().map(|path| self.path(path).into()),
        );
        if live {
            flag(
                "limit-rate",
                rate.map(|rate| rate.bytes().to_string().into()),
            );
        }
        for (given, switch) in [
            (part.server_consolidates, "--server-consolidates"),
            (part.consolidate, "--consolidate"),
            (part.allow_incomplete, "--allow-incomplete"),
        ] {
            if given {
                flags.push(switch.into());
            }
        }
        let by_server = part.route.as_deref() == Some("scratch");
        match (&part.scratch_server, by_server) {
            (Some(name), true) => {
                let names: BTreeSet<&str> = servers.keys().map(String::as_str).collect();
                self.is_server("master.scratch_server", name, &names);
                if let Some(Some(server)) = servers.get(name) {
                    flags.push(format!("--scratch-server={}", server.address).into());
                    flags.extend(server.flags.iter().cloned());
                }
            }
            (None, true) => self.find("master.scratch_server", "the route scratch needs one"),
            (Some(_), false) => {
                self.find("master.scratch_server", "it belongs to the route scratch");
            }
            (None, false) => {}
        }
        if live && let Some(target) = target {
            flags.extend(target.flags.iter().cloned());
        }
        // What is not told yet when a plan is read, in its place.
        let mut whole: Vec<OsString> = vec!["source.snapshot".into()];
        match live {
            true => whole.push("--into=http://localhost:6333/master".into()),
            false => whole.push("--output=master.snapshot".into()),
        }
        whole.extend(flags.iter().cloned());
        if let Err(err) = (self.reader.merge)(&whole) {
            self.find("master", format!("{}: {}", err.doing(), err.why()));
        }
        Some(Mastering {
            name: part.name.clone(),
            flags,
            live,
            scratch_server: part.scratch_server.clone(),
            allow_incomplete: part.allow_incomplete,
        })
    }

    pub(super) fn publish(&mut self, part: &PublishPart) -> Option<Publishing> {
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
        Some(Publishing {
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
