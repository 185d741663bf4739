//! The history of an alias as a stack: publish pushes, rollback pops.
//!
//! Invariants: what is only about to be is marked, so that a run that broke off is told from
//! somebody else's move; what snapmerge did not publish itself is never old enough to be removed.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::base::error::Result;
use crate::server::{About, Address, StateFolder};

/// Collections that an alias pointed to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The collections, the newest last.
    pub masters: Vec<Master>,
}

/// A collection that an alias was pointed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Master {
    /// The collection.
    pub collection: String,
    /// Time at which this was recorded.
    pub at: DateTime<Utc>,
    /// True if snapmerge published it, and may remove it.
    pub ours: bool,
    /// True while a move of the alias to it, or away from it, is not confirmed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pending: bool,
}

impl StateFolder {
    /// Reads the history of an alias; empty if there is none.
    pub fn history(&self, server: &Address, alias: &str) -> Result<History> {
        Ok(self.read(server, About::Alias(alias))?.unwrap_or_default())
    }
}

impl History {
    /// Returns true if an alias that points to `now` is as snapmerge left it, and nobody else has moved it;
    /// also true of an alias without a history.
    pub fn is_as_left(&self, now: Option<&str>) -> bool {
        let mut last = self.masters.iter().rev().map(|one| one.collection.as_str());
        match self.masters.last() {
            None => true,
            // Killed while it moved, it may have been moved or not.
            Some(one) if one.pending => last.next() == now || last.next() == now,
            Some(_) => last.next() == now,
        }
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Forgets what a publish had written down that never came to its end.
pub(super) fn forget_pending(history: &mut History, now: Option<&str>) {
    if let Some(last) = history.masters.last_mut().filter(|last| last.pending) {
        if Some(last.collection.as_str()) == now {
            last.pending = false;
        } else {
            history.masters.pop();
        }
    }
}

/// Adds to what is remembered that the alias is about to move from `from` to `to`.
pub(super) fn remember(history: &mut History, from: Option<&str>, to: &str, at: DateTime<Utc>) {
    forget_pending(history, from);
    let last = history.masters.last().map(|last| last.collection.as_str());
    if let Some(from) = from.filter(|from| Some(*from) != last) {
        let mut earlier = history.masters.iter().filter(|one| one.collection == from);
        let ours = earlier.next().is_some_and(|one| one.ours);
        history.masters.push(Master {
            collection: from.to_owned(),
            at,
            ours,
            pending: false,
        });
    }
    history.masters.push(Master {
        collection: to.to_owned(),
        at,
        ours: true,
        pending: true,
    });
}

/// Masters that are older than the `keep` last ones, and ours.
pub(super) fn outdated(history: &History, keep: u32) -> Vec<String> {
    let mut seen: Vec<&str> = Vec::new();
    for master in history.masters.iter().rev() {
        if !seen.contains(&master.collection.as_str()) {
            seen.push(&master.collection);
        }
    }
    let keep = usize::try_from(keep).unwrap_or(usize::MAX).max(1);
    let ours = |name: &&&str| {
        let of = history
            .masters
            .iter()
            .filter(|one| one.collection == **name);
        of.clone().count() > 0 && of.clone().all(|one| one.ours)
    };
    let old = seen.iter().skip(keep);
    old.filter(ours).map(|name| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(masters: &[(&str, bool)]) -> History {
        let at = "2026-11-22T00:00:00Z".parse().unwrap();
        let master = |(name, ours): &(&str, bool)| Master {
            collection: (*name).to_owned(),
            at,
            ours: *ours,
            pending: false,
        };
        History {
            masters: masters.iter().map(master).collect(),
        }
    }

    #[test]
    fn what_an_alias_pointed_to_is_a_stack() {
        let at = "2026-11-22T00:00:00Z".parse().unwrap();
        let mut held = History::default();
        let mut publish = |from: &str, to: &str, ended: bool| {
            remember(&mut held, Some(from), to, at);
            if ended {
                forget_pending(&mut held, Some(to));
            }
            let names = held.masters.iter().map(|one| one.collection.clone());
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(publish("old", "a", true), "old a");
        assert_eq!(publish("a", "b", false), "old a b");
        // `b` was written down, but the alias never came to point to it.
        assert_eq!(publish("a", "c", true), "old a c");
        // Somebody else moved it in between: back, and to a collection of theirs.
        assert_eq!(publish("a", "d", true), "old a c a d");
        assert_eq!(publish("theirs", "e", true), "old a c a d theirs e");
        let ours: Vec<bool> = held.masters.iter().map(|one| one.ours).collect();
        assert_eq!(ours, [false, true, true, true, true, false, true]);
        assert!(held.masters.iter().all(|one| !one.pending));
    }

    #[test]
    fn somebody_elses_move_is_told_from_a_broken_off_one() {
        let mut held = history(&[("a", true), ("b", true)]);
        assert!(held.is_as_left(Some("b")));
        assert!(!held.is_as_left(Some("a")));
        assert!(!held.is_as_left(None));
        held.masters[1].pending = true;
        assert!(held.is_as_left(Some("b")));
        assert!(held.is_as_left(Some("a")));
        assert!(!held.is_as_left(Some("c")));
        held.masters.remove(0);
        assert!(held.is_as_left(None));
        assert!(History::default().is_as_left(Some("theirs")));
    }

    #[test]
    fn only_old_ones_of_ours_are_outdated() {
        let held = history(&[
            ("theirs", false),
            ("a", true),
            ("b", true),
            ("c", true),
            ("d", true),
        ]);
        for (keep, old) in [
            (1, vec!["c", "b", "a"]),
            (0, vec!["c", "b", "a"]),
            (2, vec!["b", "a"]),
            (3, vec!["a"]),
            (4, vec![]),
            (9, vec![]),
        ] {
            assert_eq!(outdated(&held, keep), old, "{keep}");
        }
        // One that was published twice counts by its last time.
        let again = history(&[("a", true), ("b", true), ("a", true)]);
        assert_eq!(outdated(&again, 1), ["b"]);
        assert_eq!(
            outdated(
                &history(&[("a", false), ("b", true), ("a", true), ("b", true)]),
                1
            ),
            Vec::<String>::new()
        );
    }
}
