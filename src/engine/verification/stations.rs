//! Whether the stations of a partition's windows are, row by row, what its log says.
//!
//! Each row of the table is taken out of what the log has come to. What is left then has no row in the table.
//!
//! Some rows may differ for good reason: what came before stations were kept apart counts for [`OTHERS`], and neither the log
//! nor the table says since when they are. Then all rows together are what the log says, to the last digit, and the row of
//! the others is not. Every other row has less than the log says; only where there are more stations than are kept apart,
//! it may be other ones that are. Such a window [cannot be checked](StationVerdict::Unknown).

use std::collections::BTreeMap;

use super::{COLUMNS, ComparedValue};
use crate::engine::stations::{OTHERS, StationTotals, Stations};
use crate::engine::window::METRICS;

/// At most this many rows of a window that differ are listed; the others are counted.
const MAX_LISTED: usize = 20;
/// Columns that a station has: the first ones of a window.
const STATION_COLUMNS: usize = 1 + 4 * METRICS;

/// A row that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StationDifference {
    /// The station.
    pub station: Box<str>,
    /// How.
    pub how: DifferenceKind,
}

/// How the row of a station differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DifferenceKind {
    /// In these values.
    Values(Vec<ComparedValue>),
    /// The table has no row of it.
    NoRow,
    /// The log has no reading of it.
    NoReading,
}

/// What the comparison of a window's stations came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StationVerdict {
    /// This many rows are the same.
    Equal(i64),
    /// Stations may have been kept apart only from some reading on.
    Unknown,
    /// This many rows differ, the first of them these.
    Differs(i64, Vec<StationDifference>),
}

/// The stations of some windows of a partition, while the table's rows come.
pub struct StationComparison<'l> {
    log: &'l mut Stations,
    windows: BTreeMap<i64, WindowComparison>,
    /// Whether there were rows of other windows.
    has_others: bool,
}

impl<'l> StationComparison<'l> {
    /// Of the windows that begin then, in ms since 1970; `log` is what the log came to. What is compared of it is gone
    /// afterwards, so the windows are to be confirmed.
    pub fn new(log: &'l mut Stations, starts_ms: impl IntoIterator<Item = i64>) -> Self {
        let windows = starts_ms.into_iter().map(|start_ms| (start_ms, WindowComparison::default())).collect();
        Self { log, windows, has_others: false }
    }

    /// Compares a row of the table. Rows of other windows are left alone.
    pub fn row(&mut self, start_ms: i64, station: &str, table: &StationTotals) {
        let Some(window) = self.windows.get_mut(&start_ms) else {
            self.has_others = true;
            return;
        };
        window.rows += 1;
        let log = self.log.take(start_ms, station);
        let how = match &log {
            None => DifferenceKind::NoReading,
            Some(log) => DifferenceKind::Values(values(station, table, log)),
        };
        window.balance(station, table, &log.unwrap_or_default());
        if how != DifferenceKind::Values(Vec::new()) {
            window.find(station, how);
        }
    }

    /// What it came to, by window, ascending. Windows that the table has no row of are left out until the first one that it
    /// has (`has_begun`, kept for the next call): they were closed before stations were kept apart, or are deleted. Those
    /// up to `deleted_to_ms` may be deleted in part.
    pub fn finish(self, has_begun: &mut bool, deleted_to_ms: Option<i64>) -> Vec<(i64, StationVerdict)> {
        let mut verdicts = Vec::new();
        *has_begun |= self.has_others;
        for (start_ms, mut window) in self.windows {
            *has_begun |= window.rows > 0;
            if !*has_begun {
                continue;
            }
            if deleted_to_ms.is_none_or(|deleted| start_ms > deleted) {
                for (station, log) in self.log.rows_of(start_ms) {
                    window.balance(station, &StationTotals::default(), &log);
                    window.find(station, DifferenceKind::NoRow);
                }
                verdicts.push((start_ms, window.verdict()));
            } else {
                verdicts.push((start_ms, window.verdict_of_half()));
            }
        }
        verdicts
    }
}

/// A window's stations, as far as they are compared.
#[derive(Debug, Default)]
struct WindowComparison {
    /// Rows of the table.
    rows: i64,
    differing: i64,
    listed: Vec<StationDifference>,
    /// What all rows together lack, or have more.
    lacking: StationTotals,
    /// What the others lack, or have more.
    others: StationTotals,
    /// Whether another row has more than the log says.
    has_surplus: bool,
    /// Whether by the log there are more stations than are kept apart.
    is_full: bool,
}

impl WindowComparison {
    fn find(&mut self, station: &str, how: DifferenceKind) {
        self.differing += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push(StationDifference { station: station.into(), how });
        }
    }

    fn balance(&mut self, station: &str, table: &StationTotals, log: &StationTotals) {
        let lacking = table.missing_to(log);
        self.lacking.sum(&lacking);
        if station == OTHERS {
            self.others = lacking;
            self.is_full = log.readings > 0;
        } else {
            self.has_surplus |= lacking.readings < 0 || lacking.counts.iter().any(|count| *count < 0);
        }
    }

    /// Of a window all of whose rows are there.
    fn verdict(self) -> StationVerdict {
        let is_balanced = self.lacking.is_nothing();
        self.verdict_if_explained(is_balanced)
    }

    /// Of a window some of whose rows may be deleted, so that what they lack is not known.
    fn verdict_of_half(self) -> StationVerdict {
        self.verdict_if_explained(true)
    }

    fn verdict_if_explained(self, is_balanced: bool) -> StationVerdict {
        let is_later = self.others.readings < 0 && !self.has_surplus;
        let is_other = self.is_full && !self.others.is_nothing();
        match self.differing {
            0 => StationVerdict::Equal(self.rows),
            _ if is_balanced && (is_later || is_other) => StationVerdict::Unknown,
            differing => StationVerdict::Differs(differing, self.listed),
        }
    }
}

/// The values in which a row differs. An extreme of the others that the table does not know is not compared.
fn values(station: &str, table: &StationTotals, log: &StationTotals) -> Vec<ComparedValue> {
    let (table, log) = (columns(table), columns(log));
    let value = |i: usize| ComparedValue { name: COLUMNS[i].0, table: table[i], log: log[i] };
    let is_known = |value: &ComparedValue| station != OTHERS || value.table.is_some();
    (0..STATION_COLUMNS).map(value).filter(|value| value.table != value.log && is_known(value)).collect()
}

/// In the order of [`COLUMNS`].
fn columns(totals: &StationTotals) -> [Option<i64>; STATION_COLUMNS] {
    std::array::from_fn(|i| match i.checked_sub(1).map(|i| (i / METRICS, i % METRICS)) {
        None => Some(totals.readings),
        Some((0, metric)) => Some(totals.counts[metric]),
        Some((1, metric)) => Some(totals.sums[metric]),
        Some((2, metric)) => totals.least(metric),
        Some((_, metric)) => totals.greatest(metric),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Reading;

    /// Five readings of three stations in window 0, and one in window 10.
    fn log() -> Stations {
        let mut stations = Stations::new(10);
        for (start_ms, station, value) in
            [(0, "a", 10), (0, "a", 20), (0, "b", 30), (0, "c", 40), (0, "c", 50), (10, "a", 60)]
        {
            let metrics = [Some(value), None, Some(-value)];
            let reading = Reading { event_time_ms: 0, metrics, left_out: [None; METRICS] };
            stations.add(start_ms, Some(station), &reading);
        }
        stations.settle();
        stations
    }

    type Row = (i64, Box<str>, StationTotals);

    fn rows() -> Vec<Row> {
        log().changed().into_iter().map(|row| (row.start_ms, row.station, row.totals)).collect()
    }

    fn compare(rows: &[Row], deleted_to_ms: Option<i64>) -> Vec<(i64, StationVerdict)> {
        let mut log = log();
        let mut comparison = StationComparison::new(&mut log, [0, 10]);
        rows.iter().for_each(|(start_ms, station, totals)| comparison.row(*start_ms, station, totals));
        comparison.finish(&mut false, deleted_to_ms)
    }

    fn of<'r>(rows: &'r mut [Row], station: &str) -> &'r mut StationTotals {
        let row = rows.iter_mut().find(|(start_ms, name, _)| (*start_ms, &**name) == (0, station));
        &mut row.expect("the station has a row").2
    }

    /// What is found in window 0: a station and a word of how.
    fn found(rows: &[Row]) -> Vec<(String, String)> {
        match &compare(rows, None)[0].1 {
            StationVerdict::Differs(count, listed) => {
                assert_eq!(*count, listed.len() as i64);
                let text = |how: &DifferenceKind| match how {
                    DifferenceKind::Values(values) => {
                        values.iter().map(|v| v.name).collect::<Vec<_>>().join(" ")
                    }
                    other => format!("{other:?}"),
                };
                listed.iter().map(|d| (d.station.to_string(), text(&d.how))).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whatever_is_wrong_with_a_row_is_found() {
        assert_eq!(compare(&rows(), None), [(0, StationVerdict::Equal(3)), (10, StationVerdict::Equal(1))]);
        type Plant = fn(&mut Vec<Row>);
        let planted: [(Plant, &[(&str, &str)]); 6] = [
            (|rows| of(rows, "b").sums[0] += 1, &[("b", "temp_sum")]),
            (|rows| drop(rows.remove(1)), &[("b", "NoRow")]),
            (|rows| rows.push((0, "d".into(), StationTotals::default())), &[("d", "NoReading")]),
            (
                |rows| {
                    of(rows, "a").readings -= 1;
                    of(rows, "c").readings += 1;
                },
                &[("a", "reading_count"), ("c", "reading_count")],
            ),
            (
                |rows| *of(rows, "c") = *of(rows, "b"),
                &[(
                    "c",
                    "reading_count temp_count wind_speed_count temp_sum wind_speed_sum min_temp min_wind_speed max_temp \
                 max_wind_speed",
                )],
            ),
            (
                |rows| {
                    let a = of(rows, "a");
                    *a = StationTotals::of(a.readings, a.counts, a.sums, [Some(11), None, None], [None; 3]);
                },
                &[("a", "min_temp min_wind_speed max_temp max_wind_speed")],
            ),
        ];
        for (plant, expected) in planted {
            let mut rows = rows();
            plant(&mut rows);
            let expected: Vec<_> = expected.iter().map(|(s, w)| ((*s).to_owned(), (*w).to_owned())).collect();
            assert_eq!(found(&rows), expected);
        }
    }

    #[test]
    fn what_came_before_stations_were_kept_apart_cannot_be_told() {
        let mut rows = rows();
        // All of a, and nothing else, came before.
        let all_of_a = *of(&mut rows, "a");
        rows.retain(|(start_ms, name, _)| (*start_ms, &**name) != (0, "a"));
        rows.push((0, OTHERS.into(), all_of_a));
        assert_eq!(compare(&rows, None)[0], (0, StationVerdict::Unknown));
        // But it has to be the same to the last digit.
        of(&mut rows, OTHERS).sums[2] += 1;
        assert!(matches!(compare(&rows, None)[0].1, StationVerdict::Differs(2, _)));
        of(&mut rows, OTHERS).sums[2] -= 1;
        of(&mut rows, "b").readings += 1;
        of(&mut rows, "c").readings -= 1;
        assert!(matches!(compare(&rows, None)[0].1, StationVerdict::Differs(4, _)));
    }

    #[test]
    fn with_more_stations_than_are_kept_apart_others_may_be_apart() {
        let counted = |limit: usize, before: usize| {
            let mut stations = Stations::new(limit);
            for (i, station) in ["a", "b", "c", "a", "c"].iter().enumerate() {
                let reading = Reading {
                    event_time_ms: 0,
                    metrics: [Some(i as i64), None, Some(1)],
                    left_out: [None; METRICS],
                };
                stations.add(0, Some(if i < before { OTHERS } else { station }), &reading);
            }
            stations.settle();
            stations
        };
        let compare = |table: &Stations| {
            let mut log = counted(2, 0);
            let mut comparison = StationComparison::new(&mut log, [0]);
            table.rows_of(0).for_each(|(station, totals)| comparison.row(0, station, &totals));
            comparison.finish(&mut false, None).remove(0).1
        };
        assert_eq!(compare(&counted(2, 0)), StationVerdict::Equal(3));
        // From the third or the fourth reading on: c takes the place of b.
        assert_eq!(compare(&counted(2, 2)), StationVerdict::Unknown);
        assert_eq!(compare(&counted(2, 3)), StationVerdict::Unknown);
    }

    #[test]
    fn windows_without_rows_and_those_that_are_half_deleted_are_left_alone() {
        let of_window = |start_ms: i64| rows().into_iter().filter(move |row| row.0 == start_ms);
        let second: Vec<Row> = of_window(10).collect();
        assert_eq!(compare(&second, None), [(10, StationVerdict::Equal(1))], "not yet kept apart");
        let first: Vec<Row> = of_window(0).collect();
        assert!(matches!(compare(&first, None)[1], (10, StationVerdict::Differs(1, _))), "no more");
        let half: Vec<Row> = rows().into_iter().skip(1).collect();
        assert!(matches!(compare(&half, None)[0].1, StationVerdict::Differs(1, _)));
        assert_eq!(compare(&half, Some(0))[0], (0, StationVerdict::Equal(2)));
    }

    #[test]
    fn of_many_differences_the_first_are_told() {
        let mut log = Stations::new(100);
        let reading = Reading { event_time_ms: 0, metrics: [Some(1); METRICS], left_out: [None; METRICS] };
        (0..50).for_each(|i| log.add(0, Some(&format!("s{i}")), &reading));
        log.settle();
        let comparison = StationComparison::new(&mut log, [0]);
        let verdicts = comparison.finish(&mut true, None);
        assert!(matches!(&verdicts[0].1, StationVerdict::Differs(50, listed) if listed.len() == MAX_LISTED));
    }
}
