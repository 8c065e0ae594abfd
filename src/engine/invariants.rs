//! What must be true of every state before it is published. Checked in release builds too: a wrong number that was
//! written is worse than a partition that has stopped.

use crate::engine::state::PartitionState;
use crate::engine::window::{METRICS, Totals};
use crate::reading::SCALE;

/// No metric of one reading is further from zero, in any unit that sums are kept in and any version of this program.
const FURTHEST: i64 = 1_000 * SCALE;

/// Checks the numbers of the state and its windows from the index `changed_from` on; the earlier ones were checked before.
///
/// # Errors
/// Which invariant is violated, with the numbers.
pub fn check(state: &PartitionState, window_ms: i64, changed_from: usize) -> Result<(), String> {
    let progress = &state.progress;
    if !progress.accounts_for_every_offset() {
        return Err(format!("not every offset is accounted for exactly once: {progress:?}"));
    }
    if progress.flushed() > progress.position() {
        return Err(format!("more is confirmed than was read: {progress:?}"));
    }
    // The first that changed has to follow the one before it.
    let from = changed_from.saturating_sub(1).min(state.windows.len());
    let windows = &state.windows[from..];
    if let Some(pair) = windows.windows(2).find(|pair| pair[0].start_ms >= pair[1].start_ms) {
        return Err(format!("windows are not in order: {} before {}", pair[0].start_ms, pair[1].start_ms));
    }
    for window in windows {
        // That none is ahead of the newest event time is not asked: a claim reads the row and the windows one after the
        // other, and a database that is set back in between gives windows of another time. The flush is refused then.
        if window.start_ms.rem_euclid(window_ms) != 0 {
            return Err(format!("a window is out of bounds: {window:?}, {progress:?}"));
        }
        if !is_possible(&window.totals) {
            return Err(format!("sums, counts or extremes of a window are out of range: {window:?}"));
        }
    }
    Ok(())
}

/// Whether any readings could have made these totals.
fn is_possible(totals: &Totals) -> bool {
    let is_possible = |metric: usize| {
        let (count, sum) = (totals.counts[metric], totals.sums[metric]);
        (0..=totals.readings).contains(&count)
            && sum.unsigned_abs() <= count.saturating_mul(FURTHEST).unsigned_abs()
            && totals.least(metric).is_none_or(|least| count.saturating_mul(least) <= sum)
            && totals.greatest(metric).is_none_or(|greatest| sum <= count.saturating_mul(greatest))
    };
    (0..=totals.readings).contains(&totals.untraced) && (0..METRICS).all(is_possible)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::window::Window;

    type Plant = fn(&mut PartitionState);

    fn state() -> PartitionState {
        let mut state = PartitionState::starting_at(10);
        state.progress.next_offset = 30;
        state.progress.aggregated = 20;
        state.progress.max_event_time_ms = 25;
        let window = |start_ms| Window {
            start_ms,
            totals: Totals {
                readings: 10,
                counts: [10, 0, 5],
                sums: [-10 * FURTHEST, 0, 5 * FURTHEST],
                minima: [-FURTHEST, i64::MAX, FURTHEST],
                maxima: [-FURTHEST, i64::MIN, FURTHEST],
                ..Totals::default()
            },
        };
        state.windows = vec![window(0), window(10), window(20)];
        state
    }

    #[test]
    fn each_violation_is_found_and_named() {
        assert_eq!(check(&state(), 10, 0), Ok(()));
        let planted: [(&str, Plant); 11] = [
            ("accounted", |s| s.progress.aggregated -= 1),
            ("accounted", |s| s.progress.lost += 1),
            ("confirmed", |s| s.progress.flushed_offset = 31),
            ("in order", |s| s.windows.swap(1, 2)),
            ("in order", |s| s.windows[2].start_ms = 10),
            ("bounds", |s| s.windows[2].start_ms = 21),
            ("range", |s| s.windows[2].totals.sums[0] -= 1),
            ("range", |s| s.windows[2].totals.counts[1] = 11),
            ("range", |s| s.windows[2].totals.minima[0] += 1),
            ("range", |s| s.windows[2].totals.maxima[2] -= 1),
            ("range", |s| s.windows[2].totals.untraced = 11),
        ];
        for (word, plant) in planted {
            let mut state = state();
            plant(&mut state);
            let error = check(&state, 10, 2).expect_err(word);
            assert!(error.contains(word), "{error}");
        }
    }
}
