//! What became of the records of a run, over all partitions, and when to warn that some are rejected.
//!
//! Counts of a partition live as long as its state; a run's are what was added since the run took the partition. A reason
//! is worth a warning when it is new, and again when it takes a large share of what is read.

use std::collections::BTreeMap;

use crate::engine::state::{Progress, REASONS};
use crate::reading::Reason;

/// More than this share of the records between two looks is large.
const LARGE_SHARE: f64 = 0.1;
/// Fewer records than these show no share.
const ENOUGH_RECORDS: i64 = 100;

/// Numbers of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Offsets that are accounted for, those without a record included.
    pub records: i64,
    /// Records that are in windows.
    pub aggregated: i64,
    /// Records that a producer's retry had already sent.
    pub duplicates: i64,
    /// Records that Kafka no longer had.
    pub lost: i64,
    /// Rejected records, in the order of [`Reason::ALL`].
    pub rejected: [i64; REASONS],
    /// Readings that do not count, of lists that are aggregated.
    pub refused_in_lists: i64,
}

impl Counts {
    fn of(progress: &Progress) -> Self {
        Self {
            records: progress.accounted(),
            aggregated: progress.aggregated,
            duplicates: progress.duplicates,
            lost: progress.lost,
            rejected: progress.rejected,
            refused_in_lists: progress.refused_in_lists,
        }
    }

    fn plus(self, other: Self, sign: i64) -> Self {
        Self {
            records: self.records + sign * other.records,
            aggregated: self.aggregated + sign * other.aggregated,
            duplicates: self.duplicates + sign * other.duplicates,
            lost: self.lost + sign * other.lost,
            rejected: std::array::from_fn(|i| self.rejected[i] + sign * other.rejected[i]),
            refused_in_lists: self.refused_in_lists + sign * other.refused_in_lists,
        }
    }

    /// Rejected records, all reasons together.
    pub fn rejected(&self) -> i64 {
        self.rejected.iter().sum()
    }
}

/// A reason to warn about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alarm {
    /// Why records are rejected.
    pub reason: Reason,
    /// How many of the run.
    pub count: i64,
    /// Their share of the records since the look before, from 0 to 1.
    pub share: f64,
}

/// The counts of a run, and which of them were reported.
#[derive(Debug, Default)]
pub struct Intake {
    /// By partition and epoch: the counts when it was taken, and now.
    held: BTreeMap<(i32, i64), (Counts, Counts)>,
    /// Of partitions that are no longer held.
    gone: Counts,
    last: Counts,
    told_new: [bool; REASONS],
    told_large: [bool; REASONS],
}

impl Intake {
    /// The partitions that are held, by partition and epoch, as they were taken and as they are now.
    pub fn look(&mut self, partitions: impl IntoIterator<Item = ((i32, i64), Progress, Progress)>) {
        let mut before = std::mem::take(&mut self.held);
        for (key, began, now) in partitions {
            before.remove(&key);
            self.held.insert(key, (Counts::of(&began), Counts::of(&now)));
        }
        for (began, last) in before.into_values() {
            self.gone = self.gone.plus(last, 1).plus(began, -1);
        }
    }

    /// The counts of the run.
    pub fn counts(&self) -> Counts {
        self.held.values().fold(self.gone, |sum, (began, now)| sum.plus(*now, 1).plus(*began, -1))
    }

    /// What is to be reported now; nothing is reported twice.
    pub fn alarms(&mut self) -> Vec<Alarm> {
        let counts = self.counts();
        let new = counts.plus(std::mem::replace(&mut self.last, counts), -1);
        let mut alarms = Vec::new();
        for reason in Reason::ALL {
            let i = reason.index();
            let share = new.rejected[i] as f64 / new.records.max(1) as f64;
            let is_large = new.records >= ENOUGH_RECORDS && share > LARGE_SHARE;
            let is_news = new.rejected[i] > 0 && !self.told_new[i];
            if is_news || (is_large && !self.told_large[i]) {
                alarms.push(Alarm { reason, count: counts.rejected[i], share });
            }
            self.told_new[i] |= is_news;
            self.told_large[i] |= is_large;
        }
        alarms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(aggregated: i64, malformed: i64) -> Progress {
        let mut progress = Progress::starting_at(0);
        progress.next_offset = aggregated + malformed;
        progress.aggregated = aggregated;
        progress.rejected[Reason::Malformed.index()] = malformed;
        progress
    }

    #[test]
    fn a_run_counts_what_came_since_it_took_the_partition() {
        let mut intake = Intake::default();
        let first = ((0, 1), progress(100, 5), progress(107, 6));
        let second = |now| ((1, 1), progress(0, 0), progress(now, 0));
        intake.look([first, second(3)]);
        assert_eq!((intake.counts().records, intake.counts().rejected()), (11, 1));
        // Handed over, and taken again under another epoch after others had read on.
        intake.look([second(4)]);
        intake.look([((0, 3), progress(207, 6), progress(208, 7)), second(4)]);
        assert_eq!((intake.counts().aggregated, intake.counts().rejected()), (12, 2));
    }

    #[test]
    fn a_reason_is_told_when_it_is_new_and_when_it_is_large() {
        let mut intake = Intake::default();
        let mut at = |aggregated, malformed| {
            intake.look([((0, 1), progress(0, 0), progress(aggregated, malformed))]);
            intake.alarms()
        };
        assert_eq!(at(1_000, 0), []);
        assert_eq!(at(1_990, 10), [Alarm { reason: Reason::Malformed, count: 10, share: 0.01 }]);
        assert_eq!(at(2_980, 20), [], "nothing new");
        assert_eq!(at(3_480, 520), [Alarm { reason: Reason::Malformed, count: 520, share: 0.5 }]);
        assert_eq!(at(3_980, 1_020), [], "and no more");
    }
}
