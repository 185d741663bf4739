//! Walking a tar that nobody vouches for.
//!
//! The tars inside and around Qdrant's snapshots are read with this walker and nothing else. It
//! goes forward only, so that a plain file, a gzip stream and a tar inside a tar are read by the
//! same code; on a plain file it seeks over what nobody asks for.
//!
//! Keeps true:
//! - a member is yielded only if its header's checksum is right, its name stays inside the folder
//!   it is unpacked to, and it is a file or a directory (what Qdrant itself accepts:
//!   lib/common/common/src/tar_unpack.rs);
//! - no member comes twice under one name;
//! - the end is reached only through the trailer of two zero blocks, with nothing after it: a tar
//!   cut off anywhere is an error, since a failed streamed snapshot is an HTTP 200 with a short
//!   body. Only a tar inside a tar may end without one, since Qdrant writes a segment's so
//!   (lib/common/common/src/tar_ext.rs); its length is the outer header's;
//! - nothing is allocated by a size that a header claims.

use std::collections::HashSet;
use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, Header};

use crate::error::{Error, Kind, Result};

/// Size of a tar block in bytes.
pub const BLOCK: u64 = 512;
/// Longest name that is accepted, in bytes (Linux's PATH_MAX).
const NAME_BYTES_MAX: u64 = 4096;
/// Longest part of a name between slashes, in bytes (Linux's NAME_MAX).
const PART_BYTES_MAX: usize = 255;
/// Largest file that a sparse member may unfold to, in bytes: no file of a segment comes near, and
/// most file systems stop there.
const SPARSE_BYTES_MAX: u64 = 1 << 44;
/// Most members that one tar may have: Qdrant writes some dozens a segment.
const MEMBERS_MAX: usize = 1_000_000;
/// Most pieces that a sparse member may have.
const PIECES_MAX: usize = 1_000_000;

/// Bytes that are read forward, and can be passed over without being looked at.
pub trait Stream: Read {
    /// Pass over `bytes` bytes; an error if the stream ends before.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;
}

impl<S: Stream + ?Sized> Stream for &mut S {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        (**self).skip(bytes)
    }
}

/// Pass over `bytes` bytes of a reader that cannot seek.
pub fn skip_by_reading<R: Read + ?Sized>(reader: &mut R, bytes: u64) -> io::Result<()> {
    let passed = io::copy(&mut reader.take(bytes), &mut io::sink())?;
    if passed == bytes {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file, sparse or not.
    File,
    /// A directory.
    Directory,
}

/// A run of bytes of a sparse file that is stored; everything between runs is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where the run belongs in the file, in bytes.
    pub offset: u64,
    /// Length of the run in bytes.
    pub bytes: u64,
}

/// One member of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, with `.` parts and a trailing slash taken away.
    pub path: String,
    /// File or directory.
    pub kind: MemberKind,
    /// Size of the file in bytes, holes included.
    pub bytes: u64,
    /// Bytes that the tar stores for it, padding not included.
    pub stored_bytes: u64,
    /// For a sparse file the runs that are stored, ascending and disjoint.
    pub pieces: Option<Vec<Piece>>,
    /// Where its stored bytes begin in the tar, in bytes.
    pub position: u64,
}

/// Walks the members of one tar. See the module's invariants.
pub struct Walker<S> {
    stream: S,
    /// What is being walked, for errors: "a.snapshot", "0/segments/X.tar of a.snapshot".
    what: String,
    /// Offset of the next unread byte, in bytes from the start of this tar.
    position: u64,
    /// Stored bytes of the current member that nobody has read yet.
    unread: u64,
    /// Zero bytes after them.
    padding: u64,
    current: String,
    seen: HashSet<String>,
    /// Whether the tar may end without a trailer.
    may_just_end: bool,
    ended: bool,
}

impl<S: Stream> Walker<S> {
    /// A walker over `stream`, which stands at the first byte of the tar; `what` names it in errors.
    pub fn new(stream: S, what: impl Into<String>) -> Self {
        Self {
            stream,
            what: what.into(),
            position: 0,
            unread: 0,
            padding: 0,
            current: String::new(),
            seen: HashSet::new(),
            may_just_end: false,
            ended: false,
        }
    }

    /// A walker over a tar inside a tar.
    pub fn inner(stream: S, what: impl Into<String>) -> Self {
        Self {
            may_just_end: true,
            ..Self::new(stream, what)
        }
    }

    /// The name of what is being walked.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The next member, or none at the end of the tar. What is left of the current member is
    /// passed over.
    pub fn next_member(&mut self) -> Result<Option<Member>> {
        if self.ended {
            return Ok(None);
        }
        let left = self.unread + self.padding;
        self.pass(left)?;
        self.unread = 0;
        self.padding = 0;

        let mut long_name: Option<Vec<u8>> = None;
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let stored_bytes = header
                .entry_size()
                .map_err(|err| self.damaged(format!("a header's size cannot be read ({err})")))?;
            if header.entry_type() == EntryType::GNULongName {
                if long_name.is_some() {
                    return Err(self.damaged("two long names before one member"));
                }
                long_name = Some(self.long_name(stored_bytes)?);
                continue;
            }
            let member = self.member(&header, stored_bytes, long_name)?;
            return Ok(Some(member));
        }
    }

    /// The stored bytes of the current member, as far as they are unread.
    pub fn data(&mut self) -> Data<'_, S> {
        Data { walker: self }
    }

    /// The contents of the current member, its holes filled with zeros.
    pub fn contents<'a>(&'a mut self, member: &'a Member) -> Contents<'a, S> {
        Contents {
            data: self.data(),
            pieces: member.pieces.as_deref(),
            bytes: member.bytes,
            at: 0,
            whole: Piece {
                offset: 0,
                bytes: member.bytes,
            },
        }
    }

    /// Reads the whole current member into memory; an error if it is larger than `bytes_max`.
    pub fn read_small(&mut self, member: &Member, bytes_max: u64) -> Result<Vec<u8>> {
        if member.bytes > bytes_max {
            return Err(self.damaged(format!(
                "member {} claims {} bytes, more than the {bytes_max} that such a file can have",
                member.path, member.bytes
            )));
        }
        let mut contents = Vec::new();
        let read = self.contents(member).read_to_end(&mut contents);
        read.map_err(|err| self.read_error(&err))?;
        Ok(contents)
    }

    /// An error about this tar: [`Kind::Damaged`].
    pub fn damaged(&self, why: impl std::fmt::Display) -> Error {
        Error::damaged(format!("reading {}", self.what), why)
    }

    /// The error for a failed read at the current position.
    pub fn read_error(&self, err: &io::Error) -> Error {
        read_error(&self.what, self.position, &self.current, err)
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_gnu();
        let (first, rest) = header.as_mut_bytes().split_at_mut(1);
        if self.may_just_end {
            let count = self
                .stream
                .read(first)
                .map_err(|err| self.read_error(&err))?;
            if count == 0 {
                self.ended = true;
                return Ok(None);
            }
            self.position += 1;
        } else {
            self.fill(first)?;
        }
        self.fill(rest)?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            self.finish()?;
            return Ok(None);
        }
        // The checksum field itself counts as eight spaces (POSIX ustar).
        let sum: u32 = bytes
            .iter()
            .enumerate()
            .map(|(at, byte)| {
                if (148..156).contains(&at) {
                    32
                } else {
                    u32::from(*byte)
                }
            })
            .sum();
        let at = self.position - BLOCK;
        match header.cksum() {
            Ok(told) if told == sum => Ok(Some(header)),
            Ok(_) | Err(_) if at == 0 => Err(self
                .damaged("it is not a tar: its first block is no tar header")
                .next("give a file that Qdrant's snapshot API returned, plain or .gz")),
            Ok(_) | Err(_) => Err(self.damaged(format!(
                "the tar header at byte {at} (after {}) does not match its checksum",
                self.current_or_start()
            ))),
        }
    }

    fn long_name(&mut self, bytes: u64) -> Result<Vec<u8>> {
        if bytes > NAME_BYTES_MAX {
            return Err(self.damaged(format!(
                "a member's name is {bytes} bytes long; the longest that can be unpacked has \
                 {NAME_BYTES_MAX}"
            )));
        }
        let mut name = vec![0; usize::try_from(bytes).unwrap_or(0)];
        self.fill(&mut name)?;
        self.pass(padding(bytes))?;
        while name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    fn member(
        &mut self,
        header: &Header,
        stored_bytes: u64,
        long_name: Option<Vec<u8>>,
    ) -> Result<Member> {
        let raw = long_name.unwrap_or_else(|| header.path_bytes().into_owned());
        let path = self.safe_path(&raw)?;
        self.current.clone_from(&path);
        let (kind, bytes, pieces) = match header.entry_type() {
            EntryType::Regular => (MemberKind::File, stored_bytes, None),
            EntryType::Directory => (MemberKind::Directory, 0, None),
            EntryType::GNUSparse => {
                let (bytes, pieces) = self.sparse(header, stored_bytes)?;
                (MemberKind::File, bytes, Some(pieces))
            }
            other => {
                return Err(self.damaged(format!(
                    "member {path} is {}; a snapshot holds only files and directories",
                    describe(other)
                )));
            }
        };
        if kind == MemberKind::Directory && stored_bytes > 0 {
            return Err(self.damaged(format!("directory {path} claims {stored_bytes} bytes")));
        }
        if self.seen.len() >= MEMBERS_MAX {
            return Err(self.damaged(format!("it has more than {MEMBERS_MAX} members")));
        }
        // Directories may be named again by another writer; a file may not.
        if !self.seen.insert(path.clone()) && kind == MemberKind::File {
            return Err(self.damaged(format!("member {path} is in it twice")));
        }
        self.unread = stored_bytes;
        self.padding = padding(stored_bytes);
        Ok(Member {
            path,
            kind,
            bytes,
            stored_bytes,
            pieces,
            position: self.position,
        })
    }

    /// The map of a GNU sparse member (format 0.0, "oldgnu": the one that the tar crate and thus
    /// Qdrant writes).
    fn sparse(&mut self, header: &Header, stored_bytes: u64) -> Result<(u64, Vec<Piece>)> {
        let Some(gnu) = header.as_gnu() else {
            return Err(self.damaged(format!(
                "sparse member {} has no GNU header",
                self.current_or_start()
            )));
        };
        let bytes = gnu.real_size().map_err(|err| {
            self.damaged(format!("a sparse member's size cannot be read ({err})"))
        })?;
        if bytes > SPARSE_BYTES_MAX {
            return Err(self.damaged(format!(
                "sparse member {} claims to be {bytes} bytes long; no file of a segment is longer \
                 than {SPARSE_BYTES_MAX}",
                self.current
            )));
        }
        let mut pieces = Vec::new();
        for slot in &gnu.sparse {
            self.piece(slot, &mut pieces)?;
        }
        let mut more = gnu.is_extended();
        while more {
            let mut extension = GnuExtSparseHeader::new();
            self.fill(extension.as_mut_bytes())?;
            for slot in &extension.sparse {
                self.piece(slot, &mut pieces)?;
            }
            more = extension.is_extended();
        }
        let mut end = 0;
        let mut sum = 0_u64;
        for piece in &pieces {
            let piece_end = piece.offset.checked_add(piece.bytes);
            let (Some(piece_end), Some(total)) = (piece_end, sum.checked_add(piece.bytes)) else {
                return Err(self.damaged(format!("the runs of {} overflow", self.current)));
            };
            if piece.offset < end || piece_end > bytes {
                return Err(self.damaged(format!(
                    "the runs of sparse member {} overlap or leave the file",
                    self.current
                )));
            }
            end = piece_end;
            sum = total;
        }
        if sum != stored_bytes {
            return Err(self.damaged(format!(
                "the runs of sparse member {} add up to {sum} bytes, its header says {stored_bytes}",
                self.current
            )));
        }
        pieces.retain(|piece| piece.bytes > 0);
        Ok((bytes, pieces))
    }

    fn piece(&self, slot: &tar::GnuSparseHeader, pieces: &mut Vec<Piece>) -> Result<()> {
        if slot.is_empty() {
            return Ok(());
        }
        let (Ok(offset), Ok(bytes)) = (slot.offset(), slot.length()) else {
            return Err(self.damaged(format!(
                "the runs of sparse member {} cannot be read",
                self.current
            )));
        };
        if pieces.len() >= PIECES_MAX {
            return Err(self.damaged(format!(
                "sparse member {} has more than {PIECES_MAX} runs",
                self.current
            )));
        }
        pieces.push(Piece { offset, bytes });
        Ok(())
    }

    fn safe_path(&self, raw: &[u8]) -> Result<String> {
        let shown = String::from_utf8_lossy(raw);
        // A hostile name is shown as far as a line allows.
        let shown: String = shown.chars().take(120).collect();
        let refuse = |why: &str| Err(self.damaged(format!("member name '{shown}' {why}")));
        let Ok(name) = std::str::from_utf8(raw) else {
            return refuse("is not UTF-8");
        };
        if raw.len() as u64 > NAME_BYTES_MAX {
            return refuse("is too long to be unpacked");
        }
        if name.starts_with('/') {
            return refuse("is absolute; unpacking it would leave the folder");
        }
        if name.contains('\0') {
            return refuse("holds a zero byte");
        }
        let mut parts = Vec::new();
        for part in name.split('/') {
            match part {
                "" | "." => {}
                ".." => return refuse("climbs out of the folder that it is unpacked to"),
                part if part.len() > PART_BYTES_MAX => {
                    return refuse("has a part longer than 255 bytes");
                }
                part => parts.push(part),
            }
        }
        Ok(parts.join("/"))
    }

    /// After the first zero block: a second one, then nothing but zeros.
    fn finish(&mut self) -> Result<()> {
        let mut block = [0; BLOCK as usize];
        self.fill(&mut block)?;
        if block.iter().any(|byte| *byte != 0) {
            return Err(self.damaged("its trailer is one zero block, not two"));
        }
        let mut rest = [0; 8192];
        loop {
            let count = self
                .stream
                .read(&mut rest)
                .map_err(|err| self.read_error(&err))?;
            if count == 0 {
                break;
            }
            if rest.iter().take(count).any(|byte| *byte != 0) {
                return Err(self.damaged(format!(
                    "something follows its trailer, at about byte {}",
                    self.position
                )));
            }
            self.position += count as u64;
        }
        self.ended = true;
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.stream
            .read_exact(buffer)
            .map_err(|err| self.read_error(&err))?;
        self.position += buffer.len() as u64;
        Ok(())
    }

    fn pass(&mut self, bytes: u64) -> Result<()> {
        if bytes > 0 {
            self.stream
                .skip(bytes)
                .map_err(|err| self.read_error(&err))?;
            self.position += bytes;
        }
        Ok(())
    }

    fn current_or_start(&self) -> &str {
        if self.current.is_empty() {
            "the start"
        } else {
            &self.current
        }
    }
}

/// The error for a failed read of `what` at byte `position`, in or after member `current`.
fn read_error(what: &str, position: u64, current: &str, err: &io::Error) -> Error {
    let doing = format!("reading {what}");
    let place = if current.is_empty() {
        format!("at byte {position}")
    } else {
        format!("at byte {position} (in or after {current})")
    };
    match err.kind() {
        io::ErrorKind::UnexpectedEof => Error::new(
            Kind::Damaged,
            doing,
            format!("it is cut off: it ends {place}, before the end of the tar"),
        )
        .next("fetch or copy the snapshot again, and compare its SHA-256 with the server's"),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Error::new(
            Kind::Damaged,
            doing,
            format!("its compressed data is damaged {place}: {err}"),
        )
        .next("fetch or copy the snapshot again"),
        _ => Error::failed(doing, format!("{err} {place}")),
    }
}

fn padding(bytes: u64) -> u64 {
    (BLOCK - bytes % BLOCK) % BLOCK
}

fn describe(kind: EntryType) -> String {
    match kind {
        EntryType::Symlink => "a symbolic link".into(),
        EntryType::Link => "a hard link".into(),
        EntryType::Char | EntryType::Block => "a device".into(),
        EntryType::Fifo => "a pipe".into(),
        EntryType::XGlobalHeader | EntryType::XHeader => {
            "a PAX header, which Qdrant does not write".into()
        }
        other => format!("of type {:?}", char::from(other.as_byte())),
    }
}

/// The stored bytes of a walker's current member: a [`Stream`] of its own, so that a tar in a
/// member can be walked in turn.
pub struct Data<'a, S> {
    walker: &'a mut Walker<S>,
}

impl<S: Stream> Read for Data<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.walker.unread).unwrap_or(usize::MAX);
        let length = buffer.len().min(most);
        let Some(buffer) = buffer.get_mut(..length) else {
            return Ok(0);
        };
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.walker.stream.read(buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.walker.unread -= count as u64;
        self.walker.position += count as u64;
        Ok(count)
    }
}

impl<S: Stream> Stream for Data<'_, S> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > self.walker.unread {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.walker.stream.skip(bytes)?;
        self.walker.unread -= bytes;
        self.walker.position += bytes;
        Ok(())
    }
}

/// The contents of a member, read forward: stored runs as they are, holes as zeros.
pub struct Contents<'a, S> {
    data: Data<'a, S>,
    /// Runs that are still to come, the current one first; none for a file that is not sparse.
    pieces: Option<&'a [Piece]>,
    bytes: u64,
    at: u64,
    whole: Piece,
}

impl<S: Stream> Read for Contents<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = loop {
            match self.pieces {
                None => break Some(self.whole),
                Some([first, rest @ ..]) => {
                    if first.offset + first.bytes > self.at {
                        break Some(*first);
                    }
                    self.pieces = Some(rest);
                }
                Some([]) => break None,
            }
        };
        let (stored, left) = match piece {
            Some(piece) if piece.offset <= self.at => (true, piece.offset + piece.bytes - self.at),
            Some(piece) => (false, piece.offset - self.at),
            None => (false, self.bytes - self.at),
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let length = buffer.len().min(most);
        let Some(buffer) = buffer.get_mut(..length) else {
            return Ok(0);
        };
        let count = if stored {
            self.data.read(buffer)?
        } else {
            buffer.fill(0);
            buffer.len()
        };
        self.at += count as u64;
        Ok(count)
    }
}
