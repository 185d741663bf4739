//! Parts of a collection put together to one snapshot of all of it.
//!
//! Invariants: each shard comes from exactly the part that the plan says, its bytes as they were; the
//! collection's own files are in it once; what is put together has the form that a server restores.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use serde_json::Value;

use super::plan::Plan;
use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::format::schema::{CollectionConfig, PayloadSchema, ShardKeys};
use crate::format::{Input, Stream, Transplant, Walker, layout};

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Content of a collection's `version.info`, as Qdrant writes it.
const COLLECTION_VERSION: &[u8] = b"0.4.2";

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

    /// Adds a streamed shard, whole: the walker refuses one that ends early. Returns its last member.
    pub fn shard<S: Stream>(&mut self, stream: S, what: &str, shard: u32) -> Result<String> {
        let mut walker = Walker::new(stream, what);
        let mut last = String::new();
        while let Some(member) = walker.next_member()? {
            if member.path.is_empty() {
                continue;
            }
            // A server without shared storage leaves it out of a snapshot; a restore refuses it.
            let name = format!("{shard}/{}", member.path);
            self.out.member(&mut walker, &member, &name)?;
            last = member.path;
        }
        Ok(last)
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

    /// Ends it.
    pub fn finish(self) -> Result<()> {
        self.out.finish().map(|_| ())
    }
}
