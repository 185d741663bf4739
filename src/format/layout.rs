//! Paths of a snapshot's members.
//!
//! The names are Qdrant's (lib/collection/src/collection/snapshots.rs,
//! lib/collection/src/shards/local_shard/snapshot.rs). A collection snapshot has one folder a
//! shard; a shard snapshot has the same content at its root; a streamed shard has its segments as
//! folders instead of tars.
//!
//! Invariants: every member of a tar is named here or reported as unknown; none is dropped
//! silently.

use uuid::Uuid;

/// The folder of a shard that holds its segments.
pub const SEGMENTS: &str = "segments";
/// The folder of a segment that holds its payload indexes.
pub const PAYLOAD_INDEXES: &str = "payload_index";
/// The folder of a shard that holds its log.
pub const LOG: &str = "wal";
/// The folder inside a segment's tar that holds its files.
pub const SEGMENT_TAR_ROOT: &str = "snapshot/files";
/// The folder inside a segment's tar that all lies in, since 0.11.
const SEGMENT_TAR_FOLDER: &str = "snapshot";
/// The folder of a segment that holds its files.
const SEGMENT_FOLDER_ROOT: &str = "files";
/// The folder beside them that holds a backup of the segment's RocksDB, up to 1.17.
pub const DATABASE: &str = "db_backup";
/// The same of its payload indexes'.
pub const INDEX_DATABASE: &str = "payload_index_db_backup";
/// File of that database in a plain copy of a segment's folder, as servers before 0.11 packed it.
pub const PLAIN_INDEX_DATABASE: &str = "payload_index/CURRENT";
/// The latest backup's list of files, in [`DATABASE`]. Qdrant makes each backup in a folder of its own,
/// so that there is only one (lib/segment/src/rocksdb_backup.rs).
pub const DATABASE_LIST: &str = "db_backup/meta/1";
/// A collection's config, at the root of a collection snapshot.
pub const CONFIG: &str = "config.json";
/// A collection's payload indexes, at the root of a collection snapshot.
pub const PAYLOAD_INDEX: &str = "payload_index.json";
/// Which shards belong to which shard key, at the root of a collection snapshot.
pub const SHARD_KEYS: &str = "shard_key_mapping.json";
/// The storage version, at the root of a collection snapshot and of each segment.
pub const VERSION: &str = "version.info";
/// No server numbers so many operations: a greater number is damage, and the next one could not be
/// written.
pub const OPERATION_MAX: u64 = u64::MAX >> 1;
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
/// The manifest of a streamed snapshot; a restore refuses a full snapshot that has one. A shard's list of
/// segments, `segments_manifest.json`, is in every snapshot of 1.19.
pub const SEGMENT_MANIFEST: &str = "segment_manifest.json";
/// A shard's list of its segments (lib/shard/src/segment_manifest.rs, from 1.19 on).
pub const SEGMENT_LIST: &str = "segments_manifest.json";
/// Manifests of a shard's segments, written by servers that share storage.
const SHARD_MANIFESTS: [&str; 2] = [SEGMENT_LIST, "manifest.json"];

/// The folder in a segment's that holds the vectors called `name`; the empty name is that of the vector
/// without one (`get_vector_storage_path` of lib/segment/src/segment_constructor).
pub fn vector_storage(name: &str) -> String {
    of_vector("vector_storage", name)
}

/// The folder in a segment's that holds the index of the vectors called `name`.
pub fn vector_index(name: &str) -> String {
    of_vector("vector_index", name)
}

fn of_vector(folder: &str, name: &str) -> String {
    match name {
        "" => folder.to_owned(),
        name => format!("{folder}-{name}"),
    }
}

/// Returns the path of the packed segment `uuid` of shard `shard`.
pub fn segment_tar(shard: u32, uuid: Uuid) -> String {
    format!("{shard}/{SEGMENTS}/{uuid}.tar")
}

/// Purpose of a member.
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
        /// Part of the shard.
        part: ShardMember<'a>,
    },
    /// A snapshot inside: this is a full storage snapshot.
    InnerSnapshot,
    /// Not known to be written by any Qdrant.
    Unknown,
}

/// A part of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardMember<'a> {
    /// A whole segment as a tar.
    SegmentTar(Uuid),
    /// One file of a streamed segment: its name within the segment.
    SegmentFile(Uuid, &'a str),
    /// Something of a streamed segment that no Qdrant is known to write.
    SegmentStray(Uuid, &'a str),
    /// A file of the log.
    Log(&'a str),
    /// The states of the replicas.
    ReplicaState,
    /// The kind of the shard.
    ShardConfig,
    /// Clocks, queue position or manifest, which a master must not carry over.
    Left(&'a str),
}

/// Returns the purpose of the member called `path`.
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
fn part(path: &str, is_directory: bool) -> Option<Option<ShardMember<'_>>> {
    if path.is_empty() {
        return is_directory.then_some(None);
    }
    if path == REPLICA_STATE {
        return Some(Some(ShardMember::ReplicaState));
    }
    if path == SHARD_CONFIG {
        return Some(Some(ShardMember::ShardConfig));
    }
    if SHARD_CLOCKS.contains(&path) || SHARD_MANIFESTS.contains(&path) {
        return Some(Some(ShardMember::Left(path)));
    }
    if path == SEGMENTS || path == LOG {
        return is_directory.then_some(None);
    }
    if let Some(name) = path.strip_prefix("wal/") {
        return (!name.contains('/') && !is_directory).then_some(Some(ShardMember::Log(name)));
    }
    let segment = path.strip_prefix("segments/")?;
    let Some((name, file)) = segment.split_once('/') else {
        if is_directory {
            return uuid(segment).map(|_| None);
        }
        if SHARD_MANIFESTS.contains(&segment) {
            return Some(Some(ShardMember::Left(segment)));
        }
        let uuid = uuid(segment.strip_suffix(".tar")?)?;
        return Some(Some(ShardMember::SegmentTar(uuid)));
    };
    let uuid = uuid(name)?;
    if is_directory {
        return Some(None);
    }
    Some(Some(match within_segment(file) {
        InSegment::Manifest => ShardMember::Left(SEGMENT_MANIFEST),
        InSegment::File(file) => ShardMember::SegmentFile(uuid, file),
        _ => ShardMember::SegmentStray(uuid, file),
    }))
}

/// A segment's name. There is one way to write it: of two ways, one would be unpacked over the other.
fn uuid(name: &str) -> Option<Uuid> {
    Uuid::try_parse(name)
        .ok()
        .filter(|uuid| uuid.hyphenated().to_string() == name)
}

/// Returns the path of a file of the streamed segment `id` of shard `shard`.
pub fn segment_file_of(shard: u32, id: &str, file: &str) -> String {
    format!("{shard}/{SEGMENTS}/{id}/{SEGMENT_FOLDER_ROOT}/{file}")
}

/// The segment's id and the file's name within it, of a file of a streamed segment that is called `path`
/// within its shard.
pub fn segment_file(path: &str) -> Option<(&str, &str)> {
    let (id, file) = path.strip_prefix("segments/")?.split_once('/')?;
    Some((
        id,
        file.strip_prefix(SEGMENT_FOLDER_ROOT)?.strip_prefix('/')?,
    ))
}

/// The shard in whose folder for segments the member called `path` lies, if it does; inner none at the
/// root of a shard snapshot.
pub fn among_segments(path: &str) -> Option<Option<u32>> {
    if path.starts_with("segments/") {
        return Some(None);
    }
    let (shard, rest) = path.split_once('/')?;
    let shard = shard.parse().ok()?;
    rest.starts_with("segments/").then_some(Some(shard))
}

/// Purpose of a member of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InSegment<'a> {
    /// A directory.
    Directory,
    /// A file by its name within the segment; one of a RocksDB backup keeps its folder's.
    File(&'a str),
    /// A file of a tar that is a plain copy of a segment's folder, as servers before 0.11 made it.
    Plain(&'a str),
    /// The segment's manifest, which a restore refuses.
    Manifest,
    /// Not known to be written by any Qdrant.
    Unknown,
}

/// Returns the purpose of the member called `path` of a segment's tar.
pub fn in_segment_tar(path: &str, is_directory: bool) -> InSegment<'_> {
    if is_directory {
        return InSegment::Directory;
    }
    match path.split_once('/') {
        Some((SEGMENT_TAR_FOLDER, rest)) => within_segment(rest),
        _ if path == SEGMENT_TAR_FOLDER => InSegment::Unknown,
        _ => InSegment::Plain(path),
    }
}

/// Returns the purpose of the file called `path` of a segment.
fn within_segment(path: &str) -> InSegment<'_> {
    match path.split_once('/') {
        Some((_, "")) | None => InSegment::Unknown,
        Some((SEGMENT_FOLDER_ROOT, SEGMENT_MANIFEST)) => InSegment::Manifest,
        Some((SEGMENT_FOLDER_ROOT, file)) => InSegment::File(file),
        Some((DATABASE | INDEX_DATABASE, _)) => InSegment::File(path),
        Some(_) => InSegment::Unknown,
    }
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
            (tar.as_str(), shard(Some(0), ShardMember::SegmentTar(uuid))),
            (
                streamed.as_str(),
                shard(
                    None,
                    ShardMember::SegmentFile(uuid, "vector_storage/matrix.dat"),
                ),
            ),
            (
                manifest.as_str(),
                shard(None, ShardMember::Left("segment_manifest.json")),
            ),
            ("17/wal/open-3", shard(Some(17), ShardMember::Log("open-3"))),
            ("wal/closed-9", shard(None, ShardMember::Log("closed-9"))),
            (
                "2/replica_state.json",
                shard(Some(2), ShardMember::ReplicaState),
            ),
            ("shard_config.json", shard(None, ShardMember::ShardConfig)),
            (
                "0/applied_seq.json",
                shard(Some(0), ShardMember::Left("applied_seq.json")),
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
            assert_eq!(among_segments(&path), Some(Some(0)), "{path}");
        }
        assert_eq!(among_segments("0/wal/open-1"), None);
        for path in ["0", "0/wal", "segments", "0/segments"] {
            assert_eq!(place(path, true), Place::Nothing, "{path}");
        }
    }

    #[test]
    fn files_of_a_segment_are_known_in_every_form_of_it() {
        for (path, expected) in [
            (
                "snapshot/files/segment.json",
                InSegment::File("segment.json"),
            ),
            ("snapshot/files/a/b", InSegment::File("a/b")),
            (
                "snapshot/db_backup/meta/1",
                InSegment::File("db_backup/meta/1"),
            ),
            (
                "snapshot/payload_index_db_backup/private/1/CURRENT",
                InSegment::File("payload_index_db_backup/private/1/CURRENT"),
            ),
            ("snapshot/files/segment_manifest.json", InSegment::Manifest),
            ("snapshot/other", InSegment::Unknown),
            ("snapshot/other/file", InSegment::Unknown),
            ("snapshot", InSegment::Unknown),
            ("segment.json", InSegment::Plain("segment.json")),
            (
                "vector_storage/matrix.dat",
                InSegment::Plain("vector_storage/matrix.dat"),
            ),
        ] {
            assert_eq!(in_segment_tar(path, false), expected, "{path}");
        }
        assert_eq!(in_segment_tar("snapshot/any", true), InSegment::Directory);
        let uuid = Uuid::try_parse(UUID).unwrap();
        for (file, expected) in [
            (
                "db_backup/meta/1",
                ShardMember::SegmentFile(uuid, "db_backup/meta/1"),
            ),
            ("other/x", ShardMember::SegmentStray(uuid, "other/x")),
        ] {
            let path = format!("segments/{UUID}/{file}");
            let part = expected;
            assert_eq!(place(&path, false), Place::Shard { shard: None, part });
        }
    }
}
