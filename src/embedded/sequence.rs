//! What makes a producer idempotent: the broker remembers the last batches of each producer and recognizes repeated ones.
//!
//! As in Kafka, these are the last five batches of each producer and partition. One of them is acknowledged again with its
//! old offset; any other that is not the next is refused. An unknown producer may begin at any number, because the broker
//! may have forgotten it. Each log remembers a limited number of producers: of too many, the one that was silent longest is
//! forgotten.

use std::collections::{BTreeMap, VecDeque};

use super::batch::AppendedHeader;
use super::codes::ErrorCode;

/// Batches remembered of a producer: as many as it may have in flight.
const REMEMBERED: usize = 5;
/// Producers remembered.
const MAX_PRODUCERS: usize = 1_000;
/// The highest sequence number; the next is 0.
const HIGHEST: i32 = i32::MAX;

/// A batch that was appended.
#[derive(Debug, Clone, Copy)]
struct NumberedBatch {
    first: i32,
    last: i32,
    base_offset: i64,
}

#[derive(Debug, Default)]
struct ProducerState {
    epoch: i16,
    /// The oldest first.
    batches: VecDeque<NumberedBatch>,
}

/// The idempotent producers of a log.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    producers: BTreeMap<i64, ProducerState>,
}

impl Sequences {
    /// Whether a batch is the next one (`None`), or one of the last (its base offset).
    pub(super) fn check(&self, header: &AppendedHeader) -> Result<Option<i64>, ErrorCode> {
        let Some(producer) = self.producers.get(&header.producer_id) else { return Ok(None) };
        if header.producer_epoch < producer.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if header.producer_epoch > producer.epoch {
            return if header.first_sequence == 0 { Ok(None) } else { Err(ErrorCode::OutOfOrderSequence) };
        }
        let (first, last) = numbers(header);
        if let Some(same) = producer.batches.iter().find(|batch| (batch.first, batch.last) == (first, last)) {
            return Ok(Some(same.base_offset));
        }
        match producer.batches.back() {
            Some(newest) if first != after(newest.last, 1) => Err(ErrorCode::OutOfOrderSequence),
            _ => Ok(None),
        }
    }

    /// Remembers a batch that was appended.
    pub(super) fn note(&mut self, header: &AppendedHeader, base_offset: i64) {
        if header.producer_id < 0 {
            return;
        }
        if self.producers.len() >= MAX_PRODUCERS && !self.producers.contains_key(&header.producer_id) {
            self.forget_one();
        }
        let producer = self.producers.entry(header.producer_id).or_default();
        if producer.epoch != header.producer_epoch {
            *producer = ProducerState { epoch: header.producer_epoch, batches: VecDeque::new() };
        }
        if producer.batches.len() == REMEMBERED {
            producer.batches.pop_front();
        }
        let (first, last) = numbers(header);
        producer.batches.push_back(NumberedBatch { first, last, base_offset });
    }

    /// Forgets what the log no longer has: the batches from `offset` on.
    pub(super) fn cut(&mut self, offset: i64) {
        self.producers.retain(|_, producer| {
            producer.batches.retain(|batch| batch.base_offset < offset);
            !producer.batches.is_empty()
        });
    }

    fn forget_one(&mut self) {
        let newest = |producer: &ProducerState| producer.batches.back().map(|batch| batch.base_offset);
        let silent = self.producers.iter().min_by_key(|(_, producer)| newest(producer)).map(|(id, _)| *id);
        if let Some(silent) = silent {
            self.producers.remove(&silent);
        }
    }
}

/// The numbers of a batch's first and last record.
fn numbers(header: &AppendedHeader) -> (i32, i32) {
    (header.first_sequence, after(header.first_sequence, header.last_offset_delta))
}

/// The number `count` behind `number`.
fn after(number: i32, count: i32) -> i32 {
    number.checked_add(count).unwrap_or_else(|| count - (HIGHEST - number) - 1)
}

#[cfg(test)]
mod tests {
    use super::super::batch::RawBatch;
    use super::*;

    /// The header of a batch of `count` records from `first` on.
    fn header(producer: (i64, i16), first: i32, count: i32) -> AppendedHeader {
        let mut bytes = RawBatch::compacted_away(count, 0).encode();
        bytes[43..51].copy_from_slice(&producer.0.to_be_bytes());
        bytes[51..53].copy_from_slice(&producer.1.to_be_bytes());
        bytes[53..57].copy_from_slice(&first.to_be_bytes());
        AppendedHeader::read(&bytes).unwrap()
    }

    #[test]
    fn the_next_batch_is_new_one_of_the_last_five_is_known_and_others_are_refused() {
        let mut sequences = Sequences::default();
        for batch in 0..7 {
            let header = header((7, 0), batch * 10, 10);
            assert_eq!(sequences.check(&header), Ok(None));
            sequences.note(&header, 100 + i64::from(batch));
        }
        for (first, count, expected) in [
            (70, 3, Ok(None)),
            (60, 10, Ok(Some(106))),
            (20, 10, Ok(Some(102))),
            (10, 10, Err(ErrorCode::OutOfOrderSequence)),
            (60, 9, Err(ErrorCode::OutOfOrderSequence)),
            (71, 1, Err(ErrorCode::OutOfOrderSequence)),
            (0, 1, Err(ErrorCode::OutOfOrderSequence)),
        ] {
            assert_eq!(sequences.check(&header((7, 0), first, count)), expected, "{first} {count}");
        }
        assert_eq!(sequences.check(&header((8, 0), 55, 1)), Ok(None), "another producer");
        assert_eq!(sequences.check(&header((7, 1), 0, 1)), Ok(None), "a newer one");
        assert_eq!(sequences.check(&header((7, 1), 70, 1)), Err(ErrorCode::OutOfOrderSequence));
        sequences.note(&header((7, 1), 0, 1), 200);
        assert_eq!(sequences.check(&header((7, 0), 70, 1)), Err(ErrorCode::InvalidProducerEpoch));
        // A batch that was cut off may be sent again.
        sequences.cut(200);
        assert_eq!(sequences.check(&header((7, 1), 0, 1)), Ok(None));
    }

    #[test]
    fn numbers_begin_again_after_the_highest() {
        let mut sequences = Sequences::default();
        sequences.note(&header((7, 0), HIGHEST - 1, 4), 0);
        assert_eq!(sequences.check(&header((7, 0), 2, 1)), Ok(None));
        assert_eq!(sequences.check(&header((7, 0), 1, 1)), Err(ErrorCode::OutOfOrderSequence));
        sequences.note(&header((7, 0), HIGHEST, 1), 1);
        assert_eq!(sequences.check(&header((7, 0), 0, 1)), Ok(None));
    }

    #[test]
    fn producers_do_not_pile_up() {
        let mut sequences = Sequences::default();
        for id in 0..5_000 {
            sequences.note(&header((id, 0), 0, 1), id);
        }
        assert_eq!(sequences.producers.len(), MAX_PRODUCERS);
        assert!(sequences.producers.contains_key(&4_999));
    }
}
