//! Doing independent pieces of work side by side.
//!
//! Keeps true: results come in the order of the pieces, whoever was done first; after a failure no
//! further piece is begun, and the failure of the first piece that failed is the one that is told.

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// Does `work` on every one of `pieces`, on at most `at_once` of them at the same time.
pub fn in_parallel<P: Send, R: Send>(
    pieces: impl IntoIterator<Item = P, IntoIter: Send>,
    at_once: usize,
    work: impl Fn(P) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let waiting = Mutex::new(Some(pieces.into_iter().enumerate()));
    let done = Mutex::new(Vec::new());
    let next = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.as_mut()?.next()
    };
    let keep_on = || {
        while let Some((at, piece)) = next() {
            let result = work(piece);
            if result.is_err() {
                *waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            done.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((at, result));
        }
    };
    let whole = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(keep_on)).collect();
        // All are waited for, whatever happened to the first.
        let mut whole = true;
        for thread in threads {
            whole &= thread.join().is_ok();
        }
        whole
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    let results = done
        .into_iter()
        .map(|(_, result)| result)
        .collect::<Result<Vec<R>>>()?;
    if !whole {
        return Err(Error::failed("working", "a thread panicked"));
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_failure_ends_it() {
        let squares = in_parallel(0..100_u64, 3, |piece| Ok(piece * piece)).unwrap();
        let expected: Vec<u64> = (0..100).map(|piece| piece * piece).collect();
        assert_eq!(squares, expected);
        let tried = Mutex::new(0);
        let err = in_parallel(0..1000, 2, |piece| {
            *tried.lock().unwrap() += 1;
            if piece >= 10 {
                return Err(Error::failed(format!("piece {piece}"), "no"));
            }
            Ok(())
        })
        .unwrap_err();
        assert_eq!(err.doing(), "piece 10");
        assert!(*tried.lock().unwrap() < 20);
    }
}
