//! Servers that speak S3 and that others wrote: moto (an emulator, from PyPI), Garage and RustFS (real
//! ones, from crates.io). Each is started where its program is on PATH, and is otherwise not to be had.
//!
//! Keeps true: they listen on this machine alone, write into a temporary folder, and end with their
//! value, by their own pid.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::daemon::{free_ports, wait_until_ready};
use super::s3::{Access, BUCKET};
use super::{Outcome, program, temp_dir};

/// In the forms that Garage wants.
const KEY: &str = "GK0123456789abcdef01234567";
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Which server.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Moto,
    Garage,
    RustFs,
}

impl Kind {
    /// The program, where it is on PATH and runs; or why it is not to be had.
    pub fn find(self) -> Result<PathBuf, String> {
        let (name, from) = match self {
            Self::Moto => ("moto_server", "pip install 'moto[s3]' flask flask-cors"),
            Self::Garage => ("garage", "cargo install garage --locked"),
            Self::RustFs => ("rustfs", "cargo install rustfs --locked"),
        };
        program(name, "--help", from)
    }
}

/// A server of one test, with an empty bucket.
pub struct Server {
    child: Child,
    pub access: Access,
    _dir: tempfile::TempDir,
}

impl Server {
    /// Starts the program `bin`.
    pub fn start(kind: Kind, bin: &PathBuf) -> Outcome<Self> {
        let dir = temp_dir()?;
        let [port, second, third] = free_ports()?;
        let mut command = Command::new(bin);
        let mut region = "us-east-1";
        let data = dir.path().join("data");
        std::fs::create_dir(&data)?;
        match kind {
            Kind::Moto => {
                command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
            }
            Kind::Garage => {
                region = "garage";
                let config = dir.path().join("garage.toml");
                let text = format!(
                    "metadata_dir = {meta:?}\ndata_dir = {data:?}\ndb_engine = \"sqlite\"\n\
                     replication_factor = 1\nrpc_secret = \"{SECRET}\"\n\
                     rpc_bind_addr = \"127.0.0.1:{second}\"\n\
                     rpc_public_addr = \"127.0.0.1:{second}\"\n\
                     [s3_api]\ns3_region = \"{region}\"\napi_bind_addr = \"127.0.0.1:{port}\"\n\
                     [admin]\napi_bind_addr = \"127.0.0.1:{third}\"\n",
                    meta = dir.path().join("meta"),
                );
                std::fs::write(&config, text)?;
                command
                    .arg("-c")
                    .arg(config)
                    .args(["server", "--single-node", "--default-bucket"])
                    .env("GARAGE_DEFAULT_ACCESS_KEY", KEY)
                    .env("GARAGE_DEFAULT_SECRET_KEY", SECRET)
                    .env("GARAGE_DEFAULT_BUCKET", BUCKET);
            }
            Kind::RustFs => {
                // A folder of its data is a bucket.
                std::fs::create_dir(data.join(BUCKET))?;
                command
                    .env("RUSTFS_ADDRESS", format!("127.0.0.1:{port}"))
                    .env("RUSTFS_ACCESS_KEY", KEY)
                    .env("RUSTFS_SECRET_KEY", SECRET)
                    .env("RUSTFS_CONSOLE_ENABLE", "false")
                    .arg(&data);
            }
        }
        let log = dir.path().join("log");
        let out = File::create(&log)?;
        let child = command
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        let access = Access {
            endpoint: format!("http://127.0.0.1:{port}"),
            region: region.into(),
            key: KEY.into(),
            secret: SECRET.into(),
        };
        let mut server = Self {
            child,
            access,
            _dir: dir,
        };
        // Any answer will do: who asks without a key is refused.
        let answers = || {
            let asked = ureq::get(&server.access.endpoint).call();
            !matches!(
                asked,
                Err(ureq::Error::Io(_) | ureq::Error::ConnectionFailed)
            )
        };
        wait_until_ready(&mut server.child, &log, answers)?;
        if let Kind::Moto = kind {
            let url = format!("{}/{BUCKET}", server.access.endpoint);
            ureq::put(url)
                .send_empty()
                .map_err(|err| format!("making a bucket: {err}"))?;
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
