//! The reading format, read a second time: by its definition, with chrono's calendar instead of the product's.

use super::Totals;
use rskafka::chrono::{DateTime, NaiveDate, NaiveDateTime};
use simd_json::{Node, StaticNode};
use std::collections::BTreeMap;

/// The metrics with their physical ranges, both ends allowed. Humidity above 100 counts as that.
pub const METRICS: [(&str, f64, f64); 3] =
    [("temperature", -90.0, 60.0), ("humidity", 0.0, 105.0), ("wind_speed", 0.0, 150.0)];

/// The longest value that a reading may have.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// The last millisecond of the year 9999.
const EVENT_TIME_MAX_MS: i64 = 253_402_300_799_999;

/// A reading that was not refused.
pub struct Reading {
    /// Milliseconds since 1970, never negative.
    pub event_time_ms: i64,
    /// In the order of [`METRICS`].
    pub metrics: [Option<f64>; 3],
    /// Text, or a whole number as text.
    pub station: Option<String>,
}

impl Reading {
    /// What it adds to its window.
    pub fn totals(&self) -> Totals {
        Totals {
            readings: 1,
            counts: self.metrics.map(|metric| i64::from(metric.is_some())),
            sums: self.metrics.map(Option::unwrap_or_default),
            extremes: self.metrics.map(|metric| metric.map(|value| (value, value))),
            without_extremes: false,
        }
    }
}

/// The reading in a record's value, or the reason for refusing it: the first in the order of the checks here.
pub fn read(value: Option<&[u8]>) -> Result<Reading, &'static str> {
    let mut json = value.unwrap_or_default().to_vec();
    if json.len() > VALUE_BYTES_MAX {
        return Err("oversized");
    }
    let tape = simd_json::to_tape(&mut json).map_err(|_| "malformed")?;
    let fields = fields(&tape.0).ok_or("malformed")?;
    let event_time_ms = event_time_ms(fields.get("timestamp"))?;
    let mut metrics = [None; 3];
    for (metric, (name, min, max)) in metrics.iter_mut().zip(METRICS) {
        *metric = number(fields.get(name)).ok().flatten().filter(|number| min <= *number && *number <= max);
    }
    metrics[1] = metrics[1].map(|humidity| humidity.min(100.0));
    let event_time_ms = event_time_ms.ok_or("missing_timestamp")?;
    if !(0..=EVENT_TIME_MAX_MS).contains(&event_time_ms) {
        return Err("malformed");
    }
    if metrics == [None; 3] {
        return Err("no_metric");
    }
    let station = match fields.get("station") {
        Some(Node::String(name)) => Some((*name).to_owned()),
        Some(Node::Static(StaticNode::U64(number))) => Some(number.to_string()),
        Some(Node::Static(StaticNode::I64(number))) => Some(number.to_string()),
        _ => None,
    };
    Ok(Reading { event_time_ms, metrics, station })
}

/// The fields of the top level; of a name that comes twice the last counts. `None`: not an object.
fn fields<'t, 'v>(tape: &'t [Node<'v>]) -> Option<BTreeMap<&'v str, &'t Node<'v>>> {
    let Some(Node::Object { .. }) = tape.first() else { return None };
    let mut fields = BTreeMap::new();
    let mut at = 1;
    while let (Some(Node::String(name)), Some(value)) = (tape.get(at), tape.get(at + 1)) {
        fields.insert(*name, value);
        at += 2;
        if let Node::Object { count, .. } | Node::Array { count, .. } = value {
            at += count; // over the parts of a nested value
        }
    }
    Some(fields)
}

fn number(node: Option<&&Node<'_>>) -> Result<Option<f64>, &'static str> {
    match node {
        None | Some(Node::Static(StaticNode::Null) | Node::Object { .. } | Node::Array { .. }) => Ok(None),
        Some(Node::Static(StaticNode::F64(number))) => Ok(Some(*number)),
        Some(Node::Static(StaticNode::I64(number))) => Ok(Some(*number as f64)),
        Some(Node::Static(StaticNode::U64(number))) => Ok(Some(*number as f64)),
        Some(_) => Err("malformed"),
    }
}

fn event_time_ms(node: Option<&&Node<'_>>) -> Result<Option<i64>, &'static str> {
    match node {
        Some(Node::Static(StaticNode::I64(epoch))) => Ok(Some(epoch_ms(i128::from(*epoch)))),
        Some(Node::Static(StaticNode::U64(epoch))) => Ok(Some(epoch_ms(i128::from(*epoch)))),
        Some(Node::String(text)) => text_ms(text.trim()).map(Some).ok_or("malformed"),
        node => Ok(number(node)?.map(epoch_float_ms)),
    }
}

/// Epoch time in the unit that its magnitude tells, cut to milliseconds.
fn epoch_ms(epoch: i128) -> i64 {
    let magnitude = epoch.abs();
    let nanoseconds = match magnitude {
        0..100_000_000_000 => epoch * 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => epoch * 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => epoch * 1_000,
        _ => epoch,
    };
    i64::try_from(nanoseconds.div_euclid(1_000_000)).expect("less than 2^64 nanoseconds")
}

/// The same for a number with a fraction. A double holds today's seconds to about a quarter of a microsecond, so seconds
/// count to the microsecond.
fn epoch_float_ms(epoch: f64) -> i64 {
    if epoch.abs() < 1e11 {
        ((epoch * 1e6).round() as i64).div_euclid(1_000)
    } else if epoch.abs() < 1e14 {
        epoch.floor() as i64
    } else if epoch.abs() < 1e17 {
        (epoch / 1e3).floor() as i64
    } else {
        (epoch / 1e6).floor() as i64
    }
}

/// ISO 8601 with `T` or a space, with or without an offset (then UTC), to the minute or finer; a date alone; or a number.
fn text_ms(text: &str) -> Option<i64> {
    let text = text.replacen(' ', "T", 1).replace(',', ".");
    for format in ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z"] {
        // Chrono knows `Z` only in upper case, and only as RFC 3339 or as an offset.
        let with_offset = text.to_uppercase().replace('Z', "+00:00");
        if let Ok(time) = DateTime::parse_from_str(&with_offset, format) {
            return Some(time.timestamp_millis());
        }
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(&text.to_uppercase(), format) {
            return Some(time.and_utc().timestamp_millis());
        }
    }
    if let Ok(date) = NaiveDate::parse_from_str(&text, "%Y-%m-%d") {
        return Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis());
    }
    let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_digit());
    match text.parse::<i64>() {
        Ok(epoch) if is_number => Some(epoch_ms(i128::from(epoch))),
        _ => text.parse::<f64>().ok().filter(|epoch| is_number && epoch.is_finite()).map(epoch_float_ms),
    }
}
