//! A shard as partial snapshots tell it: files of segments with versions, and what of them is newer than
//! somebody has.
//!
//! Keeps true: what is sent follows Qdrant 1.19 (lib/segment/src/segment/snapshot.rs, `updated_files`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Outcome;
use super::craft::{Member, Tar};

/// A shard.
#[derive(Debug, Clone)]
pub struct PartialShard {
    pub segments: BTreeMap<String, PartialSegment>,
    /// Whatever lies beside the segments, in order.
    pub rest: Vec<Member>,
    /// What the next answers lack.
    pub withheld: Vec<String>,
    /// Whether it says that nothing has changed, whatever has.
    pub says_unchanged: bool,
}

/// A segment.
#[derive(Debug, Clone)]
pub struct PartialSegment {
    pub version: u64,
    /// Files by name, with their versions; none is the segment's.
    pub files: BTreeMap<String, (Member, Option<u64>)>,
    /// Files that no manifest names and every answer has.
    pub always: Vec<Member>,
}

/// Under another name.
fn named(member: &Member, path: &str) -> Member {
    let mut named = member.clone();
    named.path = path.to_owned();
    let mut field = [0; 100];
    let short = path.len().min(100);
    field[..short].copy_from_slice(&path.as_bytes()[..short]);
    named.put(0, &field);
    if path.len() > short {
        // The name comes as a member of its own before.
        let long = Member::new(b'L', "././@LongLink", &[path.as_bytes(), b"\0"].concat());
        let members = vec![long];
        named.head = [Tar { members }.open_bytes(), named.head].concat();
    }
    named
}

impl PartialShard {
    /// The shard 0 of a collection's snapshot, whose log has nothing that the segments have not.
    pub fn of(snapshot: &[u8]) -> Outcome<Self> {
        let mut shard = Self {
            segments: BTreeMap::new(),
            rest: Vec::new(),
            withheld: Vec::new(),
            says_unchanged: false,
        };
        for member in Tar::parse(snapshot)?.members {
            let Some(path) = member.path.strip_prefix("0/") else {
                continue;
            };
            let Some(id) = path
                .strip_prefix("segments/")
                .and_then(|name| name.strip_suffix(".tar"))
            else {
                if !path.is_empty() && !path.starts_with("wal") && path != "segments/" {
                    shard.rest.push(named(&member, path));
                }
                continue;
            };
            let mut segment = PartialSegment {
                version: 0,
                files: BTreeMap::new(),
                always: Vec::new(),
            };
            for file in Tar::parse(&member.data)?.members {
                let Some(name) = file.path.strip_prefix("snapshot/files/") else {
                    continue;
                };
                let moved = named(&file, &format!("segments/{id}/files/{name}"));
                match name {
                    "" => {}
                    "segment.json" | "version.info" => {
                        if name == "segment.json" {
                            let state: Value = serde_json::from_slice(&file.data)?;
                            segment.version = state["version"].as_u64().unwrap_or(0);
                        }
                        segment.always.push(moved);
                    }
                    name if name.ends_with('/') => {}
                    name => {
                        let version = name.starts_with("vector_").then_some(segment.version);
                        segment.files.insert(name.to_owned(), (moved, version));
                    }
                }
            }
            // What is told of vectors before `segment.json` came by.
            let version = segment.version;
            for (_, told) in segment
                .files
                .values_mut()
                .filter(|(_, told)| told.is_some())
            {
                *told = Some(version);
            }
            shard.segments.insert(id.to_owned(), segment);
        }
        // A server writes this one last.
        shard
            .rest
            .sort_by_key(|member| member.path == "shard_config.json");
        Ok(shard)
    }

    /// What `GET …/snapshot/partial/manifest` answers.
    pub fn manifest(&self) -> Value {
        let of = |(id, segment): (&String, &PartialSegment)| (id.clone(), segment.manifest(id));
        Value::Object(self.segments.iter().map(of).collect())
    }

    /// What `POST …/snapshot/partial/create` answers to somebody who has `have`; none if nothing changed.
    pub fn newer(&self, have: &Value) -> Option<Vec<u8>> {
        if self.says_unchanged || *have == self.manifest() {
            return None;
        }
        let mut members = Vec::new();
        for (id, segment) in &self.segments {
            let path = format!("segments/{id}/files/segment_manifest.json");
            members.push(Member::file(
                &path,
                segment.manifest(id).to_string().as_bytes(),
            ));
            let older = &have[id];
            for (name, (file, version)) in &segment.files {
                let version = version.unwrap_or(segment.version);
                let told = older["file_versions"].get(name);
                let before = told.and_then(|told| match told.as_u64() {
                    Some(version) => Some(version),
                    None => older["segment_version"].as_u64(),
                });
                let is_newer = before.is_none_or(|before| before < version || version == 0);
                if is_newer && !self.withheld.contains(name) {
                    members.push(file.clone());
                }
            }
            members.extend(segment.always.iter().cloned());
        }
        members.extend(self.rest.iter().cloned());
        Some(Tar { members }.bytes())
    }

    /// Every segment with points is one operation further, as if payloads had been written.
    pub fn write(&mut self) -> Outcome {
        for segment in self.segments.values_mut().filter(|one| one.version > 0) {
            let version = segment.version;
            segment.version += 1;
            for state in &mut segment.always {
                if state.path.ends_with("segment.json") {
                    let told = |version: u64| format!("\"version\":{version}");
                    state.edit(&told(version), &told(version + 1))?;
                }
            }
        }
        Ok(())
    }
}

impl PartialSegment {
    fn manifest(&self, id: &str) -> Value {
        let versions: BTreeMap<&String, Option<u64>> = self
            .files
            .iter()
            .map(|(name, (_, version))| (name, *version))
            .collect();
        json!({"segment_id": id, "segment_version": self.version, "file_versions": versions})
    }
}
