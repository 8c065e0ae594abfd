//! Units of what is measured, and the conversion from one to another.
//!
//! A value is a fixed-point number: steps of 1e-6 of its unit in an `i64`. Every unit here is an exact fraction of its
//! base unit (°C, %, m/s), so a conversion is one multiplication and one division of integers, rounded once, half away
//! from zero. Nothing is lost on the way that a float would lose, and two processes never disagree in the last digit.

use std::fmt;

use super::{Metric, SCALE};

/// Larger values are refused before they are converted: no measurement comes near, and below it no product overflows.
pub(super) const MAX_FIXED: i64 = 10_000 * SCALE;

/// The unit of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// °C.
    Celsius,
    /// °F.
    Fahrenheit,
    /// K.
    Kelvin,
    /// %.
    Percent,
    /// m/s.
    MetresPerSecond,
    /// km/h.
    KilometresPerHour,
    /// Miles per hour.
    MilesPerHour,
    /// Knots.
    Knots,
}

use Unit::{Celsius, Fahrenheit, Kelvin, KilometresPerHour, Knots, MetresPerSecond, MilesPerHour, Percent};

/// How people and services write the units; the first of each unit is how this program writes it.
const SPELLINGS: &[(Unit, &[&str])] = &[
    (Celsius, &["°C", "C", "degC", "celsius", "deg C", "℃"]),
    (Fahrenheit, &["°F", "F", "degF", "fahrenheit", "deg F", "℉"]),
    (Kelvin, &["K", "degK", "kelvin"]),
    (Percent, &["%", "percent", "pct"]),
    (MetresPerSecond, &["m/s", "ms", "mps", "m_s-1", "m s-1", "meter/sec", "metres per second"]),
    (KilometresPerHour, &["km/h", "kmh", "kph", "kmph", "km_h-1", "km h-1"]),
    (MilesPerHour, &["mph", "mp/h", "mi/h", "mi_h-1", "miles/hour"]),
    (Knots, &["kn", "kt", "kts", "knots", "kt-1"]),
];

/// The unit of each metric, unless another is requested.
pub const BASE_UNITS: [Unit; 3] = [Celsius, Percent, MetresPerSecond];

impl Unit {
    /// As this program writes it.
    pub fn as_str(self) -> &'static str {
        SPELLINGS.iter().find(|(unit, _)| *unit == self).map_or("", |(_, spellings)| spellings[0])
    }

    /// Reads a unit as people and services write it, `wmoUnit:degC` included; the case of letters does not matter.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix("wmoUnit:").or_else(|| text.strip_prefix("unit:")).unwrap_or(text);
        let is_named = |spellings: &&[&str]| spellings.iter().any(|name| name.eq_ignore_ascii_case(text));
        SPELLINGS.iter().find(|(_, spellings)| is_named(spellings)).map(|(unit, _)| *unit)
    }

    /// Which metric it is a unit of.
    pub fn metric(self) -> Metric {
        match self {
            Celsius | Fahrenheit | Kelvin => Metric::Temperature,
            Percent => Metric::Humidity,
            MetresPerSecond | KilometresPerHour | MilesPerHour | Knots => Metric::WindSpeed,
        }
    }

    /// The units of a metric, its base unit first.
    pub fn of(metric: Metric) -> impl Iterator<Item = Unit> {
        SPELLINGS.iter().map(|(unit, _)| *unit).filter(move |unit| unit.metric() == metric)
    }

    /// `(add, numerator, denominator)`: base = (value + add) × numerator / denominator, `add` in fixed point.
    const fn to_base(self) -> (i64, i64, i64) {
        match self {
            Celsius | Percent | MetresPerSecond => (0, 1, 1),
            Fahrenheit => (-32 * SCALE, 5, 9),
            Kelvin => (-273_150_000, 1, 1),
            KilometresPerHour => (0, 5, 18),
            // 1609.344 m a mile and 1852 m a nautical mile, by definition.
            MilesPerHour => (0, 1_397, 3_125),
            Knots => (0, 463, 900),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// From one unit of a metric to another, in fixed point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conversion {
    /// The unit that values come in.
    pub(super) from: Unit,
    before: i64,
    numerator: i64,
    denominator: i64,
    after: i64,
}

impl Conversion {
    /// Both must be units of one metric.
    pub(super) fn between(from: Unit, to: Unit) -> Self {
        debug_assert_eq!(from.metric(), to.metric());
        if from == to {
            return Self { from, before: 0, numerator: 1, denominator: 1, after: 0 };
        }
        let (before, up, down) = from.to_base();
        let (after, to_up, to_down) = to.to_base();
        let (numerator, denominator) = (up * to_down, down * to_up);
        let common = greatest_common_divisor(numerator, denominator);
        Self { from, before, numerator: numerator / common, denominator: denominator / common, after: -after }
    }

    /// The same amount in the other unit. `value` is at most [`MAX_FIXED`] either way.
    #[inline(always)]
    pub(super) fn apply(self, value: i64) -> i64 {
        if self.denominator == 1 && self.numerator == 1 {
            return value + self.before + self.after;
        }
        divide_rounding((value + self.before) * self.numerator, self.denominator) + self.after
    }
}

/// The nearest whole number, halves away from zero; `by` is positive.
fn divide_rounding(value: i64, by: i64) -> i64 {
    let half = by / 2;
    // For an odd divisor there are no halves, and for an even one `half` is exact: truncation then rounds both correctly.
    if value < 0 { (value - half) / by } else { (value + half) / by }
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(value: f64) -> i64 {
        (value * 1e6).round() as i64
    }

    #[test]
    fn conversions_are_exact() {
        for (from, value, to, expected) in [
            (Fahrenheit, 32.0, Celsius, 0.0),
            (Fahrenheit, 51.8, Celsius, 11.0),
            (Fahrenheit, -40.0, Celsius, -40.0),
            (Fahrenheit, 33.0, Celsius, 0.555_556),
            (Fahrenheit, 31.0, Celsius, -0.555_556),
            (Kelvin, 283.1, Celsius, 9.95),
            (Kelvin, 0.0, Celsius, -273.15),
            (KilometresPerHour, 10.8, MetresPerSecond, 3.0),
            (KilometresPerHour, 1.0, MetresPerSecond, 0.277_778),
            (MilesPerHour, 1.0, MetresPerSecond, 0.447_04),
            (MilesPerHour, 6.7, MetresPerSecond, 2.995_168),
            (Knots, 1.0, MetresPerSecond, 0.514_444),
            (Knots, 9.0, MetresPerSecond, 4.63),
            (MetresPerSecond, 3.0, KilometresPerHour, 10.8),
            (Celsius, 11.0, Fahrenheit, 51.8),
            (Celsius, 0.0, Kelvin, 273.15),
            (Kelvin, 273.15, Fahrenheit, 32.0),
            (Knots, 1.0, KilometresPerHour, 1.852),
            (MilesPerHour, 1.0, KilometresPerHour, 1.609_344),
        ] {
            let converted = Conversion::between(from, to).apply(fixed(value));
            assert_eq!(converted, fixed(expected), "{value} {from} in {to}");
        }
    }

    #[test]
    fn every_conversion_agrees_with_long_arithmetic() {
        let mut value = -MAX_FIXED;
        while value <= MAX_FIXED {
            for metric in Metric::ALL {
                for (from, to) in Unit::of(metric).flat_map(|a| Unit::of(metric).map(move |b| (a, b))) {
                    let (before, up, down) = from.to_base();
                    let (after, to_up, to_down) = to.to_base();
                    let by = i128::from(down * to_up);
                    let exact = i128::from(value + before) * i128::from(up * to_down);
                    let (whole, rest) = (exact / by, exact % by);
                    let rounded = whole + if rest.abs() * 2 >= by { exact.signum() } else { 0 };
                    let expected = rounded - i128::from(after);
                    let converted = Conversion::between(from, to).apply(value);
                    assert_eq!(i128::from(converted), expected, "{value} {from} in {to}");
                }
            }
            value += 12_345_677;
        }
    }

    #[test]
    fn units_are_read_as_people_write_them() {
        for (text, unit) in [
            ("°C", Celsius),
            ("c", Celsius),
            ("wmoUnit:degC", Celsius),
            ("°F", Fahrenheit),
            ("fahrenheit", Fahrenheit),
            ("k", Kelvin),
            ("wmoUnit:percent", Percent),
            ("m/s", MetresPerSecond),
            ("wmoUnit:m_s-1", MetresPerSecond),
            ("KM/H", KilometresPerHour),
            ("wmoUnit:km_h-1", KilometresPerHour),
            ("mp/h", MilesPerHour),
            ("kn", Knots),
        ] {
            assert_eq!(Unit::from_text(text), Some(unit), "{text}");
        }
        for unit in Metric::ALL.into_iter().flat_map(Unit::of) {
            assert_eq!(Unit::from_text(unit.as_str()), Some(unit));
        }
        for none in ["", "bft", "X", "degrees", "m/h"] {
            assert_eq!(Unit::from_text(none), None, "{none}");
        }
        assert_eq!(Metric::ALL.map(|metric| Unit::of(metric).count()), [3, 1, 4]);
    }
}
