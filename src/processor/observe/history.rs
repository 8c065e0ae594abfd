//! Rates and lag of the last ten minutes, at even steps, for the lines beside the numbers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::processor::observe::rates::PerSecond;

/// Between two points.
const STEP: Duration = Duration::from_secs(5);
/// Points that are kept: ten minutes.
const POINTS: usize = 120;

/// The points, oldest first.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<Point>>);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    rates: PerSecond,
    lag: i64,
}

/// The points as lines, oldest first.
#[derive(Debug, PartialEq, Serialize)]
pub struct HistoryLines {
    step_seconds: u64,
    read_per_second: Vec<f64>,
    written_per_second: Vec<f64>,
    lag: Vec<i64>,
}

impl History {
    fn push(&self, point: Point) {
        let mut points = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if points.len() == POINTS {
            points.pop_front();
        }
        points.push_back(point);
    }

    /// All points.
    pub fn lines(&self) -> HistoryLines {
        let points = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // More digits nobody can see.
        let short = |rate: f64| (rate * 10.0).round() / 10.0;
        HistoryLines {
            step_seconds: STEP.as_secs(),
            read_per_second: points.iter().map(|point| short(point.rates.read)).collect(),
            written_per_second: points.iter().map(|point| short(point.rates.written)).collect(),
            lag: points.iter().map(|point| point.lag).collect(),
        }
    }
}

/// Adds a point at each step until it is dropped.
#[derive(Debug)]
pub struct Remembering(JoinHandle<()>);

impl Remembering {
    /// From now on; `look` gives the rates and the lag.
    pub fn start(history: &Arc<History>, look: impl Fn() -> (PerSecond, i64) + Send + 'static) -> Self {
        let history = Arc::clone(history);
        Self(tokio::spawn(async move {
            let mut steps = interval(STEP);
            steps.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                steps.tick().await;
                let (rates, lag) = look();
                history.push(Point { rates, lag });
            }
        }))
    }
}

impl Drop for Remembering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ten_minutes_are_kept() {
        let history = History::default();
        for n in 0..200 {
            let rates = PerSecond { read: f64::from(n) + 0.12, written: 1.0 / 3.0 };
            history.push(Point { rates, lag: i64::from(n) });
        }
        let lines = history.lines();
        assert_eq!((lines.lag.len(), lines.lag[0], lines.lag[119]), (120, 80, 199));
        assert_eq!((lines.read_per_second[0], lines.written_per_second[0]), (80.1, 0.3));
    }
}
