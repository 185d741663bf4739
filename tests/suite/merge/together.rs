//! Several sources together: what the nodes of a lost cluster have of one collection, shards' own
//! snapshots, and one source under two names.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{ALBUMS, Sources};
use crate::support::craft::Tar;
use crate::support::packed::Packed;
use crate::support::{Env, Outcome, Trial};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("merge/together/nodes_of_a_cluster", || {
            nodes_of_a_cluster(env)
        }),
        Trial::new("merge/together/states_of_one_node", || {
            states_of_one_node(env)
        }),
        Trial::new("merge/together/shard_first", || shard_first(env)),
        Trial::new("merge/together/file_and_entry", || file_and_entry(env)),
    ]
}

/// A node's snapshot of a collection: of the shards of `from`, those that it has and the state of its
/// replica of each; of the others it has the names.
fn node(from: &Path, to: PathBuf, peer: u64, states: [Option<&str>; 3]) -> Outcome<PathBuf> {
    let mut tar = Tar::parse(&std::fs::read(from)?)?;

    for (shard, state) in states.iter().enumerate() {
        if state.is_none() {
            let kept = ["replica_state.json", "shard_config.json"];
            let folder = format!("{shard}/");
            tar.remove(|path| {
                path.starts_with(&folder) && !kept.iter().any(|name| path.ends_with(name))
            })?;
        }
        let mut peers = json!({"7": "Active"});
        if let Some(state) = state {
            peers[peer.to_string()] = json!(state);
        }
        let said = json!({"is_local": state.is_some(), "this_peer_id": peer, "peers": peers});
        let member = tar.find(&format!("{shard}/replica_state.json"))?;
        member.set(said.to_string().into_bytes());
    }
    std::fs::write(&to, tar.bytes())?;
    Ok(to)
}

/// Shards divided and replicated, replicas that were active and not: each is read once, by every route,
/// and what comes out is the collection.
fn nodes_of_a_cluster(env: &Env) -> Outcome {
    let active = Some("Active");
    for (name, nodes, shards_from) in [
        (
            "divided",
            vec![[active, active, None], [None, active, active]],
            "0 from one, 1 from one, 2 from two",
        ),
        (
            "replicated",
            vec![[active; 3], [active; 3]],
            "0 from one, 1 from one, 2 from one",
        ),
        (
            "not_active",
            vec![
                [Some("Partial"), active, active],
                [active, Some("Dead"), None],
            ],
            "0 from two, 1 from one, 2 from one",
        ),
    ] {
        let mut sources = Sources::named(env, &["three_shards"])?;
        let whole = sources.files[0].clone();
        sources.files.clear();
        for (at, states) in nodes.into_iter().enumerate() {
            let to = sources.path(["one.snapshot", "two.snapshot"][at]);
            sources
                .files
                .push(node(&whole, to, 11 + at as u64, states)?);
        }
        for route in ["graft", "rebuild"] {
            let master = sources.merge(&["--route", route])?;
            master.ensure_holds(&sources.truths[0])?;
            ensure_eq!(master.report["conflicts"]["count"], json!(0), "{name}");
            let notes = master.report["notes"].to_string();
            ensure!(notes.contains(shards_from), "{name} by {route}: {notes}");
            for deep in [&[][..], &["--deep"]] {
                cli!["verify", &master.path, "--against"]
                    .args(&sources.files)
                    .args(deep)
                    .run()?
                    .ok()?;
            }
        }
        // One node alone is not the whole, unless it has every shard.
        let alone = cli![
            "merge",
            &sources.files[1],
            "-o",
            sources.path("alone.snapshot")
        ]
        .run()?;
        match name {
            "replicated" => alone.ok().map(drop)?,
            _ => alone.code(13)?.says(&["shard"]).map(drop)?,
        }
    }
    Ok(())
}

/// Two snapshots of one node are two states of the collection, and not its halves.
fn states_of_one_node(env: &Env) -> Outcome {
    let mut sources = Sources::named(env, &["three_shards"])?;
    let whole = sources.files[0].clone();
    let later = node(
        &whole,
        sources.path("later.snapshot"),
        11,
        [Some("Active"); 3],
    )?;
    let first = node(
        &whole,
        sources.path("first.snapshot"),
        11,
        [Some("Active"); 3],
    )?;
    sources.files = vec![first, later];
    let master = sources.merge(&[])?;
    master.ensure_holds(&sources.truths[0])?;
    let points = sources.truths[0].len();
    ensure_eq!(
        master.report["conflicts"]["count"],
        json!(points),
        "conflicts"
    );
    Ok(())
}

/// A shard's own snapshot says little of its collection: what it lacks is taken from the others, also
/// where it comes first.
fn shard_first(env: &Env) -> Outcome {
    let mut sources = Sources::named(env, &ALBUMS[..2])?;
    let shard = Packed::open(&sources.files[0])?.write_shard(0, sources.dir())?;
    let config = |master: &super::Master| -> Outcome<Value> {
        let mut config = master.packed.config()?;
        // How many segments there are to be left alone is the route's.
        config["optimizer_config"]["default_segment_number"].take();
        Ok(config)
    };
    let alone = {
        let files = std::mem::replace(&mut sources.files, vec![shard.clone()]);
        let alone = sources.merge(&[])?;
        sources.files = files;
        alone
    };
    ensure_eq!(
        alone.packed.config()?["params"]["vectors"],
        json!({"size": 16, "distance": "Cosine"}),
        "vectors as a server writes them"
    );
    sources.files.remove(0);
    let stated = config(&sources.merge(&[])?)?;
    sources.files.insert(0, shard);
    let master = sources.merge(&[])?;
    master.ensure_holds(sources.truths.iter().flatten())?;
    ensure_eq!(config(&master)?, stated, "the config that is stated");
    Ok(())
}

/// A file and the archive's entry of it are one source.
fn file_and_entry(env: &Env) -> Outcome {
    let sources = Sources::named(env, &["plain_dot"])?;
    let archive = sources.path("archive");
    cli!["archive", "init", "--archive", &archive].run()?.ok()?;
    cli!["archive", "add", "--archive", &archive, &sources.files[0]]
        .run()?
        .ok()?;
    let entry = "archive:plain_dot";
    let twice = [
        [entry, "archive:plain_dot@latest"],
        [entry, &sources.files[0].to_string_lossy()],
    ];
    // Who says nothing of a file's bytes does not say that they are the entry's.
    let sha256 = sources.cases[0].sha256();
    std::fs::write(sources.path("plain_dot.snapshot.checksum"), sha256)?;
    let master = sources.path("m.snapshot");
    for both in twice {
        cli!["merge", "--archive", &archive, "-o", &master]
            .args(both)
            .run()?
            .code(2)?
            .says(&["given twice"])?;
        cli![
            "verify",
            &sources.files[0],
            "--archive",
            &archive,
            "--against"
        ]
        .args(both)
        .run()?
        .code(2)?
        .says(&["given twice"])?;
    }
    Ok(())
}
