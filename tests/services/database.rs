//! What PostgreSQL refuses and how that is told; what the program costs it; how its tables are made beside other users.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;
use weather::postgres::leases::LeaseSession;
use weather::postgres::schema::{self, Units};
use weather::postgres::session::Session;
use weather::reading::Format;

use crate::support::pipeline::{END_LIMIT, RUN_LIMIT};
use crate::support::{Database, Pipeline, Postgres, Weather, turn};

const HOUR_MS: i64 = 3_600_000;
const LEASE: Duration = Duration::from_secs(15);
/// As the old system made it.
const OLD_TABLE: &str = "CREATE TABLE weather_summary (window_start TIMESTAMP, window_end TIMESTAMP, \
     avg_temp DOUBLE PRECISION, avg_humidity DOUBLE PRECISION, avg_wind_speed DOUBLE PRECISION)";

async fn session(database: &Database) -> Session {
    let config = database.url().parse().expect("the URL of a test is one");
    Session::open(&config).await.expect("PostgreSQL answers")
}

/// The tables of a topic, as a process sees them.
async fn leases(database: &Database) -> LeaseSession {
    let units = Units::of(&Format::default());
    schema::set_up(&session(database).await, "t", HOUR_MS, &units, false).await.expect("tables can be made");
    let session = Arc::new(session(database).await);
    LeaseSession::prepare(session, "t", "me", LEASE, false).await.expect("statements are taken")
}

/// Waits until a query gives this number.
async fn until(database: &Database, query: &str, expected: i64) {
    let start = Instant::now();
    while database.number(query).await != expected {
        assert!(start.elapsed() < RUN_LIMIT, "{query} does not come to {expected}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_publication_for_all_tables_stops_nothing() {
    let _turn = turn::light().await;
    for old in [false, true] {
        let pipeline = Pipeline::new("published").await;
        pipeline.database.execute("CREATE PUBLICATION everything FOR ALL TABLES").await;
        if old {
            pipeline.database.execute(OLD_TABLE).await;
        }
        pipeline.produce(&["--count", "500", "--rate", "0"]).await;
        pipeline.drain().await;
        pipeline.produce(&["--count", "500", "--rate", "0"]).await;
        pipeline.drain().await;
        assert_eq!(pipeline.readings().await, 1_000, "with a table of the old system: {old}");
    }
}

#[tokio::test]
async fn processes_that_start_at_once_find_each_others_tables_whatever_the_isolation() {
    let _turn = turn::light().await;
    for isolation in ["repeatable read", "serializable"] {
        for _ in 0..3 {
            let pipeline = Pipeline::with_topic("isolated", 2).await;
            let set = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = ''LEVEL''', \
                       current_database()); END $$";
            pipeline.database.execute(&set.replace("LEVEL", isolation)).await;
            let runs = [pipeline.process("one", &[]), pipeline.process("two", &[])];
            for run in &runs {
                run.wait_for_line("took a partition", RUN_LIMIT).await;
                run.sigterm();
            }
            for run in &runs {
                run.succeed(END_LIMIT).await;
            }
        }
    }
}

#[tokio::test]
async fn a_password_that_has_spilt_into_the_url_is_not_shown() {
    for url in
        ["postgres://u:p@h.invalid/hunter2@127.0.0.1:1/d", "postgres://u:hunter2@hunter2@127.0.0.1:1/d"]
    {
        let run = Weather::spawn(["process", "--database-url", url, "--checkpoint-dir", "/nowhere"]);
        assert_eq!(run.wait(END_LIMIT).await.code(), Some(2));
        let said = run.stderr().join("\n");
        assert!(said.contains("%40") && !said.contains("hunter2") && !said.contains("h.invalid"), "{said}");
    }
}

#[tokio::test]
async fn of_several_hosts_the_one_that_can_be_written_to_is_taken() {
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::new("hosts").await;
    pipeline.produce(&["--count", "100", "--rate", "0"]).await;
    let standby = Postgres::private(&["default_transaction_read_only=on"]).await;
    let (server, name) = pipeline.url.rsplit_once('/').expect("the URL has a database");
    let as_writer = format!("{}?options=-cdefault_transaction_read_only%3Doff", standby.url("postgres"));
    let (client, connection) = tokio_postgres::connect(&as_writer, NoTls).await.expect("PostgreSQL answers");
    tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("the database can be made");
    let (user, host) = server.rsplit_once('@').expect("the URL has a user");
    let url = format!("{user}@127.0.0.1:{},{host}/{name}", standby.port());
    pipeline.process_at(&url, &["--until-latest"]).succeed(RUN_LIMIT).await;
    assert_eq!(pipeline.readings().await, 100);
}

#[tokio::test]
async fn what_time_does_not_change_is_told_in_the_servers_words_and_gone_on_from() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("refused", 2).await;
    pipeline.drain().await;
    let trigger = "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS \
                   $$ BEGIN RAISE EXCEPTION 'not on a Sunday'; END $$; \
                   CREATE TRIGGER no BEFORE UPDATE ON weather_summary EXECUTE FUNCTION no()";
    pipeline.database.execute(trigger).await;
    pipeline.produce(&["--count", "100", "--rate", "0"]).await;
    let process = pipeline.process("one", &[]);
    let line = process.wait_for_line("refuses requests", RUN_LIMIT).await;
    for words in ["not on a Sunday", "SQLSTATE P0001", "a trigger, rule or view that was added"] {
        assert!(line.contains(words), "{words:?} is not in {line}");
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    pipeline.database.execute("DROP TRIGGER no ON weather_summary").await;
    process.wait_for_line("accepts requests again", RUN_LIMIT).await;
    until(&pipeline.database, "SELECT coalesce(sum(reading_count), 0)::bigint FROM weather_summary", 100)
        .await;
    let lines = process.stderr();
    assert!(!lines.iter().any(|line| line.contains("not available")), "{lines:?}");
    assert_eq!(
        lines.iter().filter(|line| line.contains("refuses requests; retrying")).count(),
        1,
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_table_that_somebody_reads_is_adopted_without_keeping_others_waiting() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("read", 1).await;
    let database = &pipeline.database;
    database.execute(OLD_TABLE).await;
    let holder = database.connect().await;
    holder.batch_execute("BEGIN; SELECT FROM weather_summary").await.expect("the table can be read");
    let process = pipeline.process("one", &[]);
    process.wait_for_line("waiting for a lock on the table", RUN_LIMIT).await;
    let reader = database.connect().await;
    reader.batch_execute("SET lock_timeout = '5s'").await.expect("a setting is taken");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        reader.batch_execute("SELECT FROM weather_summary").await.expect("a reader waits for moments only");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    holder.batch_execute("COMMIT").await.expect("the reader has read");
    process.wait_for_line("took a partition", RUN_LIMIT).await;
}

#[tokio::test]
async fn an_index_whose_maker_was_killed_is_made_again() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("invalid", 1).await;
    let database = &pipeline.database;
    database.execute(OLD_TABLE).await;
    database
        .execute(
            "CREATE UNIQUE INDEX weather_summary_window ON weather_summary (window_start, window_end); \
             UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'weather_summary_window'::regclass",
        )
        .await;
    pipeline.drain().await;
    let valid =
        "SELECT count(*) FROM pg_index WHERE indexrelid = 'weather_summary_window'::regclass AND indisvalid";
    assert_eq!(database.number(valid).await, 1);
}

#[tokio::test]
async fn tables_of_schema_version_1_are_brought_up_to_date() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("version", 1).await;
    let database = &pipeline.database;
    pipeline.drain().await;
    let back = "ALTER TABLE weather_pipeline DROP COLUMN cluster_id, DROP COLUMN topic_id; \
                UPDATE weather_pipeline SET schema_version = 1; \
                ALTER TABLE weather_summary DROP CONSTRAINT weather_summary_window; \
                CREATE UNIQUE INDEX weather_summary_window ON weather_summary (window_start, window_end); \
                CREATE PUBLICATION everything FOR ALL TABLES";
    database.execute(back).await;
    pipeline.produce(&["--count", "100", "--rate", "0"]).await;
    pipeline.drain().await;
    assert_eq!(pipeline.readings().await, 100);
    let version =
        "SELECT schema_version::bigint FROM weather_pipeline WHERE cluster_id IS DISTINCT FROM 'none'";
    assert_eq!(database.number(version).await, i64::from(schema::SCHEMA_VERSION));
}

#[tokio::test]
async fn a_row_changed_by_hand_is_found_however_old_it_is() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("swept", 1).await;
    let database = &pipeline.database;
    pipeline.drain().await;
    let history = "INSERT INTO weather_partial SELECT topic, '2020-01-01'::timestamp + n * interval '1 hour', 0, \
                   1, 1, 1, 1, 1000000, 1000000, 1000000 FROM weather_pipeline, generate_series(1, 2500) n; \
                   INSERT INTO weather_summary SELECT window_start, window_start + interval '1 hour', 1, 1, 1, 1, true \
                   FROM weather_partial; UPDATE weather_summary SET avg_temp = 99 \
                   WHERE window_start = '2020-01-01 01:00'";
    database.execute(history).await;
    let process = pipeline.process("one", &[]);
    process.wait_for_line("restored from weather_partial", RUN_LIMIT).await;
    assert_eq!(database.number("SELECT count(*) FROM weather_summary WHERE avg_temp = 99").await, 0);
}

#[tokio::test]
async fn at_rest_a_process_writes_nothing_and_has_one_connection() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("rest", 4).await;
    let process = pipeline.process("resting", &[]);
    process.wait_for_line("took a partition", RUN_LIMIT).await;
    let (connections, owned) = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'resting' AND datname = current_database()",
        "SELECT count(*) FROM weather_partition WHERE owner IS NOT NULL AND next_offset IS NOT NULL",
    );
    until(&pipeline.database, owned, 4).await;
    assert_eq!(pipeline.database.number(connections).await, 1);

    let quiet = Postgres::shared().database().await;
    let leases = leases(&quiet).await;
    leases.add_partitions(&[0, 1]).await.expect("rows can be made");
    leases.beat(&[], true).await.expect("PostgreSQL answers");
    let claimed = leases.claim(&[0, 1], HOUR_MS).await.expect("nobody else has them");
    let owned: Vec<(i32, i64)> = claimed.iter().map(|claimed| (claimed.partition, claimed.epoch)).collect();
    let versions = "SELECT string_agg(xmin::text, ',' ORDER BY 1) FROM (SELECT xmin FROM weather_process \
                    UNION ALL SELECT xmin FROM weather_partition) AS rows";
    let look = async || quiet.query(versions, &[]).await[0].get::<_, String>(0);
    let before = look().await;
    for _ in 0..10 {
        leases.beat(&owned, true).await.expect("PostgreSQL answers");
    }
    assert_eq!(look().await, before, "a lease that has just been taken says nothing new");
    let end = "UPDATE weather_process SET expires_at = now() + interval '9 s'; \
               UPDATE weather_partition SET lease_expires_at = now() + interval '9 s'";
    quiet.execute(end).await;
    leases.beat(&owned, true).await.expect("PostgreSQL answers");
    let short = "SELECT (SELECT count(*) FROM weather_process WHERE expires_at < now() + interval '10 s') \
                 + (SELECT count(*) FROM weather_partition WHERE lease_expires_at < now() + interval '10 s')";
    assert_eq!(quiet.number(short).await, 0, "a lease of which a third has passed is extended");
}

#[tokio::test]
async fn old_dead_letters_go_by_key_and_the_table_stays_within_its_bytes() {
    let _turn = turn::light().await;
    let database = Postgres::shared().database().await;
    // As a user may have partitioned it: the same places (ctid) are in both parts.
    let divided = "CREATE TABLE weather_dead_letter (topic TEXT NOT NULL, partition INT NOT NULL, \
                   incarnation BIGINT NOT NULL, \"offset\" BIGINT NOT NULL, reason TEXT NOT NULL, payload BYTEA, \
                   payload_bytes BIGINT NOT NULL, recorded_at TIMESTAMPTZ NOT NULL DEFAULT now(), \
                   PRIMARY KEY (topic, partition, incarnation, \"offset\", recorded_at)) \
                   PARTITION BY RANGE (recorded_at); \
                   CREATE TABLE before PARTITION OF weather_dead_letter FOR VALUES FROM (MINVALUE) TO ('2024-01-01'); \
                   CREATE TABLE since PARTITION OF weather_dead_letter FOR VALUES FROM ('2024-01-01') TO (MAXVALUE); \
                   INSERT INTO weather_dead_letter SELECT 't', 0, 0, n, 'late', repeat('x', 100)::bytea, 100, \
                   CASE WHEN n <= 8 THEN '2020-01-01'::timestamptz ELSE now() END FROM generate_series(1, 15) n";
    database.execute(divided).await;
    let leases = leases(&database).await;
    let deleted = leases.prune_dead_letters(Duration::from_secs(3_600)).await.expect("PostgreSQL answers");
    let young = "SELECT count(*) FROM weather_dead_letter WHERE \"offset\" > 8";
    assert_eq!((deleted, database.number(young).await), (8, 7));

    let flood = "INSERT INTO weather_dead_letter SELECT 't', 1, 0, n, 'late', \
                 (SELECT string_agg(decode(md5((n * 1000 + k)::text), 'hex'), '') FROM generate_series(1, 125) k), \
                 2000, now() + n * interval '1 ms' \
                 FROM generate_series(1, 2000) n";
    database.execute(flood).await;
    let max = 2 * 1024 * 1024;
    assert!(leases.trim_dead_letters(max).await.expect("PostgreSQL answers") > 0);
    let size = "SELECT sum(100 + pg_column_size(payload))::bigint FROM weather_dead_letter";
    let left = database.number(size).await;
    assert!((max / 2..=max).contains(&left), "{left} bytes are left");
    assert_eq!(
        database.number("SELECT max(\"offset\") FROM weather_dead_letter").await,
        2_000,
        "the newest stay"
    );
    assert_eq!(leases.trim_dead_letters(max).await.expect("PostgreSQL answers"), 0, "that is enough");
}

#[tokio::test]
async fn a_flood_of_dead_letters_is_counted_in_full_and_kept_in_part() {
    let _turn = turn::light().await;
    let pipeline = Pipeline::with_topic("flood", 1).await;
    pipeline.produce(&["--count", "20000", "--rate", "0", "--malformed-ratio", "1"]).await;
    pipeline.drain().await;
    let counted = "SELECT next_offset - origin_offset - aggregated FROM weather_partition";
    let sampled = "SELECT sampled_out + (SELECT count(*) FROM weather_dead_letter) FROM weather_partition";
    let kept = pipeline.database.number("SELECT count(*) FROM weather_dead_letter").await;
    assert_eq!(pipeline.database.number(counted).await, 20_000);
    assert_eq!(pipeline.database.number(sampled).await, 20_000);
    assert!((1_000..10_000).contains(&kept), "{kept} are kept");
}

#[tokio::test]
async fn who_holds_back_the_upkeep_is_named() {
    let _turn = turn::light().await;
    let database = Postgres::shared().database().await;
    let leases = leases(&database).await;
    let holder = database.connect().await;
    holder
        .batch_execute("SET application_name = 'a forgotten psql'; BEGIN; SELECT pg_current_xact_id()")
        .await
        .expect("a transaction begins");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let oldest = leases.oldest_snapshot().await.expect("PostgreSQL answers").expect("there is one");
    assert!(oldest.who.contains("a forgotten psql") && oldest.seconds >= 1.0, "{oldest:?}");
    holder.batch_execute("COMMIT").await.expect("a transaction ends");
    assert_eq!(leases.oldest_snapshot().await.expect("PostgreSQL answers"), None);
}
