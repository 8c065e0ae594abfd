//! The output: lines that stay, and on a terminal below them a block that is redrawn in place.
//!
//! In a pipe the block becomes one plain line a second. The block is 15 lines of at most 79 columns, so it fits 80×24
//! with what stays above it. `NO_COLOR` turns colours off.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, Instant};

use super::outcome::{RecordFates, WindowAverages};
use crate::telemetry::human::Grouped;
use crate::telemetry::output;
use crate::telemetry::terminal::{self, Colour};
use crate::time::SqlTimestamp;

/// Windows shown at once, the newest.
const WINDOWS: usize = 8;
/// Between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(1);

/// How a line is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Information.
    Plain,
    /// As it should be.
    Good,
    /// What went wrong, on purpose or not.
    Bad,
}

/// What the block shows.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    /// The result so far.
    pub(super) outcome: &'a RecordFates,
    /// Records in the log, all partitions together.
    pub(super) logged: i64,
    /// Records a second, over the last seconds.
    pub(super) rate: f64,
}

/// Standard output.
#[derive(Debug)]
pub(super) struct DemoView {
    start: Instant,
    plain: Option<Instant>,
}

impl DemoView {
    /// Nothing shown yet; times count from `start`.
    pub(super) fn new(start: Instant) -> Self {
        Self { start, plain: None }
    }

    /// Writes lines that stay.
    pub(super) fn say(&mut self, tone: Tone, text: &str) -> io::Result<()> {
        let mut out = String::new();
        for line in text.lines() {
            out += &match tone {
                Tone::Plain => Cow::Borrowed(line),
                Tone::Good => Colour::Green.paint(line),
                Tone::Bad => Colour::Red.paint(line),
            };
            out.push('\n');
        }
        write(out)
    }

    /// Writes a line that stays, with the time in front.
    pub(super) fn note(&mut self, tone: Tone, text: &str) -> io::Result<()> {
        let line = format!("{:5.1} s  {text}", self.start.elapsed().as_secs_f64());
        self.say(tone, &line)
    }

    /// Shows the progress.
    pub(super) fn draw(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        if terminal::is_live() {
            output::show_live(self.block_of(frame));
            return open();
        }
        if self.plain.is_some_and(|said| said.elapsed() < PLAIN_EVERY) {
            return Ok(());
        }
        let Some((start_ms, row)) = frame.outcome.windows.last_key_value() else { return Ok(()) };
        self.plain = Some(Instant::now());
        let counts = counts(frame.outcome);
        self.note(Tone::Plain, &format!("{}  {counts}", line_of(*start_ms, row)))
    }

    /// In place of the block, the table of all windows, to stay.
    pub(super) fn table(&mut self, outcome: &RecordFates) -> io::Result<()> {
        let rows: String = outcome.windows.iter().map(|(start, row)| line_of(*start, row) + "\n").collect();
        output::show_live(String::new());
        write(format!("\n{}\n{rows}\n", Colour::Bold.paint(&heading())))
    }

    fn block_of(&self, frame: &Frame<'_>) -> String {
        let Frame { outcome, logged, rate } = frame;
        let mut block = format!("\n{}\n", Colour::Bold.paint(&heading()));
        let skipped = outcome.windows.len().saturating_sub(WINDOWS);
        for (start_ms, row) in outcome.windows.iter().skip(skipped) {
            block += &line_of(*start_ms, row);
            block.push('\n');
        }
        block += &"\n".repeat(WINDOWS.saturating_sub(outcome.windows.len()));
        let behind = (logged - outcome.read()).max(0);
        let elapsed = self.start.elapsed().as_secs_f64();
        // Writing to a String cannot fail.
        let _ = writeln!(
            block,
            "\n{elapsed:5.1} s  {} records in the log, {rate:.0}/s, processor {behind} behind",
            Grouped(*logged)
        );
        let counts = counts(outcome);
        let (first, rest) = wrapped(&counts);
        let (second, third) = wrapped(rest);
        let _ = writeln!(block, "         {first}\n         {second}\n         {third}");
        block
    }
}

fn write(lines: String) -> io::Result<()> {
    output::print(lines);
    open()
}

/// Whether the output is still open.
fn open() -> io::Result<()> {
    if output::is_closed() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
}

fn heading() -> String {
    format!("{:16}  {:>8}  {:>6}  {:>6}  {:>9}", "window (UTC)", "°C", "%", "m/s", "readings")
}

fn line_of(start_ms: i64, row: &WindowAverages) -> String {
    let start: String = SqlTimestamp(start_ms).to_string().chars().take(16).collect();
    let average = |i: usize, places: usize| {
        row.averages[i].map_or_else(|| "-".to_owned(), |average| format!("{average:.places$}"))
    };
    let state = if row.is_final { "final" } else { "open" };
    format!(
        "{start:16}  {:>8}  {:>6}  {:>6}  {:>9}  {state}",
        average(0, 2),
        average(1, 1),
        average(2, 2),
        Grouped(row.readings)
    )
}

/// What became of the records, without the outcomes that did not occur.
fn counts(outcome: &RecordFates) -> String {
    let all = outcome.fates.iter().filter(|(_, count)| **count > 0);
    let mut words: Vec<String> = vec![format!("averaged {}", Grouped(outcome.count("aggregated")))];
    let rest = all.filter(|(name, _)| **name != "aggregated");
    words.extend(rest.map(|(name, count)| format!("{name} {}", Grouped(*count))));
    words.join("  ")
}

/// Split in two at a gap so that each part fits the block.
fn wrapped(text: &str) -> (&str, &str) {
    const ROOM: usize = 70;
    match text.get(..ROOM).and_then(|start| start.rfind("  ")) {
        Some(gap) if text.len() > ROOM => (&text[..gap], text[gap..].trim_start()),
        _ => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_fits_a_terminal_of_80_by_24() {
        let mut outcome = RecordFates::default();
        for hour in 0..40 {
            let row = WindowAverages {
                readings: 9_999_999,
                averages: [Some(-12.345), None, Some(9.0)],
                is_final: true,
            };
            outcome.windows.insert(hour * 3_600_000, row);
        }
        for reason in crate::reading::Reason::ALL {
            outcome.fates.insert(reason.as_str(), 123_456);
        }
        let view = DemoView::new(Instant::now());
        let block = view.block_of(&Frame { outcome: &outcome, logged: 99_999_999, rate: 12_345.0 });
        assert_eq!(block.lines().count(), 15, "{block}");
        assert!(block.lines().all(|line| line.chars().count() < 80), "{block}");
        let empty = view.block_of(&Frame { outcome: &RecordFates::default(), logged: 0, rate: 0.0 });
        assert_eq!(empty.lines().count(), 15, "it does not jump");
    }
}
