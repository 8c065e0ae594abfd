//! The comparison of the tables in PostgreSQL with what is expected.

use super::{Expected, Fate, Totals};
use crate::support::Database;
use std::collections::{BTreeMap, BTreeSet};

/// How far an average may be off: sums are kept in units of 1e-6.
const AVERAGE_TOLERANCE: f64 = 1e-6;
/// More differences than this tell no more.
const SHOWN_MAX: usize = 20;

const SUMMARY: &str = "SELECT (EXTRACT(EPOCH FROM window_start) * 1000)::bigint, \
    (EXTRACT(EPOCH FROM window_end) * 1000)::bigint, reading_count, avg_temp, avg_humidity, avg_wind_speed \
    FROM weather_summary";
const PARTITIONS: &str = "SELECT partition, next_offset FROM weather_partition WHERE topic = $1";
const DEAD_LETTERS: &str =
    "SELECT partition, \"offset\", reason FROM weather_dead_letter WHERE topic = $1 ORDER BY 1, 2";

/// Whether the table of dead letters has all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetters {
    /// Each, once.
    All,
    /// There was a flood, which is sampled: those that are there must be right.
    Sample,
}

/// A difference is a line of text.
type Differences = Vec<String>;

impl Expected {
    /// Fails with the first differences, if there are any.
    pub async fn assert_table(&self, database: &Database, dead_letters: DeadLetters) {
        let found = self.differences(database, dead_letters).await;
        let shown = found.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join("\n  ");
        assert!(
            found.is_empty(),
            "{} differences between topic {} ({:?}) and the tables:\n  {shown}",
            found.len(),
            self.topic,
            self.counts()
        );
    }

    /// All differences; empty when the tables are exact.
    ///
    /// Together they account for every offset: each partition is done up to its end, each dead letter is there once with
    /// its reason, and the windows count exactly what is aggregated, so the rest was taken for duplicates.
    pub async fn differences(&self, database: &Database, dead_letters: DeadLetters) -> Differences {
        let mut differences = self.summary(database).await;
        differences.extend(self.next_offsets(database).await);
        differences.extend(self.dead_letters(database, dead_letters).await);
        differences
    }

    async fn summary(&self, database: &Database) -> Differences {
        let mut differences = Vec::new();
        let mut expected = self.windows();
        for row in database.query(SUMMARY, &[]).await {
            let (start, end): (i64, i64) = (row.get(0), row.get(1));
            let averages = [row.get(3), row.get(4), row.get(5)];
            if end != start + self.rules.window_ms {
                differences.push(format!("window {start}: ends at {end}"));
            }
            match expected.remove(&start) {
                Some(totals) => differences.extend(compare(start, &totals, row.get(2), averages)),
                None => differences.push(format!("window {start}: in the table once too often")),
            }
        }
        let missing = expected.iter().map(|(start, totals)| format!("window {start}: missing, {totals:?}"));
        differences.extend(missing);
        differences
    }

    async fn next_offsets(&self, database: &Database) -> Differences {
        let rows = database.query(PARTITIONS, &[&self.topic]).await;
        let found: BTreeMap<i32, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let expected = self.partitions.iter().filter(|(_, partition)| partition.next_offset > 0);
        expected
            .filter(|(number, partition)| found.get(number) != Some(&partition.next_offset))
            .map(|(number, partition)| {
                let (end, found) = (partition.next_offset, found.get(number));
                format!("partition {number}: ends at {end}, weather_partition.next_offset is {found:?}")
            })
            .collect()
    }

    async fn dead_letters(&self, database: &Database, all: DeadLetters) -> Differences {
        let mut differences = Vec::new();
        let mut seen = BTreeSet::new();
        for row in database.query(DEAD_LETTERS, &[&self.topic]).await {
            let (number, offset, reason): (i32, i64, String) = (row.get(0), row.get(1), row.get(2));
            let fate = self.partitions.get(&number).and_then(|partition| partition.fates.get(&offset));
            if !seen.insert((number, offset)) {
                differences.push(format!("dead letter {number}/{offset}: twice"));
            } else if !matches!(fate, Some(Fate::DeadLetter(expected)) if *expected == reason) {
                differences.push(format!("dead letter {number}/{offset}: {reason}, expected {fate:?}"));
            }
        }
        if all == DeadLetters::Sample {
            return differences;
        }
        for (number, partition) in &self.partitions {
            for (offset, fate) in &partition.fates {
                if matches!(fate, Fate::DeadLetter(_)) && !seen.contains(&(*number, *offset)) {
                    differences.push(format!("dead letter {number}/{offset}: missing, expected {fate:?}"));
                }
            }
        }
        differences
    }
}

fn compare(start: i64, expected: &Totals, readings: i64, averages: [Option<f64>; 3]) -> Differences {
    let mut differences = Vec::new();
    if readings != expected.readings {
        differences.push(format!("window {start}: reading_count {readings}, expected {}", expected.readings));
    }
    for (metric, found) in averages.into_iter().enumerate() {
        let wanted = expected.average(metric);
        let is_equal = match (found, wanted) {
            (Some(found), Some(wanted)) => (found - wanted).abs() <= AVERAGE_TOLERANCE,
            (found, wanted) => found == wanted,
        };
        if !is_equal {
            differences.push(format!("window {start}: average {metric} is {found:?}, expected {wanted:?}"));
        }
    }
    differences
}
