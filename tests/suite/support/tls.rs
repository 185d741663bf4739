//! Encryption in front of a server that has none: a door with a certificate of its own.
//!
//! Keeps true: it listens on this machine alone, and ends with its value.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{Outcome, temp_dir};

/// A door to a server.
pub struct Door {
    /// Its certificate, as `--ca-file` takes it.
    pub certificate: PathBuf,
    address: SocketAddr,
    _runtime: Runtime,
    _dir: tempfile::TempDir,
}

impl Door {
    /// A door to `server` (`http://127.0.0.1:PORT`), with a certificate for `localhost`.
    pub fn to(server: &str) -> Outcome<Self> {
        let inside: SocketAddr = server.trim_start_matches("http://").parse()?;
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let dir = temp_dir()?;
        let certificate = dir.path().join("ca.pem");
        std::fs::write(&certificate, made.cert.pem())?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key))?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = Runtime::new()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Whoever does not trust the certificate goes away again.
                    if let Ok(mut outer) = acceptor.accept(stream).await
                        && let Ok(mut inner) = TcpStream::connect(inside).await
                    {
                        let _ = copy_bidirectional(&mut outer, &mut inner).await;
                    }
                });
            }
        });
        Ok(Self {
            certificate,
            address,
            _runtime: runtime,
            _dir: dir,
        })
    }

    /// `https://localhost:PORT`.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }
}
