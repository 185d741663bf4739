//! Requests to publish a master and to roll an alias back.
//!
//! Invariants: nothing is asked of a server before the request is known to be well formed.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Allow, Change, PublishOptions, RollbackOptions, publish, rollback};
use crate::base::error::{Error, Result};
use crate::base::operation::{Context, Envelope, Operation, Outcome};
use crate::input::connect;
use crate::server::{Address, KnownServers, check_name};

/// Points an alias to a new master.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct PublishRequest {
    /// The server, as http://HOST:6333
    #[arg(value_name = "SERVER")]
    pub server: Address,
    /// The collection that the alias is to point to
    #[arg(value_name = "COLLECTION")]
    pub collection: String,
    /// The alias
    #[arg(long, value_name = "NAME")]
    pub alias: String,
    /// Keep the last N masters of this alias that snapmerge published, and remove older ones that
    /// nothing points to [default: keep all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: Option<u32>,
    /// Share of the old master's points that the new one may lack
    #[arg(long, value_name = "PERCENT%", default_value = "5%", value_parser = percent)]
    pub max_shrink: f64,
    /// Publish although: not-green, empty, missing-indexes; repeat it for more
    #[arg(long, value_name = "WHAT")]
    pub allow: Vec<Allow>,
    /// Print what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub known: KnownServers,
}

/// Points an alias back to the previous master.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// The server, as http://HOST:6333
    #[arg(value_name = "SERVER")]
    pub server: Address,
    /// The alias
    #[arg(long, value_name = "NAME")]
    pub alias: String,
    /// Go back although: not-green, moved; repeat it for more
    #[arg(long, value_name = "WHAT")]
    pub allow: Vec<Allow>,
    /// Print what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub known: KnownServers,
}

/// An alias that was moved, or would be.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "flattened")]
pub struct AliasReport {
    #[serde(flatten)]
    pub envelope: Envelope,
    #[serde(flatten)]
    pub change: Change,
}

impl Operation for PublishRequest {
    const NAME: &'static str = "publish";
    type Report = AliasReport;

    fn run(self, _: &Context) -> Result<AliasReport> {
        check_name(&self.alias)
            .map_err(|why| Error::usage(format!("reading --alias {}", self.alias), why))?;
        let state = self.known.state.folder()?;
        let connection = connect(&self.server, &self.known.connection, &Context::LOUD)?;
        let options = PublishOptions {
            collection: &self.collection,
            alias: &self.alias,
            keep: self.keep,
            max_shrink: self.max_shrink,
            allow: &self.allow,
            dry_run: self.dry_run,
        };
        Ok(AliasReport {
            change: publish(&connection, &options, &state)?,
            envelope: Envelope::new(Self::NAME, 1, Outcome::DONE),
        })
    }
}

impl Operation for RollbackRequest {
    const NAME: &'static str = "rollback";
    type Report = AliasReport;

    fn run(self, _: &Context) -> Result<AliasReport> {
        let state = self.known.state.folder()?;
        let connection = connect(&self.server, &self.known.connection, &Context::LOUD)?;
        let options = RollbackOptions {
            alias: &self.alias,
            allow: &self.allow,
            dry_run: self.dry_run,
        };
        Ok(AliasReport {
            change: rollback(&connection, &options, &state)?,
            envelope: Envelope::new(Self::NAME, 1, Outcome::DONE),
        })
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end();
    number
        .parse()
        .ok()
        .filter(|percent: &f64| (0.0..=100.0).contains(percent))
        .ok_or_else(|| "give a percentage from 0% to 100%".to_owned())
}
