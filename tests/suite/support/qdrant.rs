//! A real Qdrant server, where one is at hand: started on free ports with a temporary folder, spoken
//! to over REST, stopped with its value.
//!
//! Keeps true: a status that was not wanted fails the test with the answer.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::Digest;

use super::daemon::{Daemon, START_TIMEOUT, Setup, find_in, free_ports};
use super::points::{self, PointId};
use super::{Env, Outcome, Trial, temp_dir};

const CALL_TIMEOUT: Duration = Duration::from_secs(300);

/// A server of one test.
pub struct Server {
    bin: PathBuf,
    cluster: bool,
    agent: ureq::Agent,
    // It ends before its folder goes away.
    running: Option<Daemon>,
    dir: tempfile::TempDir,
    /// A cluster's members know each other by it: it stays the same over restarts.
    p2p: Option<u16>,
    /// Where the first member of its cluster is.
    first: Option<String>,
    /// What the server is told besides, as `QDRANT__…`, the next time that it is started.
    pub envs: Vec<(String, String)>,
    /// What calls are made with.
    pub key: Option<String>,
}

impl Server {
    /// A single server.
    pub fn start(bin: &Path) -> Outcome<Self> {
        Self::start_as(bin, false, None)
    }

    /// A cluster of one node, which custom sharding needs.
    pub fn start_cluster(bin: &Path) -> Outcome<Self> {
        Self::start_as(bin, true, None)
    }

    /// Another member of the cluster that `self` is part of.
    pub fn join(&self) -> Outcome<Self> {
        let p2p = self.p2p.ok_or("it is no cluster")?;
        let first = format!("http://127.0.0.1:{p2p}");
        Self::start_as(&self.bin, true, Some(first))
    }

    fn start_as(bin: &Path, cluster: bool, first: Option<String>) -> Outcome<Self> {
        let config = ureq::Agent::config_builder()
            // A status is an answer; what it means is the caller's to say.
            .http_status_as_error(false)
            .timeout_global(Some(CALL_TIMEOUT))
            // A server closes what was idle for five seconds.
            .max_idle_age(Duration::from_secs(2))
            .proxy(None)
            .build();
        let mut server = Self {
            bin: bin.to_owned(),
            cluster,
            dir: temp_dir()?,
            agent: config.into(),
            running: None,
            p2p: None,
            first,
            envs: Vec::new(),
            key: None,
        };
        server.launch()?;
        Ok(server)
    }

    /// Its folder; the log is `qdrant.log` in it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `http://127.0.0.1:PORT`; `https://localhost:PORT` when it was started with a certificate,
    /// and then this cannot speak with it.
    pub fn url(&self) -> String {
        let port = self.ports().0;
        match self
            .envs
            .iter()
            .any(|(name, _)| name.ends_with("ENABLE_TLS"))
        {
            true => format!("https://localhost:{port}"),
            false => format!("http://127.0.0.1:{port}"),
        }
    }

    /// `http://127.0.0.1:PORT` of gRPC.
    pub fn grpc_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports().1)
    }

    fn ports(&self) -> (u16, u16) {
        let running = self.running.as_ref().expect("the server was stopped");
        (running.http, running.grpc)
    }

    /// Ends it as an operator would (SIGTERM: it flushes), and starts it again on the same folder.
    pub fn restart(&mut self) -> Outcome {
        self.stop()?;
        self.launch()
    }

    /// Ends it as a failing machine would (SIGKILL: nothing is flushed), and starts it again.
    pub fn crash(&mut self) -> Outcome {
        self.running = None;
        self.launch()
    }

    /// Ends it with SIGTERM and waits.
    pub fn stop(&mut self) -> Outcome {
        match self.running.take() {
            Some(running) => Ok(running.stop()?),
            None => Ok(()),
        }
    }

    fn launch(&mut self) -> Outcome {
        let mut last = String::new();
        // Another process may take a free port before the server does: then there are others.
        for _ in 0..3 {
            match self.launch_once() {
                Ok(running) => {
                    self.running = Some(running);
                    return Ok(());
                }
                Err(why) => last = why,
            }
            if !last.contains("in use") {
                break;
            }
            // One that was never up is known to nobody.
            if !self.dir.path().join("storage/raft_state.json").exists() {
                self.p2p = None;
            }
        }
        Err(last.into())
    }

    fn launch_once(&mut self) -> Result<Daemon, String> {
        let [http, grpc, p2p] = free_ports()?;
        let mut envs = self.envs.clone();
        let mut args = Vec::new();
        if self.cluster {
            let p2p = *self.p2p.get_or_insert(p2p);
            envs.push(("QDRANT__CLUSTER__ENABLED".into(), "true".into()));
            envs.push(("QDRANT__CLUSTER__P2P__PORT".into(), p2p.to_string()));
            args.extend(["--uri".to_owned(), format!("http://127.0.0.1:{p2p}")]);
        }
        if let Some(first) = &self.first {
            args.extend(["--bootstrap".to_owned(), first.clone()]);
        }
        Daemon::start(&Setup {
            bin: self.bin.clone(),
            dir: self.dir.path().to_owned(),
            http,
            grpc,
            envs,
            args,
        })
    }

    /// One call: status and body, whatever they are. A body that is not JSON comes as a JSON string.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Outcome<(u16, Value)> {
        let url = format!("{}{path}", self.url());
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        if let Some(key) = &self.key {
            request = request.header("api-key", key);
        }
        let answer = match body {
            None => self.agent.run(request.body(())?),
            Some(body) => self.agent.run(
                request
                    .header("content-type", "application/json")
                    .body(body.to_string())?,
            ),
        };
        read_answer(answer.map_err(|e| format!("{method} {path}: {e}"))?)
    }

    /// One call that must succeed: its `result`.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Outcome<Value> {
        let (status, answer) = self.call(method, path, body)?;
        ensure!(status == 200, "{method} {path}: {status} {answer}");
        Ok(answer["result"].clone())
    }

    pub fn get(&self, path: &str) -> Outcome<Value> {
        self.ask("GET", path, None)
    }

    pub fn put(&self, path: &str, body: &Value) -> Outcome<Value> {
        self.ask("PUT", path, Some(body))
    }

    pub fn post(&self, path: &str, body: &Value) -> Outcome<Value> {
        self.ask("POST", path, Some(body))
    }

    pub fn delete(&self, path: &str) -> Outcome<Value> {
        self.ask("DELETE", path, None)
    }

    /// Restores a snapshot file into `collection` (made from it where it is not there yet), and waits.
    pub fn upload(&self, collection: &str, snapshot: &Path) -> Outcome<Value> {
        let (status, answer) = self.try_upload(collection, snapshot)?;
        ensure!(
            status == 200,
            "restoring {}: {status} {answer}",
            snapshot.display()
        );
        ensure_eq!(answer["result"], json!(true), "the answer to the upload");
        Ok(answer)
    }

    /// The same, for a snapshot that the server may refuse: status and answer.
    pub fn try_upload(&self, collection: &str, snapshot: &Path) -> Outcome<(u16, Value)> {
        const BOUNDARY: &str = "snapmerge-suite-boundary";
        let file = File::open(snapshot).map_err(|e| format!("{}: {e}", snapshot.display()))?;
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"snapshot\"; filename=\"upload.snapshot\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let bytes = head.len() as u64 + file.metadata()?.len() + tail.len() as u64;
        let mut body = Cursor::new(head).chain(file).chain(Cursor::new(tail));
        let path =
            format!("/collections/{collection}/snapshots/upload?wait=true&priority=snapshot");
        let request = ureq::http::Request::builder()
            .method("POST")
            .uri(format!("{}{path}", self.url()))
            .header(
                "content-type",
                format!("multipart/form-data; boundary={BOUNDARY}"),
            )
            .header("content-length", bytes)
            .body(ureq::SendBody::from_reader(&mut body))?;
        let answer = self.agent.run(request);
        read_answer(answer.map_err(|e| format!("POST {path}: {e}"))?)
    }

    /// Makes a snapshot of `collection` and downloads it to `to`; its SHA-256 as the server gives it.
    pub fn snapshot(&self, collection: &str, to: &Path) -> Outcome<String> {
        let base = format!("/collections/{collection}/snapshots");
        let made = self.post(&format!("{base}?wait=true"), &json!({}))?;
        let name = made["name"].as_str().ok_or("the snapshot has no name")?;
        self.download(&format!("{base}/{name}"), to)?;
        Ok(made["checksum"].as_str().unwrap_or_default().to_owned())
    }

    /// Downloads what is at `path` to the file `to`.
    pub fn download(&self, path: &str, to: &Path) -> Outcome {
        let answer = self
            .agent
            .get(format!("{}{path}", self.url()))
            .call()
            .map_err(|e| format!("downloading {path}: {e}"))?;
        ensure_eq!(answer.status().as_u16(), 200, "downloading {path}");
        std::io::copy(
            &mut answer.into_body().into_reader(),
            &mut File::create(to)?,
        )?;
        Ok(())
    }

    /// How many points, counted exactly.
    pub fn count(&self, collection: &str) -> Outcome<u64> {
        let path = format!("/collections/{collection}/points/count");
        let answer = self.post(&path, &json!({"exact": true}))?;
        answer["count"]
            .as_u64()
            .ok_or_else(|| format!("no count: {answer}").into())
    }

    /// Every point, with payload and vectors, in id order: what a truth file holds.
    pub fn scroll(&self, collection: &str) -> Outcome<Vec<Value>> {
        let path = format!("/collections/{collection}/points/scroll");
        let mut points = Vec::new();
        let mut offset = Value::Null;
        loop {
            let body =
                json!({"limit": 500, "offset": offset, "with_payload": true, "with_vector": true});
            let mut page = self.post(&path, &body)?;
            match page["points"].take() {
                Value::Array(page) => points.extend(page),
                other => return Err(format!("no points: {other}").into()),
            }
            offset = page["next_page_offset"].take();
            if offset.is_null() {
                break;
            }
        }
        let ids = points
            .iter()
            .map(PointId::of)
            .collect::<Outcome<Vec<_>>>()?;
        ensure!(
            ids.is_sorted_by(|a, b| a < b),
            "the server's scroll is not in id order"
        );
        Ok(points)
    }

    /// Waits until `collection` is green, at most `within`; its info.
    ///
    /// After a restart a collection that has something left to optimize is grey: its optimizers wait
    /// for the next update, so an empty one is sent, once.
    pub fn wait_green(&self, collection: &str, within: Duration) -> Outcome<Value> {
        let start = Instant::now();
        let path = format!("/collections/{collection}");
        let mut woken = false;
        loop {
            let info = self.get(&path)?;
            if info["status"] == "green" {
                return Ok(info);
            }
            if info["status"] == "grey" && !woken {
                woken = true;
                let nothing = serde_json::json!({"optimizers_config": {}});
                self.ask("PATCH", &path, Some(&nothing))?;
            }
            ensure!(
                start.elapsed() < within,
                "not green after {within:?}: {info}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The executable of the server of `version`: `$QDRANT_BINS/VERSION/qdrant`; or why there is none.
pub fn find_version(version: &str) -> Result<PathBuf, String> {
    let folder = std::env::var_os("QDRANT_BINS")
        .ok_or("there are no Qdrant servers of several versions (QDRANT_BINS names no folder with VERSION/qdrant)")?;
    let bin = PathBuf::from(folder).join(version).join("qdrant");
    match bin.is_file() {
        true => Ok(bin),
        false => Err(format!("there is no Qdrant {version} in QDRANT_BINS")),
    }
}

fn read_answer(answer: ureq::http::Response<ureq::Body>) -> Outcome<(u16, Value)> {
    let status = answer.status().as_u16();
    let mut text = String::new();
    answer.into_body().into_reader().read_to_string(&mut text)?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok((status, body))
}

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new(
            "support/qdrant/finds_or_says_why_not",
            finds_or_says_why_not,
        ),
        // What the tests of a master rest on: a snapshot that no one touched comes back as it was.
        env.live("support/qdrant/brings_a_fixture_back", |bin| {
            let case = env.case("album_2017");
            let dir = temp_dir()?;
            let truth = case.truth()?;
            let mut server = Server::start(bin)?;
            server.upload("album", &case.unpack(dir.path())?)?;
            server.wait_green("album", START_TIMEOUT)?;
            ensure_eq!(server.count("album")?, 1000, "points after the restore");
            points::ensure_same(&server.scroll("album")?, &truth)?;

            server.post(
                "/collections/album/points/delete?wait=true",
                &json!({"points": [0]}),
            )?;
            server.restart()?;
            server.wait_green("album", START_TIMEOUT)?;
            points::ensure_same(&server.scroll("album")?, &truth[1..])?;

            let again = dir.path().join("again.snapshot");
            let sha256 = server.snapshot("album", &again)?;
            let digest = sha2::Sha256::digest(std::fs::read(&again)?);
            let digest: String = digest.iter().map(|b| format!("{b:02x}")).collect();
            ensure_eq!(digest, sha256, "SHA-256 of the download");

            let (status, answer) = server.try_upload("other", Path::new(file!()))?;
            ensure!(
                (400..600).contains(&status),
                "no snapshot, and yet: {status} {answer}"
            );
            ensure!(
                server.get("/collections/nowhere").is_err(),
                "a 404 passed as an answer"
            );
            server.stop()
        }),
        env.live("support/qdrant/starts_a_cluster_of_one", |bin| {
            let server = Server::start_cluster(bin)?;
            ensure_eq!(server.get("/cluster")?["status"], "enabled", "the cluster");
            Ok(())
        }),
    ]
}

fn finds_or_says_why_not() -> Outcome {
    let dir = temp_dir()?;
    let bin = dir.path().join("qdrant");
    let path = Some(dir.path().as_os_str().to_owned());
    let nothing = find_in(None, None);
    ensure!(
        nothing.is_err_and(|why| why.contains("QDRANT_BIN")),
        "nothing"
    );
    ensure!(find_in(None, path.clone()).is_err(), "an empty folder");
    std::fs::write(&bin, "")?;
    ensure_eq!(find_in(None, path.clone()), Ok(bin.clone()), "on PATH");
    let wrong = find_in(Some("nowhere/qdrant".into()), path);
    ensure!(
        wrong.is_err_and(|why| why.contains("nowhere")),
        "told wrongly is not passed over"
    );
    ensure_eq!(find_in(Some(bin.clone().into()), None), Ok(bin), "told");
    Ok(())
}
