//! The task that holds one partition's state: takes what its feed gives, publishes after every answer.
//!
//! It is the state's only writer. Between answers it drops what PostgreSQL has confirmed and answers requests for a
//! checkpoint, so that a checkpoint is always of one offset. While too much waits for PostgreSQL (dead letters, ended
//! windows, their stations) it requests no more records, but still does the rest. It reads the clock once per answer, for
//! the rule on future times, and passes it to the engine.
//!
//! A batch that cannot be read is fetched again, because another connection or replica may have it intact; after
//! some tries its offsets count as lost. One that this program cannot read at all pauses the partition
//! or ends the process, as the user chose: reading on would leave its records out for good.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::config::{OnDataLoss, OnUnreadable};
use crate::engine::checkpoint::Checkpoint;
use crate::engine::partition::{Confirmation, Partition};
use crate::engine::silence::Silence;
use crate::engine::state::{LogIdentity, Position};
use crate::engine::stations::Stations;
use crate::error::Error;
use crate::kafka::batch::{BatchError, BatchErrorKind, Expander};
use crate::kafka::fetcher::{Event, PartitionFeed, Turn};
use crate::processor::partition::decode::{self, Read, Stop};
use crate::processor::partition::handle::{
    CheckpointImage, FlushImage, HighWatermark, Oldest, SharedOutbox, StationCounts, StationGauge,
    TaskCommand,
};
use crate::processor::partition::snapshot::SnapshotWriter;
use crate::retry::Backoff;
use crate::time::{Clock, milliseconds};

/// Attempts at a batch that cannot be read, each on a new connection and later than the last, before it counts as lost.
pub const UNREADABLE_TRIES: u32 = 8;

/// However many partitions share what may wait: a day of hours.
const FEWEST_CLOSED_WINDOWS: usize = 24;

/// What stays the same about a partition while it is owned.
#[derive(Debug, Clone)]
pub struct TaskSettings {
    /// The topic.
    pub topic: String,
    /// The Kafka cluster that it is in; empty where that is not known.
    pub cluster_id: String,
    /// The partition.
    pub partition: i32,
    /// The epoch under which it is owned.
    pub epoch: i64,
    /// Length of a window, ms.
    pub window_ms: i64,
    /// Silence after which a caught-up partition is idle.
    pub idle_timeout: Duration,
    /// The offset at which a bounded run is done; the partition is idle from there on.
    pub end_offset: Option<i64>,
    /// What to do about deleted records.
    pub on_data_loss: OnDataLoss,
    /// What to do about a batch that this program cannot read.
    pub on_unreadable: OnUnreadable,
    /// Reading waits while the partition's share of this many windows has ended and is not confirmed. They are of all
    /// partitions of the process.
    pub max_closed_windows: usize,
    /// Or while some have ended, and its stations take the partition's share of so many bytes, which are of all partitions of
    /// the process, too.
    pub max_station_bytes: usize,
}

/// What a partition's task is connected to.
#[derive(Debug)]
pub struct Channels {
    /// From Kafka.
    pub feed: PartitionFeed,
    /// From the flush.
    pub confirmed: watch::Receiver<Option<Confirmation>>,
    /// From the checkpoints.
    pub commands: mpsc::Receiver<TaskCommand>,
    /// Ends the process when a partition cannot continue.
    pub failures: mpsc::Sender<Error>,
    /// Notified whenever there is something new to flush.
    pub changed: Arc<Notify>,
}

/// Whether records are requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// Yes.
    Open,
    /// Not until less waits for PostgreSQL.
    Full,
    /// No more: the partition is handed over, cannot be read, or the process ends.
    Closed,
}

/// The state is invalid, for this reason: it must not be published.
struct Broken(String);

/// Holds one partition.
pub struct PartitionTask {
    /// What it holds.
    pub partition: Partition,
    /// Where it publishes.
    pub writer: SnapshotWriter,
    /// Where its dead letters wait.
    pub outbox: SharedOutbox,
    /// Kafka's end of the partition.
    pub high_watermark: HighWatermark,
    /// The record that has waited longest for a flush.
    pub oldest: Oldest,
    /// Where it says how many stations there are, if they are kept apart.
    pub stations: Option<StationGauge>,
    /// What stays the same.
    pub settings: TaskSettings,
    /// What it is connected to.
    pub channels: Channels,
    /// The clock that future times are judged by.
    pub clock: Clock,
    /// Set when a bounded run has come to this partition's end.
    pub reached: Arc<OnceLock<Position>>,
}

/// Whether this program can never read it, whichever broker sends it.
pub fn is_final(cause: &BatchErrorKind) -> bool {
    match cause {
        BatchErrorKind::OldFormat { .. }
        | BatchErrorKind::UnknownFormat { .. }
        | BatchErrorKind::UnknownCodec(_)
        | BatchErrorKind::CodecNotBuiltIn(_)
        | BatchErrorKind::TooLarge { .. } => true,
        BatchErrorKind::Cut
        | BatchErrorKind::Checksum { .. }
        | BatchErrorKind::Compression(..)
        | BatchErrorKind::Malformed(_) => false,
    }
}

/// What the task remembers besides the state.
struct Working {
    demand: Demand,
    started: Instant,
    silence: Silence,
    /// Whether the log was recognised: before that, offsets mean nothing.
    recognised: bool,
    /// Failed attempts at the batch at `next_offset`.
    unreadable: Backoff,
    expander: Expander,
}

impl Working {
    fn elapsed_ms(&self) -> i64 {
        milliseconds(self.started.elapsed())
    }
}

impl PartitionTask {
    /// Works until its handle is dropped, or the state is invalid.
    pub async fn run(mut self) {
        if let Err(Broken(what)) = self.work().await {
            // The first failure ends the process; later ones are not needed.
            let _ = self.channels.failures.try_send(self.failure(&format!("internal error: {what}")));
        }
    }

    async fn work(&mut self) -> Result<(), Broken> {
        let mut working = Working {
            demand: Demand::Open,
            started: Instant::now(),
            silence: Silence::new(milliseconds(self.settings.idle_timeout), &self.partition, 0),
            recognised: false,
            unreadable: Backoff::default(),
            expander: Expander::default(),
        };
        self.publish()?;
        loop {
            tokio::select! {
                biased;
                told = self.channels.confirmed.changed() => match told {
                    Ok(()) => self.confirm(&mut working)?,
                    Err(_) => return Ok(()),
                },
                command = self.channels.commands.recv() => match command {
                    Some(TaskCommand::Checkpoint(reply)) => drop(reply.send(self.checkpoint())),
                    Some(TaskCommand::Flush(reply)) => drop(reply.send(self.flush_image())),
                    Some(TaskCommand::Pause) => {
                        self.channels.feed.pause();
                        working.demand = Demand::Closed;
                    }
                    None => return Ok(()),
                },
                Some(event) = self.channels.feed.next() => self.handle(event, &mut working)?,
            }
        }
    }

    fn handle(&mut self, event: Event, working: &mut Working) -> Result<(), Broken> {
        match event {
            Event::Records(turn) if working.demand == Demand::Open => self.read(turn, working),
            Event::Records(_) => return Ok(()),
            Event::CaughtUp { end } => {
                self.high_watermark.set(end);
                if !working.silence.on_caught_up(&mut self.partition, working.elapsed_ms()) {
                    return Ok(());
                }
            }
            Event::Recognised { topic_id } => {
                working.recognised = true;
                let leader_epoch = self.partition.state().log.leader_epoch;
                self.partition.remember(LogIdentity { topic_id, leader_epoch });
            }
            Event::Skipped { to } => self.partition.skip_to(to),
            Event::Lost { to } => self.partition.lose_to(to),
            Event::StartedOver { at, end, topic_id, .. } => {
                self.partition.start_over(at);
                self.partition.remember(LogIdentity { topic_id, ..LogIdentity::UNKNOWN });
                self.settings.end_offset = self.settings.end_offset.map(|_| end);
            }
            Event::Failed(error) => {
                self.fail(error, working);
                return Ok(());
            }
        }
        self.end_if_done(working);
        self.publish()
    }

    /// Reads the records of an answer into the state.
    fn read(&mut self, mut turn: Turn, working: &mut Working) {
        self.high_watermark.set(turn.end());
        let end = turn.end();
        let leader_epoch = turn.epoch();
        self.partition.begin(self.clock.now_ms());
        let room = self.max_closed_windows();
        let Read { oldest_ms, stopped } =
            decode::read_into(&mut self.partition, &mut turn, &mut working.expander, room);
        self.partition.settle();
        // The bytes are for the next partition.
        drop(turn);
        if let Some(oldest_ms) = oldest_ms {
            self.oldest.note(oldest_ms);
        }
        let topic_id = self.partition.state().log.topic_id;
        self.partition.remember(LogIdentity { topic_id, leader_epoch });
        let now_ms = working.elapsed_ms();
        working.silence.on_records(&mut self.partition, end, now_ms);
        match stopped {
            None => working.unreadable.reset(),
            Some(Stop::Full) => self.channels.feed.go_on(self.partition.state().progress.next_offset),
            Some(Stop::Unreadable(error)) => self.cannot_read(error, end, working),
        }
        self.pause_if_full(working);
    }

    /// Handles a batch that could not be read; what came before it is in the state, and `end` is the log's.
    fn cannot_read(&mut self, error: BatchError, end: i64, working: &mut Working) {
        let at = self.partition.state().progress.next_offset;
        if is_final(&error.cause) {
            return match self.settings.on_unreadable {
                OnUnreadable::Pause => {
                    let why = format!("{error}; the partition is paused (--on-unreadable is pause)");
                    self.channels.feed.outage().failed(&why);
                    self.channels.feed.pause();
                    working.demand = Demand::Closed;
                }
                OnUnreadable::Stop => {
                    self.fail(self.failure(&format!("{error}, and --on-unreadable is stop")), working)
                }
            };
        }
        let last = error.last_within(at, end);
        if working.unreadable.failures() < UNREADABLE_TRIES {
            let wait = working.unreadable.next_wait();
            return self.channels.feed.read_again(at, wait);
        }
        if self.settings.on_data_loss == OnDataLoss::Stop {
            let what = format!("{error}: offsets {at} to {last} are lost, and --on-data-loss is stop");
            return self.fail(self.failure(&what), working);
        }
        crate::warn!(format_args!("{error}; its offsets count as lost"), "topic" => self.settings.topic,
            "partition" => self.settings.partition, "from" => at, "to" => last + 1, "lost" => last + 1 - at);
        working.unreadable.reset();
        self.partition.lose_to(last + 1);
        self.channels.feed.go_on(last + 1);
    }

    fn failure(&self, what: &str) -> Error {
        Error::failure(format!(
            "partition {} of topic {}: {what}",
            self.settings.partition, self.settings.topic
        ))
    }

    fn fail(&mut self, error: Error, working: &mut Working) {
        self.channels.feed.pause();
        working.demand = Demand::Closed;
        // The first failure ends the process; later ones are not needed.
        let _ = self.channels.failures.try_send(error);
    }

    fn pause_if_full(&mut self, working: &mut Working) {
        if working.demand == Demand::Open && self.is_full() {
            self.channels.feed.pause();
            working.demand = Demand::Full;
        }
    }

    /// Whether what waits for PostgreSQL has reached its memory limit.
    fn is_full(&self) -> bool {
        let closed = self.partition.closed_windows();
        let bytes = || self.partition.stations().map_or(0, Stations::reserved_bytes);
        closed >= self.max_closed_windows()
            || (closed > 0 && bytes() >= self.share_of(self.settings.max_station_bytes))
            || self.outbox.with(|outbox| outbox.is_full())
    }

    /// This partition's share of the windows that may wait; some, however many partitions there are.
    fn max_closed_windows(&self) -> usize {
        self.share_of(self.settings.max_closed_windows).max(FEWEST_CLOSED_WINDOWS)
    }

    fn share_of(&self, whole: usize) -> usize {
        self.outbox.with(|outbox| outbox.share_of(whole))
    }

    /// In a bounded run, nothing is waited for after its end. Offsets mean nothing before the log is recognised.
    fn end_if_done(&mut self, working: &Working) {
        let progress = &self.partition.state().progress;
        let (offset, position) = (progress.next_offset, progress.position());
        if working.recognised && self.settings.end_offset.is_some_and(|end| offset >= end) {
            self.partition.set_idle(true);
            // Only the first time counts; what comes later is behind the end.
            let _ = self.reached.set(position);
        }
    }

    fn publish(&mut self) -> Result<(), Broken> {
        // Dead letters first: a reader of the state must find all dead letters that belong to it.
        if self.partition.has_rejected() {
            let rejected = self.partition.take_rejected();
            self.outbox.with(|outbox| outbox.extend(rejected));
        }
        self.show()?;
        self.channels.changed.notify_one();
        Ok(())
    }

    fn confirm(&mut self, working: &mut Working) -> Result<(), Broken> {
        let Some(confirmation) = *self.channels.confirmed.borrow_and_update() else { return Ok(()) };
        self.partition.confirm(confirmation);
        self.outbox.with(|outbox| outbox.confirm(confirmation.position));
        if working.demand == Demand::Full && !self.is_full() {
            working.demand = Demand::Open;
            self.channels.feed.go_on(self.partition.state().progress.next_offset);
        }
        self.show()
    }

    /// Publishes the state, unless it is invalid.
    fn show(&mut self) -> Result<(), Broken> {
        let changed_from = self.partition.take_changed().map_err(Broken)?;
        self.writer.publish(self.partition.state(), changed_from);
        if let Some((gauge, stations)) = self.stations.as_ref().zip(self.partition.stations()) {
            gauge.set(StationCounts::of(stations));
        }
        Ok(())
    }

    fn flush_image(&mut self) -> FlushImage {
        let stations = self.partition.take_changed_stations();
        let state = self.partition.state().clone();
        let dead_letters = self.outbox.with(|outbox| outbox.before(state.progress.position()));
        FlushImage { state, dead_letters, stations }
    }

    fn checkpoint(&self) -> CheckpointImage {
        let state = self.partition.state();
        let positions = (state.progress.position(), state.progress.flushed());
        let checkpoint = Checkpoint {
            topic: self.settings.topic.clone(),
            cluster_id: self.settings.cluster_id.clone(),
            partition: self.settings.partition,
            epoch: self.settings.epoch,
            window_ms: self.settings.window_ms,
            written_ms: self.clock.now_ms(),
            pending: self.outbox.with(|outbox| outbox.before(positions.0)),
            stations: Vec::new(),
            state: state.clone(),
        };
        let bytes = match self.partition.stations() {
            Some(stations) => checkpoint.encode_with(stations.changed_count(), stations.changed_in_place()),
            None => checkpoint.encode(),
        };
        CheckpointImage { bytes, positions }
    }
}
