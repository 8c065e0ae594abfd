//! One partition's log: whole batches in offset order, from the log start offset to the end offset.
//!
//! Invariants: the batches' offset ranges rise and do not overlap; each lies below `end_offset`, and ends at
//! `start_offset` or above. There are no replicas, so the high watermark is the end offset. The log does no I/O and
//! knows no limit: [`Store`](super::store::Store) counts bytes over all logs and tells which to shorten.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use super::batch;
use super::codes::ErrorCode;

/// What a stored batch takes in memory besides its bytes: the entry here, the shared allocation's head and its
/// rounding. Counted, so that many tiny batches cannot go past the broker's limit.
pub(super) const ENTRY_BYTES: usize = 128;

/// A batch in the log.
#[derive(Debug)]
struct Entry {
    base_offset: i64,
    last_offset: i64,
    max_timestamp_ms: i64,
    /// When it was appended, as a count over all logs of the broker.
    order: u64,
    bytes: Arc<[u8]>,
}

impl Entry {
    fn size(&self) -> usize {
        self.bytes.len() + ENTRY_BYTES
    }
}

/// A partition.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: VecDeque<Entry>,
    start_offset: i64,
    end_offset: i64,
    /// Fetches that wait for a change of this log.
    waiters: Vec<Weak<Notify>>,
}

/// Batches from one log.
#[derive(Debug, Default)]
pub(super) struct Slice {
    pub(super) batches: Vec<Arc<[u8]>>,
    pub(super) bytes: usize,
    pub(super) high_watermark: i64,
}

impl Log {
    pub(super) fn start_offset(&self) -> i64 {
        self.start_offset
    }

    pub(super) fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// Bytes that the log takes.
    pub(super) fn size(&self) -> usize {
        self.entries.iter().map(Entry::size).sum()
    }

    /// Puts a batch at the end; the bytes that it takes.
    pub(super) fn append(&mut self, mut bytes: Arc<[u8]>, header: batch::Header, order: u64) -> usize {
        let base_offset = self.end_offset;
        // Nobody else holds the batch yet, so this changes it in place.
        batch::place(Arc::make_mut(&mut bytes), base_offset);
        let last_offset = base_offset.saturating_add(header.last_offset_delta.max(0).into());
        let max_timestamp_ms = header.max_timestamp_ms;
        let entry = Entry { base_offset, last_offset, max_timestamp_ms, order, bytes };
        let size = entry.size();
        self.end_offset = last_offset.saturating_add(1);
        self.entries.push_back(entry);
        size
    }

    /// The batches from the one with `offset` on: as many as fit into `max_bytes`, but at least one if `at_least_one`.
    pub(super) fn read(&self, offset: i64, max_bytes: usize, at_least_one: bool) -> Result<Slice, ErrorCode> {
        if offset < self.start_offset || offset > self.end_offset {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let mut slice = Slice { high_watermark: self.end_offset, ..Slice::default() };
        let first = self.entries.partition_point(|entry| entry.last_offset < offset);
        for entry in self.entries.range(first..) {
            let forced = at_least_one && slice.batches.is_empty();
            if !forced && slice.bytes + entry.bytes.len() > max_bytes {
                break;
            }
            slice.bytes += entry.bytes.len();
            slice.batches.push(Arc::clone(&entry.bytes));
        }
        Ok(slice)
    }

    /// Offset and timestamp of the first record at `timestamp_ms` or later.
    pub(super) fn first_since(&self, timestamp_ms: i64) -> Option<(i64, i64)> {
        self.entries
            .iter()
            .filter(|entry| entry.max_timestamp_ms >= timestamp_ms)
            .find_map(|entry| batch::first_record_since(&entry.bytes, timestamp_ms, self.start_offset))
    }

    /// When the oldest batch was appended; `None` if there is none.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.order)
    }

    /// Deletes the oldest batch, as retention does; the bytes that are free now.
    pub(super) fn drop_oldest(&mut self) -> usize {
        let Some(entry) = self.entries.pop_front() else { return 0 };
        let next = self.entries.front().map_or(self.end_offset, |entry| entry.base_offset);
        self.start_offset = self.start_offset.max(next);
        entry.size()
    }

    /// Moves the log start offset up to `before` and deletes the batches that end below it; the bytes that are free.
    pub(super) fn delete_before(&mut self, before: i64) -> usize {
        self.start_offset = self.start_offset.max(before.min(self.end_offset));
        let count = self.entries.partition_point(|entry| entry.last_offset < self.start_offset);
        self.entries.drain(..count).map(|entry| entry.size()).sum()
    }

    /// Cuts the log so that it ends at `offset`; the bytes that are free now. Going below the start, it begins there.
    pub(super) fn truncate(&mut self, offset: i64) -> usize {
        let offset = offset.max(0);
        if offset >= self.end_offset {
            return 0;
        }
        let keep = self.entries.partition_point(|entry| entry.last_offset < offset);
        self.end_offset = offset;
        self.start_offset = self.start_offset.min(offset);
        self.entries.drain(keep..).map(|entry| entry.size()).sum()
    }

    /// Has the waiter notified at the next change.
    pub(super) fn wait(&mut self, waiter: &Arc<Notify>) {
        // Those that gave up are cleared away here, so the list is no longer than the number of fetches under way.
        self.waiters.retain(|other| other.strong_count() > 0);
        self.waiters.push(Arc::downgrade(waiter));
    }

    /// The fetches to notify after a change.
    pub(super) fn take_waiters(&mut self) -> Vec<Weak<Notify>> {
        std::mem::take(&mut self.waiters)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::{Header, RawBatch};
    use super::*;

    /// A log with one batch for each number of offsets.
    fn log(batches: &[i32]) -> Log {
        let mut log = Log::default();
        for (order, offsets) in (0..).zip(batches) {
            let bytes = RawBatch::compacted_away(*offsets, i64::from(*offsets)).encode();
            let header = Header::read(&bytes).unwrap();
            log.append(Arc::from(bytes), header, order);
        }
        log
    }

    fn base_offsets(slice: &Slice) -> Vec<i64> {
        slice.batches.iter().map(|batch| Header::read(batch).unwrap().base_offset).collect()
    }

    #[test]
    fn reads_whole_batches_from_the_one_with_the_offset() {
        let log = log(&[3, 1, 10]);
        assert_eq!((log.start_offset(), log.end_offset()), (0, 14));
        for (offset, found) in
            [(0, vec![0, 3, 4]), (2, vec![0, 3, 4]), (3, vec![3, 4]), (13, vec![4]), (14, vec![])]
        {
            let slice = log.read(offset, usize::MAX, true).unwrap();
            assert_eq!((base_offsets(&slice), slice.high_watermark), (found, 14), "from {offset}");
        }
        for offset in [-1, 15, i64::MAX, i64::MIN] {
            assert_eq!(log.read(offset, 1, true).unwrap_err(), ErrorCode::OffsetOutOfRange);
        }
    }

    #[test]
    fn the_limit_cuts_between_batches_but_the_first_may_be_forced() {
        let log = log(&[1, 1, 1]);
        let one = 61;
        for (max_bytes, forced, count) in [
            (0, true, 1),
            (0, false, 0),
            (one - 1, false, 0),
            (one, false, 1),
            (2 * one - 1, true, 1),
            (2 * one, true, 2),
            (usize::MAX, true, 3),
        ] {
            assert_eq!(log.read(0, max_bytes, forced).unwrap().batches.len(), count, "{max_bytes}");
        }
    }

    #[test]
    fn the_start_moves_by_retention_and_by_deletion() {
        let mut log = log(&[3, 1, 10]);
        let all = log.size();
        let freed = log.drop_oldest();
        assert_eq!((log.start_offset(), log.size()), (3, all - freed));
        assert_eq!(log.read(2, 1, true).unwrap_err(), ErrorCode::OffsetOutOfRange);
        // Into a batch: it stays, as do the offsets before.
        assert!(log.delete_before(9) > 0);
        assert_eq!(log.start_offset(), 9);
        assert_eq!(base_offsets(&log.read(9, 1, true).unwrap()), [4]);
        assert_eq!(log.delete_before(5), 0);
        assert_eq!(log.start_offset(), 9);
        log.delete_before(i64::MAX);
        assert_eq!((log.start_offset(), log.end_offset(), log.size()), (14, 14, 0));
        assert_eq!(log.drop_oldest(), 0);
        assert_eq!(log.oldest(), None);
    }

    #[test]
    fn truncation_takes_whole_batches() {
        let mut log = log(&[3, 1, 10]);
        assert_eq!(log.truncate(14), 0);
        assert!(log.truncate(6) > 0);
        assert_eq!(log.end_offset(), 6);
        assert!(base_offsets(&log.read(4, 1, true).unwrap()).is_empty());
        log.delete_before(3);
        log.truncate(1);
        assert_eq!((log.start_offset(), log.end_offset(), log.size()), (1, 1, 0));
        log.truncate(-5);
        assert_eq!((log.start_offset(), log.end_offset()), (0, 0));
    }

    #[test]
    fn waiters_that_gave_up_do_not_pile_up() {
        let mut log = Log::default();
        for _ in 0..100 {
            log.wait(&Arc::new(Notify::new()));
        }
        assert!(log.waiters.len() <= 1);
    }
}
