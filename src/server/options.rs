//! Options of connections to servers, shared by commands, plans and requests.
//!
//! Invariants: a key is never an argument, which every list of processes would show, and stands in no
//! request: it comes from the environment or a file.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnectionSettings, GrpcAddress, Keys, StateFolder};
use crate::base::error::{Error, Result};

/// The environment's place for the key.
pub const KEY_VARIABLE: &str = "QDRANT_API_KEY";

/// Connection to servers: keys, certificates, timeouts and retries.
#[derive(Debug, Clone, Args, Serialize, Deserialize, JsonSchema)]
#[command(next_help_heading = "Connection")]
#[serde(default)]
pub struct ConnectionOptions {
    /// Read the API key from this file instead of from QDRANT_API_KEY: the key alone, or lines
    /// HOST KEY
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Trust the certificates in this file (PEM) beside the system's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Take any certificate; everything can then be read and changed on the way
    #[arg(long)]
    pub insecure: bool,
    /// Seconds that an answer may take, and that a download may stand still
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// Number of retries of a call that fails for a passing reason
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub retries: u32,
    /// The port of gRPC, if it is not the one after REST's
    #[arg(long, value_name = "PORT")]
    pub grpc_port: Option<u16>,
    /// Where the server answers gRPC, if that is elsewhere: http://HOST:6334. Where gRPC is not
    /// reached and neither this nor --grpc-port is given, points travel over REST, which is slower
    #[arg(long, value_name = "URL", conflicts_with = "grpc_port")]
    pub grpc: Option<GrpcAddress>,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            api_key_file: None,
            ca_file: None,
            insecure: false,
            timeout: 60,
            retries: 5,
            grpc_port: None,
            grpc: None,
        }
    }
}

impl ConnectionOptions {
    /// The settings that they mean, with the key.
    pub fn settings(&self) -> Result<ConnectionSettings> {
        let keys = match &self.api_key_file {
            Some(file) => Keys::from_file(file)?,
            None => match std::env::var(KEY_VARIABLE) {
                Ok(value) if value.trim().is_empty() => Keys::default(),
                Ok(value) => Keys::from_variable(&value, KEY_VARIABLE)?,
                Err(std::env::VarError::NotPresent) => Keys::default(),
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err(Error::usage(
                        format!("reading the API key in {KEY_VARIABLE}"),
                        "it is no text",
                    ));
                }
            },
        };
        Ok(ConnectionSettings {
            keys,
            ca_file: self.ca_file.clone(),
            insecure: self.insecure,
            timeout: Duration::from_secs(self.timeout),
            retries: self.retries,
            grpc_port: self.grpc_port,
            grpc: self.grpc.clone(),
        })
    }
}

/// Where state about servers is kept.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StateOptions {
    /// The folder of state about servers [default: $XDG_STATE_HOME/snapmerge, else
    /// ~/.local/state/snapmerge]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

impl StateOptions {
    /// The folder that they mean.
    pub fn folder(&self) -> Result<StateFolder> {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        StateFolder::find(
            self.state.as_deref(),
            variable("XDG_STATE_HOME"),
            variable("HOME"),
        )
    }
}

/// Connection to servers, and the folder of the state about them.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[expect(missing_docs, reason = "flattened")]
pub struct KnownServers {
    #[command(flatten)]
    #[serde(flatten)]
    pub state: StateOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub connection: ConnectionOptions,
}
