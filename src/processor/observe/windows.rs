//! The windows of all partitions together, where no table adds them up: without PostgreSQL one process reads all partitions.

use std::collections::BTreeMap;

use crate::engine::state::PartitionState;
use crate::engine::window::{METRICS, Totals};
use crate::postgres::summary::{SummaryRow, WindowRow};
use crate::reading::{Metric, SCALE};

/// What ends windows, and how long they are.
#[derive(Debug, Clone, Copy)]
pub struct WindowEnds {
    window_ms: i64,
    /// The least watermark of the partitions that are not idle; None if all are.
    watermark_ms: Option<i64>,
}

impl WindowEnds {
    /// Of these partitions.
    pub fn of(states: &[PartitionState], window_ms: i64) -> Self {
        let busy = states.iter().filter(|state| state.progress.idle == 0);
        Self { window_ms, watermark_ms: busy.map(|state| state.progress.watermark_ms).min() }
    }

    /// A window's row, as the table would have it.
    pub fn row(&self, start_ms: i64, totals: &Totals) -> SummaryRow {
        let end_ms = start_ms + self.window_ms;
        SummaryRow {
            start_ms,
            end_ms,
            averages: std::array::from_fn(|metric| totals.average(metric)),
            reading_count: totals.readings,
            is_final: self.watermark_ms.is_none_or(|watermark_ms| end_ms <= watermark_ms),
        }
    }
}

/// The windows of these partitions by their starts.
pub fn add_up(states: &[PartitionState]) -> BTreeMap<i64, Totals> {
    let mut windows: BTreeMap<i64, Totals> = BTreeMap::new();
    for window in states.iter().flat_map(|state| &state.windows) {
        windows.entry(window.start_ms).or_default().merge(&window.totals);
    }
    windows
}

/// The newest windows with their extremes, ascending, at most so many.
pub fn newest(mut states: Vec<PartitionState>, window_ms: i64, most: usize) -> Vec<WindowRow> {
    let ends = WindowEnds::of(&states, window_ms);
    // What is not among the newest of its partition is not among the newest of all.
    for state in &mut states {
        state.windows.drain(..state.windows.len().saturating_sub(most));
    }
    let windows = add_up(&states);
    let rows = windows.iter().skip(windows.len().saturating_sub(most));
    rows.map(|(start_ms, totals)| with_extremes(ends.row(*start_ms, totals), totals)).collect()
}

fn with_extremes(summary: SummaryRow, totals: &Totals) -> WindowRow {
    let unit = |extreme: Option<i64>| extreme.map(|value| value as f64 / SCALE as f64);
    // As in the table, which has no least wind speed.
    let has_least = |metric: usize| metric != Metric::WindSpeed.index();
    let minima: [Option<f64>; METRICS] =
        std::array::from_fn(|metric| unit(totals.least(metric).filter(|_| has_least(metric))));
    WindowRow { summary, minima, maxima: std::array::from_fn(|metric| unit(totals.greatest(metric))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::window::Window;
    use crate::reading::Reading;

    const HOUR_MS: i64 = 3_600_000;

    fn window(hour: i64, value: i64) -> Window {
        let mut totals = Totals::default();
        let metrics = [Some(value * SCALE), None, Some(value * SCALE)];
        totals.add(0, &Reading { event_time_ms: hour * HOUR_MS, metrics, left_out: [None; 3] });
        Window { start_ms: hour * HOUR_MS, totals }
    }

    fn state(watermark_hour: i64, windows: Vec<Window>) -> PartitionState {
        let mut state = PartitionState::starting_at(0);
        state.progress.watermark_ms = watermark_hour * HOUR_MS;
        state.windows = windows;
        state
    }

    #[test]
    fn partitions_are_one_table() {
        let states = || {
            vec![
                state(2, vec![window(0, 1), window(1, 4), window(2, 9)]),
                state(3, vec![window(1, 2), window(3, 7)]),
            ]
        };
        let rows = newest(states(), HOUR_MS, 3);
        let shown = |row: &WindowRow| {
            let SummaryRow { start_ms, end_ms, averages, reading_count, is_final } = row.summary;
            assert_eq!(end_ms - start_ms, HOUR_MS);
            (start_ms / HOUR_MS, averages[0], reading_count, is_final, row.minima, row.maxima)
        };
        let one = |value| ([Some(value), None, None], [Some(value), None, Some(value)]);
        let (one_9, one_7) = (one(9.0), one(7.0));
        assert_eq!(
            rows.iter().map(shown).collect::<Vec<_>>(),
            [
                (1, Some(3.0), 2, true, [Some(2.0), None, None], [Some(4.0), None, Some(4.0)]),
                (2, Some(9.0), 1, false, one_9.0, one_9.1),
                (3, Some(7.0), 1, false, one_7.0, one_7.1),
            ]
        );
        let mut idle = states();
        idle.iter_mut().for_each(|state| state.progress.idle = 1);
        assert!(newest(idle, HOUR_MS, 9).iter().all(|row| row.summary.is_final));
    }
}
