//! A live collection that is written: looked at, created, and given its shard keys and payload indexes.
//!
//! Invariants: nothing is changed on a collection that is there but for what it lacks.

use serde_json::Value;

use super::Shape;
use crate::base::error::{Error, Kind, Result};
use crate::format::schema::{CollectionConfig, ShardingMethod, vector_label};
use crate::point::ShardKey;
use crate::server::{CollectionAddress, CollectionInfo, Connection, Feature, index_for};

/// A collection that is written.
#[derive(Debug, Clone)]
pub struct LiveTarget {
    /// The server.
    pub connection: Connection,
    /// The collection.
    pub address: CollectionAddress,
}

impl LiveTarget {
    /// Returns the collection's state; none if it does not exist. A name that is an alias is
    /// refused: points written to it would go to the collection behind it.
    pub fn existing(&self) -> Result<Option<CollectionInfo>> {
        let name = self.name();
        let aliases = self.connection.aliases()?;
        if let Some(behind) = aliases.get(name) {
            return Err(Error::new(
                Kind::Refused,
                format!("writing to {}", self.address),
                format!("the name is an alias of {behind}"),
            )
            .next("write to a new collection, and let `snapmerge publish` move the alias"));
        }
        Ok(self.connection.collection(name)?)
    }

    /// The collection's name.
    pub fn name(&self) -> &str {
        &self.address.collection
    }

    /// Makes the collection of `shape` by `body` of `PUT /collections/NAME`, without shard keys and payload
    /// indexes.
    pub fn create(&self, shape: Shape<'_>, body: Value) -> Result<()> {
        self.refuse_keys_without_cluster(shape.config)?;
        self.refuse_multivectors(shape.config)?;
        Ok(self.connection.create_collection(self.name(), body)?)
    }

    /// Creates the shard keys and payload indexes of `shape` that the collection does not have yet.
    pub fn furnish(&self, shape: Shape<'_>) -> Result<()> {
        let name = self.name();
        if *shape.config.sharding_method() == ShardingMethod::Custom {
            let topology = self.connection.topology(name)?;
            let there = topology.shard_keys()?;
            let mut keys: Vec<(&ShardKey, &Vec<u32>)> = shape.layout.keys.keys().iter().collect();
            // In the order of their shards' numbers, so that a server numbers them the same.
            keys.sort_by_key(|(_, shards)| shards.first().copied());
            for (key, shards) in keys {
                if !there.keys().contains_key(key) {
                    let shards = u32::try_from(shards.len()).unwrap_or(u32::MAX);
                    self.connection.create_shard_key(name, key, shards)?;
                }
            }
        }
        let info = self.info()?;
        let there = info.payload_schema(&self.address.to_string())?;
        let version = self.connection.server_info()?.numbers();
        for (field, index) in shape.payload.fields() {
            // What the server does not know is not asked for, and told at the end.
            if let Some(index) = index_for(version, index)
                && !there.fields().contains_key(field)
            {
                self.connection.create_payload_index(name, field, &index)?;
            }
        }
        Ok(())
    }

    /// Returns the differences of the collection's vectors from those of the config `wanted`, in words.
    pub fn vector_differences(
        &self,
        wanted: &CollectionConfig,
        info: &CollectionInfo,
    ) -> Result<Vec<String>> {
        let mut differences = Vec::new();
        let config = info.config(&self.address.to_string())?;
        let (own, planned) = (config.vectors(), wanted.vectors());
        for (name, params) in planned {
            let same = own.get(name).is_some_and(|own| {
                own.size == params.size
                    && own.distance == params.distance
                    && own.datatype() == params.datatype()
                    && own.multivector == params.multivector
            });
            if !same {
                let label = vector_label(name);
                differences.push(format!("{label} is not as planned"));
            }
        }
        let missing = wanted.sparse_vectors().keys();
        for name in missing.filter(|name| !config.sparse_vectors().contains_key(*name)) {
            let label = vector_label(name);
            differences.push(format!("there is no {label}"));
        }
        Ok(differences)
    }

    /// An old server would take a multivector for one long vector.
    fn refuse_multivectors(&self, config: &CollectionConfig) -> Result<()> {
        let mut vectors = config.vectors().values();
        if vectors.all(|one| one.multivector.is_none()) {
            return Ok(());
        }
        let server = self.connection.server_info()?;
        if Feature::Multivectors.is_in(server.numbers()) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Refused,
            format!("making {}", self.address),
            format!(
                "it has multivectors, and Qdrant {} knows none",
                server.version
            ),
        )
        .next("write to a server of 1.10 or later"))
    }

    fn refuse_keys_without_cluster(&self, config: &CollectionConfig) -> Result<()> {
        if *config.sharding_method() != ShardingMethod::Custom {
            return Ok(());
        }
        let cluster = self.connection.cluster()?;
        if cluster.is_enabled() {
            return Ok(());
        }
        Err(Error::new(
            Kind::Refused,
            format!("making {} with shard keys", self.address),
            "the server is not in cluster mode, which shard keys need",
        )
        .next(
            "start it with QDRANT__CLUSTER__ENABLED=true and --uri (one member is enough), or \
             do without shard keys",
        ))
    }

    /// Returns the collection's current state; refused if it does not exist any more.
    pub fn info(&self) -> Result<CollectionInfo> {
        let info = self.connection.collection(self.name())?;
        info.ok_or_else(|| {
            Error::new(
                Kind::Refused,
                format!("looking at {}", self.address),
                "it is not there any more: somebody removed it",
            )
        })
    }
}
