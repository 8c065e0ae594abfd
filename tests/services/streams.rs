//! Standard output and standard error, and those who read them.

use std::time::Duration;

use crate::support::pipeline::END_LIMIT;
use crate::support::{Pipeline, Weather, turn};

#[tokio::test]
async fn a_reader_that_stands_still_holds_nothing_up() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::with_topic("unread", 3).await;
    let (brokers, topic, url) = (&pipeline.brokers, &pipeline.topic, &pipeline.url);
    let producer =
        ["producer", "--brokers", brokers, "--topic", topic, "--interval", "2ms", "--log-sent", "all"];
    let (producer, _unread) = Weather::command(producer).spawn_unread();
    let process = ["process", "--brokers", brokers, "--topic", topic, "--database-url", url, "--listen", ""];
    let options = ["--checkpoint-dir", pipeline.folder(), "--log-level", "debug"];
    let (process, _unread) = Weather::command(process.iter().chain(&options)).spawn_unread();
    pipeline.wait_for_tables().await;
    // Every session ended: the process has much to log, and to do again.
    for _ in 0..3 {
        pipeline.wait_for_more().await;
        let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                      WHERE datname = current_database() AND pid <> pg_backend_pid()";
        pipeline.database.execute(others).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    pipeline.wait_for_more().await;
    producer.sigterm();
    producer.succeed(END_LIMIT).await;
    process.sigterm();
    process.succeed(END_LIMIT).await;
    pipeline.drain().await;
    pipeline.assert_table().await;
}
