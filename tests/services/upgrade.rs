//! What earlier versions left on the volume and in the database: every later one continues from it.
//!
//! `version-N/` holds the tables and the checkpoint file that a process of format N left when it was killed half-way
//! through a topic whose records are always the same. A version with a new format runs
//! `tests/run --test services -- --ignored write_what` and adds its own folder; the older ones stay.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rskafka::chrono::DateTime;
use rskafka::record::Record;
use weather::embedded::{Broker, Options};

use crate::support::oracle::{Expected, Rules};
use crate::support::pipeline::RUN_LIMIT;
use crate::support::proxy::{Network, Protocol};
use crate::support::{Kafka, Pipeline, Postgres, Proxy, setting, turn};

const TOPIC: &str = "readings";
const CHECKPOINT: &str = "readings-0.ckpt";
const VERSIONS: [&str; 1] = ["version-1"];
/// Records that are in the table, in the file, and in the topic.
const FLUSHED: i64 = 40;
const CHECKPOINTED: i64 = 60;
const ALL: i64 = 90;

fn folder(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services").join(version)
}

/// The record at an offset: a reading every seven minutes, some late, some malformed, some sent twice with the header by
/// which version 1 told them.
fn record(offset: i64) -> Record {
    let event_time_ms = 1_767_571_200_000 + offset * 420_000 - if offset % 11 == 10 { 9_000_000 } else { 0 };
    let value = match offset % 13 {
        12 => "{\"temperature\":".to_owned(),
        _ => format!(
            r#"{{"station":"s","timestamp":{event_time_ms},"temperature":{offset}.25,"humidity":50}}"#
        ),
    };
    let number = if offset % 17 == 16 { offset - 1 } else { offset };
    let sequence = [7u64.to_be_bytes(), (number as u64).to_be_bytes()].concat();
    Record {
        key: None,
        value: Some(value.into_bytes()),
        headers: BTreeMap::from([("weather-seq".to_owned(), sequence)]),
        timestamp: DateTime::from_timestamp_millis(event_time_ms).expect("a time"),
    }
}

async fn rig_with_topic(broker: &Broker, records: i64) -> Pipeline {
    broker.create_topic(TOPIC, 1).expect("the broker is new");
    let kafka = Kafka::at(broker.address().port());
    kafka.produce(TOPIC, 0, (0..records).map(record).collect()).await;
    Pipeline::of_topic(kafka, &Postgres::shared(), TOPIC).await
}

#[tokio::test]
async fn tables_and_checkpoints_of_earlier_versions_load() {
    let _turn = turn::light().await;
    for version in VERSIONS {
        let tables = std::fs::read_to_string(folder(version).join("tables.sql")).expect("it is there");
        for with_file in [true, false] {
            let broker = Broker::start(Options::default()).await.expect("a broker");
            let pipeline = rig_with_topic(&broker, ALL).await;
            pipeline.database.execute(&tables).await;
            if with_file {
                let file = pipeline.checkpoints.path().join(CHECKPOINT);
                std::fs::copy(folder(version).join(CHECKPOINT), file).expect("it is there");
            }
            let run = pipeline.drain().await;
            let (from, offset) = match with_file {
                true => ("continuing from the checkpoint file", CHECKPOINTED),
                false => ("continuing from PostgreSQL's state", FLUSHED),
            };
            let line = run.wait_for_line(from, RUN_LIMIT).await;
            assert!(line.contains(&format!("next_offset={offset}")), "{version}: {line}");
            let duplicates: &[i64] = if with_file { &[16, 33, 50] } else { &[16, 33] };
            let rules = Rules { duplicates, extremes_from: offset, ..Rules::default() };
            let expected = Expected::of_topic(&pipeline.kafka, TOPIC, rules).await;
            expected.assert_table(&pipeline.database).await;
            let counts = expected.counts();
            assert!(counts["late"] > 0 && counts["malformed"] > 0 && counts["duplicates"] > 0, "{counts:?}");
        }
    }
}

/// Writes the folder of the present version; see above.
#[tokio::test]
#[ignore = "run by hand when the format has changed"]
async fn write_what_this_version_leaves() {
    let _turn = turn::light().await;
    let broker = Broker::start(Options::default()).await.expect("a broker");
    let postgres = Postgres::shared();
    let proxy = Proxy::start(Protocol::Postgres, postgres.port()).await;
    let pipeline = rig_with_topic(&broker, FLUSHED).await.postgres_through(&proxy);
    pipeline.drain().await;
    let process = pipeline.process("one", &["--checkpoint-interval", "50ms"]);
    process.wait_for_line("write OK", RUN_LIMIT).await;
    proxy.set(Network::Stalled);
    pipeline.kafka.produce(TOPIC, 0, (FLUSHED..CHECKPOINTED).map(record).collect()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    process.kill9().await;

    let into = folder(VERSIONS[VERSIONS.len() - 1]);
    std::fs::create_dir_all(&into).expect("the folder can be made");
    std::fs::copy(pipeline.checkpoints.path().join(CHECKPOINT), into.join(CHECKPOINT))
        .expect("it can be copied");
    // The owner names the machine.
    let anonymous =
        "UPDATE weather_partition SET owner = 'host-da860792-a465d7'; DELETE FROM weather_process";
    pipeline.database.execute(anonymous).await;
    let dump = Command::new(format!("{}/pg_dump", setting("WEATHER_TEST_PG_BIN")))
        .args(["--inserts", "--no-owner", "--no-privileges", "--no-comments", pipeline.database.url()])
        .output()
        .expect("pg_dump runs");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let text = String::from_utf8(dump.stdout).expect("it is UTF-8");
    let is_statement = |line: &&str| !line.is_empty() && !line.starts_with("--") && !line.starts_with('\\');
    let statements: Vec<&str> = text.lines().filter(is_statement).collect();
    std::fs::write(into.join("tables.sql"), statements.join("\n") + "\n").expect("it can be written");
}
