//! Writing points, many batches at once.
//!
//! Batches go side by side and are acknowledged when the server has them in its log. Every so often
//! a mark is set: the batch before it waits until it is applied, and when that and all before it
//! are acknowledged, the mark is reached. Whoever goes on from a mark loses nothing.
//!
//! Invariants: marks are reached in the order in which they were set, and only over acknowledged
//! batches; a batch is tried again only whole or in halves, which means the same; memory is bounded
//! by the batches that are under way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qdrant_client::qdrant as proto;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tonic::Code;

use super::content::Content;
use super::convert::{VectorForm, fits, point_to, selector};
use super::pace::RateController;
use super::{LONG, Points, failure};
use crate::base::error::{Error, Result};
use crate::point::ShardKey;
use crate::point::numbers::to_be_read_back;
use crate::point::{AsScrolled, Record};
use crate::server::call::CallTimeout;
use crate::server::failure::{Cause, Failure};
use crate::server::rate::Rate;
use crate::server::retry::{Retry, RetryOn};

/// Points of a batch, at the most.
const BATCH_POINTS: usize = 2000;
/// Batches that wait to be sent.
const WAITING: usize = 2;
/// Timeout of one batch.
const BATCH_TIMEOUT: Duration = LONG;

/// Totals of an upsert.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Points that were acknowledged.
    pub points: u64,
    /// Requests that were acknowledged.
    pub batches: u64,
    /// Estimated size of them in bytes.
    pub bytes: u64,
    /// Requests that were tried again, or cut in halves.
    pub again: u64,
}

/// Points on their way to a collection.
pub struct Upserts<M> {
    points: Points,
    form: VectorForm,
    /// True if the server keeps payloads as JSON text, out of which it reads some numbers otherwise.
    stores_text: bool,
    pace: Arc<Mutex<RateController>>,
    open: BTreeMap<Option<ShardKey>, Open>,
    queue: Option<mpsc::Sender<Batch<M>>>,
    driver: Option<JoinHandle<Result<Sent>>>,
}

/// Points of one shard key that wait for more.
#[derive(Default)]
struct Open {
    records: Vec<Record>,
    bytes: usize,
}

struct Batch<M> {
    content: Content,
    bytes: usize,
    /// Reached when this and all before it are there.
    mark: Option<M>,
}

impl<M: Send + 'static> Upserts<M> {
    /// Begins to write to `points`, no faster than `limit`, in the form that the server's version reads.
    /// `reached` is called with each mark that is reached, and what was sent so far; what it cannot do
    /// ends the writing.
    pub fn begin(
        points: &Points,
        limit: Option<Rate>,
        reached: impl FnMut(M, Sent) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let server = points.connection.server_info()?;
        let stores_text = points.stores_text(server.numbers())?;
        let pace = Arc::new(Mutex::new(RateController::new(limit)));
        let (queue, batches) = mpsc::channel(WAITING);
        let driver = Driver {
            points: points.clone(),
            pace: Arc::clone(&pace),
            reached: Box::new(reached),
            running: JoinSet::new(),
            done: BTreeMap::new(),
            next: 0,
            sent: Sent::default(),
        };
        Ok(Self {
            points: points.clone(),
            form: VectorForm::of(server.numbers()),
            stores_text,
            pace,
            open: BTreeMap::new(),
            queue: Some(queue),
            driver: Some(points.connection.spawn(driver.drive(batches))),
        })
    }

    /// Writes `record`, at the latest when the next mark is set.
    pub fn send(&mut self, record: Record) -> Result<()> {
        if !self.points.by_rest && !fits(&record) {
            let bytes = record.weight_bytes();
            let key = record.shard_key.clone();
            let points = vec![self.for_rest(record)?];
            return self.push(Content::Rest { points, key }, bytes, None);
        }
        let limit = lock(&self.pace).batch_bytes();
        let key = record.shard_key.clone();
        let open = self.open.entry(key.clone()).or_default();
        open.bytes += record.weight_bytes();
        open.records.push(record);
        if open.bytes < limit
            && open.records.len() < BATCH_POINTS.min(self.points.strict.upsert_max)
        {
            return Ok(());
        }
        let full = std::mem::take(open);
        self.push_open(key, full, None)
    }

    /// Sets a mark after everything that was sent before.
    pub fn mark(&mut self, mark: M) -> Result<()> {
        let mut open: Vec<_> = std::mem::take(&mut self.open)
            .into_iter()
            .filter(|(_, open)| !open.records.is_empty())
            .collect();
        let Some((key, last)) = open.pop() else {
            return self.push(Content::Nothing, 0, Some(mark));
        };
        for (key, open) in open {
            self.push_open(key, open, None)?;
        }
        self.push_open(key, last, Some(mark))
    }

    /// Waits until everything is there.
    pub fn finish(mut self) -> Result<Sent> {
        for (key, open) in std::mem::take(&mut self.open) {
            if !open.records.is_empty() {
                self.push_open(key, open, None)?;
            }
        }
        self.queue = None;
        self.end()
    }

    fn push_open(&mut self, key: Option<ShardKey>, open: Open, mark: Option<M>) -> Result<()> {
        let records = open.records.into_iter();
        let content = match self.points.by_rest {
            true => Content::Rest {
                points: records
                    .map(|record| self.for_rest(record))
                    .collect::<Result<_>>()?,
                key,
            },
            false => Content::Grpc {
                points: records
                    .map(|mut record| {
                        self.before_storage(&mut record);
                        point_to(record, self.form)
                    })
                    .collect(),
                key,
            },
        };
        self.push(content, open.bytes, mark)
    }

    /// Has the record's numbers be those of whose stored text a server reads them.
    fn before_storage(&self, record: &mut Record) {
        if self.stores_text {
            to_be_read_back(&mut record.payload);
        }
    }

    /// A point as REST takes it; its shard key goes beside it.
    fn for_rest(&self, mut record: Record) -> Result<Value> {
        self.before_storage(&mut record);
        // And once more, since the request is text, too.
        to_be_read_back(&mut record.payload);
        let shown = AsScrolled {
            record: &Record {
                shard_key: None,
                ..record
            },
            with_vectors: true,
        };
        serde_json::to_value(&shown).map_err(|err| Error::failed("preparing a point for REST", err))
    }

    fn push(&mut self, content: Content, bytes: usize, mark: Option<M>) -> Result<()> {
        let batch = Batch {
            content,
            bytes,
            mark,
        };
        let doing = format!("writing points to {}", self.points.what);
        let queue = self.queue.as_ref();
        let sent = self.points.connection.run(&doing, async {
            Ok::<_, Error>(match queue {
                Some(queue) => queue.send(batch).await.is_ok(),
                None => false,
            })
        })?;
        if sent {
            return Ok(());
        }
        // It does not listen any more: it has failed, and knows why.
        self.end()
            .and_then(|_| Err(Error::failed(doing, "the thread that sends them has ended")))
    }

    fn end(&mut self) -> Result<Sent> {
        let doing = format!("writing points to {}", self.points.what);
        let Some(driver) = self.driver.take() else {
            return Err(Error::failed(doing, "it has ended already"));
        };
        let abort = driver.abort_handle();
        let ended = self.points.connection.run(&doing, async {
            driver
                .await
                .unwrap_or_else(|err| Err(Error::failed("writing points", err)))
        });
        if ended.is_err() {
            abort.abort();
        }
        ended
    }
}

impl<M> Drop for Upserts<M> {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver {
            driver.abort();
        }
    }
}

/// Sends batches as the pace allows, and calls out marks.
struct Driver<M> {
    points: Points,
    pace: Arc<Mutex<RateController>>,
    reached: Box<dyn FnMut(M, Sent) -> Result<()> + Send>,
    running: JoinSet<Result<(u64, Sent)>>,
    /// Batches that are under way, or wait for one before them: none while it is not acknowledged.
    done: BTreeMap<u64, (bool, Option<M>)>,
    next: u64,
    sent: Sent,
}

impl<M: Send + 'static> Driver<M> {
    async fn drive(mut self, mut batches: mpsc::Receiver<Batch<M>>) -> Result<Sent> {
        let mut open = true;
        while open || !self.running.is_empty() {
            let room = self.running.len() < lock(&self.pace).at_once();
            tokio::select! {
                biased;
                Some(ended) = self.running.join_next() => self.ended(ended)?,
                batch = batches.recv(), if open && room => match batch {
                    Some(batch) => self.start(batch).await?,
                    None => open = false,
                },
            }
        }
        Ok(self.sent)
    }

    async fn start(&mut self, batch: Batch<M>) -> Result<()> {
        let number = self.next;
        self.next += 1;
        let wait = batch.mark.is_some();
        self.done.insert(number, (false, batch.mark));
        if let Content::Nothing = batch.content {
            return self.acknowledged(number);
        }
        let pause = lock(&self.pace).wait(batch.bytes);
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
        let (points, pace) = (self.points.clone(), Arc::clone(&self.pace));
        self.running.spawn(async move {
            let mut sent = Sent::default();
            points
                .upsert(batch.content, batch.bytes, wait, &pace, &mut sent)
                .await?;
            Ok((number, sent))
        });
        Ok(())
    }

    fn ended(&mut self, ended: Result<Result<(u64, Sent)>, tokio::task::JoinError>) -> Result<()> {
        let (number, sent) = ended
            .map_err(|err| Error::failed("writing points", format!("a task ended: {err}")))??;
        self.sent.points += sent.points;
        self.sent.batches += sent.batches;
        self.sent.bytes += sent.bytes;
        self.sent.again += sent.again;
        self.acknowledged(number)
    }

    fn acknowledged(&mut self, number: u64) -> Result<()> {
        if let Some((done, _)) = self.done.get_mut(&number) {
            *done = true;
        }
        while let Some(first) = self.done.first_entry() {
            if !first.get().0 {
                break;
            }
            if let (_, Some(mark)) = first.remove() {
                (self.reached)(mark, self.sent)?;
            }
        }
        Ok(())
    }
}

impl Points {
    /// Writes a batch, in halves where it is too large, again where the server is under pressure.
    async fn upsert(
        &self,
        content: Content,
        bytes: usize,
        wait: bool,
        pace: &Mutex<RateController>,
        sent: &mut Sent,
    ) -> Result<()> {
        let mut left = vec![(content, bytes)];
        // A server under pressure is given more time than one that fails.
        let retries = self.connection.settings().retries.saturating_mul(2);
        let mut retry = Retry::new(RetryOn::Any, retries);
        while let Some((content, bytes)) = left.pop() {
            // Only the last one has to wait: it is applied after the others.
            let failed = match self.upsert_once(&content, wait && left.is_empty()).await {
                Ok(()) => {
                    lock(pace).well();
                    sent.points += content.points() as u64;
                    sent.batches += 1;
                    sent.bytes += bytes as u64;
                    continue;
                }
                Err(failed) => failed,
            };
            sent.again += 1;
            let Failed { failure, act } = failed;
            match act {
                Act::Halve { size } if content.points() > 1 => {
                    if size {
                        lock(pace).smaller(bytes);
                    }
                    let (first, second) = content.halves();
                    left.push((second, bytes / 2));
                    left.push((first, bytes / 2));
                    continue;
                }
                Act::Slower => {
                    if let Some(delay) = retry.delay(&failure) {
                        lock(pace).slower();
                        tokio::time::sleep(delay).await;
                        left.push((content, bytes));
                        continue;
                    }
                }
                Act::Halve { .. } | Act::GiveUp => {}
            }
            let error = retry.exhausted(failure).error;
            return Err(match content.only_id() {
                Some(id) => error.within(format!("point {id}")),
                None => error,
            });
        }
        Ok(())
    }

    async fn upsert_once(&self, content: &Content, wait: bool) -> Result<(), Failed> {
        let doing = format!("writing points to {}", self.what);
        match content {
            Content::Nothing => Ok(()),
            Content::Grpc { points, key } => {
                let request = proto::UpsertPoints {
                    collection_name: self.collection.clone(),
                    wait: Some(wait),
                    points: points.clone(),
                    shard_key_selector: selector(key.as_ref()),
                    ..proto::UpsertPoints::default()
                };
                let mut client = self.client.clone();
                let answer = tokio::time::timeout(BATCH_TIMEOUT, client.upsert(request)).await;
                match answer {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(status)) => Err(Failed {
                        failure: failure::of(&doing, &self.connection, &status),
                        act: act_of(&status),
                    }),
                    Err(_) => Err(Failed {
                        failure: failure::late(&doing, &self.connection),
                        act: Act::Slower,
                    }),
                }
            }
            Content::Rest { points, key } => {
                let mut body = json!({"points": points});
                if let (Some(body), Some(key)) = (body.as_object_mut(), key) {
                    body.insert("shard_key".into(), json!(key));
                }
                let call = self
                    .call(Method::PUT, "writing points to", "")
                    .query("wait", wait.to_string())
                    .body(body)
                    .patience(CallTimeout::For(BATCH_TIMEOUT));
                let answer: Result<Value, Failure> = self.connection.asked_raw(&call).await;
                answer.map(|_| ()).map_err(|failure| Failed {
                    act: match failure.cause {
                        Cause::Status(413) => Act::Halve { size: true },
                        Cause::Status(400) => Act::Halve { size: false },
                        cause if cause.may_pass() => Act::Slower,
                        _ => Act::GiveUp,
                    },
                    failure,
                })
            }
        }
    }
}

/// A batch that failed.
struct Failed {
    failure: Failure,
    act: Act,
}

/// Action after a failed batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Try each half: it was too large, if `size`, or one point of it is refused, and then the
    /// error is to name that one.
    Halve { size: bool },
    /// Try again, later, with fewer at once.
    Slower,
    /// Nothing helps.
    GiveUp,
}

fn act_of(status: &tonic::Status) -> Act {
    match status.code() {
        Code::OutOfRange => Act::Halve { size: true },
        // Said of messages that are too large, and of calls that are too many; those come with the
        // time to wait.
        Code::ResourceExhausted if failure::retry_after(status).is_none() => {
            Act::Halve { size: true }
        }
        Code::InvalidArgument => Act::Halve { size: false },
        Code::ResourceExhausted
        | Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Cancelled
        | Code::Internal
        | Code::Unknown => Act::Slower,
        _ => Act::GiveUp,
    }
}

fn lock(pace: &Mutex<RateController>) -> MutexGuard<'_, RateController> {
    pace.lock().unwrap_or_else(PoisonError::into_inner)
}
