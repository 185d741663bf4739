//! A log of which an entry cannot be applied: a batch of points with one vector of a wrong size, as a
//! server writes it down before it refuses it.

use ciborium::{Value as Cbor, cbor};
use serde_json::{Value, json};

use crate::support::cases::Case;
use crate::support::craft::{Member, Tar};
use crate::support::points::ensure_same;
use crate::support::wal::wal_file;
use crate::support::{Env, Outcome, Trial, temp_dir};

pub fn trials(env: &'static Env) -> Vec<Trial> {
    ["plain_dot", "album_2017"]
        .into_iter()
        .map(|name| {
            Trial::new(format!("damage/log_with_a_bad_vector/{name}"), move || {
                bad_vector(&env.case(name))
            })
        })
        .collect()
}

/// A point as a log has it.
fn point(id: u64, vector: &[f32], payload: &Value) -> Outcome<Cbor> {
    let (vector, payload) = (Cbor::serialized(vector)?, Cbor::serialized(payload)?);
    Ok(cbor!({"id" => id, "vector" => vector, "payload" => payload})?)
}

/// The batch counts as nothing, what follows it counts, and each reading says so and is like the others.
fn bad_vector(case: &Case) -> Outcome {
    let dir = temp_dir()?;
    let whole = case.unpack(dir.path())?;
    let mut truth = case.truth()?;
    let ids = |n: usize| truth[n]["id"].as_u64().ok_or("an id that is no number");
    let mut vector: Vec<f32> = vec![0.0; truth[0]["vector"].as_array().ok_or("no vector")?.len()];
    vector[0] = 1.0;
    let late = json!({"late": true});
    let mut batch = Vec::new();
    for n in 0..100 {
        batch.push(point(ids(n)?, &vector, &late)?);
        batch.push(point(900_000 + n as u64, &vector, &late)?);
    }
    batch.insert(77, point(800_000, &vector[1..], &late)?);
    let good = point(ids(3)?, &vector, &json!({"good": true}))?;
    let mut records = Vec::new();
    for points in [batch, vec![good]] {
        let mut record = Vec::new();
        ciborium::into_writer(
            &cbor!({"upsert_points" => {"points" => points}})?,
            &mut record,
        )?;
        records.push(record);
    }
    let mut tar = Tar::parse(&std::fs::read(&whole)?)?;
    tar.remove(|path| path.starts_with("0/wal/"))?;
    // Above whatever the segments say.
    let log = Member::file("0/wal/closed-1000", &wal_file(&records));
    tar.members.push(log);
    let file = dir.path().join("late.snapshot");
    std::fs::write(&file, tar.bytes())?;
    truth[3]["vector"] = json!(vector);
    truth[3]["payload"] = json!({"good": true});

    let told = "from 1000 on, were refused";
    for filter in [
        &[][..],
        &[
            "--filter",
            r#"{"must_not":[{"key":"no","match":{"value":1}}]}"#,
        ],
    ] {
        for _ in 0..3 {
            let run = cli!["export", &file].args(filter).run()?.code(3)?;
            let run = run.says(&[told])?;
            ensure_same(&run.json_lines()?, &truth)?;
        }
    }
    for route in ["graft", "rebuild"] {
        let master = dir.path().join(format!("{route}.snapshot"));
        let merge = cli!["merge", "--json", "--route", route, &file, "-o", &master];
        let report = merge.run()?.code(3)?.json()?;
        ensure!(
            report["missing"].to_string().contains(told),
            "{route}: {}",
            report["missing"]
        );
        ensure_same(&cli!["export", &master].run()?.ok()?.json_lines()?, &truth)?;
        let verify = cli!["verify", "--json", &master, "--against", &file];
        let report = verify.run()?.code(3)?.json()?;
        ensure_eq!(report["verdict"], "proven", "{route}");
        ensure_eq!(report["differences"], json!(0), "{route}");
    }
    Ok(())
}
