//! Downloads: in one pass, resumed where they were cut, and never more than was announced.
//!
//! Invariants: what is handed on is each byte once and in order; a server that announces one size
//! and sends another is refused; a download that stands still is cut and resumed, as long as
//! it gets on at all.

use std::io::{self, Read};
use std::time::Instant;

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::Connection;
use super::call::Call;
use super::failure::{Cause, Failure};
use super::rate::{Floor, Rate, Throttle};
use super::retry::{Retry, RetryOn};
use crate::base::error::{Error, Kind, Result};
use crate::format::{ShardManifest, Stream};

/// A part of a download that counts as getting on, of the whole: after it the tries begin anew.
const GETTING_ON: u64 = 50;

/// Status of an answer that says that nothing has changed.
const NOT_MODIFIED: u16 = StatusCode::NOT_MODIFIED.as_u16();

/// A file of known size to be downloaded.
#[derive(Debug)]
pub struct Fetch<'a> {
    /// Purpose, as errors begin with it.
    pub doing: String,
    /// Segments of the path.
    pub segments: &'a [&'a str],
    /// Offset to start at, in bytes.
    pub from: u64,
    /// Announced size in bytes.
    pub bytes: u64,
    /// Upper limit of the rate.
    pub rate: Option<Rate>,
}

impl Connection {
    /// Downloads a file; `sink` gets each piece. What `sink` fails with ends the download.
    pub fn fetch(
        &self,
        fetch: &Fetch<'_>,
        sink: &mut dyn FnMut(Bytes) -> Result<()>,
    ) -> Result<(), Failure> {
        self.run(&fetch.doing, self.fetched(fetch, sink))
    }

    async fn fetched(
        &self,
        fetch: &Fetch<'_>,
        sink: &mut dyn FnMut(Bytes) -> Result<()>,
    ) -> Result<(), Failure> {
        let mut throttle = Throttle::new(fetch.rate);
        let mut retry = Retry::new(RetryOn::Transient, self.settings().retries);
        let (mut at, mut reset_at) = (fetch.from, fetch.from);
        while at < fetch.bytes {
            let Err(failure) = self.piece(fetch, &mut at, &mut throttle, sink).await else {
                continue;
            };
            if (at - reset_at).saturating_mul(GETTING_ON) >= fetch.bytes && at > reset_at {
                reset_at = at;
                retry.reset();
            }
            let Some(delay) = retry.delay(&failure) else {
                return Err(match failure.cause.may_pass() {
                    true => retry
                        .exhausted(failure)
                        .because(|why| format!("at byte {at} of {}: {why}", fetch.bytes)),
                    false => failure,
                });
            };
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }

    /// One request, from `at` on; it ends with the file or with a failure.
    async fn piece(
        &self,
        fetch: &Fetch<'_>,
        at: &mut u64,
        throttle: &mut Throttle,
        sink: &mut dyn FnMut(Bytes) -> Result<()>,
    ) -> Result<(), Failure> {
        let doing = fetch.doing.as_str();
        let mut request = self
            .request(&Call::get(doing, fetch.segments))
            .header(ACCEPT_ENCODING, "identity");
        if *at > 0 {
            request = request.header(RANGE, format!("bytes={at}-"));
        }
        let sent = tokio::time::timeout(self.settings().timeout, self.send(doing, request));
        let mut response = match sent.await {
            Ok(sent) => sent?,
            Err(_) => return Err(self.still(doing)),
        };
        let mut passed_over = self.check_head(fetch, *at, &response)?;
        let mut floor = Floor::new(self.settings().timeout, fetch.rate);
        while let Some(mut chunk) = self.chunk(doing, &mut response, &mut floor).await? {
            if passed_over > 0 {
                let some = passed_over.min(chunk.len() as u64);
                let _ = chunk.split_to(usize::try_from(some).unwrap_or(0));
                passed_over -= some;
                if chunk.is_empty() {
                    continue;
                }
            }
            let length = chunk.len() as u64;
            if length > fetch.bytes - *at {
                let why = format!("it sends more than the {} bytes it announced", fetch.bytes);
                return Err(Failure::answer(doing, &self.who(), why));
            }
            sink(chunk)?;
            *at += length;
            if let Some(wait) = throttle.after(length) {
                tokio::time::sleep(wait).await;
            }
        }
        if *at == fetch.bytes {
            return Ok(());
        }
        let why = format!(
            "the answer of {} ended after {at} of {} bytes",
            self.who(),
            fetch.bytes
        );
        let error = Error::failed(doing, why)
            .next("run it again; if it goes on so, look at the server's log and any proxy");
        Err(Failure::new(Cause::Cut, error))
    }

    /// Compares what an answer's head announces with what was announced before; how many bytes at
    /// its beginning are known already.
    fn check_head(&self, fetch: &Fetch<'_>, at: u64, response: &Response) -> Result<u64, Failure> {
        let refuse = |why: String| Err(Failure::answer(&fetch.doing, &self.who(), why));
        let header = |name| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let (skipped, rest) = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = header(CONTENT_RANGE).unwrap_or_default();
                let wanted = format!("bytes {at}-{}/{}", fetch.bytes - 1, fetch.bytes);
                if range != wanted {
                    return refuse(format!(
                        "it was asked for {wanted} and sends {range:?}: the snapshot is another one now"
                    ));
                }
                (0, fetch.bytes - at)
            }
            _ => (at, fetch.bytes),
        };
        if let Some(length) = header(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok())
            && length != rest
        {
            return refuse(format!(
                "it announced {rest} bytes and its header says {length}"
            ));
        }
        Ok(skipped)
    }

    async fn chunk(
        &self,
        doing: &str,
        response: &mut Response,
        floor: &mut Floor,
    ) -> Result<Option<Bytes>, Failure> {
        let asked = Instant::now();
        let chunk = match tokio::time::timeout(self.settings().timeout, response.chunk()).await {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(err)) => return Err(Failure::transport(doing, &self.who(), &err)),
            Err(_) => return Err(self.still(doing)),
        };
        let bytes = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        match floor.moved(bytes, asked.elapsed()) {
            Some(why) if chunk.is_some() => {
                Err(self.too_slow(doing, &format!("{} sent {why}", self.who())))
            }
            _ => Ok(chunk),
        }
    }

    fn still(&self, doing: &str) -> Failure {
        let seconds = self.settings().timeout.as_secs();
        self.too_slow(
            doing,
            &format!("nothing came from {} for {seconds} s", self.who()),
        )
    }

    pub(super) fn too_slow(&self, doing: &str, why: &str) -> Failure {
        let error = Error::failed(doing, why)
            .next("give it longer with --timeout SECONDS, or look at the server's load");
        Failure::new(Cause::TimedOut, error)
    }

    /// Opens an answer of unknown size as a reader; nothing can go on with it when it is cut.
    pub fn read_stream(
        &self,
        doing: &str,
        segments: &[&str],
        rate: Option<Rate>,
    ) -> Result<BodyReader, Failure> {
        self.read_answer(&Call::get(doing, segments), rate)
    }

    /// Streams a partial snapshot of a shard: whatever is newer than what `have` says, and all of it if
    /// that is empty. None if nothing is newer (304). [`Cause::Status`] 404 and the like are a server's
    /// that knows no such call, as before 1.15, or does not let this key make it.
    pub fn read_partial(
        &self,
        doing: &str,
        collection: &str,
        shard: u32,
        have: &ShardManifest,
        rate: Option<Rate>,
    ) -> Result<Option<BodyReader>, Failure> {
        let shard = shard.to_string();
        let segments = ["collections", collection, "shards", &shard];
        let segments = [&segments[..], &["snapshot", "partial", "create"]].concat();
        let body = serde_json::to_value(have)
            .map_err(|err| Error::failed(doing.to_owned(), err))
            .map_err(Failure::from)?;
        let call = Call::new(Method::POST, doing, &segments).body(body);
        match self.read_answer(&call, rate) {
            Ok(reader) => Ok(Some(reader)),
            Err(failure) if failure.cause == Cause::Status(NOT_MODIFIED) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Makes the call; its answer as it comes.
    fn read_answer(&self, call: &Call, rate: Option<Rate>) -> Result<BodyReader, Failure> {
        let doing = &call.doing;
        let mut request = self.request(call).header(ACCEPT_ENCODING, "identity");
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let response = self.run(doing, async {
            let sent = tokio::time::timeout(self.settings().timeout, self.send(doing, request));
            sent.await.unwrap_or_else(|_| Err(self.still(doing)))
        })?;
        Ok(BodyReader {
            connection: self.clone(),
            doing: doing.clone(),
            response,
            chunk: Bytes::new(),
            throttle: Throttle::new(rate),
            floor: Floor::new(self.settings().timeout, rate),
            read: 0,
            failed: None,
        })
    }
}

/// An answer's body as a reader, for code that reads.
pub struct BodyReader {
    connection: Connection,
    doing: String,
    response: Response,
    chunk: Bytes,
    throttle: Throttle,
    floor: Floor,
    read: u64,
    failed: Option<Failure>,
}

impl BodyReader {
    /// Bytes read so far.
    pub fn read_bytes(&self) -> u64 {
        self.read
    }

    /// Takes the failure that ended the reading, if there was one; an [`io::Error`] says less.
    pub fn failure(&mut self) -> Option<Failure> {
        self.failed.take()
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            let connection = self.connection.clone();
            let (doing, response) = (&self.doing, &mut self.response);
            let (throttle, floor) = (&mut self.throttle, &mut self.floor);
            let got = connection.run(doing, async {
                let chunk = connection.chunk(doing, response, floor).await;
                if let Ok(Some(chunk)) = &chunk
                    && let Some(wait) = throttle.after(chunk.len() as u64)
                {
                    tokio::time::sleep(wait).await;
                }
                chunk
            });
            match got {
                Ok(None) => return Ok(0),
                Ok(Some(chunk)) => self.chunk = chunk,
                Err(failure) => {
                    let kind = match failure.error.kind() {
                        Kind::Cancelled => io::ErrorKind::Interrupted,
                        _ => io::ErrorKind::UnexpectedEof,
                    };
                    let text = failure.error.why().to_owned();
                    self.failed = Some(failure);
                    // `Interrupted` would be tried again by whoever reads.
                    return Err(match kind {
                        io::ErrorKind::Interrupted => io::Error::other(text),
                        kind => io::Error::new(kind, text),
                    });
                }
            }
        }
        let some = buffer.len().min(self.chunk.len());
        let piece = self.chunk.split_to(some);
        if let Some(buffer) = buffer.get_mut(..some) {
            buffer.copy_from_slice(&piece);
        }
        self.read += some as u64;
        Ok(some)
    }
}

impl Stream for BodyReader {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        crate::format::skip_by_reading(self, bytes)
    }
}
