//! Killed or asked to end at any moment: the table stays exact.

use std::time::Duration;

use crate::support::pipeline::RUN_LIMIT;
use crate::support::{Kafka, Pipeline, Weather, turn, unique};

/// Kills of the processor in one run.
const KILLS: u32 = 20;

/// A load of readings of which some are late and some malformed.
const BAD: [&str; 4] = ["--late-ratio", "0.01", "--malformed-ratio", "0.001"];

#[tokio::test]
async fn sigkill_at_random_moments_under_load() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::new("kills").await;
    let load = ["--rate", "5000", "--duration", "40s", "--partitions", "4"];
    let producer = pipeline.producer(&[&load[..], &BAD[..]].concat());
    // Moments of every step: between start and first record, within fetches, flushes and checkpoint writes.
    let mut dice = 0x2545_f491_4f6c_dd1d_u64;
    println!("seed {dice:#x}");
    for _ in 0..KILLS {
        let run = pipeline.spawn(&["--checkpoint-interval", "100ms", "--flush-interval", "20ms"]);
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        tokio::time::sleep(Duration::from_millis(100 + dice % 1_500)).await;
        assert!(run.status().is_none(), "it runs until it is killed: {:?}", run.stderr());
        run.kill9().await;
    }
    producer.succeed(RUN_LIMIT).await;
    pipeline.drain().await;
    pipeline.assert_table().await;
}

#[tokio::test]
async fn sigterm_flushes_checkpoints_and_ends_well() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::new("terms").await;
    let producer = pipeline.producer(&["--rate", "5000", "--duration", "15s", "--partitions", "4"]);
    for _ in 0..5 {
        let run = pipeline.spawn(&[]);
        run.wait_for_line("write OK", RUN_LIMIT).await;
        run.sigterm();
        run.succeed(Duration::from_secs(5)).await;
        let held = "SELECT count(*) FROM weather_partition WHERE owner IS NOT NULL";
        assert_eq!(pipeline.database.number(held).await, 0, "leases are given back");
    }
    producer.succeed(RUN_LIMIT).await;
    let run = pipeline.drain().await;
    let from_file =
        run.stderr().iter().filter(|line| line.contains("continuing from the checkpoint file")).count();
    assert_eq!(from_file, 4, "{:?}", run.stderr());
    pipeline.assert_table().await;
}

#[tokio::test]
async fn sigterm_of_the_producer_loses_nothing_that_it_accepted() {
    let _turn = turn::light().await;
    let kafka = Kafka::shared();
    let topic = unique("accepted");
    let arguments = ["producer", "--brokers", &kafka.brokers(), "--topic", &topic, "--rate", "20000"];
    let producer = Weather::spawn(arguments);
    producer.wait_for_line("Sent: {", RUN_LIMIT).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    producer.sigterm();
    producer.succeed(Duration::from_secs(10)).await;
    let summary =
        producer.stdout().into_iter().find(|line| line.starts_with("Summary: ")).expect("a summary");
    let number = |name: &str| {
        let (_, rest) = summary.split_once(&format!("{name}=")).expect("the summary has it");
        rest.split(' ').next().and_then(|n| n.parse::<i64>().ok()).expect("a number")
    };
    let mut stored = 0;
    for partition in kafka.partitions(&topic).await {
        stored += kafka.offsets(&topic, partition).await.1;
    }
    assert!(stored > 1_000);
    assert_eq!((number("sent"), number("acknowledged")), (stored, stored), "{summary}");
}
