//! Opening the sources of a merge: files, and collections of servers.
//!
//! Keeps true: ids and logs of files are read where the route may want them, and nowhere else.

use super::super::args::{MergeArgs, RouteChoice};
use super::super::open::{Servers, is_live, open_all};
use super::super::{Given, state_folder};
use crate::base::error::{Error, Result};
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::merge::{Lent, Route, lend};
use crate::server::{Address, Connection};
use crate::source::{Source, tell_apart};

/// Opens the sources.
pub(super) fn open(
    args: &MergeArgs,
    servers: &mut Servers<'_>,
    progress: Progress,
) -> Result<Vec<Source>> {
    let given = Given::new(&args.reading.checksums)?;
    // By graft, ids and logs are looked at without the engine.
    let look_inside = args.live.into.is_none()
        && args.route != RouteChoice::Only(Route::Rebuild)
        && args.route != RouteChoice::Scratch
        && !args.sources.iter().any(|source| is_live(source));
    let mut sources = open_all(&args.sources, &given, look_inside, servers, progress)?;
    tell_apart(&mut sources);
    if let Some(connection) = scratch_server(args, servers)? {
        let info = connection.server_info()?;
        // One that does not say how old it is may be one that reads no RocksDB.
        let version = info.numbers().unwrap_or((u32::MAX, 0, 0));
        for source in sources.iter_mut().filter(|source| source.live.is_none()) {
            source.by_server = Some(version);
        }
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
    let Some(connection) = scratch_server(args, servers)? else {
        return Ok(Vec::new());
    };
    let folder = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let scratch = Scratch::new(&folder)?;
    let notes = state_folder(&args.live.state)?.lent();
    lend(sources, &connection, &notes, scratch.path(), progress)
}

/// The server that reads snapshots with the route scratch, if that was asked for.
fn scratch_server(args: &MergeArgs, servers: &mut Servers<'_>) -> Result<Option<Connection>> {
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
        (None, _) => return Ok(None),
    };
    servers.at(&address).map(Some)
}
