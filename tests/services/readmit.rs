//! `weather readmit`: dead letters come into their windows, each once, whatever happens meanwhile.

use std::time::Duration;

use crate::support::kafka::record;
use crate::support::oracle::{Expected, Rules};
use crate::support::pipeline::RUN_LIMIT;
use crate::support::{Pipeline, Weather, turn};

fn readmit(pipeline: &Pipeline, arguments: &[&str]) -> Weather {
    let own = ["readmit", "--topic", &pipeline.topic, "--database-url", &pipeline.url];
    Weather::spawn(own.iter().chain(arguments))
}

/// What it prints, at its end.
async fn readmitted(pipeline: &Pipeline, arguments: &[&str]) -> String {
    let run = readmit(pipeline, arguments);
    run.succeed(RUN_LIMIT).await;
    run.stdout().join("\n")
}

async fn assert_verified(pipeline: &Pipeline) {
    let own = ["verify", "--brokers", &pipeline.brokers, "--topic", &pipeline.topic];
    let run = Weather::spawn(own.iter().chain(&["--database-url", &pipeline.url]));
    let status = run.wait(RUN_LIMIT).await;
    assert!(status.success(), "{:?}, {:?}", run.stdout(), run.stderr());
}

/// The topic by rules that know no lateness.
async fn assert_equals_a_recomputation_without_lateness(pipeline: &Pipeline) {
    let rules = Rules { watermark_ms: i64::MAX / 4, ..Rules::default() };
    let expected = Expected::of_topic(&pipeline.kafka, &pipeline.topic, rules).await;
    expected.assert_windows(&pipeline.database).await;
}

const TAKEN: &str =
    "SELECT coalesce(sum(reading_count), 0)::bigint FROM weather_partial WHERE partition = -1";
const MARKED: &str = "SELECT count(*) FROM weather_dead_letter WHERE readmitted_at IS NOT NULL";
const LATE: &str = "SELECT count(*) FROM weather_dead_letter WHERE reason = 'late'";

#[tokio::test]
async fn late_readings_are_taken_once_whoever_is_killed_meanwhile() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::new("readmitted").await;
    // Not more late ones at once than are kept of a flood.
    let load = ["--rate", "120", "--duration", "25s", "--partitions", "4", "--late-ratio", "0.3"];
    let producer = pipeline.producer(&load);
    let mut process = pipeline.spawn(&["--lease", "2s"]);
    process.wait_for_line("write OK", RUN_LIMIT).await;
    let mut dice = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..10 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let runs = [readmit(&pipeline, &[]), readmit(&pipeline, &[])];
        tokio::time::sleep(Duration::from_millis((dice >> 33) % 60)).await;
        for run in runs {
            run.kill9().await;
        }
        if round % 3 == 0 {
            process.kill9().await;
            process = pipeline.spawn(&["--lease", "2s"]);
            process.wait_for_line("write OK", RUN_LIMIT).await;
        }
        if round % 4 == 1 {
            readmitted(&pipeline, &[]).await;
        }
        assert_eq!(pipeline.database.number(TAKEN).await, pipeline.database.number(MARKED).await);
    }
    producer.succeed(RUN_LIMIT).await;
    process.sigterm();
    process.succeed(RUN_LIMIT).await;
    pipeline.drain().await;
    let (a, b) = (readmit(&pipeline, &[]), readmit(&pipeline, &[]));
    a.succeed(RUN_LIMIT).await;
    b.succeed(RUN_LIMIT).await;
    let late = pipeline.database.number(LATE).await;
    assert!(late > 500, "{late} late");
    assert_eq!((pipeline.database.number(TAKEN).await, pipeline.database.number(MARKED).await), (late, late));
    assert_equals_a_recomputation_without_lateness(&pipeline).await;
    let before = pipeline.table().await;
    assert!(readmitted(&pipeline, &[]).await.starts_with("0 readings of 0 dead letters taken"));
    assert_eq!(pipeline.table().await, before);
    // No process writes over it.
    std::fs::remove_dir_all(pipeline.checkpoints.path()).expect("the folder can be removed");
    pipeline.drain().await;
    assert_equals_a_recomputation_without_lateness(&pipeline).await;
    assert_verified(&pipeline).await;
    for plant in [
        "UPDATE weather_partial SET wind_speed_sum = wind_speed_sum - 1 WHERE (partition, window_start) =
            (SELECT -1, min(window_start) FROM weather_partial WHERE partition = -1)",
        "UPDATE weather_dead_letter SET readmitted_at = NULL WHERE (partition, \"offset\") =
            (SELECT partition, \"offset\" FROM weather_dead_letter WHERE readmitted_at IS NOT NULL LIMIT 1)",
    ] {
        pipeline.database.execute(plant).await;
        let own = ["verify", "--brokers", &pipeline.brokers, "--topic", &pipeline.topic];
        let run = Weather::spawn(own.iter().chain(&["--database-url", &pipeline.url]));
        assert_eq!(run.wait(RUN_LIMIT).await.code(), Some(1), "{plant}: {:?}", run.stdout());
        assert!(run.stdout().join("\n").contains("readmitted readings"), "{:?}", run.stdout());
    }
}

#[tokio::test]
async fn what_cannot_be_taken_is_counted_by_its_cause() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("refused", 1).await;
    let hour_ms = 3_600_000;
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is past 1970");
    let now_ms = now_ms.as_millis() as i64;
    let reading = |time_ms: i64, rest: &str| format!(r#"{{"timestamp":{time_ms},"temperature":20{rest}}}"#);
    let long = format!(r#","note":"{}""#, "x".repeat(5_000));
    let values = [
        reading(now_ms, ""),
        reading(now_ms - 5 * hour_ms, ""),
        reading(now_ms - 50 * hour_ms, ""),
        reading(now_ms - 5 * hour_ms, &long),
        reading(now_ms + 5 * hour_ms, ""),
        "not JSON".to_owned(),
    ];
    pipeline.kafka.produce(&pipeline.topic, 0, values.map(record).to_vec()).await;
    pipeline.drain().await;
    let table = pipeline.table().await;
    let from = (now_ms - 10 * hour_ms).to_string();
    let all = ["--reason", "late,future,malformed", "--from", &from];
    for dry_run in [true, false] {
        let arguments = [&all[..], if dry_run { &["--dry-run"] } else { &[] }].concat();
        let said = readmitted(&pipeline, &arguments).await;
        let done = if dry_run { "would be taken" } else { "taken" };
        for line in [
            &format!("1 readings of 1 dead letters {done} into 1 windows"),
            "1 not taken: only the first 4 KiB",
            "1 not taken: still in the future",
            "1 not taken: still malformed",
            "1 not taken: outside of --from and --to",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
        assert_eq!(pipeline.table().await == table, dry_run);
    }
    assert_eq!(pipeline.database.number(MARKED).await, 1);
    assert_verified(&pipeline).await;
    let wrong = readmit(&pipeline, &["--reason", "early"]);
    assert_eq!(wrong.wait(RUN_LIMIT).await.code(), Some(2), "{:?}", wrong.stderr());
}

/// What `weather verify` says, and its exit code.
async fn verified(pipeline: &Pipeline, arguments: &[&str]) -> (Option<i32>, String) {
    let own = ["verify", "--brokers", &pipeline.brokers, "--topic", &pipeline.topic];
    let run = Weather::spawn(own.iter().chain(&["--database-url", &pipeline.url]).chain(arguments));
    let code = run.wait(RUN_LIMIT).await.code();
    (code, run.stdout().join("\n"))
}

#[tokio::test]
async fn stations_have_their_readmitted_readings_too() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::new("named").await;
    let load = ["--rate", "0", "--backfill", "6h", "--partitions", "3", "--late-ratio", "0.1"];
    let by_station = ["--until-latest", "--by", "station"];
    pipeline.produce(&[&load[..], &["--count", "6000"]].concat()).await;
    pipeline.process("drain", &by_station).succeed(RUN_LIMIT).await;
    let assert_stations = async || {
        let rules = Rules { watermark_ms: i64::MAX / 4, ..Rules::default() };
        let expected = Expected::of_topic(&pipeline.kafka, &pipeline.topic, rules).await;
        expected.assert_windows(&pipeline.database).await;
        expected.assert_stations(&pipeline.database).await;
        assert_verified(&pipeline).await;
    };
    let (a, b) = (readmit(&pipeline, &[]), readmit(&pipeline, &[]));
    a.succeed(RUN_LIMIT).await;
    b.succeed(RUN_LIMIT).await;
    assert!(pipeline.database.number(TAKEN).await > 100, "too few are late");
    assert_stations().await;
    // Into windows that have readmitted readings already, of the same stations.
    pipeline.produce(&[&load[..], &["--count", "2000", "--seed", "7"]].concat()).await;
    pipeline.process("drain", &by_station).succeed(RUN_LIMIT).await;
    readmitted(&pipeline, &[]).await;
    assert_stations().await;
    for partition in [-1, 1] {
        for change in
            ["temp_sum = temp_sum + 1", "wind_speed_count = wind_speed_count - 1", "max_temp = 99000000"]
        {
            let kept = "CREATE TABLE kept AS TABLE weather_station_partial";
            let plant = format!(
                "UPDATE weather_station_partial SET {change} WHERE (station, window_start, partition) =
                 (SELECT station, window_start, partition FROM weather_station_partial
                  WHERE partition = {partition} AND temp_count > 0 ORDER BY station, window_start LIMIT 1)"
            );
            pipeline.database.execute(&format!("{kept}; {plant}")).await;
            let (code, said) = verified(&pipeline, &[]).await;
            let together = format!("partition {partition}: its rows of weather_station_partial together: ");
            let named = if partition < 0 { together.as_str() } else { ": station \"" };
            assert!(code == Some(1) && said.contains(named), "{change}: {said}");
            let restore = "TRUNCATE weather_station_partial; INSERT INTO weather_station_partial TABLE kept";
            pipeline.database.execute(&format!("{restore}; DROP TABLE kept")).await;
        }
    }
    assert_verified(&pipeline).await;
}

#[tokio::test]
async fn what_was_readmitted_before_stations_were_asked_for_counts_for_the_others() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("unnamed", 1).await;
    let hour_ms = 3_600_000;
    let now_ms = weather::time::now_ms();
    let reading = |station: &str, time_ms: i64| {
        record(format!(r#"{{"station":"{station}","timestamp":{time_ms},"temperature":20}}"#))
    };
    let late_ms = now_ms - 5 * hour_ms;
    pipeline.kafka.produce(&pipeline.topic, 0, vec![reading("a", now_ms), reading("a", late_ms)]).await;
    pipeline.drain().await;
    readmitted(&pipeline, &[]).await;
    pipeline.process("drain", &["--until-latest", "--by", "station"]).succeed(RUN_LIMIT).await;
    pipeline.kafka.produce(&pipeline.topic, 0, vec![reading("b", late_ms), reading("b", now_ms)]).await;
    pipeline.process("drain", &["--until-latest", "--by", "station"]).succeed(RUN_LIMIT).await;
    // Since when stations are kept apart is not stored.
    let before = "before --by station was set";
    let (code, said) = verified(&pipeline, &[]).await;
    assert!(code == Some(3) && said.contains(before), "{said}");
    readmitted(&pipeline, &[]).await;
    let rows = "SELECT string_agg(station || ' ' || reading_count, ', ' ORDER BY station COLLATE \"C\")
        FROM weather_station_partial WHERE partition = -1";
    let found: String = pipeline.database.query(rows, &[]).await[0].get(0);
    assert_eq!(found, "* 1, b 1");
    let (code, said) = verified(&pipeline, &[]).await;
    assert!(code == Some(3) && said.contains(before), "{said}");
}
