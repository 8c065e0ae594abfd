//! The processor's result, from outside: the tables, or without PostgreSQL the checkpoint files.

use std::collections::BTreeMap;

use tokio_postgres::{Config, IsolationLevel, Row as SqlRow};

use super::outcome::{RecordFates, WindowAverages};
use crate::engine::checkpoint::Checkpoint;
use crate::engine::state::PartitionState;
use crate::engine::window::{METRICS, Totals};
use crate::postgres::failure::Failure;
use crate::postgres::session::Session;
use crate::processor::checkpoints::store::CheckpointStore;
use crate::reading::Reason;

const HOUR_MS: i64 = 3_600_000;

const WINDOWS: &str = "SELECT (EXTRACT(EPOCH FROM window_start) * 1000)::bigint, reading_count, is_final, \
    avg_temp, avg_humidity, avg_wind_speed FROM weather_summary";

const STATIONS: &str = "SELECT (EXTRACT(EPOCH FROM window_start) * 1000)::bigint, reading_count, is_final, \
    avg_temp, avg_humidity, avg_wind_speed, station FROM weather_station_summary";

/// Where the processor's result is.
#[derive(Debug)]
pub(super) enum ResultStore {
    /// In the tables.
    Postgres {
        /// Where they are.
        config: Box<Config>,
        /// The connection, once there is one.
        session: Option<Session>,
    },
    /// In the checkpoint files of this many partitions.
    Files(CheckpointStore, i32),
}

impl ResultStore {
    /// The result as it is now; none before the processor has made its tables or files.
    pub(super) async fn look(&mut self) -> Option<RecordFates> {
        match self {
            ResultStore::Files(store, partitions) => {
                let states: Vec<(i32, PartitionState)> = newest_files(store, *partitions)
                    .map(|(partition, file)| (partition, file.state))
                    .collect();
                (!states.is_empty()).then(|| of_states(&states))
            }
            ResultStore::Postgres { config, session } => {
                if session.is_none() {
                    *session = Session::open(config).await.ok();
                }
                let found = of_tables(session.as_mut()?).await;
                // The tables may not be there yet; another connection costs little.
                if found.is_err() {
                    *session = None;
                }
                found.ok()
            }
        }
    }

    /// Windows of single stations, as they are now.
    pub(super) async fn stations(&mut self) -> Option<BTreeMap<(i64, String), WindowAverages>> {
        match self {
            ResultStore::Files(store, partitions) => Some(stations_of(newest_files(store, *partitions))),
            ResultStore::Postgres { session, .. } => {
                let session = session.as_ref()?;
                let rows = session.call(session.client.query(STATIONS, &[])).await.ok()?;
                let station = |row: &SqlRow| {
                    let (start_ms, found) = window_of(row).ok()?;
                    Some(((start_ms, row.try_get(6).ok()?), found))
                };
                rows.iter().map(station).collect()
            }
        }
    }

    /// The number of dead letters in the table; without a table, none.
    pub(super) async fn dead_letters(&mut self) -> Option<i64> {
        let ResultStore::Postgres { session: Some(session), .. } = self else { return None };
        let count = session.client.query_one("SELECT count(*) FROM weather_dead_letter", &[]);
        session.call(count).await.ok()?.try_get(0).ok()
    }
}

/// The newest checkpoint of each partition.
fn newest_files(store: &CheckpointStore, partitions: i32) -> impl Iterator<Item = (i32, Checkpoint)> {
    (0..partitions).filter_map(|p| Some((p, store.read(p).ok()?.checkpoints.into_iter().next()?)))
}

/// The stations of all partitions added up. Without PostgreSQL nothing is ever confirmed, so the files have all of them.
fn stations_of(files: impl Iterator<Item = (i32, Checkpoint)>) -> BTreeMap<(i64, String), WindowAverages> {
    let mut totals = BTreeMap::<(i64, String), Totals>::new();
    for row in files.flat_map(|(_, file)| file.stations) {
        let of = totals.entry((row.start_ms, row.station.into())).or_default();
        of.readings += row.totals.readings;
        for metric in 0..METRICS {
            of.counts[metric] += row.totals.counts[metric];
            of.sums[metric] += row.totals.sums[metric];
        }
    }
    let row = |totals: Totals| {
        let averages = std::array::from_fn(|metric| totals.average(metric));
        WindowAverages { readings: totals.readings, averages, is_final: false }
    };
    totals.into_iter().map(|(key, totals)| (key, row(totals))).collect()
}

/// All tables as of one moment.
async fn of_tables(session: &mut Session) -> Result<RecordFates, Failure> {
    let reasons = Reason::ALL.map(Reason::as_str).join(", ");
    let partitions = format!(
        "SELECT partition, next_offset, aggregated, duplicates, skipped, lost, {reasons} FROM weather_partition \
         WHERE next_offset IS NOT NULL"
    );
    let begin = session.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
    let transaction = begin.read_only(true).start().await?;
    let windows = transaction.query(WINDOWS, &[]).await?;
    let partitions = transaction.query(&partitions, &[]).await?;
    transaction.commit().await?;
    let mut outcome = RecordFates::default();
    for row in &windows {
        let (start_ms, row) = window_of(row)?;
        outcome.windows.insert(start_ms, row);
    }
    for row in &partitions {
        outcome.offsets.insert(row.try_get(0)?, row.try_get(1)?);
        for (name, column) in fates().zip(2..) {
            *outcome.fates.entry(name).or_default() += row.try_get::<_, i64>(column)?;
        }
    }
    Ok(outcome)
}

/// The fates in the order of the statement.
fn fates() -> impl Iterator<Item = &'static str> {
    ["aggregated", "duplicates", "skipped", "lost"].into_iter().chain(Reason::ALL.map(Reason::as_str))
}

fn window_of(row: &SqlRow) -> Result<(i64, WindowAverages), Failure> {
    let averages = [row.try_get(3)?, row.try_get(4)?, row.try_get(5)?];
    Ok((row.try_get(0)?, WindowAverages { readings: row.try_get(1)?, is_final: row.try_get(2)?, averages }))
}

/// The states of all partitions added up, as the table would show them.
fn of_states(states: &[(i32, PartitionState)]) -> RecordFates {
    let mut outcome = RecordFates::default();
    let mut windows = BTreeMap::<i64, Totals>::new();
    for (partition, PartitionState { progress, windows: own, .. }) in states {
        outcome.offsets.insert(*partition, progress.next_offset);
        let counts = [progress.aggregated, progress.duplicates, progress.skipped, progress.lost];
        for (name, count) in fates().zip(counts.into_iter().chain(progress.rejected)) {
            *outcome.fates.entry(name).or_default() += count;
        }
        own.iter().for_each(|window| windows.entry(window.start_ms).or_default().merge(&window.totals));
    }
    let watermark_ms = states.iter().map(|(_, state)| state.progress.watermark_ms).min().unwrap_or(i64::MIN);
    outcome.windows = windows
        .into_iter()
        .map(|(start_ms, totals)| {
            let averages = std::array::from_fn(|metric| totals.average(metric));
            let is_final = start_ms + HOUR_MS <= watermark_ms;
            (start_ms, WindowAverages { readings: totals.readings, averages, is_final })
        })
        .collect();
    outcome
}
