//! From append to visible row: how old a reading is when a query sees it.
//!
//! Probes go to the topic on a fixed schedule. Each counts from when it was due to be sent, so that a late sender hides
//! nothing, until a query shows its partition's state at or beyond its offset: `weather_partition` changes in the same
//! transaction as `weather_summary`. So sending, the broker, the flush's interval and the query itself are all inside.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rskafka::chrono::DateTime;
use rskafka::client::partition::{Compression, PartitionClient};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::common::figures::Figures;
use weather::time::now_ms;

use super::common::kafka::{Kafka, record};
use super::common::number;
use super::common::program::{self, Folder};
use super::common::readings::{self, Form};
use super::common::table::Table;

const PARTITIONS: usize = 4;
/// 10,000 a minute.
const EVERY: Duration = Duration::from_millis(6);
/// Between two queries: what a time may be too long by.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Longest that a probe may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Not counted: connections are made, tables are set up.
const WARM_UP: Duration = Duration::from_secs(2);

/// A probe in the topic, and when it was due.
type Sent = Arc<Mutex<[VecDeque<(i64, Instant)>; PARTITIONS]>>;

/// At the producer's default rate, and with 50,000 a second next to the probes.
pub async fn run() {
    let Some(table) = Table::named() else {
        println!("latency: left out, WEATHER_BENCH_DATABASE_URL is not set");
        return;
    };
    case("latency/10k-a-minute", &table, None, &[]).await;
    case("latency/10k-a-minute-flush-5ms", &table, None, &["--flush-interval", "5ms"]).await;
    case("latency/50k-a-second", &table, Some("50000"), &[]).await;
}

async fn case(name: &str, table: &Table, load: Option<&str>, flags: &[&str]) {
    if !super::common::wanted(name) {
        return;
    }
    let kafka = Kafka::start(64 << 20).await;
    let topic = kafka.topic("latency", PARTITIONS as i32).await;
    let mut partitions = Vec::new();
    for partition in 0..PARTITIONS as i32 {
        partitions.push(Arc::new(kafka.partition(&topic, partition).await));
    }
    table.empty().await;
    let folder = Folder::new();
    let common = ["process", "--brokers", &kafka.brokers, "--topic", &topic, "--listen", ""];
    let own = ["--checkpoint-dir", folder.path(), "--database-url", table.url()];
    let process = program::spawn(program::command(&[&common[..], &own, flags].concat()));
    let _load = load.map(|rate| {
        let common = ["producer", "--brokers", &kafka.brokers, "--topic", &topic, "--log-sent", "none"];
        program::spawn(program::command(&[&common[..], &["--rate", rate]].concat()))
    });
    wait_for_tables(table).await;
    let length = Duration::from_secs(number("WEATHER_BENCH_SECONDS", 20));
    let sent = Sent::default();
    let probes = tokio::spawn(send(partitions, length + WARM_UP, Arc::clone(&sent)));
    let (before, begin) = (process.usage(), Instant::now());
    let mut figures = watch(name, &table.connect().await, &sent, &probes).await;
    figures.elapsed = begin.elapsed();
    let usage = process.usage();
    figures.cpu = usage.cpu - before.cpu;
    figures.peak_rss_bytes = usage.peak_rss_bytes;
    figures.report();
    drop(process);
    kafka.delete(&topic).await;
}

/// Sends the probes, each when it is due, whether or not the one before is acknowledged.
async fn send(partitions: Vec<Arc<PartitionClient>>, length: Duration, sent: Sent) {
    let begin = Instant::now();
    let mut number = 0;
    let mut tasks = tokio::task::JoinSet::new();
    while begin.elapsed() < length {
        let due = begin + EVERY * number;
        tokio::time::sleep_until(due.into()).await;
        let at = number as usize % PARTITIONS;
        let (partition, sent) = (Arc::clone(&partitions[at]), Arc::clone(&sent));
        tasks.spawn(async move {
            let stamp = DateTime::from_timestamp_millis(now_ms()).expect("a time of this age");
            let mut value = Vec::new();
            readings::write(Form::EpochMs, 0, now_ms(), &mut value);
            let produced = partition.produce(vec![record(value, stamp)], Compression::NoCompression);
            let offsets = produced.await.expect("a record is taken");
            let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent[at].push_back((offsets[0], due));
        });
        number += 1;
    }
    tasks.join_all().await;
}

/// Looks at the table until every probe was seen, and notes how old each was then.
///
/// # Panics
/// When one is not seen within [`LIMIT`] of the last: that is no latency, it is a loss.
async fn watch(name: &str, client: &Client, sent: &Sent, probes: &JoinHandle<()>) -> Figures {
    const STATES: &str = "SELECT partition, next_offset FROM weather_partition";
    let statement = client.prepare(STATES).await.expect("the tables are there");
    let mut figures = Figures::new(name, "reading");
    let begin = Instant::now();
    let mut last_sent = begin;
    while !probes.is_finished() || sent_and_unseen(sent) {
        if !probes.is_finished() {
            last_sent = Instant::now();
        }
        assert!(last_sent.elapsed() < LIMIT, "readings are not in the table after {LIMIT:?}");
        let rows = client.query(&statement, &[]).await.expect("PostgreSQL answers");
        let now = Instant::now();
        for row in rows {
            let (partition, next_offset): (i32, Option<i64>) = (row.get(0), row.get(1));
            for due in take_seen(sent, partition as usize, next_offset.unwrap_or(0)) {
                if due > begin + WARM_UP {
                    figures.record(now - due);
                    figures.items += 1;
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    figures
}

fn sent_and_unseen(sent: &Sent) -> bool {
    sent.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|waiting| !waiting.is_empty())
}

/// Takes out the probes below an offset; when they were due. Answers may come out of order: offsets are what counts.
fn take_seen(sent: &Sent, partition: usize, next_offset: i64) -> Vec<Instant> {
    let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
    let seen =
        sent[partition].iter().filter(|(offset, _)| *offset < next_offset).map(|(_, due)| *due).collect();
    sent[partition].retain(|(offset, _)| *offset >= next_offset);
    seen
}

async fn wait_for_tables(table: &Table) {
    let client = table.connect().await;
    let begin = Instant::now();
    let ready = "SELECT count(*) FROM weather_partition WHERE next_offset IS NOT NULL";
    loop {
        match client.query_one(ready, &[]).await {
            Ok(row) if row.get::<_, i64>(0) == PARTITIONS as i64 => return,
            _ => assert!(begin.elapsed() < Duration::from_secs(30), "the process does not begin"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
