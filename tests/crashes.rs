//! Killed, ended, paused or robbed of its files at any moment: the table stays exact.

mod support;

use std::path::PathBuf;
use std::time::Duration;

use support::oracle::{Expected, Rules};
use support::pipeline::{Pipeline, RUN_LIMIT};
use support::{Folder, Kafka, Postgres, Weather};

/// Kills of the processor in one run.
const KILLS: u32 = 20;

async fn assert_exact(kafka: &Kafka, pipeline: &Pipeline) {
    let expected = Expected::of_topic(kafka, &pipeline.topic, Rules::default()).await;
    expected.assert_table(&pipeline.database).await;
}

/// A load of readings of which some are late and some malformed.
const BAD: [&str; 4] = ["--late-ratio", "0.01", "--malformed-ratio", "0.001"];

#[tokio::test]
async fn sigkill_at_random_moments_under_load() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let pipeline = Pipeline::new(&kafka, &support::unique("kills"), postgres.database().await);
    let load = ["--rate", "5000", "--duration", "40s", "--partitions", "4"];
    let producer = pipeline.spawn_producer(&[&load[..], &BAD[..]].concat());
    // Moments of every step: between start and first record, within fetches, flushes and checkpoint writes.
    let mut dice = 0x2545_f491_4f6c_dd1d_u64;
    println!("seed {dice:#x}");
    for _ in 0..KILLS {
        let run = pipeline.spawn(&["--checkpoint-interval", "100ms", "--flush-interval", "20ms"]);
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        tokio::time::sleep(Duration::from_millis(100 + dice % 1_500)).await;
        assert!(run.status().is_none(), "it runs until it is killed: {:?}", run.stderr());
        run.kill9().await;
    }
    producer.succeed(RUN_LIMIT).await;
    pipeline.drain(&[]).await;
    assert_exact(&kafka, &pipeline).await;
}

#[tokio::test]
async fn sigterm_flushes_checkpoints_and_ends_well() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let pipeline = Pipeline::new(&kafka, &support::unique("terms"), postgres.database().await);
    let producer = pipeline.spawn_producer(&["--rate", "5000", "--duration", "15s", "--partitions", "4"]);
    for _ in 0..5 {
        let run = pipeline.spawn(&[]);
        run.wait_for_line("write OK", RUN_LIMIT).await;
        run.sigterm();
        run.succeed(Duration::from_secs(5)).await;
        let held = "SELECT count(*) FROM weather_partition WHERE owner IS NOT NULL";
        assert_eq!(pipeline.database.number(held).await, 0, "leases are given back");
    }
    producer.succeed(RUN_LIMIT).await;
    let run = pipeline.drain(&[]).await;
    let from_file =
        run.stderr().iter().filter(|line| line.contains("going on from the checkpoint file")).count();
    assert_eq!(from_file, 4, "{:?}", run.stderr());
    assert_exact(&kafka, &pipeline).await;
}

#[tokio::test]
async fn sigterm_of_the_producer_loses_nothing_that_it_accepted() {
    let kafka = Kafka::shared();
    let topic = support::unique("accepted");
    let arguments = ["producer", "--brokers", &kafka.brokers(), "--topic", &topic, "--rate", "20000"];
    let producer = Weather::spawn(arguments);
    producer.wait_for_line("Sent: {", RUN_LIMIT).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    producer.sigterm();
    producer.succeed(Duration::from_secs(10)).await;
    let summary =
        producer.stdout().into_iter().find(|line| line.starts_with("Summary: ")).expect("a summary");
    let number = |name: &str| {
        let (_, rest) = summary.split_once(&format!("{name}=")).expect("the summary has it");
        rest.split(' ').next().and_then(|n| n.parse::<i64>().ok()).expect("a number")
    };
    let mut stored = 0;
    for partition in kafka.partitions(&topic).await {
        stored += kafka.offsets(&topic, partition).await.1;
    }
    assert!(stored > 1_000);
    assert_eq!((number("sent"), number("acknowledged")), (stored, stored), "{summary}");
}

/// A half-done topic, its files, and the state of PostgreSQL that belongs to them.
async fn stopped_half_way(label: &str) -> (Kafka, Pipeline) {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let pipeline = Pipeline::new(&kafka, &support::unique(label), postgres.database().await);
    let first = ["--count", "20000", "--rate", "0", "--partitions", "2", "--backfill", "5h"];
    pipeline.produce(&[&first[..], &BAD[..]].concat()).await;
    pipeline.drain(&[]).await;
    pipeline.produce(&["--count", "20000", "--rate", "0", "--backfill", "4h", "--seed", "7"]).await;
    (kafka, pipeline)
}

fn files(folder: &Folder, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.path()).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

#[tokio::test]
async fn damaged_files_are_passed_over() {
    let (kafka, pipeline) = stopped_half_way("damaged").await;
    let current = files(&pipeline.checkpoints, ".ckpt");
    assert_eq!(current.len(), 2);
    let whole = std::fs::read(&current[0]).expect("it can be read");
    std::fs::write(&current[0], &whole[..whole.len() / 2]).expect("it can be written");
    let mut flipped = std::fs::read(&current[1]).expect("it can be read");
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    std::fs::write(&current[1], &flipped).expect("it can be written");
    let run = pipeline.drain(&[]).await;
    let said = run.stderr().join("\n");
    assert!(said.contains("incomplete") && said.contains("checksum does not fit"), "{said}");
    assert_exact(&kafka, &pipeline).await;
}

#[tokio::test]
async fn files_of_an_older_state_are_passed_over() {
    let (kafka, pipeline) = stopped_half_way("older").await;
    let kept: Vec<(PathBuf, Vec<u8>)> = files(&pipeline.checkpoints, ".ckpt")
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(path).expect("it can be read")))
        .collect();
    pipeline.drain(&[]).await;
    pipeline.produce(&["--count", "5000", "--rate", "0", "--backfill", "1h", "--seed", "8"]).await;
    for (path, bytes) in kept {
        std::fs::write(path, bytes).expect("it can be written");
    }
    let run = pipeline.drain(&[]).await;
    assert!(run.stderr().join("\n").contains("another owner since"), "{:?}", run.stderr());
    assert_exact(&kafka, &pipeline).await;
}

#[tokio::test]
async fn the_volume_may_be_lost() {
    let (kafka, pipeline) = stopped_half_way("volume").await;
    std::fs::remove_dir_all(pipeline.checkpoints.path()).expect("it can be removed");
    pipeline.drain(&[]).await;
    assert_exact(&kafka, &pipeline).await;
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let (_, pipeline) = stopped_half_way("newer").await;
    let path = files(&pipeline.checkpoints, ".ckpt").remove(0);
    let mut bytes = std::fs::read(&path).expect("it can be read");
    bytes[8] = 200;
    std::fs::write(&path, bytes).expect("it can be written");
    let run = pipeline.spawn(&["--until-latest"]);
    assert_eq!(run.wait(RUN_LIMIT).await.code(), Some(2));
    assert!(run.stderr().join("\n").contains("newer than this program"), "{:?}", run.stderr());
}

#[tokio::test]
async fn a_database_set_back_to_a_backup_is_noticed() {
    let (kafka, pipeline) = stopped_half_way("backup").await;
    let tables = ["weather_summary", "weather_partial", "weather_partition", "weather_dead_letter"];
    let each = |statement: &str| tables.map(|table| statement.replace('#', table)).join(";");
    pipeline.database.execute(&each("CREATE TABLE backup_# AS TABLE #")).await;
    pipeline.drain(&[]).await;
    pipeline.database.execute(&each("TRUNCATE #; INSERT INTO # SELECT * FROM backup_#")).await;
    // The files before the last ones may be of the very state that the backup has.
    for path in files(&pipeline.checkpoints, ".prev") {
        std::fs::remove_file(path).expect("it can be removed");
    }
    let run = pipeline.drain(&[]).await;
    assert!(run.stderr().join("\n").contains("going on from PostgreSQL's state"), "{:?}", run.stderr());
    assert_exact(&kafka, &pipeline).await;
}

#[tokio::test]
async fn a_database_set_back_under_a_running_process_is_noticed() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let pipeline = Pipeline::new(&kafka, &support::unique("failover"), postgres.database().await);
    let produce = async |ago: &str, seed: &str| {
        let arguments =
            ["--count", "3000", "--rate", "0", "--partitions", "2", "--backfill", ago, "--seed", seed];
        pipeline.produce(&arguments).await;
    };
    let read = "SELECT coalesce(sum(next_offset), 0)::bigint FROM weather_partition";
    let wait_for = async |count: i64| {
        let start = std::time::Instant::now();
        while pipeline.database.number(read).await < count {
            assert!(start.elapsed() < RUN_LIMIT, "not read up to {count}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    produce("9h", "1").await;
    let run = pipeline.spawn(&[]);
    run.wait_for_line("write OK", RUN_LIMIT).await;
    wait_for(3_000).await;
    let tables = ["weather_summary", "weather_partial", "weather_partition", "weather_dead_letter"];
    let each = |statement: &str| tables.map(|table| statement.replace('#', table)).join(";");
    pipeline.database.execute(&each("CREATE TABLE backup_# AS TABLE #")).await;
    produce("5h", "2").await;
    wait_for(6_000).await;
    // As a fail-over to a replica that had not heard the last of it.
    pipeline.database.execute(&each("TRUNCATE #; INSERT INTO # SELECT * FROM backup_#")).await;
    produce("2h", "3").await;
    run.wait_for_line("the database was set back to an older state", RUN_LIMIT).await;
    wait_for(9_000).await;
    run.sigterm();
    run.succeed(Duration::from_secs(15)).await;
    pipeline.drain(&[]).await;
    assert_exact(&kafka, &pipeline).await;
}

#[tokio::test]
async fn a_process_paused_past_its_lease_is_fenced() {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let pipeline = Pipeline::new(&kafka, &support::unique("zombie"), postgres.database().await);
    let producer = pipeline.spawn_producer(&["--rate", "3000", "--duration", "20s", "--partitions", "4"]);
    let zombie = pipeline.spawn(&["--lease", "2s"]);
    zombie.wait_for_line("write OK", RUN_LIMIT).await;
    zombie.sigstop();
    let other = pipeline.spawn(&["--lease", "2s"]);
    other.wait_for_line("took a partition", RUN_LIMIT).await;
    other.wait_for_line("write OK", RUN_LIMIT).await;
    zombie.sigcont();
    zombie.wait_for_line("fenced", RUN_LIMIT).await;
    producer.succeed(RUN_LIMIT).await;
    for run in [zombie, other] {
        run.sigterm();
        run.succeed(Duration::from_secs(15)).await;
    }
    pipeline.drain(&[]).await;
    assert_exact(&kafka, &pipeline).await;
}

/// A processor that has written all of a topic to which nothing more comes.
async fn at_rest(name: &str) -> (Kafka, Pipeline, Weather) {
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let pipeline = Pipeline::new(&kafka, &support::unique(name), postgres.database().await);
    pipeline.produce(&["--count", "3000", "--rate", "0", "--partitions", "2", "--backfill", "9h"]).await;
    let run = pipeline.spawn(&["--lease", "2s"]);
    wait_until(&pipeline, "SELECT coalesce(sum(next_offset), 0)::bigint FROM weather_partition", 3_000).await;
    (kafka, pipeline, run)
}

async fn wait_until(pipeline: &Pipeline, query: &str, wanted: i64) {
    let start = std::time::Instant::now();
    loop {
        // The tables may be gone for a moment.
        let found = if pipeline.database.has_table("weather_partition").await {
            pipeline.database.number(query).await
        } else {
            -1
        };
        if found == wanted {
            return;
        }
        assert!(start.elapsed() < RUN_LIMIT, "{query} gives {found}, not {wanted}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_partition_that_was_lost_and_freed_again_is_missed_without_a_new_record() {
    let (kafka, pipeline, run) = at_rest("freed").await;
    // As another process that took it while this one was paused, and ended.
    let taken =
        "UPDATE weather_partition SET epoch = epoch + 1, owner = NULL, lease_expires_at = NULL, idle = false";
    let before = pipeline.database.number("SELECT min(epoch) FROM weather_partition").await;
    pipeline.database.execute(taken).await;
    run.wait_for_line("fenced", RUN_LIMIT).await;
    wait_until(&pipeline, "SELECT count(*) FROM weather_partition WHERE owner IS NOT NULL", 2).await;
    let after = pipeline.database.number("SELECT min(epoch) FROM weather_partition").await;
    assert!(after > before + 1, "{after} follows {before}");
    assert_exact(&kafka, &pipeline).await;
}

/// As a server does that was replaced.
const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[tokio::test]
async fn a_database_set_back_is_noticed_without_a_new_record() {
    let (kafka, pipeline, run) = at_rest("quiet").await;
    let tables = ["weather_summary", "weather_partial", "weather_partition", "weather_dead_letter"];
    let each = |statement: &str| tables.map(|table| statement.replace('#', table)).join(";");
    pipeline.database.execute(&each("CREATE TABLE backup_# AS TABLE #")).await;
    pipeline.produce(&["--count", "3000", "--rate", "0", "--backfill", "5h", "--seed", "2"]).await;
    let read = "SELECT coalesce(sum(next_offset), 0)::bigint FROM weather_partition";
    wait_until(&pipeline, read, 6_000).await;
    pipeline.database.execute(&each("TRUNCATE #; INSERT INTO # SELECT * FROM backup_#")).await;
    pipeline.database.execute(CUT).await;
    run.wait_for_line("the database was set back to an older state", RUN_LIMIT).await;
    wait_until(&pipeline, read, 6_000).await;
    assert_exact(&kafka, &pipeline).await;
}

#[tokio::test]
async fn an_emptied_database_is_filled_again_without_a_new_record() {
    let (kafka, pipeline, run) = at_rest("emptied").await;
    pipeline
        .database
        .execute("TRUNCATE weather_summary, weather_partial, weather_partition, weather_dead_letter")
        .await;
    pipeline.database.execute(CUT).await;
    run.wait_for_line("fenced: its row is gone", RUN_LIMIT).await;
    wait_until(&pipeline, "SELECT coalesce(sum(next_offset), 0)::bigint FROM weather_partition", 3_000).await;
    assert_exact(&kafka, &pipeline).await;
}
