//! From a full topic to the table, `--until-latest`: the whole job next to the bare loop.

use std::collections::BTreeMap;

use super::common::figures::Figures;
use super::common::kafka::{Dress, Kafka};
use super::common::program::{self, Run};
use super::common::table::Table;
use super::common::{median, number, setting};

/// Of each topic.
pub const PARTITIONS: i32 = 4;
/// Of one fetch from one partition, for the bare loop.
pub const FETCH_BYTES: usize = 1 << 20;
/// What a reading takes in the embedded broker, at most.
const STORED_BYTES: usize = 200;

/// Fills topics, one for each dress of records, and reads them in turns.
pub async fn run() {
    let real = setting("WEATHER_BENCH_KAFKA").is_some();
    let count = number("WEATHER_BENCH_READINGS", if real { 4_000_000 } else { 500_000 });
    let kafka = Kafka::start(2 * count as usize * STORED_BYTES).await;
    let table = Table::named();
    if table.is_none() {
        println!(
            "end-to-end: without a database (WEATHER_BENCH_DATABASE_URL is not set), rows go to nowhere"
        );
    }
    let plain = kafka.filled("plain", PARTITIONS, count, Dress::Plain).await;
    let keyed = kafka.filled("keyed", PARTITIONS, count, Dress::Keyed).await;
    let mut runs: BTreeMap<&str, Vec<Run>> = BTreeMap::new();
    for _ in 0..number("WEATHER_BENCH_RUNS", 5) {
        for (name, topic) in [("process", &plain), ("process-keyed", &keyed)] {
            runs.entry(name).or_default().push(process(&kafka, topic, table.as_ref(), count, &[]).await);
        }
        for (name, topic, threads) in [("bare-1-thread", &plain, 1), ("bare-2-threads", &plain, 2)] {
            let loop_ = program::bare(&kafka.brokers, topic, PARTITIONS, threads, FETCH_BYTES);
            runs.entry(name).or_default().push(program::run(loop_).await);
        }
    }
    for (name, runs) in &runs {
        report(&format!("end-to-end/{name}"), runs, count);
    }
    ratios(&runs);
    kafka.delete(&plain).await;
    kafka.delete(&keyed).await;
}

/// One run over all of a topic, from no state at all, with these flags, too.
pub async fn process(kafka: &Kafka, topic: &str, table: Option<&Table>, count: u64, flags: &[&str]) -> Run {
    let folder = program::Folder::new();
    if let Some(table) = table {
        table.empty().await;
    }
    let common = [
        "process",
        "--brokers",
        &kafka.brokers,
        "--topic",
        topic,
        "--until-latest",
        "--listen",
        "",
        "--checkpoint-dir",
        folder.path(),
        "--database-url",
        table.map_or("none", Table::url),
    ];
    let run = program::run(program::command(&[&common[..], flags].concat())).await;
    if let Some(table) = table {
        // A run that loses readings is quick, too.
        assert_eq!(table.readings().await, count, "readings in the table");
    }
    run
}

/// Their figures.
pub fn report(name: &str, runs: &[Run], count: u64) {
    let mut figures = Figures::new(name, "run");
    for run in runs {
        figures.record(run.wall);
    }
    let middle = median(runs, |run| run.cpu.as_secs_f64());
    figures.items = count;
    figures.elapsed = median(runs, |run| run.wall.as_secs_f64()).wall;
    figures.cpu = middle.cpu;
    figures.peak_rss_bytes = runs.iter().map(|run| run.peak_rss_bytes).max().unwrap_or(0);
    figures.report();
}

/// The median of the ratios of runs side by side.
pub fn ratio(runs: &[Run], beside: &[Run], key: fn(&Run) -> f64) -> f64 {
    let ratios: Vec<f64> = runs.iter().zip(beside).map(|(run, beside)| key(run) / key(beside)).collect();
    median(&ratios, |ratio| *ratio)
}

fn ratios(runs: &BTreeMap<&str, Vec<Run>>) {
    let pairs = [("process", "bare-1-thread"), ("process", "bare-2-threads"), ("process-keyed", "process")];
    for (a, b) in pairs {
        let of = |key| ratio(&runs[a], &runs[b], key);
        let (cpu, wall) = (of(|run| run.cpu.as_secs_f64()), of(|run| run.wall.as_secs_f64()));
        println!("end-to-end: {a} / {b}: CPU × {cpu:.2}, wall × {wall:.2}");
    }
}
