//! `snapmerge merge`: many snapshots into one master.
//!
//! Keeps true: what can be refused is refused before anything is read or written; the master gets
//! its name last, proven, with its checksum beside it.

mod into;
mod open;
mod told;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use self::into::{Begun, into, target};
use self::open::{lend_all, open};
use self::told::{Master, conflicts, print_plan, report};
use super::Ended;
use super::args::{LayoutChoice, MergeArgs, RouteChoice};
use super::fetched::fetch;
use super::open::Servers;
use crate::base::Site;
use crate::base::durable;
use crate::base::durable::Staged;
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::{Progress, Unit};
use crate::base::scratch::Scratch;
use crate::base::stage::StageReport;
use crate::engine::Filter;
use crate::format::schema::{Overrides, Quantization, UserConfig};
use crate::format::{Sums, Written};
use crate::merge::{Built, Plan, Route, Settings, graft, plan, rebuild, require_disk};
use crate::source::Source;
use crate::stream::{Ledger, Stamp, Tally, UnionOptions};
use crate::verify::{Expected, Proof, read_back, read_carried};
use crate::verify::{Outcome, Provenance, provenance_file};

/// Runs the command.
pub fn run(mut args: MergeArgs) -> Result<Ended> {
    let started = Instant::now();
    let settings = settings(&args)?;
    let progress = if args.quiet || args.dry_run {
        Progress::Quiet
    } else {
        Progress::Shown
    };
    refuse_output(&args)?;
    let parent = || match (&args.scratch, &args.output) {
        (Some(scratch), _) => scratch.clone(),
        (None, Some(output)) => folder_of(output),
        (None, None) => std::env::temp_dir(),
    };
    let mut paths = args.sources.clone();
    let fetched = fetch(&mut paths, &args.reading.from_archive, parent)?;
    args.sources = paths;
    let connection = args.connection.clone();
    let mut servers = Servers::new(&connection);
    let target = target(&args, &mut servers)?;
    let mut sources = open(&args, &mut servers, progress)?;
    fetched.name(&mut sources);
    let mut plan = match plan(&sources, &settings) {
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
    let lent = lend_all(&args, &mut servers, &mut sources, progress)?;
    let begun = Begun {
        args: &args,
        settings: &settings,
        progress,
        started,
    };
    let ended = match (&args.output, target) {
        (_, Some(target)) => into(&mut sources, target, &plan, &begun)?,
        (Some(output), None) => to_file(&mut sources, output, &mut plan, &begun)?,
        (None, None) => {
            return Err(Error::usage("merging", "nothing says where to")
                .next("name a file with -o, or a collection with --into"));
        }
    };
    for one in lent {
        one.give_back()?;
    }
    Ok(ended)
}

/// Merges `sources` into the file `output`.
fn to_file(
    sources: &mut [Source],
    output: &Path,
    plan: &mut Plan,
    begun: &Begun<'_>,
) -> Result<Ended> {
    let Begun {
        args,
        settings,
        progress,
        started,
    } = *begun;
    let output_folder = folder_of(output);
    let scratch_folder = args
        .scratch
        .clone()
        .unwrap_or_else(|| output_folder.clone());
    require_disk(&plan.needs, &scratch_folder, &output_folder)?;

    let staged = Staged::new(output, args.force)?;
    let scratch = Scratch::new(&scratch_folder)?;
    let ledger = Ledger::new(args.ledger.as_deref(), args.force)?;
    let site = Site {
        scratch: &scratch,
        progress,
    };
    let compressed = is_gz(output);
    let (packed, target) = staged.create_beside("packed")?;
    let (built, written, ledger) = match plan.route {
        Route::Graft => graft(sources, plan, settings, ledger, target, &packed, site)?,
        Route::Rebuild | Route::Replay => {
            rebuild(sources, plan, settings, ledger, target, &packed, site)?
        }
    };
    refuse_what_is_lost(sources, &built)?;

    let proving = Instant::now();
    let expected = Expected {
        digest: built.digest.clone(),
        shards: built
            .shards
            .iter()
            .map(|shard| (shard.number, shard.points))
            .collect(),
        layout: &plan.layout,
        config: plan.united.config.raw(),
    };
    // The disk works while the file is read back from memory.
    let syncing = durable::sync_in_background(&packed)?;
    let proof = match (&built.carried, args.no_verify) {
        (_, true) => unproven(&built, written)?,
        (Some(_), false) => read_carried(&packed, &expected, written)?,
        (None, false) => read_back(&packed, &expected, written, &scratch, progress)?,
    };
    syncing.wait()?;
    let mut stages = built.stages.clone();
    if !args.no_verify {
        stages.push(
            StageReport::new("prove", proving)
                .points(proof.points)
                .bytes(proof.bytes),
        );
    }
    // What was read back must be what is published: its file is not written again, only renamed,
    // or compressed and compared once more.
    let sha256 = if compressed {
        let compressing = Instant::now();
        let stage = progress.stage("compress", None, Unit::None);
        let sha256 = staged.compress(&packed, &proof.sha256)?;
        drop(stage);
        stages.push(StageReport::new("compress", compressing).bytes(proof.bytes));
        sha256
    } else {
        staged.take(&packed)?;
        proof.sha256.clone()
    };
    let publishing = Instant::now();
    let file_bytes = std::fs::metadata(staged.path())
        .map_err(|err| Error::io("looking at", staged.path(), &err))?
        .len();
    let conflicts = conflicts(settings, &ledger);
    let outcome = Outcome {
        points: proof.points,
        digest: proof.digest.as_ref().map(ToString::to_string),
        sha256: &sha256,
        xxh3: (!compressed).then(|| proof.xxh3.clone()),
        proven: !args.no_verify,
    };
    let provenance = Provenance::new(
        sources,
        &plan.route.to_string(),
        &plan.united,
        &plan.layout.keys,
        &settings.union,
        outcome,
    );
    ledger.publish()?;
    publish(output, args.force, staged, &sha256, &provenance)?;
    drop(scratch);
    stages.push(StageReport::new("publish", publishing).bytes(file_bytes));

    let master = Master {
        file: output,
        file_bytes,
        sha256,
    };
    let mut changed = Vec::new();
    for live in sources.iter().filter_map(|source| source.live.as_ref()) {
        changed.extend(live.changed("the master")?);
    }
    let differs = !plan.missing.is_empty() || !changed.is_empty();
    let report = report(
        sources, plan, &built, &proof, master, conflicts, stages, changed, started, provenance,
    );
    if args.json {
        super::print_json(&report)?;
    } else {
        super::print(&report.text())?;
    }
    Ok(differs.then_some(Kind::Differs))
}

/// What the arguments say of the merge.
pub(super) fn settings(args: &MergeArgs) -> Result<Settings> {
    let stamp = stamp_of(args.stamp.as_ref(), &args.stamp_value)?;
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
        union: UnionOptions {
            on_conflict: args.on_conflict.clone(),
            stamp,
            filter: args.filter.as_deref().map(Filter::parse).transpose()?,
            drop_payload: args.drop_payload.clone(),
            by_source: args.layout == LayoutChoice::BySource,
        },
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
            RouteChoice::Auto | RouteChoice::Scratch => None,
            RouteChoice::Only(route) => Some(route),
        },
        live_target: args.live.into.is_some(),
        server_consolidates: args.server_consolidates,
        consolidate: args.consolidate,
    })
}

/// The stamp that --stamp and --stamp-value ask for.
pub(super) fn stamp_of(field: Option<&String>, given: &[String]) -> Result<Option<Stamp>> {
    let Some(field) = field else {
        return Ok(None);
    };
    let mut values = BTreeMap::new();
    for text in given {
        let Some((source, value)) = text.split_once('=') else {
            return Err(
                Error::usage(format!("reading --stamp-value {text}"), "there is no '='")
                    .next("give it as --stamp-value SOURCE=VALUE"),
            );
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        values.insert(source.to_owned(), value);
    }
    Ok(Some(Stamp {
        field: field.clone(),
        values,
    }))
}

/// Refuses an output that would be lost or would cost a source, before anything is read.
fn refuse_output(args: &MergeArgs) -> Result<()> {
    // By device and inode: a hard link is the same file under another name.
    let real = |path: &Path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    let output = args.output.as_deref();
    let mut written: Vec<PathBuf> = output.map(Path::to_owned).into_iter().collect();
    written.extend(output.map(checksum_file));
    written.extend(output.map(provenance_file));
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
    if let (Some(ledger), Some(output)) = (args.ledger.as_deref(), output)
        && ledger == output
    {
        return Err(Error::usage(
            format!("writing {}", output.display()),
            "it is both the output and the ledger",
        )
        .next("choose another name for --ledger"));
    }
    // Both names are tried now, so that a merge of hours does not end with this.
    if let Some(output) = output {
        drop(Staged::new(output, args.force)?);
    }
    if let Some(ledger) = &args.ledger {
        drop(Staged::new(ledger, args.force)?);
    }
    Ok(())
}

/// Every point that was read is in the master, lost a conflict, or was filtered out.
fn refuse_untallied(sources: &[Source], tallies: &[Tally]) -> Result<()> {
    for (source, tally) in sources.iter().zip(tallies) {
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
    Ok(())
}

/// The same, and the master has as many points as won.
fn refuse_what_is_lost(sources: &[Source], built: &Built) -> Result<()> {
    refuse_untallied(sources, &built.tallies)?;
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

/// What is known of a packed master that nobody wants proven.
fn unproven(built: &Built, written: Written) -> Result<Proof> {
    let Sums { sha256, xxh3 } = written.read_back()?;
    Ok(Proof {
        points: built.shards.iter().map(|shard| shard.points).sum(),
        bytes: 0,
        digest: built.digest.clone(),
        sha256,
        xxh3,
    })
}

/// Gives the master its name, with its checksum beside it as Qdrant does it, and what it was made
/// with.
fn publish(
    output: &Path,
    replace: bool,
    staged: Staged,
    sha256: &str,
    provenance: &Provenance,
) -> Result<()> {
    let checksum = checksum_file(output);
    let beside = provenance_file(output);
    // Those of another file would make the master look damaged, or made otherwise.
    for old in [&checksum, &beside] {
        match std::fs::remove_file(old) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("removing old file", old, &err));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let mut bytes = serde_json::to_vec_pretty(provenance)
        .map_err(|err| Error::failed("writing the provenance", err))?;
    bytes.push(b'\n');
    staged.publish(replace)?;
    durable::write(&beside, &bytes, true)?;
    durable::write(&checksum, sha256.as_bytes(), true)
}

/// Where Qdrant has the checksum of `file`.
fn checksum_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".checksum");
    PathBuf::from(name)
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
