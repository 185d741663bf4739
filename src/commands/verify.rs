//! `snapmerge verify`: is the master the union of its sources?
//!
//! Keeps true: whatever cannot be compared is an error or a difference, never passed over; nothing
//! is written but scratch and the ledger.

use std::path::PathBuf;
use std::time::Instant;

use super::args::{LayoutChoice, VerifyArgs};
use super::fetched::fetch;
use super::merge::stamp_of;
use super::open::{Servers, open_all};
use super::{Ended, Given};
use crate::base::Site;
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Progress;
use crate::base::scratch::{Scratch, require_free};
use crate::base::stage::StageReport;
use crate::engine::{Filter, take_warnings};
use crate::merge::{Route, Settings, plan};
use crate::report::verify::{MadeWith, Verdict, VerifyReport};
use crate::server::Clustering;
use crate::source::{Checksum, Source, tell_apart};
use crate::stream::{Ledger, UnionOptions};
use crate::verify::{Asked, Asking, Wanted, verify};
use crate::verify::{Provenance, provenance_file};

/// Runs the command.
pub fn run(args: &VerifyArgs) -> Result<Ended> {
    let started = Instant::now();
    let progress = match args.quiet {
        true => Progress::Quiet,
        false => Progress::Shown,
    };
    let parent = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let mut paths: Vec<PathBuf> = std::iter::once(&args.master)
        .chain(&args.against)
        .cloned()
        .collect();
    let fetched = fetch(&mut paths, &args.reading.from_archive, || parent.clone())?;
    let mut servers = Servers::new(&args.connection);
    let given = Given::new(&args.reading.checksums)?;
    let mut opened = open_all(&paths, &given, true, &mut servers, progress)?;
    fetched.name(&mut opened);
    let mut sources = opened.split_off(1);
    tell_apart(&mut sources);
    let Some(mut master) = opened.pop() else {
        return Err(Error::usage("opening the master", "there is none"));
    };
    let mut missing = Vec::new();
    for source in std::iter::once(&master).chain(&sources) {
        let lacking = source.refuse_unreadable(args.allow_incomplete)?;
        missing.extend(
            lacking
                .iter()
                .map(|what| format!("{}: {what}", source.name)),
        );
    }
    let (provenance, told_by) = find_provenance(args)?;
    if let Some(provenance) = &provenance {
        arrange(&mut sources, provenance)?;
    }
    let settings = settings(args, provenance.as_ref())?;
    let (wanted, mut notes) = wanted(
        &sources,
        &settings,
        args.allow_incomplete,
        provenance.as_ref(),
    )?;

    let scratch = Scratch::new(&parent)?;
    let mut ledger = Ledger::new(args.ledger.as_deref(), args.force)?;
    let looking = started.elapsed().as_secs_f64();
    let clusters = args.cluster_url.as_deref();
    let clusters = clusters
        .map(|url| Clustering::new(url, &args.connection.settings()?))
        .transpose()?;
    let asked = Asked {
        settings: &settings,
        wanted: &wanted,
        deep: args.deep,
        sample: args.sample,
        near: master.live.is_some() && provenance.as_ref().is_none_or(was_written),
        asking: asking(args, clusters.as_ref()),
    };
    let site = Site {
        scratch: &scratch,
        progress,
    };
    let unpacked: u64 = std::iter::once(&master)
        .chain(&sources)
        .map(|source| source.snapshot.unpacked_bytes)
        .sum();
    let room = || require_free(&parent, unpacked, "unpacking");
    let mut stages = vec![StageReport {
        stage: "look".into(),
        seconds: looking,
        points: None,
        bytes: None,
    }];
    let (verified, answers) = verify(
        &mut master,
        &mut sources,
        asked,
        &mut ledger,
        &room,
        site,
        &mut stages,
    )?;
    drop(scratch);
    notes.extend(
        take_warnings()
            .into_iter()
            .map(|warning| format!("the storage engine: {warning}")),
    );
    let ledger_path = ledger.path().map(|path| path.display().to_string());
    let report = VerifyReport {
        format: "snapmerge-verify/1",
        version: env!("CARGO_PKG_VERSION"),
        verdict: Verdict::of(&verified, answers.as_ref()),
        master: master.label(),
        sources: sources.iter().map(Source::label).collect(),
        made_with: MadeWith::new(&settings, told_by),
        sample: args.sample,
        looked_at: verified.looked_at(),
        differences: verified.differences(),
        first: ledger.first().to_vec(),
        ledger: ledger_path,
        verified,
        answers,
        missing,
        notes,
        stages,
        seconds: started.elapsed().as_secs_f64(),
    };
    ledger.publish()?;
    if args.json {
        super::print_json(&report)?;
    } else {
        super::print(&report.text())?;
    }
    let fine = report.verdict == Verdict::Proven
        && report.missing.is_empty()
        && report.verified.changed.is_empty();
    Ok((!fine).then_some(Kind::Differs))
}

/// Whether a server wrote the vectors of the master anew, and may have made some as long as 1 again.
fn was_written(provenance: &Provenance) -> bool {
    provenance.route == Route::Replay.to_string()
}

fn asking<'a>(args: &VerifyArgs, clusters: Option<&'a Clustering>) -> Option<Asking<'a>> {
    if args.queries.is_none() && args.structure.is_none() {
        return None;
    }
    Some(Asking {
        queries: args.queries.unwrap_or(0) as usize,
        top: args.top as usize,
        structure: args.structure.unwrap_or(0) as usize,
        drop_max: args.max_drop,
        clusters,
    })
}

/// What the master was made with, and who says so.
fn find_provenance(args: &VerifyArgs) -> Result<(Option<Provenance>, String)> {
    if args.no_provenance {
        return Ok((None, "the flags alone (--no-provenance)".into()));
    }
    if let Some(path) = &args.provenance {
        let Some(found) = Provenance::read(path)? else {
            return Err(Error::usage(
                format!("reading --provenance {}", path.display()),
                "there is no such file",
            ));
        };
        return Ok((Some(found), path.display().to_string()));
    }
    let mut places = vec![provenance_file(&args.master)];
    if args.master.extension().is_some_and(|ending| ending == "gz") {
        places.push(provenance_file(&args.master.with_extension("")));
    }
    for path in places {
        if let Some(found) = Provenance::read(&path)? {
            return Ok((Some(found), path.display().to_string()));
        }
    }
    let told = "the flags alone: there is no provenance beside the master";
    Ok((None, told.into()))
}

/// Puts `sources` in the order in which the master was made of them, under the names that they had
/// then: they decide conflicts, stamps and new ids.
fn arrange(sources: &mut Vec<Source>, provenance: &Provenance) -> Result<()> {
    let refuse = |why: String| {
        Err(Error::usage("matching the sources with the master's provenance", why).next(
            "give the very sources that the master was made of, or say with --no-provenance and \
             flags what it was made with",
        ))
    };
    let known = |source: &Source| provenance.sources.iter().any(|one| one.name == source.name);
    for source in sources.iter_mut() {
        if !known(source) {
            // Under another name it is the same if its hash is.
            source.verify()?;
        }
    }
    let mut arranged = Vec::new();
    for wanted in &provenance.sources {
        let by_name = |source: &Source| source.name == wanted.name;
        let by_hash = |source: &Source| match &source.checksum {
            Checksum::Verified { sha256, .. } => Some(sha256) == wanted.sha256.as_ref(),
            _ => false,
        };
        let by_file = |source: &Source| {
            source.snapshot.file_bytes == wanted.file_bytes
                && source
                    .snapshot
                    .path
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy() == wanted.file.as_str())
        };
        let place = sources
            .iter()
            .position(by_name)
            .or_else(|| sources.iter().position(by_hash))
            .or_else(|| sources.iter().position(by_file));
        let Some(place) = place else {
            return refuse(format!(
                "it was made of {}, and {} is not given",
                provenance
                    .sources
                    .iter()
                    .map(|source| source.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
                wanted.name
            ));
        };
        let mut source = sources.remove(place);
        source.name.clone_from(&wanted.name);
        arranged.push(source);
    }
    if let Some(left) = sources.first() {
        return refuse(format!("it was not made of {}", left.name));
    }
    *sources = arranged;
    Ok(())
}

fn settings(args: &VerifyArgs, provenance: Option<&Provenance>) -> Result<UnionOptions> {
    let mut settings = match provenance {
        Some(provenance) => provenance.options()?,
        None => UnionOptions::default(),
    };
    if let Some(policy) = &args.made.on_conflict {
        settings.on_conflict = policy.clone();
    }
    if let Some(stamp) = stamp_of(args.made.stamp.as_ref(), &args.made.stamp_value)? {
        settings.stamp = Some(stamp);
    }
    if let Some(filter) = &args.made.filter {
        settings.filter = Some(Filter::parse(filter)?);
    }
    if !args.made.drop_payload.is_empty() {
        settings.drop_payload.clone_from(&args.made.drop_payload);
    }
    if let Some(layout) = args.made.layout {
        settings.by_source = layout == LayoutChoice::BySource;
    }
    Ok(settings)
}

/// What the master's config must be: what the provenance says that was planned; without one, what
/// merge would plan now.
fn wanted(
    sources: &[Source],
    settings: &UnionOptions,
    allow_incomplete: bool,
    provenance: Option<&Provenance>,
) -> Result<(Wanted, Vec<String>)> {
    if let Some(provenance) = provenance {
        let (config, payload, keys) = provenance.expected()?;
        let wanted = Wanted {
            config,
            payload,
            keys,
            ignored: Vec::new(),
        };
        return Ok((wanted, Vec::new()));
    }
    let settings = Settings {
        union: settings.clone(),
        allow_incomplete,
        ..Settings::default()
    };
    let plan = plan(sources, &settings)?;
    let note = "without a provenance the master's config is compared with what merge would make of \
                the sources without further flags, except for default_segment_number, which depends \
                on the route";
    let wanted = Wanted {
        config: plan.united.config,
        payload: plan.united.payload,
        keys: plan.layout.keys,
        ignored: vec!["optimizer_config.default_segment_number".into()],
    };
    Ok((wanted, vec![note.into()]))
}
