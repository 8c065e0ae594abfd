//! Where the next fetch begins, read off the batches of an answer before anybody has decoded them.
//!
//! Nothing is checked but that there are whole batches: decoding them finds what is wrong and says where to read
//! again.

/// Bytes up to the field that says how long the rest of a batch is, that field included.
const LENGTH_END: usize = 12;
/// The fields that are read end here.
const LOOKED_AT: usize = 27;

/// What whole batches span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchSpan {
    /// After the last offset.
    pub(super) next_offset: i64,
    /// The epoch of the leader that took the last batch.
    pub(super) epoch: i32,
}

/// The span of the whole batches in `bytes`; None if there is none.
pub(super) fn of(mut bytes: &[u8]) -> Option<BatchSpan> {
    let mut span = None;
    while let Some(fields) = bytes.first_chunk::<LOOKED_AT>() {
        let length = usize::try_from(int32(fields, 8)).ok()?;
        let Some(rest) = bytes.get(LENGTH_END + length..) else { break };
        let base_offset = i64::from(int32(fields, 0)) << 32 | i64::from(int32(fields, 4) as u32);
        let next_offset = base_offset.checked_add(i64::from(int32(fields, 23)))?.checked_add(1)?;
        span = Some(BatchSpan { next_offset, epoch: int32(fields, 12) });
        bytes = rest;
    }
    span
}

fn int32(fields: &[u8; LOOKED_AT], at: usize) -> i32 {
    i32::from_be_bytes([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base_offset: i64, last_offset_delta: i32, epoch: i32) -> Vec<u8> {
        let mut bytes = base_offset.to_be_bytes().to_vec();
        bytes.extend(60_i32.to_be_bytes());
        bytes.extend(epoch.to_be_bytes());
        bytes.extend([2, 0, 0, 0, 0, 0, 0]);
        bytes.extend(last_offset_delta.to_be_bytes());
        bytes.resize(LENGTH_END + 60, 0);
        bytes
    }

    #[test]
    fn whole_batches_span_and_a_cut_one_does_not() {
        let two = [batch(5 << 32, 9, 1), batch((5 << 32) + 10, 300_000, 2)].concat();
        let next_offset = (5 << 32) + 300_011;
        assert_eq!(of(&two), Some(BatchSpan { next_offset, epoch: 2 }));
        let cut = [two.clone(), batch(0, 0, 7)[..40].to_vec()].concat();
        assert_eq!(of(&cut), of(&two));
        assert_eq!(of(&two[..50]), None);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[0xFF; 80]), None, "a length below zero");
    }
}
