//! The broker of a benchmark, and topics filled with readings.

use std::collections::BTreeMap;
use std::time::Duration;

use rskafka::chrono::{DateTime, Utc};
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use weather::embedded::{self, Broker};
use weather::time::now_ms;

use super::readings::{self, Form};

/// Readings of one produce request when a topic is filled.
pub const BATCH: u64 = 2_000;
/// Longest wait for a new topic to be led.
const TOPIC_LIMIT: Duration = Duration::from_secs(20);

/// What each record of a topic carries besides the reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dress {
    /// Nothing: as producers send that know nothing of `weather`.
    Plain,
    /// The station as key: as `weather producer` sends.
    Keyed,
}

/// Where the topics of the benchmarks are.
pub struct Kafka {
    /// What `--brokers` takes.
    pub brokers: String,
    /// Whether it is Apache Kafka, or whatever else the environment names.
    pub is_real: bool,
    /// Lives as long as this value.
    _embedded: Option<Broker>,
}

impl Kafka {
    /// The broker that `WEATHER_BENCH_KAFKA` names, else one in this process that holds `bytes`.
    pub async fn start(bytes: usize) -> Self {
        if let Some(brokers) = super::setting("WEATHER_BENCH_KAFKA") {
            return Self { brokers, is_real: true, _embedded: None };
        }
        let options = embedded::Options { limit_bytes: bytes, ..embedded::Options::default() };
        let broker = Broker::start(options).await.expect("a port of loopback");
        Self { brokers: broker.address().to_string(), is_real: false, _embedded: Some(broker) }
    }

    /// A new client.
    pub async fn client(&self) -> Client {
        let brokers = self.brokers.split(',').map(str::to_owned).collect();
        ClientBuilder::new(brokers).build().await.expect("a broker that answers")
    }

    /// Creates a topic with a name that no other run has used.
    pub async fn topic(&self, label: &str, partitions: i32) -> String {
        let name = format!("bench-{label}-{}-{}", std::process::id(), now_ms() % 100_000_000);
        let controller = self.client().await.controller_client().expect("a controller");
        controller.create_topic(&name, partitions, 1, 10_000).await.expect("a new topic");
        name
    }

    /// Deletes a topic, so that a broker on disk does not fill up.
    pub async fn delete(&self, topic: &str) {
        if self.is_real {
            let controller = self.client().await.controller_client().expect("a controller");
            let _ = controller.delete_topic(topic, 10_000).await;
        }
    }

    /// A separate connection to one partition; waits until the partition has a leader.
    pub async fn partition(&self, topic: &str, partition: i32) -> PartitionClient {
        let client = self.client().await;
        let connect = client.partition_client(topic, partition, UnknownTopicHandling::Retry);
        tokio::time::timeout(TOPIC_LIMIT, connect).await.expect("a leader in time").expect("a leader")
    }

    /// A topic with this many readings, number 0 first, spread over the partitions in batches.
    pub async fn filled(&self, label: &str, partitions: i32, count: u64, dress: Dress) -> String {
        // So that the last is in the past: a reading from the future is a dead letter.
        let start_ms = now_ms() - (count as i64 + 10_000) * readings::INTERVAL_MS;
        let reading = move |number| {
            let mut value = Vec::with_capacity(128);
            readings::write(Form::EpochMs, number, start_ms, &mut value);
            ((dress == Dress::Keyed).then(|| readings::key(number).into_bytes()), value)
        };
        self.filled_with(label, partitions, count, reading).await
    }

    /// A topic with `count` records, each with the key and the value that `reading` gives its number.
    pub async fn filled_with(
        &self,
        label: &str,
        partitions: i32,
        count: u64,
        reading: impl Fn(u64) -> (Option<Vec<u8>>, Vec<u8>) + Clone + Send + 'static,
    ) -> String {
        let topic = self.topic(label, partitions).await;
        let mut tasks = tokio::task::JoinSet::new();
        for partition in 0..partitions {
            let (connection, reading) = (self.partition(&topic, partition).await, reading.clone());
            tasks.spawn(async move {
                let (first, step) = (partition as u64 * BATCH, partitions as u64 * BATCH);
                for start in (first..count).step_by(step as usize) {
                    let records = records(start..(start + BATCH).min(count), &reading);
                    connection.produce(records, Compression::NoCompression).await.expect("records are taken");
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("a topic that can be filled");
        }
        topic
    }
}

/// These readings as records.
fn records(
    numbers: std::ops::Range<u64>,
    reading: &impl Fn(u64) -> (Option<Vec<u8>>, Vec<u8>),
) -> Vec<Record> {
    let timestamp = DateTime::from_timestamp_millis(now_ms()).expect("a time of this age");
    let record = |number| {
        let (key, value) = reading(number);
        Record { key, ..record(value, timestamp) }
    };
    numbers.map(record).collect()
}

/// A record with this value alone.
pub fn record(value: Vec<u8>, timestamp: DateTime<Utc>) -> Record {
    Record { key: None, value: Some(value), headers: BTreeMap::new(), timestamp }
}
