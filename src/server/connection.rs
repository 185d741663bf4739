//! One server, spoken to by REST and by gRPC with the same key, certificates and patience.
//!
//! Invariants: the key goes to the host that it is for and over no redirect; commands stay plain
//! blocking code, and whatever waits for a server ends at once when the user asks to stop.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use qdrant_client::qdrant::HealthCheckRequest;
use qdrant_client::qdrant::qdrant_client::QdrantClient;
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::redirect;
use secrecy::SecretString;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::address::{Address, GrpcAddress};
use super::keys::{self, Keys};
use super::tls;
use crate::base::error::{Error, Result};
use crate::base::stop;

/// Timeout of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts to reach gRPC before points go over REST.
const GRPC_TRIES: u32 = 2;
/// The pause between two of them.
const GRPC_PAUSE: Duration = Duration::from_millis(300);
/// Idle time after which a connection is probed.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Threads that move bytes; the work on them is done elsewhere.
const THREADS: usize = 2;

/// Settings of the connections to servers.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// The keys.
    pub keys: Keys,
    /// A file of certificates (PEM) that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// True if any certificate is accepted.
    pub insecure: bool,
    /// Timeout of an answer, and longest standstill of a download.
    pub timeout: Duration,
    /// Most repetitions of a call that may be repeated.
    pub retries: u32,
    /// The port of gRPC; by default the one after REST's.
    pub grpc_port: Option<u16>,
    /// Address of gRPC, if it is elsewhere; of this server alone, not of the others of its cluster.
    pub grpc: Option<GrpcAddress>,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            keys: Keys::default(),
            ca_file: None,
            insecure: false,
            timeout: Duration::from_secs(60),
            retries: 5,
            grpc_port: None,
            grpc: None,
        }
    }
}

/// A server. Cheap to clone; nothing is sent before it is asked something.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    runtime: Arc<Runtime>,
    http: reqwest::Client,
    address: Address,
    key: Option<SecretString>,
    settings: ConnectionSettings,
    /// True if gRPC is out of reach; set once it was asked for.
    is_rest_alone: OnceLock<bool>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection")
            .field(&self.inner.address)
            .finish()
    }
}

impl Connection {
    /// A connection to the server at `address`.
    pub fn open(address: &Address, settings: &ConnectionSettings) -> Result<Self> {
        tls::install();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("server")
            .enable_all()
            .build()
            .map_err(|err| Error::failed("starting the threads that talk with servers", err))?;
        Self::with(Arc::new(runtime), address, settings)
    }

    /// A connection to another member of the same cluster, with the same key and settings.
    pub fn peer(&self, address: &Address) -> Result<Self> {
        let runtime = Arc::clone(&self.inner.runtime);
        let settings = ConnectionSettings {
            grpc: None,
            ..self.inner.settings.clone()
        };
        Self::with(runtime, address, &settings)
    }

    fn with(
        runtime: Arc<Runtime>,
        address: &Address,
        settings: &ConnectionSettings,
    ) -> Result<Self> {
        let key = settings.keys.for_server(address).cloned();
        let mut headers = HeaderMap::new();
        if let Some(value) = key.as_ref().and_then(keys::header) {
            headers.insert(HeaderName::from_static("api-key"), value);
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("snapmerge/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT.min(settings.timeout))
            .tcp_keepalive(KEEPALIVE)
            .tls_backend_rustls();
        if address.is_loopback() {
            // HTTP_PROXY is for what lies elsewhere: no proxy reaches this machine's own servers, and
            // it would see their key.
            builder = builder.no_proxy();
        }
        if let Some(file) = &settings.ca_file {
            let pem = read_ca(file)?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|err| no_certificates(file, &err))?;
            if certificates.is_empty() {
                return Err(no_certificates(file, &"there is none"));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        if settings.insecure {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        let http = builder
            .build()
            .map_err(|err| Error::failed(format!("preparing to talk with {address}"), err))?;
        Ok(Self {
            inner: Arc::new(Inner {
                runtime,
                http,
                address: address.clone(),
                key,
                settings: settings.clone(),
                is_rest_alone: OnceLock::new(),
            }),
        })
    }

    /// The server's address.
    pub fn address(&self) -> &Address {
        &self.inner.address
    }

    /// Returns the settings of the connection.
    pub fn settings(&self) -> &ConnectionSettings {
        &self.inner.settings
    }

    /// Returns true if a key is sent unencrypted over a network.
    pub fn shows_its_key(&self) -> bool {
        let address = self.address();
        self.inner.key.is_some() && !address.is_encrypted() && !address.is_loopback()
    }

    /// Runs `work` to its end, or until the user asks to stop.
    pub fn run<T, E: From<Error>>(
        &self,
        doing: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.run_until(stop::WORK, doing, work)
    }

    /// Runs `work` that puts away what was made: only a second wish to stop ends it.
    pub fn put_away<T, E: From<Error>>(
        &self,
        doing: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.run_until(stop::PUTTING_AWAY, doing, work)
    }

    fn run_until<T, E: From<Error>>(
        &self,
        wishes: u32,
        doing: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.inner.runtime.block_on(async {
            tokio::select! {
                biased;
                () = stop::wait(wishes) => Err(stop::cancelled(doing).into()),
                done = work => done,
            }
        })
    }

    /// Runs `work` beside everything else.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.inner.runtime.spawn(work)
    }

    /// Returns the origin of gRPC.
    pub(super) fn grpc_origin(&self) -> String {
        let settings = self.settings();
        match &settings.grpc {
            Some(address) => address.origin(),
            None => self.address().grpc(settings.grpc_port),
        }
    }

    /// Returns true if gRPC is not reached, and nobody said where it is: points then travel over REST. It is
    /// asked for once.
    pub(super) fn is_rest_alone(&self) -> Result<bool> {
        let settings = self.settings();
        if settings.grpc.is_some() || settings.grpc_port.is_some() {
            return Ok(false);
        }
        if let Some(known) = self.inner.is_rest_alone.get() {
            return Ok(*known);
        }
        let origin = self.grpc_origin();
        let client = QdrantClient::new(self.grpc_channel()?);
        let asked = self.run(&format!("asking {origin} for gRPC"), async {
            for _ in 0..GRPC_TRIES {
                let mut client = client.clone();
                let health = client.health_check(HealthCheckRequest {});
                match tokio::time::timeout(settings.timeout, health).await {
                    // A gateway that knows no gRPC answers this, or that it is of no use.
                    Ok(Err(status)) if status.code() == Code::Unimplemented => {
                        return Ok::<_, Error>(Err(status.message().to_owned()));
                    }
                    Ok(Err(status)) if status.code() == Code::Unavailable => {
                        tokio::time::sleep(GRPC_PAUSE).await;
                    }
                    Ok(Err(status)) if status.code() == Code::Unknown => {}
                    Ok(_) => return Ok(Ok(())),
                    Err(_) => {}
                }
            }
            Ok(Err("it is not reached".to_owned()))
        })?;
        let is_alone = asked.is_err();
        if self.inner.is_rest_alone.set(is_alone).is_ok()
            && let Err(why) = asked
        {
            log::warn!(
                "gRPC at {origin} does not answer ({}): points travel over REST, which is slower; say where \
                 it is with --grpc URL",
                self.hide(&why)
            );
        }
        Ok(is_alone)
    }

    /// A channel for the generated clients of `qdrant_client::qdrant`, with the same certificates
    /// and key. It connects when it is first used, and again after it broke.
    pub fn grpc_channel(&self) -> Result<GrpcChannel> {
        let settings = self.settings();
        let origin = self.grpc_origin();
        let doing = || format!("preparing to talk with {origin}");
        let failed = |err: tonic::transport::Error| Error::failed(doing(), err);
        let mut endpoint = Endpoint::from_shared(origin.clone())
            .map_err(failed)?
            .connect_timeout(CONNECT_TIMEOUT.min(settings.timeout))
            .tcp_keepalive(Some(KEEPALIVE))
            .http2_keep_alive_interval(KEEPALIVE)
            .tcp_nodelay(true);
        if self.address().is_encrypted() {
            endpoint = if settings.insecure {
                endpoint.tls_config_with_verifier(ClientTlsConfig::new(), tls::any_certificate())
            } else {
                let mut config = ClientTlsConfig::new().with_native_roots();
                if let Some(file) = &settings.ca_file {
                    let pem = tonic::transport::Certificate::from_pem(read_ca(file)?);
                    config = config.ca_certificate(pem);
                }
                endpoint.tls_config(config)
            }
            .map_err(failed)?;
        }
        let _inside = self.inner.runtime.enter();
        let key = self.inner.key.as_ref().and_then(keys::metadata);
        Ok(InterceptedService::new(
            endpoint.connect_lazy(),
            WithKey { key },
        ))
    }

    /// `text` without the key.
    pub(super) fn hide(&self, text: &str) -> String {
        match &self.inner.key {
            Some(key) => keys::redact(key, text),
            None => text.to_owned(),
        }
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.inner.http
    }
}

/// gRPC with the key on every call.
pub type GrpcChannel = InterceptedService<Channel, WithKey>;

/// Puts the key on every call of gRPC.
#[derive(Clone)]
pub struct WithKey {
    key: Option<tonic::metadata::MetadataValue<tonic::metadata::Ascii>>,
}

impl Interceptor for WithKey {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> std::result::Result<tonic::Request<()>, tonic::Status> {
        if let Some(key) = &self.key {
            request.metadata_mut().insert("api-key", key.clone());
        }
        Ok(request)
    }
}

fn read_ca(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|err| Error::io("reading certificates in", file, &err))
}

fn no_certificates(file: &Path, why: &dyn fmt::Display) -> Error {
    Error::usage(format!("reading certificates in {}", file.display()), why)
        .next("give a file with the CA's certificate in PEM (-----BEGIN CERTIFICATE-----)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_shows_no_key() {
        let settings = ConnectionSettings {
            keys: Keys::from_variable("s3cr3t-key", "QDRANT_API_KEY").unwrap(),
            ..ConnectionSettings::default()
        };
        let address = Address::parse("http://prod.example").unwrap();
        let connection = Connection::open(&address, &settings).unwrap();
        assert!(connection.shows_its_key());
        let shown = format!("{connection:?} {settings:?}");
        assert!(!shown.contains("s3cr3t"), "{shown}");
        let local = connection.peer(&Address::parse("http://127.0.0.1").unwrap());
        assert!(!local.unwrap().shows_its_key());
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, "no certificate\n").unwrap();
        let settings = ConnectionSettings {
            ca_file: Some(file),
            ..ConnectionSettings::default()
        };
        let address = Address::parse("https://prod.example").unwrap();
        let err = Connection::open(&address, &settings).unwrap_err();
        assert!(err.doing().contains("ca.pem"), "{err}");
    }
}
