//! Since which version servers can do what.
//!
//! Invariants: a line names the tag in which the feature first is, and where in Qdrant's source it was
//! looked up; a server whose version cannot be read is asked as if it could.

use serde_json::Value;

use super::answers::ServerVersion;
use crate::format::schema::index_type;

/// Something that only some servers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// A member of a cluster restores the snapshot of one shard.
    ShardsRestored,
    /// Telemetry tells which snapshots are being made and restored.
    SnapshotTelemetry,
    /// Points have multivectors.
    Multivectors,
    /// Payloads that are left on disk are kept as JSON text, not as CBOR in RocksDB.
    PayloadsOnDiskAsText,
    /// The same of all payloads.
    PayloadsAsText,
    /// Payload fields are indexed as dates.
    DatetimeIndexes,
    /// Payload fields are indexed as UUIDs.
    UuidIndexes,
    /// Payload indexes other than those of text have parameters.
    IndexParameters,
    /// Partial snapshots of a shard, with versions of the files of its segments.
    PartialSnapshots,
    /// Names of vectors may not have the characters that names of collections may not have.
    VectorNamesChecked,
}

impl Feature {
    /// The first version that has it.
    pub fn since(self) -> ServerVersion {
        match self {
            // lib/collection/src/collection/snapshots.rs
            Self::ShardsRestored => (1, 14, 0),
            // lib/segment/src/types.rs
            Self::PayloadsOnDiskAsText => (1, 13, 0),
            Self::PayloadsAsText => (1, 16, 0),
            Self::DatetimeIndexes => (1, 8, 0),
            Self::Multivectors => (1, 10, 0),
            Self::UuidIndexes | Self::IndexParameters => (1, 11, 0),
            // src/actix/api/snapshot_api.rs has them from 1.15 on, and 1.14 another form; but what restores
            // go on, without which they mean nothing, is told from here on (lib/collection/src/telemetry.rs).
            Self::PartialSnapshots | Self::SnapshotTelemetry => (1, 16, 0),
            // lib/common/common/src/validation.rs
            Self::VectorNamesChecked => (1, 18, 0),
        }
    }

    /// Returns true if a server of this version has it; one of unknown version is taken to have it.
    pub fn is_in(self, version: Option<ServerVersion>) -> bool {
        version.is_none_or(|version| version >= self.since())
    }
}

/// Returns the payload index that is nearest to `index` on a server of `version`; none if it has no such
/// type. Servers before 1.11 refuse parameters of other indexes than those of text.
pub fn index_for(version: Option<ServerVersion>, index: &Value) -> Option<Value> {
    let kind = index_type(index)?;
    let is_known = match kind {
        "datetime" => Feature::DatetimeIndexes.is_in(version),
        "uuid" => Feature::UuidIndexes.is_in(version),
        _ => true,
    };
    let takes_parameters = kind == "text" || Feature::IndexParameters.is_in(version);
    is_known.then(|| match takes_parameters {
        true => index.clone(),
        false => Value::from(kind),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn old_servers_get_the_indexes_that_they_know() {
        let tenant = json!({"type": "keyword", "is_tenant": true});
        let text = json!({"type": "text", "tokenizer": "word"});
        for (version, index, got) in [
            ((1, 7, 4), json!("integer"), Some(json!("integer"))),
            ((1, 7, 4), json!("datetime"), None),
            ((1, 8, 0), json!("datetime"), Some(json!("datetime"))),
            ((1, 10, 1), json!({"type": "uuid"}), None),
            ((1, 11, 0), json!("uuid"), Some(json!("uuid"))),
            ((1, 10, 1), tenant.clone(), Some(json!("keyword"))),
            ((1, 11, 0), tenant.clone(), Some(tenant)),
            ((1, 7, 4), text.clone(), Some(text)),
        ] {
            assert_eq!(index_for(Some(version), &index), got, "{version:?} {index}");
        }
        assert_eq!(index_for(None, &json!("uuid")), Some(json!("uuid")));
    }
}
