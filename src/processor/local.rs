//! `weather process --database-url none`: the same workers without PostgreSQL, for trying things out.
//!
//! Rows go to standard output as batches, the state to the checkpoint folder, which this process has to itself. Nothing
//! is ever confirmed, so every window stays in the state and in the file: good for a topic of some months, no more. Dead
//! letters are only counted, as there is no table for them, and the newest are shown. What the status shows in place of the
//! leases says that this process owns whatever it reads.
//!
//! Invariant: the files alone hold the state, under one epoch that never changes, so the usual rule takes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::config::{Assign, Process};
use crate::engine::assignment::Leases;
use crate::engine::recovery::Claimed;
use crate::engine::state::PartitionState;
use crate::engine::window::Totals;
use crate::error::{Error, Result};
use crate::kafka::cluster::Cluster;
use crate::kafka::topic;
use crate::processor::checkpoints::store::CheckpointStore;
use crate::processor::checkpoints::task::CheckpointTask;
use crate::processor::identity::ProcessIdentity;
use crate::processor::observe::batch_log::BatchLog;
use crate::processor::observe::intake_log::IntakeLog;
use crate::processor::observe::stats::{ProcessPhase, Sample, Stats};
use crate::processor::observe::status::ProcessorStatus;
use crate::processor::observe::windows;
use crate::processor::partition::handle::{PartitionHandle, Registry};
use crate::processor::partition::start::Launcher;
use crate::processor::{END, stopped_early};
use crate::reading::Format;
use crate::shutdown::{self, Shutdown};
use crate::time::milliseconds;

/// Of every state, before and after: there is no other owner.
const EPOCH: i64 = 1;

/// Runs until shutdown is requested, a bounded run is done, or a partition cannot continue.
pub(super) async fn run(config: Process, mut shutdown: Shutdown) -> Result<()> {
    let store = Arc::new(CheckpointStore::open(&config.checkpoint_dir, &config.kafka.topic)?);
    let _lock = lock(&config.checkpoint_dir, &config.format.output_units())?;
    let identity = ProcessIdentity::take(&config.checkpoint_dir)?;
    let cluster = Arc::new(Cluster::new(config.kafka.clone()));
    let registry = Arc::new(Registry::default());
    let stats = Stats::new(&config.checkpoint_dir, &config.kafka.topic);
    stats.enter(ProcessPhase::WaitingForTopic);
    let status = ProcessorStatus::new(&config, &identity, &stats, &registry, &cluster, None);
    let _showing = status.show(config.listen)?;
    let ends = async {
        let found = topic::wait_for_cluster(&cluster, &stats.topic).await?;
        found.cluster_id.iter().for_each(|id| cluster.keep_to(id.clone()));
        let partitions = topic::wait_for(&cluster, &stats.topic).await?;
        let ends = if config.until_latest {
            Some(topic::end_offsets(&cluster, &partitions, &stats.topic).await)
        } else {
            None
        };
        Ok((partitions, ends))
    };
    let (partitions, ends) = tokio::select! {
        () = shutdown.wait() => return stopped_early(&config, "nothing was read"),
        found = ends => found?,
    };
    let (known, watched) = watch::channel(partitions);
    let watching = tokio::spawn(topic::watch(Arc::clone(&cluster), known));
    stats.enter(ProcessPhase::Running);
    let (failures, failed) = mpsc::channel(1);
    let changed = Arc::new(Notify::new());
    let first = watched.borrow().clone();
    let launcher = Launcher::new(&config, &cluster, &store, first, Arc::clone(&changed), failures);
    let name = identity.name().to_owned();
    let local = Local {
        config,
        name,
        store,
        registry,
        stats,
        launcher,
        changed,
        ends,
        topic: watched,
        printed: Printed::default(),
    };
    let result = local.run(failed, shutdown).await;
    watching.abort();
    result
}

/// Two processes on one folder would overwrite each other's files. The lock's file states the units of the sums in the
/// others: in other units they would be wrong.
fn lock(folder: &Path, units: &str) -> Result<File> {
    let path = folder.join("local.lock");
    let taken = |why: &str| {
        Error::usage(format!(
            "the checkpoint folder {}: {why}; choose another with --checkpoint-dir",
            folder.display()
        ))
    };
    let unusable = |e: io::Error| taken(&e.to_string());
    let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(taken("another process without PostgreSQL uses it")),
        Err(TryLockError::Error(e)) => return Err(unusable(e)),
    }
    let mut found = String::new();
    file.read_to_string(&mut found).map_err(unusable)?;
    // Before units could be chosen, nothing was written.
    let found = if found.is_empty() { Format::default().output_units() } else { found };
    let is_new = !holds_checkpoints(folder).map_err(unusable)?;
    if found != units && !is_new {
        return Err(taken(&format!(
            "its averages are in {found}, not in {units}: set --output-units {found}"
        )));
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(unusable)?;
    file.write_all(units.as_bytes()).map_err(unusable)?;
    Ok(file)
}

fn holds_checkpoints(folder: &Path) -> io::Result<bool> {
    let mut entries = fs::read_dir(folder)?;
    entries.try_fold(false, |found, entry| {
        Ok(found || entry?.path().extension().is_some_and(|extension| extension == "ckpt"))
    })
}

struct Local {
    config: Process,
    /// This process's name.
    name: String,
    store: Arc<CheckpointStore>,
    registry: Arc<Registry>,
    stats: Arc<Stats>,
    launcher: Launcher,
    changed: Arc<Notify>,
    /// Where each partition of a bounded run ends.
    ends: Option<BTreeMap<i32, i64>>,
    topic: watch::Receiver<BTreeSet<i32>>,
    printed: Printed,
}

impl Local {
    async fn run(mut self, mut failed: mpsc::Receiver<Error>, mut shutdown: Shutdown) -> Result<()> {
        let (done, ended) = shutdown::channel();
        let checkpoints =
            CheckpointTask::new(Arc::clone(&self.store), Arc::clone(&self.registry), Arc::clone(&self.stats));
        let checkpointing = tokio::spawn(checkpoints.run(self.config.checkpoint_interval, ended));
        let intake_log = IntakeLog::new(&self.registry, &self.stats, &self.config.format);
        let watching = tokio::spawn(Arc::clone(&intake_log).run());
        let (failure, is_stopped) = tokio::select! {
            () = shutdown.wait() => (None, true),
            failure = failed.recv() => (failure, false),
            worked = self.work() => (worked.err(), false),
        };
        watching.abort();
        done.fire();
        self.stats.enter(ProcessPhase::Stopping);
        let owned = self.registry.all();
        owned.iter().for_each(|owned| owned.pause());
        // A volume may hang.
        let files = async { Some(checkpointing.await.ok()?.write_all().await) };
        let kept = timeout(END, files).await.ok().flatten().unwrap_or(false);
        let states = self.states();
        self.printed.add(&states, &self.config);
        self.printed.log.close();
        intake_log.stopped(&[("partitions", &owned.len()), ("saved", &kept)]);
        match failure {
            Some(failure) => Err(failure),
            None if is_stopped => stopped_early(&self.config, "what was read was printed"),
            None if !kept => Err(Error::failure(format!(
                "the checkpoint files could not be written to {}; the next start reads again what they lack",
                self.config.checkpoint_dir.display()
            ))),
            None => Ok(()),
        }
    }

    /// Starts partitions as they appear and prints what changes, until a bounded run is done.
    async fn work(&mut self) -> Result<()> {
        let mut looks = interval(self.config.flush_interval);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.take().await?;
        let mut settled = false;
        loop {
            tokio::select! {
                _ = self.topic.changed() => self.take().await?,
                () = self.changed.notified(), if settled => {
                    settled = false;
                    continue;
                }
                _ = looks.tick(), if !settled => {}
            }
            let states = self.states();
            self.note_left(&states);
            self.printed.add(&states, &self.config);
            if self.is_done(&states) {
                return Ok(());
            }
            settled = self.printed.is_settled();
        }
    }

    /// Starts every assigned partition that is not running yet.
    async fn take(&mut self) -> Result<()> {
        let here: BTreeSet<i32> =
            self.registry.epochs().into_iter().map(|(partition, _)| partition).collect();
        let partitions = self.topic.borrow_and_update().clone();
        for partition in partitions.difference(&here).copied() {
            if !self.is_wanted(partition) {
                continue;
            }
            let claimed =
                Claimed { partition, epoch: EPOCH, epoch_before: EPOCH, state: None, stations: Vec::new() };
            let end = self.ends.as_ref().and_then(|ends| ends.get(&partition).copied());
            self.registry.insert(self.launcher.start(claimed, end).await?);
        }
        self.stats.saw_leases(&self.leases(&partitions));
        Ok(())
    }

    /// What the leases would show.
    fn leases(&self, partitions: &BTreeSet<i32>) -> Leases {
        let owner = |partition: &i32| (*partition, self.is_wanted(*partition).then(|| self.name.clone()));
        Leases {
            processes: vec![self.name.clone()],
            owners: partitions.iter().map(owner).collect(),
            epochs: self.registry.epochs().into_iter().collect(),
        }
    }

    fn is_wanted(&self, partition: i32) -> bool {
        match &self.config.assign {
            Assign::Auto => true,
            Assign::Static(wanted) => wanted.contains(&partition),
        }
    }

    /// The states as they are now; their dead letters are dropped.
    fn states(&self) -> Vec<PartitionState> {
        let state_of = |owned: &Arc<PartitionHandle>| {
            let state = owned.published.read();
            let dropped = owned.outbox.with(|outbox| {
                let dropped = outbox.before(state.progress.position());
                outbox.confirm(state.progress.position());
                dropped
            });
            self.stats.dropped(dropped.iter().map(|dead_letter| Sample::of(owned.partition, dead_letter)));
            state
        };
        self.registry.all().iter().map(state_of).collect()
    }

    /// How far a bounded run is, for the live line.
    fn note_left(&self, states: &[PartitionState]) {
        let Some(ends) = &self.ends else { return };
        let left = |(owned, state): (&Arc<PartitionHandle>, &PartitionState)| {
            let end = ends.get(&owned.partition).copied().unwrap_or(0);
            (end - state.progress.next_offset).max(0)
        };
        self.stats.left(self.registry.all().iter().zip(states).map(left).sum());
    }

    fn is_done(&self, states: &[PartitionState]) -> bool {
        self.ends.as_ref().is_some_and(|ends| {
            let owned = self.registry.all();
            let reached = |(owned, state): (&Arc<PartitionHandle>, &PartitionState)| {
                owned.reached.get().is_some_and(|end| state.progress.position() >= *end)
            };
            let wanted = ends.keys().filter(|partition| self.is_wanted(**partition)).count();
            owned.len() >= wanted && owned.iter().zip(states).all(reached)
        })
    }
}

/// What was printed for each window.
#[derive(Default)]
struct Printed {
    windows: BTreeMap<i64, Totals>,
    log: BatchLog,
}

impl Printed {
    /// Takes the windows that changed; prints at most once a second.
    fn add(&mut self, states: &[PartitionState], config: &Process) {
        let ends = windows::WindowEnds::of(states, milliseconds(config.window));
        let mut rows = Vec::new();
        for (start_ms, totals) in windows::add_up(states) {
            if self.windows.insert(start_ms, totals) != Some(totals) {
                rows.push(ends.row(start_ms, &totals));
            }
        }
        self.log.add(&rows);
    }

    /// Whether all rows are printed.
    fn is_settled(&self) -> bool {
        self.log.due().is_none()
    }
}
