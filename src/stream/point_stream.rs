//! A stream of points: the records of an opened shard or of a live collection, with what they are called and
//! whose they are in the master.
//!
//! Invariants: a stream's records are not changed but for the names of vectors; which key is part of a point's
//! identity is told here alone.

use super::by_field::KeyField;
use super::options::UnionOptions;
use crate::base::error::Result;
use crate::engine::{Columns, Hit, Search};
use crate::format::schema::{CollectionConfig, VectorChanges};
use crate::point::{PointId, Record, ShardKey};
use crate::source::{OpenedShards, Ordered, Source};

/// One stream of records in the order of ids, to scan: an opened shard, or a live collection.
#[derive(Clone)]
pub struct PointStream<'a> {
    /// Which source it belongs to.
    pub source: usize,
    /// The records.
    pub records: &'a dyn Ordered,
    /// The key that they lie under.
    pub key: Option<ShardKey>,
    /// The key that is part of their identity: [`Self::key`], unless it is dropped or replaced.
    pub identity: Option<ShardKey>,
    /// Config of their collection, if it is known.
    config: Option<&'a CollectionConfig>,
    /// Vectors that have other names than they are stored under, or are left out.
    pub(super) vectors: Option<&'a VectorChanges>,
    /// The field that tells the key of each point's identity, in place of [`Self::identity`].
    pub(super) by_field: Option<KeyField<'a>>,
}

impl<'a> PointStream<'a> {
    /// Records of the source at the place `source`, which lie under `key`.
    pub fn new(source: usize, records: &'a dyn Ordered, key: Option<ShardKey>) -> Self {
        Self {
            source,
            records,
            identity: key.clone(),
            key,
            config: None,
            vectors: None,
            by_field: None,
        }
    }

    /// The key of the identity of `record`.
    pub fn identity_of(&self, record: &Record) -> Result<Option<ShardKey>> {
        match &self.by_field {
            None => Ok(self.identity.clone()),
            Some(field) => field.key(record, self.records.what()).map(Some),
        }
    }

    /// The records with `ids`, ascending by id; ids that are not there are left out.
    pub fn get(&self, ids: &[PointId], columns: Columns) -> Result<Vec<Record>> {
        let mut records = self.records.get(ids, columns)?;
        (records.iter_mut()).for_each(|record| rename(record, self.vectors));
        Ok(records)
    }

    /// The nearest points, the best first; none if they have no such vector.
    pub fn nearest(&self, search: Search<'_>) -> Result<Vec<Hit>> {
        let nothing = VectorChanges::default();
        let changes = self.vectors.unwrap_or(&nothing);
        match self
            .config
            .map(|config| changes.name_in(config, search.name))
        {
            Some(None) => Ok(Vec::new()),
            Some(Some(name)) => self.records.nearest(Search { name, ..search }),
            None => self.records.nearest(search),
        }
    }
}

/// Gives the vectors of `record` their names in the master.
pub(super) fn rename(record: &mut Record, changes: Option<&VectorChanges>) {
    if let Some(changes) = changes {
        record.vectors.retain_mut(|(name, _)| {
            let Some(new) = changes.name(name) else {
                return false;
            };
            if new != name {
                *name = new.to_owned();
            }
            true
        });
        record
            .vectors
            .sort_by(|(one, _), (other, _)| one.cmp(other));
    }
}

/// The point streams of `source`, the one at the place `at`: those of its open shards, or of
/// its collection.
pub fn point_streams<'a>(
    at: usize,
    source: &'a Source,
    open_shards: &'a OpenedShards,
) -> Vec<PointStream<'a>> {
    let of_shards = open_shards
        .shards
        .iter()
        .map(|shard| PointStream::new(at, &shard.shard, shard.key.clone()));
    let of_copies = (open_shards.copied.iter())
        .map(|copied| PointStream::new(at, &copied.records, copied.key.clone()));
    let of_collection = source
        .live_lanes()
        .iter()
        .map(|point_stream| PointStream::new(at, point_stream, point_stream.key().cloned()));
    let config = Some(&source.config);
    let all = of_shards.chain(of_copies).chain(of_collection);
    all.map(|stream| PointStream { config, ..stream }).collect()
}

/// The shard key in the identities that points of the source called `name` under `key` have in a master
/// that has shard keys if it `keeps_keys`.
pub fn identity_key(
    options: &UnionOptions,
    keeps_keys: bool,
    name: &str,
    key: Option<&ShardKey>,
) -> Option<ShardKey> {
    if options.layout.is_by_source() {
        Some(ShardKey::Word(name.to_owned()))
    } else if options.layout.field().is_some() {
        // Each point has its own.
        None
    } else {
        key.filter(|_| keeps_keys).cloned()
    }
}

/// Gives the point streams of sources called `names` the identities that their points have in the master, which
/// has shard keys if it `keeps_keys`, and the names that their vectors have there.
pub fn in_master<'a>(
    mut point_streams: Vec<PointStream<'a>>,
    options: &'a UnionOptions,
    names: &[&str],
    keeps_keys: bool,
) -> Vec<PointStream<'a>> {
    for point_stream in &mut point_streams {
        let name = names.get(point_stream.source).copied().unwrap_or_default();
        point_stream.identity = identity_key(options, keeps_keys, name, point_stream.key.as_ref());
        point_stream.vectors = Some(&options.vectors).filter(|changes| !changes.is_none());
        point_stream.by_field = KeyField::new(options, name);
    }
    point_streams
}
