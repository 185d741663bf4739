//! `snapmerge ingest`: rows of files into snapshots, or collections of a running server.

use std::path::Path;

use clap::Args;

use super::{Ended, OutputArgs, show};
use crate::base::error::{Error, Result};
use crate::ingest::IngestRequest;

/// Arguments of `ingest`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  snapmerge ingest points.jsonl --size 512 --distance Cosine -o 'album_{year}.snapshot'
  snapmerge ingest embeddings.parquet --id asset --vector image=embedding --payload '*' --like album_2016.snapshot -o 'album_{year}.snapshot'
  snapmerge ingest points.parquet -o album.snapshot
  snapmerge ingest 'data/*.parquet' --config collection.json -o 'album_{year}.snapshot'
  snapmerge ingest a.jsonl.gz b.jsonl.gz --config collection.json --rest undated --reject bad.jsonl -o 'album_{exif.year}.snapshot'
  snapmerge ingest points.jsonl --to http://prod:6333 --collection 'album_{year}' --size 512 --distance Cosine
  snapmerge ingest - --size 4 --distance Dot --payload-index year=integer -o test.snapshot

A row of JSON lines is a point as Qdrant's scroll answers it, or a flat object whose keys are columns. Of a
table that `export` wrote, columns and config are known. Every snapshot is read back and compared before it
gets its name.")]
pub struct IngestArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub request: IngestRequest,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened")]
    pub output: OutputArgs,
}

/// Runs the command.
pub fn run(mut args: IngestArgs) -> Result<Ended> {
    let mut streams = 0;
    for input in &mut args.request.inputs {
        if input == Path::new("-") {
            // The worker has a standard input of its own.
            *input = format!("/proc/{}/fd/0", std::process::id()).into();
            streams += 1;
        }
    }
    if streams > 1 {
        return Err(Error::usage("reading the files", "'-' is given twice"));
    }
    show(&args.request, args.output)
}
