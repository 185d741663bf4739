//! `snapmerge restore`: a master onto a server, or everything back in one command.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::{Ended, OutputArgs, print_report, warn};
use crate::base::error::{Error, Result};
use crate::base::operation::Operation as _;
use crate::restore::{Rename, RestoreManyRequest, RestoreOptions, RestoreRequest};
use crate::server::{Address, CollectionAddress};

/// A collection to make of one snapshot, or a server for many.
#[derive(Debug, Clone)]
pub enum Target {
    /// The collection.
    Collection(CollectionAddress),
    /// The server.
    Server(Address),
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (CollectionAddress::parse(text), Address::parse(text)) {
            (Ok(collection), _) => Ok(Self::Collection(collection)),
            (Err(_), Ok(server)) if server.is_bare() => Ok(Self::Server(server)),
            (Err(err), _) => Err(err),
        }
    }
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge restore album_master.snapshot --to http://prod:6333/album_master_20261122
  snapmerge restore album_master.snapshot.gz --to http://prod:6333/album_master_20261122 --dry-run
  snapmerge restore archive:album_2017@2026-11-01 --archive backups --to http://dr:6333/album_2017
  snapmerge restore master.snapshot --to http://n1:6333/master --peer 81=http://n2:6333 --peer 99=http://n3:6333

Everything back, all at once:
  snapmerge restore 'archive:*@2026-11-01' --archive backups --to http://dr:6333 --aliases --dry-run
  snapmerge restore 'archive:album_*' --archive backups --to http://dr:6333 --rename 'album_(.*)=old_$1'
  snapmerge restore full.snapshot --to http://dr:6333 --aliases

Looked at before a byte moves: the name, the server's version, shards and shard keys. Compared afterwards:
exact counts of each shard, config, payload indexes, vectors in an index. If anything differs it exits with 3
and the new collection is removed again. With a server alone as --to, of each name that fits the newest entry at or
before the date is restored; the same command again resumes one that was interrupted, as long as it
means the same entries: give a date.")]
pub struct RestoreArgs {
    /// A collection snapshot, plain or .gz; one in an archive, as archive:NAME@DATE; or many: archive:PATTERN@DATE
    /// (* and ? stand for any letters), or a snapshot of a whole storage
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: PathBuf,
    /// The collection to make of it, as http://HOST:6333/NAME; the server alone for many
    #[arg(long, value_name = "ADDRESS")]
    pub to: Target,
    /// A new name for collections, of many: a regular expression for the whole name, and what becomes of it;
    /// repeat it for more rules, of which the first that fits counts
    #[arg(long, value_name = "PATTERN=NAME")]
    pub rename: Vec<Rename>,
    /// Set the aliases that pointed to the collections, too, of many: in one call, when all of them are there
    #[arg(long)]
    pub aliases: bool,
    /// Collections that are restored at once, of many
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub options: RestoreOptions,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub output: OutputArgs,
}

/// Runs the command.
pub fn run(args: RestoreArgs) -> Result<Ended> {
    let context = args.output.context();
    // A plan is what was asked for: it is printed however quiet.
    let shown = OutputArgs {
        quiet: args.output.quiet && !args.options.dry_run,
        ..args.output
    };
    let (ended, left) = match args.to {
        Target::Collection(to) => {
            if args.aliases || !args.rename.is_empty() {
                return Err(Error::usage(
                    "reading the options",
                    "--aliases and --rename are for many collections, and --to names one",
                )
                .next("give the server alone: --to http://HOST:6333"));
            }
            let request = RestoreRequest {
                snapshot: args.snapshot,
                to,
                options: args.options,
            };
            let report = request.run(&context)?;
            let ended = print_report(&report, shown);
            (ended, report.restored.left)
        }
        Target::Server(to) => {
            let request = RestoreManyRequest {
                snapshots: args.snapshot,
                to,
                rename: args.rename,
                aliases: args.aliases,
                jobs: args.jobs.into(),
                options: args.options,
            };
            let report = request.run(&context)?;
            let ended = print_report(&report, shown);
            let left = report.collections.into_iter().flat_map(|one| one.left);
            (ended, left.collect())
        }
    };
    for left in left {
        warn(&format!("could not be removed: {left}"));
    }
    ended
}
