//! What the tables look like: statements that create them, and what earlier versions of them lack.
//!
//! A new column goes into its table's statement and into [`ADDED_COLUMNS`], with a default that PostgreSQL need not write
//! into every row. Nothing is ever dropped or renamed, so that an older program can be started again.

use super::stations;

/// What the tables of this program's version look like; a greater number in the database is refused.
pub const SCHEMA_VERSION: i32 = 2;

/// The users' table: the five columns of the old system, then the added ones. Logical replication identifies rows by its
/// key.
pub(super) const SUMMARY: &str = "\
CREATE TABLE weather_summary (
    window_start TIMESTAMP,
    window_end TIMESTAMP,
    avg_temp DOUBLE PRECISION,
    avg_humidity DOUBLE PRECISION,
    avg_wind_speed DOUBLE PRECISION,
    reading_count BIGINT NOT NULL DEFAULT 0,
    is_final BOOLEAN NOT NULL DEFAULT false,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    min_temp DOUBLE PRECISION,
    max_temp DOUBLE PRECISION,
    min_humidity DOUBLE PRECISION,
    max_humidity DOUBLE PRECISION,
    max_wind_speed DOUBLE PRECISION,
    CONSTRAINT weather_summary_window PRIMARY KEY (window_start, window_end)
) WITH (fillfactor = 70)";

/// Columns of `weather_summary`, their types, and what to add where the old system's table lacks them.
pub(super) const SUMMARY_COLUMNS: [(&str, &str, Option<&str>); 13] = [
    ("window_start", "timestamp without time zone", None),
    ("window_end", "timestamp without time zone", None),
    ("avg_temp", "double precision", None),
    ("avg_humidity", "double precision", None),
    ("avg_wind_speed", "double precision", None),
    ("reading_count", "bigint", Some("BIGINT NOT NULL DEFAULT 0")),
    ("is_final", "boolean", Some("BOOLEAN NOT NULL DEFAULT false")),
    ("updated_at", "timestamp with time zone", Some("TIMESTAMPTZ NOT NULL DEFAULT now()")),
    ("min_temp", "double precision", Some("DOUBLE PRECISION")),
    ("max_temp", "double precision", Some("DOUBLE PRECISION")),
    ("min_humidity", "double precision", Some("DOUBLE PRECISION")),
    ("max_humidity", "double precision", Some("DOUBLE PRECISION")),
    ("max_wind_speed", "double precision", Some("DOUBLE PRECISION")),
];

/// All tables, in the order in which they are created.
const TABLES: [(&str, &str); 7] = [
    ("weather_summary", SUMMARY),
    (
        "weather_pipeline",
        "CREATE TABLE weather_pipeline (
    singleton BOOLEAN PRIMARY KEY DEFAULT true CHECK (singleton),
    schema_version INT NOT NULL,
    topic TEXT NOT NULL,
    window_ms BIGINT NOT NULL,
    cluster_id TEXT,
    topic_id TEXT,
    output_units TEXT
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
    min_temp BIGINT,
    max_temp BIGINT,
    min_humidity BIGINT,
    max_humidity BIGINT,
    min_wind_speed BIGINT,
    max_wind_speed BIGINT,
    digest BIGINT,
    incarnation BIGINT,
    first_offset BIGINT,
    last_offset BIGINT,
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
    left_out BIGINT[],
    log_memory BYTEA,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50)",
    ),
    (
        "weather_log",
        "CREATE TABLE weather_log (
    topic TEXT NOT NULL,
    cluster_id TEXT NOT NULL,
    partition INT NOT NULL,
    next_offset BIGINT NOT NULL,
    log_memory BYTEA,
    left_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, cluster_id, partition)
)",
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
    readmitted_at TIMESTAMPTZ,
    PRIMARY KEY (topic, partition, incarnation, \"offset\")
)",
    ),
];

/// Columns that tables of schema version 1 lack: table, name, definition.
pub(super) const ADDED_COLUMNS: [(&str, &str, &str); 15] = [
    ("weather_pipeline", "cluster_id", "TEXT"),
    ("weather_pipeline", "topic_id", "TEXT"),
    ("weather_pipeline", "output_units", "TEXT"),
    ("weather_partition", "left_out", "BIGINT[]"),
    ("weather_partial", "min_temp", "BIGINT"),
    ("weather_partial", "max_temp", "BIGINT"),
    ("weather_partial", "min_humidity", "BIGINT"),
    ("weather_partial", "max_humidity", "BIGINT"),
    ("weather_partial", "min_wind_speed", "BIGINT"),
    ("weather_partial", "max_wind_speed", "BIGINT"),
    ("weather_partial", "digest", "BIGINT"),
    ("weather_partial", "incarnation", "BIGINT"),
    ("weather_partial", "first_offset", "BIGINT"),
    ("weather_partial", "last_offset", "BIGINT"),
    ("weather_dead_letter", "readmitted_at", "TIMESTAMPTZ"),
];

/// One row per window: the primary key of a new table, an index if the old system created the table.
pub(super) const UNIQUE_WINDOW: &str = "weather_summary_window";

/// Indexes: name, table and columns. The words before it are chosen when it is created.
const INDEXES: [(&str, &str, &str); 5] = [
    ("idx_window_start", "weather_summary", "(window_start)"),
    (UNIQUE_WINDOW, "weather_summary", "(window_start, window_end)"),
    ("weather_summary_open", "weather_summary", "(window_end) WHERE NOT is_final"),
    ("weather_dead_letter_recorded", "weather_dead_letter", "(recorded_at)"),
    // How many dead letters could be readmitted is counted while people watch.
    (
        "weather_dead_letter_readmittable",
        "weather_dead_letter",
        "(topic, reason) WHERE readmitted_at IS NULL AND payload_bytes = octet_length(payload) \
         AND reason IN ('late', 'future', 'out_of_range')",
    ),
];

/// Keeps the row of each window that lies last in its table, as appending puts the newest last. Given to the user to run,
/// never run here. A `ctid` is only one table's own: where the rows are in several, `tableoid` tells which.
pub(super) const REMOVE_DUPLICATES: &str = "DELETE FROM weather_summary s USING (SELECT tableoid AS t, ctid AS c, \
     row_number() OVER (PARTITION BY window_start, window_end ORDER BY tableoid, ctid DESC) AS n FROM weather_summary \
     WHERE window_start IS NOT NULL AND window_end IS NOT NULL) d WHERE d.n > 1 AND s.tableoid = d.t AND s.ctid = d.c";

/// All tables that a process needs, and how they are made. Those of stations are made where stations are asked for: the
/// view keeps others from dropping `weather_summary` alone.
pub(super) fn tables_with(stations: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLES.into_iter().chain([stations::PARTIAL, stations::SUMMARY].into_iter().filter(move |_| stations))
}

/// All indexes that a process needs.
pub(super) fn indexes_with(
    stations: bool,
) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    INDEXES.into_iter().chain([stations::INDEX].into_iter().filter(move |_| stations))
}

/// The statement that makes an index.
pub(super) fn index_statement(name: &str, table: &str, columns: &str, concurrently: bool) -> String {
    let unique = if name == UNIQUE_WINDOW { "UNIQUE " } else { "" };
    let concurrently = if concurrently { "CONCURRENTLY " } else { "" };
    format!("CREATE {unique}INDEX {concurrently}{name} ON {table} {columns}")
}
