//! The task that writes checkpoint files: every interval, those of partitions that moved.
//!
//! A file that cannot be written harms nothing by itself, as PostgreSQL has the state too: it is said once, and tried
//! again at the next interval.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::processor::checkpoint_store::CheckpointStore;
use crate::processor::owned::{Owned, Registry};
use crate::processor::state::Position;
use crate::shutdown::Shutdown;
use crate::telemetry::log::Outage;

/// Writes the files of all partitions that this process owns.
#[derive(Debug)]
pub struct Checkpoints {
    store: Arc<CheckpointStore>,
    registry: Arc<Registry>,
    /// Epoch and positions of the file of each partition.
    written: HashMap<i32, (i64, (Position, Position))>,
    outage: Outage,
}

impl Checkpoints {
    /// Of these partitions, into this folder.
    pub fn new(store: Arc<CheckpointStore>, registry: Arc<Registry>) -> Self {
        let outage = Outage::new(format!("the checkpoint folder {}", store.folder().display()));
        Self { store, registry, written: HashMap::new(), outage }
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
        for owned in self.registry.all() {
            self.write(&owned).await;
        }
    }

    async fn write(&mut self, owned: &Owned) {
        let Some(image) = owned.checkpoint().await else { return };
        let stamp = (owned.epoch, image.positions);
        if self.written.get(&owned.partition) == Some(&stamp) {
            return;
        }
        let (store, partition) = (Arc::clone(&self.store), owned.partition);
        match spawn_blocking(move || store.write(partition, &image.bytes)).await {
            Ok(Ok(())) => {
                self.written.insert(partition, stamp);
                self.outage.ok();
            }
            Ok(Err(error)) => self.outage.failed(&error),
            Err(error) => self.outage.failed(&error),
        }
    }
}
