//! `weather_partial`: what a partition has taken into a window, as columns and back.
//!
//! Extremes, digest and offsets are NULL where they are not known of all readings of the window: it was begun by a version
//! that did not keep them. An extreme is NULL, too, where no reading had the metric.

use std::time::SystemTime;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::engine::flush_plan::PartitionFlush;
use crate::engine::window::{METRICS, Totals, Window};
use crate::postgres::failure::Failure;
use crate::time::{from_timestamp, timestamp};

/// What the tables have of a window and of a station in it: counts, sums and extremes.
macro_rules! total_columns {
    () => {
        "reading_count, temp_count, humidity_count, wind_speed_count, temp_sum, humidity_sum, wind_speed_sum,
    min_temp, min_humidity, min_wind_speed, max_temp, max_humidity, max_wind_speed"
    };
}

/// These overwritten, in a statement's `DO UPDATE SET`.
macro_rules! overwrite_totals {
    () => {
        "reading_count = EXCLUDED.reading_count,
    temp_count = EXCLUDED.temp_count, humidity_count = EXCLUDED.humidity_count,
    wind_speed_count = EXCLUDED.wind_speed_count, temp_sum = EXCLUDED.temp_sum,
    humidity_sum = EXCLUDED.humidity_sum, wind_speed_sum = EXCLUDED.wind_speed_sum,
    min_temp = EXCLUDED.min_temp, min_humidity = EXCLUDED.min_humidity, min_wind_speed = EXCLUDED.min_wind_speed,
    max_temp = EXCLUDED.max_temp, max_humidity = EXCLUDED.max_humidity, max_wind_speed = EXCLUDED.max_wind_speed"
    };
}

/// Stores absolute totals: overwritten, never added.
pub(super) const STORE: &str = concat!(
    "INSERT INTO weather_partial (topic, window_start, partition, ",
    total_columns!(),
    ", digest, incarnation, first_offset, last_offset)
SELECT $1, w.* FROM unnest($2::timestamp[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
    $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[]) AS w
ON CONFLICT (topic, window_start, partition) DO UPDATE SET ",
    overwrite_totals!(),
    ", digest = EXCLUDED.digest, incarnation = EXCLUDED.incarnation, first_offset = EXCLUDED.first_offset,
    last_offset = EXCLUDED.last_offset"
);

/// The columns that [`window_of`] reads, of a table that is called `w`.
macro_rules! partial_columns {
    () => {
        concat!(
            "w.window_start, ",
            $crate::postgres::partials::total_columns!(),
            ", digest, w.incarnation, first_offset, last_offset"
        )
    };
}

pub(super) use {overwrite_totals, partial_columns, total_columns};

/// The windows of partition `$2` of topic `$1` that begin after `$3`.
pub(super) const OPEN_WINDOWS: &str = concat!(
    "SELECT ",
    partial_columns!(),
    " FROM weather_partial w WHERE topic = $1 AND partition = $2 AND window_start > $3 ORDER BY window_start"
);

/// Columns that are never NULL: readings, counts and sums.
const NUMBERS: usize = 1 + 2 * METRICS;
/// Columns that may be: least and greatest values, digest, incarnation and offsets.
const DETAILS: usize = 2 * METRICS + 4;

/// The table's columns, an array each.
pub(super) struct PartialColumns {
    window_start: Vec<SystemTime>,
    partition: Vec<i32>,
    numbers: [Vec<i64>; NUMBERS],
    details: [Vec<Option<i64>>; DETAILS],
}

impl PartialColumns {
    pub(super) fn of(partitions: &[PartitionFlush]) -> Self {
        Self::of_rows(partitions.iter().flat_map(|p| p.windows.iter().map(|w| (p.partition, w))))
    }

    pub(super) fn of_rows<'a>(rows: impl Iterator<Item = (i32, &'a Window)>) -> Self {
        let rows: Vec<(i32, &Window)> = rows.collect();
        let words: Vec<_> = rows.iter().map(|(_, w)| w.totals.to_words()).collect();
        Self {
            window_start: rows.iter().map(|(_, w)| timestamp(w.start_ms)).collect(),
            partition: rows.iter().map(|(p, _)| *p).collect(),
            numbers: std::array::from_fn(|i| words.iter().map(|words| words[i]).collect()),
            details: std::array::from_fn(|i| rows.iter().map(|(_, w)| detail(&w.totals, i)).collect()),
        }
    }

    pub(super) fn parameters<'a>(&'a self, topic: &'a String) -> Vec<&'a (dyn ToSql + Sync)> {
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![topic, &self.window_start, &self.partition];
        parameters.extend(self.numbers.iter().map(|column| column as &(dyn ToSql + Sync)));
        parameters.extend(self.details.iter().map(|column| column as &(dyn ToSql + Sync)));
        parameters
    }
}

fn detail(totals: &Totals, column: usize) -> Option<i64> {
    match column {
        i if i < METRICS => totals.least(i),
        i if i < 2 * METRICS => totals.greatest(i - METRICS),
        i => totals.is_traced().then(|| {
            [totals.digest.cast_signed(), totals.incarnation, totals.first_offset, totals.last_offset]
                [i - 2 * METRICS]
        }),
    }
}

/// A row that begins with these columns.
pub(super) fn window_of(row: &Row) -> Result<Window, Failure> {
    let start_ms = from_timestamp(row.try_get(0)?);
    let mut numbers = [0; NUMBERS];
    for (i, number) in numbers.iter_mut().enumerate() {
        *number = row.try_get(1 + i)?;
    }
    let mut details: [Option<i64>; DETAILS] = [None; DETAILS];
    for (i, detail) in details.iter_mut().enumerate() {
        *detail = row.try_get(1 + NUMBERS + i)?;
    }
    let mut totals = Totals::from_first_words(&numbers);
    let [.., digest, incarnation, first_offset, last_offset] = details;
    if let Some(digest) = digest {
        totals.untraced = 0;
        totals.digest = digest.cast_unsigned();
        totals.incarnation = incarnation.unwrap_or(0);
        totals.first_offset = first_offset.unwrap_or(0);
        totals.last_offset = last_offset.unwrap_or(0);
        for i in 0..METRICS {
            totals.minima[i] = details[i].unwrap_or(i64::MAX);
            totals.maxima[i] = details[METRICS + i].unwrap_or(i64::MIN);
        }
    }
    Ok(Window { start_ms, totals })
}
