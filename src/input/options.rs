//! Options for finding and checking the inputs of operations.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::archive::SourceArchiveOptions;
use crate::base::error::{Error, Result};
use crate::format::SnapshotFile;
use crate::server::{Address, Connection, ConnectionOptions, MembersFrom, PeerAddress};
use crate::source::{Opening, parse_sha256};

/// Checksums and places of sources, for every operation that reads some.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct InputOptions {
    /// The SHA-256 that a source must have; repeat it for more. Qdrant's own FILE.checksum beside a
    /// source is looked for without this
    #[arg(long, value_name = "FILE=HEX")]
    pub sha256: Vec<String>,
    /// Refuse sources that have no checksum
    #[arg(long)]
    pub require_checksum: bool,
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub from_archive: SourceArchiveOptions,
}

/// Connection to live collections, for every operation that reads some.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub struct LiveInputOptions {
    #[command(flatten)]
    #[serde(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub connection: ConnectionOptions,
    /// Where a member of a live collection's cluster answers REST; repeat it for each. GET /cluster
    /// tells the ids
    #[arg(long, value_name = "ID=URL")]
    pub peer: Vec<PeerAddress>,
    /// Find the members by a name of DNS that has the addresses of all, as that of a headless service:
    /// DNS or DNS:PORT; each is asked for its id, and --peer comes first
    #[arg(long, value_name = "DNS[:PORT]")]
    pub members_from: Option<MembersFrom>,
}

/// The checksums that were given, by file.
pub(super) struct GivenChecksums {
    by_file: BTreeMap<String, String>,
    require: bool,
}

impl GivenChecksums {
    pub fn new(options: &InputOptions) -> Result<Self> {
        let mut by_file = BTreeMap::new();
        for text in &options.sha256 {
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
            require: options.require_checksum,
        })
    }

    /// Returns the options with which `file` is to be opened.
    pub fn opening(&self, file: &SnapshotFile) -> Opening {
        let given = |names: Vec<String>| {
            names
                .iter()
                .find_map(|name| self.by_file.get(name))
                .cloned()
        };
        Opening {
            sha256: given(names(file)),
            full_sha256: given(names_of_full(file)),
            require_checksum: self.require,
            ..Opening::default()
        }
    }

    /// Refuses a checksum that was given for none of `files`.
    pub fn all_used<'a>(&self, files: impl Iterator<Item = &'a SnapshotFile>) -> Result<()> {
        let known: BTreeSet<String> = files
            .flat_map(|file| names(file).into_iter().chain(names_of_full(file)))
            .collect();
        match self.by_file.keys().find(|file| !known.contains(*file)) {
            None => Ok(()),
            Some(file) => Err(Error::usage(
                format!("reading --sha256 {file}=…"),
                "no source is called so",
            )),
        }
    }
}

/// The names that a file can be given by: as it was given itself, and the last part of its path.
fn names(file: &SnapshotFile) -> Vec<String> {
    vec![file.to_string(), file.file_name()]
}

/// The same of the snapshot of a whole storage that it lies in, if it lies in one.
fn names_of_full(file: &SnapshotFile) -> Vec<String> {
    match file {
        SnapshotFile::Member(member) => names(&member.full.path.as_path().into()),
        SnapshotFile::Disk(_) | SnapshotFile::Stored(_) => Vec::new(),
    }
}

/// Returns the REST addresses of the members of the cluster of `first` by peer id: those that `from` leads
/// to, and over them those that were `given`. A peer that is given twice is refused.
pub fn members(
    first: &Connection,
    given: &[PeerAddress],
    from: Option<&MembersFrom>,
) -> Result<BTreeMap<u64, Address>> {
    let given = peers(given)?;
    let mut members = match from {
        None => BTreeMap::new(),
        Some(from) => first.members_from(from)?,
    };
    members.extend(given);
    Ok(members)
}

fn peers(given: &[PeerAddress]) -> Result<BTreeMap<u64, Address>> {
    let mut peers = BTreeMap::new();
    for PeerAddress { peer, address } in given {
        if peers.insert(*peer, address.clone()).is_some() {
            return Err(Error::usage(
                format!("reading --peer {peer}"),
                "it is given twice",
            ));
        }
    }
    Ok(peers)
}
