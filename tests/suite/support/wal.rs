//! Qdrant's log as a file, written by hand.
//!
//! Keeps true: nothing of the program is used, so that a fault in how it reads a log is not made
//! here too.

/// A file of a log with these entries (lib/wal/src/segment.rs).
pub fn wal_file(records: &[Vec<u8>]) -> Vec<u8> {
    const SEED: u32 = 0x5eed_5eed;
    let mut bytes = b"wal\0".to_vec();
    bytes.extend(SEED.to_le_bytes());
    let mut crc = SEED;
    for record in records {
        let start = bytes.len();
        bytes.extend((record.len() as u64).to_le_bytes());
        bytes.extend(record);
        while bytes.len() % 8 != 4 {
            bytes.push(0);
        }
        crc = crc32c::crc32c_append(!crc.reverse_bits(), &bytes[start..]);
        bytes.extend(crc.to_le_bytes());
    }
    bytes
}
