//! One call of REST: sent, tried again where that is safe, and its answer read.
//!
//! Keeps true: a call is repeated only if making it twice means the same as once; no redirect is
//! followed; no answer is larger in memory than it may be; what the server says of a failure is
//! shown in part and without the key.

use std::time::Duration;

use reqwest::header::{LOCATION, RETRY_AFTER};
use reqwest::{Method, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::Connection;
use super::failure::{Cause, Failure};
use crate::base::error::{Error, Result};

/// Largest answer that is read into memory, in bytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// How much of what a server says of a failure is shown, in bytes.
const REASON_BYTES_MAX: usize = 1000;
/// How much of it is read, in bytes.
const REASON_READ_MAX: usize = 64 << 10;
/// The first wait before a call is repeated; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The longest wait that is taken of ourselves.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// The longest wait that a server can ask for.
const ASKED_WAIT_MAX: Duration = Duration::from_secs(120);

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As long as `--timeout` says.
    Usual,
    /// This long.
    For(Duration),
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Call {
    /// What for, as an error begins.
    pub doing: String,
    pub method: Method,
    /// Of the path, as they are; they get encoded.
    pub segments: Vec<String>,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<Value>,
    /// Whether it may be made twice.
    pub again: bool,
    pub patience: Patience,
}

impl Call {
    /// A call that only asks.
    pub fn get(doing: impl Into<String>, segments: &[&str]) -> Self {
        Self::new(Method::GET, doing, segments)
    }

    /// A call that may be made twice, unless [`Self::once`] says otherwise.
    pub fn new(method: Method, doing: impl Into<String>, segments: &[&str]) -> Self {
        Self {
            doing: doing.into(),
            method,
            segments: segments.iter().map(|&segment| segment.to_owned()).collect(),
            query: Vec::new(),
            body: None,
            again: true,
            patience: Patience::Usual,
        }
    }

    pub fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Made at most once: twice would be something else.
    pub fn once(mut self) -> Self {
        self.again = false;
        self
    }

    pub fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }
}

/// Around every answer.
#[derive(Deserialize)]
struct Envelope<T> {
    result: T,
}

impl Connection {
    /// Makes the call, and waits for its result or for the user to stop it.
    pub(super) fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        let asked = self.run(&call.doing, async { Ok(self.asked(call).await) });
        asked.map_err(Failure::here)?
    }

    /// Makes a call that puts away what was made, also after the user asked to stop.
    pub(super) fn ask_putting_away<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        let asked = self.put_away(&call.doing, async { Ok(self.asked(call).await) });
        asked.map_err(Failure::here)?
    }

    pub(super) async fn asked<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        let envelope: Envelope<T> = self.asked_raw(call).await?;
        Ok(envelope.result)
    }

    /// Makes the call; its whole answer.
    pub(super) async fn asked_raw<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        let tries = self.settings().retries;
        // What did not reach the server, or was turned away at its door, was not done.
        let may_again = |cause: Cause| match cause {
            Cause::Unreachable | Cause::Status(429) => true,
            cause => call.again && cause.may_pass(),
        };
        let mut number = 0;
        loop {
            let (failure, asked_wait) = match self.tried(call).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if number >= tries || !may_again(failure.cause) {
                return Err(if number == 0 {
                    failure
                } else {
                    after(failure, number + 1)
                });
            }
            let wait = asked_wait.map_or_else(|| backoff(number), |wait| wait.min(ASKED_WAIT_MAX));
            tokio::time::sleep(wait).await;
            number += 1;
        }
    }

    async fn tried<T: DeserializeOwned>(
        &self,
        call: &Call,
    ) -> Result<T, (Failure, Option<Duration>)> {
        let limit = match call.patience {
            Patience::Usual => self.settings().timeout,
            Patience::For(limit) => limit,
        };
        let mut request = self.request(call).timeout(limit);
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let response = self.send(&call.doing, request).await?;
        let bytes = self
            .read(&call.doing, response)
            .await
            .map_err(|failure| (failure, None))?;
        serde_json::from_slice(&bytes)
            .map_err(|err| (Failure::answer(&call.doing, &self.who(), err), None))
    }

    /// The request, without body and time limit.
    pub(super) fn request(&self, call: &Call) -> reqwest::RequestBuilder {
        let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
        let url = self.address().join(&segments);
        let request = self.http().request(call.method.clone(), url);
        if call.query.is_empty() {
            request
        } else {
            request.query(&call.query)
        }
    }

    /// Sends the request; an answer that is no success is a failure, with the wait that the server
    /// asks for.
    pub(super) async fn send(
        &self,
        doing: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<Response, (Failure, Option<Duration>)> {
        let sent = request.send().await;
        let response = sent.map_err(|err| (Failure::transport(doing, &self.who(), &err), None))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let header = |name| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        if status.is_redirection() {
            let to = header(LOCATION).unwrap_or_else(|| "somewhere that it does not name".into());
            let to = host_of(&to);
            return Err((Failure::redirect(doing, &self.who(), &to), None));
        }
        let wait = header(RETRY_AFTER)
            .and_then(|text| text.trim().parse().ok())
            .map(Duration::from_secs);
        let says = self.reason(response).await;
        let failure = Failure::status(doing, &self.who(), status.as_u16(), &says);
        Err((failure, wait))
    }

    /// The body of an answer that is kept in memory.
    async fn read(&self, doing: &str, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(None) => return Ok(bytes),
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Err(err) => return Err(Failure::transport(doing, &self.who(), &err)),
            }
            if bytes.len() > ANSWER_BYTES_MAX {
                let why = format!("it is larger than {ANSWER_BYTES_MAX} bytes");
                return Err(Failure::answer(doing, &self.who(), why));
            }
        }
    }

    /// The result in an answer.
    pub(super) async fn read_result<T: DeserializeOwned>(
        &self,
        doing: &str,
        response: Response,
    ) -> Result<T, Failure> {
        let bytes = self.read(doing, response).await?;
        let envelope: Envelope<T> = serde_json::from_slice(&bytes)
            .map_err(|err| Failure::answer(doing, &self.who(), err))?;
        Ok(envelope.result)
    }

    /// What the server says of a failure.
    async fn reason(&self, mut response: Response) -> String {
        #[derive(Deserialize)]
        struct Said {
            status: Status,
        }
        #[derive(Deserialize)]
        struct Status {
            error: String,
        }
        let mut bytes = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > REASON_READ_MAX {
                bytes.truncate(REASON_READ_MAX);
                break;
            }
        }
        let text = match serde_json::from_slice::<Said>(&bytes) {
            Ok(said) => said.status.error,
            Err(_) => String::from_utf8_lossy(&bytes).into_owned(),
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let text = self.hide(&words.join(" "));
        match text.char_indices().nth(REASON_BYTES_MAX) {
            Some((at, _)) => format!("{}…", text.split_at(at).0),
            None => text,
        }
    }

    /// The server in errors.
    pub(super) fn who(&self) -> String {
        self.address().authority()
    }

    /// Waits, unless the user asks to stop.
    pub fn sleep(&self, doing: &str, time: Duration) -> Result<()> {
        self.run(doing, async {
            tokio::time::sleep(time).await;
            Ok(())
        })
    }
}

/// The failure of the last of several tries.
pub(super) fn after(failure: Failure, tries: u32) -> Failure {
    let Failure { cause, error } = failure;
    let why = format!("{} (tried {tries} times)", error.why());
    let mut last = Error::new(error.kind(), error.doing(), why);
    if let Some(next) = error.next_step() {
        last = last.next(next);
    }
    Failure { cause, error: last }
}

/// Twice as long each time, and never quite the same for two that began together.
pub(super) fn backoff(number: u32) -> Duration {
    let whole = FIRST_WAIT
        .saturating_mul(1_u32.checked_shl(number.min(16)).unwrap_or(u32::MAX))
        .min(WAIT_MAX);
    let [chance, ..] = *Uuid::new_v4().as_bytes();
    whole.mul_f64(0.75 + f64::from(chance) / 1024.0)
}

/// Scheme, host and port of a URL, which is what decides where a redirect leads.
fn host_of(to: &str) -> String {
    match url::Url::parse(to) {
        Ok(url) if url.has_host() => url.origin().ascii_serialization(),
        // A path on the same host may be as long as somebody likes.
        Ok(_) | Err(_) => to.chars().take(100).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit() {
        for number in 0..40 {
            let wait = backoff(number);
            assert!(wait >= FIRST_WAIT.mul_f64(0.75), "{number}: {wait:?}");
            assert!(wait <= WAIT_MAX, "{number}: {wait:?}");
        }
        assert!(backoff(6) > backoff(0));
    }

    #[test]
    fn a_redirect_is_named_by_its_host() {
        assert_eq!(
            host_of("https://evil.example/x?key=1"),
            "https://evil.example"
        );
        assert_eq!(host_of("/elsewhere"), "/elsewhere");
    }
}
