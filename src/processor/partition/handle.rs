//! The partitions that this process owns now, as its tasks share them.
//!
//! [`PartitionHandle`] is what the other tasks hold of one partition: what its task publishes, and how to reach it.
//! [`Registry`] is the list of them. A partition leaves the list when it is handed over, fenced or stopped; dropping the
//! last handle ends its tasks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::engine::dead_letter::{DeadLetter, Outbox, OutboxShares};
use crate::engine::intake::Lacking;
use crate::engine::partition::Confirmation;
use crate::engine::state::{PartitionState, Position, Progress};
use crate::engine::stations::{StationRow, Stations};
use crate::processor::observe::rates::Look;
use crate::processor::partition::snapshot::SnapshotReader;
use crate::telemetry::log::Outage;

/// Dead letters between worker and flush. Locked only while there are some, and for each flush.
#[derive(Debug, Clone)]
pub struct SharedOutbox(Arc<Mutex<Outbox>>);

/// What bounds the dead letters of this process.
static SHARES: LazyLock<OutboxShares> = LazyLock::new(OutboxShares::default);

impl Default for SharedOutbox {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Outbox::new(&SHARES))))
    }
}

impl SharedOutbox {
    /// Runs a short piece of work under the lock.
    pub fn with<T>(&self, work: impl FnOnce(&mut Outbox) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The end of the partition in Kafka, as last heard; the lag is the distance to it.
#[derive(Debug, Clone, Default)]
pub struct HighWatermark(Arc<AtomicI64>);

impl HighWatermark {
    /// Relaxed in both: a figure for people, nothing else hangs on it.
    pub fn set(&self, offset: i64) {
        self.0.store(offset, Ordering::Relaxed);
    }

    /// The offset last heard.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Kafka's time stamp of the oldest record that no flush has taken yet, for the time that records take to be visible.
#[derive(Debug, Clone)]
pub struct Oldest(Arc<AtomicI64>);

impl Default for Oldest {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(Self::NONE)))
    }
}

impl Oldest {
    const NONE: i64 = i64::MAX;

    /// Relaxed in both, as [`HighWatermark`]. To be noted before the state with the record is published.
    pub fn note(&self, timestamp_ms: i64) {
        // Below 0: the record has none.
        if timestamp_ms >= 0 {
            self.0.fetch_min(timestamp_ms, Ordering::Relaxed);
        }
    }

    /// To be taken before the state is read: a record that is published in between then counts for the next flush, as
    /// older than it is there, and never as younger.
    pub fn take(&self) -> Option<i64> {
        Some(self.0.swap(Self::NONE, Ordering::Relaxed)).filter(|ms| *ms != Self::NONE)
    }
}

/// What a worker can be asked.
#[derive(Debug)]
pub enum TaskCommand {
    /// The bytes of a checkpoint of the present state, and the state's position and flushed position.
    Checkpoint(oneshot::Sender<CheckpointImage>),
    /// What a flush takes of the present state.
    Flush(oneshot::Sender<FlushImage>),
    /// Take no more records.
    Pause,
}

/// A state with what belongs to it and PostgreSQL does not have.
#[derive(Debug)]
pub struct FlushImage {
    /// The state.
    pub state: PartitionState,
    /// The dead letters.
    pub dead_letters: Vec<DeadLetter>,
    /// The stations that changed, where they are kept apart.
    pub stations: Vec<StationRow>,
}

/// Numbers of stations, without any name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StationCounts {
    /// Stations of all windows that are held.
    pub rows: usize,
    /// Those of them that PostgreSQL does not have as they are.
    pub changed: usize,
    /// Stations with a name of their own in the newest window.
    pub newest: usize,
    /// Readings of all windows that are held which count for no station of their own.
    pub overflow: i64,
}

impl StationCounts {
    /// Of the stations that are held.
    pub fn of(stations: &Stations) -> Self {
        Self {
            rows: stations.row_count(),
            changed: stations.changed_count(),
            newest: stations.newest_count(),
            overflow: stations.overflow(),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            changed: self.changed + other.changed,
            newest: self.newest + other.newest,
            overflow: self.overflow + other.overflow,
        }
    }
}

/// The numbers of a partition's stations, as of a moment ago.
#[derive(Debug, Clone, Default)]
pub struct StationGauge(Arc<([AtomicUsize; 3], AtomicI64)>);

impl StationGauge {
    /// Relaxed in all: what is written follows from the state, these only tell when it is worth it.
    pub fn set(&self, counts: StationCounts) {
        let (numbers, overflow) = &*self.0;
        for (number, value) in numbers.iter().zip([counts.rows, counts.changed, counts.newest]) {
            number.store(value, Ordering::Relaxed);
        }
        overflow.store(counts.overflow, Ordering::Relaxed);
    }

    /// All of them; each is right, but they may be of two moments.
    pub fn counts(&self) -> StationCounts {
        let ([rows, changed, newest], overflow) = &*self.0;
        let [rows, changed, newest] = [rows, changed, newest].map(|number| number.load(Ordering::Relaxed));
        StationCounts { rows, changed, newest, overflow: overflow.load(Ordering::Relaxed) }
    }
}

/// A checkpoint to be written.
#[derive(Debug)]
pub struct CheckpointImage {
    /// The file's contents.
    pub bytes: Vec<u8>,
    /// The state's position, and what of it PostgreSQL has.
    pub positions: (Position, Position),
}

/// One partition that this process owns.
#[derive(Debug)]
pub struct PartitionHandle {
    /// Which.
    pub partition: i32,
    /// The ownership to write under.
    pub epoch: i64,
    /// Its state when this process took it.
    pub began: Progress,
    /// What the worker publishes.
    pub published: SnapshotReader,
    /// Dead letters that PostgreSQL does not have.
    pub outbox: SharedOutbox,
    /// Readings that lack a metric.
    pub lacking: Arc<Lacking>,
    /// Kafka's end of the partition.
    pub high_watermark: HighWatermark,
    /// The record that has waited longest for a flush.
    pub oldest: Oldest,
    /// Where stations are kept apart.
    pub stations: Option<StationGauge>,
    /// Whether the partition can be read, while the cluster is there.
    pub reading: Outage,
    /// Where a bounded run has come to this partition's end, once it has.
    pub reached: Arc<OnceLock<Position>>,
    /// Where the flusher reports what PostgreSQL has.
    pub confirmed: watch::Sender<Option<Confirmation>>,
    /// Where the worker takes questions.
    pub commands: mpsc::Sender<TaskCommand>,
    /// Its task, which reads from Kafka and holds the state.
    pub task: AbortHandle,
}

impl PartitionHandle {
    /// The present state with what belongs to it, for a flush. Stations are the task's alone, so it is asked for them;
    /// None if it has ended.
    pub async fn snapshot(&self) -> Option<FlushImage> {
        if self.stations.is_some() {
            let (reply, answer) = oneshot::channel();
            self.commands.send(TaskCommand::Flush(reply)).await.ok()?;
            return answer.await.ok();
        }
        // In this order: dead letters are in the outbox before the state that counts them is published.
        let state = self.published.read();
        let dead_letters = self.outbox.with(|outbox| outbox.before(state.progress.position()));
        Some(FlushImage { state, dead_letters, stations: Vec::new() })
    }

    /// Takes no more records; the state stays as it is.
    pub fn pause(&self) {
        // The task has ended, or has more requests than it ever gets at once: in both cases nothing is read for long.
        let _ = self.commands.try_send(TaskCommand::Pause);
    }

    /// A checkpoint of the present state; None if the worker has ended.
    pub async fn checkpoint(&self) -> Option<CheckpointImage> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(TaskCommand::Checkpoint(reply)).await.ok()?;
        answer.await.ok()
    }
}

impl Drop for PartitionHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All partitions that this process owns.
#[derive(Debug, Default)]
pub struct Registry(Mutex<BTreeMap<i32, Arc<PartitionHandle>>>);

impl Registry {
    /// Every partition, ascending.
    pub fn all(&self) -> Vec<Arc<PartitionHandle>> {
        self.lock().values().cloned().collect()
    }

    /// Partition and epoch of each, ascending.
    pub fn epochs(&self) -> Vec<(i32, i64)> {
        self.lock().values().map(|owned| (owned.partition, owned.epoch)).collect()
    }

    /// How far each is, for the rates.
    pub fn counts(&self) -> Look {
        let counts = |owned: &Arc<PartitionHandle>| {
            let progress = owned.published.progress();
            let waiting = (progress.next_offset - progress.flushed_offset).max(0);
            ((owned.partition, owned.epoch), (progress.accounted(), progress.accounted() - waiting))
        };
        self.lock().values().map(counts).collect()
    }

    /// Records in Kafka that have not been read, of all partitions together.
    pub fn lag(&self) -> i64 {
        let lag = |owned: &Arc<PartitionHandle>| {
            (owned.high_watermark.get() - owned.published.progress().next_offset).max(0)
        };
        self.lock().values().map(lag).sum()
    }

    /// Numbers of the stations of all partitions together; None where they are not kept apart.
    pub fn station_counts(&self) -> Option<StationCounts> {
        let all = self.lock();
        let gauges = all.values().filter_map(|owned| owned.stations.as_ref());
        gauges.map(StationGauge::counts).reduce(StationCounts::plus)
    }

    /// Adds a partition that was just taken.
    pub fn insert(&self, owned: PartitionHandle) {
        self.lock().insert(owned.partition, Arc::new(owned));
    }

    /// Removes a partition if it is still held under this epoch.
    pub fn remove(&self, partition: i32, epoch: i64) -> Option<Arc<PartitionHandle>> {
        let mut all = self.lock();
        if all.get(&partition).is_some_and(|owned| owned.epoch == epoch) {
            all.remove(&partition)
        } else {
            None
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<i32, Arc<PartitionHandle>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
