//! Partitions' states into the tables: one transaction, pipelined, so that it takes one round trip.
//!
//! 1. `weather_partition` is advanced where the epoch is ours and the stored position is neither ahead of ours nor behind
//!    what we know to be confirmed. Fewer rows than partitions sent means that one of them has another owner, or that
//!    the database was set back: the statement divides by zero, and everything behind it fails with the transaction.
//!    At one position a partition only ever falls idle: an older flush that arrives behind a newer one takes nothing back.
//! 2. `weather_partial` takes each partition's absolute totals: overwritten, never added, so that a flush whose answer
//!    was lost can simply be sent again.
//! 3. The touched rows of `weather_summary` are made where missing and locked in the order of their windows, so that two
//!    processes never lose each other's update and never wait in a circle.
//! 4. They are computed anew from all partials, by a statement that starts after the locks are held and so sees what the
//!    others have committed.
//! 5. Dead letters are inserted; those that are there already (a replay) stay.
//! 6. `weather_station_partial` takes the stations that changed, where they are kept apart.
//!
//! Invariant: whatever of this is visible in the database belongs to exactly one state of each partition.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use crate::engine::checkpoint::encode_log_memory;
use crate::engine::flush_plan::{PartitionFlush, Standing};
use crate::engine::state::{Position, Progress, REASONS};
use crate::postgres::dead_letters::{self as dead_letter_table, DeadLetterColumns};
use crate::postgres::failure::Failure;
use crate::postgres::optional_timestamp;
use crate::postgres::partials::{self, PartialColumns};
use crate::postgres::session::Session;
use crate::postgres::station_partials::{self, PartitionRow, ROWS_AT_ONCE};
use crate::postgres::summary::SummaryRow;
use crate::time::timestamp;

/// Most windows of which is remembered that they have a row; more are looked up again.
const MAX_KNOWN_ROWS: usize = 10_000;

/// A connection with the statements of a flush prepared.
#[derive(Debug)]
pub struct FlushSession {
    session: Arc<Session>,
    begin: String,
    /// Windows whose rows were there at the last flush.
    known_rows: HashSet<SystemTime>,
    topic: String,
    window_ms: i64,
    lease_ms: f64,
    advance: Statement,
    partials: Statement,
    make_rows: Statement,
    lock_rows: Statement,
    recompute: Statement,
    dead_letters: Statement,
    /// Where stations are kept apart.
    stations: Option<Statement>,
}

const ADVANCE: &str = "\
WITH sent AS (
    SELECT * FROM unnest($3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
        $9::timestamp[], $10::timestamp[], $11::bool[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[],
        $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[], $22::bigint[],
        $23::bigint[], $24::text[], $25::bytea[], $26::bigint[], $27::bigint[])
    AS s(partition, epoch, incarnation, origin_offset, next_offset, high_watermark, max_event_time, watermark, idle,
        aggregated, duplicates, skipped, lost, sampled_out, malformed, missing_timestamp, no_metric, out_of_range,
        future, late, oversized, left_out, log_memory, known_incarnation, known_offset)
), advanced AS (
    UPDATE weather_partition p SET incarnation = s.incarnation, origin_offset = s.origin_offset,
        next_offset = s.next_offset, high_watermark = s.high_watermark, max_event_time = s.max_event_time,
        idle = s.idle OR p.idle AND (p.incarnation, p.next_offset) = (s.incarnation, s.next_offset),
        watermark = s.watermark, aggregated = s.aggregated, duplicates = s.duplicates,
        skipped = s.skipped, lost = s.lost, sampled_out = s.sampled_out, malformed = s.malformed,
        missing_timestamp = s.missing_timestamp, no_metric = s.no_metric, out_of_range = s.out_of_range,
        future = s.future, late = s.late, oversized = s.oversized, left_out = s.left_out::bigint[],
        log_memory = s.log_memory,
        lease_expires_at = clock_timestamp() + $2 * interval '1 millisecond', updated_at = clock_timestamp()
    FROM sent s
    WHERE p.topic = $1 AND p.partition = s.partition AND p.epoch = s.epoch
        AND CASE WHEN p.next_offset IS NULL THEN (s.known_incarnation, s.known_offset) = (0, s.origin_offset)
            ELSE (p.incarnation, p.next_offset) BETWEEN (s.known_incarnation, s.known_offset)
                AND (s.incarnation, s.next_offset) END
    RETURNING 1
)
SELECT 1 / (CASE WHEN (SELECT count(*) FROM advanced) = cardinality($3::int[]) THEN 1 ELSE 0 END)";

pub(super) const MAKE_ROWS: &str = "\
INSERT INTO weather_summary (window_start, window_end)
SELECT w, w + $2 * interval '1 millisecond' FROM unnest($1::timestamp[]) AS w ORDER BY w
ON CONFLICT (window_start, window_end) DO NOTHING";

pub(super) const LOCK_ROWS: &str = "\
SELECT 1 FROM weather_summary WHERE window_start = ANY($1::timestamp[]) ORDER BY window_start, window_end FOR UPDATE";

/// What the rows of `weather_summary` have to be, by all partitions' partials of the topic `$1`. Extremes are those of all
/// readings of the window, or NULL.
macro_rules! averages {
    () => {
        concat!(
            "SELECT window_start, sum(reading_count)::bigint AS reading_count,
        (sum(temp_sum) / 1000000.0 / NULLIF(sum(temp_count), 0))::double precision AS avg_temp,
        (sum(humidity_sum) / 1000000.0 / NULLIF(sum(humidity_count), 0))::double precision AS avg_humidity,
        (sum(wind_speed_sum) / 1000000.0 / NULLIF(sum(wind_speed_count), 0))::double precision AS avg_wind_speed,
        ",
        extreme!("min(min_temp)"),
        " AS min_temp,
        ",
        extreme!("max(max_temp)"),
        " AS max_temp,
        ",
        extreme!("min(min_humidity)"),
        " AS min_humidity,
        ",
        extreme!("max(max_humidity)"),
        " AS max_humidity,
        ",
        extreme!("max(max_wind_speed)"),
        " AS max_wind_speed
    FROM weather_partial WHERE topic = $1"
        )
    };
}

/// An extreme in its unit, if every partial knows its own.
macro_rules! extreme {
    ($of:literal) => {
        concat!("(CASE WHEN bool_and(digest IS NOT NULL) THEN ", $of, " / 1000000.0 END)::double precision")
    };
}

/// Whether a row `s` is as the old system left it: it counted no readings.
macro_rules! adopted {
    () => {
        "(s.reading_count = 0 AND num_nonnulls(s.avg_temp, s.avg_humidity, s.avg_wind_speed) > 0)"
    };
}

/// Whether the averages `t` may take the place of those that the old system left in `s`: none becomes NULL, and they are
/// not of a part of the window. So every partition was read from its first record on, or from before the window, and to
/// its end; or the window was still open when the table was adopted: then the old average is of a part itself.
macro_rules! may_replace {
    () => {
        "(s.avg_temp IS NULL OR t.avg_temp IS NOT NULL) AND (s.avg_humidity IS NULL OR t.avg_humidity IS NOT NULL)
        AND (s.avg_wind_speed IS NULL OR t.avg_wind_speed IS NOT NULL)
        AND NOT EXISTS (SELECT 1 FROM weather_partition p WHERE p.topic = $1 AND (p.next_offset IS NULL
        OR p.origin_offset > 0 AND NOT EXISTS (SELECT 1 FROM weather_partial e WHERE e.topic = $1
            AND e.partition = p.partition AND e.window_start < s.window_start)
        OR s.window_end <= s.updated_at AT TIME ZONE 'UTC' AND NOT p.idle
            AND (p.watermark IS NULL OR p.watermark < s.window_end)))"
    };
}

pub(super) const RECOMPUTE: &str = concat!(
    "UPDATE weather_summary s SET avg_temp = t.avg_temp, avg_humidity = t.avg_humidity,
    avg_wind_speed = t.avg_wind_speed, reading_count = t.reading_count, min_temp = t.min_temp,
    max_temp = t.max_temp, min_humidity = t.min_humidity, max_humidity = t.max_humidity,
    max_wind_speed = t.max_wind_speed, updated_at = clock_timestamp()
FROM (",
    averages!(),
    " AND window_start = ANY($2::timestamp[]) GROUP BY window_start) t
WHERE s.window_start = t.window_start AND s.window_end = t.window_start + $3 * interval '1 millisecond'
    AND (NOT ",
    adopted!(),
    " OR ",
    may_replace!(),
    ")
RETURNING s.window_start, s.window_end, s.avg_temp, s.avg_humidity, s.avg_wind_speed, s.reading_count, s.is_final"
);

pub(super) use {adopted, averages, extreme};

impl FlushSession {
    /// Takes a connection whose tables are set up. The lease is what every flush extends its partitions' ownership by.
    pub async fn prepare(
        session: Arc<Session>,
        topic: &str,
        window_ms: i64,
        lease: std::time::Duration,
        by_station: bool,
    ) -> Result<Self, Failure> {
        let client = &session.client;
        let prepared = session
            .call(async {
                tokio::try_join!(
                    client.prepare(ADVANCE),
                    client.prepare(partials::STORE),
                    client.prepare(MAKE_ROWS),
                    client.prepare(LOCK_ROWS),
                    client.prepare(RECOMPUTE),
                    client.prepare(dead_letter_table::STORE),
                )
            })
            .await?;
        let (advance, partials, make_rows, lock_rows, recompute, dead_letters) = prepared;
        let stations = match by_station {
            true => Some(session.call(client.prepare(station_partials::STORE)).await?),
            false => None,
        };
        let lease_ms = lease.as_secs_f64() * 1000.0;
        let topic = topic.to_owned();
        Ok(Self {
            begin: session.begin(),
            session,
            known_rows: HashSet::new(),
            topic,
            window_ms,
            lease_ms,
            advance,
            partials,
            make_rows,
            lock_rows,
            recompute,
            dead_letters,
            stations,
        })
    }

    /// Writes the states. The touched rows of the summary, as they are now; none of it is visible after an error,
    /// unless the error is an outage: then all of it may be.
    pub async fn flush(&mut self, partitions: &[PartitionFlush]) -> Result<Vec<SummaryRow>, Failure> {
        let touched = touched(partitions);
        let new = touched.iter().filter(|window| !self.known_rows.contains(window)).copied().collect();
        let rows = self.flush_making(partitions, &touched, new).await?;
        if rows.len() < touched.len() {
            // Somebody has deleted rows. All totals are absolute: they can be written once more.
            self.known_rows.clear();
            return self.flush_making(partitions, &touched, touched.clone()).await;
        }
        if self.known_rows.len() + touched.len() > MAX_KNOWN_ROWS {
            self.known_rows.clear();
        }
        self.known_rows.extend(touched);
        Ok(rows)
    }

    /// Writes, and makes the rows of the `new` windows before.
    async fn flush_making(
        &self,
        partitions: &[PartitionFlush],
        touched: &[SystemTime],
        new: Vec<SystemTime>,
    ) -> Result<Vec<SummaryRow>, Failure> {
        let advance = AdvanceColumns::of(partitions);
        let partials = PartialColumns::of(partitions);
        let dead_letters = DeadLetterColumns::of(partitions);
        let window_ms = self.window_ms as f64;
        let client = &self.session.client;
        let advance_parameters = advance.parameters(&self.topic, &self.lease_ms);
        let partial_parameters = partials.parameters(&self.topic);
        let dead_letter_parameters = dead_letters.parameters(&self.topic);
        let new_parameters: [&(dyn ToSql + Sync); 2] = [&new, &window_ms];
        let lock_parameters: [&(dyn ToSql + Sync); 1] = [&touched];
        let summary_parameters: [&(dyn ToSql + Sync); 3] = [&self.topic, &touched, &window_ms];

        let stations = station_partials::rows(partitions);
        let (first, rest) = stations.split_at(stations.len().min(ROWS_AT_ONCE));

        // `join!` polls in this order and a statement is sent at its first poll, so all are on their way before the
        // first answer is waited for.
        let statements = async {
            tokio::join!(
                biased;
                client.batch_execute(&self.begin),
                client.query(&self.advance, &advance_parameters),
                self.execute_unless(touched.is_empty(), &self.partials, &partial_parameters),
                self.execute_unless(new.is_empty(), &self.make_rows, &new_parameters),
                self.execute_unless(touched.is_empty(), &self.lock_rows, &lock_parameters),
                client.query(&self.recompute, &summary_parameters),
                self.execute_unless(dead_letters.offset.is_empty(), &self.dead_letters, &dead_letter_parameters),
                self.store_stations(first),
                self.commit_if(rest.is_empty()),
            )
        };
        let answers = self.session.call(async { Ok(statements.await) }).await?;
        let (begin, advanced, partials, made, locked, rows, dead_letters, stations, commit) = answers;
        let first = || {
            begin?;
            // The first that failed is the cause; the rest only say that the transaction has failed.
            advanced?;
            partials?;
            made?;
            locked?;
            let rows = rows?;
            dead_letters?;
            stations?;
            commit?;
            Ok::<_, tokio_postgres::Error>(rows)
        };
        let rows = first();
        if !rest.is_empty() {
            self.finish(rest, rows.is_err()).await?;
        }
        rows?.iter().map(SummaryRow::from_columns).collect()
    }

    /// How these partitions stand in the database: to find which one is fenced.
    pub async fn standing(&self, partitions: &[i32]) -> Result<Vec<Standing>, Failure> {
        let query = "SELECT partition, epoch, incarnation, next_offset FROM weather_partition \
                     WHERE topic = $1 AND partition = ANY($2)";
        let rows = self.session.call(self.session.client.query(query, &[&self.topic, &partitions])).await?;
        rows.iter()
            .map(|row| {
                let (incarnation, offset): (Option<i64>, Option<i64>) = (row.try_get(2)?, row.try_get(3)?);
                let position =
                    incarnation.zip(offset).map(|(incarnation, offset)| Position { incarnation, offset });
                Ok(Standing { partition: row.try_get(0)?, epoch: row.try_get(1)?, position })
            })
            .collect()
    }

    async fn store_stations(&self, rows: &[PartitionRow<'_>]) -> Result<(), tokio_postgres::Error> {
        let Some(statement) = &self.stations else { return Ok(()) };
        station_partials::store(&self.session.client, statement, rows).await
    }

    /// Sends the rest of the stations, which were too many to be on their way with the others, and commits. If anything has
    /// failed, rolls back: the connection is to be used again.
    async fn finish(&self, rest: &[PartitionRow<'_>], has_failed: bool) -> Result<(), Failure> {
        let stored = async {
            for portion in rest.chunks(ROWS_AT_ONCE) {
                self.session.call(self.store_stations(portion)).await?;
            }
            self.session.call(self.commit_if(true)).await
        };
        let stored = if has_failed { Ok(()) } else { stored.await };
        if has_failed || stored.is_err() {
            self.session.call(self.session.client.batch_execute("ROLLBACK")).await?;
        }
        stored
    }

    async fn commit_if(&self, now: bool) -> Result<(), tokio_postgres::Error> {
        if now { self.session.client.batch_execute("COMMIT").await } else { Ok(()) }
    }

    async fn execute_unless(
        &self,
        nothing_to_do: bool,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, tokio_postgres::Error> {
        if nothing_to_do { Ok(0) } else { self.session.client.execute(statement, parameters).await }
    }
}

/// The windows of these partitions, ascending.
fn touched(partitions: &[PartitionFlush]) -> Vec<SystemTime> {
    let mut windows: Vec<SystemTime> =
        partitions.iter().flat_map(|p| p.windows.iter().map(|w| timestamp(w.start_ms))).collect();
    windows.sort_unstable();
    windows.dedup();
    windows
}

/// `weather_partition`'s columns, an array each.
struct AdvanceColumns {
    partition: Vec<i32>,
    epoch: Vec<i64>,
    times: [Vec<Option<SystemTime>>; 2],
    idle: Vec<bool>,
    before: [Vec<i64>; 4],
    counts: [Vec<i64>; 5 + REASONS],
    /// An array each, as text: an array of arrays would lose where one ends.
    left_out: Vec<String>,
    log_memory: Vec<Vec<u8>>,
    known: [Vec<i64>; 2],
}

impl AdvanceColumns {
    fn of(partitions: &[PartitionFlush]) -> Self {
        let number = |of: fn(&PartitionFlush) -> i64| partitions.iter().map(of).collect::<Vec<_>>();
        let counts: [fn(&PartitionFlush) -> i64; 5] = [
            |p| p.state.progress.aggregated,
            |p| p.state.progress.duplicates,
            |p| p.state.progress.skipped,
            |p| p.state.progress.lost,
            |p| p.state.progress.sampled_out,
        ];
        Self {
            partition: partitions.iter().map(|p| p.partition).collect(),
            epoch: number(|p| p.epoch),
            times: [
                partitions.iter().map(|p| optional_timestamp(p.state.progress.max_event_time_ms)).collect(),
                partitions.iter().map(|p| optional_timestamp(p.state.progress.watermark_ms)).collect(),
            ],
            idle: partitions.iter().map(|p| p.state.progress.idle != 0).collect(),
            before: [
                number(|p| p.state.progress.incarnation),
                number(|p| p.state.progress.origin_offset),
                number(|p| p.state.progress.next_offset),
                number(|p| p.high_watermark),
            ],
            counts: std::array::from_fn(|i| match counts.get(i) {
                Some(count) => number(*count),
                None => partitions.iter().map(|p| p.state.progress.rejected[i - counts.len()]).collect(),
            }),
            left_out: partitions.iter().map(|p| left_out(&p.state.progress)).collect(),
            log_memory: partitions.iter().map(|p| encode_log_memory(p.state.log)).collect(),
            known: [number(|p| p.known.incarnation), number(|p| p.known.offset)],
        }
    }

    fn parameters<'a>(&'a self, topic: &'a String, lease_ms: &'a f64) -> Vec<&'a (dyn ToSql + Sync)> {
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![topic, lease_ms, &self.partition, &self.epoch];
        parameters.extend(self.before.iter().map(|column| column as &(dyn ToSql + Sync)));
        parameters.extend(self.times.iter().map(|column| column as &(dyn ToSql + Sync)));
        parameters.push(&self.idle);
        parameters.extend(self.counts.iter().map(|column| column as &(dyn ToSql + Sync)));
        parameters.push(&self.left_out);
        parameters.push(&self.log_memory);
        parameters.extend(self.known.iter().map(|column| column as &(dyn ToSql + Sync)));
        parameters
    }
}

/// `{1,2,3}`.
/// What does not count of what is aggregated: metrics by metric and cause, then readings of lists.
fn left_out(progress: &Progress) -> String {
    let numbers = progress.left_out.as_flattened().iter().chain([&progress.refused_in_lists]);
    let numbers: Vec<String> = numbers.map(ToString::to_string).collect();
    format!("{{{}}}", numbers.join(","))
}
