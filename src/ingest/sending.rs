//! Points on their way into a live collection.
//!
//! Invariants: every point that is sent is read back and compared; one that seems to differ is read again until the
//! server has nothing left to do; memory is bounded by some windows.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::report::LiveCollectionReport;
use crate::base::error::{Error, Result};
use crate::base::progress::Stage;
use crate::build::{ByKey, LiveTarget, LookupBatcher, Pair};
use crate::format::schema::CollectionConfig;
use crate::point::Record;
use crate::server::points::{Points, Upserts};
use crate::server::{CollectionInfo, Polling, Rate};
use crate::verify::{Likeness, Nearness};

/// Bytes of points that are written before they are read back, at about.
const WINDOW_BYTES: usize = 16 << 20;
/// Windows that wait to be read back.
const WINDOWS: usize = 2;
/// Interval and number of reads of points that seemed to differ.
pub(super) const POLLING: Polling = Polling::every(Duration::from_millis(200));
/// Times in a row that the server has nothing left to do before a point that still differs does.
const RESTS: u32 = 5;
/// For how long, unless the server says before that it has nothing left to do: while it optimizes, a point that moves
/// from one segment to another is not always found.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of points that seemed to differ, or not to be there, until they are looked at again.
pub(super) const DOUBTED_BYTES: usize = 64 << 20;

/// Points on their way, in windows that are read back when they are applied.
pub(super) struct Sending<'a> {
    upserts: Upserts<()>,
    /// Told of each window that is applied, in their order.
    windows: Receiver<()>,
    open: Vec<Record>,
    bytes: usize,
    waiting: VecDeque<Vec<Record>>,
    /// Points that seemed to differ, to be read again.
    doubted: Doubted,
    /// Points that were not found, to be looked for again before they are written.
    pub unfound: Doubted,
    pub there: &'a ByKey,
    pub target: &'a LiveTarget,
    pub nearness: Nearness,
    pub stage: &'a Stage,
}

impl<'a> Sending<'a> {
    /// To the collection `target` with `config`, whose points are `there`, no more than `limit` bytes a second.
    pub fn begin(
        target: &'a LiveTarget,
        there: &'a ByKey,
        config: &CollectionConfig,
        limit: Option<Rate>,
        stage: &'a Stage,
    ) -> Result<Self> {
        let (reached, windows) = channel();
        let points = Points::new(&target.connection, target.name(), None)?;
        let upserts = Upserts::begin(&points, limit, move |(), _| {
            // Nobody waits for it any more when the work has failed elsewhere.
            let _ = reached.send(());
            Ok(())
        })?;
        Ok(Self {
            upserts,
            windows,
            open: Vec::new(),
            bytes: 0,
            waiting: VecDeque::new(),
            doubted: Doubted::default(),
            unfound: Doubted::default(),
            there,
            target,
            nearness: Nearness::new(config),
            stage,
        })
    }

    /// Sends a point.
    pub fn send(&mut self, record: Record, report: &mut LiveCollectionReport) -> Result<()> {
        self.bytes += record.weight_bytes();
        self.upserts.send(record.clone())?;
        self.open.push(record);
        match self.bytes >= WINDOW_BYTES {
            true => self.close_window(report),
            false => Ok(()),
        }
    }

    fn close_window(&mut self, report: &mut LiveCollectionReport) -> Result<()> {
        self.bytes = 0;
        let window = std::mem::take(&mut self.open);
        if window.is_empty() {
            return Ok(());
        }
        self.upserts.mark(())?;
        self.waiting.push_back(window);
        if self.waiting.len() > WINDOWS {
            // If it does not come, the end tells why.
            self.read_back(report)?;
        }
        Ok(())
    }

    /// Reads the oldest window back; false if it will not come.
    fn read_back(&mut self, report: &mut LiveCollectionReport) -> Result<bool> {
        if self.windows.recv().is_err() {
            return Ok(false);
        }
        let window = self.waiting.pop_front().unwrap_or_default();
        self.stage.add(window.len() as u64);
        let differing = self.compare(window, report)?;
        differing
            .into_iter()
            .for_each(|record| self.doubted.add(record));
        if self.doubted.bytes > DOUBTED_BYTES {
            self.confirm_doubted(report)?;
        }
        Ok(true)
    }

    /// Compares `given` with what is there; returns those that differ.
    fn compare(
        &self,
        given: Vec<Record>,
        report: &mut LiveCollectionReport,
    ) -> Result<Vec<Record>> {
        let mut differing = Vec::new();
        let mut lookup = LookupBatcher::new(self.there);
        let mut on = |(given, own): Pair| {
            match own.map(|own| self.nearness.compare(&given, &own)) {
                Some(Likeness::Equal) => report.proven += 1,
                Some(Likeness::Near(_)) => {
                    report.proven += 1;
                    report.near += 1;
                }
                Some(Likeness::Different) | None => differing.push(given),
            }
            Ok(())
        };
        for record in given {
            lookup.add(record, &mut on)?;
        }
        lookup.flush(&mut on)?;
        Ok(differing)
    }

    /// Reads points that seemed to differ again, until they do not or the server has nothing left to do.
    fn confirm_doubted(&mut self, report: &mut LiveCollectionReport) -> Result<()> {
        let doing = format!("reading points of {} again", self.target.address);
        let started = Instant::now();
        let mut resting = Resting::default();
        let connection = &self.target.connection;
        connection.wait_until::<_, Error>(&doing, POLLING, || {
            if self.doubted.points.is_empty() {
                return Ok(Some(()));
            }
            let is_over = resting.is_over(&self.target.info()?);
            let is_last = is_over || started.elapsed() > PATIENCE;
            let doubted = self.doubted.take();
            let differing = self.compare(doubted, report)?;
            differing
                .into_iter()
                .for_each(|record| self.doubted.add(record));
            Ok(is_last.then_some(()))
        })?;
        (self.doubted.take().iter()).for_each(|record| report.differs(record.id));
        Ok(())
    }

    /// Reads everything back that was sent, as far as it comes.
    pub fn drain(&mut self, report: &mut LiveCollectionReport) -> Result<()> {
        self.close_window(report)?;
        while !self.waiting.is_empty() && self.read_back(report)? {}
        Ok(())
    }

    /// Waits until all are there, and reads the last of them back.
    pub fn finish(mut self, report: &mut LiveCollectionReport) -> Result<()> {
        self.drain(report)?;
        if self.waiting.is_empty() {
            self.confirm_doubted(report)?;
        }
        // What ended it early is told here.
        self.upserts.finish()?;
        match self.waiting.is_empty() {
            true => Ok(()),
            false => Err(Error::failed(
                format!("writing points to {}", report.collection),
                "the server did not say that it has them",
            )),
        }
    }
}

/// Points that are looked at again.
#[derive(Default)]
pub(super) struct Doubted {
    pub points: Vec<Record>,
    pub bytes: usize,
}

impl Doubted {
    pub fn add(&mut self, record: Record) {
        self.bytes += record.weight_bytes();
        self.points.push(record);
    }

    pub fn take(&mut self) -> Vec<Record> {
        self.bytes = 0;
        std::mem::take(&mut self.points)
    }
}

/// Whether a server has nothing left to do: what is still in the queue is not told by the first green.
#[derive(Default)]
pub(super) struct Resting {
    /// Times in a row that it had nothing.
    times: u32,
}

impl Resting {
    pub fn is_over(&mut self, info: &CollectionInfo) -> bool {
        // Grey: it optimizes only with the next update.
        let is_still = info.is_green() || info.status == "grey";
        self.times = match is_still && info.queued() == 0 && info.deferred() == 0 {
            true => self.times + 1,
            false => 0,
        };
        self.times >= RESTS
    }
}
