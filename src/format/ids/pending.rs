//! `proxy_changes.LEVEL.UUID.dat`: changes that a proxy segment kept for the segment it wraps.
//!
//! While a segment is optimized or snapshotted, deletes go to such a file beside it instead
//! (lib/segment/src/pending_changes), and count as persisted: the log need not hold them any more.
//! Reading the segment without the file brings deleted points back.
//! Invariants: a delete counts only if the point is not newer than it (`handle_point_version` in
//! lib/segment/src/segment/segment_ops.rs). Deletes never bring anything back, so the order of
//! levels and files does not matter here.

use serde::Deserialize;
use serde::de::IgnoredAny;
use uuid::Uuid;

use super::{Fault, Found, SegmentIds, take};
use crate::point::PointId;

/// `MAX_ENTRY_SIZE` of pending_changes/log_file.rs.
const RECORD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// `PendingChange` of pending_changes/change.rs, as far as it is about points.
#[derive(Deserialize)]
enum Pending {
    DeletePoint {
        point_id: PointId,
        versions: Deleted,
    },
    IndexChange(IgnoredAny),
    VectorNameChange(IgnoredAny),
}

#[derive(Deserialize)]
struct Deleted {
    operation_version: u64,
}

pub(super) fn is_log(name: &str) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        ["proxy_changes", level, id, "dat"] => {
            level.parse::<usize>().is_ok() && Uuid::try_parse(id).is_ok()
        }
        _ => false,
    }
}

/// Takes the points that the log `name` deletes out of `ids`.
pub(super) fn apply(name: &str, bytes: &[u8], ids: &mut SegmentIds) -> Found<()> {
    let mut rest = bytes;
    let mut deletes: Vec<(PointId, u64)> = Vec::new();
    while !rest.is_empty() {
        let before = rest;
        match next(&mut rest) {
            Ok(Some(Pending::DeletePoint { point_id, versions })) => {
                deletes.push((point_id, versions.operation_version));
            }
            Ok(Some(Pending::IndexChange(_) | Pending::VectorNameChange(_))) => {
                ids.pending_others += 1;
            }
            Ok(None) => {
                ids.torn_bytes += before.len();
                break;
            }
            Err(why) => {
                let at = bytes.len() - before.len();
                return Err(Fault::new(name, format!("the record at byte {at}: {why}")));
            }
        }
    }

    // The newest delete of each point last, so that the search below finds where it stands.
    deletes.sort_unstable();
    let before = ids.entries.len();
    ids.entries.retain(|entry| {
        let at = deletes.partition_point(|(id, _)| *id <= entry.id);
        let newest = at.checked_sub(1).and_then(|at| deletes.get(at));
        newest.is_none_or(|(id, version)| *id != entry.id || entry.version > *version)
    });
    ids.pending_deletes += before - ids.entries.len();
    Ok(())
}

/// The next record: its length in four bytes, then JSON. `None` if it is the last and was cut off,
/// which the engine takes for a write that did not finish.
fn next(rest: &mut &[u8]) -> Result<Option<Pending>, String> {
    let Some(len) = take(rest) else {
        return Ok(None);
    };
    let len = u32::from_le_bytes(len) as usize;
    let Some((record, tail)) = rest.split_at_checked(len) else {
        return Ok(None);
    };
    if len > RECORD_BYTES_MAX {
        return Err(format!("{len} bytes are more than any server writes"));
    }
    *rest = tail;
    match serde_json::from_slice(record) {
        Ok(change) => Ok(Some(change)),
        Err(_) if tail.is_empty() => Ok(None),
        Err(err) => Err(err.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_adds_up, names, torture, with};
    use super::super::{TrackerFiles, mutable, read};
    use super::*;

    const LOG: &str = "proxy_changes.1.550e8400-e29b-41d4-a716-446655440000.dat";
    const UUID: &str = "119d82e3-6b50-f19a-4848-7fd8802d5134";

    fn record(json: &str) -> Vec<u8> {
        let len = u32::try_from(json.len()).expect("short");
        [&len.to_le_bytes()[..], json.as_bytes()].concat()
    }

    fn delete(id: &str, version: u64) -> Vec<u8> {
        record(&format!(
            r#"{{"DeletePoint":{{"point_id":{id},"versions":{{"local_version":1,"operation_version":{version}}}}}}}"#
        ))
    }

    /// Points 1, 2, 3 and a UUID, all with version 10.
    fn files(log: &[u8]) -> TrackerFiles {
        let mut mappings = Vec::new();
        for (id, offset) in [(1_u64, 0_u32), (2, 1), (3, 2)] {
            mappings.push(1);
            mappings.extend(id.to_le_bytes());
            mappings.extend(offset.to_le_bytes());
        }
        mappings.push(2);
        mappings.extend(Uuid::parse_str(UUID).expect("a UUID").as_bytes());
        mappings.extend(3_u32.to_le_bytes());
        let mut files = TrackerFiles::default();
        with(&mut files, mutable::MAPPINGS, &mappings);
        with(
            &mut files,
            mutable::VERSIONS,
            &10_u64.to_le_bytes().repeat(4),
        );
        with(&mut files, LOG, log);
        files
    }

    #[test]
    fn deletes_are_carried_out_unless_the_point_is_newer() {
        let uuid = format!("\"{UUID}\"");
        let log = [
            delete("1", 10),
            delete("2", 9),
            delete("77", 12),
            record(r#"{"IndexChange":{"field_name":"a","change":{"Delete":3}}}"#),
            delete(&uuid, 9),
            delete(&uuid, 11),
            delete(&uuid, 8),
        ]
        .concat();
        let ids = read(&files(&log), "a test").expect("reads");
        assert_adds_up(&ids);
        assert_eq!(names(&ids), ["2", "3"]);
        assert_eq!((ids.pending_deletes, ids.pending_others), (2, 1));
        assert_eq!(ids.torn_bytes, 0);
    }

    #[test]
    fn only_the_last_record_may_be_cut_off() {
        let log = [delete("1", 10), delete("2", 10)].concat();
        let first = delete("1", 10).len();
        for len in first..log.len() {
            let ids = read(&files(&log[..len]), "a test").expect("reads");
            assert_eq!((ids.pending_deletes, ids.torn_bytes), (1, len - first));
        }
        let bad = [record("{}"), delete("2", 10)].concat();
        let err = read(&files(&bad), "a test").expect_err("refuses");
        assert!(err.doing().contains(LOG), "{err}");
        assert_eq!(torture(&files(&log), LOG), 0);
    }

    #[test]
    fn only_names_with_a_level_and_a_uuid_are_logs() {
        assert!(is_log(LOG));
        for name in [
            "proxy_changes.dat",
            "proxy_changes.x.550e8400-e29b-41d4-a716-446655440000.dat",
            "proxy_changes.0.550e8400.dat",
            "proxy_changes.0.550e8400-e29b-41d4-a716-446655440000.tmp",
        ] {
            assert!(!is_log(name), "{name}");
        }
    }
}
