//! The task that holds one partition's state: takes what the source reads, publishes after every batch.
//!
//! It is the state's only writer. Between batches it lets go of what PostgreSQL has confirmed and answers requests for a
//! checkpoint, which so is always of one offset. While its outbox is full it takes no more records, but still does
//! the rest. It reads the clock once a batch, for the rule on future times, and hands it to the pure core.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::engine::checkpoint::Checkpoint;
use crate::engine::partition::{Confirmation, Incoming, Partition};
use crate::engine::state::Position;
use crate::error::Error;
use crate::kafka::sequence::Sequences;
use crate::kafka::source::Event;
use crate::processor::partition::handle::{
    CheckpointImage, HighWatermark, Oldest, SharedOutbox, TaskCommand,
};
use crate::processor::partition::snapshot::Writer;
use crate::time::Clock;

/// What stays the same about a partition while it is owned.
#[derive(Debug, Clone)]
pub struct TaskSettings {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The epoch it is held under.
    pub epoch: i64,
    /// Length of a window, ms.
    pub window_ms: i64,
    /// Silence after which a caught-up partition is idle.
    pub idle_timeout: Duration,
    /// The offset at which the work is done, if it has an end; the partition is idle from there on.
    pub end_offset: Option<i64>,
}

/// What a worker is connected to.
#[derive(Debug)]
pub struct Channels {
    /// From the source.
    pub events: mpsc::Receiver<Event>,
    /// From the flush.
    pub confirmed: watch::Receiver<Option<Confirmation>>,
    /// From the checkpoints.
    pub commands: mpsc::Receiver<TaskCommand>,
    /// To whoever ends the process when a partition cannot go on.
    pub failures: mpsc::Sender<Error>,
    /// Told whenever there is something new to flush.
    pub changed: Arc<Notify>,
}

/// Holds one partition.
pub struct PartitionTask {
    /// What it holds.
    pub partition: Partition,
    /// Where it publishes.
    pub writer: Writer,
    /// Where its dead letters wait.
    pub outbox: SharedOutbox,
    /// Kafka's end of the partition.
    pub high_watermark: HighWatermark,
    /// The record that has waited longest for a flush.
    pub oldest: Oldest,
    /// What stays the same.
    pub settings: TaskSettings,
    /// What it is connected to.
    pub channels: Channels,
    /// The clock that future times are judged by.
    pub clock: Clock,
    /// Set when a bounded run has come to this partition's end.
    pub reached: Arc<OnceLock<Position>>,
    /// Whether the source has recognised the log.
    pub recognised: bool,
    /// Finds the producer's numbers of records.
    pub sequences: Sequences,
}

impl PartitionTask {
    /// Works until its handle is gone.
    pub async fn run(mut self) {
        let mut last_record = Instant::now();
        let mut reading = true;
        self.publish();
        loop {
            let take = reading && !self.outbox.with(|outbox| outbox.is_full());
            tokio::select! {
                biased;
                told = self.channels.confirmed.changed() => match told {
                    Ok(()) => self.confirm(),
                    Err(_) => return,
                },
                command = self.channels.commands.recv() => match command {
                    Some(TaskCommand::Checkpoint(reply)) => drop(reply.send(self.checkpoint())),
                    None => return,
                },
                event = self.channels.events.recv(), if take => match event {
                    Some(event) => self.handle(event, &mut last_record).await,
                    // Paused: the state stays, to be flushed and checkpointed.
                    None => reading = false,
                },
            }
        }
    }

    async fn handle(&mut self, event: Event, last_record: &mut Instant) {
        match event {
            Event::Records { mut records, marks, high_watermark } => {
                self.high_watermark.set(high_watermark);
                if let Some(first) = records.first() {
                    self.oldest.note(first.record.timestamp.timestamp_millis());
                }
                let aggregated = self.partition.state().progress.aggregated;
                let incoming = records.iter_mut().map(|record| Incoming {
                    offset: record.offset,
                    sequence: self.sequences.of(record),
                    value: record.record.value.as_deref_mut(),
                });
                self.partition.apply(incoming, self.clock.now_ms());
                marks.into_iter().for_each(|mark| self.partition.remember(mark));
                // What is rejected moves no watermark, so it must not hold windows back either.
                if self.partition.state().progress.aggregated > aggregated {
                    *last_record = Instant::now();
                    self.partition.set_idle(false);
                } else if marks[1].offset + 1 >= high_watermark {
                    self.idle_if_silent(*last_record);
                }
            }
            Event::CaughtUp { high_watermark } => {
                self.high_watermark.set(high_watermark);
                if !self.idle_if_silent(*last_record) {
                    return;
                }
            }
            Event::Recognised => self.recognised = true,
            Event::Skipped { to } => self.partition.skip_to(to),
            Event::Lost { to } => self.partition.lose_to(to),
            Event::StartedOver { at, end } => {
                self.partition.start_over(at);
                self.sequences = Sequences::default();
                self.settings.end_offset = self.settings.end_offset.map(|_| end);
            }
            Event::FirstMarkGone => self.partition.forget_first_mark(),
            Event::Failed(error) => {
                // The first failure ends the process and stands for all: nobody takes more.
                let _ = self.channels.failures.try_send(error);
                return;
            }
        }
        self.end_if_done();
        self.publish();
    }

    /// Whether it is news that the partition is idle.
    fn idle_if_silent(&mut self, last_record: Instant) -> bool {
        last_record.elapsed() >= self.settings.idle_timeout && self.partition.set_idle(true)
    }

    /// Where the work has an end, nothing is waited for behind it. Offsets say nothing before the log is recognised.
    fn end_if_done(&mut self) {
        let progress = &self.partition.state().progress;
        let (offset, position) = (progress.next_offset, progress.position());
        if self.recognised && self.settings.end_offset.is_some_and(|end| offset >= end) {
            self.partition.set_idle(true);
            // Only the first time counts; what comes later is behind the end.
            let _ = self.reached.set(position);
        }
    }

    fn publish(&mut self) {
        // Letters first: whoever sees a state must find all letters that belong to it.
        if self.partition.has_rejected() {
            self.outbox.with(|outbox| outbox.extend(self.partition.take_rejected()));
        }
        let changed_from = self.partition.take_changed();
        self.writer.publish(self.partition.state(), changed_from);
        self.channels.changed.notify_one();
    }

    fn confirm(&mut self) {
        let Some(confirmation) = *self.channels.confirmed.borrow_and_update() else { return };
        self.partition.confirm(confirmation);
        self.outbox.with(|outbox| outbox.confirm(confirmation.position));
        let changed_from = self.partition.take_changed();
        self.writer.publish(self.partition.state(), changed_from);
    }

    fn checkpoint(&self) -> CheckpointImage {
        let state = self.partition.state();
        let positions = (state.progress.position(), state.progress.flushed());
        let checkpoint = Checkpoint {
            topic: self.settings.topic.clone(),
            partition: self.settings.partition,
            epoch: self.settings.epoch,
            window_ms: self.settings.window_ms,
            written_ms: self.clock.now_ms(),
            pending: self.outbox.with(|outbox| outbox.before(positions.0)),
            state: state.clone(),
        };
        CheckpointImage { bytes: checkpoint.encode(), positions }
    }
}
