//! The ground of all other tests: that the services start, take and give records and rows, and outlive being killed.
//!
//! `tests/run --test services -- --nocapture` prints how long each step took.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};
use support::kafka::{Version, record, with_sequence};
use support::{Kafka, Postgres, Process, Weather};

/// Prints how long each step took.
struct Clock(&'static str, Instant);

impl Clock {
    fn new(name: &'static str) -> Self {
        Self(name, Instant::now())
    }

    fn step(&mut self, step: &str) {
        println!("{:<10} {step:<28} {:>6} ms", self.0, self.1.elapsed().as_millis());
        self.1 = Instant::now();
    }
}

/// A broker of this version keeps its records and its port when stopped and when killed.
async fn check_kafka(version: Version) {
    let mut clock = Clock::new(version.as_str());
    let mut kafka = Kafka::private(version, &["num.partitions=2"]).await;
    let brokers = kafka.brokers();
    clock.step("start");

    let topic = kafka.topic("readings", 3).await;
    assert_eq!(kafka.partitions(&topic).await, [0, 1, 2]);
    let offsets =
        kafka.produce(&topic, 1, vec![record("first"), with_sequence(record("second"), 7, 9)]).await;
    assert_eq!(offsets, [0, 1]);
    clock.step("topic and two records");

    kafka.kill().await;
    kafka.start().await;
    clock.step("kill and start");
    kafka.restart().await;
    clock.step("stop and start");
    assert_eq!(kafka.brokers(), brokers);

    kafka.produce(&topic, 1, vec![record("third")]).await;
    let records = kafka.read(&topic, 1).await;
    let values: Vec<_> =
        records.iter().map(|r| (r.offset, r.record.value.as_deref().unwrap_or_default())).collect();
    assert_eq!(values, [(0, &b"first"[..]), (1, b"second"), (2, b"third")]);
    let sequence = &records[1].record.headers["weather-seq"];
    assert_eq!(sequence[..], [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9]);
    clock.step("one record more, read all");

    kafka.add_partitions(&topic, 4);
    assert_eq!(kafka.partitions(&topic).await, [0, 1, 2, 3]);
    clock.step("a partition more");
}

#[tokio::test]
async fn kafka_4_1() {
    check_kafka(Version::V4_1).await;
}

#[tokio::test]
async fn kafka_3_9() {
    check_kafka(Version::V3_9).await;
}

#[tokio::test]
async fn kafka_3_5_with_zookeeper() {
    check_kafka(Version::V3_5).await;
}

#[tokio::test]
async fn kafka_shared_by_all_tests() {
    let kafka = Kafka::shared();
    let topic = kafka.topic("readings", 1).await;
    kafka.produce(&topic, 0, vec![record("one")]).await;
    assert_eq!(kafka.offsets(&topic, 0).await, (0, 1));
    kafka.delete_topic(&topic).await;
}

#[tokio::test]
async fn postgres_keeps_what_was_committed() {
    let mut clock = Clock::new("postgres");
    let mut postgres = Postgres::private(&[]).await;
    clock.step("start");
    let database = postgres.database().await;
    database.execute("CREATE TABLE t (n BIGINT); INSERT INTO t VALUES (1)").await;
    clock.step("database, table, row");
    postgres.kill().await;
    postgres.start().await;
    clock.step("kill and start");
    database.execute("INSERT INTO t VALUES (2)").await;
    postgres.restart().await;
    clock.step("stop and start");
    assert_eq!(database.number("SELECT SUM(n)::BIGINT FROM t").await, 3);
}

#[tokio::test]
async fn postgres_shared_by_all_tests() {
    let postgres = Postgres::shared();
    let (one, other) = (postgres.database().await, postgres.database().await);
    one.execute("CREATE TABLE t (n BIGINT)").await;
    assert!(one.has_table("t").await);
    assert!(!other.has_table("t").await, "each test has a database of its own");
}

#[tokio::test]
async fn weather_runs_and_ends() {
    Weather::spawn(["--version"]).succeed(Duration::from_secs(10)).await;
}

fn shell(script: &str) -> Process {
    Process::spawn(Command::new("sh").args(["-c", script]), "KILL")
}

#[tokio::test]
async fn processes_stop_continue_and_end() {
    const LIMIT: Duration = Duration::from_secs(10);
    let process = shell("exec sleep 1000");
    process.signal("STOP");
    process.signal("TERM");
    assert_eq!(process.wait(Duration::from_millis(200)).await, None, "it stands still");
    process.signal("CONT");
    assert_eq!(process.wait(LIMIT).await.expect("it ends").signal(), Some(15));

    let endless = shell("exec sleep 1000");
    let is_there = format!("kill -0 {}", endless.id());
    drop(endless);
    let answer = shell(&format!("{is_there} 2>/dev/null")).wait(LIMIT).await;
    assert!(!answer.expect("it ends").success(), "a dropped process is gone");
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn usage_outlives_the_process() {
    let process = shell("i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done");
    assert!(process.wait(Duration::from_secs(30)).await.expect("it ends").success());
    let usage = process.usage();
    assert!(usage.cpu > Duration::from_millis(20), "{usage:?}");
    assert!((100_000..100_000_000).contains(&usage.peak_rss_bytes), "{usage:?}");
}
