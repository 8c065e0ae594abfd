//! The reading format: the bytes of one record's value → [`Reading`], or the [`Reason`] for refusing it.
//!
//! A reading is one flat JSON object: `station` (or `city`, `location`), `timestamp`, `temperature` in °C,
//! `humidity` in %, `wind_speed` in m/s. A metric may be null or missing, though not all three; other fields
//! are ignored, whatever they hold; of a key that comes twice the last counts. How timestamps are read is in
//! [`timestamp`].
//!
//! This is the hot path of the whole system. simd-json parses in place into buffers and a tape that live as
//! long as the [`Parser`]; the walk over the tape keeps references, so a record costs no allocation and
//! nearly nothing beyond simd-json's own work (about 150 ns for 100 bytes). Its serde interface took a third
//! more and allocated twice.
//!
//! Invariants:
//! - A value decides alone: the result depends on its bytes, never on what was parsed before.
//! - No input makes it panic, recurse without end (simd-json iterates, and refuses nesting beyond 1024) or
//!   keep memory: what a huge value made the buffers grow to is given back before `parse` returns. While it
//!   is parsed it may take 35 bytes for each of its own.
//! - An accepted reading has its event time within 1970 to 9999, at least one metric, and each of them within
//!   its physical range, so sums of 1e-6 units in `i64` have room for 6e10 readings a window.
//!
//! simd-json's limits are the format's: an integer beyond 64 bits or a float beyond `f64`, in whatever field,
//! is malformed, as is a byte order mark. Absent on purpose: `future`, `late` and `oversized` need a clock, a
//! watermark and a limit; who has these decides.

pub mod timestamp;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use simd_json::{Buffers, Node, StaticNode, Tape};

/// Units of a fixed-point metric in one of its physical unit: values are stored in steps of 1e-6.
pub const SCALE: i64 = 1_000_000;

/// After a longer value the buffers are dropped and begin small again.
const KEPT_VALUE_BYTES: usize = 16 * 1024;
/// After a value with more brackets, commas, colons, strings and scalars than this, too.
const KEPT_STRUCTURALS: usize = 4 * 1024;

/// One measurement of one station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// When it was taken, in milliseconds since 1970-01-01T00:00:00Z; never negative.
    pub event_time_ms: i64,
    /// What was measured, indexed by [`Metric`], in units of 1e-6 ([`SCALE`]), rounded half away from zero.
    ///
    /// Each is within 5e-7 of the number that was sent, so an average of any count of them is, too.
    pub metrics: [Option<i64>; 3],
}

/// What a reading can measure; the number is the index in every array of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Metric {
    /// Air temperature in °C.
    Temperature = 0,
    /// Relative humidity in %.
    Humidity = 1,
    /// Wind speed in m/s.
    WindSpeed = 2,
}

impl Metric {
    /// Every metric, in the order of its index.
    pub const ALL: [Metric; 3] = [Metric::Temperature, Metric::Humidity, Metric::WindSpeed];

    /// The metric's field in a reading.
    pub const fn as_str(self) -> &'static str {
        match self {
            Metric::Temperature => "temperature",
            Metric::Humidity => "humidity",
            Metric::WindSpeed => "wind_speed",
        }
    }

    /// The physical unit, as people write it.
    pub const fn unit(self) -> &'static str {
        match self {
            Metric::Temperature => "°C",
            Metric::Humidity => "%",
            Metric::WindSpeed => "m/s",
        }
    }

    /// The least and the greatest value that a station can have measured, both allowed.
    pub const fn range(self) -> (f64, f64) {
        match self {
            Metric::Temperature => (-100.0, 70.0),
            Metric::Humidity => (0.0, 100.0),
            Metric::WindSpeed => (0.0, 150.0),
        }
    }

    /// Its place in arrays of metrics.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Why a record is a dead letter. Of several reasons within one value, the first in this order is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Not JSON, not an object, or a field that we use is of another type or unreadable.
    Malformed,
    /// `timestamp` is missing or null.
    MissingTimestamp,
    /// All metrics are missing or null.
    NoMetric,
    /// A metric outside its physical range, or a time before 1970 or beyond the year 9999.
    OutOfRange,
    /// Too far ahead of the wall clock.
    Future,
    /// Its window had ended for the partition's watermark.
    Late,
    /// Larger than a record may be.
    Oversized,
}

impl Reason {
    /// Every reason, in the order of its index.
    pub const ALL: [Reason; 7] = [
        Reason::Malformed,
        Reason::MissingTimestamp,
        Reason::NoMetric,
        Reason::OutOfRange,
        Reason::Future,
        Reason::Late,
        Reason::Oversized,
    ];

    /// The name in tables, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::MissingTimestamp => "missing_timestamp",
            Reason::NoMetric => "no_metric",
            Reason::OutOfRange => "out_of_range",
            Reason::Future => "future",
            Reason::Late => "late",
            Reason::Oversized => "oversized",
        }
    }

    /// Its place in [`Reason::ALL`] and in arrays of counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Reads values one after the other, with buffers that it keeps. One for each task; it is not for sharing.
pub struct Parser {
    buffers: Buffers,
    /// Empty between calls: only its allocation is kept.
    tape: Tape<'static>,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl Parser {
    /// A parser with small buffers, which grow to what the readings need.
    pub fn new() -> Self {
        Self { buffers: Buffers::default(), tape: Tape(Vec::new()) }
    }

    /// Reads one record's value in place: strings with escapes are rewritten where they stand, so afterwards
    /// it may be JSON no more. A value without a backslash comes back as it was.
    ///
    /// # Errors
    /// The reason for refusing it: one of `Malformed`, `MissingTimestamp`, `NoMetric` and `OutOfRange`.
    pub fn parse(&mut self, value: &mut [u8]) -> Result<Reading, Reason> {
        self.read(value, |fields| fields.reading())
    }

    /// As [`Parser::parse`], and the station: the first of `station`, `city` and `location` that is a string.
    ///
    /// # Errors
    /// As [`Parser::parse`]; a station that is missing or no string is none.
    pub fn parse_with_station<'v>(
        &mut self,
        value: &'v mut [u8],
    ) -> Result<(Reading, Option<&'v str>), Reason> {
        self.read(value, |fields| Ok((fields.reading()?, fields.station())))
    }

    fn read<'v, T>(
        &mut self,
        value: &'v mut [u8],
        take: impl FnOnce(&Fields<'_, 'v>) -> Result<T, Reason>,
    ) -> Result<T, Reason> {
        let length = value.len();
        // The tape borrows the value while it is filled, and is handed on empty: so its allocation outlives
        // the borrow.
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let result = match simd_json::fill_tape(value, &mut self.buffers, &mut tape) {
            Ok(()) => Fields::find(&tape.0).and_then(|fields| take(&fields)),
            Err(_) => Err(Reason::Malformed),
        };
        if length > KEPT_VALUE_BYTES || self.buffers.structural_indexes().len() > KEPT_STRUCTURALS {
            *self = Self::new();
        } else {
            self.tape = tape.reset();
        }
        result
    }
}

/// The nodes of the fields that we use; a missing one is the same as null.
struct Fields<'t, 'v> {
    timestamp: &'t Node<'v>,
    metrics: [&'t Node<'v>; 3],
    /// `station`, `city`, `location`: in the order in which they are asked.
    stations: [&'t Node<'v>; 3],
}

impl<'t, 'v> Fields<'t, 'v> {
    /// Walks the top level of a tape: a header, then key, value, key, value, where a nested value is followed
    /// by its parts.
    fn find(tape: &'t [Node<'v>]) -> Result<Self, Reason> {
        const NULL: &Node<'static> = &Node::Static(StaticNode::Null);
        let mut fields = Self { timestamp: NULL, metrics: [NULL; 3], stations: [NULL; 3] };
        let [Node::Object { .. }, rest @ ..] = tape else { return Err(Reason::Malformed) };
        let mut rest = rest;
        while let [Node::String(key), value, tail @ ..] = rest {
            match *key {
                "timestamp" => fields.timestamp = value,
                "temperature" => fields.metrics[Metric::Temperature.index()] = value,
                "humidity" => fields.metrics[Metric::Humidity.index()] = value,
                "wind_speed" => fields.metrics[Metric::WindSpeed.index()] = value,
                "station" => fields.stations[0] = value,
                "city" => fields.stations[1] = value,
                "location" => fields.stations[2] = value,
                _ => {}
            }
            rest = match value {
                Node::Object { count, .. } | Node::Array { count, .. } => {
                    tail.get(*count..).unwrap_or_default()
                }
                _ => tail,
            };
        }
        Ok(fields)
    }

    /// Judges in the order of [`Reason`]: types first, then what is missing, then ranges.
    fn reading(&self) -> Result<Reading, Reason> {
        let event_time_ms = event_time(self.timestamp)?;
        let [temperature, humidity, wind_speed] = self.metrics;
        let metrics = [number(temperature)?, number(humidity)?, number(wind_speed)?];
        let event_time_ms = event_time_ms.ok_or(Reason::MissingTimestamp)?;
        if metrics.iter().all(Option::is_none) {
            return Err(Reason::NoMetric);
        }
        if !(0..=timestamp::MAX_MS).contains(&event_time_ms) {
            return Err(Reason::OutOfRange);
        }
        let mut reading = Reading { event_time_ms, metrics: [None; 3] };
        for ((metric, value), fixed) in Metric::ALL.iter().zip(metrics).zip(&mut reading.metrics) {
            *fixed = value.map(|value| fixed_point(*metric, value)).transpose()?;
        }
        Ok(reading)
    }

    fn station(&self) -> Option<&'v str> {
        self.stations.iter().find_map(|node| match node {
            Node::String(station) => Some(*station),
            _ => None,
        })
    }
}

/// Milliseconds since 1970, not yet judged; `None` for null.
fn event_time(node: &Node<'_>) -> Result<Option<i64>, Reason> {
    match *node {
        Node::Static(StaticNode::U64(epoch)) => Ok(Some(timestamp::from_unsigned(epoch))),
        Node::Static(StaticNode::I64(epoch)) => Ok(Some(timestamp::from_integer(epoch))),
        Node::Static(StaticNode::F64(epoch)) => Ok(Some(timestamp::from_float(epoch))),
        Node::String(text) => timestamp::from_text(text).map(Some).ok_or(Reason::Malformed),
        Node::Static(StaticNode::Null) => Ok(None),
        _ => Err(Reason::Malformed),
    }
}

/// A metric's number, not yet judged; `None` for null.
fn number(node: &Node<'_>) -> Result<Option<f64>, Reason> {
    match *node {
        Node::Static(StaticNode::F64(value)) => Ok(Some(value)),
        // Beyond 2^53 these lose digits, far outside of every range.
        Node::Static(StaticNode::U64(value)) => Ok(Some(value as f64)),
        Node::Static(StaticNode::I64(value)) => Ok(Some(value as f64)),
        Node::Static(StaticNode::Null) => Ok(None),
        _ => Err(Reason::Malformed),
    }
}

fn fixed_point(metric: Metric, value: f64) -> Result<i64, Reason> {
    let (min, max) = metric.range();
    // Judged as it was sent: 70.0000001 is outside, though it would round into the range.
    if !(min..=max).contains(&value) {
        return Err(Reason::OutOfRange);
    }
    Ok(round_half_away(value * SCALE as f64))
}

/// `value.round() as i64` for |value| < 2^62, written out: on the baseline CPU `round` is a call into the C
/// library.
fn round_half_away(value: f64) -> i64 {
    let whole = value as i64;
    let fraction = value - whole as f64;
    whole + i64::from(fraction >= 0.5) - i64::from(fraction <= -0.5)
}
