//! What one station has added to a window: small, as there are many of them.

use crate::engine::window::{METRICS, Totals};
use crate::reading::{Reading, SCALE};

/// No metric is further from zero in any unit that it is kept in.
const FURTHEST: i64 = 1_000 * SCALE;
const _: () = assert!(FURTHEST < i32::MAX as i64);

/// Exact totals of one station in one window of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StationTotals {
    /// Readings of the station.
    pub readings: i64,
    /// Readings that had the metric, in the order of `reading::Metric`.
    pub counts: [i64; METRICS],
    /// Sums of the metric in 1e-6 units.
    pub sums: [i64; METRICS],
    minima: [i32; METRICS],
    maxima: [i32; METRICS],
}

impl Default for StationTotals {
    fn default() -> Self {
        Self {
            readings: 0,
            counts: [0; METRICS],
            sums: [0; METRICS],
            minima: [i32::MAX; METRICS],
            maxima: [i32::MIN; METRICS],
        }
    }
}

impl StationTotals {
    /// As a table has them; `None` where an extreme is not known, or no reading had the metric.
    pub fn of(
        readings: i64,
        counts: [i64; METRICS],
        sums: [i64; METRICS],
        least: [Option<i64>; METRICS],
        greatest: [Option<i64>; METRICS],
    ) -> Self {
        let mut totals = Self { readings, counts, sums, ..Self::default() };
        for i in 0..METRICS {
            if counts[i] != 0 {
                totals.minima[i] = least[i].map_or(i32::MIN, narrow);
                totals.maxima[i] = greatest[i].map_or(i32::MAX, narrow);
            }
        }
        totals
    }

    /// Adds one reading.
    #[inline]
    pub(super) fn add(&mut self, reading: &Reading) {
        self.readings += 1;
        for i in 0..METRICS {
            let metric = reading.metrics[i];
            self.counts[i] += i64::from(metric.is_some());
            self.sums[i] += metric.unwrap_or(0);
            self.minima[i] = self.minima[i].min(metric.map_or(i32::MAX, narrow));
            self.maxima[i] = self.maxima[i].max(metric.map_or(i32::MIN, narrow));
        }
    }

    /// Adds the counts and sums of readings, of whose extremes nothing is known.
    pub(super) fn add_unknown(&mut self, other: &Self) {
        self.sum(other);
        // The ends of the range stay, whatever is added.
        (self.minima, self.maxima) = ([i32::MIN; METRICS], [i32::MAX; METRICS]);
    }

    /// What these lack of others in counts and sums; below 0 where they have more.
    pub fn missing_to(&self, others: &Self) -> Self {
        Self {
            readings: others.readings - self.readings,
            counts: std::array::from_fn(|i| others.counts[i] - self.counts[i]),
            sums: std::array::from_fn(|i| others.sums[i] - self.sums[i]),
            ..Self::default()
        }
    }

    /// Whether nothing is counted.
    pub fn is_nothing(&self) -> bool {
        self.readings == 0 && self.counts == [0; METRICS] && self.sums == [0; METRICS]
    }

    /// Adds counts and sums.
    pub fn sum(&mut self, other: &Self) {
        self.readings += other.readings;
        for i in 0..METRICS {
            self.counts[i] += other.counts[i];
            self.sums[i] += other.sums[i];
        }
    }

    /// The least value in 1e-6 units, if it is known and any reading had the metric.
    pub fn least(&self, metric: usize) -> Option<i64> {
        (self.counts[metric] != 0 && self.minima[metric] != i32::MIN).then(|| i64::from(self.minima[metric]))
    }

    /// The greatest value in 1e-6 units, if it is known and any reading had the metric.
    pub fn greatest(&self, metric: usize) -> Option<i64> {
        (self.counts[metric] != 0 && self.maxima[metric] != i32::MAX).then(|| i64::from(self.maxima[metric]))
    }
}

impl From<&Totals> for StationTotals {
    fn from(window: &Totals) -> Self {
        let least = std::array::from_fn(|i| window.least(i));
        let greatest = std::array::from_fn(|i| window.greatest(i));
        Self::of(window.readings, window.counts, window.sums, least, greatest)
    }
}

/// A metric is within [`FURTHEST`]; what a table has was one.
fn narrow(metric: i64) -> i32 {
    metric.clamp(-FURTHEST, FURTHEST) as i32
}
