//! The bookkeeping of lanes, answer by answer.

use std::collections::BTreeMap;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::config::Kafka;
use crate::kafka::cluster::KnownTopic;
use crate::kafka::message::metadata::PartitionMetadata;
use crate::telemetry::log::Outage;

const BROKER: i32 = 1;
const TOPIC_ID: [u8; 16] = [7; 16];

struct Fixture {
    lanes: Lanes,
    events: BTreeMap<i32, UnboundedReceiver<Event>>,
}

impl Fixture {
    /// `partitions` of them, each to be read from its beginning.
    fn new(partitions: i32) -> Self {
        let kafka = Kafka { brokers: vec![], broker_map: vec![], topic: "t".into(), sasl: None };
        let lanes = Lanes::new(Arc::new(Cluster::new(kafka)), OnDataLoss::Continue);
        let mut fixture = Self { lanes, events: BTreeMap::new() };
        (0..partitions).for_each(|partition| fixture.open(partition));
        fixture
    }

    fn open(&mut self, partition: i32) {
        let (sender, receiver) = unbounded_channel();
        let lane = FetchLane::new(sender, Outage::new("a partition"), 0, LogIdentity::UNKNOWN);
        self.lanes.insert(partition, lane);
        self.events.insert(partition, receiver);
    }

    fn route(&mut self) {
        let led = |partition: &i32| PartitionMetadata {
            error: 0,
            partition: *partition,
            leader: BROKER,
            leader_epoch: 0,
        };
        let partitions = self.events.keys().map(|partition| (*partition, led(partition))).collect();
        self.lanes.route(&ClusterMetadata {
            asked: Instant::now(),
            cluster_id: None,
            brokers: BTreeMap::new(),
            controller: BROKER,
            topic: Some(KnownTopic { id: TOPIC_ID, partitions }),
        });
    }

    /// Routes and checks all that are not yet; how many that were.
    fn bring_up(&mut self) -> usize {
        self.route();
        let unchecked = self.lanes.unchecked(BROKER);
        unchecked.iter().for_each(|lane| self.lanes.checked(lane, LogCheck::TheSame));
        unchecked.len()
    }

    /// Asks for all that may be, and takes an answer in which each partition has this many records, up to an end of 100.
    async fn fetch(&mut self, records: &[(i32, i32)]) {
        let (asked, _) = self.lanes.wanted(BROKER);
        let mut bytes = Vec::new();
        let mut partitions = Vec::new();
        for (partition, count) in records {
            let from = bytes.len();
            if *count > 0 {
                bytes.extend(batch(*count));
            }
            partitions.push(FetchedPartition {
                partition: *partition,
                error: 0,
                last_stable_offset: 100,
                aborted: Vec::new(),
                diverged_at: None,
                records: from..bytes.len(),
            });
        }
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        self.lanes.take(&asked, FetchAnswer { bytes, error: 0, partitions }, permit);
    }

    /// Lets every lane have waited for as long as it should.
    fn end_waits(&mut self) {
        self.lanes.lanes.values_mut().for_each(|lane| lane.not_before = Instant::now());
    }

    /// What a partition was told, records and the recognition of its log left out.
    fn told(&mut self, partition: i32) -> Vec<Event> {
        let events = self.events.get_mut(&partition).unwrap();
        let heard = std::iter::from_fn(|| events.try_recv().ok());
        heard.filter(|event| !matches!(event, Event::Records(_) | Event::Recognised { .. })).collect()
    }

    fn next_offset(&self, partition: i32) -> i64 {
        self.lanes.lanes[&partition].next_offset
    }
}

/// The head of a batch with records at the offsets below `count`.
fn batch(count: i32) -> Vec<u8> {
    let mut bytes = 0_i64.to_be_bytes().to_vec();
    bytes.extend(60_i32.to_be_bytes());
    bytes.extend(0_i32.to_be_bytes());
    bytes.extend([2, 0, 0, 0, 0, 0, 0]);
    bytes.extend((count - 1).to_be_bytes());
    bytes.resize(72, 0);
    bytes
}

#[tokio::test]
async fn a_partition_left_out_of_a_full_answer_is_not_taken_for_empty() {
    let mut fixture = Fixture::new(2);
    fixture.bring_up();
    for _ in 0..50 {
        fixture.fetch(&[(0, 10), (1, 0)]).await;
        fixture.end_waits();
    }
    assert_eq!(fixture.next_offset(1), 0);
    assert!(fixture.told(1).is_empty());
    fixture.fetch(&[(0, 0), (1, 10)]).await;
    assert_eq!(fixture.next_offset(1), 10);
}

#[tokio::test]
async fn offsets_that_the_broker_has_nothing_for_are_passed_after_some_tries() {
    let mut fixture = Fixture::new(2);
    fixture.bring_up();
    let mut tries = 0;
    while fixture.next_offset(1) == 0 {
        fixture.fetch(&[(0, 0), (1, 0)]).await;
        fixture.end_waits();
        tries += 1;
    }
    assert_eq!(tries, 9);
    assert!(matches!(fixture.told(1)[..], [Event::Skipped { to: 100 }]));
}

#[tokio::test]
async fn who_waits_longest_is_asked_for_first() {
    let mut fixture = Fixture::new(3);
    fixture.bring_up();
    fixture.fetch(&[(0, 10), (1, 0), (2, 0)]).await;
    fixture.fetch(&[(1, 10), (2, 0)]).await;
    let (wanted, _) = fixture.lanes.wanted(BROKER);
    let order: Vec<i32> = wanted.iter().map(|wanted| wanted.from.partition).collect();
    assert_eq!(order, [2, 0, 1]);
}

#[tokio::test]
async fn a_partition_that_comes_breaks_a_held_fetch_and_leaves_the_others_checked() {
    let mut fixture = Fixture::new(2);
    assert_eq!(fixture.bring_up(), 2);
    let _ = fixture.lanes.wanted(BROKER);
    assert!(!fixture.lanes.wants_more(BROKER));
    fixture.open(2);
    assert!(!fixture.lanes.wants_more(BROKER), "it has no broker yet");
    fixture.route();
    assert!(fixture.lanes.wants_more(BROKER));
    assert_eq!(fixture.bring_up(), 1);
    assert_eq!(fixture.lanes.wanted(BROKER).0.len(), 3);
    assert!(!fixture.lanes.wants_more(BROKER));
    // Another place of the log is another thing to ask for.
    let id = fixture.lanes.lanes[&1].id;
    fixture.lanes.change(1, id, |lane| lane.go_on(5));
    assert!(fixture.lanes.wants_more(BROKER));
}

#[tokio::test]
async fn a_connection_that_failed_makes_all_logs_be_checked_again() {
    let mut fixture = Fixture::new(2);
    fixture.bring_up();
    let error = KafkaError::new(ErrorKind::Connection, "gone");
    fixture.lanes.strand_all(BROKER, &error);
    assert!(fixture.lanes.stranded().is_some() && fixture.lanes.unchecked(BROKER).is_empty());
    fixture.end_waits();
    assert_eq!(fixture.bring_up(), 2);
}
