//! Whether a dead letter can be taken into the window where it belongs, whatever its age.
//!
//! What it was refused for as late counts no longer; everything else that can be judged by its payload is judged again, by
//! the format and the clock of now. It is taken whole or not at all, and once: the caller marks it in the same
//! transaction.

use std::sync::Arc;

use crate::engine::window::{Deltas, Window, start_of};
use crate::reading::{Format, Parser, Reading, Reason};

/// Why a dead letter cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// Only the beginning of its value was kept, or there was no value.
    Cut,
    /// It would be refused again, for this reason.
    Still(Reason),
    /// Its time is outside of what was asked for.
    Outside,
}

/// What letters are judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Length of a window, ms.
    pub window_ms: i64,
    /// Later event times are still in the future, ms since 1970.
    pub future_ms: i64,
    /// The first window start that is asked for, if any, ms since 1970.
    pub from_ms: Option<i64>,
    /// The first that is not any more, if any, ms since 1970.
    pub to_ms: Option<i64>,
}

/// Takes letters, one after the other.
pub struct Readmission {
    rules: Rules,
    parser: Parser,
    readings: Vec<Reading>,
    deltas: Deltas,
}

impl Readmission {
    /// By these rules, of records in this format.
    pub fn new(rules: Rules, format: Arc<Format>) -> Self {
        Self { rules, parser: Parser::new(format), readings: Vec::new(), deltas: Deltas::default() }
    }

    /// Takes a letter; how many readings it has.
    ///
    /// # Errors
    /// It cannot be taken, and nothing of it was.
    pub fn take(
        &mut self,
        offset: i64,
        payload: Option<&[u8]>,
        payload_bytes: i64,
    ) -> Result<usize, Refusal> {
        let whole = payload.filter(|payload| payload.len() as i64 == payload_bytes).ok_or(Refusal::Cut)?;
        self.readings.clear();
        if self.parser.format().has_list() {
            let readings = &mut self.readings;
            self.parser
                .parse_list(whole, None, |reading, _| readings.push(reading))
                .map_err(Refusal::Still)?;
        } else {
            self.readings.push(self.parser.parse(whole, None).map_err(Refusal::Still)?);
        }
        let rules = self.rules;
        if self.readings.iter().any(|reading| reading.event_time_ms > rules.future_ms) {
            return Err(Refusal::Still(Reason::Future));
        }
        let start = |reading: &Reading| start_of(reading.event_time_ms, rules.window_ms);
        let is_inside = |start_ms: i64| {
            rules.from_ms.is_none_or(|from| start_ms >= from) && rules.to_ms.is_none_or(|to| start_ms < to)
        };
        if !self.readings.iter().map(start).all(is_inside) {
            return Err(Refusal::Outside);
        }
        for reading in &self.readings {
            self.deltas.add(start(reading), offset, reading);
        }
        Ok(self.readings.len())
    }

    /// What was taken since the last call, by window, ascending.
    pub fn windows(&mut self) -> Vec<Window> {
        let mut windows: Vec<Window> = self.deltas.drain().collect();
        windows.sort_unstable_by_key(|window| window.start_ms);
        windows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const BASE: i64 = 1_748_736_000_000;

    fn readmission(from_ms: Option<i64>, to_ms: Option<i64>) -> Readmission {
        let rules = Rules { window_ms: HOUR, future_ms: BASE + 10 * HOUR, from_ms, to_ms };
        Readmission::new(rules, Format::shared())
    }

    fn letter(time_ms: i64) -> Vec<u8> {
        format!(r#"{{"timestamp":{time_ms},"temperature":5}}"#).into_bytes()
    }

    fn take(readmission: &mut Readmission, payload: &[u8]) -> Result<usize, Refusal> {
        readmission.take(7, Some(payload), payload.len() as i64)
    }

    #[test]
    fn whatever_its_age_it_goes_where_it_belongs() {
        let mut readmission = readmission(None, None);
        for time_ms in [BASE + 1, BASE - 9_000 * HOUR, BASE + 2] {
            assert_eq!(take(&mut readmission, &letter(time_ms)), Ok(1));
        }
        let windows = readmission.windows();
        let found: Vec<_> = windows.iter().map(|w| (w.start_ms, w.totals.readings)).collect();
        assert_eq!(found, [(BASE - 9_000 * HOUR, 1), (BASE, 2)]);
        assert_eq!(windows[1].totals.sums[0], 10_000_000);
        assert_eq!(readmission.windows(), []);
    }

    #[test]
    fn what_cannot_be_taken_is_left_with_its_cause() {
        let mut readmission = readmission(Some(BASE), Some(BASE + HOUR));
        let whole = letter(BASE);
        assert_eq!(readmission.take(7, Some(&whole), whole.len() as i64 + 1), Err(Refusal::Cut));
        assert_eq!(readmission.take(7, None, 0), Err(Refusal::Cut));
        assert_eq!(take(&mut readmission, b"x"), Err(Refusal::Still(Reason::Malformed)));
        let future = letter(BASE + 11 * HOUR);
        assert_eq!(take(&mut readmission, &future), Err(Refusal::Still(Reason::Future)));
        assert_eq!(take(&mut readmission, &letter(BASE - 1)), Err(Refusal::Outside));
        assert_eq!(take(&mut readmission, &letter(BASE + HOUR)), Err(Refusal::Outside));
        assert_eq!(readmission.windows(), []);
        assert_eq!(take(&mut readmission, &letter(BASE + HOUR - 1)), Ok(1));
    }
}
