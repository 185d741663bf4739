//! One call of REST: sent, tried again where that is safe, and its answer read.
//!
//! Invariants: a call is repeated only if making it twice means the same as once; no redirect is
//! followed; no answer is larger in memory than it may be; what the server says of a failure is
//! shown in part and without the key.

use std::time::Duration;

use reqwest::header::{LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Connection;
use super::failure::Failure;
use super::retry::{Retry, RetryOn};
use crate::base::error::Result;

/// Largest answer that is read into memory, in bytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Most bytes of a server's message about a failure that are shown.
const REASON_BYTES_MAX: usize = 1000;
/// Most bytes of it that are read.
const REASON_READ_MAX: usize = 64 << 10;

/// Time that a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallTimeout {
    /// As long as `--timeout` says.
    Usual,
    /// This long.
    For(Duration),
}

/// A request to be made.
#[derive(Debug)]
pub(super) struct Call {
    /// Purpose, as errors begin with it.
    pub doing: String,
    pub method: Method,
    /// Segments of the path, as they are; they get encoded.
    pub segments: Vec<String>,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<Value>,
    /// True if the call may be made twice.
    pub again: bool,
    pub patience: CallTimeout,
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
            patience: CallTimeout::Usual,
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

    pub fn patience(mut self, patience: CallTimeout) -> Self {
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
        self.run(&call.doing, self.asked(call))
    }

    /// Makes a call that puts away what was made, also after the user asked to stop.
    pub(super) fn ask_putting_away<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        self.put_away(&call.doing, self.asked(call))
    }

    pub(super) async fn asked<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        let envelope: Envelope<T> = self.asked_raw(call).await?;
        Ok(envelope.result)
    }

    /// Makes the call; its whole answer.
    pub(super) async fn asked_raw<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        let on = match call.again {
            true => RetryOn::Transient,
            false => RetryOn::NotAccepted,
        };
        let retry = Retry::new(on, self.settings().retries);
        retry.run(|| self.tried(call)).await
    }

    async fn tried<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        let limit = match call.patience {
            CallTimeout::Usual => self.settings().timeout,
            CallTimeout::For(limit) => limit,
        };
        let mut request = self.request(call).timeout(limit);
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let response = self.send(&call.doing, request).await?;
        let bytes = self.read(&call.doing, response).await?;
        serde_json::from_slice(&bytes).map_err(|err| Failure::answer(&call.doing, &self.who(), err))
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

    /// Sends the request; an answer that is no success is a failure.
    pub(super) async fn send(
        &self,
        doing: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<Response, Failure> {
        let sent = request.send().await;
        let response = sent.map_err(|err| Failure::transport(doing, &self.who(), &err))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let header = |name| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        // 304 leads nowhere: it says that nothing has changed.
        if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
            let to = header(LOCATION).unwrap_or_else(|| "somewhere that it does not name".into());
            return Err(Failure::redirect(doing, &self.who(), &host_of(&to)));
        }
        let retry_after = header(RETRY_AFTER)
            .and_then(|text| text.trim().parse().ok())
            .map(Duration::from_secs);
        let says = self.reason(response).await;
        Err(Failure {
            retry_after,
            ..Failure::status(doing, &self.who(), status.as_u16(), &says)
        })
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

    /// Reads the server's message about a failure.
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
    fn a_redirect_is_named_by_its_host() {
        assert_eq!(
            host_of("https://evil.example/x?key=1"),
            "https://evil.example"
        );
        assert_eq!(host_of("/elsewhere"), "/elsewhere");
    }
}
