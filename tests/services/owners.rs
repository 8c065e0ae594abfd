//! Who owns a partition: shares beside partitions given by hand, and a process that was suspended, or cut off, past its lease
//! and does not know it.

use std::time::{Duration, Instant};

use crate::support::pipeline::{END_LIMIT, RUN_LIMIT};
use crate::support::proxy::Network;
use crate::support::{Kafka, Pipeline, Postgres, turn};

const LEASE: Duration = Duration::from_secs(2);
/// How the zombie and the others run.
const SETTINGS: [&str; 4] = ["--lease", "2s", "--flush-interval", "50ms"];

/// What the zombie wrote under epochs that the other process has ended since.
const OLD_WRITES: &str = "SELECT count(*) FROM audit_write w WHERE app = 'zombie' AND EXISTS (SELECT FROM audit_taken t \
                          WHERE t.app = 'other' AND t.partition = w.partition AND t.epoch > w.epoch)";

/// Partitions that a process holds whose database connections have this name.
async fn held_by(pipeline: &Pipeline, name: &str) -> i64 {
    let query = format!(
        "SELECT count(*) FROM weather_partition JOIN audit_taken USING (partition, epoch) WHERE app = '{name}' \
         AND lease_expires_at > clock_timestamp()"
    );
    pipeline.database.number(&query).await
}

async fn wait_for_share(pipeline: &Pipeline, name: &str, partitions: i64) {
    let start = Instant::now();
    while held_by(pipeline, name).await != partitions {
        assert!(start.elapsed() < RUN_LIMIT, "{name} does not hold {partitions} partitions");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_zombie_is_fenced_writes_nothing_and_joins_again() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::audited(Kafka::shared(), &Postgres::shared(), "zombie", 4).await;
    let producer = pipeline.producer(&["--rate", "3000", "--late-ratio", "0.01"]);
    let zombie = pipeline.process("zombie", &SETTINGS);
    pipeline.wait_for_more().await;
    wait_for_share(&pipeline, "zombie", 4).await;

    zombie.sigstop();
    let other = pipeline.process("other", &SETTINGS);
    tokio::time::sleep(2 * LEASE).await;
    wait_for_share(&pipeline, "other", 4).await;
    // What it had sent before it stood still may have been carried out since; from here on nothing of it may.
    let (before, said) = (pipeline.database.number(OLD_WRITES).await, zombie.lines().len());
    assert!(before > 0);
    zombie.sigcont();
    let (_, line) =
        zombie.wait_for_line_after(said, "fenced: another process has taken the partition", RUN_LIMIT).await;
    println!("{line}");
    wait_for_share(&pipeline, "zombie", 2).await;
    wait_for_share(&pipeline, "other", 2).await;
    pipeline.wait_for_more().await;

    let fenced = zombie.stderr().iter().filter(|line| line.contains("fenced")).count();
    assert_eq!(fenced, 4, "each of its partitions: {:#?}", zombie.stderr());
    assert_eq!(pipeline.database.number(OLD_WRITES).await, before, "it wrote under an epoch that was over");
    pipeline.assert_exact(&[&producer, &zombie, &other]).await;
}

/// A whole flush that is on its way while the partitions change hands, and arrives after the other process has written the
/// very same: nothing but the epoch tells that it is not to be taken.
#[tokio::test]
async fn a_flush_that_arrives_after_the_lease_is_fenced() {
    let _turn = turn::heavy().await;
    let (proxy, pipeline) = Pipeline::behind_postgres("delayed", 4).await;
    let produce = async |seed| {
        let arguments =
            ["--count", "4000", "--rate", "0", "--backfill", "4h", "--late-ratio", "0.01", "--seed", seed];
        pipeline.producer(&arguments).succeed(RUN_LIMIT).await;
    };
    let wait_for = async |offsets: i64| {
        let (start, query) =
            (Instant::now(), "SELECT coalesce(sum(next_offset), 0)::bigint FROM weather_partition");
        while pipeline.database.number(query).await < offsets {
            assert!(start.elapsed() < RUN_LIMIT, "not all is in the table");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    produce("1").await;
    // Seldom enough that one flush has all of what comes next.
    let zombie = pipeline.process("zombie", &["--lease", "2s", "--flush-interval", "1500ms"]);
    wait_for(4_000).await;
    proxy.set(Network::Stalled);
    produce("2").await;
    let other = pipeline.process_without_proxy("other", &SETTINGS);
    wait_for_share(&pipeline, "other", 4).await;
    wait_for(8_000).await;
    let before = pipeline.database.number(OLD_WRITES).await;
    proxy.set(Network::Well);
    zombie.wait_for_line("fenced: another process has taken the partition", RUN_LIMIT).await;
    wait_for_share(&pipeline, "zombie", 2).await;
    assert_eq!(pipeline.database.number(OLD_WRITES).await, before, "it wrote under an epoch that was over");
    pipeline.assert_exact(&[&zombie, &other]).await;
}

/// Waits until the live processes hold shares of these sizes, ascending.
async fn wait_for_shares(pipeline: &Pipeline, wanted: &[i64]) {
    let query = "SELECT count(*) FROM weather_partition WHERE lease_expires_at > clock_timestamp() \
                 GROUP BY owner ORDER BY 1";
    let start = Instant::now();
    loop {
        let rows = pipeline.database.query(query, &[]).await;
        let found: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        if found == wanted {
            return;
        }
        assert!(start.elapsed() < END_LIMIT, "shares are {found:?}, expected {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn partitions_given_by_hand_are_left_out_of_the_sharing() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("by_hand", 6).await;
    let by_hand = pipeline.spawn(&["--assign", "0"]);
    by_hand.wait_for_line("took a partition", RUN_LIMIT).await;
    let auto = pipeline.spawn(&[]);
    wait_for_shares(&pipeline, &[1, 5]).await;
    pipeline.produce(&["--count", "3000", "--rate", "0", "--backfill", "2h"]).await;
    pipeline.drain().await;
    pipeline.assert_table().await;
    by_hand.sigterm();
    by_hand.succeed(END_LIMIT).await;
    wait_for_shares(&pipeline, &[6]).await;
    pipeline.assert_exact(&[&auto]).await;
}

#[tokio::test]
async fn a_bounded_run_names_the_partitions_that_nobody_reads() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("unread", 3).await;
    pipeline.produce(&["--count", "300", "--rate", "0"]).await;
    let bounded = pipeline.spawn(&["--assign", "0", "--until-latest"]);
    let line = "waits for others, which no process reads";
    bounded.wait_for_line(line, RUN_LIMIT).await;
    let said = bounded.stderr();
    assert!(said.iter().any(|said| said.contains(line) && said.contains("partitions=1,2")), "{said:?}");
    // Another process reads them: then both are done.
    pipeline.drain().await;
    bounded.succeed(END_LIMIT).await;
    pipeline.assert_table().await;
}

#[tokio::test]
async fn a_process_that_was_given_nothing_ends_when_it_is_asked_to() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("nothing", 2).await;
    let idle = pipeline.spawn(&["--assign", "7"]);
    idle.wait_for_line("the topic has none of the partitions", RUN_LIMIT).await;
    idle.sigterm();
    idle.succeed(END_LIMIT).await;
}
