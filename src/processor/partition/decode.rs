//! From the record batches of one answer into a partition's state, record by record and where they are.

use crate::engine::partition::{Incoming, MAX_READING_BYTES, Partition};
use crate::kafka::batch::{BatchError, Batches, Expander, FetchedBatch, TimestampType};
use crate::kafka::fetcher::Turn;

/// A longer record is oversized, and only its beginning is read: a reading may be this long, and next to it there is
/// room for a key and headers.
const MOST_BYTES: usize = MAX_READING_BYTES + 16 * 1024;

/// How reading the answer went.
pub struct Read {
    /// Kafka's timestamp of the first record; None if there was none.
    pub oldest_ms: Option<i64>,
    /// Why reading stopped before the end, at the state's `next_offset`.
    pub stopped: Option<Stop>,
}

/// Why an answer was not read to its end.
pub enum Stop {
    /// A batch cannot be read.
    Unreadable(BatchError),
    /// The limit of changed windows is reached: the state has to be settled first.
    Full,
}

/// Which records of an answer are read.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Only those before this offset.
    pub end: i64,
    /// None any more once this many windows have changed: an answer may have a window for each record.
    pub windows: usize,
}

/// Reads all batches, up to the first that cannot be read or to the limits.
pub fn read_into(
    partition: &mut Partition,
    turn: &mut Turn,
    expander: &mut Expander,
    windows: usize,
) -> Read {
    read_until(partition, turn, expander, ReadLimits { end: i64::MAX, windows }, |_, _, _| {})
}

/// Reads what is within the limits. Before each record `look` is told its offset and Kafka's timestamp.
pub fn read_until(
    partition: &mut Partition,
    turn: &mut Turn,
    expander: &mut Expander,
    limits: ReadLimits,
    mut look: impl FnMut(&mut Partition, i64, i64),
) -> Read {
    let (from, aborted) = (turn.from(), turn.take_aborted());
    let mut batches = Batches::new(turn.batches(), from, aborted, MOST_BYTES, expander);
    let mut oldest_ms = None;
    while let Some(batch) = batches.next_batch() {
        let read = batch.and_then(|batch| read_batch(partition, batch, limits, &mut look));
        let stopped = match read {
            Ok(first_ms) => {
                oldest_ms = oldest_ms.or(first_ms);
                (partition.unsettled_windows() >= limits.windows).then_some(Stop::Full)
            }
            Err(error) => Some(Stop::Unreadable(error)),
        };
        if stopped.is_some() {
            return Read { oldest_ms, stopped };
        }
    }
    Read { oldest_ms, stopped: None }
}

/// Reads one batch, or its beginning where that is all there is room for; the timestamp of its first record.
fn read_batch(
    partition: &mut Partition,
    mut batch: FetchedBatch<'_>,
    limits: ReadLimits,
    look: &mut impl FnMut(&mut Partition, i64, i64),
) -> Result<Option<i64>, BatchError> {
    let header = *batch.header();
    let broker_stamps = header.timestamp_type == TimestampType::LogAppendTime;
    let mut first_ms = None;
    while let Some(record) = batch.next_record() {
        let record = record?;
        if record.offset >= limits.end {
            break;
        }
        if partition.unsettled_windows() >= limits.windows {
            return Ok(first_ms);
        }
        look(partition, record.offset, record.timestamp_ms);
        first_ms = first_ms.or(Some(record.timestamp_ms));
        partition.take(Incoming {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            append_time_ms: broker_stamps.then_some(record.timestamp_ms),
            bytes: record.value_bytes,
            value: record.value,
        });
    }
    // Offsets behind the last record hold none: compacted away, a marker, an aborted transaction.
    partition.skip_to(header.next_offset().min(limits.end));
    Ok(first_ms)
}
