//! Disks that are full, get full, or may not be written to. A small disk is a tmpfs in a mount
//! namespace of its own, which goes away with the process.

use std::path::Path;
use std::process::Command;

use crate::support::cli::{Cli, Run};
use crate::support::craft::{Member, Tar, gz};
use crate::support::{Env, Outcome, Trial};

use super::{Bed, is_one_error, plain};

/// Mounts `$DISK` with `$OPTIONS`, runs `$BESIDE` in the background and the rest in front, and lists
/// what is left on the disk.
const ON_DISK: &str = r#"
mount -t tmpfs -o "$OPTIONS" tmpfs "$DISK" || exit 99
(eval "$BESIDE") </dev/null >/dev/null 2>&1 &
"$@"
code=$?
ls -A "$DISK" >"$LEFT"
exit $code
"#;

/// Fills the disk, all but nothing, `$DELAY` seconds after the first scratch folder is on it.
const FILL: &str = r#"
while ! ls -d "$DISK"/.snapmerge-*; do :; done
sleep "$DELAY"
free=$(df --output=avail -B1024 "$DISK" | tail -1)
while [ "$free" -gt 0 ]; do
    fallocate -l "$free"K "$DISK/filler$free" && break
    free=$((free - 64))
done
"#;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mounts = mounts();
    let bed = || Bed::new("a.snapshot", &plain(env, "uint8")?);
    vec![
        Trial::needs("damage/disk_too_small_for_scratch", &mounts, move |how| {
            let bed = bed()?;
            let disk = bed.folder("scratch");
            let says = &["needs up to", "are free", "--scratch"];
            for cli in [bed.merge(), bed.merge().arg("--route=rebuild")] {
                let (run, left) = on_disk(&how, &disk, "size=8m", cli, "")?;
                is_one_error(&run.code(14)?.says(says)?, &disk.display().to_string())?;
                ensure!(left.is_empty(), "left: {left:?}");
                bed.is_clean()?;
            }
            let (run, left) = on_disk(&how, &disk, "size=128k", bed.export(), "")?;
            is_one_error(&run.code(14)?.says(says)?, &disk.display().to_string())?;
            ensure!(left.is_empty(), "left: {left:?}");
            bed.is_clean()
        }),
        Trial::needs("damage/disk_too_small_for_output", &mounts, move |how| {
            let bed = bed()?;
            let disk = bed.folder("out");
            let (run, left) = on_disk(&how, &disk, "size=8m", bed.merge(), "")?;
            let run = run.code(14)?.says(&["needs up to", "are free", "-o"])?;
            is_one_error(&run, &disk.display().to_string())?;
            ensure!(left.is_empty(), "left: {left:?}");
            bed.is_clean()
        }),
        // 40 MB of vectors out of 100 KB: known when they are read, and the disk has to hold them several times.
        Trial::needs("damage/disk_too_small_for_ingest", &mounts, move |how| {
            let bed = bed()?;
            let vector = vec!["0.5"; 4096].join(",");
            let rows = (0..2500).map(|id| format!("{{\"id\":{id},\"vector\":[{vector}]}}\n"));
            let file = bed.folder("rows.jsonl.gz");
            std::fs::write(&file, gz(rows.collect::<String>().as_bytes())?)?;
            let disk = bed.folder("out");
            let out = disk.join("out.snapshot");
            let ingest =
                || cli!["ingest", &file, "-o", &out].args(["--size", "4096", "--distance", "Dot"]);
            let (run, left) = on_disk(&how, &disk, "size=256m", ingest(), "")?;
            let run = run
                .code(14)?
                .says(&["needs up to", "the snapshots", "are free"])?;
            is_one_error(&run, &disk.display().to_string())?;
            ensure!(left.is_empty(), "left: {left:?}");
            on_disk(&how, &disk, "size=420m", ingest(), "")?.0.ok()?;
            bed.is_clean()
        }),
        // 300 MB that come out of 300 KB: what is unpacked counts.
        Trial::needs("damage/gz_that_unfolds", &mounts, move |how| {
            let mut tar = Tar::parse(&plain(env, "uint8")?)?;
            tar.segment("segment.json", |segment| {
                let zeros = vec![0; 300 << 20];
                let file = Member::file("snapshot/files/zeros.dat", &zeros);
                segment.members.push(file);
                Ok(())
            })?;
            let bed = Bed::new("a.snapshot.gz", &gz(&tar.bytes())?)?;
            ensure!(bed.bytes.len() < 4 << 20, "it did not fold up");
            let disk = bed.folder("scratch");
            for cli in [bed.merge().arg("--route=rebuild"), bed.export()] {
                let (run, left) = on_disk(&how, &disk, "size=256m", cli, "")?;
                let run = run.code(14)?.says(&["needs up to", "are free"])?;
                is_one_error(&run, &disk.display().to_string())?;
                ensure!(left.is_empty(), "left: {left:?}");
                bed.is_clean()?;
            }
            Ok(())
        }),
        Trial::needs("damage/disk_gets_full", &mounts, move |how| {
            let bed = Bed::new("a.snapshot", &plain(env, "album_2017")?)?;
            let disk = bed.folder("scratch");
            let mut full = 0;
            for delay in ["0", "0", "0.05", "0.1", "0.2", "0.3", "0.5", "0.8"] {
                let cli = bed
                    .merge()
                    .arg(env.case("album_2018").snapshot_gz)
                    .args(["--route=rebuild", "--force"])
                    .env("DELAY", delay);
                let (run, left) = on_disk(&how, &disk, "size=320m", cli, FILL)?;
                let is_full = run.status.code() != Some(0);
                if is_full {
                    let run = run.code(14)?;
                    is_one_error(&run, "")
                        .map_err(|e| format!("{delay} s: {}", e.message().unwrap_or_default()))?;
                    full += 1;
                } else {
                    std::fs::remove_file(bed.out())?;
                    for beside in ["checksum", "provenance.json"] {
                        let name = format!("master.snapshot.{beside}");
                        std::fs::remove_file(bed.folder("out").join(name))?;
                    }
                }
                ensure!(
                    left.iter().all(|name| name.starts_with("filler")),
                    "{delay} s: left: {left:?}"
                );
                bed.is_clean()?;
            }
            ensure!(full >= 3, "the disk got full {full} times only");
            Ok(())
        }),
        Trial::needs("damage/output_cannot_be_written_to", &mounts, move |how| {
            let bed = bed()?;
            for (folder, cli) in [
                ("out", bed.merge()),
                ("scratch", bed.merge()),
                ("scratch", bed.export()),
            ] {
                let disk = bed.folder(folder);
                let (run, left) = on_disk(&how, &disk, "ro", cli, "")?;
                let run = run
                    .code(1)?
                    .says(&["Read-only file system", "may write to"])?;
                is_one_error(&run, &disk.display().to_string())?;
                ensure!(left.is_empty(), "left: {left:?}");
                bed.is_clean()?;
            }
            Ok(())
        }),
        Trial::new("damage/standard_output_full", move || {
            let bed = bed()?;
            let run = bed
                .export()
                .under(&["sh", "-c", "exec \"$@\" >/dev/full", "sh"]);
            let run = run
                .run()?
                .code(14)?
                .says(&["standard output", "No space left"])?;
            is_one_error(&run, "standard output")?;
            bed.is_clean()
        }),
    ]
}

/// How a mount namespace of one's own is made here.
pub fn mounts() -> Result<Vec<&'static str>, String> {
    let ways: [&[&str]; 2] = [&["unshare", "-m"], &["unshare", "-Urm"]];
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    for way in ways {
        let mount = Command::new(way[0])
            .args(&way[1..])
            .args(["mount", "-t", "tmpfs", "tmpfs"])
            .arg(dir.path())
            .output();
        if mount.is_ok_and(|mount| mount.status.success()) {
            return Ok(way.to_vec());
        }
    }
    Err("no small disk can be mounted (unshare -m, unshare -Urm)".into())
}

/// Runs `cli` while a small disk is mounted at `disk`; also what was left there.
pub fn on_disk(
    how: &[&str],
    disk: &Path,
    options: &str,
    cli: Cli,
    beside: &str,
) -> Outcome<(Run, Vec<String>)> {
    let left = tempfile::NamedTempFile::new()?;
    let wrapper = [how, &["sh", "-c", ON_DISK, "sh"]].concat();
    let run = cli
        .under(&wrapper)
        .env("DISK", disk)
        .env("OPTIONS", options)
        .env("BESIDE", beside)
        .env("LEFT", left.path())
        .run()?;
    let left = std::fs::read_to_string(left.path())?;
    Ok((run, left.lines().map(str::to_owned).collect()))
}
