//! Tars that somebody made to hurt: names that climb, links, devices, sizes that overflow, and more
//! of everything than a snapshot has.

use crate::support::craft::{Member, Tar, gz};
use crate::support::{Env, Outcome};

use super::{Bad, plain};

/// What is put into the real snapshot, and what is said about it.
struct Hostile {
    name: &'static str,
    says: &'static [&'static str],
    members: fn() -> Vec<Member>,
}

static HOSTILE: [Hostile; 22] = [
    Hostile {
        name: "name_that_climbs",
        says: &["'../../evil'", "climbs out"],
        members: || vec![Member::file("../../evil", b"x")],
    },
    Hostile {
        name: "name_that_climbs_late",
        says: &["climbs out"],
        members: || vec![Member::file("0/wal/../../../evil", b"x")],
    },
    Hostile {
        name: "absolute_name",
        says: &["'/etc/evil'", "absolute"],
        members: || vec![Member::file("/etc/evil", b"x")],
    },
    Hostile {
        name: "symbolic_link",
        says: &["0/wal/open-9 is a symbolic link"],
        members: || {
            let mut link = Member::new(b'2', "0/wal/open-9", b"");
            link.put(157, b"/etc/passwd");
            vec![link]
        },
    },
    Hostile {
        name: "hard_link",
        says: &["0/wal/open-9 is a hard link"],
        members: || {
            let mut link = Member::new(b'1', "0/wal/open-9", b"");
            link.put(157, b"0/wal/open-1");
            vec![link]
        },
    },
    Hostile {
        name: "character_device",
        says: &["is a device"],
        members: || vec![Member::new(b'3', "0/wal/open-9", b"")],
    },
    Hostile {
        name: "block_device",
        says: &["is a device"],
        members: || vec![Member::new(b'4', "0/wal/open-9", b"")],
    },
    Hostile {
        name: "pipe",
        says: &["is a pipe"],
        members: || vec![Member::new(b'6', "0/wal/open-9", b"")],
    },
    Hostile {
        name: "pax_header",
        says: &["PAX header"],
        members: || vec![Member::new(b'x', "pax", b"20 path=../../evil\n\n")],
    },
    Hostile {
        name: "unknown_kind_of_member",
        says: &["of type 'Z'"],
        members: || vec![Member::new(b'Z', "0/wal/open-9", b"")],
    },
    Hostile {
        name: "sparse_of_8_eib",
        says: &[
            "sparse member 0/wal/open-9",
            "9223372036854775807 bytes long",
        ],
        members: || vec![sparse(i64::MAX as u64, &[(0, 512)])],
    },
    Hostile {
        name: "sparse_that_overflows",
        says: &["leave the file"],
        members: || vec![sparse(4096, &[(u64::MAX - 100, 512)])],
    },
    Hostile {
        name: "sparse_that_overlaps",
        says: &["overlap"],
        members: || vec![sparse(4096, &[(0, 300), (200, 212)])],
    },
    Hostile {
        name: "sparse_that_does_not_add_up",
        says: &["together"],
        members: || vec![sparse(4096, &[(0, 100)])],
    },
    Hostile {
        name: "member_of_all_bytes_there_are",
        says: &["claims 18446744073709551615 bytes"],
        members: || {
            let mut member = Member::file("0/wal/open-9", b"");
            member.size(u64::MAX);
            vec![member]
        },
    },
    Hostile {
        name: "member_longer_than_the_tar",
        says: &["cut off"],
        members: || {
            let mut member = Member::file("unknown", b"");
            member.size(1 << 50);
            vec![member]
        },
    },
    Hostile {
        name: "directory_with_bytes",
        says: &["directory 0/wal claims"],
        members: || vec![Member::new(b'5', "0/wal/", b"bytes")],
    },
    Hostile {
        name: "name_of_5000_bytes",
        says: &["bytes long", "4096"],
        members: || vec![Member::file(&"long/".repeat(1000), b"x")],
    },
    Hostile {
        name: "name_that_acts_on_a_terminal",
        says: &["control character"],
        members: || vec![Member::file("0/wal/\u{1b}[2Jopen-9", b"x")],
    },
    Hostile {
        name: "one_name_twice",
        says: &["config.json is in it twice"],
        members: || vec![Member::file("config.json", b"{}")],
    },
    Hostile {
        name: "one_name_spelled_in_two_ways",
        says: &["config.json is in it twice"],
        members: || vec![Member::file(".//./config.json", b"{}")],
    },
    Hostile {
        name: "file_where_a_folder_is",
        says: &["0/wal is in it as a file and as a folder"],
        members: || vec![Member::file("0/wal", b"x")],
    },
];

pub fn bad() -> Vec<Bad> {
    let mut bad: Vec<Bad> = HOSTILE
        .iter()
        .map(|hostile| {
            Bad::new(hostile.name, hostile.says, |env| {
                with(env, (hostile.members)())
            })
        })
        .collect();
    bad.extend([
        Bad::new(
            "folder_where_a_file_is",
            &["config.json, which is a file"],
            |env| with(env, vec![Member::file("config.json/deep", b"x")]),
        ),
        Bad::new(
            "100000_tiny_members",
            &["more than 1000 members", "no Qdrant"],
            |env| {
                let tiny = |n| Member::file(&format!("tiny/{n}"), b"x");
                with(env, (0..100_000).map(tiny).collect())
            },
        ),
        Bad::new(
            "100000_tiny_members_gz",
            &["more than 1000 members", "no Qdrant"],
            |env| {
                let tiny = |n| Member::file(&format!("tiny/{n}"), b"x");
                gz(&with(env, (0..100_000).map(tiny).collect())?)
            },
        )
        .gz(),
        Bad::new(
            "nothing_but_100000_tiny_members",
            &["more than 1000 members"],
            |_| {
                let members = (0..100_000).map(|n| Member::file(&format!("{n}/x"), b"x"));
                let members = members.collect();
                Ok(Tar { members }.bytes())
            },
        ),
        Bad::new(
            "segment_of_another_name",
            &["0/segments/7.tar", "among the segments"],
            |env| with(env, vec![Member::file("0/segments/7.tar", b"")]),
        ),
        Bad::new(
            "segment_spelled_otherwise",
            &["among the segments"],
            |env| {
                let mut tar = Tar::parse(&plain(env, "uint8")?)?;
                let path = tar
                    .find(".tar")?
                    .path
                    .to_uppercase()
                    .replace("SEGMENTS", "segments");
                tar.members
                    .push(Member::file(&path.replace(".TAR", ".tar"), b""));
                Ok(tar.bytes())
            },
        ),
        Bad::new(
            "segment_as_tar_and_as_folder",
            &["is in shard 0 twice"],
            |env| {
                let mut tar = Tar::parse(&plain(env, "uint8")?)?;
                let path = tar
                    .find(".tar")?
                    .path
                    .replace(".tar", "/files/segment.json");
                tar.members.push(Member::file(&path, b"{}"));
                Ok(tar.bytes())
            },
        ),
        Bad::new(
            "inner_name_that_climbs",
            &[".tar of", "climbs out"],
            |env| in_segment(env, Member::file("snapshot/files/../../../../evil", b"x")),
        ),
        Bad::new(
            "inner_symbolic_link",
            &[".tar of", "a symbolic link"],
            |env| in_segment(env, Member::new(b'2', "snapshot/files/link", b"")),
        ),
        Bad::new(
            "inner_name_twice",
            &[".tar of", "segment.json is in it twice"],
            |env| in_segment(env, Member::file("snapshot/files/segment.json", b"{}")),
        ),
        Bad::new(
            "inner_member_elsewhere",
            &[
                "member segment.json lies in the segment",
                "no Qdrant is known",
            ],
            |env| in_segment(env, Member::file("segment.json", b"{}")),
        ),
        Bad::new(
            "inner_member_of_no_known_folder",
            &["member snapshot/other/file lies in the segment"],
            |env| in_segment(env, Member::file("snapshot/other/file", b"x")),
        ),
        Bad::new(
            "inner_member_longer_than_its_tar",
            &[".tar of", "cut off"],
            |env| {
                let mut member = Member::file("snapshot/files/big", b"");
                member.size(1 << 40);
                in_segment(env, member)
            },
        ),
        Bad::new("segment_that_is_no_tar", &[".tar of", "not a tar"], |env| {
            let mut tar = Tar::parse(&plain(env, "uint8")?)?;
            tar.find(".tar")?.set(b"no tar at all".repeat(100));
            Ok(tar.bytes())
        }),
        Bad::new(
            "full_storage_snapshot",
            &["full storage snapshot with 1 collection"],
            |env| {
                let inner = Member::file(
                    "album-1-2026-11-22-14-15-16.snapshot",
                    &plain(env, "empty")?,
                );
                let config = Member::file("config.json", b"{\"collections_mapping\":{}}");
                let members = vec![inner, config];
                Ok(Tar { members }.bytes())
            },
        )
        .code(2),
    ]);
    bad
}

/// The real snapshot with further members at its end.
fn with(env: &Env, members: Vec<Member>) -> Outcome<Vec<u8>> {
    let mut tar = Tar::parse(&plain(env, "uint8")?)?;
    tar.members.extend(members);
    Ok(tar.bytes())
}

fn in_segment(env: &Env, member: Member) -> Outcome<Vec<u8>> {
    let mut tar = Tar::parse(&plain(env, "uint8")?)?;
    tar.segment("segment.json", |segment| {
        segment.members.push(member);
        Ok(())
    })?;
    Ok(tar.bytes())
}

/// A sparse file that stores 512 bytes.
fn sparse(bytes: u64, runs: &[(u64, u64)]) -> Member {
    let mut member = Member::new(b'S', "0/wal/open-9", &[1; 512]);
    let field = |number: u64| match number < 1 << 33 {
        true => format!("{number:011o}\0").into_bytes(),
        false => [&[0x80, 0, 0, 0], &number.to_be_bytes()[..]].concat(),
    };
    for (at, (offset, length)) in runs.iter().enumerate() {
        member.put(386 + 24 * at, &field(*offset));
        member.put(386 + 24 * at + 12, &field(*length));
    }
    member.put(483, &field(bytes));
    member
}
