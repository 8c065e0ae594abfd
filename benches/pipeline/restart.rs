//! From the start of a killed process to the first record that it has read and written.

use std::time::{Duration, Instant};

use rskafka::chrono::DateTime;
use rskafka::client::partition::Compression;

use super::common::figures::Figures;
use weather::time::now_ms;

use super::common::kafka::{Kafka, record};
use super::common::number;
use super::common::program::{self, Folder};
use super::common::readings::{self, Form};
use super::common::table::Table;
use crate::support::{Process, poll};

const PARTITIONS: i32 = 6;
const WINDOWS: i64 = 100;
const HOUR_MS: i64 = 3_600_000;
const LIMIT: Duration = Duration::from_secs(30);

/// Kills and starts again a process that holds 100 open windows in each of 6 partitions.
pub async fn run() {
    let Some(table) = Table::named() else {
        println!("restart: left out, WEATHER_BENCH_DATABASE_URL is not set");
        return;
    };
    let kafka = Kafka::start(64 << 20).await;
    let topic = kafka.topic("restart", PARTITIONS).await;
    let folder = Folder::new();
    table.empty().await;
    let mut sent = 0;
    for hour in (1..=WINDOWS).rev() {
        sent += append(&kafka, &topic, now_ms() - hour * HOUR_MS).await;
    }
    let mut process = start(&kafka, &topic, &table, &folder);
    wait_for(&table, sent).await;
    let mut figures = Figures::new("restart/6-partitions-100-windows", "restart");
    for _ in 0..2 * number("WEATHER_BENCH_RUNS", 5) {
        process.signal("KILL");
        process.wait(LIMIT).await.expect("a killed process ends");
        sent += append(&kafka, &topic, now_ms()).await;
        let begin = Instant::now();
        process = start(&kafka, &topic, &table, &folder);
        wait_for(&table, sent).await;
        figures.record(begin.elapsed());
        figures.elapsed += begin.elapsed();
        figures.items += 1;
        let usage = process.usage();
        figures.cpu += usage.cpu;
        figures.peak_rss_bytes = figures.peak_rss_bytes.max(usage.peak_rss_bytes);
    }
    figures.report();
    drop(process);
    kafka.delete(&topic).await;
}

fn start(kafka: &Kafka, topic: &str, table: &Table, folder: &Folder) -> Process {
    program::spawn(program::command(&[
        "process",
        "--brokers",
        &kafka.brokers,
        "--topic",
        topic,
        "--listen",
        "",
        "--checkpoint-dir",
        folder.path(),
        "--database-url",
        table.url(),
        "--watermark",
        "200h",
        "--flush-interval",
        "5ms",
    ]))
}

/// One reading of this time into each partition; how many.
async fn append(kafka: &Kafka, topic: &str, event_ms: i64) -> u64 {
    let stamp = DateTime::from_timestamp_millis(now_ms()).expect("a time of this age");
    for partition in 0..PARTITIONS {
        let mut value = Vec::new();
        readings::write(Form::EpochMs, 0, event_ms, &mut value);
        let connection = kafka.partition(topic, partition).await;
        let produced = connection.produce(vec![record(value, stamp)], Compression::NoCompression);
        produced.await.expect("a record is taken");
    }
    PARTITIONS as u64
}

/// Waits until the table counts this many readings.
async fn wait_for(table: &Table, readings: u64) {
    const SUM: &str = "SELECT coalesce(sum(next_offset), 0)::bigint FROM weather_partition";
    let client = table.connect().await;
    let begin = Instant::now();
    loop {
        // The tables come with the first start.
        if let Ok(row) = client.query_one(SUM, &[]).await
            && row.get::<_, i64>(0) >= i64::try_from(readings).expect("a count")
        {
            return;
        }
        assert!(begin.elapsed() < LIMIT, "the table lacks readings after {LIMIT:?}");
        let _ = poll(Duration::from_millis(1), || None::<()>).await;
    }
}
