//! Content of the records: snapshots stored, forgotten, stored again, restored and proven.
//!
//! Invariants: what is written down is never written down otherwise; what is not known is absent.

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::archive::encryption::Encryption;
use crate::archive::holder::Holder;
use crate::archive::name::Name;

/// One record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The archive that it belongs to.
    pub archive: Uuid,
    /// The program that wrote it.
    pub by: String,
    /// The SHA-256 of the record before it; none for the first.
    pub prev: Option<Name>,
    /// Sequence number of the record, from 1.
    pub seq: u64,
    /// When it was written.
    pub time: DateTime<Utc>,
    /// Event that the record describes.
    #[serde(flatten)]
    pub event: Event,
}

/// Event that a record describes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The archive was made.
    Begin {
        /// The format of all that follows.
        format: u32,
        /// Encryption of the records that follow; none if it is not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        encryption: Option<Encryption>,
    },
    /// One of the following, encrypted for the archive's key, as it is written in an encrypted archive.
    Encrypted {
        /// The event: a file of age, in base64.
        body: String,
    },
    /// A snapshot was stored.
    Add {
        /// It.
        entry: Box<Entry>,
    },
    /// A damaged entry was stored again, with the same bytes.
    Repair {
        /// It, by id.
        id: String,
        /// Name of the new recipe.
        recipe: Name,
        /// Bytes of that as it lies there.
        recipe_bytes: u64,
        /// Objects that are new with it.
        new_objects: u64,
        /// Bytes of these as they lie there.
        new_bytes: u64,
    },
    /// Entries were given up.
    Forget {
        /// Forgotten entries.
        forgot: Vec<Forgotten>,
    },
    /// A lock was broken, and whoever held it can write nothing any more.
    Unlock {
        /// Holder of the broken lock.
        broken: Holder,
    },
    /// Entries were restored and proven.
    Drill {
        /// Proven entries.
        proven: Vec<Proven>,
    },
}

/// A snapshot in the archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Id of the entry: `NAME@TIME`.
    pub id: String,
    /// The name of what it is a snapshot of.
    pub name: String,
    /// When it was taken.
    pub time: DateTime<Utc>,
    /// The name of the file that was stored.
    pub file: String,
    /// The snapshot's size in bytes.
    pub bytes: u64,
    /// The snapshot's SHA-256.
    pub sha256: String,
    /// Origins of the SHA-256 that the snapshot was verified against; empty if there was none.
    pub verified_by: Vec<String>,
    /// Words to find and keep it by.
    pub tags: Vec<String>,
    /// Name of the recipe that rebuilds the snapshot from objects.
    pub recipe: Name,
    /// Bytes of that recipe as it lies there.
    pub recipe_bytes: u64,
    /// Objects that were new with it.
    pub new_objects: u64,
    /// Bytes of these as they lie there.
    pub new_bytes: u64,
    /// Manifest that was written beside the snapshot when it was captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Value>,
    /// Provenance of a master, if it lay beside the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Value>,
}

impl Entry {
    /// Returns the part of the id after the name: the time, and a number if another entry has the same.
    pub fn id_time(&self) -> &str {
        self.id.get(self.name.len() + 1..).unwrap_or_default()
    }

    /// Returns true if the entry's time is in the future at `now`, so that some clock was wrong.
    pub fn is_in_future(&self, now: DateTime<Utc>) -> bool {
        is_in_future(self.time, now)
    }
}

/// Returns true if `time` is more than a day later than `now`; less is tolerated, since a time that was typed
/// may be of another zone.
pub fn is_in_future(time: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    time - now > TimeDelta::days(1)
}

/// An entry that was restored, and was what it had to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proven {
    /// It, by id.
    pub id: String,
    /// Number of points.
    pub points: u64,
    /// Their digest.
    pub digest: String,
    /// The server that it was restored on; none if it was opened by the engine alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// An entry that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// It.
    pub id: String,
    /// Why.
    pub why: String,
}
