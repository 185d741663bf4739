//! Files that are damaged, endless, or made to hurt: a clear error, and nothing left.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::builder::{FixedSizeListBuilder, Float32Builder};
use arrow_array::{Array as _, ArrayRef, RecordBatch, UInt64Array};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::cli::Run;
use crate::support::{Env, Outcome, Trial, names_in, temp_dir};

/// Generous, since a machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Flipped bits of each form.
const FLIPS: usize = 60;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = Vec::new();
    for form in ["parquet", "arrow"] {
        trials.push(Trial::new(
            format!("ingest/hostile/flips/{form}"),
            move || flips(env, form),
        ));
        trials.push(Trial::new(
            format!("ingest/hostile/cut/{form}"),
            move || cut(env, form),
        ));
    }
    trials.extend([
        Trial::new("ingest/hostile/many_columns", many_columns),
        Trial::new("ingest/hostile/lines", hostile_lines),
    ]);
    trials
}

/// Ingests the file at `path`; whatever happens, it is told, and nothing is left beside an output.
fn ingest(dir: &Path, path: &Path) -> Outcome<Run> {
    let out = dir.join("out");
    if !out.exists() {
        std::fs::create_dir(&out)?;
    }
    let run = cli!["ingest", path, "--force", "-o", out.join("out.snapshot")]
        .args(["--config"])
        .arg(config(dir)?)
        .timeout(TIMEOUT)
        .run()?;
    let names = names_in(&out)?;
    let known = ["out.snapshot", "out.snapshot.checksum"];
    ensure!(
        names.iter().all(|name| known.contains(&name.as_str())),
        "left: {names:?}\n{}",
        run.told()
    );
    if run.status.code() == Some(0) {
        std::fs::remove_dir_all(&out)?;
        return Ok(run);
    }
    ensure!(
        matches!(run.status.code(), Some(2 | 12 | 13)),
        "{}",
        run.told()
    );
    ensure!(names.is_empty(), "left: {names:?}");
    ensure!(
        run.stderr.contains("next:") && !run.stderr.contains("panicked"),
        "{}",
        run.told()
    );
    Ok(run)
}

fn config(dir: &Path) -> Outcome<std::path::PathBuf> {
    let path = dir.join("config.json");
    let vectors = serde_json::json!({"vectors": {"size": 16, "distance": "Dot"}});
    std::fs::write(&path, vectors.to_string())?;
    Ok(path)
}

fn table(env: &Env, dir: &Path, form: &str) -> Outcome<Vec<u8>> {
    let file = dir.join(format!("good.{form}"));
    cli![
        "export",
        &env.case("album_2017").snapshot_gz,
        "--limit",
        "200",
        "-o",
        &file
    ]
    .run()?
    .ok()?;
    Ok(std::fs::read(file)?)
}

fn flips(env: &Env, form: &str) -> Outcome {
    let dir = temp_dir()?;
    let good = table(env, dir.path(), form)?;
    let path = dir.path().join(format!("bad.{form}"));
    let mut random = ChaCha8Rng::seed_from_u64(17);
    let mut refused = 0;
    for number in 0..FLIPS {
        let mut bytes = good.clone();
        // Every other one where the file says what is where.
        let at = match number % 2 {
            0 => random.random_range(0..bytes.len()),
            _ => bytes.len() - 1 - random.random_range(0..bytes.len().min(2000)),
        };
        bytes[at] ^= 1 << random.random_range(0..8);
        std::fs::write(&path, bytes)?;
        let run = ingest(dir.path(), &path)
            .map_err(|e| format!("byte {at}: {}", e.message().unwrap_or("?")))?;
        refused += u32::from(run.status.code() != Some(0));
    }
    ensure!(refused > 5, "only {refused} of {FLIPS} were noticed");
    Ok(())
}

fn cut(env: &Env, form: &str) -> Outcome {
    let dir = temp_dir()?;
    let good = table(env, dir.path(), form)?;
    let path = dir.path().join(format!("cut.{form}"));
    for length in [0, 1, 6, 100, good.len() / 2, good.len() - 9, good.len() - 1] {
        std::fs::write(&path, &good[..length])?;
        let run = ingest(dir.path(), &path)?.code(13)?;
        run.says(&[&format!("cut.{form}")])?;
    }
    if form == "arrow" {
        // A stream, cut between two of its batches.
        let bytes = stream_of(3)?;
        std::fs::write(&path, &bytes)?;
        let run = cli!["ingest", &path, "-o", dir.path().join("whole.snapshot")];
        let flags = ["--size", "1", "--distance", "Dot", "--vector", "vector"];
        run.args(flags).run()?.ok()?.prints(&["6 rows"])?;
        std::fs::write(&path, &bytes[..bytes.len() - 8])?;
        ingest(dir.path(), &path)?.code(13)?.says(&["cut off"])?;
        // And two of them, one after the other.
        std::fs::write(&path, [bytes.clone(), bytes].concat())?;
        let again = dir.path().join("again.snapshot");
        let run = cli!["ingest", &path, "-o", &again].args(flags).run()?;
        run.code(13)?.says(&["one after the other"])?;
    }
    // Another thing altogether.
    std::fs::write(&path, "id,year\n1,2017\n".repeat(1000))?;
    ingest(dir.path(), &path)?.code(13)?;
    Ok(())
}

/// An Arrow stream of so many batches of two points.
fn stream_of(batches: u64) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut vectors = FixedSizeListBuilder::new(Float32Builder::new(), 1);
    for _ in 0..2 {
        vectors.values().append_value(1.0);
        vectors.append(true);
    }
    let vectors: ArrayRef = Arc::new(vectors.finish());
    let fields = vec![
        Field::new("id", DataType::UInt64, false),
        Field::new("vector", vectors.data_type().clone(), true),
    ];
    let schema = Arc::new(Schema::new(fields));
    let mut writer = StreamWriter::try_new(&mut bytes, &schema)?;
    for batch in 0..batches {
        let ids: ArrayRef = Arc::new(UInt64Array::from(vec![2 * batch, 2 * batch + 1]));
        writer.write(&RecordBatch::try_new(
            Arc::clone(&schema),
            vec![ids, Arc::clone(&vectors)],
        )?)?;
    }
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

fn many_columns() -> Outcome {
    let dir = temp_dir()?;
    let fields: Vec<Field> = (0..10_000)
        .map(|n| Field::new(format!("c{n}"), DataType::UInt64, true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let column: ArrayRef = Arc::new(UInt64Array::from(vec![1]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column; 10_000])?;
    let path = dir.path().join("wide.parquet");
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&path)?, schema, None)?;
    writer.write(&batch)?;
    writer.close()?;
    ingest(dir.path(), &path)?
        .code(13)?
        .says(&["10000 columns"])?;
    Ok(())
}

fn hostile_lines() -> Outcome {
    let dir = temp_dir()?;
    let path = dir.path().join("bad.jsonl");
    let deep = format!("{{\"id\":1,\"a\":{}", "[".repeat(100_000));
    for (bytes, code, says) in [
        (deep.into_bytes(), 12, "recursion limit"),
        (b"{\"id\":1,\"a\":\"\xff\"}\n".to_vec(), 12, "row 1"),
        (b"\x1f\x8b\x08\x00garbage".to_vec(), 12, "row 1"),
        (
            b"{\"id\":18446744073709551616,\"vector\":[]}".to_vec(),
            12,
            "neither a whole number",
        ),
    ] {
        std::fs::write(&path, bytes)?;
        ingest(dir.path(), &path)?.code(code)?.says(&[says])?;
    }
    // A line that does not end.
    let mut file = std::fs::File::create(&path)?;
    file.write_all(b"{\"id\":1,\"a\":\"")?;
    for _ in 0..70 {
        file.write_all(&vec![b'x'; 1 << 20])?;
    }
    drop(file);
    ingest(dir.path(), &path)?
        .code(13)?
        .says(&["line 1 is longer"])?;
    // Compressed, and cut off.
    let packed = dir.path().join("cut.jsonl.gz");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    for id in 0..20_000 {
        writeln!(
            encoder,
            "{{\"id\":{id},\"vector\":[{}1.0]}}",
            "1.0,".repeat(15)
        )?;
    }
    let bytes = encoder.finish()?;
    std::fs::write(&packed, &bytes[..bytes.len() / 2])?;
    ingest(dir.path(), &packed)?
        .code(13)?
        .says(&["cut.jsonl.gz"])?;
    std::fs::write(&packed, bytes)?;
    ingest(dir.path(), &packed)?.ok()?;
    Ok(())
}
