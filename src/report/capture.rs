//! Reports of `capture` as text.

use super::words::size;
use crate::capture::{CaptureReport, Captured, Form};

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
    };
    let earlier = match done.finished_earlier {
        true => "\n  note     begun by an earlier run, finished now",
        false => "",
    };
    format!(
        "{}: {points}, {bytes}, {shards}, {how}\n  SHA-256  {}\n  BLAKE3   {}{earlier}\n",
        done.file.display(),
        manifest.sha256,
        manifest.blake3,
    )
}
