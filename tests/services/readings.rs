//! The main job on real services: what the producer sends, and what others send, is in the table exactly.

use std::time::{SystemTime, UNIX_EPOCH};

use rskafka::client::partition::Compression;
use rskafka::record::Record;

use crate::support::kafka::{Version, record};
use crate::support::oracle::{Expected, Rules};
use crate::support::pipeline::RUN_LIMIT;
use crate::support::{Kafka, Pipeline, Postgres, Weather, turn, unique};

const HOUR_MS: i64 = 3_600_000;

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970");
    now.as_millis() as i64
}

fn rules() -> Rules {
    Rules { now_ms: Some(now_ms()), ..Rules::default() }
}

fn reading(event_time_ms: i64, rest: &str) -> String {
    format!(r#"{{"station":"s","timestamp":{event_time_ms},{rest}}}"#)
}

/// What the producer's simulation does not send: nulls, gaps, other forms of time.
fn odd_records() -> Vec<Record> {
    let hour = now_ms() - 3 * HOUR_MS;
    [
        reading(hour, r#""temperature":null,"humidity":55.5,"wind_speed":1"#),
        reading(hour, r#""temperature":-12.345678,"humidity":null"#),
        reading(hour / 1000, r#""wind_speed":0.000001"#),
        reading(hour * 1_000_000, r#""temperature":1e1,"other":{"nested":[1,{"a":null}]}"#),
        r#"{"city":"Huế","timestamp":"2026-01-05T07:30:00+07:00","temperature":20.25}"#.to_owned(),
        r#"{"timestamp":"2026-01-05 00:45:00.5","humidity":80,"humidity":81}"#.to_owned(),
    ]
    .map(record)
    .to_vec()
}

async fn check_topic(kafka: Kafka, partitions: &str, count: &str) {
    let pipeline = Pipeline::of_topic(kafka, &Postgres::shared(), &unique("readings")).await;
    let ratios = ["--late-ratio", "0.02", "--malformed-ratio", "0.005", "--backfill", "20h"];
    let counts = ["--partitions", partitions, "--count", count, "--rate", "0"];
    pipeline.produce(&[&ratios[..], &counts[..]].concat()).await;
    pipeline.kafka.produce(&pipeline.topic, 0, odd_records()).await;

    pipeline.drain().await;
    let expected = Expected::of_topic(&pipeline.kafka, &pipeline.topic, rules()).await;
    let counts = expected.counts();
    assert!(counts["late"] > 0 && counts["malformed"] > 0, "{counts:?}");
    expected.assert_table(&pipeline.database).await;

    let before = pipeline.table().await;
    pipeline.drain().await;
    assert_eq!(pipeline.table().await, before, "a second run changes nothing");
    std::fs::remove_dir_all(pipeline.checkpoints.path()).expect("the folder can be removed");
    pipeline.drain().await;
    assert_eq!(pipeline.table().await, before, "nor does one without the checkpoint files");
    expected.assert_table(&pipeline.database).await;
}

#[tokio::test]
async fn table_equals_a_recomputation_with_one_partition() {
    let _turn = turn::heavy().await;
    check_topic(Kafka::shared(), "1", "100000").await;
}

#[tokio::test]
async fn table_equals_a_recomputation_with_six_partitions() {
    let _turn = turn::heavy().await;
    check_topic(Kafka::shared(), "6", "100000").await;
}

#[tokio::test]
async fn table_equals_a_recomputation_on_kafka_3_9() {
    let _turn = turn::heavy().await;
    check_topic(Kafka::private(Version::V3_9, &[]).await, "4", "20000").await;
}

#[tokio::test]
async fn table_equals_a_recomputation_on_kafka_3_5_with_zookeeper() {
    let _turn = turn::heavy().await;
    check_topic(Kafka::private(Version::V3_5, &[]).await, "4", "20000").await;
}

#[tokio::test]
async fn compressed_batches_are_read() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::new("compressed").await;
    for codec in ["gzip", "snappy", "none"] {
        let arguments = ["--compression", codec, "--count", "3000", "--rate", "0", "--backfill", "3h"];
        pipeline.produce(&arguments).await;
    }
    pipeline.drain().await;
    let expected = Expected::of_topic(&pipeline.kafka, &pipeline.topic, rules()).await;
    assert_eq!(expected.counts().values().sum::<i64>(), 9_000);
    expected.assert_table(&pipeline.database).await;
}

#[tokio::test]
async fn a_codec_that_is_not_built_in_is_named() {
    let _turn = turn::light().await;
    // Several partitions fail at once.
    let pipeline = Pipeline::with_topic("zstd", 6).await;
    pipeline.kafka.tool(
        "org.apache.kafka.tools.ProducerPerformance",
        &[
            &[
                "--topic",
                &pipeline.topic,
                "--num-records",
                "20000",
                "--record-size",
                "100",
                "--throughput",
                "-1",
            ][..],
            &[
                "--producer-props",
                &format!("bootstrap.servers={}", pipeline.kafka.brokers()),
                "compression.type=zstd",
            ],
        ]
        .concat(),
    );
    let run = pipeline.spawn(&["--until-latest", "--on-unreadable", "stop"]);
    assert_eq!(run.wait(RUN_LIMIT).await.code(), Some(1));
    let said = run.stderr().pop().unwrap_or_default();
    assert!(
        said.contains("zstd") && said.contains("--features zstd") && said.contains("offsets 0"),
        "{said}"
    );

    let run = pipeline.spawn(&["--until-latest"]);
    let said = run.wait_for_line("the partition is paused", RUN_LIMIT).await;
    assert!(said.contains("--features zstd"), "{said}");
    run.sigterm();
    assert_eq!(run.wait(RUN_LIMIT).await.code(), Some(1), "a bounded run that did not come to its end");
}

/// Every kind of bad value, with the reason that it has to be kept under.
fn poison() -> Vec<(Record, &'static str)> {
    let now = now_ms();
    let metric = r#""temperature":20"#;
    let text = |value: String, reason| (record(value), reason);
    vec![
        text("not json".into(), "malformed"),
        text(r#"{"timestamp":1763803617123,"temperature":2"#.into(), "malformed"),
        text("[".repeat(50_000), "malformed"),
        text(reading(now, r#""temperature":1e999"#), "malformed"),
        text(reading(now, r#""temperature":"20 degrees""#), "no_metric"),
        text(reading(now, r#""temperature":{"value":20}"#), "no_metric"),
        text(r#"{"timestamp":[1],"temperature":20}"#.into(), "missing_timestamp"),
        text(r#"{"timestamp":"yesterday","temperature":20}"#.into(), "malformed"),
        text(String::new(), "malformed"),
        (Record { value: None, ..record("") }, "malformed"),
        (
            record(b"{\"timestamp\":1763803617123,\"station\":\"\xff\",\"temperature\":2}".to_vec()),
            "malformed",
        ),
        text("x".repeat(1_000_000), "oversized"),
        text(format!("{{{metric}}}"), "missing_timestamp"),
        text(format!(r#"{{"timestamp":null,{metric}}}"#), "missing_timestamp"),
        text(reading(now, r#""temperature":null,"humidity":null,"wind_speed":null"#), "no_metric"),
        text(format!(r#"{{"timestamp":{now}}}"#), "no_metric"),
        text(reading(now, r#""temperature":70.5"#), "no_metric"),
        text(reading(now, r#""humidity":-1"#), "no_metric"),
        text(reading(-5, metric), "malformed"),
        text(reading(now + 2 * HOUR_MS, metric), "future"),
        text(reading(0, metric), "late"),
    ]
}

#[tokio::test]
async fn poison_is_kept_with_its_reason_and_the_rest_is_unharmed() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("poison", 1).await;
    let good = || record(reading(now_ms(), r#""temperature":20,"humidity":50"#));
    let poison = poison();
    let mut records = vec![good()];
    for (bad, _) in &poison {
        records.extend([bad.clone(), good()]);
    }
    let goods = records.len() - poison.len();
    let client = pipeline.kafka.partition(&pipeline.topic, 0).await;
    for record in records {
        // One by one: the largest fills a batch.
        client.produce(vec![record], Compression::NoCompression).await.expect("the record is taken");
    }

    pipeline.drain().await;
    let query = "SELECT \"offset\", reason, payload, payload_bytes FROM weather_dead_letter ORDER BY 1";
    let rows = pipeline.database.query(query, &[]).await;
    assert_eq!(rows.len(), poison.len());
    for ((row, (bad, reason)), offset) in rows.iter().zip(&poison).zip((1i64..).step_by(2)) {
        let value = bad.value.as_deref();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1)), (offset, *reason), "{value:?}");
        let kept = value.map(|v| &v[..v.len().min(4096)]);
        assert_eq!(row.get::<_, Option<&[u8]>>(2), kept, "the payload as it came");
        assert_eq!(row.get::<_, i64>(3), value.map_or(0, |v| v.len() as i64));
    }
    let sum = pipeline.database.number("SELECT sum(reading_count)::bigint FROM weather_summary").await;
    assert_eq!(sum, goods as i64);
    Expected::of_topic(&pipeline.kafka, &pipeline.topic, rules())
        .await
        .assert_table(&pipeline.database)
        .await;
}

#[tokio::test]
async fn a_flood_of_dead_letters_is_counted_in_full() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("flood", 1).await;
    for _ in 0..3 {
        pipeline
            .kafka
            .produce(&pipeline.topic, 0, (0..5_000).map(|i| record(format!("junk {i}"))).collect())
            .await;
    }
    pipeline.drain().await;
    let counted = pipeline.database.number("SELECT malformed FROM weather_partition").await;
    let kept = pipeline.database.number("SELECT count(*) FROM weather_dead_letter").await;
    let left_out = pipeline.database.number("SELECT sampled_out FROM weather_partition").await;
    assert_eq!((counted, kept + left_out), (15_000, 15_000));
    assert!((1_000..15_000).contains(&kept), "{kept}");
}

#[tokio::test]
async fn a_metric_that_never_comes_is_told_once_with_the_flag_to_set() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("missing-metric", 2).await;
    for partition in 0..2 {
        let value = |i: i64| record(reading(now_ms() - i, r#""temperature":20,"humidity":50,"windspeed":9"#));
        pipeline.kafka.produce(&pipeline.topic, partition, (0..200).map(value).collect()).await;
    }
    let log = pipeline.drain().await.stderr();
    let told: Vec<_> = log.iter().filter(|line| line.contains("windspeed")).collect();
    let [line] = told[..] else { panic!("{log:?}") };
    assert!(line.contains("no reading has wind_speed"), "{line}");
    assert!(line.contains("--fields 'wind_speed=windspeed:m/s'"), "{line}");
}

#[tokio::test]
async fn transaction_markers_are_stepped_over() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("transactions", 1).await;
    let value = |i: i64| record(reading(now_ms() - i, r#""temperature":20"#));
    pipeline.kafka.produce(&pipeline.topic, 0, (0..10).map(value).collect()).await;
    // Each transaction ends with a marker that takes an offset of its own.
    pipeline.kafka.tool(
        "org.apache.kafka.tools.ProducerPerformance",
        &[
            &[
                "--topic",
                &pipeline.topic,
                "--num-records",
                "50",
                "--record-size",
                "10",
                "--throughput",
                "200",
            ][..],
            &["--transactional-id", &pipeline.topic, "--transaction-duration-ms", "50"],
            &["--producer-props", &format!("bootstrap.servers={}", pipeline.kafka.brokers())],
        ]
        .concat(),
    );
    pipeline.kafka.produce(&pipeline.topic, 0, (0..10).map(value).collect()).await;
    pipeline.drain().await;
    let row = &pipeline
        .database
        .query("SELECT aggregated, malformed, skipped, next_offset, lost FROM weather_partition", &[])
        .await[0];
    let [aggregated, malformed, skipped, next_offset, lost] = [0, 1, 2, 3, 4].map(|i| row.get::<_, i64>(i));
    assert_eq!((aggregated, malformed, lost), (20, 50, 0));
    assert!(skipped >= 2, "there were several transactions: {skipped}");
    assert_eq!(next_offset, 70 + skipped);
}

#[tokio::test]
async fn batches_are_printed_as_the_old_system_did() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::new("printed").await;
    let producer = Weather::spawn([
        "producer",
        "--brokers",
        &pipeline.brokers,
        "--topic",
        &pipeline.topic,
        "--count",
        "20",
    ]);
    producer.succeed(RUN_LIMIT).await;
    assert!(producer.stdout().iter().any(|line| line.starts_with("Sent: {")), "{:?}", producer.stdout());
    let run = pipeline.drain().await;
    let lines = run.stdout();
    assert!(lines[0] == "Batch 0:" && lines.last().is_some_and(|line| line == "write OK"), "{lines:?}");
    assert!(lines[2].contains("|avg_temp|") || lines[2].contains(" avg_temp|"), "{lines:?}");
}
