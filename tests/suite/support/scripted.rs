//! A server that answers like Qdrant and fails as it is told: answers cut off, wrong lengths, statuses,
//! redirects, silence. For what a real server does once a year.
//!
//! Keeps true: it listens on this machine alone; every request is kept, so that a test can say what
//! was asked and what was not; a fault that never came up fails the test that wanted it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::Outcome;
use super::fake::Fake;

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This status, with what Qdrant would say.
    Status(u16),
    /// This status with a header.
    With(u16, &'static str, String),
    /// The connection ends after so many bytes of the body, which was announced in full.
    Cut(usize),
    /// A 200 whose body ends after so many bytes, as if that were all.
    Short(usize),
    /// The header says so many bytes more (or fewer) than there are.
    Length(i64),
    /// The answer comes this much later.
    Slow(Duration),
    /// This in place of the answer.
    Body(Value),
    /// The request is done, and the connection ends without an answer.
    Silent,
    /// The request is done, and a proxy that did not wait for it answers with this status.
    Proxy(u16),
    /// The body comes one byte at a time, each so much later.
    Drip(Duration),
    /// The server stops answering anybody after it has done this.
    Die,
}

/// A fault and when it comes up.
#[derive(Debug, Clone)]
struct Rule {
    method: &'static str,
    /// What the path contains, or all of it.
    path: String,
    exactly: bool,
    /// How many requests are let through before.
    after: usize,
    /// How many requests it hits.
    times: usize,
    fault: Fault,
    hits: usize,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Sent in chunks, so that nobody knows how much is to come.
    pub chunked: bool,
}

impl Answer {
    /// `{"result": …}`.
    pub fn ok(result: Value) -> Self {
        Self::json(
            200,
            json!({"result": result, "status": "ok", "time": 0.001}),
        )
    }

    pub fn json(status: u16, body: Value) -> Self {
        Self {
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.to_string().into_bytes(),
            chunked: false,
        }
    }

    /// As Qdrant says no.
    pub fn error(status: u16, why: &str) -> Self {
        Self::json(status, json!({"status": {"error": why}, "time": 0.001}))
    }
}

struct Inner {
    fake: Mutex<Fake>,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    stopped: AtomicBool,
    dead: AtomicBool,
}

/// The server; stopped with its value.
pub struct Scripted {
    address: SocketAddr,
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    pub fn start(fake: Fake) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner {
            fake: Mutex::new(fake),
            rules: Mutex::default(),
            seen: Mutex::default(),
            stopped: AtomicBool::new(false),
            dead: AtomicBool::new(false),
        });
        let shared = Arc::clone(&inner);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&shared)) else {
                    continue;
                };
                std::thread::spawn(move || {
                    // A client that goes away is no fault of the server.
                    let _ = shared.serve(stream);
                });
            }
        });
        Ok(Self {
            address,
            inner,
            thread: Some(thread),
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next `times` requests with this method and a path that contains `path` go wrong.
    pub fn fault(&self, method: &'static str, path: &str, times: usize, fault: Fault) {
        self.fault_after(method, path, 0, times, fault);
    }

    /// The same, after so many requests of the kind.
    pub fn fault_after(
        &self,
        method: &'static str,
        path: &str,
        after: usize,
        times: usize,
        fault: Fault,
    ) {
        lock(&self.inner.rules).push(Rule {
            method,
            path: path.to_owned(),
            exactly: false,
            after,
            times,
            fault,
            hits: 0,
        });
    }

    /// The same for nothing but this path.
    pub fn fault_exactly(&self, method: &'static str, path: &str, times: usize, fault: Fault) {
        self.fault(method, path, times, fault);
        if let Some(rule) = lock(&self.inner.rules).last_mut() {
            rule.exactly = true;
        }
    }

    /// What it holds.
    pub fn fake(&self) -> MutexGuard<'_, Fake> {
        lock(&self.inner.fake)
    }

    /// Everything that was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.inner.seen).clone()
    }

    /// How often it was asked so.
    pub fn asked(&self, method: &str, path: &str) -> usize {
        let seen = self.seen();
        let of = |one: &&Seen| one.method == method && one.path.contains(path);
        seen.iter().filter(of).count()
    }

    /// Answers again after [`Fault::Die`].
    pub fn revive(&self) {
        self.inner.dead.store(false, Ordering::SeqCst);
    }

    /// Fails unless every fault came up.
    pub fn ensure_faults_came_up(&self) -> Outcome {
        for rule in lock(&self.inner.rules).iter() {
            ensure!(rule.hits > 0, "this fault never came up: {rule:?}");
        }
        Ok(())
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Inner {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        if self.dead.load(Ordering::SeqCst) {
            return Ok(());
        }
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        let Some(seen) = read_request(&mut reader)? else {
            return Ok(());
        };
        lock(&self.seen).push(seen.clone());
        let fault = self.fault_for(&seen);
        if let Some(Fault::Slow(time)) = &fault {
            std::thread::sleep(*time);
        }
        let early = match &fault {
            Some(Fault::Status(status)) => Some(Answer::error(*status, "as the script says")),
            Some(Fault::With(status, name, value)) => {
                let mut answer = Answer::error(*status, "as the script says");
                answer.headers.push(((*name).into(), value.clone()));
                Some(answer)
            }
            Some(Fault::Body(body)) => Some(Answer::json(200, body.clone())),
            _ => None,
        };
        // A request that was refused was not done.
        let answer = match early {
            Some(answer) => answer,
            None => lock(&self.fake).answer(&seen),
        };
        match fault {
            Some(Fault::Silent) => return Ok(()),
            Some(Fault::Proxy(status)) => {
                let page = "<html>upstream timed out</html>";
                let length = page.len();
                let head = format!(
                    "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{page}"
                );
                stream.write_all(head.as_bytes())?;
                stream.shutdown(std::net::Shutdown::Write)?;
                let _ = std::io::copy(&mut reader.take(1 << 20), &mut std::io::sink());
                return Ok(());
            }
            Some(Fault::Die) => {
                self.dead.store(true, Ordering::SeqCst);
                return Ok(());
            }
            _ => {}
        }
        let mut announced = answer.body.len();
        let mut sent = answer.body.len();
        match fault {
            Some(Fault::Cut(bytes)) => sent = sent.min(bytes),
            Some(Fault::Short(bytes)) => {
                sent = sent.min(bytes);
                announced = sent;
            }
            Some(Fault::Length(more)) => {
                announced = announced.saturating_add_signed(more as isize);
            }
            _ => {}
        }
        let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", answer.status);
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("date: {}\r\n", httpdate());
        let body = answer.body.get(..sent).unwrap_or_default();
        if answer.chunked {
            stream.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes())?;
            for chunk in body.chunks(64 << 10) {
                stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
                stream.write_all(chunk)?;
                stream.write_all(b"\r\n")?;
            }
            if sent == announced {
                stream.write_all(b"0\r\n\r\n")?;
            }
        } else {
            stream.write_all(format!("{head}content-length: {announced}\r\n\r\n").as_bytes())?;
            match fault {
                Some(Fault::Drip(every)) => {
                    for byte in body {
                        stream.write_all(&[*byte])?;
                        std::thread::sleep(every);
                    }
                }
                _ => stream.write_all(body)?,
            }
        }
        stream.flush()?;
        stream.shutdown(std::net::Shutdown::Write)?;
        // Otherwise what was not read yet resets the connection, and the answer is lost with it.
        let _ = std::io::copy(&mut reader.take(1 << 20), &mut std::io::sink());
        Ok(())
    }

    fn fault_for(&self, seen: &Seen) -> Option<Fault> {
        let mut rules = lock(&self.rules);
        for rule in rules.iter_mut() {
            let is_here = match rule.exactly {
                true => seen.path == rule.path,
                false => seen.path.contains(&rule.path),
            };
            if rule.method != seen.method || !is_here {
                continue;
            }
            if rule.after > 0 {
                rule.after -= 1;
                continue;
            }
            if rule.hits < rule.times {
                rule.hits += 1;
                return Some(rule.fault.clone());
            }
        }
        None
    }
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Seen>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next(), words.next());
    let (Some(method), Some(target)) = (method, target) else {
        return Ok(None);
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = read_headers(reader)?;
    let length = headers
        .get("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0_u64);
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    Ok(Some(Seen {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body,
    }))
}

/// The headers of a request, by their names in small letters.
pub fn read_headers(reader: &mut impl BufRead) -> std::io::Result<BTreeMap<String, String>> {
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(headers);
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

/// Now, as HTTP writes it.
fn httpdate() -> String {
    chrono::Utc::now()
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
