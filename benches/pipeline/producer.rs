//! `weather producer --rate 0`: how fast readings are made, sent and acknowledged.

use super::common::figures::Figures;
use super::common::kafka::Kafka;
use super::common::program::{self, Run};
use super::common::{median, number, setting};

const PARTITIONS: i32 = 4;

/// As many readings as fast as it goes, with each codec.
pub async fn run() {
    let real = setting("WEATHER_BENCH_KAFKA").is_some();
    let count = number("WEATHER_BENCH_READINGS", if real { 4_000_000 } else { 500_000 });
    // The oldest readings make room for new ones: they are never read.
    let kafka = Kafka::start(64 << 20).await;
    for compression in ["none", "snappy"] {
        let mut runs = Vec::new();
        for _ in 0..number("WEATHER_BENCH_RUNS", 5) {
            runs.push(produce(&kafka, count, compression).await);
        }
        let mut figures = Figures::new(format!("producer/{compression}"), "run");
        runs.iter().for_each(|run| figures.record(run.wall));
        figures.items = count;
        figures.elapsed = median(&runs, |run| run.wall.as_secs_f64()).wall;
        figures.cpu = median(&runs, |run| run.cpu.as_secs_f64()).cpu;
        figures.peak_rss_bytes = runs.iter().map(|run| run.peak_rss_bytes).max().unwrap_or(0);
        figures.report();
    }
}

async fn produce(kafka: &Kafka, count: u64, compression: &str) -> Run {
    let topic = kafka.topic("produced", PARTITIONS).await;
    // Led before the clock runs.
    for partition in 0..PARTITIONS {
        kafka.partition(&topic, partition).await;
    }
    let run = program::run(program::command(&[
        "producer",
        "--brokers",
        &kafka.brokers,
        "--topic",
        &topic,
        "--rate",
        "0",
        "--count",
        &count.to_string(),
        "--compression",
        compression,
        "--log-sent",
        "none",
    ]))
    .await;
    kafka.delete(&topic).await;
    run
}
