//! Faults of a plan, all of them at once: unknown keys, with the nearest known one, values of another kind,
//! and missing keys.
//!
//! Invariants: it is told by the schema alone, so what is known here is what is read; a plan without
//! a finding can be read.

use serde_json::{Map, Value};

use crate::base::words::{did_you_mean, nearest};

/// Compares `plan` with `schema`; what is wrong is said with where.
pub fn faults(plan: &Value, schema: &Value) -> Vec<String> {
    let check = SchemaCheck {
        definitions: schema.get("$defs").and_then(Value::as_object),
    };
    let mut found = Vec::new();
    check.value("", plan, schema, &mut found);
    found
}

struct SchemaCheck<'a> {
    definitions: Option<&'a Map<String, Value>>,
}

impl<'a> SchemaCheck<'a> {
    /// The schema that is meant by one that refers to another, or allows nothing besides.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let name = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|path| path.rsplit('/').next());
        if let Some(found) = name.and_then(|name| self.definitions?.get(name)) {
            return self.resolve(found);
        }
        match *choices(schema) {
            [one] => self.resolve(one),
            _ => schema,
        }
    }

    fn value(&self, at: &str, value: &Value, schema: &'a Value, found: &mut Vec<String>) {
        let schema = self.resolve(schema);
        let choices: Vec<&Value> = (choices(schema).into_iter())
            .map(|one| self.resolve(one))
            .collect();
        if let Some(last) = choices.last() {
            // A word or a number: what is of the value's kind is meant, else the last.
            let is_of_kind = |one: &&&Value| match allowed_words(one) {
                Some(_) => value.is_string(),
                None => kinds(one).is_some_and(|kinds| kinds.iter().any(|kind| is(value, kind))),
            };
            let meant = choices.iter().find(is_of_kind).unwrap_or(last);
            self.value(at, value, meant, found);
            return;
        }
        if let Some(words) = allowed_words(schema) {
            let is_one = value.as_str().is_some_and(|text| words.contains(&text));
            if !is_one {
                let near = value.as_str().and_then(|text| nearest(text, &words));
                found.push(format!(
                    "{at} = {value}: it is one of {}{}",
                    words.join(", "),
                    did_you_mean(near)
                ));
            }
            return;
        }
        if let Some(wanted) =
            kinds(schema).filter(|wanted| !wanted.iter().any(|one| is(value, one)))
        {
            found.push(format!(
                "{at} = {}: it has to be {}",
                short(value),
                wanted
                    .iter()
                    .map(|kind| named(kind))
                    .collect::<Vec<_>>()
                    .join(" or ")
            ));
            return;
        }
        let least = schema.get("minimum").and_then(Value::as_f64);
        let most = schema.get("maximum").and_then(Value::as_f64);
        if let Some(number) = value.as_f64() {
            if least.is_some_and(|least| number < least) {
                found.push(format!("{at} = {value}: it is too small"));
            }
            let most = most.or_else(|| match schema.get("format")?.as_str()? {
                "uint16" => Some(f64::from(u16::MAX)),
                "uint32" => Some(f64::from(u32::MAX)),
                _ => None,
            });
            if most.is_some_and(|most| number > most) {
                found.push(format!("{at} = {value}: it is too large"));
            }
        }
        match value {
            Value::Object(table) => self.table(at, table, schema, found),
            Value::Array(items) => {
                if let Some(schema) = schema.get("items") {
                    for (number, item) in items.iter().enumerate() {
                        self.value(&format!("{at}[{number}]"), item, schema, found);
                    }
                }
            }
            _ => {}
        }
    }

    fn table(
        &self,
        at: &str,
        table: &Map<String, Value>,
        schema: &'a Value,
        found: &mut Vec<String>,
    ) {
        let inner = |key: &str| match at {
            "" => key.to_owned(),
            at => format!("{at}.{key}"),
        };
        let known = schema.get("properties").and_then(Value::as_object);
        let any = schema.get("additionalProperties");
        for (key, value) in table {
            match (known.and_then(|known| known.get(key)), any) {
                (Some(schema), _) => self.value(&inner(key), value, schema, found),
                (None, Some(Value::Bool(false))) => {
                    let names: Vec<&str> = known
                        .into_iter()
                        .flat_map(|known| known.keys().map(String::as_str))
                        .collect();
                    let near = nearest(key, &names);
                    let hint = match near {
                        Some(_) => did_you_mean(near),
                        None => format!("; there are {}", names.join(", ")),
                    };
                    found.push(format!("{}: there is no such key{hint}", inner(key)));
                }
                (None, Some(schema)) if schema.is_object() => {
                    self.value(&inner(key), value, schema, found);
                }
                (None, _) => {}
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for key in required.into_iter().flatten().filter_map(Value::as_str) {
            if !table.contains_key(key) {
                found.push(format!("{}: it is missing", inner(key)));
            }
        }
    }
}

/// The words that a value is one of, if it is.
fn allowed_words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return Some(words.iter().filter_map(Value::as_str).collect());
    }
    let choices = schema.get("oneOf").and_then(Value::as_array)?;
    choices
        .iter()
        .map(|one| one.get("const")?.as_str())
        .collect()
}

/// Alternatives of a schema, without null, which TOML does not have.
fn choices(schema: &Value) -> Vec<&Value> {
    let choices = schema.get("anyOf").and_then(Value::as_array);
    let choices = choices.into_iter().flatten();
    choices.filter(|one| one["type"] != "null").collect()
}

/// The kinds that a value may have; none if any.
fn kinds(schema: &Value) -> Option<Vec<&str>> {
    let kinds: Vec<&str> = match schema.get("type")? {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    // In TOML nothing is null.
    Some(kinds.into_iter().filter(|kind| *kind != "null").collect())
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

fn named(kind: &str) -> &str {
    match kind {
        "string" => "text in quotes",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "array" => "a list",
        "object" => "a table",
        other => other,
    }
}

/// A value for a message. Whatever is no short text, number or word is only called what it is.
fn short(value: &Value) -> String {
    match value {
        Value::Object(_) => "a table".into(),
        Value::Array(_) => "a list".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::file::schema;
    use super::*;

    fn good() -> Value {
        json!({
            "archive": {"place": "backups"},
            "servers": {"prod": {"url": "http://prod:6333"}},
            "sources": [{"server": "prod", "collections": ["album_*"]}],
        })
    }

    #[test]
    fn a_plan_that_says_what_has_to_be_said_has_no_fault() {
        assert_eq!(faults(&good(), &schema()), Vec::<String>::new());
    }

    #[test]
    fn all_faults_are_found_at_once_and_with_the_nearest_key() {
        let mut plan = good();
        plan["archvie"] = json!({});
        plan["servers"]["prod"]["api_key"] = json!("s");
        plan["servers"]["prod"]["timeout"] = json!("60");
        plan["sources"][0]["if_broken"] = json!("uselast");
        plan["sources"][0]["collection"] = json!([]);
        plan["keep"] = json!({"daily": -1});
        plan["publish"] = json!({"server": "prod"});
        let found = faults(&plan, &schema());
        for wanted in [
            "archvie: there is no such key; did you mean archive?",
            "servers.prod.api_key: there is no such key; did you mean api_key_env?",
            "servers.prod.timeout = \"60\": it has to be a whole number",
            "sources[0].if_broken = \"uselast\": it is one of stop, use-last; did you mean use-last?",
            "sources[0].collection: there is no such key; did you mean collections?",
            "keep.daily = -1: it is too small",
            "publish.alias: it is missing",
        ] {
            assert!(
                found.iter().any(|one| one == wanted),
                "{wanted}: {found:#?}"
            );
        }
        assert_eq!(found.len(), 7, "{found:#?}");
    }

    #[test]
    fn what_has_no_fault_can_be_read_and_the_other_way_round() {
        let read =
            |plan: &Value| serde_json::from_value::<super::super::file::PlanFile>(plan.clone());
        assert!(read(&good()).is_ok());
        let mut spoilt = good();
        spoilt["master"] =
            json!({"name": "m", "stamp_values": {"a": 1}, "filter": {"must": [{"has_id": [1]}]}});
        assert_eq!(faults(&spoilt, &schema()), Vec::<String>::new());
        assert!(read(&spoilt).is_ok());
        for (path, value) in [
            ("/archive/place", json!(1)),
            ("/servers", json!([])),
            ("/sources/0/collections", json!("album")),
            ("/sources/0/stream", json!("yes")),
            ("/master/shards", json!(-1)),
            ("/master/shards", json!(u64::MAX)),
            ("/master/filter", json!("x")),
        ] {
            let mut plan = spoilt.clone();
            match plan.pointer_mut(path) {
                Some(place) => *place = value,
                None => plan["master"]["shards"] = value,
            }
            assert!(!faults(&plan, &schema()).is_empty(), "{path}");
            assert!(read(&plan).is_err(), "{path}");
        }
    }
}
