//! Sources prepared before their turn: change tokens asked for and small collections streamed, a few at once.
//!
//! The proof of a capture is a look at the server's telemetry before and one after it, which the sources of one
//! server share (`capture::stream_ahead`).
//!
//! Invariants: nothing is prepared that an earlier run of this night has done, or that is as it was.

use std::collections::BTreeMap;

use super::run::Run;
use super::target::{ArchivedSource, Prepared, Target};
use crate::base::error::Result;
use crate::base::own;
use crate::base::parallel::in_parallel;
use crate::capture::{
    Members, TOGETHER_MAX, captured_earlier, change_token, clear_leftovers, stream_ahead,
};

/// Change tokens that are asked for at the same time.
const AT_ONCE: usize = 4;

impl Run<'_> {
    /// State of `target`, which is prepared with those behind it if that was not done yet.
    pub(super) fn prepared(&mut self, target: &Target) -> Result<Prepared> {
        let key = target.key();
        if let Some(prepared) = self.ahead.prepared.remove(&key) {
            return prepared;
        }
        let next = self.next_of(target)?;
        let prepared = self.prepare(&next)?;
        self.ahead.prepared.extend(prepared);
        match self.ahead.prepared.remove(&key) {
            Some(prepared) => prepared,
            None => Ok(Prepared {
                before: change_token(self.members(&target.server)?, &target.collection)?,
                ahead: Ok(None),
            }),
        }
    }

    /// `target`, and those behind it on the same server that are to be captured.
    fn next_of(&self, target: &Target) -> Result<Vec<Target>> {
        let mut next = vec![target.clone()];
        let all = self.ahead.targets.iter();
        for other in all.skip_while(|other| *other != target).skip(1) {
            if next.len() == TOGETHER_MAX {
                break;
            }
            let (step, inputs) = self.step_of(other)?;
            let is_done = self
                .journal
                .done::<ArchivedSource>(&step, &inputs)
                .is_some();
            let is_prepared = self.ahead.prepared.contains_key(&other.key());
            if other.server == target.server && !is_done && !is_prepared {
                next.push(other.clone());
            }
        }
        Ok(next)
    }

    /// Prepares `targets`, which are of one server; those behind that were not begun are left out.
    fn prepare(&self, targets: &[Target]) -> Result<BTreeMap<String, Result<Prepared>>> {
        let Some(first) = targets.first() else {
            return Ok(BTreeMap::new());
        };
        let members: &Members = self.members(&first.server)?;
        let folder = self.incoming(&first.server);
        own::folder(&folder)?;
        let token = |target: &Target| Ok(change_token(members, &target.collection));
        let tokens = in_parallel(targets, AT_ONCE, token)?;

        let mut all = BTreeMap::new();
        let mut streamed = Vec::new();
        for (target, before) in targets.iter().zip(tokens) {
            let is_streamed = match &before {
                Ok(before) => {
                    let known = self.state_file.state.sources.get(&target.key());
                    let known = known.and_then(|seen| seen.sign.as_ref());
                    let is_unchanged = known.is_some() && known == before.as_ref().ok();
                    !is_unchanged && captured_earlier(&folder, &target.collection)?.is_none()
                }
                Err(_) => false,
            };
            if is_streamed {
                streamed.push(target);
            }
            let ahead = Ok(None);
            let prepared = before.map(|before| Prepared { before, ahead });
            all.insert(target.key(), prepared);
        }
        let collections: Vec<String> = streamed.iter().map(|one| one.collection.clone()).collect();
        if !collections.is_empty() {
            for left in clear_leftovers(members, &folder, &collections)? {
                tracing::warn!(left, "left by an earlier run");
            }
        }
        let captures = streamed.iter();
        let captures = captures.map(|target| self.capture_options(target, &folder));
        let captures: Vec<_> = captures.collect::<Result<_>>()?;
        let mut ahead = stream_ahead(&captures)?.into_iter();
        for target in streamed {
            match (ahead.next(), all.get_mut(&target.key())) {
                (Some(ahead), Some(Ok(prepared))) => prepared.ahead = ahead,
                // Its turn is in another set.
                _ => drop(all.remove(&target.key())),
            }
        }
        Ok(all)
    }
}
