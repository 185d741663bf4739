//! `verify --structure --cluster-url`: clusters from the user's own service, which is asked as the guide
//! says, and not believed when it fails.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::merge::Sources;
use crate::support::cli::{Cli, Run};
use crate::support::fake::{Collection, Fake};
use crate::support::scripted::{Fault, Scripted};
use crate::support::{Env, Outcome, Trial};

/// Points of each set that are looked at.
const POINTS: usize = 40;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![
        Trial::new("verify/clusters/service", || service(env)),
        Trial::new("verify/clusters/faults", || faults(env)),
    ]
}

/// Two sources, their master, and the service.
struct Bed {
    sources: Sources,
    scripted: Scripted,
}

impl Bed {
    fn new(env: &Env) -> Outcome<Self> {
        let sources = Sources::named(env, &["album_2017", "album_2018"])?;
        sources.merge(&[])?;
        let fake = Fake::new("none", nothing(), Vec::new());
        Ok(Self {
            sources,
            scripted: Scripted::start(fake)?,
        })
    }

    fn verify(&self) -> Cli {
        let url = format!("{}/cluster", self.scripted.url());
        cli![
            "verify",
            self.sources.path("master.snapshot"),
            "--json",
            "-q"
        ]
        .args(["--structure", &POINTS.to_string(), "--cluster-url", &url])
        .env("QDRANT_API_KEY", "a-key-of-a-qdrant")
        .arg("--against")
        .args(&self.sources.files)
    }

    /// What comes of these answers, one after the other.
    fn answered(&self, faults: impl IntoIterator<Item = Fault>) -> Outcome<Run> {
        for fault in faults {
            self.scripted.fault("POST", "/cluster", 1, fault);
        }
        self.verify().run()
    }
}

/// A collection that nobody asks for.
fn nothing() -> Collection {
    Collection {
        info: Value::Null,
        shards: BTreeMap::new(),
        state: "Active".into(),
        snapshots: BTreeMap::new(),
        transfers: Vec::new(),
    }
}

/// Every second one in the same cluster, one in none.
fn labels() -> Fault {
    let labels: Vec<Value> = (0..POINTS)
        .map(|at| match at {
            0 => Value::Null,
            1 => json!(-1),
            at => json!(at % 2),
        })
        .collect();
    Fault::Body(json!({"labels": labels, "took": 0.1}))
}

fn service(env: &Env) -> Outcome {
    let bed = Bed::new(env)?;
    let report = bed.answered([labels(), labels(), labels()])?.ok()?.json()?;
    bed.scripted.ensure_faults_came_up()?;
    let structure = &report["answers"]["structure"];
    ensure!(
        structure["by"].to_string().contains("/cluster"),
        "{structure}"
    );
    for set in [&structure["master"], &structure["sources"][1]] {
        ensure_eq!(set["clusters"], 2, "{set}");
        ensure_eq!(set["noise"], 0.05, "{set}");
        ensure!(set["silhouette"].is_number(), "{set}");
    }
    let seen = bed.scripted.seen();
    let width = bed.sources.truths[0][0]["vector"].as_array().map(Vec::len);
    ensure_eq!(seen.len(), 3, "calls");
    for one in &seen {
        ensure_eq!(one.path, "/cluster", "the path");
        let body: Value = serde_json::from_slice(&one.body)?;
        ensure_eq!(body["algorithm"], "hdbscan", "the algorithm");
        let data = body["data"].as_array().ok_or("no vectors")?;
        ensure_eq!(data.len(), POINTS, "vectors");
        ensure_eq!(data[0].as_array().map(Vec::len), width, "values of one");
        ensure!(
            !one.headers.contains_key("api-key"),
            "the key of a Qdrant was sent"
        );
    }
    Ok(())
}

/// What fails for a moment is asked again; what is no answer is refused, and nothing is made of it.
fn faults(env: &Env) -> Outcome {
    let bed = Bed::new(env)?;
    bed.answered([
        Fault::Status(503),
        labels(),
        Fault::Silent,
        labels(),
        labels(),
    ])?
    .ok()?;
    bed.scripted.ensure_faults_came_up()?;
    for (fault, told) in [
        (Fault::Body(json!({"labels": [0, 1]})), "2 labels came"),
        (Fault::Body(json!({"clusters": [0, 1]})), "clusters"),
        (Fault::Body(json!({"labels": ["a", "b"]})), "labels"),
        (Fault::Body(json!([0, 1])), "no labels"),
        (Fault::Status(404), "404"),
        (Fault::Status(400), "400"),
    ] {
        let run = bed.answered([fault.clone()])?;
        let code = run.status.code();
        ensure!(matches!(code, Some(1 | 12)), "{fault:?}: {code:?}");
        ensure!(run.stderr.contains(told), "{fault:?}: {}", run.told());
        ensure!(run.stdout.is_empty(), "{fault:?}: {}", run.told());
    }
    Ok(())
}
