//! Three processes share six partitions under full load, and one after the other is killed, ended and replaced.
//!
//! How soon partitions have a new owner is promised (`--lease` plus 2 s after SIGKILL, 1 s after SIGTERM), so this test
//! runs alone. It prints what it measured: `tests/run --test services scale -- --nocapture`. Then many processes write to one
//! row of a server whose disk is slow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::support::pipeline::{END_LIMIT, RUN_LIMIT};
use crate::support::{Database, Kafka, Pipeline, Postgres, Weather, turn};

const PARTITIONS: i32 = 6;
const LEASE: Duration = Duration::from_secs(5);
/// The default of `process`.
const DEFAULT_LEASE: Duration = Duration::from_secs(15);
/// Between the end of a killed process's lease and the next owner.
const AFTER_LEASE: Duration = Duration::from_secs(2);
/// Between SIGTERM and the next owner.
const HAND_OVER: Duration = Duration::from_secs(1);

/// Who holds a partition, under which epoch, and how far it is in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holding {
    owner: Option<String>,
    epoch: i64,
    next_offset: i64,
}

async fn holdings(client: &Client) -> BTreeMap<i32, Holding> {
    let query = "SELECT partition, CASE WHEN lease_expires_at > clock_timestamp() THEN owner END, epoch, \
                 coalesce(next_offset, 0) FROM weather_partition";
    let rows = client.query(query, &[]).await.expect("PostgreSQL answers");
    let holding =
        |row: &tokio_postgres::Row| Holding { owner: row.get(1), epoch: row.get(2), next_offset: row.get(3) };
    rows.iter().map(|row| (row.get(0), holding(row))).collect()
}

/// Waits until the partitions are held in shares of these sizes, ascending.
async fn wait_for_shares(client: &Client, wanted: &[usize]) -> Duration {
    let start = Instant::now();
    loop {
        let mut shares = BTreeMap::<String, usize>::new();
        for holding in holdings(client).await.into_values() {
            *shares.entry(holding.owner.unwrap_or_default()).or_default() += 1;
        }
        let mut sizes: Vec<usize> = shares.values().copied().collect();
        sizes.sort_unstable();
        if sizes == wanted && !shares.contains_key("") {
            return start.elapsed();
        }
        assert!(start.elapsed() < RUN_LIMIT, "shares are {shares:?}, expected {wanted:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the process holds whose database connections have this name.
async fn held_by(client: &Client, name: &str) -> BTreeMap<i32, Holding> {
    let query = "SELECT p.partition FROM weather_partition p JOIN audit_taken t USING (partition, epoch) WHERE t.app = $1 \
                 AND p.owner IS NOT NULL";
    let rows = client.query(query, &[&name]).await.expect("PostgreSQL answers");
    let own: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    holdings(client).await.into_iter().filter(|(partition, _)| own.contains(partition)).collect()
}

/// How long it takes until all of these partitions are held under a later epoch, and until each of them has moved on.
async fn taken_over(client: &Client, before: &BTreeMap<i32, Holding>) -> (Duration, Duration) {
    assert!(!before.is_empty(), "it held something");
    let start = Instant::now();
    let mut held = None;
    loop {
        let now = holdings(client).await;
        let has_owner = |partition: &i32| {
            now[partition].epoch > before[partition].epoch && now[partition].owner.is_some()
        };
        let moves = |partition: &i32| now[partition].next_offset > before[partition].next_offset;
        if before.keys().all(has_owner) {
            let held = *held.get_or_insert(start.elapsed());
            if before.keys().all(moves) {
                return (held, start.elapsed());
            }
        }
        assert!(start.elapsed() < RUN_LIMIT, "held {before:?}, now {now:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Polls the summary: counts never go back, and no row disappears.
fn watch_summary(database: Database, done: Arc<AtomicBool>) -> JoinHandle<u32> {
    tokio::spawn(async move {
        let client = database.connect().await;
        let (mut looks, mut seen) = (0, BTreeMap::<i64, i64>::new());
        while !done.load(Ordering::Relaxed) {
            let query = "SELECT EXTRACT(EPOCH FROM window_start)::bigint, reading_count FROM weather_summary";
            let rows = client.query(query, &[]).await.expect("PostgreSQL answers");
            let found: BTreeMap<i64, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            for (window, before) in &seen {
                assert!(
                    found.get(window) >= Some(before),
                    "window {window} of {before} readings is {:?}",
                    found.get(window)
                );
            }
            (looks, seen) = (looks + 1, found);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        looks
    })
}

/// Prints how fast readings come and go: what Kafka has, as the processes heard it, and what the table has.
async fn measure_rates(client: &Client, time: Duration) {
    let query = "SELECT sum(high_watermark)::bigint, sum(next_offset)::bigint FROM weather_partition";
    let progress = async || {
        let row = client.query_one(query, &[]).await.expect("PostgreSQL answers");
        (Instant::now(), row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    let before = progress().await;
    tokio::time::sleep(time).await;
    let after = progress().await;
    let per_second = |count: i64| count as f64 / (after.0 - before.0).as_secs_f64();
    let (appended, written) = (per_second(after.1 - before.1), per_second(after.2 - before.2));
    println!(
        "{appended:.0} readings a second in Kafka, {written:.0} in the table, {} behind",
        after.1 - after.2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_change_hands_in_time_under_full_load() {
    let _turn = turn::alone().await;
    let pipeline = Pipeline::audited(Kafka::shared(), &Postgres::shared(), "scale", PARTITIONS).await;
    let client = pipeline.database.connect().await;
    let done = Arc::new(AtomicBool::new(false));
    let watching = watch_summary(pipeline.database.clone(), Arc::clone(&done));
    let seconds = |lease: Duration| format!("{}s", lease.as_secs());
    let start = |name: &str, lease: Duration| pipeline.process(name, &["--lease", &seconds(lease)]);

    let producer = pipeline.producer(&["--rate", "200000", "--late-ratio", "0.001", "--stations", "600"]);
    let first = start("first", LEASE);
    wait_for_shares(&client, &[6]).await;
    let (second, third) = (start("second", LEASE), start("third", LEASE));
    println!("one to three: shared after {:?}", wait_for_shares(&client, &[2, 2, 2]).await);
    measure_rates(&client, Duration::from_secs(3)).await;

    let before = held_by(&client, "second").await;
    second.kill9().await;
    let (held, moves) = taken_over(&client, &before).await;
    println!(
        "SIGKILL, lease {LEASE:?}: {} partitions held after {held:?}, moving after {moves:?}",
        before.len()
    );
    assert!(held <= LEASE + AFTER_LEASE, "{held:?}");

    let fourth = start("fourth", DEFAULT_LEASE);
    println!("two to three: shared after {:?}", wait_for_shares(&client, &[2, 2, 2]).await);
    let before = held_by(&client, "third").await;
    third.sigterm();
    let (held, moves) = taken_over(&client, &before).await;
    println!("SIGTERM: {} partitions held after {held:?}, moving after {moves:?}", before.len());
    assert!(held <= HAND_OVER, "{held:?}");
    third.succeed(END_LIMIT).await;
    measure_rates(&client, Duration::from_secs(2)).await;
    producer.sigterm();
    producer.succeed(RUN_LIMIT).await;
    println!("{}", producer.stdout().pop().unwrap_or_default());

    kill_with_the_default_lease(&pipeline, &client, &fourth).await;
    pipeline.assert_exact(&[&first]).await;
    done.store(true, Ordering::Relaxed);
    println!("the summary was looked at {} times", watching.await.expect("nothing went back"));
}

/// From three to one: the last to go holds its partitions under the default lease.
async fn kill_with_the_default_lease(pipeline: &Pipeline, client: &Client, victim: &Weather) {
    let light = pipeline.producer(&["--rate", "2000", "--stations", "600", "--seed", "2"]);
    wait_for_shares(client, &[3, 3]).await;
    let before = held_by(client, "fourth").await;
    victim.kill9().await;
    let (held, moves) = taken_over(client, &before).await;
    println!(
        "SIGKILL, default lease: {} partitions held after {held:?}, moving after {moves:?}",
        before.len()
    );
    assert!(held <= DEFAULT_LEASE + AFTER_LEASE, "{held:?}");
    light.sigterm();
    light.succeed(RUN_LIMIT).await;
}

/// Every process changes the newest row of the summary. Each commit takes 50 ms here until it is on disk; that must not be
/// the time for which the others cannot change it.
#[tokio::test]
async fn processes_do_not_wait_for_each_others_disk() {
    const PROCESSES: usize = 6;
    let _turn = turn::heavy().await;
    let postgres = Postgres::private(&["fsync=on", "commit_delay=50000", "commit_siblings=0"]).await;
    let pipeline = Pipeline::audited(Kafka::shared(), &postgres, "disk", PROCESSES as i32).await;
    let names: Vec<String> = (0..PROCESSES).map(|n| format!("p{n}")).collect();
    let processes: Vec<Weather> = names.iter().map(|name| pipeline.process(name, &[])).collect();
    pipeline.wait_for_tables().await;
    let client = pipeline.database.connect().await;
    wait_for_shares(&client, &[1; PROCESSES]).await;
    let producer = pipeline.producer(&["--rate", "1000"]);
    pipeline.wait_for_more().await;
    // Of those who wait for a row, how many wait for one whose transaction has nothing more to do than to commit.
    let waiting = "SELECT count(*), count(*) FILTER (WHERE holder.query LIKE 'COMMIT%') FROM pg_stat_activity waiting \
                   JOIN pg_stat_activity holder ON holder.pid = ANY(pg_blocking_pids(waiting.pid)) \
                   WHERE waiting.datname = current_database()";
    let (mut looks, mut waited, mut for_disk) = (0, 0, 0);
    while looks < 200 {
        let row = client.query_one(waiting, &[]).await.expect("PostgreSQL answers");
        waited += row.get::<_, i64>(0);
        for_disk += row.get::<_, i64>(1);
        looks += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{looks} looks: {waited} sessions waited for a row, {for_disk} of them for another's commit");
    assert!(for_disk < looks / 10, "{for_disk} waits for another's commit in {looks} looks, of {waited}");
    let runs: Vec<&Weather> = processes.iter().chain([&producer]).collect();
    pipeline.assert_exact(&runs).await;
}
