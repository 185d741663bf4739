//! Objects: what an archive keeps of snapshots, some megabytes of chunks at a time.
//!
//! An object is a table of its chunks (in a frame that zstd skips), and the chunks themselves, in a
//! frame that zstd compresses. Objects and not single chunks lie on disk, since chunks are as small
//! as a vector.
//!
//! Invariants: bytes are hashed before anything else is done with them; nothing is allocated by a
//! size that nobody vouches for; two runs never make the same object, so that one may remove its own
//! (or what nobody uses) without looking at the other.

use std::sync::Arc;

use super::encryption::ArchiveKey;
use super::name::Name;
use super::pool::Pool;
use crate::base::durable::Block;
use crate::base::error::{Error, Result};

/// An object is closed when it has so many bytes, uncompressed.
pub const RAW_BYTES: usize = 4 << 20;
/// The largest chunk in bytes.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// More bytes no object has, uncompressed.
pub const RAW_BYTES_MAX: usize = RAW_BYTES + CHUNK_BYTES_MAX;
/// More bytes no object has as it lies there: what compression cannot shrink, and the table.
pub const STORED_BYTES_MAX: u64 = 12 << 20;
/// An object is closed when it has so many chunks.
pub const ROWS: usize = 100_000;
/// More bytes no table of chunks has.
const TABLE_BYTES_MAX: usize = 4 << 20;
/// The first bytes of a frame that zstd skips.
const SKIPPED: u32 = 0x184D_2A50;
/// The first bytes of a table.
const TABLE_MAGIC: [u8; 4] = *b"SMO1";
/// Bytes of a table before its rows.
const TABLE_HEAD_BYTES: usize = 4 + 16 + 4;
/// Bytes of one row.
const ROW_BYTES: usize = 16 + 4;
/// Bytes before a table.
const FRAME_HEAD_BYTES: usize = 8;
/// Zstandard level at which objects are compressed.
const LEVEL: i32 = 1;
/// The same for what hardly shrinks, as vectors do: several times as fast, and still without
/// repetitions.
const LEVEL_FAST: i32 = -3;
/// A sample that shrinks to less than this percentage is worth the time of [`LEVEL`].
const WORTH_PERCENT: usize = 90;
/// Size of a sample in bytes.
const SAMPLE_BYTES: usize = 128 << 10;

/// A chunk's fingerprint: the first half of its BLAKE3.
pub type Fingerprint = [u8; 16];

/// The fingerprint of a chunk.
pub fn fingerprint_of(chunk: &[u8]) -> Fingerprint {
    let mut print = Fingerprint::default();
    let hash = blake3::hash(chunk);
    for (to, from) in print.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    print
}

/// A row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The chunk's fingerprint.
    pub print: Fingerprint,
    /// Length of the chunk in bytes.
    pub bytes: u32,
}

/// An object being filled.
#[derive(Debug, Default)]
pub struct PackBuilder {
    /// The chunks, one after the other.
    pub raw: Vec<u8>,
    /// One row for each.
    pub rows: Vec<Row>,
}

/// An object as it is to lie there; its bytes are the sealer's until it seals the next.
#[derive(Debug)]
pub struct Sealed<'a> {
    /// Name of the object.
    pub name: Name,
    /// The SHA-256 of its first bytes, up to the end of its table, before they were encrypted.
    pub table: Name,
    /// Bytes of the object as they are stored.
    pub bytes: &'a [u8],
}

/// Compresses objects, one after the other, and encrypts them where the archive is encrypted.
pub struct Sealer {
    compressor: zstd::bulk::Compressor<'static>,
    /// Id of the run, which makes its objects different from those of any other run.
    run: [u8; 16],
    block: Block,
    key: Option<Arc<ArchiveKey>>,
    /// Ciphertext.
    encrypted: Vec<u8>,
}

impl Sealer {
    /// A sealer of the run `run`, which encrypts for `key`.
    pub fn new(run: [u8; 16], key: Option<Arc<ArchiveKey>>) -> Result<Self> {
        let compressor = zstd::bulk::Compressor::new(LEVEL)
            .map_err(|err| Error::failed("preparing to compress", err))?;
        Ok(Self {
            compressor,
            run,
            block: Block::default(),
            key,
            encrypted: Vec::new(),
        })
    }

    /// Seals what was filled.
    pub fn seal(&mut self, pack: &PackBuilder) -> Result<Sealed<'_>> {
        let failed = |err: &dyn std::fmt::Display| Error::failed("compressing an object", err);
        let table_bytes = TABLE_HEAD_BYTES + pack.rows.len() * ROW_BYTES;
        let most = zstd::zstd_safe::compress_bound(pack.raw.len());
        self.block.begin(FRAME_HEAD_BYTES + table_bytes + most);
        let level = self.level(&pack.raw).map_err(|err| failed(&err))?;
        let table_bytes = u32::try_from(table_bytes).map_err(|err| failed(&err))?;
        let rows = u32::try_from(pack.rows.len()).map_err(|err| failed(&err))?;
        let block = &mut self.block;
        block.push(&SKIPPED.to_le_bytes());
        block.push(&table_bytes.to_le_bytes());
        block.push(&TABLE_MAGIC);
        block.push(&self.run);
        block.push(&rows.to_le_bytes());
        for row in &pack.rows {
            block.push(&row.print);
            block.push(&row.bytes.to_le_bytes());
        }
        let table = Name::of(block.bytes());
        let written = self
            .compressor
            .set_compression_level(level)
            .and_then(|()| {
                let room = block.room();
                self.compressor.compress_to_buffer(&pack.raw, room)
            })
            .map_err(|err| failed(&err))?;
        block.filled(written);
        if let Some(key) = &self.key {
            key.encrypt(block.bytes(), &mut self.encrypted)?;
            block.begin(self.encrypted.len());
            block.push(&self.encrypted);
        }
        let bytes = block.bytes();
        Ok(Sealed {
            name: Name::of(bytes),
            table,
            bytes,
        })
    }

    /// Returns the level at which to compress `raw`, chosen by a sample from its middle.
    fn level(&mut self, raw: &[u8]) -> std::io::Result<i32> {
        let middle = raw.len() / 2;
        let Some(sample) = raw.get(middle..middle + SAMPLE_BYTES) else {
            return Ok(LEVEL);
        };
        self.compressor.set_compression_level(LEVEL)?;
        let room = self.block.room();
        let written = self.compressor.compress_to_buffer(sample, room)?;
        Ok(match written * 100 < SAMPLE_BYTES * WORTH_PERCENT {
            true => LEVEL,
            false => LEVEL_FAST,
        })
    }
}

/// Returns the offset in bytes at which the table of the object called `what` ends, read from the object's
/// first bytes.
pub fn table_end(head: &[u8], what: &str) -> Result<usize> {
    let word = |at: usize| -> Option<u32> {
        let bytes = head.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    match (word(0), word(4)) {
        (Some(SKIPPED), Some(bytes)) if bytes as usize <= TABLE_BYTES_MAX => {
            Ok(FRAME_HEAD_BYTES + bytes as usize)
        }
        _ => Err(damaged(what, "it does not begin with a table of chunks")),
    }
}

/// The table of an object that is called `what`, told from the bytes up to its end. Without the
/// rest of the object nobody vouches for it: what it leads to has to be compared.
pub fn table(head: &[u8], what: &str) -> Result<Vec<Row>> {
    let end = table_end(head, what)?;
    let wrong = || damaged(what, "its table of chunks cannot be read");
    let table = head.get(FRAME_HEAD_BYTES..end).ok_or_else(wrong)?;
    if !table.starts_with(&TABLE_MAGIC) {
        return Err(wrong());
    }
    let rows = table.get(TABLE_HEAD_BYTES..).ok_or_else(wrong)?;
    let count = table
        .get(TABLE_HEAD_BYTES - 4..TABLE_HEAD_BYTES)
        .and_then(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?)))
        .ok_or_else(wrong)?;
    if rows.len() != count as usize * ROW_BYTES {
        return Err(wrong());
    }
    let (rows, _) = rows.as_chunks::<ROW_BYTES>();
    rows.iter()
        .map(|row| {
            let (print, bytes) = row.split_at(16);
            Some(Row {
                print: print.try_into().ok()?,
                bytes: u32::from_le_bytes(bytes.try_into().ok()?),
            })
        })
        .collect::<Option<_>>()
        .ok_or_else(wrong)
}

/// A decompressed object whose SHA-256 is its name.
pub struct Object {
    name: Name,
    raw: Vec<u8>,
    /// Where its memory is given back to.
    buffers: Arc<Pool<Vec<u8>>>,
}

impl Object {
    /// The `bytes` bytes from `start` on.
    pub fn bytes(&self, start: u32, bytes: u32) -> Result<&[u8]> {
        let start = start as usize;
        let piece = self.raw.get(start..start.saturating_add(bytes as usize));
        piece.ok_or_else(|| {
            let why = format!("it has {} bytes, and its recipe wants more", self.raw.len());
            damaged(&format!("object {}", self.name), &why)
        })
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.raw.len() as u64
    }

    /// Memory that it takes in bytes.
    pub fn memory(&self) -> usize {
        self.raw.capacity()
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // What has no room for any object would grow when it is used again.
        if self.raw.capacity() >= RAW_BYTES_MAX {
            self.buffers.give(std::mem::take(&mut self.raw));
        }
    }
}

/// Opens objects, one after the other.
pub struct Opener {
    decompressor: zstd::bulk::Decompressor<'static>,
    raw: Vec<u8>,
    key: Option<Arc<ArchiveKey>>,
    /// Plaintext.
    decrypted: Vec<u8>,
}

impl Opener {
    /// An opener of what is encrypted for `key`, or with none of what is not.
    pub fn new(key: Option<Arc<ArchiveKey>>) -> Result<Self> {
        let decompressor = zstd::bulk::Decompressor::new()
            .map_err(|err| Error::failed("preparing to decompress", err))?;
        Ok(Self {
            decompressor,
            raw: Vec::new(),
            key,
            decrypted: Vec::new(),
        })
    }

    /// The chunks of the object `name`, which lies there as `bytes`.
    pub fn open(&mut self, name: Name, bytes: &[u8]) -> Result<&[u8]> {
        require_name(name, bytes)?;
        self.decompress(name, bytes)
    }

    /// The same as something that is kept, in memory of `buffers`, which gets it back.
    pub fn open_own(
        &mut self,
        name: Name,
        bytes: &[u8],
        buffers: &Arc<Pool<Vec<u8>>>,
    ) -> Result<Object> {
        self.raw = buffers.take();
        self.open(name, bytes)?;
        let mut raw = std::mem::take(&mut self.raw);
        if raw.len() < RAW_BYTES_MAX / 2 {
            raw.shrink_to_fit();
        }
        Ok(Object {
            name,
            raw,
            buffers: Arc::clone(buffers),
        })
    }

    /// The same without hashing, for whoever hashes what becomes of it.
    pub fn decompress(&mut self, name: Name, bytes: &[u8]) -> Result<&[u8]> {
        let what = format!("object {name}");
        let bytes = match &self.key {
            None => bytes,
            Some(key) => {
                key.decrypt(bytes, &what, &mut self.decrypted)?;
                &self.decrypted
            }
        };
        let end = table_end(bytes, &what)?;
        let frame = bytes.get(end..).unwrap_or_default();
        // Only as much memory is touched as there are bytes.
        self.raw.clear();
        self.raw.reserve(RAW_BYTES_MAX);
        self.decompressor
            .decompress_to_buffer(frame, &mut self.raw)
            .map_err(|err| damaged(&what, &format!("it cannot be decompressed: {err}")))?;
        Ok(&self.raw)
    }

    /// The chunks of the object `name`, each compared with its row of the table.
    pub fn check(&mut self, name: Name, bytes: &[u8]) -> Result<&[u8]> {
        let what = format!("object {name}");
        self.open(name, bytes)?;
        let bytes = match &self.key {
            None => bytes,
            Some(_) => &self.decrypted,
        };
        let raw = self.raw.as_slice();
        let mut at = 0_usize;
        for row in table(bytes, &what)? {
            let chunk = raw
                .get(at..at.saturating_add(row.bytes as usize))
                .ok_or_else(|| damaged(&what, "its table tells of more than it holds"))?;
            if fingerprint_of(chunk) != row.print {
                return Err(damaged(
                    &what,
                    &format!("the chunk at byte {at} is another"),
                ));
            }
            at += chunk.len();
        }
        if at != raw.len() {
            return Err(damaged(&what, "its table tells of less than it holds"));
        }
        Ok(raw)
    }
}

/// An error if `bytes` are not those of the object `name`.
pub fn require_name(name: Name, bytes: &[u8]) -> Result<()> {
    match Name::of(bytes) {
        is if is == name => Ok(()),
        is => Err(damaged(
            &format!("object {name}"),
            &format!("its SHA-256 is {is}"),
        )),
    }
}

fn damaged(what: &str, why: &str) -> Error {
    Error::damaged(format!("reading {what}"), why)
        .next("see what is lost: snapmerge archive check; --repair OTHER fetches it again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;

    fn pack() -> PackBuilder {
        let mut pack = PackBuilder::default();
        for n in 0..50_u8 {
            let chunk: Vec<u8> = (0..1000 + u32::from(n))
                .map(|i| (i as u8).wrapping_mul(n))
                .collect();
            pack.rows.push(Row {
                print: fingerprint_of(&chunk),
                bytes: chunk.len() as u32,
            });
            pack.raw.extend(chunk);
        }
        pack
    }

    #[test]
    fn what_is_sealed_is_opened_again() {
        let pack = pack();
        let mut sealer = Sealer::new([7; 16], None).unwrap();
        let sealed = sealer.seal(&pack).unwrap();
        let mut opener = Opener::new(None).unwrap();
        assert_eq!(opener.open(sealed.name, sealed.bytes).unwrap(), pack.raw);
        assert_eq!(opener.check(sealed.name, sealed.bytes).unwrap(), pack.raw);
        let end = table_end(&sealed.bytes[..8], "x").unwrap();
        assert_eq!(table(&sealed.bytes[..end], "x").unwrap(), pack.rows);
        // Another run's is another, whatever is in it.
        let mut other = Sealer::new([8; 16], None).unwrap();
        assert_ne!(other.seal(&pack).unwrap().name, sealed.name);
    }

    #[test]
    fn every_flipped_bit_is_seen_and_no_table_panics() {
        let mut sealer = Sealer::new([7; 16], None).unwrap();
        let sealed = sealer.seal(&pack()).unwrap();
        let mut opener = Opener::new(None).unwrap();
        for at in 0..sealed.bytes.len() * 8 {
            let mut bytes = sealed.bytes.to_vec();
            bytes[at / 8] ^= 1 << (at % 8);
            // The table alone is not vouched for; it only must not hurt.
            let _ = table(&bytes, "x");
            if at % 97 == 0 {
                let err = opener.open(sealed.name, &bytes).unwrap_err();
                assert_eq!(err.kind(), Kind::Damaged);
            }
        }
        for length in 0..200 {
            assert!(table(&sealed.bytes[..length], "x").is_err());
        }
    }
}
