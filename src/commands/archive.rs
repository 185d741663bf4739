//! `snapmerge archive`: snapshots of many nights in one place.
//!
//! Keeps true: each verb says what it did or found in full, as text or as JSON, and ends with the
//! code of the table.

pub mod told;

use serde_json::json;

use super::args::archive::{
    AddArgs, ArchiveArgs, ArchiveVerb, CheckArgs, ForgetArgs, GetArgs, InitArgs, LsArgs, ShowArgs,
    UnlockArgs, VerifyChainArgs,
};
use super::{Ended, print, print_json, warn};
use crate::archive::{Adding, Archive, Forgetting, Trust, read_public};
use crate::base::error::{Error, Kind, Result};
use crate::source::parse_sha256;

/// Runs the command.
pub fn run(args: &ArchiveArgs) -> Result<Ended> {
    match &args.verb {
        ArchiveVerb::Init(args) => init(args),
        ArchiveVerb::Add(args) => add(args),
        ArchiveVerb::Ls(args) => ls(args),
        ArchiveVerb::Show(args) => show(args),
        ArchiveVerb::Get(args) => get(args),
        ArchiveVerb::Check(args) => check(args),
        ArchiveVerb::Forget(args) => forget(args),
        ArchiveVerb::VerifyChain(args) => verify_chain(args),
        ArchiveVerb::Unlock(args) => unlock(args),
    }
}

fn init(args: &InitArgs) -> Result<Ended> {
    let archive = args.written.open()?;
    archive.init()?;
    print(&format!("{}: an empty archive\n", archive.what()))?;
    Ok(None)
}

fn add(args: &AddArgs) -> Result<Ended> {
    let several = args.snapshots.len() > 1;
    if several && (args.sha256.is_some() || args.time.is_some() || args.name.is_some()) {
        return Err(Error::usage(
            "reading --name, --time and --sha256",
            "they are of one snapshot, and several are given",
        )
        .next("store them one by one"));
    }
    let sha256 =
        match &args.sha256 {
            None => None,
            Some(text) => Some(parse_sha256(text).ok_or_else(|| {
                Error::usage("reading --sha256", "it is not 64 hexadecimal digits")
            })?),
        };
    let archive = args.written.open()?;
    let mut all = Vec::new();
    let mut lost = false;
    for path in &args.snapshots {
        let adding = Adding {
            path: path.clone(),
            name: args.name.clone(),
            time: args.time,
            tags: args.tag.clone(),
            sha256: sha256.clone(),
            require_checksum: args.require_checksum,
            passed: None,
        };
        let added = archive.add(&adding)?;
        if !added.lost.is_empty() {
            lost = true;
            warn(&format!(
                "{}: {} objects of older entries are missing or damaged; see what is lost: snapmerge \
                 archive check",
                archive.what(),
                added.lost.len()
            ));
        }
        if !args.json {
            print(&told::added(&added))?;
        }
        all.push(added);
    }
    if args.json {
        print_json(&json!({"structure": "snapmerge.archive.add/1", "added": all}))?;
    }
    Ok(lost.then_some(Kind::Differs))
}

fn ls(args: &LsArgs) -> Result<Ended> {
    let archive = args.place.open()?;
    let chain = archive.chain()?;
    let mut entries = chain.entries();
    if !args.names.is_empty() {
        entries.retain(|entry| args.names.contains(&entry.name));
    }
    if args.json {
        print_json(&json!({
            "structure": "snapmerge.archive.ls/1",
            "entries": entries,
            "last_proven": chain.last_proven(),
        }))?;
    } else {
        print(&told::list(&entries, chain.last_proven()))?;
    }
    if entries.is_empty() && !args.names.is_empty() {
        return Err(Error::new(
            Kind::NotFound,
            format!("looking for {}", args.names.join(", ")),
            "nothing of that name is in the archive",
        )
        .next("see all of it: snapmerge archive ls"));
    }
    Ok(None)
}

fn show(args: &ShowArgs) -> Result<Ended> {
    let archive = args.place.open()?;
    let chain = archive.chain()?;
    let entry = args.entry.find(&chain)?;
    let recipe = archive.recipe(&entry)?;
    let proven = chain.proven().get(entry.id.as_str()).copied();
    if args.json {
        let mut value = json!({
            "structure": "snapmerge.archive.show/1",
            "entry": entry,
            "proven_at": proven.map(|(time, _)| time),
            "proven": proven.map(|(_, proven)| proven),
            "objects": recipe.objects.len(),
            "stored_bytes": recipe.objects.iter().map(|part| part.stored).sum::<u64>(),
        });
        if args.files
            && let Some(map) = value.as_object_mut()
        {
            map.insert("files".into(), json!(recipe.files));
        }
        print_json(&value)?;
    } else {
        print(&told::entry(&entry, &recipe, proven, args.files))?;
    }
    Ok(None)
}

fn get(args: &GetArgs) -> Result<Ended> {
    let archive = args.place.open()?;
    let chain = archive.chain()?;
    let entry = args.entry.find(&chain)?;
    let got = archive.get(&entry, &args.output, args.force)?;
    if args.json {
        print_json(&json!({"structure": "snapmerge.archive.get/1", "got": got}))?;
    } else {
        print(&told::got(&got, &args.output))?;
    }
    Ok(None)
}

fn check(args: &CheckArgs) -> Result<Ended> {
    let archive = args.place.open()?;
    let other = match &args.repair {
        Some(place) => {
            let other = Archive::at(place, None)?;
            // A place without an archive repairs nothing, and must not look as if it had.
            other.chain()?;
            Some(other)
        }
        None => None,
    };
    let checked = archive.check(args.subset, other.as_ref())?;
    if args.json {
        print_json(&json!({"structure": "snapmerge.archive.check/1", "checked": checked}))?;
    } else {
        print(&told::checked(&checked))?;
    }
    Ok(match (checked.is_damaged(), checked.findings.is_empty()) {
        (true, _) => Some(Kind::Damaged),
        (false, false) => Some(Kind::Differs),
        (false, true) => None,
    })
}

fn forget(args: &ForgetArgs) -> Result<Ended> {
    let archive = args.written.open()?;
    let chain = archive.chain()?;
    let forgetting = if args.leftovers {
        Forgetting::Nothing
    } else if args.entry.is_empty() {
        for name in &args.name {
            if !chain.entries().iter().any(|entry| entry.name == *name) {
                return Err(Error::new(
                    Kind::NotFound,
                    format!("looking for {name}"),
                    "nothing of that name is in the archive",
                )
                .next("see all of it: snapmerge archive ls"));
            }
        }
        Forgetting::By(args.keep.policy(), args.name.clone())
    } else {
        let mut ids = Vec::new();
        for entry in &args.entry {
            ids.push(entry.find(&chain)?.id.clone());
        }
        Forgetting::These(ids)
    };
    let swept = archive.forget(&forgetting, args.dry_run)?;
    if args.json {
        print_json(&json!({"structure": "snapmerge.archive.forget/1", "swept": swept}))?;
    } else {
        print(&told::swept(&swept))?;
    }
    Ok(None)
}

fn verify_chain(args: &VerifyChainArgs) -> Result<Ended> {
    let trust = Trust {
        key: args.trust.as_deref().map(read_public).transpose()?,
        head: args.head,
    };
    let archive = args.place.open()?;
    let verified = archive.verify_chain(&trust)?;
    if args.json {
        print_json(
            &json!({"structure": "snapmerge.archive.verify-chain/1", "verified": verified}),
        )?;
    } else {
        print(&told::verified(&verified))?;
    }
    Ok((!verified.findings.is_empty()).then_some(Kind::Damaged))
}

fn unlock(args: &UnlockArgs) -> Result<Ended> {
    let archive = args.written.open()?;
    let Some(holder) = archive.holder()? else {
        print(&format!("{} is not locked\n", archive.what()))?;
        return Ok(None);
    };
    if !args.force && !holder.is_gone() {
        return Err(Error::new(
            Kind::Locked,
            format!("unlocking {}", archive.what()),
            format!("it is locked by {holder}, which may be at work"),
        )
        .next("if it will never end (its machine is gone), give --force"));
    }
    let told = holder.to_string();
    archive.unlock(holder)?;
    print(&format!(
        "{}: broke the lock of {told}; it can write nothing any more\n",
        archive.what()
    ))?;
    Ok(None)
}
