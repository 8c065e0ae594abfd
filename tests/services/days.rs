//! The views of whole days: equal to a recomputation from the readings, in the zone asked for, or left out with a reason.

use std::collections::BTreeMap;

use crate::support::kafka::record;
use crate::support::pipeline::RUN_LIMIT;
use crate::support::{Pipeline, turn};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 1_440 * MINUTE_MS;
const COLUMNS: &str = "(day - date '1970-01-01')::bigint, reading_count, avg_temp, min_temp, max_temp, avg_humidity, \
     min_humidity, max_humidity, avg_wind_speed, max_wind_speed";

/// What is sent: time in ms, station, temperature in tenths; a humidity of 50 with every second one.
type Reading = (i64, String, i64);
/// A day's or a station's row: readings, then as in [`COLUMNS`].
type Day = (i64, [Option<f64>; 8]);

/// A few days until now, at every time of the day, in the order of time.
fn readings() -> Vec<Reading> {
    let now_ms = weather::time::now_ms();
    let at = |i: i64| (now_ms - (300 - i) * 17 * MINUTE_MS, format!("s{}", i % 7), i * 37 % 400 - 100);
    (0..300).map(at).collect()
}

fn is_moist(temp: i64) -> bool {
    temp % 2 == 0
}

async fn send(pipeline: &Pipeline, readings: &[Reading]) {
    for partition in 0..2 {
        let its = readings.iter().skip(usize::try_from(partition).unwrap_or(0)).step_by(2);
        let value = |(at, station, temp): &Reading| {
            let humidity = if is_moist(*temp) { "50" } else { "null" };
            let sign = if *temp < 0 { "-" } else { "" };
            let (whole, tenth) = (temp.abs() / 10, temp.abs() % 10);
            record(format!(
                r#"{{"station":"{station}","timestamp":{at},"temperature":{sign}{whole}.{tenth},"humidity":{humidity}}}"#
            ))
        };
        pipeline.kafka.produce(&pipeline.topic, partition, its.map(value).collect()).await;
    }
}

/// By day since 1970 and station, of clocks so far ahead of UTC.
fn expected(readings: &[Reading], ahead_ms: i64, by_station: bool) -> BTreeMap<(i64, String), Day> {
    let mut days: BTreeMap<(i64, String), Vec<i64>> = BTreeMap::new();
    for (at, station, temp) in readings {
        let station = if by_station { station.clone() } else { String::new() };
        days.entry(((at + ahead_ms).div_euclid(DAY_MS), station)).or_default().push(*temp);
    }
    let row = |temps: Vec<i64>| {
        let sum: i64 = temps.iter().map(|temp| temp * 100_000).sum();
        let average = sum as f64 / temps.len() as f64 / 1e6;
        let extreme = |temp: Option<&i64>| temp.map(|temp| (temp * 100_000) as f64 / 1e6);
        let humidity = temps.iter().any(|temp| is_moist(*temp)).then_some(50.0);
        let (least, greatest) = (extreme(temps.iter().min()), extreme(temps.iter().max()));
        let values = [Some(average), least, greatest, humidity, humidity, humidity, None, None];
        (temps.len() as i64, values)
    };
    days.into_iter().map(|(key, temps)| (key, row(temps))).collect()
}

async fn found(pipeline: &Pipeline, view: &str, station: &str) -> BTreeMap<(i64, String), Day> {
    let query = format!("SELECT {COLUMNS}, {station}::text FROM {view}");
    let rows = pipeline.database.query(&query, &[]).await;
    let day = |row: &tokio_postgres::Row| {
        ((row.get(0), row.get(10)), (row.get(1), std::array::from_fn(|i| row.get(2 + i))))
    };
    rows.iter().map(day).collect()
}

/// Both views in a zone that is so far ahead of UTC.
async fn assert_days(pipeline: &Pipeline, readings: &[Reading], ahead_ms: i64) {
    let stations = found(pipeline, "weather_station_daily", "station").await;
    assert_eq!(stations, expected(readings, ahead_ms, true));
    assert_eq!(found(pipeline, "weather_daily", "''").await, expected(readings, ahead_ms, false));
}

/// A run to the end of the topic; what it logs about views of days.
async fn drain(pipeline: &Pipeline, arguments: &[&str]) -> Vec<String> {
    let run = pipeline.process("drain", &[&["--until-latest"][..], arguments].concat());
    run.succeed(RUN_LIMIT).await;
    run.stderr().into_iter().filter(|line| line.contains("of whole days")).collect()
}

#[tokio::test]
async fn days_are_those_of_the_zone_and_equal_a_recomputation() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("days", 2).await;
    let readings = readings();
    send(&pipeline, &readings).await;
    let by_station = ["--by", "station", "--time-zone"];
    for (zone, hours_ahead, made) in [
        ("UTC", 0, 2),
        ("UTC", 0, 0),
        ("Asia/Ho_Chi_Minh", 7, 2),
        ("Asia/Ho_Chi_Minh", 7, 0),
        ("-03:00", -3, 2),
        // Does not fit: the views stay as they are.
        ("+05:30", -3, 1),
    ] {
        let lines = drain(&pipeline, &[&by_station[..], &[zone]].concat()).await;
        assert_eq!(lines.len(), made, "{zone}: {lines:?}");
        assert_days(&pipeline, &readings, hours_ahead * 60 * MINUTE_MS).await;
    }
    // Of the users' table nothing depends on them.
    pipeline.database.execute("DROP VIEW weather_station_summary; DROP TABLE weather_summary").await;
}

#[tokio::test]
async fn views_that_cannot_be_made_are_left_out_with_one_line() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("undated", 1).await;
    for (zone, reason) in [
        ("Asia/Kolkata", "windows of 3600 s do not fit into the days of Asia/Kolkata"),
        ("Europe/Berlin", "there is another weather_daily"),
    ] {
        if zone == "Europe/Berlin" {
            pipeline.database.execute("CREATE TABLE weather_daily (of_the_user INT)").await;
        }
        let lines = drain(&pipeline, &["--time-zone", zone]).await;
        assert!(lines.len() == 1 && lines[0].contains(reason), "{zone}: {lines:?}");
    }
    pipeline.database.execute("DROP TABLE weather_daily").await;
    // PostgreSQL takes this name for an abbreviation, which knows no summer.
    let lines = drain(&pipeline, &["--time-zone", "CET"]).await;
    assert!(lines.len() == 1 && lines[0].contains("CET"), "{lines:?}");
    assert!(!pipeline.database.has_table("weather_daily").await);

    let (pipeline, role) = pipeline.with_a_poor_role().await;
    let lines = drain(&pipeline, &[]).await;
    assert!(lines.len() == 1 && lines[0].contains("permission denied"), "{lines:?}");
    pipeline.database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
