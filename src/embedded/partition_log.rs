//! One partition's log: whole batches in offset order, from the log start offset to the end offset.
//!
//! Invariants: the batches' offset ranges rise and do not overlap; each lies below `end_offset`, and ends at
//! `start_offset` or above. There are no replicas, so the high watermark is the end offset. The log does no I/O and has
//! no size limit: [`TopicStore`](super::topic_store::TopicStore) counts the bytes of all logs and decides which one to shorten.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use super::batch;
use super::codes::ErrorCode;
use super::sequence::Sequences;

/// Stands for a leader's epoch that the client does not know.
pub(super) const ANY_EPOCH: i32 = -1;

/// Memory of a stored batch besides its bytes: the entry here, and the header and rounding of the shared allocation.
/// Counted, so that many tiny batches cannot exceed the broker's limit.
pub(super) const ENTRY_BYTES: usize = 128;

/// A batch in the log.
#[derive(Debug)]
struct LogEntry {
    base_offset: i64,
    leader_epoch: i32,
    last_offset: i64,
    max_timestamp_ms: i64,
    /// When it was appended, as a count over all logs of the broker.
    order: u64,
    bytes: Arc<[u8]>,
}

impl LogEntry {
    fn size(&self) -> usize {
        self.bytes.len() + ENTRY_BYTES
    }
}

/// A partition.
#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    entries: VecDeque<LogEntry>,
    start_offset: i64,
    end_offset: i64,
    /// Raised whenever a leader is elected.
    leader_epoch: i32,
    /// What the last batches of idempotent producers were.
    sequences: Sequences,
    /// Fetches that wait for a change of this log.
    waiters: Vec<Weak<Notify>>,
}

/// What a fetch requests from one partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartitionFetch {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// The leader's epoch, as the client knows it.
    pub(super) leader_epoch: i32,
    /// The epoch of the last batch that the client has read.
    pub(super) last_epoch: i32,
    pub(super) max_bytes: usize,
}

/// Batches from one log.
#[derive(Debug, Default)]
pub(super) struct Slice {
    pub(super) batches: Vec<Arc<[u8]>>,
    pub(super) bytes: usize,
    pub(super) high_watermark: i64,
    pub(super) log_start_offset: i64,
    /// The log was cut below what the client has read: an epoch that both know, and where it ends here.
    pub(super) diverged: Option<(i32, i64)>,
}

impl PartitionLog {
    pub(super) fn start_offset(&self) -> i64 {
        self.start_offset
    }

    pub(super) fn end_offset(&self) -> i64 {
        self.end_offset
    }

    pub(super) fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// Elects the leader again.
    pub(super) fn elect(&mut self) {
        self.leader_epoch += 1;
    }

    /// Compares the epoch that a client knows with the leader's.
    pub(super) fn check_epoch(&self, known: i32) -> Result<(), ErrorCode> {
        match known {
            ANY_EPOCH => Ok(()),
            known if known < self.leader_epoch => Err(ErrorCode::FencedLeaderEpoch),
            known if known > self.leader_epoch => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// The base offset of a batch that is here already, if its producer sends it again.
    ///
    /// # Errors
    /// It is not the one that comes next.
    pub(super) fn check_sequence(&self, header: &batch::AppendedHeader) -> Result<Option<i64>, ErrorCode> {
        self.sequences.check(header)
    }

    /// Bytes that the log takes.
    pub(super) fn size(&self) -> usize {
        self.entries.iter().map(LogEntry::size).sum()
    }

    /// Appends a batch; returns the bytes that it takes.
    pub(super) fn append(
        &mut self,
        mut bytes: Arc<[u8]>,
        header: batch::AppendedHeader,
        order: u64,
    ) -> usize {
        let base_offset = self.end_offset;
        // The batch has no other owner yet, so it is changed in place.
        batch::place(Arc::make_mut(&mut bytes), base_offset, self.leader_epoch);
        self.sequences.note(&header, base_offset);
        let last_offset = base_offset.saturating_add(header.last_offset_delta.max(0).into());
        let max_timestamp_ms = header.max_timestamp_ms;
        let leader_epoch = self.leader_epoch;
        let entry = LogEntry { base_offset, leader_epoch, last_offset, max_timestamp_ms, order, bytes };
        let size = entry.size();
        self.end_offset = last_offset.saturating_add(1);
        self.entries.push_back(entry);
        size
    }

    /// The batches from the one with the wanted offset on: as many as fit into `max_bytes`, but at least one if
    /// `at_least_one`.
    pub(super) fn read(
        &self,
        wanted: &PartitionFetch,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Slice, ErrorCode> {
        let offset = wanted.offset;
        self.check_epoch(wanted.leader_epoch)?;
        let mut slice = Slice {
            high_watermark: self.end_offset,
            log_start_offset: self.start_offset,
            diverged: self.diverged(wanted.last_epoch, offset),
            ..Slice::default()
        };
        if slice.diverged.is_some() {
            return Ok(slice);
        }
        if offset < self.start_offset || offset > self.end_offset {
            return Err(ErrorCode::OffsetOutOfRange);
        }
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

    /// Where a client that has read up to `offset`, last in `epoch`, has read what is no longer in the log.
    fn diverged(&self, epoch: i32, offset: i64) -> Option<(i32, i64)> {
        if epoch == ANY_EPOCH {
            return None;
        }
        let count = self.entries.partition_point(|entry| entry.leader_epoch <= epoch);
        let known =
            count.checked_sub(1).and_then(|last| self.entries.get(last)).map(|entry| entry.leader_epoch);
        // An epoch ends where the next one begins.
        let end = self.entries.get(count).map_or(self.end_offset, |next| next.base_offset);
        let behind = known.is_some_and(|known| known < epoch) && epoch != self.leader_epoch;
        (end < offset || behind).then_some((known.unwrap_or(epoch), end))
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

    /// Deletes the oldest batch, as retention does; returns the bytes that were freed.
    pub(super) fn drop_oldest(&mut self) -> usize {
        let Some(entry) = self.entries.pop_front() else { return 0 };
        let next = self.entries.front().map_or(self.end_offset, |entry| entry.base_offset);
        self.start_offset = self.start_offset.max(next);
        entry.size()
    }

    /// Raises the log start offset to `before` and deletes the batches that end below it; returns the bytes that were freed.
    pub(super) fn delete_before(&mut self, before: i64) -> usize {
        self.start_offset = self.start_offset.max(before.min(self.end_offset));
        let count = self.entries.partition_point(|entry| entry.last_offset < self.start_offset);
        self.entries.drain(..count).map(|entry| entry.size()).sum()
    }

    /// Truncates the log to end at `offset`, as a new leader that had no more does; returns the bytes that were freed. If
    /// that is below the start, the log begins there.
    pub(super) fn truncate(&mut self, offset: i64) -> usize {
        let offset = offset.max(0);
        if offset >= self.end_offset {
            return 0;
        }
        let keep = self.entries.partition_point(|entry| entry.last_offset < offset);
        self.end_offset = offset;
        self.start_offset = self.start_offset.min(offset);
        self.sequences.cut(offset);
        self.elect();
        self.entries.drain(keep..).map(|entry| entry.size()).sum()
    }

    /// Registers a waiter, to be notified at the next change.
    pub(super) fn wait(&mut self, waiter: &Arc<Notify>) {
        // Waiters that gave up are removed here, so the list is no longer than the number of fetches under way.
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
    use super::super::batch::{AppendedHeader, RawBatch};
    use super::*;

    /// A log with one batch for each number of offsets.
    fn log(batches: &[i32]) -> PartitionLog {
        let mut log = PartitionLog::default();
        for (order, offsets) in (0..).zip(batches) {
            let bytes = RawBatch::compacted_away(*offsets, i64::from(*offsets)).encode();
            let header = AppendedHeader::read(&bytes).unwrap();
            log.append(Arc::from(bytes), header, order);
        }
        log
    }

    fn at(offset: i64) -> PartitionFetch {
        PartitionFetch { partition: 0, offset, leader_epoch: ANY_EPOCH, last_epoch: ANY_EPOCH, max_bytes: 0 }
    }

    fn base_offsets(slice: &Slice) -> Vec<i64> {
        slice.batches.iter().map(|batch| AppendedHeader::read(batch).unwrap().base_offset).collect()
    }

    #[test]
    fn reads_whole_batches_from_the_one_with_the_offset() {
        let log = log(&[3, 1, 10]);
        assert_eq!((log.start_offset(), log.end_offset()), (0, 14));
        for (offset, found) in
            [(0, vec![0, 3, 4]), (2, vec![0, 3, 4]), (3, vec![3, 4]), (13, vec![4]), (14, vec![])]
        {
            let slice = log.read(&at(offset), usize::MAX, true).unwrap();
            assert_eq!((base_offsets(&slice), slice.high_watermark), (found, 14), "from {offset}");
        }
        for offset in [-1, 15, i64::MAX, i64::MIN] {
            assert_eq!(log.read(&at(offset), 1, true).unwrap_err(), ErrorCode::OffsetOutOfRange);
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
            assert_eq!(log.read(&at(0), max_bytes, forced).unwrap().batches.len(), count, "{max_bytes}");
        }
    }

    #[test]
    fn the_start_moves_by_retention_and_by_deletion() {
        let mut log = log(&[3, 1, 10]);
        let all = log.size();
        let freed = log.drop_oldest();
        assert_eq!((log.start_offset(), log.size()), (3, all - freed));
        assert_eq!(log.read(&at(2), 1, true).unwrap_err(), ErrorCode::OffsetOutOfRange);
        // In the middle of a batch: the whole batch stays.
        assert!(log.delete_before(9) > 0);
        assert_eq!(log.start_offset(), 9);
        assert_eq!(base_offsets(&log.read(&at(9), 1, true).unwrap()), [4]);
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
        assert!(base_offsets(&log.read(&at(4), 1, true).unwrap()).is_empty());
        log.delete_before(3);
        log.truncate(1);
        assert_eq!((log.start_offset(), log.end_offset(), log.size()), (1, 1, 0));
        log.truncate(-5);
        assert_eq!((log.start_offset(), log.end_offset()), (0, 0));
    }

    #[test]
    fn a_client_that_has_read_what_was_cut_is_told_where() {
        let mut log = log(&[3, 1, 10]);
        let known =
            |leader_epoch, last_epoch, offset| PartitionFetch { leader_epoch, last_epoch, ..at(offset) };
        log.truncate(6);
        assert_eq!(log.leader_epoch(), 1);
        assert_eq!(log.read(&known(0, 0, 3), 99, true).unwrap_err(), ErrorCode::FencedLeaderEpoch);
        assert_eq!(log.read(&known(2, 0, 3), 99, true).unwrap_err(), ErrorCode::UnknownLeaderEpoch);
        let bytes = RawBatch::compacted_away(20, 0).encode();
        log.append(Arc::from(bytes.clone()), AppendedHeader::read(&bytes).unwrap(), 9);
        for (last_epoch, offset, diverged) in [
            (0, 3, None),
            (0, 6, None),
            (0, 14, Some((0, 6))),
            (1, 14, None),
            (1, 26, None),
            (ANY_EPOCH, 14, None),
        ] {
            assert_eq!(log.read(&known(1, last_epoch, offset), 99, true).unwrap().diverged, diverged);
        }
    }

    #[test]
    fn waiters_that_gave_up_do_not_pile_up() {
        let mut log = PartitionLog::default();
        for _ in 0..100 {
            log.wait(&Arc::new(Notify::new()));
        }
        assert!(log.waiters.len() <= 1);
    }
}
