//! The payload indexes of a segment, some of them left to be built by who loads it.
//!
//! A server, and the engine, that loads a segment build what its `payload_index/config.json` names and
//! what has no files (`load_from_db` in lib/segment/src/index/struct_payload_index; the files of each
//! field lie in folders called after it, `JsonPath::filename`). The types of `indexed_types`, since
//! 1.15, say which files there are, so that they go with them.
//!
//! Invariants: no file stays of an index that is to be built: it would be taken for the index; a folder
//! that is not known to belong to an index that stays goes too, which costs time and no more.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::format::schema::{PayloadSchema, same_index};

/// The config of a segment's payload indexes, and the beginnings of the names of the folders that stay.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// `payload_index/config.json`.
    pub config: Value,
    prefixes: Vec<String>,
}

impl Declared {
    /// Of the segment with this `config`, for a master with the indexes `wanted`; `is_rebuilt` tells of
    /// which field the index is to be built when the segment is loaded.
    pub fn new(config: &Value, wanted: &PayloadSchema, is_rebuilt: impl Fn(&str) -> bool) -> Self {
        let mut config = config.as_object().cloned().unwrap_or_default();
        let object = |value: Option<Value>| match value {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let had = object(config.remove("indexed_fields"));
        let mut types = object(config.remove("indexed_types"));
        let mut fields = Map::new();
        let mut prefixes = Vec::new();
        for (field, index) in wanted.fields() {
            match had.get(field) {
                Some(has) if same_index(has, index) && !is_rebuilt(field) => {
                    fields.insert(field.clone(), has.clone());
                    prefixes.push(format!("{}-", folder_name(field)));
                }
                _ => {
                    fields.insert(field.clone(), index.clone());
                    types.remove(field);
                }
            }
        }
        types.retain(|field, _| fields.contains_key(field));
        config.insert("indexed_fields".into(), fields.into());
        if !types.is_empty() {
            config.insert("indexed_types".into(), types.into());
        }
        Self {
            config: config.into(),
            prefixes,
        }
    }

    /// Returns true if the folder called `name` among the payload indexes stays.
    pub fn keeps(&self, name: &str) -> bool {
        self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// The name that the folders of a field's index begin with: `JsonPath::filename` in
/// lib/segment/src/json_path/mod.rs.
fn folder_name(field: &str) -> String {
    const HASH_BYTES: usize = 15;
    const LENGTH_MAX: usize = 33;
    const BASE32: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let hash = Sha256::digest(field.as_bytes());
    let mut name = String::with_capacity(LENGTH_MAX);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in hash.iter().take(HASH_BYTES) {
        bits = bits << 8 | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            let digit = BASE32.get((bits >> held & 31) as usize);
            name.push(digit.map_or('0', |digit| char::from(*digit)));
        }
        bits &= (1 << held) - 1;
    }
    name.push('-');
    let mut before = None;
    let words = field.chars().filter_map(|letter| {
        let letter = match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => letter.to_ascii_lowercase(),
            _ => '_',
        };
        let is_repeated = letter == '_' && before == Some('_');
        before = Some(letter);
        (!is_repeated).then_some(letter)
    });
    let room = LENGTH_MAX - name.len();
    name.extend(words.take(room));
    name
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn folders_are_called_as_servers_call_them() {
        // As 1.19.0 named them.
        assert_eq!(folder_name("camera"), "h7kbikcdi8jp92drrrh6ufe6-camera");
        assert_eq!(folder_name("exif.gps"), "j2ddble152m05ovf7tjn22aq-exif_gps");
        assert_eq!(folder_name("a..b").len(), 24 + "-a_b".len());
        assert_eq!(folder_name(&"x".repeat(99)).len(), 33);
    }

    #[test]
    fn what_is_rebuilt_keeps_no_types_and_no_folders() {
        let config = json!({
            "indexed_fields": {"year": "integer", "camera": {"type": "keyword"}, "old": "float"},
            "indexed_types": {"year": [1], "camera": [2], "old": [3]},
            "skip_rocksdb": true,
        });
        let wanted = json!({"schema": {"year": "integer", "camera": "keyword", "new": "geo"}});
        let wanted = PayloadSchema::parse("test", wanted.to_string().as_bytes()).unwrap();
        let declared = Declared::new(&config, &wanted, |field| field == "year");
        let expected = json!({
            "indexed_fields": {"year": "integer", "camera": {"type": "keyword"}, "new": "geo"},
            "indexed_types": {"camera": [2]},
            "skip_rocksdb": true,
        });
        assert_eq!(declared.config, expected);
        let folder = |field: &str| format!("{}-map", folder_name(field));
        assert!(declared.keeps(&folder("camera")));
        for field in ["year", "old", "new", "camera2"] {
            assert!(!declared.keeps(&folder(field)), "{field}");
        }
        let other = Declared::new(&Value::Null, &wanted, |_| false);
        assert_eq!(other.config["indexed_fields"]["new"], "geo");
        assert!(other.config.get("indexed_types").is_none());
    }
}
