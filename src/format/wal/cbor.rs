//! A reader of CBOR that passes over values instead of decoding them.
//!
//! A log is mostly vectors, five bytes a number, of which nothing is needed but where they end.
//! Invariants:
//! - it takes nothing that `ciborium` would refuse: strings are UTF-8, lengths fit, nesting is
//!   shallow; what only a general decoder can judge (tags, strings in chunks, unusual simple
//!   values) is [`Unusual`], as is everything malformed, and left to that decoder;
//! - nothing is reserved by a length that the data claims, and no input makes it panic.

/// Nesting that is followed: `ciborium` follows 256, and payloads of servers hardly ten.
const DEPTH_MAX: u32 = 64;
/// The longest key of a map with known fields: a `ciborium` identifier can have 4,096 bytes.
const KEY_BYTES_MAX: usize = 1024;

/// Not of the plain form that servers write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unusual;

pub(super) type Read<T> = Result<T, Unusual>;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const FLOAT_32: u8 = 0xfa;
const BREAK: u8 = 0xff;

/// The rest of one entry.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// A value's first byte and the number that belongs to it.
enum Head {
    Unsigned(u64),
    Negative(u64),
    Bytes(usize),
    Text(usize),
    /// None if the end is marked.
    Array(Option<u64>),
    Map(Option<u64>),
    /// True, false, null or undefined.
    Simple,
    Float,
}

/// Items that are left in an array or a map.
pub(super) struct Items {
    left: Option<u64>,
}

impl Items {
    /// Returns true if there is another item; the mark at the end is read.
    pub(super) fn more(&mut self, reader: &mut Reader<'_>) -> Read<bool> {
        match &mut self.left {
            Some(0) => Ok(false),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None if reader.rest.first() == Some(&BREAK) => {
                reader.pass(1)?;
                Ok(false)
            }
            None => Ok(true),
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns true if nothing is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Begins a map.
    pub(super) fn map(&mut self) -> Read<Items> {
        match self.head()? {
            Head::Map(left) => Ok(Items { left }),
            _ => Err(Unusual),
        }
    }

    /// Begins an array.
    pub(super) fn array(&mut self) -> Read<Items> {
        match self.head()? {
            Head::Array(left) => Ok(Items { left }),
            _ => Err(Unusual),
        }
    }

    /// Reads null or undefined, if that is next.
    pub(super) fn null(&mut self) -> Read<bool> {
        let is_null = matches!(self.rest.first(), Some(0xf6 | 0xf7));
        if is_null {
            self.pass(1)?;
        }
        Ok(is_null)
    }

    /// A key of a map.
    pub(super) fn key(&mut self) -> Read<&'a str> {
        self.text().and_then(|key| match key.len() {
            ..=KEY_BYTES_MAX => Ok(key),
            _ => Err(Unusual),
        })
    }

    pub(super) fn text(&mut self) -> Read<&'a str> {
        match self.head()? {
            Head::Text(len) => std::str::from_utf8(self.take(len)?).map_err(|_| Unusual),
            _ => Err(Unusual),
        }
    }

    /// A number that is not negative, or 16 bytes.
    pub(super) fn number_or_uuid(&mut self) -> Read<Result<u64, [u8; 16]>> {
        match self.head()? {
            Head::Unsigned(number) => Ok(Ok(number)),
            Head::Bytes(16) => {
                let bytes = self.take(16)?.try_into().map_err(|_| Unusual)?;
                Ok(Err(bytes))
            }
            _ => Err(Unusual),
        }
    }

    /// Passes over one value.
    pub(super) fn skip(&mut self) -> Read<()> {
        self.skip_at(DEPTH_MAX)
    }

    fn skip_at(&mut self, depth: u32) -> Read<()> {
        match self.head()? {
            Head::Unsigned(_) | Head::Simple | Head::Float => Ok(()),
            // Others are more than an `i64` holds.
            Head::Negative(..=0x7fff_ffff_ffff_ffff) => Ok(()),
            Head::Negative(_) => Err(Unusual),
            Head::Bytes(len) => self.pass(len),
            Head::Text(len) => {
                let text = self.take(len)?;
                std::str::from_utf8(text).map(drop).map_err(|_| Unusual)
            }
            Head::Array(left) => {
                let depth = depth.checked_sub(1).ok_or(Unusual)?;
                let mut items = Items { left };
                self.skip_floats(&mut items)?;
                while items.more(self)? {
                    self.skip_at(depth)?;
                }
                Ok(())
            }
            Head::Map(left) => {
                let depth = depth.checked_sub(1).ok_or(Unusual)?;
                let mut items = Items { left };
                while items.more(self)? {
                    self.skip_at(depth)?;
                    self.skip_at(depth)?;
                }
                Ok(())
            }
        }
    }

    /// Passes over single-precision numbers at the front of an array: nearly all of most logs.
    fn skip_floats(&mut self, items: &mut Items) -> Read<()> {
        const FLOAT_BYTES: usize = 5;
        let most = items.left.unwrap_or(u64::MAX);
        let (chunks, _) = self.rest.as_chunks::<FLOAT_BYTES>();
        let floats = chunks
            .iter()
            .take(usize::try_from(most).unwrap_or(usize::MAX));
        let count = floats.take_while(|[first, ..]| *first == FLOAT_32).count();
        if let Some(left) = &mut items.left {
            *left -= count as u64;
        }
        self.pass(count * FLOAT_BYTES)
    }

    fn head(&mut self) -> Read<Head> {
        let [first] = self.take_array()?;
        let (kind, extra) = (first >> 5, first & 0x1f);
        if kind == 7 {
            return match extra {
                20..=23 => Ok(Head::Simple),
                25 => self.pass(2).map(|()| Head::Float),
                26 => self.pass(4).map(|()| Head::Float),
                27 => self.pass(8).map(|()| Head::Float),
                _ => Err(Unusual),
            };
        }
        let number = match extra {
            0..=23 => u64::from(extra),
            24 => u64::from(u8::from_be_bytes(self.take_array()?)),
            25 => u64::from(u16::from_be_bytes(self.take_array()?)),
            26 => u64::from(u32::from_be_bytes(self.take_array()?)),
            27 => u64::from_be_bytes(self.take_array()?),
            31 if kind == ARRAY => return Ok(Head::Array(None)),
            31 if kind == MAP => return Ok(Head::Map(None)),
            _ => return Err(Unusual),
        };
        let length = usize::try_from(number).map_err(|_| Unusual);
        match kind {
            UNSIGNED => Ok(Head::Unsigned(number)),
            NEGATIVE => Ok(Head::Negative(number)),
            BYTES => length.map(Head::Bytes),
            TEXT => length.map(Head::Text),
            ARRAY => Ok(Head::Array(Some(number))),
            MAP => Ok(Head::Map(Some(number))),
            _ => Err(Unusual),
        }
    }

    fn take(&mut self, len: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Unusual)?;
        self.rest = rest;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Unusual)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn pass(&mut self, len: usize) -> Read<()> {
        self.take(len).map(drop)
    }
}
