//! CRC-32 (IEEE 802.3, as in zip): the checksum of a checkpoint file.
//!
//! Of many stations a file has megabytes, and each byte passes here once.

use crate::engine::crc::{self, CrcTables};

/// The polynomial 0x04C11DB7 with its bits reversed.
const POLYNOMIAL: u32 = 0xEDB8_8320;

static TABLES: CrcTables = crc::tables(POLYNOMIAL);

/// The checksum of these bytes.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !crc::by_table(&TABLES, !0, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_usual_one_of_any_length() {
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        // By the definition, bit by bit.
        let slowly = |bytes: &[u8]| {
            !bytes.iter().fold(!0_u32, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                    if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 }
                })
            })
        };
        let bytes: Vec<u8> = (0..100_u32).map(|i| (i * i * 31 + 7) as u8).collect();
        for to in 0..bytes.len() {
            assert_eq!(crc32(&bytes[to / 3..to]), slowly(&bytes[to / 3..to]), "{to}");
        }
    }
}
