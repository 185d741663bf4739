//! Names and aliases of a set, checked against the server before anything moves.
//!
//! Invariants: it changes nothing; everything that is in the way is told at once; no two snapshots become
//! one collection.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use regex::Regex;
use sha2::{Digest as _, Sha256};

use super::pieces::{Piece, Pieces};
use super::{ManyAlias, RestoreManyRequest};
use crate::base::error::{Error, Kind, Result};
use crate::base::text::serde_as_text;
use crate::capture::Members;
use crate::server::check_name;

/// A rule by which collections get new names: `album_(.*)=old_$1`.
#[derive(Debug, Clone)]
pub struct Rename {
    pattern: String,
    regex: Regex,
    to: String,
}

impl Rename {
    /// The new name of `name`, if the rule fits all of it.
    fn apply(&self, name: &str) -> Option<String> {
        let found = self.regex.captures(name)?;
        let mut new = String::new();
        found.expand(&self.to, &mut new);
        Some(new)
    }
}

impl FromStr for Rename {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, to) = text
            .rsplit_once('=')
            .ok_or("there is no '=': give it as PATTERN=NAME, as 'album_(.*)=old_$1'")?;
        let regex = Regex::new(&format!("^(?:{pattern})$"))
            .map_err(|err| format!("'{pattern}' is no regular expression: {err}"))?;
        Ok(Self {
            pattern: pattern.to_owned(),
            regex,
            to: to.to_owned(),
        })
    }
}

impl fmt::Display for Rename {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern, self.to)
    }
}

serde_as_text!(
    Rename,
    "Rename",
    "PATTERN=NAME, a regular expression and what becomes of it"
);

/// A set that can be restored.
pub(super) struct Plan<'a> {
    /// The snapshots, each with the name that its collection gets.
    pub targets: Vec<(&'a Piece, String)>,
    /// Aliases to be set.
    pub aliases: Vec<ManyAlias>,
}

/// Name of the collection that `piece` becomes.
fn name_of(piece: &Piece, rename: &[Rename]) -> String {
    let renamed = rename.iter().find_map(|rule| rule.apply(&piece.name));
    renamed.unwrap_or_else(|| piece.name.clone())
}

/// Digest of what becomes of what, by which a run that was interrupted is known again.
pub(super) fn digest(pieces: &Pieces, rename: &[Rename]) -> Result<String> {
    let named = pieces.all.iter();
    let named: Vec<(&str, u64, String)> = named
        .map(|piece| (piece.source.as_str(), piece.bytes, name_of(piece, rename)))
        .collect();
    let json = serde_json::to_vec(&named)
        .map_err(|err| Error::failed("naming what is to be restored", err))?;
    let digest = hex::encode(Sha256::digest(json));
    Ok(digest.get(..32).unwrap_or(&digest).to_owned())
}

/// The plan of `request`; what is in the way of it is an error.
pub(super) fn plan<'a>(
    request: &RestoreManyRequest,
    pieces: &'a Pieces,
    members: &Members,
    is_resumed: bool,
) -> Result<Plan<'a>> {
    let there = members.first.collections()?;
    let aliases = members.first.aliases()?;
    let may_exist = is_resumed || request.options.overwrite;
    let mut in_the_way = Vec::new();
    let mut by_name: BTreeMap<String, &Piece> = BTreeMap::new();
    for piece in &pieces.all {
        let name = name_of(piece, &request.rename);
        if let Err(why) = check_name(&name) {
            in_the_way.push(format!("{}: {why}", piece.source));
        }
        if let Some(behind) = aliases.get(&name) {
            in_the_way.push(format!("{name} is an alias of {behind} there"));
        } else if there.contains(&name) && !may_exist {
            in_the_way.push(format!("collection {name} exists already"));
        } else if there.contains(&name)
            && !is_resumed
            && let Some((alias, _)) = aliases.iter().find(|(_, behind)| **behind == name)
        {
            in_the_way.push(format!(
                "alias {alias} points to {name}, and would be answered from a half restored collection"
            ));
        }
        if let Some(other) = by_name.insert(name.clone(), piece) {
            let (one, two) = (&other.source, &piece.source);
            in_the_way.push(format!("{one} and {two} would both become {name}"));
        }
    }
    let mut pointing: BTreeMap<&str, ManyAlias> = BTreeMap::new();
    let pieces = by_name.iter().filter(|_| request.aliases);
    for (name, alias, source) in pieces.flat_map(|(name, piece)| {
        piece
            .aliases
            .iter()
            .map(move |alias| (name, alias, &piece.source))
    }) {
        let before = aliases.get(alias).cloned();
        if there.contains(alias) || by_name.contains_key(alias) {
            in_the_way.push(format!(
                "{alias}, an alias of {source}, is the name of a collection"
            ));
        } else if let Some(before) = &before
            && before != name
            && !request.options.overwrite
        {
            in_the_way.push(format!("alias {alias} points to {before} there"));
        }
        let one = ManyAlias {
            alias: alias.clone(),
            collection: name.clone(),
            before,
        };
        if pointing.insert(alias, one).is_some() {
            in_the_way.push(format!(
                "alias {alias} pointed to several of these collections"
            ));
        }
    }
    let pointing = pointing.into_values().collect();
    if !in_the_way.is_empty() {
        return Err(Error::new(
            Kind::Refused,
            format!("restoring to {}", request.to),
            in_the_way.join("; "),
        )
        .next("choose other names with --rename 'PATTERN=NAME', or give --overwrite"));
    }
    let targets = by_name.into_iter().map(|(name, piece)| (piece, name));
    Ok(Plan {
        targets: targets.collect(),
        aliases: pointing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_fits_the_whole_name_or_not_at_all() {
        let rule: Rename = "album_(.*)=old_$1".parse().unwrap();
        assert_eq!(rule.apply("album_2017").as_deref(), Some("old_2017"));
        assert_eq!(rule.apply("my_album_2017"), None);
        assert_eq!(rule.to_string(), "album_(.*)=old_$1");
        let both: Rename = "a|b=${0}_x".parse().unwrap();
        assert_eq!(both.apply("b").as_deref(), Some("b_x"));
        assert_eq!(both.apply("ab"), None);
        assert!("album".parse::<Rename>().is_err());
        assert!("(=x".parse::<Rename>().is_err());
    }
}
