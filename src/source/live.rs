//! Live collections as sources: asked for their config, scrolled, counted before and after.
//!
//! Invariants: the collection is only read; what others write while it is read is noticed, by the
//! counts and, where the server tells them, by the numbers of its operations, and told.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::ordered::{Ordered, Take};
use super::{Checksum, Source};
use crate::base::error::{Error, Kind, Result};
use crate::engine::{Columns, Filter, Hit, Search};
use crate::format::Snapshot;
use crate::format::schema::{ShardKeys, ShardingMethod};
use crate::point::ShardKey;
use crate::point::{PointId, Record, Sample};
use crate::server::points::Points;
use crate::server::{
    ACTIVE, CollectionAddress, Connection, Selection, Topology, not_found_as_none, require,
};
use crate::source::Reading;

/// A live collection that is read.
#[derive(Debug)]
pub struct Live {
    connection: Connection,
    address: CollectionAddress,
    /// Other members of its cluster that can be asked.
    members: BTreeMap<u64, Connection>,
    point_streams: Vec<LivePoints>,
    /// Number of points when it was opened.
    points: u64,
    /// The number of the last operation in each shard of each member that can be asked.
    operations: Vec<(u32, u64)>,
}

/// The points of a live collection, or of one of its shard keys.
#[derive(Debug)]
pub struct LivePoints {
    points: Points,
}

impl LivePoints {
    /// The points.
    pub fn points(&self) -> &Points {
        &self.points
    }

    /// The shard key that they lie under.
    pub fn key(&self) -> Option<&ShardKey> {
        self.points.key()
    }
}

impl Ordered for LivePoints {
    fn what(&self) -> &str {
        self.points.what()
    }

    fn count(&self, filter: Option<&Filter>) -> Result<u64> {
        self.points.count(json(filter)?.as_ref())
    }

    fn may_change(&self) -> bool {
        true
    }

    fn read(&self, reading: Reading<'_>, page_bytes: usize, take: &mut Take<'_>) -> Result<()> {
        let Reading {
            filter,
            sample,
            columns,
            ..
        } = reading;
        if let (None, Columns::IDS) = (filter, columns) {
            return self.points.ids(|ids| take(bare(ids, sample)));
        }
        let filter = json(filter)?;
        self.points
            .read(filter.as_ref(), sample, page_bytes, |records| {
                take(
                    records
                        .into_iter()
                        .map(|record| columns.of(record))
                        .collect(),
                )
            })
    }

    fn get(&self, ids: &[PointId], columns: Columns) -> Result<Vec<Record>> {
        let records = self.points.get(ids)?.into_iter();
        Ok(records.map(|record| columns.of(record)).collect())
    }

    fn nearest(&self, search: Search<'_>) -> Result<Vec<Hit>> {
        self.points.nearest(search)
    }
}

/// Records with nothing but `ids`, of those that are in `sample`.
fn bare(ids: &[PointId], sample: Option<Sample>) -> Vec<Record> {
    ids.iter()
        .filter(|id| sample.is_none_or(|sample| sample.keeps(**id)))
        .map(|id| Record::bare(*id))
        .collect()
}

fn json(filter: Option<&Filter>) -> Result<Option<Value>> {
    filter
        .map(|filter| {
            serde_json::from_str(filter.text())
                .map_err(|err| Error::usage("reading the filter", err))
        })
        .transpose()
}

impl Live {
    /// Looks at the collection at `address`, which has shard keys where it is sharded by them.
    fn open(
        connection: &Connection,
        address: &CollectionAddress,
        keys: &ShardKeys,
        members: BTreeMap<u64, Connection>,
    ) -> Result<Self> {
        let name = &address.collection;
        let chosen: Vec<Option<&ShardKey>> = match keys.is_empty() {
            true => vec![None],
            // One id may lie under several keys: each is a point stream of its own.
            false => keys.keys().keys().map(Some).collect(),
        };
        let point_streams = chosen
            .into_iter()
            .map(|key| {
                let points = Points::new(connection, name, key)?;
                Ok(LivePoints { points })
            })
            .collect::<Result<Vec<_>>>()?;
        let points = connection.count(Selection::all(name))?;
        let mut live = Self {
            connection: connection.clone(),
            address: address.clone(),
            members,
            point_streams,
            points,
            operations: Vec::new(),
        };
        live.operations = live.last_operations();
        Ok(live)
    }

    /// Returns the number of points when it was opened.
    pub fn points(&self) -> u64 {
        self.points
    }

    /// Returns the streams that it is read by.
    pub fn point_streams(&self) -> &[LivePoints] {
        &self.point_streams
    }

    /// Asks for its shards, and the members that hold them.
    pub fn topology(&self) -> Result<Topology> {
        self.connection
            .topology(&self.address.collection)
            .map_err(|failure| failure.error)
    }

    fn last_operations(&self) -> Vec<(u32, u64)> {
        std::iter::once(&self.connection)
            .chain(self.members.values())
            .flat_map(|member| member.last_operations(&self.address.collection))
            .collect()
    }

    /// Returns the connection to ask for each shard: the server itself where it holds it, else a member that
    /// can be asked.
    pub fn holders(&self, topology: &Topology) -> Result<BTreeMap<u32, Connection>> {
        let mut holders: BTreeMap<u32, Connection> = BTreeMap::new();
        for (shard, peer, state) in topology.replicas() {
            let member = match self.members.get(&peer) {
                _ if peer == topology.peer_id => &self.connection,
                Some(member) if state == ACTIVE => member,
                _ => continue,
            };
            holders.entry(shard).or_insert_with(|| member.clone());
        }
        // The others are members of another collection's cluster.
        let ours = topology.remote_shards.iter().map(|shard| shard.peer_id);
        let ours: BTreeSet<u64> = ours.collect();
        for (peer, member) in self.members.iter().filter(|(peer, _)| ours.contains(peer)) {
            let told = member.topology(&self.address.collection)?.peer_id;
            if told != *peer {
                return Err(Error::usage(
                    format!("asking member {peer} at {}", member.address()),
                    format!("it says that it is member {told}"),
                )
                .next("`curl SERVER/cluster` tells the id of the member that answers"));
            }
        }
        Ok(holders)
    }

    /// Calls `take` with all ids in one of the shards that `holder` has, ascending, some at a time.
    /// False if the server cannot say what lies in a shard.
    pub fn ids_in_shard(
        &self,
        holder: &Connection,
        shard: u32,
        mut take: impl FnMut(&[PointId]) -> Result<()>,
    ) -> Result<bool> {
        let shard = Selection::shard(&self.address.collection, shard);
        let listed = holder.ids(shard, |ids| take(&ids).map(|()| true));
        Ok(not_found_as_none(listed)?.is_some())
    }

    /// Which of `ids` lie in that shard of `holder`.
    pub fn which_in_shard(
        &self,
        holder: &Connection,
        shard: u32,
        ids: &[PointId],
    ) -> Result<Vec<PointId>> {
        let shard = Selection::shard(&self.address.collection, shard);
        Ok(not_found_as_none(holder.which(shard, ids))?.unwrap_or_default())
    }

    /// Describes what others changed since it was opened, as far as that can be told; none if nothing
    /// changed. `what` is the thing that is made of it.
    pub fn changed(&self, what: &str) -> Result<Option<String>> {
        let points = self
            .connection
            .count(Selection::all(&self.address.collection))?;
        let operations = self.last_operations();
        if points == self.points && operations == self.operations {
            return Ok(None);
        }
        let first: u64 = self.operations.iter().map(|(_, number)| number).sum();
        let last: u64 = operations.iter().map(|(_, number)| number).sum();
        let written = match last.saturating_sub(first) {
            0 => String::new(),
            more => format!(" and {more} operations more"),
        };
        Ok(Some(format!(
            "{} was written to while it was read: it had {} points before and {points}{written} \
             after, so {what} may show no single moment of it",
            self.address, self.points
        )))
    }
}

impl Source {
    /// The live collection at `address` as a source; `members` of its cluster are asked for what only
    /// they can tell.
    pub fn live(
        connection: &Connection,
        address: &CollectionAddress,
        members: BTreeMap<u64, Connection>,
    ) -> Result<Self> {
        let what = address.to_string();
        let name = &address.collection;
        let info = connection
            .collection(name)
            .map_err(|failure| failure.error)?;
        let info = require(address, info)?;
        if info.status == "red" {
            return Err(Error::new(
                Kind::Refused,
                format!("reading {what}"),
                format!("the server calls it red: {}", info.optimizer_status),
            )
            .next("look at the server's log, and mend the collection first"));
        }
        if info.deferred() > 0 {
            let why = format!(
                "it has {} points that the server hides until they are optimized \
                 (prevent_unoptimized), and they would be missing",
                info.deferred()
            );
            return Err(
                Error::new(Kind::Refused, format!("reading {what}"), why).next(
                    "wait until it is green; or capture it and read the snapshot, which has them",
                ),
            );
        }
        let config = info.config(&what)?;
        let shard_keys = match config.sharding_method() {
            ShardingMethod::Custom => {
                let topology = connection.topology(name).map_err(|failure| failure.error)?;
                topology.shard_keys()?
            }
            _ => ShardKeys::default(),
        };
        let live = Live::open(connection, address, &shard_keys, members)?;
        Ok(Self {
            name: name.clone(),
            snapshot: Snapshot::of_none(&what),
            payload: info.payload_schema(&what)?,
            config,
            shard_keys,
            config_is_derived: false,
            checksum: Checksum::Live,
            expected: Vec::new(),
            live: Some(live),
            by_server: None,
            refused: BTreeSet::new(),
            in_parts: false,
            elsewhere: BTreeSet::new(),
        })
    }

    /// From now on its records are read from the collection `name`, which has its points.
    pub fn read_at(&mut self, connection: &Connection, name: &str) -> Result<()> {
        let address = connection.address().collection(name);
        self.live = Some(Live::open(
            connection,
            &address,
            &self.shard_keys,
            BTreeMap::new(),
        )?);
        Ok(())
    }

    /// Returns the streams of a live collection; none of a snapshot.
    pub fn live_lanes(&self) -> &[LivePoints] {
        self.live.as_ref().map_or(&[], Live::point_streams)
    }
}
