//! Clusters: one node with shard keys, and three with two replicas of each shard.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::cli::Cli;
use crate::support::points::{by_id, ensure_same};
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome, Trial, temp_dir};

use super::live::nothing_left;
use super::{captured_in, is_one_error, manifest_of, run_with};

/// How long members may take to agree.
const AGREE: Duration = Duration::from_secs(60);

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        env.live("server/cluster/shard_keys", |bin| shard_keys(env, bin)),
        env.live("server/cluster/three_members", |bin| three(env, bin)),
    ]
}

/// A master with a shard key for each source, on a cluster of one: qdrant#10135 would leave it empty.
fn shard_keys(env: &Env, bin: &Path) -> Outcome {
    let server = Server::start_cluster(bin)?;
    let url = server.url();
    let dir = temp_dir()?;
    let run = |args: &[&str]| run_with(dir.path(), args);
    let sources = ["album_2017", "album_2018"].map(|name| env.case(name));
    let by_source = dir.path().join("by_source.snapshot");
    let merge = run(&["merge", "-q", "--layout=by-source", "-o"]).arg(&by_source);
    merge
        .args(sources.iter().map(|case| &case.snapshot_gz))
        .run()?
        .ok()?;
    let keyed = env.case("shard_keys");
    for (name, file, count) in [
        (
            "by_source",
            by_source,
            sources.iter().map(|case| case.points()).sum(),
        ),
        ("keyed", keyed.unpack(dir.path())?, keyed.points()),
    ] {
        let to = format!("{url}/{name}");
        let report = run(&["restore", "-q", "--json", "--to", &to])
            .arg(&file)
            .run()?
            .ok()?
            .json()?;
        ensure_eq!(report["way"], json!("create_then_whole"), "the way");
        ensure_eq!(
            report["verdict"]["points"],
            json!(count),
            "points of {name}"
        );
        nothing_left(&server)?;
        // There and back: captured it restores the same again.
        let points = server.scroll(name)?;
        ensure_eq!(points.len(), count, "points of {name}");
        for (form, flags) in [("collection", &[][..]), ("streamed", &["--stream"])] {
            let archive = dir.path().join(format!("{name}-{form}"));
            let capture = run(&["capture", &url, name, "-q"]).args(flags);
            capture.arg("--to").arg(&archive).run()?.ok()?;
            let to = format!("{url}/{name}_{form}");
            let again = run(&["restore", "-q", "--to", &to]).arg(captured_in(&archive)?);
            again.run()?.ok()?;
            ensure_same(&server.scroll(&format!("{name}_{form}"))?, &points)?;
        }
    }
    // Each key has its own points alone.
    for case in &sources {
        let body = json!({"exact": true, "shard_key": case.name});
        let answer = server.post("/collections/by_source/points/count", &body)?;
        ensure_eq!(
            answer["count"],
            json!(case.points()),
            "points of {}",
            case.name
        );
    }
    let truth = by_id(keyed.truth()?)?;
    ensure_same(&server.scroll("keyed")?, truth.values())?;
    nothing_left(&server)
}

fn peer_id(server: &Server) -> Outcome<u64> {
    let id = server.get("/cluster")?["peer_id"].as_u64();
    Ok(id.ok_or("a member without id")?)
}

/// Waits until all members know all, and every replica of `name` is Active.
pub fn agree(members: &[&Server], name: Option<&str>) -> Outcome {
    let start = Instant::now();
    loop {
        let mut all_agree = true;
        for member in members {
            let cluster = member.get("/cluster")?;
            let known = cluster["peers"].as_object().map_or(0, |peers| peers.len());
            all_agree &= known == members.len() && cluster["raft_info"]["leader"].is_u64();
            if let Some(name) = name {
                let (status, answer) =
                    member.call("GET", &format!("/collections/{name}/cluster"), None)?;
                let states = |key: &str| -> Vec<Value> {
                    let all = answer["result"][key]
                        .as_array()
                        .cloned()
                        .unwrap_or_default();
                    all.into_iter().map(|one| one["state"].clone()).collect()
                };
                let all = [states("local_shards"), states("remote_shards")].concat();
                all_agree &=
                    status == 200 && !all.is_empty() && all.iter().all(|one| one == "Active");
            }
        }
        if all_agree {
            return Ok(());
        }
        ensure!(start.elapsed() < AGREE, "the members do not agree");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn three(env: &Env, bin: &Path) -> Outcome {
    let first = Server::start_cluster(bin)?;
    let others = [first.join()?, first.join()?];
    let members = [&first, &others[0], &others[1]];
    agree(&members, None)?;
    let dir = temp_dir()?;
    let peers: Vec<String> = others
        .iter()
        .map(|other| Ok(format!("--peer={}={}", peer_id(other)?, other.url())))
        .collect::<Outcome<_>>()?;
    let url = first.url();
    let run = |args: &[&str]| -> Cli { run_with(dir.path(), args).args(&peers) };

    // A collection of six shards, each on two of three members.
    let points: Vec<Value> = env.case("album_2017").truth()?;
    let body = json!({"vectors": {"size": 16, "distance": "Cosine"}, "shard_number": 6, "replication_factor": 2});
    first.put("/collections/spread?timeout=60", &body)?;
    agree(&members, Some("spread"))?;
    let index = json!({"field_name": "year", "field_schema": "integer"});
    first.put("/collections/spread/index?wait=true", &index)?;
    for some in points.chunks(200) {
        let put = json!({"points": some});
        first.put("/collections/spread/points?wait=true&ordering=strong", &put)?;
    }
    let points = first.scroll("spread")?;
    ensure_eq!(points.len(), 1000, "points");

    // One member's snapshot would be a part of it: refused without the others' addresses.
    let alone = run_with(dir.path(), &["capture", &url, "spread", "-q", "--to"]);
    let run_alone = alone.arg(dir.path().join("alone")).run()?;
    is_one_error(&run_alone.code(12)?.says(&["--peer"])?)?;

    for (form, flags) in [("assembled", &[][..]), ("streamed", &["--stream"])] {
        let archive = dir.path().join(form);
        let capture = run(&["capture", &url, "spread", "-q"]).args(flags);
        capture.arg("--to").arg(&archive).run()?.ok()?;
        let file = captured_in(&archive)?;
        let manifest = manifest_of(&file)?;
        ensure_eq!(manifest["form"], json!(form), "form");
        ensure_eq!(manifest["points"], json!(1000), "points");
        ensure!(
            manifest["peers"].as_array().is_some_and(|it| it.len() >= 2),
            "{manifest}"
        );
        for member in members {
            nothing_left(member)?;
        }

        // Where points lie is told by the members that hold them.
        let live = format!("{url}/spread");
        let grpc = first.grpc_url();
        let port = grpc.rsplit(':').next().unwrap_or_default();
        let verify = |args: &[String]| {
            let verify = run_with(
                dir.path(),
                &["verify", &live, "--json", "-q", "--grpc-port", port],
            );
            verify.args(args).arg("--against").arg(&file).run()
        };
        let told = verify(&[])?.json()?;
        ensure!(
            told.to_string().contains("another member holds it"),
            "{told}"
        );
        let told = verify(&peers)?.json()?;
        ensure!(
            !told.to_string().contains("another member holds it"),
            "{told}"
        );
        ensure_eq!(
            told["shards"].as_array().map(Vec::len),
            Some(6),
            "shards that were looked at: {told}"
        );

        // ReplayTarget the cluster, shard by shard, and onto a server alone.
        let name = format!("back_{form}");
        let to = format!("{url}/{name}");
        let alone = run_with(dir.path(), &["restore", "-q", "--to", &to])
            .arg(&file)
            .run()?;
        is_one_error(&alone.code(12)?.says(&["--peer"])?)?;
        let report = run(&["restore", "-q", "--json", "--to", &to])
            .arg(&file)
            .run()?
            .ok()?
            .json()?;
        ensure_eq!(report["way"], json!("create_then_shards"), "the way");
        ensure_eq!(report["verdict"]["points"], json!(1000), "points");
        for member in members {
            ensure_same(&member.scroll(&name)?, &points)?;
            nothing_left(member)?;
        }
        let shards = report["verdict"]["shards"].as_object().ok_or("no shards")?;
        ensure_eq!(shards.len(), 6, "shards compared");
        ensure!(
            shards.values().all(|replicas| *replicas == json!(2)),
            "replicas: {shards:?}"
        );

        let single = Server::start(bin)?;
        let to = format!("{}/alone", single.url());
        run_with(dir.path(), &["restore", "-q", "--to", &to])
            .arg(&file)
            .run()?
            .ok()?;
        ensure_same(&single.scroll("alone")?, &points)?;
    }
    ensure_same(&first.scroll("spread")?, &points)?;
    Ok(())
}
