//! The reading format: the bytes of one record's value → [`Reading`], or the [`Reason`] for refusing it.
//!
//! A reading is one JSON object with its time and at least one of temperature, humidity and wind speed, under names and
//! in units that a [`Format`] knows. This folder's README lists the default names, and what to do about others.
//!
//! ```text
//! bytes ─▶ shape: the bytes between the values are those of a record before? read the values in place
//!            │ no                                                                                │
//!            ▼                                                                                   ▼
//!          simd-json ─▶ search (one walk finds all fields) ─▶ plan (which of them count) ─▶ number, timestamp, units
//! ```
//!
//! Both ways end in the same functions: one place where a number becomes fixed point (`number`), one where text
//! becomes time ([`timestamp`], [`zone`]), one that judges a metric (`format::MetricRange`). simd-json's result is the
//! definition; that the shape agrees with it is what the differential fuzz is for.
//!
//! Invariants:
//! - The result depends on the value's bytes alone, never on what was parsed before.
//! - Metrics are independent: one that is absent, null, not a number or out of range is left out, with the [`Cause`]; the
//!   others count.
//! - No input makes it panic, recurse without limit or keep memory, and nothing is allocated per record.
//! - An accepted reading has its event time within 1970 to 9999, at least one metric, and each of them within its
//!   physical range, so sums of 1e-6 units in `i64` have room for 1e10 readings a window.
//!
//! Absent on purpose: `future`, `late` and `oversized` need a clock, a watermark and a limit; [`engine`](crate::engine)
//! decides them.

pub mod explain;
mod fields;
pub mod format;
mod json;
mod names;
mod number;
mod parser;
mod path;
mod plan;
mod record_reader;
mod search;
mod shape;
pub mod timestamp;
pub mod units;
mod words;
pub mod zone;

#[cfg(test)]
mod forms;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

pub use fields::{FieldRule, fields, missing_values, output_units};
pub use format::{Format, FormatSettings, MissingTimestamp};
pub use parser::{Parser, StationName};
pub use units::Unit;
pub use zone::Zone;

/// Units of a fixed-point metric in one of its physical unit: values are stored in steps of 1e-6.
pub const SCALE: i64 = 1_000_000;

/// One measurement of one station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// When it was taken, in milliseconds since 1970-01-01T00:00:00Z; never negative.
    pub event_time_ms: i64,
    /// What was measured, indexed by [`Metric`], in steps of 1e-6 ([`SCALE`]) of the format's output unit.
    ///
    /// Each is within 1e-6 of what was sent, so an average of any count of them is, too.
    pub metrics: [Option<i64>; 3],
    /// Why those that are `None` are.
    pub left_out: [Option<Cause>; 3],
}

impl Reading {
    /// Nothing was measured: the value to read into.
    pub const EMPTY: Self = Self { event_time_ms: 0, metrics: [None; 3], left_out: [None; 3] };
}

/// Why a metric of a reading does not count. Of several fields that a metric may come in, the most informative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The record has no field for it.
    Absent,
    /// Null, `NaN`, an empty text or a value that stands for a missing one.
    Null,
    /// Text that is not a number, an object, or a number in a unit that is not known.
    NotANumber,
    /// The value is physically impossible.
    OutOfRange,
}

impl Cause {
    /// Every cause, in the order of its index.
    pub const ALL: [Cause; 4] = [Cause::Absent, Cause::Null, Cause::NotANumber, Cause::OutOfRange];

    /// The name in tables, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Absent => "absent",
            Cause::Null => "null",
            Cause::NotANumber => "not_a_number",
            Cause::OutOfRange => "out_of_range",
        }
    }

    /// Its place in [`Cause::ALL`] and in arrays of counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What a reading can measure; the number is the index in every array of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Metric {
    /// Air temperature.
    Temperature = 0,
    /// Relative humidity.
    Humidity = 1,
    /// Wind speed.
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

    /// The minimum and maximum that a station can measure, both allowed, in fixed point of °C, % and m/s.
    ///
    /// Colder than −89.2 °C was never measured, and many stations send −99 or −99.9 for no value.
    /// Humidity sensors show a little more than 100 % when they are wet.
    pub const fn range(self) -> (i64, i64) {
        match self {
            Metric::Temperature => (-90 * SCALE, 60 * SCALE),
            Metric::Humidity => (0, 105 * SCALE),
            Metric::WindSpeed => (0, 150 * SCALE),
        }
    }

    /// Its place in arrays of metrics.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Why a record is a dead letter. If several apply to one value, the first in this order is reported; what is oversized is
/// not looked into at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Not JSON, not an object or a list of readings, or its time is unreadable, before 1970 or after the year 9999.
    Malformed,
    /// No field that is known as a time, or it is null.
    MissingTimestamp,
    /// No usable metric.
    NoMetric,
    /// No longer used; tables and checkpoints of version 0.1 have it.
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
