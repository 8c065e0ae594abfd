//! A partition's state: everything that has to be stored, always whole and at one offset.
//!
//! The same value is published to readers in the process, written to the checkpoint file and written to PostgreSQL.
//! Invariant, per partition and log incarnation: every offset from `origin_offset` up to `next_offset` was exactly one
//! of aggregated, duplicate, rejected (by reason), skipped (no record there) or lost (Kafka no longer had it):
//! [`Progress::accounts_for_every_offset`].

use crate::engine::watermark;
use crate::engine::window::Window;
use crate::reading::{Cause, Metric, Reason};

/// How many reasons a record can be rejected for.
pub const REASONS: usize = Reason::ALL.len();
/// How many words [`Progress`] has.
pub const WORDS: usize = FIRST_WORDS + LEFT_OUT + 1;
/// How many of them the first format of checkpoints had; the others count from 0 then.
pub const FIRST_WORDS: usize = NUMBERS + REASONS;
/// How many ways there are for a metric of a reading not to count.
pub const LEFT_OUT: usize = Metric::ALL.len() * CAUSES;
const CAUSES: usize = Cause::ALL.len();
const NUMBERS: usize = 13;

/// The numbers of a partition's state. Offsets are Kafka's, times are ms since 1970, the rest are counts of offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Which log this is: raised when the topic was recreated or truncated and reading started over.
    pub incarnation: i64,
    /// Where counting began in this log; below 0 if counts of an earlier log are included.
    pub origin_offset: i64,
    /// The offset to read next.
    pub next_offset: i64,
    /// `incarnation` of the last state that PostgreSQL confirmed.
    pub flushed_incarnation: i64,
    /// `next_offset` of the last state that PostgreSQL confirmed.
    pub flushed_offset: i64,
    /// Greatest event time, [`watermark::NONE`] before the first reading.
    pub max_event_time_ms: i64,
    /// Windows that end here or before are closed.
    pub watermark_ms: i64,
    /// 1 while the partition is caught up and silent, and holds no window back.
    pub idle: i64,
    /// Records that are in windows.
    pub aggregated: i64,
    /// Records that a retry had sent before, as a version without idempotent producers recognized them by headers.
    pub duplicates: i64,
    /// Offsets without a record: compacted away, transaction markers.
    pub skipped: i64,
    /// Offsets that Kafka had deleted before they were read.
    pub lost: i64,
    /// Rejected records that are counted but not kept, because there were too many at once.
    pub sampled_out: i64,
    /// Rejected records by reason, in the order of [`Reason::ALL`].
    pub rejected: [i64; REASONS],
    /// Of the readings in windows, those whose metric does not count: by metric, then by cause. With the metric's own
    /// counts they make up the readings, which are as many as `aggregated` unless records are lists.
    pub left_out: [[i64; CAUSES]; 3],
    /// Readings that do not count, of lists that are aggregated.
    pub refused_in_lists: i64,
}

impl Progress {
    /// Nothing read yet, reading starts at `offset`.
    pub fn starting_at(offset: i64) -> Self {
        Self {
            incarnation: 0,
            origin_offset: offset,
            next_offset: offset,
            flushed_incarnation: 0,
            flushed_offset: offset,
            max_event_time_ms: watermark::NONE,
            watermark_ms: watermark::NONE,
            idle: 0,
            aggregated: 0,
            duplicates: 0,
            skipped: 0,
            lost: 0,
            sampled_out: 0,
            rejected: [0; REASONS],
            left_out: [[0; CAUSES]; 3],
            refused_in_lists: 0,
        }
    }

    /// The reading position: comparable across incarnations.
    pub fn position(&self) -> Position {
        Position { incarnation: self.incarnation, offset: self.next_offset }
    }

    /// The position of the last state that PostgreSQL confirmed.
    pub fn flushed(&self) -> Position {
        Position { incarnation: self.flushed_incarnation, offset: self.flushed_offset }
    }

    /// The sum over everything that can become of an offset.
    pub fn accounted(&self) -> i64 {
        self.aggregated + self.duplicates + self.skipped + self.lost + self.rejected.iter().sum::<i64>()
    }

    /// The invariant of this file.
    pub fn accounts_for_every_offset(&self) -> bool {
        self.next_offset - self.origin_offset == self.accounted()
    }

    /// As an array, in the order of the fields.
    pub fn to_words(self) -> [i64; WORDS] {
        let mut words = [0; WORDS];
        words[..NUMBERS].copy_from_slice(&[
            self.incarnation,
            self.origin_offset,
            self.next_offset,
            self.flushed_incarnation,
            self.flushed_offset,
            self.max_event_time_ms,
            self.watermark_ms,
            self.idle,
            self.aggregated,
            self.duplicates,
            self.skipped,
            self.lost,
            self.sampled_out,
        ]);
        words[NUMBERS..FIRST_WORDS].copy_from_slice(&self.rejected);
        words[FIRST_WORDS..FIRST_WORDS + LEFT_OUT].copy_from_slice(self.left_out.as_flattened());
        words[FIRST_WORDS + LEFT_OUT] = self.refused_in_lists;
        words
    }

    /// From an array, in the order of the fields.
    pub fn from_words(words: &[i64; WORDS]) -> Self {
        let mut rejected = [0; REASONS];
        rejected.copy_from_slice(&words[NUMBERS..FIRST_WORDS]);
        let mut left_out = [[0; CAUSES]; 3];
        left_out.as_flattened_mut().copy_from_slice(&words[FIRST_WORDS..FIRST_WORDS + LEFT_OUT]);
        Self {
            incarnation: words[0],
            origin_offset: words[1],
            next_offset: words[2],
            flushed_incarnation: words[3],
            flushed_offset: words[4],
            max_event_time_ms: words[5],
            watermark_ms: words[6],
            idle: words[7],
            aggregated: words[8],
            duplicates: words[9],
            skipped: words[10],
            lost: words[11],
            sampled_out: words[12],
            rejected,
            left_out,
            refused_in_lists: words[FIRST_WORDS + LEFT_OUT],
        }
    }
}

/// A place in a partition's log, or in the log that replaced it: ordered by incarnation, then offset.
///
/// One rule says whether what an owner has and what PostgreSQL has belong together: **known ≤ PostgreSQL's ≤ own**. `known`
/// is what PostgreSQL has confirmed to the owner; if PostgreSQL is behind that, it was set back to an older state, and if it
/// is ahead of the owner's own position, it has what the owner never had. It is applied in SQL when a flush is written
/// (`ADVANCE` in `src/postgres/advance.rs`), to explain a flush that was refused
/// ([`PartitionFlush::refusal`](crate::engine::flush_plan::PartitionFlush::refusal)), and to a checkpoint file at the start
/// ([`recovery::choose`](crate::engine::recovery::choose)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Which log.
    pub incarnation: i64,
    /// The offset to read next in it.
    pub offset: i64,
}

impl Position {
    /// Whether a bounded run that ends at offset `end` is done here, by the table; `begun` is what the table had when
    /// the run began. The offset is one of the log that the run found, or of the one that replaced it.
    pub fn is_past(self, end: i64, begun: Option<Self>) -> bool {
        let other_log = begun.is_some_and(|begun| begun.offset > end);
        self.offset >= end && (!other_log || begun.is_some_and(|begun| self.incarnation > begun.incarnation))
    }
}

/// Which log was read: another one may replace it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogIdentity {
    /// The topic's id; all zero where the broker gives none.
    pub topic_id: [u8; 16],
    /// The epoch of the leader that took the last batch that was read, -1 if unknown: of a log that was truncated and
    /// written again, the broker determines by it where it diverges from the one that was read.
    pub leader_epoch: i32,
}

impl LogIdentity {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { topic_id: [0; 16], leader_epoch: -1 };
}

/// Everything that has to be stored of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// Offsets, times and counts.
    pub progress: Progress,
    /// Windows that are open, or closed but not yet confirmed by PostgreSQL; ascending by start.
    pub windows: Vec<Window>,
    /// The log that the offsets are of.
    pub log: LogIdentity,
}

impl PartitionState {
    /// Nothing read yet, reading starts at `offset`.
    pub fn starting_at(offset: i64) -> Self {
        Self { progress: Progress::starting_at(offset), windows: Vec::new(), log: LogIdentity::UNKNOWN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_every_field() {
        let words: [i64; WORDS] = std::array::from_fn(|i| 1 + i as i64);
        assert_eq!(Progress::from_words(&words).to_words(), words);
    }

    #[test]
    fn every_offset_is_accounted_for() {
        let mut p = Progress::starting_at(40);
        assert!(p.accounts_for_every_offset());
        p.next_offset = 50;
        assert!(!p.accounts_for_every_offset());
        p.aggregated = 4;
        p.lost = 3;
        p.rejected[2] = 3;
        assert!(p.accounts_for_every_offset());
    }
}
