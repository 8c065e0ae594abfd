//! One partition, read again: the log from the beginning that is left up to the offset of the stored state, through the
//! same state machine, compared on the way with what the table has.
//!
//! Windows that are closed are compared as they close and let go, so memory does not grow with the history. Dead letters
//! are read from the table as the log comes to them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::engine::dead_letter::DeadLetter;
use crate::engine::partition::{Confirmation, Partition};
use crate::engine::state::{PartitionState, Position, Progress};
use crate::engine::stations::Stations;
use crate::engine::verification::clock::clock;
use crate::engine::verification::dead_letters::{DeadLetters, StoredDeadLetter};
use crate::engine::verification::stations::StationVerdict;
use crate::engine::verification::{Comparison, Reach, counts, excuse, window};
use crate::engine::watermark;
use crate::engine::window::Window;
use crate::kafka::batch::{BatchError, Expander};
use crate::kafka::fetcher::{Event, PartitionFeed, Turn};
use crate::postgres::evidence::{self, StoredPartition};
use crate::postgres::failure::Failure;
use crate::processor::partition::decode::{ReadLimits, Stop, read_until};
use crate::processor::partition::task::{UNREADABLE_TRIES, is_final};
use crate::reading::Reason;
use crate::retry::Backoff;
use crate::verify::findings::{PartitionFindings, offsets};
use crate::verify::rules::ComparisonRules;
use crate::verify::stations::{Checkable, StationReplay};

/// At least this many closed windows are compared at once.
const CLOSED_WINDOWS: usize = 500;
/// With this many stations in all windows, fewer are enough.
const STATION_ROWS: usize = 100_000;

/// A partition that is being read again.
pub(super) struct Replay {
    rules: Arc<ComparisonRules>,
    stored: StoredPartition,
    table: Progress,
    reach: Reach,
    partition: Partition,
    dead_letters: DeadLetterStream,
    comparison: DeadLetters,
    /// Windows that begin up to here are compared, ms since 1970.
    compared_to_ms: Option<i64>,
    /// Where stations are kept apart.
    stations: Option<StationReplay>,
    expander: Expander,
    unreadable: Backoff,
    findings: PartitionFindings,
}

/// Why the rest of a partition cannot be read again.
struct CannotGoOn(String);

impl Replay {
    /// Of this partition, whose state has these numbers.
    pub(super) fn new(
        rules: Arc<ComparisonRules>,
        stored: StoredPartition,
        table: Progress,
        reach: Reach,
    ) -> Self {
        let mut state = PartitionState::starting_at(reach.from.offset);
        state.progress.incarnation = reach.from.incarnation;
        state.progress.flushed_incarnation = reach.from.incarnation;
        let stations = rules.stations.as_ref().map(|stations| Stations::new(stations.max_stations));
        let partition = Partition::new(rules.settings, state).reading(Arc::clone(&rules.format)).unsampled();
        let partition = partition.by_station(stations);
        Self {
            dead_letters: DeadLetterStream::new(stored.partition, reach.from, table.next_offset),
            comparison: DeadLetters::new(reach, &table, rules.dead_letters_since_ms),
            compared_to_ms: rules.between.from_ms.map(|from| from - 1),
            stations: None,
            findings: PartitionFindings::new(stored.partition, &table, &reach),
            expander: Expander::default(),
            unreadable: Backoff::default(),
            rules,
            stored,
            table,
            reach,
            partition,
        }
    }

    /// Reads and compares.
    ///
    /// # Errors
    /// The tables cannot be read any more.
    pub(super) async fn run(mut self, mut feed: PartitionFeed) -> Result<PartitionFindings, Failure> {
        if let Some(stations) = &self.rules.stations {
            let begun = StationReplay::begin(stations, self.stored.partition, self.compared_to_ms);
            self.stations = Some(begun.await?);
        }
        let end = self.table.next_offset;
        while self.next_offset() < end && !self.is_past_all_windows() {
            let Some(event) = feed.next().await else {
                self.findings.give_up("reading has ended".to_owned());
                return Ok(self.findings);
            };
            let before = self.next_offset();
            let handled = match event {
                Event::Records(turn) => self.read(turn, &mut feed).await?,
                other => self.handle(other),
            };
            // Relaxed: only shown.
            self.rules.done.fetch_add(self.next_offset() - before, Ordering::Relaxed);
            if let Err(CannotGoOn(why)) = handled {
                self.findings.give_up(why);
                return Ok(self.findings);
            }
            if self.is_time_to_compare() {
                self.compare_closed().await?;
            }
        }
        drop(feed);
        self.finish().await
    }

    fn is_time_to_compare(&self) -> bool {
        let (closed, rows) =
            (self.partition.closed_windows(), self.partition.stations().map_or(0, Stations::row_count));
        closed >= CLOSED_WINDOWS || (closed > 0 && rows >= STATION_ROWS)
    }

    fn next_offset(&self) -> i64 {
        self.partition.state().progress.next_offset
    }

    /// Whether no window that counts can change any more.
    fn is_past_all_windows(&self) -> bool {
        let watermark_ms = self.partition.state().progress.watermark_ms;
        self.rules.between.to_ms.is_some_and(|to_ms| watermark_ms >= to_ms + self.rules.settings.window_ms)
    }

    fn handle(&mut self, event: Event) -> Result<(), CannotGoOn> {
        let end = self.table.next_offset;
        match event {
            // What lies behind has no record any more.
            Event::CaughtUp { end: caught_up } => self.partition.skip_to(caught_up.min(end)),
            Event::Skipped { to } => self.partition.skip_to(to.min(end)),
            Event::Lost { to } => {
                let from = self.next_offset();
                self.partition.lose_to(to.min(end));
                self.findings
                    .lose(format!("Kafka deleted offsets {from} to {} as they were to be read", to - 1));
            }
            Event::StartedOver { .. } => {
                return Err(CannotGoOn("the topic was recreated or cut".to_owned()));
            }
            Event::Failed(error) => return Err(CannotGoOn(error.to_string())),
            Event::Recognised { .. } | Event::Records(_) => {}
        }
        Ok(())
    }

    /// Reads the records of an answer.
    async fn read(
        &mut self,
        mut turn: Turn,
        feed: &mut PartitionFeed,
    ) -> Result<Result<(), CannotGoOn>, Failure> {
        let end = self.table.next_offset;
        let to = turn.next_offset().unwrap_or(i64::MAX).min(end);
        let stored = self.dead_letters.up_to(to, &self.rules).await?;
        // Of a list that counts, no dead letter says which of its readings came from the future.
        let all_kept = self.stored.futures == self.table.rejected[Reason::Future.index()]
            && !self.rules.format.has_list();
        let mut dead_letters = stored.iter().peekable();
        let mut clock_ms = clock(None, true, 0);
        self.partition.begin(clock_ms);
        let look = |partition: &mut Partition, offset: i64, stamped_ms: i64| {
            while dead_letters.next_if(|dead_letter| dead_letter.offset < offset).is_some() {}
            let dead_letter = dead_letters.peek().filter(|dead_letter| dead_letter.offset == offset);
            let is_future = dead_letter.map(|dead_letter| dead_letter.reason == Some(Reason::Future));
            let now_ms = clock(is_future, all_kept, stamped_ms);
            if now_ms != clock_ms {
                clock_ms = now_ms;
                partition.begin(now_ms);
            }
        };
        let limits = ReadLimits { end, windows: usize::MAX };
        let read = read_until(&mut self.partition, &mut turn, &mut self.expander, limits, look);
        self.partition.settle();
        drop(turn);
        let refused: Vec<DeadLetter> = self.partition.take_rejected().collect();
        let next_offset = self.next_offset();
        let (read_now, later): (Vec<_>, Vec<_>) = stored.into_iter().partition(|l| l.offset < next_offset);
        self.dead_letters.put_back(later);
        self.comparison.compare(&read_now, &refused, read.oldest_ms.unwrap_or(-1));
        Ok(match read.stopped {
            Some(Stop::Unreadable(error)) => self.cannot_read(&error, feed),
            None | Some(Stop::Full) => {
                self.unreadable.reset();
                Ok(())
            }
        })
    }

    /// As who read it first: again, then as lost.
    fn cannot_read(&mut self, error: &BatchError, feed: &mut PartitionFeed) -> Result<(), CannotGoOn> {
        let at = self.next_offset();
        if is_final(&error.cause) {
            return Err(CannotGoOn(error.to_string()));
        }
        if self.unreadable.failures() < UNREADABLE_TRIES {
            let wait = self.unreadable.next_wait();
            feed.read_again(at, wait);
            return Ok(());
        }
        self.unreadable.reset();
        let next = error.last_offset.unwrap_or(at).max(at) + 1;
        self.partition.lose_to(next.min(self.table.next_offset));
        feed.go_on(next);
        Ok(())
    }

    /// Compares the windows that are closed for both, and lets them go.
    async fn compare_closed(&mut self) -> Result<(), Failure> {
        let progress = self.partition.state().progress;
        let watermark_ms = progress.watermark_ms.min(self.table.watermark_ms);
        self.compare_up_to(watermark_ms - self.rules.settings.window_ms).await?;
        self.partition.confirm(Confirmation { position: progress.position(), watermark_ms });
        Ok(())
    }

    /// Compares windows that begin up to here, portion by portion.
    async fn compare_up_to(&mut self, to_ms: i64) -> Result<(), Failure> {
        let to_ms = self.rules.between.to_ms.map_or(to_ms, |end| to_ms.min(end - 1));
        let (after_ms, mut checkable) = (self.compared_to_ms, Checkable::new());
        while to_ms > watermark::NONE && self.compared_to_ms.is_none_or(|compared| compared < to_ms) {
            let (rules, partition) = (&self.rules, self.stored.partition);
            let (rows, is_last) =
                evidence::windows(&rules.session, &rules.topic, partition, self.compared_to_ms, Some(to_ms))
                    .await?;
            let reached = rows.last().filter(|_| !is_last).map_or(to_ms, |row| row.start_ms);
            self.compare_windows(&rows, reached, &mut checkable);
        }
        let Some((stations, log)) = self.stations.as_mut().zip(self.partition.stations_mut()) else {
            return Ok(());
        };
        let Some(rules) = self.rules.stations.as_ref().filter(|_| !checkable.is_empty()) else {
            return Ok(());
        };
        let verdicts =
            stations.compare_closed(&self.rules, rules, log, &checkable, (after_ms, to_ms)).await?;
        self.note_stations(verdicts, &checkable);
        Ok(())
    }

    fn note_stations(&mut self, verdicts: Vec<(i64, StationVerdict)>, checkable: &Checkable) {
        for (start_ms, verdict) in verdicts {
            self.findings.stations(start_ms, checkable.get(&start_ms).copied().flatten(), verdict);
        }
    }

    /// Compares all windows behind those that are compared that begin up to here, and notes those that can be checked.
    fn compare_windows(&mut self, rows: &[Window], to_ms: i64, checkable: &mut Checkable) {
        let after_ms = self.compared_to_ms.replace(to_ms);
        let is_due = |w: &&Window| after_ms.is_none_or(|after| w.start_ms > after) && w.start_ms <= to_ms;
        let mut log = self.partition.state().windows.iter().filter(is_due).peekable();
        let mut rows = rows.iter().filter(is_due).peekable();
        loop {
            let next = [rows.peek(), log.peek()].into_iter().flatten().map(|w| w.start_ms).min();
            let Some(start_ms) = next else { break };
            let row = rows.next_if(|w| w.start_ms == start_ms).map(|w| &w.totals);
            let again = log.next_if(|w| w.start_ms == start_ms).map(|w| &w.totals);
            let comparison = window(&self.reach, start_ms, row, again);
            if comparison != Comparison::Unknown {
                checkable.insert(start_ms, offsets(row, again));
            }
            match comparison {
                Comparison::Equal => self.findings.equal(again),
                Comparison::Unknown => self.findings.unknown(start_ms, row),
                Comparison::Differs(values) => self.findings.differs(start_ms, row, again, values),
            }
        }
    }

    /// Compares windows that the table's watermark has not closed.
    async fn compare_open(&mut self, open: &[Window], to_ms: i64) -> Result<(), Failure> {
        let mut checkable = Checkable::new();
        self.compare_windows(open, to_ms, &mut checkable);
        let (Some((stations, log)), Some((rules, table))) = (
            self.stations.as_mut().zip(self.partition.stations_mut()),
            self.rules.stations.as_ref().zip(self.stored.open_stations.as_ref()),
        ) else {
            return Ok(());
        };
        let verdicts = stations.compare_open(&self.rules, rules, log, &checkable, table).await?;
        self.note_stations(verdicts, &checkable);
        Ok(())
    }

    /// What is left when all is read.
    async fn finish(mut self) -> Result<PartitionFindings, Failure> {
        self.compare_up_to(self.table.watermark_ms - self.rules.settings.window_ms).await?;
        let open = std::mem::take(&mut self.stored.open);
        let to_ms = self.rules.between.to_ms.map_or(i64::MAX, |end| end - 1);
        if self.compared_to_ms.is_none_or(|compared| compared < to_ms) {
            self.compare_open(&open, to_ms).await?;
        }
        if !self.rules.between.is_everything() {
            return Ok(self.findings);
        }
        self.comparison.compare(&self.dead_letters.rest(&self.rules).await?, &[], i64::MAX);
        let log = self.partition.state().progress;
        self.findings.dead_letters(self.comparison.finish());
        if self.reach.is_whole {
            self.findings.counts(&counts(&self.table, &log));
        }
        if let Some(why) = excuse(&self.reach, &self.table, &log, self.stored.futures) {
            self.findings.lose(why);
        }
        Ok(self.findings)
    }
}

/// The dead letters of a partition in the table, as far as they are read.
struct DeadLetterStream {
    partition: i32,
    next: Position,
    end: i64,
    is_at_end: bool,
    loaded: VecDeque<StoredDeadLetter>,
}

impl DeadLetterStream {
    fn new(partition: i32, from: Position, end: i64) -> Self {
        Self { partition, next: from, end, is_at_end: false, loaded: VecDeque::new() }
    }

    /// Takes those before this offset.
    async fn up_to(
        &mut self,
        offset: i64,
        rules: &ComparisonRules,
    ) -> Result<Vec<StoredDeadLetter>, Failure> {
        while !self.is_at_end && self.loaded.back().is_none_or(|last| last.offset < offset) {
            let (portion, is_last) =
                evidence::dead_letters(&rules.session, &rules.topic, self.partition, self.next, self.end)
                    .await?;
            self.is_at_end = is_last;
            self.next.offset = portion.last().map_or(self.next.offset, |last| last.offset + 1);
            self.loaded.extend(portion);
        }
        let count = self.loaded.partition_point(|dead_letter| dead_letter.offset < offset);
        Ok(self.loaded.drain(..count).collect())
    }

    /// Takes back what the log has not come to.
    fn put_back(&mut self, dead_letters: Vec<StoredDeadLetter>) {
        dead_letters.into_iter().rev().for_each(|dead_letter| self.loaded.push_front(dead_letter));
    }

    /// Takes all that are left.
    async fn rest(&mut self, rules: &ComparisonRules) -> Result<Vec<StoredDeadLetter>, Failure> {
        self.up_to(self.end, rules).await
    }
}
