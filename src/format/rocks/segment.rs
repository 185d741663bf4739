//! Conversion of a segment from RocksDB into today's form.
//!
//! Invariants: `segment.json` is written last, so that it never names a storage that is not there;
//! nothing of RocksDB is left in the segment's folder.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::database::Database;
use super::ids::{self, Live};
use super::inside::InRocks;
use super::vectors::{self, Kind};
use super::{backup, payload};
use crate::base::error::{Error, Result};
use crate::base::scratch;
use crate::format::ids::{TrackerFiles, read};
use crate::format::layout;

/// The folder in a segment's that its database is put together in.
const DATABASE_FOLDER: &str = "rocksdb";
const PAYLOAD_FOLDER: &str = "payload_storage";
/// The config of payload indexes.
const INDEXES_CONFIG: &str = "payload_index/config.json";

/// Converts the unpacked segment in `folder`, called `what` in errors, if it keeps anything in RocksDB.
///
/// # Errors
/// [`crate::base::error::Kind::Damaged`] if its database is not whole, or a point lacks anything.
pub fn convert(folder: &Path, what: &str) -> Result<()> {
    let state_path = folder.join(layout::SEGMENT_STATE);
    let mut state = read_json(&state_path)?;
    let indexes = match folder.join(INDEXES_CONFIG) {
        path if path.exists() => read_json(&path)?,
        _ => Value::Null,
    };
    let mut inside = InRocks::by_config(&state, &indexes);
    inside.payload_indexes |= folder.join(layout::PLAIN_INDEX_DATABASE).exists();
    let has_database = gather_database(folder, what)?;
    if !has_database && inside.is_nothing() {
        return Ok(());
    }
    let damaged = |column: &str, why: String| {
        Error::damaged(format!("reading the column '{column}' of {what}"), why)
    };
    let database_folder = folder.join(DATABASE_FOLDER);
    // One that nothing was ever written to may have no columns.
    let database = match has_database && has_records(&database_folder)? {
        true => Some(Database::open(&database_folder).map_err(|why| open_failed(what, why))?),
        false => None,
    };
    if !has_database && inside.needs_database() {
        let why = format!("its {} lie in RocksDB, and it has none", inside.words());
        return Err(open_failed(what, why));
    }
    let live = live(database.as_ref(), folder, what, &damaged)?;
    for name in &inside.vectors {
        let kind = kind(&state["config"]["vector_data"][name.as_str()])
            .map_err(|why| damaged(&vectors::column(name), why))?;
        let storage = storage_folder(folder, name)?;
        vectors::convert(database.as_ref(), (name, kind), &live, &storage, &damaged)?;
        let place = ["config", "vector_data", name, "storage_type"];
        set(&mut state, place, json!("InRamChunkedMmap"));
    }
    for name in &inside.sparse_vectors {
        let storage = storage_folder(folder, name)?;
        let vector = (name.as_str(), Kind::Sparse);
        vectors::convert(database.as_ref(), vector, &live, &storage, &damaged)?;
        let place = ["config", "sparse_vector_data", name, "storage_type"];
        set(&mut state, place, json!("mmap"));
    }
    if inside.payload {
        let storage = folder.join(PAYLOAD_FOLDER);
        payload::convert(database.as_ref(), &live, &storage, &damaged)?;
        let kind = match state["config"]["payload_storage_type"]["type"] == "in_memory" {
            true => "in_ram_mmap",
            false => "mmap",
        };
        let place = ["config", "payload_storage_type"];
        set(&mut state, place, json!({"type": kind}));
    }
    if let Some(database) = database {
        database.close();
    }
    if inside.payload_indexes {
        scratch::remove_folder(&folder.join(layout::PAYLOAD_INDEXES))?;
        std::fs::create_dir(folder.join(layout::PAYLOAD_INDEXES))
            .map_err(|err| Error::io("making scratch folder", folder, &err))?;
        let fields = json!({"indexed_fields": indexes["indexed_fields"]});
        write_json(&folder.join(INDEXES_CONFIG), &fields)?;
    }
    if has_database {
        scratch::remove_folder(&database_folder)?;
    }
    write_json(&state_path, &state)
}

fn open_failed(what: &str, why: impl std::fmt::Display) -> Error {
    Error::damaged(format!("opening the RocksDB of {what}"), why)
}

/// The points of the segment: by its database, or by its files.
fn live(
    database: Option<&Database>,
    folder: &Path,
    what: &str,
    damaged: &dyn Fn(&str, String) -> Error,
) -> Result<Live> {
    let has_fixed_ids = InRocks::has_fixed_ids(|name| folder.join(name).exists());
    if let (Some(database), false) = (database, has_fixed_ids)
        && let Some(live) = ids::convert(database, folder, damaged)?
    {
        return Ok(live);
    }
    let files = TrackerFiles::in_folder(folder)?;
    let mut live = Live::default();
    for entry in read(&files, what)?.entries {
        live.offsets.add(entry.offset);
    }
    Ok(live)
}

/// Puts the segment's database together in a folder of its own; returns whether there is one.
fn gather_database(folder: &Path, what: &str) -> Result<bool> {
    let backup = folder.join(layout::DATABASE);
    let database = folder.join(DATABASE_FOLDER);
    if backup.exists() {
        backup::restore(&backup, &database).map_err(|why| open_failed(what, why))?;
        scratch::remove_folder(&backup)?;
        return Ok(true);
    }
    // A plain copy of a segment's folder, as servers before 0.11 packed it.
    if !folder.join("CURRENT").exists() {
        return Ok(false);
    }
    let failed = |err: std::io::Error| Error::io("listing", folder, &err);
    std::fs::create_dir(&database)
        .map_err(|err| Error::io("making scratch folder", &database, &err))?;
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|name| is_of_database(name)) {
            scratch::move_folder(&path, &database.join(name))?;
        }
    }
    Ok(true)
}

/// Returns true if RocksDB gives files such a name.
fn is_of_database(name: &str) -> bool {
    let begins = ["MANIFEST-", "OPTIONS-", "LOG"].iter();
    matches!(name, "CURRENT" | "IDENTITY" | "LOCK")
        || begins.copied().any(|begin| name.starts_with(begin))
        || [".sst", ".log"].iter().any(|end| name.ends_with(end))
}

/// Returns true if anything was ever written to the database in `folder`.
fn has_records(folder: &Path) -> Result<bool> {
    let failed = |err: std::io::Error| Error::io("listing", folder, &err);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_log = name.ends_with(".log") && entry.metadata().map_err(failed)?.len() > 0;
        if is_log || name.ends_with(".sst") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The folder for the vectors called `name`.
fn storage_folder(folder: &Path, name: &str) -> Result<PathBuf> {
    if name.contains('/') || name.contains('\0') {
        let doing = format!("converting the vectors '{name}' of {}", folder.display());
        return Err(Error::damaged(doing, "the name leads out of the segment"));
    }
    Ok(folder.join(layout::vector_storage(name)))
}

/// Returns the kind of the vectors with this `config`.
fn kind(config: &Value) -> std::result::Result<Kind, String> {
    let dim = config["size"].as_u64().ok_or("its size is not told")?;
    let element_bytes = match &config["datatype"] {
        Value::Null => 4,
        Value::String(word) if word == "float32" => 4,
        Value::String(word) if word == "float16" => 2,
        Value::String(word) if word == "uint8" => 1,
        other => return Err(format!("its datatype {other} was never kept in RocksDB")),
    };
    Ok(match config["multivector_config"] {
        Value::Null => Kind::Dense { dim, element_bytes },
        _ => Kind::Multi { dim, element_bytes },
    })
}

/// Sets what is at `place` in `state`, if all but the last of it is there.
fn set<const N: usize>(state: &mut Value, place: [&str; N], value: Value) {
    let mut at = state;
    for key in place.iter().take(N - 1) {
        match at.get_mut(*key) {
            Some(next) => at = next,
            None => return,
        }
    }
    if let (Some(map), Some(key)) = (at.as_object_mut(), place.last()) {
        map.insert((*key).to_owned(), value);
    }
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).map_err(|err| Error::io("reading", path, &err))?;
    serde_json::from_slice(&bytes)
        .map_err(|err| Error::damaged(format!("reading {}", path.display()), err))
}

/// Writes a file of scratch anew.
fn write_json(path: &Path, value: &Value) -> Result<()> {
    let failed = |err: std::io::Error| Error::io("writing", path, &err);
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(failed(err)),
        _ => {}
    }
    let mut file = scratch::create(path)?;
    file.write_all(value.to_string().as_bytes()).map_err(failed)
}
