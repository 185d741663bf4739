//! Entries as sources: every operation gives for an entry what it gives for the file that was stored,
//! copies nothing, reads no more than it needs, and believes no byte that was changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use snapmerge::archive::{Archive, EntryRef, OBJECTS};

use super::{archive, make, rows, walk};
use crate::support::cases::Case;
use crate::support::cli::Cli;
use crate::support::s3::S3;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = vec![
        Trial::new("archive/sources/grafted_as_files", || {
            as_files(env, "graft")
        }),
        Trial::new("archive/sources/rebuilt_as_files", || {
            as_files(env, "rebuild")
        }),
        Trial::new("archive/sources/two_nights", two_nights),
        Trial::new("archive/sources/nothing_is_copied", nothing_is_copied),
        Trial::new("archive/sources/only_what_is_needed", only_what_is_needed),
        Trial::new("archive/sources/every_flipped_bit", every_flipped_bit),
        Trial::new("archive/sources/in_a_bucket", in_a_bucket),
    ];
    trials.extend(env.per_case("archive/sources/case", one_case));
    // Of old servers two cases each: how they are read is tested elsewhere.
    let mut old = env.per_old_case("archive/sources/old", one_case);
    old.retain(|trial| {
        ["/edited", "/three_shards", "/all"]
            .iter()
            .any(|case| trial.name.ends_with(case))
    });
    trials.extend(old);
    trials
}

/// Operations on an entry, and on its file.
struct Pair {
    dir: tempfile::TempDir,
    root: PathBuf,
    file: PathBuf,
    entry: String,
}

impl Pair {
    fn of(name: &str, file: impl FnOnce(&Path) -> Outcome<PathBuf>) -> Outcome<Self> {
        let dir = temp_dir()?;
        let root = make(dir.path())?;
        let file = file(dir.path())?;
        archive("add", &root)
            .arg(&file)
            .args(["--name", name])
            .run()?
            .ok()?;
        Ok(Self {
            entry: format!("archive:{name}@latest"),
            dir,
            root,
            file,
        })
    }

    /// Vectors of some objects, which no compression makes smaller.
    fn large() -> Outcome<Self> {
        Self::of("large", |dir| rows(dir, "large", 0, 9000))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `VERB` of the file and of the entry.
    fn both(&self, verb: &str) -> [Cli; 2] {
        [self.of_file(verb), self.of_entry(verb)]
    }

    fn of_file(&self, verb: &str) -> Cli {
        cli![verb, "--archive", &self.root, &self.file]
    }

    fn of_entry(&self, verb: &str) -> Cli {
        cli![verb, "--archive", &self.root, &self.entry]
    }

    fn merge(&self, output: &Path) -> Cli {
        self.of_entry("merge").args(["-q", "-o"]).arg(output)
    }

    /// The objects that the entry is made of, and the one in the middle of its vectors.
    fn recipe(&self) -> Outcome<(Vec<PathBuf>, PathBuf)> {
        let archive = Archive::at(&self.root.to_string_lossy(), None)?;
        let reference = EntryRef::of_source(&self.entry).ok_or("no reference")?;
        let recipe = archive.recipe(&reference.find(&archive.chain()?)?)?;
        let files = recipe.files.iter();
        let vectors = files.max_by_key(|file| file.stored).ok_or("no files")?;
        let middle = vectors.start + vectors.stored / 2;
        let mut end = 0;
        let within = recipe.extents().find(|extent| {
            end += u64::from(extent.bytes);
            end > middle
        });
        let path = |at: usize| -> Outcome<PathBuf> {
            let part = recipe.objects.get(at).ok_or("no such object")?;
            Ok(self.root.join(part.name.path(OBJECTS)))
        };
        let all: Outcome<Vec<PathBuf>> = (0..recipe.objects.len()).map(path).collect();
        let within = within.ok_or("no extent")?;
        Ok((all?, path(within.object as usize)?))
    }
}

/// Whatever made it, it is inspected, exported and merged alike.
fn one_case(case: Case) -> Outcome {
    let pair = Pair::of(&case.name, |dir| case.unpack(dir))?;
    let [mut file, mut entry] = {
        let [file, entry] = pair.both("inspect");
        let told = |cli: Cli| cli.arg("--json").run()?.json();
        [told(file)?, told(entry)?]
    };
    ensure_eq!(
        entry["snapshots"][0]["file"].as_str(),
        Some(pair.entry.as_str()),
        "the file"
    );
    ensure_eq!(
        entry["snapshots"][0]["contents"]["checksum"]["state"],
        "parts_verified",
        "the checksum"
    );
    for told in [&mut file, &mut entry] {
        told["snapshots"][0]["file"].take();
        told["snapshots"][0]["contents"]["checksum"].take();
    }
    ensure_eq!(entry, file, "what inspect tells");
    let [file, entry] = pair.both("export").map(Cli::run);
    ensure!(entry?.ok()?.stdout == file?.ok()?.stdout, "exported");
    pair.of_file("diff").arg(&pair.entry).run()?.ok()?;
    let [file, entry] = ["of_file", "of_entry"].map(|name| pair.path(name));
    for (cli, to) in pair.both("merge").into_iter().zip([&file, &entry]) {
        let run = cli.args(["-q", "--json", "-o"]).arg(to).run()?.ok()?;
        let told = &run.json()?["sources"][0];
        let is_entry = to.ends_with("of_entry");
        ensure_eq!(told["verified"], json!(is_entry), "verified: {told}");
        if is_entry {
            ensure_eq!(told["file"].as_str(), Some(pair.entry.as_str()), "the file");
        }
    }
    cli!["verify", "-q", "--deep", &entry, "--against", &pair.entry]
        .args(["--archive"])
        .arg(&pair.root)
        .run()?
        .ok()?;
    cli!["diff", "-q", &file, &entry].run()?.ok()?;
    Ok(())
}

/// The same master, and the same record of what it was made of.
fn as_files(env: &Env, route: &str) -> Outcome {
    let dir = temp_dir()?;
    let root = make(dir.path())?;
    let mut entries = Vec::new();
    let mut files = Vec::new();
    for (at, name) in ["album_2017", "album_2018"].iter().enumerate() {
        let case = env.case(name);
        let file = case.unpack(dir.path())?;
        let checksum = file.with_extension("snapshot.checksum");
        std::fs::write(checksum, case.sha256())?;
        archive("add", &root).arg(&file).run()?.ok()?;
        entries.push(match at {
            0 => format!("archive:{name}"),
            _ => {
                let all = super::entries(&root)?;
                let id = all.iter().find(|entry| entry["name"] == json!(name));
                let id = id.and_then(|entry| entry["id"].as_str()).ok_or("no id")?;
                format!("archive:{id}")
            }
        });
        files.push(file);
    }
    let mixed = [PathBuf::from(&entries[0]), files[1].clone()];
    let entries: Vec<PathBuf> = entries.iter().map(PathBuf::from).collect();
    let mut told: Vec<(Value, Value)> = Vec::new();
    for (at, sources) in [&files[..], &entries, &mixed].into_iter().enumerate() {
        // Masters have the same name, so that their records can be compared.
        let folder = dir.path().join(at.to_string());
        std::fs::create_dir(&folder)?;
        let master = folder.join("master.snapshot");
        let run = cli![
            "merge",
            "-q",
            "--json",
            "--archive",
            &root,
            "--route",
            route
        ]
        .args(sources)
        .arg("-o")
        .arg(&master)
        .run()?
        .ok()?;
        let report = run.json()?;
        for source in report["sources"].as_array().ok_or("no sources")? {
            ensure_eq!(source["verified"], json!(true), "{source}");
        }
        let record = std::fs::read(master.with_extension("snapshot.provenance.json"))?;
        let record: Value = serde_json::from_slice(&record)?;
        cli!["verify", "-q", "--archive", &root, &master, "--against"]
            .args(&entries)
            .run()?
            .ok()?;
        ensure_eq!(
            names_in(&folder)?.len(),
            3,
            "a master, its checksum, its record"
        );
        told.push((report, record));
    }
    let (_, of_files) = &told[0];
    for (_, record) in &told[1..] {
        ensure_eq!(record["sources"], of_files["sources"], "its sources");
        ensure!(record["sources"][0]["sha256"].is_string(), "{record}");
        // What is rebuilt gets new names each time.
        let same: &[&str] = match route {
            "graft" => &["sha256", "xxh3", "points", "config"],
            _ => &["digest", "points", "config"],
        };
        for key in same {
            ensure_eq!(record[*key], of_files[*key], "{key}");
        }
    }
    Ok(())
}

/// Two nights that share objects, and the second of which is scattered over both.
fn two_nights() -> Outcome {
    let pair = Pair::large()?;
    let night = rows(pair.dir.path(), "night", 5, 9000)?;
    let earlier = archive("add", &pair.root).arg(&night);
    earlier
        .args(["--name", "large", "--time", "2026-01-02"])
        .run()?
        .ok()?;
    let earlier = "archive:large@2026-01-02";
    let (first, second) = (pair.path("first"), pair.path("second"));
    let mut names = Vec::new();
    for (sources, to) in [
        (
            [pair.file.display().to_string(), night.display().to_string()],
            &first,
        ),
        ([pair.entry.clone(), earlier.into()], &second),
    ] {
        let run = cli!["merge", "-q", "--json", "--archive", &pair.root, "-o", to]
            .args(sources)
            .run()?
            .ok()?;
        let told = run.json()?;
        names = [0, 1]
            .map(|at| told["sources"][at]["name"].to_string())
            .into();
    }
    // Of one name, they are told apart by their times.
    ensure!(names[1].starts_with("\"large@2026-01-02T"), "{names:?}");
    ensure!(
        names[0].starts_with("\"large@20") && names[0] != names[1],
        "{names:?}"
    );
    cli!["diff", "-q", &first, &second].run()?.ok()?;
    cli![
        "verify",
        "-q",
        &second,
        "--archive",
        &pair.root,
        "--against"
    ]
    .args([&pair.entry, earlier])
    .run()?
    .ok()?;
    Ok(())
}

/// Whoever may write no file of a tenth of the snapshot does not copy it.
fn nothing_is_copied() -> Outcome {
    let pair = Pair::large()?;
    let master = pair.path("master.snapshot");
    let scratch = pair.path("scratch");
    let running = pair.merge(&master).arg("--scratch").arg(&scratch);
    let mut running = running.args(["--route", "graft"]).start()?;
    let mut most = 0;
    while !running.ended()? {
        let files = walk(&scratch).unwrap_or_default();
        let bytes = files.iter().filter_map(|file| std::fs::metadata(file).ok());
        most = most.max(bytes.map(|meta| meta.len()).sum());
        std::thread::sleep(Duration::from_millis(2));
    }
    running.wait()?.ok()?;
    let whole = std::fs::metadata(&pair.file)?.len();
    ensure!(whole > 12 << 20, "{whole} bytes");
    ensure!(most < whole / 10, "{most} bytes of {whole} in scratch");
    // In units of 512 bytes.
    let limited = ["sh", "-c", "ulimit -f 2000; exec \"$0\" \"$@\""];
    pair.of_entry("inspect")
        .arg("--check")
        .under(&limited)
        .run()?
        .ok()?;
    cli![
        "verify",
        "-q",
        "--archive",
        &pair.root,
        &master,
        "--against",
        &pair.entry
    ]
    .arg("--scratch")
    .arg(&scratch)
    .under(&limited)
    .run()?
    .ok()?;
    ensure_eq!(names_in(&scratch)?, Vec::<String>::new(), "scratch");
    Ok(())
}

/// What is not needed may be gone; what is needed is missed, and nothing is left half done.
fn only_what_is_needed() -> Outcome {
    let pair = Pair::large()?;
    let (all, vectors) = pair.recipe()?;
    ensure!(all.len() > 3, "{} objects", all.len());
    let kept = pair.path("kept");
    let out = pair.path("out");
    std::fs::create_dir(&out)?;
    std::fs::rename(&vectors, &kept)?;
    let name = vectors.file_stem().ok_or("no name")?.to_string_lossy();
    let run = pair.of_entry("inspect").run()?.ok()?;
    run.prints(&["NOT compared", "--check reads all"])?;
    let output = out.join("master.snapshot");
    let needs = [
        pair.of_entry("inspect").arg("--check"),
        pair.of_entry("export"),
        pair.merge(&output),
        pair.merge(&output).args(["--route", "rebuild"]),
        pair.of_entry("split")
            .args(["--by", "n", "-o"])
            .arg(out.join("part_{n}.snapshot")),
        pair.of_file("diff").arg(&pair.entry),
        pair.of_file("verify").args(["--against", &pair.entry]),
        pair.of_file("verify")
            .args(["--deep", "--against", &pair.entry]),
        cli!["drill", "--archive", &pair.root],
    ];
    for cli in needs {
        let run = cli.run()?.code(13)?;
        let told = format!("{}{}", run.stdout, run.stderr);
        for part in [&*name, "it is missing", "archive check"] {
            ensure!(told.contains(part), "{part} is not told\n{}", run.told());
        }
        ensure_eq!(names_in(&out)?, Vec::<String>::new(), "left by it");
    }
    std::fs::rename(&kept, &vectors)?;
    pair.merge(&output).run()?.ok()?;
    Ok(())
}

/// Of whatever object or recipe, each is found, and no master comes of it.
fn every_flipped_bit() -> Outcome {
    let pair = Pair::large()?;
    let out = pair.path("out");
    std::fs::create_dir(&out)?;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (mut files, _) = pair.recipe()?;
    files.extend(walk(&pair.root.join("recipes"))?);
    let mut named = BTreeSet::new();
    for round in 0..24 {
        let file = &files[round % files.len()];
        let whole = std::fs::read(file)?;
        let mut bytes = whole.clone();
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= 1 << random.random_range(0..8);
        std::fs::write(file, bytes)?;
        let route = ["graft", "rebuild"][round / files.len() % 2];
        let run = pair.merge(&out.join("m")).args(["--route", route]).run()?;
        let name = file.file_stem().ok_or("no name")?.to_string_lossy();
        let run = run
            .code(13)?
            .says(&[&name, "its SHA-256 is", "archive check"])?;
        ensure!(!run.stderr.contains("fetch or copy"), "{}", run.told());
        ensure_eq!(names_in(&out)?, Vec::<String>::new(), "byte {at} of {name}");
        named.insert(name.into_owned());
        std::fs::write(file, whole)?;
    }
    ensure_eq!(named.len(), files.len(), "files");
    pair.merge(&out.join("m")).run()?.ok()?;
    Ok(())
}

/// Out of a bucket that fails now and then.
fn in_a_bucket() -> Outcome {
    const PLACE: &str = "s3://test/nights";
    let dir = temp_dir()?;
    let file = rows(dir.path(), "large", 0, 9000)?;
    let s3 = S3::start()?;
    for cli in [
        cli!["archive", "init", "--archive", PLACE],
        cli!["archive", "add", "--archive", PLACE, &file],
    ] {
        s3.lead(cli).run()?.ok()?;
    }
    let (of_file, of_entry) = (dir.path().join("of_file"), dir.path().join("of_entry"));
    cli!["merge", "-q", &file, "-o", &of_file].run()?.ok()?;
    let merge = || {
        s3.lead(cli![
            "merge",
            "-q",
            "--archive",
            PLACE,
            "archive:large",
            "--force"
        ])
        .arg("-o")
        .arg(&of_entry)
    };
    s3.fail_every(5);
    let before = s3.requests();
    merge().run()?.ok()?;
    ensure!(s3.failed() > 0, "nothing failed");
    let objects: Vec<String> = s3
        .names()
        .into_iter()
        .filter(|name| name.contains("/objects/"))
        .collect();
    // Each is got some times, not for each of its pieces.
    let requests = s3.requests() - before;
    let most = 40 + 6 * objects.len() as u64;
    ensure!(objects.len() > 3 && requests < most, "{requests} requests");
    ensure!(
        std::fs::read(&of_file)? == std::fs::read(&of_entry)?,
        "another master"
    );
    s3.lead(cli![
        "inspect",
        "--check",
        "--archive",
        PLACE,
        "archive:large"
    ])
    .run()?
    .ok()?;
    s3.change(&objects[1], |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        true
    });
    merge().run()?.code(13)?.says(&["its SHA-256 is"])?;
    ensure!(
        std::fs::read(&of_file)? == std::fs::read(&of_entry)?,
        "it was written over"
    );
    Ok(())
}
