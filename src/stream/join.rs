//! Two streams of records joined by identity.
//!
//! Invariants: every group of both streams comes up exactly once, in the order of identities; nothing is
//! held but the two groups that come next.

use super::{Groups, Scanned};
use crate::base::error::Result;
use crate::point::Identity;

/// Calls `take` for every identity of either stream, with the records that each has of it; one side
/// may have none.
pub fn merge_join(
    left: &mut dyn Groups,
    right: &mut dyn Groups,
    mut take: impl FnMut(&Identity, &[Scanned], &[Scanned]) -> Result<()>,
) -> Result<()> {
    let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
    let mut left_id = left.next_group(&mut of_left)?;
    let mut right_id = right.next_group(&mut of_right)?;
    loop {
        let Some(id) = left_id.iter().chain(&right_id).min().cloned() else {
            return Ok(());
        };
        let (on_left, on_right) = (
            left_id.as_ref() == Some(&id),
            right_id.as_ref() == Some(&id),
        );
        let lefts: &[Scanned] = if on_left { &of_left } else { &[] };
        let rights: &[Scanned] = if on_right { &of_right } else { &[] };
        take(&id, lefts, rights)?;
        if on_left {
            left_id = left.next_group(&mut of_left)?;
        }
        if on_right {
            right_id = right.next_group(&mut of_right)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::point::{PointId, Record};

    struct Ids(std::vec::IntoIter<Vec<u64>>);

    impl Groups for Ids {
        fn next_group(&mut self, group: &mut Vec<Scanned>) -> Result<Option<Identity>> {
            group.clear();
            let Some(ids) = self.0.next() else {
                return Ok(None);
            };
            group.extend(ids.iter().map(|id| Scanned {
                point_stream: 0,
                source: 0,
                record: Record {
                    id: PointId::Num(*id),
                    vectors: Vec::new(),
                    payload: serde_json::Map::new(),
                    shard_key: None,
                },
                hashed: None,
            }));
            Ok(ids.first().copied().map(|id| PointId::Num(id).into()))
        }
    }

    #[test]
    fn every_group_is_met_once() {
        let met = |left: Vec<Vec<u64>>, right: Vec<Vec<u64>>| {
            let mut met = Vec::new();
            merge_join(
                &mut Ids(left.into_iter()),
                &mut Ids(right.into_iter()),
                |id, left, right| {
                    met.push(format!("{id}:{}{}", left.len(), right.len()));
                    Ok(())
                },
            )
            .unwrap();
            met.join(" ")
        };
        assert_eq!(met(vec![], vec![]), "");
        assert_eq!(met(vec![vec![1]], vec![]), "1:10");
        assert_eq!(met(vec![], vec![vec![1], vec![2, 2]]), "1:01 2:02");
        assert_eq!(
            met(
                vec![vec![1], vec![3], vec![4, 4]],
                vec![vec![2], vec![3, 3], vec![9]]
            ),
            "1:10 2:01 3:12 4:20 9:01"
        );
    }
}
