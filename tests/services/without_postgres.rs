//! `process --database-url none`: the state is in the files, the rows are on standard output, and all of it is shown over HTTP.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use simd_json::OwnedValue;
use simd_json::prelude::*;
use weather::embedded::{Broker, Options};

use crate::support::oracle::{Expected, Rules};
use crate::support::pipeline::RUN_LIMIT;
use crate::support::{Folder, Pipeline, Weather, poll, turn};
use crate::telemetry::{LIMIT, check_exposition, get, progress, spawn_at, total};

/// The rows of the last batches, each window with its newest values.
fn printed(run: &Weather) -> BTreeMap<String, String> {
    let rows = run.stdout().into_iter().filter(|line| line.starts_with("|2"));
    rows.map(|line| (line[1..20].to_owned(), line)).collect()
}

#[tokio::test]
async fn the_state_is_kept_in_files() {
    let _turn = turn::light().await;
    let broker = Broker::start(Options::default()).await.unwrap();
    let brokers = broker.address().to_string();
    let checkpoints = Folder::new("checkpoints");
    let folder = checkpoints.path().to_str().unwrap();
    let produce = |count: &'static str| {
        let common =
            ["producer", "--brokers", &brokers, "--partitions", "2", "--backfill", "3h", "--rate", "0"];
        Weather::spawn(common.iter().chain(&["--count", count, "--malformed-ratio", "0.1"]))
    };
    let common = ["process", "--brokers", &brokers, "--listen", "", "--database-url", "none"];
    let process = |more: &'static [&'static str]| {
        Weather::spawn(common.iter().chain(&["--checkpoint-dir", folder]).chain(more))
    };
    produce("20000").succeed(RUN_LIMIT).await;
    let first = process(&["--until-latest"]);
    first.succeed(RUN_LIMIT).await;
    assert!((3..=4).contains(&printed(&first).len()), "{:?}", printed(&first));
    assert!(first.stdout().iter().any(|line| line == "write OK"));
    // Nothing new: the same rows, from the files.
    let again = process(&["--until-latest"]);
    again.succeed(RUN_LIMIT).await;
    assert!(again.stderr().iter().any(|line| line.contains("continuing from the checkpoint file")));
    assert_eq!(printed(&again), printed(&first));

    // Windows of two lengths cannot be one state.
    let other = process(&["--until-latest", "--window", "30m"]);
    assert_eq!(other.wait(RUN_LIMIT).await.code(), Some(2));
    assert!(other.stderr().join("\n").contains("--window"), "{:?}", other.stderr());

    let running = process(&[]);
    running.wait_for_line("write OK", RUN_LIMIT).await;
    let second = process(&[]);
    assert_eq!(second.wait(RUN_LIMIT).await.code(), Some(2));
    assert!(second.stderr().join("\n").contains("another process"), "{:?}", second.stderr());
    running.sigterm();
    running.succeed(RUN_LIMIT).await;
}

/// The number of each window's readings and its averages.
fn windows(weather: &OwnedValue) -> Vec<(i64, [String; 3])> {
    let shown = |window: &OwnedValue| {
        let average =
            |name| window.get_f64(name).map_or("NULL".to_owned(), |average| format!("{average:.6}"));
        let averages = ["avg_temp", "avg_humidity", "avg_wind_speed"].map(average);
        (window.get_i64("readings").unwrap(), averages)
    };
    weather.get_array("windows").unwrap().iter().map(shown).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_does_is_shown_over_http() {
    let _turn = turn::light().await;
    let mut pipeline = Pipeline::with_topic("local", 2).await;
    pipeline
        .produce(&["--count", "6000", "--rate", "0", "--backfill", "3h", "--malformed-ratio", "0.1"])
        .await;
    let counts = Expected::of_topic(&pipeline.kafka, &pipeline.topic, Rules::default()).await.counts();
    let (processor, address) = spawn_at(&pipeline, "none", &["--by", "station"]).await;
    let settled = poll(LIMIT, || {
        let samples = check_exposition(&get(&address, "/metrics").1);
        let read = total(&samples, "weather_records_total") == 6_000.0;
        (read && samples.get("weather_ready") == Some(&1.0)).then_some(samples)
    });
    let samples = settled.await.expect("everything is read");
    assert_eq!(total(&samples, "weather_aggregated_records_total"), counts["aggregated"] as f64);
    for (name, value) in [
        ("weather_owned_partitions", 2.0),
        ("weather_topic_partitions", 2.0),
        ("weather_free_partitions", 0.0),
        ("weather_processes", 1.0),
        ("weather_service_up{service=\"kafka\"}", 1.0),
        ("weather_service_up{service=\"checkpoint_folder\"}", 1.0),
    ] {
        assert_eq!(samples[name], value, "{name}");
    }
    for of_a_table in ["postgresql", "weather_unflushed_records", "weather_dead_letters_total"] {
        assert!(!samples.keys().any(|series| series.contains(of_a_table)), "{of_a_table}");
    }
    assert_eq!(get(&address, "/livez"), (200, "ok\n".to_owned()));
    assert_eq!(get(&address, "/readyz"), (200, "ok\n".to_owned()));
    assert_eq!(get(&address, "/").0, 200);
    let (status, why) = get(&address, "/stations");
    assert!(status == 404 && why.contains("--database-url is none"), "{status} {why}");

    let progress = progress(&address);
    let sink = progress.get("sink").and_then(|sink| sink.get_str("description"));
    assert!(sink.is_some_and(|sink| sink.starts_with("standard output")), "{sink:?}");
    let weather = progress.get("weather").expect("ours");
    assert_eq!(weather.get("totals").and_then(|t| t.get_i64("aggregated")), Some(counts["aggregated"]));
    assert!(weather.get("unflushed").is_some_and(|unflushed| unflushed.is_null()));
    let rejected = weather.get_array("dead_letters").expect("the newest rejected records");
    assert!(!rejected.is_empty() && rejected.iter().all(|letter| letter.get_str("reason").is_some()));
    let windows = windows(weather);
    assert_eq!(windows.iter().map(|(readings, _)| readings).sum::<i64>(), counts["aggregated"]);
    processor.sigterm();
    processor.succeed(LIMIT).await;
    let printed = printed(&processor);
    assert_eq!(printed.len(), windows.len());
    for ((_, averages), row) in windows.iter().zip(printed.values()) {
        assert!(averages.iter().all(|average| row.contains(average)), "{averages:?}: {row}");
    }

    // Kafka is away: it lives, is not ready, and says why.
    pipeline.brokers = "127.0.0.1:1".to_owned();
    let (processor, address) = spawn_at(&pipeline, "none", &[]).await;
    let why = poll(LIMIT, || Some(get(&address, "/readyz").1).filter(|why| why.contains("127.0.0.1:1")));
    assert!(why.await.is_some(), "{:?}", get(&address, "/readyz"));
    assert_eq!(get(&address, "/livez"), (200, "ok\n".to_owned()));
    processor.sigterm();
    processor.succeed(LIMIT).await;
}
