//! Reading all points in the order of ids, several ranges at once.
//!
//! Ids alone are scrolled ahead, which costs next to nothing, and cut the collection into ranges;
//! the ranges are then read side by side, with vectors and payload, and handed on in their order.
//! The ranges cover all ids that can be, so that nothing falls between two of them.
//!
//! Invariants: memory is bounded by the size of a page times the ranges that are read at once; each
//! point that is there from beginning to end comes once, by ascending id.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{TryStreamExt as _, stream};
use qdrant_client::qdrant as proto;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::convert::{Converted, id_from, id_to, mend, record_from, selector};
use super::{LONG, Points};
use crate::base::error::{Error, Result};
use crate::point::{PointId, Record, Sample};
use crate::server::call::CallTimeout;
use crate::server::failure::{Cause, Failure};
use crate::server::retry::RetryOn;

/// Ranges that are read at once.
const AT_ONCE: usize = 4;
/// Points of a first range, when nothing is known about their size.
const FIRST_POINTS: usize = 64;
/// Bounds of the later ranges, in points.
const RANGE_POINTS: std::ops::RangeInclusive<usize> = 16..=8192;
/// Bounds of a range, in bytes.
const RANGE_BYTES: std::ops::RangeInclusive<usize> = (64 << 10)..=(2 << 20);
/// Ids that are scrolled at once where ids are all that is wanted.
const IDS_AT_ONCE: usize = 20_000;

/// A part of the collection.
enum Range {
    /// From one id up to another, or to the end; how many points were seen there.
    Span {
        from: PointId,
        until: Option<PointId>,
        points: usize,
    },
    /// These points: what matched a filter, or is in a sample.
    These(Vec<PointId>),
}

/// Position of a scroll of ids.
enum Place {
    Start,
    At(PointId),
    End,
}

impl Points {
    /// Calls `take` with the records, ascending by id, in pages of about `page_bytes` bytes and
    /// less, until the end or until `take` wants no more: all of them, or those that match `filter`
    /// and are in `sample`.
    pub fn read(
        &self,
        filter: Option<&Value>,
        sample: Option<Sample>,
        page_bytes: usize,
        mut take: impl FnMut(Vec<Record>) -> bool,
    ) -> Result<()> {
        let doing = format!("reading {}", self.what);
        let range_bytes = (page_bytes / AT_ONCE).clamp(*RANGE_BYTES.start(), *RANGE_BYTES.end());
        self.connection.run(&doing, async {
            let limit = Arc::new(AtomicUsize::new(FIRST_POINTS));
            let ranges = stream::try_unfold(Place::Start, |place| {
                self.next_range(place, filter, sample, limit.load(Ordering::Relaxed))
            });
            let pages = ranges
                .map_ok(|range| {
                    let (points, limit) = (self.clone(), Arc::clone(&limit));
                    let task = tokio::spawn(async move {
                        let records = points.read_range(range).await?;
                        let bytes: usize = records.iter().map(Record::weight_bytes).sum();
                        if let Some(mean) = bytes.checked_div(records.len()) {
                            let points = (range_bytes / mean.max(1))
                                .clamp(*RANGE_POINTS.start(), *RANGE_POINTS.end());
                            limit.store(points, Ordering::Relaxed);
                        }
                        Ok(records)
                    });
                    async move {
                        let _stop = StopWhenDropped(task.abort_handle());
                        task.await.map_err(|err| {
                            Error::failed("reading points", format!("a task ended: {err}"))
                        })?
                    }
                })
                .try_buffered(AT_ONCE);
            let mut pages = std::pin::pin!(pages);
            while let Some(records) = pages.try_next().await? {
                if !records.is_empty() && !take(records) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Calls `take` with all ids, ascending, until the end or until `take` wants no more.
    pub fn ids(&self, mut take: impl FnMut(&[PointId]) -> bool) -> Result<()> {
        let doing = format!("reading the ids of {}", self.what);
        self.connection.run(&doing, async {
            let mut from = None;
            loop {
                let (ids, next) = self.some_ids(from, None, IDS_AT_ONCE).await?;
                if !take(&ids) || next.is_none() {
                    return Ok(());
                }
                from = next;
            }
        })
    }

    async fn next_range(
        &self,
        place: Place,
        filter: Option<&Value>,
        sample: Option<Sample>,
        limit: usize,
    ) -> Result<Option<(Range, Place)>> {
        let from = match place {
            Place::Start => None,
            Place::At(id) => Some(id),
            Place::End => return Ok(None),
        };
        // Of a sample, so many ids are looked at that about as many are left.
        let limit = sample.map_or(limit, |sample| sample.among(limit).min(IDS_AT_ONCE));
        let (mut ids, next) = self.some_ids(from, filter, limit).await?;
        ids.retain(|id| sample.is_none_or(|sample| sample.keeps(*id)));
        let place = next.map_or(Place::End, Place::At);
        let range = match (filter, sample) {
            (Some(_), _) | (_, Some(_)) => Range::These(ids),
            (None, None) => Range::Span {
                // The first range begins where ids begin.
                from: from.unwrap_or(PointId::Num(0)),
                until: next,
                points: ids.len(),
            },
        };
        Ok(Some((range, place)))
    }

    /// At most `limit` ids from `from` on, and the one that comes next.
    async fn some_ids(
        &self,
        from: Option<PointId>,
        filter: Option<&Value>,
        limit: usize,
    ) -> Result<(Vec<PointId>, Option<PointId>)> {
        let limit = limit.min(self.strict.page_max);
        if filter.is_none() && !self.by_rest {
            let page = self.scroll(from, limit, false).await?;
            let ids = page.result.into_iter().map(|point| id_from(point.id));
            let ids = ids.collect::<Result<Vec<_>, _>>();
            let next = page.next_page_offset.map(|id| id_from(Some(id)));
            return match (ids, next.transpose()) {
                (Ok(ids), Ok(next)) => Ok((ids, next)),
                (Err(why), _) | (_, Err(why)) => Err(self.unreadable(why)),
            };
        }
        #[derive(Deserialize)]
        struct Page {
            points: Vec<Point>,
            next_page_offset: Option<PointId>,
        }
        #[derive(Deserialize)]
        struct Point {
            id: PointId,
        }
        let page: Page = self.scroll_by_rest(from, filter, limit, false).await?;
        let ids = page.points.into_iter().map(|point| point.id).collect();
        Ok((ids, page.next_page_offset))
    }

    async fn scroll_by_rest<T: serde::de::DeserializeOwned>(
        &self,
        from: Option<PointId>,
        filter: Option<&Value>,
        limit: usize,
        whole: bool,
    ) -> Result<T, Failure> {
        let mut body = json!({
            "limit": limit, "offset": from, "with_payload": whole, "with_vector": whole,
        });
        self.choose(&mut body, filter);
        let call = self
            .call(Method::POST, "reading points of", "scroll")
            .body(body)
            .patience(CallTimeout::For(LONG));
        self.connection.asked(&call).await
    }

    /// A page from `from` on, with everything or with ids alone.
    async fn scroll(
        &self,
        from: Option<PointId>,
        limit: usize,
        whole: bool,
    ) -> Result<proto::ScrollResponse, Failure> {
        use proto::{with_payload_selector, with_vectors_selector};
        let doing = format!("reading points of {}", self.what);
        let request = proto::ScrollPoints {
            collection_name: self.collection.clone(),
            offset: from.map(id_to),
            limit: Some(u32::try_from(limit).unwrap_or(u32::MAX)),
            with_payload: Some(proto::WithPayloadSelector {
                selector_options: Some(with_payload_selector::SelectorOptions::Enable(whole)),
            }),
            with_vectors: Some(proto::WithVectorsSelector {
                selector_options: Some(with_vectors_selector::SelectorOptions::Enable(whole)),
            }),
            shard_key_selector: selector(self.key.as_ref()),
            ..proto::ScrollPoints::default()
        };
        self.again(&doing, RetryOn::TransientExcept500, || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.scroll(request).await }
        })
        .await
    }

    async fn read_range(&self, range: Range) -> Result<Vec<Record>> {
        let (mut from, until, points) = match range {
            Range::These(ids) => return self.clone().get_some(ids).await,
            Range::Span {
                from,
                until,
                points,
            } => (from, until, points.max(1)),
        };
        let mut records = Vec::with_capacity(points);
        // More than once only if points came in between.
        loop {
            let (page, next) = self.page(from, points).await?;
            let inside = |id: PointId| until.is_none_or(|until| id < until);
            records.extend(page.into_iter().filter(|record| inside(record.id)));
            match next {
                Some(next) if inside(next) => from = next,
                _ => return Ok(records),
            }
        }
    }

    /// The records from `from` on, `limit` at the most, and the id that comes next.
    async fn page(&self, from: PointId, limit: usize) -> Result<(Vec<Record>, Option<PointId>)> {
        let limit = limit.min(self.strict.page_max);
        if self.by_rest {
            return self.page_by_rest(from, limit).await?;
        }
        let page = match self.scroll(Some(from), limit, true).await {
            Ok(page) => page,
            // A payload that nests too deep for a message fails here, and not on the server.
            Err(failure) if failure.cause == Cause::Status(500) => {
                let page = self.page_by_rest(from, limit).await;
                return page.map_err(|_| failure.error)?;
            }
            Err(failure) => return Err(failure.error),
        };
        let next = page.next_page_offset.map(|id| id_from(Some(id)));
        let next = next.transpose().map_err(|why| self.unreadable(why))?;
        Ok((self.converted(page.result).await?, next))
    }

    /// The same over REST; the outer result tells whether the server answered.
    async fn page_by_rest(
        &self,
        from: PointId,
        limit: usize,
    ) -> Result<Result<(Vec<Record>, Option<PointId>)>, Failure> {
        #[derive(Deserialize)]
        struct Page {
            points: Vec<Value>,
            next_page_offset: Option<PointId>,
        }
        let page: Page = self.scroll_by_rest(Some(from), None, limit, true).await?;
        Ok(self
            .records(page.points)
            .map(|records| (records, page.next_page_offset)))
    }

    pub(super) async fn get_some(self, ids: Vec<PointId>) -> Result<Vec<Record>> {
        use proto::{with_payload_selector, with_vectors_selector};
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        if self.by_rest {
            return self.get_by_rest(&ids).await;
        }
        let doing = format!("reading points of {}", self.what);
        let request = proto::GetPoints {
            collection_name: self.collection.clone(),
            ids: ids.iter().copied().map(id_to).collect(),
            with_payload: Some(proto::WithPayloadSelector {
                selector_options: Some(with_payload_selector::SelectorOptions::Enable(true)),
            }),
            with_vectors: Some(proto::WithVectorsSelector {
                selector_options: Some(with_vectors_selector::SelectorOptions::Enable(true)),
            }),
            shard_key_selector: selector(self.key.as_ref()),
            ..proto::GetPoints::default()
        };
        let got = self
            .again(&doing, RetryOn::TransientExcept500, || {
                let (mut client, request) = (self.client.clone(), request.clone());
                async move { client.get(request).await }
            })
            .await;
        match got {
            Ok(got) => self.converted(got.result).await,
            Err(failure) if failure.cause == Cause::Status(500) => {
                self.get_by_rest(&ids).await.map_err(|_| failure.error)
            }
            Err(failure) => Err(failure.error),
        }
    }

    /// Records of gRPC's points, by id; those that gRPC may have changed are asked for again over REST.
    async fn converted(&self, points: Vec<proto::RetrievedPoint>) -> Result<Vec<Record>> {
        let mut unsure = Vec::new();
        let mut records = Vec::with_capacity(points.len());
        for point in points {
            let converted = record_from(point).map_err(|why| self.unreadable(why))?;
            let Converted { record, unsure: is } = converted;
            if is {
                unsure.push(record.id);
            }
            records.push(record);
        }
        records.sort_by_key(|record| record.id);
        if !unsure.is_empty() {
            for sure in self.get_by_rest(&unsure).await? {
                if let Ok(at) = records.binary_search_by_key(&sure.id, |record| record.id)
                    && let Some(record) = records.get_mut(at)
                {
                    mend(&mut record.payload, &sure.payload);
                }
            }
        }
        Ok(records)
    }

    pub(super) fn unreadable(&self, why: String) -> Error {
        Error::failed(format!("reading points of {}", self.what), why)
    }
}

/// Ends a task when nobody waits for it any more.
struct StopWhenDropped(tokio::task::AbortHandle);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.abort();
    }
}
