//! Which partition a key belongs to: as Java's client decides it, so that readings of a station stay together whichever
//! client sends them.

/// Java's default partitioner: murmur2 of the key, sign bit off, modulo the number of partitions.
pub fn partition_of(key: &[u8], partitions: usize) -> usize {
    debug_assert!(partitions > 0);
    // In 32 bits, which divide quicker: Kafka counts partitions in them.
    let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
    ((murmur2(key) & 0x7fff_ffff) % partitions) as usize
}

/// The 32-bit murmur2 hash with the seed of `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // Java's length is an int; a key is far shorter.
    let mut hash = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = match *tail {
        [a] => Some([a, 0, 0, 0]),
        [a, b] => Some([a, b, 0, 0]),
        [a, b, c] => Some([a, b, c, 0]),
        _ => None,
    };
    if let Some(tail) = tail {
        hash = (hash ^ u32::from_le_bytes(tail)).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_as_java() {
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, expected) in cases {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        }
    }

    #[test]
    fn partition_is_the_positive_hash_modulo_count() {
        assert_eq!(partition_of(b"21", 6), ((-973_932_308i32 & i32::MAX) % 6) as usize);
        assert_eq!(partition_of(b"abc", 1), 0);
    }
}
