//! Partitions' states into the tables: one transaction, pipelined, so that it takes one round trip.
//!
//! 1. `weather_partition` is advanced where all partitions are still ours, else everything fails: see `advance`.
//! 2. `weather_partial` takes each partition's absolute totals: overwritten, never added, so that a flush whose answer
//!    was lost can simply be sent again.
//! 3. Dead letters are inserted; those that are there already (a replay) stay.
//! 4. `weather_station_partial` takes the stations that changed, where they are kept apart.
//! 5. The touched rows of `weather_summary` are made where missing and locked in the order of their windows, so that two
//!    processes never lose each other's update and never wait in a circle.
//! 6. They are computed from all partials, by a statement that starts after the locks are held and so sees what the
//!    others have committed.
//!
//! Where several processes write, they have the newest row of the summary in common, and each would wait until the one
//! before it is on disk. So there the transaction commits without waiting for the disk, which frees the row, and a second
//! one, which only locks a row of this process, waits for both: many processes' waits are one write. A flush counts as
//! confirmed after the second. What others have seen before that is durable when theirs is, as PostgreSQL's log has it
//! first; and if the server crashes in between, the tables are back at a state that this process knows as confirmed.
//!
//! Invariant: whatever of this is visible in the database belongs to exactly one state of each partition.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use crate::engine::flush_plan::{PartitionFlush, Standing};
use crate::engine::state::Position;
use crate::postgres::advance::{ADVANCE, AdvanceColumns};
use crate::postgres::dead_letters::{self as dead_letter_table, DeadLetterColumns};
use crate::postgres::failure::Failure;
use crate::postgres::partials::{self, PartialColumns};
use crate::postgres::session::Session;
use crate::postgres::station_partials::{self, PartitionStation, ROWS_AT_ONCE};
use crate::postgres::summary::SummaryRow;
use crate::time::timestamp;

/// Most windows of which is remembered that they have a row; more are looked up again.
const MAX_KNOWN_ROWS: usize = 10_000;

/// A connection with the statements of a flush prepared.
#[derive(Debug)]
pub struct FlushSession {
    session: Arc<Session>,
    begin: String,
    /// Whether other processes write, too.
    beside_others: bool,
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
    wait_for_disk: Statement,
    /// Where stations are kept apart.
    stations: Option<Statement>,
}

pub(super) const MAKE_ROWS: &str = "\
INSERT INTO weather_summary (window_start, window_end)
SELECT w, w + $2 * interval '1 millisecond' FROM unnest($1::timestamp[]) AS w ORDER BY w
ON CONFLICT (window_start, window_end) DO NOTHING";

pub(super) const LOCK_ROWS: &str = "\
SELECT 1 FROM weather_summary WHERE window_start = ANY($1::timestamp[]) ORDER BY window_start, window_end FOR UPDATE";

/// The end of this transaction frees its locks at once; [`WAIT_FOR_DISK`] follows.
const WITHOUT_WAITING: &str = "SET LOCAL synchronous_commit = off";

/// Writes to the server's log without making a version of the row, so that committing it waits until all before it is on
/// disk, too.
const WAIT_FOR_DISK: &str = "SELECT 1 FROM weather_partition WHERE topic = $1 AND partition = $2 FOR UPDATE";

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
                    client.prepare(WAIT_FOR_DISK),
                )
            })
            .await?;
        let (advance, partials, make_rows, lock_rows, recompute, dead_letters, wait_for_disk) = prepared;
        let stations = match by_station {
            true => Some(session.call(client.prepare(station_partials::STORE)).await?),
            false => None,
        };
        let lease_ms = lease.as_secs_f64() * 1000.0;
        let topic = topic.to_owned();
        Ok(Self {
            begin: session.begin(),
            beside_others: false,
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
            wait_for_disk,
            stations,
        })
    }

    /// Writes the states; `beside_others` if other processes write, too. The touched rows of the summary, as they are now;
    /// none of it is visible after an error, unless the error is an outage or came beside others: then all of it may be.
    pub async fn flush(
        &mut self,
        partitions: &[PartitionFlush],
        beside_others: bool,
    ) -> Result<Vec<SummaryRow>, Failure> {
        self.beside_others = beside_others;
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
                self.begin(),
                client.query(&self.advance, &advance_parameters),
                self.execute_unless(touched.is_empty(), &self.partials, &partial_parameters),
                self.execute_unless(dead_letters.offset.is_empty(), &self.dead_letters, &dead_letter_parameters),
                self.store_stations(first),
                self.execute_unless(new.is_empty(), &self.make_rows, &new_parameters),
                self.execute_unless(touched.is_empty(), &self.lock_rows, &lock_parameters),
                client.query(&self.recompute, &summary_parameters),
                self.commit_if(rest.is_empty(), partitions),
            )
        };
        let answers = self.session.call(async { Ok(statements.await) }).await?;
        let (begin, advanced, partials, dead_letters, stations, made, locked, rows, commit) = answers;
        let first = || {
            begin?;
            // The first that failed is the cause; the rest only say that the transaction has failed.
            advanced?;
            partials?;
            dead_letters?;
            stations?;
            made?;
            locked?;
            let rows = rows?;
            commit?;
            Ok::<_, tokio_postgres::Error>(rows)
        };
        let rows = first();
        if !rest.is_empty() {
            self.finish(rest, partitions, rows.is_err()).await?;
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

    async fn store_stations(&self, rows: &[PartitionStation<'_>]) -> Result<(), tokio_postgres::Error> {
        let Some(statement) = &self.stations else { return Ok(()) };
        station_partials::store(&self.session.client, statement, rows).await
    }

    /// Sends the rest of the stations, which were too many to be on their way with the others, and commits. If anything has
    /// failed, rolls back: the connection is to be used again.
    async fn finish(
        &self,
        rest: &[PartitionStation<'_>],
        partitions: &[PartitionFlush],
        has_failed: bool,
    ) -> Result<(), Failure> {
        let stored = async {
            for portion in rest.chunks(ROWS_AT_ONCE) {
                self.session.call(self.store_stations(portion)).await?;
            }
            self.session.call(self.commit_if(true, partitions)).await
        };
        let stored = if has_failed { Ok(()) } else { stored.await };
        if has_failed || stored.is_err() {
            self.session.call(self.session.client.batch_execute("ROLLBACK")).await?;
        }
        stored
    }

    async fn begin(&self) -> Result<(), tokio_postgres::Error> {
        let begin = &self.begin;
        match self.beside_others {
            true => self.session.client.batch_execute(&format!("{begin}; {WITHOUT_WAITING}")).await,
            false => self.session.client.batch_execute(begin).await,
        }
    }

    /// Commits, and waits until it is on disk.
    async fn commit_if(&self, now: bool, partitions: &[PartitionFlush]) -> Result<(), tokio_postgres::Error> {
        if !now {
            return Ok(());
        }
        let client = &self.session.client;
        let Some(part) = partitions.first().filter(|_| self.beside_others) else {
            return client.batch_execute("COMMIT").await;
        };
        let own_row: [&(dyn ToSql + Sync); 2] = [&self.topic, &part.partition];
        let (commit, on_disk) = tokio::join!(
            biased;
            client.batch_execute("COMMIT"),
            client.execute(&self.wait_for_disk, &own_row),
        );
        commit?;
        on_disk.map(drop)
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
