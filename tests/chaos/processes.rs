//! A process that was suspended, or cut off, past its lease and does not know it.

use std::time::{Duration, Instant};

use crate::rig::Rig;
use crate::support::pipeline::RUN_LIMIT;
use crate::support::proxy::Network;
use crate::support::{Kafka, Postgres};

const LEASE: Duration = Duration::from_secs(2);
/// How the zombie and the others run.
const SETTINGS: [&str; 4] = ["--lease", "2s", "--flush-interval", "50ms"];

/// What the zombie wrote under epochs that the other process has ended since.
const OLD_WRITES: &str = "SELECT count(*) FROM audit_write w WHERE app = 'zombie' AND EXISTS (SELECT FROM audit_taken t \
                          WHERE t.app = 'other' AND t.partition = w.partition AND t.epoch > w.epoch)";

/// Partitions that a process holds whose database connections have this name.
async fn held_by(rig: &Rig, name: &str) -> i64 {
    let query = format!(
        "SELECT count(*) FROM weather_partition JOIN audit_taken USING (partition, epoch) WHERE app = '{name}' \
         AND lease_expires_at > clock_timestamp()"
    );
    rig.database.number(&query).await
}

async fn wait_for_share(rig: &Rig, name: &str, partitions: i64) {
    let start = Instant::now();
    while held_by(rig, name).await != partitions {
        assert!(start.elapsed() < RUN_LIMIT, "{name} does not hold {partitions} partitions");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_zombie_is_fenced_writes_nothing_and_joins_again() {
    let _turn = crate::together().await;
    let rig = Rig::new(Kafka::shared(), &Postgres::shared(), "chaos_zombie", 4).await;
    let producer = rig.producer(&["--rate", "3000", "--late-ratio", "0.01"]);
    let zombie = rig.process("zombie", &SETTINGS);
    rig.wait_for_more().await;
    wait_for_share(&rig, "zombie", 4).await;

    zombie.sigstop();
    let other = rig.process("other", &SETTINGS);
    tokio::time::sleep(2 * LEASE).await;
    wait_for_share(&rig, "other", 4).await;
    // What it had sent before it stood still may have been carried out since; from here on nothing of it may.
    let (before, said) = (rig.database.number(OLD_WRITES).await, zombie.lines().len());
    assert!(before > 0);
    zombie.sigcont();
    let (_, line) =
        zombie.wait_for_line_after(said, "fenced: another process has taken the partition", RUN_LIMIT).await;
    println!("{line}");
    wait_for_share(&rig, "zombie", 2).await;
    wait_for_share(&rig, "other", 2).await;
    rig.wait_for_more().await;

    let fenced = zombie.stderr().iter().filter(|line| line.contains("fenced")).count();
    assert_eq!(fenced, 4, "each of its partitions: {:#?}", zombie.stderr());
    assert_eq!(rig.database.number(OLD_WRITES).await, before, "it wrote under an epoch that was over");
    rig.assert_exact(&[&producer, &zombie, &other]).await;
}

/// A whole flush that is on its way while the partitions change hands, and arrives after the other process has written the
/// very same: nothing but the epoch tells that it is not to be taken.
#[tokio::test]
async fn a_flush_that_arrives_after_the_lease_is_fenced() {
    let _turn = crate::together().await;
    let (proxy, rig) = Rig::behind_postgres("chaos_delayed", 4).await;
    let produce = async |seed| {
        let arguments =
            ["--count", "4000", "--rate", "0", "--backfill", "4h", "--late-ratio", "0.01", "--seed", seed];
        rig.producer(&arguments).succeed(RUN_LIMIT).await;
    };
    let wait_for = async |offsets: i64| {
        let (start, query) =
            (Instant::now(), "SELECT coalesce(sum(next_offset), 0)::bigint FROM weather_partition");
        while rig.database.number(query).await < offsets {
            assert!(start.elapsed() < RUN_LIMIT, "not all is in the table");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    produce("1").await;
    // Seldom enough that one flush has all of what comes next.
    let zombie = rig.process("zombie", &["--lease", "2s", "--flush-interval", "1500ms"]);
    wait_for(4_000).await;
    proxy.set(Network::Stalled);
    produce("2").await;
    let other = rig.process_without_proxy("other", &SETTINGS);
    wait_for_share(&rig, "other", 4).await;
    wait_for(8_000).await;
    let before = rig.database.number(OLD_WRITES).await;
    proxy.set(Network::Well);
    zombie.wait_for_line("fenced: another process has taken the partition", RUN_LIMIT).await;
    wait_for_share(&rig, "zombie", 2).await;
    assert_eq!(rig.database.number(OLD_WRITES).await, before, "it wrote under an epoch that was over");
    rig.assert_exact(&[&zombie, &other]).await;
}
