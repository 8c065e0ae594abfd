//! A run of `src/verify`: the tables at one moment, compared by the engine with what the logs give when they are read again
//! by the same state machine.
//!
//! The steps are those of `src/verify/mod.rs`, `plan.rs` and `replay.rs`: the first offsets, the snapshot, the ends, then each
//! partition's log portion by portion, while the pipeline goes on. Closed windows and dead letters are read when the log has
//! come to them.

use std::collections::{BTreeMap, BTreeSet};

use weather::engine::checkpoint::decode_log_memory;
use weather::engine::dead_letter::DeadLetter;
use weather::engine::partition::{Confirmation, Incoming, Partition, WindowSettings};
use weather::engine::readmission::{Criteria, Readmission};
use weather::engine::state::{LogIdentity, PartitionState, Progress};
use weather::engine::verification::clock::clock;
use weather::engine::verification::dead_letters::{DeadLetters, StoredDeadLetter};
use weather::engine::verification::reach::{LogNow, reach};
use weather::engine::verification::{Comparison, Reach, counts, excuse, totals, window};
use weather::engine::window::{Totals, Window};
use weather::reading::{Format, Reason};

use crate::database::{READMITTED, Tables};
use crate::kafka::{FetchError, Kafka, Records};
use crate::ledger::without_offsets;

/// Records in one portion.
const PORTION: usize = 20;
/// So many closed windows are compared at once, at least.
const CLOSED_WINDOWS: usize = 3;

/// What a verification came to.
#[derive(Debug, Default)]
pub struct Report {
    /// What is not as it should be.
    pub differences: Vec<String>,
    /// What nothing can be told of.
    pub unknown: Vec<String>,
    /// Windows that are the same on both sides, by partition.
    pub equal: Vec<(i32, i64)>,
    /// Partitions of which everything was told.
    pub whole: Vec<i32>,
    /// All partitions that were looked at.
    pub seen: BTreeSet<i32>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Earliest,
    Snapshot,
    Ends,
    /// The partition at this place.
    Reading(usize),
    Output,
    Ended,
}

/// A partition in the snapshot.
struct Stored {
    partition: i32,
    progress: Progress,
    log: LogIdentity,
    open: Vec<Window>,
    sure_from_ms: Option<i64>,
    futures: i64,
}

pub struct Verification {
    settings: WindowSettings,
    step: Step,
    earliest: Vec<i64>,
    stored: Vec<Stored>,
    replays: Vec<Replay>,
    pub report: Report,
}

impl Verification {
    pub fn new(settings: WindowSettings) -> Self {
        let (earliest, stored, replays) = (Vec::new(), Vec::new(), Vec::new());
        Self { settings, step: Step::Earliest, earliest, stored, replays, report: Report::default() }
    }

    /// Everything at one moment.
    pub fn at_once(settings: WindowSettings, tables: &Tables, kafka: &Kafka) -> Report {
        let mut verification = Self::new(settings);
        while !verification.has_ended() {
            verification.step(tables, kafka);
        }
        verification.report
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.step, Step::Ended)
    }

    pub fn step(&mut self, tables: &Tables, kafka: &Kafka) {
        self.step = match self.step {
            Step::Earliest => {
                self.earliest = kafka.logs.iter().map(|log| log.earliest()).collect();
                Step::Snapshot
            }
            Step::Snapshot => {
                self.look(tables);
                Step::Ends
            }
            Step::Ends => {
                self.plan(kafka);
                Step::Reading(0)
            }
            Step::Reading(at) if at == self.replays.len() => Step::Output,
            Step::Reading(at) => {
                let replay = &mut self.replays[at];
                let ended = replay.step(tables, kafka);
                if ended {
                    self.replays[at].report(&mut self.report);
                }
                Step::Reading(at + usize::from(ended))
            }
            Step::Output => {
                self.compare_readmitted(tables);
                Step::Ended
            }
            Step::Ended => Step::Ended,
        };
    }

    /// As `src/postgres/evidence.rs` reads it.
    fn look(&mut self, tables: &Tables) {
        for (partition, row) in &tables.partitions {
            let Some(stored) = &row.stored else { continue };
            let (partition, progress) = (*partition, stored.progress);
            let earliest = self.earliest.get(partition as usize).copied().unwrap_or(0);
            let closed_ms = progress.watermark_ms.saturating_sub(self.settings.window_ms);
            let rows = tables.partials.range((partition, i64::MIN)..(partition + 1, i64::MIN));
            let rows: Vec<Window> =
                rows.map(|(key, totals)| Window { start_ms: key.1, totals: *totals }).collect();
            let is_sure = |t: &Totals| (t.incarnation, t.first_offset) >= (progress.incarnation, earliest);
            let futures = dead_letters(tables, partition, progress.incarnation, 0, progress.next_offset);
            let futures = futures.iter().filter(|stored| stored.reason == Some(Reason::Future)).count();
            self.stored.push(Stored {
                partition,
                progress,
                log: decode_log_memory(&stored.memory).unwrap_or(LogIdentity::UNKNOWN),
                sure_from_ms: rows
                    .iter()
                    .find(|window| is_sure(&window.totals))
                    .map(|window| window.start_ms),
                open: rows.into_iter().filter(|window| window.start_ms > closed_ms).collect(),
                futures: futures as i64,
            });
        }
    }

    fn plan(&mut self, kafka: &Kafka) {
        for stored in std::mem::take(&mut self.stored) {
            let partition = stored.partition;
            let Some(earliest) = self.earliest.get(partition as usize).copied() else { continue };
            let log = kafka.log(partition);
            let now = LogNow { topic_id: log.topic_id(), earliest, end: log.latest() };
            match reach(&stored.progress, &stored.log, stored.sure_from_ms, &now) {
                Ok(reach) => {
                    self.replays.push(Replay::new(self.settings, stored, reach, log.generation()));
                }
                Err(why) => {
                    self.report.seen.insert(partition);
                    self.report.unknown.push(format!("partition {partition}: {why}"));
                }
            }
        }
    }

    /// As `src/verify/readmitted.rs` does.
    fn compare_readmitted(&mut self, tables: &Tables) {
        let criteria =
            Criteria { window_ms: self.settings.window_ms, future_ms: i64::MAX, from_ms: None, to_ms: None };
        let mut readmission = Readmission::new(criteria, Format::shared());
        let mut expected: BTreeMap<i64, Totals> = BTreeMap::new();
        for (key, kept) in tables.dead_letters.iter().filter(|(_, kept)| kept.is_readmitted) {
            if readmission.take(key.2, kept.payload.as_deref(), kept.payload_bytes).is_err() {
                self.report.unknown.push(format!("{key:?} was readmitted and cannot be read"));
            }
            for window in readmission.taken().windows {
                expected.entry(window.start_ms).or_default().merge(&window.totals);
            }
        }
        let rows = tables.partials.range((READMITTED, i64::MIN)..(READMITTED + 1, i64::MIN));
        let found: BTreeMap<i64, Totals> = rows.map(|(key, totals)| (key.1, *totals)).collect();
        for start_ms in found.keys().chain(expected.keys()) {
            let side = |side: &BTreeMap<i64, Totals>| {
                without_offsets(&side.get(start_ms).copied().unwrap_or_default())
            };
            let values = totals(&side(&found), &side(&expected));
            if !values.is_empty() {
                self.report.differences.push(format!("readmitted into {start_ms}: {values:?}"));
            }
        }
    }
}

/// One partition, read again.
struct Replay {
    settings: WindowSettings,
    stored: Stored,
    table: Progress,
    reach: Reach,
    generation: i64,
    core: Partition,
    comparison: Option<DeadLetters>,
    compared_to_ms: Option<i64>,
    differences: Vec<String>,
    unknown: Vec<String>,
    equal: Vec<i64>,
    /// Why a difference proves nothing.
    excuse: Option<String>,
}

impl Replay {
    fn new(settings: WindowSettings, stored: Stored, reach: Reach, generation: i64) -> Self {
        let table = stored.progress;
        let mut state = PartitionState::starting_at(reach.from.offset);
        state.progress.incarnation = reach.from.incarnation;
        state.progress.flushed_incarnation = reach.from.incarnation;
        Self {
            settings,
            core: Partition::new(settings, state).unsampled(),
            // Nothing is ever deleted.
            comparison: Some(DeadLetters::new(reach, &table, i64::MIN)),
            compared_to_ms: None,
            differences: Vec::new(),
            unknown: Vec::new(),
            equal: Vec::new(),
            excuse: None,
            stored,
            table,
            reach,
            generation,
        }
    }

    /// The next portion; whether it was the last.
    fn step(&mut self, tables: &Tables, kafka: &Kafka) -> bool {
        let (at, end) = (self.core.state().progress.next_offset, self.table.next_offset);
        if at >= end {
            self.finish(tables);
            return true;
        }
        let log = kafka.log(self.stored.partition);
        if log.generation() != self.generation {
            self.unknown.push("the topic was recreated".to_owned());
            return true;
        }
        match log.fetch(at, PORTION) {
            Ok((records, next)) => self.read(tables, &records, next.min(end)),
            Err(FetchError::Unreadable) => self.core.lose_to(at + 1),
            Err(FetchError::OutOfRange) => {
                self.core.lose_to(log.earliest().min(end));
                self.excuse.get_or_insert(format!("Kafka deleted offsets from {at} on meanwhile"));
            }
        }
        if self.core.closed_windows() >= CLOSED_WINDOWS {
            let progress = self.core.state().progress;
            let watermark_ms = progress.watermark_ms.min(self.table.watermark_ms);
            self.compare_closed(tables, watermark_ms - self.settings.window_ms);
            self.core.confirm(Confirmation { position: progress.position(), watermark_ms });
        }
        false
    }

    fn read(&mut self, tables: &Tables, records: &Records, to: i64) {
        let from = self.core.state().progress.next_offset;
        let stored = dead_letters(tables, self.stored.partition, self.table.incarnation, from, to);
        let all_kept = self.stored.futures == self.table.rejected[Reason::Future.index()];
        for (offset, record) in records.iter().filter(|(offset, _)| *offset < to) {
            let dead_letter = stored.iter().find(|stored| stored.offset == *offset);
            let is_future = dead_letter.map(|stored| stored.reason == Some(Reason::Future));
            self.core.begin(clock(is_future, all_kept, -1));
            self.core.take(Incoming {
                offset: *offset,
                timestamp_ms: -1,
                append_time_ms: None,
                bytes: record.value.as_ref().map_or(0, |value| value.len()),
                value: record.value.as_deref(),
            });
        }
        self.core.settle();
        self.core.skip_to(to);
        let refused: Vec<DeadLetter> = self.core.take_rejected().collect();
        if let Some(comparison) = &mut self.comparison {
            comparison.compare(&stored, &refused, 0);
        }
    }

    /// Compares the windows that begin up to here, which are closed in the table.
    fn compare_closed(&mut self, tables: &Tables, to_ms: i64) {
        let partition = self.stored.partition;
        let after_ms = self.compared_to_ms.map_or(i64::MIN, |compared| compared + 1);
        if after_ms > to_ms {
            return;
        }
        let rows = tables.partials.range((partition, after_ms)..=(partition, to_ms));
        let rows: BTreeMap<i64, Totals> = rows.map(|(key, totals)| (key.1, *totals)).collect();
        self.compare(&rows, to_ms);
    }

    fn compare(&mut self, rows: &BTreeMap<i64, Totals>, to_ms: i64) {
        let after_ms = self.compared_to_ms.replace(to_ms);
        let is_due = |start_ms: i64| after_ms.is_none_or(|after| start_ms > after) && start_ms <= to_ms;
        let log: BTreeMap<i64, Totals> =
            self.core.state().windows.iter().map(|w| (w.start_ms, w.totals)).collect();
        let mut starts: Vec<i64> =
            rows.keys().chain(log.keys()).copied().filter(|start_ms| is_due(*start_ms)).collect();
        starts.sort_unstable();
        starts.dedup();
        for start_ms in starts {
            let (row, again) = (rows.get(&start_ms), log.get(&start_ms));
            match window(&self.reach, start_ms, row, again) {
                Comparison::Equal => self.equal.push(start_ms),
                Comparison::Unknown => self.unknown.push(format!("window {start_ms}")),
                Comparison::Differs(values) => {
                    self.differences.push(format!("window {start_ms}: {values:?}"))
                }
            }
        }
    }

    fn finish(&mut self, tables: &Tables) {
        self.compare_closed(tables, self.table.watermark_ms - self.settings.window_ms);
        let open = std::mem::take(&mut self.stored.open);
        self.compare(&open.into_iter().map(|window| (window.start_ms, window.totals)).collect(), i64::MAX);
        let log = self.core.state().progress;
        let outcome = self.comparison.take().map(DeadLetters::finish).unwrap_or_default();
        self.differences.extend(outcome.findings.into_iter().map(|finding| format!("{finding:?}")));
        if self.reach.is_whole {
            let values = counts(&self.table, &log);
            self.differences.extend(values.into_iter().map(|value| format!("{value:?}")));
        } else {
            self.unknown.push(format!("before {:?}", self.reach.from));
        }
        if let Some(why) = excuse(&self.reach, &self.table, &log, self.stored.futures) {
            self.excuse.get_or_insert(why);
        }
    }

    fn report(&mut self, report: &mut Report) {
        let partition = self.stored.partition;
        let told = |what: String| format!("partition {partition}: {what}");
        report.seen.insert(partition);
        if let Some(why) = self.excuse.take() {
            report.unknown.push(told(why));
            self.unknown.append(&mut self.differences);
        } else if self.unknown.is_empty() {
            report.whole.push(partition);
            report.equal.extend(self.equal.drain(..).map(|start_ms| (partition, start_ms)));
        }
        report.unknown.extend(self.unknown.drain(..).map(told));
        report.differences.extend(self.differences.drain(..).map(told));
    }
}

/// The dead letters of a partition's offsets.
fn dead_letters(
    tables: &Tables,
    partition: i32,
    incarnation: i64,
    from: i64,
    to: i64,
) -> Vec<StoredDeadLetter> {
    let rows =
        tables.dead_letters.range((partition, incarnation, from)..(partition, incarnation, to.max(from)));
    let stored = |(key, kept): (&crate::database::Key, &crate::database::KeptDeadLetter)| StoredDeadLetter {
        offset: key.2,
        reason: Some(kept.reason),
        payload: kept.payload.as_deref().map(<[u8]>::to_vec),
        payload_bytes: kept.payload_bytes,
    };
    rows.map(stored).collect()
}
