//! State that one run leaves for the next: each source as it was captured, the last master, and the
//! collections that were made on servers.
//!
//! Invariants: the file is whole or absent; a collection stands here before it is made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::capture::{ChangeToken, OwnRestores};

/// Name of the state file.
const FILE: &str = "remembered.json";

/// State that one run leaves for the next.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunState {
    /// The plan whose state_file it is.
    pub plan: String,
    /// The sources, by server and collection.
    pub sources: BTreeMap<String, SourceState>,
    /// The last master that was proven.
    pub master: Option<LastMaster>,
    /// Collections that were made to be published, by server; those that never were are removed.
    pub made: BTreeMap<String, Vec<String>>,
    /// When a night last ended well.
    pub success: Option<DateTime<Utc>>,
    /// Restores of masters that runs of this plan did, by the life of the server's process.
    #[serde(default)]
    pub own_restores: OwnRestores,
}

/// A source as it was captured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceState {
    /// Archive entry of its snapshot.
    pub entry: String,
    /// The entry's SHA-256.
    pub sha256: String,
    /// Change token, if it was the same before and after the capture.
    pub sign: Option<ChangeToken>,
}

/// The last master.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastMaster {
    /// Hash of everything that decides the content: sources, options, name, version of snapmerge.
    pub inputs: String,
    /// Archive entry; none for a master that was written into a live collection.
    pub entry: Option<String>,
    /// SHA-256 of the file, if it is a file.
    pub sha256: Option<String>,
    /// Number of points.
    pub points: u64,
    /// Size of the file in bytes, if it is a file.
    pub bytes: Option<u64>,
    /// Route of the merge.
    pub route: String,
    /// When it was proven.
    pub proven: DateTime<Utc>,
    /// The collection that it was restored to, once it was.
    pub collection: Option<String>,
    /// True once `collection` was published under the alias.
    #[serde(default)]
    pub published: bool,
}

/// The file that holds the state.
pub struct StateFile {
    path: PathBuf,
    /// State as read, with the changes since.
    pub state: RunState,
}

impl StateFile {
    /// Opens the state file in the folder `state` for the plan called `plan`; a missing file gives an empty
    /// state. Refuses the file of another plan.
    pub fn open(state: &Path, plan: &str) -> Result<Self> {
        let path = state.join(FILE);
        let read = durable::read_json::<RunState>(&path).map_err(|err| {
            err.next("see what is in it, and move it away: the next night then captures everything")
        });
        let mut state = read?.unwrap_or_default();
        // One plan would take another's masters for its own that were never published.
        if !state.plan.is_empty() && state.plan != plan {
            return Err(Error::usage(
                format!("reading {}", path.display()),
                format!("it is what the plan {} remembers, not {plan}", state.plan),
            )
            .next("give each plan a state = \"FOLDER\" of its own"));
        }
        plan.clone_into(&mut state.plan);
        Ok(Self { path, state })
    }

    /// Writes it down.
    pub fn write(&self) -> Result<()> {
        durable::write_private_json(&self.path, &self.state)
    }

    /// Remembers that `collection` is about to be made on `server`.
    pub fn will_make(&mut self, server: &str, collection: &str) -> Result<()> {
        let made = self.state.made.entry(server.to_owned()).or_default();
        if made.iter().any(|one| one == collection) {
            return Ok(());
        }
        made.push(collection.to_owned());
        self.write()
    }

    /// Takes a restore of our own out of the count by which others' are seen: there were `before` of
    /// them in the life `process`, and one more after it.
    pub fn own_restore(&mut self, process: &str, before: u64, after: u64) {
        // Two at once: one of them is somebody else's.
        if after == before + 1 {
            *self
                .state
                .own_restores
                .entry(process.to_owned())
                .or_default() += 1;
        }
        let signs = self
            .state
            .sources
            .values_mut()
            .filter_map(|seen| seen.sign.as_mut());
        for sign in signs.filter(|sign| sign.process == process && sign.restores == before) {
            // Two at once: one of them is somebody else's.
            if after == before + 1 {
                sign.restores = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Map, Value};

    use super::*;
    use crate::base::error::Kind;

    fn state_file(folder: &Path) -> StateFile {
        let mut state_file = StateFile::open(folder, "nightly").unwrap();
        let sign = ChangeToken {
            process: "life".into(),
            restores: 3,
            shards: BTreeMap::new(),
            points: 1,
            config: Map::new(),
            payload: Value::Null,
        };
        let seen = SourceState {
            entry: "a@x".into(),
            sha256: "s".into(),
            sign: Some(sign),
        };
        state_file.state.sources.insert("prod/a".into(), seen);
        state_file
    }

    #[test]
    fn only_a_restore_that_is_certainly_ours_is_taken_out_of_the_count() {
        let folder = tempfile::tempdir().unwrap();
        for (process, before, after, counted) in [
            ("life", 3, 4, 4),
            // Somebody else's came in between, before or in another life.
            ("life", 3, 5, 3),
            ("life", 4, 5, 3),
            ("another", 3, 4, 3),
        ] {
            let mut state_file = state_file(folder.path());
            state_file.own_restore(process, before, after);
            let seen = &state_file.state.sources["prod/a"];
            assert_eq!(seen.sign.as_ref().unwrap().restores, counted);
        }
    }

    #[test]
    fn two_plans_do_not_share_what_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let mut state_file = state_file(folder.path());
        state_file.will_make("prod", "m_1").unwrap();
        let again = StateFile::open(folder.path(), "nightly").unwrap();
        assert_eq!(again.state, state_file.state);
        let err = StateFile::open(folder.path(), "weekly").err().unwrap();
        assert_eq!(err.kind(), Kind::Usage);
    }
}
