//! What others do to the database while the program works: locks, rights, read-only, and changes by hand.

use std::time::Duration;

use crate::support::pipeline::RUN_LIMIT;
use crate::support::{Kafka, Pipeline, Postgres, turn};

/// Several hours at once, so that most windows close soon, then the present.
const LOAD: [&str; 8] =
    ["--rate", "2000", "--backfill", "2m", "--late-ratio", "0.01", "--malformed-ratio", "0.002"];
/// Longer than the program waits for a lock before it logs a warning and tries again.
const LONG: Duration = Duration::from_secs(20);

/// Ends all connections of this name.
async fn end_connections(pipeline: &Pipeline, name: &str) {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
    pipeline.database.query(end, &[&name]).await;
}

#[tokio::test]
async fn locks_are_waited_for_and_ended_connections_replaced() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::audited(Kafka::shared(), &Postgres::shared(), "locks", 4).await;
    let producer = pipeline.producer(&LOAD);
    let process = pipeline.process("one", &[]);
    pipeline.wait_for_more().await;
    let holder = pipeline.database.connect().await;
    for (statement, time) in [
        ("SELECT FROM weather_partition WHERE partition = 1 FOR UPDATE", Duration::from_secs(2)),
        ("SELECT FROM weather_summary FOR UPDATE", Duration::from_secs(2)),
        ("LOCK TABLE weather_partition IN EXCLUSIVE MODE", Duration::from_secs(2)),
        // In the order in which a flush takes them: otherwise the two may wait for each other.
        ("LOCK TABLE weather_process, weather_partition, weather_partial, weather_summary", LONG),
    ] {
        holder.batch_execute(&format!("BEGIN; {statement}")).await.expect("the lock is given");
        tokio::time::sleep(time).await;
        holder.batch_execute("ROLLBACK").await.expect("the lock is let go");
        println!("{statement}: continues after {:?}", pipeline.wait_for_more().await);
    }
    process.wait_for_line("lock timeout", RUN_LIMIT).await;
    for _ in 0..5 {
        end_connections(&pipeline, "one").await;
        pipeline.wait_for_more().await;
    }
    pipeline.assert_exact(&[&producer, &process]).await;
}

#[tokio::test]
async fn a_database_that_turns_read_only_or_takes_rights_away_is_waited_for() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::audited(Kafka::shared(), &Postgres::shared(), "rights", 4).await;
    let (pipeline, role) = pipeline.with_a_poor_role().await;
    let producer = pipeline.producer(&LOAD);
    let process = pipeline.process("one", &[]);
    pipeline.wait_for_more().await;

    let read_only = async |set: &str| {
        let alter = "SET TRANSACTION READ WRITE; DO $$ BEGIN EXECUTE format('ALTER DATABASE %I ACTION \
                     default_transaction_read_only', current_database()); END $$";
        pipeline.database.execute(&alter.replace("ACTION default_transaction_read_only", set)).await;
    };
    read_only("SET default_transaction_read_only = on").await;
    end_connections(&pipeline, "one").await;
    process.wait_for_line("read-only transaction", RUN_LIMIT).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    read_only("RESET default_transaction_read_only").await;
    end_connections(&pipeline, "one").await;
    println!("read-only: continues after {:?}", pipeline.wait_for_more().await);

    pipeline
        .database
        .execute(&format!("REVOKE UPDATE ON weather_partition, weather_summary FROM {role}"))
        .await;
    let line = process.wait_for_line("permission denied for table", RUN_LIMIT).await;
    println!("{line}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    pipeline.database.execute(&format!("GRANT UPDATE ON weather_partition, weather_summary TO {role}")).await;
    println!("rights: continues after {:?}", pipeline.wait_for_more().await);
    for words in ["read-only", "permission denied"] {
        let said = process.stderr().iter().filter(|line| line.contains(words)).count();
        assert!((1..=3).contains(&said), "{said} lines about {words}");
    }
    assert!(process.status().is_none());
    pipeline.assert_exact(&[&producer, &process]).await;
    pipeline.database.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn tables_changed_by_hand_are_repaired() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::with_topic("hand", 2).await;
    let history = ["--count", "30000", "--rate", "0", "--backfill", "9h", "--malformed-ratio", "0.01"];
    pipeline.producer(&history).succeed(RUN_LIMIT).await;
    pipeline.drain().await;
    let producer = pipeline.producer(&["--rate", "500", "--seed", "2"]);
    let process = pipeline.process("one", &[]);
    pipeline.wait_for_more().await;
    let first = "(SELECT min(window_start) FROM weather_summary)";
    for change in [
        format!("UPDATE weather_summary SET avg_temp = 99, reading_count = 1 WHERE window_start = {first}"),
        format!("DELETE FROM weather_summary WHERE window_start > {first}"),
        "ALTER TABLE weather_summary DROP COLUMN reading_count".to_owned(),
        "DROP TABLE weather_summary".to_owned(),
        "DELETE FROM weather_partition WHERE partition = 1".to_owned(),
        // Dead letters are in no other table: deleted ones come back only by reading the topic again.
        "DROP TABLE weather_process, weather_dead_letter".to_owned(),
        "DROP TABLE weather_partition".to_owned(),
    ] {
        pipeline.database.execute(&change).await;
        // A change in rows is noticed at the next connection; a change of tables breaks the present one.
        end_connections(&pipeline, "one").await;
        pipeline.wait_for_tables().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        println!("{change}: continues after {:?}", pipeline.wait_for_more().await);
    }
    pipeline.assert_exact(&[&producer, &process]).await;
}
