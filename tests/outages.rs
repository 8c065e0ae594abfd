//! Services that are absent, killed and away: no exit, no loss, no flood of lines, and on again by itself.

mod support;

use std::time::{Duration, Instant};

use support::kafka::Version;
use support::oracle::{Expected, Rules};
use support::pipeline::{Pipeline, RUN_LIMIT};
use support::{Kafka, Postgres};

/// How long either service is away.
const AWAY: Duration = Duration::from_secs(60);
/// How soon the work goes on when it is back.
const RESUMED: Duration = Duration::from_secs(30);

/// Waits until the table counts more readings than it does now.
async fn assert_resumes(pipeline: &Pipeline) {
    let count = "SELECT coalesce(sum(reading_count), 0)::bigint FROM weather_summary";
    let before = pipeline.database.number(count).await;
    let start = Instant::now();
    while pipeline.database.number(count).await == before {
        assert!(start.elapsed() < RESUMED, "the table stands still");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("resumed after {:?}", start.elapsed());
}

#[tokio::test]
async fn both_absent_at_start_then_each_away_for_a_minute() {
    let mut kafka = Kafka::private(Version::V4_1, &[]).await;
    let mut postgres = Postgres::private(&[]).await;
    let pipeline = Pipeline::new(&kafka, &support::unique("outages"), postgres.database().await);
    kafka.stop().await;
    postgres.stop().await;

    let producer = pipeline.spawn_producer(&["--interval", "6ms"]);
    let run = pipeline.spawn(&[]);
    run.wait_for_line("PostgreSQL at", RUN_LIMIT).await;
    producer.wait_for_line("not available", RUN_LIMIT).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    postgres.start().await;
    kafka.start().await;
    run.wait_for_line("write OK", RESUMED).await;

    postgres.kill().await;
    tokio::time::sleep(AWAY).await;
    postgres.start().await;
    assert_resumes(&pipeline).await;

    kafka.kill().await;
    tokio::time::sleep(AWAY).await;
    kafka.start().await;
    assert_resumes(&pipeline).await;

    producer.sigterm();
    producer.succeed(Duration::from_secs(20)).await;
    assert!(run.status().is_none());
    run.sigterm();
    run.succeed(Duration::from_secs(20)).await;
    pipeline.drain(&[]).await;
    let expected = Expected::of_topic(&kafka, &pipeline.topic, Rules::default()).await;
    expected.assert_table(&pipeline.database).await;

    let spoken = |lines: Vec<String>| lines.iter().filter(|line| line.contains("available")).count();
    let (said, producer_said) = (spoken(run.stderr()), spoken(producer.stderr()));
    assert!(said <= 8, "{said} lines about outages: {:#?}", run.stderr());
    assert!(producer_said <= 6, "{producer_said} lines about outages: {:#?}", producer.stderr());
}

#[tokio::test]
async fn postgresql_away_while_the_processor_is_killed_and_started() {
    let kafka = Kafka::shared();
    let mut postgres = Postgres::private(&[]).await;
    let pipeline = Pipeline::new(&kafka, &support::unique("away"), postgres.database().await);
    let producer = pipeline.spawn_producer(&["--rate", "2000", "--duration", "25s", "--partitions", "3"]);
    let run = pipeline.spawn(&["--checkpoint-interval", "200ms"]);
    run.wait_for_line("write OK", RUN_LIMIT).await;
    postgres.kill().await;
    run.wait_for_line("not available", RUN_LIMIT).await;
    // The checkpoint files go on without it.
    tokio::time::sleep(Duration::from_secs(3)).await;
    run.kill9().await;
    let second = pipeline.spawn(&["--checkpoint-interval", "200ms"]);
    second.wait_for_line("not available", RUN_LIMIT).await;
    postgres.start().await;
    second.wait_for_line("going on from the checkpoint file", RESUMED).await;
    producer.succeed(RUN_LIMIT).await;
    second.sigterm();
    second.succeed(Duration::from_secs(15)).await;
    pipeline.drain(&[]).await;
    let expected = Expected::of_topic(&kafka, &pipeline.topic, Rules::default()).await;
    expected.assert_table(&pipeline.database).await;
}

#[tokio::test]
async fn records_that_kafka_deleted_are_counted_as_lost() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let topic = kafka.topic("retention", 1).await;
    let pipeline = Pipeline::new(&kafka, &topic, postgres.database().await);
    pipeline.produce(&["--count", "1000", "--rate", "0", "--backfill", "2h"]).await;
    pipeline.drain(&[]).await;
    pipeline.produce(&["--count", "1000", "--rate", "0", "--backfill", "2h"]).await;
    let client = kafka.partition(&topic, 0).await;
    client.delete_records(1_400, 5_000).await.expect("records can be deleted");

    let refused = pipeline.spawn(&["--until-latest", "--on-data-loss", "stop"]);
    assert_eq!(refused.wait(RUN_LIMIT).await.code(), Some(1));
    assert!(refused.stderr().join("\n").contains("offsets 1000 to 1399 are lost"), "{:?}", refused.stderr());

    pipeline.drain(&[]).await;
    let row = &pipeline
        .database
        .query("SELECT lost, aggregated + late, next_offset FROM weather_partition", &[])
        .await[0];
    assert_eq!([0, 1, 2].map(|i| row.get::<_, i64>(i)), [400, 1_600, 2_000]);
}

#[tokio::test]
async fn a_recreated_topic_is_noticed_even_when_it_is_longer() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let topic = kafka.topic("recreated", 1).await;
    let pipeline = Pipeline::new(&kafka, &topic, postgres.database().await);
    pipeline.produce(&["--count", "1000", "--rate", "0", "--backfill", "2h"]).await;
    pipeline.drain(&[]).await;
    kafka.delete_topic(&topic).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    kafka.create_topic(&topic, 1).await;
    pipeline.produce(&["--count", "1500", "--rate", "0", "--backfill", "2h", "--seed", "5"]).await;
    let run = pipeline.drain(&[]).await;
    assert!(run.stderr().join("\n").contains("the topic was recreated"), "{:?}", run.stderr());
    let row = &pipeline
        .database
        .query("SELECT incarnation, aggregated + late, next_offset, next_offset - origin_offset FROM weather_partition", &[])
        .await[0];
    assert_eq!([0, 1, 2, 3].map(|i| row.get::<_, i64>(i)), [1, 2_500, 1_500, 2_500]);
}

#[tokio::test]
async fn a_deleted_topic_is_not_made_again_by_reading_it() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let topic = kafka.topic("deleted", 3).await;
    let pipeline = Pipeline::new(&kafka, &topic, postgres.database().await);
    pipeline.produce(&["--count", "600", "--rate", "0", "--backfill", "2h"]).await;
    let run = pipeline.spawn(&[]);
    run.wait_for_line("write OK", RUN_LIMIT).await;
    kafka.delete_topic(&topic).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let topics = kafka.client().await.list_topics().await.expect("Kafka answers");
    assert!(topics.iter().all(|found| found.name != topic), "{topics:?}");
    kafka.create_topic(&topic, 3).await;
    pipeline.produce(&["--count", "900", "--rate", "0", "--backfill", "2h", "--seed", "9"]).await;
    run.wait_for_line("the topic was recreated", RESUMED).await;
    run.sigterm();
    run.succeed(RUN_LIMIT).await;
    pipeline.drain(&[]).await;
    let read = "SELECT sum(aggregated + late)::bigint FROM weather_partition";
    assert_eq!(pipeline.database.number(read).await, 1_500);
}

#[tokio::test]
async fn new_partitions_are_found_while_running() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let topic = kafka.topic("grown", 1).await;
    let pipeline = Pipeline::new(&kafka, &topic, postgres.database().await);
    pipeline.produce(&["--count", "500", "--rate", "0", "--backfill", "2h"]).await;
    let run = pipeline.spawn(&[]);
    run.wait_for_line("write OK", RUN_LIMIT).await;
    kafka.add_partitions(&topic, 4);
    pipeline.produce(&["--count", "500", "--rate", "0", "--backfill", "1h"]).await;
    run.wait_for_line("took a partition partition=3", RESUMED).await;
    run.sigterm();
    run.succeed(RUN_LIMIT).await;
    pipeline.drain(&[]).await;
    let expected = Expected::of_topic(&kafka, &topic, Rules::default()).await;
    expected.assert_table(&pipeline.database).await;
}
