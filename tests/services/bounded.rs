//! `--until-latest`: it ends when everything is read and written, and reports it if it has to end before.

use std::time::Duration;

use crate::support::kafka::record;
use crate::support::pipeline::{END_LIMIT, RUN_LIMIT};
use crate::support::{Folder, Pipeline, Weather, turn};

#[tokio::test]
async fn a_bounded_run_ends_only_when_everything_is_read() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("bounded", 2).await;
    let produce = async |count, seed| {
        pipeline.produce(&["--count", count, "--rate", "0", "--backfill", "3h", "--seed", seed]).await;
    };
    let read = "SELECT sum(aggregated + late)::bigint FROM weather_partition";
    produce("4000", "1").await;
    pipeline.drain().await;
    // The new log is shorter than what was read of the old one.
    pipeline.kafka.delete_topic(&pipeline.topic).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    pipeline.kafka.create_topic(&pipeline.topic, 2).await;
    produce("1000", "2").await;
    pipeline.drain().await;
    assert_eq!(pipeline.database.number(read).await, 5_000);
    // Every later run continues from there.
    produce("3000", "3").await;
    pipeline.drain().await;
    assert_eq!(pipeline.database.number(read).await, 8_000);
    let ends = "SELECT sum(next_offset)::bigint FROM weather_partition";
    assert_eq!(pipeline.database.number(ends).await, 4_000);
}

#[tokio::test]
async fn a_bounded_run_ended_by_a_signal_reports_it() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("interrupted", 2).await;
    pipeline.produce(&["--count", "1000", "--rate", "0", "--backfill", "3h"]).await;
    // One partition is held by a suspended process, so the run cannot finish.
    let holder = pipeline.spawn(&["--assign", "1", "--lease", "60s"]);
    holder.wait_for_line("write OK", RUN_LIMIT).await;
    holder.sigstop();
    pipeline.produce(&["--count", "1000", "--rate", "0", "--backfill", "3h"]).await;
    let run = pipeline.spawn(&["--until-latest"]);
    run.wait_for_line("write OK", RUN_LIMIT).await;
    run.sigterm();
    assert_eq!(run.wait(RUN_LIMIT).await.code(), Some(1), "{:?}", run.stderr());
    assert!(run.stderr().join("\n").contains("before everything was read"), "{:?}", run.stderr());
    holder.sigcont();
    holder.sigterm();
    holder.succeed(END_LIMIT).await;
    pipeline.drain().await;
    pipeline.assert_table().await;
}

#[tokio::test]
async fn a_bounded_run_that_is_stopped_while_it_waits_has_not_succeeded() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("waiting", 2).await;
    pipeline.produce(&["--count", "1000", "--rate", "0", "--backfill", "3h"]).await;
    let (away, brokers, url) = ("127.0.0.1:1", pipeline.brokers.as_str(), pipeline.url.as_str());
    let no_postgres = format!("postgres://postgres@{away}/x");
    let cases =
        [(brokers, no_postgres.as_str(), "PostgreSQL"), (away, url, "Kafka"), (away, "none", "Kafka")];
    for (brokers, url, what) in cases {
        let folder = Folder::new("waiting");
        let folder = folder.path().to_str().expect("the folder's name is UTF-8");
        let run = Weather::spawn([
            "process",
            "--brokers",
            brokers,
            "--topic",
            &pipeline.topic,
            "--database-url",
            url,
            "--checkpoint-dir",
            folder,
            "--listen",
            "",
            "--until-latest",
        ]);
        run.wait_for_line(what, RUN_LIMIT).await;
        run.sigterm();
        assert_eq!(run.wait(END_LIMIT).await.code(), Some(1), "{url}: {:?}", run.stderr());
        assert!(run.stderr().join("\n").contains("nothing was read"), "{:?}", run.stderr());
    }
}

#[tokio::test]
async fn a_topic_that_is_refused_in_full_is_not_passed_in_silence() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("refused", 2).await;
    let lines = Folder::new("lines");
    let path = lines.path().join("lines");
    std::fs::write(&path, "no json at all\n".repeat(5)).expect("a file");
    pipeline.produce(&["--source", path.to_str().expect("UTF-8")]).await;
    for url in [pipeline.url.as_str(), "none"] {
        let run = pipeline.process_at(url, &["--until-latest"]);
        run.succeed(RUN_LIMIT).await;
        let log = run.stderr().join("\n");
        assert!(log.contains("rejected records: malformed") && log.contains("no json at all"), "{log}");
        assert!(log.contains("stopped records=5 aggregated=0 malformed=5"), "{log}");
    }
}

/// A reading of that many minutes from now.
fn reading(minutes: i64) -> String {
    format!(r#"{{"timestamp":{},"temperature":20}}"#, weather::time::now_ms() + minutes * 60_000)
}

/// To a processor whose own clock is behind, all records are ahead: these are, by the clocks of both machines.
#[tokio::test]
async fn what_is_refused_is_logged_with_its_share_and_what_to_do() {
    let _turn = turn::light().await;
    let on_time = || vec![reading(0); 20];
    let cases: [(&str, Vec<String>, &[&str]); 3] = [
        (
            "future",
            vec![reading(180); 20],
            &["count=20 share=100.0%", "the clock of this machine", "weather readmit --reason future"],
        ),
        (
            "late",
            [on_time(), vec![reading(-300); 5]].concat(),
            &["count=5 share=20.0%", "--watermark", "weather readmit"],
        ),
        (
            "no_metric",
            [on_time(), vec![r#"{"dt":1709633700,"main":{"temp":283.1}}"#.to_owned(); 5]].concat(),
            &["count=5 share=20.0%", "example=", "--fields 'temperature=main.temp:K'"],
        ),
    ];
    for (reason, values, words) in cases {
        let pipeline = Pipeline::with_topic(reason, 1).await;
        let records = values.into_iter().map(record).collect();
        pipeline.kafka.produce(&pipeline.topic, 0, records).await;
        for url in [pipeline.url.as_str(), "none"] {
            let run = pipeline.process_at(url, &["--until-latest"]);
            run.succeed(RUN_LIMIT).await;
            let line =
                run.stderr().into_iter().find(|line| line.contains(&format!("rejected records: {reason}")));
            let line = line.unwrap_or_else(|| panic!("{url}: {:?}", run.stderr()));
            assert!(words.iter().all(|word| line.contains(word)), "{url}: {words:?}: {line}");
            let stopped = run.stderr().into_iter().find(|line| line.contains("stopped ")).unwrap_or_default();
            assert!(stopped.contains(&format!(" {reason}=")), "{url}: {stopped}");
        }
    }
}

#[tokio::test]
async fn a_run_whose_last_flush_was_not_taken_says_that_the_table_lacks_it() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("unflushed", 1).await;
    pipeline.produce(&["--count", "100", "--rate", "0"]).await;
    pipeline.drain().await;
    pipeline.produce(&["--count", "100", "--rate", "0", "--seed", "2"]).await;
    let refusal = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
                   $$ BEGIN RAISE EXCEPTION 'not now'; END $$; \
                   CREATE TRIGGER refusal BEFORE INSERT OR UPDATE ON weather_partial FOR EACH ROW EXECUTE FUNCTION refuse()";
    pipeline.database.execute(refusal).await;
    let run = pipeline.spawn(&["--until-latest"]);
    run.wait_for_line("not now", RUN_LIMIT).await;
    run.sigterm();
    assert_eq!(run.wait(END_LIMIT).await.code(), Some(1), "{:?}", run.stderr());
    let log = run.stderr().join("\n");
    assert!(log.contains("the table lacks the last of what was read"), "{log}");
    pipeline.database.execute("DROP FUNCTION refuse() CASCADE").await;
    pipeline.drain().await;
    pipeline.assert_table().await;
}
