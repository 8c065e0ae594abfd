//! What became of the records of a run, over all partitions, and when to warn that some are rejected.
//!
//! Counts of a partition live as long as its state; a run's are what was added since the run took the partition. A reason
//! is worth a warning when it is new, and again when it takes a large share of what is read.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::engine::state::{Progress, REASONS};
use crate::engine::window::METRICS;
use crate::reading::{Cause, Metric, Reading, Reason};

/// More than this share of the records between two checks is large.
const LARGE_SHARE: f64 = 0.1;
/// Fewer records than this give no meaningful share.
const ENOUGH_RECORDS: i64 = 100;
/// A longer record is no example.
const MAX_EXAMPLE_BYTES: usize = 2 * 1024;

/// Of each metric, the first reading of a partition that lacks it.
#[derive(Debug, Default)]
pub struct Lacking([OnceLock<Arc<[u8]>>; METRICS]);

impl Lacking {
    /// Keeps the value of a reading that is the first to lack a metric.
    pub(super) fn see(&self, reading: &Reading, value: &[u8]) {
        for (example, cause) in self.0.iter().zip(reading.left_out) {
            if cause.is_some() && example.get().is_none() && value.len() <= MAX_EXAMPLE_BYTES {
                // Nobody else sets it.
                let _ = example.set(Arc::from(value));
            }
        }
    }

    /// The value of the reading.
    pub fn of(&self, metric: Metric) -> Option<&[u8]> {
        self.0[metric.index()].get().map(|value| &**value)
    }
}

/// Numbers of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IntakeCounts {
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
    /// Of the readings in windows, those whose metric does not count: by metric, then by cause.
    pub left_out: [[i64; Cause::ALL.len()]; METRICS],
}

impl IntakeCounts {
    fn of(progress: &Progress) -> Self {
        Self {
            records: progress.accounted(),
            aggregated: progress.aggregated,
            duplicates: progress.duplicates,
            lost: progress.lost,
            rejected: progress.rejected,
            refused_in_lists: progress.refused_in_lists,
            left_out: progress.left_out,
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
            left_out: std::array::from_fn(|metric| {
                std::array::from_fn(|cause| {
                    self.left_out[metric][cause] + sign * other.left_out[metric][cause]
                })
            }),
        }
    }

    /// Rejected records, all reasons together.
    pub fn rejected(&self) -> i64 {
        self.rejected.iter().sum()
    }
}

/// Something to warn about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Alarm {
    /// Records are rejected.
    Rejected {
        /// Why.
        reason: Reason,
        /// How many in this run.
        count: i64,
        /// Their share of the records since the previous check, or of the run where these are few; from 0 to 1.
        share: f64,
    },
    /// No reading has this metric.
    Missing {
        /// Which.
        metric: Metric,
        /// How many records of the run are in windows.
        count: i64,
    },
}

/// The counts of a run, and which of them were reported.
#[derive(Debug, Default)]
pub struct Intake {
    /// By partition and epoch: the counts when it was taken, and now.
    held: BTreeMap<(i32, i64), (IntakeCounts, IntakeCounts)>,
    /// Of partitions that are no longer owned.
    gone: IntakeCounts,
    last: IntakeCounts,
    told_new: [bool; REASONS],
    told_large: [bool; REASONS],
    told_missing: [bool; METRICS],
}

impl Intake {
    /// The partitions that are held, by partition and epoch, as they were taken and as they are now.
    pub fn look(&mut self, partitions: impl IntoIterator<Item = ((i32, i64), Progress, Progress)>) {
        let mut before = std::mem::take(&mut self.held);
        for (key, began, now) in partitions {
            before.remove(&key);
            self.held.insert(key, (IntakeCounts::of(&began), IntakeCounts::of(&now)));
        }
        for (began, last) in before.into_values() {
            self.gone = self.gone.plus(last, 1).plus(began, -1);
        }
    }

    /// The counts of the run.
    pub fn counts(&self) -> IntakeCounts {
        self.held.values().fold(self.gone, |sum, (began, now)| sum.plus(*now, 1).plus(*began, -1))
    }

    /// What is to be reported now, at the end of the run also what few records show; nothing is reported twice.
    pub fn alarms(&mut self, is_end: bool) -> Vec<Alarm> {
        let counts = self.counts();
        let new = counts.plus(std::mem::replace(&mut self.last, counts), -1);
        let mut alarms = Vec::new();
        for reason in Reason::ALL {
            let i = reason.index();
            let is_enough = new.records >= ENOUGH_RECORDS;
            let of = if is_enough { &new } else { &counts };
            let share = of.rejected[i] as f64 / of.records.max(1) as f64;
            let is_large = is_enough && share > LARGE_SHARE;
            let is_news = new.rejected[i] > 0 && !self.told_new[i];
            if is_news || (is_large && !self.told_large[i]) {
                alarms.push(Alarm::Rejected { reason, count: counts.rejected[i], share });
            }
            self.told_new[i] |= is_news;
            self.told_large[i] |= is_large;
        }
        let count = counts.aggregated;
        let enough = if is_end { 1 } else { ENOUGH_RECORDS };
        for metric in Metric::ALL {
            // Some readings of a list may have it: the windows are checked before it is reported.
            let never_came = counts.left_out[metric.index()].iter().sum::<i64>() >= count;
            if count >= enough && never_came && !self.told_missing[metric.index()] {
                self.told_missing[metric.index()] = true;
                alarms.push(Alarm::Missing { metric, count });
            }
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
        // Handed over, and claimed again under another epoch after others had continued reading.
        intake.look([second(4)]);
        intake.look([((0, 3), progress(207, 6), progress(208, 7)), second(4)]);
        assert_eq!((intake.counts().aggregated, intake.counts().rejected()), (12, 2));
    }

    #[test]
    fn a_reason_is_told_when_it_is_new_and_when_it_is_large() {
        let mut intake = Intake::default();
        let mut at = |aggregated, malformed| {
            intake.look([((0, 1), progress(0, 0), progress(aggregated, malformed))]);
            intake.alarms(false)
        };
        assert_eq!(at(1_000, 0), []);
        assert_eq!(at(1_990, 10), [Alarm::Rejected { reason: Reason::Malformed, count: 10, share: 0.01 }]);
        assert_eq!(at(2_980, 20), [], "nothing new");
        assert_eq!(at(3_480, 520), [Alarm::Rejected { reason: Reason::Malformed, count: 520, share: 0.5 }]);
        assert_eq!(at(3_980, 1_020), [], "and no more");
        let mut quiet = Intake::default();
        quiet.look([((0, 1), progress(0, 0), progress(99, 0))]);
        assert_eq!(quiet.alarms(false), []);
        quiet.look([((0, 1), progress(0, 0), progress(99, 1))]);
        let alarm = Alarm::Rejected { reason: Reason::Malformed, count: 1, share: 0.01 };
        assert_eq!(quiet.alarms(false), [alarm], "one record is no share");
    }

    #[test]
    fn a_metric_that_never_comes_is_reported_once() {
        let at = |aggregated, without_wind: i64| {
            let mut progress = progress(aggregated, 0);
            progress.left_out[Metric::WindSpeed.index()] = [without_wind - 1, 1, 0, 0];
            ((0, 1), Progress::starting_at(0), progress)
        };
        let mut intake = Intake::default();
        intake.look([at(99, 99)]);
        assert_eq!(intake.alarms(false), []);
        intake.look([at(100, 100)]);
        assert_eq!(intake.alarms(false), [Alarm::Missing { metric: Metric::WindSpeed, count: 100 }]);
        intake.look([at(200, 200)]);
        assert_eq!(intake.alarms(true), []);
        let mut intake = Intake::default();
        intake.look([at(200, 199)]);
        assert_eq!(intake.alarms(true), []);
        let mut intake = Intake::default();
        intake.look([at(2, 2)]);
        assert_eq!(intake.alarms(true), [Alarm::Missing { metric: Metric::WindSpeed, count: 2 }]);
    }

    #[test]
    fn the_first_reading_without_a_metric_is_kept() {
        let lacking = Lacking::default();
        let reading = |left_out| Reading { event_time_ms: 0, metrics: [None; 3], left_out };
        let absent = Some(Cause::Absent);
        lacking.see(&reading([None, absent, None]), b"one");
        lacking.see(&reading([None, absent, absent]), b"two");
        lacking.see(&reading([absent; 3]), &[b'x'; MAX_EXAMPLE_BYTES + 1]);
        let found = Metric::ALL.map(|metric| lacking.of(metric));
        assert_eq!(found, [None, Some(&b"one"[..]), Some(&b"two"[..])]);
    }
}
