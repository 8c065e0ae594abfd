//! What became of the records, in a form in which the processor's result and the recomputation can be compared.

use std::collections::BTreeMap;

use crate::engine::window::METRICS;
use crate::time::SqlTimestamp;

/// How far an average may be off: it is kept in millionths.
const TOLERANCE: f64 = 1e-6;
/// More differences than this are not listed.
const SHOWN: usize = 5;

/// Averages of one window, of all stations or of one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct WindowAverages {
    /// Readings in it.
    pub(super) readings: i64,
    /// Temperature °C, humidity %, wind speed m/s.
    pub(super) averages: [Option<f64>; METRICS],
    /// Whether nothing more is expected.
    pub(super) is_final: bool,
}

/// What became of the records up to an offset of each partition.
#[derive(Debug, Clone, Default)]
pub(super) struct RecordFates {
    /// The next offset of each partition.
    pub(super) offsets: BTreeMap<i32, i64>,
    /// Windows by their start, ms since 1970.
    pub(super) windows: BTreeMap<i64, WindowAverages>,
    /// Windows of single stations, by their start and the station's name; read at the end.
    pub(super) stations: BTreeMap<(i64, String), WindowAverages>,
    /// How many records became what: `aggregated`, `duplicates`, or the reason of a dead letter.
    pub(super) fates: BTreeMap<&'static str, i64>,
}

impl RecordFates {
    /// Offsets read, in all partitions together.
    pub(super) fn read(&self) -> i64 {
        self.offsets.values().sum()
    }

    /// How many records became this.
    pub(super) fn count(&self, fate: &str) -> i64 {
        self.fates.get(fate).copied().unwrap_or(0)
    }

    /// How many records are dead letters.
    pub(super) fn dead_letters(&self) -> i64 {
        self.fates.values().sum::<i64>() - self.count("aggregated") - self.count("duplicates")
    }

    /// How many readings the windows hold.
    pub(super) fn in_windows(&self) -> i64 {
        self.windows.values().map(|row| row.readings).sum()
    }

    /// Whether each offset read is counted once, and each averaged reading is in one window.
    pub(super) fn adds_up(&self) -> bool {
        self.fates.values().sum::<i64>() == self.read() && self.count("aggregated") == self.in_windows()
    }

    /// What differs from `expected`, a sentence each; empty when nothing does.
    pub(super) fn differences(&self, expected: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.offsets != expected.offsets {
            found.push(format!("offsets read: {:?}, expected {:?}", self.offsets, expected.offsets));
        }
        for fate in keys(&self.fates, &expected.fates) {
            let (is, should) = (self.count(fate), expected.count(fate));
            if is != should {
                found.push(format!("{fate}: {is}, expected {should}"));
            }
        }
        let of_window = |start: &i64| format!("window {}", SqlTimestamp(*start));
        found.extend(differing(&self.windows, &expected.windows, of_window));
        let of_station =
            |(start, name): &(i64, String)| format!("window {}, station {name:?}", SqlTimestamp(*start));
        found.extend(differing(&self.stations, &expected.stations, of_station));
        let more = found.len().saturating_sub(SHOWN);
        found.truncate(SHOWN);
        if more > 0 {
            found.push(format!("and {more} more"));
        }
        found
    }
}

/// A sentence for each row that is not as expected.
fn differing<K: Ord + Clone>(
    are: &BTreeMap<K, WindowAverages>,
    should_be: &BTreeMap<K, WindowAverages>,
    name: impl Fn(&K) -> String,
) -> Vec<String> {
    let mut found = Vec::new();
    for key in keys(are, should_be) {
        let of = |rows: &BTreeMap<K, WindowAverages>| rows.get(&key).copied().unwrap_or_default();
        let (is, should) = (of(are), of(should_be));
        if is.readings != should.readings || !is.averages.iter().zip(should.averages).all(near) {
            found.push(format!("{}: {is:?}, expected {should:?}", name(&key)));
        }
    }
    found
}

fn keys<K: Ord + Clone, V>(one: &BTreeMap<K, V>, other: &BTreeMap<K, V>) -> Vec<K> {
    let mut keys: Vec<K> = one.keys().chain(other.keys()).cloned().collect();
    keys.sort();
    keys.dedup();
    keys
}

fn near((is, should): (&Option<f64>, Option<f64>)) -> bool {
    match (*is, should) {
        (Some(is), Some(should)) => (is - should).abs() <= TOLERANCE,
        (is, should) => is == should,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> RecordFates {
        let row = WindowAverages { readings: 2, averages: [Some(1.5), None, Some(0.0)], is_final: false };
        RecordFates {
            offsets: [(0, 3), (1, 1)].into(),
            windows: [(0, row)].into(),
            stations: [((0, "s".to_owned()), row)].into(),
            fates: [("aggregated", 2), ("late", 1), ("duplicates", 1)].into(),
        }
    }

    #[test]
    fn counts_add_up() {
        assert!(outcome().adds_up());
        assert_eq!((outcome().read(), outcome().dead_letters()), (4, 1));
        let mut lost = outcome();
        lost.fates.remove("late");
        assert!(!lost.adds_up());
    }

    #[test]
    fn each_difference_is_told() {
        let is_told = |change: fn(&mut RecordFates), words: &str| {
            let mut changed = outcome();
            change(&mut changed);
            let found = changed.differences(&outcome());
            assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
        };
        is_told(
            |o| {
                o.offsets.insert(1, 2);
            },
            "offsets",
        );
        is_told(
            |o| {
                o.fates.insert("late", 0);
            },
            "late: 0, expected 1",
        );
        is_told(|o| o.windows.clear(), "1970-01-01 00:00:00");
        is_told(|o| o.windows.values_mut().for_each(|row| row.averages[0] = Some(1.50001)), "1.50001");
        is_told(|o| o.windows.values_mut().for_each(|row| row.averages[1] = Some(0.0)), "window");
        is_told(|o| o.stations.clear(), "station \"s\"");
        let mut near = outcome();
        near.windows.values_mut().for_each(|row| row.averages[0] = Some(1.500_000_1));
        assert!(near.differences(&outcome()).is_empty());
    }
}
