//! Tests of comparing configs: what blocks, what differs, what is worth a note.

use super::*;
use crate::format::schema::PayloadSchema;
use crate::format::schema::config::tests::config;
use serde_json::json;

fn schema(fields: Value) -> PayloadSchema {
    PayloadSchema::parse("x", json!({ "schema": fields }).to_string().as_bytes()).unwrap()
}

/// Compares configs named a, b, c … without payload indexes.
fn found(configs: &[CollectionConfig]) -> Vec<Finding> {
    let none = PayloadSchema::default();
    let sources: Vec<Source<'_>> = configs
        .iter()
        .zip('a'..)
        .map(|(config, name)| (name.to_string(), config, &none))
        .collect();
    compare(&sources)
}

/// "severity about: value value", without meanings.
fn lines(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .map(|f| {
            let values: Vec<&str> = f.values.iter().map(|v| v.value.as_str()).collect();
            format!("{} {}: {}", f.severity, f.about, values.join(" "))
        })
        .collect()
}

fn with(params: Value) -> CollectionConfig {
    config(params, json!({}))
}

#[test]
fn equal_configs_of_real_servers_have_no_findings() {
    let a = with(json!({}));
    let other_uuid = config(json!({}), json!({"uuid": null}));
    assert!(found(&[a.clone(), other_uuid, a]).is_empty());
    assert!(found(&[]).is_empty());
}

#[test]
fn what_only_looks_different_is_no_finding() {
    let a = config(
        json!({"vectors": {"v": {"size": 4, "distance": "Dot"}}}),
        json!({}),
    );
    let b = config(
        json!({
            "vectors": {"v": {"size": 4, "distance": "Dot", "on_disk": false,
                "datatype": "float32", "hnsw_config": {}, "quantization_config": null}},
            "sharding_method": "auto", "payload": {"memory": "cold"}, "read_fan_out_factor": null,
            "sparse_vectors": null
        }),
        json!({
            "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10,
                "memory": "cached", "payload_m": null, "inline_storage": false},
            "optimizer_config": {"deleted_threshold": 0.2, "default_segment_number": 2,
                "indexing_threshold": 1, "flush_interval_sec": 1},
            "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
            "strict_mode_config": null
        }),
    );
    assert_eq!(lines(&found(&[a, b])), [""; 0]);
}

#[test]
fn every_blocking_difference_is_named_at_once() {
    let vector = |v: Value| {
        json!({"size": 4, "distance": "Dot"})
            .as_object()
            .map(|base| {
                let mut base = base.clone();
                base.extend(v.as_object().unwrap().clone());
                Value::from(base)
            })
    };
    let a = with(json!({
        "vectors": {"size_": vector(json!({})), "dist": vector(json!({})),
            "type": vector(json!({})), "multi": vector(json!({})), "kind": vector(json!({})),
            "same": vector(json!({}))},
        "sparse_vectors": {"mod": {"modifier": "idf"}, "idx": {"index": {"datatype": "float16"}}}
    }));
    let b = with(json!({
        "vectors": {"size_": vector(json!({"size": 5})), "dist": vector(json!({"distance": "Cosine"})),
            "type": vector(json!({"datatype": "uint8"})),
            "multi": vector(json!({"multivector_config": {"comparator": "max_sim"}})),
            "same": vector(json!({"datatype": "float32"}))},
        "sparse_vectors": {"mod": {}, "idx": {}, "kind": {}}
    }));
    let all = found(&[a.clone(), b, a]);
    let blocks: Vec<Finding> = all
        .iter()
        .filter(|f| f.severity == Severity::Blocks)
        .cloned()
        .collect();
    assert_eq!(
        lines(&blocks),
        [
            "blocks vector 'dist' distance: Dot Cosine Dot",
            "blocks vector 'multi' multivector: none max_sim none",
            "blocks vector 'size_' size: 4 5 4",
            "blocks vector 'type' datatype: float32 uint8 float32",
            "blocks vector 'idx' index datatype: float16 float32 float16",
            "blocks vector 'mod' modifier: idf none idf",
            "blocks vector 'kind' kind: dense sparse dense",
        ]
    );
    // Findings that block come first.
    let first_other = all.iter().position(|f| f.severity != Severity::Blocks);
    assert_eq!(first_other, Some(blocks.len()));
    assert_eq!(blocks[0].values[1].source, "b");
    assert!(blocks.iter().all(|f| !f.meaning.is_empty()));
}

#[test]
fn vectors_that_only_some_have() {
    let a = with(json!({}));
    let b = with(
        json!({"vectors": {"image": {"size": 512, "distance": "Cosine",
        "datatype": "float16"}}, "sparse_vectors": {"words": {"modifier": "idf"}}}),
    );
    let all = found(&[a, b]);
    assert_eq!(
        lines(&all),
        [
            "differs the unnamed vector: 16 x float32 Cosine none",
            "differs vector 'image': none 512 x float16 Cosine",
            "differs vector 'words': none sparse float32 modifier idf",
        ]
    );
    assert!(all[0].meaning.contains("names no vector"));
    assert!(!all[1].meaning.contains("names no vector"));
}

#[test]
fn settings_that_differ() {
    let a = config(
        json!({"shard_number": 1, "on_disk_payload": true}),
        json!({"metadata": {"k": 1}}),
    );
    let b = config(
        json!({
            "vectors": {"size": 16, "distance": "Cosine", "on_disk": true,
                "hnsw_config": {"m": 8}, "brand_new": 1},
            "shard_number": 3, "sharding_method": "custom", "replication_factor": 2,
            "payload": {"memory": "cached"}, "unheard_of": true
        }),
        json!({
            "hnsw_config": {"m": 32, "ef_construct": 100, "full_scan_threshold": 10,
                "on_disk": true},
            "optimizer_config": {"deleted_threshold": 0.2, "vacuum_min_vector_number": 1000,
                "default_segment_number": 2, "indexing_threshold": 20000, "flush_interval_sec": 1},
            "wal_config": {"wal_capacity_mb": 64, "wal_segments_ahead": 0},
            "quantization_config": {"binary": {"always_ram": true}},
            "strict_mode_config": {"enabled": true, "max_timeout": null}
        }),
    );
    let all = found(&[a, b]);
    assert_eq!(
        lines(&all),
        [
            "differs the unnamed vector brand_new: not set 1",
            "differs the unnamed vector hnsw_config.m: not set 8",
            "differs the unnamed vector memory: cached cold",
            "differs hnsw_config.m: 16 32",
            "differs hnsw_config.memory: cached cold",
            "differs metadata: {\"k\":1} not set",
            "differs on_disk_payload: true false",
            "differs optimizer_config.indexing_threshold: 1 20000",
            "differs params.unheard_of: not set true",
            "differs quantization_config: not set {\"binary\":{\"always_ram\":true}}",
            "differs shard_number: 1 3",
            "differs sharding_method: auto custom",
            "differs strict_mode_config.enabled: not set true",
            "note replication_factor: 1 2",
            "note wal_config.wal_capacity_mb: 32 64",
        ]
    );
    for finding in &all {
        assert!(
            finding
                .values
                .iter()
                .map(|v| v.source.as_str())
                .eq(["a", "b"])
        );
    }
}

#[test]
fn payload_indexes() {
    let config = with(json!({}));
    let a = schema(json!({"year": "integer", "camera": "keyword", "only_a": "geo", "t": "text"}));
    let b = schema(json!({"year": "float", "camera": {"type": "keyword"},
        "t": {"type": "text", "lowercase": false}}));
    let all = compare(&[("a".to_owned(), &config, &a), ("b".to_owned(), &config, &b)]);
    assert_eq!(
        lines(&all),
        [
            "differs payload index of 'only_a': geo none",
            "differs payload index of 't': text(word, lowercase) text(word, lowercase false)",
            "differs payload index of 'year': integer float",
        ]
    );
    assert!(all[2].meaning.contains("another type"));
    assert!(all[0].meaning.contains("all sources"));
}

#[test]
fn what_this_version_does_not_know_blocks_even_alone() {
    let odd = config(
        json!({"vectors": {"v": {"size": 4, "distance": "Hamming"}}}),
        json!({"quantization_config": {"magic": {}}}),
    );
    let indexes = schema(json!({"a": "h3"}));
    let all = compare(&[("a".to_owned(), &odd, &indexes)]);
    assert_eq!(
        lines(&all),
        [
            "blocks payload index of 'a': h3",
            "blocks quantization_config: {\"magic\":{}}",
            "blocks vector 'v' distance: Hamming",
        ]
    );
    assert!(all[1].meaning.contains("--quantization"));
    assert!(all[2].meaning.contains("newer snapmerge"));
}

#[test]
fn a_finding_reads_well_and_serializes() {
    let small = with(json!({}));
    let large = with(json!({"vectors": {"size": 32, "distance": "Cosine"}}));
    let all = found(&[small.clone(), large, small]);
    assert_eq!(all.len(), 1);
    let text = all[0].to_string();
    assert!(
        text.starts_with("blocks the unnamed vector size: 16 (a, c), 32 (b)\n  vectors of"),
        "{text}"
    );
    let json = serde_json::to_value(&all[0]).unwrap();
    assert_eq!(json["severity"], "blocks");
    assert_eq!(json["values"][1], json!({"source": "b", "value": "32"}));
}

#[test]
fn canonical_form() {
    for (a, b) in [
        (json!(1), json!(1.0)),
        (json!({"a": null, "b": [1.0]}), json!({"b": [1]})),
    ] {
        assert_eq!(canonical(&a), canonical(&b));
    }
    assert_ne!(canonical(&json!(0.2)), canonical(&json!(0.25)));
    assert_ne!(canonical(&json!("1")), canonical(&json!(1)));
    let text = canonical(&json!({"b": 1, "a": 2})).to_string();
    assert_eq!(text, r#"{"a":2,"b":1}"#);
}
