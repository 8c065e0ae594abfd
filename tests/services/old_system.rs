//! Coming from the replaced system: its records as they lie in the topic, and its table with rows in it.

use std::collections::BTreeMap;

use crate::support::pipeline::RUN_LIMIT;
use crate::support::{Folder, Pipeline, turn};

const OLD_TABLE: &str = "CREATE TABLE weather_summary (window_start TIMESTAMP, window_end TIMESTAMP, \
     avg_temp DOUBLE PRECISION, avg_humidity DOUBLE PRECISION, avg_wind_speed DOUBLE PRECISION)";
const HOUR_S: i64 = 3_600;
/// 2024-03-05 00:00 on the clock of the old producer's machine.
const MIDNIGHT_S: i64 = 1_709_596_800;
const KMH: [&str; 2] = ["--output-units", "wind_speed=km/h"];

/// Averages of temperature, humidity and wind by the hour, and how many there were.
type Averages = BTreeMap<i64, ([f64; 3], f64)>;

/// Records in the old producer's very form, every two minutes of five hours, and what its Spark job would make of them
/// if its session were `ahead_s` ahead of UTC.
fn old_records(ahead_s: i64) -> (String, Averages) {
    let (mut lines, mut sums) = (String::new(), Averages::new());
    for number in 0..150 {
        let clock_s = 8 * HOUR_S + number * 120;
        let (temperature, humidity) = (25.0 + (number as f64 * 0.137_483_920_335) % 10.0, 60 + number % 30);
        let wind = (number % 70) as f64 / 4.0;
        let text = |seconds: bool| {
            let seconds = if seconds { format!(":{:02}", clock_s % 60) } else { String::new() };
            format!("2024-03-05 {:02}:{:02}{seconds}", clock_s / 3600, clock_s / 60 % 60)
        };
        lines += &format!(
            "{{\"city\": \"H\\u00e0 N\\u1ed9i\", \"temperature_c\": {temperature}, \"humidity\": {humidity}, \
             \"wind_speed_kph\": {wind:.1}, \"condition\": \"Sunny\", \"last_updated\": \"{}\", \"timestamp\": \"{}\"}}\n",
            text(false),
            text(true)
        );
        let window = (MIDNIGHT_S + clock_s - ahead_s).div_euclid(HOUR_S) * HOUR_S;
        let (sum, count) = sums.entry(window).or_default();
        let wind: f64 = format!("{wind:.1}").parse().expect("a number");
        for (sum, value) in sum.iter_mut().zip([temperature, humidity as f64, wind]) {
            *sum += value;
        }
        *count += 1.0;
    }
    for (sum, count) in sums.values_mut() {
        sum.iter_mut().for_each(|sum| *sum /= *count);
    }
    (lines, sums)
}

async fn pipeline_with(records: &str, label: &str) -> Pipeline {
    let pipeline = Pipeline::with_topic(label, 1).await;
    let folder = Folder::new("old-records");
    std::fs::create_dir_all(folder.path()).expect("a folder");
    let path = folder.path().join("old.ndjson");
    std::fs::write(&path, records).expect("a file");
    pipeline.produce(&["--source", path.to_str().expect("UTF-8")]).await;
    pipeline
}

async fn rows(pipeline: &Pipeline) -> Averages {
    let query = "SELECT extract(epoch FROM window_start)::bigint, avg_temp, avg_humidity, avg_wind_speed, \
                 reading_count::float8 FROM weather_summary";
    let rows = pipeline.database.query(query, &[]).await;
    let averages = |row: &tokio_postgres::Row| [row.get(1), row.get(2), row.get(3)];
    rows.iter().map(|row| (row.get(0), (averages(row), row.get(4)))).collect()
}

fn assert_close(found: &Averages, expected: &Averages) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (window, (averages, count)) in expected {
        let (row, readings) = found[window];
        assert_eq!(readings, *count, "readings of {window}");
        let close = row.iter().zip(averages).all(|(found, expected)| (found - expected).abs() < 1e-6);
        assert!(close, "{window}: {row:?}, expected {averages:?}");
    }
}

#[tokio::test]
async fn its_records_are_averaged_as_its_job_would_in_any_zone() {
    let _turn = turn::light().await;
    for (zone, ahead_s) in [("UTC", 0), ("Asia/Ho_Chi_Minh", 7 * HOUR_S)] {
        let (records, expected) = old_records(ahead_s);
        let pipeline = pipeline_with(&records, "old-form").await;
        pipeline.database.execute(OLD_TABLE).await;
        let arguments = [&["--until-latest", "--time-zone", zone], &KMH[..]].concat();
        pipeline.spawn(&arguments).succeed(RUN_LIMIT).await;
        assert_close(&rows(&pipeline).await, &expected);
    }
}

#[tokio::test]
async fn its_averages_stay_unless_better_ones_are_there() {
    let _turn = turn::light().await;
    let (records, mut expected) = old_records(0);
    let pipeline = pipeline_with(&records, "old-rows").await;
    let database = &pipeline.database;
    database.execute(OLD_TABLE).await;
    // Of a day that the topic has no more, and of windows that are read whole.
    let (before, whole, last) = (MIDNIGHT_S - 24 * HOUR_S, MIDNIGHT_S + 9 * HOUR_S, MIDNIGHT_S + 12 * HOUR_S);
    for start_s in [before, whole, last] {
        let row = format!("to_timestamp({start_s}) AT TIME ZONE 'UTC'");
        let insert =
            format!("INSERT INTO weather_summary VALUES ({row}, {row} + interval '1 hour', 20.5, 72, 10.8)");
        database.execute(&insert).await;
    }

    // Which unit is it to continue in? Nothing is changed before the user has chosen.
    let run = pipeline.spawn(&["--until-latest"]);
    assert_eq!(run.wait(RUN_LIMIT).await.code(), Some(2));
    let said = run.stderr().into_iter().find(|line| line.starts_with("weather: ")).unwrap_or_default();
    assert!(said.contains("km/h") && said.contains("--output-units wind_speed=km/h"), "{said}");
    assert!(!database.has_table("weather_partition").await, "nothing is half done");

    let drain = [&["--until-latest"], &KMH[..]].concat();
    for _ in 0..2 {
        pipeline.spawn(&drain).succeed(RUN_LIMIT).await;
        let found = rows(&pipeline).await;
        expected.insert(before, ([20.5, 72.0, 10.8], 0.0));
        assert_close(&found, &expected);
    }

    // The choice is kept with the tables.
    let run = pipeline.spawn(&["--until-latest"]);
    assert_eq!(run.wait(RUN_LIMIT).await.code(), Some(2));
    assert!(run.stderr().iter().any(|line| line.contains("wind_speed=km/h")), "{:?}", run.stderr());
}

#[tokio::test]
async fn an_average_never_becomes_null() {
    let _turn = turn::light().await;
    let (records, _) = old_records(0);
    // Wind under a name that nobody can know the unit of.
    let pipeline = pipeline_with(&records.replace("wind_speed_kph", "wind"), "old-null").await;
    pipeline.database.execute(OLD_TABLE).await;
    let row = format!("to_timestamp({}) AT TIME ZONE 'UTC'", MIDNIGHT_S + 9 * HOUR_S);
    let insert =
        format!("INSERT INTO weather_summary VALUES ({row}, {row} + interval '1 hour', 20.5, 72, 10.8)");
    pipeline.database.execute(&insert).await;
    pipeline.spawn(&[&["--until-latest"], &KMH[..]].concat()).succeed(RUN_LIMIT).await;
    let kept = "SELECT count(*) FROM weather_summary WHERE avg_temp = 20.5 AND avg_wind_speed = 10.8";
    assert_eq!(pipeline.database.number(kept).await, 1);
}
