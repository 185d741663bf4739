//! Walks the members of an untrusted tar.
//!
//! The tars inside and around Qdrant's snapshots are read with this walker and nothing else. It
//! goes forward only, so that a plain file, a gzip stream and a tar inside a tar are read by the
//! same code; on a plain file it seeks over what nobody asks for.
//!
//! Invariants:
//! - a member is yielded only if its header's checksum is right, its name stays inside the folder
//!   it is unpacked to, and it is a file or a directory (what Qdrant itself accepts:
//!   lib/common/common/src/tar_unpack.rs);
//! - no member comes twice under one name, and none lies where another is a file;
//! - the end is reached only through the trailer of two zero blocks, with nothing after it: a tar
//!   cut off anywhere is an error, since a failed streamed snapshot is an HTTP 200 with a short
//!   body. Only a tar inside a tar may end without one, since Qdrant writes a segment's so
//!   (lib/common/common/src/tar_ext.rs); its length is the outer header's;
//! - nothing is allocated by a size that a header claims, and no number of a header overflows.

mod contents;
mod names;
mod sparse;

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, Header};

pub use self::contents::{Contents, Data};
use self::names::{NAME_BYTES_MAX, Names};
pub use self::sparse::Piece;
use crate::base::error::{Error, Result};

/// Size of a tar block in bytes.
pub const BLOCK: u64 = 512;
/// Most bytes that a member can have: more than any disk holds, little enough to be added up.
const MEMBER_BYTES_MAX: u64 = 1 << 60;
/// Most bytes that may follow the trailer: tar programs fill up to blocks of some kilobytes.
pub(super) const REST_BYTES_MAX: u64 = 1 << 20;

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

/// Where a reader stands that has passed over `bytes` bytes from `position` on, of which the last is before `end`.
pub fn skip_within(position: u64, bytes: u64, end: u64) -> io::Result<u64> {
    let target = position.checked_add(bytes);
    target
        .filter(|target| *target <= end)
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
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

/// Type of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file, sparse or not.
    File,
    /// A directory.
    Directory,
}

/// One member of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Path, with `.` parts and a trailing slash taken away.
    pub path: String,
    /// File or directory.
    pub kind: MemberKind,
    /// Size of the file in bytes, holes included.
    pub bytes: u64,
    /// Bytes that the tar stores for it, padding not included.
    pub stored_bytes: u64,
    /// For a sparse file the runs that are stored, ascending and disjoint.
    pub pieces: Option<Vec<Piece>>,
    /// Offset of the member's stored bytes in the tar, in bytes.
    pub position: u64,
}

impl Member {
    /// Offset of the next header in the tar, in bytes.
    pub fn end(&self) -> u64 {
        self.position + self.stored_bytes.next_multiple_of(BLOCK)
    }
}

/// Walks the members of one tar. See the module's invariants.
pub struct Walker<S> {
    stream: S,
    /// Description of the tar, for errors: "a.snapshot", "0/segments/X.tar of a.snapshot".
    what: String,
    /// Offset of the next unread byte, in bytes from the start of this tar.
    position: u64,
    /// Stored bytes of the current member that nobody has read yet.
    unread: u64,
    /// Zero bytes after them.
    padding: u64,
    current: String,
    /// The header of the current member, and where it ends.
    header: Header,
    header_end: u64,
    names: Names,
    /// True if the tar may end without a trailer.
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
            header: Header::new_gnu(),
            header_end: 0,
            names: Names::default(),
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
            if stored_bytes > MEMBER_BYTES_MAX {
                return Err(self.damaged(format!(
                    "the member after {} claims {stored_bytes} bytes, more than any disk holds",
                    self.current_or_start()
                )));
            }
            if header.entry_type() == EntryType::GNULongName {
                if long_name.is_some() {
                    return Err(self.damaged("two long names before one member"));
                }
                long_name = Some(self.long_name(stored_bytes)?);
                continue;
            }
            self.header_end = self.position;
            let member = self.member(&header, stored_bytes, long_name)?;
            self.header = header;
            return Ok(Some(member));
        }
    }

    /// The header of the current member, without that of a long name, and without the further map of a sparse
    /// file.
    pub fn header_read(&self) -> &Header {
        &self.header
    }

    /// Offset of the byte after that header.
    pub fn header_end(&self) -> u64 {
        self.header_end
    }

    /// The stored bytes of the current member, as far as they are unread.
    pub fn data(&mut self) -> Data<'_, S> {
        Data { walker: self }
    }

    /// The contents of the current member, its holes filled with zeros.
    pub fn contents<'a>(&'a mut self, member: &'a Member) -> Contents<'a, S> {
        Contents::new(self.data(), member)
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
        let first_read = self.stream.read(first);
        let count = first_read.map_err(|err| self.read_error(&err))?;
        if count == 0 && self.may_just_end {
            self.ended = true;
            return Ok(None);
        }
        let whole = match count {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => self.stream.read_exact(rest),
        };
        if let Err(err) = whole {
            let is_short = self.position == 0 && err.kind() == io::ErrorKind::UnexpectedEof;
            return Err(match is_short {
                true => self.no_tar("it is shorter than a tar header"),
                false => self.read_error(&err),
            });
        }
        self.position += BLOCK;
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
            Ok(_) | Err(_) if at == 0 => Err(self.no_tar("its first block is no tar header")),
            Ok(_) | Err(_) => Err(self.damaged(format!(
                "the tar header at byte {at} (after {}) does not match its checksum",
                self.current_or_start()
            ))),
        }
    }

    fn no_tar(&self, why: &str) -> Error {
        self.damaged(format!("it is not a tar: {why}"))
            .next("give a file that Qdrant's snapshot API returned, plain or .gz")
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
        let path = names::clean(&raw).map_err(|why| self.damaged(why))?;
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
        let taken = self.names.add(&path, kind);
        taken.map_err(|why| self.damaged(why))?;
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

    /// The size and the map of a GNU sparse member (the format that the tar crate and thus Qdrant
    /// writes).
    fn sparse(&mut self, header: &Header, stored_bytes: u64) -> Result<(u64, Vec<Piece>)> {
        let refuse = |walker: &Self, why: String| {
            walker.damaged(format!("sparse member {} {why}", walker.current))
        };
        let Some(gnu) = header.as_gnu() else {
            return Err(refuse(self, "has no GNU header".into()));
        };
        let bytes = gnu
            .real_size()
            .map_err(|err| refuse(self, format!("has a size that cannot be read ({err})")))?;
        let mut map = sparse::Map::default();
        map.add(&gnu.sparse).map_err(|why| refuse(self, why))?;
        let mut more = gnu.is_extended();
        while more {
            let mut extension = GnuExtSparseHeader::new();
            self.fill(extension.as_mut_bytes())?;
            map.add(&extension.sparse)
                .map_err(|why| refuse(self, why))?;
            more = extension.is_extended();
        }
        let pieces = map
            .finish(bytes, stored_bytes)
            .map_err(|why| refuse(self, why))?;
        Ok((bytes, pieces))
    }

    /// After the first zero block: a second one, then nothing but zeros.
    fn finish(&mut self) -> Result<()> {
        let mut block = [0; BLOCK as usize];
        self.fill(&mut block)?;
        if block.iter().any(|byte| *byte != 0) {
            return Err(self.damaged("its trailer is one zero block, not two"));
        }
        let mut rest = [0; 8192];
        let end = self.position;
        loop {
            let count = self
                .stream
                .read(&mut rest)
                .map_err(|err| self.read_error(&err))?;
            if count == 0 {
                break;
            }
            let much = self.position - end > REST_BYTES_MAX;
            if much || rest.iter().take(count).any(|byte| *byte != 0) {
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
    if let Some(carried) = Error::carried(err) {
        return carried.clone().within(doing);
    }
    let place = if current.is_empty() {
        format!("at byte {position}")
    } else {
        format!("at byte {position} (in or after {current})")
    };
    match err.kind() {
        io::ErrorKind::UnexpectedEof => Error::damaged(
            doing,
            format!("it is cut off: it ends {place}, before the end of the tar"),
        ),
        _ if is_damage(err) => Error::damaged(
            doing,
            format!("its compressed data is damaged {place}: {err}"),
        ),
        _ => Error::failed(doing, format!("{err} {place}")),
    }
}

/// Returns true if a read failed because of the data: cut off, or no gzip that can be unpacked.
pub(super) fn is_damage(err: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(err.kind(), InvalidData | InvalidInput | UnexpectedEof)
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
