//! An emulator of S3, as far as an archive uses it: objects put whole, put only if there is none
//! (`If-None-Match: *`), got in ranges, removed, listed in pages.
//!
//! It is no S3: signatures are not checked, and it is as consistent as memory is. It can fail a share
//! of its requests with 503, as S3 does when it is asked to slow down, before or after it did what it
//! was asked to; and it can pass over conditions, as some stores do.
//!
//! Keeps true: it listens on this machine alone, and ends with its value.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use object_store::aws::AmazonS3Builder;
use snapmerge::archive::Remote;

use super::Outcome;
use super::cli::Cli;
use super::scripted::read_headers;

/// Names that one page of a listing holds: few, so that pages are seen.
const PAGE: usize = 7;

/// The bucket that every server has.
pub const BUCKET: &str = "test";

/// How a server is reached.
pub struct Access {
    pub endpoint: String,
    pub region: String,
    pub key: String,
    pub secret: String,
}

impl Access {
    /// The environment that leads a client there.
    pub fn envs(&self) -> [(&'static str, &str); 5] {
        [
            ("AWS_ENDPOINT", &self.endpoint),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", &self.region),
            ("AWS_ACCESS_KEY_ID", &self.key),
            ("AWS_SECRET_ACCESS_KEY", &self.secret),
        ]
    }

    /// A command line whose archive is there.
    pub fn lead(&self, cli: Cli) -> Cli {
        self.envs()
            .into_iter()
            .fold(cli, |cli, (key, value)| cli.env(key, value))
    }

    /// A store in the bucket, for this process.
    pub fn store(&self, prefix: &str) -> Outcome<Remote> {
        // Whoever came first has installed the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = AmazonS3Builder::new()
            .with_endpoint(&self.endpoint)
            .with_allow_http(true)
            .with_region(&self.region)
            .with_access_key_id(&self.key)
            .with_secret_access_key(&self.secret)
            .with_bucket_name(BUCKET)
            .with_disable_bulk_delete(true)
            .build()?;
        let remote = Remote::new(Arc::new(store), prefix, self.endpoint.clone());
        Ok(remote.map_err(|err| err.to_string())?)
    }
}

/// The emulator.
pub struct S3 {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Every so many requests one is answered with 503; 0 for none.
    fail_every: AtomicU64,
    /// Whether what is failed was done all the same.
    done_all_the_same: AtomicBool,
    /// Whether a conditional put is taken for a plain one.
    passes_over_conditions: AtomicBool,
    requests: AtomicU64,
    /// Bytes that were read, by name, since somebody asked.
    read: Mutex<BTreeMap<String, u64>>,
    failed: AtomicU64,
    ended: AtomicBool,
}

impl Shared {
    fn objects(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl S3 {
    /// Starts it.
    pub fn start() -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let server = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if server.ended.load(Ordering::SeqCst) {
                    break;
                }
                let server = Arc::clone(&server);
                std::thread::spawn(move || {
                    // A client that goes away is no matter.
                    let _ = serve(&server, stream);
                });
            }
        });
        Ok(Self {
            port,
            shared,
            thread: Some(thread),
        })
    }

    /// Fails every `n`th request from now on.
    pub fn fail_every(&self, n: u64) {
        self.shared.fail_every.store(n, Ordering::SeqCst);
    }

    /// Does what it was asked to before it fails, from now on.
    pub fn do_all_the_same(&self) {
        self.shared.done_all_the_same.store(true, Ordering::SeqCst);
    }

    /// Takes a conditional put for a plain one from now on.
    pub fn pass_over_conditions(&self) {
        let passes = &self.shared.passes_over_conditions;
        passes.store(true, Ordering::SeqCst);
    }

    /// How many requests were failed.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::SeqCst)
    }

    /// How many requests came.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Bytes that were read since this was asked before, by name.
    pub fn take_read(&self) -> BTreeMap<String, u64> {
        let read = &self.shared.read;
        std::mem::take(&mut *read.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The names that are there.
    pub fn names(&self) -> Vec<String> {
        self.shared.objects().keys().cloned().collect()
    }

    /// How many bytes are under a name, if any.
    pub fn bytes(&self, name: &str) -> Option<u64> {
        Some(self.shared.objects().get(name)?.len() as u64)
    }

    /// Puts what somebody else would.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        self.shared.objects().insert(name.to_owned(), bytes);
    }

    /// Changes what is under a name; none removes it.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>) -> bool) {
        let mut objects = self.shared.objects();
        if let Some(bytes) = objects.get_mut(name)
            && !change(bytes)
        {
            objects.remove(name);
        }
    }

    /// How it is reached.
    pub fn access(&self) -> Access {
        Access {
            endpoint: format!("http://127.0.0.1:{}", self.port),
            region: "us-east-1".into(),
            key: "test".into(),
            secret: "test".into(),
        }
    }

    /// A command line whose archive is here.
    pub fn lead(&self, cli: Cli) -> Cli {
        self.access().lead(cli)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes whoever waits for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(shared: &Shared, stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut words = first.split_whitespace();
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default().to_owned();
        let headers = read_headers(&mut reader)?;
        let length = headers.get("content-length");
        let length: usize = length.and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let number = shared.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let every = shared.fail_every.load(Ordering::SeqCst);
        let (status, head, answer) = if every > 0 && number.is_multiple_of(every) {
            shared.failed.fetch_add(1, Ordering::SeqCst);
            if shared.done_all_the_same.load(Ordering::SeqCst) {
                answer(shared, &method, &target, &headers, body);
            }
            (503, String::new(), Vec::new())
        } else {
            answer(shared, &method, &target, &headers, body)
        };
        let length = match method.as_str() {
            // Its length is that of what a GET would answer.
            "HEAD" => String::new(),
            _ => format!("content-length: {}\r\n", answer.len()),
        };
        write!(stream, "HTTP/1.1 {status} -\r\n{head}{length}\r\n")?;
        if method != "HEAD" {
            stream.write_all(&answer)?;
        }
        stream.flush()?;
    }
}

type Answer = (u16, String, Vec<u8>);

fn answer(
    shared: &Shared,
    method: &str,
    target: &str,
    headers: &BTreeMap<String, String>,
    body: Vec<u8>,
) -> Answer {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = decode(path.trim_start_matches('/'));
    let (_, name) = path.split_once('/').unwrap_or((&path, ""));
    let mut objects = shared.objects();
    match method {
        "GET" if name.is_empty() => (200, String::new(), list(&objects, query).into_bytes()),
        "PUT" => {
            // The second is how Google writes it.
            let conditions = ["if-none-match", "x-goog-if-generation-match"];
            let is_conditional = conditions.iter().any(|name| headers.contains_key(*name))
                && !shared.passes_over_conditions.load(Ordering::SeqCst);
            if is_conditional && objects.contains_key(name) {
                return (412, String::new(), Vec::new());
            }
            let head = format!("etag: \"{}\"\r\n", etag(&body));
            objects.insert(name.to_owned(), body);
            (200, head, Vec::new())
        }
        "DELETE" => {
            objects.remove(name);
            (204, String::new(), Vec::new())
        }
        _ => {
            let Some(bytes) = objects.get(name) else {
                let text = "<Error><Code>NoSuchKey</Code></Error>";
                return (404, String::new(), text.into());
            };
            let mut head = format!(
                "etag: \"{}\"\r\nlast-modified: {}\r\n",
                etag(bytes),
                "Sun, 22 Nov 2026 12:00:00 GMT"
            );
            if method == "HEAD" {
                head += &format!("content-length: {}\r\n", bytes.len());
                return (200, head, Vec::new());
            }
            let read = |count: usize| {
                let mut read = shared.read.lock().unwrap_or_else(PoisonError::into_inner);
                *read.entry(name.to_owned()).or_default() += count as u64;
            };
            let Some((start, end)) = headers.get("range").and_then(|range| span(range)) else {
                read(bytes.len());
                return (200, head, bytes.clone());
            };
            if start >= bytes.len() {
                return (416, head, Vec::new());
            }
            let end = end.min(bytes.len() - 1);
            read(end + 1 - start);
            head += &format!("content-range: bytes {start}-{end}/{}\r\n", bytes.len());
            (206, head, bytes[start..=end].to_vec())
        }
    }
}

fn span(range: &str) -> Option<(usize, usize)> {
    let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    Some((start.parse().ok()?, end.parse().unwrap_or(usize::MAX)))
}

fn etag(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..32].to_owned()
}

fn list(objects: &BTreeMap<String, Vec<u8>>, query: &str) -> String {
    let parameter = |name: &str| {
        query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key == name).then(|| decode(value))
        })
    };
    let prefix = parameter("prefix").unwrap_or_default();
    let after = parameter("continuation-token").unwrap_or_default();
    let mut found = objects
        .iter()
        .filter(|(name, _)| name.starts_with(&prefix) && name.as_str() > after.as_str());
    let page: Vec<_> = found.by_ref().take(PAGE).collect();
    let more = found.next().is_some();
    let mut xml = format!(
        "<ListBucketResult><IsTruncated>{more}</IsTruncated><KeyCount>{}</KeyCount>",
        page.len()
    );
    if let (true, Some((last, _))) = (more, page.last()) {
        xml += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
    }
    for (name, bytes) in page {
        xml += &format!(
            "<Contents><Key>{name}</Key><LastModified>2026-11-22T12:00:00.000Z</LastModified>\
             <ETag>\"{}\"</ETag><Size>{}</Size></Contents>",
            etag(bytes),
            bytes.len()
        );
    }
    xml + "</ListBucketResult>"
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}
