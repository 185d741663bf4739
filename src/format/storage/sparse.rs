//! A sparse vector as a value: lib/segment/src/vector_storage/sparse/stored_sparse_vectors.rs.
//!
//! Invariants: indices ascend, as they are read.

/// Bits for the number of bits.
const HEADER_BITS: u32 = 6;
/// A difference has no fewer bits.
const BITS_MIN: u32 = 8;

/// The bytes of the sparse vector with these `pairs` of index and value, which get sorted.
pub fn pack_sparse(pairs: &mut [(u32, f32)]) -> Vec<u8> {
    pairs.sort_by_key(|(index, _)| *index);
    let mut before = 0;
    let differences: Vec<u32> = pairs
        .iter()
        .map(|(index, _)| index - std::mem::replace(&mut before, *index))
        .collect();
    let indices = pack(&differences);
    let mut bytes = Vec::with_capacity(16 + indices.len() + 4 * pairs.len());
    bytes.extend_from_slice(&(indices.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&indices);
    bytes.extend_from_slice(&(pairs.len() as u64).to_le_bytes());
    for (_, value) in pairs {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// `compress_sequence` in lib/common/common/src/delta_pack.rs: all with as many bits as the highest
/// needs, from the lowest bit on.
fn pack(numbers: &[u32]) -> Vec<u8> {
    let Some(highest) = numbers.iter().max() else {
        return Vec::new();
    };
    let bits = (u32::BITS - highest.leading_zeros()).max(BITS_MIN);
    let mut bytes = Vec::new();
    let mut waiting = u64::from(bits - BITS_MIN);
    let mut count = HEADER_BITS;
    for number in numbers {
        waiting |= u64::from(*number) << count;
        count += bits;
        while count >= 8 {
            bytes.push(waiting as u8);
            waiting >>= 8;
            count -= 8;
        }
    }
    if count > 0 {
        bytes.push(waiting as u8);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way back, bit by bit.
    fn unpack(bytes: &[u8]) -> Vec<u32> {
        let bit = |at: usize| u64::from(bytes[at / 8] >> (at % 8) & 1);
        let number = |at: usize, bits: usize| (0..bits).map(|n| bit(at + n) << n).sum::<u64>();
        if bytes.is_empty() {
            return Vec::new();
        }
        let bits = number(0, 6) as usize + 8;
        let count = (bytes.len() * 8 - 6) / bits;
        (0..count)
            .map(|n| number(6 + n * bits, bits) as u32)
            .collect()
    }

    #[test]
    fn numbers_of_any_size_come_back() {
        for numbers in [
            vec![],
            vec![0],
            vec![1, 2, 3, 255],
            vec![256, 0, 7],
            vec![u32::MAX, 1, u32::MAX],
            (0..1000).collect(),
        ] {
            assert_eq!(unpack(&pack(&numbers)), numbers);
        }
    }

    #[test]
    fn a_vector_is_its_indices_and_its_values() {
        let bytes = pack_sparse(&mut [(300, 0.5), (7, -1.0)]);
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(unpack(&bytes[8..][..length]), [7, 293]);
        let values = &bytes[8 + length..];
        assert_eq!(values[..8], 2_u64.to_le_bytes());
        assert_eq!(
            values[8..],
            [(-1.0_f32).to_le_bytes(), 0.5_f32.to_le_bytes()].concat()
        );
        assert_eq!(pack_sparse(&mut []), [0; 16]);
    }
}
