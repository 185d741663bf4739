//! The config of the collections that rows go into.
//!
//! Invariants: it comes from one place, which is told: a snapshot, a file, flags, or what a table carries; flags of
//! the collection's config win over it.

use std::collections::BTreeSet;
use std::path::Path;

use crate::base::error::{Error, Kind, Result};
use crate::format::schema::{
    CollectionConfig, Overrides, PayloadSchema, ShardKeys, ShardingMethod, United, UserConfig,
    unite,
};
use crate::input::{InputOptions, Inputs};
use crate::point::{PointId, ShardKey};
use crate::source::Source;
use crate::stream::Layout;
use crate::table::TableMeta;

/// Shard keys, at the most: each is a shard, with files and a thread of its own.
const KEYS_MAX: usize = 1000;

/// Config, payload indexes and shard keys as they were found.
pub struct Found {
    /// Where: the name of a file, or of flags.
    pub origin: String,
    config: CollectionConfig,
    payload: PayloadSchema,
    shard_keys: ShardKeys,
    user: Option<UserConfig>,
}

impl Found {
    /// As the snapshot at `path` has them.
    pub fn like(path: &Path, options: &InputOptions) -> Result<Self> {
        let (file, opening) = Inputs::find_one(path, options)?;
        let source = Source::open(&file, &opening, None)?;
        Ok(Self {
            origin: path.display().to_string(),
            config: source.config,
            payload: source.payload,
            shard_keys: source.shard_keys,
            user: None,
        })
    }

    /// As Qdrant's JSON in the file at `path` has them.
    pub fn file(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|err| Error::io("reading", path, &err))?;
        let user = UserConfig::parse(&path.display().to_string(), &bytes)?;
        if !user.has_vectors() {
            return Err(Error::usage(
                format!("reading the config file {}", path.display()),
                "it has no vectors",
            )
            .next("give a collection's config.json, or the body of PUT /collections/NAME"));
        }
        Ok(Self {
            origin: path.display().to_string(),
            config: user.base()?,
            payload: PayloadSchema::default(),
            shard_keys: ShardKeys::default(),
            user: Some(user),
        })
    }

    /// One unnamed vector, as flags say.
    pub fn flags(size: u64, distance: &str) -> Result<Self> {
        let vector = serde_json::json!({"size": size, "distance": distance});
        let user = serde_json::json!({ "vectors": vector });
        let user = UserConfig::parse("--size and --distance", user.to_string().as_bytes())?;
        Ok(Self {
            origin: "--size and --distance".into(),
            config: user.base()?,
            payload: PayloadSchema::default(),
            shard_keys: ShardKeys::default(),
            user: None,
        })
    }

    /// As the table at `path` carries them.
    pub fn table(path: &Path, meta: &TableMeta) -> Result<Self> {
        let what = format!("the table {}", path.display());
        let bytes = |value: &serde_json::Value| value.to_string().into_bytes();
        Ok(Self {
            config: CollectionConfig::parse(&what, &bytes(&meta.config))?,
            payload: PayloadSchema::parse(&what, &bytes(&meta.payload_index))?,
            shard_keys: ShardKeys::parse(&what, &bytes(&meta.shard_keys))?,
            origin: path.display().to_string(),
            user: None,
        })
    }

    /// The config, which points are held against as they come.
    pub fn config(&self) -> &CollectionConfig {
        &self.config
    }

    /// The payload indexes.
    pub fn payload(&self) -> &PayloadSchema {
        &self.payload
    }

    /// The shape of the collections, with `overrides`, of points that lie under `keys`, or some under none.
    pub fn shape(&self, overrides: &Overrides, keys: &SeenKeys) -> Result<(United, Layout)> {
        let overrides = Overrides {
            config: self.user.clone(),
            ..overrides.clone()
        };
        let described = (self.origin.clone(), &self.config, &self.payload);
        let mut united = unite(&[described], &overrides)?;
        let is_custom = *united.config.sharding_method() == ShardingMethod::Custom;
        if keys.seen.is_empty() && !is_custom {
            return Ok((
                united.clone(),
                Layout::automatic(united.config.shard_number()),
            ));
        }
        if let Some(first) = keys.without {
            return Err(Error::usage(
                "laying out shard keys",
                format!("some points have a shard key, and others, as {first}, have none"),
            )
            .next("give all of them one (--shard-key COLUMN), or none"));
        }
        if !is_custom {
            united.set("params", &[("sharding_method", "custom".into())])?;
        }
        // As the collection had them, then new ones.
        let mut own: Vec<(&ShardKey, &Vec<u32>)> = self.shard_keys.keys().iter().collect();
        own.sort_by_key(|(_, shards)| shards.first().copied());
        let count = |shards: &Vec<u32>| u32::try_from(shards.len()).unwrap_or(u32::MAX);
        let each = overrides.shard_number;
        let mut all: Vec<(ShardKey, u32)> = (own.iter())
            .map(|(key, shards)| ((*key).clone(), each.unwrap_or_else(|| count(shards))))
            .collect();
        for key in &keys.seen {
            if !self.shard_keys.keys().contains_key(key) {
                all.push((key.clone(), each.unwrap_or(1)));
            }
        }
        Ok((united, Layout::by_key(&all)?))
    }
}

/// Shard keys of the points that came.
#[derive(Debug, Default)]
pub struct SeenKeys {
    seen: BTreeSet<ShardKey>,
    /// The first point without one.
    without: Option<PointId>,
}

impl SeenKeys {
    /// The keys.
    pub fn keys(&self) -> BTreeSet<ShardKey> {
        self.seen.clone()
    }

    /// Takes in the key of the point `id`.
    pub fn add(&mut self, id: PointId, key: Option<&ShardKey>) -> Result<()> {
        let Some(key) = key else {
            self.without.get_or_insert(id);
            return Ok(());
        };
        if self.seen.contains(key) {
            return Ok(());
        }
        if self.seen.len() >= KEYS_MAX {
            return Err(Error::new(
                Kind::Refused,
                "taking in shard keys",
                format!("there are more than {KEYS_MAX} of them, the last is {key}"),
            )
            .next("choose another column with --shard-key, or a payload index with is_tenant"));
        }
        self.seen.insert(key.clone());
        Ok(())
    }
}
