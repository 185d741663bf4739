//! Snapshots made of real ones: taken apart into their files, changed, and put together again.

use std::path::{Path, PathBuf};

use crate::support::Outcome;

/// The files of a tar, to be changed and written again.
#[derive(Clone)]
pub struct Members(pub Vec<Member>);

#[derive(Clone)]
pub struct Member {
    pub path: String,
    pub bytes: Vec<u8>,
}

impl Members {
    pub fn read(path: &Path) -> Outcome<Self> {
        let file = std::fs::File::open(path)?;
        Self::parse(std::io::BufReader::new(file))
    }

    pub fn parse(from: impl std::io::Read) -> Outcome<Self> {
        use std::io::Read as _;
        let mut members = Vec::new();
        for entry in tar::Archive::new(from).entries()? {
            let mut entry = entry?;
            if !entry.header().entry_type().is_dir() {
                let path = entry.path()?.display().to_string();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                // A log is 32 MiB of mostly nothing; its end says no more than one page of it.
                if path.contains("wal/open-") {
                    let used = bytes
                        .iter()
                        .rposition(|byte| *byte != 0)
                        .map_or(0, |at| at + 1);
                    bytes.truncate(used.next_multiple_of(4096) + 4096);
                }
                members.push(Member { path, bytes });
            }
        }
        Ok(Self(members))
    }

    pub fn add(&mut self, path: &str, bytes: &[u8]) {
        self.0.push(Member {
            path: path.to_owned(),
            bytes: bytes.to_vec(),
        });
    }

    /// A shard snapshot of what lies under `prefix`.
    pub fn shard(&self, prefix: &str) -> Self {
        let inside = self.0.iter().filter_map(|member| {
            Some(Member {
                path: member.path.strip_prefix(prefix)?.to_owned(),
                bytes: member.bytes.clone(),
            })
        });
        Self(inside.collect())
    }

    /// The same shard as it is streamed: segments as folders.
    pub fn streamed(&self) -> Outcome<Self> {
        let mut members = Vec::new();
        for member in &self.0 {
            match member.path.strip_suffix(".tar") {
                None => members.push(member.clone()),
                Some(segment) => {
                    for file in Self::parse(member.bytes.as_slice())?.0 {
                        let name = file.path.strip_prefix("snapshot/").ok_or("another root")?;
                        members.push(Member {
                            path: format!("{segment}/{name}"),
                            bytes: file.bytes,
                        });
                    }
                }
            }
        }
        Ok(Self(members))
    }

    pub fn to_bytes(&self) -> Outcome<Vec<u8>> {
        let mut builder = tar::Builder::new(Vec::new());
        for member in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_size(member.bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(
                &mut header,
                PathBuf::from(&member.path),
                member.bytes.as_slice(),
            )?;
        }
        Ok(builder.into_inner()?)
    }

    pub fn write(&self, path: &Path) -> Outcome {
        Ok(std::fs::write(path, self.to_bytes()?)?)
    }
}
