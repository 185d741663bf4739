//! Checks made before a restore transfers anything.
//!
//! Invariants: it takes seconds and changes nothing; each refusal says what to do instead.

use std::collections::BTreeMap;

use chrono::{TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::expect::Expected;
use super::keys::{Step, steps};
use super::options::{Options, RestoreRecord};
use crate::base::error::{Error, Kind, Result};
use crate::capture::Members;
use crate::format::schema::{CollectionConfig, ShardingMethod};
use crate::server::{
    About, CollectionAddress, Feature, ServerInfo, ServerVersion, StateFolder, check_vector_name,
    version_numbers,
};

/// Findings of the preflight, and the plan made of them.
#[derive(Debug)]
pub struct Preflight {
    /// The server.
    pub server: ServerInfo,
    /// The members of the cluster; one where there is none.
    pub members: usize,
    /// Keys to be created, in this order.
    pub steps: Vec<Step>,
    /// Way in which the snapshot gets to the server.
    pub way: Way,
    /// Collection that exists under the target's name.
    pub there: There,
    /// Notes for the reader.
    pub notes: Vec<String>,
}

/// Way in which a snapshot gets to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// One upload, which creates the collection.
    Whole,
    /// The collection is created first, then one upload.
    CreateThenWhole,
    /// The collection is created first, then one upload for each shard, to a member that holds it.
    CreateThenShards,
    /// One upload over the collection that is there.
    Over,
}

/// State of the target's name on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum There {
    /// Nothing.
    Nothing,
    /// A collection that an earlier run started to restore and did not finish.
    Started,
    /// A collection that was asked to be written over.
    Other,
}

/// Checks the target and plans the restore; changes nothing.
pub fn preflight(
    target: &CollectionAddress,
    members: &Members,
    expected: &Expected,
    options: &Options,
    state: &StateFolder,
) -> Result<Preflight> {
    let name = target.collection.as_str();
    let first = &members.first;
    let refuse = |why: String, next: String| {
        Err(Error::new(Kind::Refused, format!("restoring to {target}"), why).next(next))
    };
    let server = first.server_info()?;
    let mut notes = Vec::new();
    check_version(target, &server, expected, options, &mut notes)?;

    let aliases = first.aliases()?;
    if let Some(behind) = aliases.get(name) {
        return refuse(
            format!("{name} is an alias of {behind}, and a restore would write over {behind}"),
            format!(
                "restore to a new name, and move the alias then: snapmerge publish {} NEW --alias {name}",
                target.server
            ),
        );
    }
    let exists = first.collections()?.iter().any(|one| one == name);
    let record: Option<RestoreRecord> = state.read(&target.server, About::Restore(name))?;
    let there = match (exists, &record) {
        (false, _) => There::Nothing,
        (true, Some(record)) if !record.over => match options.resume {
            true => {
                require_ours(target, members, expected, record)?;
                There::Started
            }
            false => {
                return refuse(
                    format!("an earlier run began {name} and did not finish it"),
                    "restore with --resume, which starts anew if it is not whole".into(),
                );
            }
        },
        (true, _) if options.overwrite => There::Other,
        (true, _) => {
            return refuse(
                format!("collection {name} exists already"),
                "choose another name, or give --overwrite to write over it".into(),
            );
        }
    };
    if there == There::Other {
        let pointing: Vec<&str> = aliases
            .iter()
            .filter(|(_, behind)| *behind == name)
            .map(|(alias, _)| alias.as_str())
            .collect();
        if !pointing.is_empty() {
            return refuse(
                format!(
                    "{} point to {name}, and would be answered from a half restored collection",
                    pointing.join(" and ")
                ),
                "restore to a new name and publish that".into(),
            );
        }
    }

    let cluster = first.cluster()?;
    let count = match cluster.is_enabled() {
        true => cluster.peer_ids().len().max(1),
        false => 1,
    };
    let custom = *expected.config().sharding_method() == ShardingMethod::Custom;
    let steps = match custom {
        true => steps(expected.keys()).map_err(|err| err.within(target))?,
        false => Vec::new(),
    };
    if custom && !cluster.is_enabled() {
        return refuse(
            "the master has shard keys, which a server takes in cluster mode alone".into(),
            "start the server with QDRANT__CLUSTER__ENABLED=true and --uri http://HOST:6335 (one \
             node is enough)"
                .into(),
        );
    }
    if custom && steps.is_empty() {
        return refuse(
            "the master has custom sharding and no shard key, so it has no shard".into(),
            "there is nothing to restore".into(),
        );
    }
    let way = match (there, count > 1, custom) {
        (There::Other, true, _) => {
            return refuse(
                "on a cluster of several members a collection is not written over".into(),
                "restore to a new name and publish that".into(),
            );
        }
        (There::Other, false, _) => Way::Over,
        (_, true, _) => Way::CreateThenShards,
        (_, false, true) => Way::CreateThenWhole,
        (_, false, false) if options.replication_factor.is_some() => Way::CreateThenWhole,
        (_, false, false) => Way::Whole,
    };
    if way != Way::Over {
        refuse_vector_names(target, &server, expected.config())?;
    }
    if way == Way::CreateThenShards {
        if !Feature::ShardsRestored.is_in(server.numbers()) {
            return refuse(
                format!(
                    "members of a cluster take no shard's snapshot before Qdrant 1.14, and this is {}",
                    server.version
                ),
                "upgrade the cluster, or restore to a server that stands alone".into(),
            );
        }
        require_addresses(target, members, &cluster.peer_ids(), cluster.peer_id)?;
    }
    Ok(Preflight {
        server,
        members: count,
        steps,
        way,
        there,
        notes,
    })
}

/// Refuses names of vectors that the server would refuse, after everything was sent.
fn refuse_vector_names(
    target: &CollectionAddress,
    server: &ServerInfo,
    config: &CollectionConfig,
) -> Result<()> {
    let version = server.numbers();
    if version.is_none() || !Feature::VectorNamesChecked.is_in(version) {
        return Ok(());
    }
    let dense = config.vectors().keys();
    for name in dense.chain(config.sparse_vectors().keys()) {
        if let Err(why) = check_vector_name(name) {
            return Err(Error::new(
                Kind::Refused,
                format!("restoring to {target}"),
                format!("Qdrant {} takes no vector called {name:?}: {why}", server.version),
            )
            .next(
                "restore it to a server before 1.18, and write its points under another name there: \
                 no server renames a vector",
            ));
        }
    }
    Ok(())
}

/// Refuses to go on with what may have been made by somebody else since: a run that was killed cannot
/// say whether the collection came to be by it.
fn require_ours(
    target: &CollectionAddress,
    members: &Members,
    expected: &Expected,
    record: &RestoreRecord,
) -> Result<()> {
    let info = members.first.collection(&target.collection)?;
    let info = crate::server::require(target, info)?;
    let found = info.config(&target.to_string())?;
    let wanted = expected.config();
    let same = found.vectors() == wanted.vectors()
        && found.sparse_vectors() == wanted.sparse_vectors()
        && found.shard_number() == wanted.shard_number();
    let is_recent = (Utc::now() - record.started).abs() <= TimeDelta::hours(24);
    if same && is_recent {
        return Ok(());
    }
    let why = match same {
        true => format!(
            "an earlier run began {} at {}, which is long ago",
            target.collection, record.started
        ),
        false => format!(
            "{} has other vectors or shards than the snapshot",
            target.collection
        ),
    };
    Err(Error::new(
        Kind::Refused,
        format!("going on with {target}"),
        format!("{why}, so it may be somebody else's"),
    )
    .next("choose another name; or look at it, remove it, and run this again"))
}

/// Every member may get a shard, so all must be reachable.
fn require_addresses(
    target: &CollectionAddress,
    members: &Members,
    ids: &[u64],
    asked: Option<u64>,
) -> Result<()> {
    let missing: Vec<String> = ids
        .iter()
        .filter(|id| Some(**id) != asked && !members.others.contains_key(id))
        .map(|id| format!("--peer {id}=http://HOST:6333"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Refused,
        format!("restoring to {target}"),
        format!(
            "it is a cluster of {} members, and shards are sent to those that hold them",
            ids.len()
        ),
    )
    .next(format!("say where they answer REST: {}", missing.join(" "))))
}

fn check_version(
    target: &CollectionAddress,
    server: &ServerInfo,
    expected: &Expected,
    options: &Options,
    notes: &mut Vec<String>,
) -> Result<()> {
    let refuse = |why: String, next: &str| {
        Err(Error::new(Kind::Refused, format!("restoring to {target}"), why).next(next.to_owned()))
    };
    let show = |(major, minor, patch): ServerVersion| format!("{major}.{minor}.{patch}");
    let Some(version) = server.numbers() else {
        notes.push(format!(
            "the server's version {} says nothing about what it can read",
            server.version
        ));
        return Ok(());
    };
    if let Some(taken_by) = &expected.taken_by
        && is_far(taken_by, version)
    {
        notes.push(format!(
            "it was taken on Qdrant {taken_by}, more than one minor version from the server's {}; Qdrant \
             itself is only upgraded one minor version at a time, so look at what it answers, too: \
             snapmerge verify {target} --against {} --queries 100",
            server.version,
            expected.source.snapshot.file
        ));
    }
    let servers = &expected.servers;
    if version < servers.from {
        return refuse(
            format!(
                "it needs Qdrant {} or later ({}), the server is {}",
                show(servers.from),
                servers.from_for,
                server.version
            ),
            "upgrade the server, or restore to another; or write its points into a collection there: \
             snapmerge merge FILE --into http://HOST:6333/COLLECTION",
        );
    }
    if let Some(before) = servers.before.filter(|before| version >= *before) {
        return refuse(
            format!(
                "Qdrant {} and later do not read it ({}), and the server is {}",
                show(before),
                servers.before_for,
                server.version
            ),
            &format!(
                "restore it to a Qdrant {}, or make a master of it that this server reads: snapmerge \
                 merge FILE -o MASTER",
                servers.words()
            ),
        );
    }
    let obstacles = expected.source.obstacles_at(version);
    let blocking: Vec<String> = obstacles
        .into_iter()
        .filter(|obstacle| !(obstacle.incomplete && options.allow_incomplete))
        .map(|obstacle| obstacle.why)
        .collect();
    if let Some(first) = blocking.first() {
        let more = match blocking.len() {
            1 => String::new(),
            many => format!(" (and {} more)", many - 1),
        };
        return Err(Error::damaged(
            format!("restoring {} to {target}", expected.source.snapshot.file),
            format!("{first}{more}"),
        )
        .next("`snapmerge inspect` says what is wrong with it and how to get out of it"));
    }
    Ok(())
}

/// Returns true if `taken_by` is more than one minor version from `server`; false if it is no version.
fn is_far(taken_by: &str, server: ServerVersion) -> bool {
    version_numbers(taken_by)
        .is_some_and(|(major, minor, _)| major != server.0 || minor.abs_diff(server.1) > 1)
}

/// Returns the addresses of the other members by peer id, for reports.
pub fn addresses(members: &Members) -> BTreeMap<String, String> {
    members
        .others
        .iter()
        .map(|(peer, connection)| (peer.to_string(), connection.address().to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_minor_versions_are_far() {
        for (taken_by, server, far) in [
            ("1.18.3", (1, 19, 0), false),
            ("1.19.0", (1, 18, 3), false),
            ("1.17.1-dev", (1, 19, 0), true),
            ("1.19.0", (1, 17, 1), true),
            ("0.11.7", (1, 11, 0), true),
            ("unknown", (1, 19, 0), false),
        ] {
            assert_eq!(is_far(taken_by, server), far, "{taken_by}");
        }
    }
}
