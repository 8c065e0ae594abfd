//! Time as this program means it: milliseconds since 1970-01-01T00:00:00Z in an `i64`, shown in UTC.
//!
//! The only place outside the embedded broker and the tests that reads the wall clock. What runs on it takes the value
//! as an argument, so that the core stays a function of its input.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rskafka::chrono::{DateTime, Utc};

/// The wall clock, ms since 1970. A clock before 1970 reads as 0.
pub fn now_ms() -> i64 {
    milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A duration in whole milliseconds; one that is too long is the longest.
pub fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970 as PostgreSQL's client wants a `TIMESTAMP`.
pub fn timestamp(ms: i64) -> SystemTime {
    let distance = Duration::from_millis(ms.unsigned_abs());
    let time = if ms >= 0 { UNIX_EPOCH.checked_add(distance) } else { UNIX_EPOCH.checked_sub(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

/// A `TIMESTAMP` as milliseconds since 1970.
pub fn from_timestamp(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => milliseconds(after),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// What future times are judged by: the later of this machine's wall clock and PostgreSQL's. So neither being behind makes
/// what is sent now a matter of the future, and one that was wrong and is set right is wrong no more.
///
/// Until PostgreSQL has told its time, the wall clock as it was at the start stands in for it, moved on by the monotonic
/// clock: what was in the past stays in the past. That clock alone would not do, as it may stand still while the machine
/// sleeps.
#[derive(Debug, Clone)]
pub struct Clock {
    started: Instant,
    /// The other clock as it showed, or would have shown, at the start, ms since 1970.
    other_ms: Arc<AtomicI64>,
}

impl Clock {
    /// Starts at the wall clock's time.
    pub fn start() -> Self {
        Self { started: Instant::now(), other_ms: Arc::new(AtomicI64::new(now_ms())) }
    }

    /// Takes note of PostgreSQL's time, ms since 1970.
    pub fn saw(&self, database_ms: i64) {
        let at_start = database_ms.saturating_sub(milliseconds(self.started.elapsed()));
        // Relaxed: a number by itself.
        self.other_ms.store(at_start, Ordering::Relaxed);
    }

    /// ms since 1970.
    pub fn now_ms(&self) -> i64 {
        let passed = milliseconds(self.started.elapsed());
        now_ms().max(self.other_ms.load(Ordering::Relaxed).saturating_add(passed))
    }
}

/// Shows milliseconds since 1970 as `2026-11-22T09:26:57.123Z`; out of chrono's range, as the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rfc3339(pub i64);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match utc(self.0) {
            Some(t) => {
                let t = t.naive_utc();
                write!(f, "{}T{}.{:03}Z", t.date(), HhMmSs(self.0), self.0.rem_euclid(1000))
            }
            None => write!(f, "{}", self.0),
        }
    }
}

/// Shows milliseconds since 1970 as PostgreSQL and Spark show a `TIMESTAMP`: `2026-11-22 09:00:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlTimestamp(pub i64);

impl fmt::Display for SqlTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match utc(self.0) {
            Some(t) => write!(f, "{} {}", t.naive_utc().date(), HhMmSs(self.0)),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The time of day, whole seconds.
struct HhMmSs(i64);

impl fmt::Display for HhMmSs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0.div_euclid(1000).rem_euclid(86_400);
        write!(f, "{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
    }
}

fn utc(ms: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_goes_on() {
        let started_at = |ms| Clock { started: Instant::now(), other_ms: Arc::new(AtomicI64::new(ms)) };
        let ahead = started_at(now_ms() + 3_600_000);
        assert!(ahead.now_ms() >= now_ms() + 3_500_000);
        assert!(started_at(0).now_ms() >= now_ms() - 1_000);
    }

    #[test]
    fn the_later_of_two_clocks_counts_as_each_of_them_is_now() {
        let hour = 3_600_000;
        // This machine was an hour ahead at the start and was set right.
        let clock = Clock { started: Instant::now(), other_ms: Arc::new(AtomicI64::new(now_ms() + hour)) };
        clock.saw(now_ms());
        assert!((now_ms() - 1_000..now_ms() + 1_000).contains(&clock.now_ms()));
        // It is an hour behind PostgreSQL, which is set back later.
        let worker = clock.clone();
        clock.saw(now_ms() + hour);
        assert!(worker.now_ms() >= now_ms() + hour - 1_000);
        clock.saw(now_ms() - hour);
        assert!((now_ms() - 1_000..now_ms() + 1_000).contains(&worker.now_ms()));
    }

    #[test]
    fn timestamps_come_back_as_they_went() {
        for ms in [0, 1, -1, 1_700_000_000_123, -62_135_596_800_000] {
            assert_eq!(from_timestamp(timestamp(ms)), ms);
        }
    }

    #[test]
    fn shows_utc() {
        assert_eq!(Rfc3339(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Rfc3339(1_700_000_000_123).to_string(), "2023-11-14T22:13:20.123Z");
        assert_eq!(SqlTimestamp(1_700_000_000_123).to_string(), "2023-11-14 22:13:20");
        assert_eq!(Rfc3339(-1).to_string(), "1969-12-31T23:59:59.999Z");
        assert_eq!(SqlTimestamp(i64::MAX).to_string(), i64::MAX.to_string());
    }
}
