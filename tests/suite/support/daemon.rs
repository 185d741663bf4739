//! A Qdrant server as a process: found (`QDRANT_BIN`, or `qdrant` on PATH), started in a folder on
//! ports of this machine alone, stopped. The suite and the bench start theirs by it.
//!
//! Keeps true: it reaches nothing outside, never reports telemetry, and is stopped by its own pid, at
//! the latest with its value.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng as _;
use rustix::process::{Pid, Signal, kill_process};

/// How long it may take to start, and to end.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The server's executable, or why there is none.
pub fn find() -> Result<PathBuf, String> {
    find_in(std::env::var_os("QDRANT_BIN"), std::env::var_os("PATH"))
}

/// The same, for these two variables.
pub fn find_in(told: Option<OsString>, path: Option<OsString>) -> Result<PathBuf, String> {
    if let Some(told) = told {
        let bin = PathBuf::from(told);
        // Told wrongly is not the same as not there, and must not look like it.
        return match bin.is_file() {
            true => Ok(bin),
            false => Err(format!("QDRANT_BIN is {}, which is no file", bin.display())),
        };
    }
    std::env::split_paths(&path.unwrap_or_default())
        .map(|dir| dir.join("qdrant"))
        .find(|bin| bin.is_file())
        .ok_or_else(|| "there is no Qdrant server (no QDRANT_BIN, no qdrant on PATH)".to_owned())
}

/// Below the ports that the system gives to whoever connects (32768 and above, unless told otherwise),
/// so that no connection takes one of these while its server is still starting.
const PORTS: Range<u16> = 10_000..32_000;
/// How many ports are tried.
const PORT_TRIES: usize = 1000;

/// Three ports that nobody listened on a moment ago, and that were not given to another server here.
pub fn free_ports() -> Result<[u16; 3], String> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut random = rand::rng();
    let mut ports = [0; 3];
    for port in &mut ports {
        let free = (0..PORT_TRIES)
            .map(|_| random.random_range(PORTS))
            .find(|port| !given.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok());
        *port = free.ok_or_else(|| format!("no port in {PORTS:?} is free"))?;
        given.insert(*port);
    }
    Ok(ports)
}

/// A server's log, in its folder.
const LOG: &str = "qdrant.log";

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Setup {
    pub bin: PathBuf,
    /// Everything that it writes is in there; its log is `qdrant.log`.
    pub dir: PathBuf,
    pub http: u16,
    pub grpc: u16,
    /// What is set besides, as `QDRANT__…`.
    pub envs: Vec<(String, String)>,
    pub args: Vec<String>,
}

/// A server that runs.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    pub http: u16,
    pub grpc: u16,
    dir: PathBuf,
}

impl Daemon {
    /// Starts it, and waits until it answers.
    pub fn start(setup: &Setup) -> Result<Self, String> {
        let starting = |e: &dyn std::fmt::Display| format!("starting {}: {e}", setup.bin.display());
        let log = File::create(setup.dir.join(LOG)).map_err(|e| starting(&e))?;
        let child = Command::new(&setup.bin)
            .current_dir(&setup.dir)
            .env("QDRANT__SERVICE__HOST", "127.0.0.1")
            .env("QDRANT__SERVICE__HTTP_PORT", setup.http.to_string())
            .env("QDRANT__SERVICE__GRPC_PORT", setup.grpc.to_string())
            .env("QDRANT__STORAGE__STORAGE_PATH", setup.dir.join("storage"))
            .env(
                "QDRANT__STORAGE__SNAPSHOTS_PATH",
                setup.dir.join("snapshots"),
            )
            .env("QDRANT__STORAGE__TEMP_PATH", setup.dir.join("temp"))
            .env("QDRANT__TELEMETRY_DISABLED", "true")
            .envs(setup.envs.iter().map(|(name, value)| (name, value)))
            .args(&setup.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|e| starting(&e))?)
            .stderr(log)
            .spawn()
            .map_err(|e| starting(&e))?;
        let mut daemon = Self {
            child,
            http: setup.http,
            grpc: setup.grpc,
            dir: setup.dir.clone(),
        };
        let is_ready = match setup
            .envs
            .iter()
            .any(|(name, _)| name.ends_with("ENABLE_TLS"))
        {
            // Asking would need its certificate; it listens when all is loaded.
            true => |port| TcpStream::connect(("127.0.0.1", port)).is_ok(),
            false => says_ready,
        };
        let log = setup.dir.join(LOG);
        wait_until_ready(&mut daemon.child, &log, || is_ready(setup.http))?;
        Ok(daemon)
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// Ends it as an operator would (SIGTERM: it flushes), and waits.
    pub fn stop(mut self) -> Result<(), String> {
        let failed = |e: std::io::Error| format!("stopping the server: {e}");
        kill_process(Pid::from_child(&self.child), Signal::TERM).map_err(|e| failed(e.into()))?;
        let start = Instant::now();
        while self.child.try_wait().map_err(failed)?.is_none() {
            if start.elapsed() > START_TIMEOUT {
                let end = log_end(&self.dir.join(LOG));
                return Err(format!("the server did not end by SIGTERM\n{end}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// As a failing machine would end it (SIGKILL: nothing is flushed).
impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a server `is_ready`; an error with the end of its `log` if it ends, or takes too long.
pub fn wait_until_ready(
    child: &mut Child,
    log: &Path,
    is_ready: impl Fn() -> bool,
) -> Result<(), String> {
    let start = Instant::now();
    while !is_ready() {
        let status = child.try_wait();
        if let Some(status) = status.map_err(|e| format!("waiting for the server: {e}"))? {
            return Err(format!("the server ended: {status}\n{}", log_end(log)));
        }
        if start.elapsed() > START_TIMEOUT {
            return Err(format!(
                "the server is not ready after {START_TIMEOUT:?}\n{}",
                log_end(log)
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Whether `GET /readyz` is answered with 200.
fn says_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    ask().is_ok_and(|answer| answer == "HTTP/1.1 200")
}

fn log_end(log: &Path) -> String {
    let log = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&log[log.len().saturating_sub(3000)..]).into_owned()
}
