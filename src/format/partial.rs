//! Partial snapshots: what a shard's segments consist of, and which of it a server sends again.
//!
//! A server numbers the operations of a shard, and tells of each file of a segment the last one that
//! can have changed it. Given what somebody has, it sends the files that are newer (Qdrant 1.15 and
//! later: lib/segment/src/segment/snapshot.rs, lib/segment/src/data_types/manifest.rs; in no OpenAPI).
//!
//! Invariants: a file is taken from an older snapshot only if both manifests name it with the same
//! version, which is not 0; every file that a new manifest names is either sent or taken so, and no
//! other; a version that went back is an error, since files of two histories do not fit together.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layout::{SEGMENT_STATE, VERSION};

/// The segments of a shard by id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ShardManifest {
    /// The segments.
    pub segments: BTreeMap<String, SegmentManifest>,
}

/// The files of one segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SegmentManifest {
    /// Id of the segment, which is the name of its folder.
    pub segment_id: String,
    /// Number of the last operation that it has taken in.
    pub segment_version: u64,
    /// Number of the last operation that can have changed a file, by its path in the segment's
    /// folder; none where that is the segment's.
    pub file_versions: BTreeMap<String, Option<u64>>,
}

impl SegmentManifest {
    /// Parses what a server sent as `segment_manifest.json` of the segment `id`.
    pub fn parse(id: &str, bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|err| format!("the manifest of segment {id} cannot be read: {err}"))?;
        manifest.validate(id)?;
        Ok(manifest)
    }

    fn validate(&self, id: &str) -> Result<(), String> {
        if self.segment_id != id {
            return Err(format!(
                "the manifest of segment {id} is that of {}",
                self.segment_id
            ));
        }
        for (file, version) in &self.file_versions {
            if version.is_some_and(|version| version > self.segment_version) {
                return Err(format!("{id}/{file} is newer than its segment"));
            }
        }
        Ok(())
    }

    /// Version of a file; none if the segment has no such file.
    fn version(&self, file: &str) -> Option<u64> {
        let version = self.file_versions.get(file)?;
        Some(version.unwrap_or(self.segment_version))
    }

    /// The files that are as they were where the segment was as `older` says.
    pub fn same_as<'a>(&'a self, older: Option<&'a Self>) -> impl Iterator<Item = &'a str> {
        let files = self.file_versions.keys().map(String::as_str);
        files.filter(move |file| {
            let version = self.version(file);
            // Before the first operation, an empty file and one that holds it are both at 0.
            version != Some(0) && older.and_then(|older| older.version(file)) == version
        })
    }

    /// The files that are to be taken from an older snapshot of the segment, which has what `older`
    /// says, where a server sent the files `sent`; or why that does not make the segment whole.
    pub fn kept(
        &self,
        older: Option<&Self>,
        sent: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, String> {
        let id = &self.segment_id;
        if let Some(older) = older.filter(|older| older.segment_version > self.segment_version) {
            return Err(format!(
                "segment {id} is at operation {}, and was at {}: an older state was restored",
                self.segment_version, older.segment_version
            ));
        }
        for always in [SEGMENT_STATE, VERSION] {
            if !sent.contains(always) {
                return Err(format!("segment {id} came without {always}"));
            }
        }
        let is_known = |file: &&String| {
            self.file_versions.contains_key(*file)
                || [SEGMENT_STATE, VERSION].contains(&file.as_str())
        };
        if let Some(other) = sent.iter().find(|file| !is_known(file)) {
            return Err(format!(
                "{id}/{other} came, which its manifest does not name"
            ));
        }
        let same: BTreeSet<&str> = self.same_as(older).collect();
        for file in self.file_versions.keys() {
            let version = self.version(file);
            let before = older.and_then(|older| older.version(file));
            if before > version {
                return Err(format!(
                    "{id}/{file} is at operation {version:?}, and was at {before:?}: an older state \
                     was restored"
                ));
            }
            if !sent.contains(file) && !same.contains(file.as_str()) {
                return Err(format!(
                    "{id}/{file} did not come, and nothing older is as new"
                ));
            }
        }
        let kept = same.into_iter().filter(|file| !sent.contains(*file));
        Ok(kept.map(str::to_owned).collect())
    }
}

impl ShardManifest {
    /// Checks what was stored or sent.
    pub fn validate(&self) -> Result<(), String> {
        self.segments
            .iter()
            .try_for_each(|(id, segment)| segment.validate(id))
    }

    /// Returns true if nothing has a version that is greater than 0, so that nothing could be left
    /// out next time.
    pub fn is_empty(&self) -> bool {
        self.segments.values().all(|one| one.segment_version == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(version: u64, files: &[(&str, Option<u64>)]) -> SegmentManifest {
        SegmentManifest {
            segment_id: "s".into(),
            segment_version: version,
            file_versions: files
                .iter()
                .map(|(file, version)| ((*file).to_owned(), *version))
                .collect(),
        }
    }

    fn sent(files: &[&str]) -> BTreeSet<String> {
        let files = files.iter().chain(&[SEGMENT_STATE, VERSION]);
        files.map(|file| (*file).to_owned()).collect()
    }

    #[test]
    fn files_of_the_same_version_are_kept_and_all_others_have_to_come() {
        let older = manifest(
            10,
            &[("ids", None), ("vectors", Some(4)), ("gone", Some(2))],
        );
        let newer = manifest(
            12,
            &[("ids", None), ("vectors", Some(4)), ("index", Some(12))],
        );
        let kept = newer.kept(Some(&older), &sent(&["ids", "index"])).unwrap();
        assert_eq!(kept.iter().collect::<Vec<_>>(), ["vectors"]);
        // All that came is right, too.
        let all = sent(&["ids", "index", "vectors"]);
        assert!(newer.kept(Some(&older), &all).unwrap().is_empty());
        assert!(newer.kept(None, &all).unwrap().is_empty());

        let refused = |older: Option<&SegmentManifest>, files: &[&str], why: &str| {
            let err = newer.kept(older, &sent(files)).unwrap_err();
            assert!(err.contains(why), "{err}");
        };
        refused(Some(&older), &["index"], "ids did not come");
        refused(Some(&older), &["ids"], "index did not come");
        refused(None, &["ids", "index"], "vectors did not come");
        refused(Some(&older), &["ids", "index", "x"], "does not name");
        refused(
            Some(&manifest(13, &[])),
            &["ids", "index", "vectors"],
            "an older state",
        );
        refused(
            Some(&manifest(12, &[("vectors", Some(5))])),
            &["ids", "index", "vectors"],
            "an older state",
        );
        let bare: BTreeSet<String> = ["ids", "index", "vectors"].map(str::to_owned).into();
        assert!(
            newer
                .kept(Some(&older), &bare)
                .unwrap_err()
                .contains(SEGMENT_STATE)
        );
    }

    #[test]
    fn what_is_at_operation_0_is_never_kept() {
        let older = manifest(0, &[("vectors", Some(0)), ("ids", None)]);
        let err = older.kept(Some(&older), &sent(&["vectors"])).unwrap_err();
        assert!(err.contains("ids did not come"), "{err}");
        assert!(
            ShardManifest {
                segments: [("s".into(), older)].into()
            }
            .is_empty()
        );
    }

    #[test]
    fn a_manifest_is_held_to_what_it_says() {
        let text = r#"{"segment_id":"s","segment_version":7,"file_versions":{"a":7,"b":null}}"#;
        let read = SegmentManifest::parse("s", text.as_bytes()).unwrap();
        assert_eq!(read, manifest(7, &[("a", Some(7)), ("b", None)]));
        assert_eq!(
            serde_json::to_string(&read).unwrap(),
            text,
            "as the server takes it again"
        );
        assert!(SegmentManifest::parse("t", text.as_bytes()).is_err());
        let newer = text.replace("\"a\":7", "\"a\":8");
        assert!(SegmentManifest::parse("s", newer.as_bytes()).is_err());
        assert!(SegmentManifest::parse("s", b"{}").is_err());
    }
}
