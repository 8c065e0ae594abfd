//! The tables and views of stations: made where a process is asked to keep stations apart.

use super::SetupError;
use crate::error::Error;
use crate::postgres::session::Session;

/// What a view says of many rows of sums, as columns in its order.
macro_rules! measures {
    () => {
        "        sum(temp_sum)::double precision / NULLIF(sum(temp_count), 0)::double precision / 1e6 AS avg_temp,
        sum(humidity_sum)::double precision / NULLIF(sum(humidity_count), 0)::double precision / 1e6 AS avg_humidity,
        sum(wind_speed_sum)::double precision / NULLIF(sum(wind_speed_count), 0)::double precision / 1e6
            AS avg_wind_speed,
        CASE WHEN bool_and(temp_count = 0 OR min_temp IS NOT NULL)
            THEN min(min_temp)::double precision / 1e6 END AS min_temp,
        CASE WHEN bool_and(temp_count = 0 OR max_temp IS NOT NULL)
            THEN max(max_temp)::double precision / 1e6 END AS max_temp,
        CASE WHEN bool_and(humidity_count = 0 OR min_humidity IS NOT NULL)
            THEN min(min_humidity)::double precision / 1e6 END AS min_humidity,
        CASE WHEN bool_and(humidity_count = 0 OR max_humidity IS NOT NULL)
            THEN max(max_humidity)::double precision / 1e6 END AS max_humidity,
        CASE WHEN bool_and(wind_speed_count = 0 OR max_wind_speed IS NOT NULL)
            THEN max(max_wind_speed)::double precision / 1e6 END AS max_wind_speed,
        sum(reading_count)::bigint AS reading_count
"
    };
}

/// What a view says of many rows of sums: averages, extremes and the number of readings. An extreme is NULL where a part of
/// the readings was counted before extremes were kept.
pub(in crate::postgres) const MEASURES: &str = measures!();

/// One row a station, window and partition. The key is in the order in which people ask: one station over a time.
pub(super) const PARTIAL: (&str, &str) = (
    "weather_station_partial",
    "CREATE TABLE weather_station_partial (
    station TEXT NOT NULL,
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
    min_humidity BIGINT,
    min_wind_speed BIGINT,
    max_temp BIGINT,
    max_humidity BIGINT,
    max_wind_speed BIGINT,
    PRIMARY KEY (station, window_start, partition)
) WITH (fillfactor = 80)",
);

/// What people read. An extreme is NULL where a part of the readings was counted before stations were kept apart.
pub(super) const SUMMARY: (&str, &str) = (
    "weather_station_summary",
    concat!(
        "CREATE VIEW weather_station_summary AS
SELECT g.window_start, g.window_end, g.station, g.avg_temp, g.avg_humidity, g.avg_wind_speed, g.min_temp, g.max_temp,
    g.min_humidity, g.max_humidity, g.max_wind_speed, g.reading_count,
    coalesce((SELECT s.is_final FROM weather_summary s
        WHERE s.window_start = g.window_start AND s.window_end = g.window_end), false) AS is_final
FROM (
    SELECT window_start, station,
        window_start + (SELECT window_ms FROM weather_pipeline) * interval '1 millisecond' AS window_end,
",
        measures!(),
        "    FROM weather_station_partial GROUP BY station, window_start
) AS g"
    ),
);

/// For taking a partition over, for the newest window of all stations, and for pruning.
pub(super) const INDEX: (&str, &str, &str) =
    ("weather_station_partial_window", "weather_station_partial", "(window_start, partition)");

/// Names of stations are any text, which only this encoding can hold.
pub(super) async fn check_encoding(session: &Session) -> Result<(), SetupError> {
    let row = session.call(session.client.query_one("SHOW server_encoding", &[])).await?;
    match row.try_get::<_, &str>(0).map_err(|e| SetupError::Failed(e.into()))? {
        "UTF8" => Ok(()),
        other => Err(Error::usage(format!(
            "--by station needs a database in the encoding UTF8, as a station's name may be any text; this one is in \
             {other}: give another database, or leave --by station out"
        ))
        .into()),
    }
}
