//! The producer's mark on its records, by which what was sent twice is told from what is new.
//!
//! A request whose answer was lost may have been carried out, and sending it again then appends it twice (rskafka has no
//! idempotent producer). So records are numbered: each run of a producer has a random id and counts the records of each
//! partition. A reader that has seen number n of a run in a partition drops n and below.
//!
//! The mark is the header [`HEADER`], big-endian numbers one after the other. Kafka appends a request as a whole, at
//! offsets without a gap, and so the first record of a request speaks for all of it:
//!
//! ```text
//! 20 bytes   run u64 · number u64 · count u32   this record and the count - 1 behind it have number, number + 1, …
//! 16 bytes   run u64 · number u64               this record has the number
//! ```
//!
//! rskafka makes a map, a string and a vector of each header: marks on every record double the cost of reading them.
//!
//! All records of a request have one time stamp. A mark speaks for no other: where requests of several producers were mixed
//! after the fact, as a tool that copies topics may do, no record gets a number that is another one's.
//!
//! Where reading begins in the middle of a request (a log that was cut there, a first record that compaction took), the
//! records up to the next mark have no number, and are taken as new.

use rskafka::chrono::{DateTime, Utc};
use rskafka::record::RecordAndOffset;

use crate::engine::partition::Sequence;

/// The header's name.
pub const HEADER: &str = "weather-seq";

/// The mark of the first of `count` records of a request.
pub fn mark(first: Sequence, count: u32) -> Vec<u8> {
    let mut mark = Vec::with_capacity(20);
    mark.extend_from_slice(&first.run.to_be_bytes());
    mark.extend_from_slice(&first.number.to_be_bytes());
    mark.extend_from_slice(&count.to_be_bytes());
    mark
}

/// The last record with a mark.
#[derive(Debug)]
struct Marked {
    first: Sequence,
    offset: i64,
    /// Behind the last record that the mark speaks for.
    end: i64,
    timestamp: DateTime<Utc>,
}

/// Finds the numbers of records, which have to come in the order of their offsets.
#[derive(Debug, Default)]
pub struct Sequences {
    marked: Option<Marked>,
}

impl Sequences {
    /// The record's number, if it has one. A header of another length is none.
    #[inline]
    pub fn of(&mut self, record: &RecordAndOffset) -> Option<Sequence> {
        if let Some((first, count)) = record.record.headers.get(HEADER).and_then(|header| parse(header)) {
            let (offset, timestamp) = (record.offset, record.record.timestamp);
            self.marked = Some(Marked { first, offset, end: offset.saturating_add(count), timestamp });
            return Some(first);
        }
        let Marked { first, offset, end, timestamp } = self.marked.as_ref()?;
        if record.offset >= *end || record.record.timestamp != *timestamp {
            return None;
        }
        let index = u64::try_from(record.offset - offset).ok()?;
        Some(Sequence { run: first.run, number: first.number.checked_add(index)? })
    }
}

fn parse(header: &[u8]) -> Option<(Sequence, i64)> {
    let (run, rest) = header.split_first_chunk::<8>()?;
    let (number, count) = rest.split_first_chunk::<8>()?;
    let count = match count {
        [] => 1,
        _ => u32::from_be_bytes(count.try_into().ok()?),
    };
    let first = Sequence { run: u64::from_be_bytes(*run), number: u64::from_be_bytes(*number) };
    Some((first, i64::from(count)))
}

#[cfg(test)]
mod tests {
    use rskafka::record::Record;

    use super::*;

    fn record(offset: i64, header: Option<Vec<u8>>) -> RecordAndOffset {
        let headers = header.into_iter().map(|header| (HEADER.to_owned(), header)).collect();
        let record = Record { key: None, value: None, headers, timestamp: DateTime::UNIX_EPOCH };
        RecordAndOffset { record, offset }
    }

    fn numbers(records: &[RecordAndOffset]) -> Vec<Option<(u64, u64)>> {
        let mut sequences = Sequences::default();
        records.iter().map(|record| sequences.of(record).map(|s| (s.run, s.number))).collect()
    }

    #[test]
    fn the_first_record_of_a_request_speaks_for_all_of_it_and_no_more() {
        let first = Sequence { run: 7, number: 41 };
        let records = [
            record(99, None),
            record(100, Some(mark(first, 3))),
            record(101, None),
            record(102, None),
            record(103, None),
        ];
        assert_eq!(numbers(&records), [None, Some((7, 41)), Some((7, 42)), Some((7, 43)), None]);
        // Compaction took some away: what is left keeps its number.
        let records = [record(100, Some(mark(first, 3))), record(102, None)];
        assert_eq!(numbers(&records), [Some((7, 41)), Some((7, 43))]);
        assert_eq!(numbers(&[record(101, None)]), [None], "from the middle on");
        let mut other = record(101, None);
        other.record.timestamp = DateTime::from_timestamp_millis(1).unwrap();
        let records = [record(100, Some(mark(first, 3))), other, record(102, None)];
        assert_eq!(numbers(&records), [Some((7, 41)), None, Some((7, 43))], "somebody else's in between");
    }

    #[test]
    fn a_record_may_carry_its_own_number() {
        let own = |run: u64, number: u64| [run.to_be_bytes(), number.to_be_bytes()].concat();
        let records = [record(5, Some(own(1, 9))), record(6, Some(own(2, 1))), record(7, None)];
        assert_eq!(numbers(&records), [Some((1, 9)), Some((2, 1)), None]);
    }

    #[test]
    fn what_is_no_mark_is_none() {
        for length in [0, 8, 15, 17, 19, 21, 24] {
            assert_eq!(numbers(&[record(0, Some(vec![0; length]))]), [None], "{length}");
        }
        let last = Sequence { run: 1, number: u64::MAX };
        let records = [record(i64::MAX - 1, Some(mark(last, u32::MAX))), record(i64::MAX, None)];
        assert_eq!(numbers(&records), [Some((1, u64::MAX)), None], "numbers do not overflow");
        let none = Sequence { run: 1, number: 1 };
        assert_eq!(numbers(&[record(0, Some(mark(none, 0))), record(1, None)]), [Some((1, 1)), None]);
    }
}
