//! `Batch {id}:`, the rows and `write OK` on standard output, as the users of the old system know it.
//!
//! At most one batch a second is printed (to a terminal, every ten seconds); what is written in between comes with the
//! next one, each window with its newest values. Nothing written stays unprinted for longer than that, unless the reader
//! of standard output stands still: a thread of its own writes, so that a pager never stops the flush, and what it does
//! not take comes with the next batch.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::window::METRICS;
use crate::postgres::summary::SummaryRow;
use crate::telemetry::{output, terminal};
use crate::time::SqlTimestamp;

const INTERVAL: Duration = Duration::from_secs(1);
/// On a terminal, where the live line tells what goes on meanwhile.
const TERMINAL_INTERVAL: Duration = Duration::from_secs(10);
const HEADERS: [&str; 2 + METRICS] =
    ["window_start", "window_end", "avg_temp", "avg_humidity", "avg_wind_speed"];
/// As Spark's `show`: more rows are only counted.
const MAX_ROWS: usize = 20;

/// Longest wait at the end for a reader that stands still.
const LAST_BATCH: Duration = Duration::from_secs(1);

/// Collects and prints batches.
#[derive(Debug)]
pub struct BatchLog {
    next_id: u64,
    rows: BTreeMap<i64, SummaryRow>,
    last: Option<Instant>,
    texts: SyncSender<String>,
    printer: JoinHandle<()>,
}

impl Default for BatchLog {
    fn default() -> Self {
        let (texts, waiting) = sync_channel::<String>(1);
        let printer = std::thread::spawn(move || {
            // A standard output that is gone takes no more batches; the work goes on without.
            waiting.iter().for_each(output::print);
        });
        Self { next_id: 0, rows: BTreeMap::new(), last: None, texts, printer }
    }
}

impl BatchLog {
    /// Takes rows that were written, and prints them if the last batch is long enough ago.
    pub fn add(&mut self, rows: &[SummaryRow]) {
        self.rows.extend(rows.iter().map(|row| (row.start_ms, row.clone())));
        if self.due().is_some_and(|due| due <= Instant::now()) {
            self.print();
        }
    }

    /// When the rows that wait shall be printed; None while none wait.
    pub fn due(&self) -> Option<Instant> {
        (!self.rows.is_empty()).then(|| self.last.map_or_else(Instant::now, |last| last + interval()))
    }

    /// Prints the rows that wait, if any.
    pub fn print(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        self.last = Some(Instant::now());
        if self.texts.try_send(batch(self.next_id, &self.rows)).is_ok() {
            self.next_id += 1;
            self.rows.clear();
        }
    }

    /// Prints what waits and gives the reader a moment to take it.
    pub async fn close(mut self) {
        let end = Instant::now() + LAST_BATCH;
        self.print();
        drop(self.texts);
        while !self.printer.is_finished() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn interval() -> Duration {
    if terminal::is_live() { TERMINAL_INTERVAL } else { INTERVAL }
}

fn batch(id: u64, rows: &BTreeMap<i64, SummaryRow>) -> String {
    // The newest windows, as they are the ones that move.
    let skipped = rows.len().saturating_sub(MAX_ROWS);
    let shown: Vec<[String; 2 + METRICS]> = rows.values().skip(skipped).map(cells).collect();
    let width = |i: usize| shown.iter().map(|row| row[i].len()).chain([HEADERS[i].len()]).max().unwrap_or(0);
    let widths: [usize; 2 + METRICS] = std::array::from_fn(width);
    let rule = widths.iter().fold("+".to_owned(), |line, width| line + &"-".repeat(*width) + "+");
    let line = |cells: &[&str]| {
        cells.iter().zip(widths).fold("|".to_owned(), |line, (cell, width)| format!("{line}{cell:>width$}|"))
    };
    let mut text = format!("Batch {id}:\n{rule}\n{}\n{rule}\n", line(&HEADERS));
    for row in &shown {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        text += &line(&cells);
        text.push('\n');
    }
    text += &rule;
    text.push('\n');
    if skipped > 0 {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "and {skipped} earlier windows");
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
        let rows = BTreeMap::from([(0, row(0))]);
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
        let rows: BTreeMap<i64, SummaryRow> = (0..25).map(|i| (i, row(i))).collect();
        let text = batch(0, &rows);
        assert!(text.contains("and 5 earlier windows"), "{text}");
    }
}
