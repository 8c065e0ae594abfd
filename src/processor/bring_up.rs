//! From a partition that was just taken to its running tasks: which state to go on from, then worker and source.

use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::spawn_blocking;

use crate::config::StartFrom;
use crate::engine::dead_letter::DeadLetter;
use crate::engine::partition::{Partition, Settings};
use crate::engine::recovery::{Choice, Claimed, choose};
use crate::engine::state::State;
use crate::error::{Error, Result};
use crate::kafka::client::Cluster;
use crate::kafka::sequence::Sequences;
use crate::kafka::source::{self, Source};
use crate::processor::checkpoint_store::CheckpointStore;
use crate::processor::owned::{HighWatermark, Oldest, Owned, SharedOutbox, Tasks};
use crate::processor::published;
use crate::processor::worker::{Channels, Ownership, Worker};
use crate::retry::Backoff;
use crate::time::Clock;

/// What every partition of this process is run with.
#[derive(Debug)]
pub struct Launcher {
    /// Kafka.
    pub cluster: Arc<Cluster>,
    /// Checkpoint files.
    pub store: Arc<CheckpointStore>,
    /// Rules of the core.
    pub settings: Settings,
    /// Rules of the source.
    pub source: source::Settings,
    /// Where to start where no state exists.
    pub from: StartFrom,
    /// Silence after which a caught-up partition is idle.
    pub idle_timeout: std::time::Duration,
    /// The clock that future times are judged by.
    pub clock: Clock,
    /// Wakes the flush.
    pub changed: Arc<Notify>,
    /// Ends the process when a partition cannot go on.
    pub failures: mpsc::Sender<Error>,
}

impl Launcher {
    /// Brings a partition up. Waits for Kafka only where no state exists.
    pub async fn bring_up(&self, claimed: Claimed, end_offset: Option<i64>) -> Result<Owned> {
        let (state, pending) = self.state_of(&claimed).await?;
        Ok(self.launch(&claimed, state, pending, end_offset))
    }

    async fn state_of(&self, claimed: &Claimed) -> Result<(State, Vec<DeadLetter>)> {
        let (store, partition) = (Arc::clone(&self.store), claimed.partition);
        let read = spawn_blocking(move || store.read(partition)).await;
        let found = read.map_err(|e| Error::failure(format!("reading checkpoint files: {e}")))??;
        for complaint in &found.complaints {
            crate::warn!("checkpoint file passed over", "reason" => complaint);
        }
        let mut why = "there is none";
        for file in found.checkpoints {
            match choose(&file, claimed.epoch_before, claimed.position()) {
                Choice::File => {
                    crate::info!("going on from the checkpoint file", "partition" => partition,
                        "next_offset" => file.state.progress.next_offset);
                    let mut state = file.state;
                    // Silent is only what this run has found silent.
                    state.progress.idle = 0;
                    return Ok((state, file.pending));
                }
                Choice::Database(reason) if why == "there is none" => why = reason,
                Choice::Database(_) => {}
            }
        }
        let state = match &claimed.state {
            Some(state) => {
                crate::info!("going on from PostgreSQL's state", "partition" => partition,
                    "next_offset" => state.progress.next_offset, "file" => why);
                state.clone()
            }
            None => {
                let offset = self.first_offset(partition).await;
                crate::info!("starting anew", "partition" => partition, "next_offset" => offset, "file" => why);
                State::starting_at(offset)
            }
        };
        Ok((state, Vec::new()))
    }

    async fn first_offset(&self, partition: i32) -> i64 {
        let mut backoff = Backoff::default();
        loop {
            // An error was said by `Cluster`.
            if let Ok(offset) = source::start_offset(&self.cluster, partition, self.from).await {
                return offset;
            }
            backoff.wait().await;
        }
    }

    fn launch(
        &self,
        claimed: &Claimed,
        state: State,
        pending: Vec<DeadLetter>,
        end_offset: Option<i64>,
    ) -> Owned {
        let Claimed { partition, epoch, .. } = *claimed;
        let (source, events) = Source::new(
            Arc::clone(&self.cluster),
            partition,
            self.source,
            state.progress.next_offset,
            state.marks,
        );
        let reached = Arc::new(OnceLock::new());
        let (writer, published) = published::channel(&state);
        let (confirmed, confirmations) = watch::channel(None);
        let (commands, asked) = mpsc::channel(4);
        let (outbox, high_watermark) = (SharedOutbox::default(), HighWatermark::default());
        let (oldest, reading) = (Oldest::default(), source.outage());
        outbox.with(|outbox| outbox.extend(pending));
        high_watermark.set(state.progress.next_offset);
        let worker = Worker {
            partition: Partition::new(self.settings, state),
            writer,
            outbox: outbox.clone(),
            high_watermark: high_watermark.clone(),
            oldest: oldest.clone(),
            ownership: Ownership {
                topic: self.cluster.topic().to_owned(),
                partition,
                epoch,
                window_ms: self.settings.window_ms,
                idle_timeout: self.idle_timeout,
                end_offset,
            },
            channels: Channels {
                events,
                confirmed: confirmations,
                commands: asked,
                failures: self.failures.clone(),
                changed: Arc::clone(&self.changed),
            },
            clock: self.clock,
            reached: Arc::clone(&reached),
            recognised: false,
            sequences: Sequences::default(),
        };
        let tasks = Tasks {
            source: tokio::spawn(source.run()).abort_handle(),
            worker: tokio::spawn(worker.run()).abort_handle(),
        };
        Owned {
            partition,
            epoch,
            published,
            outbox,
            high_watermark,
            oldest,
            reading,
            reached,
            confirmed,
            commands,
            tasks,
        }
    }
}
