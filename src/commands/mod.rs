//! The verbs, one file each.
//!
//! Keeps true: a command settles what was typed, plans, does, and reports; it knows no detail of
//! how.

pub mod archive;
pub mod args;
pub mod capture;
pub mod diff;
pub mod drill;
pub mod export;
mod fetched;
pub mod init;
pub mod inspect;
mod lines;
pub mod merge;
mod open;
pub mod publish;
pub mod report;
pub mod restore;
pub mod rollback;
pub mod run;
pub mod verify;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;

use self::args::{ChecksumArgs, ConnectionArgs, StateArgs};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Progress;
use crate::server::StateFolder;
use crate::server::{Address, Connection};
use crate::source::{Opening, parse_sha256};

/// How a command ended that did what it could and has told everything: none when there is nothing
/// to say.
pub type Ended = Option<Kind>;

/// Prints `value` as JSON.
fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|err| Error::failed("writing the report", err))?;
    print(&format!("{text}\n"))
}

/// Prints `text`. A reader that has seen enough is no failure.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::failed("writing the report to standard output", err))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Says `text` beside the output.
fn warn(text: &str) {
    eprintln!("snapmerge: {text}");
}

/// A connection to the server at `address`; what is risky about it is said.
fn connect(address: &Address, args: &ConnectionArgs) -> Result<Connection> {
    let settings = args.settings()?;
    let connection = Connection::open(address, &settings)?;
    if settings.insecure && address.is_encrypted() {
        warn(&format!(
            "WARNING: --insecure: the certificate of {address} is NOT checked; whoever stands between \
             can read and change everything, the API key included"
        ));
    }
    if connection.shows_its_key() {
        warn(&format!(
            "WARNING: the API key is sent to {address} unencrypted; use https: where you can"
        ));
    }
    Ok(connection)
}

/// The addresses of a cluster's members that were typed, by peer.
fn peers(typed: &[(u64, Address)]) -> Result<BTreeMap<u64, Address>> {
    let mut peers = BTreeMap::new();
    for (peer, address) in typed {
        if peers.insert(*peer, address.clone()).is_some() {
            return Err(Error::usage(
                format!("reading --peer {peer}"),
                "it is given twice",
            ));
        }
    }
    Ok(peers)
}

/// The folder of what is remembered of servers.
fn state_folder(args: &StateArgs) -> Result<StateFolder> {
    let variable = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
    StateFolder::find(
        args.state.as_deref(),
        variable("XDG_STATE_HOME"),
        variable("HOME"),
    )
}

/// How progress is shown.
fn progress(quiet: bool) -> Progress {
    match quiet {
        true => Progress::Quiet,
        false => Progress::Shown,
    }
}

/// The checksums that were typed, by file.
struct Given {
    by_file: BTreeMap<String, String>,
    require: bool,
}

impl Given {
    fn new(args: &ChecksumArgs) -> Result<Self> {
        let mut by_file = BTreeMap::new();
        for text in &args.sha256 {
            let refuse = |why: &str| {
                Err(Error::usage(format!("reading --sha256 {text}"), why)
                    .next("give it as --sha256 FILE=64-HEX-DIGITS"))
            };
            let Some((file, hex)) = text.rsplit_once('=') else {
                return refuse("there is no '='");
            };
            let Some(sha256) = parse_sha256(hex) else {
                return refuse("what follows '=' is not 64 hexadecimal digits");
            };
            by_file.insert(file.to_owned(), sha256);
        }
        Ok(Self {
            by_file,
            require: args.require_checksum,
        })
    }

    /// How the source at `path` is to be opened.
    fn opening(&self, path: &Path) -> Opening {
        let name = path.file_name().map(|name| name.to_string_lossy());
        let sha256 = self
            .by_file
            .get(&path.display().to_string())
            .or_else(|| self.by_file.get(name.as_deref()?));
        Opening {
            sha256: sha256.cloned(),
            require_checksum: self.require,
            ..Opening::default()
        }
    }

    /// Refuses a checksum that was given for none of `paths`.
    fn all_used<'a>(&self, paths: impl Iterator<Item = &'a Path> + Clone) -> Result<()> {
        for file in self.by_file.keys() {
            let used = paths.clone().any(|path| {
                path.display().to_string() == *file
                    || path
                        .file_name()
                        .is_some_and(|name| name.to_string_lossy() == *file)
            });
            if !used {
                return Err(Error::usage(
                    format!("reading --sha256 {file}=…"),
                    "no source is called so",
                ));
            }
        }
        Ok(())
    }
}
