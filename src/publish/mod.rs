//! Moving an alias to a new master, and back.
//!
//! Invariants: it moves in one call, and only from where it was looked up; what it pointed to before
//! is remembered before it moves; a master is removed only if this machine published it itself, it
//! is older than those to be kept, and nothing points to it.

mod history;
mod request;

pub use self::history::{History, Master};
pub use self::request::{AliasReport, PublishRequest, RollbackRequest};

use chrono::Utc;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::history::{forget_pending, outdated, remember};
use crate::base::error::{Error, Kind, Result};
use crate::format::schema::show_index;
use crate::server::{About, CollectionInfo, Connection, Selection, StateFolder};

/// Refusals that are overridden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Allow {
    /// A new master that is not green.
    NotGreen,
    /// A new master without points.
    Empty,
    /// A new master without a payload index that the old one has.
    MissingIndexes,
    /// An alias that points to something else than what is remembered.
    Moved,
}

/// A master to be published.
pub struct PublishOptions<'a> {
    /// The collection.
    pub collection: &'a str,
    /// The alias.
    pub alias: &'a str,
    /// Masters of the alias to keep; none for all.
    pub keep: Option<u32>,
    /// Largest allowed loss of points compared with the old one, in percent.
    pub max_shrink: f64,
    /// Conditions that are allowed although they are usually refused.
    pub allow: &'a [Allow],
    /// True if nothing is to be changed.
    pub dry_run: bool,
}

/// An alias to be pointed back.
pub struct RollbackOptions<'a> {
    /// The alias.
    pub alias: &'a str,
    /// Conditions that are allowed although they are usually refused.
    pub allow: &'a [Allow],
    /// True if nothing is to be changed.
    pub dry_run: bool,
}

/// A move of an alias, done or planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The alias.
    pub alias: String,
    /// Collection that it pointed to; none if the alias is new.
    pub from: Option<String>,
    /// Collection that it points to afterwards.
    pub to: String,
    /// True if the alias had to be moved at all.
    pub moved: bool,
    /// Points of the new one.
    pub points: u64,
    /// Points of the old one.
    pub points_before: Option<u64>,
    /// Collections that were removed.
    pub removed: Vec<String>,
    /// Notes for the reader.
    pub notes: Vec<String>,
    /// True if nothing was changed.
    pub dry_run: bool,
    /// The file that remembers it.
    pub state: String,
}

/// Publishes a master under its alias.
pub fn publish(
    connection: &Connection,
    request: &PublishOptions<'_>,
    state: &StateFolder,
) -> Result<Change> {
    let server = connection.address();
    let alias = request.alias;
    let doing = format!("publishing {} as {alias} on {server}", request.collection);
    let refuse = |why: String, next: &str| {
        Err(Error::new(Kind::Refused, doing.as_str(), why).next(next.to_owned()))
    };
    let names = connection.collections()?;
    if names.iter().any(|name| name == alias) {
        return refuse(
            format!("{alias} is the name of a collection, and an alias cannot have it"),
            &format!(
                "choose another alias; or move that collection out of the way: capture {alias}, \
                 restore it as {alias}_old, remove {alias}, and publish then"
            ),
        );
    }
    let before = connection.aliases()?.get(alias).cloned();
    if !names.iter().any(|name| name == request.collection) {
        return refuse(
            format!("there is no collection {}", request.collection),
            "restore the master first: snapmerge restore MASTER --to SERVER/NAME",
        );
    }
    let about = About::Alias(alias);
    let mut history = state.history(server, alias)?;
    let info = fit(connection, request.collection, &doing, request.allow)?;
    let points = connection.count(Selection::all(request.collection))?;
    if points == 0 && !request.allow.contains(&Allow::Empty) {
        return refuse(
            format!("{} has no points", request.collection),
            "look at what it was merged from, or give --allow empty",
        );
    }
    let mut notes = Vec::new();
    let mut points_before = None;
    if let Some(old) = before.as_deref().filter(|old| *old != request.collection) {
        points_before = Some(connection.count(Selection::all(old))?);
        if let Some(why) = shrunk(points, points_before, request, old) {
            return refuse(
                why,
                "look at what is missing, or give --max-shrink PERCENT%",
            );
        }
        if let Some(old_info) = connection.collection(old)? {
            let missing = missing_indexes(&info, &old_info, server.to_string().as_str())?;
            if !missing.is_empty() && !request.allow.contains(&Allow::MissingIndexes) {
                return refuse(
                    format!(
                        "it lacks payload indexes that {old} has: {}",
                        missing.join(", ")
                    ),
                    "create them, or give --allow missing-indexes",
                );
            }
            notes.extend(
                missing
                    .iter()
                    .map(|index| format!("it lacks the index {index}")),
            );
        }
    }
    let moved = before.as_deref() != Some(request.collection);
    let mut change = Change {
        alias: alias.to_owned(),
        from: before.clone(),
        to: request.collection.to_owned(),
        moved,
        points,
        points_before,
        removed: Vec::new(),
        notes,
        dry_run: request.dry_run,
        state: state.file(server, about).display().to_string(),
    };
    let now = Utc::now();
    if moved {
        remember(&mut history, before.as_deref(), request.collection, now);
    }
    let old = match request.keep {
        Some(keep) => outdated(&history, keep),
        None => Vec::new(),
    };
    if request.dry_run {
        change.removed = removable(connection, &old, &names, alias, request.collection)?;
        return Ok(change);
    }
    if moved {
        state.write(server, about, &history)?;
        move_alias(
            connection,
            alias,
            before.as_deref(),
            request.collection,
            &doing,
        )?;
        forget_pending(&mut history, Some(request.collection));
        state.write(server, about, &history)?;
    }
    for name in removable(connection, &old, &names, alias, request.collection)? {
        connection.delete_collection(&name)?;
        change.removed.push(name);
    }
    if !old.is_empty() {
        let there = connection.collections()?;
        history
            .masters
            .retain(|one| there.contains(&one.collection));
        state.write(server, about, &history)?;
    }
    Ok(change)
}

/// Points an alias back to what it pointed to before.
pub fn rollback(
    connection: &Connection,
    request: &RollbackOptions<'_>,
    state: &StateFolder,
) -> Result<Change> {
    let server = connection.address();
    let alias = request.alias;
    let doing = format!("rolling back {alias} on {server}");
    let refuse =
        |why: String, next: String| Err(Error::new(Kind::Refused, doing.as_str(), why).next(next));
    let about = About::Alias(alias);
    let file = state.file(server, about);
    let mut history = state.history(server, alias)?;
    let before = connection.aliases()?.get(alias).cloned();
    let Some(now) = before else {
        return refuse(
            format!("there is no alias {alias}"),
            format!("`curl {server}/aliases` lists what is there"),
        );
    };
    forget_pending(&mut history, Some(&now));
    match history.masters.last() {
        Some(last) if last.collection == now => {}
        Some(last) if !request.allow.contains(&Allow::Moved) => {
            return refuse(
                format!(
                    "{alias} points to {now}, but the state recorded last is {}: somebody else moved it",
                    last.collection
                ),
                format!(
                    "publish what it is to point to, or give --allow moved to go back to {}",
                    last.collection
                ),
            );
        }
        Some(_) => {}
        None => {
            return refuse(
                format!("nothing is recorded of {alias} in {}", file.display()),
                "publish the collection that it is to point to".into(),
            );
        }
    }
    let mut pending = history.clone();
    if history
        .masters
        .last()
        .is_some_and(|last| last.collection == now)
    {
        history.masters.pop();
    }
    if let Some(last) = pending.masters.last_mut() {
        last.pending = last.collection == now;
    }
    let there = connection.collections()?;
    let Some(to) = history.masters.last().map(|one| one.collection.clone()) else {
        return refuse(
            format!("{now} is the first that {alias} was pointed to; there is none before it"),
            "publish another collection".into(),
        );
    };
    if !there.contains(&to) {
        return refuse(
            format!("{to}, which {alias} pointed to before, is not there any more"),
            format!("restore it from an archive as {to}, and run it again"),
        );
    }
    fit(connection, &to, &doing, request.allow)?;
    let change = Change {
        alias: alias.to_owned(),
        from: Some(now.clone()),
        points: connection.count(Selection::all(&to))?,
        points_before: Some(connection.count(Selection::all(&now))?),
        to,
        moved: true,
        removed: Vec::new(),
        notes: vec![format!("{now} stays; publish it again to go forward")],
        dry_run: request.dry_run,
        state: file.display().to_string(),
    };
    if request.dry_run {
        return Ok(change);
    }
    // Killed in between, the alias itself says how far it came.
    state.write(server, about, &pending)?;
    move_alias(connection, alias, Some(&now), &change.to, &doing)?;
    state.write(server, about, &history)?;
    Ok(change)
}

/// Reads a collection that an alias is to point to; refuses one that is not green, unless that is allowed.
fn fit(
    connection: &Connection,
    collection: &str,
    doing: &str,
    allow: &[Allow],
) -> Result<CollectionInfo> {
    let address = connection.address().collection(collection);
    let info = crate::server::require(&address, connection.collection(collection)?)?;
    let optimizing = info.queued() > 0;
    if (!info.is_green() || optimizing) && !allow.contains(&Allow::NotGreen) {
        let why = match optimizing {
            true => format!("{collection} still has {} updates to apply", info.queued()),
            false => format!("{collection} is {}, not green", info.status),
        };
        return Err(Error::new(Kind::Refused, doing, why)
            .next("wait until it is green, or give --allow not-green"));
    }
    Ok(info)
}

/// Why the new one is too small; none if it is not.
fn shrunk(
    points: u64,
    before: Option<u64>,
    request: &PublishOptions<'_>,
    old: &str,
) -> Option<String> {
    let before = before.filter(|before| *before > points)?;
    #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
    let percent = (before - points) as f64 * 100.0 / before as f64;
    (percent > request.max_shrink).then(|| {
        format!(
            "it has {points} points, {percent:.1} % fewer than the {before} of {old}, and {} % is the most",
            request.max_shrink
        )
    })
}

fn missing_indexes(
    new: &CollectionInfo,
    old: &CollectionInfo,
    source: &str,
) -> Result<Vec<String>> {
    let (new, old) = (new.payload_schema(source)?, old.payload_schema(source)?);
    let lacks = |field: &&String| !new.fields().contains_key(*field);
    Ok(old
        .fields()
        .keys()
        .filter(lacks)
        .map(|field| {
            format!(
                "{field} ({})",
                old.fields().get(field).map_or(String::new(), show_index)
            )
        })
        .collect())
}

/// Returns those of `old` that exist and that no alias but `alias` points to, without `to`.
fn removable(
    connection: &Connection,
    old: &[String],
    names: &[String],
    alias: &str,
    to: &str,
) -> Result<Vec<String>> {
    if old.is_empty() {
        return Ok(Vec::new());
    }
    let aliases = connection.aliases()?;
    // The alias that moves points to the new one, whatever a dry run still finds.
    let pointed = |name: &String| {
        let mut others = aliases.iter().filter(|(other, _)| *other != alias);
        others.any(|(_, target)| target == name)
    };
    let free = |name: &&String| names.contains(name) && name.as_str() != to && !pointed(name);
    Ok(old.iter().filter(free).cloned().collect())
}

/// Moves the alias, if it still points where it was looked up, and reads back.
fn move_alias(
    connection: &Connection,
    alias: &str,
    from: Option<&str>,
    to: &str,
    doing: &str,
) -> Result<()> {
    let show = |target: Option<&str>| target.map_or("nothing".to_owned(), str::to_owned);
    let now = connection.aliases()?.get(alias).cloned();
    if now.as_deref() != from {
        let why = format!(
            "{alias} pointed to {} a moment ago and points to {} now: somebody else moved it",
            show(from),
            show(now.as_deref())
        );
        return Err(Error::new(Kind::Refused, doing, why).next("see who did, and run it again"));
    }
    connection.point_alias(alias, to)?;
    let there = connection.aliases()?.get(alias).cloned();
    if there.as_deref() == Some(to) {
        return Ok(());
    }
    let why = format!(
        "{alias} was moved to {to}, but points to {}",
        show(there.as_deref())
    );
    Err(Error::new(Kind::Differs, doing, why).next("see who moved it, and run it again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_may_shrink_only_so_far() {
        let request = |max_shrink| PublishOptions {
            collection: "new",
            alias: "a",
            keep: None,
            max_shrink,
            allow: &[],
            dry_run: false,
        };
        for (points, before, max, refused) in [
            (100, Some(100), 0.0, false),
            (99, Some(100), 0.0, true),
            (95, Some(100), 5.0, false),
            (94, Some(100), 5.0, true),
            (200, Some(100), 0.0, false),
            (0, None, 0.0, false),
        ] {
            let why = shrunk(points, before, &request(max), "old");
            assert_eq!(why.is_some(), refused, "{points} of {before:?} with {max}");
        }
    }
}
