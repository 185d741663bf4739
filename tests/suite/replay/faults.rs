//! A network between the program and the server that cuts, delays and refuses; a server that has
//! limits. Each time the points are all there at the end, or one clear error says what to do.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Place, live, points_of};
use crate::support::proxy::{Faults, Proxy};
use crate::support::{Env, Outcome, Trial};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let with = |name: &str, faults: Faults| {
        env.live(format!("replay/faults/{name}"), move |bin| {
            through(env, bin, faults)
        })
    };
    vec![
        with(
            "cut",
            Faults {
                cut_after: Some(60_000),
                cuts_max: 6,
                ..Faults::default()
            },
        ),
        with(
            "slow",
            Faults {
                delay: Duration::from_millis(20),
                ..Faults::default()
            },
        ),
        with(
            "refused_first",
            Faults {
                refuse: 3,
                ..Faults::default()
            },
        ),
        env.live("replay/faults/gone", |bin| gone(env, bin)),
        env.live("replay/faults/strict_server", strict_server),
    ]
}

/// Source and target both through the proxy.
fn through(env: &Env, bin: &Path, faults: Faults) -> Outcome {
    let place = Place::new(bin)?;
    let case = env.case("log_pending");
    let source = place.restore(&case)?;
    let port = place.server.grpc_url();
    let port = port.rsplit(':').next().unwrap_or_default().parse()?;
    let proxy = Proxy::start(port, faults)?;
    let report = cli!["merge", "--json", &source, "--into", place.at("master")]
        .args(["--grpc-port", &proxy.port().to_string(), "--retries", "20"])
        .arg("--journal")
        .arg(place.path("journal"))
        .run()?
        .ok()?
        .json()?;
    place.ensure_holds("master", points_of(&case)?.values())?;
    if faults.cuts_max > 0 {
        ensure!(proxy.cut() > 0, "nothing was cut: {report}");
    }
    Ok(())
}

/// A server that goes away in the middle: an error, and the next run goes on.
fn gone(env: &Env, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let case = env.case("log_pending");
    let file = case.unpack(place.path("").as_path())?;
    let port = place.server.grpc_url();
    let port = port.rsplit(':').next().unwrap_or_default().parse()?;
    let proxy = Proxy::start(
        port,
        Faults {
            cut_after: Some(20_000),
            cuts_max: u64::MAX,
            ..Faults::default()
        },
    )?;
    cli!["merge", "--json", &file, "--into", place.at("master")]
        .args(["--grpc-port", &proxy.port().to_string(), "--retries", "1"])
        .arg("--journal")
        .arg(place.path("master.journal"))
        .timeout(Duration::from_secs(240))
        .run()?
        .code(1)?
        .says(&["writing points to"])?;
    let report = place.merging(&[&file], "master").run()?.ok()?.json()?;
    let done = live(&report)["done"].as_str().unwrap_or_default();
    ensure!(done.contains("was resumed after"), "{done}");
    place.ensure_holds("master", points_of(&case)?.values())?;
    Ok(())
}

/// A server that takes only few points at once gets them so.
fn strict_server(bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let make = |name: &str, size: u64| {
        let vectors = json!({"vectors": {"size": size, "distance": "Dot"}});
        place.server.put(&format!("/collections/{name}"), &vectors)
    };
    make("source", 2)?;
    let points: Vec<Value> = (0..500)
        .map(|id| json!({"id": id, "vector": [id, 1], "payload": {"text": "x".repeat(200)}}))
        .collect();
    place.server.put(
        "/collections/source/points?wait=true",
        &json!({"points": points}),
    )?;
    let merge = || place.merging(&[place.at("source")], "master");
    merge().run()?.ok()?;
    // A limit that the whole batch breaks, and each of its points does not.
    let strict = json!({"strict_mode_config": {"enabled": true, "upsert_max_batchsize": 7}});
    place
        .server
        .call("PATCH", "/collections/master", Some(&strict))?;
    place.server.post(
        "/collections/master/points/delete?wait=true",
        &json!({"points": (0..100).collect::<Vec<_>>()}),
    )?;
    let report = merge().arg("--sync").run()?.ok()?.json()?;
    ensure_eq!(live(&report)["written"], json!(100), "written");
    // The server tells the limit, and nothing is refused.
    ensure_eq!(live(&report)["again"], json!(0), "refused");
    ensure_eq!(
        live(&report)["requests"],
        json!(100_u64.div_ceil(7)),
        "requests"
    );
    place.ensure_holds("master", &place.server.scroll("source")?)?;

    // A limit that comes while it is written was told to nobody: batches are cut in halves.
    make("large", 2)?;
    let points: Vec<Value> = (0..500)
        .map(|id| json!({"id": id, "vector": [id, 1], "payload": {"text": "x".repeat(20_000)}}))
        .collect();
    for some in points.chunks(100) {
        let put = json!({ "points": some });
        place
            .server
            .put("/collections/large/points?wait=true", &put)?;
    }
    let running = place
        .merging(&[place.at("large")], "slow")
        .args(["--limit-rate", "1M"])
        .start()?;
    let written = || -> Outcome<u64> {
        let (status, _) = place.server.call("GET", "/collections/slow", None)?;
        match status {
            200 => place.server.count("slow"),
            _ => Ok(0),
        }
    };
    while written()? == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    place
        .server
        .call("PATCH", "/collections/slow", Some(&strict))?;
    let report = running.wait()?.ok()?.json()?;
    ensure!(
        live(&report)["again"].as_u64() > Some(0),
        "nothing was cut in halves: {report}"
    );
    place.ensure_holds("slow", &place.server.scroll("large")?)?;
    Ok(())
}
