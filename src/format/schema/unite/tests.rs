//! Tests of uniting configs: what the sources say, and what flags say in its place.

mod file;

use super::*;
use crate::format::schema::config::tests::{config, config_json};
use crate::format::schema::{Memory, Quantization, UserConfig};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn named_sources<'a>(
    configs: &'a [CollectionConfig],
    payload: &'a PayloadSchema,
) -> Vec<Source<'a>> {
    configs
        .iter()
        .zip('a'..)
        .map(|(config, name)| (name.to_string(), config, payload))
        .collect()
}

fn united(configs: &[CollectionConfig], overrides: &Overrides) -> Result<United> {
    unite(
        &named_sources(configs, &PayloadSchema::default()),
        overrides,
    )
}

fn with(params: Value) -> CollectionConfig {
    config(params, json!({}))
}

fn said(united: &United) -> Vec<String> {
    united.decisions.iter().map(ToString::to_string).collect()
}

fn user(value: Value) -> Overrides {
    Overrides {
        config: Some(UserConfig::parse("my.json", value.to_string().as_bytes()).unwrap()),
        ..Overrides::default()
    }
}

fn hnsw(m: u64) -> Value {
    json!({"m": m, "ef_construct": 100, "full_scan_threshold": 10, "on_disk": false,
        "max_indexing_threads": 0})
}

#[test]
fn one_source_gives_its_own_config_without_the_uuid() {
    let json = config_json(json!({"brand_new": 1}), json!({"future": {"x": 1}}));
    let one = CollectionConfig::parse("x", json.to_string().as_bytes()).unwrap();
    let master = united(&[one.clone(), one.clone()], &Overrides::default()).unwrap();
    let mut want = json;
    want.as_object_mut().unwrap().remove("uuid");
    assert_eq!(Value::from(master.config.raw().clone()), want);
    assert_eq!(master.config.uuid(), None);
    assert!(master.decisions.is_empty() && master.findings.is_empty());
    // The same again, byte for byte.
    let again = united(&[one.clone(), one], &Overrides::default()).unwrap();
    assert_eq!(again.config.to_bytes(), master.config.to_bytes());
}

#[test]
fn no_sources_and_sources_that_do_not_fit() {
    assert_eq!(
        united(&[], &Overrides::default()).unwrap_err().kind(),
        Kind::Usage
    );
    let a = with(json!({}));
    let b = with(json!({"vectors": {"size": 4, "distance": "Dot"}}));
    let err = united(&[a.clone(), b], &Overrides::default()).unwrap_err();
    assert_eq!(err.kind(), Kind::Usage);
    assert_eq!(err.doing(), "uniting the configs of a, b");
    for part in [
        "2 thing(s)",
        "size: 16 (a), 4 (b)",
        "distance: Cosine (a), Dot (b)",
    ] {
        assert!(err.why().contains(part), "{err}");
    }
    let newer = with(json!({"vectors": {"size": 4, "distance": "Hamming"}}));
    let err = united(&[newer], &Overrides::default()).unwrap_err();
    assert_eq!(err.kind(), Kind::Damaged);
    assert!(err.why().contains("Hamming"), "{err}");
}

#[test]
fn an_unknown_quantization_can_be_replaced() {
    let odd = config(json!({}), json!({"quantization_config": {"magic": {}}}));
    assert!(united(std::slice::from_ref(&odd), &Overrides::default()).is_err());
    let mut flags = user(json!({"vectors": {"size": 16, "distance": "Cosine", "on_disk": true}}));
    flags.quantization = Some(Quantization::from_word("binary").unwrap());
    let master = united(&[odd], &flags).unwrap();
    assert_eq!(
        master.config.quantization_config(),
        Some(&json!({"binary": {}}))
    );
    assert!(master.config.unknown_values().is_empty());
}

#[test]
fn vectors_and_indexes_are_united() {
    let a = with(json!({}));
    let b = with(
        json!({"vectors": {"image": {"size": 8, "distance": "Dot", "novel": 1}},
        "sparse_vectors": {"words": {"modifier": "idf"}}}),
    );
    let read = |text: &str| PayloadSchema::parse("x", text.as_bytes()).unwrap();
    let (pa, pb) = (
        read(r#"{"schema":{"year":"integer"}}"#),
        read(r#"{"schema":{"year":"float","taken":"datetime"}}"#),
    );
    let sources = [("a".to_owned(), &a, &pa), ("b".to_owned(), &b, &pb)];
    let master = unite(&sources, &Overrides::default()).unwrap();
    assert_eq!(
        master.config.params().unwrap()["vectors"],
        json!({"": {"size": 16, "distance": "Cosine"},
            "image": {"size": 8, "distance": "Dot", "novel": 1}})
    );
    assert_eq!(
        master.config.params().unwrap()["sparse_vectors"],
        json!({"words": {"modifier": "idf"}})
    );
    let indexes: Vec<(&String, &Value)> = master.payload.fields().iter().collect();
    assert_eq!(
        indexes,
        [
            (&"taken".to_owned(), &json!("datetime")),
            (&"year".to_owned(), &json!("integer"))
        ]
    );
    let said = said(&master);
    for line in [
        "vector 'image': 8 x float32 Dot (the first source that has it wins: b)",
        "vector 'words': sparse float32 modifier idf (the first source that has it wins: b)",
        "payload index of 'year': integer (the first source wins: a)",
        "payload index of 'taken': datetime (the first source that has it wins: b)",
    ] {
        assert!(said.iter().any(|s| s == line), "{line} not in {said:#?}");
    }
    assert_eq!(master.findings.len(), master.decisions.len());
}

#[test]
fn the_form_of_vectors_stays() {
    // A server compares the forms, so the unnamed one must not become a map of one.
    let unnamed = with(json!({}));
    let master = united(&[unnamed.clone(), unnamed], &Overrides::default()).unwrap();
    assert!(master.config.params().unwrap()["vectors"]["size"].is_u64());
    let mapped = with(json!({"vectors": {"": {"size": 16, "distance": "Cosine"}}}));
    let master = united(&[mapped], &Overrides::default()).unwrap();
    assert!(master.config.params().unwrap()["vectors"][""].is_object());
    let none = with(json!({"vectors": {}, "sparse_vectors": {"s": {}}}));
    let master = united(&[none], &Overrides::default()).unwrap();
    assert_eq!(master.config.params().unwrap()["vectors"], json!({}));
    assert!(master.config.sparse_vectors().contains_key("s"));
}

#[test]
fn shards() {
    let n = |n: u64| with(json!({ "shard_number": n }));
    let master = united(&[n(2), n(5), n(5)], &Overrides::default()).unwrap();
    assert_eq!(master.config.shard_number(), 5);
    assert_eq!(said(&master), ["shard_number: 5 (the largest, of b)"]);
    let three = Overrides {
        shard_number: Some(3),
        ..Overrides::default()
    };
    let master = united(&[n(2), n(5)], &three).unwrap();
    assert_eq!(master.config.shard_number(), 3);
    assert_eq!(said(&master), ["shard_number: 3 (--shards)"]);
    // Stating what is so already decides nothing.
    let master = united(&[n(3), n(3)], &three).unwrap();
    assert_eq!((master.config.shard_number(), said(&master).len()), (3, 0));
    let zero = Overrides {
        shard_number: Some(0),
        ..Overrides::default()
    };
    assert!(united(&[n(1)], &zero).is_err());
}

#[test]
fn sharding_methods() {
    let auto = with(json!({}));
    let custom = with(json!({"sharding_method": "custom"}));
    let cases = [
        (vec![&auto, &auto], None, Some("auto")),
        (vec![&custom, &custom], None, Some("custom")),
        (vec![&custom, &auto], None, Some("auto")),
        (vec![&auto, &custom], None, Some("auto")),
        (vec![&custom, &custom], Some("auto"), Some("auto")),
        (vec![&custom, &auto], Some("custom"), None),
        (vec![&auto], Some("custom"), None),
    ];
    for (configs, stated, want) in cases {
        let configs: Vec<CollectionConfig> = configs.into_iter().cloned().collect();
        let overrides = Overrides {
            sharding_method: stated.map(ShardingMethod::from_word),
            ..Overrides::default()
        };
        let got = united(&configs, &overrides);
        match want {
            Some(want) => {
                let master = got.unwrap();
                assert_eq!(master.config.sharding_method().as_word(), want);
                let changed = configs
                    .iter()
                    .any(|c| c.sharding_method().as_word() != want);
                assert_eq!(
                    !master.decisions.is_empty(),
                    changed,
                    "{:?}",
                    master.decisions
                );
            }
            None => {
                let err = got.unwrap_err();
                assert_eq!(err.kind(), Kind::Usage);
                assert!(err.why().contains("no shard key"), "{err}");
            }
        }
    }
}

#[test]
fn the_first_source_s_settings_stand() {
    let a = config(json!({}), json!({"hnsw_config": hnsw(16)}));
    let b = config(
        json!({"on_disk_payload": false}),
        json!({"hnsw_config": hnsw(32), "metadata": {"from": "b"},
            "quantization_config": {"binary": {}}}),
    );
    let master = united(&[a, b], &Overrides::default()).unwrap();
    assert_eq!(master.config.effective_hnsw("").m, 16);
    assert_eq!(master.config.quantization_config(), None);
    assert_eq!(
        said(&master),
        [
            "hnsw_config.m: 16 (the first source wins: a)",
            "metadata: not set (the first source wins: a)",
            "on_disk_payload: true (the first source wins: a)",
            "quantization_config: not set (the first source wins: a)",
        ]
    );
}

#[test]
fn a_later_vector_keeps_how_it_was_tuned() {
    let a = config(
        json!({"vectors": {"x": {"size": 4, "distance": "Dot"}}}),
        json!({"hnsw_config": hnsw(16)}),
    );
    let later = json!({"vectors": {"y": {"size": 4, "distance": "Dot"},
        "z": {"size": 4, "distance": "Dot", "hnsw_config": {"m": 16},
            "quantization_config": {"binary": {}}}}});
    let b = config(
        later,
        json!({"hnsw_config": {"m": 48, "ef_construct": 200, "full_scan_threshold": 10,
            "memory": "cold"},
            "quantization_config": {"product": {"compression": "x8"}}}),
    );
    let master = united(&[a.clone(), b.clone()], &Overrides::default()).unwrap();
    for name in ["y", "z"] {
        let (was, is) = (b.effective_hnsw(name), master.config.effective_hnsw(name));
        assert_eq!(
            (was.m, was.ef_construct, was.on_disk),
            (is.m, is.ef_construct, is.on_disk)
        );
        assert_eq!(
            b.effective_quantization(name),
            master.config.effective_quantization(name)
        );
    }
    assert_eq!(master.config.effective_hnsw("x"), a.effective_hnsw("x"));
    assert_eq!(master.config.effective_quantization("x"), None);
    assert!(said(&master).iter().any(
        |s| s == "vector 'y' hnsw_config.m: 48 (as in b, the first source that has the vector)"
    ));

    // A setting that was the vector's own already is no choice.
    assert!(
        !said(&master)
            .iter()
            .any(|s| s.starts_with("vector 'z'") && s.contains("binary"))
    );

    // A vector that the file states is as the file says.
    let file = user(json!({"vectors": {"y": {"size": 4, "distance": "Dot"}}}));
    let master = united(&[a.clone(), b.clone()], &file).unwrap();
    assert_eq!(master.config.effective_hnsw("y").m, 16);
    assert_eq!(master.config.effective_hnsw("z").ef_construct, 200);

    // Stated settings are not undone to keep a vector's own.
    let stated = Overrides {
        hnsw_m: Some(20),
        quantization: Some(Quantization::None),
        ..user(json!({"hnsw_config": {"on_disk": false}}))
    };
    let master = united(&[a.clone(), b.clone()], &stated).unwrap();
    for name in ["x", "y", "z"] {
        let is = master.config.effective_hnsw(name);
        assert_eq!((is.m, is.on_disk), (20, false), "{name}");
        assert_eq!(master.config.effective_quantization(name), None, "{name}");
    }
    assert_eq!(master.config.effective_hnsw("y").ef_construct, 200);

    // If the master quantizes everything, one vector cannot be left out, and a decision says so.
    let master = united(&[b, a], &Overrides::default()).unwrap();
    assert_eq!(
        master.config.effective_quantization("x"),
        Some(&json!({"product": {"compression": "x8"}}))
    );
    assert!(
        said(&master)
            .iter()
            .any(|s| s.starts_with("vector 'x' quantization_config"))
    );
    let x = master.config.effective_hnsw("x");
    assert_eq!((x.m, x.ef_construct, x.on_disk), (16, 100, false));
}

#[test]
fn flags_hold_for_every_vector() {
    let a = config(
        json!({"vectors": {
            "own": {"size": 4, "distance": "Dot", "memory": "cached",
                "hnsw_config": {"m": 8, "ef_construct": 50, "payload_m": 4},
                "quantization_config": {"binary": {}}},
            "none": {"size": 4, "distance": "Dot", "hnsw_config": {"m": 0}},
            "plain": {"size": 4, "distance": "Dot", "on_disk": true}},
            "payload": {"memory": "cold"}}),
        json!({}),
    );
    let flags = Overrides {
        hnsw_m: Some(24),
        hnsw_ef_construct: Some(256),
        on_disk_vectors: Some(true),
        on_disk_payload: Some(false),
        indexing_threshold: Some(0),
        memmap_threshold: Some(7),
        quantization: Some(Quantization::from_word("scalar:0.99").unwrap()),
        ..Overrides::default()
    };
    let master = united(&[a], &flags).unwrap();
    let config = &master.config;
    let of = |name| {
        let settings = config.effective_hnsw(name);
        (settings.m, settings.ef_construct, settings.payload_m)
    };
    assert_eq!(of("own"), (24, 256, Some(4)));
    assert_eq!(of("none"), (0, 256, None));
    assert_eq!(of("plain"), (24, 256, None));
    assert!(
        config
            .vectors()
            .values()
            .all(|v| v.placement() == Memory::Cold)
    );
    assert!(!config.on_disk_payload());
    let optimizer = config.optimizer_config().unwrap();
    assert_eq!(optimizer["indexing_threshold"], 0);
    assert_eq!(optimizer["memmap_threshold"], 7);
    for name in ["own", "none", "plain"] {
        assert_eq!(
            config.effective_quantization(name),
            Some(&json!({"scalar": {"type": "int8", "quantile": 0.99}}))
        );
    }
    let said = said(&master);
    for line in [
        "hnsw_config.m: 24 (--hnsw-m)",
        "vector 'own' hnsw_config.m: 24 (--hnsw-m, for every vector)",
        "vector 'none' hnsw_config.m: 0 (it has no graph by its own setting; --hnsw-m leaves that)",
        "vector 'own' memory: cold (--on-disk-vectors)",
        "vector 'none' memory: cold (--on-disk-vectors)",
        "on_disk_payload: false (--on-disk-payload)",
        "optimizer_config.indexing_threshold: 0 (--indexing-threshold)",
        "optimizer_config.memmap_threshold: 7 (--memmap-threshold)",
    ] {
        assert!(said.iter().any(|s| s == line), "{line} not in {said:#?}");
    }
    assert!(!said.iter().any(|s| s.starts_with("vector 'plain' memory")));
}
