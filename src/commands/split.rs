//! `snapmerge split`: one snapshot into several.

use clap::Args;

use super::{Ended, OutputArgs, show};
use crate::base::error::Result;
use crate::split::SplitRequest;

/// Arguments of `split`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge split album_master.snapshot --by year -o 'album_{year}.snapshot'
  snapmerge split album_master.snapshot.gz --by exif.camera -o 'by_camera/{exif.camera}.snapshot' --rest unknown
  snapmerge split archive:album_master@latest --archive backups --by year -o 'album_{year}.snapshot.gz'

The source is read once. Each part is read back and compared before it gets its name, and the digests of all
of them add up to the source's. `merge` of the parts is the source again.")]
pub struct SplitArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub request: SplitRequest,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub output: OutputArgs,
}

/// Runs the command.
pub fn run(args: SplitArgs) -> Result<Ended> {
    show(&args.request, args.output)
}
