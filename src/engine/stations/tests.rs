//! Stations beside their windows, against plain maps.

use std::collections::BTreeMap;

use super::*;
use crate::engine::window::Totals;

fn reading(value: i64) -> Reading {
    Reading { event_time_ms: 0, metrics: [Some(value), None, Some(-value)], left_out: [None; 3] }
}

fn at(offset: i64) -> Position {
    Position { incarnation: 0, offset }
}

/// Stations and the windows that they belong to.
struct Both {
    stations: Stations,
    windows: BTreeMap<i64, Totals>,
    offset: i64,
}

impl Both {
    fn new(limit: usize) -> Self {
        Self { stations: Stations::new(limit), windows: BTreeMap::new(), offset: 0 }
    }

    fn add(&mut self, start_ms: i64, name: Option<&str>, value: i64) {
        self.take(start_ms, name, value);
        self.stations.settle();
    }

    /// Without settling.
    fn take(&mut self, start_ms: i64, name: Option<&str>, value: i64) {
        self.stations.add(start_ms, name, &reading(value));
        self.windows.entry(start_ms).or_default().add(self.offset, &reading(value));
        self.offset += 1;
    }

    fn windows(&self) -> Vec<Window> {
        self.windows
            .iter()
            .map(|(start_ms, totals)| Window { start_ms: *start_ms, totals: *totals })
            .collect()
    }
}

fn readings(rows: &[StationRow]) -> Vec<(i64, &str, i64)> {
    let mut rows: Vec<_> =
        rows.iter().map(|row| (row.start_ms, &*row.station, row.totals.readings)).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn many_stations_are_kept_apart_and_add_up() {
    let mut both = Both::new(usize::MAX);
    let mut expected: BTreeMap<(i64, String), i64> = BTreeMap::new();
    for i in 0..50_000_i64 {
        let (start_ms, name) = (i % 3 * 10, format!("station {}", i * 7_919 % 5_003));
        both.add(start_ms, Some(&name), i % 100);
        *expected.entry((start_ms, name)).or_default() += 1;
    }
    assert!(both.stations.adds_up_to(&both.windows()));
    assert_eq!(both.stations.check(&both.windows()), Ok(()));
    assert_eq!(both.stations.row_count(), expected.len());
    for row in both.stations.changed() {
        assert_eq!(expected[&(row.start_ms, row.station.to_string())], row.totals.readings);
    }
}

#[test]
fn a_reading_without_a_name_or_beyond_the_limit_counts_all_the_same() {
    let mut both = Both::new(2);
    for name in [None, Some("a"), Some("b"), Some("c"), Some("d"), Some("b"), None, Some("*")] {
        both.take(0, name, 1);
    }
    both.stations.settle();
    let rows = both.stations.changed();
    assert_eq!(readings(&rows), [(0, "", 2), (0, "*", 3), (0, "a", 1), (0, "b", 2)]);
    assert!(both.stations.adds_up_to(&both.windows()));
}

#[test]
fn hostile_names_are_cut_and_cleaned() {
    let long = "é".repeat(200);
    let mut both = Both::new(10);
    for name in [&*long, "a\0b", "'; DROP TABLE weather_summary; --", "\u{202e}\u{feff}"] {
        both.add(0, Some(name), 1);
    }
    let mut names: Vec<String> = both.stations.changed().iter().map(|row| row.station.to_string()).collect();
    names.sort_unstable();
    let mut expected = [
        "é".repeat(128),
        "a\u{fffd}b".into(),
        "'; DROP TABLE weather_summary; --".into(),
        "\u{202e}\u{feff}".into(),
    ];
    expected.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn a_name_that_was_stored_is_found_again() {
    let mut both = Both::new(10);
    let names =
        ["\0".repeat(300), "a\0".repeat(128), "é".repeat(200), "x".repeat(70_000), "\u{1f321}\0".repeat(60)];
    names.iter().for_each(|name| both.add(0, Some(name), 1));
    let stored = both.stations.changed();
    assert!(stored.iter().all(|row| row.station.len() <= 256 && !row.station.contains('\0')));
    let mut again = Both::new(10);
    again.stations = Stations::resume(10, stored, Vec::new(), &both.windows());
    (again.windows, again.offset) = (both.windows, both.offset);
    names.iter().for_each(|name| again.add(0, Some(name), 1));
    assert_eq!(again.stations.row_count(), names.len());
    assert!(again.stations.adds_up_to(&again.windows()));
    assert!(again.stations.changed().iter().all(|row| row.totals.readings == 2));
}

#[test]
fn what_was_taken_stays_changed_until_it_is_confirmed() {
    let mut both = Both::new(10);
    both.add(0, Some("a"), 1);
    both.add(0, Some("b"), 1);
    assert_eq!(readings(&both.stations.take_changed(at(2))), [(0, "a", 1), (0, "b", 1)]);
    both.add(0, Some("b"), 1);
    // A flush that failed: the next one has all of it again.
    assert_eq!(readings(&both.stations.take_changed(at(3))), [(0, "a", 1), (0, "b", 2)]);
    both.add(0, Some("c"), 1);
    both.add(10, Some("a"), 1);
    both.stations.confirm(at(2), -10);
    assert_eq!(readings(&both.stations.changed()), [(0, "b", 2), (0, "c", 1), (10, "a", 1)]);
    both.stations.confirm(at(3), -10);
    assert_eq!(readings(&both.stations.changed()), [(0, "c", 1), (10, "a", 1)]);
    both.stations.take_changed(at(5));
    both.stations.confirm(at(5), 0);
    assert_eq!((both.stations.changed_count(), both.stations.row_count()), (0, 1));
}

#[test]
fn a_confirmed_part_and_the_changes_since_then_are_the_whole() {
    let mut both = Both::new(10);
    for (start_ms, name) in [(0, "a"), (0, "b"), (10, "a")] {
        both.add(start_ms, Some(name), 5);
    }
    let stored = both.stations.take_changed(at(3));
    both.stations.confirm(at(3), -10);
    both.add(10, Some("b"), 7);
    both.add(10, Some("a"), -7);
    let changed = both.stations.changed();
    let resumed = Stations::resume(10, stored, changed.clone(), &both.windows());
    assert!(resumed.adds_up_to(&both.windows()));
    assert_eq!(readings(&resumed.changed()), readings(&changed));
    let a = resumed.changed().into_iter().find(|row| &*row.station == "a").unwrap();
    assert_eq!((a.totals.least(0), a.totals.greatest(0), a.totals.least(1)), (Some(-7), Some(5), None));
}

#[test]
fn what_nobody_counted_by_station_counts_for_the_others() {
    let mut both = Both::new(10);
    both.add(0, Some("a"), 5);
    both.add(0, Some("b"), 9);
    both.add(10, Some("a"), 5);
    let stored: Vec<StationRow> =
        both.stations.changed().into_iter().filter(|row| &*row.station == "a").collect();
    let nothing = Stations::resume(10, Vec::new(), Vec::new(), &both.windows());
    assert_eq!(readings(&nothing.changed()), [(0, "*", 2), (10, "*", 1)]);
    let extremes =
        |stations: &Stations| stations.changed().iter().map(|row| row.totals.least(0)).collect::<Vec<_>>();
    assert_eq!(extremes(&nothing), [Some(5), Some(5)], "those of the window");
    let some = Stations::resume(10, stored, Vec::new(), &both.windows());
    assert!(some.adds_up_to(&both.windows()));
    assert_eq!((readings(&some.changed()), extremes(&some)), (vec![(0, "*", 1)], vec![None]), "not known");
}

#[test]
fn any_order_of_stations_counts_the_same() {
    let mut both = Both::new(usize::MAX);
    let mut expected: BTreeMap<(i64, String), i64> = BTreeMap::new();
    let mut dice = 0x2545_f491_4f6c_dd1d_u64;
    for i in 0..60_000_u64 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // In turn, then backwards, then at random; two windows at a time.
        let station = match i / 20_000 {
            0 => i % 700,
            1 => 699 - i % 700,
            _ => (dice >> 33) % 700,
        };
        let (start_ms, name) =
            (dice as i64 % 2 * 10, "s".repeat(1 + station as usize % 9) + &station.to_string());
        both.take(start_ms, Some(&name), 1);
        *expected.entry((start_ms, name)).or_default() += 1;
    }
    both.stations.settle();
    assert!(both.stations.adds_up_to(&both.windows()));
    let rows = both.stations.changed();
    assert_eq!(rows.len(), expected.len());
    for row in rows {
        assert_eq!(expected[&(row.start_ms, row.station.to_string())], row.totals.readings);
    }
}

#[test]
fn memory_is_what_the_formula_says() {
    let mut both = Both::new(usize::MAX);
    (0..100_000).for_each(|i| both.add(0, Some(&format!("station-{i:06}")), 1));
    // 96 bytes a row, 4 in the list of changes, 2 places of 8 bytes, 14 of the name; each reserved up to the next power of two.
    let formula = 131_072 * (96 + 4) + 262_144 * 8 + 2 * 1024 * 1024;
    let reserved = both.stations.reserved_bytes();
    assert!(reserved.abs_diff(formula) * 20 < formula, "{reserved} bytes, {formula} by the formula");
}
