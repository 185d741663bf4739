//! Containing the engine: its panics become errors, its warnings are kept for the report.
//!
//! The engine trusts its files. Of 60 single flipped bits in a real snapshot 9 made it fail, some
//! by a panic. What cannot be contained within the process (a signal for a read beyond a short
//! mapped file) is the business of [`crate::cli::supervise`].
//!
//! Invariants: no panic of the engine passes this module, and none prints anything by itself; no
//! warning of the engine is lost.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, Once, PoisonError};

use qdrant_edge::OperationError;

use crate::base::error::{Error, Kind, Result};
use crate::base::scratch;
use crate::base::status;

/// Different warnings that are kept; an engine that has more to say is at its end anyway.
const WARNINGS_MAX: usize = 200;

static WARNINGS: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// Beginning of the engine's warning about an entry of a log that it skips
/// (src/edge/edge_shard/update.rs); the entry's number follows.
const PASSED_OVER: &str = "skipping WAL operation ";
/// Text in that warning if the entry changes a point that does not exist
/// (src/segment/common/operation_error.rs).
const POINT_GONE: &str = "No point with id";

thread_local! {
    static PASSED: RefCell<BTreeSet<u64>> = const { RefCell::new(BTreeSet::new()) };
    static PANICKED_AT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps panics silent and warnings for [`take_warnings`], for the whole process; later calls do
/// nothing.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map(|at| {
                // The last part of the path tells the file; the rest tells about a machine.
                let file = at.file().rsplit('/').next().unwrap_or_default();
                format!("{file}:{}", at.line())
            });
            PANICKED_AT.with(|slot| *slot.borrow_mut() = place);
        }));
        // Another logger is there only in a process that is not ours; its owner gets the warnings.
        if log::set_logger(&KEEPER).is_ok() {
            log::set_max_level(log::LevelFilter::Warn);
        }
    });
}

/// Warnings, the engine's and others, since the last call, each once, with how often it came.
pub fn take_warnings() -> Vec<String> {
    let warnings = std::mem::take(&mut *WARNINGS.lock().unwrap_or_else(PoisonError::into_inner));
    warnings
        .into_iter()
        .map(|(text, times)| match times {
            1 => text,
            times => format!("{text} ({times} times)"),
        })
        .collect()
}

/// The entries of logs that the engine has passed over in this thread since the last call.
pub(super) fn take_passed_over() -> BTreeSet<u64> {
    PASSED.with(|passed| std::mem::take(&mut *passed.borrow_mut()))
}

struct Keeper;

static KEEPER: Keeper = Keeper;

impl log::Log for Keeper {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // These two say that nobody configured the engine as a server would; nobody is to.
        let about_itself = ["::common::flags", "::common::mmap::ops"]
            .iter()
            .any(|module| metadata.target().contains(module));
        metadata.level() <= log::Level::Warn && !about_itself
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut warnings = WARNINGS.lock().unwrap_or_else(PoisonError::into_inner);
        let own = record.args().to_string();
        // Of one that names a point which is gone all the rest is applied, each time the same.
        let rest = own.strip_prefix(PASSED_OVER);
        if let Some(rest) = rest.filter(|rest| !rest.contains(POINT_GONE)) {
            let number = rest
                .split(' ')
                .next()
                .and_then(|word| word.parse::<u64>().ok());
            PASSED.with(|passed| passed.borrow_mut().extend(number));
            // Whoever opened the shard tells it, with the name of the log.
            return;
        }
        let text = match record.target().starts_with("snapmerge") {
            true => own,
            false => format!("the storage engine: {own}"),
        };
        if warnings.len() < WARNINGS_MAX || warnings.contains_key(&text) {
            *warnings.entry(text).or_default() += 1;
        }
    }

    fn flush(&self) {}
}

/// Runs `act` of the engine on the shard in `folder`; a failure or a panic becomes an error of `kind`
/// in what is being `done`, or of [`Kind::NoSpace`] if the disk is full.
pub(super) fn contained<T>(
    kind: Kind,
    folder: &Path,
    doing: &dyn Fn() -> String,
    act: impl FnOnce() -> Result<T, OperationError>,
) -> Result<T> {
    // A failure in what we made ourselves is no source's damage: its kind says so.
    let _act = status::act(doing, kind == Kind::Failed);
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(err)) => {
            let text = err.to_string();
            // Some of its errors carry a backtrace.
            let why = text.lines().next().unwrap_or_default();
            Err(failed(
                kind,
                folder,
                doing(),
                format!("the storage engine: {why}"),
            ))
        }
        Err(panic) => {
            let message = panic_message(panic.as_ref());
            Err(failed(
                kind,
                folder,
                doing(),
                format!("the storage engine gave up: {message}"),
            ))
        }
    }
}

fn failed(kind: Kind, folder: &Path, doing: String, why: String) -> Error {
    // The engine has no error of its own for a full disk: it wraps the system's in text, or has a
    // text of its own for what it will not begin. And when it fails otherwise on a full disk, then
    // because of that.
    let no_space = format!("os error {}", rustix::io::Errno::NOSPC.raw_os_error());
    let texts = [no_space.as_str(), "Not enough space available"];
    if texts.iter().any(|text| why.contains(text)) || scratch::is_full(folder) {
        return Error::new(Kind::NoSpace, doing, why).next(scratch::MORE_ROOM);
    }
    match kind {
        Kind::Damaged => Error::damaged(doing, why),
        _ => Error::new(kind, doing, why),
    }
}

/// Returns the message of a caught panic and its place, in one line; the place is that of this
/// thread's last one.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let place = PANICKED_AT.with(|slot| slot.borrow_mut().take());
    let place = place.map(|at| format!(" ({at})")).unwrap_or_default();
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message");
    format!("{}{place}", text.lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        install();
        let doing = || "opening shard 0 of a.snapshot".to_owned();
        let folder = tempfile::tempdir().unwrap();
        let run = |act: fn() -> Result<(), OperationError>| {
            contained(Kind::Damaged, folder.path(), &doing, act)
        };
        let err = run(|| panic!("index 7 out of range")).unwrap_err();
        assert_eq!(err.kind(), Kind::Damaged);
        assert_eq!(err.doing(), doing());
        assert!(err.why().contains("index 7 out of range"), "{err}");
        assert!(err.why().contains("contain.rs"), "{err}");
        assert!(err.next_step().is_some());
        run(|| Ok(())).unwrap();
        let full = run(|| Err(std::io::Error::from(rustix::io::Errno::NOSPC).into())).unwrap_err();
        assert_eq!(full.kind(), Kind::NoSpace, "{full}");
    }
}
