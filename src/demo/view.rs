//! What one sees: lines that stay, and on a terminal below them a block that is redrawn in place.
//!
//! In a pipe the block becomes one plain line a second. The block is 15 lines of at most 79 columns, so it fits 80×24
//! with what stays above it. `NO_COLOR` keeps colours away.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::outcome::{Outcome, Row};
use crate::time::SqlTimestamp;

/// Windows shown at once, the newest.
const WINDOWS: usize = 8;
/// Between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(1);
const BOLD: &str = "1";
const GREEN: &str = "32";
const RED: &str = "31";

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
    pub(super) outcome: &'a Outcome,
    /// Records in the log, all partitions together.
    pub(super) logged: i64,
    /// Records a second, over the last seconds.
    pub(super) rate: f64,
}

/// Standard output.
#[derive(Debug)]
pub(super) struct View {
    start: Instant,
    terminal: bool,
    color: bool,
    /// The block that stands on the terminal now.
    block: String,
    plain: Option<Instant>,
}

impl View {
    /// Nothing shown yet; times count from `start`.
    pub(super) fn new(start: Instant) -> Self {
        let variable = |name| std::env::var_os(name).unwrap_or_default();
        let terminal = io::stdout().is_terminal() && variable("TERM") != "dumb";
        Self {
            start,
            terminal,
            color: terminal && variable("NO_COLOR").is_empty(),
            block: String::new(),
            plain: None,
        }
    }

    /// Writes lines that stay.
    pub(super) fn say(&mut self, tone: Tone, text: &str) -> io::Result<()> {
        let mut out = self.erase();
        for line in text.lines() {
            out += &match tone {
                Tone::Plain => line.to_owned(),
                Tone::Good => self.paint(GREEN, line),
                Tone::Bad => self.paint(RED, line),
            };
            out.push('\n');
        }
        out += &self.block;
        write(&out)
    }

    /// Writes a line that stays, with the time in front.
    pub(super) fn note(&mut self, tone: Tone, text: &str) -> io::Result<()> {
        let line = format!("{:5.1} s  {text}", self.start.elapsed().as_secs_f64());
        self.say(tone, &line)
    }

    /// Shows how far it is.
    pub(super) fn draw(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        if self.terminal {
            let erase = self.erase();
            self.block = self.block_of(frame);
            return write(&(erase + &self.block));
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
    pub(super) fn table(&mut self, outcome: &Outcome) -> io::Result<()> {
        let rows: String = outcome.windows.iter().map(|(start, row)| line_of(*start, row) + "\n").collect();
        let out = self.erase() + &format!("\n{}\n{rows}\n", self.paint(BOLD, &heading()));
        self.block.clear();
        write(&out)
    }

    fn block_of(&self, frame: &Frame<'_>) -> String {
        let Frame { outcome, logged, rate } = frame;
        let mut block = format!("\n{}\n", self.paint(BOLD, &heading()));
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
            "\n{elapsed:5.1} s  {} records in the log, {rate:.0}/s, the processor {behind} behind",
            thousands(*logged)
        );
        let counts = counts(outcome);
        let (first, rest) = wrapped(&counts);
        let (second, third) = wrapped(rest);
        let _ = writeln!(block, "         {first}\n         {second}\n         {third}");
        block
    }

    /// What removes the block from the terminal.
    fn erase(&self) -> String {
        match self.block.lines().count() {
            0 => String::new(),
            lines => format!("\x1b[{lines}F\x1b[J"),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn heading() -> String {
    format!("{:16}  {:>8}  {:>6}  {:>6}  {:>9}", "window (UTC)", "°C", "%", "m/s", "readings")
}

fn line_of(start_ms: i64, row: &Row) -> String {
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
        thousands(row.readings)
    )
}

/// What became of the records, what there is none of left out.
fn counts(outcome: &Outcome) -> String {
    let all = outcome.fates.iter().filter(|(_, count)| **count > 0);
    let mut words: Vec<String> = vec![format!("averaged {}", thousands(outcome.count("aggregated")))];
    let rest = all.filter(|(name, _)| **name != "aggregated");
    words.extend(rest.map(|(name, count)| format!("{name} {}", thousands(*count))));
    words.join("  ")
}

/// Cut in two at a gap so that each fits the block.
fn wrapped(text: &str) -> (&str, &str) {
    const ROOM: usize = 70;
    match text.get(..ROOM).and_then(|start| start.rfind("  ")) {
        Some(gap) if text.len() > ROOM => (&text[..gap], text[gap..].trim_start()),
        _ => (text, ""),
    }
}

/// `1,234,567`
pub(super) fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::from(if number < 0 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn the_block_fits_a_terminal_of_80_by_24() {
        let mut outcome = Outcome::default();
        for hour in 0..40 {
            let row = Row { readings: 9_999_999, averages: [Some(-12.345), None, Some(9.0)], is_final: true };
            outcome.windows.insert(hour * 3_600_000, row);
        }
        for reason in crate::reading::Reason::ALL {
            outcome.fates.insert(reason.as_str(), 123_456);
        }
        let view =
            View { start: Instant::now(), terminal: true, color: false, block: String::new(), plain: None };
        let block = view.block_of(&Frame { outcome: &outcome, logged: 99_999_999, rate: 12_345.0 });
        assert_eq!(block.lines().count(), 15, "{block}");
        assert!(block.lines().all(|line| line.chars().count() < 80), "{block}");
        let empty = view.block_of(&Frame { outcome: &Outcome::default(), logged: 0, rate: 0.0 });
        assert_eq!(empty.lines().count(), 15, "it does not jump");
    }
}
