//! Logs of the sources, as servers leave them: tens of megabytes that the segments hold long since.
//!
//! Keeps true: the entries' numbers are the versions that the segments say; all but the last entry are
//! acknowledged, and the segments hold that one too, as after a flush.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;

use ciborium::{Value as Cbor, cbor};
use serde_json::json;
use snapmerge::point::{PointId, Record, Vector};

use super::Outcome;
use super::wal::wal_file;

/// Bytes of entries that a server keeps, at about: one file that is full, and one that is not.
const BYTES: usize = 36 << 20;
/// Bytes of a full file.
const FILE_BYTES: usize = 32 << 20;

/// The last entries of a log.
#[derive(Default)]
pub struct Log {
    entries: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Log {
    /// Adds an entry that writes `points`; the oldest go as there are too many.
    pub fn add(&mut self, points: &[Record]) -> Outcome {
        let points = points.iter().map(point).collect::<Outcome<Vec<Cbor>>>()?;
        let entry = entry(points)?;
        self.bytes += entry.len();
        self.entries.push_back(entry);
        while self.bytes > BYTES {
            self.bytes -= self.entries.pop_front().map_or(0, |entry| entry.len());
        }
        Ok(())
    }

    /// Writes the snapshot `from`, whose log is empty, to `to` with this log; its last entry has the
    /// number `last`.
    pub fn write(self, from: &Path, to: &Path, last: u64) -> Outcome {
        let entries = Vec::from(self.entries);
        let first = last + 1 - entries.len() as u64;
        let mut bytes = 0;
        let full = entries.iter().take_while(|entry| {
            bytes += entry.len();
            bytes <= FILE_BYTES
        });
        let (closed, open) = entries.split_at(full.count());
        rewrite(from, to, |name, made| {
            if !name.starts_with("0/wal/") {
                return Ok(true);
            }
            append(made, &format!("0/wal/closed-{first}"), &wal_file(closed))?;
            append(made, "0/wal/open-1", &wal_file(open))?;
            let acknowledged = json!({ "ack_index": last }).to_string();
            append(made, "0/wal/first-index", acknowledged.as_bytes())?;
            Ok(false)
        })
    }
}

/// An entry that writes `points`, as a server has it.
pub fn entry(points: Vec<Cbor>) -> Outcome<Vec<u8>> {
    let entry = cbor!({
        "upsert_points" => {"points" => points},
        "clock_tag" => {"peer_id" => 1, "clock_id" => 0, "clock_tick" => 7, "token" => 1, "force" => false}
    })?;
    let mut bytes = Vec::new();
    ciborium::into_writer(&entry, &mut bytes)?;
    Ok(bytes)
}

/// Writes the snapshot `from` to `to` with one more entry in its log.
pub fn add_entry(from: &Path, to: &Path, entry: &[u8]) -> Outcome {
    rewrite(from, to, |name, made| {
        if name == "0/wal/first-index" {
            append(made, "0/wal/open-2", &wal_file(&[entry.to_vec()]))?;
        }
        Ok(true)
    })
}

fn point(record: &Record) -> Outcome<Cbor> {
    let id = match record.id {
        PointId::Num(id) => Cbor::from(id),
        PointId::Uuid(id) => Cbor::Bytes(id.into_bytes().to_vec()),
    };
    let vector = match record.vectors.as_slice() {
        [(_, Vector::Dense(values))] => Cbor::serialized(values)?,
        other => {
            return Err(format!("{} vectors where one dense one should be", other.len()).into());
        }
    };
    let payload = Cbor::serialized(&record.payload)?;
    Ok(cbor!({"id" => id, "vector" => vector, "payload" => payload})?)
}

/// Copies the tar `from` to `to`; `before` is called before each member and says whether it is kept.
fn rewrite(
    from: &Path,
    to: &Path,
    before: impl Fn(&str, &mut tar::Builder<File>) -> Outcome<bool>,
) -> Outcome {
    let mut made = tar::Builder::new(File::create_new(to)?);
    for member in tar::Archive::new(File::open(from)?).entries()? {
        let mut member = member?;
        let path = member.path()?.into_owned();
        if before(&path.to_string_lossy(), &mut made)? {
            let mut header = member.header().clone();
            made.append_data(&mut header, &path, &mut member)?;
        }
    }
    made.into_inner()?.sync_all()?;
    Ok(())
}

fn append(made: &mut tar::Builder<File>, name: &str, bytes: &[u8]) -> Outcome {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    made.append_data(&mut header, name, bytes)?;
    Ok(())
}
