//! What became of every offset, kept by plain code beside the program's state: the oracle.
//!
//! A ledger goes wherever the state goes (worker, checkpoint file, PostgreSQL) and is checked against it there. It does
//! not parse, knows what each record really is, and looks into the log whether what the source says is true. Two rules
//! make "exactly once" of it: a ledger has one entry an offset, in order; and what PostgreSQL commits must continue the
//! ledger that it had.

use std::collections::BTreeMap;

use weather::engine::dead_letter::DeadLetter;
use weather::engine::partition::WindowSettings;
use weather::engine::state::{PartitionState, Position, REASONS};
use weather::engine::stations::{StationRow, StationTotals, Stations};
use weather::engine::watermark::NONE;
use weather::engine::window::{Totals, fingerprint};
use weather::reading::{Reading, Reason};

use crate::kafka::{Log, Record, Records, Slot, Truth};
use crate::trace::{Checked, ensure};

/// What became of an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Aggregated,
    Rejected(Reason),
    /// Rejected in a flood: counted, not stored.
    SampledOut(Reason),
    /// No record there.
    Skipped,
    /// Kafka no longer had it, or nobody can read it.
    Lost,
}

/// An offset of a generation of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub generation: i64,
    pub offset: i64,
    pub outcome: Outcome,
}

#[derive(Debug, Clone)]
pub struct Ledger {
    pub entries: Vec<Entry>,
    /// Which log is being read.
    pub generation: i64,
    pub incarnation: i64,
    pub next_offset: i64,
    max_event_time_ms: i64,
    pub watermark_ms: i64,
    pub windows: BTreeMap<i64, Totals>,
    /// By window and station, where stations are kept apart.
    pub stations: BTreeMap<(i64, String), Totals>,
    /// Kept dead letters by incarnation and offset.
    pub dead_letters: BTreeMap<(i64, i64), Refused>,
    aggregated: i64,
    skipped: i64,
    lost: i64,
    sampled_out: i64,
    rejected: [i64; REASONS],
}

/// A dead letter that was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub reason: Reason,
    /// The reading that it is all the same, and its station.
    pub reading: Option<(Reading, Option<u8>)>,
}

/// By what a batch was judged.
#[derive(Debug, Clone, Copy)]
pub struct Judging<'a> {
    pub settings: WindowSettings,
    pub now_ms: i64,
    /// Stations of a window that are kept apart, if they are at all.
    pub max_stations: Option<usize>,
    /// The dead letters that the program kept of it.
    pub kept: &'a [DeadLetter],
}

impl Ledger {
    /// Nothing read yet.
    pub fn starting_at(generation: i64, offset: i64) -> Self {
        Self {
            entries: Vec::new(),
            generation,
            incarnation: 0,
            next_offset: offset,
            max_event_time_ms: NONE,
            watermark_ms: NONE,
            windows: BTreeMap::new(),
            stations: BTreeMap::new(),
            dead_letters: BTreeMap::new(),
            aggregated: 0,
            skipped: 0,
            lost: 0,
            sampled_out: 0,
            rejected: [0; REASONS],
        }
    }

    /// A batch was applied.
    pub fn apply(&mut self, log: &Log, generation: i64, records: &Records, judging: Judging<'_>) -> Checked {
        self.same_log(generation)?;
        // A shorter delay moves the watermark at once.
        self.observe(self.max_event_time_ms, &judging.settings);
        for (offset, record) in records {
            if *offset < self.next_offset {
                continue;
            }
            self.skip_to(log, generation, *offset)?;
            let outcome = self.judge(*offset, record, &judging);
            if let Outcome::Rejected(reason) = outcome {
                let reading = reading_of(record.truth);
                self.dead_letters.insert((self.incarnation, *offset), Refused { reason, reading });
            }
            self.enter(outcome);
        }
        let kept = judging.kept.iter().all(|dead_letter| self.has(dead_letter));
        ensure!(kept, "dead letters {:?} were kept of records that are none", judging.kept);
        Ok(())
    }

    /// Reading continued at an offset; what lies between has no record.
    pub fn skip_to(&mut self, log: &Log, generation: i64, to: i64) -> Checked {
        self.same_log(generation)?;
        while self.next_offset < to {
            let slot = log.slot(generation, self.next_offset);
            let empty = matches!(slot, Some(Slot::Gone(_) | Slot::Marker));
            ensure!(empty, "offset {} was skipped, but there is {slot:?}", self.next_offset);
            self.enter(Outcome::Skipped);
        }
        Ok(())
    }

    /// Reading continued at an offset; what lies between is lost.
    pub fn lose_to(&mut self, log: &Log, generation: i64, to: i64) -> Checked {
        self.same_log(generation)?;
        while self.next_offset < to {
            let slot = log.slot(generation, self.next_offset);
            let lost = log.is_deleted(generation, self.next_offset)
                || matches!(slot, Some(Slot::Gone(_) | Slot::Corrupt));
            ensure!(lost, "offset {} counts as lost, but there is {slot:?}", self.next_offset);
            self.enter(Outcome::Lost);
        }
        Ok(())
    }

    /// Reading continued in the log that replaced this one.
    pub fn start_over(&mut self, generation: i64, at: i64) -> Checked {
        ensure!(generation > self.generation, "started over in the same log");
        ensure!(at == 0, "started over at {at}, not at the start");
        (self.generation, self.next_offset) = (generation, at);
        self.incarnation += 1;
        Ok(())
    }

    /// A log of which nothing was read may be replaced unnoticed.
    fn same_log(&mut self, generation: i64) -> Checked {
        if self.generation != generation {
            let unread = self.entries.last().is_none_or(|entry| entry.generation != self.generation);
            ensure!(unread && self.next_offset == 0, "continued in another log at {}", self.next_offset);
            self.generation = generation;
        }
        Ok(())
    }

    fn judge(&mut self, offset: i64, record: &Record, judging: &Judging<'_>) -> Outcome {
        let settings = &judging.settings;
        let reason = match record.truth {
            Truth::Bad(reason) => reason,
            Truth::Reading { event_time_ms, .. }
                if event_time_ms > judging.now_ms + settings.max_future_ms =>
            {
                Reason::Future
            }
            Truth::Reading { event_time_ms, metrics, station } => {
                let start_ms = event_time_ms - event_time_ms.rem_euclid(settings.window_ms);
                if start_ms + settings.window_ms > self.watermark_ms {
                    self.observe(event_time_ms, settings);
                    let reading = Reading { event_time_ms, metrics, left_out: [None; 3] };
                    add(self.windows.entry(start_ms).or_default(), (self.incarnation, offset), &reading);
                    if let Some(limit) = judging.max_stations {
                        let name = self.station(start_ms, station, limit);
                        let totals = self.stations.entry((start_ms, name)).or_default();
                        add(totals, (self.incarnation, offset), &reading);
                    }
                    return Outcome::Aggregated;
                }
                Reason::Late
            }
        };
        match judging.kept.iter().any(|dead_letter| dead_letter.offset == offset) {
            true => Outcome::Rejected(reason),
            false => Outcome::SampledOut(reason),
        }
    }

    /// The station that a reading counts for.
    fn station(&self, start_ms: i64, number: Option<u8>, limit: usize) -> String {
        let Some(number) = number else { return String::new() };
        let (name, window) = (format!("s{number}"), self.stations.keys().filter(|key| key.0 == start_ms));
        let named = window.filter(|key| key.1.starts_with('s')).count();
        let is_known = self.stations.contains_key(&(start_ms, name.clone()));
        if is_known || named < limit { name } else { "*".to_owned() }
    }

    /// Whether these are what the ledger knows of the stations, and whether they add up to the windows of the state.
    pub fn agrees_by_station(&self, stations: &Stations, state: &PartitionState) -> Checked {
        ensure!(stations.adds_up_to(&state.windows), "the stations do not add up to {:?}", state.windows);
        stations.changed().iter().try_for_each(|row| self.agrees_with_row(row))
    }

    /// Whether a row is what the ledger knows.
    pub fn agrees_with_row(&self, row: &StationRow) -> Checked {
        let known = self.stations.get(&(row.start_ms, row.station.to_string()));
        ensure!(known.map(StationTotals::from) == Some(row.totals), "{row:?}, the ledger {known:?}");
        Ok(())
    }

    fn observe(&mut self, event_time_ms: i64, settings: &WindowSettings) {
        self.max_event_time_ms = self.max_event_time_ms.max(event_time_ms);
        if self.max_event_time_ms > NONE {
            let watermark_ms = self.max_event_time_ms - settings.out_of_orderness_ms;
            self.watermark_ms = self.watermark_ms.max(watermark_ms);
        }
    }

    fn enter(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Aggregated => self.aggregated += 1,
            Outcome::Skipped => self.skipped += 1,
            Outcome::Lost => self.lost += 1,
            Outcome::Rejected(reason) => self.rejected[reason.index()] += 1,
            Outcome::SampledOut(reason) => {
                self.rejected[reason.index()] += 1;
                self.sampled_out += 1;
            }
        }
        self.entries.push(Entry { generation: self.generation, offset: self.next_offset, outcome });
        self.next_offset += 1;
    }

    /// Whether it knows of a dead letter, for the same reason.
    pub fn has(&self, dead_letter: &DeadLetter) -> bool {
        let known = self.dead_letters.get(&(dead_letter.incarnation, dead_letter.offset));
        known.is_some_and(|refused| refused.reason == dead_letter.reason)
    }

    /// Whether this is what a state says.
    pub fn agrees(&self, state: &PartitionState, window_ms: i64) -> Checked {
        let p = &state.progress;
        let said = [
            p.incarnation,
            p.next_offset,
            p.max_event_time_ms,
            p.watermark_ms,
            p.aggregated,
            p.duplicates,
            p.skipped,
            p.lost,
            p.sampled_out,
        ];
        let known = [
            self.incarnation,
            self.next_offset,
            self.max_event_time_ms,
            self.watermark_ms,
            self.aggregated,
            0,
            self.skipped,
            self.lost,
            self.sampled_out,
        ];
        ensure!(
            said == known,
            "incarnation, next offset, event time, watermark, aggregated, duplicates, skipped, lost, sampled out: the \
             state says {said:?}, the ledger {known:?}"
        );
        ensure!(p.rejected == self.rejected, "rejected: {:?}, the ledger {:?}", p.rejected, self.rejected);
        ensure!(p.accounts_for_every_offset(), "offsets are not accounted for: {p:?}");
        for window in &state.windows {
            let known = self.windows.get(&window.start_ms);
            ensure!(known == Some(&window.totals), "window: the state says {window:?}, the ledger {known:?}");
        }
        for (start_ms, totals) in &self.windows {
            let held = state.windows.iter().any(|window| window.start_ms == *start_ms);
            let closed = start_ms + window_ms <= self.watermark_ms;
            ensure!(held || closed, "the open window {start_ms} is missing: {totals:?}");
        }
        Ok(())
    }

    /// Where it stands.
    pub fn position(&self) -> Position {
        Position { incarnation: self.incarnation, offset: self.next_offset }
    }

    /// Where it began.
    pub fn origin(&self) -> Position {
        let offset = self.entries.first().map_or(self.next_offset, |entry| entry.offset);
        Position { incarnation: 0, offset }
    }

    /// Whether this ledger continues where another one ends.
    pub fn continues(&self, before: &Self) -> bool {
        self.entries.starts_with(&before.entries)
    }

    /// Whether there is nothing more to read. Of a log that nothing was read of it need not be known that it was replaced.
    pub fn is_at_the_end_of(&self, log: &Log) -> bool {
        self.next_offset == log.latest() && (self.generation == log.generation() || self.next_offset == 0)
    }

    /// How many records are in windows.
    pub fn aggregated(&self) -> i64 {
        self.aggregated
    }

    /// How many records were sampled out.
    pub fn sampled_out(&self) -> i64 {
        self.sampled_out
    }
}

/// The reading of a record, if it is one, and its station.
fn reading_of(truth: Truth) -> Option<(Reading, Option<u8>)> {
    let Truth::Reading { event_time_ms, metrics, station } = truth else { return None };
    Some((Reading { event_time_ms, metrics, left_out: [None; 3] }, station))
}

/// Totals without the offsets, which mean nothing where those of several partitions come together.
pub fn without_offsets(totals: &Totals) -> Totals {
    Totals { incarnation: 0, first_offset: 0, last_offset: 0, ..*totals }
}

/// Adds the reading at an incarnation and offset to a window.
pub fn add(totals: &mut Totals, (incarnation, offset): (i64, i64), reading: &Reading) {
    if totals.readings == 0 {
        (totals.incarnation, totals.first_offset) = (incarnation, offset);
    }
    totals.last_offset = offset;
    totals.readings += 1;
    totals.digest = totals.digest.wrapping_add(fingerprint(offset, reading));
    for (i, metric) in reading.metrics.into_iter().enumerate() {
        if let Some(value) = metric {
            totals.counts[i] += 1;
            totals.sums[i] += value;
            totals.minima[i] = totals.minima[i].min(value);
            totals.maxima[i] = totals.maxima[i].max(value);
        }
    }
}
