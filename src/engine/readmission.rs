//! Whether a dead letter can be taken into the window where it belongs, whatever its age.
//!
//! What it was refused for as late counts no longer; everything else that can be judged by its payload is judged again, by
//! the format and the clock of now. It is taken whole or not at all, and once: the caller marks it in the same
//! transaction. Where stations are kept apart, [`stations_after`] says what becomes of their rows.

use std::sync::Arc;

use crate::engine::stations::{StationRow, Stations};
use crate::engine::window::{Deltas, Window, start_of};
use crate::reading::{Format, Parser, Reading, Reason};

/// Stations that a window keeps apart of readmitted readings: a producer may invent names without end.
pub const MAX_STATIONS: usize = 10_000;

/// Why a dead letter cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Obstacle {
    /// Only the beginning of its value was kept, or there was no value.
    Cut,
    /// It would be refused again, for this reason.
    Still(Reason),
    /// Its time is outside of what was asked for.
    Outside,
}

/// What dead letters are judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Criteria {
    /// Length of a window, ms.
    pub window_ms: i64,
    /// Later event times are still in the future, ms since 1970.
    pub future_ms: i64,
    /// The first window start that is asked for, if any, ms since 1970.
    pub from_ms: Option<i64>,
    /// The first that is not any more, if any, ms since 1970.
    pub to_ms: Option<i64>,
}

/// A reading that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedReading {
    /// First ms of its window, since 1970.
    pub start_ms: i64,
    /// Its station, if it names one.
    pub station: Option<Box<str>>,
    /// What was read.
    pub reading: Reading,
}

/// What was taken.
#[derive(Debug, Default)]
pub struct Taken {
    /// What it adds, by window, ascending.
    pub windows: Vec<Window>,
    /// Every reading of it.
    pub readings: Vec<NamedReading>,
}

/// Takes dead letters, one after the other.
pub struct Readmission {
    criteria: Criteria,
    parser: Parser,
    /// Those of the dead letter at hand.
    readings: Vec<NamedReading>,
    deltas: Deltas,
    taken: Vec<NamedReading>,
}

impl Readmission {
    /// By these criteria, of records in this format.
    pub fn new(criteria: Criteria, format: Arc<Format>) -> Self {
        let parser = Parser::new(format);
        Self { criteria, parser, readings: Vec::new(), deltas: Deltas::default(), taken: Vec::new() }
    }

    /// Takes a dead letter; how many readings it has.
    ///
    /// # Errors
    /// It cannot be taken, and nothing of it was.
    pub fn take(
        &mut self,
        offset: i64,
        payload: Option<&[u8]>,
        payload_bytes: i64,
    ) -> Result<usize, Obstacle> {
        let whole = payload.filter(|payload| payload.len() as i64 == payload_bytes).ok_or(Obstacle::Cut)?;
        let window_ms = self.criteria.window_ms;
        let named = |reading: Reading, station: Option<&str>| NamedReading {
            start_ms: start_of(reading.event_time_ms, window_ms),
            station: station.map(Box::from),
            reading,
        };
        self.readings.clear();
        if self.parser.format().has_list() {
            let readings = &mut self.readings;
            self.parser
                .parse_list(whole, None, |reading, station| readings.push(named(reading, station)))
                .map_err(Obstacle::Still)?;
        } else {
            let (reading, station) = self.parser.parse_with_station(whole, None);
            self.readings.push(named(reading.map_err(Obstacle::Still)?, station));
        }
        let criteria = self.criteria;
        if self.readings.iter().any(|named| named.reading.event_time_ms > criteria.future_ms) {
            return Err(Obstacle::Still(Reason::Future));
        }
        let is_inside = |start_ms: i64| {
            criteria.from_ms.is_none_or(|from| start_ms >= from)
                && criteria.to_ms.is_none_or(|to| start_ms < to)
        };
        if !self.readings.iter().map(|named| named.start_ms).all(is_inside) {
            return Err(Obstacle::Outside);
        }
        for named in &self.readings {
            self.deltas.add(named.start_ms, offset, &named.reading);
        }
        let count = self.readings.len();
        self.taken.append(&mut self.readings);
        Ok(count)
    }

    /// What was taken since the last call.
    pub fn taken(&mut self) -> Taken {
        let mut windows: Vec<Window> = self.deltas.drain().collect();
        windows.sort_unstable_by_key(|window| window.start_ms);
        Taken { windows, readings: std::mem::take(&mut self.taken) }
    }
}

/// The stations' rows that these readings change, as they are afterwards: `stored` is what there was, in windows that had
/// taken in what `before` says. What of that was counted for no station counts for [`OTHERS`](crate::engine::stations::OTHERS),
/// as do stations beyond [`MAX_STATIONS`].
pub fn stations_after(
    stored: Vec<StationRow>,
    before: &[Window],
    readings: &[NamedReading],
) -> Vec<StationRow> {
    let begun: Vec<Window> = before.iter().filter(|window| window.totals.readings != 0).copied().collect();
    let mut stations = Stations::resume(MAX_STATIONS, stored, Vec::new(), &begun);
    for named in readings {
        stations.add(named.start_ms, named.station.as_deref(), &named.reading);
    }
    stations.settle();
    stations.changed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::window::Totals;

    const HOUR: i64 = 3_600_000;
    const BASE: i64 = 1_748_736_000_000;

    fn readmission(from_ms: Option<i64>, to_ms: Option<i64>) -> Readmission {
        let criteria = Criteria { window_ms: HOUR, future_ms: BASE + 10 * HOUR, from_ms, to_ms };
        Readmission::new(criteria, Format::shared())
    }

    fn dead_letter(time_ms: i64) -> Vec<u8> {
        format!(r#"{{"timestamp":{time_ms},"temperature":5}}"#).into_bytes()
    }

    fn take(readmission: &mut Readmission, payload: &[u8]) -> Result<usize, Obstacle> {
        readmission.take(7, Some(payload), payload.len() as i64)
    }

    #[test]
    fn whatever_its_age_it_goes_where_it_belongs() {
        let mut readmission = readmission(None, None);
        for time_ms in [BASE + 1, BASE - 9_000 * HOUR, BASE + 2] {
            assert_eq!(take(&mut readmission, &dead_letter(time_ms)), Ok(1));
        }
        let windows = readmission.taken().windows;
        let found: Vec<_> = windows.iter().map(|w| (w.start_ms, w.totals.readings)).collect();
        assert_eq!(found, [(BASE - 9_000 * HOUR, 1), (BASE, 2)]);
        assert_eq!(windows[1].totals.sums[0], 10_000_000);
        assert_eq!(readmission.taken().windows, []);
    }

    #[test]
    fn what_cannot_be_taken_is_left_with_its_cause() {
        let mut readmission = readmission(Some(BASE), Some(BASE + HOUR));
        let whole = dead_letter(BASE);
        assert_eq!(readmission.take(7, Some(&whole), whole.len() as i64 + 1), Err(Obstacle::Cut));
        assert_eq!(readmission.take(7, None, 0), Err(Obstacle::Cut));
        assert_eq!(take(&mut readmission, b"x"), Err(Obstacle::Still(Reason::Malformed)));
        let future = dead_letter(BASE + 11 * HOUR);
        assert_eq!(take(&mut readmission, &future), Err(Obstacle::Still(Reason::Future)));
        assert_eq!(take(&mut readmission, &dead_letter(BASE - 1)), Err(Obstacle::Outside));
        assert_eq!(take(&mut readmission, &dead_letter(BASE + HOUR)), Err(Obstacle::Outside));
        assert_eq!(readmission.taken().windows, []);
        assert_eq!(take(&mut readmission, &dead_letter(BASE + HOUR - 1)), Ok(1));
    }

    #[test]
    fn stations_have_all_that_their_windows_have() {
        let named = |time_ms: i64, station: &str| {
            format!(r#"{{"station":{station},"timestamp":{time_ms},"temperature":5}}"#).into_bytes()
        };
        let mut readmission = readmission(None, None);
        for (time_ms, station) in
            [(BASE, r#""a""#), (BASE, "null"), (BASE, r#""a\u0000b""#), (BASE - HOUR, r#""a""#)]
        {
            assert_eq!(take(&mut readmission, &named(time_ms, station)), Ok(1));
        }
        let first = readmission.taken();
        let nothing = [BASE - HOUR, BASE].map(|start_ms| Window { start_ms, totals: Totals::default() });
        let rows = stations_after(Vec::new(), &nothing, &first.readings);
        let of = |rows: &[StationRow]| {
            let mut found: Vec<(i64, String, i64)> = rows
                .iter()
                .map(|row| ((row.start_ms - BASE) / HOUR, row.station.to_string(), row.totals.readings))
                .collect();
            found.sort_unstable();
            found
        };
        let row = |hour, station: &str, readings| (hour, station.to_owned(), readings);
        assert_eq!(of(&rows), [row(-1, "a", 1), row(0, "", 1), row(0, "a", 1), row(0, "a\u{fffd}b", 1)]);
        // Later, when the rows of one window are gone and one row of the other.
        assert_eq!(take(&mut readmission, &named(BASE, r#""a""#)), Ok(1));
        assert_eq!(take(&mut readmission, &named(BASE - HOUR, r#""b""#)), Ok(1));
        let second = readmission.taken();
        let stored = rows.into_iter().filter(|row| row.start_ms == BASE && !row.station.is_empty()).collect();
        let rows = stations_after(stored, &first.windows, &second.readings);
        assert_eq!(of(&rows), [row(-1, "*", 1), row(-1, "b", 1), row(0, "*", 1), row(0, "a", 2)]);
        assert_eq!(readmission.taken().readings, []);
    }
}
