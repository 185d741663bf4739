//! Snapshots taken apart and put together again, byte by byte, so that a test can damage them where
//! it wants to.
//!
//! Keeps true: what is not touched stays as it was, headers of sparse members included; nothing here
//! relies on the program's own way of reading a tar.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::Outcome;

const BLOCK: usize = 512;

/// A tar as its members.
#[derive(Debug, Clone)]
pub struct Tar {
    pub members: Vec<Member>,
}

/// A member: its header blocks as they are, and what is stored for it, without padding.
#[derive(Debug, Clone)]
pub struct Member {
    pub path: String,
    pub head: Vec<u8>,
    pub data: Vec<u8>,
}

impl Tar {
    /// The members of `bytes`, up to the trailer or the end.
    pub fn parse(bytes: &[u8]) -> Outcome<Self> {
        let mut members = Vec::new();
        let mut at = 0;
        let mut head: Vec<u8> = Vec::new();
        let block = |at: usize| -> Outcome<&[u8]> {
            let block = bytes.get(at..at + BLOCK);
            block.ok_or_else(|| format!("the tar ends at {at}").into())
        };
        while at < bytes.len() && block(at)?.iter().any(|byte| *byte != 0) {
            let header = block(at)?;
            let (kind, size) = (header[156], number(&header[124..136]));
            head.extend_from_slice(header);
            at += BLOCK;
            let mut extended = kind == b'S' && header[482] != 0;
            while extended {
                let more = block(at)?;
                head.extend_from_slice(more);
                at += BLOCK;
                extended = more[504] != 0;
            }
            let data = bytes.get(at..at + size);
            let data = data.ok_or("a member is longer than the tar")?.to_vec();
            at += size.next_multiple_of(BLOCK);
            ensure!(kind != b'L', "a long name, which no fixture has");
            let path = header[..100].split(|byte| *byte == 0).next();
            members.push(Member {
                path: String::from_utf8_lossy(path.unwrap_or_default()).into_owned(),
                head: std::mem::take(&mut head),
                data,
            });
        }
        Ok(Self { members })
    }

    /// The tar without a trailer, as Qdrant writes a segment's.
    pub fn open_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for member in &self.members {
            bytes.extend_from_slice(&member.head);
            bytes.extend_from_slice(&member.data);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes
    }

    /// The whole tar.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.open_bytes();
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        bytes
    }

    /// The first member whose path ends with `end`: an ending like `.tar`, or a file's whole name.
    pub fn find(&mut self, end: &str) -> Outcome<&mut Member> {
        let name = format!("/{end}");
        let is_it = |path: &str| match end.starts_with('.') {
            true => path.ends_with(end),
            false => path == end || path.ends_with(&name),
        };
        let found = self.members.iter_mut().find(|m| is_it(&m.path));
        found.ok_or_else(|| format!("no member ends with {end}").into())
    }

    /// Takes every member away whose path is `of`; fails if there is none.
    pub fn remove(&mut self, of: impl Fn(&str) -> bool) -> Outcome {
        let before = self.members.len();
        self.members.retain(|member| !of(&member.path));
        ensure!(self.members.len() < before, "nothing to take away");
        Ok(())
    }

    /// Changes every segment.
    pub fn segments(&mut self, change: impl Fn(&mut Self) -> Outcome) -> Outcome {
        for member in &mut self.members {
            if member.path.ends_with(".tar") {
                let mut inner = Self::parse(&member.data)?;
                change(&mut inner)?;
                member.set(inner.open_bytes());
            }
        }
        Ok(())
    }

    /// Changes the first segment that has a file whose name ends with `with`.
    pub fn segment(&mut self, with: &str, change: impl FnOnce(&mut Self) -> Outcome) -> Outcome {
        for member in &mut self.members {
            if !member.path.ends_with(".tar") {
                continue;
            }
            let mut inner = Self::parse(&member.data)?;
            if inner.find(with).is_ok() {
                change(&mut inner)?;
                member.set(inner.open_bytes());
                return Ok(());
            }
        }
        Err(format!("no segment has {with}").into())
    }
}

impl Member {
    /// A member of `kind` called `path`, whatever that may be.
    pub fn new(kind: u8, path: &str, data: &[u8]) -> Self {
        let mut head = vec![0; BLOCK];
        // A name that does not fit comes as a member of its own before.
        if path.len() > 100 {
            head = Self::new(b'L', "././@LongLink", &[path.as_bytes(), b"\0"].concat()).alone();
            head.resize(head.len() + BLOCK, 0);
        }
        let header = head.len() - BLOCK;
        let name = &path.as_bytes()[..path.len().min(100)];
        head[header..header + name.len()].copy_from_slice(name);
        let mut member = Self {
            path: path.to_owned(),
            head,
            data: data.to_vec(),
        };
        member.put(100, b"0000644\0");
        member.put(108, b"0000000\0");
        member.put(116, b"0000000\0");
        member.put(136, b"00000000000\0");
        member.put(156, &[kind]);
        member.put(257, b"ustar  \0");
        member.size(data.len() as u64);
        member
    }

    /// A regular file.
    pub fn file(path: &str, data: &[u8]) -> Self {
        Self::new(b'0', path, data)
    }

    /// Replaces what is stored for a file that is not sparse.
    pub fn set(&mut self, data: Vec<u8>) {
        self.size(data.len() as u64);
        self.data = data;
    }

    /// Replaces `from` by `to` in a text.
    pub fn edit(&mut self, from: &str, to: &str) -> Outcome {
        let text = String::from_utf8(self.data.clone()).map_err(|_| "no text")?;
        ensure!(text.contains(from), "{} has no {from}: {text}", self.path);
        self.set(text.replace(from, to).into_bytes());
        Ok(())
    }

    /// Sets the size that the header claims, whatever is stored.
    pub fn size(&mut self, bytes: u64) {
        if bytes < 1 << 33 {
            self.put(124, format!("{bytes:011o}\0").as_bytes());
        } else {
            // As GNU tar writes what does not fit into octal digits.
            self.put(124, &[0x80, 0, 0, 0]);
            self.put(128, &bytes.to_be_bytes());
        }
    }

    /// Writes into the last header, and its checksum.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        let start = match self.head[156] {
            b'L' if self.head.len() > BLOCK => self.head.len() - BLOCK,
            _ => 0,
        };
        let header = &mut self.head[start..start + BLOCK];
        header[at..at + bytes.len()].copy_from_slice(bytes);
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    fn alone(self) -> Vec<u8> {
        Tar {
            members: vec![self],
        }
        .open_bytes()
    }
}

fn number(octal: &[u8]) -> usize {
    let digits = octal.iter().filter(|byte| byte.is_ascii_digit());
    digits.fold(0, |sum, digit| sum * 8 + usize::from(digit - b'0'))
}

/// Writes the snapshot of a storage to `path`, as a server does: the snapshots of `collections`, by their names,
/// and a config with `aliases`.
pub fn full_snapshot(path: &Path, collections: &[(&str, &Path)], aliases: &Value) -> Outcome {
    let mut tar = tar::Builder::new(std::fs::File::create(path)?);
    let mut mapping = serde_json::Map::new();
    for (collection, file) in collections {
        let member = format!("{collection}-6053835381806815-2026-11-22-14-15-16.snapshot");
        tar.append_path_with_name(file, &member)?;
        mapping.insert((*collection).to_owned(), json!(member));
    }
    let config =
        json!({"collections_mapping": mapping, "collections_aliases": aliases}).to_string();
    let mut header = tar::Header::new_gnu();
    header.set_size(config.len() as u64);
    header.set_mode(0o600);
    tar.append_data(&mut header, "config.json", config.as_bytes())?;
    tar.finish()?;
    Ok(())
}

/// `bytes` as a .gz.
pub fn gz(bytes: &[u8]) -> Outcome<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}
