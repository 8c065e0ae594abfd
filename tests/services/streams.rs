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

/// A pager may take as long as it likes; a signal is what ends that.
#[tokio::test]
async fn an_answer_that_nobody_reads_is_waited_for_until_a_signal() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::new("unread").await;
    pipeline.produce(&["--count", "100", "--rate", "0"]).await;
    pipeline.drain().await;
    let at = ["--topic", &pipeline.topic, "--database-url", &pipeline.url];
    let kafka = ["--brokers", &pipeline.brokers];
    let folder = ["--checkpoint-dir", pipeline.folder()];
    for (command, more) in [("verify", &kafka[..]), ("inspect", &[kafka, folder].concat()), ("readmit", &[])]
    {
        let (run, _unread) = Weather::command([command].iter().chain(&at).chain(more)).spawn_unread();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(run.status(), None, "weather {command} has not delivered its answer");
        run.sigterm();
        run.wait(END_LIMIT).await;
    }
}
