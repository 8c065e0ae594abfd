//! Which event time a simulated reading has: history first, or history at a multiple of the clock's speed, then now.
//!
//! Event time never runs ahead of the clock: readings from the future would be dead letters.

use std::time::{Duration, Instant};

use crate::config::{Producer, SendPace};

/// Between readings of history when neither the pace nor a count says how many there are.
const DEFAULT_STEP: Duration = Duration::from_millis(6);

/// The clock of simulated readings.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EventTime {
    phase: TimeCourse,
}

#[derive(Debug, Clone, PartialEq)]
enum TimeCourse {
    /// As fast as possible, one step per reading. In µs, since a step may be below 1 ms.
    History { next_us: i64, step_us: i64 },
    /// `speedup` times as fast as the clock.
    Faster { origin_ms: i64, origin: Instant, speedup: f64 },
    /// The time by the clock.
    Now,
}

impl EventTime {
    /// Starts `backfill` before now.
    pub(super) fn new(config: &Producer, now_ms: i64, now: Instant) -> Self {
        if config.backfill.is_zero() {
            return Self { phase: TimeCourse::Now };
        }
        let backfill_us = i64::try_from(config.backfill.as_micros()).unwrap_or(i64::MAX / 2);
        let origin_us = now_ms.saturating_mul(1000).saturating_sub(backfill_us);
        let phase = if config.speedup > 1.0 {
            TimeCourse::Faster { origin_ms: origin_us / 1000, origin: now, speedup: config.speedup }
        } else {
            TimeCourse::History { next_us: origin_us, step_us: step_us(config) }
        };
        Self { phase }
    }

    /// The event time of the next reading of history; None once it has caught up with the clock.
    pub(super) fn history(&mut self, now_ms: i64) -> Option<i64> {
        let TimeCourse::History { next_us, step_us } = &mut self.phase else { return None };
        let event_ms = *next_us / 1000;
        if event_ms >= now_ms {
            self.phase = TimeCourse::Now;
            return None;
        }
        *next_us += *step_us;
        Some(event_ms)
    }

    /// The event time of a reading that was due `age` ago.
    pub(super) fn at(&mut self, due: Instant, age: Duration, now_ms: i64) -> i64 {
        if let TimeCourse::Faster { origin_ms, origin, speedup } = self.phase {
            let passed_ms = due.saturating_duration_since(origin).as_secs_f64() * 1000.0 * speedup;
            // Saturates far beyond any clock.
            let event_ms = origin_ms.saturating_add(passed_ms as i64);
            if event_ms < now_ms {
                return event_ms;
            }
            self.phase = TimeCourse::Now;
        }
        now_ms - i64::try_from(age.as_millis()).unwrap_or(0)
    }
}

/// How long it takes until event time has caught up with the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CatchingUp {
    /// About this many readings, as fast as possible.
    Readings(u64),
    /// This long by the clock.
    Time(Duration),
}

/// What is to be caught up with; None if nothing is.
pub(super) fn catching_up(config: &Producer) -> Option<CatchingUp> {
    if config.backfill.is_zero() {
        return None;
    }
    if config.speedup > 1.0 {
        let seconds = config.backfill.as_secs_f64() / (config.speedup - 1.0);
        return Duration::try_from_secs_f64(seconds).ok().map(CatchingUp::Time);
    }
    let readings = config.backfill.as_micros() / u128::from(step_us(config).unsigned_abs().max(1));
    Some(CatchingUp::Readings(u64::try_from(readings).unwrap_or(u64::MAX)))
}

/// As dense as the live readings; at full speed, as many as were requested, spread evenly.
fn step_us(config: &Producer) -> i64 {
    let step_us = match (config.pace, config.count) {
        (SendPace::Every(interval), _) => interval.as_micros(),
        (SendPace::Unlimited, Some(count)) => config.backfill.as_micros() / u128::from(count.max(1)),
        (SendPace::Unlimited, None) => DEFAULT_STEP.as_micros(),
    };
    i64::try_from(step_us).unwrap_or(i64::MAX / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::tests::config;

    const HOUR_MS: i64 = 3_600_000;
    const NOW_MS: i64 = 1_763_803_617_123;

    fn history(clock: &mut EventTime) -> Vec<i64> {
        std::iter::from_fn(|| clock.history(NOW_MS)).collect()
    }

    #[test]
    fn without_backfill_it_is_the_clock() {
        let now = Instant::now();
        let mut clock = EventTime::new(&config(&[]), NOW_MS, now);
        assert_eq!(clock.history(NOW_MS), None);
        assert_eq!(clock.at(now, Duration::ZERO, NOW_MS), NOW_MS);
        assert_eq!(clock.at(now, Duration::from_millis(30), NOW_MS), NOW_MS - 30);
    }

    #[test]
    fn history_is_as_dense_as_the_live_readings() {
        let mut clock =
            EventTime::new(&config(&["--backfill", "1h", "--interval", "1s"]), NOW_MS, Instant::now());
        let times = history(&mut clock);
        assert_eq!((times.len(), times[0], times[1] - times[0]), (3600, NOW_MS - HOUR_MS, 1000));
    }

    #[test]
    fn at_full_speed_a_count_is_spread_over_the_history() {
        let arguments = ["--backfill", "6h", "--rate", "0", "--count", "1000"];
        let times = history(&mut EventTime::new(&config(&arguments), NOW_MS, Instant::now()));
        assert_eq!((times.len(), times[999] / HOUR_MS), (1000, (NOW_MS - 21_600) / HOUR_MS));
    }

    #[test]
    fn faster_until_it_has_caught_up() {
        let now = Instant::now();
        let mut clock = EventTime::new(&config(&["--backfill", "2h", "--speedup", "3600"]), NOW_MS, now);
        assert_eq!(clock.history(NOW_MS), None);
        let at = |clock: &mut EventTime, ms: u64| {
            let due = now + Duration::from_millis(ms);
            clock.at(due, Duration::ZERO, NOW_MS + ms as i64)
        };
        assert_eq!(at(&mut clock, 1000), NOW_MS - HOUR_MS);
        assert_eq!(at(&mut clock, 5000), NOW_MS + 5000);
        assert_eq!(at(&mut clock, 6000), NOW_MS + 6000, "and stays with the clock");
    }
}
