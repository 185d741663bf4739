//! Opening the sources of a merge: files, and collections of servers.
//!
//! Keeps true: each server is connected to once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::args::{ConnectionArgs, MergeArgs, RouteChoice};
use super::super::{Given, connect, state_folder};
use crate::error::{Error, Result};
use crate::merge::{Lent, Route, lend};
use crate::report::progress::{Progress, Unit};
use crate::scratch::Scratch;
use crate::server::{Address, CollectionAddress, Connection, is_address};
use crate::source::{Opening, Source, tell_apart};

/// The servers of one command.
pub(super) struct Servers<'a> {
    args: &'a ConnectionArgs,
    open: BTreeMap<Address, Connection>,
}

impl<'a> Servers<'a> {
    pub fn new(args: &'a MergeArgs) -> Self {
        Self {
            args: &args.connection,
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

/// Opens the sources.
pub(super) fn open(
    args: &MergeArgs,
    servers: &mut Servers<'_>,
    progress: Progress,
) -> Result<Vec<Source>> {
    let given = Given::new(&args.checksums)?;
    let files = args.sources.iter().map(PathBuf::as_path);
    given.all_used(files.filter(|source| !is_live(source)))?;
    let stage = progress.stage("look into sources", None, Unit::Bytes);
    let mut sources = Vec::new();
    // By graft, ids and logs are looked at without the engine.
    let look_inside = args.live.into.is_none()
        && args.route != RouteChoice::Only(Route::Rebuild)
        && args.route != RouteChoice::Scratch
        && !args.sources.iter().any(|source| is_live(source));
    for path in &args.sources {
        if is_live(path) {
            let address = CollectionAddress::parse(&path.to_string_lossy())?;
            let connection = servers.at(&address.server)?;
            sources.push(Source::live(&connection, &address)?);
            continue;
        }
        let opening = Opening {
            trackers: look_inside,
            log: look_inside,
            ..given.opening(path)
        };
        sources.push(Source::open(path, &opening, Some(stage.counter()))?);
    }
    tell_apart(&mut sources);
    for source in &mut sources {
        source.by_server = args.route == RouteChoice::Scratch && source.live.is_none();
    }
    Ok(sources)
}

/// Restores the snapshots on the server of `--scratch-server`, with the route scratch.
pub(super) fn lend_all(
    args: &MergeArgs,
    servers: &mut Servers<'_>,
    sources: &mut [Source],
    progress: Progress,
) -> Result<Vec<Lent>> {
    let address = match (&args.live.scratch_server, args.route) {
        (None, RouteChoice::Scratch) => {
            return Err(
                Error::usage("taking the route scratch", "nothing names the server")
                    .next("name one with --scratch-server http://HOST:6333"),
            );
        }
        (Some(text), RouteChoice::Scratch) => Address::parse(text)?,
        (Some(_), _) => {
            return Err(Error::usage(
                "reading --scratch-server",
                "it belongs to --route scratch, which was not given",
            ));
        }
        (None, _) => return Ok(Vec::new()),
    };
    let connection = servers.at(&address)?;
    let folder = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = Scratch::new(&folder)?;
    let notes = state_folder(&args.live.state)?.lent();
    lend(sources, &connection, &notes, scratch.path(), progress)
}
