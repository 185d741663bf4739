//! Doing independent pieces of work side by side.
//!
//! Invariants: results come in the order of the pieces, whoever was done first; after a failure no
//! further piece is started, and the failure of the first piece that failed is the one that is told.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::error::{Error, Result};

/// Locks `mutex`, also if a thread that held it panicked: what is behind it is whole after every step.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does `work` on every one of `pieces`, on at most `at_once` of them at the same time.
pub fn in_parallel<P: Send, R: Send>(
    pieces: impl IntoIterator<Item = P, IntoIter: Send>,
    at_once: usize,
    work: impl Fn(P) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    in_parallel_with(pieces, at_once, || Ok(()), |(), piece| work(piece))
}

/// The same, with something that each thread makes for itself and keeps.
pub fn in_parallel_with<P: Send, R: Send, T>(
    pieces: impl IntoIterator<Item = P, IntoIter: Send>,
    at_once: usize,
    make: impl Fn() -> Result<T> + Sync,
    work: impl Fn(&mut T, P) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let pieces = pieces.into_iter().enumerate();
    let most = pieces.size_hint().1.unwrap_or(usize::MAX);
    let waiting = Mutex::new(Some(pieces));
    let done = Mutex::new(Vec::new());
    let next = || {
        let mut waiting = lock(&waiting);
        waiting.as_mut()?.next()
    };
    let keep_on = || {
        let mut own = make();
        while let Some((at, piece)) = next() {
            let result = match &mut own {
                Ok(own) => work(own, piece),
                Err(err) => Err(err.clone()),
            };
            if result.is_err() {
                *lock(&waiting) = None;
            }
            lock(&done).push((at, result));
        }
    };
    let whole = std::thread::scope(|scope| {
        let threads = 0..at_once.max(1).min(most);
        let threads: Vec<_> = threads.map(|_| scope.spawn(keep_on)).collect();
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
    use std::sync::atomic::{AtomicUsize, Ordering};

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

    #[test]
    fn however_many_at_once_it_is_the_same() {
        let items: Vec<u32> = (0..1000).collect();
        for at_once in [0, 1, 2, 16] {
            let doubled = in_parallel(&items, at_once, |n| Ok(n * 2)).unwrap();
            assert!(
                doubled
                    .iter()
                    .enumerate()
                    .all(|(n, d)| *d as usize == n * 2)
            );
            let started = AtomicUsize::new(0);
            let err = in_parallel(&items, at_once, |n| {
                started.fetch_add(1, Ordering::Relaxed);
                match n {
                    0..500 => Ok(()),
                    n => Err(Error::failed("counting", n)),
                }
            });
            assert!(err.is_err());
            assert!(started.load(Ordering::Relaxed) < 600);
        }
        assert!(in_parallel([1_u8; 0], 4, Ok).unwrap().is_empty());
    }
}
