//! A payload's JSON with some members of it changed, and the others as they were, byte for byte.
//!
//! Invariants: only members with the given keys are parsed and written again, so that no number of any
//! other member can come out in another form.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::point::numbers::to_be_read_back;

/// Returns the JSON object `text` with those of its members that have one of `keys` as `change` leaves
/// them; it gets no others, and may add some.
pub fn change_members(
    text: &[u8],
    keys: &BTreeSet<String>,
    change: &mut dyn FnMut(&mut Map<String, Value>),
) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len() + 64);
    out.push(b'{');
    let mut changed = Map::new();
    let mut rest = expect(text, b'{')?;
    let mut is_first = true;
    loop {
        rest = blank(rest);
        match (rest.split_first(), is_first) {
            (Some((b'}', after)), _) => {
                rest = after;
                break;
            }
            (Some((b',', after)), false) => rest = blank(after),
            (_, true) => {}
            _ => return Err("its members are not separated".into()),
        }
        is_first = false;
        let member = rest;
        let (key, after) = value::<String>(rest)?;
        let after = expect(after, b':')?;
        if keys.contains(&key) {
            let (value, after) = value::<Value>(after)?;
            changed.insert(key, value);
            rest = after;
            continue;
        }
        let (_, after) = value::<IgnoredAny>(after)?;
        let length = member.len() - after.len();
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(member.get(..length).unwrap_or_default());
        rest = after;
    }
    if !blank(rest).is_empty() {
        return Err("something follows it".into());
    }
    change(&mut changed);
    if !changed.is_empty() {
        // What stays beside the change is to be read as it was read here.
        to_be_read_back(&mut changed);
        let text = serde_json::to_vec(&changed).map_err(|err| err.to_string())?;
        if out.len() > 1 {
            out.push(b',');
        }
        // Without its braces.
        out.extend_from_slice(text.get(1..text.len() - 1).unwrap_or_default());
    }
    out.push(b'}');
    Ok(out)
}

fn blank(text: &[u8]) -> &[u8] {
    text.trim_ascii_start()
}

fn expect(text: &[u8], byte: u8) -> Result<&[u8], String> {
    match blank(text).split_first() {
        Some((first, rest)) if *first == byte => Ok(rest),
        _ => Err(format!(
            "there is no '{}' where one should be",
            byte as char
        )),
    }
}

/// The value at the beginning of `text`, and what follows it.
fn value<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<(T, &'a [u8]), String> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<T>();
    match values.next() {
        Some(Ok(value)) => {
            let rest = text.get(values.byte_offset()..).unwrap_or_default();
            Ok((value, rest))
        }
        Some(Err(err)) => Err(err.to_string()),
        None => Err("it ends early".into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn keys(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn other_members_stay_byte_for_byte() {
        let text =
            br#"{ "a" :1e0, "b\u0062": [1, {"x": 0.10000000000000000001}],"year":2017,"z":"}" }"#;
        let mut seen = Map::new();
        let changed = change_members(text, &keys(&["year", "bb"]), &mut |members| {
            seen = members.clone();
            members.remove("bb");
            members.insert("year".into(), json!({"of": "x"}));
        })
        .unwrap();
        let wanted = r#"{"a" :1e0,"z":"}","year":{"of":"x"}}"#;
        assert_eq!(String::from_utf8(changed).unwrap(), wanted);
        assert_eq!(seen["year"], 2017);
        assert_eq!(seen["bb"][0], 1);
        let none = change_members(b"{}", &keys(&["a"]), &mut |_| {}).unwrap();
        assert_eq!(none, b"{}");
        let only = change_members(br#"{"a":1}"#, &keys(&["a"]), &mut Map::clear).unwrap();
        assert_eq!(only, b"{}");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in [
            &b""[..],
            b"[]",
            b"{",
            b"{\"a\"}",
            b"{\"a\":}",
            b"{\"a\":1",
            b"{\"a\":1 \"b\":2}",
            b"{,\"a\":1}",
            b"{\"a\":1,}",
            b"{\"a\":1}x",
            b"{\"a\":tru}",
            b"{\"a\":\"\xff\"}",
        ] {
            assert!(
                change_members(text, &keys(&["a"]), &mut |_| {}).is_err(),
                "{text:?}"
            );
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_what_a_parser_would_have_done(
            members in prop::collection::hash_map("[a-d]{1,2}|.{0,3}", any_json(), 0..6),
            pretty in any::<bool>(),
        ) {
            let payload: Map<String, Value> = members.into_iter().collect();
            let text = match pretty {
                true => serde_json::to_vec_pretty(&payload),
                false => serde_json::to_vec(&payload),
            };
            let text = text.unwrap();
            // As it is read, which a number may not survive.
            let mut wanted: Map<String, Value> = serde_json::from_slice(&text).unwrap();
            let mut change = |members: &mut Map<String, Value>| {
                members.remove("a");
                members.insert("b".into(), json!([1]));
            };
            let changed = change_members(&text, &keys(&["a", "b"]), &mut change).unwrap();
            change(&mut wanted);
            let changed: Map<String, Value> = serde_json::from_slice(&changed).unwrap();
            prop_assert_eq!(changed, wanted);
        }
    }
}
