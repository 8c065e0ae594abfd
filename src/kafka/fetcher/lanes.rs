//! All partitions of this process: who leads them, what to ask a broker for, and what became of it. No I/O here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Event;
use super::lane::{FetchLane, Leader};
use super::turn::{AnswerPart, Turn};
use crate::config::OnDataLoss;
use crate::engine::state::LogIdentity;
use crate::error::Error;
use crate::kafka::cluster::{Cluster, ClusterMetadata};
use crate::kafka::error::{ErrorKind, KafkaError};
use crate::kafka::message::NO_TOPIC_ID;
use crate::kafka::message::fetch::{FetchAnswer, FetchFrom, FetchedPartition};

/// A lane to be checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unchecked {
    pub(super) partition: i32,
    pub(super) next_offset: i64,
    /// The topic that was read before.
    pub(super) known_id: [u8; 16],
    /// The topic that there is now.
    pub(super) topic_id: [u8; 16],
    generation: u64,
}

/// What a check of the log has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogCheck {
    /// The log continues where reading stopped.
    TheSame,
    /// Records before this offset no longer exist.
    Lost(i64),
    /// Another log, or one that was truncated: reading continues at `at`.
    Another { at: i64, end: i64, why: &'static str },
}

/// One partition of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct WantedPartition {
    pub(super) from: FetchFrom,
    generation: u64,
}

#[cfg(test)]
impl Unchecked {
    pub(super) fn new(partition: i32, next_offset: i64, known_id: [u8; 16], topic_id: [u8; 16]) -> Self {
        Self { partition, next_offset, known_id, topic_id, generation: 0 }
    }
}

/// All partitions.
#[derive(Debug)]
pub(super) struct Lanes {
    cluster: Arc<Cluster>,
    on_data_loss: OnDataLoss,
    lanes: BTreeMap<i32, FetchLane>,
    /// Numbers lanes, their generations and their services.
    counter: u64,
}

impl Lanes {
    pub(super) fn new(cluster: Arc<Cluster>, on_data_loss: OnDataLoss) -> Self {
        Self { cluster, on_data_loss, lanes: BTreeMap::new(), counter: 0 }
    }

    fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Takes a lane in; its number, which is its first generation, too.
    pub(super) fn insert(&mut self, partition: i32, mut lane: FetchLane) -> u64 {
        let id = self.count();
        (lane.id, lane.generation) = (id, id);
        self.lanes.insert(partition, lane);
        id
    }

    pub(super) fn remove(&mut self, partition: i32, id: u64) {
        if self.lanes.get(&partition).is_some_and(|lane| lane.id == id) {
            self.lanes.remove(&partition);
        }
    }

    /// Changes a lane, and voids earlier requests for it; returns its new generation.
    pub(super) fn change(
        &mut self,
        partition: i32,
        id: u64,
        change: impl FnOnce(&mut FetchLane),
    ) -> Option<u64> {
        let generation = self.count();
        let lane = self.lanes.get_mut(&partition).filter(|lane| lane.id == id)?;
        change(lane);
        lane.generation = generation;
        Some(generation)
    }

    /// Takes a lane from its broker after an error; the router finds it another, or the same again.
    pub(super) fn strand(&mut self, partition: i32, error: &KafkaError) {
        // The first failure is often a broker that moves or restarts; a broker that cannot be reached is reported by
        // the cluster.
        let lasts = self.lanes.get(&partition).is_some_and(|lane| lane.backoff.failures() > 0);
        if lasts && self.cluster.outage().is_none() {
            self.lanes[&partition].outage.failed(error);
        }
        self.strand_silently(partition, error);
    }

    fn strand_silently(&mut self, partition: i32, error: &KafkaError) {
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        if error.kind == ErrorKind::Fatal {
            lane.paused = true;
            let error = Error::failure(format!(
                "partition {partition} of topic {}: reading: {error}",
                self.cluster.topic()
            ));
            lane.tell(Event::Failed(error));
        }
        lane.leave();
        lane.not_before = lane.since + lane.backoff.next_wait();
    }

    /// Takes all lanes from a broker.
    pub(super) fn strand_all(&mut self, broker: i32, error: &KafkaError) {
        let led = |(partition, lane): (&i32, &FetchLane)| lane.is_led_by(broker).then_some(*partition);
        let partitions: Vec<i32> = self.lanes.iter().filter_map(led).collect();
        self.strand_together(&partitions, error);
    }

    /// One error of several lanes is reported by the first of them.
    fn strand_together(&mut self, partitions: &[i32], error: &KafkaError) {
        let Some((first, others)) = partitions.split_first() else { return };
        self.strand(*first, error);
        others.iter().for_each(|partition| self.strand_silently(*partition, error));
    }

    /// Whether a broker leads any lane.
    pub(super) fn are_led_by(&self, broker: i32) -> bool {
        self.lanes.values().any(|lane| lane.is_led_by(broker))
    }

    /// How many brokers lead lanes.
    pub(super) fn brokers(&self) -> usize {
        let mut brokers: Vec<i32> =
            self.lanes.values().filter_map(|lane| lane.leader).map(|leader| leader.broker).collect();
        brokers.sort_unstable();
        brokers.dedup();
        brokers.len()
    }

    /// Of the lanes without a broker: when the first may be routed, and how new the metadata must be for that.
    pub(super) fn stranded(&self) -> Option<(Instant, Instant)> {
        let stranded = self.lanes.values().filter(|lane| lane.leader.is_none() && !lane.paused);
        stranded.map(|lane| (lane.not_before, lane.since)).min()
    }

    /// Gives lanes without a broker to those that lead them; the brokers that got any.
    pub(super) fn route(&mut self, metadata: &ClusterMetadata) -> Vec<i32> {
        let now = Instant::now();
        let waiting: Vec<i32> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.leader.is_none() && !lane.paused && lane.not_before <= now)
            .map(|(partition, _)| *partition)
            .collect();
        let mut brokers = Vec::new();
        for partition in waiting {
            match metadata.leader(partition, self.cluster.topic()) {
                Ok(broker) => {
                    let topic = metadata.topic.as_ref();
                    let topic_id = topic.map_or(NO_TOPIC_ID, |topic| topic.id);
                    let found = topic.and_then(|topic| topic.partitions.get(&partition));
                    let epoch = found.map_or(-1, |found| found.leader_epoch);
                    if let Some(lane) = self.lanes.get_mut(&partition) {
                        lane.leader = Some(Leader { broker, epoch, topic_id });
                    }
                    brokers.push(broker);
                }
                Err(error) => self.strand(partition, &error),
            }
        }
        brokers.sort_unstable();
        brokers.dedup();
        brokers
    }

    /// No metadata came: the lanes that wait for a broker wait longer.
    pub(super) fn no_metadata(&mut self, error: &KafkaError) {
        let now = Instant::now();
        let due = |(partition, lane): (&i32, &FetchLane)| {
            (lane.leader.is_none() && !lane.paused && lane.not_before <= now).then_some(*partition)
        };
        let partitions: Vec<i32> = self.lanes.iter().filter_map(due).collect();
        self.strand_together(&partitions, error);
    }

    /// The lanes of a broker that are to be checked.
    pub(super) fn unchecked(&self, broker: i32) -> Vec<Unchecked> {
        let unchecked = |(partition, lane): (&i32, &FetchLane)| {
            let leader = lane.leader.filter(|leader| leader.broker == broker)?;
            (!lane.checked && !lane.paused).then_some(Unchecked {
                partition: *partition,
                next_offset: lane.next_offset,
                known_id: lane.known.topic_id,
                topic_id: leader.topic_id,
                generation: lane.generation,
            })
        };
        self.lanes.iter().filter_map(unchecked).collect()
    }

    /// Records what a check has shown.
    pub(super) fn checked(&mut self, looked_at: &Unchecked, found: LogCheck) {
        let Unchecked { partition, topic_id, generation, .. } = *looked_at;
        match self.lanes.get_mut(&partition) {
            Some(lane) if lane.generation == generation => {
                lane.checked = true;
                lane.known.topic_id = topic_id;
            }
            _ => return,
        }
        match found {
            LogCheck::TheSame => {}
            LogCheck::Lost(to) => {
                self.lose(partition, to, "Kafka has deleted records before they were read");
            }
            LogCheck::Another { at, end, why } => self.start_over(partition, at, end, why),
        }
        if let Some(lane) = self.lanes.get(&partition) {
            lane.tell(Event::Recognised { topic_id });
        }
    }

    fn lose(&mut self, partition: i32, to: i64, why: &str) {
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        let from = lane.next_offset;
        if self.on_data_loss == OnDataLoss::Stop {
            let what = format!("{why}: offsets {from} to {} are lost, and --on-data-loss is stop", to - 1);
            return lane.fail(partition, self.cluster.topic(), &what);
        }
        crate::warn!(format_args!("{why}; they count as lost"), "topic" => self.cluster.topic(),
            "partition" => partition, "from" => from, "to" => to, "lost" => to - from);
        lane.next_offset = to;
        lane.tell(Event::Lost { to });
    }

    fn start_over(&mut self, partition: i32, at: i64, end: i64, why: &str) {
        let generation = self.count();
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        if self.on_data_loss == OnDataLoss::Stop {
            let what = format!("{why}; reading would continue at offset {at}, but --on-data-loss is stop");
            return lane.fail(partition, self.cluster.topic(), &what);
        }
        crate::warn!(format_args!("{why}; continuing at offset {at}"), "topic" => self.cluster.topic(),
            "partition" => partition, "next_offset" => lane.next_offset);
        (lane.next_offset, lane.generation, lane.empty) = (at, generation, 0);
        lane.known.leader_epoch = LogIdentity::UNKNOWN.leader_epoch;
        lane.tell(Event::StartedOver { at, end, topic_id: lane.known.topic_id, generation });
    }

    /// What to ask a broker for, the one that waits longest first; and when more may be requested.
    pub(super) fn wanted(&mut self, broker: i32) -> (Vec<WantedPartition>, Option<Instant>) {
        let now = Instant::now();
        let mut wanted: Vec<(u64, WantedPartition)> = Vec::new();
        let mut later: Option<Instant> = None;
        for (partition, lane) in &mut self.lanes {
            let Some(leader) = lane.leader.filter(|leader| leader.broker == broker) else { continue };
            lane.asked = 0;
            if !lane.checked || lane.paused {
                continue;
            }
            if lane.not_before > now {
                later = Some(later.map_or(lane.not_before, |later| later.min(lane.not_before)));
                continue;
            }
            let from = FetchFrom {
                partition: *partition,
                offset: lane.next_offset,
                leader_epoch: leader.epoch,
                last_epoch: lane.known.leader_epoch,
            };
            lane.asked = lane.generation;
            wanted.push((lane.served, WantedPartition { from, generation: lane.generation }));
        }
        wanted.sort_by_key(|(served, _)| *served);
        (wanted.into_iter().map(|(_, wanted)| wanted).collect(), later)
    }

    /// Whether there is a lane of the broker that could be requested and is not.
    pub(super) fn wants_more(&self, broker: i32) -> bool {
        let now = Instant::now();
        let is_due = |lane: &FetchLane| !lane.paused && lane.not_before <= now;
        self.lanes
            .values()
            .any(|lane| lane.is_led_by(broker) && is_due(lane) && lane.asked != lane.generation)
    }

    /// The topic's id that a broker's lanes are read under.
    pub(super) fn topic_id(&self, broker: i32) -> [u8; 16] {
        let led = |lane: &FetchLane| lane.leader.filter(|leader| leader.broker == broker);
        self.lanes.values().find_map(led).map_or(NO_TOPIC_ID, |leader| leader.topic_id)
    }

    /// Takes an answer: moves lanes on and hands the records out. The bytes of records in it.
    pub(super) fn take(
        &mut self,
        asked: &[WantedPartition],
        answer: FetchAnswer,
        permit: OwnedSemaphorePermit,
    ) -> usize {
        let mut parts = Vec::new();
        // Where others filled the answer, a partition without records in it may have some anyway.
        let filled = answer.partitions.iter().any(|fetched| !fetched.records.is_empty());
        let asked: HashMap<i32, u64> =
            asked.iter().map(|wanted| (wanted.from.partition, wanted.generation)).collect();
        for fetched in answer.partitions {
            let current = self.lanes.get(&fetched.partition).map(|lane| lane.generation);
            // What was requested before reading continued elsewhere is of no more use.
            if current.is_some() && current.as_ref() == asked.get(&fetched.partition) {
                parts.extend(self.take_one(fetched, &answer.bytes, filled));
            }
        }
        let bytes = parts.iter().map(|part| part.range.len()).sum();
        if !parts.is_empty() {
            Turn::begin(answer.bytes, parts, permit);
        }
        bytes
    }

    /// Moves one lane on; what the answer holds for it.
    fn take_one(&mut self, fetched: FetchedPartition, bytes: &[u8], filled: bool) -> Option<AnswerPart> {
        let partition = fetched.partition;
        let what = format_args!("partition {partition} of topic {}", self.cluster.topic());
        if let Err(error) = KafkaError::check(fetched.error, None, what) {
            match error.kind {
                ErrorKind::OffsetOutOfRange => self.lanes.get_mut(&partition)?.checked = false,
                _ => self.strand(partition, &error),
            }
            return None;
        }
        if let Some(at) = fetched.diverged_at {
            let end = fetched.last_stable_offset;
            self.start_over(partition, at, end, "the log was truncated and written again");
            return None;
        }
        let served = self.count();
        self.lanes.get_mut(&partition)?.take(fetched, bytes, filled, served)
    }
}

#[cfg(test)]
mod tests;
