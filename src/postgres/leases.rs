//! Who owns which partition: leases in `weather_partition`, and the live processes in `weather_process`.
//!
//! The database's clock decides, so clocks of processes may differ. Taking a partition raises its epoch, and every write
//! for a partition names the epoch it was taken under: its former owner can no longer write, whether it knows or not. An
//! expired lease is therefore harmless by itself: it only allows others to take the partition, and a process that was cut
//! off from the database for hours continues if none did.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use crate::engine::assignment::Leases;
use crate::engine::checkpoint::{CheckpointError, decode_log_memory};
use crate::engine::recovery::Claimed;
use crate::engine::state::{LogIdentity, PartitionState, Position, Progress, REASONS};
use crate::engine::watermark;
use crate::postgres::failure::{Failure, FailureKind};
use crate::postgres::partials::{OPEN_WINDOWS, window_of};
use crate::postgres::session::Session;
use crate::reading::{Cause, Metric, Reason};
use crate::time::{from_timestamp, timestamp};

/// The leases of a topic, as one process sees and changes them: a connection with the frequent statements prepared.
#[derive(Debug)]
pub struct LeaseSession {
    pub(super) session: Arc<Session>,
    pub(super) topic: String,
    owner: String,
    lease_ms: f64,
    by_station: bool,
    beat: Statement,
    pub(super) finish: Statement,
}

/// What a process learns by telling that it lives.
#[derive(Debug)]
pub struct Beat {
    /// Everybody's leases.
    pub leases: Leases,
    /// PostgreSQL's clock, ms since 1970.
    pub now_ms: i64,
}

/// Before every window, and within what a `TIMESTAMP` can hold: the year 1.
const EARLIEST_MS: i64 = -62_135_596_800_000;

/// Renews this process's entry and leases, and returns those of all processes, in one statement. It writes only leases of
/// which a third has passed and which no flush has extended meanwhile. Rows that a flush of this process has locked are
/// left to it: it extends them itself, and waiting for it could deadlock.
const BEAT: &str = "\
WITH process AS (
    INSERT INTO weather_process (topic, owner, expires_at)
    SELECT $1, $2, clock_timestamp() + $3 * interval '1 millisecond'
    WHERE $6::bool AND NOT EXISTS (SELECT 1 FROM weather_process WHERE topic = $1 AND owner = $2
        AND expires_at > clock_timestamp() + $3 * 2 / 3 * interval '1 millisecond')
    ON CONFLICT (topic, owner) DO UPDATE SET expires_at = EXCLUDED.expires_at
), gone AS (
    DELETE FROM weather_process WHERE topic = $1 AND owner <> $2 AND expires_at < clock_timestamp() - interval '1 hour'
), kept AS (
    UPDATE weather_partition SET lease_expires_at = clock_timestamp() + $3 * interval '1 millisecond'
    WHERE topic = $1 AND partition IN (
        SELECT partition FROM weather_partition
        WHERE topic = $1 AND owner = $2 AND (partition, epoch) IN (SELECT * FROM unnest($4::int[], $5::bigint[]))
            AND (lease_expires_at IS NULL
                OR lease_expires_at < clock_timestamp() + $3 * 2 / 3 * interval '1 millisecond')
        ORDER BY partition FOR UPDATE SKIP LOCKED)
)
SELECT NULL::int, owner, NULL::bigint FROM weather_process WHERE topic = $1 AND expires_at > clock_timestamp()
UNION ALL
SELECT NULL, NULL, (extract(epoch FROM clock_timestamp()) * 1000)::bigint
UNION ALL
SELECT partition, CASE WHEN lease_expires_at > clock_timestamp() THEN owner END, epoch
FROM weather_partition WHERE topic = $1";

/// The new epoch was never used before, even if the database was set back to a time before that: it is at least the time
/// in ms since 1970.
const CLAIM: &str = "\
WITH free AS (
    SELECT partition, epoch AS epoch_before FROM weather_partition
    WHERE topic = $1 AND partition = ANY($4)
        AND (owner IS NULL OR owner = $2 OR lease_expires_at IS NULL OR lease_expires_at <= clock_timestamp())
    ORDER BY partition FOR UPDATE
)
UPDATE weather_partition p SET owner = $2, idle = false,
    epoch = greatest(epoch_before + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint),
    lease_expires_at = clock_timestamp() + $3 * interval '1 millisecond', updated_at = clock_timestamp()
FROM free WHERE p.topic = $1 AND p.partition = free.partition
RETURNING p.partition, epoch, epoch_before, incarnation, origin_offset, next_offset, max_event_time, watermark, idle,
    aggregated, duplicates, skipped, lost, sampled_out, malformed, missing_timestamp, no_metric, out_of_range, future,
    late, oversized, left_out, log_memory";

const RELEASE: &str = "\
UPDATE weather_partition SET owner = NULL, lease_expires_at = NULL, updated_at = clock_timestamp()
WHERE topic = $1 AND owner = $2 AND (partition, epoch) IN (SELECT * FROM unnest($3::int[], $4::bigint[]))";

/// An idle partition's event time is assumed to run with the database's clock: it holds nothing back, and nothing that
/// may still arrive on time is final. Without an owner it is unknown whether a partition is still idle, and one without a
/// row has passed nothing.
const FINISH: &str = "\
UPDATE weather_summary SET is_final = true, updated_at = clock_timestamp()
WHERE (window_start, window_end) IN (
    SELECT window_start, window_end FROM weather_summary
    WHERE NOT is_final AND reading_count > 0 AND window_end <= (
        SELECT CASE WHEN count(*) = cardinality($3::int[])
            THEN min(CASE WHEN idle AND lease_expires_at > clock_timestamp()
                THEN greatest(watermark, (now() AT TIME ZONE 'UTC') - $2 * interval '1 millisecond')
                ELSE coalesce(watermark, '-infinity') END) END
        FROM weather_partition WHERE topic = $1 AND partition = ANY($3::int[]))
    FOR UPDATE SKIP LOCKED)";

impl LeaseSession {
    /// Takes a connection whose tables are set up. `lease` is how long a lease lasts without being extended. A claim
    /// comes with its stations where they are kept apart.
    pub async fn prepare(
        session: Arc<Session>,
        topic: &str,
        owner: &str,
        lease: Duration,
        by_station: bool,
    ) -> Result<Self, Failure> {
        let client = &session.client;
        let prepare = async { tokio::try_join!(client.prepare(BEAT), client.prepare(FINISH)) };
        let (beat, finish) = session.call(prepare).await?;
        let (topic, owner, lease_ms) = (topic.to_owned(), owner.to_owned(), lease.as_secs_f64() * 1000.0);
        Ok(Self { session, topic, owner, lease_ms, by_station, beat, finish })
    }

    /// Whether the connection is as good as new.
    pub fn is_usable(&self) -> bool {
        self.session.is_usable()
    }

    /// Makes rows for partitions that are new.
    pub async fn add_partitions(&self, partitions: &[i32]) -> Result<(), Failure> {
        let statement = "INSERT INTO weather_partition (topic, partition) SELECT $1, p FROM unnest($2::int[]) AS p \
                         ORDER BY p ON CONFLICT DO NOTHING";
        self.session.call(self.session.client.execute(statement, &[&self.topic, &partitions])).await?;
        Ok(())
    }

    /// Renews this process's entry and leases; returns those of all processes. A process that `shares` counts among those
    /// that share the partitions.
    pub async fn beat(&self, owned: &[(i32, i64)], shares: bool) -> Result<Beat, Failure> {
        let (partitions, epochs): (Vec<i32>, Vec<i64>) = owned.iter().copied().unzip();
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&self.topic, &self.owner, &self.lease_ms, &partitions, &epochs, &shares];
        let rows = self.session.call(self.session.client.query(&self.beat, &parameters)).await?;
        let (mut leases, mut now_ms) = (Leases::default(), 0);
        for row in rows {
            match (row.try_get::<_, Option<i32>>(0)?, row.try_get::<_, Option<String>>(1)?) {
                (Some(partition), owner) => {
                    leases.owners.insert(partition, owner);
                    leases.epochs.insert(partition, row.try_get(2)?);
                }
                (None, Some(process)) => leases.processes.push(process),
                (None, None) => now_ms = row.try_get(2)?,
            }
        }
        if shares {
            // Its own row may be newer than what the statement sees.
            leases.processes.push(self.owner.clone());
        }
        leases.processes.sort_unstable();
        leases.processes.dedup();
        Ok(Beat { leases, now_ms })
    }

    /// Claims the free ones of these partitions, with the state that PostgreSQL has of each.
    pub async fn claim(&self, partitions: &[i32], window_ms: i64) -> Result<Vec<Claimed>, Failure> {
        let client = &self.session.client;
        let parameters: [&(dyn ToSql + Sync); 4] = [&self.topic, &self.owner, &self.lease_ms, &partitions];
        // Raising the epoch alone fences the former owner, so what is read after that changes only if there is a next one.
        let rows = self.session.call(client.query(CLAIM, &parameters)).await?;
        let mut claimed = Vec::with_capacity(rows.len());
        for row in rows {
            let (partition, epoch, epoch_before) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let state = match progress_of(&row)? {
                None => None,
                Some(progress) => Some(self.state(partition, progress, &row, window_ms).await?),
            };
            let stations = match &state {
                Some(state) if self.by_station => {
                    self.stations(partition, after(&state.progress, window_ms)).await?
                }
                _ => Vec::new(),
            };
            claimed.push(Claimed { partition, epoch, epoch_before, state, stations });
        }
        self.keep_owned(&mut claimed).await?;
        Ok(claimed)
    }

    /// Leaves out what another process has claimed since then, if the lease has expired already: the windows may be those
    /// that it wrote, while the offset is the one from before. The fence keeps such a state out of the tables, but not out of
    /// the checkpoint file, whose epoch is valid again where the database is set back to the time between the two claims.
    async fn keep_owned(&self, claimed: &mut Vec<Claimed>) -> Result<(), Failure> {
        let with_state = claimed.iter().filter(|claimed| claimed.state.is_some());
        let partitions: Vec<i32> = with_state.map(|claimed| claimed.partition).collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let query = "SELECT partition, epoch FROM weather_partition WHERE topic = $1 AND partition = ANY($2)";
        let rows = self.session.call(self.session.client.query(query, &[&self.topic, &partitions])).await?;
        let epochs = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let epochs: BTreeMap<i32, i64> = epochs.collect::<Result<_, Failure>>()?;
        claimed.retain(|claimed| {
            claimed.state.is_none() || epochs.get(&claimed.partition) == Some(&claimed.epoch)
        });
        Ok(())
    }

    async fn state(
        &self,
        partition: i32,
        progress: Progress,
        row: &Row,
        window_ms: i64,
    ) -> Result<PartitionState, Failure> {
        let log = log_of(row, partition)?;
        let after = after(&progress, window_ms);
        let parameters: [&(dyn ToSql + Sync); 3] = [&self.topic, &partition, &after];
        let rows = self.session.call(self.session.client.query(OPEN_WINDOWS, &parameters)).await?;
        let windows = rows.iter().map(window_of).collect::<Result<_, _>>()?;
        Ok(PartitionState { progress, windows, log })
    }

    /// Releases partitions, so that others can claim them at once.
    pub async fn release(&self, owned: &[(i32, i64)]) -> Result<(), Failure> {
        let (partitions, epochs): (Vec<i32>, Vec<i64>) = owned.iter().copied().unzip();
        let parameters: [&(dyn ToSql + Sync); 4] = [&self.topic, &self.owner, &partitions, &epochs];
        self.session.call(self.session.client.execute(RELEASE, &parameters)).await?;
        Ok(())
    }

    /// Removes this process from the list of live ones.
    pub async fn leave(&self) -> Result<(), Failure> {
        let statement = "DELETE FROM weather_process WHERE topic = $1 AND owner = $2";
        self.session.call(self.session.client.execute(statement, &[&self.topic, &self.owner])).await?;
        Ok(())
    }

    /// How far each partition is in the table, by partition; None while nothing is.
    pub async fn positions(&self) -> Result<BTreeMap<i32, Option<Position>>, Failure> {
        let query = "SELECT partition, incarnation, next_offset FROM weather_partition WHERE topic = $1";
        let rows = self.session.call(self.session.client.query(query, &[&self.topic])).await?;
        rows.iter()
            .map(|row| {
                let (incarnation, offset): (Option<i64>, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
                let position =
                    incarnation.zip(offset).map(|(incarnation, offset)| Position { incarnation, offset });
                Ok((row.try_get(0)?, position))
            })
            .collect()
    }
}

/// Windows that begin later are open.
fn after(progress: &Progress, window_ms: i64) -> SystemTime {
    timestamp(progress.watermark_ms.saturating_sub(window_ms).max(EARLIEST_MS))
}

/// The numbers of a state from the columns of `weather_partition`; None while it has none.
pub(super) fn progress_of(row: &Row) -> Result<Option<Progress>, Failure> {
    let Some(next_offset) = row.try_get::<_, Option<i64>>("next_offset")? else { return Ok(None) };
    let incarnation = row.try_get::<_, Option<i64>>("incarnation")?.unwrap_or(0);
    let time = |name: &str| -> Result<i64, Failure> {
        Ok(row.try_get::<_, Option<SystemTime>>(name)?.map_or(watermark::NONE, from_timestamp))
    };
    let mut rejected = [0; REASONS];
    for reason in Reason::ALL {
        rejected[reason.index()] = row.try_get(reason.as_str())?;
    }
    let mut left_out = [[0; Cause::ALL.len()]; Metric::ALL.len()];
    let mut refused_in_lists = 0;
    // None: written by a version that did not count them.
    let stored: Option<Vec<i64>> = row.try_get("left_out")?;
    let counts = left_out.as_flattened_mut().iter_mut().chain([&mut refused_in_lists]);
    for (count, stored) in counts.zip(stored.unwrap_or_default()) {
        *count = stored;
    }
    Ok(Some(Progress {
        incarnation,
        origin_offset: row.try_get::<_, Option<i64>>("origin_offset")?.unwrap_or(0),
        next_offset,
        flushed_incarnation: incarnation,
        flushed_offset: next_offset,
        max_event_time_ms: time("max_event_time")?,
        watermark_ms: time("watermark")?,
        idle: i64::from(row.try_get::<_, bool>("idle")?),
        aggregated: row.try_get("aggregated")?,
        duplicates: row.try_get("duplicates")?,
        skipped: row.try_get("skipped")?,
        lost: row.try_get("lost")?,
        sampled_out: row.try_get("sampled_out")?,
        rejected,
        left_out,
        refused_in_lists,
    }))
}

/// The log that a partition's state is of.
pub(super) fn log_of(row: &Row, partition: i32) -> Result<LogIdentity, Failure> {
    let memory: Option<Vec<u8>> = row.try_get("log_memory")?;
    match memory.as_deref().map(decode_log_memory) {
        None => Ok(LogIdentity::UNKNOWN),
        Some(Ok(log)) => Ok(log),
        Some(Err(error)) => Err(unreadable(partition, &error)),
    }
}

fn unreadable(partition: i32, error: &CheckpointError) -> Failure {
    let detail = format!("weather_partition.log_memory of partition {partition}: {error}");
    Failure::new(FailureKind::Setup, detail)
}
