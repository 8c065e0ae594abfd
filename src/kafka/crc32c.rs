//! CRC-32C (Castagnoli, as in iSCSI): the checksum of Kafka's record batches.
//!
//! Every byte of a batch that is read or sent passes here once, so x86-64's instruction for it is used where the
//! processor has it (SSE 4.2, so nearly everywhere). The instruction takes 8 bytes, and its result only three cycles later; so three lanes
//! of a block are summed side by side and joined, which is possible because the checksum is linear: what a lane's sum
//! becomes when zeros follow it is a table look-up for each of its four bytes. Elsewhere the tables of
//! [`crate::engine::crc`] serve.
//!
//! # Proof
//! The one `unsafe` block calls `by_instruction`, which is safe except that it needs a certain processor. That is checked
//! right before the call (the standard library caches the answer, so it costs a load).
#![allow(unsafe_code)]

use crate::engine::crc::{self, CrcTables};

/// The polynomial 0x1EDC6F41 with its bits reversed.
const POLYNOMIAL: u32 = 0x82F6_3B78;

static TABLES: CrcTables = crc::tables(POLYNOMIAL);

/// The checksum of `data`.
pub(crate) fn crc32c(data: &[u8]) -> u32 {
    continued(0, data)
}

/// The checksum of what `checksum` is of, followed by `data`.
pub(crate) fn continued(checksum: u32, data: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has what the function needs, as the line above says.
        return !unsafe { x86::by_instruction(!checksum, data) };
    }
    !crc::by_table(&TABLES, !checksum, data)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u64};

    use super::TABLES;

    /// Bytes of a lane: long enough that joining the lanes is a small part, short enough for usual batches.
    const LANE: usize = 1 << 10;

    /// `PASSED[n][b]`: what the byte `n` of a checksum, if it is `b`, becomes when as many zeros follow as a lane has.
    static PASSED: [[u32; 256]; 4] = passed();

    const fn passed() -> [[u32; 256]; 4] {
        // Each single bit first; the rest is their sum.
        let mut bits = [0; 32];
        let mut bit = 0;
        while bit < 32 {
            let mut crc = 1_u32 << bit;
            let mut zeros = 0;
            while zeros < LANE {
                crc = (crc >> 8) ^ TABLES[0][(crc & 0xFF) as usize];
                zeros += 1;
            }
            bits[bit] = crc;
            bit += 1;
        }
        let mut passed = [[0; 256]; 4];
        let mut entry = 0;
        while entry < 4 * 256 {
            let (place, byte) = (entry / 256, entry % 256);
            let mut bit = 0;
            while bit < 8 {
                if byte >> bit & 1 == 1 {
                    passed[place][byte] ^= bits[8 * place + bit];
                }
                bit += 1;
            }
            entry += 1;
        }
        passed
    }

    fn pass_lane(crc: u32) -> u32 {
        let [a, b, c, d] = crc.to_le_bytes();
        PASSED[0][a as usize] ^ PASSED[1][b as usize] ^ PASSED[2][c as usize] ^ PASSED[3][d as usize]
    }

    #[target_feature(enable = "sse4.2")]
    pub(super) fn by_instruction(mut crc: u32, data: &[u8]) -> u32 {
        let (blocks, rest) = data.as_chunks::<{ 3 * LANE }>();
        for block in blocks {
            let (lanes, _) = block.as_chunks::<8>();
            let (first, others) = lanes.split_at(LANE / 8);
            let (second, third) = others.split_at(LANE / 8);
            // The instruction gives 32 bits in a register of 64.
            let (mut x, mut y, mut z) = (u64::from(crc), 0, 0);
            for ((a, b), c) in first.iter().zip(second).zip(third) {
                x = _mm_crc32_u64(x, u64::from_le_bytes(*a));
                y = _mm_crc32_u64(y, u64::from_le_bytes(*b));
                z = _mm_crc32_u64(z, u64::from_le_bytes(*c));
            }
            crc = pass_lane(pass_lane(x as u32) ^ y as u32) ^ z as u32;
        }
        let (steps, rest) = rest.as_chunks::<8>();
        let mut wide = u64::from(crc);
        for step in steps {
            wide = _mm_crc32_u64(wide, u64::from_le_bytes(*step));
        }
        rest.iter().fold(wide as u32, |crc, byte| _mm_crc32_u8(crc, *byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One bit at a time, straight from the definition.
    fn by_definition(data: &[u8]) -> u32 {
        let mut crc = !0_u32;
        for byte in data {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            }
        }
        !crc
    }

    #[test]
    fn known_vectors() {
        // The catalogue's check value, and the vectors of RFC 3720, appendix B.4.
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46DD_794E);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn every_way_equals_the_definition() {
        let data: Vec<u8> = (0..9_000_u32).map(|i| (i * i * 37 + 11) as u8).collect();
        // Short ones all; long ones around the ends of one and two blocks of three lanes.
        for end in (0..100).chain(3_070..3_082).chain(6_140..6_150).chain([9_000]) {
            let expected = by_definition(&data[..end]);
            assert_eq!(crc32c(&data[..end]), expected, "{end} bytes");
            assert_eq!(!crc::by_table(&TABLES, !0, &data[..end]), expected, "{end} bytes by table");
            let (head, rest) = data[..end].split_at(end / 3);
            assert_eq!(continued(crc32c(head), rest), expected, "{end} bytes in two parts");
        }
    }
}
