//! `weather process`: from Kafka to windows to PostgreSQL.
//!
//! All partitions are read by one [`fetcher`](crate::kafka::fetcher); each has a task that holds its state
//! ([`partition`]). The task `flusher` writes all states to PostgreSQL; [`checkpoints`] writes the files; `lease_keeper`
//! keeps this process's share of the partitions, and in the first of several processes also does the upkeep for all
//! (`housekeeper`); `offset_committer` commits to Kafka how far the table is. [`observe`] records and shows what they do
//! (`/metrics`, `/progress`). Every decision is the [`engine`](crate::engine)'s: the tasks move bytes, wait and call it.
//! Without PostgreSQL (`local`) the same tasks run for standard output.
//! If stations are kept apart, `station_flushes` knows when a partition is worth a flush.

pub mod checkpoints;
mod cluster_check;
mod flusher;
mod housekeeper;
pub mod identity;
mod lease_keeper;
mod local;
pub mod observe;
mod offset_committer;
pub mod partition;
mod station_flushes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::config::Process;
use crate::engine::bounded::BoundedRun;
use crate::error::{Error, Result};
use crate::kafka::cluster::Cluster;
use crate::kafka::group::Group;
use crate::kafka::topic;
use crate::postgres::connector::Connector;
use crate::postgres::failure::Failure;
use crate::postgres::leases::LeaseSession;
use crate::shutdown::{self, Shutdown};
use crate::time::milliseconds;

use checkpoints::store::CheckpointStore;
use checkpoints::task::CheckpointTask;
use flusher::{FlushRequest, Flusher, flush_now};
use identity::ProcessIdentity;
use lease_keeper::{LeaseKeeper, LeaseSettings, Remainder};
use observe::intake_log::IntakeLog;
use observe::stats::{ProcessPhase, Stats};
use observe::status::ProcessorStatus;
use offset_committer::OffsetCommitter;
use partition::handle::Registry;
use partition::start::Launcher;
use station_flushes::StationFlushes;

/// The whole shutdown, whichever service is silent. Including the last lines of output, a process ends within 15 s.
const END: Duration = Duration::from_secs(11);
/// Longest wait for the task that keeps the leases: it may be in the middle of a call to a silent PostgreSQL.
pub const LAST_TICK: Duration = Duration::from_secs(2);
/// Longest wait for the last flush; what PostgreSQL then lacks is in the checkpoint files.
pub const LAST_FLUSH: Duration = Duration::from_secs(5);
/// Longest wait for the last checkpoint files.
const LAST_FILES: Duration = Duration::from_secs(3);
/// Longest wait for handing the partitions back.
pub const LAST_WORDS: Duration = Duration::from_secs(3);
/// Longest wait for the last commit of offsets, and for the last batch to be printed.
const LAST_COMMIT: Duration = Duration::from_secs(1);

/// Runs `weather process` until shutdown is requested, a bounded run is done, or a partition cannot continue.
pub async fn run(config: Process, shutdown: Shutdown) -> Result<()> {
    let Some(database) = config.database.clone() else { return local::run(config, shutdown).await };
    let store = Arc::new(CheckpointStore::open(&config.checkpoint_dir, &config.kafka.topic)?);
    let identity = ProcessIdentity::take(&config.checkpoint_dir)?;
    let database = Arc::new(Connector::new(&config, database, identity.name()));
    let cluster = Arc::new(Cluster::new(config.kafka.clone()));
    let registry = Arc::new(Registry::default());
    let stats = Stats::new(&config.checkpoint_dir, &config.kafka.topic);
    let status = ProcessorStatus::new(&config, &identity, &stats, &registry, &cluster, Some(&database));
    let _showing = status.show(config.listen)?;
    let mut asked = shutdown.clone();
    let ((known, partitions), end_offsets) = tokio::select! {
        () = asked.wait() => return stopped_early(&config, "nothing was read"),
        prepared = prepare(&config, &database, &cluster, &stats) => prepared?,
    };
    let watching = tokio::spawn(topic::watch(Arc::clone(&cluster), known));
    stats.enter(ProcessPhase::Running);
    let pipeline = Pipeline { config, store, identity, database, cluster, registry, stats };
    let result = pipeline.run(partitions, end_offsets, shutdown).await;
    watching.abort();
    result
}

/// A bounded run that is stopped has not done what it was started for, so that callers must not take it for a success.
fn stopped_early(config: &Process, outcome: &str) -> Result<()> {
    if config.until_latest {
        return Err(Error::failure(format!("stopped by a signal before everything was read; {outcome}")));
    }
    Ok(())
}

type PartitionsWatch = (watch::Sender<BTreeSet<i32>>, watch::Receiver<BTreeSet<i32>>);

/// Waits for both services; for a bounded run, notes where it ends.
async fn prepare(
    config: &Process,
    database: &Connector,
    cluster: &Cluster,
    stats: &Stats,
) -> Result<(PartitionsWatch, Option<BTreeMap<i32, i64>>)> {
    database.set_up().await?;
    stats.enter(ProcessPhase::WaitingForTopic);
    cluster_check::agree(config, database, cluster, stats).await?;
    let partitions = topic::wait_for(cluster, &stats.topic).await?;
    let ends = match config.until_latest {
        true => Some(topic::end_offsets(cluster, &partitions, &stats.topic).await),
        false => None,
    };
    Ok((watch::channel(partitions), ends))
}

/// When the process ends, finished or not.
#[derive(Debug, Clone, Copy)]
struct Deadline(Instant);

impl Deadline {
    fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// The result of the work, if it is done within this limit and before the deadline.
    async fn within<T>(self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.0.min(Instant::now() + limit), work).await.ok()
    }
}

/// The first step of the shutdown.
struct FinalFlush {
    end: Deadline,
    partitions: Vec<i32>,
    checkpointing: JoinHandle<CheckpointTask>,
    committing: Option<JoinHandle<OffsetCommitter>>,
    left: Remainder,
}

struct Pipeline {
    config: Process,
    store: Arc<CheckpointStore>,
    identity: ProcessIdentity,
    database: Arc<Connector>,
    cluster: Arc<Cluster>,
    registry: Arc<Registry>,
    stats: Arc<Stats>,
}

impl Pipeline {
    async fn run(
        self,
        topic: watch::Receiver<BTreeSet<i32>>,
        end_offsets: Option<BTreeMap<i32, i64>>,
        mut shutdown: Shutdown,
    ) -> Result<()> {
        let (done, mut ended) = shutdown::channel();
        let (failures, mut failed) = mpsc::channel(1);
        let (flushes, requests) = mpsc::channel::<FlushRequest>(4);
        let changed = Arc::new(Notify::new());
        let flusher = Flusher::new(
            Arc::clone(&self.database),
            Arc::clone(&self.registry),
            Arc::clone(&changed),
            requests,
            self.config.flush_interval,
            self.config
                .by_station
                .map(|by| StationFlushes::new(by.flush_interval, milliseconds(self.config.window))),
            Arc::clone(&self.stats),
        );
        let flushing = tokio::spawn(flusher.run());
        let checkpoints =
            CheckpointTask::new(Arc::clone(&self.store), Arc::clone(&self.registry), Arc::clone(&self.stats));
        let checkpointing = tokio::spawn(checkpoints.run(self.config.checkpoint_interval, ended.clone()));
        let committing = self.config.group.clone().map(|name| {
            let group = Group::new(Arc::clone(&self.cluster), name);
            let committer = OffsetCommitter::new(group, Arc::clone(&self.registry));
            tokio::spawn(committer.run(ended.clone()))
        });
        let lease_keeper = LeaseKeeper {
            launcher: Arc::new(Launcher::new(
                &self.config,
                &self.cluster,
                &self.store,
                topic.borrow().clone(),
                changed,
                failures.clone(),
            )),
            settings: self.lease_settings(end_offsets),
            database: Arc::clone(&self.database),
            registry: Arc::clone(&self.registry),
            stats: Arc::clone(&self.stats),
            topic: topic.clone(),
            flushes: flushes.clone(),
            done: done.clone(),
            failures,
        };
        let mut owning = tokio::spawn(lease_keeper.run(ended.clone()));
        let intake_log = IntakeLog::new(&self.registry, &self.stats, &self.config.format);
        let watching = tokio::spawn(Arc::clone(&intake_log).run());

        let (failure, is_stopped) = tokio::select! {
            biased;
            () = ended.wait() => (None, false),
            failure = failed.recv() => (failure, false),
            () = shutdown.wait() => (None, true),
        };
        watching.abort();
        done.fire();
        self.stats.enter(ProcessPhase::Stopping);
        let end = Deadline::after(END);
        let left = end.within(LAST_TICK, &mut owning).await.and_then(std::result::Result::ok);
        owning.abort();
        let partitions: Vec<i32> = topic.borrow().iter().copied().collect();
        let has_read = !self.registry.all().is_empty();
        let last = FinalFlush { end, partitions, checkpointing, committing, left: left.unwrap_or_default() };
        let flushed = self.finish(&flushes, last, &intake_log).await;
        drop(flushes);
        // The flusher prints its last batch when no flush can be requested any more; if PostgreSQL is away it never gets
        // there.
        if flushed {
            end.within(LAST_COMMIT, flushing).await;
        }
        match failure {
            Some(failure) => Err(failure),
            None if is_stopped && !has_read => stopped_early(&self.config, "nothing was read"),
            None if is_stopped && flushed => stopped_early(&self.config, "what was read is in the table"),
            None if is_stopped => stopped_early(
                &self.config,
                "PostgreSQL did not accept the last flush, so the table lacks the last of what was read",
            ),
            None => Ok(()),
        }
    }

    fn lease_settings(&self, end_offsets: Option<BTreeMap<i32, i64>>) -> LeaseSettings {
        LeaseSettings {
            owner: self.identity.name().to_owned(),
            lease: self.config.lease,
            assign: self.config.assign.clone(),
            upkeep: housekeeper::UpkeepSettings {
                window_ms: milliseconds(self.config.window),
                out_of_orderness_ms: milliseconds(self.config.watermark),
                dead_letter_retention: self.config.dead_letter_retention,
                dead_letter_max_bytes: self.config.dead_letter_max_bytes,
                station_retention: self.config.by_station.and_then(|by| by.retention),
            },
            bounded: end_offsets.map(BoundedRun::new),
        }
    }

    /// The last flush, the last checkpoints, and the partitions free for others. Whether everything was flushed.
    async fn finish(
        &self,
        flushes: &mpsc::Sender<FlushRequest>,
        last: FinalFlush,
        intake_log: &IntakeLog,
    ) -> bool {
        let owned = self.registry.all();
        owned.iter().for_each(|owned| owned.pause());
        let flushed = flush_now(flushes, LAST_FLUSH).await;
        // A volume may hang; what is on it then is whole all the same.
        let files = async { Some(last.checkpointing.await.ok()?.write_all().await) };
        let kept = last.end.within(LAST_FILES, files).await.flatten().unwrap_or(false);
        match (flushed, kept) {
            (true, _) => {}
            (false, true) => crate::warn!(
                "PostgreSQL did not accept the last flush; the checkpoint files keep it for the next start"
            ),
            (false, false) => crate::warn!(
                "neither PostgreSQL nor the checkpoint folder accepted the last of what was read; the next start reads it again"
            ),
        }
        let words = last.end.within(LAST_WORDS, self.last_words(&last.partitions, last.left));
        let commit = async {
            // For display only: a broker that is away is not waited for, and without a flush nothing has moved.
            let committing = last.committing.filter(|_| flushed)?;
            last.end.within(LAST_COMMIT, async { committing.await.ok()?.commit().await }).await
        };
        let (said, _) = tokio::join!(words, commit);
        let released = matches!(said, Some(Ok(())));
        intake_log.stopped(&[("partitions", &owned.len()), ("flushed", &flushed), ("released", &released)]);
        flushed
    }

    async fn last_words(&self, partitions: &[i32], left: Remainder) -> Result<(), Failure> {
        let session = match left.session.filter(LeaseSession::is_usable) {
            Some(session) => session,
            None => self.database.lease_session().await?,
        };
        session.finish_windows(milliseconds(self.config.watermark), partitions).await?;
        let held = [self.registry.epochs(), left.coming_up].concat();
        session.release(&held).await?;
        session.leave().await
    }
}
