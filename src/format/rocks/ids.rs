//! Ids and versions: the columns `mapping` and `version` of lib/segment/src/id_tracker/
//! simple_id_tracker.rs (up to 1.17).
//!
//! Both have the id as their key, so they come in the same order, and are joined as they come.
//!
//! Invariants: an id keeps its offset and its version; of two ids at one offset the later stays, as in
//! the servers that wrote them.

use uuid::Uuid;

use super::database::{Cursor, Database};
use crate::base::error::{Error, Result};
use crate::format::ids::IdWriter;
use crate::format::storage::Bits;
use crate::point::PointId;

const MAPPING: &str = "mapping";
const VERSION: &str = "version";

/// The points of a segment by their offsets.
#[derive(Debug, Default)]
pub struct Live {
    /// Offsets of the live points.
    pub offsets: Bits,
    /// Ids that lost their offset to a later one.
    pub replaced: u64,
    /// Ids without a version.
    pub unversioned: u64,
}

/// Writes the ids of `database` as the segment's in `folder`; none if it has none, so that they are in
/// files, or nowhere. `damaged` makes an error of what is wrong with a column.
pub fn convert(
    database: &Database,
    folder: &std::path::Path,
    damaged: &dyn Fn(&str, String) -> Error,
) -> Result<Option<Live>> {
    let wrong = |why: String| damaged(MAPPING, why);
    let Some(mut mappings) = database.cursor(MAPPING).map_err(wrong)? else {
        return Ok(None);
    };
    if mappings.record().is_none() {
        return Ok(None);
    }
    let versions = database
        .cursor(VERSION)
        .map_err(|why| damaged(VERSION, why))?;
    let mut versions = Versions { cursor: versions };
    let mut live = Live::default();
    let mut writer = IdWriter::new(folder)?;
    while let Some((key, value)) = mappings.record() {
        let id = id(key).map_err(wrong)?;
        let offset = offset(value).ok_or_else(|| wrong(not_an(value, "an offset")))?;
        let version = versions.of(key).map_err(|why| damaged(VERSION, why))?;
        live.unversioned += u64::from(version.is_none());
        live.replaced += u64::from(!live.offsets.add(offset));
        writer.add(id, offset, version)?;
        mappings.advance().map_err(wrong)?;
    }
    writer.finish()?;
    Ok(Some(live))
}

/// The versions, which are asked for in the order of their keys.
struct Versions<'a> {
    cursor: Option<Cursor<'a>>,
}

impl Versions<'_> {
    fn of(&mut self, key: &[u8]) -> std::result::Result<Option<u64>, String> {
        let Some(cursor) = &mut self.cursor else {
            return Ok(None);
        };
        // A deleted id may have left one.
        while cursor.record().is_some_and(|(found, _)| found < key) {
            cursor.advance()?;
        }
        match cursor.record() {
            Some((found, value)) if found == key => match value.try_into() {
                Ok(bytes) => Ok(Some(u64::from_le_bytes(bytes))),
                Err(_) => Err(not_an(value, "a version")),
            },
            _ => Ok(None),
        }
    }
}

fn not_an(bytes: &[u8], what: &str) -> String {
    let shown = bytes.get(..32.min(bytes.len())).unwrap_or_default();
    format!("{} is not {what}", hex::encode(shown))
}

/// `StoredPointId` by bincode: the variant in four bytes, then a number in eight, or the length of a
/// UUID, which is 16, and that.
fn id(key: &[u8]) -> std::result::Result<PointId, String> {
    let wrong = || not_an(key, "an id");
    let (kind, rest) = key.split_first_chunk::<4>().ok_or_else(wrong)?;
    match u32::from_le_bytes(*kind) {
        0 => {
            let number = rest.try_into().map_err(|_| wrong())?;
            Ok(PointId::Num(u64::from_le_bytes(number)))
        }
        1 => {
            let (length, bytes) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
            let uuid = Uuid::from_slice(bytes).map_err(|_| wrong())?;
            let fits = u64::from_le_bytes(*length) == 16;
            fits.then_some(PointId::Uuid(uuid)).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

/// In eight bytes up to 1.7, in four since.
fn offset(value: &[u8]) -> Option<u32> {
    if let Ok(bytes) = value.try_into() {
        return Some(u32::from_le_bytes(bytes));
    }
    u32::try_from(u64::from_le_bytes(value.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_bincode_writes_them() {
        let bytes = |parts: &[&[u8]]| parts.concat();
        let uuid = Uuid::from_u128(0x550e_8400_e29b_41d4_a716_4466_5544_0000);
        let number = bytes(&[&[0; 4], &7_u64.to_le_bytes()]);
        assert_eq!(id(&number), Ok(PointId::Num(7)));
        let stored = bytes(&[&[1, 0, 0, 0], &16_u64.to_le_bytes(), uuid.as_bytes()]);
        assert_eq!(id(&stored), Ok(PointId::Uuid(uuid)));
        for key in [&number, &stored] {
            for end in 0..key.len() {
                assert!(id(&key[..end]).is_err(), "{end}");
            }
            assert!(id(&bytes(&[key, &[0]])).is_err());
        }
        let text = bytes(&[&[2, 0, 0, 0], &1_u64.to_le_bytes(), b"a"]);
        assert!(id(&text).is_err());
    }

    #[test]
    fn offsets_have_four_bytes_or_eight() {
        assert_eq!(offset(&[1, 2, 0, 0]), Some(513));
        assert_eq!(offset(&[1, 2, 0, 0, 0, 0, 0, 0]), Some(513));
        for wrong in [&[][..], &[1], &[0, 0, 0, 0, 1, 0, 0, 0], &[0; 9]] {
            assert_eq!(offset(wrong), None);
        }
    }
}
