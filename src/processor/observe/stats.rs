//! What the processor's tasks record while they work; `status` reads it.
//!
//! Nothing here decides anything. They record once per batch or round, never per record; counts of records are in the
//! published states.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::engine::assignment::Leases;
use crate::engine::dead_letter::DeadLetter;
use crate::processor::observe::rates::Rates;
use crate::telemetry::health::Heartbeat;
use crate::telemetry::latency::Latency;
use crate::telemetry::log::Outage;
use crate::time::now_ms;

/// Batches that are kept.
const BATCHES: usize = 60;
/// Dead letters that are kept, and how much of the payload of each.
pub const SAMPLES: usize = 20;
const SAMPLE_BYTES: usize = 400;

/// The records.
#[derive(Debug)]
pub struct Stats {
    /// Time from the start of a flush, including connecting, to PostgreSQL's confirmation.
    pub flush: Latency,
    /// Time from requesting a partition's checkpoint to its file being durable.
    pub checkpoint: Latency,
    /// From Kafka's timestamp of the oldest record of a flush to PostgreSQL's confirmation: the longest that any
    /// record of the flush took to become visible. One for each partition of a flush.
    pub append_to_visible: Latency,
    /// Flushes that failed and were retried.
    pub failed_flushes: Count,
    /// Rows of `weather_station_partial` that confirmed flushes wrote.
    pub station_rows: Count,
    /// Partitions that were dropped because PostgreSQL refused their writes: another process had taken them, their row was
    /// gone, or the database was set back or ahead.
    pub fenced: Count,
    /// How fast readings come and go.
    pub rates: Rates,
    /// The loop that flushes.
    pub flushing: Heartbeat,
    /// The loop that keeps the share of the partitions.
    pub owning: Heartbeat,
    /// The loop that writes checkpoint files, and with it every partition's worker, which it queries.
    pub checkpointing: Heartbeat,
    /// Whether the folder of the checkpoint files can be written to.
    pub checkpoint_folder: Outage,
    /// Whether the topic is there.
    pub topic: Outage,
    phase: AtomicU64,
    last_write_ms: AtomicI64,
    oldest_snapshot_ms: AtomicI64,
    written: Mutex<WrittenNotes>,
    files: Mutex<BTreeMap<i32, FileNote>>,
    leases: Mutex<Option<Leases>>,
    bounded: Mutex<Option<Bounded>>,
    advice: Mutex<BTreeMap<&'static str, String>>,
}

/// The phase of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
pub enum ProcessPhase {
    /// PostgreSQL has not been reached yet.
    WaitingForDatabase = 0,
    /// The topic has not been found yet.
    WaitingForTopic = 1,
    /// Running.
    Running = 2,
    /// Shutting down.
    Stopping = 3,
}

/// A number that only grows. Relaxed: it is read on its own.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds this many.
    pub fn add(&self, more: usize) {
        // A count of rows is within 64 bits.
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A confirmed flush.
#[derive(Debug, Clone, PartialEq)]
pub struct FlushNote {
    /// Counts from 0.
    pub id: u64,
    /// When PostgreSQL confirmed it, ms since 1970.
    pub at_ms: i64,
    /// How long PostgreSQL took.
    pub took: Duration,
    /// The longest that one of its records waited, if it had any.
    pub visible_after: Option<Duration>,
    /// Rows of `weather_summary` that it changed.
    pub rows: usize,
    /// Dead letters that it added.
    pub dead_letters: usize,
    /// Partition, first offset, offset after the last.
    pub offsets: Vec<(i32, i64, i64)>,
}

impl FlushNote {
    /// Offsets that became part of the table.
    pub fn records(&self) -> i64 {
        self.offsets.iter().map(|(_, from, to)| (to - from).max(0)).sum()
    }
}

/// A dead letter as a sample.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Sample {
    /// Where it is from.
    pub partition: i32,
    /// Where it is from.
    pub offset: i64,
    /// Why it was rejected.
    pub reason: &'static str,
    /// The beginning of its value, as text; null for a tombstone.
    pub payload: Option<String>,
    /// The length of the whole value.
    pub payload_bytes: i64,
}

impl Sample {
    /// Of a dead letter; what is no UTF-8 shows as replacement characters.
    pub fn of(partition: i32, dead_letter: &DeadLetter) -> Self {
        let text =
            |bytes: &Arc<[u8]>| String::from_utf8_lossy(&bytes[..bytes.len().min(SAMPLE_BYTES)]).into_owned();
        Self {
            partition,
            offset: dead_letter.offset,
            reason: dead_letter.reason.as_str(),
            payload: dead_letter.payload.as_ref().map(text),
            payload_bytes: dead_letter.payload_bytes,
        }
    }
}

#[derive(Debug, Default)]
struct WrittenNotes {
    batches: VecDeque<FlushNote>,
    next_id: u64,
    samples: VecDeque<Sample>,
}

impl WrittenNotes {
    /// Keeps the newest dead letters, of which these are the last.
    fn keep(&mut self, samples: impl DoubleEndedIterator<Item = Sample>) {
        let mut newest: Vec<Sample> = samples.rev().take(SAMPLES).collect();
        newest.reverse();
        self.samples.extend(newest);
        let surplus = self.samples.len().saturating_sub(SAMPLES);
        self.samples.drain(..surplus);
    }
}

/// A checkpoint file as last checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileNote {
    /// When it was last known to hold the partition's state, ms since 1970.
    pub current_ms: i64,
    /// Its length.
    pub bytes: usize,
}

/// Progress of a bounded run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounded {
    /// Offsets at the start.
    pub total: i64,
    /// Offsets that are not in the table yet.
    pub left: i64,
}

impl Stats {
    /// Nothing recorded yet.
    pub fn new(checkpoint_folder: &std::path::Path, topic: &str) -> Arc<Self> {
        Arc::new(Self {
            flush: Latency::default(),
            checkpoint: Latency::default(),
            append_to_visible: Latency::default(),
            failed_flushes: Count::default(),
            station_rows: Count::default(),
            fenced: Count::default(),
            rates: Rates::default(),
            flushing: Heartbeat::new("flush"),
            owning: Heartbeat::new("ownership"),
            checkpointing: Heartbeat::new("checkpoint"),
            checkpoint_folder: Outage::new(format!("the checkpoint folder {}", checkpoint_folder.display())),
            topic: Outage::new(format!("topic {topic}")),
            phase: AtomicU64::new(ProcessPhase::WaitingForDatabase as u64),
            last_write_ms: AtomicI64::new(0),
            oldest_snapshot_ms: AtomicI64::new(0),
            written: Mutex::default(),
            files: Mutex::default(),
            leases: Mutex::default(),
            bounded: Mutex::default(),
            advice: Mutex::default(),
        })
    }

    /// Sets the phase.
    pub fn enter(&self, phase: ProcessPhase) {
        self.phase.store(phase as u64, Ordering::Relaxed);
    }

    /// The phase.
    pub fn phase(&self) -> ProcessPhase {
        use ProcessPhase as P;
        let phase = self.phase.load(Ordering::Relaxed);
        [P::WaitingForDatabase, P::WaitingForTopic, P::Running]
            .into_iter()
            .find(|known| *known as u64 == phase)
            .unwrap_or(P::Stopping)
    }

    /// A flush was confirmed; its id is given here.
    pub fn wrote(&self, mut batch: FlushNote, samples: impl DoubleEndedIterator<Item = Sample>) {
        self.flush.record(batch.took);
        self.last_write_ms.store(batch.at_ms, Ordering::Relaxed);
        let mut notes = lock(&self.written);
        batch.id = notes.next_id;
        notes.next_id += 1;
        notes.batches.push_back(batch);
        if notes.batches.len() > BATCHES {
            notes.batches.pop_front();
        }
        notes.keep(samples);
    }

    /// Dead letters that no table has, as there is none.
    pub fn dropped(&self, samples: impl DoubleEndedIterator<Item = Sample>) {
        lock(&self.written).keep(samples);
    }

    /// When PostgreSQL confirmed a flush last, ms since 1970; None if it never did.
    pub fn last_write_ms(&self) -> Option<i64> {
        Some(self.last_write_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0)
    }

    /// How many flushes were confirmed.
    pub fn flushes(&self) -> u64 {
        lock(&self.written).next_id
    }

    /// The last batches, the newest last.
    pub fn batches(&self) -> Vec<FlushNote> {
        lock(&self.written).batches.iter().cloned().collect()
    }

    /// The last dead letters that were written or dropped, the newest last.
    pub fn samples(&self) -> Vec<Sample> {
        lock(&self.written).samples.iter().cloned().collect()
    }

    /// What there is to know about the records, under a key: the last word counts.
    pub fn advise(&self, about: &'static str, advice: String) {
        lock(&self.advice).insert(about, advice);
    }

    /// All advice.
    pub fn advice(&self) -> Vec<String> {
        lock(&self.advice).values().cloned().collect()
    }

    /// A partition's file holds its state.
    pub fn file_is_current(&self, partition: i32, bytes: usize) {
        lock(&self.files).insert(partition, FileNote { current_ms: now_ms(), bytes });
    }

    /// A partition's file, if one was written.
    pub fn file(&self, partition: i32) -> Option<FileNote> {
        lock(&self.files).get(&partition).copied()
    }

    /// Age of PostgreSQL's longest transaction in seconds; 0 if there is none.
    pub fn saw_oldest_snapshot(&self, seconds: f64) {
        self.oldest_snapshot_ms.store((seconds * 1000.0) as i64, Ordering::Relaxed);
    }

    /// The same, as last seen.
    pub fn oldest_snapshot(&self) -> Duration {
        let ms = self.oldest_snapshot_ms.load(Ordering::Relaxed);
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    /// Records the leases.
    pub fn saw_leases(&self, leases: &Leases) {
        let mut last = lock(&self.leases);
        if last.as_ref() != Some(leases) {
            *last = Some(leases.clone());
        }
    }

    /// The leases as last seen.
    pub fn leases(&self) -> Option<Leases> {
        lock(&self.leases).clone()
    }

    /// Whether other processes write to the same tables, as far as the leases show.
    pub fn has_others(&self) -> bool {
        lock(&self.leases).as_ref().is_some_and(Leases::are_of_several)
    }

    /// Offsets left to read in a bounded run.
    pub fn left(&self, left: i64) {
        let mut bounded = lock(&self.bounded);
        let total = bounded.map_or(left, |bounded| bounded.total);
        *bounded = Some(Bounded { total, left });
    }

    /// Progress of a bounded run; None if it is not bounded.
    pub fn bounded(&self) -> Option<Bounded> {
        *lock(&self.bounded)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Reason;

    fn batch(records: i64) -> FlushNote {
        FlushNote {
            id: 0,
            at_ms: 1,
            took: Duration::from_millis(2),
            visible_after: None,
            rows: 1,
            dead_letters: 0,
            offsets: vec![(0, 10, 10 + records)],
        }
    }

    fn dead_letter(offset: i64, payload: &[u8]) -> DeadLetter {
        let payload = Some(payload.into());
        DeadLetter { incarnation: 0, offset, reason: Reason::Malformed, payload, payload_bytes: 9 }
    }

    #[test]
    fn remembers_a_bounded_number_of_the_newest() {
        let stats = Stats::new(std::path::Path::new("x"), "t");
        assert_eq!(stats.last_write_ms(), None);
        for i in 0..100 {
            let dead_letters = [dead_letter(2 * i, b"a"), dead_letter(2 * i + 1, b"b")];
            stats.wrote(batch(i), dead_letters.iter().map(|l| Sample::of(0, l)));
        }
        let batches = stats.batches();
        assert_eq!((batches.len(), batches[0].id, batches[59].id, batches[59].records()), (60, 40, 99, 99));
        let samples = stats.samples();
        assert_eq!((samples.len(), samples[0].offset, samples[19].offset), (20, 180, 199));
        assert_eq!((stats.flushes(), stats.last_write_ms()), (100, Some(1)));
    }

    #[test]
    fn a_sample_is_short_text() {
        let sample = Sample::of(3, &dead_letter(1, &[0xff; 5000]));
        assert_eq!(sample.payload.unwrap().chars().count(), SAMPLE_BYTES);
        let tombstone = DeadLetter { payload: None, ..dead_letter(1, b"") };
        assert_eq!(Sample::of(3, &tombstone).payload, None);
    }

    #[test]
    fn a_bounded_run_counts_from_its_start() {
        let stats = Stats::new(std::path::Path::new("x"), "t");
        assert_eq!(stats.bounded(), None);
        stats.left(100);
        stats.left(40);
        assert_eq!(stats.bounded(), Some(Bounded { total: 100, left: 40 }));
    }
}
