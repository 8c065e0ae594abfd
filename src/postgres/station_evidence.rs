//! The rows of stations, read to be compared with the topic, in portions; and whether the stations of each window of each
//! partition add up to the window, by one statement, so at one moment: a flush changes both at once.
//!
//! In that sum, a window of which no station is stored is not compared: it was closed before stations were kept apart, or
//! is deleted for its age. The oldest one may be half deleted, so that fewer readings prove nothing there, if older ones
//! are gone already.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::config::Between;
use crate::engine::stations::{StationRow, Stations};
use crate::postgres::failure::Failure;
use crate::postgres::partials::total_columns;
use crate::postgres::session::Session;
use crate::postgres::station_partials::{self, select, station_of};
use crate::time::{from_timestamp, timestamp};

/// The stations of windows that the watermark of `weather_partition` has not closed, and their partition.
const OPEN: &str = concat!(
    "DECLARE stations NO SCROLL CURSOR FOR SELECT window_start, station, ",
    total_columns!(),
    ", partition FROM weather_station_partial JOIN weather_partition p USING (partition)
    WHERE topic = $1 AND window_start > coalesce(p.watermark - $2 * interval '1 millisecond', '-infinity'::timestamp)"
);
const CLOSED: &str = concat!(
    "DECLARE stations NO SCROLL CURSOR FOR ",
    select!("> coalesce($2, '-infinity'::timestamp) AND window_start <= $3")
);
/// A portion: rows are in memory one portion at a time.
const FETCH: &str = "FETCH 4096 FROM stations";

const BEGAN: &str = "\
SELECT EXISTS (SELECT FROM weather_station_partial WHERE partition = $1 AND window_start <= $2)";
/// The oldest window of any station if there are older windows, else nothing.
const DELETED_TO: &str = "\
SELECT CASE WHEN s.oldest IS NULL THEN 'infinity' WHEN s.oldest > w.oldest THEN s.oldest END
FROM (SELECT min(window_start) AS oldest FROM weather_station_partial) s,
    (SELECT min(window_start) AS oldest FROM weather_partial WHERE topic = $1) w";

/// An extreme that is not known of all stations is NULL, as one of a window is.
const UNLIKE: &str = "\
SELECT s.window_start, s.partition, s.numbers, w.numbers, s.extremes, w.extremes FROM (
    SELECT window_start, partition, sum(reading_count) AS readings,
        ARRAY[sum(reading_count), sum(temp_count), sum(humidity_count), sum(wind_speed_count), sum(temp_sum),
            sum(humidity_sum), sum(wind_speed_sum)]::text[] AS numbers,
        ARRAY[CASE WHEN bool_and(temp_count = 0 OR min_temp IS NOT NULL) THEN min(min_temp) END,
            CASE WHEN bool_and(humidity_count = 0 OR min_humidity IS NOT NULL) THEN min(min_humidity) END,
            CASE WHEN bool_and(wind_speed_count = 0 OR min_wind_speed IS NOT NULL) THEN min(min_wind_speed) END,
            CASE WHEN bool_and(temp_count = 0 OR max_temp IS NOT NULL) THEN max(max_temp) END,
            CASE WHEN bool_and(humidity_count = 0 OR max_humidity IS NOT NULL) THEN max(max_humidity) END,
            CASE WHEN bool_and(wind_speed_count = 0 OR max_wind_speed IS NOT NULL) THEN max(max_wind_speed) END]::text[]
            AS extremes
    FROM weather_station_partial WHERE window_start >= coalesce($2, '-infinity'::timestamp)
        AND window_start < coalesce($3, 'infinity'::timestamp) GROUP BY window_start, partition) s
LEFT JOIN (
    SELECT window_start, partition, reading_count AS readings,
        ARRAY[reading_count, temp_count, humidity_count, wind_speed_count, temp_sum, humidity_sum,
            wind_speed_sum]::text[] AS numbers,
        ARRAY[min_temp, min_humidity, min_wind_speed, max_temp, max_humidity, max_wind_speed]::text[] AS extremes
    FROM weather_partial WHERE topic = $1) w USING (window_start, partition)
WHERE (s.numbers IS DISTINCT FROM w.numbers
        OR EXISTS (SELECT FROM unnest(s.extremes, w.extremes) AS e(a, b) WHERE a <> b))
    AND (w.readings IS NULL OR s.readings >= w.readings
        OR s.window_start > (SELECT min(window_start) FROM weather_station_partial)
        OR s.window_start <= (SELECT min(window_start) FROM weather_partial WHERE topic = $1))
ORDER BY s.window_start, s.partition LIMIT $4";

const NUMBERS: [&str; 7] = [
    "reading_count",
    "temp_count",
    "humidity_count",
    "wind_speed_count",
    "temp_sum",
    "humidity_sum",
    "wind_speed_sum",
];
const EXTREMES: [&str; 6] =
    ["min_temp", "min_humidity", "min_wind_speed", "max_temp", "max_humidity", "max_wind_speed"];

/// A window of a partition that its stations do not add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StationMismatch {
    /// The window, ms since 1970.
    pub start_ms: i64,
    /// The partition.
    pub partition: i32,
    /// What does not add up.
    pub what: String,
}

/// The stations of all open windows, by partition; to be called in the transaction in which the windows are read. None where
/// nobody has asked for stations.
pub(super) async fn open_windows(
    session: &Session,
    topic: &str,
    window_ms: f64,
) -> Result<Option<BTreeMap<i32, Stations>>, Failure> {
    if !station_partials::exist(session).await? {
        return Ok(None);
    }
    let mut found: BTreeMap<i32, Stations> = BTreeMap::new();
    each(session, OPEN, &[&topic, &window_ms], |row, stored| {
        found.entry(row.try_get("partition")?).or_default().store(stored);
        Ok(())
    })
    .await?;
    Ok(Some(found))
}

/// Gives every row of a partition's windows that begin after `after_ms`, up to `to_ms`, both ms since 1970, to `see`.
pub async fn rows(
    session: &Session,
    partition: i32,
    after_ms: Option<i64>,
    to_ms: i64,
    mut see: impl FnMut(StationRow),
) -> Result<(), Failure> {
    let (after, to) = (after_ms.map(timestamp), timestamp(to_ms));
    session.call(session.client.batch_execute("BEGIN TRANSACTION READ ONLY")).await?;
    each(session, CLOSED, &[&partition, &after, &to], |_, row| {
        see(row);
        Ok(())
    })
    .await?;
    session.call(session.client.batch_execute("ROLLBACK")).await
}

/// Gives every row of a cursor to `see`, in the transaction at hand.
async fn each(
    session: &Session,
    declare: &str,
    parameters: &[&(dyn ToSql + Sync)],
    mut see: impl FnMut(&Row, StationRow) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let client = &session.client;
    session.call(client.execute(declare, parameters)).await?;
    let fetch = session.call(client.prepare(FETCH)).await?;
    loop {
        let rows = session.call_for_long(client.query(&fetch, &[])).await?;
        if rows.is_empty() {
            return session.call(client.batch_execute("CLOSE stations")).await;
        }
        for row in &rows {
            see(row, station_of(row)?)?;
        }
    }
}

/// Whether a partition has stations in windows that begin up to here, ms since 1970.
pub async fn have_begun(session: &Session, partition: i32, to_ms: i64) -> Result<bool, Failure> {
    let row = session.call(session.client.query_one(BEGAN, &[&partition, &timestamp(to_ms)])).await?;
    Ok(row.try_get(0)?)
}

/// Up to which window rows of stations may have been deleted for their age, if they may, in ms since 1970.
pub async fn deleted_to_ms(session: &Session, topic: &str) -> Result<Option<i64>, Failure> {
    let row = session.call_for_long(session.client.query_one(DELETED_TO, &[&topic])).await?;
    Ok(row.try_get::<_, Option<SystemTime>>(0)?.map(from_timestamp))
}

/// The first windows, at most `limit`, that their stations do not add up to; none where nobody has asked for stations.
pub async fn unlike(
    session: &Session,
    topic: &str,
    between: Between,
    limit: i64,
) -> Result<Vec<StationMismatch>, Failure> {
    if !station_partials::exist(session).await? {
        return Ok(Vec::new());
    }
    let client = &session.client;
    let begin = "BEGIN TRANSACTION READ ONLY; SET LOCAL statement_timeout = 0";
    session.call(client.batch_execute(begin)).await?;
    let (from, to): (Option<SystemTime>, _) = (between.from_ms.map(timestamp), between.to_ms.map(timestamp));
    let parameters: [&(dyn ToSql + Sync); 4] = [&topic, &from, &to, &limit];
    let rows = session.call_for_long(client.query(UNLIKE, &parameters)).await?;
    session.call(client.batch_execute("ROLLBACK")).await?;
    rows.iter().map(unlike_of).collect()
}

fn unlike_of(row: &Row) -> Result<StationMismatch, Failure> {
    type Values = Vec<Option<String>>;
    let mut found = Vec::new();
    let (numbers, of_window): (Values, Option<Values>) = (row.try_get(2)?, row.try_get(3)?);
    let what = match of_window {
        None => "weather_station_partial has stations of it, but weather_partial has no row".to_owned(),
        Some(of_window) => {
            let extremes: (Values, Values) = (row.try_get(4)?, row.try_get(5)?);
            let names = NUMBERS.iter().chain(&EXTREMES);
            let pairs = numbers.iter().chain(&extremes.0).zip(of_window.iter().chain(&extremes.1));
            for (name, pair) in names.zip(pairs) {
                // What is NULL is not known, or there is nothing of it, as the counts say.
                if let (Some(stations), Some(window)) = pair
                    && stations != window
                {
                    found.push(format!("{name} is {stations}, {window} by weather_partial"));
                }
            }
            format!("its rows of weather_station_partial together: {}", found.join("; "))
        }
    };
    Ok(StationMismatch { start_ms: from_timestamp(row.try_get(0)?), partition: row.try_get(1)?, what })
}
