//! `weather_station_partial`: what a partition has taken in of each station, as columns and back.

use std::time::{Duration, SystemTime};

use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Client, Row, Statement};

use crate::engine::flush_plan::PartitionFlush;
use crate::engine::stations::{StationRow, StationTotals};
use crate::engine::window::METRICS;
use crate::postgres::failure::Failure;
use crate::postgres::leases::LeaseSession;
use crate::postgres::partials::{overwrite_totals, total_columns};
use crate::postgres::session::Session;
use crate::time::{from_timestamp, timestamp};

/// Rows of one statement: they are in memory several times while they are sent.
pub(super) const ROWS_AT_ONCE: usize = 4_096;
/// Rows deleted at a time: quickly done, so that nobody waits for the locks.
pub const PRUNE_PORTION: u64 = 10_000;

/// Stores absolute totals: overwritten, never added.
pub(super) const STORE: &str = concat!(
    "INSERT INTO weather_station_partial (station, window_start, partition, ",
    total_columns!(),
    ")
SELECT * FROM unnest($1::text[], $2::timestamp[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
    $15::bigint[], $16::bigint[])
ON CONFLICT (station, window_start, partition) DO UPDATE SET ",
    overwrite_totals!()
);

/// The stations of partition `$1` in windows of which the rest is said.
macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT window_start, station, ",
            $crate::postgres::partials::total_columns!(),
            " FROM weather_station_partial WHERE partition = $1 AND window_start ",
            $which
        )
    };
}

pub(super) use select;

const OPEN_WINDOWS: &str = select!("> $2");
const WINDOWS: &str = select!("= ANY($2::timestamp[])");

const EXIST: &str = "SELECT to_regclass('weather_station_partial') IS NOT NULL";

/// The oldest windows first, so that at most one of them has only a part of its rows.
const PRUNE: &str = "\
DELETE FROM weather_station_partial WHERE (station, window_start, partition) IN (
    SELECT station, window_start, partition FROM weather_station_partial
    WHERE window_start < (now() AT TIME ZONE 'UTC') - $1 * interval '1 millisecond' ORDER BY window_start LIMIT $2)";

/// A row and its partition.
pub(super) type PartitionStation<'a> = (i32, &'a StationRow);

/// All rows of these partitions.
pub(super) fn rows(partitions: &[PartitionFlush]) -> Vec<PartitionStation<'_>> {
    partitions.iter().flat_map(|p| p.stations.iter().map(|row| (p.partition, row))).collect()
}

/// The table's columns, an array each.
struct StationColumns<'a> {
    station: Vec<&'a str>,
    window_start: Vec<SystemTime>,
    partition: Vec<i32>,
    numbers: [Vec<i64>; 1 + 2 * METRICS],
    extremes: [Vec<Option<i64>>; 2 * METRICS],
}

impl<'a> StationColumns<'a> {
    fn of(rows: &[PartitionStation<'a>]) -> Self {
        let number = |i: usize, totals: &StationTotals| match i {
            0 => totals.readings,
            i if i <= METRICS => totals.counts[i - 1],
            i => totals.sums[i - 1 - METRICS],
        };
        let extreme = |i: usize, totals: &StationTotals| match i {
            i if i < METRICS => totals.least(i),
            i => totals.greatest(i - METRICS),
        };
        Self {
            station: rows.iter().map(|(_, row)| &*row.station).collect(),
            window_start: rows.iter().map(|(_, row)| timestamp(row.start_ms)).collect(),
            partition: rows.iter().map(|(partition, _)| *partition).collect(),
            numbers: std::array::from_fn(|i| rows.iter().map(|(_, row)| number(i, &row.totals)).collect()),
            extremes: std::array::from_fn(|i| rows.iter().map(|(_, row)| extreme(i, &row.totals)).collect()),
        }
    }

    fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            vec![&self.station, &self.window_start, &self.partition];
        parameters.extend(self.numbers.iter().map(|column| column as &(dyn ToSql + Sync)));
        parameters.extend(self.extremes.iter().map(|column| column as &(dyn ToSql + Sync)));
        parameters
    }
}

/// Sends rows, portions of them one after the other.
pub(super) async fn store(
    client: &Client,
    statement: &Statement,
    rows: &[PartitionStation<'_>],
) -> Result<(), tokio_postgres::Error> {
    for portion in rows.chunks(ROWS_AT_ONCE) {
        client.execute(statement, &StationColumns::of(portion).parameters()).await?;
    }
    Ok(())
}

/// Whether anybody has asked for stations.
pub(super) async fn exist(session: &Session) -> Result<bool, Failure> {
    Ok(session.call(session.client.query_one(EXIST, &[])).await?.try_get(0)?)
}

/// The stations of a partition in the windows that begin then.
pub(super) async fn of_windows(
    session: &Session,
    partition: i32,
    starts: &[SystemTime],
) -> Result<Vec<StationRow>, Failure> {
    let parameters: [&(dyn ToSql + Sync); 2] = [&partition, &starts];
    let rows = session.call(session.client.query(WINDOWS, &parameters)).await?;
    rows.iter().map(station_of).collect()
}

/// Stores rows of a partition.
pub(super) async fn store_rows(
    session: &Session,
    partition: i32,
    rows: &[StationRow],
) -> Result<(), Failure> {
    let statement = session.call(session.client.prepare(STORE)).await?;
    let rows: Vec<PartitionStation<'_>> = rows.iter().map(|row| (partition, row)).collect();
    session.call(store(&session.client, &statement, &rows)).await
}

impl LeaseSession {
    /// The stations of a partition in the windows that begin after this.
    pub(super) async fn stations(
        &self,
        partition: i32,
        after: SystemTime,
    ) -> Result<Vec<StationRow>, Failure> {
        let parameters: [&(dyn ToSql + Sync); 2] = [&partition, &after];
        let rows = self.session.call(self.session.client.query(OPEN_WINDOWS, &parameters)).await?;
        rows.iter().map(station_of).collect()
    }

    /// Deletes the stations of windows that are older than this, at most [`PRUNE_PORTION`] rows at a time; how many.
    pub async fn prune_stations(&self, retention: Duration) -> Result<u64, Failure> {
        let (retention_ms, portion) = (retention.as_secs_f64() * 1000.0, PRUNE_PORTION as i64);
        self.session.call(self.session.client.execute(PRUNE, &[&retention_ms, &portion])).await
    }
}

/// A row that begins with these columns.
pub(super) fn station_of(row: &Row) -> Result<StationRow, Failure> {
    let station: &str = row.try_get(1)?;
    Ok(StationRow {
        start_ms: from_timestamp(row.try_get(0)?),
        station: station.into(),
        totals: StationTotals::of(
            row.try_get(2)?,
            by_metric(row, 3)?,
            by_metric(row, 6)?,
            by_metric(row, 9)?,
            by_metric(row, 12)?,
        ),
    })
}

/// A column of each metric, from this one on.
fn by_metric<'a, T: FromSql<'a>>(row: &'a Row, from: usize) -> Result<[T; METRICS], Failure> {
    Ok([row.try_get(from)?, row.try_get(from + 1)?, row.try_get(from + 2)?])
}
