//! Real snapshots with their truth: what the server itself answered when it made them.
//!
//! `fixtures/` holds those of one server version and is part of the checkout; `fixtures/old/VERSION` a
//! few of servers up to 1.16, which kept points in RocksDB. Further versions are looked for in
//! `$SNAPMERGE_SNAPSHOTS/VERSION`, else in `../shared/snapshots/VERSION` beside it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::Outcome;
use super::points::PointId;

/// The server version that made `fixtures/`.
pub const FIXTURES_VERSION: &str = "1.18.3";
/// The versions whose snapshots are outside the checkout.
const FURTHER_VERSIONS: [&str; 2] = ["1.17.1", "1.19.0"];
/// The same of old servers. `A-to-B` are collections that A made, and B took over.
const OLD_VERSIONS: [&str; 8] = [
    "1.7.4",
    "1.10.1",
    "1.13.6",
    "1.13.6-to-1.15.5",
    "1.13.6-to-1.16.3",
    "1.15.5",
    "1.15.5-to-1.16.3",
    "1.16.3",
];

/// The cases that one server version made, or why they are not at hand.
pub struct CaseSet {
    pub version: String,
    pub cases: Result<Vec<Case>, String>,
}

/// One snapshot: a compressed file, the points that the server says are in it, and its config.
#[derive(Debug, Clone)]
pub struct Case {
    pub version: String,
    pub name: String,
    pub snapshot_gz: PathBuf,
    pub truth_gz: PathBuf,
    /// `config`, `payload_schema`, `points`, `snapshot_sha256`, …: see fixtures/README.md.
    pub info: Value,
}

impl Case {
    /// Decompresses the snapshot into `dir` as `NAME.snapshot`.
    pub fn unpack(&self, dir: &Path) -> Outcome<PathBuf> {
        let to = dir.join(format!("{}.snapshot", self.name));
        let mut from = open_gz(&self.snapshot_gz)?;
        let mut file = File::create(&to).map_err(|e| format!("{}: {e}", to.display()))?;
        std::io::copy(&mut from, &mut file)
            .map_err(|e| format!("decompressing {}: {e}", self.snapshot_gz.display()))?;
        Ok(to)
    }

    /// The server's points in its own order, which is id order: numbers first, then UUIDs.
    pub fn truth(&self) -> Outcome<Vec<Value>> {
        open_gz(&self.truth_gz)?
            .lines()
            .map(|line| {
                let line = line.map_err(|e| format!("{}: {e}", self.truth_gz.display()))?;
                serde_json::from_str(&line)
                    .map_err(|e| format!("{}: {e}", self.truth_gz.display()).into())
            })
            .collect()
    }

    /// The server's points by id, in the same order.
    pub fn truth_by_id(&self) -> Outcome<BTreeMap<PointId, Value>> {
        super::points::by_id(self.truth()?)
    }

    /// Returns true if the server wrote shard keys as text, whatever they were.
    pub fn writes_keys_as_text(&self) -> bool {
        ["1.7.4", "1.10.1"].contains(&self.version.as_str())
    }

    /// Gives `points` the shard keys that the snapshot has: servers before 1.13.1 wrote keys as text, and answered
    /// with numbers as long as they ran.
    pub fn keys_as_written<'a>(&self, points: impl IntoIterator<Item = &'a mut Value>) {
        if self.writes_keys_as_text() {
            for point in points {
                if let Some(number) = point["shard_key"].as_u64() {
                    point["shard_key"] = Value::String(number.to_string());
                }
            }
        }
    }

    /// How many points the server counted, exactly.
    pub fn points(&self) -> usize {
        usize::try_from(self.info["points"].as_u64().expect("info.json has points"))
            .expect("a count fits")
    }

    /// SHA-256 of the snapshot as it is before compression, as the server gave it.
    pub fn sha256(&self) -> &str {
        self.sha256_told().expect("info.json has snapshot_sha256")
    }

    /// The same; servers before 1.8 told none.
    pub fn sha256_told(&self) -> Option<&str> {
        self.info["snapshot_sha256"].as_str()
    }

    /// The server that took the snapshot.
    pub fn server(&self) -> &str {
        self.version.rsplit("-to-").next().unwrap_or_default()
    }
}

/// All sets of today's form, `fixtures/` first. An unreadable fixture is an error; a missing further
/// version is not.
pub fn find(root: &Path) -> Result<Vec<CaseSet>, String> {
    let fixtures = read_set(&root.join("fixtures"), FIXTURES_VERSION)?;
    let mut sets = vec![CaseSet {
        version: FIXTURES_VERSION.to_owned(),
        cases: Ok(fixtures),
    }];
    for version in FURTHER_VERSIONS {
        sets.push(further(root, version)?);
    }
    Ok(sets)
}

/// All sets of old servers: all of each that are at hand, else those in `fixtures/old/`.
pub fn find_old(root: &Path) -> Result<Vec<CaseSet>, String> {
    let mut sets = Vec::new();
    for version in OLD_VERSIONS {
        let set = further(root, version)?;
        let here = root.join("fixtures/old").join(version);
        sets.push(match here.is_dir() && set.cases.is_err() {
            true => CaseSet {
                cases: Ok(read_set(&here, version)?),
                ..set
            },
            false => set,
        });
    }
    Ok(sets)
}

/// The set of a version that is outside the checkout.
fn further(root: &Path, version: &str) -> Result<CaseSet, String> {
    let (further, told) = match std::env::var_os("SNAPMERGE_SNAPSHOTS") {
        Some(dir) => (PathBuf::from(dir), "$SNAPMERGE_SNAPSHOTS".to_owned()),
        None => (
            root.join("../shared/snapshots"),
            "../shared/snapshots (SNAPMERGE_SNAPSHOTS names another folder)".to_owned(),
        ),
    };
    let dir = further.join(version);
    Ok(CaseSet {
        version: version.to_owned(),
        cases: match dir.is_dir() {
            true => Ok(read_set(&dir, version)?),
            false => Err(format!("there are no snapshots of {version} in {told}")),
        },
    })
}

/// The cases in one folder, by name; every `NAME.info.json` must have its two companions.
fn read_set(dir: &Path, version: &str) -> Result<Vec<Case>, String> {
    let at = |e: std::io::Error| format!("reading the cases in {}: {e}", dir.display());
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(at)? {
        let path = entry.map_err(at)?.path();
        let file_name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let Some(name) = file_name.strip_suffix(".info.json") else {
            continue;
        };
        let case = Case {
            version: version.to_owned(),
            snapshot_gz: dir.join(format!("{name}.snapshot.gz")),
            truth_gz: dir.join(format!("{name}.points.jsonl.gz")),
            info: serde_json::from_slice(&std::fs::read(&path).map_err(at)?)
                .map_err(|e| format!("{}: {e}", path.display()))?,
            name: name.to_owned(),
        };
        for part in [&case.snapshot_gz, &case.truth_gz] {
            if !part.is_file() {
                return Err(format!("{} is missing beside {file_name}", part.display()));
            }
        }
        cases.push(case);
    }
    if cases.is_empty() {
        return Err(format!("{} holds no case", dir.display()));
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(cases)
}

fn open_gz(path: &Path) -> Outcome<impl BufRead> {
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(BufReader::new(MultiGzDecoder::new(file)))
}
