//! Everything that the tables say about a topic, for `weather inspect`: in one transaction that cannot write.

use tokio_postgres::Row;

use crate::engine::state::{LogIdentity, Progress};
use crate::error::Error;
use crate::postgres::failure::Failure;
use crate::postgres::leases::{log_of, progress_of};
use crate::postgres::readmission::{self, Readmittable};
use crate::postgres::schema::{self, SetupError};
use crate::postgres::session::Session;
use crate::postgres::upkeep::{self, OldSnapshot};
use crate::time::from_timestamp;

/// What the tables say.
#[derive(Debug, Default)]
pub struct Overview {
    /// The pipeline's tables and indexes that are missing.
    pub missing: Vec<String>,
    /// What the tables were made for.
    pub made_for: Option<MadeFor>,
    /// Rows of `weather_partition`, ascending.
    pub partitions: Vec<PartitionRow>,
    /// Processes with a lease, and how many seconds it has left; below 0: since when it has expired.
    pub processes: Vec<(String, f64)>,
    /// Dead letters that may be taken into their windows, by reason.
    pub readmittable: Vec<Readmittable>,
    /// The output.
    pub windows: Option<Windows>,
    /// The transaction that has kept PostgreSQL's upkeep back for longest.
    pub oldest_snapshot: Option<OldSnapshot>,
    /// Why `weather process` would refuse these tables, if it is known.
    pub refusal: Option<Error>,
}

/// The row of `weather_pipeline`.
#[derive(Debug, Clone)]
pub struct MadeFor {
    /// What the tables look like.
    pub schema_version: i32,
    /// The one topic that they hold.
    pub topic: String,
    /// Length of their windows, ms.
    pub window_ms: i64,
    /// The Kafka cluster that their offsets are of, if it is known.
    pub cluster_id: Option<String>,
}

/// A row of `weather_partition`.
#[derive(Debug, Clone)]
pub struct PartitionRow {
    /// Which.
    pub partition: i32,
    /// The process that holds the lease, or held it last.
    pub owner: Option<String>,
    /// Raised at each claim.
    pub epoch: i64,
    /// Seconds until the lease expires; below 0: since it expired.
    pub lease_left_s: Option<f64>,
    /// Seconds since the row was changed.
    pub changed_ago_s: f64,
    /// Kafka's end of the partition at the last flush.
    pub high_watermark: Option<i64>,
    /// The state's numbers; None while nothing was flushed.
    pub progress: Option<Progress>,
    /// The log that they are of.
    pub log: LogIdentity,
}

/// What `weather_summary` holds.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Windows {
    /// Rows.
    pub count: i64,
    /// Of these, not final.
    pub open: i64,
    /// Readings in them.
    pub readings: i64,
    /// First ms of the newest window, since 1970.
    pub newest_ms: Option<i64>,
    /// Seconds since a row was changed.
    pub changed_ago_s: Option<f64>,
}

/// `left_out` by way of JSON, since older tables lack the column.
const PARTITIONS: &str = "\
SELECT partition, owner, epoch, extract(epoch FROM lease_expires_at - clock_timestamp())::float8 AS lease_left,
    extract(epoch FROM clock_timestamp() - updated_at)::float8 AS changed_ago, high_watermark, incarnation,
    origin_offset, next_offset, max_event_time, watermark, idle, aggregated, duplicates, skipped, lost, sampled_out,
    malformed, missing_timestamp, no_metric, out_of_range, future, late, oversized, log_memory,
    (SELECT array_agg(n::bigint ORDER BY at) FROM jsonb_array_elements_text(NULLIF(to_jsonb(p) -> 'left_out', 'null'))
        WITH ORDINALITY AS counts(n, at)) AS left_out
FROM weather_partition p WHERE topic = $1 ORDER BY partition";

const PROCESSES: &str = "\
SELECT owner, extract(epoch FROM expires_at - clock_timestamp())::float8 FROM weather_process WHERE topic = $1
ORDER BY owner";

const WINDOWS: &str = "\
SELECT count(*), count(*) FILTER (WHERE NOT is_final AND reading_count > 0), coalesce(sum(reading_count), 0)::bigint,
    max(window_start), extract(epoch FROM clock_timestamp() - max(updated_at))::float8
FROM weather_summary";

/// More dead letters of one reason are not counted: it takes a second or two.
const READMITTABLE_COUNTED: i64 = 1_000_000;

/// Reads the tables.
pub async fn look(session: &Session, topic: &str) -> Result<Overview, Failure> {
    session
        .call(session.client.batch_execute("BEGIN TRANSACTION READ ONLY, ISOLATION LEVEL REPEATABLE READ"))
        .await?;
    let overview = look_in_transaction(session, topic).await?;
    session.call(session.client.batch_execute("ROLLBACK")).await?;
    Ok(overview)
}

async fn look_in_transaction(session: &Session, topic: &str) -> Result<Overview, Failure> {
    let client = &session.client;
    let missing = schema::missing(session).await?;
    let has = |name: &str| !missing.iter().any(|missing| missing == name);
    let mut overview = Overview::default();
    if has("weather_pipeline") {
        // As JSON, since older tables lack the column.
        let select =
            "SELECT schema_version, topic, window_ms, to_jsonb(p) ->> 'cluster_id' FROM weather_pipeline p";
        if let Some(row) = session.call(client.query_opt(select, &[])).await? {
            let made_for = MadeFor {
                schema_version: row.try_get(0)?,
                topic: row.try_get(1)?,
                window_ms: row.try_get(2)?,
                cluster_id: row.try_get(3)?,
            };
            overview.made_for = Some(made_for);
        }
    }
    if has("weather_partition") {
        overview.partitions = partitions(session, topic).await?;
    }
    if has("weather_dead_letter") && has("weather_dead_letter.readmitted_at") {
        let may = "SELECT has_table_privilege('weather_dead_letter', 'SELECT')";
        if session.call(client.query_one(may, &[])).await?.try_get(0)? {
            overview.readmittable = readmission::count(session, topic, READMITTABLE_COUNTED).await?;
        }
    }
    if has("weather_process") {
        let rows = session.call(client.query(PROCESSES, &[&topic])).await?;
        overview.processes =
            rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, Failure>>()?;
    }
    overview.oldest_snapshot = upkeep::oldest_snapshot(session).await?;
    // A table of the old system lacks the added columns and, until it is adopted, the index.
    if has("weather_summary") && has("weather_summary_window") {
        overview.windows = Some(windows(&session.call(client.query_one(WINDOWS, &[])).await?)?);
    } else if has("weather_summary") {
        overview.refusal = match schema::refuse_duplicates(session).await {
            Ok(()) => None,
            Err(SetupError::Refused(error)) => Some(error),
            Err(SetupError::Failed(failure)) => return Err(failure),
        };
    }
    overview.missing = missing;
    Ok(overview)
}

/// The rows of `weather_partition`, ascending.
pub async fn partitions(session: &Session, topic: &str) -> Result<Vec<PartitionRow>, Failure> {
    let rows = session.call(session.client.query(PARTITIONS, &[&topic])).await?;
    rows.iter().map(partition).collect()
}

fn partition(row: &Row) -> Result<PartitionRow, Failure> {
    let partition = row.try_get("partition")?;
    Ok(PartitionRow {
        partition,
        owner: row.try_get("owner")?,
        epoch: row.try_get("epoch")?,
        lease_left_s: row.try_get("lease_left")?,
        changed_ago_s: row.try_get("changed_ago")?,
        high_watermark: row.try_get("high_watermark")?,
        progress: progress_of(row)?,
        log: log_of(row, partition)?,
    })
}

fn windows(row: &Row) -> Result<Windows, Failure> {
    Ok(Windows {
        count: row.try_get(0)?,
        open: row.try_get(1)?,
        readings: row.try_get(2)?,
        newest_ms: row.try_get::<_, Option<_>>(3)?.map(from_timestamp),
        changed_ago_s: row.try_get(4)?,
    })
}
