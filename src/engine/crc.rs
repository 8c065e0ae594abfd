//! Reflected 32-bit cyclic redundancy checks by tables, for any polynomial: of checkpoint files, and of Kafka's batches where
//! the processor has no instruction for theirs.
//!
//! Eight tables of 256 entries ("slicing by 8") take eight bytes a step, which do not wait for each other as single bytes do.

/// `[n][b]`: what the byte `b` does to the checksum when `n` more bytes follow it in the same step.
pub(crate) type CrcTables = [[u32; 256]; 8];

/// The tables of a polynomial, which is given with its bits reversed.
pub(crate) const fn tables(polynomial: u32) -> CrcTables {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ polynomial } else { crc >> 1 };
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
            tables[slice][byte] = (before >> 8) ^ tables[0][(before & 0xFF) as usize];
            byte += 1;
        }
        slice += 1;
    }
    tables
}

/// The register after these bytes; the checksum is its complement, before the first byte and after the last.
pub(crate) fn by_table(tables: &CrcTables, mut crc: u32, data: &[u8]) -> u32 {
    let (steps, rest) = data.as_chunks::<8>();
    for step in steps {
        let [a, b, c, d, e, f, g, h] = (u64::from_le_bytes(*step) ^ u64::from(crc)).to_le_bytes();
        crc = tables[7][a as usize]
            ^ tables[6][b as usize]
            ^ tables[5][c as usize]
            ^ tables[4][d as usize]
            ^ tables[3][e as usize]
            ^ tables[2][f as usize]
            ^ tables[1][g as usize]
            ^ tables[0][h as usize];
    }
    for byte in rest {
        crc = (crc >> 8) ^ tables[0][((crc as u8) ^ byte) as usize];
    }
    crc
}
