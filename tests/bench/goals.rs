//! What the measured rows are held to.
//!
//! Keeps true: a goal is judged only by rows that were measured, at the size that it is meant for,
//! and every judged goal is printed, met or not.

use super::table::Row;

/// Names of rows that goals are set for.
pub const MERGE: &str = "merge without indexing";
pub const WHOLE: &str = "merge, the whole";
pub const GRAFT: &str = "graft";
pub const GRAFT_CHECKED: &str = "graft, sources' SHA-256 checked";
pub const GRAFT_TAIL: &str = "graft, logs to take in";
pub const GRAFT_OVERLAP: &str = "graft, 10 % of ids in conflict";
pub const STAMP: &str = "graft, payloads stamped";
pub const CONSOLIDATE: &str = "graft into two segments";
pub const MANY_SOURCES: &str = "merge of many sources, stamped";
pub const GRAFT_IDS: &str = "graft, tiny vectors, numbers";
pub const GRAFT_UUIDS: &str = "graft, tiny vectors, UUIDs";

pub const ARCHIVE_ADD: &str = "archive add, from the disk";
pub const ARCHIVE_GET: &str = "archive get, from the disk";
pub const ARCHIVE_ADD_WARM: &str = "archive add, from the page cache";
pub const ARCHIVE_GET_WARM: &str = "archive get, from the page cache";
pub const ARCHIVE_CHECK: &str = "archive check, against cat";
pub const VERIFY: &str = "verify of a grafted master, against cat";
pub const VERIFY_DEEP: &str = "verify --deep, against cat";

/// The row of the stage that finds which ids meet.
const FIND: &str = "– find conflicts";

/// What a graft is compared with copying at: the issue sets its goals for this size. With fewer
/// points starting costs most; with fewer dimensions a point is more graph than vector.
const GRAFT_POINTS_MIN: u64 = 300_000;
const GRAFT_DIMS: usize = 512;
/// From how many points on a graft of tiny vectors is judged.
const IDS_POINTS_MIN: u64 = 1_000_000;
/// Up to how many points it may take the less memory.
const IDS_POINTS_FEW: u64 = 10_000_000;
/// From how many bytes on an archive and a proof are compared with copying or reading.
const BYTES_MIN: u64 = 100_000 * 512 * 4;

/// One goal, and whether it is met.
pub fn goal(what: &str, value: f64, met: bool) -> String {
    let verdict = if met { "met" } else { "NOT MET" };
    format!("goal: {what}: {value:.2}: {verdict}")
}

/// Every goal that the rows can be held to, and whether it is met.
pub fn judge(rows: &[Row]) -> Vec<String> {
    let find = |name: &str| rows.iter().find(|row| row.name == name);
    let mut lines = Vec::new();
    let mut judged = |what: String, value, met| lines.push(goal(&what, value, met));
    for (name, least) in [("scan", 150_000.0), (MERGE, 30_000.0)] {
        if let Some(row) = find(name) {
            let rate = row.points as f64 / row.seconds;
            judged(
                format!("{name}, points/s at least {least}"),
                rate,
                rate >= least,
            );
            let megabytes = row.anon_bytes as f64 / 1e6;
            judged(
                format!("{name}, RssAnon in MB under 300"),
                megabytes,
                megabytes < 300.0,
            );
        }
    }
    for (name, most) in [
        (GRAFT, 1.5),
        (GRAFT_CHECKED, 3.0),
        (GRAFT_TAIL, 3.0),
        (GRAFT_OVERLAP, 4.0),
    ] {
        let Some(row) = find(name) else {
            continue;
        };
        let meant = row.points >= GRAFT_POINTS_MIN && row.dims == GRAFT_DIMS;
        if let Some((_, synced)) = row.ratios.filter(|_| meant) {
            judged(
                format!("{name}, times cp and sync at most {most}"),
                synced,
                synced <= most,
            );
        }
        let megabytes = row.anon_bytes as f64 / 1e6;
        let allowed = 200.0 + 24.0 * row.conflicts as f64 / 1e6;
        judged(
            format!("{name}, RssAnon in MB under {allowed:.1}"),
            megabytes,
            megabytes < allowed,
        );
    }
    for (name, most) in [
        (ARCHIVE_ADD, 2.0),
        (ARCHIVE_GET, 2.0),
        (ARCHIVE_CHECK, 1.25),
        (VERIFY, 2.0),
    ] {
        // Below, starting costs most.
        let Some(row) = find(name).filter(|row| row.bytes >= BYTES_MIN) else {
            continue;
        };
        if let Some((_, synced)) = row.ratios {
            judged(
                format!("{name}, times copying (or reading) at most {most}"),
                synced,
                synced <= most,
            );
        }
        let megabytes = row.anon_bytes as f64 / 1e6;
        judged(
            format!("{name}, RssAnon in MB under 300"),
            megabytes,
            megabytes < 300.0,
        );
    }
    for name in [GRAFT_IDS, GRAFT_UUIDS] {
        let at = rows.iter().position(|row| row.name == name);
        let Some((row, stages)) = at.and_then(|at| rows.get(at..)?.split_first()) else {
            continue;
        };
        if row.points < IDS_POINTS_MIN {
            continue;
        }
        let megabytes = row.anon_bytes as f64 / 1e6;
        let most = match row.points {
            ..=IDS_POINTS_FEW => 200.0,
            _ => 400.0,
        };
        judged(
            format!("{name}, RssAnon in MB under {most}"),
            megabytes,
            megabytes < most,
        );
        let mut stages = stages.iter().take_while(|stage| stage.ratios.is_none());
        if let Some(found) = stages.find(|stage| stage.name == FIND) {
            let part = found.seconds / row.seconds;
            judged(
                format!("{name}, part of the time that finding takes under 0.25"),
                part,
                part < 0.25,
            );
        }
        if let Some((_, synced)) = row.ratios {
            judged(
                format!("{name}, times cp and sync at most 1.4"),
                synced,
                synced <= 1.4,
            );
        }
    }
    if let (Some(graft), Some(whole)) = (find(GRAFT), find(WHOLE)) {
        let times = whole.seconds / graft.seconds;
        judged(
            "graft, times faster than rebuild with graphs at least 50".to_owned(),
            times,
            times >= 50.0,
        );
    }
    if let (Some(stamp), Some(whole)) = (find(STAMP), find(WHOLE)) {
        let times = whole.seconds / stamp.seconds;
        judged(
            "graft with a stamp, times faster than rebuild with graphs at least 5".to_owned(),
            times,
            times >= 5.0,
        );
        let megabytes = stamp.anon_bytes as f64 / 1e6;
        judged(
            format!("{STAMP}, RssAnon in MB under 300"),
            megabytes,
            megabytes < 300.0,
        );
    }
    if let (Some(few), Some(whole)) = (find(CONSOLIDATE), find(WHOLE)) {
        let part = few.seconds / whole.seconds;
        judged(
            format!("{CONSOLIDATE}, of the time of building anew at most 0.7"),
            part,
            part <= 0.7,
        );
    }
    if let Some(row) = find(MANY_SOURCES) {
        let rate = row.sources as f64 / row.seconds;
        judged(
            format!("{MANY_SOURCES}, sources a second at least 200"),
            rate,
            rate >= 200.0,
        );
        let megabytes = row.anon_bytes as f64 / 1e6;
        judged(
            format!("{MANY_SOURCES}, RssAnon in MB under 300"),
            megabytes,
            megabytes < 300.0,
        );
    }
    lines
}
