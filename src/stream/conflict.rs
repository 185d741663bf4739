//! Conflicts: one id in more than one source, or twice in one.
//!
//! Invariants: the policy alone decides, and it is a pure function of the records and the order of
//! the sources; a record that cannot be compared is an error, not a guess.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::base::error::{Error, Result};
use crate::base::text::serde_as_text;
use crate::engine::{Date, PayloadField, date};
use crate::point::{Identity, PointId, ShardKey};

/// Policy for an id that is in more than one source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Policy {
    /// The last source, as if all were upserted in order.
    #[default]
    Last,
    /// The first source.
    First,
    /// The record with the greatest number or date in this field; without one a record loses; of
    /// equal ones the last source's wins.
    Newest(PayloadField),
    /// Nobody: a conflict ends the merge.
    Fail,
    /// All: the first source keeps the id, the others' records get a UUID made of their source's
    /// name and the id.
    Remap,
}

impl Policy {
    /// Returns true if the policy decides by payloads.
    pub fn reads_payload(&self) -> bool {
        match self {
            Self::Newest(_) => true,
            Self::Last | Self::First | Self::Fail | Self::Remap => false,
        }
    }

    /// The places of the `payloads` that lack the field by which it decides, if it decides by one.
    pub fn lacking(&self, payloads: &[&Map<String, Value>]) -> Vec<usize> {
        let Self::Newest(field) = self else {
            return Vec::new();
        };
        let lacks = |(_, payload): &(usize, &&Map<String, Value>)| field.value(payload).is_none();
        let lacking = payloads.iter().enumerate().filter(lacks);
        lacking.map(|(place, _)| place).collect()
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "last" => Ok(Self::Last),
            None if text == "first" => Ok(Self::First),
            None if text == "fail" => Ok(Self::Fail),
            None if text == "remap" => Ok(Self::Remap),
            Some(("newest", field)) if !field.is_empty() => {
                PayloadField::of_keys(field).map(Self::Newest)
            }
            _ if text.starts_with("newest") => {
                Err("newest needs a payload field: newest:updated_at".into())
            }
            _ => Err(format!(
                "'{text}' is none of last, first, newest:FIELD, fail, remap"
            )),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last => f.write_str("last"),
            Self::First => f.write_str("first"),
            Self::Newest(field) => write!(f, "newest:{field}"),
            Self::Fail => f.write_str("fail"),
            Self::Remap => f.write_str("remap"),
        }
    }
}

serde_as_text!(Policy, "Policy", "last, first, newest:FIELD, fail or remap");

/// Decision about the records of one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The one at this place wins, the others are dropped.
    Wins(usize),
    /// The one at place 0 keeps the id, the others get new ones.
    Remapped,
}

impl Verdict {
    /// The place of the record that keeps the id.
    pub fn winner(self) -> usize {
        match self {
            Self::Wins(place) => place,
            Self::Remapped => 0,
        }
    }
}

/// Decides over `payloads`, which all have the identity `id`, in the order of their sources; there are at
/// least two. `names` are the sources', for errors.
pub fn decide(
    policy: &Policy,
    id: &Identity,
    payloads: &[&Map<String, Value>],
    names: &[&str],
) -> Result<Verdict> {
    let last = payloads.len().saturating_sub(1);
    match policy {
        Policy::Last => Ok(Verdict::Wins(last)),
        Policy::First => Ok(Verdict::Wins(0)),
        Policy::Remap => Ok(Verdict::Remapped),
        Policy::Fail => Err(Error::failed(
            "merging with --on-conflict fail",
            format!("point {id} is in {}", names.join(" and ")),
        )
        .next(
            "choose who wins with --on-conflict last, first, newest:FIELD, or keep all with remap",
        )),
        Policy::Newest(field) => newest(field, id, payloads, names),
    }
}

fn newest(
    field: &PayloadField,
    id: &Identity,
    payloads: &[&Map<String, Value>],
    names: &[&str],
) -> Result<Verdict> {
    let mut best: Option<(usize, Age)> = None;
    for (place, payload) in payloads.iter().enumerate() {
        let refuse = |why: String| {
            Error::failed(
                format!("comparing '{field}' of point {id}"),
                format!("{why} in {}", names.get(place).copied().unwrap_or_default()),
            )
            .next("--on-conflict newest:FIELD needs a field of numbers or of RFC 3339 dates")
        };
        let age = match field.value(payload) {
            None => Age::None,
            Some(Value::Number(number)) => Age::number(number)
                .ok_or_else(|| refuse(format!("the number {number} cannot be compared")))?,
            Some(Value::String(text)) => match date(text) {
                Some(date) => Age::Date(date),
                None => return Err(refuse(format!("'{text}' is no date"))),
            },
            Some(other) => return Err(refuse(format!("{other} is neither a number nor a date"))),
        };
        let newer = match &best {
            None => true,
            Some((_, than)) => match age.compare(than) {
                Some(order) => order != Ordering::Less,
                None => {
                    return Err(refuse("a date stands against a number".into()));
                }
            },
        };
        if newer {
            best = Some((place, age));
        }
    }
    Ok(Verdict::Wins(best.map_or(0, |(place, _)| place)))
}

/// Value that `newest` compares.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Age {
    None,
    Int(i128),
    Float(f64),
    Date(Date),
}

impl Age {
    fn number(number: &serde_json::Number) -> Option<Self> {
        number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .map(Self::Int)
            .or_else(|| number.as_f64().map(Self::Float))
    }

    fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::None, Self::None) => Some(Ordering::Equal),
            (Self::None, _) => Some(Ordering::Less),
            (_, Self::None) => Some(Ordering::Greater),
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b),
            (Self::Int(a), Self::Float(b)) => int_to_float(*a, *b),
            (Self::Float(a), Self::Int(b)) => int_to_float(*b, *a).map(Ordering::reverse),
            (Self::Date(a), Self::Date(b)) => Some(a.cmp(b)),
            (Self::Date(_), _) | (_, Self::Date(_)) => None,
        }
    }
}

/// Compares exactly, without rounding the integer to a float first.
fn int_to_float(int: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    // Beyond 2^100 every 64-bit integer is smaller, and within a float's floor fits.
    if float.abs() >= 1e30 {
        return Some(if float > 0.0 {
            Ordering::Less
        } else {
            Ordering::Greater
        });
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
    let floor = float.floor() as i128;
    Some(int.cmp(&floor).then(if float > float.floor() {
        Ordering::Less
    } else {
        Ordering::Equal
    }))
}

/// The id that the record `id` of the source called `source` gets by [`Policy::Remap`]: a UUID of
/// version 5 in the namespace of URLs, of `snapmerge:SOURCE/ID`, or `snapmerge:SOURCE/KEY/ID` if it
/// lay under a shard `key` that the master does not have.
pub fn remapped(source: &str, key: Option<&ShardKey>, id: PointId) -> PointId {
    let name = match key {
        None => format!("snapmerge:{source}/{id}"),
        Some(key) => format!("snapmerge:{source}/{key}/{id}"),
    };
    PointId::Uuid(Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(policy: &str, payloads: &[&str]) -> Result<Verdict> {
        let maps: Vec<Map<String, Value>> = payloads
            .iter()
            .map(|text| serde_json::from_str(text).unwrap())
            .collect();
        let refs: Vec<&Map<String, Value>> = maps.iter().collect();
        let names = ["a", "b", "c"];
        decide(
            &policy.parse().unwrap(),
            &PointId::Num(5).into(),
            &refs,
            &names[..payloads.len()],
        )
    }

    #[test]
    fn each_policy_has_its_winner() {
        let old = r#"{"at":"2017-03-01T00:00:00Z","n":3,"deep":{"n":1}}"#;
        let new = r#"{"at":"2018-03-01T00:00:00+02:00","n":2.5,"deep":{"n":2}}"#;
        for (policy, payloads, winner) in [
            ("last", vec![old, new], 1),
            ("first", vec![old, new], 0),
            ("newest:at", vec![old, new], 1),
            ("newest:at", vec![new, old], 0),
            ("newest:n", vec![old, new], 0),
            ("newest:n", vec![new, old, old], 2),
            (
                "newest:at",
                vec![
                    r#"{"at":"2017-03-01T00:00:00.000000002Z"}"#,
                    r#"{"at":"2017-03-01T00:00:00.000000001Z"}"#,
                ],
                0,
            ),
            ("newest:deep.n", vec![old, new, old], 1),
            ("newest:at", vec![old, "{}"], 0),
            ("newest:at", vec!["{}", r#"{"at":null}"#], 1),
            (
                "newest:n",
                vec![r#"{"n":9007199254740993}"#, r#"{"n":9007199254740992.0}"#],
                0,
            ),
            (
                "newest:n",
                vec![r#"{"n":18446744073709551615}"#, r#"{"n":-1}"#],
                0,
            ),
            ("newest:n", vec![r#"{"n":-2}"#, r#"{"n":-2.5}"#], 0),
            ("newest:n", vec![r#"{"n":1}"#, r#"{"n":1e40}"#], 1),
        ] {
            assert_eq!(
                verdict(policy, &payloads).unwrap(),
                Verdict::Wins(winner),
                "{policy} {payloads:?}"
            );
        }
        assert_eq!(verdict("remap", &[old, new]).unwrap(), Verdict::Remapped);
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        for (policy, payloads, word) in [
            ("fail", vec!["{}", "{}"], "point 5 is in a and b"),
            (
                "newest:at",
                vec![r#"{"at":"soon"}"#, "{}"],
                "'soon' is no date",
            ),
            (
                "newest:at",
                vec![r#"{"at":1}"#, r#"{"at":"2017-03-01T00:00:00Z"}"#],
                "against a number",
            ),
            (
                "newest:at",
                vec![r#"{"at":[1]}"#, "{}"],
                "neither a number nor a date",
            ),
        ] {
            let err = verdict(policy, &payloads).unwrap_err();
            assert!(err.to_string().contains(word), "{err}");
        }
        for text in ["newest", "newest:", "oldest", ""] {
            assert!(text.parse::<Policy>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_remapped_id_depends_on_source_and_id_alone() {
        let five = PointId::Num(5);
        let plain = |source, id| remapped(source, None, id);
        assert_eq!(plain("a", five), plain("a", five));
        assert_ne!(plain("a", five), plain("b", five));
        assert_ne!(plain("a", five), plain("a", PointId::Num(6)));
        let (red, blue) = (ShardKey::Word("red".into()), ShardKey::Number(7));
        let keyed = |key| remapped("a", key, five);
        assert_ne!(keyed(Some(&red)), keyed(Some(&blue)));
        assert_ne!(keyed(Some(&red)), keyed(None));
        assert_eq!(
            plain("album_2018", five).to_string(),
            "80d6cdfd-ede3-56a2-92d9-281aaf91f6e1",
        );
    }
}
