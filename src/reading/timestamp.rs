//! When a reading was taken: numbers and text → milliseconds since 1970-01-01T00:00:00Z.
//!
//! A number is epoch time in the unit that its magnitude implies: seconds below 1e11 (the year 5138),
//! milliseconds below 1e14, microseconds below 1e17, nanoseconds from there. Text is ISO 8601, or such a
//! number in quotes. Text without an offset is a local time, in the zone that the format names; the machine's own zone is
//! never used.
//!
//! Every form is truncated to the millisecond, never rounded up: a reading of 12:59:59.9999 belongs to the
//! hour that ends at 13:00. (Epoch seconds in a float are first rounded to the microsecond, the resolution
//! that a double has until the year 2242; else 1700000000.123, which it holds as …0.12299, would come out as
//! 122 ms.)
//!
//! Nothing here judges the range: results may lie before 1970 or, saturated, far beyond the year 9999.
//! Invariant: no input overflows, and only text can fail.

use super::number::{float_from_text, round_half_away};
use super::words;

/// The last millisecond of the year 9999, the latest event time that a reading may have.
pub const MAX_MS: i64 = 253_402_300_799_999;

const SECONDS_BELOW: u64 = 100_000_000_000;
const MILLIS_BELOW: u64 = 100_000_000_000_000;
const MICROS_BELOW: u64 = 100_000_000_000_000_000;
const DAY_MS: i64 = 86_400_000;

/// Epoch time as an integer, in the unit that its magnitude implies.
pub(super) fn from_integer(epoch: i64) -> i64 {
    let magnitude = epoch.unsigned_abs();
    if magnitude < SECONDS_BELOW {
        epoch * 1_000
    } else if magnitude < MILLIS_BELOW {
        epoch
    } else if magnitude < MICROS_BELOW {
        epoch.div_euclid(1_000)
    } else {
        epoch.div_euclid(1_000_000)
    }
}

/// Epoch time as an integer that may be beyond `i64`.
pub(super) fn from_unsigned(epoch: u64) -> i64 {
    match i64::try_from(epoch) {
        Ok(epoch) => from_integer(epoch),
        Err(_) => (epoch / 1_000_000).cast_signed(),
    }
}

/// Epoch time as a finite float, in the unit that its magnitude implies.
pub(super) fn from_float(epoch: f64) -> i64 {
    let magnitude = epoch.abs();
    if magnitude < SECONDS_BELOW as f64 {
        round_half_away(epoch * 1e6).div_euclid(1_000)
    } else if magnitude < MILLIS_BELOW as f64 {
        epoch.floor() as i64
    } else if magnitude < MICROS_BELOW as f64 {
        (epoch / 1e3).floor() as i64
    } else {
        (epoch / 1e6).floor() as i64
    }
}

/// What a text states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    /// ms since 1970 in UTC.
    Instant(i64),
    /// A local time: ms since 1970 on the clock of some zone.
    Local(i64),
}

/// Reads ISO 8601 text, or a number in quotes. Blanks around it are skipped.
///
/// `YYYY-MM-DD`, alone (midnight) or with `T`, `t` or a space and `hh:mm[:ss[.fraction]]` (or a comma), then `Z`, `z`,
/// `±hh:mm`, `±hhmm`, `±hh` or nothing (local). The calendar is checked. A leap second, `:60`, counts as the last
/// millisecond of its minute, so it stays in the hour that it belongs to. `None`: none of these forms. The result may
/// lie before 1970 or after [`MAX_MS`].
pub(super) fn read(text: &str) -> Option<Time> {
    let text = text.trim_ascii();
    iso_8601(text.as_bytes()).or_else(|| number(text).map(Time::Instant))
}

/// Reads a time as a reading's is read, in UTC where it names no offset; ms since 1970.
pub fn from_text(text: &str) -> Option<i64> {
    read(text).map(|(Time::Instant(ms) | Time::Local(ms))| ms)
}

/// `Z`, `+07:00`, `-0330`, `+07` → how far its clock is ahead of UTC, ms.
pub(super) fn offset_from_text(text: &str) -> Option<i64> {
    offset(text.as_bytes())
}

/// A decimal number, exponent allowed, and nothing else: what JSON calls a number, without `inf` and `nan`.
fn number(text: &str) -> Option<i64> {
    let float = float_from_text(text)?;
    Some(text.parse::<u64>().map_or_else(|_| from_float(float), from_unsigned))
}

fn iso_8601(text: &[u8]) -> Option<Time> {
    if let Some((local_ms, rest)) = whole_seconds(text) {
        return with_offset(local_ms, rest);
    }
    let (date, rest) = text.split_at_checked(10)?;
    let midnight_ms = days_of_date(date)? * DAY_MS;
    match rest {
        [] => Some(Time::Local(midnight_ms)),
        [b'T' | b't' | b' ', rest @ ..] => {
            let (clock_ms, rest) = clock(rest)?;
            with_offset(midnight_ms + clock_ms, rest)
        }
        _ => None,
    }
}

/// A time of whole seconds, local or in UTC by a `Z`, that ends at a quote; and its length. `None`: look closer.
#[inline]
pub(super) fn quoted(text: &[u8]) -> Option<(Time, usize)> {
    match whole_seconds(text)? {
        (ms, [b'"', ..]) => Some((Time::Local(ms), 19)),
        (ms, [b'Z' | b'z', b'"', ..]) => Some((Time::Instant(ms), 20)),
        _ => None,
    }
}

/// `YYYY-MM-DD hh:mm:ss` without a fraction, all in one: most texts are this, or begin with it. `None`: look closer.
#[inline]
fn whole_seconds(text: &[u8]) -> Option<(i64, &[u8])> {
    let ([y0, y2, month, day, hours, minutes, seconds], between) = words::date_and_time(text)?;
    let rest = text.get(19..)?;
    if !matches!(between, b'T' | b't' | b' ') || hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    if let [b'.' | b',', ..] = rest {
        return None;
    }
    let days = days_since_1970(i64::from(y0) * 100 + i64::from(y2), i64::from(month), i64::from(day))?;
    let seconds = (i64::from(hours) * 60 + i64::from(minutes)) * 60 + i64::from(seconds);
    Some((days * DAY_MS + seconds * 1_000, rest))
}

/// What a clock showed, and the text behind that.
fn with_offset(local_ms: i64, rest: &[u8]) -> Option<Time> {
    Some(if rest.is_empty() { Time::Local(local_ms) } else { Time::Instant(local_ms - offset(rest)?) })
}

/// `YYYY-MM-DD` in the proleptic Gregorian calendar.
fn days_of_date(date: &[u8]) -> Option<i64> {
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = date else { return None };
    let year = two_digits(y0, y1)? * 100 + two_digits(y2, y3)?;
    days_since_1970(year, two_digits(m0, m1)?, two_digits(d0, d1)?)
}

/// A day of the proleptic Gregorian calendar; `None` if there is no such day.
pub(super) fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    // Years that begin in March put the leap day last, so that the months before it always start on the same
    // day.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    const MARCH_OF_YEAR_0: i64 = -719_468;
    Some(MARCH_OF_YEAR_0 + year * 365 + leap_days + day_of_year)
}

pub(super) fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `hh:mm[:ss[.fraction]]` → milliseconds since midnight, and what follows.
fn clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let &[h0, h1, b':', m0, m1, ref rest @ ..] = text else { return None };
    let minutes = limited(two_digits(h0, h1)?, 23)? * 60 + limited(two_digits(m0, m1)?, 59)?;
    let &[b':', s0, s1, ref rest @ ..] = rest else { return Some((minutes * 60_000, rest)) };
    let seconds = limited(two_digits(s0, s1)?, 60)?;
    let (fraction_ms, rest) = match rest {
        [b'.' | b',', rest @ ..] => fraction(rest)?,
        _ => (0, rest),
    };
    let second_ms = (seconds * 1_000 + fraction_ms).min(59_999);
    Some((minutes * 60_000 + second_ms, rest))
}

/// The digits of a fraction of a second, one or more → whole milliseconds, and what follows.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    let &first = digits.first()?;
    let digit = |at: usize| digits.get(at).map_or(0, |byte| i64::from(byte - b'0'));
    Some((i64::from(first - b'0') * 100 + digit(1) * 10 + digit(2), rest))
}

/// The whole text: how far its clock is ahead of UTC, in milliseconds.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'Z' | b'z'] => return Some(0),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match *digits {
        [h0, h1] => (two_digits(h0, h1)?, 0),
        [h0, h1, m0, m1] | [h0, h1, b':', m0, m1] => (two_digits(h0, h1)?, two_digits(m0, m1)?),
        _ => return None,
    };
    Some(sign * (limited(hours, 23)? * 60 + limited(minutes, 59)?) * 60_000)
}

fn two_digits(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit())
        .then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

fn limited(value: i64, max: i64) -> Option<i64> {
    (value <= max).then_some(value)
}

#[cfg(test)]
mod tests;
