//! `--by station`: every station of every window is exact, and all of them add up to the window.

use std::time::Duration;

use rskafka::record::Record;

use crate::support::kafka::record;
use crate::support::pipeline::{END_LIMIT, RUN_LIMIT};
use crate::support::{Pipeline, Weather, turn};

const BY_STATION: [&str; 4] = ["--by", "station", "--max-stations", "50000"];
/// Replacements of one of the three processes in one run.
const KILLS: usize = 12;

/// `--until-latest` to its end, with these arguments.
async fn drain(pipeline: &Pipeline, arguments: &[&str]) {
    pipeline.process("drain", &[&["--until-latest"][..], arguments].concat()).succeed(RUN_LIMIT).await;
}

async fn assert_exact(pipeline: &Pipeline) {
    pipeline.assert_table().await.assert_stations(&pipeline.database).await;
}

#[tokio::test]
async fn three_processes_are_killed_ended_and_started_and_every_station_is_exact() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::with_topic("stations", 6).await;
    let load = ["--rate", "3000", "--duration", "35s", "--stations", "300", "--backfill", "6h"];
    let bad = ["--speedup", "600", "--late-ratio", "0.02", "--malformed-ratio", "0.002"];
    let producer = pipeline.producer(&[&load[..], &bad].concat());
    let start = || {
        let arguments = ["--lease", "2s", "--checkpoint-interval", "100ms", "--station-flush-interval", "2s"];
        pipeline.process("shared", &[&BY_STATION[..], &arguments].concat())
    };
    let mut runs: Vec<Weather> = (0..3).map(|_| start()).collect();
    for round in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(900 + 370 * (round as u64 % 4))).await;
        let run = runs.remove(0);
        if round % 3 == 2 {
            run.sigterm();
            run.succeed(END_LIMIT).await;
        } else {
            run.kill9().await;
        }
        if round % 2 == 1 {
            // The next owner has nothing but the tables.
            for file in std::fs::read_dir(pipeline.checkpoints.path()).expect("the folder is there").flatten()
            {
                // A process may have replaced it meanwhile.
                let _ = std::fs::remove_file(file.path());
            }
        }
        runs.push(start());
    }
    producer.succeed(RUN_LIMIT).await;
    for run in &runs {
        run.sigterm();
        run.succeed(END_LIMIT).await;
    }
    drain(&pipeline, &BY_STATION).await;
    assert_exact(&pipeline).await;
}

#[tokio::test]
async fn twenty_thousand_stations_with_and_without_keys() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::with_topic("many", 3).await;
    pipeline.produce(&["--stations", "20000", "--count", "60000", "--rate", "0"]).await;
    drain(&pipeline, &BY_STATION).await;
    // The same stations, each in every partition now.
    let time_ms = weather::time::now_ms();
    for partition in 0..3 {
        let value = |i: i64| {
            let at = time_ms - i % 60_000;
            record(format!(r#"{{"station":"s{}","timestamp":{at},"temperature":{}.5}}"#, i % 20_000, i % 50))
        };
        for from in (0..30_000).step_by(5_000) {
            pipeline
                .kafka
                .produce(&pipeline.topic, partition, (from..from + 5_000).map(value).collect())
                .await;
        }
    }
    drain(&pipeline, &BY_STATION).await;
    assert_exact(&pipeline).await;
}

#[tokio::test]
async fn names_of_stations_may_be_anything() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("names", 1).await;
    let time_ms = weather::time::now_ms();
    let long = format!(r#""{}""#, "\u{1f321}".repeat(100));
    let nothings = format!(r#""{}""#, r"\u0000".repeat(200));
    let names: [&str; 12] = [
        r#""Hà Nội""#,
        r#""a\u0000b""#,
        r#""'; DROP TABLE weather_summary; --""#,
        r#""\"\\\n\u202e""#,
        &long,
        &nothings,
        r#""""#,
        r#""*""#,
        "null",
        "{}",
        "17",
        r#""17""#,
    ];
    let value = |name: &&str| record(format!(r#"{{"station":{name},"timestamp":{time_ms},"humidity":50}}"#));
    let records = || {
        let mut records: Vec<Record> = names.iter().map(value).collect();
        records.push(record(format!(r#"{{"timestamp":{time_ms},"humidity":51}}"#)));
        records
    };
    // The second time, their rows are found as they are stored.
    for _ in 0..2 {
        pipeline.kafka.produce(&pipeline.topic, 0, records()).await;
        drain(&pipeline, &BY_STATION).await;
        assert_exact(&pipeline).await;
    }
    let nameless = "SELECT reading_count FROM weather_station_summary WHERE station = ''";
    assert_eq!(pipeline.database.number(nameless).await, 2 * 4);
}

#[tokio::test]
async fn what_is_beyond_the_limit_or_came_before_counts_for_the_others() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("limits", 2).await;
    pipeline.produce(&["--stations", "50", "--count", "500", "--rate", "0"]).await;
    // Nobody has asked for stations yet.
    pipeline.drain().await;
    pipeline.produce(&["--stations", "50", "--count", "1000", "--rate", "0", "--seed", "2"]).await;
    drain(&pipeline, &["--by", "station", "--max-stations", "5"]).await;
    let database = &pipeline.database;
    let others =
        "SELECT coalesce(sum(reading_count), 0)::bigint FROM weather_station_partial WHERE station = '*'";
    let named = "SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM weather_station_partial \
                 WHERE station <> '*' GROUP BY window_start, partition) t";
    assert!(database.number(others).await > 500);
    assert_eq!(database.number(named).await, 5);
    let sums = "SELECT (SELECT sum(reading_count) FROM weather_station_summary)::bigint \
                - (SELECT sum(reading_count) FROM weather_summary)::bigint";
    assert_eq!(database.number(sums).await, 0);
    pipeline.assert_table().await;
}

#[tokio::test]
async fn old_windows_of_stations_are_deleted_when_asked() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("retained", 1).await;
    pipeline.produce(&["--stations", "5", "--count", "50", "--rate", "0"]).await;
    drain(&pipeline, &BY_STATION).await;
    let old = "INSERT INTO weather_station_partial SELECT station, window_start - interval '40 days', partition, \
               reading_count, temp_count, humidity_count, wind_speed_count, temp_sum, humidity_sum, wind_speed_sum \
               FROM weather_station_partial";
    pipeline.database.execute(old).await;
    let run = pipeline.process("keeper", &["--by", "station", "--station-retention", "30d"]);
    let left = "SELECT count(*) FROM weather_station_partial WHERE window_start < now() - interval '30 days'";
    let start = std::time::Instant::now();
    while pipeline.database.number(left).await > 0 {
        assert!(start.elapsed() < RUN_LIMIT, "they are still there");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(pipeline.database.number("SELECT count(*) FROM weather_station_partial").await >= 5);
    run.sigterm();
    run.succeed(END_LIMIT).await;
}
