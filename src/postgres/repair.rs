//! Restores rows of `weather_summary` that differ from `weather_partial` because they were changed or deleted.
//!
//! A flush changes partials and rows together, so if one statement sees them differ, something else changed them. Each
//! check is bounded: a portion of windows at a time, the newest at each new connection, older ones now and then. So
//! neither time nor memory grows with the history.

use std::time::SystemTime;

use tokio_postgres::types::ToSql;

use crate::postgres::failure::Failure;
use crate::postgres::session::Session;
use crate::postgres::write::{LOCK_ROWS, MAKE_ROWS, RECOMPUTE, adopted, averages, extreme};

/// Windows that are checked at once.
const PORTION: i64 = 1_000;

const COMPARE: &str = concat!(
    "SELECT t.window_start, (s.reading_count, s.avg_temp, s.avg_humidity, s.avg_wind_speed, s.min_temp, s.max_temp,
        s.min_humidity, s.max_humidity, s.max_wind_speed)
    IS DISTINCT FROM (t.reading_count, t.avg_temp, t.avg_humidity, t.avg_wind_speed, t.min_temp, t.max_temp,
        t.min_humidity, t.max_humidity, t.max_wind_speed)
    AND (s.reading_count IS NULL OR NOT ",
    adopted!(),
    ")
FROM (",
    averages!(),
    " AND window_start < coalesce($3, 'infinity'::timestamp) GROUP BY window_start ORDER BY window_start DESC LIMIT $4) t
LEFT JOIN weather_summary s
    ON s.window_start = t.window_start AND s.window_end = t.window_start + $2 * interval '1 millisecond'
ORDER BY t.window_start"
);

/// What checking a portion found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repaired {
    /// Rows that were restored.
    pub windows: usize,
    /// Where the next portion ends; None after the oldest window.
    pub next: Option<SystemTime>,
}

impl Repaired {
    /// Logs that others changed rows.
    pub fn log(&self) {
        if self.windows > 0 {
            crate::warn!("rows of weather_summary were changed or deleted by others; restored from weather_partial",
                "windows" => self.windows);
        }
    }
}

/// Checks the newest windows before a time, or the newest of all.
pub async fn repair(
    session: &Session,
    topic: &str,
    window_ms: i64,
    before: Option<SystemTime>,
) -> Result<Repaired, Failure> {
    let (client, window_ms) = (&session.client, window_ms as f64);
    let parameters: [&(dyn ToSql + Sync); 4] = [&topic, &window_ms, &before, &PORTION];
    let rows = session.call(client.query(COMPARE, &parameters)).await?;
    let full = rows.len() as i64 == PORTION;
    let next = rows.first().filter(|_| full).map(|row| row.try_get(0)).transpose()?;
    let mut differing: Vec<SystemTime> = Vec::new();
    for row in &rows {
        if row.try_get(1)? {
            differing.push(row.try_get(0)?);
        }
    }
    if !differing.is_empty() {
        set_right(session, topic, window_ms, &differing).await?;
    }
    Ok(Repaired { windows: differing.len(), next })
}

async fn set_right(
    session: &Session,
    topic: &str,
    window_ms: f64,
    windows: &[SystemTime],
) -> Result<(), Failure> {
    let client = &session.client;
    let statements = async {
        client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        client.execute(MAKE_ROWS, &[&windows, &window_ms]).await?;
        client.execute(LOCK_ROWS, &[&windows]).await?;
        client.execute(RECOMPUTE, &[&topic, &windows, &window_ms]).await?;
        client.batch_execute("COMMIT").await
    };
    session.call(statements).await
}
