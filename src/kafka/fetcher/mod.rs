//! The records of all partitions of this process, over one connection a broker.
//!
//! Each partition has a [`PartitionFeed`], by which its owner gets [`Event`]s in the order of the log, and a lane, which says where
//! to read on. One task routes lanes to the brokers that lead them; each broker has a task that requests all of
//! its lanes at once. While the records of one answer are in parsing the next is on its way, never more: so memory depends on
//! [`FetchSettings::fetch_bytes`] and not on the number of partitions. Who was served goes to the end of the row, so none
//! starves. A lane that is paused is not requested; without anything to read there is one long poll a broker.
//!
//! Before the first fetch, and after everything that fails, the log is checked: whether it is the one that was read before
//! (by the topic's id, and by the leader's epoch of the last batch, which the broker compares), and whether the next
//! offset is still in it. Whatever fails is tried again forever, on newer metadata and later each time, and reported
//! once: by [`Cluster`] when a broker cannot be reached, else by the lane.

mod broker;
mod lane;
mod lanes;
mod log_check;
mod router;
mod span;
#[cfg(test)]
mod tests;
mod turn;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use self::lane::FetchLane;
use self::lanes::Lanes;
pub use self::turn::Turn;
use super::cluster::Cluster;
use crate::config::OnDataLoss;
use crate::engine::state::LogIdentity;
use crate::error::Error;
use crate::telemetry::log::Outage;

/// What reading needs of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct FetchSettings {
    /// Most bytes of answers held together, of all brokers; a single batch that is larger comes anyway.
    pub fetch_bytes: i32,
    /// How long a broker may hold back an answer while there is nothing.
    pub wait: Duration,
    /// How long to wait after an answer with little in it: each answer costs the broker and this process more than the few
    /// records in it.
    pub pause: Duration,
    /// What to do about records that Kafka no longer has.
    pub on_data_loss: OnDataLoss,
}

/// What happened to the partition, in the order of its log.
#[derive(Debug)]
pub enum Event {
    /// Record batches.
    Records(Turn),
    /// All is read, and nothing came while the broker waited.
    CaughtUp {
        /// After the newest record that can be read.
        end: i64,
    },
    /// Offsets up to here hold no record.
    Skipped {
        /// Reading continues here.
        to: i64,
    },
    /// Offsets up to here were lost.
    Lost {
        /// Reading continues here.
        to: i64,
    },
    /// The log is the one that was read before, and the next offset is in it; reported after each check.
    Recognised {
        /// The topic's id.
        topic_id: [u8; 16],
    },
    /// The log is another one, or was truncated: reading continues there.
    StartedOver {
        /// Reading continues here.
        at: i64,
        /// The offset after the newest record that the log has now.
        end: i64,
        /// The topic's id.
        topic_id: [u8; 16],
        /// Which state of the lane begins with this.
        generation: u64,
    },
    /// Reading cannot continue.
    Failed(Error),
}

/// What all tasks of a fetcher share.
#[derive(Debug)]
struct SharedFetcher {
    cluster: Arc<Cluster>,
    settings: FetchSettings,
    lanes: Mutex<Lanes>,
    /// Notified whenever a lane came, went, or has something else to wait for.
    changed: watch::Sender<()>,
    /// One permit: for the answer in parsing.
    parsing: Arc<Semaphore>,
}

impl SharedFetcher {
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads partitions. Dropping it ends its tasks.
#[derive(Debug)]
pub struct Fetcher {
    shared: Arc<SharedFetcher>,
    _tasks: JoinSet<()>,
}

impl Fetcher {
    /// Starts with no partition.
    pub fn start(cluster: Arc<Cluster>, settings: FetchSettings) -> Self {
        let shared = Arc::new(SharedFetcher {
            lanes: Mutex::new(Lanes::new(Arc::clone(&cluster), settings.on_data_loss)),
            cluster,
            settings,
            changed: watch::Sender::new(()),
            parsing: Arc::new(Semaphore::new(1)),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(router::route(Arc::clone(&shared)));
        Self { shared, _tasks: tasks }
    }

    /// Reads a partition from `next_offset` on, of the log that was read before. A partition has one feed at a time.
    pub fn open(&self, partition: i32, next_offset: i64, known: LogIdentity) -> PartitionFeed {
        let (events, receiver) = mpsc::unbounded_channel();
        let topic = self.shared.cluster.topic();
        let outage = Outage::new(format!("partition {partition} of topic {topic}"));
        let lane = FetchLane::new(events, outage.clone(), next_offset, known);
        let id = self.shared.lanes().insert(partition, lane);
        self.shared.changed.send_replace(());
        let shared = Arc::clone(&self.shared);
        PartitionFeed { partition, id, generation: id, paused: false, events: receiver, outage, shared }
    }
}

/// One partition's events. Dropping it ends the reading of the partition.
#[derive(Debug)]
pub struct PartitionFeed {
    partition: i32,
    /// The lane's number: another feed of the partition has another lane.
    id: u64,
    /// What an older state of the lane has requested is not given.
    generation: u64,
    paused: bool,
    events: mpsc::UnboundedReceiver<Event>,
    outage: Outage,
    shared: Arc<SharedFetcher>,
}

impl PartitionFeed {
    /// The next event. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let event = self.events.recv().await?;
            match &event {
                Event::Records(turn) if turn.generation() != self.generation => continue,
                Event::StartedOver { generation, .. } if *generation > self.generation => {
                    self.generation = *generation;
                }
                // Meanwhile it was set to a place of the log before.
                Event::StartedOver { at, .. } if !self.paused => self.go_on(*at),
                _ => {}
            }
            return Some(event);
        }
    }

    /// Requests no more records; what is in flight is dropped.
    pub fn pause(&mut self) {
        self.paused = true;
        self.set(|lane| lane.paused = true);
    }

    /// Reads on at this offset.
    pub fn go_on(&mut self, at: i64) {
        self.paused = false;
        self.set(|lane| lane.go_on(at));
    }

    /// Reads again at this offset, after a while and perhaps from another broker: what came could not be read.
    pub fn read_again(&mut self, at: i64, wait: Duration) {
        self.paused = false;
        self.set(|lane| lane.read_again(at, wait));
    }

    /// Whether this partition cannot be read although the cluster is there.
    pub fn outage(&self) -> Outage {
        self.outage.clone()
    }

    fn set(&mut self, change: impl FnOnce(&mut FetchLane)) {
        if let Some(generation) = self.shared.lanes().change(self.partition, self.id, change) {
            self.generation = generation;
        }
        self.shared.changed.send_replace(());
    }
}

impl Drop for PartitionFeed {
    fn drop(&mut self) {
        self.shared.lanes().remove(self.partition, self.id);
        self.shared.changed.send_replace(());
    }
}
