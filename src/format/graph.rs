//! The links of a graph (HNSW), as far as telling whether there are any.
//!
//! Invariants: nothing is taken for links but what lies where the file's own header says that they are
//! (lib/segment/src/index/hnsw_index/graph_links); no more is read than up to the first of them.

use std::io::{self, Read};

/// From this number on the second word is the version of a compressed form, and not a count of levels.
const VERSIONS: u64 = 0xFFFF_FFFF_FFFF_FF00;
/// The compressed form that has vectors beside the links, and a longer header.
const WITH_VECTORS: u64 = 0xFFFF_FFFF_FFFF_FF02;
/// Bytes of a header, and of that form's.
const HEADER_BYTES: u64 = 64;
const HEADER_WITH_VECTORS_BYTES: u64 = 80;
/// Bytes that tell where the links are.
const COUNTS_BYTES: usize = 32;

/// Returns true if `name` within a segment is a file of links.
pub fn is_links(name: &str) -> bool {
    let (folder, file) = name.rsplit_once('/').unwrap_or_default();
    folder.starts_with("vector_index") && file.starts_with("links")
}

/// Returns true if a file of links of `bytes` bytes has any; false if all of them are zero, or if
/// its header is. A file whose header tells of no links belongs to a graph without any, and counts
/// as having them.
pub fn has_links(mut file: impl Read, bytes: u64) -> io::Result<bool> {
    let mut counts = [0; COUNTS_BYTES];
    match file.read_exact(&mut counts) {
        Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        read => read?,
    }
    let word = |at: usize| {
        let bytes = counts
            .get(at * 8..at * 8 + 8)
            .and_then(|bytes| bytes.try_into().ok());
        u64::from_le_bytes(bytes.unwrap_or_default())
    };
    let (points, levels, links_bytes, header) = match word(1) {
        WITH_VECTORS => (word(0), word(2), word(3), HEADER_WITH_VECTORS_BYTES),
        VERSIONS.. => (word(0), word(2), word(3), HEADER_BYTES),
        levels => (word(0), levels, word(2).saturating_mul(4), HEADER_BYTES),
    };
    if counts.iter().all(|byte| *byte == 0) {
        return Ok(false);
    }
    let before = levels
        .saturating_mul(8)
        .saturating_add(points.saturating_mul(4));
    let start = header.saturating_add(before);
    if start.saturating_add(links_bytes) > bytes {
        return Ok(false);
    }
    let skip = start - COUNTS_BYTES as u64;
    io::copy(&mut file.by_ref().take(skip), &mut io::sink())?;
    let mut links = file.take(links_bytes);
    let mut buffer = [0; 4096];
    loop {
        match links.read(&mut buffer)? {
            0 => return Ok(links_bytes == 0),
            read => {
                let some = buffer.get(..read).unwrap_or_default();
                if some.iter().any(|byte| *byte != 0) {
                    return Ok(true);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(words: [u64; 4], header: usize, before: usize, links: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(header, 0);
        bytes.resize(header + before, 7);
        bytes.extend(links);
        bytes
    }

    fn has(bytes: &[u8]) -> bool {
        has_links(bytes, bytes.len() as u64).unwrap()
    }

    #[test]
    fn links_are_seen_in_every_form() {
        // Three points on two levels, five links of four bytes each, or five bytes of packed ones.
        let before = 2 * 8 + 3 * 4;
        let mut links = [0; 20];
        for (words, header, count) in [
            ([3, 2, 5, 9], 64, 20),
            ([3, VERSIONS + 1, 2, 5], 64, 5),
            ([3, WITH_VECTORS, 2, 5], 80, 5),
        ] {
            links.fill(0);
            let none = file(words, header, before, &links[..count]);
            assert!(!has(&none), "{words:?}");
            links[count - 1] = 1;
            let some = file(words, header, before, &links[..count]);
            assert!(has(&some), "{words:?}");
            assert!(!has(&some[..some.len() - 1]), "{words:?} cut off");
            assert!(!has(&vec![0; some.len()]), "{words:?} all zero");
        }
        assert!(
            has(&file([3, 2, 0, 9], 64, before, &[])),
            "a graph of no links"
        );
        assert!(!has(&[]));
        assert!(!has(&file([u64::MAX, 2, u64::MAX, 9], 64, before, &[1])));
    }

    #[test]
    fn files_of_links_are_told_by_their_names() {
        assert!(is_links("vector_index/links.bin"));
        assert!(is_links("vector_index-image/links_compressed.bin"));
        assert!(!is_links("vector_index/graph.bin"));
        assert!(!is_links("payload_index/links.bin"));
        assert!(!is_links("links.bin"));
    }
}
