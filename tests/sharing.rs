//! Several processes on one topic: each partition is read once, whoever comes, goes or is killed.

mod support;

use std::time::{Duration, Instant};

use support::oracle::{Expected, Rules};
use support::pipeline::{Pipeline, RUN_LIMIT};
use support::{Kafka, Postgres, Weather};

/// Partitions that each live process holds, ascending by count.
async fn shares(pipeline: &Pipeline) -> Vec<i64> {
    let query = "SELECT count(*) FROM weather_partition WHERE lease_expires_at > clock_timestamp() \
                 GROUP BY owner ORDER BY 1";
    pipeline.database.query(query, &[]).await.iter().map(|row| row.get(0)).collect()
}

async fn wait_for_shares(pipeline: &Pipeline, wanted: &[i64], limit: Duration) -> Duration {
    let start = Instant::now();
    loop {
        let found = shares(pipeline).await;
        if found == wanted {
            return start.elapsed();
        }
        assert!(start.elapsed() < limit, "shares are {found:?}, expected {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn assert_exact(kafka: &Kafka, pipeline: &Pipeline) {
    let expected = Expected::of_topic(kafka, &pipeline.topic, Rules::default()).await;
    expected.assert_table(&pipeline.database).await;
}

async fn stop(run: Weather) {
    run.sigterm();
    run.succeed(Duration::from_secs(15)).await;
}

#[tokio::test]
async fn one_three_and_one_processes_under_load() {
    const LEASE: Duration = Duration::from_secs(3);
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let pipeline = Pipeline::new(&kafka, &support::unique("scaled"), postgres.database().await);
    let load = ["--rate", "20000", "--duration", "30s", "--partitions", "6", "--late-ratio", "0.01"];
    let producer = pipeline.spawn_producer(&load);
    let process = || pipeline.spawn(&["--lease", "3s"]);
    let first = process();
    first.wait_for_line("write OK", RUN_LIMIT).await;
    wait_for_shares(&pipeline, &[6], RUN_LIMIT).await;

    let (second, third) = (process(), process());
    let took = wait_for_shares(&pipeline, &[2, 2, 2], Duration::from_secs(20)).await;
    println!("three processes share after {took:?}");

    second.kill9().await;
    let took = wait_for_shares(&pipeline, &[3, 3], LEASE + Duration::from_secs(5)).await;
    println!("a killed one's share is taken after {took:?}");

    third.sigterm();
    let took = wait_for_shares(&pipeline, &[6], Duration::from_secs(5)).await;
    println!("an ended one's share is taken after {took:?}");
    third.succeed(Duration::from_secs(15)).await;

    producer.succeed(RUN_LIMIT).await;
    stop(first).await;
    pipeline.drain(&[]).await;
    assert_exact(&kafka, &pipeline).await;
}

#[tokio::test]
async fn partitions_given_by_hand_are_left_out_of_the_sharing() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let topic = kafka.topic("by_hand", 6).await;
    let pipeline = Pipeline::new(&kafka, &topic, postgres.database().await);
    let by_hand = pipeline.spawn(&["--assign", "0"]);
    by_hand.wait_for_line("took a partition", RUN_LIMIT).await;
    let auto = pipeline.spawn(&[]);
    wait_for_shares(&pipeline, &[1, 5], Duration::from_secs(20)).await;
    pipeline.produce(&["--count", "3000", "--rate", "0", "--backfill", "2h"]).await;
    pipeline.drain(&[]).await;
    assert_exact(&kafka, &pipeline).await;
    stop(by_hand).await;
    wait_for_shares(&pipeline, &[6], Duration::from_secs(20)).await;
    stop(auto).await;
}

#[tokio::test]
async fn a_bounded_run_ends_only_when_everything_is_read() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let topic = kafka.topic("bounded", 2).await;
    let pipeline = Pipeline::new(&kafka, &topic, postgres.database().await);
    let produce = async |count, seed| {
        pipeline.produce(&["--count", count, "--rate", "0", "--backfill", "3h", "--seed", seed]).await;
    };
    let read = "SELECT sum(aggregated + late)::bigint FROM weather_partition";
    produce("4000", "1").await;
    pipeline.drain(&[]).await;
    // The new log is shorter than what was read of the old one.
    kafka.delete_topic(&topic).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    kafka.create_topic(&topic, 2).await;
    produce("1000", "2").await;
    pipeline.drain(&[]).await;
    assert_eq!(pipeline.database.number(read).await, 5_000);
    // And every later run goes on from there.
    produce("3000", "3").await;
    pipeline.drain(&[]).await;
    assert_eq!(pipeline.database.number(read).await, 8_000);
    let ends = "SELECT sum(next_offset)::bigint FROM weather_partition";
    assert_eq!(pipeline.database.number(ends).await, 4_000);
}

#[tokio::test]
async fn a_bounded_run_that_is_ended_by_a_signal_says_so() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let topic = kafka.topic("interrupted", 2).await;
    let pipeline = Pipeline::new(&kafka, &topic, postgres.database().await);
    pipeline.produce(&["--count", "1000", "--rate", "0", "--backfill", "3h"]).await;
    // One partition is held by a process that stands still, so the run cannot come to its end.
    let holder = pipeline.spawn(&["--assign", "1", "--lease", "60s"]);
    holder.wait_for_line("write OK", RUN_LIMIT).await;
    holder.sigstop();
    pipeline.produce(&["--count", "1000", "--rate", "0", "--backfill", "3h"]).await;
    let run = pipeline.spawn(&["--until-latest"]);
    run.wait_for_line("write OK", RUN_LIMIT).await;
    run.sigterm();
    assert_eq!(run.wait(RUN_LIMIT).await.code(), Some(1), "{:?}", run.stderr());
    assert!(run.stderr().join("\n").contains("before everything was read"), "{:?}", run.stderr());
    holder.sigcont();
    stop(holder).await;
    pipeline.drain(&[]).await;
    assert_exact(&kafka, &pipeline).await;
}
