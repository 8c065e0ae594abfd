//! The oracle of the other tests, checked by examples whose answers are worked out by hand.

use rskafka::record::{Record, RecordAndOffset};

use crate::support::kafka::record;
use crate::support::oracle::{Expected, Outcome, Partition, Rules};
use crate::support::{Database, Kafka, Postgres, turn};

const HOUR_MS: i64 = 3_600_000;
/// 2023-11-14T22:00:00Z, the start of a window.
const START_MS: i64 = 1_699_999_200_000;

fn reading(event_time_ms: i64, temperature: f64) -> Record {
    record(format!(r#"{{"timestamp":{event_time_ms},"temperature":{temperature}}}"#))
}

fn partition(records: Vec<Record>, rules: &Rules) -> Partition {
    let records: Vec<RecordAndOffset> =
        records.into_iter().zip(0..).map(|(record, offset)| RecordAndOffset { record, offset }).collect();
    Partition::of_records(&records, rules)
}

fn outcomes(records: Vec<Record>, rules: &Rules) -> Vec<Outcome> {
    partition(records, rules).outcomes.into_values().collect()
}

/// The window's start that one value falls into, or its reason.
fn outcome_of(value: &str) -> Result<i64, &'static str> {
    match outcomes(vec![record(value)], &Rules { window_ms: 1, ..Rules::default() })[0] {
        Outcome::Aggregated { window_start_ms } => Ok(window_start_ms),
        Outcome::DeadLetter(reason) => Err(reason),
        Outcome::Duplicate => Err("duplicate"),
    }
}

const fn window(hours: i64) -> Outcome {
    Outcome::Aggregated { window_start_ms: START_MS + hours * HOUR_MS }
}

#[test]
fn timestamps_of_every_form() {
    let at = START_MS + 83_456;
    for form in [
        "1699999283.456",
        "1699999283456",
        "1699999283456.9",
        "1699999283456789",
        "1699999283456789012",
        r#""2023-11-14T22:01:23.456Z""#,
        r#""2023-11-14T22:01:23.4567""#,
        r#""2023-11-14 22:01:23.456""#,
        r#""2023-11-15T05:01:23.456+07:00""#,
        r#""2023-11-14T20:01:23.456-0200""#,
        r#""1699999283456""#,
    ] {
        assert_eq!(outcome_of(&format!(r#"{{"timestamp":{form},"humidity":50}}"#)), Ok(at), "{form}");
    }
    for (form, expected) in [
        (r#""2023-11-14T22:00""#, Ok(START_MS)),
        (r#""2023-11-14""#, Ok(START_MS - 22 * HOUR_MS)),
        (r#""2023-02-29T00:00:00Z""#, Err("malformed")),
        (r#""yesterday""#, Err("malformed")),
        ("true", Err("malformed")),
        ("null", Err("missing_timestamp")),
        ("-1", Err("malformed")),
        ("0", Ok(0)),
    ] {
        assert_eq!(outcome_of(&format!(r#"{{"timestamp":{form},"humidity":50}}"#)), expected, "{form}");
    }
}

#[test]
fn every_refusal() {
    for (value, reason) in [
        ("", "malformed"),
        ("not json", "malformed"),
        ("[1]", "malformed"),
        (r#"{"timestamp":1,"temperature":"#, "malformed"),
        (r#"{"timestamp":"soon","temperature":[]}"#, "malformed"),
        (r#"{"temperature":1}"#, "missing_timestamp"),
        (r#"{"timestamp":1}"#, "no_metric"),
        (r#"{"timestamp":1,"temperature":null,"humidity":null,"wind_speed":null}"#, "no_metric"),
        (r#"{"timestamp":1,"temperature":60.01}"#, "no_metric"),
        (r#"{"timestamp":1,"humidity":-0.1}"#, "no_metric"),
        (r#"{"timestamp":1,"wind_speed":151}"#, "no_metric"),
    ] {
        assert_eq!(outcome_of(value), Err(reason), "{value}");
    }
    assert_eq!(outcome_of(&" ".repeat(64 * 1024)), Err("malformed"));
    assert_eq!(outcome_of(&" ".repeat(64 * 1024 + 1)), Err("oversized"));
    let tombstone = Record { value: None, ..record("") };
    assert_eq!(outcomes(vec![tombstone], &Rules::default()), [Outcome::DeadLetter("malformed")]);
    // Both ends of a range, a null beside a number, nested and repeated fields.
    for value in [
        r#"{"timestamp":1000000000000,"temperature":-90,"humidity":105,"wind_speed":150}"#,
        r#"{"timestamp":1000000000000,"temperature":null,"humidity":0}"#,
        r#"{"timestamp":1000000000000,"temperature":999,"humidity":0,"wind_speed":true}"#,
        r#"{"x":{"temperature":"no","y":[1,{"z":2}]},"timestamp":5,"timestamp":1000000000000,"temperature":1}"#,
    ] {
        assert_eq!(outcome_of(value), Ok(1_000_000_000_000), "{value}");
    }
}

#[test]
fn late_is_judged_by_the_records_before() {
    // The watermark reaches the end of the first window exactly with the reading at 1 h 10 min.
    let readings = [30, 69, 20, 70, 59, 65, 200, 60].map(|minute| reading(START_MS + minute * 60_000, 20.0));
    let late = Outcome::DeadLetter("late");
    let expected = [window(0), window(1), window(0), window(1), late, window(1), window(3), late];
    assert_eq!(outcomes(readings.to_vec(), &Rules::default()), expected);
}

#[test]
fn refused_records_do_not_move_the_watermark() {
    let rules = Rules { now_ms: Some(START_MS), ..Rules::default() };
    let records = vec![
        reading(START_MS + 600_000, 20.0),
        reading(START_MS + 600_001, 20.0),
        reading(START_MS + 9 * HOUR_MS, 99.0),
        reading(START_MS, 20.0),
    ];
    let expected = [window(0), Outcome::DeadLetter("future"), Outcome::DeadLetter("no_metric"), window(0)];
    assert_eq!(outcomes(records, &rules), expected);
}

#[test]
fn averages_skip_a_missing_metric() {
    let text = |metrics: &str| record(format!(r#"{{"timestamp":{START_MS},{metrics}}}"#));
    let records = vec![
        text(r#""temperature":10,"humidity":40"#),
        text(r#""temperature":20"#),
        text(r#""humidity":43"#),
    ];
    let partition = partition(records, &Rules::default());
    let totals = partition.windows[&START_MS];
    assert_eq!(totals.readings, 3);
    assert_eq!([0, 1, 2].map(|metric| totals.average(metric)), [Some(15.0), Some(41.5), None]);
}

/// Tables as the processor makes them, as far as the oracle looks at them, exact for the topic below.
async fn tables(topic: &str) -> Database {
    let database = Postgres::shared().database().await;
    let others =
        ["missing_timestamp", "no_metric", "out_of_range", "future", "late", "oversized", "skipped", "lost"];
    let others = others.map(|counter| format!("{counter} BIGINT DEFAULT 0")).join(", ");
    database
        .execute(&format!(
            "CREATE TABLE weather_summary (window_start TIMESTAMP, window_end TIMESTAMP, avg_temp DOUBLE PRECISION,
                avg_humidity DOUBLE PRECISION, avg_wind_speed DOUBLE PRECISION, reading_count BIGINT,
                min_temp DOUBLE PRECISION, max_temp DOUBLE PRECISION, min_humidity DOUBLE PRECISION,
                max_humidity DOUBLE PRECISION, max_wind_speed DOUBLE PRECISION);
             CREATE TABLE weather_partition (topic TEXT, partition INT, incarnation BIGINT DEFAULT 1,
                origin_offset BIGINT DEFAULT 0, next_offset BIGINT, sampled_out BIGINT DEFAULT 0,
                aggregated BIGINT, duplicates BIGINT, malformed BIGINT, {others});
             CREATE TABLE weather_dead_letter (topic TEXT, partition INT, incarnation BIGINT DEFAULT 1,
                \"offset\" BIGINT, reason TEXT);
             INSERT INTO weather_summary VALUES ('2023-11-14 22:00', '2023-11-14 23:00', 15, NULL, NULL, 2, 10, 20);
             INSERT INTO weather_partition (topic, partition, next_offset, aggregated, duplicates, malformed)
                VALUES ('{topic}', 0, 3, 1, 1, 1), ('{topic}', 1, 1, 1, 0, 0);
             INSERT INTO weather_dead_letter (topic, partition, \"offset\", reason)
                VALUES ('{topic}', 0, 1, 'malformed')"
        ))
        .await;
    database
}

#[tokio::test]
async fn each_difference_is_found() {
    let _turn = turn::light().await;
    let kafka = Kafka::shared();
    let topic = kafka.topic("oracle", 3).await;
    let again = reading(START_MS, 10.0);
    kafka.produce(&topic, 0, vec![again.clone(), record("bad"), again]).await;
    kafka.produce(&topic, 1, vec![reading(START_MS, 20.0)]).await;
    let expected = Expected::of_topic(&kafka, &topic, Rules { duplicates: &[2], ..Rules::default() }).await;
    let counts: Vec<_> = expected.counts().into_iter().collect();
    assert_eq!(counts, [("aggregated", 2), ("duplicates", 1), ("malformed", 1)]);
    expected.assert_table(&tables(&topic).await).await;

    for (damage, count) in [
        ("UPDATE weather_summary SET avg_temp = avg_temp + 0.000002", 1),
        ("UPDATE weather_summary SET avg_temp = avg_temp + 0.0000005", 0),
        ("UPDATE weather_summary SET avg_humidity = 0", 1),
        ("UPDATE weather_summary SET min_temp = max_temp", 1),
        ("UPDATE weather_summary SET max_wind_speed = 0", 1),
        ("UPDATE weather_summary SET reading_count = 3", 1),
        ("UPDATE weather_summary SET window_end = '2023-11-14 22:30'", 1),
        ("INSERT INTO weather_summary SELECT * FROM weather_summary", 1),
        ("DELETE FROM weather_summary", 1),
        ("UPDATE weather_partition SET next_offset = 2 WHERE partition = 0", 2),
        ("UPDATE weather_partition SET next_offset = 4, lost = 1 WHERE partition = 0", 1),
        ("UPDATE weather_partition SET aggregated = 2, duplicates = 0 WHERE partition = 0", 2),
        ("UPDATE weather_partition SET aggregated = 2 WHERE partition = 0", 2),
        ("DELETE FROM weather_partition WHERE partition = 1", 1),
        ("UPDATE weather_dead_letter SET reason = 'late'", 1),
        ("UPDATE weather_dead_letter SET \"offset\" = 0", 1),
        ("INSERT INTO weather_dead_letter SELECT * FROM weather_dead_letter", 2),
        ("DELETE FROM weather_dead_letter", 1),
        (
            "DELETE FROM weather_dead_letter; UPDATE weather_partition SET sampled_out = 1 WHERE partition = 0",
            0,
        ),
    ] {
        let database = tables(&topic).await;
        database.execute(damage).await;
        let found = expected.differences(&database).await;
        assert_eq!(found.len(), count, "{damage}: {found:?}");
    }
}
