//! `snapmerge capture`: snapshots off running servers.

use clap::Args;

use super::{Ended, OutputArgs, print_answer, warn};
use crate::base::error::Result;
use crate::base::operation::Operation as _;
use crate::capture::CaptureRequest;

/// Arguments of `capture`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge capture http://prod:6333 album_2017 'album_20*' --to archive
  snapmerge capture https://prod:6333 album_2017 --to archive --ca-file ca.pem --limit-rate 20M
  snapmerge capture http://node1:6333 album --to archive --peer 7234=http://node2:6333 --peer 918=http://node3:6333
  snapmerge capture http://prod:6333 album_2017 --to archive --stream
  snapmerge capture http://prod:6333 'album_*' --archive backups
  snapmerge capture http://prod:6333 album_2017 --archive backups --incremental require --full-every 30

The key comes from QDRANT_API_KEY or --api-key-file. On a cluster each shard is taken once, from a replica
that is Active. The server's own snapshot is removed afterwards. Beside each file lie its .checksum and its
.manifest.json. A run that was killed is resumed by the next one to the same folder. With --archive
only what changed since the entry before is moved, where the server can tell (1.16 and later): snapmerge help
archive.")]
pub struct CaptureArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub request: CaptureRequest,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub output: OutputArgs,
}

/// Runs the command.
pub fn run(args: CaptureArgs) -> Result<Ended> {
    let report = args.request.run(&args.output.context())?;
    let ended = match args.output.is_silent() {
        true => Ok(report.envelope.outcome.kind()),
        false => print_answer(&report, args.output.json),
    };
    for done in &report.captured {
        let name = &done.manifest.collection;
        for note in &done.notes {
            warn(&format!("{name}: {note}"));
        }
        for left in &done.left {
            warn(&format!(
                "{name}: could not remove {left}; the next capture to the same folder tries again"
            ));
        }
    }
    for failed in &report.failed {
        warn(&failed.error.to_string());
    }
    ended
}
