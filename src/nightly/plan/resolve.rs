//! From what a plan says to what it means.
//!
//! Invariants: every fault is found, not only the first; a secret is looked up where the plan says it
//! is, and stands in no fault.

mod master;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use url::Url;

use super::file::{HooksPart, PlanFile, ServerPart, TellPart};
use super::{
    ArchivePlan, Checks, HooksPlan, NotifyPlan, Plan, ReportPlan, Server, SourcePlan, Variables,
};
use crate::archive::{Location, Signer, parse_recipients, read_public};
use crate::base::words::{did_you_mean, nearest};
use crate::capture::IncrementalOptions;
use crate::input::LiveInputOptions;
use crate::merge::RouteChoice;
use crate::server::{
    Address, ConnectionOptions, ConnectionSettings, GrpcAddress, Keys, MembersFrom, PeerAddress,
    Rate, check_name,
};

/// Default of `limits.resume_hours`, in hours.
const RESUME_HOURS: u32 = 12;
/// Default of `hooks.timeout`, in seconds.
const HOOK_SECONDS: u64 = 600;
/// Default of `report.keep`: runs whose reports are kept.
const REPORTS: u32 = 60;

/// Resolves a parsed plan to validated settings, or returns every fault in it.
pub fn resolve(
    file: &Path,
    sha256: String,
    read: PlanFile,
    variables: Variables<'_>,
) -> Result<Plan, Vec<String>> {
    let mut resolver = PlanResolver {
        folder: folder_of(file),
        variables,
        found: Vec::new(),
    };
    let plan = resolver.plan(file, sha256, read);
    match (plan, resolver.found.is_empty()) {
        (Some(plan), true) => Ok(plan),
        _ => Err(resolver.found),
    }
}

/// The folder that `file` lies in, from the root on.
fn folder_of(file: &Path) -> PathBuf {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    file.parent().map(Path::to_owned).unwrap_or_default()
}

struct PlanResolver<'a> {
    folder: PathBuf,
    variables: Variables<'a>,
    found: Vec<String>,
}

impl PlanResolver<'_> {
    fn find(&mut self, at: &str, why: impl std::fmt::Display) {
        self.found.push(format!("{at}: {why}"));
    }

    /// `value`, or a fault at `at`.
    fn good<T, E: std::fmt::Display>(&mut self, at: &str, value: Result<T, E>) -> Option<T> {
        value.map_err(|why| self.find(at, why)).ok()
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    fn plan(&mut self, file: &Path, sha256: String, read: PlanFile) -> Option<Plan> {
        let stem = file
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        let name = read.name.or(stem).unwrap_or_default();
        if let Err(why) = check_name(&name) {
            self.find("name", why);
        }
        let archive = self.archive(read.archive);
        let servers: BTreeMap<String, Option<Server>> = read
            .servers
            .iter()
            .map(|(name, part)| (name.clone(), self.server(name, part)))
            .collect();
        if servers.is_empty() {
            self.find("servers", "there is none");
        }
        let names: BTreeSet<&str> = servers.keys().map(String::as_str).collect();
        if read.sources.is_empty() {
            self.find("sources", "there is none");
        }
        let mut sources = Vec::new();
        let usual = IncrementalOptions::default();
        for (number, part) in read.sources.into_iter().enumerate() {
            let at = format!("sources[{number}]");
            self.is_server(&format!("{at}.server"), &part.server, &names);
            if part.collections.is_empty() {
                self.find(&format!("{at}.collections"), "there is none");
            }
            let prefix = part.prefix.unwrap_or_default();
            if prefix.contains('/') {
                self.find(&format!("{at}.prefix"), "there is a slash in it");
            }
            sources.push(SourcePlan {
                server: part.server,
                prefix,
                collections: part.collections,
                except: part.except,
                stream: part.stream,
                require_checksum: part.require_checksum,
                incremental: IncrementalOptions {
                    incremental: part.incremental,
                    full_every: part.full_every.unwrap_or(usual.full_every),
                },
                if_broken: part.if_broken,
            });
        }
        let rate = read.limits.rate.as_deref();
        let rate = rate.and_then(|text| self.good("limits.rate", Rate::from_str(text)));
        let master = read.master.as_ref();
        let master = master.and_then(|part| self.master(part, &names));
        let publish = read.publish.as_ref().and_then(|part| {
            self.is_server("publish.server", &part.server, &names);
            if read.master.is_none() {
                self.find("publish", "there is no [master] that could be published");
            }
            self.publish(part)
        });
        if let Some(part) = &read.master
            && part.options.route == RouteChoice::Replay
            && read.publish.is_none()
        {
            self.find(
                "master.route",
                "replay writes to the server of [publish], which is missing",
            );
        }
        if master.as_ref().is_some_and(|master| master.live) && read.checks != Default::default() {
            self.find(
                "checks",
                "by the route replay there is no file to be compared again: the collection is read \
                 back and compared point by point in any case",
            );
        }
        if read
            .checks
            .queries
            .is_some_and(|queries| queries == 0 || queries > 100_000)
        {
            self.find("checks.queries", "give 1 to 100000, or leave it out");
        }
        if let Some(policy) = &read.keep
            && let Err(err) = policy.validate()
        {
            self.find("keep", err.why());
        }
        let state = match (&read.state, archive.as_ref().map(|one| &one.location)) {
            (Some(state), _) => self.path(state),
            (None, Some(Location::Folder(folder))) => {
                let mut state_folder = folder.clone().into_os_string();
                state_folder.push(".nightly");
                PathBuf::from(state_folder).join(&name)
            }
            (None, Some(Location::Bucket { .. })) => {
                self.find(
                    "state",
                    "it is missing, and beside a bucket there is no folder for it",
                );
                PathBuf::new()
            }
            (None, None) => PathBuf::new(),
        };
        let report = ReportPlan {
            folder: read.report.folder.as_deref().map(|path| self.path(path)),
            keep: read.report.keep.unwrap_or(REPORTS).max(1),
            prometheus: read
                .report
                .prometheus
                .as_deref()
                .map(|path| self.path(path)),
            pushgateway: self.pushgateway(read.report.pushgateway.as_deref()),
        };
        if let Some(path) = &report.prometheus
            && path.extension().is_none_or(|ending| ending != "prom")
        {
            self.find(
                "report.prometheus",
                "its name has to end in .prom, or it is not collected",
            );
        }
        let on_failure = self.telling("notify.failure", read.notify.failure.as_ref());
        let on_success = self.telling("notify.success", read.notify.success.as_ref());
        let hooks = self.hooks(read.hooks);
        let hours = read.limits.resume_hours.unwrap_or(RESUME_HOURS);
        Some(Plan {
            file: file.to_owned(),
            sha256,
            name,
            work: match &read.limits.work {
                Some(work) => self.path(work),
                None => state.join("work"),
            },
            is_state_named: read.state.is_some(),
            state,
            archive: archive?,
            servers: servers
                .into_iter()
                .map(|(name, server)| Some((name, server?)))
                .collect::<Option<_>>()?,
            sources,
            master,
            checks: Checks {
                verify: read.checks.verify,
                queries: read.checks.queries,
                points_min: read.checks.points_min.unwrap_or(0),
            },
            publish,
            keep: read.keep,
            rate,
            resume_within: Duration::from_secs(u64::from(hours) * 3600),
            report,
            hooks,
            on_failure,
            on_success,
        })
    }

    fn pushgateway(&mut self, text: Option<&str>) -> Option<Url> {
        let url = Url::parse(text?).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        // A password in it is not shown.
        let why = "it is no address as http://HOST:9091, without a user or a query";
        self.good("report.pushgateway", url.ok_or(why))
    }

    fn hooks(&mut self, part: HooksPart) -> HooksPlan {
        let timeout = part.timeout.unwrap_or(HOOK_SECONDS);
        if !(1..=86_400).contains(&timeout) {
            self.find("hooks.timeout", "give 1 to 86400 seconds");
        }
        HooksPlan {
            run_before: part.run_before,
            run_after: part.run_after,
            run_failed: part.run_failed,
            timeout: Duration::from_secs(timeout),
        }
    }

    fn is_server(&mut self, at: &str, name: &str, known: &BTreeSet<&str>) {
        if !known.contains(name) {
            let known: Vec<&str> = known.iter().copied().collect();
            let hint = did_you_mean(nearest(name, &known));
            self.find(at, format!("there is no server {name} in [servers]{hint}"));
        }
    }

    fn archive(&mut self, part: super::file::ArchivePart) -> Option<ArchivePlan> {
        let location = self.good(
            "archive.place",
            Location::parse(&part.place).map_err(|err| err.why().to_owned()),
        )?;
        let (place, location) = match location {
            Location::Folder(folder) => {
                let folder = self.path(&folder);
                (folder.display().to_string(), Location::Folder(folder))
            }
            bucket @ Location::Bucket { .. } => (part.place, bucket),
        };
        let sign_key = part.sign_key.as_deref().map(|path| self.path(path));
        if let Some(path) = &sign_key
            && let Err(err) = Signer::read(path)
        {
            self.find(
                "archive.sign_key",
                format!("{}: {}", err.doing(), err.why()),
            );
        }
        let trust: Vec<PathBuf> = part.trust.iter().map(|path| self.path(path)).collect();
        for path in &trust {
            if let Err(err) = read_public(path) {
                self.find("archive.trust", format!("{}: {}", err.doing(), err.why()));
            }
        }
        let encrypt = parse_recipients(&part.encrypt).map_err(|err| err.why().to_owned());
        let encrypt = self.good("archive.encrypt", encrypt).unwrap_or_default();
        if !encrypt.is_empty() && part.identity.is_none() && part.identity_command.is_none() {
            self.find(
                "archive.encrypt",
                "a night reads what was archived: give archive.identity or archive.identity_command, too",
            );
        }
        let identity = part.identity.as_deref().map(|path| self.path(path));
        Some(ArchivePlan {
            encrypt,
            identity,
            identity_command: part.identity_command,
            place,
            location,
            create: part.create,
            sign_key,
            trust,
            tags: part.tags,
        })
    }

    fn server(&mut self, name: &str, part: &ServerPart) -> Option<Server> {
        let at = |key: &str| format!("servers.{name}.{key}");
        let address = Address::parse(&part.url).map_err(|err| err.why().to_owned());
        let address = self.good(&at("url"), address);
        let keys = match (&part.api_key_env, &part.api_key_file) {
            (Some(_), Some(_)) => {
                self.find(
                    &at("api_key_file"),
                    "there is an api_key_env too; give one of them",
                );
                None
            }
            (Some(variable), None) => {
                self.variable(&at("api_key_env"), variable)
                    .and_then(|value| {
                        self.good(&at("api_key_env"), Keys::from_variable(&value, variable))
                    })
            }
            (None, Some(path)) => self.good(&at("api_key_file"), Keys::from_file(&self.path(path))),
            (None, None) => Some(Keys::default()),
        };
        let ca_file = part.ca_file.as_deref().map(|path| self.path(path));
        if let Some(path) = &ca_file
            && !path.is_file()
        {
            self.find(
                &at("ca_file"),
                format!("there is no file {}", path.display()),
            );
        }
        let usual = ConnectionSettings::default();
        let timeout = part.timeout.map_or(usual.timeout, Duration::from_secs);
        if !(1..=86_400).contains(&timeout.as_secs()) {
            self.find(&at("timeout"), "give 1 to 86400 seconds");
        }
        let retries = part.retries.unwrap_or(usual.retries);
        if retries > 100 {
            self.find(&at("retries"), "give 0 to 100");
        }
        let grpc = part.grpc.as_deref().and_then(|url| {
            let address = url.parse::<GrpcAddress>();
            self.good(&at("grpc"), address.map_err(|err| err.why().to_owned()))
        });
        let mut peers = BTreeMap::new();
        for (peer, url) in &part.peers {
            let at = at(&format!("peers.{peer}"));
            let address = Address::parse(url).map_err(|err| err.why().to_owned());
            match (peer.parse(), self.good(&at, address)) {
                (Ok(peer), Some(address)) => {
                    peers.insert(peer, address);
                }
                (Err(_), _) => self.find(&at, "that is no id of a member; GET /cluster tells them"),
                (Ok(_), None) => {}
            }
        }
        let members = peers.iter().map(|(peer, address)| PeerAddress {
            peer: *peer,
            address: address.clone(),
        });
        let from = part.members_from.as_deref().and_then(|text| {
            let from = text.parse::<MembersFrom>();
            self.good(
                &at("members_from"),
                from.map_err(|err| err.why().to_owned()),
            )
        });
        let options = LiveInputOptions {
            peer: members.collect(),
            members_from: from,
            connection: ConnectionOptions {
                api_key_file: part.api_key_file.as_deref().map(|path| self.path(path)),
                ca_file: ca_file.clone(),
                insecure: part.insecure,
                timeout: timeout.as_secs(),
                retries,
                grpc_port: part.grpc_port,
                grpc: grpc.clone(),
            },
        };
        Some(Server {
            address: address?,
            settings: ConnectionSettings {
                keys: keys?,
                ca_file,
                insecure: part.insecure,
                timeout,
                retries,
                grpc_port: part.grpc_port,
                grpc,
            },
            options,
            key_variable: part.api_key_env.clone(),
        })
    }

    /// Returns the value of the environment variable `name`. A name that no variable can have may be the
    /// secret itself, and is not shown.
    fn variable(&mut self, at: &str, name: &str) -> Option<String> {
        let is_name = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name
                .chars()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        if !is_name {
            self.find(
                at,
                "give the name of a variable (capital letters, digits, _), not what it holds",
            );
            return None;
        }
        let value = (self.variables)(name).filter(|value| !value.trim().is_empty());
        if value.is_none() {
            self.find(at, format!("the environment has no {name}"));
        }
        value
    }

    fn telling(&mut self, at: &str, part: Option<&TellPart>) -> Option<NotifyPlan> {
        let part = part?;
        let given = [
            part.webhook.is_some(),
            part.webhook_env.is_some(),
            part.webhook_file.is_some(),
        ];
        let given = given.iter().filter(|given| **given).count();
        if given > 1 {
            self.find(at, "give one of webhook, webhook_env and webhook_file");
        }
        if given == 0 && part.command.is_empty() {
            self.find(at, "it says neither a command nor a webhook");
        }
        let secret = format!("{at}.webhook_env");
        let file = format!("{at}.webhook_file");
        let webhook = match (&part.webhook, &part.webhook_env, &part.webhook_file) {
            (Some(address), _, _) => Some(address.clone()),
            (_, Some(name), _) => self.variable(&secret, name),
            (_, _, Some(path)) => {
                let path = self.path(path);
                let read = std::fs::read_to_string(&path)
                    .map_err(|err| format!("reading {}: {err}", path.display()));
                self.good(&file, read)
            }
            _ => None,
        };
        let webhook = webhook.map(|address| address.trim().to_owned());
        if let Some(address) = &webhook
            && !url::Url::parse(address)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        {
            self.find(
                at,
                "the webhook is no address that begins with http:// or https://",
            );
        }
        Some(NotifyPlan {
            command: part.command.clone(),
            webhook,
        })
    }
}
