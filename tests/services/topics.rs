//! What happens to the topic: records deleted before they were read, a log that is cut, a deleted and recreated topic, new
//! partitions.
//!
//! The oracle recomputes what could be read, in the order in which it could be: the records that were there before, then
//! those that came after. On Apache Kafka, except for the log that is cut, which only the embedded broker can do on demand.

use rskafka::record::RecordAndOffset;
use weather::embedded::{Broker, Options};

use crate::support::kafka::record;
use crate::support::oracle::{Expected, Rules};
use crate::support::pipeline::{END_LIMIT, RESUMED, RUN_LIMIT};
use crate::support::{Kafka, Pipeline, Postgres, Weather, poll, turn};

/// Writes 2,000 readings of one partition into the table; what the log holds then.
async fn read_up(pipeline: &Pipeline) -> Vec<RecordAndOffset> {
    produce(pipeline, "1").await;
    produce(pipeline, "2").await;
    pipeline.drain().await;
    let log = pipeline.kafka.read(&pipeline.topic, 0).await;
    assert_eq!(log.len(), 2_000);
    log
}

/// 1,000 readings of three hours, of which some are late.
async fn produce(pipeline: &Pipeline, seed: &str) {
    let arguments =
        ["--count", "1000", "--rate", "0", "--backfill", "3h", "--late-ratio", "0.05", "--partitions", "1"];
    pipeline.produce(&[&arguments[..], &["--seed", seed]].concat()).await;
}

/// The row of `weather_partition`: incarnation, aggregated or late, lost, next offset.
async fn row(pipeline: &Pipeline) -> [i64; 4] {
    let query = "SELECT incarnation, aggregated + late, lost, next_offset FROM weather_partition";
    let row = &pipeline.database.query(query, &[]).await[0];
    [0, 1, 2, 3].map(|column| row.get(column))
}

/// Compares the windows with those of the records.
async fn assert_windows(pipeline: &Pipeline, log: &[RecordAndOffset]) {
    let expected = Expected::of_log(&pipeline.topic, log, Rules::default());
    expected.assert_windows(&pipeline.database).await;
    println!("{}: exact, {:?}", pipeline.topic, expected.counts());
}

/// Deletes the topic, and waits until it is gone.
async fn delete(pipeline: &Pipeline) {
    pipeline.kafka.delete_topic(&pipeline.topic).await;
    for _ in 0..100 {
        let topics = pipeline.kafka.client().await.list_topics().await.expect("Kafka answers");
        if topics.iter().all(|topic| topic.name != pipeline.topic) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{} is still there", pipeline.topic);
}

async fn end(run: &Weather) {
    run.sigterm();
    run.succeed(END_LIMIT).await;
}

#[tokio::test]
async fn records_deleted_before_they_were_read_are_counted_as_lost() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("retention", 1).await;
    let mut log = read_up(&pipeline).await;
    produce(&pipeline, "3").await;
    let client = pipeline.kafka.partition(&pipeline.topic, 0).await;
    client.delete_records(2_400, 5_000).await.expect("records can be deleted");
    log.extend(pipeline.kafka.read(&pipeline.topic, 0).await);
    assert_eq!(log.len(), 2_600);

    let refused = pipeline.spawn(&["--until-latest", "--on-data-loss", "stop"]);
    assert_eq!(refused.wait(RUN_LIMIT).await.code(), Some(1));
    let said = refused.stderr().join("\n");
    assert!(said.contains("offsets 2000 to 2399 are lost"), "{said}");
    pipeline.drain().await;
    assert_windows(&pipeline, &log).await;
    assert_eq!(row(&pipeline).await[1..], [2_600, 400, 3_000]);
}

#[tokio::test]
async fn a_log_cut_while_it_is_read_goes_on_at_its_new_end() {
    let _turn = turn::light().await;
    let broker = Broker::start(Options::default()).await.expect("a broker");
    broker.create_topic("cut", 1).expect("the broker is new");
    let kafka = Kafka::at(broker.address().port());
    let pipeline = Pipeline::of_topic(kafka, &Postgres::shared(), "cut").await;
    let mut log = read_up(&pipeline).await;
    let process = pipeline.spawn(&[]);
    process.wait_for_line("took a partition", RUN_LIMIT).await;
    let cut = broker.truncate(&pipeline.topic, 0, 1_600).expect("it can be cut");
    assert!((1..2_000).contains(&cut), "whole batches go: the log ends at {cut}");
    broker.drop_connections().await;
    process.wait_for_line("the log was truncated below what was read", RESUMED).await;
    produce(&pipeline, "2").await;
    let rest = pipeline.kafka.read(&pipeline.topic, 0).await;
    log.extend(rest.into_iter().filter(|record| record.offset >= cut));
    end(&process).await;
    pipeline.drain().await;
    assert_windows(&pipeline, &log).await;
    assert_eq!(row(&pipeline).await[1..3], [log.len() as i64, 0]);
}

#[tokio::test]
async fn a_topic_deleted_while_it_is_read_is_not_made_again_but_read_from_its_start_when_it_is() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("deleted", 1).await;
    let mut log = read_up(&pipeline).await;
    let process = pipeline.spawn(&[]);
    process.wait_for_line("took a partition", RUN_LIMIT).await;
    delete(&pipeline).await;
    process.wait_for_line("there is no partition", RESUMED).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let topics = pipeline.kafka.client().await.list_topics().await.expect("Kafka answers");
    assert!(topics.iter().all(|found| found.name != pipeline.topic), "reading has created it again");
    pipeline.kafka.create_topic(&pipeline.topic, 1).await;
    produce(&pipeline, "2").await;
    process.wait_for_line("the topic was recreated", RESUMED).await;
    log.extend(pipeline.kafka.read(&pipeline.topic, 0).await);
    end(&process).await;
    pipeline.drain().await;
    assert_windows(&pipeline, &log).await;
    assert_eq!(row(&pipeline).await, [1, 3_000, 0, 1_000]);
}

#[tokio::test]
async fn a_recreated_topic_is_noticed_even_when_it_is_longer() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("recreated", 1).await;
    let mut log = read_up(&pipeline).await;
    delete(&pipeline).await;
    pipeline.kafka.create_topic(&pipeline.topic, 1).await;
    for seed in ["3", "4", "5"] {
        produce(&pipeline, seed).await;
    }
    log.extend(pipeline.kafka.read(&pipeline.topic, 0).await);
    let run = pipeline.drain().await;
    assert!(run.stderr().join("\n").contains("the topic was recreated"), "{:?}", run.stderr());
    assert_windows(&pipeline, &log).await;
    assert_eq!(row(&pipeline).await, [1, 5_000, 0, 3_000]);
}

#[tokio::test]
async fn partitions_added_while_running_are_read_too() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::audited(Kafka::shared(), &Postgres::shared(), "grown", 1).await;
    let (first, second) = (pipeline.process("first", &[]), pipeline.process("second", &[]));
    pipeline.produce(&["--count", "1000", "--rate", "0", "--backfill", "3h"]).await;
    pipeline.kafka.add_partitions(&pipeline.topic, 4);
    pipeline.produce(&["--count", "3000", "--rate", "0", "--backfill", "1h", "--seed", "2"]).await;
    let took = |run: &Weather| run.stderr().iter().filter(|line| line.contains("took a partition")).count();
    let shared = poll(RESUMED, || (took(&first) >= 2 && took(&second) >= 2).then_some(())).await;
    assert!(shared.is_some(), "{} and {} partitions", took(&first), took(&second));
    pipeline.assert_exact(&[&first, &second]).await;
}

#[tokio::test]
async fn a_topic_recreated_with_fewer_partitions_is_shared_whole() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("fewer", 6).await;
    let processes = ["first", "second"].map(|name| pipeline.process(name, &[]));
    let owned = async |which: &str, count: i64| {
        let query = format!(
            "SELECT count(*) FROM weather_partition WHERE {which} AND lease_expires_at > clock_timestamp()"
        );
        let start = std::time::Instant::now();
        while !pipeline.database.has_table("weather_partition").await
            || pipeline.database.number(&query).await != count
        {
            assert!(start.elapsed() < RUN_LIMIT, "not {count} partitions with an owner where {which}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    owned("true", 6).await;
    for process in &processes {
        process.wait_for_line("took a partition", RUN_LIMIT).await;
    }
    delete(&pipeline).await;
    pipeline.kafka.create_topic(&pipeline.topic, 2).await;
    owned("partition >= 2", 0).await;
    owned("partition < 2", 2).await;
    pipeline.produce(&["--count", "1000", "--rate", "0", "--partitions", "2"]).await;
    pipeline.assert_exact(&[&processes[0], &processes[1]]).await;
    assert_eq!(pipeline.readings().await, 1_000);
}

/// What is written before it is noticed would otherwise be neither read nor counted.
#[tokio::test]
async fn a_partition_that_appears_is_read_from_its_start_whatever_from_says() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("appeared", 1).await;
    pipeline.produce(&["--count", "100", "--rate", "0", "--partitions", "1"]).await;
    let process = pipeline.spawn(&["--from", "latest"]);
    process.wait_for_line("took a partition", RUN_LIMIT).await;
    pipeline.kafka.add_partitions(&pipeline.topic, 2);
    let value = format!(r#"{{"timestamp":{},"temperature":20}}"#, weather::time::now_ms());
    pipeline.kafka.produce(&pipeline.topic, 1, vec![record(value); 500]).await;
    process.wait_for_line("took a partition partition=1", RESUMED).await;
    process.sigterm();
    process.succeed(END_LIMIT).await;
    let read = "SELECT aggregated + 1000 * lost FROM weather_partition WHERE partition = 1";
    pipeline.drain().await;
    assert_eq!(pipeline.database.number(read).await, 500);
}
