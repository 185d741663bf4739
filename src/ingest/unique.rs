//! Sorted records with each identity once.
//!
//! Invariants: of records with one identity, the rule decides which stays, and the others are counted.

use std::cell::Cell;
use std::iter::Peekable;

use super::request::OnExisting;
use crate::base::error::{Error, Kind, Result};
use crate::point::Record;
use crate::stream::Placed;

/// Records with each identity once.
pub struct Unique<'a, I: Iterator<Item = Result<Placed>>> {
    records: Peekable<I>,
    rule: OnExisting,
    dropped: &'a Cell<u64>,
}

impl<'a, I: Iterator<Item = Result<Placed>>> Unique<'a, I> {
    /// Of `records`, which are sorted; counts in `dropped`, from 0 on.
    pub fn new(records: I, rule: OnExisting, dropped: &'a Cell<u64>) -> Self {
        dropped.set(0);
        Self {
            records: records.peekable(),
            rule,
            dropped,
        }
    }
}

impl<I: Iterator<Item = Result<Placed>>> Iterator for Unique<'_, I> {
    type Item = Result<Placed>;

    fn next(&mut self) -> Option<Self::Item> {
        let (collection, mut record) = match self.records.next()? {
            Ok(placed) => placed,
            Err(err) => return Some(Err(err)),
        };
        let same = |placed: &Result<Placed>| {
            let is_same =
                |other: &Record| (other.id, &other.shard_key) == (record.id, &record.shard_key);
            placed
                .as_ref()
                .is_ok_and(|(of, other)| *of == collection && is_same(other))
        };
        let mut last = None;
        while let Some(placed) = self.records.next_if(same) {
            last = placed.ok();
            self.dropped.set(self.dropped.get() + 1);
        }
        if let Some((_, last)) = last {
            match self.rule {
                OnExisting::Replace => record = last,
                OnExisting::Skip => {}
                OnExisting::Fail => {
                    return Some(Err(Error::new(
                        Kind::Refused,
                        format!("ingesting point {}", record.id),
                        "its id comes more than once in one collection",
                    )
                    .next("give --on-existing replace or --on-existing skip")));
                }
            }
        }
        Some(Ok((collection, record)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::{PointId, Vector};

    fn run(rule: OnExisting) -> (Result<Vec<(u32, f32)>>, u64) {
        let record = |collection, id, mark| -> Result<Placed> {
            let vectors = vec![(String::new(), Vector::Dense(vec![mark]))];
            Ok((
                collection,
                Record {
                    vectors,
                    ..Record::bare(PointId::Num(id))
                },
            ))
        };
        let records = [
            record(0, 1, 1.0),
            record(0, 1, 2.0),
            record(0, 1, 3.0),
            record(0, 2, 4.0),
            record(1, 2, 5.0),
        ];
        let dropped = Cell::new(0);
        let found = Unique::new(records.into_iter(), rule, &dropped)
            .map(|placed| {
                placed.map(|(collection, record)| {
                    let Some((_, Vector::Dense(values))) = record.vectors.first() else {
                        unreachable!("a dense vector");
                    };
                    (collection, values[0])
                })
            })
            .collect();
        (found, dropped.get())
    }

    #[test]
    fn one_of_each_identity_stays() {
        let (found, dropped) = run(OnExisting::Replace);
        assert_eq!(
            (found.unwrap(), dropped),
            (vec![(0, 3.0), (0, 4.0), (1, 5.0)], 2)
        );
        let (found, dropped) = run(OnExisting::Skip);
        assert_eq!(
            (found.unwrap(), dropped),
            (vec![(0, 1.0), (0, 4.0), (1, 5.0)], 2)
        );
        assert!(
            run(OnExisting::Fail)
                .0
                .unwrap_err()
                .to_string()
                .contains("more than once")
        );
    }
}
