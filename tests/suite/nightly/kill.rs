//! Killed at any moment of a night: at that moment the alias points to a complete, proven master, and
//! the next run completes the night; no source is touched, no point lost or doubled, no entry of the
//! archive half there.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::live::{ALBUMS, change, master_is, union};
use super::{ALIAS, archive_is_whole, entries, night, write_plan};
use crate::server::live::{fill, nothing_left};
use crate::support::cli::Signal;
use crate::support::points::ensure_same;
use crate::support::qdrant::Server;
use crate::support::{Env, Outcome, Trial, temp_dir};

/// Nights that are killed at random moments, and how many servers share them.
const KILLS: u64 = 200;
const SERVERS: u64 = 5;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    vec![env.live("nightly/kill/200_moments", |bin| killed(env, bin))]
}

/// What the kills of one server hit.
#[derive(Debug, Default)]
struct Hits {
    kills: u64,
    /// The alias had been moved already.
    moved: u64,
    /// There was something to go on with.
    went_on: u64,
}

fn killed(env: &Env, bin: &Path) -> Outcome {
    let all = std::thread::scope(|scope| {
        let share = KILLS / SERVERS;
        let each: Vec<_> = (0..SERVERS)
            .map(|seed| {
                scope.spawn(move || {
                    one_server(env, bin, seed, share)
                        .map_err(|err| err.message().unwrap_or("?").to_owned())
                })
            })
            .collect();
        let ended: Vec<Result<Hits, String>> = each
            .into_iter()
            .map(|one| {
                one.join()
                    .unwrap_or_else(|_| Err("a thread panicked".into()))
            })
            .collect();
        let failed: Vec<&str> = ended
            .iter()
            .filter_map(|one| one.as_ref().err().map(String::as_str))
            .collect();
        match failed.is_empty() {
            true => Ok(ended.into_iter().flatten().collect::<Vec<Hits>>()),
            false => Err(failed.join("\n\n")),
        }
    })?;
    let sum = |of: fn(&Hits) -> u64| all.iter().map(of).sum::<u64>();
    let (kills, moved, went_on) = (
        sum(|one| one.kills),
        sum(|one| one.moved),
        sum(|one| one.went_on),
    );
    ensure_eq!(kills, KILLS, "kills");
    // Otherwise it was always killed before it began, or when all was done.
    ensure!(
        went_on >= KILLS / 2,
        "only {went_on} of {kills} left something to go on with"
    );
    // That is at the very end of a night: few kills hit it, or none.
    ensure!(moved < KILLS / 2, "{moved} of {kills} had moved the alias");
    println!(
        "nightly: {kills} kills, {went_on} left something to go on with, {moved} had moved the alias"
    );
    Ok(())
}

fn one_server(env: &Env, bin: &Path, seed: u64, kills: u64) -> Outcome<Hits> {
    let server = Server::start(bin)?;
    fill(env, &server, &ALBUMS)?;
    let dir = temp_dir()?;
    write_plan(dir.path(), &server.url(), "")?;
    let mut random = ChaCha8Rng::seed_from_u64(100 + seed);
    // The first night makes the archive and the alias; killed, it has the alias point to all or to
    // nothing.
    let running = night(dir.path()).start()?;
    std::thread::sleep(Duration::from_millis(random.random_range(0..2000)));
    running.signal(Signal::KILL)?;
    running.wait()?;
    if server.get("/aliases")?.to_string().contains(ALIAS) {
        master_is(&server, &union(&server)?)?;
    }
    night(dir.path()).run()?.ok()?;
    master_is(&server, &union(&server)?)?;
    std::thread::sleep(Duration::from_millis(1000));
    change(&server, 0)?;
    let started = Instant::now();
    night(dir.path()).run()?.ok()?;
    let mut whole = started.elapsed();
    let mut hits = Hits::default();
    let mut round = 1;
    let mut before = union(&server)?;
    while hits.kills < kills {
        // Nights are told apart by the second.
        std::thread::sleep(Duration::from_millis(1000));
        change(&server, round)?;
        round += 1;
        let after = union(&server)?;
        let running = night(dir.path()).start()?;
        let moment = whole.mul_f64(random.random_range(0.0..1.0));
        std::thread::sleep(moment);
        running.signal(Signal::KILL)?;
        let was_killed = running.wait()?.signal().is_some();
        let typical = whole;
        let within = |what: &str, result: Outcome| -> Outcome {
            result.map_err(|err| {
                let why = err.message().unwrap_or("?");
                format!("server {seed}, round {round}, {moment:?} of {typical:?}, {what}: {why}")
                    .into()
            })
        };
        // At this very moment: the master of before or of now, every point of it.
        let is_old = master_is(&server, &before).is_ok();
        if !is_old {
            within("killed", master_is(&server, &after))?;
        }
        within("killed", nothing_is_half_there(dir.path()))?;
        if !was_killed {
            whole = whole.mul_f64(0.95);
        } else {
            hits.kills += 1;
            hits.moved += u64::from(!is_old);
            let run = night(dir.path()).run()?;
            within("the next run", run.clone().ok().map(drop))?;
            hits.went_on += u64::from(run.json()?["resumed"] == true);
        }
        within("then", master_is(&server, &after))?;
        let now: Vec<_> = union(&server)?.into_values().collect();
        within("the sources", ensure_same(&now, after.values()).map(drop))?;
        within("then", archive_is_whole(dir.path()))?;
        within("left", nothing_left(&server))?;
        within("left", clean(&server, dir.path()))?;
        before = after;
    }
    Ok(hits)
}

/// Every entry of the archive is whole. What a killed run had put for one that never came to be is no
/// entry; the next run removes it.
fn nothing_is_half_there(dir: &Path) -> Outcome {
    let run = crate::server::run_with(dir, &["archive", "check", "--json", "--archive"]);
    let run = run.arg(dir.join("backups")).run()?;
    ensure!(matches!(run.status.code(), Some(0 | 3)), "{}", run.told());
    let told = run.json()?;
    ensure_eq!(told["losses"], serde_json::json!([]), "{told}");
    let findings = told["findings"].as_array().ok_or("no findings")?;
    // Of what is lost or altered it says why.
    ensure!(findings.iter().all(|one| one["why"].is_null()), "{told}");
    Ok(())
}

/// The sources, and the masters that are kept; the archive has each source's and master's last two.
fn clean(server: &Server, dir: &Path) -> Outcome {
    let listed = server.get("/collections")?;
    let names: Vec<&str> = listed["collections"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["name"].as_str())
        .collect();
    let masters = names.iter().filter(|name| name.starts_with(ALIAS)).count();
    ensure!(
        names.len() == masters + ALBUMS.len() && (1..=2).contains(&masters),
        "{names:?}"
    );
    for name in [ALBUMS[0], ALBUMS[1], ALIAS] {
        let count = entries(dir, name)?;
        ensure!((1..=2).contains(&count), "{count} entries of {name}");
    }
    Ok(())
}
