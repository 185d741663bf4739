//! More ids than fit into memory: they go to scratch, and a disk that is too small for them is told.

use serde_json::json;

use crate::support::craft::{Member, Tar};
use crate::support::{Env, Outcome, Trial};

use super::disk::{mounts, on_disk};
use super::{Bed, plain};

/// Twice as many as are sorted at once.
const IDS: u32 = 1 << 20;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mounts = mounts();
    vec![Trial::needs(
        "damage/ids_too_many_for_memory",
        &mounts,
        move |how| {
            let bed = Bed::new("a.snapshot", &with_many_ids(env)?)?;
            let disk = bed.folder("scratch");
            let inspect = cli!["inspect", &bed.source].env("TMPDIR", &disk);
            let with_json = inspect.clone().arg("--json");
            let (run, left) = on_disk(&how, &disk, "size=64m", with_json, "")?;
            let report = run.ok()?.json()?;
            let segments = &report["snapshots"][0]["contents"]["shards"][0]["segments"];
            let largest = segments.as_array().ok_or("no segments")?.iter();
            let largest = largest.filter_map(|one| one["points"]["points_count"].as_u64());
            ensure_eq!(largest.max(), Some(u64::from(IDS)), "ids of the largest");
            ensure_eq!(
                report["snapshots"][0]["verdict"],
                json!("readable"),
                "{report}"
            );
            ensure!(left.is_empty(), "left: {left:?}");
            let (run, left) = on_disk(&how, &disk, "size=4m", inspect, "")?;
            run.code(14)?
                .says(&["ids in scratch", &disk.display().to_string()])?;
            ensure!(left.is_empty(), "left: {left:?}");
            bed.is_clean()
        },
    )]
}

/// A snapshot of which a segment has very many UUIDs, in no order.
fn with_many_ids(env: &Env) -> Outcome<Vec<u8>> {
    let mut mappings = u64::from(IDS).to_le_bytes().to_vec();
    for offset in 0..IDS {
        // An odd factor: no two are the same.
        let id = u128::from(offset).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        mappings.push(1);
        mappings.extend(id.to_be_bytes());
        mappings.extend(offset.to_le_bytes());
    }
    let mut tar = Tar::parse(&plain(env, "album_2017")?)?;
    tar.segment("id_tracker.mappings", |segment| {
        for (name, bytes) in [
            ("mappings", mappings),
            ("versions", [1, 0, 0, 0, 0, 0, 0, 0].repeat(IDS as usize)),
            ("deleted", vec![0; IDS as usize / 8]),
        ] {
            let path = format!("snapshot/files/id_tracker.{name}");
            segment.remove(|of| of == path)?;
            segment.members.push(Member::file(&path, &bytes));
        }
        Ok(())
    })?;
    Ok(tar.bytes())
}
