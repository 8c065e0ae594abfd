//! A topic with transactions in it: only what is committed counts, and what is open is waited for.
//!
//! The producers are frames made by hand, so that nothing of the program's own takes part in writing the topic.

// What cannot be unwrapped fails the test, in a helper as in the test itself.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weather::embedded::{NO_PRODUCER, RawBatch};

use crate::conformance::form::Body;
use crate::support::pipeline::END_LIMIT;
use crate::support::{Kafka, Pipeline, turn};

const PRODUCE: (i16, i16) = (0, 7);
const FIND_COORDINATOR: (i16, i16) = (10, 1);
const INIT_PRODUCER_ID: (i16, i16) = (22, 1);
const ADD_PARTITIONS: (i16, i16) = (24, 0);
const END_TRANSACTION: (i16, i16) = (26, 1);

const TRANSACTIONAL: i16 = 16;
/// 2023-11-14 22:00 UTC, the start of an hour, ms.
const HOUR_MS: i64 = 1_699_999_200_000;
const LIMIT: Duration = Duration::from_secs(60);

/// A producer of partition 0 of one topic.
struct Producer {
    stream: TcpStream,
    topic: String,
    /// Its transactional id; `None` if it has no transactions.
    id: Option<String>,
    producer: (i64, i16),
    sequence: i32,
    /// When its records were made, ms since 1970: now, as Kafka's retention goes by it.
    now_ms: i64,
}

impl Producer {
    async fn new(kafka: &Kafka, topic: &str, id: Option<&str>) -> Self {
        let stream = TcpStream::connect(kafka.brokers()).await.unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let id = id.map(|id| format!("{topic}.{id}"));
        let (producer, now_ms) = ((-1, -1), now.as_millis() as i64);
        let mut this = Self { stream, topic: topic.to_owned(), id, producer, sequence: -1, now_ms };
        if let Some(id) = this.id.clone() {
            this.settle(FIND_COORDINATOR, 4, |body| {
                body.text(&id);
                body.put([1]);
            })
            .await;
            let answer = this
                .settle(INIT_PRODUCER_ID, 4, |body| {
                    body.text(&id);
                    body.put(600_000_i32.to_be_bytes());
                })
                .await;
            let epoch = i16::from_be_bytes(answer[14..16].try_into().unwrap());
            this.producer = (i64::from_be_bytes(answer[6..14].try_into().unwrap()), epoch);
            this.sequence = 0;
        }
        this
    }

    /// Asks until the answer says no error, which is at this place in it; the answer without its header.
    async fn settle(&mut self, api: (i16, i16), error_at: usize, write: impl Fn(&mut Body)) -> Vec<u8> {
        let start = Instant::now();
        loop {
            let mut body = Body::new(api.1, false);
            write(&mut body);
            let header = [&api.0.to_be_bytes()[..], &api.1.to_be_bytes(), &[0, 0, 0, 1], &[0xFF; 2]].concat();
            let frame = [header, body.bytes].concat();
            self.stream.write_i32(frame.len() as i32).await.unwrap();
            self.stream.write_all(&frame).await.unwrap();
            let mut answer = vec![0; self.stream.read_i32().await.unwrap() as usize];
            self.stream.read_exact(&mut answer).await.unwrap();
            let answer = answer.split_off(4);
            let error = i16::from_be_bytes(answer[error_at..error_at + 2].try_into().unwrap());
            if error == 0 {
                return answer;
            }
            // The coordinator is not there yet, or still ends the transaction before.
            assert!(start.elapsed() < LIMIT, "call {} is refused: error {error}", api.0);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Begins a transaction.
    async fn begin(&mut self) {
        let (id, topic, producer) = (self.id.clone().unwrap(), self.topic.clone(), self.producer);
        let error_at = 4 + 4 + 2 + topic.len() + 4 + 4;
        self.settle(ADD_PARTITIONS, error_at, |body| {
            body.text(&id);
            body.put(producer.0.to_be_bytes());
            body.put(producer.1.to_be_bytes());
            body.length(1);
            body.text(&topic);
            body.length(1);
            body.put([0; 4]);
        })
        .await;
    }

    /// Appends a reading of this temperature, alone in its batch.
    async fn send(&mut self, temperature: i64) {
        let value =
            format!(r#"{{"timestamp":{HOUR_MS},"temperature":{temperature},"humidity":50,"wind_speed":5}}"#);
        let producer = match self.id {
            Some(_) => (self.producer.0, self.producer.1, self.sequence),
            None => NO_PRODUCER,
        };
        let batch = RawBatch {
            attributes: if self.id.is_some() { TRANSACTIONAL } else { 0 },
            last_offset_delta: 0,
            timestamp_ms: self.now_ms,
            record_count: 1,
            records: record(value.as_bytes()),
            producer,
        };
        let (batch, id, topic) = (batch.encode(), self.id.clone(), self.topic.clone());
        let error_at = 4 + 2 + topic.len() + 4 + 4;
        self.settle(PRODUCE, error_at, |body| {
            match &id {
                Some(id) => body.text(id),
                None => body.null_text(),
            }
            body.put((-1_i16).to_be_bytes());
            body.put(10_000_i32.to_be_bytes());
            body.length(1);
            body.text(&topic);
            body.length(1);
            body.put([0; 4]);
            body.length(batch.len());
            body.bytes.extend(&batch);
        })
        .await;
        self.sequence += 1;
    }

    async fn end(&mut self, commit: bool) {
        let (id, producer) = (self.id.clone().unwrap(), self.producer);
        self.settle(END_TRANSACTION, 4, |body| {
            body.text(&id);
            body.put(producer.0.to_be_bytes());
            body.put(producer.1.to_be_bytes());
            body.put([commit.into()]);
        })
        .await;
    }
}

/// A record of this value, without key and headers, as a batch of one holds it.
fn record(value: &[u8]) -> Vec<u8> {
    let zigzag = |length: usize| [(2 * length) as u8 | 0x80, (length >> 6) as u8];
    assert!((64..8_000).contains(&value.len()), "lengths are of two bytes here");
    let body = [&[0, 0, 0, 1][..], &zigzag(value.len()), value, &[0]].concat();
    [&zigzag(body.len())[..], &body].concat()
}

/// Waits until the table holds this many readings and reading has reached an offset.
async fn wait_for(pipeline: &Pipeline, readings: i64, next_offset: i64) {
    let start = Instant::now();
    loop {
        let offset = "SELECT coalesce(max(next_offset), -1)::bigint FROM weather_partition";
        let found = (pipeline.readings().await, pipeline.database.number(offset).await);
        if found == (readings, next_offset) {
            return;
        }
        assert!(start.elapsed() < LIMIT, "{found:?} in place of {:?}", (readings, next_offset));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn only_what_is_committed_counts_and_what_is_open_is_waited_for() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("transactions", 1).await;
    let start = async |id| Producer::new(&pipeline.kafka, &pipeline.topic, id).await;
    let mut committed = start(Some("committed")).await;
    let mut aborted = start(Some("aborted")).await;
    let mut open = start(Some("open")).await;
    let mut plain = start(None).await;

    for round in 0..10 {
        committed.begin().await;
        aborted.begin().await;
        for _ in 0..5 {
            committed.send(10).await;
            aborted.send(40).await;
            plain.send(20).await;
        }
        // In turns one ends within the other.
        if round % 2 == 0 {
            committed.end(true).await;
            aborted.end(false).await;
        } else {
            aborted.end(false).await;
            committed.end(true).await;
        }
    }
    open.begin().await;
    for _ in 0..3 {
        open.send(30).await;
        plain.send(20).await;
    }

    // 150 records and 20 markers lie before the open transaction; all but the 50 aborted ones count.
    let run = pipeline.spawn(&[]);
    pipeline.wait_for_tables().await;
    wait_for(&pipeline, 100, 170).await;
    assert_eq!(average(&pipeline).await, (50 * 10 + 50 * 20) * 1_000 / 100);

    open.end(true).await;
    wait_for(&pipeline, 106, 177).await;
    assert_eq!(average(&pipeline).await, (50 * 10 + 53 * 20 + 3 * 30) * 1_000 / 106);
    run.sigterm();
    run.succeed(END_LIMIT).await;
    let dead_letters = "SELECT count(*) FROM weather_dead_letter";
    assert_eq!(pipeline.database.number(dead_letters).await, 0);
}

/// The one window's average temperature, in thousandths of a degree.
async fn average(pipeline: &Pipeline) -> i64 {
    let query = "SELECT trunc((avg_temp * 1000)::numeric)::bigint FROM weather_summary";
    pipeline.database.number(query).await
}
