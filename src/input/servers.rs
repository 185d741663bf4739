//! The servers of one operation.
//!
//! Invariants: each server is connected to once; what is risky about a connection is said.

use std::collections::BTreeMap;

use super::options::{LiveInputOptions, members};
use crate::base::error::{Error, Result};
use crate::base::operation::Context;
use crate::server::{Address, Connection, ConnectionOptions};

/// Connections by address.
pub struct Servers<'a> {
    options: &'a LiveInputOptions,
    context: &'a Context,
    open: BTreeMap<Address, Connection>,
}

impl<'a> Servers<'a> {
    /// None yet, to be reached with `options`.
    pub fn new(options: &'a LiveInputOptions, context: &'a Context) -> Self {
        Self {
            options,
            context,
            open: BTreeMap::new(),
        }
    }

    /// The server at `address`.
    pub fn at(&mut self, address: &Address) -> Result<Connection> {
        if let Some(connection) = self.open.get(address) {
            return Ok(connection.clone());
        }
        if let (Some(grpc), false) = (&self.options.connection.grpc, self.open.is_empty()) {
            return Err(Error::usage(
                format!("reading --grpc {grpc}"),
                format!("there are several servers, such as {address}, and it is one's alone"),
            )
            .next("give --grpc-port, or read and write one server at a time"));
        }
        self.open(address, &self.options.connection)
    }

    fn open(&mut self, address: &Address, options: &ConnectionOptions) -> Result<Connection> {
        let connection = connect(address, options, self.context)?;
        self.open.insert(address.clone(), connection.clone());
        Ok(connection)
    }
}

impl Servers<'_> {
    /// The members that --peer names, and those of the cluster of `first` that --members-from leads to, by
    /// id.
    pub fn members(&mut self, first: &Connection) -> Result<BTreeMap<u64, Connection>> {
        let LiveInputOptions {
            peer, members_from, ..
        } = self.options;
        let peers = members(first, peer, members_from.as_ref())?;
        let others = ConnectionOptions {
            grpc: None,
            ..self.options.connection.clone()
        };
        let member = |(peer, address): (u64, Address)| match self.open.get(&address) {
            Some(connection) => Ok((peer, connection.clone())),
            None => Ok((peer, self.open(&address, &others)?)),
        };
        peers.into_iter().map(member).collect()
    }
}

/// A connection to the server at `address`.
pub fn connect(
    address: &Address,
    options: &ConnectionOptions,
    context: &Context,
) -> Result<Connection> {
    let connection = Connection::open(address, &options.settings()?)?;
    if options.insecure && address.is_encrypted() {
        context.warn(&format!(
            "WARNING: --insecure: the certificate of {address} is NOT checked; whoever stands between \
             can read and change everything, the API key included"
        ));
    }
    if connection.shows_its_key() {
        context.warn(&format!(
            "WARNING: the API key is sent to {address} unencrypted; use https: where you can"
        ));
    }
    Ok(connection)
}
