//! Services that are absent, killed and away: no exit, no loss, no flood of log lines, and it continues by itself.

use std::time::Duration;

use weather::embedded::{Api, Broker, ErrorCode, Fault, FaultRule, Options};

use crate::support::kafka::Version;
use crate::support::pipeline::{END_LIMIT, RESUMED, RUN_LIMIT};
use crate::support::proxy::Protocol;
use crate::support::{Kafka, Pipeline, Postgres, Proxy, Served, Weather, turn, unique};

/// How long either service is away.
const AWAY: Duration = Duration::from_secs(60);
const LOAD: [&str; 6] = ["--rate", "4000", "--late-ratio", "0.01", "--linger", "20ms"];

#[tokio::test]
async fn both_absent_at_start_then_each_away_for_a_minute() {
    let _turn = turn::heavy().await;
    let (kafka, mut postgres) = tokio::join!(Kafka::private(Version::V4_1, &[]), Postgres::private(&[]));
    let mut pipeline = Pipeline::of_topic(kafka, &postgres, &unique("outages")).await;
    pipeline.kafka.stop().await;
    postgres.stop().await;

    let producer = pipeline.producer(&["--interval", "6ms"]);
    let run = pipeline.spawn(&[]);
    run.wait_for_line("PostgreSQL at", RUN_LIMIT).await;
    producer.wait_for_line("not available", RUN_LIMIT).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    postgres.start().await;
    pipeline.kafka.start().await;
    run.wait_for_line("write OK", RESUMED).await;

    postgres.kill().await;
    tokio::time::sleep(AWAY).await;
    postgres.start().await;
    println!("continues after {:?}", pipeline.wait_for_more().await);

    pipeline.kafka.kill().await;
    tokio::time::sleep(AWAY).await;
    pipeline.kafka.start().await;
    println!("continues after {:?}", pipeline.wait_for_more().await);

    producer.sigterm();
    producer.succeed(END_LIMIT).await;
    assert!(run.status().is_none());
    pipeline.assert_exact(&[&run]).await;

    let outage_lines = |lines: Vec<String>| lines.iter().filter(|line| line.contains("available")).count();
    let (said, producer_said) = (outage_lines(run.stderr()), outage_lines(producer.stderr()));
    assert!(said <= 8, "{said} lines about outages: {:#?}", run.stderr());
    assert!(producer_said <= 6, "{producer_said} lines about outages: {:#?}", producer.stderr());
}

#[tokio::test]
async fn postgresql_away_while_the_processor_is_killed_and_started() {
    let _turn = turn::heavy().await;
    let mut postgres = Postgres::private(&[]).await;
    let pipeline = Pipeline::of_topic(Kafka::shared(), &postgres, &unique("away")).await;
    let producer = pipeline.producer(&["--rate", "2000", "--duration", "25s", "--partitions", "3"]);
    let run = pipeline.spawn(&["--checkpoint-interval", "200ms"]);
    run.wait_for_line("write OK", RUN_LIMIT).await;
    postgres.kill().await;
    run.wait_for_line("not available", RUN_LIMIT).await;
    // The checkpoint files advance without it.
    tokio::time::sleep(Duration::from_secs(3)).await;
    run.kill9().await;
    let second = pipeline.spawn(&["--checkpoint-interval", "200ms"]);
    second.wait_for_line("not available", RUN_LIMIT).await;
    postgres.start().await;
    second.wait_for_line("continuing from the checkpoint file", RESUMED).await;
    producer.succeed(RUN_LIMIT).await;
    pipeline.assert_exact(&[&second]).await;
}

/// Two processes: what one has read of the other may be gone after the kill.
#[tokio::test]
async fn both_are_killed_and_started_again_under_load() {
    let _turn = turn::heavy().await;
    let (kafka, mut postgres) = tokio::join!(Kafka::private(Version::V4_1, &[]), Postgres::private(&[]));
    let mut pipeline = Pipeline::audited(kafka, &postgres, "services", 4).await;
    let producer = pipeline.producer(&LOAD);
    let often = ["--checkpoint-interval", "200ms"];
    let processes = [pipeline.process("one", &often), pipeline.process("two", &often)];
    pipeline.wait_for_more().await;
    for round in 0..3 {
        postgres.kill().await;
        tokio::time::sleep(Duration::from_millis(300 * round)).await;
        postgres.start().await;
        println!("PostgreSQL killed: continues after {:?}", pipeline.wait_for_more().await);
        pipeline.kafka.kill().await;
        tokio::time::sleep(Duration::from_millis(300 * round)).await;
        pipeline.kafka.start().await;
        println!("Kafka killed: continues after {:?}", pipeline.wait_for_more().await);
    }
    let runs: Vec<&Weather> = processes.iter().chain([&producer]).collect();
    assert!(runs.iter().all(|run| run.status().is_none()));
    pipeline.assert_exact(&runs).await;
}

/// Both clients know the cluster by one address that stays, and the broker behind it by one that changes.
#[tokio::test]
async fn a_broker_that_moves_and_leaders_that_change_are_followed() {
    let _turn = turn::heavy().await;
    let broker = Broker::start(Options::default()).await.expect("a broker");
    let kafka = || Kafka::at(broker.address().port());
    let bootstrap = Proxy::start(Protocol::KafkaAsItIs, broker.address().port()).await;
    let mut pipeline =
        Pipeline::audited(kafka(), &Postgres::shared(), "moved", 4).await.kafka_through(&bootstrap);
    let producer = pipeline.producer(&LOAD);
    let process = pipeline.process("one", &[]);
    pipeline.wait_for_more().await;
    for _ in 0..3 {
        broker.stop().await;
        broker.restart_elsewhere().await.expect("a free port");
        bootstrap.connect_to(broker.address().port());
        pipeline.kafka = kafka();
        println!("moved: continues after {:?}", pipeline.wait_for_more().await);
        for api in [Api::Produce, Api::Fetch] {
            // One request is for all partitions, and each failure waits longer than the one before.
            broker.faults().arm(FaultRule::next(api, Fault::Error(ErrorCode::NotLeaderOrFollower)).times(2));
            broker.faults().arm(FaultRule::next(api, Fault::Error(ErrorCode::LeaderNotAvailable)).times(2));
            broker.faults().arm(FaultRule::next(api, Fault::ErrorAfter(ErrorCode::RequestTimedOut)).times(2));
        }
        println!("leaders moved: continues after {:?}", pipeline.wait_for_more().await);
    }
    while broker.faults().armed() > 0 {
        pipeline.wait_for_more().await;
    }
    pipeline.assert_exact(&[&producer, &process]).await;
}
