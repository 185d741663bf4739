//! `snapmerge capture`: snapshots off running servers.
//!
//! Keeps true: one collection that cannot be captured does not keep the others from being captured,
//! and is not forgotten in the exit code.

use std::path::PathBuf;

use serde::Serialize;

use super::args::CaptureArgs;
use super::{Ended, LOUD, progress};
use crate::archive::{Added, Archive, ArchiveOptions, Location, WritableArchiveOptions};
use crate::base::durable;
use crate::base::error::{Error, Kind, Result};
use crate::base::own;
use crate::base::stop;
use crate::capture::{
    Captured, Form, Manifest, Members, Request, capture, clear_leftovers, discard, matching, store,
};
use crate::input::{connect, peers};

/// What came of a run, for `--json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    captured: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "<[Added]>::is_empty")]
    archived: &'a [Added],
    failed: Vec<Failed>,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    file: String,
    manifest: &'a Manifest,
    notes: &'a [String],
    left: &'a [String],
}

#[derive(Debug, Serialize)]
struct Failed {
    collection: String,
    error: String,
}

/// Runs the command.
pub fn run(args: &CaptureArgs) -> Result<Ended> {
    let connection = connect(&args.server, &args.connection, &LOUD)?;
    let members = Members::new(&connection, &peers(&args.peer)?)?;
    let shelf = Shelf::open(args)?;
    let to = match (&args.to, &shelf) {
        (Some(to), _) => {
            durable::make_folder(to)?;
            to.clone()
        }
        // Nobody gave its name, which others can guess.
        (None, Some(shelf)) => {
            own::folder(&shelf.incoming)?;
            shelf.incoming.clone()
        }
        (None, None) => return Err(Error::usage("reading --to", "it is missing")),
    };
    let matching = matching(&connection, &args.collections)?;
    if let Some(note) = matching.note() {
        super::warn(&note);
    }
    let collections = matching.names;
    for left in clear_leftovers(&members, &to, &collections)? {
        super::warn(&format!("left by an earlier run: {left}"));
    }

    let mut captured = Vec::new();
    let mut entries = Vec::new();
    let mut failed: Vec<(String, Error)> = Vec::new();
    for collection in &collections {
        let request = Request {
            members: &members,
            collection,
            folder: &to,
            stream: args.stream,
            rate: args.limit_rate,
            require_checksum: args.require_checksum,
            progress: progress(args.quiet),
        };
        let stored = capture(&request).and_then(|done| match &shelf {
            Some(shelf) => {
                let name = &done.manifest.collection;
                let added = store(&shelf.archive, &done.file, &done.manifest, name, &args.tag)?;
                discard(&done.file)?;
                Ok((Some(added), done))
            }
            None => Ok((None, done)),
        });
        match stored {
            Ok((added, done)) => {
                if !args.json && !args.quiet {
                    super::print(&text(&done))?;
                    if let Some(added) = &added {
                        super::print(&added.text())?;
                    }
                }
                captured.push(done);
                entries.extend(added);
            }
            Err(err) => {
                let stop = stop::times() > 0 || err.kind() == Kind::Cancelled;
                failed.push((collection.clone(), err));
                if stop {
                    break;
                }
            }
        }
    }
    if args.json {
        super::print_json(&Report {
            captured: captured.iter().map(entry).collect(),
            archived: &entries,
            failed: failed
                .iter()
                .map(|(collection, error)| Failed {
                    collection: collection.clone(),
                    error: error.to_string(),
                })
                .collect(),
        })?;
    }
    for done in &captured {
        for note in &done.notes {
            super::warn(&format!("{}: {note}", done.manifest.collection));
        }
        for left in &done.left {
            super::warn(&format!(
                "{}: could not remove {left}; the next capture to the same folder tries again",
                done.manifest.collection
            ));
        }
    }
    // The last one ends the run, with its code; the others are said before.
    if let Some((_, last)) = failed.pop() {
        for (_, err) in failed {
            super::warn(&err.to_string());
        }
        return Err(last);
    }
    let differs =
        captured.iter().any(|done| !done.left.is_empty()) || entries.iter().any(Added::differs);
    Ok(differs.then_some(Kind::Differs))
}

/// Where captured files go when they are not kept.
struct Shelf {
    archive: Archive,
    /// Where they lie on their way.
    incoming: PathBuf,
}

impl Shelf {
    /// The archive that was asked for, which must be there before anything is captured.
    fn open(args: &CaptureArgs) -> Result<Option<Self>> {
        let Some(place) = &args.archive else {
            return Ok(None);
        };
        let incoming = match (&args.to, Location::parse(place)?) {
            (Some(to), _) => to.clone(),
            (None, Location::Folder(folder)) => {
                let mut name = folder.into_os_string();
                name.push(".incoming");
                PathBuf::from(name)
            }
            (None, Location::Bucket { .. }) => {
                return Err(Error::usage(
                    format!("capturing into {place}"),
                    "nobody said where the files are to lie on their way",
                )
                .next("give a folder with room for one snapshot: --to DIR"));
            }
        };
        let archive = WritableArchiveOptions {
            archive: ArchiveOptions {
                archive: place.clone(),
                trust: args.trust.clone(),
            },
            signing: args.signing.clone(),
        };
        let archive = archive.open()?;
        archive.chain()?;
        Ok(Some(Self { archive, incoming }))
    }
}

fn entry(done: &Captured) -> Entry<'_> {
    Entry {
        file: done.file.display().to_string(),
        manifest: &done.manifest,
        notes: &done.notes,
        left: &done.left,
    }
}

fn text(done: &Captured) -> String {
    let manifest = &done.manifest;
    let points = match manifest.points {
        Some(points) => format!("{points} points"),
        None => format!(
            "{} to {} points",
            manifest.points_before, manifest.points_after
        ),
    };
    let bytes = humansize::format_size(manifest.bytes, humansize::BINARY);
    let shards = match manifest.shards.len() {
        1 => "1 shard".to_owned(),
        many => format!("{many} shards"),
    };
    let how = match manifest.form {
        Form::Collection => "SHA-256 as the server says".to_owned(),
        Form::Assembled => format!("put together from {} members", manifest.peers.len()),
        Form::Streamed => "streamed".to_owned(),
    };
    let earlier = match done.finished_earlier {
        true => "\n  note     begun by an earlier run, finished now",
        false => "",
    };
    format!(
        "{}: {points}, {bytes}, {shards}, {how}\n  SHA-256  {}\n  BLAKE3   {}{earlier}\n",
        done.file.display(),
        manifest.sha256,
        manifest.blake3,
    )
}
