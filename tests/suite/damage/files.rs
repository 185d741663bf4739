//! Files that are no snapshot, not the whole of one, or a damaged one, seen from outside.

use crate::support::craft::gz;
use crate::support::{Env, Outcome};

use super::{Bad, plain};

const CUT: &str = "cut off";

pub fn bad() -> Vec<Bad> {
    let mut bad = vec![
        Bad::new("empty_file", &["it is empty (0 bytes)"], |_| Ok(Vec::new())),
        Bad::new("one_byte", &["not a tar"], |_| Ok(b"a".to_vec())),
        Bad::new("not_a_tar", &["not a tar"], |_| {
            Ok(b"points are on strike today\n".repeat(200))
        }),
        Bad::new("not_a_tar_gz", &["not a tar"], |_| {
            gz(&b"points are on strike today\n".repeat(200))
        })
        .gz(),
        Bad::new("nothing_in_the_gz", &["not a tar"], |_| gz(b"")).gz(),
        Bad::new("empty_tar", &["it is no Qdrant snapshot"], |_| {
            Ok(vec![0; 10240])
        }),
        Bad::new("zeros_that_end", &[CUT], |_| Ok(vec![0; 1000])),
        // What a streamed snapshot is when the server fails: an answer of 200 with half a body.
        Bad::new("no_trailer", &[CUT], |env| {
            let mut bytes = plain(env, "uint8")?;
            bytes.truncate(bytes.len() - trailer_bytes(&bytes));
            Ok(bytes)
        }),
        Bad::new("half_a_trailer", &[CUT], |env| {
            let mut bytes = plain(env, "uint8")?;
            bytes.truncate(bytes.len() - trailer_bytes(&bytes) + 512);
            Ok(bytes)
        }),
        Bad::new("one_zero_block_within", &["one zero block"], |env| {
            let bytes = plain(env, "uint8")?;
            Ok([&[0; 512], bytes.as_slice()].concat())
        }),
        Bad::new(
            "something_after_the_trailer",
            &["follows its trailer"],
            |env| Ok([&plain(env, "uint8")?[..], b"more"].concat()),
        ),
        Bad::new(
            "megabytes_after_the_trailer",
            &["follows its trailer"],
            |env| Ok([&plain(env, "uint8")?[..], &vec![0; 3 << 20]].concat()),
        ),
        Bad::new(
            "something_after_the_gz",
            &["compressed data is damaged"],
            |env| Ok([&gz(&plain(env, "uint8")?)?[..], b"more of this file"].concat()),
        )
        .gz(),
        Bad::new("gz_in_a_gz", &["not a tar"], |env| {
            gz(&gz(&plain(env, "uint8")?)?)
        })
        .gz(),
        Bad::new(
            "gz_of_unknown_method",
            &["compressed data is damaged"],
            |env| flipped(gz(&plain(env, "uint8")?)?, |_| 2),
        )
        .gz(),
        Bad::new(
            "gz_checksum_flipped",
            &["compressed data is damaged"],
            |env| flipped(gz(&plain(env, "uint8")?)?, |bytes| bytes - 6),
        )
        .gz(),
        Bad::new(
            "tar_header_flipped",
            &["does not match its checksum", "after version.info"],
            |env| {
                let bytes = plain(env, "uint8")?;
                let at = find(&bytes, b"config.json\0");
                flipped(bytes, |_| at + 2)
            },
        ),
        Bad::new("first_tar_header_flipped", &["not a tar"], |env| {
            flipped(plain(env, "uint8")?, |_| 130)
        }),
        Bad::new(
            "inner_tar_header_flipped",
            &["segments/", ".tar of", "does not match"],
            |env| {
                let bytes = plain(env, "uint8")?;
                let at = find(&bytes, b"snapshot/files/segment.json\0");
                flipped(bytes, |_| at + 20)
            },
        ),
    ];
    for percent in (10..100).step_by(10) {
        let cut = move |mut bytes: Vec<u8>| {
            bytes.truncate(bytes.len() * percent / 100);
            Ok(bytes)
        };
        let name = format!("truncated_at_{percent}_percent");
        bad.push(Bad::new(name, &[CUT], move |env| cut(plain(env, "uint8")?)));
        let name = format!("truncated_gz_at_{percent}_percent");
        bad.push(Bad::new(name, &[CUT], move |env| cut(packed(env)?)).gz());
    }
    for percent in [1, 20, 50, 80, 95] {
        let name = format!("gz_flipped_at_{percent}_percent");
        let make = move |env: &Env| flipped(packed(env)?, |length| length * percent / 100);
        bad.push(Bad::new(name, &["reading"], make).gz());
    }
    bad
}

fn packed(env: &Env) -> Outcome<Vec<u8>> {
    Ok(std::fs::read(env.case("uint8").snapshot_gz)?)
}

fn flipped(mut bytes: Vec<u8>, at: impl FnOnce(usize) -> usize) -> Outcome<Vec<u8>> {
    let at = at(bytes.len());
    bytes[at] ^= 0x10;
    Ok(bytes)
}

/// Where the last of them begins.
fn find(bytes: &[u8], part: &[u8]) -> usize {
    let found = bytes.windows(part.len()).rposition(|window| window == part);
    found.expect("a fixture has it")
}

/// The zero blocks at the end.
fn trailer_bytes(bytes: &[u8]) -> usize {
    let blocks = bytes.rchunks(512);
    512 * blocks
        .take_while(|block| block.iter().all(|byte| *byte == 0))
        .count()
}
