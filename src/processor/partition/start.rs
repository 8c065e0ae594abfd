//! From a partition that was just claimed to its running tasks: which state to continue from, then its task and feed.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::spawn_blocking;

use crate::config::{OnDataLoss, OnUnreadable, Process, StartFrom};
use crate::engine::checkpoint::Checkpoint;
use crate::engine::dead_letter::DeadLetter;
use crate::engine::invariants;
use crate::engine::partition::{Partition, WindowSettings};
use crate::engine::recovery::{Claimed, StateOrigin, origin, resume};
use crate::engine::state::PartitionState;
use crate::engine::stations::{StationRow, Stations};
use crate::error::{Error, Result};
use crate::kafka::cluster::Cluster;
use crate::kafka::fetcher::{self, Fetcher};
use crate::kafka::topic;
use crate::processor::checkpoints::store::CheckpointStore;
use crate::processor::cluster_check;
use crate::processor::partition::handle::{
    HighWatermark, Oldest, PartitionHandle, SharedOutbox, StationGauge,
};
use crate::processor::partition::snapshot;
use crate::processor::partition::task::{Channels, PartitionTask, TaskSettings};
use crate::reading::Format;
use crate::time::{Clock, milliseconds};

/// How long the broker may hold back an answer while there is nothing to read.
const FETCH_WAIT: Duration = Duration::from_secs(2);
/// Longest pause after an answer with little in it. It is also at most a tenth of a flush interval, so that it adds little
/// to how old a reading is when it is seen.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
/// Files read at once: each takes a thread while it is read, and keeps it for good.
const FILES_AT_ONCE: usize = 4;
/// Windows of all partitions that may have ended and wait for PostgreSQL. Each is in memory several times, as state, as
/// rows and in files; with that many a process takes 60 to 85 MiB. Of 20 partitions each may have 40 days of hours.
const MAX_CLOSED_WINDOWS: usize = 20_000;
/// What the stations of all partitions take, while windows have ended and wait for PostgreSQL. Of one partition at a time,
/// about as much again is in memory while it is sent, and while its file is written.
const MAX_STATION_BYTES: usize = 24 * 1024 * 1024;

/// What every partition of this process is run with.
#[derive(Debug)]
pub struct Launcher {
    /// Kafka.
    pub cluster: Arc<Cluster>,
    /// Checkpoint files.
    pub store: Arc<CheckpointStore>,
    /// Permits to read them.
    reading_files: Arc<Semaphore>,
    /// Rules of the core.
    pub settings: WindowSettings,
    /// How records are read.
    pub format: Arc<Format>,
    /// Reads all partitions.
    pub fetcher: Fetcher,
    /// What to do about deleted records.
    pub on_data_loss: OnDataLoss,
    /// What to do about a batch that cannot be read.
    pub on_unreadable: OnUnreadable,
    /// Reading waits while this many windows have ended and are not confirmed.
    pub max_closed_windows: usize,
    /// Whether the checkpoint files are all there is.
    pub is_local: bool,
    /// Whether stations are kept apart, and how many of a window.
    pub max_stations: Option<usize>,
    /// Where to start where no state exists.
    pub from: StartFrom,
    /// The partitions that the topic had when this process started. One that appears later is read from its beginning,
    /// otherwise what is written before it is noticed would be neither read nor counted.
    pub first_partitions: BTreeSet<i32>,
    /// Silence after which a caught-up partition is idle.
    pub idle_timeout: Duration,
    /// The clock that future times are judged by.
    pub clock: Clock,
    /// Wakes the flush.
    pub changed: Arc<Notify>,
    /// Ends the process when a partition cannot continue.
    pub failures: mpsc::Sender<Error>,
}

impl Launcher {
    /// By the configuration.
    pub fn new(
        config: &Process,
        cluster: &Arc<Cluster>,
        store: &Arc<CheckpointStore>,
        first_partitions: BTreeSet<i32>,
        changed: Arc<Notify>,
        failures: mpsc::Sender<Error>,
    ) -> Self {
        let reading = fetcher::FetchSettings {
            fetch_bytes: config.fetch_bytes,
            wait: FETCH_WAIT,
            pause: (config.flush_interval / 10).min(LONGEST_PAUSE),
            on_data_loss: config.on_data_loss,
        };
        Self {
            cluster: Arc::clone(cluster),
            fetcher: Fetcher::start(Arc::clone(cluster), reading),
            store: Arc::clone(store),
            reading_files: Arc::new(Semaphore::new(FILES_AT_ONCE)),
            settings: WindowSettings {
                window_ms: milliseconds(config.window),
                out_of_orderness_ms: milliseconds(config.watermark),
                max_future_ms: milliseconds(config.max_future),
            },
            format: Arc::clone(&config.format),
            on_data_loss: config.on_data_loss,
            on_unreadable: config.on_unreadable,
            // Without PostgreSQL nothing is ever confirmed, and every window stays.
            max_closed_windows: if config.database.is_some() { MAX_CLOSED_WINDOWS } else { usize::MAX },
            is_local: config.database.is_none(),
            max_stations: config.by_station.map(|by| by.max_stations),
            from: config.from,
            first_partitions,
            idle_timeout: config.idle_timeout,
            clock: Clock::start(),
            changed,
            failures,
        }
    }

    /// Starts a partition. Waits for Kafka only where no state exists.
    pub async fn start(&self, mut claimed: Claimed, end_offset: Option<i64>) -> Result<PartitionHandle> {
        let Start { state, pending, changed } = self.state_of(&claimed).await?;
        // Before the first of the others sees it.
        invariants::check(&state, self.settings.window_ms, 0).map_err(|what| {
            let (partition, topic) = (claimed.partition, self.cluster.topic());
            let what = format!("partition {partition} of topic {topic} stops: internal error: {what}");
            Error::failure(what)
        })?;
        let confirmed = std::mem::take(&mut claimed.stations);
        let stations =
            self.max_stations.map(|limit| Stations::resume(limit, confirmed, changed, &state.windows));
        Ok(self.launch(&claimed, state, (pending, stations), end_offset))
    }

    async fn state_of(&self, claimed: &Claimed) -> Result<Start> {
        let (store, partition) = (Arc::clone(&self.store), claimed.partition);
        // It is never closed.
        let permit = Arc::clone(&self.reading_files).acquire_owned().await;
        let read = spawn_blocking(move || {
            let _permit = permit;
            store.read(partition)
        });
        let read = read.await;
        let found = read.map_err(|e| Error::failure(format!("reading checkpoint files: {e}")))??;
        for problem in &found.problems {
            crate::warn!("ignoring a checkpoint file", "reason" => problem);
        }
        let mut files = found.checkpoints;
        self.refuse_other_cluster(claimed, &mut files)?;
        let state = match origin(claimed, &Vec::from_iter(&files)) {
            StateOrigin::File(index) => {
                let file = files.swap_remove(index);
                if file.window_ms != self.settings.window_ms {
                    return Err(other_window(self.settings.window_ms, file.window_ms, &self.store));
                }
                crate::info!("continuing from the checkpoint file", "partition" => partition,
                    "next_offset" => file.state.progress.next_offset);
                let (state, pending, changed) = resume(file, claimed);
                return Ok(Start { state, pending, changed });
            }
            StateOrigin::Database { state, why } => {
                crate::info!("continuing from PostgreSQL's state", "partition" => partition,
                    "next_offset" => state.progress.next_offset, "file" => why);
                state.clone()
            }
            StateOrigin::Nowhere { why } => {
                let offset = self.first_offset(partition).await;
                crate::info!("no saved state", "partition" => partition, "starting_at" => offset, "file" => why);
                PartitionState::starting_at(offset)
            }
        };
        Ok(Start { state, pending: Vec::new(), changed: Vec::new() })
    }

    /// Files of another Kafka cluster are of other logs.
    fn refuse_other_cluster(&self, claimed: &Claimed, files: &mut Vec<Checkpoint>) -> Result<()> {
        let Some(id) = self.cluster.id() else { return Ok(()) };
        let is_other = |file: &Checkpoint| !file.cluster_id.is_empty() && file.cluster_id != id;
        let Some(other) = files.iter().find(|file| is_other(file)).map(|file| file.cluster_id.clone()) else {
            return Ok(());
        };
        if self.is_local {
            return Err(cluster_check::other_files(&other, id, &self.store));
        }
        crate::warn!("ignoring checkpoint files of another Kafka cluster", "partition" => claimed.partition,
            "their_cluster" => other, "cluster" => id);
        files.retain(|file| !is_other(file));
        Ok(())
    }

    async fn first_offset(&self, partition: i32) -> i64 {
        let from = match self.first_partitions.contains(&partition) {
            true => self.from,
            false => StartFrom::Earliest,
        };
        topic::first_offset(&self.cluster, partition, from).await
    }

    fn launch(
        &self,
        claimed: &Claimed,
        state: PartitionState,
        (pending, stations): (Vec<DeadLetter>, Option<Stations>),
        end_offset: Option<i64>,
    ) -> PartitionHandle {
        let Claimed { partition: number, epoch, .. } = *claimed;
        let feed = self.fetcher.open(number, state.progress.next_offset, state.log);
        let (began, reached) = (state.progress, Arc::new(OnceLock::new()));
        let (writer, published) = snapshot::channel(&state);
        let (confirmed, confirmations) = watch::channel(None);
        let (commands, asked) = mpsc::channel(4);
        let (outbox, high_watermark) = (SharedOutbox::default(), HighWatermark::default());
        let (oldest, reading) = (Oldest::default(), feed.outage());
        outbox.with(|outbox| outbox.extend(pending));
        high_watermark.set(state.progress.next_offset);
        let gauge = stations.as_ref().map(|_| StationGauge::default());
        let partition = Partition::new(self.settings, state).reading(Arc::clone(&self.format));
        let lacking = Arc::clone(partition.lacking());
        let task = PartitionTask {
            partition: partition.by_station(stations),
            writer,
            outbox: outbox.clone(),
            high_watermark: high_watermark.clone(),
            oldest: oldest.clone(),
            stations: gauge.clone(),
            settings: TaskSettings {
                topic: self.cluster.topic().to_owned(),
                cluster_id: self.cluster.id().unwrap_or_default().to_owned(),
                partition: number,
                epoch,
                window_ms: self.settings.window_ms,
                idle_timeout: self.idle_timeout,
                end_offset,
                on_data_loss: self.on_data_loss,
                on_unreadable: self.on_unreadable,
                max_closed_windows: self.max_closed_windows,
                // Without PostgreSQL nothing is ever confirmed, as above.
                max_station_bytes: if self.is_local { usize::MAX } else { MAX_STATION_BYTES },
            },
            channels: Channels {
                feed,
                confirmed: confirmations,
                commands: asked,
                failures: self.failures.clone(),
                changed: Arc::clone(&self.changed),
            },
            clock: self.clock.clone(),
            reached: Arc::clone(&reached),
        };
        let task = tokio::spawn(task.run()).abort_handle();
        PartitionHandle {
            partition: number,
            epoch,
            began,
            published,
            outbox,
            lacking,
            high_watermark,
            oldest,
            stations: gauge,
            reading,
            reached,
            confirmed,
            commands,
            task,
        }
    }
}

/// From where a partition goes on.
struct Start {
    state: PartitionState,
    /// Dead letters that PostgreSQL may not have.
    pending: Vec<DeadLetter>,
    /// Stations that it does not have as they are.
    changed: Vec<StationRow>,
}

/// Windows of two lengths cannot be one state.
fn other_window(asked_ms: i64, found_ms: i64, store: &CheckpointStore) -> Error {
    let length = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    Error::usage(format!(
        "--window {:?} differs from the windows of {:?} in the checkpoint folder {}; use that length, or another folder with --checkpoint-dir",
        length(asked_ms),
        length(found_ms),
        store.folder().display()
    ))
}
