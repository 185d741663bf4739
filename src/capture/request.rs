//! A request to capture collections of a server, as files or into an archive.
//!
//! Invariants: one collection that cannot be captured does not keep the others from being captured, and is
//! not forgotten in the outcome.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Ahead, CaptureOptions, Captured, IncrementalOptions, Members, OwnRestores, Storing,
    TOGETHER_MAX, capture, capture_into, captured_earlier, clear_leftovers, discard, matching,
    store, stream_ahead,
};
use crate::archive::{
    Added, Archive, ArchiveOptions, IdentityOptions, Location, SigningOptions, TrustOptions,
    WritableArchiveOptions,
};
use crate::base::durable;
use crate::base::error::{Error, Kind, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::base::own;
use crate::base::stop;
use crate::input::{connect, members};
use crate::server::{Address, ConnectionOptions, MembersFrom, PeerAddress, Rate};

/// Captures collections.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct CaptureRequest {
    /// The server, as http://HOST:6333
    #[arg(value_name = "SERVER")]
    pub server: Address,
    /// Collections; * and ? stand for any letters
    #[arg(required = true, value_name = "COLLECTION")]
    pub collections: Vec<String>,
    /// The folder to put the files into; made if it is missing. With --archive, where they lie on
    /// their way [default: PLACE.incoming beside a local archive]
    #[arg(long, value_name = "DIR", required_unless_present = "archive")]
    pub to: Option<PathBuf>,
    /// Store the snapshots in this archive instead of keeping the files: a folder, or
    /// s3://BUCKET/PREFIX
    #[arg(long, value_name = "PLACE")]
    pub archive: Option<String>,
    /// With --archive, a word to keep them by; repeat it for more
    #[arg(long, value_name = "WORD", requires = "archive")]
    pub tag: Vec<String>,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub signing: SigningOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub trust: TrustOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub key: IdentityOptions,
    /// Stream shards instead of having the server make a snapshot, which needs no disk there; only
    /// while its optimizers are at rest
    #[arg(long)]
    pub stream: bool,
    /// Where a member of the cluster answers REST; repeat it for each. GET /cluster tells the ids
    #[arg(long, value_name = "ID=URL")]
    pub peer: Vec<PeerAddress>,
    /// Find the members by a name of DNS that has the addresses of all, as that of a headless service:
    /// DNS or DNS:PORT; each is asked for its id, and --peer comes first
    #[arg(long, value_name = "DNS[:PORT]")]
    pub members_from: Option<MembersFrom>,
    /// Bytes a second at the most, as 500k, 20M or 1G
    #[arg(long, value_name = "RATE")]
    pub limit_rate: Option<Rate>,
    /// Refuse a server that gives no checksum
    #[arg(long)]
    pub require_checksum: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub incremental: IncrementalOptions,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub connection: ConnectionOptions,
}

/// Collections that were captured.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CaptureReport {
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub envelope: Envelope,
    /// Captured collections; their files are gone again where they were archived.
    pub captured: Vec<Captured>,
    /// Archive entries, one for each of `captured` if there is an archive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archived: Vec<Added>,
    /// Collections that could not be captured; after a stop those behind it were not tried.
    pub failed: Vec<CaptureFailure>,
}

/// A collection that could not be captured.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "said by their names")]
pub struct CaptureFailure {
    pub collection: String,
    pub error: Error,
}

impl Operation for CaptureRequest {
    const NAME: &'static str = "capture";
    type Report = CaptureReport;

    fn run(self, context: &Context) -> Result<CaptureReport> {
        let connection = connect(&self.server, &self.connection, &Context::LOUD)?;
        let members = members(&connection, &self.peer, self.members_from.as_ref())?;
        let members = Members::new(&connection, &members)?;
        let target = CaptureTarget::open(&self)?;
        let to = match (&self.to, &target) {
            (Some(to), _) => {
                durable::make_folder(to)?;
                to.clone()
            }
            // Nobody gave its name, which others can guess.
            (None, Some(target)) => {
                own::folder(&target.incoming)?;
                target.incoming.clone()
            }
            (None, None) => return Err(Error::usage("reading --to", "it is missing")),
        };
        let matching = matching(&connection, &self.collections)?;
        if let Some(note) = matching.note() {
            Context::LOUD.warn(&note);
        }
        for left in clear_leftovers(&members, &to, &matching.names)? {
            Context::LOUD.warn(&format!("left by an earlier run: {left}"));
        }

        let no_own_restores = OwnRestores::new();
        let options = |collection| CaptureOptions {
            members: &members,
            collection,
            folder: &to,
            stream: self.stream,
            rate: self.limit_rate,
            require_checksum: self.require_checksum,
            own_restores: &no_own_restores,
            progress: context.progress,
        };
        let (mut captured, mut archived, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        let mut ahead = VecDeque::new();
        for (at, collection) in matching.names.iter().enumerate() {
            let done = match &target {
                Some(target) => {
                    let storing = |name| target.storing(name, &self);
                    if ahead.is_empty() {
                        let next = matching.names.iter().skip(at).take(TOGETHER_MAX);
                        let next: Vec<_> =
                            next.map(|name| (options(name), storing(name))).collect();
                        ahead.extend(self.streamed_ahead(&next)?);
                    }
                    let options = options(collection);
                    let storing = storing(collection);
                    let stored = match ahead.pop_front() {
                        Some(Ok(Some(ahead))) => Ahead::store(ahead, &options, &storing),
                        Some(Ok(None)) | None => capture_into(&options, &storing),
                        Some(Err(err)) => Err(err),
                    };
                    stored.and_then(|(done, added)| {
                        discard(&done.file)?;
                        Ok((Some(added), done))
                    })
                }
                None => capture(&options(collection)).map(|done| (None, done)),
            };
            match done {
                Ok((added, done)) => {
                    captured.push(done);
                    archived.extend(added);
                }
                Err(error) => {
                    let stop = stop::times() > 0 || error.kind() == Kind::Cancelled;
                    failed.push(CaptureFailure {
                        collection: collection.clone(),
                        error,
                    });
                    if stop {
                        break;
                    }
                }
            }
        }
        for left in ahead.into_iter().filter_map(|ahead| ahead.ok().flatten()) {
            left.discard()?;
        }
        let outcome = match failed.last() {
            Some(last) => last.error.kind().into(),
            None => Outcome::differs_if(
                captured.iter().any(Captured::differs) || archived.iter().any(Added::differs),
            ),
        };
        Ok(CaptureReport {
            envelope: Envelope::new(Self::NAME, 1, outcome),
            captured,
            archived,
            failed,
        })
    }
}

impl CaptureRequest {
    /// Streams the first of `captures`, once what an earlier run left of all of them is stored.
    fn streamed_ahead(
        &self,
        captures: &[(CaptureOptions<'_>, Storing<'_>)],
    ) -> Result<Vec<Result<Option<Ahead>>>> {
        let mut earlier = Vec::new();
        // In a folder that is ours, not in the user's.
        if self.to.is_none() {
            for (options, storing) in captures {
                earlier.push(store_earlier(options.folder, storing, options.collection));
            }
        }
        let mut ahead = stream_ahead(captures)?;
        for (ahead, earlier) in ahead.iter_mut().zip(earlier) {
            if let Err(err) = earlier
                && let Ok(Some(ahead)) = std::mem::replace(ahead, Err(err))
            {
                ahead.discard()?;
            }
        }
        Ok(ahead)
    }
}

/// Stores what an earlier run captured whole and was killed before it stored it.
fn store_earlier(folder: &Path, storing: &Storing<'_>, collection: &str) -> Result<()> {
    while let Some((file, manifest)) = captured_earlier(folder, collection)? {
        let (name, tags) = (storing.name, storing.tags);
        store(storing.archive, &file, &manifest, name, tags)?;
        discard(&file)?;
    }
    Ok(())
}

/// Archive that captured files are moved into.
struct CaptureTarget {
    archive: Archive,
    /// Folder of the files on their way to the archive.
    incoming: PathBuf,
}

impl CaptureTarget {
    /// Archive, entry name, tags and options with which `collection` is stored.
    fn storing<'a>(&'a self, collection: &'a str, request: &'a CaptureRequest) -> Storing<'a> {
        Storing {
            archive: &self.archive,
            name: collection,
            tags: &request.tag,
            options: request.incremental,
        }
    }

    /// The archive that was asked for, which must be there before anything is captured.
    fn open(request: &CaptureRequest) -> Result<Option<Self>> {
        let Some(place) = &request.archive else {
            return Ok(None);
        };
        let incoming = match (&request.to, Location::parse(place)?) {
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
                trust: request.trust.clone(),
                key: request.key.clone(),
            },
            signing: request.signing.clone(),
        };
        let archive = archive.open()?;
        // Who only writes has no key.
        archive.closed_chain()?;
        Ok(Some(Self { archive, incoming }))
    }
}
