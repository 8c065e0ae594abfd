//! How long something takes, for people (percentiles of the last minutes) and for Prometheus (buckets since the start).
//!
//! One task records, at most a few times a second; readers lock it for as long as a copy takes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Upper bounds of the buckets, in µs, ascending: 1 ms to 5 min.
const BOUNDS_US: [u64; 17] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    200_000,
    300_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
];
/// Percentiles are over the last one to two of these.
const PERIOD: Duration = Duration::from_secs(300);
/// What takes longer counts as this in the percentiles: an hour.
const LONGEST_US: u64 = 3_600_000_000;

/// Durations of one kind.
#[derive(Debug)]
pub struct Latency(Mutex<Recorded>);

#[derive(Debug)]
struct Recorded {
    buckets: Buckets,
    /// This period's, and those of the one before.
    periods: [Histogram<u32>; 2],
    began: Instant,
}

/// What Prometheus calls a histogram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Buckets {
    /// How many within each bound and above the one before; the last: above all.
    counts: [u64; BOUNDS_US.len() + 1],
    sum_us: u64,
}

/// The shape of the last minutes, in seconds; zeros if there was nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Percentiles {
    /// How many were recorded.
    pub count: u64,
    /// The median.
    pub p50: f64,
    /// Nine tenths are at most this.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Default for Latency {
    fn default() -> Self {
        // Two digits: within 1 %, 13 kB each. It takes these constants, as every test here proves.
        let empty = || Histogram::new_with_bounds(1, LONGEST_US, 2).expect("bounds of a histogram");
        let periods = [empty(), empty()];
        Self(Mutex::new(Recorded { buckets: Buckets::default(), periods, began: Instant::now() }))
    }
}

impl Latency {
    /// Takes note of one.
    pub fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut recorded = self.recorded();
        recorded.buckets.add(us, 1);
        recorded.turn(Instant::now());
        recorded.periods[0].saturating_record(us);
    }

    /// All since the start.
    pub fn buckets(&self) -> Buckets {
        self.recorded().buckets
    }

    /// The last minutes.
    pub fn percentiles(&self) -> Percentiles {
        let mut recorded = self.recorded();
        recorded.turn(Instant::now());
        let mut all = recorded.periods[0].clone();
        // Both have the same bounds.
        let _ = all.add(&recorded.periods[1]);
        Percentiles::of(&all)
    }

    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorded {
    /// Forgets what is too long ago.
    fn turn(&mut self, now: Instant) {
        let periods = now.saturating_duration_since(self.began).as_secs() / PERIOD.as_secs();
        if periods == 0 {
            return;
        }
        self.periods.swap(0, 1);
        self.periods[0].reset();
        if periods > 1 {
            self.periods[1].reset();
        }
        self.began = now;
    }
}

impl Buckets {
    /// Of a histogram in µs; each value counts as the greatest in its bucket.
    pub fn of(histogram_us: &Histogram<u64>) -> Self {
        let mut buckets = Self::default();
        for step in histogram_us.iter_recorded() {
            buckets.add(step.value_iterated_to(), step.count_since_last_iteration());
        }
        buckets
    }

    fn add(&mut self, us: u64, count: u64) {
        self.counts[BOUNDS_US.partition_point(|bound| *bound < us)] += count;
        self.sum_us = self.sum_us.saturating_add(us.saturating_mul(count));
    }

    /// Each bound in seconds, and how many are within it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut within = 0;
        BOUNDS_US.iter().zip(self.counts).map(move |(bound, count)| {
            within += count;
            (*bound as f64 / 1e6, within)
        })
    }

    /// How many in all.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All together, in seconds.
    pub fn sum(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }
}

impl Percentiles {
    /// Of a histogram in µs.
    pub fn of<T: hdrhistogram::Counter>(histogram_us: &Histogram<T>) -> Self {
        let at = |quantile| histogram_us.value_at_quantile(quantile) as f64 / 1e6;
        Self {
            count: histogram_us.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram_us.max() as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_their_bounds_included() {
        let latency = Latency::default();
        for ms in [1, 2, 5, 250, 400_000] {
            latency.record(Duration::from_millis(ms));
        }
        let buckets = latency.buckets();
        let within = |bound: f64| buckets.cumulative().find(|(b, _)| *b == bound).unwrap().1;
        assert_eq!(
            [within(0.001), within(0.0025), within(0.005), within(0.3), within(300.0)],
            [1, 2, 3, 4, 4]
        );
        assert_eq!((buckets.count(), buckets.sum()), (5, 400.258));
        let percentiles = latency.percentiles();
        assert_eq!(percentiles.count, 5);
        assert!((percentiles.p50 - 0.005).abs() < 1e-4 && percentiles.max >= 400.0, "{percentiles:?}");
    }

    #[test]
    fn percentiles_forget_and_buckets_do_not() {
        let latency = Latency::default();
        latency.record(Duration::from_secs(1));
        let later = |periods| Instant::now() + PERIOD * periods;
        latency.recorded().turn(later(1));
        assert_eq!(latency.percentiles().count, 1);
        latency.recorded().turn(later(3));
        assert_eq!(latency.percentiles(), Percentiles::default());
        assert_eq!(latency.buckets().count(), 1);
    }

    #[test]
    fn a_histogram_becomes_buckets() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        histogram.record_n(1_500, 4).unwrap();
        let buckets = Buckets::of(&histogram);
        assert_eq!(buckets.count(), 4);
        assert_eq!(buckets.cumulative().map(|(_, n)| n).take(2).collect::<Vec<_>>(), [0, 4]);
    }
}
