//! Whole runs of the producer against the embedded broker.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;

use rskafka::client::ClientBuilder;
use rskafka::client::partition::{OffsetAt, UnknownTopicHandling};
use rskafka::record::RecordAndOffset;

use super::*;
use crate::cli::{Command, Invocation, parse};
use crate::embedded::{Api as Request, Broker, ErrorCode, Fault, FaultRule, Options};
use crate::reading::Parser;
use crate::shutdown::{Trigger, channel};

/// The configuration of a command line.
pub(super) fn config(arguments: &[&str]) -> Producer {
    let arguments = std::iter::once("producer").chain(arguments.iter().copied());
    match parse(arguments.map(OsString::from), &|_| None) {
        Ok(Invocation::Run(run)) => match run.command {
            Command::Producer(config) => config,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

async fn broker() -> Broker {
    Broker::start(Options::default()).await.unwrap()
}

/// Starts a producer for a broker.
fn start(broker: &Broker, arguments: &[&str]) -> (Trigger, JoinHandle<Result<()>>) {
    let mut config = config(&[&["--log-sent", "none"], arguments].concat());
    config.kafka.brokers = vec![broker.address().to_string()];
    let (trigger, shutdown) = channel();
    (trigger, tokio::spawn(run(config, shutdown)))
}

/// Runs a producer to its own end.
async fn run_to_end(broker: &Broker, arguments: &[&str]) {
    let (_trigger, running) = start(broker, arguments);
    tokio::time::timeout(Duration::from_secs(60), running).await.unwrap().unwrap().unwrap();
}

/// All records, by partition, read by another client.
async fn topic(broker: &Broker) -> BTreeMap<i32, Vec<RecordAndOffset>> {
    let client = ClientBuilder::new(vec![broker.address().to_string()]).build().await.unwrap();
    let topics = client.list_topics().await.unwrap();
    let found = topics.into_iter().find(|topic| topic.name == "weather_data").unwrap();
    let mut all = BTreeMap::new();
    for partition in found.partitions {
        let log = client.partition_client("weather_data", partition, UnknownTopicHandling::Error);
        let log = log.await.unwrap();
        let (mut next, end) = (0, log.get_offset(OffsetAt::Latest).await.unwrap());
        let records: &mut Vec<RecordAndOffset> = all.entry(partition).or_default();
        while next < end {
            records.extend(log.fetch_records(next, 1..1 << 20, 0).await.unwrap().0);
            next = records.last().unwrap().offset + 1;
        }
    }
    all
}

/// Values as they were sent, each once; and how many came twice. No two readings are the same.
fn once(records: &[RecordAndOffset]) -> (Vec<Vec<u8>>, usize) {
    let mut seen = HashSet::new();
    let all = records.iter().map(|record| record.record.value.clone().unwrap());
    let values: Vec<_> = all.filter(|value| seen.insert(value.clone())).collect();
    let duplicates = records.len() - values.len();
    (values, duplicates)
}

fn total(topic: &BTreeMap<i32, Vec<RecordAndOffset>>) -> (usize, usize) {
    topic
        .values()
        .map(|records| once(records))
        .fold((0, 0), |(values, duplicates), (v, d)| (values + v.len(), duplicates + d))
}

#[tokio::test]
async fn every_reading_arrives_once_and_a_station_stays_in_its_partition() {
    let broker = broker().await;
    run_to_end(&broker, &["--count", "20000", "--rate", "0", "--partitions", "3", "--stations", "40"]).await;
    let topic = topic(&broker).await;
    // At this pace two readings may be the same to the byte, so records are counted.
    assert_eq!((topic.len(), topic.values().map(Vec::len).sum::<usize>()), (3, 20_000));
    let mut seen = HashSet::new();
    for (partition, records) in &topic {
        let keys: HashSet<Vec<u8>> = records.iter().map(|r| r.record.key.clone().unwrap()).collect();
        for key in &keys {
            assert_eq!(crate::kafka::partitioner::partition_of(key, 3), *partition as usize);
            assert!(seen.insert(key.clone()), "in one partition only");
        }
    }
    assert_eq!(seen.len(), 40);
}

#[tokio::test]
async fn a_batch_whose_answer_is_lost_is_sent_again() {
    let broker = broker().await;
    broker.create_topic("weather_data", 2).unwrap();
    let faults = [
        Fault::CutAfter,
        Fault::CutBefore,
        Fault::ErrorAfter(ErrorCode::RequestTimedOut),
        Fault::Throttle(1),
    ];
    for (fault, skip) in faults.into_iter().zip(1..) {
        broker.faults().arm(FaultRule::next(Request::Produce, fault).partition(0).skip(skip * 2));
    }
    run_to_end(&broker, &["--count", "6000", "--rate", "5000", "--linger", "5ms"]).await;
    assert_eq!(broker.faults().armed(), 0, "all faults happened");
    assert_eq!(total(&topic(&broker).await).0, 6000);
}

#[tokio::test]
async fn a_signal_ends_it_with_everything_acknowledged() {
    let broker = broker().await;
    let (trigger, running) = start(&broker, &["--rate", "2000"]);
    broker.wait_for_requests(Request::Produce, 5).await;
    trigger.fire();
    let ended = tokio::time::timeout(Duration::from_secs(5), running).await.unwrap().unwrap();
    assert_eq!(ended, Ok(()), "an error would tell of readings that were not acknowledged");
    assert!(total(&topic(&broker).await).0 > 0);
}

#[tokio::test]
async fn a_broker_that_goes_away_and_comes_back_costs_nothing() {
    let broker = broker().await;
    let (_trigger, running) = start(&broker, &["--count", "1500", "--rate", "1000", "--linger", "10ms"]);
    broker.wait_for_requests(Request::Produce, 10).await;
    broker.stop().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    broker.restart().await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), running).await.unwrap().unwrap().unwrap();
    assert_eq!(total(&topic(&broker).await).0, 1500);
}

#[tokio::test]
async fn a_topic_deleted_under_way_is_made_again_with_as_many_partitions() {
    let broker = broker().await;
    let (_trigger, running) = start(&broker, &["--count", "1000", "--rate", "1000", "--partitions", "3"]);
    broker.wait_for_requests(Request::Produce, 3).await;
    broker.delete_topic("weather_data").unwrap();
    tokio::time::timeout(Duration::from_secs(60), running).await.unwrap().unwrap().unwrap();
    assert_eq!(topic(&broker).await.len(), 3);
}

#[tokio::test]
async fn lines_go_through_unchanged_and_what_is_too_large_is_left_out() {
    let broker = Broker::start(Options { max_message_bytes: 4000, ..Options::default() }).await.unwrap();
    broker.create_topic("weather_data", 1).unwrap();
    let path = std::env::temp_dir().join(format!("weather-lines-{}", std::process::id()));
    let mut lines: Vec<String> =
        (0..500).map(|i| format!("{{ \"city\": \"c{}\", \"n\": {i} }}", i % 5)).collect();
    lines.insert(250, "x".repeat(5000));
    std::fs::write(&path, lines.join("\n\n")).unwrap();
    run_to_end(&broker, &["--source", path.to_str().unwrap()]).await;
    std::fs::remove_file(&path).unwrap();
    lines.remove(250);
    let topic = topic(&broker).await;
    let sent: Vec<_> = topic[&0].iter().map(|r| r.record.value.clone().unwrap()).collect();
    assert_eq!(sent, lines.iter().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>());
    assert_eq!(topic[&0][7].record.key.as_deref(), Some(&b"c2"[..]));
}

#[tokio::test]
async fn an_api_is_asked_until_the_count_is_reached() {
    let broker = broker().await;
    let body =
        r#"[{"station":"a","timestamp":1,"temperature":1},{"station":"b","timestamp":1,"humidity":2}]"#;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let url = http::tests::serve(answer).await;
    run_to_end(&broker, &["--source", &url, "--count", "2", "--poll", "10ms", "--compression", "gzip"]).await;
    assert_eq!(total(&topic(&broker).await), (2, 0));
}

#[tokio::test]
async fn history_comes_first_and_then_the_present() {
    let broker = broker().await;
    let before_ms = now_ms();
    let arguments = [
        "--backfill",
        "1h",
        "--interval",
        "1s",
        "--duration",
        "2s",
        "--partitions",
        "1",
        "--compression",
        "snappy",
    ];
    run_to_end(&broker, &arguments).await;
    let mut parser = Parser::default();
    let (values, _) = once(&topic(&broker).await[&0]);
    let times_ms: Vec<i64> =
        values.into_iter().map(|value| parser.parse(&value, None).unwrap().event_time_ms).collect();
    assert!((3600..3610).contains(&times_ms.len()), "{}", times_ms.len());
    assert!((times_ms[0] - (before_ms - 3_600_000)).abs() < 2000);
    assert!(times_ms.is_sorted() && *times_ms.last().unwrap() <= now_ms());
}

#[tokio::test]
async fn ends_at_once_when_asked_while_it_waits_for_kafka() {
    let (trigger, shutdown) = channel();
    let running = tokio::spawn(run(config(&["--brokers", "127.0.0.1:1"]), shutdown));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!running.is_finished(), "Kafka being away is no reason to end");
    trigger.fire();
    let ended = tokio::time::timeout(Duration::from_secs(2), running).await;
    assert_eq!(ended.unwrap().unwrap(), Ok(()));
}

#[tokio::test]
async fn what_makes_a_start_useless_ends_it() {
    let (_trigger, shutdown) = channel();
    let arguments = ["--brokers", "127.0.0.1:1", "--source", "/nonexistent/file"];
    let e = run(config(&arguments), shutdown).await.unwrap_err();
    assert_eq!(e.exit_code(), 2, "{e}");

    let broker = broker().await;
    broker
        .faults()
        .arm(FaultRule::next(Request::CreateTopics, Fault::Error(ErrorCode::TopicAuthorizationFailed)));
    let (_trigger, running) = start(&broker, &[]);
    let e = running.await.unwrap().unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("weather_data"), "{e}");
}
