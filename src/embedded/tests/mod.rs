//! The broker as its client sees it: rskafka's own, and bare frames for what rskafka never sends.

mod admin;
mod faulty;
mod frames;
mod records;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use rskafka::BackoffConfig;
use rskafka::chrono::DateTime;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::{Record, RecordAndOffset};

use super::*;

/// Longer than any wait that a test wants to see through.
const LONG_MS: i32 = 20_000;
const ANY_BYTES: Range<i32> = 1..1_000_000;

async fn start() -> Broker {
    let broker = Broker::start(Options::default()).await.unwrap();
    broker.create_topic("t", 3).unwrap();
    broker
}

/// A client that retries at once, but not for long.
async fn client_at(address: SocketAddr) -> Client {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(10),
        base: 2.0,
        deadline: Some(Duration::from_secs(2)),
    };
    ClientBuilder::new(vec![address.to_string()]).backoff_config(backoff).build().await.unwrap()
}

async fn client(broker: &Broker) -> Client {
    client_at(broker.address()).await
}

async fn partition(broker: &Broker, partition: i32) -> PartitionClient {
    client(broker).await.partition_client("t", partition, UnknownTopicHandling::Error).await.unwrap()
}

/// A record with this value, one millisecond younger than the number.
fn record(number: i64) -> Record {
    Record {
        key: Some(b"key".to_vec()),
        value: Some(format!("value {number}").into_bytes()),
        headers: BTreeMap::from([("h".to_owned(), b"1".to_vec())]),
        timestamp: DateTime::from_timestamp_millis(1_000 + number).unwrap(),
    }
}

fn records(numbers: Range<i64>) -> Vec<Record> {
    numbers.map(record).collect()
}

/// Produces the records in one batch and returns the offset of the first.
async fn produce(to: &PartitionClient, numbers: Range<i64>) -> i64 {
    to.produce(records(numbers), Compression::NoCompression).await.unwrap()[0]
}

/// Fetches without waiting.
async fn fetch(from: &PartitionClient, offset: i64) -> (Vec<RecordAndOffset>, i64) {
    from.fetch_records(offset, ANY_BYTES, 0).await.unwrap()
}

fn offsets(records: &[RecordAndOffset]) -> Vec<i64> {
    records.iter().map(|record| record.offset).collect()
}

/// Makes a call and leaves it as soon as its request, the `count`th of this kind, has arrived.
async fn abandon<T>(call: impl Future<Output = T>, broker: &Broker, api: Api, count: u64) {
    tokio::select! {
        _ = call => panic!("there is an answer"),
        () = broker.wait_for_requests(api, count) => {}
    }
}

/// The code in a failed call's error, also where rskafka gave up retrying because of it.
fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> ProtocolError {
    match result.unwrap_err() {
        Error::ServerError { protocol_error, .. } => protocol_error,
        other => panic!("no server error: {other}"),
    }
}
