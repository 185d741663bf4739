//! Small collections of one server streamed ahead, a few at once and between two looks at its telemetry.
//!
//! The proof that a capture is of one history is a look at the telemetry before its first byte and one after
//! its last ([`super::looks`]). A look tells of every collection of the server, so that looking for each of
//! thousands of them costs the square of their number. Here they share: all of a set are streamed, one after
//! the other at the ends of a few connections, and only then the first of them is stored, with a look that was
//! asked for after all of them had been read; the others use the same one, and the next set begins with it.
//!
//! Invariants: only what the server says is small is streamed ahead, up to a limit in all, so that the disk has
//! room for the largest collection or for one set; a collection that does not fit, or of whose proof
//! something is missing, is captured by itself between looks of its own; what was streamed ahead and is not
//! stored is removed.

use std::sync::atomic::{AtomicU64, Ordering};

use super::increment::{Newer, StoredBase, compared, whole_stored};
use super::journal::Work;
use super::proof::TelemetryAge;
use super::unfit::Unfit;
use super::whole::{Whole, streamed_base};
use super::{CaptureOptions, Captured, Incremental, Storing, capture_into, ended, open_work};
use crate::archive::Added;
use crate::base::error::{Kind, Result};
use crate::base::parallel::in_parallel;
use crate::base::progress::{Progress, Unit};
use crate::base::stop;

/// Collections that are streamed ahead together.
pub const TOGETHER_MAX: usize = 128;
/// Bytes of vectors and payloads up to which a collection is streamed ahead.
const SMALL_BYTES_MAX: u64 = 64 << 20;
/// Bytes from which on no more collections are streamed ahead.
const TOGETHER_BYTES_MAX: u64 = 1 << 30;
/// Collections that are streamed at the same time.
const AT_ONCE: usize = 4;

/// A collection that was streamed ahead.
pub struct Ahead(Streamed);

enum Streamed {
    Newer(Box<(Newer, StoredBase)>),
    Whole(Box<StreamedWhole>),
}

struct StreamedWhole {
    work: Work,
    whole: Whole,
    why: String,
    /// The entry before, if it was to be whole since one of so many is.
    older: Option<StoredBase>,
}

/// Streams the first of `captures`, which are of one server: for each what came of it, or none if it is to be
/// captured by itself. Those behind were not begun.
pub fn stream_ahead(
    captures: &[(CaptureOptions<'_>, Storing<'_>)],
) -> Result<Vec<Result<Option<Ahead>>>> {
    let first = match captures {
        [] => return Ok(Vec::new()),
        // Nobody is there to share a look with.
        [_] => return Ok(vec![Ok(None)]),
        [(first, _), ..] => first,
    };
    // A rate is one of each connection.
    let at_once = if first.rate.is_some() { 1 } else { AT_ONCE };
    let doing = format!("stream {} collections ahead", captures.len());
    let stage = first.progress.stage(&doing, None, Unit::Bytes);
    let read = AtomicU64::new(0);
    let started = captures
        .iter()
        .take(TOGETHER_MAX)
        .take_while(|_| read.load(Ordering::Relaxed) < TOGETHER_BYTES_MAX);
    in_parallel(started, at_once, |(request, storing)| {
        if stop::times() > 0 {
            let doing = format!("capturing {}", request.collection);
            return Ok(Err(stop::cancelled(&doing)));
        }
        let request = CaptureOptions {
            progress: Progress::Quiet,
            ..*request
        };
        let ahead = Ahead::stream(&request, storing);
        if let Ok(Some(ahead)) = &ahead {
            read.fetch_add(ahead.bytes(), Ordering::Relaxed);
            stage.add(ahead.bytes());
        }
        Ok(ahead)
    })
}

impl Ahead {
    /// Streams a collection; none if it is to be captured by itself.
    fn stream(request: &CaptureOptions<'_>, storing: &Storing<'_>) -> Result<Option<Self>> {
        match Streamed::of(request, storing) {
            Ok(streamed) => Ok(streamed.map(Self)),
            Err(Unfit::Why(_)) => Ok(None),
            Err(Unfit::Failed(err)) if err.kind() == Kind::Cancelled => Err(err),
            // It is told if it fails by itself, too.
            Err(Unfit::Failed(_)) => Ok(None),
        }
    }

    fn bytes(&self) -> u64 {
        match &self.0 {
            Streamed::Newer(newer) => newer.0.bytes(),
            Streamed::Whole(streamed) => streamed.whole.bytes(),
        }
    }

    /// Stores it as [`capture_into`] does, which is done if something came in between.
    pub fn store(
        self,
        request: &CaptureOptions<'_>,
        storing: &Storing<'_>,
    ) -> Result<(Captured, Added)> {
        let stored = match self.0 {
            Streamed::Newer(newer) => newer.0.store(request, storing, &newer.1),
            Streamed::Whole(streamed) => streamed.store(request, storing),
        };
        match stored {
            Ok((mut captured, added)) => {
                captured.manifest.partial = None;
                Ok((captured, added))
            }
            Err(unfit) => {
                unfit.why()?;
                capture_into(request, storing)
            }
        }
    }

    /// Removes what was streamed.
    pub fn discard(self) -> Result<()> {
        match self.0 {
            Streamed::Newer(newer) => newer.0.discard(),
            Streamed::Whole(streamed) => streamed.work.remove(),
        }
    }
}

impl Streamed {
    fn of(request: &CaptureOptions<'_>, storing: &Storing<'_>) -> Result<Option<Self>, Unfit> {
        let (members, collection) = (request.members, request.collection);
        if storing.options.incremental == Incremental::Off {
            return Ok(None);
        }
        let look = members.looks().before(&members.first)?;
        if look
            .bytes(collection)
            .is_none_or(|bytes| bytes > SMALL_BYTES_MAX)
        {
            return Ok(None);
        }
        let (older, why) = match StoredBase::find(storing, collection) {
            Ok(base) => match base.why_due(storing) {
                None => {
                    let newer = Newer::stream(request, &base, TelemetryAge::Shared)?;
                    return Ok(Some(Self::Newer(Box::new((newer, base)))));
                }
                Some(why) => (Some(base), why),
            },
            Err(unfit) => (None, unfit.why()?),
        };
        let work = open_work(request)?;
        // What an earlier run began is finished or cleared away by itself.
        if work.journal.is_some() {
            return Ok(None);
        }
        match streamed_base(request, &work, TelemetryAge::Shared) {
            Ok(whole) => Ok(Some(Self::Whole(Box::new(StreamedWhole {
                work,
                whole,
                why,
                older,
            })))),
            Err(unfit) => {
                // Why it does not fit is found again by itself.
                let _ = work.remove();
                Err(unfit)
            }
        }
    }
}

impl StreamedWhole {
    fn store(
        self,
        request: &CaptureOptions<'_>,
        storing: &Storing<'_>,
    ) -> Result<(Captured, Added), Unfit> {
        let Self {
            mut work,
            whole,
            why,
            older,
        } = self;
        let captured = match whole.publish(request, &mut work) {
            Ok(captured) => ended(request, work, Ok(captured))?,
            Err(unfit) => {
                work.remove()?;
                return Err(unfit);
            }
        };
        let done = whole_stored(captured, storing, why)?;
        Ok(match older {
            Some(older) => compared(storing, &older, true, done)?,
            None => done,
        })
    }
}
