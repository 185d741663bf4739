//! Opening the sources of a merge: files, and collections of servers.
//!
//! Keeps true: ids and logs of files are read where the route may want them, and nowhere else.

use super::super::args::{MergeArgs, RouteChoice};
use super::super::open::{Servers, is_live, open_all};
use super::super::{Given, state_folder};
use crate::error::{Error, Result};
use crate::merge::{Lent, Route, lend};
use crate::report::progress::Progress;
use crate::scratch::Scratch;
use crate::server::Address;
use crate::source::{Source, tell_apart};

/// Opens the sources.
pub(super) fn open(
    args: &MergeArgs,
    servers: &mut Servers<'_>,
    progress: Progress,
) -> Result<Vec<Source>> {
    let given = Given::new(&args.checksums)?;
    // By graft, ids and logs are looked at without the engine.
    let look_inside = args.live.into.is_none()
        && args.route != RouteChoice::Only(Route::Rebuild)
        && args.route != RouteChoice::Scratch
        && !args.sources.iter().any(|source| is_live(source));
    let mut sources = open_all(&args.sources, &given, look_inside, servers, progress)?;
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
