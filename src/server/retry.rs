//! The one retry policy of everything that talks to servers, and the one way to wait for a state.
//!
//! Invariants: an attempt is repeated only for a cause that may pass, and only where repeating it
//! means the same; delays grow up to a limit, differ between clients, and follow the server's
//! Retry-After up to a limit; whoever sleeps here is woken by the wish to stop
//! ([`crate::base::stop`]). What decides ([`Retry::delay`], [`Polling::delays`]) reads no clock.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use super::Connection;
use super::failure::{Cause, Failure};
use crate::base::error::{Error, Result};

/// The first delay; each further one is twice as long, with a random part that is no longer.
const DELAY_FIRST: Duration = Duration::from_millis(150);
/// The longest delay before its random part.
const DELAY_MAX: Duration = Duration::from_secs(10);
/// The longest Retry-After that is followed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);

/// Which failures another attempt is made after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    /// Every failure: whoever asks has seen itself that it may pass.
    Any,
    /// Every cause that may pass: the attempt is idempotent.
    Transient,
    /// The same without status 500, after which the server, or this side's decoder, would only fail
    /// the same way again.
    TransientExcept500,
    /// Only what the server did not take: no connection came about, or it answered 429.
    NotAccepted,
}

impl RetryOn {
    fn covers(self, cause: Cause) -> bool {
        match self {
            Self::Any => true,
            Self::Transient => cause.may_pass(),
            Self::TransientExcept500 => cause.may_pass() && cause != Cause::Status(500),
            Self::NotAccepted => matches!(cause, Cause::Unreachable | Cause::Status(429)),
        }
    }
}

/// The attempts of one piece of work.
#[derive(Debug)]
pub struct Retry {
    on: RetryOn,
    builder: ExponentialBuilder,
    delays: ExponentialBackoff,
    failed: u32,
}

impl Retry {
    /// At most `retries` attempts after the first one.
    pub fn new(on: RetryOn, retries: u32) -> Self {
        let builder = ExponentialBuilder::new()
            .with_min_delay(DELAY_FIRST)
            .with_max_delay(DELAY_MAX)
            .with_max_times(usize::try_from(retries).unwrap_or(usize::MAX))
            .with_jitter();
        Self {
            on,
            builder,
            delays: builder.build(),
            failed: 0,
        }
    }

    /// Counts an attempt that failed; how long to sleep before the next one, or none if there is to be
    /// none.
    pub fn delay(&mut self, failure: &Failure) -> Option<Duration> {
        self.failed += 1;
        if !self.on.covers(failure.cause) {
            return None;
        }
        let delay = self.delays.next()?;
        Some(match failure.retry_after {
            Some(asked) => asked.min(RETRY_AFTER_MAX),
            None => delay,
        })
    }

    /// Something was achieved: the attempts are counted anew.
    pub fn reset(&mut self) {
        self.delays = self.builder.build();
        self.failed = 0;
    }

    /// The last failure, which says how many attempts were made if there were several.
    pub fn exhausted(&self, failure: Failure) -> Failure {
        if self.failed < 2 {
            return failure;
        }
        failure.because(|why| format!("{why} (tried {} times)", self.failed))
    }

    /// Makes `attempt` until it succeeds or its failure is final.
    pub async fn run<T, F: Future<Output = Result<T, Failure>>>(
        mut self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        loop {
            let failure = match attempt().await {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            match self.delay(&failure) {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return Err(self.exhausted(failure)),
            }
        }
    }

    /// The same for work that blocks.
    pub fn run_blocking<T>(
        mut self,
        connection: &Connection,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        loop {
            let failure = match attempt() {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            match self.delay(&failure) {
                Some(delay) => connection.sleep(failure.error.doing(), delay)?,
                None => return Err(self.exhausted(failure)),
            }
        }
    }
}

/// Interval and time limit of polling for a state.
#[derive(Debug, Clone, Copy)]
pub struct Polling {
    interval: Duration,
    interval_max: Duration,
    within: Option<Duration>,
    cleanup: bool,
}

impl Polling {
    /// Every `interval`, for as long as it takes.
    pub const fn every(interval: Duration) -> Self {
        Self {
            interval,
            interval_max: interval,
            within: None,
            cleanup: false,
        }
    }

    /// With intervals that double up to `interval_max`.
    pub const fn up_to(mut self, interval_max: Duration) -> Self {
        self.interval_max = interval_max;
        self
    }

    /// For no longer than `within`; the state is looked at once in any case.
    pub const fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    /// As part of a cleanup, which the first wish to stop does not end.
    pub const fn in_cleanup(mut self) -> Self {
        self.cleanup = true;
        self
    }

    /// The intervals.
    fn delays(self) -> ExponentialBackoff {
        ExponentialBuilder::new()
            .with_min_delay(self.interval)
            .with_max_delay(self.interval_max)
            .without_max_times()
            .build()
    }

    fn is_over(self, elapsed: Duration) -> bool {
        self.within.is_some_and(|within| elapsed >= within)
    }
}

/// Polling for work whose answer was lost.
const LOST: Polling = Polling::every(Duration::from_millis(100))
    .up_to(Duration::from_secs(2))
    .within(Duration::from_secs(24 * 3600));
/// Looks in a row, while the server is idle, after which the work is taken to be lost.
const QUIET_LOOKS: u32 = 3;
/// The same if neither the server nor what is there says so: a quarter of an hour.
const QUIET_LOOKS_UNTOLD: u32 = 450;

/// Outcome of work whose answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landed<T = ()> {
    /// It was done, and this is it.
    Yes(T),
    /// It was not done.
    No,
    /// Nothing there tells whether it will be.
    Unknown,
}

impl Connection {
    /// Waits for the outcome of work whose answer was lost (a proxy that gave up, a connection that ended);
    /// none if it was not done. The server goes on with it though nobody waits for its answer, so `landed` is
    /// asked only while nothing of the kind is `running`, which a server may not tell.
    pub fn find_landed<T>(
        &self,
        doing: &str,
        running: impl Fn() -> Result<Option<u64>, Failure>,
        landed: impl Fn() -> Result<Landed<T>, Failure>,
    ) -> Result<Option<T>, Failure> {
        let mut quiet = 0;
        let found = self.wait_until::<_, Failure>(doing, LOST, || {
            let running = running()?;
            if running.is_some_and(|running| running > 0) {
                quiet = 0;
                return Ok(None);
            }
            quiet += 1;
            let enough = match (landed()?, running) {
                (Landed::Yes(found), _) => return Ok(Some(Some(found))),
                (Landed::Unknown, None) => QUIET_LOOKS_UNTOLD,
                (Landed::Unknown | Landed::No, _) => QUIET_LOOKS,
            };
            Ok((quiet >= enough).then_some(None))
        })?;
        Ok(found.flatten())
    }

    /// Calls `look` until it gives a value; none when the time of `polling` is over.
    pub fn wait_until<T, E: From<Error>>(
        &self,
        doing: &str,
        polling: Polling,
        mut look: impl FnMut() -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let started = Instant::now();
        let mut delays = polling.delays();
        loop {
            if let Some(seen) = look()? {
                return Ok(Some(seen));
            }
            if polling.is_over(started.elapsed()) {
                return Ok(None);
            }
            let delay = delays.next().unwrap_or(polling.interval_max);
            let sleep = async {
                tokio::time::sleep(delay).await;
                Ok(())
            };
            match polling.cleanup {
                true => self.put_away(doing, sleep)?,
                false => self.run(doing, sleep)?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(cause: Cause) -> Failure {
        Failure::new(cause, Error::failed("asking", "no"))
    }

    #[test]
    fn what_may_pass_is_retried_where_it_means_the_same() {
        use RetryOn::{NotAccepted, Transient, TransientExcept500};
        for (cause, covered) in [
            (Cause::Unreachable, [true, true, true]),
            (Cause::Status(429), [true, true, true]),
            (Cause::Status(503), [true, true, false]),
            (Cause::Status(500), [true, false, false]),
            (Cause::Cut, [true, true, false]),
            (Cause::TimedOut, [true, true, false]),
            (Cause::Status(400), [false, false, false]),
            (Cause::Status(404), [false, false, false]),
            (Cause::Answer, [false, false, false]),
            (Cause::Cancelled, [false, false, false]),
            (Cause::Here, [false, false, false]),
        ] {
            let found = [Transient, TransientExcept500, NotAccepted]
                .map(|on| Retry::new(on, 1).delay(&failure(cause)).is_some());
            assert_eq!(found, covered, "{cause:?}");
        }
    }

    #[test]
    fn delays_grow_to_a_limit_and_end() {
        let mut retry = Retry::new(RetryOn::Transient, 40);
        let passing = failure(Cause::Cut);
        let delays: Vec<Duration> = (0..40).map_while(|_| retry.delay(&passing)).collect();
        assert_eq!(delays.len(), 40);
        for (number, delay) in delays.iter().enumerate() {
            let least = DELAY_FIRST
                .saturating_mul(1 << number.min(16))
                .min(DELAY_MAX);
            assert!(
                *delay >= least && *delay <= least * 2,
                "{number}: {delay:?}"
            );
        }
        assert_eq!(retry.delay(&passing), None);
        let told = retry.exhausted(failure(Cause::Cut));
        assert_eq!(told.error.why(), "no (tried 41 times)");
        retry.reset();
        assert!(
            retry
                .delay(&passing)
                .is_some_and(|delay| delay <= DELAY_FIRST * 2)
        );
    }

    #[test]
    fn a_server_says_how_long_to_wait_up_to_a_limit() {
        let mut asked = failure(Cause::Status(429));
        for (seconds, delay) in [(0, 0), (7, 7), (86_400, 120)] {
            asked.retry_after = Some(Duration::from_secs(seconds));
            let mut retry = Retry::new(RetryOn::NotAccepted, 1);
            assert_eq!(retry.delay(&asked), Some(Duration::from_secs(delay)));
            assert_eq!(retry.delay(&asked), None);
        }
    }

    #[test]
    fn one_attempt_is_not_counted_in_words() {
        let mut retry = Retry::new(RetryOn::NotAccepted, 5);
        let refused = failure(Cause::Status(400));
        assert_eq!(retry.delay(&refused), None);
        assert_eq!(retry.exhausted(refused).error.why(), "no");
    }

    #[test]
    fn polling_intervals_double_and_end() {
        let second = Duration::from_secs(1);
        let polling = Polling::every(second / 4).up_to(second).within(second * 3);
        let delays: Vec<_> = polling.delays().take(5).collect();
        assert_eq!(delays, [second / 4, second / 2, second, second, second]);
        assert!(!polling.is_over(second) && polling.is_over(second * 3));
        assert!(!Polling::every(second).is_over(second * 1_000_000));
    }
}
