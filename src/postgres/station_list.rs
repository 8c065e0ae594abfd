//! Stations as people look for them: those of the newest windows that match a search, the first of an order.
//!
//! However many windows there have been, two of them are read, by their index, and then some windows of the stations that
//! are shown, by the key. The server stops what takes too long.

use std::time::{Duration, SystemTime};

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::engine::window::METRICS;
use crate::postgres::failure::Failure;
use crate::postgres::schema::MEASURES;
use crate::postgres::session::Session;
use crate::time::{from_timestamp, timestamp};

/// Most stations that are listed at once.
pub const LIMIT: i64 = 200;
/// Windows of a station's history.
pub const HISTORY: i64 = 24;
/// The server's limit for each statement.
const STATEMENT_LIMIT: Duration = Duration::from_secs(3);

/// What stations are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StationOrder {
    /// Their names.
    Station,
    /// The average temperature.
    Temperature,
    /// The average humidity.
    Humidity,
    /// The average wind speed.
    WindSpeed,
    /// The number of readings.
    Readings,
}

impl StationOrder {
    /// Every order.
    pub const ALL: [Self; 5] =
        [Self::Station, Self::Temperature, Self::Humidity, Self::WindSpeed, Self::Readings];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Station => "station",
            Self::Temperature => "temperature",
            Self::Humidity => "humidity",
            Self::WindSpeed => "wind_speed",
            Self::Readings => "readings",
        }
    }

    const fn column(self) -> &'static str {
        match self {
            Self::Station => "station",
            Self::Temperature => "avg_temp",
            Self::Humidity => "avg_humidity",
            Self::WindSpeed => "avg_wind_speed",
            Self::Readings => "reading_count",
        }
    }
}

/// Which stations are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StationQuery {
    /// A part of their names, in upper or lower case.
    pub search: String,
    /// What they are sorted by.
    pub order: StationOrder,
    /// The greatest first.
    pub is_descending: bool,
}

/// A station in the newest window that it has.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedStation {
    /// Its name.
    pub station: String,
    /// First ms of the window, since 1970.
    pub start_ms: i64,
    /// Averages in the order of `reading::Metric`.
    pub averages: [Option<f64>; METRICS],
    /// Least values; of the wind speed none is kept.
    pub minima: [Option<f64>; METRICS],
    /// Greatest values.
    pub maxima: [Option<f64>; METRICS],
    /// Readings in the window.
    pub readings: i64,
    /// Average temperatures of the last [`HISTORY`] windows, the newest last.
    pub temperatures: Vec<Option<f64>>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StationList {
    /// First ms of the newest window of any station.
    pub newest_ms: Option<i64>,
    /// Stations of the newest two windows that match.
    pub matching: i64,
    /// The first of them, at most [`LIMIT`].
    pub stations: Vec<ListedStation>,
}

const NEWEST: &str = "SELECT max(window_start) FROM weather_station_partial";

const HISTORIES: &str = "\
SELECT station, window_start, sum(temp_sum)::double precision / NULLIF(sum(temp_count), 0)::double precision / 1e6
FROM weather_station_partial WHERE station = ANY($1) AND window_start > $2 GROUP BY station, window_start";

/// A station that has not sent anything in the newest window yet is listed with the one before.
fn listed(wanted: &StationQuery) -> String {
    format!(
        "SELECT *, count(*) OVER () FROM (
    SELECT DISTINCT ON (station) station, window_start,
{MEASURES}    FROM weather_station_partial
    WHERE window_start = ANY($1::timestamp[]) AND position(lower($2) IN lower(station)) > 0
    GROUP BY station, window_start ORDER BY station, window_start DESC) AS newest
ORDER BY {} {} NULLS LAST, station LIMIT $3",
        wanted.order.column(),
        if wanted.is_descending { "DESC" } else { "ASC" }
    )
}

/// Reads them, at one moment.
pub async fn read(session: &Session, wanted: &StationQuery, window_ms: i64) -> Result<StationList, Failure> {
    let begin = format!(
        "BEGIN TRANSACTION READ ONLY, ISOLATION LEVEL REPEATABLE READ; SET LOCAL statement_timeout = {}",
        STATEMENT_LIMIT.as_millis()
    );
    session.call(session.client.batch_execute(&begin)).await?;
    let list = read_in_transaction(session, wanted, window_ms).await?;
    session.call(session.client.batch_execute("ROLLBACK")).await?;
    Ok(list)
}

async fn read_in_transaction(
    session: &Session,
    wanted: &StationQuery,
    window_ms: i64,
) -> Result<StationList, Failure> {
    let client = &session.client;
    let newest: Option<SystemTime> = session.call(client.query_one(NEWEST, &[])).await?.try_get(0)?;
    let Some(newest_ms) = newest.map(from_timestamp) else { return Ok(StationList::default()) };
    let windows = [newest_ms, newest_ms - window_ms].map(timestamp);
    let parameters: [&(dyn ToSql + Sync); 3] = [&&windows[..], &wanted.search, &LIMIT];
    let rows = session.call(client.query(&listed(wanted), &parameters)).await?;
    let mut stations = rows.iter().map(station_of).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<&str> = stations.iter().map(|station| station.station.as_str()).collect();
    let parameters: [&(dyn ToSql + Sync); 2] = [&names, &timestamp(newest_ms - HISTORY * window_ms)];
    let histories = session.call(client.query(HISTORIES, &parameters)).await?;
    fill(&mut stations, &histories, newest_ms, window_ms)?;
    let matching = rows.first().map_or(Ok(0), |row| row.try_get(11))?;
    Ok(StationList { newest_ms: Some(newest_ms), matching, stations })
}

fn station_of(row: &Row) -> Result<ListedStation, Failure> {
    Ok(ListedStation {
        station: row.try_get(0)?,
        start_ms: from_timestamp(row.try_get(1)?),
        averages: [row.try_get(2)?, row.try_get(3)?, row.try_get(4)?],
        minima: [row.try_get(5)?, row.try_get(7)?, None],
        maxima: [row.try_get(6)?, row.try_get(8)?, row.try_get(9)?],
        readings: row.try_get(10)?,
        temperatures: Vec::new(),
    })
}

/// Gives each station its temperatures.
fn fill(
    stations: &mut [ListedStation],
    histories: &[Row],
    newest_ms: i64,
    window_ms: i64,
) -> Result<(), Failure> {
    let mut places = std::collections::HashMap::new();
    for (at, station) in stations.iter_mut().enumerate() {
        station.temperatures = vec![None; HISTORY as usize];
        places.insert(station.station.clone(), at);
    }
    for row in histories {
        let before = (newest_ms - from_timestamp(row.try_get(1)?)) / window_ms;
        let index = usize::try_from(HISTORY - 1 - before).ok();
        let place = places.get(row.try_get::<_, &str>(0)?);
        if let Some((at, index)) = place.zip(index).filter(|(_, index)| *index < HISTORY as usize) {
            stations[*at].temperatures[index] = row.try_get(2)?;
        }
    }
    Ok(())
}
