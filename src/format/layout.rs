//! Where things lie in a snapshot.
//!
//! The names are Qdrant's (lib/collection/src/collection/snapshots.rs,
//! lib/collection/src/shards/local_shard/snapshot.rs). A collection snapshot has one folder a
//! shard; a shard snapshot has the same content at its root; a streamed shard has its segments as
//! folders instead of tars.
//!
//! Keeps true: every member of a tar is named here or reported as unknown; none is dropped
//! silently.

use uuid::Uuid;

/// The way out for snapshots with RocksDB in them.
pub const BRIDGE: &str = "restore this snapshot into a Qdrant 1.17.1, which still reads it and \
                          converts it, wait for green, and take a new snapshot there; or let such a \
                          server read it, with `snapmerge merge --route scratch \
                          --scratch-server http://HOST:6333`";

/// The folder of a shard that holds its segments.
pub const SEGMENTS: &str = "segments";
/// The folder of a shard that holds its log.
pub const LOG: &str = "wal";
/// The folder inside a segment's tar that holds its files.
pub const SEGMENT_TAR_ROOT: &str = "snapshot/files";
/// The folder of a streamed segment that holds its files.
const SEGMENT_FOLDER_ROOT: &str = "files";
/// A collection's config, at the root of a collection snapshot.
pub const CONFIG: &str = "config.json";
/// A collection's payload indexes, at the root of a collection snapshot.
pub const PAYLOAD_INDEX: &str = "payload_index.json";
/// Which shards belong to which shard key, at the root of a collection snapshot.
pub const SHARD_KEYS: &str = "shard_key_mapping.json";
/// The storage version, at the root of a collection snapshot and of each segment.
pub const VERSION: &str = "version.info";
/// The states of a shard's replicas.
pub const REPLICA_STATE: &str = "replica_state.json";
/// The kind of a shard.
pub const SHARD_CONFIG: &str = "shard_config.json";
/// The state of a segment: its config and version.
pub const SEGMENT_STATE: &str = "segment.json";
/// Files of a shard that say how far its replicas and its queue had come; a master has none.
const SHARD_CLOCKS: [&str; 3] = [
    "newest_clocks.json",
    "oldest_clocks.json",
    "applied_seq.json",
];
/// The manifest of a streamed snapshot; a restore refuses a full snapshot that has one.
const SEGMENT_MANIFEST: &str = "segment_manifest.json";
/// Manifests of a shard's segments, written by servers that share storage.
const SHARD_MANIFESTS: [&str; 2] = ["segments_manifest.json", "manifest.json"];

/// Where the packed segment `uuid` of shard `shard` lies.
pub fn segment_tar(shard: u32, uuid: Uuid) -> String {
    format!("{shard}/{SEGMENTS}/{uuid}.tar")
}

/// What a member is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place<'a> {
    /// A directory entry, or a file whose name says all there is to know.
    Nothing,
    /// A file of the collection: its config, payload indexes, shard keys or version.
    Collection(&'a str),
    /// Something of a shard; `shard` is none at the root of a shard snapshot.
    Shard {
        /// The shard's number, if the snapshot has more than one.
        shard: Option<u32>,
        /// What of it.
        part: Part<'a>,
    },
    /// A snapshot inside: this is a full storage snapshot.
    InnerSnapshot,
    /// Not known to be written by any Qdrant.
    Unknown,
}

/// A part of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'a> {
    /// A whole segment as a tar.
    SegmentTar(Uuid),
    /// One file of a streamed segment: its name within the segment.
    SegmentFile(Uuid, &'a str),
    /// A file of the log.
    Log(&'a str),
    /// The states of the replicas.
    ReplicaState,
    /// The kind of the shard.
    ShardConfig,
    /// Clocks, queue position or manifest, which a master must not carry over.
    Left(&'a str),
}

/// What the member called `path` is.
pub fn place(path: &str, is_directory: bool) -> Place<'_> {
    if path.is_empty() {
        return Place::Nothing;
    }
    if let CONFIG | PAYLOAD_INDEX | SHARD_KEYS | VERSION = path {
        return Place::Collection(path);
    }
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    if let Ok(shard) = first.parse::<u32>() {
        // "01" would unpack beside "1".
        if first == shard.to_string() {
            return match part(rest, is_directory) {
                Some(Some(part)) => Place::Shard {
                    shard: Some(shard),
                    part,
                },
                Some(None) => Place::Nothing,
                None => Place::Unknown,
            };
        }
    }
    match part(path, is_directory) {
        Some(Some(part)) => Place::Shard { shard: None, part },
        Some(None) => Place::Nothing,
        None if rest.is_empty() && path.ends_with(".snapshot") => Place::InnerSnapshot,
        None => Place::Unknown,
    }
}

/// The part of a shard that `path` is: outer none for an unknown one, inner none for a directory.
fn part(path: &str, is_directory: bool) -> Option<Option<Part<'_>>> {
    if path.is_empty() {
        return is_directory.then_some(None);
    }
    if path == REPLICA_STATE {
        return Some(Some(Part::ReplicaState));
    }
    if path == SHARD_CONFIG {
        return Some(Some(Part::ShardConfig));
    }
    if SHARD_CLOCKS.contains(&path) || SHARD_MANIFESTS.contains(&path) {
        return Some(Some(Part::Left(path)));
    }
    if path == SEGMENTS || path == LOG {
        return is_directory.then_some(None);
    }
    if let Some(name) = path.strip_prefix("wal/") {
        return (!name.contains('/') && !is_directory).then_some(Some(Part::Log(name)));
    }
    let segment = path.strip_prefix("segments/")?;
    let Some((name, file)) = segment.split_once('/') else {
        if is_directory {
            return uuid(segment).map(|_| None);
        }
        if SHARD_MANIFESTS.contains(&segment) {
            return Some(Some(Part::Left(segment)));
        }
        let uuid = uuid(segment.strip_suffix(".tar")?)?;
        return Some(Some(Part::SegmentTar(uuid)));
    };
    let uuid = uuid(name)?;
    if file == SEGMENT_FOLDER_ROOT {
        return is_directory.then_some(None);
    }
    let file = file.strip_prefix("files/")?;
    if is_directory {
        return Some(None);
    }
    if file == SEGMENT_MANIFEST {
        return Some(Some(Part::Left(file)));
    }
    Some(Some(Part::SegmentFile(uuid, file)))
}

/// A segment's name. There is one way to write it: of two ways, one would be unpacked over the other.
fn uuid(name: &str) -> Option<Uuid> {
    Uuid::try_parse(name)
        .ok()
        .filter(|uuid| uuid.hyphenated().to_string() == name)
}

/// Whether the member called `path` lies in the folder that a shard has for its segments.
pub fn is_among_segments(path: &str) -> bool {
    let within = |path: &str| path.starts_with("segments/");
    within(path)
        || path.split_once('/').is_some_and(|(shard, rest)| {
            shard.bytes().all(|byte| byte.is_ascii_digit()) && within(rest)
        })
}

/// The name within the segment of a member of a segment's tar; none for directories, for the
/// manifest, and (inner none) for what does not belong to a segment.
pub fn segment_file(path: &str, is_directory: bool) -> Option<Option<&str>> {
    if is_directory {
        return Some(None);
    }
    let file = path.strip_prefix(SEGMENT_TAR_ROOT)?.strip_prefix('/')?;
    if file.is_empty() {
        return None;
    }
    Some((file != SEGMENT_MANIFEST).then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "060daf26-a2ab-4dbf-82c1-bfdc3a20127f";

    #[test]
    fn every_known_name_has_its_place() {
        let uuid = Uuid::try_parse(UUID).unwrap();
        let shard = |shard, part| Place::Shard { shard, part };
        let tar = format!("0/segments/{UUID}.tar");
        let streamed = format!("segments/{UUID}/files/vector_storage/matrix.dat");
        let manifest = format!("segments/{UUID}/files/segment_manifest.json");
        for (path, expected) in [
            ("config.json", Place::Collection("config.json")),
            ("shard_key_mapping.json", Place::Collection(SHARD_KEYS)),
            (tar.as_str(), shard(Some(0), Part::SegmentTar(uuid))),
            (
                streamed.as_str(),
                shard(None, Part::SegmentFile(uuid, "vector_storage/matrix.dat")),
            ),
            (
                manifest.as_str(),
                shard(None, Part::Left("segment_manifest.json")),
            ),
            ("17/wal/open-3", shard(Some(17), Part::Log("open-3"))),
            ("wal/closed-9", shard(None, Part::Log("closed-9"))),
            ("2/replica_state.json", shard(Some(2), Part::ReplicaState)),
            ("shard_config.json", shard(None, Part::ShardConfig)),
            (
                "0/applied_seq.json",
                shard(Some(0), Part::Left("applied_seq.json")),
            ),
            ("album_2017-1-2026.snapshot", Place::InnerSnapshot),
            ("01/wal/open-1", Place::Unknown),
            ("0/segments/not-a-uuid.tar", Place::Unknown),
            ("0/wal/deep/open-1", Place::Unknown),
            ("README", Place::Unknown),
        ] {
            assert_eq!(place(path, false), expected, "{path}");
        }
        for name in [
            UUID.to_uppercase(),
            UUID.replace('-', ""),
            format!("{{{UUID}}}"),
        ] {
            let path = format!("0/segments/{name}.tar");
            assert_eq!(place(&path, false), Place::Unknown, "{path}");
            assert!(is_among_segments(&path), "{path}");
        }
        assert!(!is_among_segments("0/wal/open-1"));
        for path in ["0", "0/wal", "segments", "0/segments"] {
            assert_eq!(place(path, true), Place::Nothing, "{path}");
        }
    }

    #[test]
    fn files_of_a_segment_tar_lie_under_its_root() {
        assert_eq!(
            segment_file("snapshot/files/segment.json", false),
            Some(Some("segment.json"))
        );
        assert_eq!(segment_file("snapshot/files", true), Some(None));
        assert_eq!(
            segment_file("snapshot/files/segment_manifest.json", false),
            Some(None)
        );
        assert_eq!(segment_file("snapshot/other", false), None);
        assert_eq!(segment_file("segment.json", false), None);
    }
}
