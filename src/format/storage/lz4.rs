//! LZ4 blocks with their length before them, as lib/gridstore stores values (`compress_prepend_size` of
//! the crate lz4_flex): 4 bytes for the length, then one block of LZ4's block format.
//!
//! Not by that crate: the engine has it without its checks, which features of ours would turn on for the
//! engine alone with a build of all of it; what is unpacked here is nobody's that can be trusted.
//!
//! Invariants: a length that is claimed reserves no memory that the input could not fill; what is
//! unpacked has exactly the length that was claimed, or is an error; whatever is packed here comes back
//! the same.

/// Shortest match that the format knows.
const MATCH_BYTES_MIN: usize = 4;
/// The last bytes of a block are no match.
const LITERALS_LAST: usize = 5;
/// A match begins no later than this before the end.
const MATCH_BEFORE_END: usize = 12;
/// Farthest match.
const DISTANCE_MAX: usize = u16::MAX as usize;
/// One byte of input stands for no more bytes of output.
const RATIO_MAX: usize = 255;
/// Bits of the hash of four bytes, for short values and for long ones: a table costs time to clear.
const HASH_BITS: [u32; 2] = [10, 13];
/// A value is long from this length on.
const LONG_BYTES: usize = 4096;

/// Unpacks a block with its length before it.
pub fn unpack(input: &[u8]) -> Result<Vec<u8>, String> {
    let Some((length, mut rest)) = input.split_first_chunk() else {
        return Err("it is shorter than the length before it".into());
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length > rest.len().saturating_mul(RATIO_MAX) {
        return Err(format!(
            "it claims {length} bytes, which {} packed ones cannot hold",
            rest.len()
        ));
    }
    let mut out = Vec::with_capacity(length);
    while let Some((token, after)) = rest.split_first() {
        rest = after;
        let count = count(token >> 4, &mut rest)?;
        let Some((literals, after)) = rest.split_at_checked(count) else {
            return Err("it ends within its literals".into());
        };
        out.extend_from_slice(literals);
        rest = after;
        if rest.is_empty() {
            break;
        }
        let Some((distance, after)) = rest.split_first_chunk() else {
            return Err("it ends within a match".into());
        };
        rest = after;
        let distance = usize::from(u16::from_le_bytes(*distance));
        let count = self::count(token & 15, &mut rest)? + MATCH_BYTES_MIN;
        let from = out.len().checked_sub(distance).filter(|_| distance > 0);
        let Some(from) = from else {
            return Err("a match begins before the value".into());
        };
        if count > length.saturating_sub(out.len()) {
            return Err("it is longer than it claims".into());
        }
        // It may reach into what it writes itself, and repeats that then.
        let mut left = count;
        while left > 0 {
            let some = left.min(out.len() - from);
            out.extend_from_within(from..from + some);
            left -= some;
        }
    }
    match out.len() == length {
        true => Ok(out),
        false => Err(format!("it has {} bytes instead of {length}", out.len())),
    }
}

/// A length that four bits began.
fn count(four: u8, rest: &mut &[u8]) -> Result<usize, String> {
    let mut count = usize::from(four);
    if four < 15 {
        return Ok(count);
    }
    loop {
        let Some((byte, after)) = rest.split_first() else {
            return Err("it ends within a length".into());
        };
        *rest = after;
        count = count.saturating_add(usize::from(*byte));
        if *byte < 255 {
            return Ok(count);
        }
    }
}

/// Packs a value of less than 4 GiB, its length before it.
pub fn pack(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len() / 2 + 32);
    out.extend_from_slice(&(input.len() as u32).to_le_bytes());
    let [short, long] = HASH_BITS;
    let bits = if input.len() < LONG_BYTES {
        short
    } else {
        long
    };
    // Where these four bytes were last, and one more.
    let mut last = vec![0_u32; 1 << bits];
    let end = input.len().saturating_sub(MATCH_BEFORE_END);
    let word = |at: usize| input.get(at..).and_then(<[u8]>::first_chunk::<4>);
    let (mut at, mut anchor) = (0, 0);
    while at < end {
        let Some(four) = word(at) else { break };
        let hash = u32::from_le_bytes(*four).wrapping_mul(2_654_435_761) >> (u32::BITS - bits);
        let before = (last.get_mut(hash as usize))
            .map_or(0, |slot| std::mem::replace(slot, at as u32 + 1) as usize);
        let from = before.checked_sub(1);
        let from = from.filter(|from| at - from <= DISTANCE_MAX && word(*from) == Some(four));
        let Some(from) = from else {
            // What has had no match for long may be passed over faster.
            at += 1 + ((at - anchor) >> 6);
            continue;
        };
        let (head, tail) = (
            input.get(from..),
            input.get(at..input.len() - LITERALS_LAST),
        );
        let pairs = head.into_iter().flatten().zip(tail.into_iter().flatten());
        let length = pairs.take_while(|(a, b)| a == b).count();
        let literals = input.get(anchor..at).unwrap_or_default();
        sequence(&mut out, literals, Some((at - from, length)));
        at += length;
        anchor = at;
    }
    sequence(&mut out, input.get(anchor..).unwrap_or_default(), None);
    out
}

/// Adds literals, and the match after them, if there is one: its distance and its length.
fn sequence(out: &mut Vec<u8>, literals: &[u8], matched: Option<(usize, usize)>) {
    let more = matched.map_or(0, |(_, length)| length.saturating_sub(MATCH_BYTES_MIN));
    let four = |count: usize| count.min(15) as u8;
    let rest = |out: &mut Vec<u8>, count: usize| {
        let Some(mut left) = count.checked_sub(15) else {
            return;
        };
        while left >= 255 {
            out.push(255);
            left -= 255;
        }
        out.push(left as u8);
    };
    out.push(four(literals.len()) << 4 | four(more));
    rest(out, literals.len());
    out.extend_from_slice(literals);
    if let Some((distance, _)) = matched {
        out.extend_from_slice(&(distance as u16).to_le_bytes());
        rest(out, more);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_of_the_format_are_read() {
        // Three literals, nine bytes of a match that repeats them, five literals at the end.
        let block = [&[17, 0, 0, 0, 0x35][..], b"abc", &[3, 0, 0x50], b"xyzzy"].concat();
        assert_eq!(unpack(&block).unwrap(), b"abcabcabcabcxyzzy");
        // Fifteen literals and more: the length goes on in further bytes.
        let long = [&[20, 0, 0, 0, 0xf0, 5][..], &[b'a'; 20]].concat();
        assert_eq!(unpack(&long).unwrap(), [b'a'; 20]);
        for cut in 1..block.len() {
            assert!(unpack(&block[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn long_runs_and_far_matches_come_back() {
        let far: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| (n % 70_001).to_le_bytes())
            .collect();
        for value in [
            vec![],
            vec![7],
            vec![7; 100_000],
            b"abcdefghijklm".repeat(9),
            far,
        ] {
            let packed = pack(&value);
            assert_eq!(unpack(&packed).unwrap(), value);
        }
        assert!(pack(&vec![7; 100_000]).len() < 500);
    }

    #[test]
    fn a_claim_reserves_nothing() {
        assert!(unpack(&[255, 255, 255, 255, 0]).is_err());
        assert!(unpack(&[1, 0]).is_err());
        // A match at the distance 0, and one from before the value.
        assert!(unpack(&[9, 0, 0, 0, 0x11, 1, 0, 0]).is_err());
        assert!(unpack(&[9, 0, 0, 0, 0x11, 1, 2, 0]).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_packed_comes_back(
            value in prop::collection::vec(prop::sample::select(vec![0_u8, 1, 2, 97, 98, 255]), 0..3000)
        ) {
            prop_assert_eq!(unpack(&pack(&value)).unwrap(), value);
        }

        #[test]
        fn damage_is_an_error_or_another_value(
            bytes in prop::collection::vec(any::<u8>(), 0..300)
        ) {
            if let Ok(value) = unpack(&bytes) {
                prop_assert!(value.len() <= bytes.len() * 255);
            }
        }
    }
}
