//! Readings a second, in and out, over the last seconds.
//!
//! There is no timer: a sample is taken at each round of the flusher, and on request. A partition counts
//! from its first sample, so that taking one over with its history is not a leap.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shortest time between two samples that are kept.
const STEP: Duration = Duration::from_secs(1);
/// Over less than this, in seconds, there is no rate.
const LEAST: f64 = 0.1;
/// A rate is over about this long.
const SPAN: Duration = Duration::from_secs(10);

/// How far a partition is: records read, and records in the table.
pub type ReadAndWritten = (i64, i64);
/// Each partition under its epoch.
pub type Look = BTreeMap<(i32, i64), ReadAndWritten>;

/// Readings a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PerSecond {
    /// Read from Kafka.
    pub read: f64,
    /// Written to PostgreSQL.
    pub written: f64,
}

/// The last samples, oldest first.
#[derive(Debug, Default)]
pub struct Rates(Mutex<VecDeque<(Instant, Look)>>);

impl Rates {
    /// Keeps a sample if the last one is old enough; `look` is called only then.
    pub fn note(&self, now: Instant, look: impl FnOnce() -> Look) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.back().is_some_and(|(at, _)| now.saturating_duration_since(*at) < STEP) {
            return;
        }
        // One that is older than the span stays until the next one is, too.
        while looks.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= SPAN) {
            looks.pop_front();
        }
        looks.push_back((now, look()));
    }

    /// The rates up to now.
    pub fn per_second(&self, now: Instant, look: &Look) -> PerSecond {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rates = PerSecond::default();
        for (partition, counts) in look {
            let seen = || looks.iter().filter_map(|(at, then)| Some((*at, then.get(partition)?)));
            // After a long silence, since the last sample: nothing has happened between, or there would have been another.
            let recent = seen().find(|(at, _)| now.saturating_duration_since(*at) <= SPAN + STEP);
            let Some((at, before)) = recent.or(seen().next_back()) else { continue };
            let seconds = now.saturating_duration_since(at).as_secs_f64();
            if seconds >= LEAST {
                rates.read += (counts.0 - before.0).max(0) as f64 / seconds;
                rates.written += (counts.1 - before.1).max(0) as f64 / seconds;
            }
        }
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_over_the_last_seconds() {
        let (rates, start) = (Rates::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let look = |n: i64| Look::from([((0, 1), (1_000 * n, 900 * n))]);
        assert_eq!(rates.per_second(at(0), &look(0)), PerSecond::default());
        for n in 0..100 {
            // Slow at first, then a thousand a second.
            rates.note(at(n), || look((n as i64 - 50).max(0)));
        }
        assert_eq!(rates.per_second(at(99), &look(49)), PerSecond { read: 1000.0, written: 900.0 });
        assert!(rates.0.lock().unwrap().len() <= 12);
        let later = rates.per_second(at(199), &look(49));
        assert_eq!(later, PerSecond::default(), "nothing since the last look");
    }

    #[test]
    fn a_partition_that_came_with_its_history_is_no_leap() {
        let (rates, start) = (Rates::default(), Instant::now());
        rates.note(start, || Look::from([((0, 1), (10, 10))]));
        let look = Look::from([((0, 1), (20, 10)), ((1, 4), (5_000_000, 5_000_000))]);
        let rate = rates.per_second(start + Duration::from_secs(2), &look);
        assert_eq!(rate, PerSecond { read: 5.0, written: 0.0 });
    }
}
