//! `weather inspect`: what it finds is there, and it changes nothing.

use std::collections::BTreeMap;
use std::time::SystemTime;

use simd_json::OwnedValue;
use simd_json::prelude::*;

use crate::support::{Pipeline, Weather, turn};
use crate::telemetry::{LIMIT, spawn};

/// Everything below a folder, with its contents and the time of its last change.
fn contents(folder: &std::path::Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let files = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry"));
    let file = |entry: std::fs::DirEntry| {
        let changed = entry.metadata().and_then(|data| data.modified()).expect("a time");
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, (std::fs::read(entry.path()).expect("a file"), changed))
    };
    files.map(file).collect()
}

fn inspect(pipeline: &Pipeline, arguments: &[&str]) -> Weather {
    let folder = pipeline.checkpoints.path().to_str().expect("a plain name");
    let common = ["inspect", "--brokers", &pipeline.brokers, "--topic", &pipeline.topic];
    let own = ["--database-url", pipeline.database.url(), "--checkpoint-dir", folder];
    Weather::spawn(common.iter().chain(&own).chain(arguments))
}

async fn report(pipeline: &Pipeline) -> OwnedValue {
    let inspect = inspect(pipeline, &["--json"]);
    inspect.succeed(LIMIT).await;
    simd_json::to_owned_value(&mut inspect.stdout().concat().into_bytes()).expect("JSON")
}

fn problems(report: &OwnedValue) -> String {
    let problems = report.get_array("problems").expect("problems");
    let text = |problem: &OwnedValue| {
        format!(
            "{} {}\n",
            problem.get_str("severity").unwrap_or_default(),
            problem.get_str("what").unwrap_or_default()
        )
    };
    problems.iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_reports_what_is_there_and_changes_nothing() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::new("inspect").await;
    let nothing = report(&pipeline).await;
    assert!(problems(&nothing).contains("error there is no topic"), "{nothing}");
    assert!(problems(&nothing).contains("error the database lacks weather_summary"), "{nothing}");
    assert!(!pipeline.database.has_table("weather_pipeline").await, "it has made tables");
    assert!(contents(pipeline.checkpoints.path()).is_empty(), "it has made files");

    let hours = ["--count", "5000", "--rate", "0", "--backfill", "4h", "--malformed-ratio", "0.05"];
    pipeline.produce(&hours).await;
    pipeline.drain().await;
    pipeline.produce(&["--count", "100", "--rate", "0"]).await;
    let dump = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM (SELECT p::text FROM weather_partition p UNION ALL \
                SELECT s::text FROM weather_summary s UNION ALL SELECT l::text FROM weather_process l) AS t";
    let tables = || async { pipeline.database.query(dump, &[]).await[0].get::<_, String>(0) };
    let before = (contents(pipeline.checkpoints.path()), tables().await);
    let idle = report(&pipeline).await;
    assert_eq!(
        before,
        (contents(pipeline.checkpoints.path()), tables().await),
        "inspect has changed something"
    );
    let said = problems(&idle);
    assert!(said.contains("error no process is running"), "{said}");
    assert!(said.contains("records are in no window"), "{said}");
    let partitions = idle.get_array("partitions").expect("partitions");
    let lag: i64 = partitions.iter().filter_map(|p| p.get_i64("lag")).sum();
    assert_eq!((partitions.len(), lag), (6, 100));
    let usable = |p: &OwnedValue| p.get("file").and_then(|file| file.get_bool("would_be_used"));
    assert!(partitions.iter().all(|p| usable(p) == Some(true)), "{idle}");

    let records = idle.get_array("records").expect("records");
    let read = records.iter().find(|records| records.get_str("reason").is_none()).expect("readings");
    let fields: Vec<_> = read.get_array("understood").into_iter().flatten().collect();
    let field = |name: &str| fields.iter().find(|field| field.get_str("name") == Some(name));
    let (path, unit) = field("wind_speed").map_or((None, None), |f| (f.get_str("path"), f.get_str("unit")));
    assert_eq!((path, unit), (Some("wind_speed"), Some("m/s")), "{read}");

    // A file that was cut while no process is running.
    let file = pipeline.checkpoints.path().join(format!("{}-0.ckpt", pipeline.topic));
    let bytes = std::fs::read(&file).expect("the file");
    std::fs::write(&file, &bytes[..bytes.len() / 2]).expect("the file");
    let said = problems(&report(&pipeline).await);
    assert!(said.contains("checkpoint file of partition 0 cannot be used"), "{said}");

    let (processor, _) = spawn(&pipeline).await;
    processor.wait_for_line("write OK", LIMIT).await;
    let busy = report(&pipeline).await;
    assert!(!problems(&busy).contains("error"), "{busy}");
    let text = inspect(&pipeline, &[]);
    text.succeed(LIMIT).await;
    let text = text.stdout().join("\n");
    assert!(text.contains("partition  owner") && text.contains("s left"), "{text}");
    assert!(text.contains("newest records") && text.contains("temperature  temperature "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_reports_what_is_away() {
    let _turn = turn::light().await;
    let away = Weather::spawn([
        "inspect",
        "--brokers",
        "127.0.0.1:1",
        "--database-url",
        "postgres://u:s3cret@127.0.0.1:1/d",
    ]);
    let status = away.wait(LIMIT).await;
    assert_eq!(status.code(), Some(1));
    let text = away.stdout().join("\n");
    assert!(text.contains("ERROR    Kafka at 127.0.0.1:1 is not available"), "{text}");
    assert!(text.contains("ERROR    PostgreSQL at 127.0.0.1:1/d is not available"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}
