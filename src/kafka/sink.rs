//! Records to partitions: batched, in order, sent again until Kafka has acknowledged them.
//!
//! Each partition has a bounded buffer and one task that sends its batches in order, and memory stays bounded while Kafka
//! is away: a full buffer makes [`Sink::send`] wait, which makes the source pause. A batch is sent when it is full or has
//! lingered; several are in flight at once.
//!
//! A request whose answer was lost may have taken effect. Batches are numbered, as an idempotent producer's are, so that
//! the broker stores each once however often it is sent (`sender`).
//!
//! What ends a sink: the broker refusing the user or the topic before the first acknowledgement (a wrong set-up). After
//! it, the same refusal is an outage like any other, because somebody changed a set-up that worked, and will fix it.

mod batch;
mod buffer;
mod destination;
mod encode;
mod sender;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::cluster::Cluster;
use super::error::{ErrorKind, KafkaError};
use super::partitioner::partition_of;
use crate::config::Compression;
use crate::telemetry::log::Outage;
pub use batch::UnsentBatch;
use buffer::{Buffer, BufferLimits, Next, Pushed};
use destination::ToKafka;
use sender::{Destination, Sender};

/// Far below what a broker accepts by default (1 MiB), and large enough that requests cost little compared with records.
const BATCH_BYTES: usize = 128 * 1024;
/// Before compression, which makes it a tenth.
const COMPRESSED_BATCH_BYTES: usize = 512 * 1024;
/// What all partitions may hold together: a share each, and at most three times as many batches as may be in flight.
const HELD_BYTES: usize = 12 * 1024 * 1024;
const MOST_HELD_BATCHES: usize = 16;
/// The least that a partition may hold, however many there are.
const LEAST_HELD_BYTES: usize = 16 * 1024;
/// An hour in µs: what waits longer counts as that.
const LONGEST_LATENCY_US: u64 = 3_600_000_000;

/// Called with each batch that Kafka has acknowledged. Must not block.
pub type Acknowledged = Arc<dyn Fn(&UnsentBatch) + Send + Sync>;

/// How to send.
#[derive(Clone)]
pub struct SinkSettings {
    /// How long a batch waits for more records at most.
    pub linger: Duration,
    /// Codec of batches.
    pub compression: Compression,
    /// Told of what was acknowledged.
    pub acknowledged: Option<Acknowledged>,
}

impl fmt::Debug for SinkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkSettings")
            .field("linger", &self.linger)
            .field("compression", &self.compression)
            .finish()
    }
}

/// Counts of records since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendTotals {
    /// Taken in by [`Sink::send`].
    pub accepted: u64,
    /// Acknowledged by all in-sync replicas.
    pub acknowledged: u64,
    /// Sent again, each time counted.
    pub retried: u64,
    /// Given up: larger than the broker accepts.
    pub dropped: u64,
}

impl SendTotals {
    /// Accepted and not yet acknowledged or dropped.
    pub fn unsent(&self) -> u64 {
        self.accepted.saturating_sub(self.acknowledged + self.dropped)
    }
}

/// Sends records to the partitions of a topic. Dropping it gives up what is not acknowledged: flush first.
#[derive(Debug)]
pub struct Sink {
    lanes: Vec<Arc<SinkLane>>,
    shared: Arc<SharedSink>,
    accepted: u64,
    /// The partition for records without a key, and the batch of it that they are filling.
    keyless: (usize, u64),
    /// One a partition; dropping the set ends them.
    tasks: JoinSet<()>,
}

/// A sink's numbers, for others than its owner. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Monitor {
    lanes: Vec<Arc<SinkLane>>,
    shared: Arc<SharedSink>,
}

impl Monitor {
    /// Acknowledged by all in-sync replicas.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Sent again, each time counted.
    pub fn retried(&self) -> u64 {
        self.shared.retried.load(Ordering::Relaxed)
    }

    /// Given up: larger than the broker accepts.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Accepted and not yet acknowledged or dropped.
    pub fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.buffer().pending()).sum()
    }

    /// Latency from due to acknowledged so far, in µs.
    pub fn latency_us(&self) -> Histogram<u64> {
        self.shared.latency_us.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is wrong besides the cluster being away, if anything.
    pub fn problem(&self) -> Option<String> {
        self.shared.refusals.problem()
    }
}

/// One partition: what it holds, and the sender's alarm.
#[derive(Debug)]
struct SinkLane {
    buffer: Mutex<Buffer>,
    /// Wakes the sender.
    work: Notify,
}

#[derive(Debug)]
struct SharedSink {
    options: SinkSettings,
    // Relaxed throughout: each is a count of its own, read for reports.
    acknowledged: AtomicU64,
    retried: AtomicU64,
    dropped: AtomicU64,
    /// Whether it was reported that the broker gives no producer ids.
    unnumbered: AtomicBool,
    latency_us: Mutex<Histogram<u64>>,
    failure: OnceLock<KafkaError>,
    /// For [`Sink`], the only one to wait: something was released, or the sink has failed.
    progress: Notify,
    /// Errors other than the cluster being away, of any partition, until the last partition that has them works again.
    refusals: Outage,
    /// How many partitions have such errors.
    in_trouble: AtomicUsize,
}

impl Sink {
    /// Starts sending to the partitions `0..partitions` of the cluster's topic.
    pub fn start(cluster: &Arc<Cluster>, partitions: i32, options: SinkSettings) -> Result<Self, KafkaError> {
        let destinations = (0..partitions)
            .map(|partition| ToKafka::new(Arc::clone(cluster), partition, partitions))
            .collect();
        let limits = limits_for(partitions, &options);
        Self::with(destinations, cluster.topic(), limits, options)
    }

    fn with<D: Destination>(
        destinations: Vec<D>,
        topic: &str,
        limits: BufferLimits,
        options: SinkSettings,
    ) -> Result<Self, KafkaError> {
        let latency_us = Histogram::new_with_bounds(1, LONGEST_LATENCY_US, 3)
            .map_err(|e| KafkaError::new(ErrorKind::Fatal, e.to_string()))?;
        let shared = Arc::new(SharedSink {
            options,
            acknowledged: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            unnumbered: AtomicBool::new(false),
            latency_us: Mutex::new(latency_us),
            failure: OnceLock::new(),
            progress: Notify::new(),
            refusals: Outage::new(format!("Topic {topic}")),
            in_trouble: AtomicUsize::new(0),
        });
        let epoch = Instant::now();
        let mut tasks = JoinSet::new();
        let mut lanes = Vec::new();
        for destination in destinations {
            let lane =
                Arc::new(SinkLane { buffer: Mutex::new(Buffer::new(limits, epoch)), work: Notify::new() });
            lanes.push(Arc::clone(&lane));
            tasks.spawn(Sender::new(lane, Arc::clone(&shared), destination).run());
        }
        Ok(Self { lanes, shared, accepted: 0, keyless: (0, 0), tasks })
    }

    /// Takes in a record, waiting while its partition's buffer is full. No key: partitions in turn, a batch each.
    ///
    /// `due` is when the record should have been sent; its latency counts from there. Cancelling while it waits
    /// leaves the record out.
    ///
    /// # Errors
    /// Kafka refused the user or the topic from the start; nothing more will be sent.
    pub async fn send(&mut self, key: Option<&[u8]>, value: &[u8], due: Instant) -> Result<(), KafkaError> {
        loop {
            if let Some(failure) = self.shared.failure.get() {
                return Err(failure.clone());
            }
            let lane = self.lane_for(key);
            let pushed = lane.buffer().push(key.unwrap_or_default(), value, due);
            match pushed {
                Pushed::Full => self.shared.progress.notified().await,
                Pushed::Look => {
                    lane.work.notify_one();
                    break;
                }
                Pushed::Kept => break,
            }
        }
        self.accepted += 1;
        Ok(())
    }

    fn lane_for(&mut self, key: Option<&[u8]>) -> &SinkLane {
        if let Some(key) = key {
            return &self.lanes[partition_of(key, self.lanes.len())];
        }
        let (lane, batch) = self.keyless;
        if self.lanes[lane].buffer().batch_number() != batch {
            let next = (lane + 1) % self.lanes.len();
            let batch = self.lanes[next].buffer().batch_number();
            self.keyless = (next, batch);
        }
        &self.lanes[self.keyless.0]
    }

    /// Sends what is left without lingering and returns when all of it is acknowledged or dropped.
    ///
    /// # Errors
    /// As [`Sink::send`].
    pub async fn flush(&mut self) -> Result<(), KafkaError> {
        for lane in &self.lanes {
            lane.buffer().hurry();
            lane.work.notify_one();
        }
        for lane in &self.lanes {
            while lane.buffer().pending() > 0 {
                if let Some(failure) = self.shared.failure.get() {
                    return Err(failure.clone());
                }
                self.shared.progress.notified().await;
            }
        }
        Ok(())
    }

    /// Gives up what is not acknowledged; the final counts.
    pub async fn close(mut self) -> SendTotals {
        self.tasks.shutdown().await;
        self.totals()
    }

    /// The counts so far.
    pub fn totals(&self) -> SendTotals {
        SendTotals {
            accepted: self.accepted,
            acknowledged: self.shared.acknowledged.load(Ordering::Relaxed),
            retried: self.shared.retried.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
        }
    }

    /// Its numbers, for others.
    pub fn monitor(&self) -> Monitor {
        Monitor { lanes: self.lanes.clone(), shared: Arc::clone(&self.shared) }
    }
}

/// What each of this many partitions may hold.
fn limits_for(partitions: i32, options: &SinkSettings) -> BufferLimits {
    let share = HELD_BYTES / usize::try_from(partitions).unwrap_or(1).max(1);
    let full_batch = match options.compression {
        Compression::None => BATCH_BYTES,
        _ => COMPRESSED_BATCH_BYTES,
    };
    let held_bytes = share.clamp(LEAST_HELD_BYTES, MOST_HELD_BATCHES * full_batch);
    // One is filled while another is on its way.
    BufferLimits { batch_bytes: full_batch.min(held_bytes / 2), held_bytes, linger: options.linger }
}

impl SinkLane {
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next batch to send.
    async fn next_batch(&self) -> UnsentBatch {
        loop {
            let next = self.buffer().next(Instant::now());
            match next {
                Next::Send(batch) => return batch,
                Next::Nothing => self.work.notified().await,
                Next::At(time) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(time.into()) => {}
                        () = self.work.notified() => {}
                    }
                }
            }
        }
    }
}

impl SharedSink {
    fn acknowledge(&self, batch: &UnsentBatch) {
        let now = Instant::now();
        {
            let mut latency_us = self.latency_us.lock().unwrap_or_else(PoisonError::into_inner);
            for (due, count) in batch.due() {
                let us = u64::try_from(now.saturating_duration_since(*due).as_micros()).unwrap_or(u64::MAX);
                latency_us.saturating_record_n(us, (*count).into());
            }
        }
        self.acknowledged.fetch_add(batch.len() as u64, Ordering::Relaxed);
        if let Some(acknowledged) = &self.options.acknowledged {
            acknowledged(batch);
        }
    }

    /// A partition cannot be written to; `is_new` if it could be before.
    fn trouble(&self, error: &KafkaError, is_new: bool) {
        self.in_trouble.fetch_add(usize::from(is_new), Ordering::Relaxed);
        self.refusals.failed(error);
    }

    /// A partition that could not be written to works again.
    fn trouble_ended(&self) {
        if self.in_trouble.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.refusals.ok();
        }
    }

    fn drop_record(&self, bytes: usize, error: &KafkaError) {
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        // The first, and then ever more rarely: a flood of them must not become a flood of lines.
        if dropped.is_power_of_two() {
            crate::warn!("Dropped a reading that the broker refuses", "reason" => error, "bytes" => bytes,
                "dropped" => dropped);
        }
    }

    /// Reports once that what is sent twice is stored twice.
    fn say_unnumbered(&self) {
        if !self.unnumbered.swap(true, Ordering::Relaxed) {
            crate::warn!(
                "The broker gives no producer ids: a reading whose acknowledgement is lost may be stored twice"
            );
        }
    }

    fn fail(&self, error: KafkaError) {
        // The first failure is enough.
        let _ = self.failure.set(error);
        self.progress.notify_one();
    }

    /// Whether trying again is useless: a refusal, and nothing was ever acknowledged.
    fn is_fatal(&self, error: &KafkaError) -> bool {
        let refused = matches!(
            error.kind,
            ErrorKind::Authentication | ErrorKind::Authorization | ErrorKind::Unsupported | ErrorKind::Fatal
        );
        refused && self.acknowledged.load(Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests;
