//! Parts of a collection put together to one snapshot of all of it.
//!
//! Invariants: each shard comes from exactly the part that the plan says, its bytes as they were; the
//! collection's own files are in it once; what is put together has the form that a server restores.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;
use std::path::Path;

use serde_json::Value;

use super::plan::Plan;
use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::format::schema::{CollectionConfig, PayloadSchema, ShardKeys};
use crate::format::{
    Input, SegmentManifest, ShardManifest, Stream, TRAILER_BYTES, Transplant, Walker, layout,
};

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Content of a collection's `version.info`, as Qdrant writes it.
const COLLECTION_VERSION: &[u8] = b"0.4.2";

/// Most bytes of the manifests of a shard's segments: a hundred for each of their files.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// A shard as it was streamed.
#[derive(Debug, Default)]
pub struct Streamed {
    /// The last member.
    pub last: String,
    /// The manifests of its segments, as far as there were some.
    pub manifest: ShardManifest,
    /// Members by their paths within the shard, and where they are now with header and padding.
    pub members: Vec<Placed>,
}

impl Streamed {
    /// The files that came of each segment; an error if a segment came without a manifest, or a manifest
    /// without its segment.
    pub fn sent(&self) -> Result<BTreeMap<&str, BTreeSet<String>>, String> {
        let mut sent: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for member in &self.members {
            if let Some((id, file)) = layout::segment_file(&member.path) {
                sent.entry(id).or_default().insert(file.to_owned());
            }
        }
        let with_manifest: BTreeSet<&str> =
            self.manifest.segments.keys().map(String::as_str).collect();
        let with_files = sent.keys().copied().collect();
        match with_manifest.symmetric_difference(&with_files).next() {
            None => Ok(sent),
            Some(id) => Err(format!(
                "segment {id} came without its manifest, or without its files"
            )),
        }
    }
}

/// A member of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Path within the shard.
    pub path: String,
    /// Range in the tar, in bytes, header and padding included.
    pub range: Range<u64>,
}

/// A snapshot being put together.
pub struct Assembly {
    out: Transplant<BufWriter<File>>,
}

impl Assembly {
    /// A new snapshot at `path`; what was there is gone.
    pub fn new(path: &Path) -> Result<Self> {
        let file = durable::open_private(path)?;
        file.set_len(0)
            .map_err(|err| Error::io("emptying", path, &err))?;
        let out = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(Self {
            out: Transplant::new(out, path.display().to_string()),
        })
    }

    /// Adds what the member `peer` gave: its shards, and with `own` the collection's own files.
    pub fn member(&mut self, part: &Path, plan: &Plan, peer: u64, own: bool) -> Result<()> {
        let mut input = Input::open(&part.into(), None, None)?;
        let mut walker = Walker::new(&mut input, part.display().to_string());
        while let Some(member) = walker.next_member()? {
            let shard = member
                .path
                .split('/')
                .next()
                .and_then(|first| first.parse::<u32>().ok());
            let is_wanted = match shard {
                Some(shard) => plan.peer_of(shard) == Some(peer),
                None => own,
            };
            if is_wanted {
                self.out.member(&mut walker, &member, &member.path)?;
            }
        }
        Ok(())
    }

    /// Adds what a server streams of a shard: the walker refuses a stream that ends early. The manifests
    /// of segments, with which no server restores a shard, are told instead.
    pub fn shard<S: Stream>(&mut self, stream: S, what: &str, shard: u32) -> Result<Streamed> {
        let mut walker = Walker::new(stream, what);
        let mut streamed = Streamed::default();
        let mut manifest_bytes = 0;
        while let Some(member) = walker.next_member()? {
            if member.path.is_empty() {
                continue;
            }
            streamed.last.clone_from(&member.path);
            if let Some((id, layout::SEGMENT_MANIFEST)) = layout::segment_file(&member.path) {
                let bytes = walker.read_small(&member, MANIFEST_BYTES_MAX)?;
                let manifest =
                    SegmentManifest::parse(id, &bytes).map_err(|why| walker.damaged(why))?;
                manifest_bytes += bytes.len() as u64;
                if manifest_bytes > MANIFEST_BYTES_MAX {
                    return Err(walker.damaged(format!(
                        "the manifests of its segments come to more than {MANIFEST_BYTES_MAX} bytes"
                    )));
                }
                let segments = &mut streamed.manifest.segments;
                segments.insert(id.to_owned(), manifest);
                continue;
            }
            // A server without shared storage leaves it out of a snapshot; a restore refuses it.
            let name = format!("{shard}/{}", member.path);
            let start = self.out.written();
            self.out.member(&mut walker, &member, &name)?;
            streamed.members.push(Placed {
                path: member.path,
                range: start..self.out.written(),
            });
        }
        Ok(streamed)
    }

    /// Adds the collection's own files, as the server told them.
    pub fn collection(
        &mut self,
        config: &CollectionConfig,
        keys: &ShardKeys,
        payload: &PayloadSchema,
    ) -> Result<()> {
        self.out.file(layout::VERSION, COLLECTION_VERSION)?;
        self.out.file(layout::CONFIG, &config.to_bytes())?;
        self.out.file(layout::SHARD_KEYS, &keys.to_bytes())?;
        let schema = serde_json::json!({ "schema": payload.fields() });
        let bytes = Value::to_string(&schema).into_bytes();
        self.out.file(layout::PAYLOAD_INDEX, &bytes)
    }

    /// Bytes that it has so far.
    pub fn written(&self) -> u64 {
        self.out.written()
    }

    /// Ends it; its size in bytes.
    pub fn finish(self) -> Result<u64> {
        let written = self.out.written() + TRAILER_BYTES;
        self.out.finish().map(|_| written)
    }
}
