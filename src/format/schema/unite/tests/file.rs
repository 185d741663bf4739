//! Tests of `--config FILE`: Qdrant's own JSON laid over what the sources say.

use super::*;

#[test]
fn a_config_file_is_laid_over_the_sources() {
    let a = config(
        json!({"vectors": {"v": {"size": 4, "distance": "Dot", "on_disk": true, "novel": 1},
            "w": {"size": 5, "distance": "Dot"}}, "payload": {"memory": "cached"}}),
        json!({"quantization_config": {"binary": {}},
            "strict_mode_config": {"enabled": true, "max_timeout": 5}}),
    );
    let file = user(json!({
        "vectors": {"v": {"size": 4, "distance": "Dot", "hnsw_config": {"m": 64}},
            "extra": {"size": 9, "distance": "Cosine"}},
        "shard_number": 4, "on_disk_payload": true,
        "hnsw_config": {"ef_construct": 300, "on_disk": false},
        "optimizers_config": {"indexing_threshold": 55, "max_optimization_threads": "auto"},
        "quantization": null,
        "strict_mode_config": {"max_timeout": 9},
        "metadata": {"made": "by hand"}
    }));
    let master = united(std::slice::from_ref(&a), &file).unwrap();
    let config = &master.config;
    let params = config.params().unwrap();
    assert_eq!(
        params["vectors"],
        json!({
            "v": {"size": 4, "distance": "Dot", "hnsw_config": {"m": 64}, "novel": 1},
            "w": {"size": 5, "distance": "Dot"},
            "extra": {"size": 9, "distance": "Cosine"}
        })
    );
    assert_eq!(config.effective_hnsw("v").m, 64);
    assert_eq!(config.effective_hnsw("v").ef_construct, 300);
    assert_eq!(config.shard_number(), 4);
    assert!(config.on_disk_payload());
    assert_eq!(config.optimizer_config().unwrap()["indexing_threshold"], 55);
    // Not stated: as the source has it.
    assert_eq!(
        config.optimizer_config().unwrap()["default_segment_number"],
        2
    );
    assert_eq!(config.quantization_config(), None);
    assert_eq!(
        config.strict_mode_config(),
        Some(&json!({"enabled": true, "max_timeout": 9}))
    );
    assert_eq!(config.metadata(), Some(&json!({"made": "by hand"})));
    let about: BTreeSet<&str> = master.decisions.iter().map(|d| d.about.as_str()).collect();
    assert_eq!(
        about,
        BTreeSet::from([
            "vector 'v' tuning",
            "vector 'extra'",
            "shard_number",
            "on_disk_payload",
            "hnsw_config.ef_construct",
            "optimizer_config.indexing_threshold",
            "quantization_config",
            "strict_mode_config.max_timeout",
            "metadata",
        ])
    );
    assert!(
        master
            .decisions
            .iter()
            .all(|d| d.because.contains("--config my.json"))
    );

    // A flag wins over the file.
    let both = Overrides {
        shard_number: Some(2),
        ..file
    };
    assert_eq!(united(&[a], &both).unwrap().config.shard_number(), 2);
}

#[test]
fn a_file_settles_what_sources_differ_in() {
    let a = config(json!({}), json!({"hnsw_config": hnsw(16)}));
    let b = config(
        json!({"on_disk_payload": false}),
        json!({"hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10,
            "max_indexing_threads": 0, "on_disk": true}}),
    );
    // The file says what the first source says, and is then the reason.
    let file = user(json!({"on_disk_payload": true, "hnsw_config": {"on_disk": false}}));
    assert_eq!(
        said(&united(&[a, b], &file).unwrap()),
        [
            "on_disk_payload: true (--config my.json)",
            "hnsw_config.memory: cached (--config my.json)",
        ]
    );
}

#[test]
fn a_source_s_own_config_as_the_file_changes_nothing() {
    let json = config_json(json!({}), json!({}));
    let one = CollectionConfig::parse("x", json.to_string().as_bytes()).unwrap();
    let master = united(std::slice::from_ref(&one), &user(json)).unwrap();
    assert_eq!(said(&master), [""; 0]);
    let plain = united(&[one], &Overrides::default()).unwrap();
    assert_eq!(master.config, plain.config);
}

#[test]
fn a_config_file_that_contradicts_the_sources_is_refused() {
    let a = with(json!({"vectors": {"v": {"size": 4, "distance": "Dot"},
        "k": {"size": 4, "distance": "Dot"}}, "sparse_vectors": {"s": {"modifier": "idf"}}}));
    let b = with(json!({"vectors": {"v": {"size": 4, "distance": "Dot"},
        "w": {"size": 5, "distance": "Dot"}}}));
    let file = user(json!({
        "vectors": {"v": {"size": 8, "distance": "Cosine", "datatype": "float16"},
            "w": {"size": 5, "distance": "Dot",
                "multivector_config": {"comparator": "max_sim"}}},
        "sparse_vectors": {"s": {}, "k": {}}
    }));
    let err = united(&[a, b], &file).unwrap_err();
    assert_eq!(err.kind(), Kind::Usage);
    assert_eq!(err.doing(), "giving the master the vectors of my.json");
    for part in [
        "vector 'v' size: 4 in a, 8 in my.json",
        "vector 'v' size: 4 in b, 8 in my.json",
        "vector 'v' distance: Dot in a, Cosine in my.json",
        "vector 'v' datatype: float32 in a, float16 in my.json",
        "vector 'w' multivector: none in b, max_sim in my.json",
        "vector 's' modifier: idf in a, none in my.json",
        "vector 'k' kind: dense in a, sparse in my.json",
    ] {
        assert!(err.why().contains(part), "{part} not in {err}");
    }
    assert!(!err.why().contains("'w' size"));

    let custom = user(json!({"sharding_method": "custom"}));
    assert!(united(&[with(json!({}))], &custom).is_err());
}
