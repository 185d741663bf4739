//! Tests of reading configs: real shapes, unknown values, damage.

use super::*;
use crate::base::error::Kind;
use serde_json::json;

/// The shape that Qdrant 1.19.0 writes, with `params` given and any top-level key replaced.
pub(in crate::format::schema) fn config_json(params: Value, more: Value) -> Value {
    let mut value = json!({
        "params": {"vectors": {"size": 16, "distance": "Cosine"}, "shard_number": 1,
            "replication_factor": 1, "write_consistency_factor": 1, "on_disk_payload": true},
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10,
            "max_indexing_threads": 0, "on_disk": false},
        "optimizer_config": {"deleted_threshold": 0.2, "vacuum_min_vector_number": 1000,
            "default_segment_number": 2, "max_segment_size": null, "memmap_threshold": null,
            "indexing_threshold": 1, "flush_interval_sec": 1, "max_optimization_threads": null,
            "prevent_unoptimized": null},
        "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1},
        "quantization_config": null,
        "uuid": "2b1f53a7-7b93-4562-b3ca-92c308ce2112"
    });
    for (key, v) in params.as_object().unwrap() {
        value["params"][key] = v.clone();
    }
    for (key, v) in more.as_object().unwrap() {
        value[key] = v.clone();
    }
    value
}

pub(in crate::format::schema) fn config(params: Value, more: Value) -> CollectionConfig {
    let json = config_json(params, more);
    CollectionConfig::parse("test", json.to_string().as_bytes()).unwrap()
}

#[test]
fn the_unnamed_vector_of_a_real_config() {
    let read = config(json!({}), json!({}));
    assert_eq!(read.vectors().keys().collect::<Vec<_>>(), [""]);
    let v = &read.vectors()[""];
    assert_eq!((v.size, v.distance.as_word()), (16, "Cosine"));
    assert_eq!(v.datatype().as_word(), "float32");
    assert_eq!(v.placement(), Memory::Cached);
    assert!(v.multivector.is_none() && v.hnsw_config.is_none());
    assert!(read.sparse_vectors().is_empty());
    assert_eq!(read.shard_number(), 1);
    assert_eq!(*read.sharding_method(), ShardingMethod::Auto);
    assert!(read.on_disk_payload());
    assert!(read.quantization_config().is_none());
    assert!(read.uuid().unwrap().starts_with("2b1f53a7"));
    assert!(read.unknown_values().is_empty());
}

#[test]
fn named_sparse_multi_and_typed_vectors() {
    let read = config(
        json!({
            "vectors": {
                "dense": {"size": 8, "distance": "Dot", "on_disk": true, "datatype": "uint8"},
                "colbert": {"size": 128, "distance": "Cosine", "memory": "cold",
                    "multivector_config": {"comparator": "max_sim"},
                    "hnsw_config": {"m": 0}}
            },
            "sparse_vectors": {
                "disk": {"index": {"on_disk": true, "full_scan_threshold": 5000}},
                "words": {"modifier": "idf", "index": {"datatype": "float16"}}
            },
            "shard_number": 3, "sharding_method": "custom", "on_disk_payload": false
        }),
        json!({"quantization_config": {"scalar": {"type": "int8", "quantile": 0.99}}}),
    );
    let dense = &read.vectors()["dense"];
    assert_eq!(
        (dense.size, dense.datatype()),
        (8, super::super::Datatype::Uint8)
    );
    assert_eq!(dense.placement(), Memory::Cold);
    let colbert = &read.vectors()["colbert"];
    assert_eq!(colbert.multivector.as_ref().unwrap().as_word(), "max_sim");
    assert_eq!(colbert.placement(), Memory::Cold);
    let disk = &read.sparse_vectors()["disk"];
    assert_eq!(
        (disk.placement(), disk.full_scan_threshold),
        (Memory::Cold, Some(5000))
    );
    assert_eq!(disk.modifier().as_word(), "none");
    let words = &read.sparse_vectors()["words"];
    assert_eq!(words.modifier().as_word(), "idf");
    assert_eq!(words.datatype().as_word(), "float16");
    assert_eq!(words.placement(), Memory::Pinned);
    assert_eq!((read.shard_number(), read.on_disk_payload()), (3, false));
    assert_eq!(*read.sharding_method(), ShardingMethod::Custom);
}

#[test]
fn names_that_look_like_keys_are_names() {
    let read = config(
        json!({"vectors": {"size": {"size": 4, "distance": "Dot"},
            "distance": {"size": 5, "distance": "Dot"}}}),
        json!({}),
    );
    assert_eq!(
        read.vectors().keys().collect::<Vec<_>>(),
        ["distance", "size"]
    );
    // Older servers allowed a slash in a name.
    let old = config(
        json!({"vectors": {"a/b": {"size": 4, "distance": "Dot"}}}),
        json!({}),
    );
    assert!(old.vectors().contains_key("a/b"));
    let none = config(json!({"vectors": {}}), json!({}));
    assert!(none.vectors().is_empty());
}

#[test]
fn a_round_trip_keeps_what_is_not_known() {
    let json = config_json(
        json!({"brand_new": {"a": [1, 2.5]}}),
        json!({"future": "x", "hnsw_config": {"m": 16, "ef_construct": 100,
            "full_scan_threshold": 10, "novel": 7}}),
    );
    let read = CollectionConfig::parse("x", json.to_string().as_bytes()).unwrap();
    let again: Value = serde_json::from_slice(&read.to_bytes()).unwrap();
    assert_eq!(again, json);
    assert_eq!(read.effective_hnsw("").raw["novel"], 7);
}

#[test]
fn a_vector_s_own_settings_lie_over_the_collection_s() {
    let read = config(
        json!({"vectors": {
            "own": {"size": 4, "distance": "Dot",
                "hnsw_config": {"m": 32, "on_disk": true, "payload_m": 8, "ef_construct": null,
                    "full_scan_threshold_kb": 77},
                "quantization_config": {"binary": {}}},
            "plain": {"size": 4, "distance": "Dot", "hnsw_config": {}}
        }}),
        json!({"quantization_config": {"product": {"compression": "x8"}}}),
    );
    let own = read.effective_hnsw("own");
    assert_eq!(
        (own.m, own.ef_construct, own.full_scan_threshold),
        (32, 100, 77)
    );
    assert_eq!((own.on_disk, own.payload_m), (true, Some(8)));
    // The merged map must be one that the engine reads: no second spelling, no null.
    assert_eq!(own.raw["full_scan_threshold"], 77);
    assert!(!own.raw.contains_key("full_scan_threshold_kb"));
    let plain = read.effective_hnsw("plain");
    assert_eq!((plain.m, plain.on_disk, plain.payload_m), (16, false, None));
    assert_eq!(plain, read.effective_hnsw("no such vector"));
    assert_eq!(
        read.effective_quantization("own"),
        Some(&json!({"binary": {}}))
    );
    assert_eq!(
        read.effective_quantization("plain"),
        Some(&json!({"product": {"compression": "x8"}}))
    );
}

#[test]
fn memory_wins_over_the_older_flags() {
    let read = config(
        json!({"vectors": {"size": 4, "distance": "Dot", "on_disk": true, "memory": "cached"},
            "on_disk_payload": true, "payload": {"memory": "cached"}}),
        json!({"hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10,
            "on_disk": false, "memory": "cold"}}),
    );
    assert_eq!(read.vectors()[""].placement(), Memory::Cached);
    assert!(!read.on_disk_payload());
    assert!(read.effective_hnsw("").on_disk);
}

#[test]
fn newer_words_are_listed_and_not_guessed_at() {
    let read = config(
        json!({
            "vectors": {"a": {"size": 4, "distance": "Hamming", "datatype": "bfloat16",
                "memory": "warm", "multivector_config": {"comparator": "avg"},
                "quantization_config": {"magic": {}}}},
            "sparse_vectors": {"s": {"modifier": "bm25", "index": {"datatype": "int4"}}},
            "sharding_method": "geo"
        }),
        json!({"quantization_config": {"magic": {}}}),
    );
    let about: Vec<String> = read.unknown_values().into_iter().map(|u| u.about).collect();
    assert_eq!(
        about,
        [
            "vector 'a' distance",
            "vector 'a' datatype",
            "vector 'a' memory",
            "vector 'a' multivector comparator",
            "vector 'a' quantization_config",
            "vector 's' modifier",
            "vector 's' index datatype",
            "quantization_config",
            "sharding_method",
        ]
    );
    assert_eq!(read.unknown_values()[0].value, "Hamming");
}

#[test]
fn damage_is_named_all_at_once() {
    let cases = [
        ("", vec!["EOF"]),
        ("[]", vec!["wants an object"]),
        (
            "{}",
            vec![
                "hnsw_config: missing",
                "params: missing",
                "wal_config: missing",
            ],
        ),
    ];
    for (text, says) in cases {
        let err = CollectionConfig::parse("a.snapshot", text.as_bytes()).unwrap_err();
        assert_eq!(err.kind(), Kind::Damaged);
        assert_eq!(err.doing(), "reading config.json of a.snapshot");
        for part in says {
            assert!(err.why().contains(part), "{text}: {err}");
        }
    }
    let cases = [
        (
            json!({"vectors": {"size": 0, "distance": "Dot"}}),
            "size: wants 1 to 65536, has 0",
        ),
        (
            json!({"vectors": {"size": 65537, "distance": "Dot"}}),
            "has 65537",
        ),
        (
            json!({"vectors": {"size": 4.5, "distance": "Dot"}}),
            "has 4.5",
        ),
        (
            json!({"vectors": {"a": {"size": 4}}}),
            "vector 'a': distance: missing",
        ),
        (json!({"vectors": {"a": 7}}), "vector 'a': wants an object"),
        (json!({"vectors": [1]}), "vectors: wants an object"),
        (
            json!({"vectors": {"../a": {"size": 4, "distance": "Dot"}}}),
            "leads out",
        ),
        (
            json!({"vectors": {"a\0b": {"size": 4, "distance": "Dot"}}}),
            "leads out",
        ),
        (
            json!({"vectors": {"/a": {"size": 4, "distance": "Dot"}}}),
            "leads out",
        ),
        (
            json!({"vectors": {"a": {"size": 4, "distance": "Dot", "multivector_config": {}}}}),
            "comparator: missing",
        ),
        (
            json!({"vectors": {"a": {"size": 4, "distance": "Dot", "on_disk": "no"}}}),
            "on_disk: wants true or false",
        ),
        (
            json!({"vectors": {"a": {"size": 4, "distance": "Dot"}},
                "sparse_vectors": {"a": {}, "": {}}}),
            "vector 'a' is both dense and sparse",
        ),
        (json!({"sparse_vectors": {"": {}}}), "without a name"),
        (
            json!({"shard_number": 0}),
            "shard_number: wants 1 to 10000, has 0",
        ),
        (json!({"shard_number": 4294967296u64}), "shard_number"),
        (json!({"sharding_method": 1}), "sharding_method"),
        (json!({"on_disk_payload": "yes"}), "on_disk_payload"),
    ];
    for (params, says) in cases {
        let text = config_json(params.clone(), json!({})).to_string();
        let err = CollectionConfig::parse("x", text.as_bytes()).unwrap_err();
        assert!(err.why().contains(says), "{params}: {err}");
    }
    let more = json!({"hnsw_config": {"m": "16", "ef_construct": 100},
        "quantization_config": 3});
    let text = config_json(json!({"shard_number": 0}), more).to_string();
    let err = CollectionConfig::parse("x", text.as_bytes()).unwrap_err();
    for says in [
        "hnsw_config.m: wants",
        "hnsw_config.full_scan_threshold: missing",
        "quantization_config: wants an object",
        "shard_number",
    ] {
        assert!(err.why().contains(says), "{says} not in {err}");
    }
}
