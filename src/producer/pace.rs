//! When readings are due.
//!
//! The schedule is absolute: reading n is due at start + n × interval, so waking late delays one reading and never the
//! rate. After a stall (Kafka away with a full buffer, a suspended machine) what is overdue is sent at once, but only
//! the last [`LONGEST_BEHIND`]: older readings are left out, or the burst would last as long as the stall did.
//!
//! The timer wakes once for all that is due by then. It ticks in milliseconds, so a reading is up to 1 ms late, and
//! intervals below that come several at a time. Readings that would linger in a batch anyhow may share a wake-up, too:
//! at a hundred readings a second, waking costs far more than they do.

use std::time::{Duration, Instant};

use crate::config::SendPace;

/// The most that is caught up after a stall.
const LONGEST_BEHIND: Duration = Duration::from_secs(10);
/// The most that is caught up after a wait for the source: more than the timer and a busy machine are late, which must
/// not lower the rate, and less than a burst that anyone notices.
const LONGEST_BEHIND_SOURCE: Duration = Duration::from_millis(100);
/// Most readings of one round, so that the caller gets to do other work.
const ROUND: u32 = 256;
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

/// Readings that are due: `count` of them, `step` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) count: u32,
    first: Instant,
    step: Duration,
}

impl Due {
    /// As many as a round takes, all due now.
    pub(super) fn now() -> Self {
        Self { count: ROUND, first: Instant::now(), step: Duration::ZERO }
    }

    /// When the n-th of them was due.
    pub(super) fn at(&self, n: u32) -> Instant {
        self.first + self.step * n
    }
}

/// The schedule.
#[derive(Debug)]
pub(super) struct Pacer {
    /// None = everything is due at once.
    interval: Option<Duration>,
    next: Instant,
    /// A longer delay than this is not caught up.
    longest_behind: Duration,
    /// What is left out was silence of the source, and no one needs to know.
    waits: bool,
    /// Readings due within this share a wake-up.
    gather: Duration,
    warned: Option<Instant>,
}

impl Pacer {
    /// A schedule from now on. A source that is waited for (`waits`) hardly catches up after silence: by one interval, or
    /// by [`LONGEST_BEHIND_SOURCE`] of shorter ones.
    pub(super) fn new(pace: SendPace, waits: bool, gather: Duration) -> Self {
        let interval = match pace {
            SendPace::Every(interval) => Some(interval),
            SendPace::Unlimited => None,
        };
        let longest_behind = match interval {
            Some(interval) if waits => interval.max(LONGEST_BEHIND_SOURCE),
            _ => LONGEST_BEHIND,
        };
        Self { interval, next: Instant::now(), longest_behind, waits, gather, warned: None }
    }

    /// Waits until at least one reading is due.
    pub(super) async fn due(&mut self) -> Due {
        loop {
            let Some(interval) = self.interval else {
                // Nothing else here ever waits while Kafka keeps up: let other tasks have their turn.
                tokio::task::yield_now().await;
                return Due::now();
            };
            match self.due_at(Instant::now(), interval) {
                Ok((due, left_out)) => {
                    self.warn(left_out);
                    return due;
                }
                Err(next) => {
                    let last = times(interval, periods(self.gather, interval));
                    tokio::time::sleep_until((next + last).into()).await;
                }
            }
        }
    }

    /// What is due at this time and how many were left out, or when the next is due.
    fn due_at(&mut self, now: Instant, interval: Duration) -> Result<(Due, u64), Instant> {
        let Some(behind) = now.checked_duration_since(self.next) else { return Err(self.next) };
        let mut left_out = 0;
        if let Some(excess) = behind.checked_sub(self.longest_behind).filter(|excess| *excess >= interval) {
            left_out = periods(excess, interval);
            self.next += times(interval, left_out);
        }
        let overdue = periods(now.saturating_duration_since(self.next), interval);
        let count = ROUND.min(u32::try_from(overdue).unwrap_or(ROUND).saturating_add(1));
        let due = Due { count, first: self.next, step: interval };
        self.next += interval * count;
        Ok((due, left_out))
    }

    fn warn(&mut self, left_out: u64) {
        if left_out == 0 || self.waits || self.warned.is_some_and(|said| said.elapsed() < BETWEEN_WARNINGS) {
            return;
        }
        self.warned = Some(Instant::now());
        crate::warn!(
            "Too far behind the pace to catch up; skipping readings",
            "left_out" => left_out, "made_up_seconds" => LONGEST_BEHIND.as_secs()
        );
    }
}

/// How many whole intervals a time holds.
fn periods(time: Duration, interval: Duration) -> u64 {
    u64::try_from(time.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u64::MAX)
}

fn times(interval: Duration, n: u64) -> Duration {
    // 584 years at most, which is beyond every process.
    Duration::from_nanos(u64::try_from(interval.as_nanos().saturating_mul(u128::from(n))).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(6);

    fn pacer() -> (Pacer, Instant) {
        let pacer = Pacer::new(SendPace::Every(STEP), false, Duration::ZERO);
        let start = pacer.next;
        (pacer, start)
    }

    #[test]
    fn waking_late_does_not_move_the_schedule() {
        let (mut pacer, start) = pacer();
        let mut sent = 0;
        let mut now = start;
        while now < start + Duration::from_secs(60) {
            match pacer.due_at(now, STEP) {
                Ok((due, left_out)) => {
                    assert_eq!((due.at(0), left_out), (start + STEP * sent, 0));
                    sent += due.count;
                    now += Duration::from_micros(2900);
                }
                Err(next) => now = next + Duration::from_micros(777),
            }
        }
        assert_eq!(sent, 10_000);
    }

    #[test]
    fn a_stall_is_made_up_for_within_bounds() {
        let (mut pacer, start) = pacer();
        let (due, left_out) = pacer.due_at(start + STEP * 100, STEP).unwrap();
        assert_eq!((due.count, left_out), (101, 0));
        let after_an_hour = start + Duration::from_secs(3600);
        let (due, left_out) = pacer.due_at(after_an_hour, STEP).unwrap();
        assert_eq!(due.count, ROUND);
        let behind = after_an_hour.duration_since(due.at(0));
        assert!(behind <= LONGEST_BEHIND + STEP && behind > LONGEST_BEHIND - STEP, "{behind:?}");
        assert!(left_out > 590_000 && left_out < 600_000, "{left_out}");
    }

    #[test]
    fn a_source_that_was_silent_owes_next_to_nothing() {
        for (step, most) in [(STEP, 18), (Duration::from_secs(15), 2)] {
            let mut pacer = Pacer::new(SendPace::Every(step), true, Duration::ZERO);
            let late = pacer.next + Duration::from_secs(60);
            let (due, _) = pacer.due_at(late, step).unwrap();
            assert!(due.count <= most, "{step:?}: {}", due.count);
            assert!(pacer.due_at(late, step).is_err(), "{step:?}");
        }
    }

    /// Such a source waits between readings, so the timer is always a few intervals late.
    #[test]
    fn a_source_that_is_waited_for_reaches_its_rate() {
        let step = Duration::from_micros(250);
        let mut pacer = Pacer::new(SendPace::Every(step), true, Duration::ZERO);
        let start = pacer.next;
        let mut sent = 0;
        for wakes in 0..400 {
            let (due, left_out) = pacer.due_at(start + Duration::from_millis(25) * wakes, step).unwrap();
            assert_eq!((due.at(0), left_out), (start + step * sent, 0));
            sent += due.count;
        }
        assert_eq!(sent, 399 * 100 + 1);
    }

    #[test]
    fn short_intervals_come_several_at_a_time() {
        let step = Duration::from_nanos(300);
        let mut pacer = Pacer::new(SendPace::Every(step), false, Duration::ZERO);
        let start = pacer.next;
        let (due, _) = pacer.due_at(start + Duration::from_micros(30), step).unwrap();
        assert_eq!((due.count, due.at(100)), (101, start + Duration::from_micros(30)));
    }
}
