//! The task that writes checkpoint files: every interval, those of partitions that moved.
//!
//! A file that cannot be written does no harm by itself, because PostgreSQL has the state too: it is reported once and
//! retried at the next interval.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::engine::state::Position;
use crate::processor::checkpoints::store::CheckpointStore;
use crate::processor::observe::stats::Stats;
use crate::processor::partition::handle::{PartitionHandle, Registry};
use crate::shutdown::Shutdown;

/// Files written at once: most of the time is spent waiting for the volume. Each takes three file descriptors.
const AT_ONCE: usize = 4;
/// After a file of this length, in bytes, the next one begins when it is written: files must not be in memory all at once.
const LARGE: usize = 1024 * 1024;

/// Epoch and positions of a state.
type Stamp = (i64, (Position, Position));

/// A file that is durable.
#[derive(Debug)]
struct WrittenFile {
    partition: i32,
    stamp: Stamp,
    bytes: usize,
    took: Duration,
}

/// Writes the files of all partitions that this process owns.
#[derive(Debug)]
pub struct CheckpointTask {
    store: Arc<CheckpointStore>,
    registry: Arc<Registry>,
    /// Epoch and positions of the file of each partition.
    written: HashMap<i32, Stamp>,
    stats: Arc<Stats>,
}

impl CheckpointTask {
    /// Of these partitions, into this folder.
    pub fn new(store: Arc<CheckpointStore>, registry: Arc<Registry>, stats: Arc<Stats>) -> Self {
        Self { store, registry, written: HashMap::new(), stats }
    }

    /// Writes until shutdown is requested; then returns itself for the last files.
    pub async fn run(mut self, every: Duration, mut shutdown: Shutdown) -> Self {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.wait() => return self,
                _ = ticks.tick() => drop(self.write_all().await),
            }
        }
    }

    /// Writes the files of all partitions that moved since their last one; whether all of them are up to date.
    pub async fn write_all(&mut self) -> bool {
        let (mut wrote, mut failure) = (false, None);
        let mut writing = JoinSet::new();
        for owned in self.registry.all() {
            self.stats.checkpointing.work();
            let is_large = self.begin(&owned, &mut writing).await >= LARGE;
            let most_left = if is_large { 0 } else { AT_ONCE - 1 };
            while writing.len() > most_left
                && let Some(written) = writing.join_next().await
            {
                self.note(written, &mut wrote, &mut failure);
            }
        }
        while let Some(written) = writing.join_next().await {
            self.stats.checkpointing.work();
            self.note(written, &mut wrote, &mut failure);
        }
        let is_whole = failure.is_none();
        // A full volume may still accept the small files: it is healthy only when all of them could be written.
        match failure {
            Some(error) => self.stats.checkpoint_folder.failed(&error),
            None if wrote => self.stats.checkpoint_folder.ok(),
            None => {}
        }
        self.stats.checkpointing.rest();
        is_whole
    }

    /// Takes a partition's image, and starts writing it if it is not the one on the volume; how many bytes are written.
    async fn begin(&self, owned: &PartitionHandle, writing: &mut JoinSet<io::Result<WrittenFile>>) -> usize {
        let started = Instant::now();
        let Some(image) = owned.checkpoint().await else { return 0 };
        let (stamp, bytes) = ((owned.epoch, image.positions), image.bytes.len());
        let (store, partition) = (Arc::clone(&self.store), owned.partition);
        if self.written.get(&partition) == Some(&stamp) {
            self.stats.file_is_current(partition, bytes);
            return 0;
        }
        writing.spawn_blocking(move || {
            store.write(partition, &image.bytes)?;
            Ok(WrittenFile { partition, stamp, bytes, took: started.elapsed() })
        });
        bytes
    }

    fn note(
        &mut self,
        written: Result<io::Result<WrittenFile>, JoinError>,
        wrote: &mut bool,
        failure: &mut Option<io::Error>,
    ) {
        match written.map_err(io::Error::other).and_then(|written| written) {
            Ok(file) => {
                *wrote = true;
                self.written.insert(file.partition, file.stamp);
                self.stats.checkpoint.record(file.took);
                self.stats.file_is_current(file.partition, file.bytes);
            }
            Err(error) => *failure = failure.take().or(Some(error)),
        }
    }
}
