//! The name of a collection, read from a snapshot's file name.

use std::path::Path;

/// The name of the collection that the snapshot at `path` was taken of, as far as its file name
/// tells: `album_2017-6053835381806815-2026-11-22-14-15-16.snapshot.gz` is `album_2017`.
pub fn source_name(path: &Path) -> String {
    let file = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let stem = file.strip_suffix(".gz").unwrap_or(&file);
    let stem = stem.strip_suffix(".snapshot").unwrap_or(stem);
    let parts: Vec<&str> = stem.rsplitn(8, '-').collect();
    // Peer, year, month, day, hour, minute, second: all numbers, the year with four digits.
    if let [second, minute, hour, day, month, year, peer, name] = parts.as_slice() {
        let two = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if [second, minute, hour, day, month].into_iter().all(two)
            && year.len() == 4
            && digits(year)
            && digits(peer)
            && !name.is_empty()
        {
            return (*name).to_owned();
        }
    }
    stem.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_named_after_its_collection() {
        for (file, name) in [
            ("album_2017.snapshot", "album_2017"),
            ("album_2017.snapshot.gz", "album_2017"),
            (
                "album_2017-6053835381806815-2026-11-22-14-15-16.snapshot",
                "album_2017",
            ),
            ("a-b-c-1-2026-11-22-14-15-16.snapshot.gz", "a-b-c"),
            ("a-2026-11-22.snapshot", "a-2026-11-22"),
            ("plain", "plain"),
        ] {
            assert_eq!(source_name(Path::new(file)), name, "{file}");
        }
    }
}
