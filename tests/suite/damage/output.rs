//! Outputs that cannot be meant, and sources that are given wrongly.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::{Env, Trial, names_in};

use super::{Bed, is_one_error, plain};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let bed = || Bed::new("a.snapshot", &plain(env, "uint8")?);
    vec![
        Trial::new("damage/output_exists", move || {
            let bed = bed()?;
            std::fs::write(bed.out(), "mine")?;
            let run = bed
                .merge()
                .run()?
                .code(2)?
                .says(&["exists already", "--force"])?;
            is_one_error(&run, "master.snapshot")?;
            ensure_eq!(std::fs::read(bed.out())?, b"mine", "what was there");
            ensure_eq!(names_in(&bed.folder("out"))?, ["master.snapshot"], "left");
            // Refused for another reason, what was there stays as well.
            std::fs::write(&bed.source, "bad")?;
            bed.merge().arg("--force").run()?.code(13)?;
            ensure_eq!(std::fs::read(bed.out())?, b"mine", "what was there");
            std::fs::write(&bed.source, &bed.bytes)?;
            bed.merge().arg("--force").run()?.ok()?;
            cli!["export", bed.out(), "--require-checksum"]
                .run()?
                .ok()?;
            Ok(())
        }),
        Trial::new("damage/output_is_a_source", move || {
            let bed = bed()?;
            let link = bed.folder("link");
            symlink(&bed.source, &link)?;
            let dotted = bed.folder("in").join("..").join("in").join("a.snapshot");
            let ledger = bed.folder("out").join("ledger");
            for (output, ledger) in [
                (&bed.source, &ledger),
                (&link, &ledger),
                (&dotted, &ledger),
                (&bed.out(), &bed.source),
                (&bed.out(), &bed.out()),
            ] {
                let merge = cli!["merge", &bed.source, "-q", "--force", "-o", output];
                let run = merge.arg("--ledger").arg(ledger).run()?.code(2)?;
                is_one_error(&run, "it is")?;
                bed.is_clean()?;
            }
            // The checksum that is written beside a master is an output too.
            let source = bed.folder("in").join("b.snapshot.checksum");
            std::fs::copy(&bed.source, &source)?;
            let output = bed.folder("in").join("b.snapshot");
            cli!["merge", &source, "-q", "-o", output].run()?.code(2)?;
            ensure!(std::fs::read(&source)? == bed.bytes, "a source was changed");
            Ok(())
        }),
        Trial::new("damage/output_is_a_folder", move || {
            let bed = bed()?;
            let merge = cli![
                "merge",
                &bed.source,
                "-q",
                "--force",
                "-o",
                bed.folder("out")
            ];
            is_one_error(&merge.run()?.code(2)?, "it is a folder")?;
            bed.is_clean()
        }),
        Trial::new("damage/source_given_twice", move || {
            let bed = bed()?;
            let (soft, hard) = (bed.folder("soft.snapshot"), bed.folder("hard.snapshot"));
            symlink(&bed.source, &soft)?;
            std::fs::hard_link(&bed.source, &hard)?;
            for again in [&bed.source, &soft, &hard] {
                let run = bed.merge().arg(again).run()?.code(2)?;
                is_one_error(&run, "it is given twice")?;
                bed.is_clean()?;
            }
            Ok(())
        }),
        Trial::new("damage/source_is_no_file", move || {
            let bed = bed()?;
            let pipe = bed.folder("pipe.snapshot");
            let made = Command::new("mkfifo").arg(&pipe).status()?;
            ensure!(made.success(), "mkfifo");
            for (source, why) in [
                (bed.folder("in"), "it is a folder"),
                (pipe, "it is a pipe or a device"),
                ("/dev/zero".into(), "it is a pipe or a device"),
            ] {
                let run = bed.merge().arg(&source).run()?.code(2)?.says(&[why])?;
                is_one_error(&run, &source.display().to_string())?;
                let run = cli!["export", &source].run()?.code(2)?.says(&[why])?;
                is_one_error(&run, &source.display().to_string())?;
                bed.is_clean()?;
            }
            let run = bed.merge().arg("nowhere.snapshot").run()?.code(1)?;
            run.says(&["nowhere.snapshot", "No such file"])?;
            bed.is_clean()
        }),
        Trial::new("damage/sources_that_cannot_be_merged", move || {
            let bed = bed()?;
            let other = env.case("plain_dot").snapshot_gz;
            let run = bed.merge().arg(other).run()?.code(2)?.says(&["uint8"])?;
            ensure_eq!(run.stderr.matches("snapmerge: ").count(), 1, "errors");
            bed.is_clean()?;
            // What only a newer Qdrant knows is said to be that.
            let newer = replaced(&bed.bytes, b"\"Dot\"", b"\"Dat\"");
            let unknown = Bed::new("a.snapshot", &newer)?;
            let run = unknown.merge().run()?.code(13)?;
            run.says(&["Dat", "not known", "  next: "])?;
            unknown.is_clean()?;
            // Told apart from a source that only looks so because it is damaged.
            let broken = replaced(&bed.bytes, b"\"size\":16", b"\"size\":17");
            let bed = Bed::new("a.snapshot", &broken)?;
            super::write_checksum(&bed.source, &plain(env, "uint8")?)?;
            let run = bed
                .merge()
                .arg(env.case("uint8").snapshot_gz)
                .run()?
                .code(13)?;
            is_one_error(&run.says(&["SHA-256"])?, "a.snapshot")?;
            bed.is_clean()
        }),
    ]
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> = (0..bytes.len() - from.len())
        .filter(|at| bytes[*at..].starts_with(from))
        .collect();
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}
