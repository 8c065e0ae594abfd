//! The task that writes checkpoint files: every interval, those of partitions that moved.
//!
//! A file that cannot be written harms nothing by itself, as PostgreSQL has the state too: it is said once, and tried
//! again at the next interval.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::engine::state::Position;
use crate::processor::checkpoints::store::CheckpointStore;
use crate::processor::observe::stats::Stats;
use crate::processor::partition::handle::{PartitionHandle, Registry};
use crate::shutdown::Shutdown;

/// Writes the files of all partitions that this process owns.
#[derive(Debug)]
pub struct CheckpointTask {
    store: Arc<CheckpointStore>,
    registry: Arc<Registry>,
    /// Epoch and positions of the file of each partition.
    written: HashMap<i32, (i64, (Position, Position))>,
    stats: Arc<Stats>,
}

impl CheckpointTask {
    /// Of these partitions, into this folder.
    pub fn new(store: Arc<CheckpointStore>, registry: Arc<Registry>, stats: Arc<Stats>) -> Self {
        Self { store, registry, written: HashMap::new(), stats }
    }

    /// Writes until the end is asked for; then hands itself back for the last files.
    pub async fn run(mut self, every: Duration, mut shutdown: Shutdown) -> Self {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.wait() => return self,
                _ = ticks.tick() => self.write_all().await,
            }
        }
    }

    /// Writes the files of all partitions that moved since their last one.
    pub async fn write_all(&mut self) {
        let (mut wrote, mut failure) = (false, None);
        for owned in self.registry.all() {
            self.stats.checkpointing.work();
            match self.write(&owned).await {
                Ok(moved) => wrote |= moved,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        // A full volume may still take the small files: it is well only when all of them could be written.
        match failure {
            Some(error) => self.stats.checkpoint_folder.failed(&error),
            None if wrote => self.stats.checkpoint_folder.ok(),
            None => {}
        }
        self.stats.checkpointing.rest();
    }

    /// Whether there was anything to write.
    async fn write(&mut self, owned: &PartitionHandle) -> io::Result<bool> {
        let asked = Instant::now();
        let Some(image) = owned.checkpoint().await else { return Ok(false) };
        let (stamp, bytes) = ((owned.epoch, image.positions), image.bytes.len());
        let (store, partition) = (Arc::clone(&self.store), owned.partition);
        if self.written.get(&partition) == Some(&stamp) {
            self.stats.file_is_current(partition, bytes);
            return Ok(false);
        }
        spawn_blocking(move || store.write(partition, &image.bytes)).await.map_err(io::Error::other)??;
        self.written.insert(partition, stamp);
        self.stats.checkpoint.record(asked.elapsed());
        self.stats.file_is_current(partition, bytes);
        Ok(true)
    }
}
