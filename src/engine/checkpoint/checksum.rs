//! CRC-32 (IEEE 802.3, as in zip): the checksum of a checkpoint file.
//!
//! Of many stations a file has megabytes, and each byte passes here once. Eight tables of 256 entries ("slicing by 8") take
//! eight bytes a step, which do not wait for each other as single bytes do.

/// The polynomial 0x04C11DB7 with its bits reversed.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// `TABLES[n][b]`: what the byte `b` does to the checksum when `n` more bytes follow it in the same step.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut slice = 1;
    while slice < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[slice - 1][byte];
            tables[slice][byte] = before >> 8 ^ tables[0][(before & 0xFF) as usize];
            byte += 1;
        }
        slice += 1;
    }
    tables
}

/// The checksum of these bytes.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    let crc = words.iter().fold(!0, |crc: u32, word| {
        let [a, b, c, d, e, f, g, h] = (u64::from_le_bytes(*word) ^ u64::from(crc)).to_le_bytes();
        let [a, b, c, d, e, f, g, h] = [a, b, c, d, e, f, g, h].map(usize::from);
        TABLES[7][a]
            ^ TABLES[6][b]
            ^ TABLES[5][c]
            ^ TABLES[4][d]
            ^ TABLES[3][e]
            ^ TABLES[2][f]
            ^ TABLES[1][g]
            ^ TABLES[0][h]
    });
    !rest.iter().fold(crc, |crc, byte| TABLES[0][usize::from(crc as u8 ^ byte)] ^ crc >> 8)
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
