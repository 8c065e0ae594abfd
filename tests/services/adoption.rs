//! The old system's table and statements, and what is refused.

use crate::support::pipeline::RUN_LIMIT;
use crate::support::{Pipeline, Postgres, Weather, turn, unique};

/// As the old system's README has them.
const OLD_TABLE: &str = "\
CREATE TABLE IF NOT EXISTS weather_summary (
    window_start TIMESTAMP,
    window_end TIMESTAMP,
    avg_temp DOUBLE PRECISION,
    avg_humidity DOUBLE PRECISION,
    avg_wind_speed DOUBLE PRECISION
);
CREATE INDEX IF NOT EXISTS idx_window_start ON weather_summary (window_start);";
/// The same as somebody may have divided it. The same places (ctid) are in both parts.
const DIVIDED_TABLE: &str = "\
CREATE TABLE weather_summary (
    window_start TIMESTAMP,
    window_end TIMESTAMP,
    avg_temp DOUBLE PRECISION,
    avg_humidity DOUBLE PRECISION,
    avg_wind_speed DOUBLE PRECISION
) PARTITION BY RANGE (window_start);
CREATE TABLE before_2025 PARTITION OF weather_summary FOR VALUES FROM (MINVALUE) TO ('2025-01-01');
CREATE TABLE since_2025 PARTITION OF weather_summary DEFAULT;
INSERT INTO weather_summary SELECT t, t + interval '1 hour', 4, 5, 6
FROM generate_series('2024-01-01'::timestamp, '2024-01-01 04:00', interval '1 hour') t;";
const OLD_QUERY: &str =
    "EXPLAIN ANALYZE SELECT * FROM weather_summary WHERE window_start > NOW() - INTERVAL '1 hour'";

async fn pipeline_with_readings(label: &str) -> Pipeline {
    let pipeline = Pipeline::new(label).await;
    pipeline.produce(&["--count", "2000", "--rate", "0", "--backfill", "3h"]).await;
    pipeline
}

/// Works through the topic; of the old rows the user says that their wind is in m/s already.
async fn drain_in_metres(pipeline: &Pipeline) {
    pipeline.spawn(&["--until-latest", "--output-units", "wind_speed=m/s"]).succeed(RUN_LIMIT).await;
}

/// A refusal: exit code 2, nothing printed, and one line that has these words.
async fn assert_refused(run: Weather, words: &[&str]) {
    assert_eq!(run.wait(RUN_LIMIT).await.code(), Some(2), "{:?}", run.stderr());
    let refusals: Vec<String> = run.stderr().into_iter().filter(|l| l.starts_with("weather: ")).collect();
    assert_eq!(refusals.len(), 1, "{:?}", run.stderr());
    for word in words {
        assert!(refusals[0].contains(word), "{word:?} is not in {:?}", refusals[0]);
    }
}

#[tokio::test]
async fn the_old_statements_work_before_and_after() {
    let _turn = turn::light().await;
    let pipeline = pipeline_with_readings("old").await;
    let database = &pipeline.database;
    database.execute(OLD_TABLE).await;
    database
        .execute(
            "INSERT INTO weather_summary SELECT t, t + interval '1 hour', 20, 50, 3 FROM generate_series(\
             date_trunc('hour', now() AT TIME ZONE 'UTC') - interval '8760 hours', \
             date_trunc('hour', now() AT TIME ZONE 'UTC') - interval '5 hours', interval '1 hour') t; \
             ANALYZE weather_summary",
        )
        .await;
    let before = database.number("SELECT COUNT(*) FROM weather_summary").await;
    drain_in_metres(&pipeline).await;
    let after = database.number("SELECT COUNT(*) FROM weather_summary").await;
    assert!((3..=5).contains(&(after - before)), "{before} rows became {after}");
    let old = database
        .number("SELECT COUNT(*) FROM weather_summary WHERE avg_temp = 20 AND reading_count = 0")
        .await;
    assert_eq!(old, before, "rows of the old system stay as they are");
    database.execute(OLD_TABLE).await;

    let plan = database.query(OLD_QUERY, &[]).await;
    let time = plan.iter().map(|row| row.get::<_, String>(0)).find_map(|line| {
        let time = line.strip_prefix("Execution Time: ")?.strip_suffix(" ms")?;
        time.parse::<f64>().ok()
    });
    assert!(time.expect("the plan tells its time") < 5.0, "{time:?} ms");
}

#[tokio::test]
async fn duplicate_windows_are_refused_with_the_statement_that_removes_them() {
    let _turn = turn::light().await;
    for (table, others) in [(OLD_TABLE, 0), (DIVIDED_TABLE, 5)] {
        refuse_duplicates(table, others).await;
    }
}

/// The same for one kind of table, which has so many other rows.
async fn refuse_duplicates(table: &str, others: i64) {
    let pipeline = pipeline_with_readings("twice").await;
    let database = &pipeline.database;
    database.execute(table).await;
    let row = "('2025-01-01 00:00', '2025-01-01 01:00', 1, 2, 3)";
    database.execute(&format!("INSERT INTO weather_summary VALUES {row}, {row}, {row}")).await;
    let run = pipeline.spawn(&["--until-latest", "--output-units", "wind_speed=m/s"]);
    run.wait(RUN_LIMIT).await;
    let said = run.stderr().into_iter().find(|line| line.starts_with("weather: ")).unwrap_or_default();
    assert_refused(run, &["more than once", "DELETE FROM weather_summary"]).await;
    assert_eq!(database.number("SELECT COUNT(*) FROM weather_summary").await, 3 + others, "nothing is lost");
    assert!(!database.has_table("weather_partition").await, "nothing is half done");

    let statement = said.split_once("run: ").expect("the statement follows").1;
    database.execute(statement).await;
    assert_eq!(database.number("SELECT COUNT(*) FROM weather_summary").await, 1 + others);
    drain_in_metres(&pipeline).await;
}

#[tokio::test]
async fn tables_of_another_kind_are_refused() {
    let _turn = turn::light().await;
    let cases: [(&str, &[&str]); 3] = [
        ("CREATE TABLE weather_summary (a INT)", &["no column window_start"]),
        (
            "CREATE TABLE weather_summary (window_start TIMESTAMPTZ, window_end TIMESTAMP)",
            &["window_start", "timestamp with time zone", "ALTER TABLE"],
        ),
        (
            "CREATE TABLE weather_pipeline (singleton BOOLEAN PRIMARY KEY DEFAULT true, schema_version INT, \
             topic TEXT, window_ms BIGINT); INSERT INTO weather_pipeline VALUES (true, 99, 't', 1)",
            &["newer version", "99"],
        ),
    ];
    let pipeline = pipeline_with_readings("foreign").await;
    for (statement, words) in cases {
        let database = Postgres::shared().database().await;
        database.execute(statement).await;
        assert_refused(pipeline.process_at(database.url(), &["--until-latest"]), words).await;
    }
}

#[tokio::test]
async fn another_topic_or_window_in_the_same_tables_is_refused() {
    let _turn = turn::light().await;
    let pipeline = pipeline_with_readings("first").await;
    pipeline.drain().await;
    assert_refused(pipeline.spawn(&["--window", "30m"]), &["3600 s", "1800 s", "--window"]).await;
    let mut other = pipeline_with_readings("second").await;
    other.url = pipeline.url.clone();
    assert_refused(other.spawn(&[]), &[&pipeline.topic, &other.topic]).await;
}

#[tokio::test]
async fn what_only_the_user_can_fix_ends_with_one_line() {
    let _turn = turn::light().await;
    let pipeline = pipeline_with_readings("usage").await;
    let url = pipeline.database.url();
    let (name, server) = url.split_once('@').expect("the URL has a user");
    let (wrong_password, no_database) = (format!("{name}x@{server}"), format!("{url}_missing"));
    let cases: [(&[&str], &[&str]); 7] = [
        (&["--database-url", &wrong_password], &["password authentication failed", "PGPASSWORD"]),
        (&["--checkpoint-dir", "/dev/null/x"], &["checkpoint folder", "/dev/null/x", "--checkpoint-dir"]),
        (&["--database-url", &no_database], &["does not exist", "--database-url"]),
        (&["--flush-interval", "soon"], &["--flush-interval", "soon", "10s"]),
        (&["--flushinterval", "1s"], &["--flushinterval", "--flush-interval"]),
        (&["--assign", "0,x"], &["--assign", "x"]),
        (&["--on-data-loss", "maybe"], &["--on-data-loss", "continue"]),
    ];
    let folder = pipeline.folder();
    for (arguments, words) in cases {
        let mut all =
            vec!["process", "--brokers", &pipeline.brokers, "--topic", &pipeline.topic, "--listen", ""];
        if !arguments.contains(&"--database-url") {
            all.extend(["--database-url", url]);
        }
        if !arguments.contains(&"--checkpoint-dir") {
            all.extend(["--checkpoint-dir", folder]);
        }
        assert_refused(Weather::spawn(all.into_iter().chain(arguments.iter().copied())), words).await;
    }
}

#[tokio::test]
async fn a_role_without_rights_learns_which_are_missing() {
    let _turn = turn::light().await;
    let pipeline = pipeline_with_readings("rights").await;
    let database = &pipeline.database;
    let name = unique("poor");
    database.execute(&format!("CREATE ROLE {name} LOGIN PASSWORD 'poor'")).await;
    let (_, server) = pipeline.database.url().split_once('@').expect("the URL has a user");
    let poor_url = format!("postgres://{name}:poor@{server}");
    let spawn = || pipeline.process_at(&poor_url, &["--until-latest"]);
    assert_refused(spawn(), &["weather_summary", "permission denied", "right"]).await;

    // Once the tables are there, rights to the rows are enough.
    pipeline.drain().await;
    database
        .execute(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}"))
        .await;
    spawn().succeed(RUN_LIMIT).await;
}

#[tokio::test]
async fn a_host_that_is_not_there_is_waited_for_with_one_line() {
    let _turn = turn::light().await;
    let pipeline = pipeline_with_readings("nohost").await;
    let folder = pipeline.folder();
    let cases = [
        ("127.0.0.1:1", pipeline.database.url(), "Kafka at 127.0.0.1:1"),
        (&*pipeline.brokers, "postgres://u:secret@127.0.0.1:1/d", "PostgreSQL at 127.0.0.1:1/d"),
        ("no-such-host.invalid:9092", pipeline.database.url(), "no-such-host.invalid"),
    ];
    for (brokers, database, words) in cases {
        let arguments = ["process", "--brokers", brokers, "--database-url", database, "--listen", ""];
        let own = ["--checkpoint-dir", folder, "--topic", &pipeline.topic];
        let run = Weather::spawn(arguments.iter().chain(&own));
        let line = run.wait_for_line("not available; retrying", RUN_LIMIT).await;
        assert!(line.contains(words) && !line.contains("secret"), "{line}");
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let said = run.stderr().iter().filter(|line| line.contains("available")).count();
        assert_eq!(said, 1, "{:?}", run.stderr());
        run.sigterm();
        run.succeed(RUN_LIMIT).await;
    }
}
