//! Every verb on real servers of the versions in the table: each case of a version there and back, by
//! the server that made it, point by point as it scrolled them; and nothing left.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use snapmerge::format::releases::{RELEASES, Release, Tried};

use crate::export::exported;
use crate::merge::policies::expected;
use crate::nightly::{ALIAS, archive_is_whole, night, write_plan};
use crate::replay::Place;
use crate::server::live::nothing_left;
use crate::server::{captured_in, run_with};
use crate::support::cases::Case;
use crate::support::points::ensure_same;
use crate::support::qdrant::{Server, find_version};
use crate::support::{Env, Outcome, Trial};

const ALBUMS: [&str; 3] = ["album_2017", "album_2018", "album_2019_overlap"];
const GREEN_WITHIN: Duration = Duration::from_secs(60);

type Test = fn(&Cases, &Path) -> Outcome;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = Vec::new();
    for release in &RELEASES {
        let tests: [(&str, Tried, Test); 7] = [
            ("captured", release.captured, captured),
            ("shard_keys", release.captured, shard_keys),
            ("scratch", release.captured, scratch),
            ("masters", release.masters, masters),
            ("replayed", release.replayed, replayed),
            ("published", release.replayed, published),
            ("nights", release.replayed, nights),
        ];
        for (name, _, test) in tests
            .into_iter()
            .filter(|(_, tried, _)| *tried != Tried::Not)
        {
            let bin = find_version(release.version);
            let name = format!("versions/live/{}/{name}", release.version);
            trials.push(Trial::needs(name, &bin, move |bin| {
                test(&Cases::of(env, release)?, &bin)
            }));
        }
    }
    let old = RELEASES
        .iter()
        .filter(|release| ["1.7.4", "1.10.1"].contains(&release.version));
    for release in old {
        let name = format!("versions/live/{}/newer", release.version);
        let bin = find_version(release.version);
        trials.push(Trial::needs(name, &bin, move |bin| {
            newer(env, &Cases::of(env, release)?, &bin)
        }));
    }
    trials
}

/// The cases of a release.
struct Cases {
    release: &'static Release,
    cases: Vec<Case>,
}

impl Cases {
    fn of(env: &Env, release: &'static Release) -> Outcome<Self> {
        let mut sets = env.sets.iter().chain(&env.old_sets);
        let set = sets.find(|set| set.version == release.version);
        let set = set.ok_or("there is no such set")?;
        Ok(Self {
            release,
            cases: set.cases.clone()?,
        })
    }

    fn named(&self, name: &str) -> Outcome<&Case> {
        let case = self.cases.iter().find(|case| case.name == name);
        Ok(case.ok_or_else(|| format!("{} has no {name}", self.release.version))?)
    }

    /// Fails unless `got` is exactly `want`; vectors that were upserted to a server that normalizes them
    /// again, as 1.7 does with each, may differ in their last bits.
    fn ensure_same<'a>(
        &self,
        got: &[Value],
        want: impl IntoIterator<Item = &'a Value>,
        upserted: bool,
    ) -> Outcome<usize> {
        let want: Vec<&Value> = want.into_iter().collect();
        if !upserted || !self.release.version.starts_with("1.7.") {
            return ensure_same(got, want);
        }
        let mut near: Vec<Value> = got.to_vec();
        for (got, want) in near.iter_mut().zip(&want) {
            ensure!(
                is_near(&got["vector"], &want["vector"]),
                "vector of {}: {} instead of {}",
                got["id"],
                got["vector"],
                want["vector"]
            );
            got["vector"] = want["vector"].clone();
        }
        ensure_same(&near, want)
    }

    /// Fails unless the collection, which was written by upserts, has exactly these points.
    fn holds<'a>(
        &self,
        place: &Place,
        collection: &str,
        want: impl IntoIterator<Item = &'a Value>,
    ) -> Outcome<usize> {
        let there = place.server.scroll(collection)?;
        let count = place.server.count(collection)?;
        ensure_eq!(count, there.len() as u64, "exact count of {collection}");
        self.ensure_same(&there, want, true)
    }

    /// All whose collections need no cluster.
    fn unkeyed(&self) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(|case| case.name != "shard_keys")
    }

    /// The albums with their points, restored by the server's own API; a set may lack some.
    fn restore_albums(&self, server: &Server) -> Outcome<(Vec<&'static str>, Vec<Vec<Value>>)> {
        let mut names = Vec::new();
        let mut points = Vec::new();
        for name in ALBUMS {
            if let Ok(case) = self.named(name) {
                points.push(restored(server, case)?);
                names.push(name);
            }
        }
        ensure!(names.len() > 1, "{names:?} are no albums");
        Ok((names, points))
    }
}

/// Restores a case by the server's own API; what it then scrolls, which is the truth.
fn restored(server: &Server, case: &Case) -> Outcome<Vec<Value>> {
    let dir = crate::support::temp_dir()?;
    server.upload(&case.name, &case.unpack(dir.path())?)?;
    server.wait_green(&case.name, GREEN_WITHIN)?;
    crate::server::live::remove_snapshots(server, &case.name)?;
    let points = server.scroll(&case.name)?;
    ensure_same(&points, &case.truth()?).map_err(|e| of_case(case, &e))?;
    Ok(points)
}

/// Same structure, and numbers that differ by no more than normalizing again changes.
fn is_near(got: &Value, want: &Value) -> bool {
    match (got, want) {
        (Value::Number(got), Value::Number(want)) => match (got.as_f64(), want.as_f64()) {
            (Some(got), Some(want)) => (got - want).abs() <= 4e-7 * want.abs().max(0.01),
            _ => false,
        },
        (Value::Array(got), Value::Array(want)) => {
            got.len() == want.len() && got.iter().zip(want).all(|(got, want)| is_near(got, want))
        }
        (Value::Object(got), Value::Object(want)) => {
            let near = |(name, got)| want.get(name).is_some_and(|want| is_near(got, want));
            got.len() == want.len() && got.iter().all(near)
        }
        _ => got == want,
    }
}

fn of_case(case: &Case, failed: &crate::support::Failed) -> String {
    format!("{}: {}", case.name, failed.message().unwrap_or("?"))
}

/// Each case captured, plain and into an archive, and restored from there.
fn captured(cases: &Cases, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let mut compared = 0;
    for case in cases.unkeyed() {
        compared += there_and_back(&place, case).map_err(|e| of_case(case, &e))?;
    }
    ensure!(compared > 3000, "only {compared} points were compared");
    nothing_left(&place.server)
}

fn there_and_back(place: &Place, case: &Case) -> Outcome<usize> {
    let server = &place.server;
    let points = restored(server, case)?;
    let (url, home) = (server.url(), place.path("home"));
    let folder = home.join(&case.name);
    run_with(&home, &["capture", &url, &case.name, "-q"])
        .arg("--to")
        .arg(&folder)
        .run()?
        .ok()?;
    let file = captured_in(&folder)?;
    ensure_same(&exported(&file)?, &points)?;
    let archive = home.join("archive");
    if !archive.exists() {
        run_with(&home, &["archive", "init", "--archive"])
            .arg(&archive)
            .run()?
            .ok()?;
    }
    run_with(&home, &["capture", &url, &case.name, "-q", "--archive"])
        .arg(&archive)
        .run()?
        .ok()?;
    let entry = format!("archive:{}@latest", case.name);
    for (name, source) in [
        ("of_file", file.to_string_lossy().as_ref()),
        ("of_entry", &entry),
    ] {
        let to = format!("{url}/{name}");
        let run = run_with(
            &home,
            &["restore", source, "-q", "--json", "--to", &to, "--archive"],
        )
        .arg(&archive)
        .run()?;
        let report = run.ok()?.json()?;
        let open = report["verdict"]["open"].as_array().ok_or("no verdict")?;
        // Of several shards servers before 1.11.1 tell all points together.
        let is_known = |open: &Value| open.to_string().contains("all together were compared");
        ensure!(open.iter().all(is_known), "open: {open:?}");
        let is_old = case.writes_keys_as_text();
        ensure!(open.is_empty() || is_old, "{name}: {open:?}");
        ensure_same(&server.scroll(name)?, &points)?;
        server.delete(&format!("/collections/{name}"))?;
    }
    ensure_same(&server.scroll(&case.name)?, &points)?;
    server.delete(&format!("/collections/{}", case.name))?;
    nothing_left(server)?;
    Ok(points.len())
}

/// A collection with shard keys, which need a cluster and are made before a snapshot is restored.
fn shard_keys(cases: &Cases, bin: &Path) -> Outcome {
    let case = cases.named("shard_keys")?;
    let place = Place::cluster(bin)?;
    let (url, home) = (place.server.url(), place.path("home"));
    let file = case.unpack(place.dir())?;
    let to = format!("{url}/keyed");
    run_with(&home, &["restore", "-q", "--to", &to])
        .arg(&file)
        .run()?
        .ok()?;
    let there = place.server.scroll("keyed")?;
    ensure_same(&without_keys(&there), &without_keys(&case.truth()?))?;
    let folder = home.join("captured");
    run_with(&home, &["capture", &url, "keyed", "-q", "--to"])
        .arg(&folder)
        .run()?
        .ok()?;
    let points = exported(&captured_in(&folder)?)?;
    ensure_same(&without_keys(&points), &without_keys(&case.truth()?))?;
    nothing_left(&place.server)
}

/// Servers before 1.13.1 wrote keys that are numbers as text.
fn without_keys(points: &[Value]) -> Vec<Value> {
    let text = |point: &Value| {
        let mut point = point.clone();
        if let Some(number) = point["shard_key"].as_u64() {
            point["shard_key"] = json!(number.to_string());
        }
        point
    };
    points.iter().map(text).collect()
}

/// Each case read by the server that made it.
fn scratch(cases: &Cases, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let home = place.path("home");
    let url = place.server.url();
    let port = place.grpc_port();
    for case in cases.unkeyed() {
        let master = place.path("master.snapshot");
        run_with(&home, &["merge", "--json", "--force", "-o"])
            .arg(&master)
            .arg(&case.snapshot_gz)
            .args(["--route", "scratch", "--scratch-server", &url])
            .args(["--grpc-port", &port])
            .run()?
            .ok()
            .and_then(|_| ensure_same(&exported(&master)?, &case.truth()?))
            .map_err(|e| of_case(case, &e))?;
        let left = place.server.get("/collections")?;
        ensure_eq!(left["collections"], json!([]), "left by {}", case.name);
        nothing_left(&place.server)?;
    }
    Ok(())
}

/// A master of today's form is restored, or refused before anything is sent.
fn masters(cases: &Cases, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let home = place.path("home");
    let (names, points) = cases.restore_albums(&place.server)?;
    let want = expected(&names, &points, "last")?;
    let files = names.iter().map(|name| cases.named(name));
    let files: Vec<_> = files
        .map(|case| Ok(&case?.snapshot_gz))
        .collect::<Outcome<_>>()?;
    for route in ["graft", "rebuild"] {
        let master = place.path(&format!("{route}.snapshot"));
        run_with(&home, &["merge", "-q", "--route", route, "-o"])
            .arg(&master)
            .args(&files)
            .run()?
            .ok()?;
        let to = place.at(route);
        let restore = run_with(&home, &["restore", "-q", "--to", &to]).arg(&master);
        if cases.release.masters == Tried::Refused {
            restore.run()?.code(12)?.says(&["--into", "1.14"])?;
            let there = place.server.get(&format!("/collections/{route}"));
            ensure!(there.is_err(), "{route} was made");
            continue;
        }
        restore.run()?.ok()?;
        ensure_same(&place.server.scroll(route)?, want.points.values())?;
    }
    nothing_left(&place.server)
}

/// Masters written into the server, out of files and out of live collections; a policy decides.
fn replayed(cases: &Cases, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    for case in cases.unkeyed() {
        let files = [case.snapshot_gz.as_os_str()];
        place
            .merging(&files, "of_file")
            .run()?
            .ok()
            .and_then(|_| cases.holds(&place, "of_file", &case.truth()?))
            .map_err(|e| of_case(case, &e))?;
        place.server.delete("/collections/of_file")?;
        std::fs::remove_file(place.path("of_file.journal"))?;
    }
    let (names, points) = cases.restore_albums(&place.server)?;
    for policy in ["last", "newest:score"] {
        let want = expected(&names, &points, policy)?;
        let live: Vec<String> = names.iter().map(|name| place.at(name)).collect();
        let into = policy.split(':').next().unwrap_or_default();
        for _ in ["first", "only compared"] {
            place
                .merging(&live, into)
                .args(["--on-conflict", policy])
                .run()?
                .ok()?;
            cases.holds(&place, into, want.points.values())?;
        }
        let sync = place.merging(&live[..1], into).arg("--sync");
        sync.run()?.ok()?;
        cases.holds(&place, into, &points[0])?;
    }
    nothing_left(&place.server)
}

/// What an old server does not know is not asked of it, and told; what it would take for something else is
/// refused.
fn newer(env: &Env, cases: &Cases, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let case = env.case("all_indexes");
    let run = place
        .merging(&[&case.snapshot_gz], "master")
        .run()?
        .code(3)?;
    let differences = run.json()?["differences"].to_string();
    let unknown = format!("Qdrant {} does not know uuid", cases.release.version);
    ensure!(differences.contains(&unknown), "{differences}");
    cases.holds(&place, "master", &case.truth()?)?;
    let info = place.server.get("/collections/master")?;
    let indexes = info["payload_schema"].as_object().ok_or("no schema")?;
    ensure!(indexes.len() >= 5, "indexes: {indexes:?}");
    let case = env.case("multivector");
    let run = place.merging(&[&case.snapshot_gz], "many").run()?;
    if cases.release.version.starts_with("1.7.") {
        run.code(12)?
            .says(&["it has multivectors", "1.10 or later"])?;
        ensure!(
            place.server.get("/collections/many").is_err(),
            "it was made"
        );
    }
    Ok(())
}

/// The alias to one master and on to another, and back.
fn published(cases: &Cases, bin: &Path) -> Outcome {
    let place = Place::new(bin)?;
    let home = place.path("home");
    let (url, port) = (place.server.url(), place.grpc_port());
    let (names, points) = cases.restore_albums(&place.server)?;
    let is_at = |at: usize| ensure_same(&place.server.scroll(ALIAS)?, &points[at]);
    for (at, name) in names.iter().enumerate().take(2) {
        run_with(&home, &["publish", &url, name, "--alias", ALIAS])
            .run()?
            .ok()?;
        is_at(at)?;
    }
    run_with(&home, &["rollback", &url, "--alias", ALIAS])
        .run()?
        .ok()?;
    is_at(0)?;
    let file = &cases.named(names[0])?.snapshot_gz;
    run_with(&home, &["verify", &place.at(ALIAS), "-q", "--against"])
        .arg(file)
        .args(["--grpc-port", &port])
        .run()?
        .ok()?;
    Ok(())
}

/// Nights by a plan: the sources captured into an archive, a master out of it published, again after a
/// change; a night without one makes none.
fn nights(cases: &Cases, bin: &Path) -> Outcome {
    for route in ["replay", "graft"] {
        if route == "graft" && cases.release.masters == Tried::Refused {
            continue;
        }
        let place = Place::new(bin)?;
        let home = place.path("home");
        std::fs::create_dir(&home)?;
        let (names, _) = cases.restore_albums(&place.server)?;
        let plan = write_plan(&home, &place.server.url(), "")?;
        let port = place.grpc_port();
        let text = std::fs::read_to_string(&plan)?
            .replace("[master]", &format!("[master]\nroute = \"{route}\""))
            .replace("timeout = 20", &format!("timeout = 20\ngrpc_port = {port}"));
        std::fs::write(&plan, text)?;
        for round in 0..2 {
            let body = json!({"payload": {"round": round}, "points": [1, 2, 3]});
            let path = format!("/collections/{}/points/payload?wait=true", names[0]);
            place.server.post(&path, &body)?;
            place.server.wait_green(names[0], GREEN_WITHIN)?;
            std::thread::sleep(Duration::from_millis(1100));
            let told = night(&home).run()?.ok()?.json()?;
            ensure_eq!(told["master"]["unchanged"], json!(false), "{told}");
            let points = names.iter().map(|name| place.server.scroll(name));
            let points = points.collect::<Outcome<Vec<_>>>()?;
            let want = expected(&names, &points, "last")?;
            let there = place.server.scroll(ALIAS)?;
            cases.ensure_same(&there, want.points.values(), route == "replay")?;
            archive_is_whole(&home)?;
            nothing_left(&place.server)?;
        }
        std::thread::sleep(Duration::from_millis(1100));
        let told = night(&home).run()?.ok()?.json()?;
        // Older servers do not tell that nothing was written: they are captured again.
        let is_told = cases.release.version == "1.19.0";
        ensure_eq!(told["master"]["unchanged"], json!(is_told), "{told}");
    }
    Ok(())
}
