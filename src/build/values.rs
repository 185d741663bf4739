//! Values that tell collections apart, as they are met.
//!
//! Invariants: a point goes to one collection; there are no more of them than was allowed.

use std::collections::BTreeMap;

use crate::base::error::{Error, Kind, Result};
use crate::point::PointId;

/// Ids of points without a value that are told.
const SHOWN: usize = 10;

/// The values that were met.
#[derive(Debug)]
pub struct Values {
    parts_max: usize,
    /// By value: the number of its collection, and its points.
    numbers: BTreeMap<String, (u32, u64)>,
    rest: Option<String>,
    /// Points without a value.
    without: u64,
    /// The first of them.
    first: Vec<PointId>,
}

impl Values {
    /// Allows `parts_max` values; points without one have the value `rest`, if that is given.
    pub fn new(parts_max: usize, rest: Option<String>) -> Self {
        Self {
            parts_max,
            numbers: BTreeMap::new(),
            rest,
            without: 0,
            first: Vec::new(),
        }
    }

    /// The number of the collection of the point `id` that has `value`; none if it has none, and there is no
    /// collection for it.
    pub fn number(&mut self, id: PointId, value: Option<String>) -> Result<Option<u32>> {
        if value.is_none() {
            self.without += 1;
            if self.first.len() < SHOWN {
                self.first.push(id);
            }
        }
        let Some(value) = value.or_else(|| self.rest.clone()) else {
            return Ok(None);
        };
        let next = self.numbers.len();
        if let Some((number, points)) = self.numbers.get_mut(&value) {
            *points += 1;
            return Ok(Some(*number));
        }
        if next >= self.parts_max {
            return Err(Error::new(
                Kind::Refused,
                "telling parts apart",
                format!(
                    "there are more than {} values, the last is {value}",
                    self.parts_max
                ),
            )
            .next("choose another field, or allow more with --max-parts"));
        }
        let number =
            u32::try_from(next).map_err(|err| Error::failed("telling parts apart", err))?;
        self.numbers.insert(value, (number, 1));
        Ok(Some(number))
    }

    /// Values in the order of their numbers with their points, and the number of points without one, which is an
    /// error in what is being `done` unless they go somewhere.
    pub fn finish(self, doing: &str) -> Result<(Vec<(String, u64)>, u64)> {
        if self.without > 0 && self.rest.is_none() {
            let first: Vec<String> = self.first.iter().map(ToString::to_string).collect();
            return Err(Error::new(
                Kind::Refused,
                doing,
                format!(
                    "{} points have no word, number or truth value there, the first: {}",
                    self.without,
                    first.join(", ")
                ),
            )
            .next("name a part for them, as with --rest other"));
        }
        let mut values: Vec<(String, (u32, u64))> = self.numbers.into_iter().collect();
        values.sort_by_key(|(_, (number, _))| *number);
        let values = values
            .into_iter()
            .map(|(value, (_, points))| (value, points));
        Ok((values.collect(), self.without))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbered_as_they_are_met() {
        let mut values = Values::new(2, None);
        let mut number =
            |id, value: Option<&str>| values.number(PointId::Num(id), value.map(ToOwned::to_owned));
        assert_eq!(number(1, Some("b")).unwrap(), Some(0));
        assert_eq!(number(2, Some("a")).unwrap(), Some(1));
        assert_eq!(number(3, Some("b")).unwrap(), Some(0));
        assert_eq!(number(4, None).unwrap(), None);
        assert!(
            number(5, Some("c"))
                .unwrap_err()
                .to_string()
                .contains("more than 2")
        );
        let refused = values.finish("splitting").unwrap_err().to_string();
        assert!(
            refused.contains("1 points") && refused.contains('4'),
            "{refused}"
        );

        let mut values = Values::new(9, Some("a".into()));
        assert_eq!(values.number(PointId::Num(1), None).unwrap(), Some(0));
        assert_eq!(
            values.number(PointId::Num(2), Some("a".into())).unwrap(),
            Some(0)
        );
        assert_eq!(values.finish("").unwrap(), (vec![("a".into(), 2)], 1));
    }
}
