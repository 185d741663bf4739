//! Reports of `capture` as text.

use super::words::size;
use crate::capture::{CaptureReport, Captured, Checked, Form, Increment};

impl CaptureReport {
    /// It as text.
    pub fn text(&self) -> String {
        let mut told = String::new();
        for (at, done) in self.captured.iter().enumerate() {
            told.push_str(&text(done));
            if let Some(added) = self.archived.get(at) {
                told.push_str(&added.text());
            }
        }
        told
    }
}

fn text(done: &Captured) -> String {
    let manifest = &done.manifest;
    let points = match manifest.points {
        Some(points) => format!("{points} points"),
        None => format!(
            "{} to {} points",
            manifest.points_before, manifest.points_after
        ),
    };
    let bytes = size(manifest.bytes);
    let shards = match manifest.shards.len() {
        1 => "1 shard".to_owned(),
        many => format!("{many} shards"),
    };
    let is_told = manifest.peers.iter().all(|peer| peer.sha256.is_some());
    let how = match manifest.form {
        Form::Collection if is_told => "SHA-256 as the server says".to_owned(),
        Form::Collection => "the server says no SHA-256".to_owned(),
        Form::Assembled => format!("put together from {} members", manifest.peers.len()),
        Form::Streamed => "streamed".to_owned(),
        Form::Incremental => "what changed, streamed".to_owned(),
    };
    let increment = done.increment.as_ref().map(increment).unwrap_or_default();
    let earlier = match done.finished_earlier {
        true => "\n  note     started by an earlier run, finished now",
        false => "",
    };
    format!(
        "{}: {points}, {bytes}, {shards}, {how}\n{increment}  SHA-256  {}\n  BLAKE3   {}{earlier}\n",
        done.file.display(),
        manifest.sha256,
        manifest.blake3,
    )
}

/// Bytes moved and reused, a line each.
fn increment(done: &Increment) -> String {
    let mut told = match (&done.base, &done.why_whole) {
        (Some(base), _) => format!("  moved    {}, with {base}\n", size(done.moved_bytes)),
        (None, Some(why)) => format!("  moved    {}, all of it: {why}\n", size(done.moved_bytes)),
        (None, None) => String::new(),
    };
    if let Some(why) = &done.no_base {
        told.push_str(&format!(
            "  note     the next capture takes all of it again: {why}\n"
        ));
    }
    match &done.checked {
        None => {}
        Some(Checked::Equal { base, files }) => told.push_str(&format!(
            "  checked  {files} files are as they were in {base}, as the server says\n"
        )),
        Some(Checked::Differs {
            base,
            increments,
            files,
        }) => told.push_str(&format!(
            "  DIFFERS  not as they were in {base}, though the server says so: {}\n           the last \
             {increments} captures that took only what changed may be wrong, this one is whole; capture \
             with --incremental off, and tell us: this server's versions of files do not hold\n",
            files.join(", ")
        )),
        Some(Checked::NotCompared { why }) => {
            told.push_str(&format!("  note     not compared with the entry before: {why}\n"));
        }
    }
    told
}
