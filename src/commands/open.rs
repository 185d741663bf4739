//! Opening what a command reads: snapshot files, and collections of servers.
//!
//! Keeps true: each server is connected to once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::args::ConnectionArgs;
use super::{Given, connect};
use crate::base::error::Result;
use crate::base::progress::{Progress, Unit};
use crate::server::{Address, CollectionAddress, Connection, is_address};
use crate::source::{Opening, Source};

/// The servers of one command.
pub(super) struct Servers<'a> {
    args: &'a ConnectionArgs,
    open: BTreeMap<Address, Connection>,
}

impl<'a> Servers<'a> {
    pub fn new(args: &'a ConnectionArgs) -> Self {
        Self {
            args,
            open: BTreeMap::new(),
        }
    }

    /// The server at `address`.
    pub fn at(&mut self, address: &Address) -> Result<Connection> {
        if let Some(connection) = self.open.get(address) {
            return Ok(connection.clone());
        }
        let connection = connect(address, self.args)?;
        self.open.insert(address.clone(), connection.clone());
        Ok(connection)
    }
}

/// Whether a source is a collection of a server.
pub(super) fn is_live(source: &Path) -> bool {
    is_address(&source.to_string_lossy())
}

/// Opens all of `paths`, in this order; with `inside`, the ids and logs of files are read too.
pub(super) fn open_all(
    paths: &[PathBuf],
    given: &Given,
    inside: bool,
    servers: &mut Servers<'_>,
    progress: Progress,
) -> Result<Vec<Source>> {
    let files = paths.iter().map(PathBuf::as_path);
    given.all_used(files.filter(|path| !is_live(path)))?;
    let stage = progress.stage("look into sources", None, Unit::Bytes);
    let mut sources = Vec::new();
    for path in paths {
        if is_live(path) {
            let address = CollectionAddress::parse(&path.to_string_lossy())?;
            let connection = servers.at(&address.server)?;
            sources.push(Source::live(&connection, &address)?);
            continue;
        }
        let opening = Opening {
            trackers: inside,
            log: inside,
            ..given.opening(path)
        };
        sources.push(Source::open(path, &opening, Some(stage.counter()))?);
    }
    Ok(sources)
}
