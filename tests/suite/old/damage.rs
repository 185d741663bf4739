//! Damage to the RocksDB of an old snapshot: whatever was flipped, cut off, emptied, taken away or put in
//! the place of another, it is refused, or the points are the ones that the server had.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::support::cases::Case;
use crate::support::craft::{Member, Tar};
use crate::support::points::ensure_same;
use crate::support::{Env, Outcome, Trial, temp_dir};

/// The cases, by what they keep in RocksDB: sparse vectors, multivectors, vectors of bytes, ids alone.
const CASES: [(&str, &str); 5] = [
    ("1.7.4", "sparse_appendable"),
    ("1.10.1", "multivector"),
    ("1.10.1", "uint8"),
    ("1.13.6", "appendable"),
    ("1.13.6", "ram_payload_appendable"),
];
/// Changes to each.
const CHANGES: u64 = 60;
/// Of them at least so many must have hit what is read.
const REFUSED_MIN: usize = 20;

pub fn trials(env: &'static Env) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (version, name) in CASES {
        trials.push(Trial::new(
            format!("old/damage/{version}/{name}"),
            move || random_changes(&env.old_case(version, name)?),
        ));
    }
    trials.push(Trial::new("old/damage/table_of_another", move || {
        another_table(env)
    }));
    trials
}

/// A case's tar, small, with the segments that have a RocksDB.
struct Old {
    tar: Tar,
    truth: Vec<Value>,
    /// Where in the tar they are, and their members.
    segments: Vec<(usize, Tar)>,
}

impl Old {
    fn of(case: &Case) -> Outcome<Self> {
        let dir = temp_dir()?;
        let mut tar = Tar::parse(&std::fs::read(case.unpack(dir.path())?)?)?;
        let mut segments = Vec::new();
        for (at, member) in tar.members.iter_mut().enumerate() {
            // Logs are 32 MiB, and zeros after their last entry.
            if member.path.contains("/wal/open-") && member.head[156] == b'0' {
                let used = member.data.iter().rposition(|byte| *byte != 0).unwrap_or(0);
                member.set(member.data[..(used + 64).next_multiple_of(512)].to_vec());
            }
            if member.path.ends_with(".tar") {
                let inner = Tar::parse(&member.data)?;
                let has_records = |m: &Member| in_database(m) && m.path.ends_with(".sst");
                if inner.members.iter().any(has_records) {
                    segments.push((at, inner));
                }
            }
        }
        ensure!(!segments.is_empty(), "no segment has a RocksDB");
        Ok(Self {
            tar,
            truth: case.truth()?,
            segments,
        })
    }

    /// The snapshot with another segment in the place of `nth` of those with a RocksDB.
    fn with(&self, nth: usize, segment: &Tar) -> Vec<u8> {
        let mut tar = self.tar.clone();
        tar.members[self.segments[nth].0].set(segment.open_bytes());
        tar.bytes()
    }

    /// Whether `snapshot` is refused as damaged; if not, its points are the truth.
    fn is_refused(&self, snapshot: &[u8], what: &str) -> Outcome<bool> {
        let dir = temp_dir()?;
        let file = dir.path().join("old.snapshot");
        std::fs::write(&file, snapshot)?;
        let run = cli!["export", &file].run()?;
        match run.status.code() {
            Some(13) => {
                ensure!(
                    run.stderr.contains("old"),
                    "{what}: the error names no file\n{}",
                    run.told()
                );
                Ok(true)
            }
            Some(0) => {
                let same = ensure_same(&run.json_lines()?, &self.truth);
                same.map_err(|err| format!("{what}: {}", err.message().unwrap_or_default()))?;
                Ok(false)
            }
            _ => Err(format!("{what}: {}", run.told()).into()),
        }
    }
}

fn in_database(member: &Member) -> bool {
    member.path.contains("/db_backup/") && member.head[156] == b'0'
}

fn random_changes(case: &Case) -> Outcome {
    let old = Old::of(case)?;
    ensure!(
        !old.is_refused(&old.tar.bytes(), "unchanged")?,
        "the case itself is refused"
    );
    let mut random = ChaCha8Rng::seed_from_u64(14);
    let mut refused = 0;
    for _ in 0..CHANGES {
        let nth = random.random_range(0..old.segments.len());
        let mut segment = old.segments[nth].1.clone();
        let files: Vec<usize> = (segment.members.iter().enumerate())
            .filter(|(_, member)| in_database(member))
            .map(|(at, _)| at)
            .collect();
        let at = *files.choose(&mut random).ok_or("no file")?;
        let member = &mut segment.members[at];
        let length = member.data.len();
        let what = match random.random_range(0..6) {
            0 => {
                let name = segment.members.remove(at).path;
                format!("{name} taken away")
            }
            1 => {
                let to = random.random_range(0..=length);
                member.set(member.data[..to].to_vec());
                format!("{} of {length} bytes cut to {to}", member.path)
            }
            _ if length > 0 => {
                let (byte, bit) = (random.random_range(0..length), random.random_range(0..8));
                member.data[byte] ^= 1 << bit;
                format!("bit {bit} of byte {byte} of {length} of {}", member.path)
            }
            _ => {
                member.set(b"more".to_vec());
                format!("{} was empty", member.path)
            }
        };
        refused += usize::from(old.is_refused(&old.with(nth, &segment), &what)?);
    }
    ensure!(
        refused >= REFUSED_MIN,
        "only {refused} of {CHANGES} were refused"
    );
    Ok(())
}

/// Tables of another database, with the backup's list made to fit: RocksDB itself finds out.
fn another_table(env: &Env) -> Outcome {
    let old = Old::of(&env.old_case("1.10.1", "uint8")?)?;
    let other = Old::of(&env.old_case("1.10.1", "multivector")?)?;
    let is_table = |member: &Member| in_database(member) && member.path.ends_with(".sst");
    let tables: Vec<&Member> = (other.segments.iter())
        .flat_map(|(_, segment)| segment.members.iter().filter(|member| is_table(member)))
        .collect();
    let mut refused = 0;
    for (nth, (_, segment)) in old.segments.iter().enumerate() {
        for (at, member) in segment.members.iter().enumerate() {
            if !is_table(member) {
                continue;
            }
            let table = tables[refused % tables.len()];
            let mut changed = segment.clone();
            let (before, after) = (crc32c::crc32c(&member.data), crc32c::crc32c(&table.data));
            changed.members[at].set(table.data.clone());
            let list = changed.find("db_backup/meta/1")?;
            list.edit(&format!("crc32 {before}\n"), &format!("crc32 {after}\n"))?;
            let what = format!("{} for {}", table.path, member.path);
            ensure!(
                old.is_refused(&old.with(nth, &changed), &what)?,
                "{what} was read"
            );
            refused += 1;
        }
    }
    ensure!(refused > 1, "only {refused} tables");
    Ok(())
}
