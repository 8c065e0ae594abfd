//! What the tables say, read to be compared with the topic: in portions, and without holding anything up.
//!
//! The states and the windows that were open are read in one short snapshot. What was closed at a state does not change
//! any more, so it is read later, portion by portion, while the pipeline goes on. The rows of the output are compared
//! with the partials that they are made of, by the very sums that make them, also in portions: a flush changes both at
//! once, so one statement always sees them agree.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::config::Between;
use crate::engine::state::{LogIdentity, Position, Progress};
use crate::engine::stations::Stations;
use crate::engine::verification::dead_letters::StoredDeadLetter;
use crate::engine::window::{METRICS, Window};
use crate::postgres::failure::Failure;
use crate::postgres::overview;
use crate::postgres::partials::{partial_columns, window_of};
use crate::postgres::session::Session;
use crate::postgres::station_evidence;
use crate::postgres::write::{adopted, averages, extreme};
use crate::reading::Reason;
use crate::time::{from_timestamp, timestamp};

/// Windows read in one go.
const WINDOWS: i64 = 1_000;
/// Dead letters read in one go: with their payloads, up to 1 MiB.
const DEAD_LETTERS: i64 = 250;

/// A partition in the snapshot.
#[derive(Debug)]
pub struct StoredPartition {
    /// Which.
    pub partition: i32,
    /// Its state's numbers; None while nothing was flushed, or where its row is gone.
    pub progress: Option<Progress>,
    /// The log that they are of.
    pub log: LogIdentity,
    /// Windows that its watermark has not closed.
    pub open: Vec<Window>,
    /// Their stations, where these are kept apart.
    pub open_stations: Option<Stations>,
    /// Rows of windows, open and closed.
    pub windows: i64,
    /// The earliest window that says that its first reading is at the `earliest` offset or behind it, ms since 1970.
    pub sure_from_ms: Option<i64>,
    /// Dead letters that came from the future, of this log.
    pub futures: i64,
}

const PARTIALS: &str = "\
SELECT w.partition, count(*), min(w.window_start) FILTER (WHERE (w.incarnation, w.first_offset) >=
    (p.incarnation, e.earliest)) FROM weather_partial w
LEFT JOIN weather_partition p ON p.topic = w.topic AND p.partition = w.partition
LEFT JOIN unnest($2::int[], $3::bigint[]) AS e(partition, earliest) ON e.partition = w.partition
WHERE w.topic = $1 AND w.partition >= 0 GROUP BY w.partition";

const FUTURES: &str = "\
SELECT l.partition, count(*) FROM weather_dead_letter l
JOIN weather_partition p ON (p.topic, p.partition, p.incarnation) = (l.topic, l.partition, l.incarnation)
WHERE l.topic = $1 AND l.reason = 'future' AND l.\"offset\" < p.next_offset GROUP BY l.partition";

const OPEN_WINDOWS: &str = concat!(
    "SELECT ",
    partial_columns!(),
    ", w.partition FROM weather_partial w JOIN weather_partition p USING (topic, partition)
WHERE w.topic = $1 AND w.window_start >
    coalesce(p.watermark - $2 * interval '1 millisecond', '-infinity'::timestamp)
ORDER BY w.partition, w.window_start"
);

const CLOSED_WINDOWS: &str = concat!(
    "SELECT ",
    partial_columns!(),
    " FROM weather_partial w WHERE topic = $1 AND partition = $2
    AND window_start > coalesce($3, '-infinity'::timestamp) AND window_start <= coalesce($4, 'infinity'::timestamp)
ORDER BY window_start LIMIT $5"
);

const STORED_DEAD_LETTERS: &str = "\
SELECT \"offset\", reason, payload, payload_bytes FROM weather_dead_letter
WHERE topic = $1 AND partition = $2 AND incarnation = $3 AND \"offset\" >= $4 AND \"offset\" < $5
ORDER BY \"offset\" LIMIT $6";

const DEAD_LETTER_BYTES: &str = "\
SELECT coalesce(sum(100 + coalesce(pg_column_size(payload), 0)), 0)::bigint FROM weather_dead_letter";

/// Rows of the output beside what their partials come to.
const OUTPUT: &str = concat!(
    "WITH keys AS (SELECT window_start FROM (
    (SELECT DISTINCT window_start FROM weather_partial WHERE topic = $1 AND window_start >= coalesce($3, '-infinity'::timestamp)
        AND window_start < coalesce($4, 'infinity'::timestamp) ORDER BY window_start LIMIT $5)
    UNION (SELECT DISTINCT window_start FROM weather_summary WHERE window_start >= coalesce($3, '-infinity'::timestamp)
        AND window_start < coalesce($4, 'infinity'::timestamp) ORDER BY window_start LIMIT $5)) AS found
    ORDER BY window_start LIMIT $5)
SELECT k.window_start, s.reading_count, t.reading_count, s.avg_temp, t.avg_temp, s.avg_humidity, t.avg_humidity,
    s.avg_wind_speed, t.avg_wind_speed, s.min_temp, t.min_temp, s.max_temp, t.max_temp, s.min_humidity, t.min_humidity,
    s.max_humidity, t.max_humidity, s.max_wind_speed, t.max_wind_speed, coalesce(",
    adopted!(),
    ", false), s.window_end IS NULL OR s.window_end = k.window_start + $2 * interval '1 millisecond'
FROM keys k LEFT JOIN (",
    averages!(),
    " AND window_start IN (SELECT window_start FROM keys) GROUP BY window_start) t USING (window_start)
LEFT JOIN weather_summary s ON s.window_start = k.window_start ORDER BY k.window_start"
);

/// Values of a row of the output, in the order of [`OUTPUT`].
const OUTPUT_VALUES: [&str; 8] = [
    "avg_temp",
    "avg_humidity",
    "avg_wind_speed",
    "min_temp",
    "max_temp",
    "min_humidity",
    "max_humidity",
    "max_wind_speed",
];

/// A row of the output that is not what its partials come to.
#[derive(Debug, Clone, PartialEq)]
pub struct WrongRow {
    /// The window, ms since 1970.
    pub start_ms: i64,
    /// What is wrong with it.
    pub what: String,
}

/// Looks at all partitions at one moment; `earliest` are the first offsets that Kafka has.
pub async fn partitions(
    session: &Session,
    topic: &str,
    window_ms: i64,
    earliest: &BTreeMap<i32, i64>,
) -> Result<Vec<StoredPartition>, Failure> {
    let client = &session.client;
    let begin =
        "BEGIN TRANSACTION READ ONLY, ISOLATION LEVEL REPEATABLE READ; SET LOCAL statement_timeout = 0";
    session.call(client.batch_execute(begin)).await?;
    let mut found: BTreeMap<i32, StoredPartition> = BTreeMap::new();
    for row in overview::partitions(session, topic).await? {
        let stored = StoredPartition { progress: row.progress, log: row.log, ..unknown(row.partition) };
        found.insert(row.partition, stored);
    }
    let window_ms = window_ms as f64;
    for row in session.call_for_long(client.query(OPEN_WINDOWS, &[&topic, &window_ms])).await? {
        let partition = row.try_get("partition")?;
        found.entry(partition).or_insert_with(|| unknown(partition)).open.push(window_of(&row)?);
    }
    let (numbers, offsets): (Vec<i32>, Vec<i64>) = earliest.iter().map(|(p, o)| (*p, *o)).unzip();
    for row in session.call_for_long(client.query(PARTIALS, &[&topic, &numbers, &offsets])).await? {
        let partition = row.try_get(0)?;
        let stored = found.entry(partition).or_insert_with(|| unknown(partition));
        stored.windows = row.try_get(1)?;
        stored.sure_from_ms = row.try_get::<_, Option<SystemTime>>(2)?.map(from_timestamp);
    }
    for row in session.call_for_long(client.query(FUTURES, &[&topic])).await? {
        let partition = row.try_get(0)?;
        found.entry(partition).or_insert_with(|| unknown(partition)).futures = row.try_get(1)?;
    }
    let stations = station_evidence::open_windows(session, topic, window_ms).await?;
    session.call(client.batch_execute("ROLLBACK")).await?;
    if let Some(mut stations) = stations {
        for stored in found.values_mut() {
            stored.open_stations = Some(stations.remove(&stored.partition).unwrap_or_default());
        }
    }
    Ok(found.into_values().collect())
}

fn unknown(partition: i32) -> StoredPartition {
    StoredPartition {
        partition,
        progress: None,
        log: LogIdentity::UNKNOWN,
        open: Vec::new(),
        open_stations: None,
        windows: 0,
        sure_from_ms: None,
        futures: 0,
    }
}

/// A portion of a partition's windows that begin after `after_ms`, up to `to_ms`, both ms since 1970, and whether it is
/// the last.
pub async fn windows(
    session: &Session,
    topic: &str,
    partition: i32,
    after_ms: Option<i64>,
    to_ms: Option<i64>,
) -> Result<(Vec<Window>, bool), Failure> {
    let (after, to) = (after_ms.map(timestamp), to_ms.map(timestamp));
    let parameters: [&(dyn ToSql + Sync); 5] = [&topic, &partition, &after, &to, &WINDOWS];
    let rows = session.call(session.client.query(CLOSED_WINDOWS, &parameters)).await?;
    let windows: Vec<Window> = rows.iter().map(window_of).collect::<Result<_, _>>()?;
    let is_last = (windows.len() as i64) < WINDOWS;
    Ok((windows, is_last))
}

/// A portion of a partition's dead letters from an offset on, up to before `end`, and whether it is the last.
pub async fn dead_letters(
    session: &Session,
    topic: &str,
    partition: i32,
    from: Position,
    end: i64,
) -> Result<(Vec<StoredDeadLetter>, bool), Failure> {
    let parameters: [&(dyn ToSql + Sync); 6] =
        [&topic, &partition, &from.incarnation, &from.offset, &end, &DEAD_LETTERS];
    let rows = session.call(session.client.query(STORED_DEAD_LETTERS, &parameters)).await?;
    let dead_letters: Vec<StoredDeadLetter> = rows.iter().map(dead_letter_of).collect::<Result<_, _>>()?;
    let is_last = (dead_letters.len() as i64) < DEAD_LETTERS;
    Ok((dead_letters, is_last))
}

fn dead_letter_of(row: &Row) -> Result<StoredDeadLetter, Failure> {
    let reason: &str = row.try_get(1)?;
    Ok(StoredDeadLetter {
        offset: row.try_get(0)?,
        reason: Reason::ALL.into_iter().find(|known| known.as_str() == reason),
        payload: row.try_get(2)?,
        payload_bytes: row.try_get(3)?,
    })
}

/// What all dead letters take in the table, in bytes, as it is measured when the oldest are deleted for want of room.
pub async fn dead_letter_bytes(session: &Session) -> Result<i64, Failure> {
    let row = session.call_for_long(session.client.query_one(DEAD_LETTER_BYTES, &[])).await?;
    Ok(row.try_get(0)?)
}

/// Compares a portion of the output with the partials: how many windows, what is wrong, and where the next portion
/// begins, if any is left.
pub async fn output(
    session: &Session,
    topic: &str,
    window_ms: i64,
    between: Between,
) -> Result<(usize, Vec<WrongRow>, Option<i64>), Failure> {
    let window_ms = window_ms as f64;
    let (from, to) = (between.from_ms.map(timestamp), between.to_ms.map(timestamp));
    let parameters: [&(dyn ToSql + Sync); 5] = [&topic, &window_ms, &from, &to, &WINDOWS];
    let rows = session.call(session.client.query(OUTPUT, &parameters)).await?;
    let starts = rows.iter().map(|row| Ok(from_timestamp(row.try_get(0)?)));
    let mut starts: Vec<i64> = starts.collect::<Result<_, Failure>>()?;
    starts.dedup();
    let next = starts.last().filter(|_| starts.len() as i64 >= WINDOWS).map(|last| last + 1);
    let mut wrong = Vec::new();
    for row in &rows {
        if let Some(what) = wrong_row(row)? {
            wrong.push(WrongRow { start_ms: from_timestamp(row.try_get(0)?), what });
        }
    }
    Ok((starts.len(), wrong, next))
}

/// What is wrong with a row of [`OUTPUT`].
fn wrong_row(row: &Row) -> Result<Option<String>, Failure> {
    let (found, expected): (Option<i64>, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
    let (is_adopted, has_right_end): (bool, bool) = (row.try_get(19)?, row.try_get(20)?);
    let what = match (found, expected) {
        _ if is_adopted => return Ok(None),
        (Some(0), None) => return Ok(None),
        (None, _) => "weather_summary has no row of it".to_owned(),
        (Some(_), None) => "weather_summary has a row of it that no partition explains".to_owned(),
        _ if !has_right_end => "the row of weather_summary does not end where its window ends".to_owned(),
        (Some(found), Some(expected)) if found != expected => {
            format!("reading_count in weather_summary is {found}, {expected} by weather_partial")
        }
        _ => {
            for (i, name) in OUTPUT_VALUES.iter().enumerate() {
                let (found, expected): (Option<f64>, Option<f64>) =
                    (row.try_get(3 + 2 * i)?, row.try_get(4 + 2 * i)?);
                if found.map(f64::to_bits) != expected.map(f64::to_bits) {
                    let text = |value: Option<f64>| value.map_or("null".to_owned(), |v| v.to_string());
                    let (found, expected) = (text(found), text(expected));
                    return Ok(Some(format!(
                        "{name} in weather_summary is {found}, {expected} by weather_partial"
                    )));
                }
            }
            return Ok(None);
        }
    };
    Ok(Some(what))
}

const _: () = assert!(OUTPUT_VALUES.len() == 2 * METRICS + 2);
