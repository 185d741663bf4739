//! A shard, opened by the engine.
//!
//! Invariants: it is always a scratch copy, since to open a shard is to write to it (it replays the
//! log, makes segments, deletes what it takes for leftovers); scans are in the order of ids, each
//! id once, in its newest version.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use qdrant_edge::{
    CountRequest, CreateIndex, EdgeShard, FieldIndexOperations, JsonPath, OperationResult, Payload,
    PayloadFieldSchema, PayloadOps, PointInsertOperations, PointOperations, RetrieveRequest,
    ScrollRequest, SetPayloadOp, UpdateOperation, WithPayloadInterface, WithVector,
};
use serde_json::Value;

use super::closed::empty;
use super::config::ShardConfig;
use super::contain::{contained, take_passed_over};
use super::convert::{id_from, id_to, point_to, record_from};
use super::filter::Filter;
use crate::base::error::{Error, Kind, Result};
use crate::point::{PointId, Record};

/// Ids that are read at once.
const IDS_AT_ONCE: usize = 4096;

/// An open shard.
pub struct Shard {
    inner: EdgeShard,
    folder: PathBuf,
    what: String,
    kind: Kind,
    passed_over: BTreeSet<u64>,
}

/// A page of records, and where the next one begins.
#[derive(Debug)]
pub struct Page {
    /// The records, ascending by id.
    pub records: Vec<Record>,
    /// The id that the next page starts with; none at the end.
    pub next: Option<PointId>,
}

/// Which part of the records a scan reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    /// Vectors too.
    pub vectors: bool,
    /// Payload too.
    pub payload: bool,
}

impl Columns {
    /// Everything.
    pub const ALL: Self = Self {
        vectors: true,
        payload: true,
    };
    /// Ids and payloads.
    pub const PAYLOADS: Self = Self {
        vectors: false,
        payload: true,
    };
    /// Ids only.
    pub const IDS: Self = Self {
        vectors: false,
        payload: false,
    };

    /// `record` with these columns alone.
    pub fn of(self, mut record: Record) -> Record {
        if !self.vectors {
            record.vectors.clear();
        }
        if !self.payload {
            record.payload.clear();
        }
        record
    }
}

impl Shard {
    /// Opens the scratch copy of a source's shard in `folder` and replays its log; `what` names it
    /// in errors. Failures are [`Kind::Damaged`].
    pub fn open(folder: &Path, config: &ShardConfig, what: impl Into<String>) -> Result<Self> {
        Self::load(folder, config, what.into(), Kind::Damaged)
    }

    /// Removes older copies of points from the scratch copy of a source's shard in `folder`, before
    /// its log is replayed.
    ///
    /// A point may lie in two segments, the older copy where the optimizer was at work when the
    /// snapshot was taken. A server removes it when it loads the shard (`deduplicate_points` in
    /// lib/shard/src/segment_holder/mod.rs), the engine does not, and its filters match what a
    /// point was before: an operation of the log that deletes by filter would uncover an older
    /// copy, or delete the newer one for it.
    pub fn drop_older_copies(folder: &Path, config: &ShardConfig, what: &str) -> Result<()> {
        // One segment has every point once.
        let segments = std::fs::read_dir(folder.join("segments"));
        if segments.is_ok_and(|entries| entries.count() < 2) {
            return Ok(());
        }
        // The same segments, without the log.
        let bare = folder.join("bare");
        let failed = |err: std::io::Error| Error::io("making scratch folder", &bare, &err);
        std::fs::create_dir(&bare).map_err(failed)?;
        std::os::unix::fs::symlink("../segments", bare.join("segments")).map_err(failed)?;
        let shard = Self::open(&bare, config, what)?;
        let doing = || format!("looking for older copies of points in {what}");
        let copies = shard.contain(&doing, |inner| inner.info())?.points_count;
        if copies as u64 > shard.count(None)? {
            // Any operation on a point first removes its older copies. This one does nothing else:
            // it is the first in a new log, so that every point is newer.
            let nothing = SetPayloadOp {
                payload: Payload::default(),
                points: Some(shard.ids()?.into_iter().map(id_to).collect()),
                filter: None,
                key: None,
            };
            shard.update(
                doing,
                UpdateOperation::PayloadOperation(PayloadOps::SetPayload(nothing)),
            )?;
        }
        shard.close()?;
        std::fs::remove_dir_all(&bare)
            .map_err(|err| Error::io("removing scratch folder", &bare, &err))
    }

    /// Opens a shard of our own making again.
    pub fn reopen(folder: &Path, config: &ShardConfig, what: impl Into<String>) -> Result<Self> {
        Self::load(folder, config, what.into(), Kind::Failed)
    }

    /// Makes an empty shard in `folder`, which has none.
    pub fn create(folder: &Path, config: &ShardConfig, what: impl Into<String>) -> Result<Self> {
        let what = what.into();
        let inner = contained(Kind::Failed, folder, &|| format!("making {what}"), || {
            EdgeShard::new(folder, config.inner.clone())
        })?;
        Ok(Self {
            passed_over: BTreeSet::new(),
            inner,
            folder: folder.to_owned(),
            what,
            kind: Kind::Failed,
        })
    }

    fn load(folder: &Path, config: &ShardConfig, what: String, kind: Kind) -> Result<Self> {
        let _before = take_passed_over();
        let inner = contained(kind, folder, &|| format!("opening {what}"), || {
            EdgeShard::load(folder, Some(config.inner.clone()))
        })?;
        Ok(Self {
            passed_over: take_passed_over(),
            inner,
            folder: folder.to_owned(),
            what,
            kind,
        })
    }

    /// Has the engine `act` on it.
    pub(super) fn contain<T>(
        &self,
        doing: &dyn Fn() -> String,
        act: impl FnOnce(&EdgeShard) -> OperationResult<T>,
    ) -> Result<T> {
        contained(self.kind, &self.folder, doing, || act(&self.inner))
    }

    /// The entries of its log that the engine refused, when it was opened; such an upsert may have written
    /// some of its points, which nobody can tell.
    pub fn passed_over(&self) -> &BTreeSet<u64> {
        &self.passed_over
    }

    /// Returns the shard's description, for errors.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The folder that it lies in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The exact number of its points, or of those that match `filter`.
    pub fn count(&self, filter: Option<&Filter>) -> Result<u64> {
        let request = CountRequest {
            filter: filter.map(Filter::inner),
            exact: true,
        };
        let doing = || format!("counting {}", self.what);
        self.contain(&doing, |inner| inner.count(request))
            .map(|count| count as u64)
    }

    /// A page of at most `limit` records from the id `from` on, or from the start.
    pub fn page(
        &self,
        from: Option<PointId>,
        limit: usize,
        columns: Columns,
        filter: Option<&Filter>,
    ) -> Result<Page> {
        let request = ScrollRequest {
            offset: from.map(id_to),
            limit: Some(limit),
            filter: filter.map(Filter::inner),
            with_payload: Some(WithPayloadInterface::Bool(columns.payload)),
            with_vector: WithVector::Bool(columns.vectors),
            order_by: None,
        };
        let doing = || match from {
            Some(id) => format!("scanning {} from id {id} on", self.what),
            None => format!("scanning {}", self.what),
        };
        let (records, next) = self.contain(&doing, |inner| inner.scroll(request))?;
        Ok(Page {
            records: records.into_iter().map(record_from).collect(),
            next: next.map(id_from),
        })
    }

    /// All ids, ascending.
    pub fn ids(&self) -> Result<Vec<PointId>> {
        let mut ids = Vec::new();
        self.each_id(|id| {
            ids.push(id);
            Ok(())
        })?;
        Ok(ids)
    }

    /// Calls `take` with all ids, ascending.
    pub fn each_id(&self, mut take: impl FnMut(PointId) -> Result<()>) -> Result<()> {
        let mut from = None;
        loop {
            let page = self.page(from, IDS_AT_ONCE, Columns::IDS, None)?;
            page.records.iter().try_for_each(|record| take(record.id))?;
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// The records with `ids`, ascending by id; ids that the shard lacks are left out.
    pub fn retrieve(&self, ids: &[PointId], columns: Columns) -> Result<Vec<Record>> {
        let request = RetrieveRequest {
            point_ids: ids.iter().copied().map(id_to).collect(),
            with_payload: Some(WithPayloadInterface::Bool(columns.payload)),
            with_vector: Some(WithVector::Bool(columns.vectors)),
        };
        let doing = || format!("reading {} points of {}", ids.len(), self.what);
        let records = self.contain(&doing, |inner| inner.retrieve(request))?;
        let mut records: Vec<Record> = records.into_iter().map(record_from).collect();
        records.sort_by_key(|record| record.id);
        Ok(records)
    }

    /// Writes records; one with an id that is there already replaces it.
    pub fn upsert(&self, records: Vec<Record>) -> Result<()> {
        let points = records.into_iter().map(point_to).collect();
        let insert = PointInsertOperations::PointsList(points);
        self.update(
            || format!("writing points to {}", self.what),
            UpdateOperation::PointOperation(PointOperations::UpsertPoints(insert)),
        )
    }

    /// Deletes the points with `ids`.
    pub fn delete(&self, ids: &[PointId]) -> Result<()> {
        let ids = ids.iter().copied().map(id_to).collect();
        self.update(
            || format!("deleting points of {}", self.what),
            UpdateOperation::PointOperation(PointOperations::DeletePoints { ids }),
        )
    }

    /// Creates a payload index on `field` with Qdrant's own `schema`.
    pub fn create_index(&self, field: &str, schema: &Value) -> Result<()> {
        let doing = || format!("creating the payload index on '{field}' in {}", self.what);
        let read = read_index(field, schema);
        let (field_name, field_schema) = read.map_err(|why| Error::damaged(doing(), why))?;
        let create = CreateIndex {
            field_name,
            field_schema: Some(field_schema),
        };
        self.update(
            doing,
            UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(create)),
        )
    }

    fn update(&self, doing: impl Fn() -> String, operation: UpdateOperation) -> Result<()> {
        self.contain(&doing, |inner| inner.update(operation))
    }

    /// Merges, indexes and quantizes as the shard's config says, until nothing is left to do.
    pub fn optimize(&self) -> Result<bool> {
        let doing = || format!("indexing {}", self.what);
        self.contain(&doing, |inner| inner.optimize())
    }

    /// The number of vectors that lie in an index; approximate, as Qdrant's own.
    pub fn indexed_vectors(&self) -> Result<u64> {
        let doing = || format!("looking at {}", self.what);
        self.contain(&doing, |inner| inner.info())
            .map(|info| info.indexed_vectors_count as u64)
    }

    /// The number of its segments.
    pub fn segments(&self) -> Result<usize> {
        let doing = || format!("looking at {}", self.what);
        self.contain(&doing, |inner| inner.info())
            .map(|info| info.segments_count)
    }

    /// Flushes everything to disk, so that the engine holds nothing back in memory.
    pub fn flush(&self) -> Result<()> {
        let doing = || format!("flushing {}", self.what);
        self.contain(&doing, |inner| inner.flush())
    }

    /// Closes a shard that nobody needs any more and removes its folder. What lies in it is not
    /// written to the disk first, as closing would do.
    pub fn discard(self) -> Result<()> {
        let Self {
            inner,
            folder,
            what,
            kind,
            passed_over: _,
        } = self;
        empty(&folder)?;
        contained(kind, &folder, &|| format!("closing {what}"), || {
            drop(inner);
            Ok(())
        })?;
        std::fs::remove_dir_all(&folder)
            .map_err(|err| Error::io("removing scratch folder", &folder, &err))
    }

    /// Flushes everything to disk and closes the shard.
    pub fn close(self) -> Result<()> {
        self.flush()?;
        let doing = || format!("closing {}", self.what);
        contained(self.kind, &self.folder, &doing, || {
            drop(self.inner);
            Ok(())
        })
    }
}

/// Refuses a payload index that Qdrant would not take, or would take for something else.
pub fn refuse_index(field: &str, schema: &Value) -> Result<()> {
    let refuse = |why: String| {
        Error::usage(format!("reading the payload index of '{field}'"), why)
            .next("give it as PUT /collections/NAME/index takes it")
    };
    let (_, read) = read_index(field, schema).map_err(refuse)?;
    let taken = serde_json::to_value(&read).map_err(|err| refuse(err.to_string()))?;
    let stated = schema.as_object().into_iter().flatten();
    // A key that an index of this type does not have is passed over.
    match stated
        .map(|(key, _)| key)
        .find(|key| taken.get(key).is_none())
    {
        None => Ok(()),
        Some(key) => Err(refuse(format!("an index of its type has no {key}"))),
    }
}

/// A payload index in the engine's terms, or why it is none.
fn read_index(field: &str, schema: &Value) -> Result<(JsonPath, PayloadFieldSchema), String> {
    let path = (field.parse())
        .map_err(|()| "the name is not a path that Qdrant could index".to_owned())?;
    let schema = serde_json::from_value(schema.clone());
    Ok((path, schema.map_err(|err| err.to_string())?))
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("what", &self.what).finish()
    }
}
