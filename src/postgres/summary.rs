//! Rows of `weather_summary`, as a flush returns them and as the dashboard reads them.

use std::time::SystemTime;

use tokio_postgres::Row;

use crate::engine::window::METRICS;
use crate::postgres::failure::Failure;
use crate::postgres::session::Session;
use crate::time::from_timestamp;

/// A row of `weather_summary` as it is now in the table.
#[derive(Debug, Clone, PartialEq)]
pub struct SummaryRow {
    /// First ms of the window, since 1970.
    pub start_ms: i64,
    /// First ms after the window.
    pub end_ms: i64,
    /// Averages in the order of `reading::Metric`; None where no reading had the metric.
    pub averages: [Option<f64>; METRICS],
    /// Readings in the window.
    pub reading_count: i64,
    /// Whether every partition has passed the window's end.
    pub is_final: bool,
}

/// A row with its extremes, in the order of `reading::Metric`; None where the table has none.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowRow {
    /// The row.
    pub summary: SummaryRow,
    /// The least value of each metric; of the wind speed none is kept.
    pub minima: [Option<f64>; METRICS],
    /// The greatest value of each metric.
    pub maxima: [Option<f64>; METRICS],
}

const NEWEST: &str = "\
SELECT window_start, window_end, avg_temp, avg_humidity, avg_wind_speed, reading_count, is_final,
    min_temp, min_humidity, max_temp, max_humidity, max_wind_speed FROM weather_summary
WHERE window_start IS NOT NULL AND window_end IS NOT NULL ORDER BY window_start DESC LIMIT $1";

impl SummaryRow {
    /// From the columns of this order: start, end, the three averages, the count, whether it is final.
    pub fn from_columns(row: &Row) -> Result<Self, Failure> {
        let (start, end): (SystemTime, SystemTime) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Self {
            start_ms: from_timestamp(start),
            end_ms: from_timestamp(end),
            averages: [row.try_get(2)?, row.try_get(3)?, row.try_get(4)?],
            reading_count: row.try_get(5)?,
            is_final: row.try_get(6)?,
        })
    }
}

/// The newest windows, ascending, at most `limit`.
pub async fn newest(session: &Session, limit: i64) -> Result<Vec<WindowRow>, Failure> {
    let rows = session.call(session.client.query(NEWEST, &[&limit])).await?;
    rows.iter().rev().map(window_of).collect()
}

fn window_of(row: &Row) -> Result<WindowRow, Failure> {
    Ok(WindowRow {
        summary: SummaryRow::from_columns(row)?,
        minima: [row.try_get(7)?, row.try_get(8)?, None],
        maxima: [row.try_get(9)?, row.try_get(10)?, row.try_get(11)?],
    })
}
