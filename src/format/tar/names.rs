//! The names of a tar's members, as far as they can be trusted with a file system.
//!
//! Invariants: a name that is taken stays inside the folder that it is unpacked to; a file has one
//! name and a name one file, and no file lies where a folder must be, so that unpacking in any
//! order gives the same; what is remembered of names is bounded.

use std::collections::HashMap;

use super::MemberKind;

/// Longest name that is accepted, in bytes (Linux's PATH_MAX).
pub(super) const NAME_BYTES_MAX: u64 = 4096;
/// Longest part of a name between slashes, in bytes (Linux's NAME_MAX).
const PART_BYTES_MAX: usize = 255;
/// Most parts of a name: Qdrant's have some ten.
const PARTS_MAX: usize = 32;
/// Most names, folders that are only part of one included, that one tar may have: Qdrant writes
/// some dozens a segment.
const NAMES_MAX: usize = 1_000_000;
/// Bytes that all of them together may have.
const NAMES_BYTES_MAX: usize = 64 << 20;
/// Characters of a hostile name that are shown.
const SHOWN_MAX: usize = 120;

/// The name in `raw` with `.` parts and needless slashes taken away; else the reason why it is not
/// taken, which shows it.
pub(super) fn clean(raw: &[u8]) -> Result<String, String> {
    let refuse = |why: &str| Err(format!("member name '{}' {why}", shown(raw)));
    let Ok(name) = std::str::from_utf8(raw) else {
        return refuse("is not UTF-8");
    };
    if raw.len() as u64 > NAME_BYTES_MAX {
        return refuse("is too long to be unpacked");
    }
    if name.starts_with('/') {
        return refuse("is absolute; unpacking it would leave the folder");
    }
    // It would also tear the line of a report or play tricks on a terminal.
    if name.chars().any(char::is_control) {
        return refuse("holds a control character");
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
    if parts.len() > PARTS_MAX {
        return refuse("has more than 32 parts");
    }
    Ok(parts.join("/"))
}

/// A name for a message: what a line allows, and nothing that acts on a terminal.
fn shown(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw)
        .chars()
        .take(SHOWN_MAX)
        .flat_map(char::escape_debug)
        .collect()
}

/// The names that were there already.
#[derive(Debug, Default)]
pub(super) struct Names {
    kinds: HashMap<String, MemberKind>,
    bytes: usize,
}

impl Names {
    /// Takes a clean name in; else the reason why it cannot be beside the others.
    pub fn add(&mut self, name: &str, kind: MemberKind) -> Result<(), String> {
        if name.is_empty() {
            return match kind {
                MemberKind::Directory => Ok(()),
                MemberKind::File => Err("a file in it has no name".into()),
            };
        }
        for (at, _) in name.match_indices('/') {
            let folder = name.get(..at).unwrap_or_default();
            match self.kinds.get(folder) {
                Some(MemberKind::Directory) => {}
                Some(MemberKind::File) => {
                    return Err(format!(
                        "member {name} lies in {folder}, which is a file and no folder"
                    ));
                }
                None => self.remember(folder, MemberKind::Directory)?,
            }
        }
        match (self.kinds.get(name), kind) {
            (None, kind) => self.remember(name, kind),
            // Another writer may name a folder again.
            (Some(MemberKind::Directory), MemberKind::Directory) => Ok(()),
            (Some(MemberKind::File), MemberKind::File) => {
                Err(format!("member {name} is in it twice"))
            }
            (Some(_), _) => Err(format!("member {name} is in it as a file and as a folder")),
        }
    }

    fn remember(&mut self, name: &str, kind: MemberKind) -> Result<(), String> {
        self.bytes += name.len();
        if self.kinds.len() >= NAMES_MAX || self.bytes > NAMES_BYTES_MAX {
            return Err(format!(
                "it has more than {NAMES_MAX} members, or their names are longer than \
                 {NAMES_BYTES_MAX} bytes together; no snapshot has"
            ));
        }
        self.kinds.insert(name.to_owned(), kind);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_inside_its_folder() {
        for (raw, clean_name) in [
            ("a", "a"),
            ("./a//b/./c", "a/b/c"),
            ("a/", "a"),
            (".", ""),
            ("..a/b..", "..a/b.."),
        ] {
            assert_eq!(clean(raw.as_bytes()).as_deref(), Ok(clean_name), "{raw}");
        }
        let long_part = "a".repeat(256);
        let deep = "a/".repeat(33);
        let long = "abc/".repeat(1025);
        for (raw, why) in [
            ("..", "climbs"),
            ("a/../../b", "climbs"),
            ("/etc/passwd", "absolute"),
            ("//a", "absolute"),
            ("a\0b", "control"),
            ("a\u{1b}[2J", "control"),
            (long_part.as_str(), "longer than 255"),
            (deep.as_str(), "32 parts"),
            (long.as_str(), "too long"),
        ] {
            let told = clean(raw.as_bytes()).unwrap_err();
            assert!(told.contains(why), "{told}");
            assert!(told.len() < 1000 && !told.contains('\u{1b}'), "{told}");
        }
        assert!(clean(b"a\xff").unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn a_name_is_one_thing() {
        use MemberKind::{Directory, File};
        let cases: [(&[(&str, MemberKind)], &str); 7] = [
            (&[("a", File), ("a", File)], "twice"),
            (&[("a", File), ("a/b", File)], "no folder"),
            (&[("a/b", File), ("a", File)], "as a file and as a folder"),
            (&[("a", Directory), ("a", File)], "as a file and"),
            (&[("a", File), ("a", Directory)], "as a file and"),
            (&[("", File)], "no name"),
            (&[("a/b/c", File), ("a/b", File)], "as a file and"),
        ];
        for (members, why) in cases {
            let mut names = Names::default();
            let mut last = Ok(());
            for (name, kind) in members {
                assert_eq!(last, Ok(()), "{members:?}");
                last = names.add(name, *kind);
            }
            assert!(last.clone().unwrap_err().contains(why), "{last:?}");
        }
        let mut names = Names::default();
        for (name, kind) in [
            ("", Directory),
            ("a/b", File),
            ("a", Directory),
            ("a", Directory),
            ("A", File),
            ("a/c/d", File),
        ] {
            names.add(name, kind).unwrap();
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut names = Names::default();
        let long = "a".repeat(200);
        let failed = (0..1_000_000).find_map(|at| {
            let name = format!("{long}{at}");
            names.add(&name, MemberKind::File).err()
        });
        assert!(failed.unwrap().contains("more than"));
    }
}
