//! Slow, idle and new partitions, and when a window may be called final; a backlog of two days.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rskafka::record::Record;
use weather::embedded::{Broker, Options};

use crate::support::kafka::record;
use crate::support::pipeline::RUN_LIMIT;
use crate::support::{Kafka, Pipeline, Postgres, turn};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

fn reading(event_time_ms: i64) -> Record {
    record(format!(r#"{{"timestamp":{event_time_ms},"temperature":20.5,"humidity":50}}"#))
}

/// Hours since `start_ms` of the windows, and whether each is final.
async fn finals(pipeline: &Pipeline, start_ms: i64) -> BTreeMap<i64, bool> {
    let query = "SELECT (EXTRACT(EPOCH FROM window_start) * 1000)::bigint, is_final FROM weather_summary";
    let rows = pipeline.database.query(query, &[]).await;
    rows.iter().map(|row| ((row.get::<_, i64>(0) - start_ms) / HOUR_MS, row.get(1))).collect()
}

/// Waits until the windows are like this; none may be final before.
async fn wait_for_finals(pipeline: &Pipeline, start_ms: i64, wanted: &[(i64, bool)]) {
    let (start, wanted) = (Instant::now(), BTreeMap::from_iter(wanted.iter().copied()));
    loop {
        let found = finals(pipeline, start_ms).await;
        let hasty = found.iter().any(|(hour, is_final)| *is_final && wanted.get(hour) == Some(&false));
        assert!(!hasty, "{found:?}, expected {wanted:?}");
        if found == wanted {
            return;
        }
        assert!(start.elapsed() < RUN_LIMIT, "{found:?}, expected {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn no_window_is_final_too_early_and_none_stays_open() {
    let _turn = turn::heavy().await;
    let broker = Broker::start(Options::default()).await.expect("a broker");
    let pipeline =
        Pipeline::audited(Kafka::at(broker.address().port()), &Postgres::shared(), "final", 2).await;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_millis() as i64;
    let start_ms = now_ms.div_euclid(HOUR_MS) * HOUR_MS - 9 * HOUR_MS;
    let at = |hour: i64, minute: i64| reading(start_ms + hour * HOUR_MS + minute * MINUTE_MS);
    let process = pipeline.process("one", &["--idle-timeout", "2s"]);
    let send = async |partition: i32, record: Record| {
        pipeline.kafka.produce(&pipeline.topic, partition, vec![record]).await
    };

    // One partition is hours ahead of the other, which is slow, but not idle.
    for hour in 0..4 {
        send(0, at(hour, 30)).await;
    }
    for tick in 0..20 {
        send(0, at(3, 31)).await;
        send(1, at(1, tick)).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
        let found = finals(&pipeline, start_ms).await;
        assert!(found.iter().all(|(hour, is_final)| *hour == 0 || !is_final), "tick {tick}: {found:?}");
    }
    wait_for_finals(&pipeline, start_ms, &[(0, true), (1, false), (2, false), (3, false)]).await;
    // A window's end is passed when the watermark, ten minutes behind, has reached it: not before.
    send(0, at(3, 32)).await;
    send(1, at(2, 9)).await;
    wait_for_finals(&pipeline, start_ms, &[(0, true), (1, false), (2, false), (3, false)]).await;
    send(0, at(3, 33)).await;
    send(1, at(2, 10)).await;
    wait_for_finals(&pipeline, start_ms, &[(0, true), (1, true), (2, false), (3, false)]).await;
    // Both fall silent: time alone closes what is left, and a reading that comes after that still counts.
    wait_for_finals(&pipeline, start_ms, &[(0, true), (1, true), (2, true), (3, true)]).await;
    send(0, at(3, 40)).await;
    // A new partition holds nothing back that was closed, and none of what comes stays open.
    broker.add_partitions(&pipeline.topic, 3).expect("there were two");
    send(2, at(5, 0)).await;
    process.wait_for_line("took a partition partition=2", RUN_LIMIT).await;
    wait_for_finals(&pipeline, start_ms, &[(0, true), (1, true), (2, true), (3, true), (5, true)]).await;
    pipeline.assert_exact(&[&process]).await;
}

/// Peak memory of a process over this many readings of 48 hours, bytes.
async fn peak_of_backlog(count: &str) -> u64 {
    let pipeline = Pipeline::audited(Kafka::shared(), &Postgres::shared(), "backlog", 4).await;
    pipeline
        .producer(&["--count", count, "--rate", "0", "--backfill", "48h", "--stations", "400"])
        .succeed(RUN_LIMIT)
        .await;
    let run = pipeline.drain().await;
    let windows = pipeline.database.number("SELECT count(*) FROM weather_summary").await;
    assert!((48..=50).contains(&windows), "{windows} windows");
    pipeline.assert_exact(&[]).await;
    run.usage().peak_rss_bytes
}

#[tokio::test]
async fn a_backlog_of_48_hours_takes_no_more_memory_than_a_small_one() {
    let _turn = turn::heavy().await;
    let (small, large) = (peak_of_backlog("100000").await, peak_of_backlog("800000").await);
    println!("peak memory: {} KiB for 100,000 readings, {} KiB for 800,000", small / 1024, large / 1024);
    assert!(large < small + small / 2, "eight times the backlog takes much more");
}

/// What a process with these readings may take: less than its pod has (128 MiB), with room for what else it does.
const MOST_BYTES: u64 = 100 * 1024 * 1024;

/// Nearly every record of a partition has a window of its own here, and PostgreSQL takes windows more slowly than Kafka gives
/// them. Those that wait have one bound, however many partitions there are and however many windows an answer of Kafka has.
#[tokio::test]
async fn a_history_of_many_windows_takes_no_more_memory_than_a_pod_has() {
    let _turn = turn::heavy().await;
    read_history("240000", &[]).await;
}

/// The same where nearly every record has a row of its own, too: that of its station in its window.
#[tokio::test]
async fn a_history_of_many_stations_takes_no_more_memory_than_a_pod_has() {
    let _turn = turn::heavy().await;
    let pipeline = read_history("600000", &["--by", "station"]).await;
    let stations = "SELECT sum(reading_count)::bigint FROM weather_station_partial";
    assert_eq!(pipeline.database.number(stations).await, 600_000);
}

/// Reads so many records of 48 hours in windows of ten seconds.
async fn read_history(count: &str, arguments: &[&str]) -> Pipeline {
    let pipeline = Pipeline::with_topic("history", 12).await;
    pipeline.produce(&["--count", count, "--rate", "0", "--backfill", "48h", "--stations", "400"]).await;
    let run = pipeline.process("history", &[&["--until-latest", "--window", "10s"], arguments].concat());
    run.succeed(RUN_LIMIT).await;
    assert_eq!(pipeline.readings().await.to_string(), count);
    let peak = run.usage().peak_rss_bytes;
    println!("peak memory: {} KiB for 17,280 windows in 12 partitions {arguments:?}", peak / 1024);
    assert!(peak < MOST_BYTES, "{} KiB", peak / 1024);
    pipeline
}

/// Every start and every reconnection looks at what is recent or has changed, and the rest is compared a portion at a time.
#[tokio::test]
async fn a_start_over_ten_years_of_history_takes_no_more_memory_than_any_other() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("years", 6).await;
    pipeline.produce(&["--count", "1000", "--rate", "0"]).await;
    pipeline.drain().await;
    let history = "INSERT INTO weather_partial SELECT topic, '2010-01-01'::timestamp + n * interval '1 hour', p, \
                   1, 1, 1, 1, 1000000, 1000000, 1000000 \
                   FROM weather_pipeline, generate_series(1, 87600) n, generate_series(0, 5) p; \
                   INSERT INTO weather_summary SELECT window_start, window_start + interval '1 hour', 1, 1, 1, 6, true \
                   FROM weather_partial WHERE window_start < '2020-01-01' GROUP BY window_start";
    pipeline.database.execute(history).await;
    pipeline.produce(&["--count", "1000", "--rate", "0"]).await;
    let run = pipeline.drain().await;
    let read = "SELECT sum(aggregated)::bigint FROM weather_partition";
    assert_eq!(pipeline.database.number(read).await, 2000);
    let peak = run.usage().peak_rss_bytes;
    println!("peak memory: {} KiB with 525,600 rows of history", peak / 1024);
    assert!(peak < 32 * 1024 * 1024, "{} KiB", peak / 1024);
}
