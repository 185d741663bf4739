//! Webhooks and gateways: what is sent to an address that is not a Qdrant server.
//!
//! Invariants: the address may be a secret, and stands in no error; no key of a server goes along; it
//! is tried again where that may help, and not for long; asked to stop twice, it ends at once.

use std::time::Duration;

use reqwest::{Method, redirect};

use super::failure::{Cause, Failure};
use super::retry::{Retry, RetryOn};
use super::tls;
use crate::base::error::{Error, Result};
use crate::base::stop;

/// Timeout of an answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Attempts after the first one.
const RETRIES: u32 = 5;

/// Posts the JSON `body` to `address`, which `shown` says without its secrets.
pub fn post(address: &str, shown: &str, body: &[u8]) -> Result<()> {
    send(Method::POST, "application/json", address, shown, body)
}

/// Puts metrics, in the text format of Prometheus, in place of those at `address`, as [`post`] does.
pub fn put_metrics(address: &str, shown: &str, body: &[u8]) -> Result<()> {
    send(
        Method::PUT,
        "text/plain; version=0.0.4",
        address,
        shown,
        body,
    )
}

fn send(method: Method, content_type: &str, address: &str, shown: &str, body: &[u8]) -> Result<()> {
    let doing = format!("telling {shown}");
    // The address would be in the text of these.
    let failed = |err: reqwest::Error| Error::failed(doing.as_str(), err.without_url());
    tls::install();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| Error::failed(doing.as_str(), err))?;
    let told = async {
        let client = reqwest::Client::builder()
            .user_agent(concat!("snapmerge/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .timeout(TIMEOUT)
            .tls_backend_rustls()
            .build()
            .map_err(failed)?;
        let retry = Retry::new(RetryOn::Transient, RETRIES);
        let attempt = || async {
            let request = client
                .request(method.clone(), address)
                .header("content-type", content_type)
                .body(body.to_vec());
            let answer = request.send().await.map_err(|err| {
                let cause = Failure::transport(&doing, shown, &err).cause;
                Failure::new(cause, failed(err))
            })?;
            let status = answer.status();
            if status.is_success() {
                return Ok(());
            }
            let why = format!("it answered with status {}", status.as_u16());
            let error = Error::failed(doing.as_str(), why);
            Err(Failure::new(Cause::Status(status.as_u16()), error))
        };
        let posted = retry.run(attempt).await;
        posted.map_err(|failure| {
            let next = format!("see that the address of {shown} is right and reachable");
            failure.error.next(next)
        })
    };
    runtime.block_on(async {
        tokio::select! {
            biased;
            () = stop::wait(stop::PUTTING_AWAY) => Err(stop::cancelled(&doing)),
            told = told => told,
        }
    })
}
