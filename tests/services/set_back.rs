//! A database that is not what it was: set back to a backup, emptied, or a partition's row taken and freed.

use std::time::{Duration, Instant};

use crate::support::pipeline::RUN_LIMIT;
use crate::support::{Pipeline, Weather, turn};

/// How far the partitions are read, in sum.
const READ: &str = "SELECT coalesce(sum(next_offset), 0)::bigint FROM weather_partition";
/// Ends all other connections, as when a server is replaced.
const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// The statement for each table of the state, `#` being its name.
fn for_each_table(statement: &str) -> String {
    let tables = ["weather_summary", "weather_partial", "weather_partition", "weather_dead_letter"];
    tables.map(|table| statement.replace('#', table)).join(";")
}

async fn back_up(pipeline: &Pipeline) {
    pipeline.database.execute(&for_each_table("CREATE TABLE backup_# AS TABLE #")).await;
}

async fn set_back(pipeline: &Pipeline) {
    pipeline.database.execute(&for_each_table("TRUNCATE #; INSERT INTO # SELECT * FROM backup_#")).await;
}

/// A processor that has written all of a topic to which nothing more comes.
async fn at_rest(name: &str) -> (Pipeline, Weather) {
    let pipeline = Pipeline::new(name).await;
    pipeline.produce(&["--count", "3000", "--rate", "0", "--partitions", "2", "--backfill", "9h"]).await;
    let run = pipeline.spawn(&["--lease", "2s"]);
    wait_until(&pipeline, READ, 3_000).await;
    (pipeline, run)
}

async fn wait_until(pipeline: &Pipeline, query: &str, wanted: i64) {
    let start = Instant::now();
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
async fn a_database_set_back_to_a_backup_is_noticed() {
    let _turn = turn::light().await;
    let pipeline = crate::volume::stopped_half_way("backup").await;
    back_up(&pipeline).await;
    pipeline.drain().await;
    set_back(&pipeline).await;
    // The files before the last ones may be of the very state that the backup has.
    for path in crate::volume::files(&pipeline.checkpoints, ".prev") {
        std::fs::remove_file(path).expect("it can be removed");
    }
    let run = pipeline.drain().await;
    assert!(run.stderr().join("\n").contains("continuing from PostgreSQL's state"), "{:?}", run.stderr());
    pipeline.assert_table().await;
}

#[tokio::test]
async fn a_database_set_back_under_a_running_process_is_noticed() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::new("failover").await;
    let produce = async |ago: &str, seed: &str| {
        let arguments =
            ["--count", "3000", "--rate", "0", "--partitions", "2", "--backfill", ago, "--seed", seed];
        pipeline.produce(&arguments).await;
    };
    produce("9h", "1").await;
    let run = pipeline.spawn(&[]);
    run.wait_for_line("write OK", RUN_LIMIT).await;
    wait_until(&pipeline, READ, 3_000).await;
    back_up(&pipeline).await;
    produce("5h", "2").await;
    wait_until(&pipeline, READ, 6_000).await;
    // As a fail-over to a replica that had not heard the last of it.
    set_back(&pipeline).await;
    produce("2h", "3").await;
    run.wait_for_line("the database was set back to an older state", RUN_LIMIT).await;
    wait_until(&pipeline, READ, 9_000).await;
    run.sigterm();
    run.succeed(Duration::from_secs(15)).await;
    pipeline.drain().await;
    pipeline.assert_table().await;
}

#[tokio::test]
async fn a_partition_that_was_lost_and_freed_again_is_missed_without_a_new_record() {
    let _turn = turn::light().await;
    let (pipeline, run) = at_rest("freed").await;
    // As another process that took it while this one was paused, and ended.
    let taken =
        "UPDATE weather_partition SET epoch = epoch + 1, owner = NULL, lease_expires_at = NULL, idle = false";
    let before = pipeline.database.number("SELECT min(epoch) FROM weather_partition").await;
    pipeline.database.execute(taken).await;
    run.wait_for_line("fenced", RUN_LIMIT).await;
    wait_until(&pipeline, "SELECT count(*) FROM weather_partition WHERE owner IS NOT NULL", 2).await;
    let after = pipeline.database.number("SELECT min(epoch) FROM weather_partition").await;
    assert!(after > before + 1, "{after} follows {before}");
    pipeline.assert_table().await;
}

#[tokio::test]
async fn a_database_set_back_is_noticed_without_a_new_record() {
    let _turn = turn::light().await;
    let (pipeline, run) = at_rest("quiet").await;
    back_up(&pipeline).await;
    pipeline.produce(&["--count", "3000", "--rate", "0", "--backfill", "5h", "--seed", "2"]).await;
    wait_until(&pipeline, READ, 6_000).await;
    set_back(&pipeline).await;
    pipeline.database.execute(CUT).await;
    run.wait_for_line("the database was set back to an older state", RUN_LIMIT).await;
    wait_until(&pipeline, READ, 6_000).await;
    pipeline.assert_table().await;
}

#[tokio::test]
async fn an_emptied_database_is_filled_again_without_a_new_record() {
    let _turn = turn::light().await;
    let (pipeline, run) = at_rest("emptied").await;
    pipeline
        .database
        .execute("TRUNCATE weather_summary, weather_partial, weather_partition, weather_dead_letter")
        .await;
    pipeline.database.execute(CUT).await;
    // Its row is gone, or already created again at offset 0: whichever is seen first.
    run.wait_for_line("fenced: ", RUN_LIMIT).await;
    wait_until(&pipeline, READ, 3_000).await;
    pipeline.assert_table().await;
}
