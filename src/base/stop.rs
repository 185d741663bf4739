//! The wish to stop: Ctrl-C and the like, for work that has something to put away first.
//!
//! Offline work is stopped by killing the process that does it (see `worker`).
//! Whoever has made something on a server must hear of the wish instead, remove what was made, and
//! then end.
//!
//! Invariants: whoever waits hears of it at once; asked twice, the putting away is cut short too; what
//! comes several times in a moment is one wish. A terminal sends Ctrl-C to the whole process group, and
//! the parent then asks its child; `timeout` signals its child and then the group.

use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::base::error::{Error, Kind, Result};

static ASKED: LazyLock<watch::Sender<u32>> = LazyLock::new(|| watch::channel(0).0);

/// Time after a request to stop within which another one counts as the same.
const SAME_WITHIN: Duration = Duration::from_secs(1);

/// Asked once, work ends and puts away what it made.
pub const WORK: u32 = 1;
/// Asked again, the putting away ends too.
pub const PUTTING_AWAY: u32 = 2;

/// Listens to Ctrl-C and the like from now on; they do not end the process any more.
pub fn listen() -> Result<()> {
    static LISTENING: OnceLock<Result<()>> = OnceLock::new();
    let listen =
        || ctrlc::set_handler(ask).map_err(|err| Error::failed("listening for Ctrl-C", err));
    LISTENING.get_or_init(listen).clone()
}

/// Asks to stop.
pub fn ask() {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    if last.is_some_and(|last| is_same_wish(now.duration_since(last))) {
        return;
    }
    *last = Some(now);
    ASKED.send_modify(|times| *times = times.saturating_add(1));
}

fn is_same_wish(later: Duration) -> bool {
    later < SAME_WITHIN
}

/// Returns how many times a stop was requested.
pub fn times() -> u32 {
    *ASKED.borrow()
}

/// Ends when it has been asked for `times` times.
pub async fn wait(times: u32) {
    let mut asked = ASKED.subscribe();
    // The sender is never dropped, so this ends only by what it waits for.
    let _ = asked.wait_for(|now| *now >= times).await;
}

/// The error of whoever was stopped while `doing`.
pub fn cancelled(doing: &str) -> Error {
    Error::new(Kind::Cancelled, doing, "cancelled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_that_comes_twice_in_a_moment_is_one() {
        assert!(is_same_wish(Duration::from_millis(20)));
        assert!(!is_same_wish(Duration::from_secs(2)));
    }
}
