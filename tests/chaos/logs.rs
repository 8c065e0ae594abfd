//! What happens to the topic: records deleted before they were read, a log that is cut, deleted, made again.
//!
//! The oracle recomputes what could be read, in the order in which it could be: the records that were there before, then
//! those that came after. On the embedded broker, whose logs can be cut at will.

use rskafka::record::RecordAndOffset;
use weather::embedded::{Broker, Options};

use crate::rig::{END_LIMIT, RESUMED, Rig};
use crate::support::oracle::{Expected, Rules};
use crate::support::pipeline::RUN_LIMIT;
use crate::support::{Kafka, Postgres, Weather, poll};

/// A broker with a topic of one partition that holds 2,000 readings, all of them in the table.
async fn read_up(label: &str) -> (Broker, Rig, Vec<RecordAndOffset>) {
    let broker = Broker::start(Options::default()).await.expect("a broker");
    let kafka = Kafka::at(broker.address().port());
    let rig = Rig::without_audit(kafka, &Postgres::shared(), label, 1).await;
    produce(&rig, "1").await;
    produce(&rig, "2").await;
    rig.drain().await;
    let log = rig.kafka.read(&rig.topic, 0).await;
    assert_eq!(log.len(), 2_000);
    (broker, rig, log)
}

/// 1,000 readings of three hours, of which some are late.
async fn produce(rig: &Rig, seed: &str) {
    let arguments =
        ["--count", "1000", "--rate", "0", "--backfill", "3h", "--late-ratio", "0.05", "--partitions", "1"];
    rig.producer(&[&arguments[..], &["--seed", seed]].concat()).succeed(RUN_LIMIT).await;
}

/// Compares the windows with those of the records, and the counters with their number.
async fn assert_exact(rig: &Rig, log: &[RecordAndOffset], lost: i64) {
    rig.drain().await;
    let expected = Expected::of_log(&rig.topic, log, Rules::default());
    expected.assert_windows(&rig.database).await;
    let counted = rig.database.number("SELECT aggregated + late FROM weather_partition").await;
    let said = rig.database.number("SELECT lost FROM weather_partition").await;
    assert_eq!((counted, said), (log.len() as i64, lost));
    println!("{}: exact, {:?}", rig.topic, expected.counts());
}

#[tokio::test]
async fn records_deleted_before_they_were_read_are_counted_as_lost() {
    let _turn = crate::together().await;
    let (broker, rig, mut log) = read_up("chaos_retention").await;
    produce(&rig, "3").await;
    let earliest = broker.delete_records(&rig.topic, 0, 2_400).expect("there are 3,000");
    log.extend(rig.kafka.read(&rig.topic, 0).await);
    assert_eq!((earliest, log.len()), (2_400, 2_600));
    assert_exact(&rig, &log, 400).await;
}

#[tokio::test]
async fn a_log_cut_while_it_is_read_goes_on_at_its_new_end() {
    let _turn = crate::together().await;
    let (broker, rig, mut log) = read_up("chaos_cut").await;
    let process = rig.process("one", &[]);
    process.wait_for_line("took a partition", RUN_LIMIT).await;
    let end = broker.truncate(&rig.topic, 0, 1_600).expect("it can be cut");
    assert!((1..2_000).contains(&end), "whole batches go: the log ends at {end}");
    broker.drop_connections().await;
    process.wait_for_line("the log was cut behind what was read", RESUMED).await;
    produce(&rig, "2").await;
    log.extend(rig.kafka.read(&rig.topic, 0).await.into_iter().filter(|record| record.offset >= end));
    process.sigterm();
    process.succeed(END_LIMIT).await;
    assert_exact(&rig, &log, 0).await;
}

#[tokio::test]
async fn a_topic_deleted_and_made_again_while_it_is_read_is_read_from_its_start() {
    let _turn = crate::together().await;
    let (broker, rig, mut log) = read_up("chaos_deleted").await;
    let process = rig.process("one", &[]);
    process.wait_for_line("took a partition", RUN_LIMIT).await;
    broker.delete_topic(&rig.topic).expect("it is there");
    broker.drop_connections().await;
    process.wait_for_line("there is no partition", RESUMED).await;
    broker.create_topic(&rig.topic, 1).expect("the name is free");
    produce(&rig, "2").await;
    process.wait_for_line("the topic was recreated", RESUMED).await;
    log.extend(rig.kafka.read(&rig.topic, 0).await);
    process.sigterm();
    process.succeed(END_LIMIT).await;
    assert_exact(&rig, &log, 0).await;
}

#[tokio::test]
async fn a_topic_made_again_and_filled_further_meanwhile_is_read_from_its_start() {
    let _turn = crate::together().await;
    let (broker, rig, mut log) = read_up("chaos_recreated").await;
    broker.delete_topic(&rig.topic).expect("it is there");
    broker.create_topic(&rig.topic, 1).expect("the name is free");
    for seed in ["3", "4", "5"] {
        produce(&rig, seed).await;
    }
    log.extend(rig.kafka.read(&rig.topic, 0).await);
    assert_exact(&rig, &log, 0).await;
}

#[tokio::test]
async fn partitions_added_while_running_are_read_too() {
    let _turn = crate::together().await;
    let broker = Broker::start(Options::default()).await.expect("a broker");
    let kafka = Kafka::at(broker.address().port());
    let rig = Rig::new(kafka, &Postgres::shared(), "chaos_grown", 1).await;
    let (first, second) = (rig.process("first", &[]), rig.process("second", &[]));
    rig.producer(&["--count", "1000", "--rate", "0", "--backfill", "3h"]).succeed(RUN_LIMIT).await;
    broker.add_partitions(&rig.topic, 4).expect("there was one");
    rig.producer(&["--count", "3000", "--rate", "0", "--backfill", "1h", "--seed", "2"])
        .succeed(RUN_LIMIT)
        .await;
    let took = |run: &Weather| run.stderr().iter().filter(|line| line.contains("took a partition")).count();
    let shared = poll(RESUMED, || (took(&first) >= 2 && took(&second) >= 2).then_some(())).await;
    assert!(shared.is_some(), "{} and {} partitions", took(&first), took(&second));
    rig.assert_exact(&[&first, &second]).await;
}
