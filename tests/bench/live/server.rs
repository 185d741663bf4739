//! The server that is measured: started in the bench's folder, stopped at its end.
//!
//! Keeps true: a call that fails ends the bench.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Outcome;
use crate::daemon::{Daemon, Setup, free_ports};

/// The ports that Qdrant has by default: REST and gRPC.
const USUAL_PORTS: (u16, u16) = (6333, 6334);

/// A server.
pub struct Server {
    daemon: Daemon,
}

impl Server {
    /// Starts it in `folder`, if it has to be on its usual ports.
    pub fn start(bin: PathBuf, folder: &Path, on_usual_ports: bool) -> Outcome<Self> {
        let [free_http, free_grpc, _] = free_ports()?;
        let (http, grpc) = match on_usual_ports {
            true => USUAL_PORTS,
            false => (free_http, free_grpc),
        };
        let dir = crate::fresh(&folder.join("server"))?;
        let daemon = Daemon::start(&Setup {
            bin,
            dir,
            http,
            grpc,
            envs: Vec::new(),
            args: Vec::new(),
        })?;
        Ok(Self { daemon })
    }

    pub fn url(&self) -> String {
        self.daemon.url()
    }

    pub fn grpc_port(&self) -> u16 {
        self.daemon.grpc
    }

    /// The address of a collection.
    pub fn at(&self, collection: &str) -> String {
        format!("{}/{collection}", self.url())
    }

    /// Removes a collection, and lets the server come to rest.
    pub fn remove(&self, collection: &str) -> Outcome {
        let url = format!("{}/collections/{collection}", self.url());
        ureq::delete(&url).call()?;
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    }

    pub fn stop(self) -> Outcome {
        Ok(self.daemon.stop()?)
    }
}
