//! Moving members from one tar to another under other names, their content as it is stored.
//!
//! A shard's own tar has at its root what a collection's has in the shard's folder; nothing of what
//! lies there is looked into, so that a shard of gigabytes is moved at the speed of a copy.
//!
//! Invariants: what a member holds is moved byte for byte, its holes as holes; how large a member
//! becomes is known before it is moved; times and owners are fixed.

use std::io::{self, Read as _, Write};
use std::path::Path;

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::pack::header;
use super::tar::{BLOCK, Member, MemberKind, Piece, Stream, Walker};
use crate::base::error::{Error, Result};

/// Bytes copied at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Longest name that a header holds itself.
const NAME_BYTES: usize = 100;
/// Runs of a sparse file in its header, and in each block after it.
const RUNS_FIRST: usize = 4;
const RUNS_MORE: usize = 21;

/// A tar that members are moved to.
pub struct Transplant<W> {
    out: W,
    /// Description of the output, for errors.
    what: String,
    written: u64,
    buffer: Vec<u8>,
}

/// The bytes that a member called `name` takes in a tar, with header and padding.
pub fn size_in_tar(member: &Member, name: &str) -> u64 {
    let long = if name.len() > NAME_BYTES {
        BLOCK + padded(name.len() as u64 + 1)
    } else {
        0
    };
    let runs = runs(member).map_or(0, |runs| runs.len());
    let more = runs.saturating_sub(RUNS_FIRST).div_ceil(RUNS_MORE) as u64;
    long + BLOCK + more * BLOCK + padded(member.stored_bytes)
}

/// The runs of a sparse member as a header holds them: whoever reads them wants the last one to end
/// where the file does, be it with nothing in it.
fn runs(member: &Member) -> Option<Vec<Piece>> {
    let mut runs = member.pieces.clone()?;
    let end = runs.last().map_or(0, |last| last.offset + last.bytes);
    if end < member.bytes || runs.is_empty() {
        runs.push(Piece {
            offset: member.bytes,
            bytes: 0,
        });
    }
    Some(runs)
}

/// The bytes at the end of a tar.
pub const TRAILER_BYTES: u64 = 2 * BLOCK;

impl<W: Write> Transplant<W> {
    /// A tar that is written to `out`, which `what` names in errors.
    pub fn new(out: W, what: impl Into<String>) -> Self {
        Self {
            out,
            what: what.into(),
            written: 0,
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Moves the walker's current member, which becomes `name`.
    pub fn member<S: Stream>(
        &mut self,
        walker: &mut Walker<S>,
        member: &Member,
        name: &str,
    ) -> Result<()> {
        self.head(member, name)?;
        let mut left = member.stored_bytes;
        while left > 0 {
            let most = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(BUFFER_BYTES);
            let Some(some) = self.buffer.get_mut(..most) else {
                break;
            };
            let count = match walker.data().read(some) {
                Ok(0) => return Err(walker.read_error(&io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(walker.read_error(&err)),
            };
            left -= count as u64;
            let some = self.buffer.get(..count).unwrap_or_default();
            self.out
                .write_all(some)
                .map_err(|err| failed(&self.what, &err))?;
            self.written += count as u64;
        }
        self.pad(member.stored_bytes)
    }

    /// Adds a file of our own.
    pub fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let member = Member {
            path: name.to_owned(),
            kind: MemberKind::File,
            bytes: bytes.len() as u64,
            stored_bytes: bytes.len() as u64,
            pieces: None,
            position: 0,
        };
        self.head(&member, name)?;
        self.put(bytes)?;
        self.pad(member.stored_bytes)
    }

    /// Ends the tar.
    pub fn finish(mut self) -> Result<W> {
        self.put(&[0; TRAILER_BYTES as usize])?;
        self.out.flush().map_err(|err| failed(&self.what, &err))?;
        Ok(self.out)
    }

    fn head(&mut self, member: &Member, name: &str) -> Result<()> {
        if name.len() > NAME_BYTES {
            let mut long = header(name.len() as u64 + 1);
            long.set_entry_type(EntryType::GNULongName);
            self.path(&mut long, "././@LongLink")?;
            self.put(name.as_bytes())?;
            self.put(&[0])?;
            self.pad(name.len() as u64 + 1)?;
        }
        let mut header = header(member.stored_bytes);
        if member.kind == MemberKind::Directory {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
        }
        let Some(pieces) = runs(member) else {
            return self.path(&mut header, name);
        };
        header.set_entry_type(EntryType::GNUSparse);
        let mut runs = pieces.iter();
        if let Some(gnu) = header.as_gnu_mut() {
            gnu.set_real_size(member.bytes);
            gnu.set_is_extended(pieces.len() > RUNS_FIRST);
            for (slot, piece) in gnu.sparse.iter_mut().zip(runs.by_ref().take(RUNS_FIRST)) {
                set(slot, *piece);
            }
        }
        self.path(&mut header, name)?;
        while runs.len() > 0 {
            let mut block = GnuExtSparseHeader::new();
            for (slot, piece) in block
                .sparse_mut()
                .iter_mut()
                .zip(runs.by_ref().take(RUNS_MORE))
            {
                set(slot, *piece);
            }
            block.set_is_extended(runs.len() > 0);
            let bytes = *block.as_bytes();
            self.put(&bytes)?;
        }
        Ok(())
    }

    /// Writes the header under `name`, or what of it fits.
    fn path(&mut self, header: &mut Header, name: &str) -> Result<()> {
        let mut end = name.len().min(NAME_BYTES);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        if let (Some(gnu), (fits, _)) = (header.as_gnu_mut(), name.split_at(end))
            && let Some(field) = gnu.name.get_mut(..fits.len())
        {
            field.copy_from_slice(fits.as_bytes());
        }
        header.set_cksum();
        let bytes = *header.as_bytes();
        self.put(&bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out
            .write_all(bytes)
            .map_err(|err| failed(&self.what, &err))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self, bytes: u64) -> Result<()> {
        let padding = usize::try_from(padded(bytes) - bytes).unwrap_or(0);
        self.put([0; BLOCK as usize].get(..padding).unwrap_or_default())
    }
}

fn set(slot: &mut tar::GnuSparseHeader, piece: Piece) {
    slot.set_offset(piece.offset);
    slot.set_length(piece.bytes);
}

fn padded(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK) * BLOCK
}

fn failed(what: &str, err: &io::Error) -> Error {
    Error::io("writing", Path::new(what), err)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes<'a>(&'a [u8]);

    impl io::Read for Bytes<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Stream for Bytes<'_> {
        fn skip(&mut self, bytes: u64) -> io::Result<()> {
            crate::format::skip_by_reading(self, bytes)
        }
    }

    /// Every member with its contents.
    fn read(tar: &[u8]) -> Vec<(Member, Vec<u8>)> {
        let mut walker = Walker::new(Bytes(tar), "test");
        let mut members = Vec::new();
        while let Some(member) = walker.next_member().unwrap() {
            let bytes = walker.read_small(&member, 1 << 30).unwrap();
            members.push((member, bytes));
        }
        members
    }

    #[test]
    fn members_keep_what_they_hold_under_names_of_any_length() {
        let long = format!("0/segments/{}/files/x", "v".repeat(200));
        let mut first = Transplant::new(Vec::new(), "a");
        first.file("short", b"abc").unwrap();
        first.file(&long, &[7; 1000]).unwrap();
        // Thirty runs, which need two blocks after the header.
        let pieces: Vec<Piece> = (0..30)
            .map(|at| Piece {
                offset: at * 4096,
                bytes: 512,
            })
            .collect();
        let sparse = Member {
            path: "holes".into(),
            kind: MemberKind::File,
            bytes: 30 * 4096,
            stored_bytes: 30 * 512,
            pieces: Some(pieces),
            position: 0,
        };
        first.head(&sparse, "holes").unwrap();
        for at in 0..30_u8 {
            first.put(&[at + 1; 512]).unwrap();
        }
        first.pad(sparse.stored_bytes).unwrap();
        let tar = first.finish().unwrap();
        let before = read(&tar);
        assert_eq!(before.len(), 3);
        assert_eq!(before[2].1.len(), 30 * 4096);
        assert_eq!(before[2].1[29 * 4096], 30);

        let mut walker = Walker::new(Bytes(&tar), "test");
        let mut second = Transplant::new(Vec::new(), "b");
        while let Some(member) = walker.next_member().unwrap() {
            let name = format!("17/{}", member.path);
            let at = second.written();
            second.member(&mut walker, &member, &name).unwrap();
            assert_eq!(second.written() - at, size_in_tar(&member, &name), "{name}");
        }
        let after = read(&second.finish().unwrap());
        assert_eq!(after.len(), 3);
        for ((old, bytes), (new, copied)) in before.iter().zip(&after) {
            assert_eq!(new.path, format!("17/{}", old.path));
            assert_eq!(copied, bytes, "{}", old.path);
            assert_eq!(new.pieces, old.pieces);
        }
        // Other programs read it too.
        let tar = {
            let mut walker = Walker::new(Bytes(&tar), "test");
            let mut third = Transplant::new(Vec::new(), "c");
            while let Some(member) = walker.next_member().unwrap() {
                third.member(&mut walker, &member, &member.path).unwrap();
            }
            third.finish().unwrap()
        };
        let mut archive = tar::Archive::new(tar.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["short".to_owned(), long, "holes".to_owned()]);
    }

    #[test]
    fn what_ends_early_is_an_error() {
        let mut whole = Transplant::new(Vec::new(), "a");
        whole.file("x", &[1; 5000]).unwrap();
        let tar = whole.finish().unwrap();
        let mut walker = Walker::new(Bytes(&tar[..3000]), "test");
        let member = walker.next_member().unwrap().unwrap();
        let mut out = Transplant::new(Vec::new(), "b");
        assert!(out.member(&mut walker, &member, "x").is_err());
    }
}
