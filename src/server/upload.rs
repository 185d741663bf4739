//! Uploads of snapshots: streamed from a reader, with the checksum that the server compares.
//!
//! Invariants: memory holds a few pieces, whatever the size; what the reader fails with is what the
//! caller gets, not the broken connection that follows from it; a server's own words about a
//! refused snapshot reach the user; two uploads to one collection never run at once.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method};
use serde_json::Value;
use tokio::sync::mpsc;

use super::Connection;
use super::call::Call;
use super::failure::Failure;
use super::rate::{Floor, Rate, Throttle};
use super::rest::not_found_as_none;
use super::retry::{Landed, Retry, RetryOn};
use crate::base::error::{Error, Result};

/// Bytes that are read and sent at once.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces between the thread that reads and the connection.
const PIECES: usize = 16;
/// Longest time that a server may take to restore what it was sent.
const RESTORING: Duration = Duration::from_secs(24 * 3600);

/// A snapshot to be uploaded and restored.
pub struct Upload {
    /// The collection.
    pub collection: String,
    /// One shard of it, held by the member that is asked; none for all of the collection.
    pub shard: Option<u32>,
    /// The name that the server keeps it under.
    pub file_name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256, which the server compares before it restores anything.
    pub sha256: String,
    /// Upper limit of the rate.
    pub rate: Option<Rate>,
    /// Counts the bytes that were sent.
    pub sent: Arc<AtomicU64>,
}

impl Upload {
    /// Checks whether this snapshot of a whole collection has landed: the server keeps it under its name in
    /// the collection's folder of snapshots, and then restores it.
    pub fn landed(&self, connection: &Connection) -> Result<Landed, Failure> {
        let listed = not_found_as_none(connection.snapshots(&self.collection))?;
        let is_there = connection.collection(&self.collection)?.is_some();
        let mut names = listed.into_iter().flatten();
        Ok(match names.any(|one| one.name == self.file_name) {
            true if is_there => Landed::Yes(()),
            true => Landed::Unknown,
            false => Landed::No,
        })
    }
}

impl Connection {
    /// Uploads what the reader that `open` gives yields, and waits until the server has restored it.
    /// It becomes what the shards hold, whatever other replicas have (`priority=snapshot`).
    ///
    /// When the answer is lost (a proxy that gave up, a connection that ended), the server is first left
    /// to end what it is at; then `landed` says whether the snapshot is there. Only what is not is sent
    /// again, from its beginning: nothing is restored of a part.
    pub fn upload_snapshot<R: Read + Send + 'static>(
        &self,
        upload: &Upload,
        open: impl Fn() -> Result<R>,
        landed: impl Fn() -> Result<Landed, Failure>,
    ) -> Result<(), Failure> {
        let before = upload.sent.load(Ordering::Relaxed);
        let mut lost: Option<Failure> = None;
        let retry = Retry::new(RetryOn::TransientExcept500, self.settings().retries);
        retry.run_blocking(self, || {
            if lost.is_none() {
                upload.sent.store(before, Ordering::Relaxed);
                let Err(failure) = self.upload_once(upload, open()?) else {
                    return Ok(());
                };
                if !failure.cause.leaves_open() {
                    return Err(failure);
                }
                lost = Some(failure);
            }
            // As long as nobody can say what became of it, nothing is sent.
            let doing = format!("restoring {}", upload.collection);
            let running = || self.recoveries(&upload.collection);
            let found = self.find_landed(&doing, running, &landed)?;
            match lost.take() {
                Some(failure) if found.is_none() => Err(failure),
                _ => Ok(()),
            }
        })
    }

    fn upload_once(
        &self,
        upload: &Upload,
        reader: impl Read + Send + 'static,
    ) -> Result<(), Failure> {
        let collection = upload.collection.as_str();
        let what = match upload.shard {
            None => collection.to_owned(),
            Some(shard) => format!("shard {shard} of {collection}"),
        };
        let doing = format!("restoring {what} on {}", self.who());
        let shard = upload.shard.map(|shard| shard.to_string());
        let mut segments = vec!["collections", collection];
        segments.extend(shard.iter().flat_map(|shard| ["shards", shard.as_str()]));
        segments.extend(["snapshots", "upload"]);
        let call = Call::new(Method::POST, doing.clone(), &segments)
            .query("wait", "true")
            .query("priority", "snapshot")
            .query("checksum", upload.sha256.as_str());

        let (pieces, receiver) = mpsc::channel::<std::io::Result<Bytes>>(PIECES);
        let (rate, sent) = (upload.rate, Arc::clone(&upload.sent));
        let (bytes, reading) = (upload.bytes, doing.clone());
        let reader =
            std::thread::spawn(move || send_pieces(reader, bytes, rate, &sent, &pieces, &reading));
        let body = Body::wrap_stream(stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|piece| (piece, receiver))
        }));
        let part = Part::stream_with_length(body, upload.bytes)
            .file_name(upload.file_name.clone())
            .mime_str("application/octet-stream")
            .map_err(|err| Failure::transport(&doing, &self.who(), &err))?;
        let request = self
            .request(&call)
            .timeout(RESTORING)
            .multipart(Form::new().part("snapshot", part));
        let answered = self.run(&doing, async {
            let answered = async {
                let response = self.send(&doing, request).await?;
                self.read_result::<Value>(&doing, response).await
            };
            tokio::select! {
                answered = answered => answered,
                failure = self.upload_stalls(&doing, upload) => Err(failure),
            }
        });
        // The connection has let go of the receiver, so the thread ends too.
        match reader.join() {
            Ok(Err(err)) => Err(err.into()),
            Ok(Ok(())) => answered.map(drop),
            Err(_) => Err(Error::failed(doing, "a thread ended").into()),
        }
    }
}

impl Connection {
    /// Ends when too little of the upload was taken for too long; never once all of it was.
    async fn upload_stalls(&self, doing: &str, upload: &Upload) -> Failure {
        let window = self.settings().timeout;
        let end = upload
            .sent
            .load(Ordering::Relaxed)
            .saturating_add(upload.bytes);
        let mut floor = Floor::new(window, upload.rate);
        let mut last = upload.sent.load(Ordering::Relaxed);
        loop {
            let wait = window / 4;
            tokio::time::sleep(wait).await;
            let now = upload.sent.load(Ordering::Relaxed);
            if now >= end {
                return std::future::pending().await;
            }
            if let Some(why) = floor.moved(now.saturating_sub(last), wait) {
                return self.too_slow(doing, &format!("{} took {why}", self.who()));
            }
            last = now;
        }
    }
}

/// Sends all of `reader`, until nobody takes it any more.
fn send_pieces(
    mut reader: impl Read,
    bytes: u64,
    rate: Option<Rate>,
    sent: &AtomicU64,
    pieces: &mpsc::Sender<std::io::Result<Bytes>>,
    doing: &str,
) -> Result<()> {
    let mut throttle = Throttle::new(rate);
    let mut left = bytes;
    let mut buffer = vec![0; PIECE_BYTES];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let count = match buffer.get_mut(..most).map(|some| reader.read(some)) {
            Some(Ok(count)) if count > 0 => count,
            Some(Ok(_)) | None => {
                let why = format!("the file became shorter by {left} bytes while it was read");
                let broken = std::io::ErrorKind::UnexpectedEof;
                // The connection must not take a short body for a whole one.
                let _ = pieces.blocking_send(Err(broken.into()));
                return Err(Error::failed(doing, why));
            }
            Some(Err(err)) if err.kind() == std::io::ErrorKind::Interrupted => continue,
            Some(Err(err)) => {
                let told = match Error::carried(&err) {
                    Some(carried) => carried.clone().within(doing),
                    None => Error::failed(doing, format!("the file cannot be read: {err}")),
                };
                let _ = pieces.blocking_send(Err(err));
                return Err(told);
            }
        };
        let piece = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
        if pieces.blocking_send(Ok(piece)).is_err() {
            // Whoever sends has the reason.
            return Ok(());
        }
        left -= count as u64;
        sent.fetch_add(count as u64, Ordering::Relaxed);
        if let Some(wait) = throttle.after(count as u64) {
            std::thread::sleep(wait);
        }
    }
    Ok(())
}
