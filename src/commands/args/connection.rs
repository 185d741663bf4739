//! How servers are spoken to, for every command that does.
//!
//! Keeps true: a key is never an argument, which every list of processes would show.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::base::error::{Error, Result};
use crate::server::{ConnectionSettings, KEY_VARIABLE, Keys};

/// How servers are spoken to. The key comes from QDRANT_API_KEY or a file.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Read the API key from this file instead of from QDRANT_API_KEY: the key alone, or lines
    /// HOST KEY
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Trust the certificates in this file (PEM) beside the system's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Take any certificate: what is sent is encrypted, but anybody in between can read it
    #[arg(long)]
    pub insecure: bool,
    /// How long an answer may take, and how long a download may stand still, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// How often a call that fails for a passing reason is repeated
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub retries: u32,
    /// The port of gRPC [default: the one after REST's]
    #[arg(long, value_name = "PORT")]
    pub grpc_port: Option<u16>,
}

impl ConnectionArgs {
    /// What they mean.
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
        })
    }
}
