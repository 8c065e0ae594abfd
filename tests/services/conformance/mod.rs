//! The embedded broker against Apache Kafka 4.1: asked the same things, they answer the same.
//!
//! Each test runs one script of calls on both and compares what was heard, line by line. rskafka's calls are here; what
//! rskafka's client never sends, such as a corrupt batch, is in `frames`; every version of every call is in `versions`,
//! also against Apache Kafka 3.9 and 3.5.
//!
//! What differs, and so is not asked: the words of error messages; records stamped more than an hour ahead, records
//! malformed inside a batch and negative limits of a fetch, which Kafka refuses; where within a compressed batch a time
//! is found, which the embedded broker does not look into; the log start offset beside an error; a last batch that is cut
//! off by a fetch's limit, which the embedded broker leaves out and every client drops.

// What cannot be unwrapped fails the test, in a helper as in the test itself.
#![allow(clippy::unwrap_used)]

pub mod form;
mod frames;
mod versions;

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rskafka::chrono::DateTime;
use rskafka::client::error::Error;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use weather::embedded::{Broker, Options};

use crate::support::{Kafka, turn, unique};

/// An hour ago. Kafka's retention goes by the records' own time: it would delete older ones while a test reads them.
static TIME_MS: LazyLock<i64> = LazyLock::new(|| {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis() as i64 - 3_600_000
});
const ANY_BYTES: std::ops::Range<i32> = 1..4_000_000;

/// The two brokers.
struct Both {
    kafka: Kafka,
    embedded: Broker,
}

impl Both {
    async fn start() -> Self {
        // As Kafka does by default, with its default number of partitions.
        let options = Options { auto_create_partitions: Some(1), ..Options::default() };
        Self { kafka: Kafka::shared(), embedded: Broker::start(options).await.unwrap() }
    }

    /// Runs the script on both and compares.
    async fn compare(&self, script: impl AsyncFn(&mut Talk)) {
        let topic = unique("conformance");
        let mut heard = Vec::new();
        for address in [self.kafka.brokers(), self.embedded.address().to_string()] {
            let client = ClientBuilder::new(vec![address.clone()]).build().await.unwrap();
            let mut talk = Talk { address, client, topic: topic.clone(), lines: Vec::new() };
            script(&mut talk).await;
            heard.push(talk.lines);
        }
        let differ = heard[0].iter().zip(&heard[1]).filter(|(kafka, embedded)| kafka != embedded);
        let differ: String =
            differ.map(|(kafka, embedded)| format!("\n   Kafka: {kafka}\nembedded: {embedded}\n")).collect();
        assert!(differ.is_empty(), "{differ}");
        assert_eq!(heard[0].len(), heard[1].len());
    }
}

/// A conversation with one broker, and what it said.
struct Talk {
    address: String,
    client: Client,
    topic: String,
    lines: Vec<String>,
}

impl Talk {
    fn note(&mut self, step: impl Display, outcome: impl Debug) {
        self.lines.push(format!("{step}: {outcome:?}"));
    }

    fn note_result<T: Debug>(&mut self, step: impl Display, outcome: Result<T, Error>) {
        match outcome {
            Ok(outcome) => self.note(step, outcome),
            Err(Error::ServerError { protocol_error, response, .. }) => {
                self.note(step, (protocol_error, response))
            }
            Err(other) => self.note(step, other.to_string()),
        }
    }

    async fn create(&self, name: &str, partitions: i32, replicas: i16) -> Result<(), Error> {
        self.client.controller_client().unwrap().create_topic(name, partitions, replicas, 10_000).await
    }

    /// Creates the talk's topic; a client of its first partition.
    async fn begin(&self, partitions: i32) -> PartitionClient {
        self.create(&self.topic, partitions, 1).await.unwrap();
        self.partition(0).await
    }

    async fn partition(&self, partition: i32) -> PartitionClient {
        self.client.partition_client(&self.topic, partition, UnknownTopicHandling::Retry).await.unwrap()
    }

    /// The number of the topic's partitions, once it is `expected` or does not become so in time.
    async fn partitions(&self, expected: Option<usize>) -> Option<usize> {
        let start = Instant::now();
        loop {
            let topics = self.client.list_topics().await.unwrap();
            let found =
                topics.iter().find(|topic| topic.name == self.topic).map(|topic| topic.partitions.len());
            if found == expected || start.elapsed() > Duration::from_secs(10) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn note_fetch(&mut self, from: &PartitionClient, offset: i64, bytes: std::ops::Range<i32>) {
        let fetched = from.fetch_records(offset, bytes.clone(), 0).await;
        let found = fetched.map(|(records, high_watermark)| {
            let offsets: Vec<_> = records.iter().map(|record| record.offset).collect();
            (offsets, high_watermark)
        });
        self.note_result(format!("fetch {bytes:?} at {offset}"), found);
    }

    async fn note_ends(&mut self, of: &PartitionClient) {
        let ends = (of.get_offset(OffsetAt::Earliest).await, of.get_offset(OffsetAt::Latest).await);
        self.note_result("earliest", ends.0);
        self.note_result("latest", ends.1);
    }
}

fn at(timestamp_ms: i64) -> DateTime<rskafka::chrono::Utc> {
    DateTime::from_timestamp_millis(timestamp_ms).unwrap()
}

fn record(after_ms: i64) -> Record {
    let value = Some(format!("value {after_ms}").into_bytes());
    Record { key: None, value, headers: BTreeMap::new(), timestamp: at(*TIME_MS + after_ms) }
}

async fn produce(to: &PartitionClient, after_ms: impl IntoIterator<Item = i64>) -> Vec<i64> {
    to.produce(after_ms.into_iter().map(record).collect(), Compression::NoCompression).await.unwrap()
}

#[tokio::test]
async fn topics() {
    let _turn = turn::light().await;
    let both = Both::start().await;
    both.compare(async |talk| {
        let topic = talk.topic.clone();
        talk.note("before", talk.partitions(None).await);
        talk.note_result("create", talk.create(&topic, 3, 1).await);
        talk.note("created", talk.partitions(Some(3)).await);
        let long = "x".repeat(250);
        for (name, partitions, replicas) in [
            (topic.as_str(), 3, 1),
            (&topic, 0, 0),
            (&format!("{topic}.new"), 0, 1),
            (&format!("{topic}.new"), -2, 1),
            (&format!("{topic}.new"), 1, 0),
            (&format!("{topic}.new"), 1, -2),
            (&format!("{topic}.new"), 1, 2),
            (&format!("{topic}.new"), 0, 2),
            ("", 1, 1),
            (".", 1, 1),
            ("a b", 1, 1),
            (&long, 1, 1),
        ] {
            let refused = talk.create(name, partitions, replicas).await;
            talk.note_result(format!("create {name:?} {partitions} {replicas}"), refused);
        }
        let other = talk.client.partition_client(&topic, 3, UnknownTopicHandling::Error).await;
        talk.note_result("no such partition", other);
        let other = talk.client.partition_client("a b", 0, UnknownTopicHandling::Error).await;
        talk.note_result("no such name", other);

        let defaults = format!("{topic}.defaults");
        talk.note_result("create by default", talk.create(&defaults, -1, -1).await);
        let controller = talk.client.controller_client().unwrap();
        talk.note_result("delete", controller.delete_topic(&defaults, 10_000).await);
        talk.note_result(
            "delete what is not there",
            controller.delete_topic(format!("{topic}.no"), 10_000).await,
        );
    })
    .await;
}

#[tokio::test]
async fn a_topic_is_created_by_asking_for_it() {
    let _turn = turn::light().await;
    let both = Both::start().await;
    both.compare(async |talk| {
        let asked = talk.client.partition_client(&talk.topic, 0, UnknownTopicHandling::Error).await;
        talk.note_result("first", asked);
        talk.note("later", talk.partitions(Some(1)).await);
        talk.note_result("then", talk.partition(0).await.get_offset(OffsetAt::Latest).await);
    })
    .await;
}

#[tokio::test]
async fn records_and_their_contents() {
    let _turn = turn::light().await;
    let both = Both::start().await;
    both.compare(async |talk| {
        talk.begin(2).await;
        let partition = talk.partition(1).await;
        let mut full = record(1);
        full.key = Some(b"key".to_vec());
        full.headers = BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), Vec::new())]);
        let tombstone = Record { key: Some(b"key".to_vec()), value: None, ..record(2) };
        let empty = Record { key: Some(Vec::new()), value: Some(Vec::new()), ..record(-1_000) };
        let old = Record { timestamp: at(0), ..record(3) };
        let records = vec![full, tombstone, empty, old, record(4)];
        for codec in [Compression::NoCompression, Compression::Gzip, Compression::Snappy] {
            let produced = partition.produce(records.clone(), codec).await;
            talk.note_result(format!("produce {codec:?}"), produced);
        }
        for offset in [0, 4, 5, 12, 14, 15] {
            talk.note_result(format!("from {offset}"), partition.fetch_records(offset, ANY_BYTES, 0).await);
        }
        talk.note_ends(&partition).await;
        talk.note_ends(&talk.partition(0).await).await;
        let before_1970 = vec![Record { timestamp: at(-5), ..record(0) }];
        talk.note_result("before 1970", partition.produce(before_1970, Compression::NoCompression).await);
        let large = Record { value: Some(vec![b'x'; 1_100_000]), ..record(0) };
        let refused = partition.produce(vec![large.clone()], Compression::NoCompression).await;
        talk.note_result("too large", refused);
        talk.note_result("large, but compressed", partition.produce(vec![large], Compression::Gzip).await);
        // Around the limit of 1,048,588 bytes, to the byte.
        for bytes in 1_048_510..1_048_530 {
            let record = Record { value: Some(vec![b'x'; bytes]), ..record(0) };
            let produced = partition.produce(vec![record], Compression::NoCompression).await;
            talk.note_result(format!("{bytes} bytes"), produced);
        }
    })
    .await;
}

#[tokio::test]
async fn fetches_within_limits() {
    let _turn = turn::light().await;
    let both = Both::start().await;
    both.compare(async |talk| {
        let partition = talk.begin(1).await;
        talk.note_fetch(&partition, 0, ANY_BYTES).await;
        talk.note_fetch(&partition, 1, ANY_BYTES).await;
        for batch in 10..15 {
            produce(&partition, batch * 10..batch * 10 + 10).await;
        }
        for offset in [-1, 0, 5, 9, 10, 37, 49, 50, 51, i64::MAX] {
            talk.note_fetch(&partition, offset, ANY_BYTES).await;
        }
        for max_bytes in (1..1_500).step_by(23) {
            talk.note_fetch(&partition, 15, 0..max_bytes).await;
        }
        // There is less than the minimum: after the wait, what there is.
        let start = Instant::now();
        let fetched = partition.fetch_records(45, 1_000_000..2_000_000, 150).await;
        talk.note_result("minimum", fetched.map(|(records, _)| records.len()));
        talk.note("waited", (150..5_000).contains(&start.elapsed().as_millis()));
        let fetched = partition.fetch_records(50, 1..1_000, 150).await;
        talk.note_result("nothing", fetched.map(|(records, _)| records.len()));
        talk.note("waited", (300..10_000).contains(&start.elapsed().as_millis()));
        // An answer that cannot come does not wait.
        let start = Instant::now();
        talk.note_result("out of range", partition.fetch_records(51, 1..1_000, 20_000).await);
        talk.note("at once", start.elapsed() < Duration::from_secs(10));
    })
    .await;
}

#[tokio::test]
async fn a_waiting_fetch_is_woken() {
    let _turn = turn::light().await;
    let both = Both::start().await;
    both.compare(async |talk| {
        let waiting = talk.begin(1).await;
        let other = talk.partition(0).await;
        for round in 0..3 {
            let start = Instant::now();
            let (fetched, _) = tokio::join!(waiting.fetch_records(round, ANY_BYTES, 20_000), async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                produce(&other, [round]).await
            });
            talk.note_result("woken", fetched);
            talk.note("soon", start.elapsed() < Duration::from_secs(10));
        }
    })
    .await;
}

#[tokio::test]
async fn offsets_by_time() {
    let _turn = turn::light().await;
    let both = Both::start().await;
    both.compare(async |talk| {
        let partition = talk.begin(1).await;
        produce(&partition, [0, 10, 5]).await;
        produce(&partition, [3, 4]).await;
        produce(&partition, [20, 20, 30]).await;
        for after_ms in (-1..=31).chain([i64::from(i32::MAX)]) {
            let found = partition.get_offset(OffsetAt::Timestamp(at(*TIME_MS + after_ms))).await;
            talk.note_result(format!("{after_ms} ms"), found);
        }
        for time in [0, -3, -4, -5, -6, -1_000] {
            let found = partition.get_offset(OffsetAt::Timestamp(at(time))).await;
            talk.note_result(format!("time {time}"), found);
        }
        partition.delete_records(2, 10_000).await.unwrap();
        for after_ms in [0, 4, 5, 6, 20] {
            let found = partition.get_offset(OffsetAt::Timestamp(at(*TIME_MS + after_ms))).await;
            talk.note_result(format!("{after_ms} ms after deletion"), found);
        }
        let since = talk.partition(0).await.get_offset(OffsetAt::Timestamp(at(*TIME_MS + 31))).await;
        talk.note_result("none", since);
    })
    .await;
}

#[tokio::test]
async fn deleted_records_and_recreated_topics() {
    let _turn = turn::light().await;
    let both = Both::start().await;
    both.compare(async |talk| {
        let partition = talk.begin(1).await;
        produce(&partition, 0..10).await;
        produce(&partition, 10..20).await;
        for before in [0, 3, 2, 21, -2, i64::MAX, 10, 15, -1] {
            talk.note_result(format!("delete {before}"), partition.delete_records(before, 10_000).await);
            talk.note_ends(&partition).await;
            for offset in [0, 2, 3, 10, 15, 20] {
                talk.note_fetch(&partition, offset, ANY_BYTES).await;
            }
        }

        let controller = talk.client.controller_client().unwrap();
        talk.note_result("delete", controller.delete_topic(&talk.topic, 10_000).await);
        talk.note("deleted", talk.partitions(None).await);
        talk.note_result("recreate", talk.create(&talk.topic, 2, 1).await);
        talk.note("recreated", talk.partitions(Some(2)).await);
        let again = talk.partition(0).await;
        talk.note_ends(&again).await;
        talk.note_fetch(&again, 5, ANY_BYTES).await;
        talk.note("produce", produce(&again, 0..2).await);
        talk.note_fetch(&again, 0, ANY_BYTES).await;
    })
    .await;
}
