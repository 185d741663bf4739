//! A collection snapshot taken apart with nothing but the tar format, and held to what Qdrant's restore
//! wants of one ([`Packed::ensure_whole`]). Independent of the program's own reader and packer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tar::{Archive, Builder, EntryType, Header};

use super::{Outcome, Trial, temp_dir};

/// What a collection has beside its shards.
const COLLECTION_FILES: [&str; 4] = [
    "config.json",
    "payload_index.json",
    "shard_key_mapping.json",
    "version.info",
];

/// A master as it lies in its file: the outer tar whole, of each segment the small files that tell
/// what it is.
#[derive(Debug, Clone)]
pub struct Packed {
    pub members: BTreeMap<String, Vec<u8>>,
    /// Member names that stand for no plain file, or come twice.
    odd: Vec<String>,
    /// Whether the tar ends as a whole one does.
    ended: bool,
}

/// A segment: the names of its files, and the content of the small ones.
#[derive(Debug, Clone)]
pub struct Segment {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Its `segment.json`.
    pub state: Value,
}

impl Packed {
    pub fn open(path: &Path) -> Outcome<Self> {
        let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let (members, odd) = members(&bytes, |_| true)?;
        Ok(Self {
            members,
            odd,
            ended: bytes.len() % 512 == 0 && bytes.ends_with(&[0; 1024]),
        })
    }

    pub fn json(&self, path: &str) -> Outcome<Value> {
        let bytes = self
            .members
            .get(path)
            .ok_or_else(|| format!("there is no {path}"))?;
        serde_json::from_slice(bytes).map_err(|e| format!("{path}: {e}").into())
    }

    pub fn config(&self) -> Outcome<Value> {
        self.json("config.json")
    }

    /// The shards that config and keys promise.
    pub fn shards(&self) -> Outcome<Vec<u32>> {
        let params = self.config()?["params"].clone();
        if params["sharding_method"] != "custom" {
            let count = params["shard_number"].as_u64().ok_or("no shard_number")?;
            return Ok((0..u32::try_from(count)?).collect());
        }
        let mut shards: Vec<u32> = self.keys()?.into_iter().flat_map(|(_, ids)| ids).collect();
        shards.sort_unstable();
        Ok(shards)
    }

    /// The shard keys, with their shards.
    pub fn keys(&self) -> Outcome<Vec<(Value, Vec<u32>)>> {
        let mapping = self.json("shard_key_mapping.json")?;
        mapping
            .as_array()
            .ok_or("the mapping of shard keys is no list, which 1.17 cannot read")?
            .iter()
            .map(|one| {
                Ok((
                    one["key"].clone(),
                    serde_json::from_value(one["shard_ids"].clone())?,
                ))
            })
            .collect()
    }

    /// The segments of a shard, by their UUID.
    pub fn segments(&self, shard: u32) -> Outcome<BTreeMap<String, Segment>> {
        let folder = format!("{shard}/segments/");
        let mut segments = BTreeMap::new();
        for (path, bytes) in &self.members {
            let Some(name) = path.strip_prefix(&folder) else {
                continue;
            };
            let small = |path: &str| path.ends_with(".json") || path.ends_with("version.info");
            let (inner, odd) = members(bytes, small)?;
            ensure!(odd.is_empty(), "{path} holds {odd:?}");
            let mut files = BTreeMap::new();
            for (path, bytes) in inner {
                let file = path
                    .strip_prefix("snapshot/files/")
                    .ok_or_else(|| format!("{name} holds {path}"))?;
                files.insert(file.to_owned(), bytes);
            }
            let state = files
                .get("segment.json")
                .ok_or_else(|| format!("{path} has no segment.json"))?;
            let state = serde_json::from_slice(state)?;
            let uuid = name.strip_suffix(".tar").unwrap_or(name).to_owned();
            segments.insert(uuid, Segment { files, state });
        }
        Ok(segments)
    }

    /// All segments of all shards.
    pub fn all_segments(&self) -> Outcome<Vec<Segment>> {
        let mut all = Vec::new();
        for shard in self.shards()? {
            all.extend(self.segments(shard)?.into_values());
        }
        Ok(all)
    }

    /// Writes one shard as a shard snapshot of its own, which is the same content at the tar's root.
    pub fn write_shard(&self, shard: u32, dir: &Path) -> Outcome<PathBuf> {
        let to = dir.join(format!("shard-{shard}.snapshot"));
        let mut out = Builder::new(File::create(&to)?);
        let folder = format!("{shard}/");
        for (path, bytes) in &self.members {
            if let Some(path) = path.strip_prefix(&folder) {
                append(&mut out, path, bytes)?;
            }
        }
        out.into_inner()?.flush()?;
        Ok(to)
    }

    /// Fails unless a restore finds all that it wants, and nothing that it must not find.
    pub fn ensure_whole(&self) -> Outcome {
        ensure!(
            self.ended,
            "the tar does not end with two empty blocks: it may be cut off"
        );
        ensure!(self.odd.is_empty(), "no plain files: {:?}", self.odd);
        ensure_eq!(
            self.members.get("version.info").map(Vec::as_slice),
            Some(b"0.4.2".as_slice()),
            "version.info"
        );
        ensure!(
            self.json("payload_index.json")?["schema"].is_object(),
            "payload_index.json has no schema"
        );
        self.keys()?;
        let mut known: BTreeSet<String> = COLLECTION_FILES.map(str::to_owned).into();
        let shards = self.shards()?;
        ensure!(!shards.is_empty(), "there is no shard");
        for shard in shards {
            known.extend(self.ensure_whole_shard(shard)?);
        }
        let there: BTreeSet<String> = self.members.keys().cloned().collect();
        ensure_eq!(there, known, "members");
        Ok(())
    }

    fn ensure_whole_shard(&self, shard: u32) -> Outcome<Vec<String>> {
        let segments = self.segments(shard)?;
        ensure!(!segments.is_empty(), "shard {shard} has no segment");
        let mut known = Vec::new();
        let mut version_max = 0;
        for (uuid, segment) in &segments {
            uuid::Uuid::parse_str(uuid).map_err(|e| format!("segment {uuid}: {e}"))?;
            known.push(format!("{shard}/segments/{uuid}.tar"));
            segment
                .ensure_whole()
                .map_err(|e| format!("segment {uuid}: {}", e.message().unwrap_or("?")))?;
            version_max = version_max.max(segment.version());
        }
        // An empty log that goes on above everything that the segments have: without it the restore
        // skips the shard, and one that starts lower swallows what is written after the restore.
        let log = format!("{shard}/wal/closed-{}", version_max + 1);
        let bytes = self.members.get(&log);
        ensure!(
            bytes.is_some_and(|bytes| bytes.len() == 8 && bytes.starts_with(b"wal\0")),
            "{log} is {bytes:?}"
        );
        known.push(log);
        let state = format!("{shard}/replica_state.json");
        let replica = self.json(&state)?;
        let peer = replica["this_peer_id"].to_string();
        ensure_eq!(
            replica,
            json!({"is_local": true, "this_peer_id": replica["this_peer_id"], "peers": {peer: "Active"}}),
            "{state}"
        );
        known.push(state);
        let config = format!("{shard}/shard_config.json");
        ensure_eq!(
            self.json(&config)?,
            json!({"type": "ReplicaSet"}),
            "{config}"
        );
        known.push(config);
        Ok(known)
    }
}

impl Segment {
    /// The number of the last operation in it.
    pub fn version(&self) -> u64 {
        self.state["version"].as_u64().unwrap_or(0)
    }

    /// Whether it holds points at all: new shards also have an empty one to write to.
    pub fn holds_points(&self) -> bool {
        self.has("id_tracker.mappings") || self.has("mutable_id_tracker.mappings")
    }

    /// Whether any of its vectors has a graph.
    pub fn has_graph(&self) -> bool {
        self.files.keys().any(|file| file.ends_with("/graph.bin"))
    }

    /// Whether it has a file, or a folder with a file, of this name.
    pub fn has(&self, name: &str) -> bool {
        let folder = format!("{name}/");
        self.files
            .keys()
            .any(|file| file == name || file.starts_with(&folder))
    }

    fn ensure_whole(&self) -> Outcome {
        ensure_eq!(
            self.files.get("version.info").map(Vec::as_slice),
            Some(b"0.6.0".as_slice()),
            "version.info"
        );
        for part in ["payload_storage", "payload_index/config.json"] {
            ensure!(self.has(part), "there is no {part}");
        }
        let dense = self.state["config"]["vector_data"].as_object();
        for name in dense.into_iter().flat_map(|map| map.keys()) {
            let folder = match name.as_str() {
                "" => "vector_storage".to_owned(),
                name => format!("vector_storage-{name}"),
            };
            ensure!(self.has(&folder), "there is no {folder}");
        }
        for file in self.files.keys() {
            let first = file.split('/').next().unwrap_or(file);
            let wanted = [
                "id_tracker",
                "mutable_id_tracker",
                "payload_",
                "vector_",
                "segment.json",
                "version.info",
            ];
            ensure!(
                wanted.iter().any(|part| first.starts_with(part)) && !first.ends_with("db_backup"),
                "{file} does not belong there"
            );
        }
        Ok(())
    }
}

/// Files by name.
type Files = BTreeMap<String, Vec<u8>>;

/// The plain files of a tar with the bytes of those that are `wanted`, and the names of all else.
fn members(bytes: &[u8], wanted: impl Fn(&str) -> bool) -> Outcome<(Files, Vec<String>)> {
    let (mut files, mut odd) = (BTreeMap::new(), Vec::new());
    for entry in Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let path = String::from_utf8(entry.path_bytes().into_owned())?;
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::GNUSparse => {
                let mut bytes = Vec::new();
                if wanted(&path) {
                    entry.read_to_end(&mut bytes)?;
                }
                if files.insert(path.clone(), bytes).is_some() {
                    odd.push(path);
                }
            }
            _ => odd.push(path),
        }
    }
    Ok((files, odd))
}

fn append(out: &mut Builder<File>, path: &str, bytes: &[u8]) -> Outcome {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    out.append_data(&mut header, path, bytes)?;
    Ok(())
}

/// Changes a JSON file within a snapshot and nothing else: what is shorter is filled up with blanks,
/// so that no other byte moves.
pub fn edit_json(snapshot: &Path, member: &str, edit: impl FnOnce(&mut Value)) -> Outcome {
    let (at, size, mut value) = {
        let mut archive = Archive::new(File::open(snapshot)?);
        let mut found = None;
        for entry in archive.entries()? {
            let entry = entry?;
            if entry.path_bytes().as_ref() == member.as_bytes() {
                let (at, size) = (entry.raw_file_position(), entry.size());
                found = Some((at, size, serde_json::from_reader::<_, Value>(entry)?));
                break;
            }
        }
        found.ok_or_else(|| format!("{} has no {member}", snapshot.display()))?
    };
    edit(&mut value);
    let mut text = value.to_string().into_bytes();
    let size = usize::try_from(size)?;
    ensure!(text.len() <= size, "{member} has no room for that");
    text.resize(size, b' ');
    let mut file = File::options().write(true).open(snapshot)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&text)?;
    Ok(())
}

pub fn trials() -> Vec<Trial> {
    vec![Trial::new(
        "support/packed/sees_what_a_restore_misses",
        sees_what_a_restore_misses,
    )]
}

/// A small tar that passes, and then without each part of it, and with each thing too many.
fn sees_what_a_restore_misses() -> Outcome {
    let dir = temp_dir()?;
    let whole = small_master(dir.path(), 7)?;
    whole.ensure_whole()?;
    ensure_eq!(whole.shards()?, vec![0], "shards");
    for member in whole.members.keys() {
        let mut less = whole.clone();
        less.members.remove(member);
        ensure!(less.ensure_whole().is_err(), "{member} was not missed");
    }
    for foreign in [
        "0/newest_clocks.json",
        "0/applied_seq.json",
        "0/edge_config.json",
        "0/wal/open-1",
        "1/shard_config.json",
        "segments_manifest.json",
    ] {
        let mut more = whole.clone();
        more.members.insert(foreign.to_owned(), b"{}".to_vec());
        ensure!(more.ensure_whole().is_err(), "{foreign} was not seen");
    }
    let late = small_master(dir.path(), 8)?;
    let mut low = whole.clone();
    low.members.extend(
        late.members
            .into_iter()
            .filter(|(path, _)| path.contains("segments")),
    );
    ensure!(
        low.ensure_whole().is_err(),
        "a log below the segments was not seen"
    );
    let mut cut = whole;
    cut.ended = false;
    ensure!(cut.ensure_whole().is_err(), "a cut tar was not seen");
    Ok(())
}

fn small_master(dir: &Path, version: u64) -> Outcome<Packed> {
    let inner = dir.join("segment.tar");
    let mut segment = Builder::new(File::create(&inner)?);
    let state = json!({"version": version, "config": {"vector_data": {"": {}}}}).to_string();
    for (file, bytes) in [
        ("segment.json", state.as_bytes()),
        ("version.info", b"0.6.0"),
        ("payload_storage/x", b""),
        ("payload_index/config.json", b"{}"),
        ("vector_storage/x", b""),
    ] {
        append(&mut segment, &format!("snapshot/files/{file}"), bytes)?;
    }
    segment.into_inner()?;
    let inner = std::fs::read(inner)?;

    let path = dir.join("master.snapshot");
    let mut out = Builder::new(File::create(&path)?);
    let uuid = "550e8400-e29b-41d4-a716-446655440000";
    let members: [(&str, &[u8]); 8] = [
        (&format!("0/segments/{uuid}.tar"), &inner),
        (&format!("0/wal/closed-{}", version + 1), b"wal\0\0\0\0\0"),
        (
            "0/replica_state.json",
            br#"{"is_local":true,"this_peer_id":1,"peers":{"1":"Active"}}"#,
        ),
        ("0/shard_config.json", br#"{"type":"ReplicaSet"}"#),
        ("version.info", b"0.4.2"),
        ("config.json", br#"{"params":{"shard_number":1}}"#),
        ("shard_key_mapping.json", b"[]"),
        ("payload_index.json", br#"{"schema":{}}"#),
    ];
    for (path, bytes) in members {
        append(&mut out, path, bytes)?;
    }
    out.into_inner()?;
    Packed::open(&path)
}
