//! Several calls to a store at once.
//!
//! Keeps true: results come in the order of what was asked; the first error in that order is the one
//! that is told; after an error nothing new is begun.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::Result;

/// Calls `act` with every item, `lanes` of them at once.
pub fn each<T: Sync, R: Send>(
    lanes: usize,
    items: &[T],
    act: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    each_with(lanes, items, || Ok(()), |(), item| act(item))
}

/// The same, with something that each lane makes for itself and keeps.
pub fn each_with<T: Sync, R: Send, L>(
    lanes: usize,
    items: &[T],
    make: impl Fn() -> Result<L> + Sync,
    act: impl Fn(&mut L, &T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let done: Mutex<Vec<(usize, Result<R>)>> = Mutex::new(Vec::with_capacity(items.len()));
    let lane = || {
        let mut own = make();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { break };
            if failed.load(Ordering::Relaxed) {
                break;
            }
            let result = match &mut own {
                Ok(own) => act(own, item),
                Err(err) => Err(err.clone()),
            };
            if result.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            done.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((at, result));
        }
    };
    match lanes.min(items.len()) {
        0 | 1 => lane(),
        lanes => std::thread::scope(|scope| {
            for _ in 0..lanes {
                scope.spawn(lane);
            }
        }),
    }
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn results_come_in_order_and_an_error_ends_it() {
        let items: Vec<u32> = (0..1000).collect();
        for lanes in [0, 1, 2, 16] {
            let doubled = each(lanes, &items, |n| Ok(n * 2)).unwrap();
            assert!(
                doubled
                    .iter()
                    .enumerate()
                    .all(|(n, d)| *d as usize == n * 2)
            );
            let begun = AtomicUsize::new(0);
            let err = each(lanes, &items, |n| {
                begun.fetch_add(1, Ordering::Relaxed);
                match n {
                    0..500 => Ok(()),
                    n => Err(Error::failed("counting", n)),
                }
            });
            assert!(err.is_err());
            assert!(begun.load(Ordering::Relaxed) < 600);
        }
    }
}
