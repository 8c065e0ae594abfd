//! `Batch {id}:`, the rows and `write OK` on standard output, as the users of the old system know it.
//!
//! At most one batch a second is printed (to a terminal, every ten seconds); what is written in between comes with the
//! next one, each window with its newest values. Nothing written stays unprinted for longer than that, unless standard
//! output has not accepted an earlier batch yet: then it comes with the next batch.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::window::METRICS;
use crate::postgres::summary::SummaryRow;
use crate::telemetry::human::{Side, columns};
use crate::telemetry::{output, terminal};
use crate::time::SqlTimestamp;

const INTERVAL: Duration = Duration::from_secs(1);
/// On a terminal, where the live line shows progress meanwhile.
const TERMINAL_INTERVAL: Duration = Duration::from_secs(10);
const HEADERS: [&str; 2 + METRICS] =
    ["window_start", "window_end", "avg_temp", "avg_humidity", "avg_wind_speed"];
/// As Spark's `show`: more rows are only counted.
const MAX_ROWS: usize = 20;

/// Collects and prints batches.
#[derive(Debug, Default)]
pub struct BatchLog {
    next_id: u64,
    rows: Rows,
    last: Option<Instant>,
}

/// What the next batch shows.
#[derive(Debug, Default)]
struct Rows {
    /// The newest windows by their start, as they are the ones that move.
    newest: BTreeMap<i64, SummaryRow>,
    /// The starts of all others.
    earlier: BTreeSet<i64>,
}

impl Rows {
    fn add(&mut self, row: &SummaryRow) {
        self.newest.insert(row.start_ms, row.clone());
        if self.newest.len() > MAX_ROWS
            && let Some((start_ms, _)) = self.newest.pop_first()
        {
            self.earlier.insert(start_ms);
        }
    }
}

impl BatchLog {
    /// Takes rows that were written, and prints them if the last batch is long enough ago.
    pub fn add(&mut self, rows: &[SummaryRow]) {
        rows.iter().for_each(|row| self.rows.add(row));
        if self.due().is_some_and(|due| due <= Instant::now()) {
            self.print();
        }
    }

    /// When the waiting rows are to be printed; None while none wait.
    pub fn due(&self) -> Option<Instant> {
        (!self.rows.newest.is_empty()).then(|| self.last.map_or_else(Instant::now, |last| last + interval()))
    }

    /// Prints the waiting rows, if there are any and standard output has accepted the previous ones.
    pub fn print(&mut self) {
        if output::is_idle() {
            self.close();
        }
        self.last = Some(Instant::now());
    }

    /// Prints the waiting rows: the last batch.
    pub fn close(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        if !rows.newest.is_empty() {
            output::print(batch(self.next_id, &rows));
            self.next_id += 1;
        }
    }
}

fn interval() -> Duration {
    if terminal::is_live() { TERMINAL_INTERVAL } else { INTERVAL }
}

fn batch(id: u64, rows: &Rows) -> String {
    let headers = HEADERS.map(str::to_owned);
    let shown: Vec<[String; 2 + METRICS]> =
        std::iter::once(headers).chain(rows.newest.values().map(cells)).collect();
    let lines = columns(&shown, Side::Right, "|");
    let rule: String = lines[0].chars().map(|c| if c == '|' { '+' } else { '-' }).collect();
    let mut text = format!("Batch {id}:\n+{rule}+\n|{}|\n+{rule}+\n", lines[0]);
    for line in &lines[1..] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "|{line}|");
    }
    let _ = writeln!(text, "+{rule}+");
    if !rows.earlier.is_empty() {
        let _ = writeln!(text, "and {} earlier windows", rows.earlier.len());
    }
    text + "write OK\n"
}

fn cells(row: &SummaryRow) -> [String; 2 + METRICS] {
    let average = |i: usize| row.averages[i].map_or_else(|| "NULL".to_owned(), |a| format!("{a:.6}"));
    [
        SqlTimestamp(row.start_ms).to_string(),
        SqlTimestamp(row.end_ms).to_string(),
        average(0),
        average(1),
        average(2),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(start_ms: i64) -> SummaryRow {
        SummaryRow {
            start_ms,
            end_ms: start_ms + 3_600_000,
            averages: [Some(20.5), None, Some(3.0)],
            reading_count: 2,
            is_final: false,
        }
    }

    #[test]
    fn looks_as_the_old_system_printed_it() {
        let mut rows = Rows::default();
        rows.add(&row(0));
        assert_eq!(
            batch(7, &rows),
            "\
Batch 7:
+-------------------+-------------------+---------+------------+--------------+
|       window_start|         window_end| avg_temp|avg_humidity|avg_wind_speed|
+-------------------+-------------------+---------+------------+--------------+
|1970-01-01 00:00:00|1970-01-01 01:00:00|20.500000|        NULL|      3.000000|
+-------------------+-------------------+---------+------------+--------------+
write OK
"
        );
    }

    #[test]
    fn many_windows_are_cut_to_the_newest() {
        let mut rows = Rows::default();
        // Twice: a window that is written again is one window.
        (0..25).chain(0..25).for_each(|i| rows.add(&row(i)));
        let text = batch(0, &rows);
        assert!(text.contains("and 5 earlier windows"), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("|1970")).count(), MAX_ROWS, "{text}");
    }
}
