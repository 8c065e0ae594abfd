//! `weather verify`: whatever is wrong in the tables is found and named, and what cannot be checked is reported apart from it.

use std::time::Duration;

use simd_json::OwnedValue;
use simd_json::prelude::*;

use crate::support::pipeline::{END_LIMIT, RUN_LIMIT};
use crate::support::{Kafka, Pipeline, Weather, turn};

mod stations;

/// Plants in one run.
const PLANTS: u64 = 100;
/// 12 windows in 4 partitions, some readings late, some malformed.
const LOAD: [&str; 12] = [
    "--count",
    "12000",
    "--rate",
    "0",
    "--backfill",
    "11h",
    "--partitions",
    "4",
    "--late-ratio",
    "0.02",
    "--malformed-ratio",
    "0.005",
];
/// What `weather verify` compares.
const TABLES: [&str; 5] = [
    "weather_partial",
    "weather_summary",
    "weather_partition",
    "weather_dead_letter",
    "weather_station_partial",
];
/// So that there are stations to compare, some of them beyond the limit.
const BY_STATION: [&str; 4] = ["--by", "station", "--max-stations", "20"];

fn verify(pipeline: &Pipeline, arguments: &[&str]) -> Weather {
    let topic = ["verify", "--brokers", &pipeline.brokers, "--topic", &pipeline.topic];
    let own = ["--database-url", &pipeline.url];
    Weather::spawn(topic.iter().chain(&own).chain(arguments))
}

/// Its exit code and its report.
async fn report(pipeline: &Pipeline, arguments: &[&str]) -> (i32, OwnedValue) {
    let run = verify(pipeline, &[&["--json"], arguments].concat());
    let status = run.wait(RUN_LIMIT).await;
    let mut text = run.stdout().concat().into_bytes();
    let report = simd_json::to_owned_value(&mut text)
        .unwrap_or_else(|e| panic!("{e}: {:?}, {:?}", run.stdout(), run.stderr()));
    (status.code().expect("it ends by itself"), report)
}

async fn assert_exact(pipeline: &Pipeline, arguments: &[&str]) -> OwnedValue {
    let (code, report) = report(pipeline, arguments).await;
    assert_eq!((code, report.get_str("verdict")), (0, Some("exact")), "{report}");
    report
}

fn sum(report: &OwnedValue, of: &str) -> i64 {
    let partitions = report.get_array("partitions").expect("partitions");
    partitions.iter().filter_map(|partition| partition.get_i64(of)).sum()
}

/// The differences as lines: partition, window and what.
fn differences(report: &OwnedValue) -> Vec<(Option<i64>, Option<String>, String)> {
    let found = report.get_array("differences").expect("differences");
    let line = |difference: &OwnedValue| {
        let text = |name| difference.get_str(name).map(str::to_owned);
        (difference.get_i64("partition"), text("window_start"), text("what").unwrap_or_default())
    };
    found.iter().map(line).collect()
}

/// Something that is changed in the tables, and where: a partition, or -1, a window, and for some a station.
struct Plant {
    name: &'static str,
    /// Gives what it has changed; `$1` decides which row.
    change: &'static str,
}

/// `chosen` is one row of a table, any one, by the seed.
const PLANTS_OF: [Plant; 9] = [
    Plant {
        name: "a sum off by a millionth",
        change: "WITH chosen AS (SELECT window_start, partition FROM weather_partial
            ORDER BY md5(window_start::text || partition || $1) LIMIT 1)
            UPDATE weather_partial p SET temp_sum = temp_sum + CASE WHEN length($1) % 2 = 0 THEN 1 ELSE -1 END FROM chosen c
            WHERE (p.window_start, p.partition) = (c.window_start, c.partition)
            RETURNING p.partition, p.window_start::text",
    },
    Plant {
        name: "a window counted twice",
        change: "WITH chosen AS (SELECT window_start, partition FROM weather_partial
            ORDER BY md5(window_start::text || partition || $1) LIMIT 1), doubled AS (
            UPDATE weather_partial p SET reading_count = 2 * reading_count, temp_count = 2 * temp_count,
                humidity_count = 2 * humidity_count, wind_speed_count = 2 * wind_speed_count, temp_sum = 2 * temp_sum,
                humidity_sum = 2 * humidity_sum, wind_speed_sum = 2 * wind_speed_sum, digest = 2 * (digest % 4611686018427387904)
            FROM chosen c WHERE (p.window_start, p.partition) = (c.window_start, c.partition)
            RETURNING p.partition, p.window_start, p.reading_count / 2 AS more), shown AS (
            UPDATE weather_summary s SET reading_count = s.reading_count + d.more FROM doubled d
            WHERE s.window_start = d.window_start RETURNING s.window_start)
            SELECT d.partition, d.window_start::text FROM doubled d JOIN shown USING (window_start)",
    },
    Plant {
        name: "a partial missing",
        change: "WITH chosen AS (SELECT window_start, partition FROM weather_partial
            ORDER BY md5(window_start::text || partition || $1) LIMIT 1)
            DELETE FROM weather_partial p USING chosen c
            WHERE (p.window_start, p.partition) = (c.window_start, c.partition)
            RETURNING p.partition, p.window_start::text",
    },
    Plant {
        name: "a row of the output missing",
        change: "WITH chosen AS (SELECT window_start FROM weather_summary ORDER BY md5(window_start::text || $1) LIMIT 1)
            DELETE FROM weather_summary s USING chosen c WHERE s.window_start = c.window_start
            RETURNING -1, s.window_start::text",
    },
    Plant {
        name: "an average off by the least that there is",
        change: "WITH chosen AS (SELECT window_start FROM weather_summary ORDER BY md5(window_start::text || $1) LIMIT 1)
            UPDATE weather_summary s SET avg_wind_speed = avg_wind_speed * (1 + 2.3e-16) FROM chosen c
            WHERE s.window_start = c.window_start RETURNING -1, s.window_start::text",
    },
    Plant {
        name: "a dead letter missing",
        change: "WITH chosen AS (SELECT partition, \"offset\" FROM weather_dead_letter
            ORDER BY md5(\"offset\"::text || partition || $1) LIMIT 1)
            DELETE FROM weather_dead_letter l USING chosen c WHERE (l.partition, l.\"offset\") = (c.partition, c.\"offset\")
            RETURNING l.partition, NULL::text",
    },
    Plant {
        name: "a reading moved from one partition to another",
        change: "WITH chosen AS (SELECT window_start, min(partition) AS a, max(partition) AS b FROM weather_partial
            GROUP BY window_start ORDER BY md5(window_start::text || $1) LIMIT 1)
            UPDATE weather_partial p SET reading_count = reading_count + CASE WHEN partition = a THEN -1 ELSE 1 END
            FROM chosen c WHERE p.window_start = c.window_start AND p.partition IN (a, b)
            RETURNING p.partition, p.window_start::text",
    },
    Plant {
        name: "a record counted for another reason",
        change: "WITH chosen AS (SELECT partition FROM weather_partition ORDER BY md5(partition || $1) LIMIT 1)
            UPDATE weather_partition p SET late = late - 1, aggregated = aggregated + 1 FROM chosen c
            WHERE p.partition = c.partition RETURNING p.partition, NULL::text",
    },
    Plant {
        name: "an extreme that was not measured",
        change: "WITH chosen AS (SELECT window_start, partition FROM weather_partial
            ORDER BY md5(window_start::text || partition || $1) LIMIT 1)
            UPDATE weather_partial p SET max_humidity = max_humidity + 1 FROM chosen c
            WHERE (p.window_start, p.partition) = (c.window_start, c.partition)
            RETURNING p.partition, p.window_start::text",
    },
];

#[tokio::test]
async fn whatever_is_planted_is_found_and_named() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::new("planted").await;
    pipeline.produce(&LOAD).await;
    drain_by_station(&pipeline).await;
    let limit = &BY_STATION[2..];
    let exact = assert_exact(&pipeline, limit).await;
    let rows = pipeline.database.number("SELECT count(*) FROM weather_station_partial").await;
    assert!(rows > 500 && sum(&exact, "station_rows") == rows, "{rows} rows: {exact}");
    let (read, dead_letters) = (sum(&exact, "readings"), sum(&exact, "dead_letters"));
    assert!(dead_letters > 100 && read + dead_letters == 12_000, "{exact}");
    let keep: Vec<String> = TABLES.iter().map(|t| format!("CREATE TABLE kept_{t} AS TABLE {t}")).collect();
    pipeline.database.execute(&keep.join("; ")).await;
    let restore = |table: &&str| format!("TRUNCATE {table}; INSERT INTO {table} TABLE kept_{table}");
    let restore: Vec<String> = TABLES.iter().map(restore).collect();
    let plants: Vec<&Plant> = PLANTS_OF.iter().chain(&stations::PLANTS_OF).collect();
    for seed in 0..PLANTS {
        let plant = plants[seed as usize % plants.len()];
        let rows = pipeline.database.query(plant.change, &[&seed.to_string()]).await;
        assert!(!rows.is_empty(), "{}: nothing was changed", plant.name);
        let (code, report) = report(&pipeline, limit).await;
        assert_eq!(
            (code, report.get_str("verdict")),
            (1, Some("differs")),
            "{} {seed}: {report}",
            plant.name
        );
        let found = differences(&report);
        for row in rows {
            let (partition, window): (i32, Option<String>) = (row.get(0), row.get(1));
            let partition = Some(i64::from(partition)).filter(|partition| *partition >= 0);
            let station = (row.len() > 2).then(|| format!("station {:?}:", row.get::<_, &str>(2)));
            let is_named = found.iter().any(|(p, w, what)| {
                (*p, w) == (partition, &window)
                    && station.as_ref().is_none_or(|named| what.starts_with(named))
            });
            let place = (partition, window, station);
            assert!(is_named, "{} {seed}: {place:?} is not in {found:?}", plant.name);
        }
        pipeline.database.execute(&restore.join("; ")).await;
    }
    assert_exact(&pipeline, limit).await;
}

/// `--until-latest`, with stations kept apart.
async fn drain_by_station(pipeline: &Pipeline) {
    let arguments = [&["--until-latest"][..], &BY_STATION].concat();
    pipeline.process("drain", &arguments).succeed(RUN_LIMIT).await;
}

#[tokio::test]
async fn what_kafka_no_longer_has_is_told_apart() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::new("trimmed").await;
    pipeline.produce(&LOAD).await;
    pipeline.drain().await;
    let (_, end) = pipeline.kafka.offsets(&pipeline.topic, 2).await;
    let cut = end / 2;
    let log = pipeline.kafka.partition(&pipeline.topic, 2).await;
    log.delete_records(cut, 10_000).await.expect("the log is cut");
    let (code, trimmed) = report(&pipeline, &[]).await;
    assert_eq!((code, trimmed.get_str("verdict")), (3, Some("unknown")), "{trimmed}");
    let unknown = trimmed.get_array("unknown").expect("what is unknown");
    let [about] = unknown.as_slice() else { panic!("{trimmed}") };
    assert_eq!((about.get_i64("partition"), about.get_i64("windows") > Some(0)), (Some(2), true));
    let why = format!("Kafka no longer has offsets 0 to {}", cut - 1);
    assert_eq!(about.get_str("why"), Some(why.as_str()));
    // Of the windows that are still there all is known, and of the rest nothing that is wrong is claimed.
    let compared = |partition: &OwnedValue| {
        partition.get_i64("partition") == Some(2) && partition.get_i64("windows") > Some(2)
    };
    assert!(trimmed.get_array("partitions").expect("partitions").iter().any(compared), "{trimmed}");
    for (order, expected) in [("DESC", 1), ("ASC", 3)] {
        let plant = format!(
            "UPDATE weather_partial SET humidity_sum = humidity_sum + 1 WHERE partition = 2 AND window_start =
             (SELECT window_start FROM weather_partial WHERE partition = 2 ORDER BY window_start {order} LIMIT 1)"
        );
        let output = "UPDATE weather_summary s SET avg_humidity = t.average FROM (
            SELECT window_start, (sum(humidity_sum) / 1000000.0 / sum(humidity_count))::double precision AS average
            FROM weather_partial GROUP BY window_start) t WHERE s.window_start = t.window_start";
        pipeline.database.execute(&format!("{plant}; {output}")).await;
        let (code, found) = report(&pipeline, &[]).await;
        assert_eq!(code, expected, "the {order} window was changed: {found}");
        pipeline.database.execute(&format!("{}; {output}", plant.replace("+ 1", "- 1"))).await;
    }
    // A recreated topic has nothing of what was counted.
    pipeline.kafka.delete_topic(&pipeline.topic).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    pipeline.kafka.create_topic(&pipeline.topic, 4).await;
    let (code, recreated) = report(&pipeline, &[]).await;
    assert_eq!(code, 3, "{recreated}");
    assert_eq!(recreated.get_array("unknown").map(Vec::len), Some(4), "{recreated}");
}

#[tokio::test]
async fn a_pipeline_at_work_is_exact_at_any_moment() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::new("verified").await;
    let load = ["--rate", "2000", "--duration", "30s", "--partitions", "4", "--late-ratio", "0.02"];
    let producer = pipeline.producer(&load);
    let start = || pipeline.spawn(&[&["--lease", "2s"][..], &BY_STATION].concat());
    let mut processes: Vec<Weather> = (0..3).map(|_| start()).collect();
    processes[0].wait_for_line("write OK", RUN_LIMIT).await;
    let mut reached = Vec::new();
    for _ in 0..8 {
        let report = assert_exact(&pipeline, &BY_STATION[2..]).await;
        assert!(sum(&report, "station_rows") > 0, "{report}");
        reached.push(sum(&report, "to_offset"));
        // Windows that are left without an owner, taken over, replayed.
        processes.remove(0).kill9().await;
        processes.push(start());
        processes[1].wait_for_line("write OK", RUN_LIMIT).await;
    }
    assert!(reached.is_sorted() && reached.first() < reached.last(), "it was not at work: {reached:?}");
    producer.succeed(RUN_LIMIT).await;
    for process in &processes {
        process.sigterm();
        process.succeed(END_LIMIT).await;
    }
    drain_by_station(&pipeline).await;
    pipeline.assert_table().await;
    assert_exact(&pipeline, &BY_STATION[2..]).await;
}

#[tokio::test]
async fn a_range_and_what_is_asked_wrongly() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::new("range").await;
    let (code, _) = exit(&pipeline, &[]).await;
    assert_eq!(code, Some(2), "there is no topic, and there are no tables");
    pipeline.produce(&LOAD).await;
    pipeline.drain().await;
    let second = "SELECT (extract(epoch FROM window_start) * 1000)::bigint FROM weather_summary ORDER BY 1 OFFSET 1 LIMIT 1";
    let start_ms = pipeline.database.number(second).await;
    let one = assert_exact(&pipeline, &["--window-start", &start_ms.to_string()]).await;
    assert_eq!((sum(&one, "windows"), one.get_i64("output_rows")), (4, Some(1)), "{one}");
    let changed = "UPDATE weather_partial SET temp_sum = temp_sum + 1 WHERE window_start = to_timestamp(";
    pipeline
        .database
        .execute(&format!("{changed}{start_ms} / 1000) AT TIME ZONE 'UTC' AND partition = 0"))
        .await;
    let after = (start_ms + 3_600_000).to_string();
    assert_exact(&pipeline, &["--from", &after]).await;
    let (code, report) = report(&pipeline, &["--to", &after]).await;
    assert_eq!(code, 1, "{report}");
    let (code, text) = exit(&pipeline, &[]).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("DIFFERS  window ") && text.contains("partition 0, offsets "), "{text}");
    for wrong in [
        &["--from", "yesterday"][..],
        &["--from", "2026-01-02", "--to", "2026-01-01"],
        &["--window-start", "2026-01-02", "--to", "2026-01-03"],
        &["--output-units", "wind_speed=km/h"],
    ] {
        let (code, text) = exit(&pipeline, wrong).await;
        assert_eq!(code, Some(2), "{wrong:?}: {text}");
    }
    let away = Weather::spawn(["verify", "--database-url", "postgres://u@127.0.0.1:1/d"]);
    assert_eq!(away.wait(RUN_LIMIT).await.code(), Some(3), "{:?}", away.stderr());
}

/// Exit code and all that it says.
async fn exit(pipeline: &Pipeline, arguments: &[&str]) -> (Option<i32>, String) {
    let run = verify(pipeline, arguments);
    let code = run.wait(RUN_LIMIT).await.code();
    (code, [run.stdout(), run.stderr()].concat().join("\n"))
}

#[tokio::test]
async fn digests_are_the_same_however_the_topic_was_read() {
    let _turn = turn::heavy().await;
    let digests = "SELECT string_agg(concat_ws('|', window_start, partition, reading_count, digest), ' '
        ORDER BY window_start, partition) FROM weather_partial";
    let one = Pipeline::new("digests").await;
    one.produce(&LOAD).await;
    one.drain().await;
    let of = async |pipeline: &Pipeline| pipeline.database.query(digests, &[]).await[0].get::<_, String>(0);
    let expected = of(&one).await;
    let three = Pipeline::of_topic(Kafka::shared(), &crate::support::Postgres::shared(), &one.topic).await;
    let arguments = [
        "--fetch-bytes",
        "4KiB",
        "--flush-interval",
        "1ms",
        "--checkpoint-interval",
        "50ms",
        "--lease",
        "2s",
    ];
    let mut dice = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..7 {
        let processes: Vec<Weather> = (0..3).map(|_| three.spawn(&arguments)).collect();
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tokio::time::sleep(Duration::from_millis(100 + (dice >> 33) % 700)).await;
        for process in processes {
            process.kill9().await;
        }
    }
    three.drain().await;
    assert_eq!(of(&three).await, expected);
    // The same topic but for one reading.
    let other = Pipeline::new("digests").await;
    other.kafka.create_topic(&other.topic, 4).await;
    for partition in 0..4 {
        let log = one.kafka.read(&one.topic, partition).await;
        let mut records: Vec<_> = log.into_iter().map(|record| record.record).collect();
        if partition == 1 {
            let value = records[700].value.as_mut().expect("a reading");
            let text = String::from_utf8(value.clone()).expect("JSON");
            let (before, rest) = text.split_once("\"humidity\":").expect("a humidity");
            let end = rest.find([',', '}']).expect("it ends");
            *value = format!("{before}\"humidity\":50.000001{}", &rest[end..]).into_bytes();
        }
        for portion in records.chunks(1_000) {
            other.kafka.produce(&other.topic, partition, portion.to_vec()).await;
        }
    }
    other.drain().await;
    let changed = of(&other).await;
    let differing = expected.split(' ').zip(changed.split(' ')).filter(|(a, b)| a != b).count();
    assert_eq!(differing, 1, "{expected}\n{changed}");
}
