//! Shards as streams: whole, or what is newer than what somebody has. Nothing is written to a server's
//! disk.
//!
//! Invariants: a stream counts only to its trailer and with the file that a server writes last, since a
//! server that fails on the way has answered 200 before; whatever came of a try that failed is gone.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use super::CaptureOptions;
use super::assemble::{Assembly, Streamed};
use super::journal::Work;
use super::manifest::PeerPart;
use super::observe::Observation;
use super::part::PART;
use super::take::{member, remove_parts};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Unit;
use crate::format::{ShardManifest, layout};
use crate::server::{BodyReader, Cause, Connection, Failure, Retry, RetryOn};

/// Number of times that streaming the shards is retried.
const RETRIES: u32 = 2;

/// Extent of a request to stream shards.
#[derive(Debug, Clone, Copy)]
pub enum StreamScope<'a> {
    /// The shards as they are.
    Whole,
    /// Data newer than this, by shard, and the manifests of all segments. Of a shard that is not in
    /// it, everything.
    Newer(&'a BTreeMap<u32, ShardManifest>),
}

/// Shards that servers streamed.
pub struct StreamedShards {
    /// A tar of all that came, and of the collection's own files.
    pub path: PathBuf,
    /// The members that it came from.
    pub peers: Vec<PeerPart>,
    /// Result of each shard; none where nothing is newer.
    pub shards: BTreeMap<u32, Option<Streamed>>,
    /// Place of the collection's own files in the tar, to its end, in bytes.
    pub collection: Range<u64>,
}

/// Streams every shard.
pub fn stream(
    request: &CaptureOptions<'_>,
    observation: &Observation,
    work: &Work,
    wanted: StreamScope<'_>,
) -> Result<StreamedShards, Failure> {
    remove_parts(work.path())?;
    let path = work.path().join(format!("{PART}-whole"));
    let source = format!("{}/{}", request.members.first.address(), request.collection);
    let config = observation.info.config(&source)?;
    let payload = observation.info.payload_schema(&source)?;
    let doing = format!("stream {}", request.collection);
    let stage = request.progress.stage(&doing, None, Unit::Bytes);
    let first = &request.members.first;
    let streamed = Retry::new(RetryOn::Transient, RETRIES).run_blocking(first, || {
        let mut assembly = Assembly::new(&path)?;
        let (mut peers, mut shards) = (Vec::new(), BTreeMap::new());
        for take in &observation.plan.takes {
            let member = member(request, observation, take)?;
            let mut bytes = 0;
            for shard in &take.shards {
                let streamed = shard_of(request, member, *shard, wanted, &mut assembly)?;
                if let Some((streamed, read)) = streamed {
                    stage.add(read);
                    bytes += read;
                    shards.insert(*shard, Some(streamed));
                } else {
                    shards.insert(*shard, None);
                }
            }
            peers.push(PeerPart {
                peer: take.peer,
                address: member.address().to_string(),
                snapshot: None,
                bytes,
                sha256: None,
            });
        }
        let start = assembly.written();
        assembly.collection(&config, &observation.plan.keys, &payload)?;
        let end = assembly.finish()?;
        Ok(StreamedShards {
            path: path.clone(),
            peers,
            shards,
            collection: start..end,
        })
    });
    if streamed.is_err() {
        // Another way may need the room.
        remove_parts(work.path())?;
    }
    streamed
}

/// Adds a shard to `assembly`, and tells what came of it and how many bytes; none if nothing is newer.
fn shard_of(
    request: &CaptureOptions<'_>,
    member: &Connection,
    shard: u32,
    wanted: StreamScope<'_>,
    assembly: &mut Assembly,
) -> Result<Option<(Streamed, u64)>, Failure> {
    let collection = request.collection;
    let doing = format!(
        "streaming shard {shard} of {collection} from {}",
        member.address()
    );
    let nothing = ShardManifest::default();
    let reader = match wanted {
        StreamScope::Whole => {
            let number = shard.to_string();
            let segments = ["collections", collection, "shards", &number, "snapshot"];
            Some(member.read_stream(&doing, &segments, request.rate)?)
        }
        StreamScope::Newer(than) => {
            let have = than.get(&shard).unwrap_or(&nothing);
            member.read_partial(&doing, collection, shard, have, request.rate)?
        }
    };
    let Some(mut reader) = reader else {
        return Ok(None);
    };
    let streamed = whole(assembly.shard(&mut reader, &doing, shard), &mut reader)?;
    if streamed.last != layout::SHARD_CONFIG {
        let why = format!(
            "it ends with {:?}, not with shard_config.json: the server failed on the way",
            streamed.last
        );
        let error = Error::damaged(doing, why).next(
            "look at the server's log, or capture with --incremental off and without --stream",
        );
        return Err(Failure::new(Cause::Cut, error));
    }
    Ok(Some((streamed, reader.read_bytes())))
}

/// The streamed shard, if its body was read to its end.
fn whole(streamed: Result<Streamed>, reader: &mut BodyReader) -> Result<Streamed, Failure> {
    match (streamed, reader.failure()) {
        (_, Some(failure)) => Err(failure),
        (Ok(streamed), None) => Ok(streamed),
        // A 200 with a short tar is how a server says that it failed on the way.
        (Err(err), None) if err.kind() == Kind::Damaged => Err(Failure::new(Cause::Cut, err)),
        (Err(err), None) => Err(err.into()),
    }
}
