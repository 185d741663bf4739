//! `snapmerge merge`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::args::{LayoutChoice, MergeArgs, RouteChoice};
use super::{Ended, Given};
use crate::durable::{self, Staged};
use crate::engine::{Filter, take_warnings};
use crate::error::{Error, Kind, Result};
use crate::merge::{
    Built, Carried, Conflict, Ledger, Plan, Route, Settings, Site, Stamp, Tally, graft, plan,
    rebuild, require_disk,
};
use crate::proof::{Expected, Proof, read_back, read_carried};
use crate::report::merge::{
    ConflictReport, MasterReport, MergeReport, ProofReport, ShardReport, SourceReport, StageReport,
};
use crate::report::progress::{Progress, Unit};
use crate::schema::{Decision, Finding, Overrides, Quantization, UserConfig};
use crate::scratch::Scratch;
use crate::source::{Checksum, Opening, Source, tell_apart};

/// Bytes copied at once.
const COPY_BYTES: usize = 256 * 1024;

type Report = MergeReport<Conflict, Finding, Decision, Carried>;

/// Runs the command.
pub fn run(args: MergeArgs) -> Result<Ended> {
    let started = Instant::now();
    let settings = settings(&args)?;
    let progress = if args.quiet || args.dry_run {
        Progress::Quiet
    } else {
        Progress::Shown
    };
    refuse_output(&args)?;
    let mut sources = open(&args, progress)?;
    let plan = match plan(&sources, &settings) {
        Ok(plan) => plan,
        Err(err) => {
            // What cannot be merged as it is may only be damaged: a config with a flipped bit.
            for source in &mut sources {
                source.verify()?;
            }
            return Err(err);
        }
    };
    if args.dry_run {
        print_plan(&plan, args.json)?;
        return Ok((!plan.missing.is_empty()).then_some(Kind::Differs));
    }
    let output_folder = folder_of(&args.output);
    let scratch_folder = args
        .scratch
        .clone()
        .unwrap_or_else(|| output_folder.clone());
    require_disk(&plan.needs, &scratch_folder, &output_folder)?;

    let staged = Staged::new(&args.output, args.force)?;
    let scratch = Scratch::new(&scratch_folder)?;
    let ledger = Ledger::new(args.ledger.as_deref(), args.force)?;
    let site = Site {
        scratch: &scratch,
        progress,
    };
    let compressed = is_gz(&args.output);
    let packed = staged.path().with_extension("packed");
    let target = create(&packed)?;
    let (built, ledger) = match plan.route {
        Route::Graft => graft(
            &mut sources,
            &plan,
            &settings,
            ledger,
            target,
            &packed,
            site,
        )?,
        Route::Rebuild => rebuild(
            &mut sources,
            &plan,
            &settings,
            ledger,
            target,
            &packed,
            site,
        )?,
    };
    refuse_what_is_lost(&sources, &built)?;

    let proving = Instant::now();
    let expected = Expected {
        digest: built.digest,
        shards: built
            .shards
            .iter()
            .map(|shard| (shard.number, shard.points))
            .collect(),
        layout: &plan.layout,
        config: plan.united.config.raw(),
    };
    let syncing = sync_beside(&packed)?;
    let proof = match &built.sha256 {
        Some(sha256) => read_carried(&packed, &expected, sha256)?,
        None => read_back(&packed, &expected, &scratch, progress)?,
    };
    syncing
        .join()
        .unwrap_or_else(|_| Err(std::io::Error::other("a thread ended")))
        .map_err(|err| Error::io("syncing", &packed, &err))?;
    let mut stages = built.stages.clone();
    stages.push(
        StageReport::new("prove", proving)
            .points(proof.points)
            .bytes(proof.bytes),
    );
    // What was read back must be what is published: its file is not written again, only renamed,
    // or compressed and compared once more.
    let sha256 = if compressed {
        let compressing = Instant::now();
        let sha256 = compress(&packed, &staged, &proof, progress)?;
        stages.push(StageReport::new("compress", compressing).bytes(proof.bytes));
        sha256
    } else {
        std::fs::rename(&packed, staged.path())
            .map_err(|err| Error::io("renaming", &packed, &err))?;
        proof.sha256.clone()
    };
    let publishing = Instant::now();
    let file_bytes = std::fs::metadata(staged.path())
        .map_err(|err| Error::io("looking at", staged.path(), &err))?
        .len();
    let conflicts = ConflictReport {
        policy: settings.on_conflict.to_string(),
        count: ledger.count(),
        first: ledger.first().to_vec(),
        ledger: ledger.path().map(|path| path.display().to_string()),
    };
    ledger.publish()?;
    publish(&args, staged, &sha256)?;
    drop(scratch);
    stages.push(StageReport::new("publish", publishing).bytes(file_bytes));

    let master = Master {
        file: &args.output,
        file_bytes,
        sha256,
    };
    let report = report(
        &sources, &plan, &built, &proof, master, conflicts, stages, started,
    );
    if args.json {
        super::print_json(&report)?;
    } else {
        super::print(&report.text())?;
    }
    Ok((!report.missing.is_empty()).then_some(Kind::Differs))
}

fn settings(args: &MergeArgs) -> Result<Settings> {
    let stamp = args
        .stamp
        .as_ref()
        .map(|field| -> Result<Stamp> {
            let mut values = BTreeMap::new();
            for text in &args.stamp_value {
                let Some((source, value)) = text.split_once('=') else {
                    return Err(Error::usage(
                        format!("reading --stamp-value {text}"),
                        "there is no '='",
                    )
                    .next("give it as --stamp-value SOURCE=VALUE"));
                };
                let value =
                    serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
                values.insert(source.to_owned(), value);
            }
            Ok(Stamp {
                field: field.clone(),
                values,
            })
        })
        .transpose()?;
    let config = args
        .config
        .as_ref()
        .map(|path| {
            let bytes = std::fs::read(path).map_err(|err| Error::io("reading", path, &err))?;
            UserConfig::parse(&path.display().to_string(), &bytes)
        })
        .transpose()?;
    let quantization = args
        .quantization
        .as_deref()
        .map(Quantization::from_word)
        .transpose()?;
    Ok(Settings {
        on_conflict: args.on_conflict.clone(),
        stamp,
        filter: args.filter.as_deref().map(Filter::parse).transpose()?,
        drop_payload: args.drop_payload.clone(),
        overrides: Overrides {
            shard_number: args.shards,
            hnsw_m: args.hnsw_m,
            hnsw_ef_construct: args.hnsw_ef_construct,
            on_disk_vectors: args.on_disk_vectors,
            on_disk_payload: args.on_disk_payload,
            indexing_threshold: args.indexing_threshold,
            memmap_threshold: args.memmap_threshold,
            quantization,
            config,
            ..Overrides::default()
        },
        allow_incomplete: args.allow_incomplete,
        route: match args.route {
            RouteChoice::Auto => None,
            RouteChoice::Only(route) => Some(route),
        },
        by_source: args.layout == LayoutChoice::BySource,
        server_consolidates: args.server_consolidates,
        consolidate: args.consolidate,
    })
}

/// Refuses an output that would be lost or would cost a source, before anything is read.
fn refuse_output(args: &MergeArgs) -> Result<()> {
    // By device and inode: a hard link is the same file under another name.
    let real = |path: &Path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    let mut written = vec![args.output.clone(), checksum_file(&args.output)];
    written.extend(args.ledger.clone());
    for file in &written {
        let there = real(file);
        if there.is_some() && args.sources.iter().any(|source| there == real(source)) {
            return Err(Error::usage(
                format!("writing {}", file.display()),
                "it is one of the sources, which are only read",
            )
            .next("choose another name"));
        }
    }
    if args.ledger.as_ref() == Some(&args.output) {
        return Err(Error::usage(
            format!("writing {}", args.output.display()),
            "it is both the output and the ledger",
        )
        .next("choose another name for --ledger"));
    }
    // Both names are tried now, so that a merge of hours does not end with this.
    drop(Staged::new(&args.output, args.force)?);
    if let Some(ledger) = &args.ledger {
        drop(Staged::new(ledger, args.force)?);
    }
    Ok(())
}

fn open(args: &MergeArgs, progress: Progress) -> Result<Vec<Source>> {
    let given = Given::new(&args.checksums)?;
    given.all_used(args.sources.iter().map(PathBuf::as_path))?;
    let stage = progress.stage("look into sources", None, Unit::Bytes);
    let mut sources = Vec::new();
    for path in &args.sources {
        // By graft, ids and logs are looked at without the engine.
        let look_inside = args.route != RouteChoice::Only(Route::Rebuild);
        let opening = Opening {
            trackers: look_inside,
            log: look_inside,
            ..given.opening(path)
        };
        sources.push(Source::open(path, &opening, Some(stage.counter()))?);
    }
    tell_apart(&mut sources);
    Ok(sources)
}

fn print_plan(plan: &Plan, json: bool) -> Result<()> {
    if json {
        return super::print_json(&plan.view());
    }
    let size = |bytes| humansize::format_size(bytes, humansize::BINARY);
    let mut text = format!("plan: route {}\n  because {}\n", plan.route, plan.because);
    text += "\nsources\n";
    for source in &plan.sources {
        text += &format!(
            "  {}  {}  {}\n",
            source.name,
            size(source.file_bytes),
            source.checksum.words()
        );
    }
    text += &format!("\nmaster: {} shards\n", plan.layout.shards.len());
    let mut list = |title: &str, items: Vec<String>| {
        if !items.is_empty() {
            text += &format!("\n{title}\n");
            for item in items {
                text += &format!("  - {}\n", item.replace('\n', "\n    "));
            }
        }
    };
    let strings = |items: &[String]| items.to_vec();
    list(
        "configs that differ",
        plan.united
            .findings
            .iter()
            .map(ToString::to_string)
            .collect(),
    );
    list(
        "chosen for the master",
        plan.united
            .decisions
            .iter()
            .map(ToString::to_string)
            .collect(),
    );
    list("MISSING", strings(&plan.missing));
    list("notes", strings(&plan.notes));
    text += &format!(
        "\ndisk: up to {} for scratch and {} for the master\nnothing was done (--dry-run)\n",
        size(plan.needs.scratch_bytes),
        size(plan.needs.output_bytes)
    );
    super::print(&text)
}

/// Every point that was read is in the master, lost a conflict, or was filtered out.
fn refuse_what_is_lost(sources: &[Source], built: &Built) -> Result<()> {
    for (source, tally) in sources.iter().zip(&built.tallies) {
        if !tally.adds_up() {
            let Tally {
                read,
                filtered,
                lost,
                won,
                ..
            } = tally;
            return Err(Error::failed(
                format!("accounting for the points of {}", source.name),
                format!("{read} were read, but {won} won, {lost} lost, {filtered} filtered"),
            )
            .next("this is a fault of snapmerge: please report it; nothing was written"));
        }
    }
    let won: u64 = built.tallies.iter().map(|tally| tally.won).sum();
    let there: u64 = built.shards.iter().map(|shard| shard.points).sum();
    if won == there {
        return Ok(());
    }
    Err(Error::failed(
        "accounting for the master's points",
        format!("{won} points won their place, but the master has {there}"),
    )
    .next(
        "with --on-conflict remap a new id may be one that a source has already: merge the \
         original sources instead of an earlier master",
    ))
}

/// Syncs the packed file in a thread of its own: the disk works while it is read back from memory.
fn sync_beside(packed: &Path) -> Result<std::thread::JoinHandle<std::io::Result<()>>> {
    let file = File::open(packed).map_err(|err| Error::io("opening", packed, &err))?;
    Ok(std::thread::spawn(move || file.sync_data()))
}

/// Compresses the proven file into the staged one, and reads that back; returns its SHA-256.
fn compress(packed: &Path, staged: &Staged, proof: &Proof, progress: Progress) -> Result<String> {
    let stage = progress.stage("compress", None, Unit::None);
    let failed = |err: &std::io::Error| Error::io("compressing into", staged.path(), err);
    let mut from = File::open(packed).map_err(|err| failed(&err))?;
    let mut encoder = GzEncoder::new(staged.create()?, Compression::default());
    durable::copy_all(&mut from, &mut encoder, COPY_BYTES).map_err(|err| failed(&err))?;
    encoder.finish().map_err(|err| failed(&err))?;
    std::fs::remove_file(packed).map_err(|err| Error::io("removing", packed, &err))?;

    let file = File::open(staged.path()).map_err(|err| failed(&err))?;
    let mut tap = HashingReader {
        inner: BufReader::with_capacity(COPY_BYTES, file),
        hash: Sha256::new(),
    };
    let mut content = Sha256::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(&mut tap);
    durable::copy_all(&mut decoder, &mut content, COPY_BYTES).map_err(|err| failed(&err))?;
    drop(decoder);
    drop(stage);
    if format!("{:x}", content.finalize()) != proof.sha256 {
        return Err(Error::failed(
            format!("reading {} back", staged.path().display()),
            "what was compressed is not what was proven",
        ));
    }
    Ok(format!("{:x}", tap.hash.finalize()))
}

struct HashingReader<R> {
    inner: R,
    hash: Sha256,
}

impl<R: std::io::Read> std::io::Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if let Some(bytes) = buffer.get(..count) {
            self.hash.update(bytes);
        }
        Ok(count)
    }
}

/// Gives the master its name, with its checksum beside it as Qdrant does it.
fn publish(args: &MergeArgs, staged: Staged, sha256: &str) -> Result<()> {
    let checksum = checksum_file(&args.output);
    // A checksum of another file would make the master look damaged.
    match std::fs::remove_file(&checksum) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("removing old checksum", &checksum, &err));
        }
        Ok(()) | Err(_) => {}
    }
    staged.publish(args.force)?;
    durable::write(&checksum, sha256.as_bytes(), true)
}

/// Where Qdrant has the checksum of `file`.
fn checksum_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".checksum");
    PathBuf::from(name)
}

struct Master<'a> {
    file: &'a Path,
    file_bytes: u64,
    sha256: String,
}

#[expect(clippy::too_many_arguments, reason = "a report is made of everything")]
fn report(
    sources: &[Source],
    plan: &Plan,
    built: &Built,
    proof: &Proof,
    master: Master<'_>,
    conflicts: ConflictReport<Conflict>,
    stages: Vec<StageReport>,
    started: Instant,
) -> Report {
    let mut notes = plan.notes.clone();
    if built.restamped > 0 {
        notes.push(format!(
            "the stamp replaced another value of its field in {} points",
            built.restamped
        ));
    }
    notes.extend(
        take_warnings()
            .into_iter()
            .map(|warning| format!("the storage engine: {warning}")),
    );
    MergeReport {
        format: "snapmerge-merge/1",
        version: env!("CARGO_PKG_VERSION"),
        route: plan.route.to_string(),
        because: plan.because.clone(),
        sources: sources
            .iter()
            .zip(&built.tallies)
            .map(|(source, tally)| SourceReport {
                name: source.name.clone(),
                file: source.snapshot.path.display().to_string(),
                file_bytes: source.snapshot.file_bytes,
                checksum: source.checksum.words(),
                verified: matches!(source.checksum, Checksum::Verified { .. }),
                read: tally.read,
                won: tally.won,
                remapped: tally.remapped,
                lost: tally.lost,
                filtered: tally.filtered,
            })
            .collect(),
        conflicts,
        master: MasterReport {
            file: master.file.display().to_string(),
            file_bytes: master.file_bytes,
            sha256: master.sha256,
            points: proof.points,
            digest: proof.digest.map(|digest| digest.to_string()),
            shards: built
                .shards
                .iter()
                .map(|shard| ShardReport {
                    shard: shard.number,
                    key: plan
                        .layout
                        .keys
                        .key_of(shard.number)
                        .map(ToString::to_string),
                    points: shard.points,
                    segments: shard.segments,
                    indexed_vectors: shard.indexed_vectors,
                })
                .collect(),
        },
        proof: ProofReport {
            points: proof.points,
            bytes: proof.bytes,
            compared: match built.carried {
                None => "ids, vectors, payloads, shards and config are what was to be written",
                Some(_) => {
                    "its bytes are what was carried, no id is in it twice, and config and shards \
                     are as planned"
                }
            }
            .into(),
        },
        findings: plan.united.findings.clone(),
        decisions: plan.united.decisions.clone(),
        missing: plan.missing.clone(),
        carried: built.carried.clone(),
        notes,
        stages,
        seconds: started.elapsed().as_secs_f64(),
    }
}

fn create(path: &Path) -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|err| Error::io("creating", path, &err))
}

fn is_gz(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "gz")
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
