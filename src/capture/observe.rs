//! State of a collection as its server reports it, before and after it is captured.
//!
//! Invariants: what decides whether the capture is whole (members, states, counts) is asked again
//! afterwards and compared.

use std::collections::BTreeMap;

use serde_json::Value;

use super::looks::Looks;
use super::plan::{Plan, plan};
use crate::base::error::{Error, Kind, Result};
use crate::server::{
    Address, CollectionInfo, Connection, Optimizations, Selection, ServerInfo, Topology, require,
};

/// A server and, if it is part of a cluster, those of its members that can be reached.
pub struct Members {
    /// The server that was asked.
    pub first: Connection,
    /// Others by id.
    pub others: BTreeMap<u64, Connection>,
    looks: Looks,
}

impl Members {
    /// The members at the addresses that were given.
    pub fn new(first: &Connection, peers: &BTreeMap<u64, Address>) -> Result<Self> {
        let others = peers
            .iter()
            .map(|(peer, address)| Ok((*peer, first.peer(address)?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            first: first.clone(),
            others,
            looks: Looks::default(),
        })
    }

    /// Looks at the telemetry of the one that was asked, shared by all that use these members.
    pub fn looks(&self) -> &Looks {
        &self.looks
    }

    /// The member `peer`, where `first` is the id of the one that was asked.
    pub fn get(&self, first: u64, peer: u64) -> Option<&Connection> {
        if peer == first {
            return Some(&self.first);
        }
        self.others.get(&peer)
    }

    /// The one with this address.
    pub fn at(&self, address: &str) -> Option<&Connection> {
        std::iter::once(&self.first)
            .chain(self.others.values())
            .find(|one| one.address().to_string() == address)
    }
}

/// State of a collection as its server reports it.
pub struct Observation {
    /// The server.
    pub server: ServerInfo,
    /// The member that was asked.
    pub first: u64,
    /// From whom what is taken.
    pub plan: Plan,
    /// The collection.
    pub info: CollectionInfo,
    /// Aliases that point to it.
    pub aliases: Vec<String>,
    /// Points, counted exactly.
    pub points: u64,
    /// Points of each shard, as far as its member counts them.
    pub shard_points: BTreeMap<u32, u64>,
    /// Current and past optimizations, on each member that something is taken from, if it reports them.
    pub optimizations: BTreeMap<u64, Optimizations>,
}

/// Looks at `collection`.
pub fn observe(members: &Members, collection: &str) -> Result<Observation> {
    let first = &members.first;
    let server = first.server_info()?;
    let aliases = first.aliases()?;
    if let Some(target) = aliases.get(collection) {
        return Err(Error::new(
            Kind::Usage,
            format!("looking at {collection} on {}", first.address()),
            format!("it is an alias; the collection is {target}"),
        )
        .next(format!(
            "give {target}, which is what the alias points to now"
        )));
    }
    let info = require(
        &first.address().collection(collection),
        first.collection(collection)?,
    )?;
    let mut seen: Vec<Topology> = vec![first.topology(collection)?];
    for (peer, connection) in &members.others {
        let topology = connection.topology(collection)?;
        if topology.peer_id != *peer {
            return Err(Error::usage(
                format!("asking member {peer} at {}", connection.address()),
                format!("it says that it is member {}", topology.peer_id),
            )
            .next("`curl SERVER/cluster` tells the id of the member that answers"));
        }
        seen.push(topology);
    }
    let asked = seen.first().map_or(0, |topology| topology.peer_id);
    let plan = plan(collection, &seen)?;
    let mut shard_points = BTreeMap::new();
    let mut optimizations = BTreeMap::new();
    for take in &plan.takes {
        let Some(member) = members.get(asked, take.peer) else {
            continue;
        };
        for shard in &take.shards {
            if let Some(count) = member.count_shard(collection, *shard)? {
                shard_points.insert(*shard, count);
            }
        }
        if let Some(told) = member.optimizations(collection)? {
            optimizations.insert(take.peer, told);
        }
    }
    let points = first.count(Selection::all(collection))?;
    let aliases = aliases
        .into_iter()
        .filter(|(_, target)| target == collection)
        .map(|(alias, _)| alias)
        .collect();
    Ok(Observation {
        server,
        first: asked,
        plan,
        info,
        aliases,
        points,
        shard_points,
        optimizations,
    })
}

impl Observation {
    /// Refuses to stream while optimizers work: a streamed shard has no log, so that deletes which an
    /// optimizer holds back would be missing from it.
    pub fn require_idle(&self, collection: &str) -> Result<()> {
        let busy = if !self.info.is_green() {
            Some(format!("its status is {}", self.info.status))
        } else if self.info.queued() > 0 {
            Some(format!("{} updates wait to be applied", self.info.queued()))
        } else if self.optimizations.values().any(|told| !told.is_idle()) {
            Some("optimizers work on it".to_owned())
        } else {
            None
        };
        match busy {
            None => Ok(()),
            Some(why) => Err(Error::new(
                Kind::Refused,
                format!("looking whether {collection} can be streamed"),
                format!("{why}, and a streamed shard has no log to make up for that"),
            )
            .next("wait until it is green, or capture without --stream")),
        }
    }

    /// Why a capture between this observation and `after` may not be whole; none if it is.
    pub fn differs(&self, after: &Self, streamed: bool) -> Option<String> {
        let places = |observation: &Self| {
            let takes = observation.plan.takes.iter();
            takes
                .flat_map(|take| take.shards.iter().map(|shard| (*shard, take.peer)))
                .collect::<BTreeMap<_, _>>()
        };
        if places(self) != places(after) {
            return Some("shards moved while it was captured".into());
        }
        if streamed && self.optimizations != after.optimizations {
            return Some("an optimizer worked on it while it was captured".into());
        }
        // How many points an index has is an estimate, and no part of it.
        let indexes = |observation: &Self| {
            let indexes = observation.info.payload_schema.clone().into_iter();
            indexes
                .map(|(field, index)| (field, (index.data_type, index.params)))
                .collect::<BTreeMap<_, _>>()
        };
        let is_same = self.info.config == after.info.config && indexes(self) == indexes(after);
        if streamed && !is_same {
            return Some("its config or its payload indexes changed while it was captured".into());
        }
        None
    }

    /// All points, if none was written until `after` and none is hidden: a snapshot has those that
    /// reads do not show, too.
    pub fn still_all_points(&self, after: &Self) -> Option<u64> {
        (self.is_all_shown(after) && self.points == after.points).then_some(self.points)
    }

    fn is_all_shown(&self, after: &Self) -> bool {
        self.info.deferred() == 0 && after.info.deferred() == 0
    }

    /// The points of a shard, if nothing was written to it until `after`.
    pub fn still_points(&self, after: &Self, shard: u32) -> Option<u64> {
        if !self.is_all_shown(after) {
            return None;
        }
        let (before, after) = (
            self.shard_points.get(&shard)?,
            after.shard_points.get(&shard)?,
        );
        (before == after).then_some(*before)
    }

    /// Returns notes for the operator on the collection's state.
    pub fn notes(&self, collection: &str) -> Vec<String> {
        let mut notes = Vec::new();
        if self.info.status == "red" {
            let why = match &self.info.optimizer_status {
                Value::Null => String::new(),
                other => format!(" ({other})"),
            };
            notes.push(format!(
                "{collection} is red{why}: operations failed on the server, and the snapshot may lack them"
            ));
        }
        if self.info.deferred() > 0 {
            notes.push(format!(
                "{} points are shown; the snapshot also has {} that the server hides until they are \
                 optimized (prevent_unoptimized)",
                self.points,
                self.info.deferred()
            ));
        }
        notes
    }
}
