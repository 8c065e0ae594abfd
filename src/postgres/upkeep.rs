//! What has to be done now and then for all processes of a topic, by one of them: windows that time alone has closed,
//! old dead letters, rows that others changed, and a check for transactions that hold back PostgreSQL's own upkeep.

use std::time::{Duration, SystemTime};

use tokio_postgres::types::ToSql;

use crate::postgres::failure::Failure;
use crate::postgres::leases::LeaseSession;
use crate::postgres::repair::{self, Repaired};
use crate::postgres::session::Session;

/// Dead letters deleted at a time: quickly done, so that nobody waits for the locks.
pub const PRUNE_PORTION: u64 = 10_000;

/// By key and time: in a partitioned table, a row's place (ctid) is not unique.
const PRUNE: &str = "\
DELETE FROM weather_dead_letter
WHERE recorded_at < now() - $1 * interval '1 millisecond' AND (topic, partition, incarnation, \"offset\") IN (
    SELECT topic, partition, incarnation, \"offset\" FROM weather_dead_letter
    WHERE recorded_at < now() - $1 * interval '1 millisecond' ORDER BY recorded_at, partition, \"offset\" LIMIT $2)";

const SIZE: &str = "\
SELECT coalesce(sum(pg_total_relation_size(relid)), pg_total_relation_size('weather_dead_letter'))::bigint
FROM pg_partition_tree('weather_dead_letter')";

/// What the rows need, not counting the room that deleted ones have left in the files: 100 bytes and the payload.
const LIVE_BYTES: &str = "\
SELECT coalesce(sum(100 + coalesce(pg_column_size(payload), 0)), 0)::bigint FROM weather_dead_letter";

const TRIM: &str = "\
DELETE FROM weather_dead_letter WHERE (topic, partition, incarnation, \"offset\", recorded_at) IN (
    SELECT topic, partition, incarnation, \"offset\", recorded_at FROM (
        SELECT topic, partition, incarnation, \"offset\", recorded_at,
            sum(100 + coalesce(pg_column_size(payload), 0)) OVER (ORDER BY recorded_at, partition, \"offset\") AS bytes
        FROM (SELECT * FROM weather_dead_letter ORDER BY recorded_at, partition, \"offset\" LIMIT $2) AS oldest) AS summed
    WHERE bytes <= $1::bigint + 100)";

/// Deleted and replaced row versions stay until no transaction can see them any more.
const OLDEST_SNAPSHOT: &str = "\
SELECT extract(epoch FROM clock_timestamp() - since)::float8, who FROM (
    SELECT xact_start AS since, format('process %s of %s, %s, %s', pid, usename, application_name, state) AS who
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
        AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
    UNION ALL
    SELECT prepared, format('prepared transaction %s of %s', gid, owner) FROM pg_prepared_xacts
    WHERE database = current_database()) AS holders
WHERE since IS NOT NULL ORDER BY since LIMIT 1";

/// A transaction that keeps old row versions from being removed.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct OldSnapshot {
    /// How long it has lasted.
    pub seconds: f64,
    /// Which process of the server, of which user, or which prepared transaction.
    pub who: String,
}

impl OldSnapshot {
    /// Longer than any transaction of this program, and long enough for flushes to become slow.
    const OLD_SECONDS: f64 = 300.0;

    /// Whether it needs attention.
    pub fn is_old(&self) -> bool {
        self.seconds > Self::OLD_SECONDS
    }
}

/// The transaction that lasts longest, as far as this role may see the others'.
pub async fn oldest_snapshot(session: &Session) -> Result<Option<OldSnapshot>, Failure> {
    let row = session.call(session.client.query_opt(OLDEST_SNAPSHOT, &[])).await?;
    row.map(|row| Ok(OldSnapshot { seconds: row.try_get(0)?, who: row.try_get(1)? })).transpose()
}

impl LeaseSession {
    /// Marks the windows final that every one of these partitions has passed; how many.
    pub async fn finish_windows(&self, out_of_orderness_ms: i64, partitions: &[i32]) -> Result<u64, Failure> {
        let delay_ms = out_of_orderness_ms as f64;
        let parameters: [&(dyn ToSql + Sync); 3] = [&self.topic, &delay_ms, &partitions];
        self.session.call(self.session.client.execute(&self.finish, &parameters)).await
    }

    /// Deletes dead letters older than this, at most [`PRUNE_PORTION`] at a time; how many.
    pub async fn prune_dead_letters(&self, retention: Duration) -> Result<u64, Failure> {
        let retention_ms = retention.as_secs_f64() * 1000.0;
        let portion = PRUNE_PORTION as i64;
        self.session.call(self.session.client.execute(PRUNE, &[&retention_ms, &portion])).await
    }

    /// Deletes the oldest dead letters where the table has outgrown this, at most [`PRUNE_PORTION`] at a time; how many.
    pub async fn trim_dead_letters(&self, max_bytes: i64) -> Result<u64, Failure> {
        let client = &self.session.client;
        let size: i64 = self.session.call(client.query_one(SIZE, &[])).await?.try_get(0)?;
        if size <= max_bytes {
            return Ok(0);
        }
        // The files keep the space of deleted rows for new ones; only what is in them counts.
        let live: i64 = self.session.call(client.query_one(LIVE_BYTES, &[])).await?.try_get(0)?;
        // Some room, so that the next one to come does not make it too much again.
        let surplus = live - max_bytes / 10 * 9;
        if live <= max_bytes || surplus <= 0 {
            return Ok(0);
        }
        let portion = PRUNE_PORTION as i64;
        self.session.call(client.execute(TRIM, &[&surplus, &portion])).await
    }

    /// Restores a portion of the summary, see [`repair::repair`].
    pub async fn repair(&self, window_ms: i64, before: Option<SystemTime>) -> Result<Repaired, Failure> {
        repair::repair(&self.session, &self.topic, window_ms, before).await
    }

    /// The transaction that has held back PostgreSQL's upkeep longest.
    pub async fn oldest_snapshot(&self) -> Result<Option<OldSnapshot>, Failure> {
        oldest_snapshot(&self.session).await
    }
}
