//! The fetcher against the embedded broker: many partitions, slow answers.

use std::time::Instant;

use super::*;
use crate::config::Kafka;
use crate::embedded::{Api, Broker, Fault, FaultRule, Options, RawBatch};
use crate::engine::state::LogIdentity;

/// Longest wait for what must come.
const LIMIT: Duration = Duration::from_secs(60);

async fn broker(partitions: i32) -> Broker {
    let broker = Broker::start(Options::default()).await.unwrap();
    broker.create_topic("t", partitions).unwrap();
    broker
}

fn fetcher(broker: &Broker) -> Fetcher {
    let brokers = vec![broker.address().to_string()];
    let cluster = Cluster::new(Kafka { brokers, broker_map: vec![], topic: "t".into(), sasl: None });
    let settings = FetchSettings {
        fetch_bytes: 1 << 20,
        wait: Duration::from_secs(2),
        pause: Duration::from_millis(10),
        on_data_loss: OnDataLoss::Continue,
    };
    Fetcher::start(Arc::new(cluster), settings)
}

/// Offsets without records: the least that a fetch answers with.
fn append(broker: &Broker, partition: i32) {
    broker.append_unchecked("t", partition, &RawBatch::compacted_away(10, 0).encode()).unwrap();
}

async fn records(feed: &mut PartitionFeed) -> Turn {
    let found = async {
        loop {
            if let Event::Records(turn) = feed.next().await.unwrap() {
                return turn;
            }
        }
    };
    tokio::time::timeout(LIMIT, found).await.expect("records in time")
}

#[tokio::test]
async fn many_partitions_come_up_with_few_requests() {
    const PARTITIONS: i32 = 200;
    let broker = broker(PARTITIONS).await;
    (0..PARTITIONS).for_each(|partition| append(&broker, partition));
    let (fetcher, start) = (fetcher(&broker), Instant::now());
    let mut feeds = Vec::new();
    for partition in 0..PARTITIONS {
        feeds.push(fetcher.open(partition, 0, LogIdentity::UNKNOWN));
        tokio::task::yield_now().await;
    }
    for feed in &mut feeds {
        assert_eq!(records(feed).await.end(), 10);
    }
    let (metadata, checks) = (broker.requests(Api::Metadata), broker.requests(Api::ListOffsets));
    // One a second at most, and two for each group that came together.
    let seconds = start.elapsed().as_secs();
    assert!(metadata <= 1 + seconds, "{metadata} requests for metadata in {seconds} s");
    assert!(checks <= 2 * PARTITIONS as u64, "{checks} requests for offsets");
}

#[tokio::test]
async fn a_slow_broker_is_read_however_often_another_partition_goes_on() {
    let broker = broker(2).await;
    append(&broker, 0);
    broker.faults().arm(FaultRule::next(Api::Fetch, Fault::Delay(Duration::from_millis(250))).always());
    let fetcher = fetcher(&broker);
    let mut read = fetcher.open(0, 0, LogIdentity::UNKNOWN);
    let mut restless = fetcher.open(1, 0, LogIdentity::UNKNOWN);
    let going_on = async {
        loop {
            restless.go_on(0);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        turn = records(&mut read) => assert_eq!(turn.end(), 10),
        () = going_on => {}
    }
}
