//! The tables: made where they are missing, adopted where the old system made them, refused with a sentence where they
//! cannot be used.
//!
//! What is there is looked at first, and only what is missing is made, so that a role without DDL rights can start once
//! somebody has made the tables. One advisory lock lets several processes start at once. Nothing here deletes a row.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::postgres::failure::{Failure, FailureKind};
use crate::postgres::session::Session;

/// What the tables of this program's version look like; a greater number in the database is refused.
pub const SCHEMA_VERSION: i32 = 1;

/// The users' table: the five columns that the old system made, then ours.
const SUMMARY: &str = "\
CREATE TABLE weather_summary (
    window_start TIMESTAMP,
    window_end TIMESTAMP,
    avg_temp DOUBLE PRECISION,
    avg_humidity DOUBLE PRECISION,
    avg_wind_speed DOUBLE PRECISION,
    reading_count BIGINT NOT NULL DEFAULT 0,
    is_final BOOLEAN NOT NULL DEFAULT false,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
) WITH (fillfactor = 70)";

/// Columns of `weather_summary`, their types, and what to add where the old system's table lacks them.
const SUMMARY_COLUMNS: [(&str, &str, Option<&str>); 8] = [
    ("window_start", "timestamp without time zone", None),
    ("window_end", "timestamp without time zone", None),
    ("avg_temp", "double precision", None),
    ("avg_humidity", "double precision", None),
    ("avg_wind_speed", "double precision", None),
    ("reading_count", "bigint", Some("BIGINT NOT NULL DEFAULT 0")),
    ("is_final", "boolean", Some("BOOLEAN NOT NULL DEFAULT false")),
    ("updated_at", "timestamp with time zone", Some("TIMESTAMPTZ NOT NULL DEFAULT now()")),
];

/// Tables of ours, in the order in which they are made.
const TABLES: [(&str, &str); 5] = [
    (
        "weather_pipeline",
        "CREATE TABLE weather_pipeline (
    singleton BOOLEAN PRIMARY KEY DEFAULT true CHECK (singleton),
    schema_version INT NOT NULL,
    topic TEXT NOT NULL,
    window_ms BIGINT NOT NULL
)",
    ),
    (
        "weather_partial",
        "CREATE TABLE weather_partial (
    topic TEXT NOT NULL,
    window_start TIMESTAMP NOT NULL,
    partition INT NOT NULL,
    reading_count BIGINT NOT NULL,
    temp_count BIGINT NOT NULL,
    humidity_count BIGINT NOT NULL,
    wind_speed_count BIGINT NOT NULL,
    temp_sum BIGINT NOT NULL,
    humidity_sum BIGINT NOT NULL,
    wind_speed_sum BIGINT NOT NULL,
    PRIMARY KEY (topic, window_start, partition)
) WITH (fillfactor = 70)",
    ),
    (
        "weather_partition",
        "CREATE TABLE weather_partition (
    topic TEXT NOT NULL,
    partition INT NOT NULL,
    owner TEXT,
    epoch BIGINT NOT NULL DEFAULT 0,
    lease_expires_at TIMESTAMPTZ,
    incarnation BIGINT,
    origin_offset BIGINT,
    next_offset BIGINT,
    high_watermark BIGINT,
    max_event_time TIMESTAMP,
    watermark TIMESTAMP,
    idle BOOLEAN NOT NULL DEFAULT false,
    aggregated BIGINT NOT NULL DEFAULT 0,
    duplicates BIGINT NOT NULL DEFAULT 0,
    skipped BIGINT NOT NULL DEFAULT 0,
    lost BIGINT NOT NULL DEFAULT 0,
    sampled_out BIGINT NOT NULL DEFAULT 0,
    malformed BIGINT NOT NULL DEFAULT 0,
    missing_timestamp BIGINT NOT NULL DEFAULT 0,
    no_metric BIGINT NOT NULL DEFAULT 0,
    out_of_range BIGINT NOT NULL DEFAULT 0,
    future BIGINT NOT NULL DEFAULT 0,
    late BIGINT NOT NULL DEFAULT 0,
    oversized BIGINT NOT NULL DEFAULT 0,
    log_memory BYTEA,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50)",
    ),
    (
        "weather_process",
        "CREATE TABLE weather_process (
    topic TEXT NOT NULL,
    owner TEXT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (topic, owner)
) WITH (fillfactor = 50)",
    ),
    (
        "weather_dead_letter",
        "CREATE TABLE weather_dead_letter (
    topic TEXT NOT NULL,
    partition INT NOT NULL,
    incarnation BIGINT NOT NULL,
    \"offset\" BIGINT NOT NULL,
    reason TEXT NOT NULL,
    payload BYTEA,
    payload_bytes BIGINT NOT NULL,
    recorded_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, incarnation, \"offset\")
)",
    ),
];

/// Indexes, by name.
const INDEXES: [(&str, &str); 4] = [
    ("idx_window_start", "CREATE INDEX idx_window_start ON weather_summary (window_start)"),
    ("weather_summary_window", UNIQUE_WINDOW),
    (
        "weather_summary_open",
        "CREATE INDEX weather_summary_open ON weather_summary (window_end) WHERE NOT is_final",
    ),
    (
        "weather_dead_letter_recorded",
        "CREATE INDEX weather_dead_letter_recorded ON weather_dead_letter (recorded_at)",
    ),
];

/// One row a window: what the old system's table lacks, and what fails where it left several.
const UNIQUE_WINDOW: &str =
    "CREATE UNIQUE INDEX weather_summary_window ON weather_summary (window_start, window_end)";

/// Keeps the row of each window that lies last in the table, as appending puts the newest last. Given to the user to run, never run here.
const MEND_DUPLICATES: &str = "DELETE FROM weather_summary WHERE window_start IS NOT NULL AND ctid NOT IN (SELECT \
     DISTINCT ON (window_start, window_end) ctid FROM weather_summary ORDER BY window_start, window_end, ctid DESC)";

/// Any number that no other program is likely to lock.
const LOCK: i64 = 0x7765_6174_6865_7201;

/// What set-up can end with besides success.
#[derive(Debug)]
pub enum SetupError {
    /// Try again.
    Failed(Failure),
    /// The user has to decide or change something.
    Refused(Error),
}

impl From<Failure> for SetupError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Error> for SetupError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Makes the tables fit for this program, this topic and this window length. Safe in several processes at once.
pub async fn set_up(session: &Session, topic: &str, window_ms: i64) -> Result<(), SetupError> {
    session.call(session.client.batch_execute("BEGIN")).await?;
    let result = set_up_in_transaction(session, topic, window_ms).await;
    let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = session.call(session.client.batch_execute(end)).await;
    let made = result?;
    ended?;
    if !made.is_empty() {
        crate::info!("made in the database", "names" => made.join(", "));
    }
    Ok(())
}

/// What it had to make, by name.
async fn set_up_in_transaction(
    session: &Session,
    topic: &str,
    window_ms: i64,
) -> Result<Vec<String>, SetupError> {
    let client = &session.client;
    session.call(client.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])).await?;
    let existing = relations(session).await?;
    let mut made = Vec::new();
    match existing.contains("weather_summary") {
        false => made.push(make(session, "weather_summary", SUMMARY).await?),
        true => adopt_summary(session, &mut made).await?,
    }
    for (name, statement) in TABLES.iter().chain(&INDEXES) {
        if existing.contains(*name) {
            continue;
        }
        if *statement == UNIQUE_WINDOW {
            refuse_duplicates(session).await?;
        }
        made.push(make(session, name, statement).await?);
    }
    identify(session, topic, window_ms).await?;
    Ok(made)
}

fn names() -> Vec<&'static str> {
    ["weather_summary"].into_iter().chain(TABLES.iter().chain(&INDEXES).map(|(name, _)| *name)).collect()
}

/// Tables and indexes of ours that the search path does not show.
pub(super) async fn missing(session: &Session) -> Result<Vec<String>, Failure> {
    let existing = relations(session).await?;
    Ok(names().into_iter().filter(|name| !existing.contains(*name)).map(str::to_owned).collect())
}

/// Which of our tables and indexes the search path shows.
async fn relations(session: &Session) -> Result<HashSet<String>, Failure> {
    let names = names();
    let query =
        "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(quote_ident(name)) IS NOT NULL";
    let rows = session.call(session.client.query(query, &[&names])).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn make(session: &Session, name: &str, statement: &str) -> Result<String, SetupError> {
    match session.call(session.client.batch_execute(statement)).await {
        Ok(()) => Ok(name.to_owned()),
        Err(failure) if failure.kind == FailureKind::Setup => Err(Error::usage(format!(
            "{name} is missing in the database and could not be made: {failure}; let a role with the right to create \
             tables start once, or grant it to this one"
        ))
        .into()),
        Err(failure) => Err(failure.into()),
    }
}

/// Adds our columns to a table that the old system made; its rows stay as they are.
async fn adopt_summary(session: &Session, made: &mut Vec<String>) -> Result<(), SetupError> {
    let query = "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute \
                 WHERE attrelid = 'weather_summary'::regclass AND attnum > 0 AND NOT attisdropped";
    let rows = session.call(session.client.query(query, &[])).await?;
    let columns: HashMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for (name, expected, addition) in SUMMARY_COLUMNS {
        match (columns.get(name), addition) {
            (Some(actual), _) if actual == expected => {}
            (Some(actual), _) => {
                return Err(Error::usage(format!(
                    "column {name} of weather_summary is of type {actual}, expected {expected}; change it with \
                     ALTER TABLE weather_summary ALTER COLUMN {name} TYPE …, or rename the table away"
                ))
                .into());
            }
            (None, Some(definition)) => {
                let statement = format!("ALTER TABLE weather_summary ADD COLUMN {name} {definition}");
                made.push(make(session, &format!("weather_summary.{name}"), &statement).await?);
            }
            (None, None) => {
                return Err(Error::usage(format!(
                    "weather_summary has no column {name}; it is not the pipeline's table: rename it away, or give \
                     another database"
                ))
                .into());
            }
        }
    }
    Ok(())
}

/// The old system appended another row for the same window at every batch. Which to keep is the user's to decide.
pub(super) async fn refuse_duplicates(session: &Session) -> Result<(), SetupError> {
    let query = "SELECT count(*) FROM (SELECT 1 FROM weather_summary WHERE window_start IS NOT NULL \
                 GROUP BY window_start, window_end HAVING count(*) > 1) AS d";
    let windows: i64 = session.call(session.client.query_one(query, &[])).await?.get(0);
    match windows {
        0 => Ok(()),
        _ => Err(Error::usage(format!(
            "weather_summary holds {windows} windows more than once, as the old system wrote them; to keep the newest \
             row of each, run: {MEND_DUPLICATES};"
        ))
        .into()),
    }
}

/// One schema serves one topic and one window length: their sums cannot be mixed.
async fn identify(session: &Session, topic: &str, window_ms: i64) -> Result<(), SetupError> {
    let client = &session.client;
    let select = "SELECT schema_version, topic, window_ms FROM weather_pipeline";
    let row = match session.call(client.query_opt(select, &[])).await? {
        Some(row) => row,
        None => {
            let insert = "INSERT INTO weather_pipeline (schema_version, topic, window_ms) VALUES ($1, $2, $3) \
                          RETURNING schema_version, topic, window_ms";
            session.call(client.query_one(insert, &[&SCHEMA_VERSION, &topic, &window_ms])).await?
        }
    };
    let (version, its_topic, its_window): (i32, String, i64) = (row.get(0), row.get(1), row.get(2));
    if version > SCHEMA_VERSION {
        return Err(Error::usage(format!(
            "the tables were made by a newer version of weather (schema {version}, this program knows \
             {SCHEMA_VERSION}); start that version, or give another database"
        ))
        .into());
    }
    if its_topic != topic {
        return Err(Error::usage(format!(
            "these tables belong to topic {its_topic}, not {topic}: averages of two topics cannot share a table; give \
             another database, or another schema with options=-csearch_path=… in the URL"
        ))
        .into());
    }
    if its_window != window_ms {
        return Err(Error::usage(format!(
            "these tables hold windows of {} s, not {} s: give --window {}s, or another database",
            its_window / 1000,
            window_ms / 1000,
            its_window / 1000
        ))
        .into());
    }
    Ok(())
}
