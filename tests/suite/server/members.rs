//! `--members-from`: the members of a cluster by a name of DNS.

use std::net::ToSocketAddrs as _;

use serde_json::{Value, json};

use super::{album, is_one_error, run_with};
use crate::support::fake::Fake;
use crate::support::scripted::{Fault, Scripted};
use crate::support::{Env, Outcome, Trial, temp_dir};

/// The port of a server.
fn port_of(server: &Scripted) -> String {
    let url = server.url();
    url.rsplit(':').next().unwrap_or_default().to_owned()
}

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![Trial::new("server/members/by_name", || by_name(env))]
}

/// What a member with this id says of a cluster of these.
fn cluster(peer: u64, members: &[u64]) -> Fault {
    let peers = members
        .iter()
        .map(|id| (id.to_string(), json!({"uri": ""})));
    let peers: serde_json::Map<String, Value> = peers.collect();
    Fault::Body(json!({"time": 0, "status": "ok", "result": {
        "status": "enabled", "peer_id": peer, "peers": peers, "raft_info": {},
    }}))
}

fn by_name(env: &Env) -> Outcome {
    let (collection, snapshot) = album(env)?;
    let start = || {
        Scripted::start(Fake::new(
            "album_2017",
            collection.clone(),
            snapshot.clone(),
        ))
    };
    let (first, second) = (start()?, start()?);
    let port = port_of(&second);
    // Where the name means IPv6, too, nobody listens there.
    let is_one = |name: &str| {
        let found = (name, 1).to_socket_addrs().map(Iterator::count);
        found.is_ok_and(|count| count == 1)
    };
    let name = if is_one("localhost") {
        "localhost"
    } else {
        "127.0.0.1"
    };
    let dir = temp_dir()?;
    let capture = |from: &str, more: &[&str]| {
        let to = dir.path().join("snapshots");
        let run = run_with(dir.path(), &["capture", &first.url(), "album_2017", "-q"]);
        run.arg("--to")
            .arg(to)
            .args(["--members-from", from])
            .args(more)
            .run()
    };
    let from = format!("{name}:{port}");
    // Neither says that it is part of a cluster.
    is_one_error(
        &capture(&from, &[])?
            .code(1)?
            .says(&["part of no cluster", "--peer"])?,
    )?;
    first.fault_exactly("GET", "/cluster", 3, cluster(1, &[1, 2]));
    second.fault_exactly("GET", "/cluster", 1, cluster(7, &[7]));
    capture(&from, &[])?
        .code(1)?
        .says(&["member 7 of another cluster"])?;
    second.fault_exactly("GET", "/cluster", 9, Fault::Body(json!("I am no Qdrant")));
    let run = capture(&from, &["--retries", "0"])?;
    ensure!(
        !run.status.success(),
        "what is no Qdrant was taken: {}",
        run.told()
    );
    let [_, free, ..] = crate::support::daemon::free_ports()?;
    let run = capture(&format!("{name}:{free}"), &["--retries", "0"])?;
    ensure!(!run.status.success(), "nobody answered: {}", run.told());
    for wrong in ["http://localhost", "no-such-host.invalid"] {
        let run = capture(wrong, &[])?;
        ensure!(!run.status.success(), "{wrong} was taken: {}", run.told());
    }

    let (first, second) = (start()?, start()?);
    let port = port_of(&second);
    // Of each collection the scripted server says that member 7 has it.
    first.fault_exactly("GET", "/cluster", 99, cluster(1, &[1, 7]));
    second.fault_exactly("GET", "/cluster", 99, cluster(7, &[1, 7]));
    let to = dir.path().join("found");
    let run = run_with(
        dir.path(),
        &["capture", &first.url(), "album_2017", "-q", "--to"],
    );
    run.arg(&to)
        .args(["--members-from", &format!("{name}:{port}")])
        .run()?
        .ok()?;
    ensure!(
        second.asked("GET", "/cluster") > 0,
        "nobody asked who it is"
    );
    // What an earlier run left is looked for on every member.
    let seen = second.seen();
    ensure!(
        seen.len() > 1,
        "the member was not used: {} requests",
        seen.len()
    );
    Ok(())
}
