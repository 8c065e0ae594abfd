//! Whether the process is alive (`/livez`) and whether it does its work (`/readyz`), with the reasons if not.
//!
//! A loop has a [`Heartbeat`]. It notes when a round begins and when the loop rests, waiting for something to do: a loop
//! that rests is alive, however long, and one that works is given `LONGEST_ROUND`. An unavailable service does not
//! count: each retry is a new round.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Above the sum of the time-outs of all calls in the longest round, which is opening a connection to PostgreSQL that
/// answers each statement at the last moment.
const LONGEST_ROUND: Duration = Duration::from_secs(300);

/// The pulse of one loop.
#[derive(Debug)]
pub struct Heartbeat {
    name: &'static str,
    started: Instant,
    /// When the present round began, ms after `started`; [`RESTING`] between rounds.
    working_since_ms: AtomicU64,
}

const RESTING: u64 = u64::MAX;

impl Heartbeat {
    /// For a loop of this name, which rests.
    pub fn new(name: &'static str) -> Self {
        Self { name, started: Instant::now(), working_since_ms: AtomicU64::new(RESTING) }
    }

    // Relaxed throughout: a time on its own.

    /// A round begins, or continues with another attempt.
    pub fn work(&self) {
        self.working_since_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// The round is over; the loop waits for something to do.
    pub fn rest(&self) {
        self.working_since_ms.store(RESTING, Ordering::Relaxed);
    }

    /// What is wrong with the loop, if anything.
    pub fn problem(&self) -> Option<String> {
        self.problem_after(self.elapsed_ms())
    }

    fn problem_after(&self, now_ms: u64) -> Option<String> {
        let since_ms = self.working_since_ms.load(Ordering::Relaxed);
        let worked = Duration::from_millis(now_ms.saturating_sub(since_ms));
        (since_ms != RESTING && worked > LONGEST_ROUND)
            .then(|| format!("the {} loop has been stuck for {} s", self.name, worked.as_secs()))
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(RESTING - 1)
    }
}

/// A verdict with its reasons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    problems: Vec<String>,
}

impl Health {
    /// Healthy, unless there are problems.
    pub fn new(problems: impl IntoIterator<Item = String>) -> Self {
        Self { problems: problems.into_iter().collect() }
    }

    /// Whether there are no problems.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    /// What is wrong, a sentence each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ok() { f.write_str("ok") } else { f.write_str(&self.problems.join("\n")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_rests_lives_and_one_that_hangs_does_not() {
        let beat = Heartbeat::new("flush");
        let much_later = 10 * LONGEST_ROUND.as_millis() as u64;
        assert_eq!(beat.problem_after(much_later), None);
        beat.work();
        assert_eq!(beat.problem(), None);
        let problem = beat.problem_after(much_later).unwrap();
        assert!(problem.starts_with("the flush loop has been stuck for "), "{problem}");
        beat.rest();
        assert_eq!(beat.problem_after(much_later), None);
    }

    #[test]
    fn health_says_ok_or_why_not() {
        assert_eq!(Health::default().to_string(), "ok");
        let ill = Health::new(["one".to_owned(), "two".to_owned()]);
        assert_eq!((ill.is_ok(), ill.to_string().as_str()), (false, "one\ntwo"));
    }
}
