//! The comparison of the tables in PostgreSQL with what is expected.

use super::{Expected, Outcome, Partition, Totals};
use crate::support::Database;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::Row;

/// How far a value may be off: they are kept in units of 1e-6.
const TOLERANCE: f64 = 1e-6;
/// More differences than this are not listed.
const SHOWN_MAX: usize = 20;

const SUMMARY: &str = "SELECT (EXTRACT(EPOCH FROM window_start) * 1000)::bigint, \
    (EXTRACT(EPOCH FROM window_end) * 1000)::bigint, reading_count, avg_temp, avg_humidity, avg_wind_speed, \
    min_temp, max_temp, min_humidity, max_humidity, max_wind_speed FROM weather_summary";
const STATIONS: &str = "SELECT (EXTRACT(EPOCH FROM window_start) * 1000)::bigint, station, reading_count, avg_temp, \
    avg_humidity, avg_wind_speed, min_temp, max_temp, min_humidity, max_humidity, max_wind_speed \
    FROM weather_station_summary";
/// Partials whose stations have not the same counts and sums.
const UNLIKE_STATIONS: &str = "SELECT count(*) FROM weather_partial p FULL JOIN ( \
        SELECT window_start, partition, sum(reading_count) AS reading_count, sum(temp_count) AS temp_count, \
            sum(humidity_count) AS humidity_count, sum(wind_speed_count) AS wind_speed_count, \
            sum(temp_sum) AS temp_sum, sum(humidity_sum) AS humidity_sum, sum(wind_speed_sum) AS wind_speed_sum \
        FROM weather_station_partial GROUP BY window_start, partition) s USING (window_start, partition) \
    WHERE (p.reading_count, p.temp_count, p.humidity_count, p.wind_speed_count, p.temp_sum, p.humidity_sum, \
            p.wind_speed_sum) IS DISTINCT FROM (s.reading_count, s.temp_count, s.humidity_count, \
            s.wind_speed_count, s.temp_sum, s.humidity_sum, s.wind_speed_sum)";
const COLUMNS: [&str; 8] = [
    "avg_temp",
    "avg_humidity",
    "avg_wind_speed",
    "min_temp",
    "max_temp",
    "min_humidity",
    "max_humidity",
    "max_wind_speed",
];
/// The counters of `weather_partition`: every offset since `origin_offset` is in one of them. What has no record (of a
/// transaction, or compacted away) is skipped; what retention took before it was read is lost.
const COUNTERS: [&str; 11] = [
    "aggregated",
    "duplicates",
    "malformed",
    "missing_timestamp",
    "no_metric",
    "out_of_range",
    "future",
    "late",
    "oversized",
    "skipped",
    "lost",
];
/// Which of them are outcomes of records, and which of these reasons of dead letters.
const OUTCOMES: std::ops::Range<usize> = 0..9;
const REASONS: std::ops::Range<usize> = 2..9;

/// Those of the log as it is now, not of one that was deleted and made again.
const DEAD_LETTERS: &str = "SELECT partition, \"offset\", reason FROM weather_dead_letter \
    JOIN weather_partition USING (topic, partition, incarnation) WHERE topic = $1";

/// A difference is a line of text.
type Differences = Vec<String>;

impl Expected {
    /// Fails with the first differences, if there are any.
    pub async fn assert_table(&self, database: &Database) {
        self.assert_none(self.differences(database).await);
    }

    /// The same for the windows alone: where the log was changed, offsets start again.
    pub async fn assert_windows(&self, database: &Database) {
        self.assert_none(self.summary(database).await);
    }

    /// Fails unless every station is as expected, and all stations of each partition and window add up to it.
    pub async fn assert_stations(&self, database: &Database) {
        assert_eq!(database.number(UNLIKE_STATIONS).await, 0, "stations do not add up to their window");
        let mut differences = Vec::new();
        let mut expected = self.stations();
        for row in database.query(STATIONS, &[]).await {
            let station: (i64, String) = (row.get(0), row.get(1));
            let values = std::array::from_fn(|column| row.get(3 + column));
            match expected.remove(&station) {
                Some(totals) => {
                    let found = compare(station.0, &totals, row.get(2), values);
                    differences
                        .extend(found.into_iter().map(|text| format!("station {}: {text}", station.1)));
                }
                None => differences.push(format!("{station:?}: in the table once too often")),
            }
        }
        differences
            .extend(expected.iter().map(|(station, totals)| format!("{station:?}: missing, {totals:?}")));
        self.assert_none(differences);
    }

    fn assert_none(&self, found: Differences) {
        let shown = found.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join("\n  ");
        assert!(
            found.is_empty(),
            "{} differences between topic {} ({:?}) and the tables:\n  {shown}",
            found.len(),
            self.topic,
            self.counts()
        );
    }

    /// All differences; empty when the tables are exact: the windows, the counters of every partition, which together
    /// account for each of its offsets, and the dead letters, of which only as many as were counted may be left out.
    pub async fn differences(&self, database: &Database) -> Differences {
        let mut differences = self.summary(database).await;
        let dead_letters = self.dead_letters(database, &mut differences).await;
        self.partitions(database, &dead_letters, &mut differences).await;
        differences
    }

    async fn summary(&self, database: &Database) -> Differences {
        let mut differences = Vec::new();
        let mut expected = self.windows();
        for row in database.query(SUMMARY, &[]).await {
            let (start, end): (i64, i64) = (row.get(0), row.get(1));
            let values = std::array::from_fn(|column| row.get(3 + column));
            if end != start + self.rules.window_ms {
                differences.push(format!("window {start}: ends at {end}"));
            }
            match expected.remove(&start) {
                Some(totals) => differences.extend(compare(start, &totals, row.get(2), values)),
                None => differences.push(format!("window {start}: in the table once too often")),
            }
        }
        let missing = expected.iter().map(|(start, totals)| format!("window {start}: missing, {totals:?}"));
        differences.extend(missing);
        differences
    }

    /// Checks each dead letter in the table, and counts them by partition.
    async fn dead_letters(&self, database: &Database, differences: &mut Differences) -> BTreeMap<i32, i64> {
        let mut seen = BTreeSet::new();
        let mut dead_letters = BTreeMap::new();
        for row in database.query(DEAD_LETTERS, &[&self.topic]).await {
            let (number, offset, reason): (i32, i64, String) = (row.get(0), row.get(1), row.get(2));
            let outcome = self.partitions.get(&number).and_then(|partition| partition.outcomes.get(&offset));
            if !seen.insert((number, offset)) {
                differences.push(format!("dead letter {number}/{offset}: twice"));
            } else if !matches!(outcome, Some(Outcome::DeadLetter(expected)) if *expected == reason) {
                differences.push(format!("dead letter {number}/{offset}: {reason}, expected {outcome:?}"));
            }
            *dead_letters.entry(number).or_default() += 1;
        }
        dead_letters
    }

    async fn partitions(
        &self,
        database: &Database,
        dead_letters: &BTreeMap<i32, i64>,
        differences: &mut Differences,
    ) {
        let query = format!(
            "SELECT partition, next_offset, next_offset - origin_offset, sampled_out, ARRAY[{}] \
             FROM weather_partition WHERE topic = $1 AND next_offset IS NOT NULL",
            COUNTERS.join(", ")
        );
        let rows = database.query(&query, &[&self.topic]).await;
        let rows: BTreeMap<i32, &Row> = rows.iter().map(|row| (row.get(0), row)).collect();
        for (number, partition) in &self.partitions {
            let dead_letters = dead_letters.get(number).copied().unwrap_or_default();
            match rows.get(number) {
                Some(row) => {
                    let found = partition.differences(row, dead_letters);
                    differences.extend(found.into_iter().map(|text| format!("partition {number}: {text}")));
                }
                None if partition.next_offset == 0 => {}
                None => differences.push(format!("partition {number}: not in weather_partition")),
            }
        }
    }
}

impl Partition {
    /// Compares with its row; `dead_letters` is the number of its dead letters in the table.
    fn differences(&self, row: &Row, dead_letters: i64) -> Differences {
        let (next_offset, offsets, sampled_out): (i64, i64, i64) = (row.get(1), row.get(2), row.get(3));
        let counters: Vec<i64> = row.get(4);
        let expected = self.counts();
        let expected = COUNTERS.map(|name| expected.get(name).copied().unwrap_or_default());
        let rejected = expected[REASONS].iter().sum();
        let mut compared = vec![
            ("next_offset", next_offset, self.next_offset),
            ("the sum of the counters", counters.iter().sum(), offsets),
            ("the number of dead letters", dead_letters + sampled_out, rejected),
        ];
        compared.extend(OUTCOMES.map(|counter| (COUNTERS[counter], counters[counter], expected[counter])));
        compared.retain(|(_, found, expected)| found != expected);
        compared
            .iter()
            .map(|(what, found, expected)| format!("{what} is {found}, expected {expected}"))
            .collect()
    }
}

fn compare(start: i64, expected: &Totals, readings: i64, values: [Option<f64>; 8]) -> Differences {
    let mut differences = Vec::new();
    if readings != expected.readings {
        differences.push(format!("window {start}: reading_count {readings}, expected {}", expected.readings));
    }
    let wanted = (0..3).map(|metric| expected.average(metric)).chain(expected.extremes());
    for ((name, found), wanted) in COLUMNS.iter().zip(values).zip(wanted) {
        let is_equal = match (found, wanted) {
            (Some(found), Some(wanted)) => (found - wanted).abs() <= TOLERANCE,
            (found, wanted) => found == wanted,
        };
        if !is_equal {
            differences.push(format!("window {start}: {name} is {found:?}, expected {wanted:?}"));
        }
    }
    differences
}
