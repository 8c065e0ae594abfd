//! A zone file (TZif, RFC 9636) → the offsets of a region.
//!
//! It uses the changes of the offset, in 64 bits where the file has them, and the rule for later times (`TZ` text, such as
//! `CET-1CEST,M3.5.0,M10.5.0/3`), which is expanded for 400 years; then the calendar repeats. Leap seconds and abbreviations
//! are ignored. Every number in the file is checked against its length.

use super::{CYCLE_MS, Region};
use crate::reading::timestamp::{days_in_month, days_since_1970};

const HEADER: usize = 44;
const DAY_S: i64 = 86_400;
/// The rule is valid from the last change of the file on; it is expanded for this many years.
const CYCLE_YEARS: i64 = 400;
/// Rules that begin earlier are ignored: no reading is that old.
const FIRST_RULE_YEAR: i64 = 1969;
/// Changes further away than 10,000 years, as some files have one for "always", are moved to there.
const FARTHEST_MS: i64 = 316_000_000_000_000;

/// `None`: not a zone file, or a broken one.
pub(super) fn read(bytes: &[u8]) -> Option<Region> {
    let first = Block::read(bytes, 4)?;
    let (block, rule) = match bytes.get(4)? {
        0 | b'1' => (first, None),
        _ => {
            let second = bytes.get(first.length..)?;
            let block = Block::read(second, 8)?;
            let footer = second.get(block.length..)?.strip_prefix(b"\n")?;
            let end = footer.iter().position(|byte| *byte == b'\n')?;
            (block, ZoneRule::read(footer.get(..end)?)?)
        }
    };
    let mut changes = block.changes()?;
    let before_ms = block.offset_ms(0)?;
    let mut repeats_from_ms = i64::MAX;
    if let Some(rule) = rule {
        let last_ms = changes.last().map_or(i64::MIN, |(at_ms, _)| *at_ms);
        let year = changes.last().map_or(FIRST_RULE_YEAR, |(at_ms, _)| year_of(*at_ms)).max(FIRST_RULE_YEAR);
        changes.extend(rule.changes(year, year + CYCLE_YEARS + 1).filter(|(at_ms, _)| *at_ms > last_ms));
        if changes.last().is_some_and(|(at_ms, _)| *at_ms > last_ms) {
            repeats_from_ms = days_since_1970(year + 1, 1, 2)? * DAY_S * 1_000 + CYCLE_MS;
        }
    }
    Some(Region::new(before_ms, &changes, repeats_from_ms))
}

/// The year of an instant.
fn year_of(ms: i64) -> i64 {
    // An estimate to start from: a year has between 365 and 366 days.
    let mut year = 1970 + ms.div_euclid(1_000).div_euclid(31_556_952);
    while days_since_1970(year, 1, 1).is_some_and(|days| days * DAY_S * 1_000 > ms) {
        year -= 1;
    }
    while days_since_1970(year + 1, 1, 1).is_some_and(|days| days * DAY_S * 1_000 <= ms) {
        year += 1;
    }
    year
}

/// A header and the data behind it, times in `size` bytes each.
struct Block<'b> {
    times: &'b [u8],
    indexes: &'b [u8],
    types: &'b [u8],
    size: usize,
    length: usize,
}

impl<'b> Block<'b> {
    fn read(bytes: &'b [u8], size: usize) -> Option<Self> {
        let count = |index: usize| {
            let at = 20 + 4 * index;
            let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
            usize::try_from(u32::from_be_bytes(four)).ok().filter(|count| *count < 1 << 16)
        };
        bytes.strip_prefix(b"TZif")?;
        let (utc, standard, leap) = (count(0)?, count(1)?, count(2)?);
        let (changes, types, letters) = (count(3)?, count(4)?, count(5)?);
        let times_end = HEADER + changes * size;
        let indexes_end = times_end + changes;
        let types_end = indexes_end + types * 6;
        Some(Self {
            times: bytes.get(HEADER..times_end)?,
            indexes: bytes.get(times_end..indexes_end)?,
            types: bytes.get(indexes_end..types_end)?,
            size,
            length: types_end + letters + leap * (size + 4) + standard + utc,
        })
    }

    fn offset_ms(&self, index: usize) -> Option<i64> {
        let four: [u8; 4] = self.types.get(index * 6..index * 6 + 4)?.try_into().ok()?;
        Some(i64::from(i32::from_be_bytes(four)) * 1_000)
    }

    /// `(UTC ms, ms ahead from there)`.
    fn changes(&self) -> Option<Vec<(i64, i64)>> {
        let time = |bytes: &[u8]| match *bytes {
            [a, b, c, d] => Some(i64::from(i32::from_be_bytes([a, b, c, d]))),
            [a, b, c, d, e, f, g, h] => Some(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
            _ => None,
        };
        let changes = self.times.chunks_exact(self.size).zip(self.indexes);
        changes
            .map(|(bytes, index)| {
                Some((
                    time(bytes)?.saturating_mul(1_000).clamp(-FARTHEST_MS, FARTHEST_MS),
                    self.offset_ms(usize::from(*index))?,
                ))
            })
            .collect()
    }
}

/// The offsets after the last change: one, or two that alternate.
struct ZoneRule {
    standard_s: i64,
    summer: Option<Summer>,
}

struct Summer {
    ahead_s: i64,
    start: Date,
    end: Date,
}

/// A day of the year and a time on it, in seconds of the clock that holds until then.
struct Date {
    day: Day,
    time_s: i64,
}

enum Day {
    /// The week's day (0 = Sunday) for the n-th time in a month; 5 = the last.
    Month { month: i64, week: i64, weekday: i64 },
    /// 1 to 365, 29 February never counted.
    Julian(i64),
    /// 0 to 365.
    Ordinal(i64),
}

impl ZoneRule {
    /// `Some(None)`: the footer is empty, no rule is known.
    #[expect(clippy::option_option, reason = "broken, absent and given are three")]
    fn read(text: &[u8]) -> Option<Option<Self>> {
        let text = std::str::from_utf8(text).ok()?;
        if text.is_empty() {
            return Some(None);
        }
        let rest = skip_name(text)?;
        let (behind_s, rest) = time(rest)?;
        let standard_s = -behind_s;
        if rest.is_empty() {
            return Some(Some(Self { standard_s, summer: None }));
        }
        let rest = skip_name(rest)?;
        let (ahead_s, rest) = match rest.strip_prefix(',') {
            Some(rest) => (standard_s + 3_600, rest),
            None => {
                let (behind_s, rest) = time(rest)?;
                (-behind_s, rest.strip_prefix(',')?)
            }
        };
        let (start, end) = rest.split_once(',')?;
        let summer = Summer { ahead_s, start: Date::read(start)?, end: Date::read(end)? };
        Some(Some(Self { standard_s, summer: Some(summer) }))
    }

    /// `(UTC ms, ms ahead from there)` of these years, ascending.
    fn changes(&self, from: i64, until: i64) -> impl Iterator<Item = (i64, i64)> {
        let mut changes = Vec::new();
        let Some(summer) = &self.summer else { return changes.into_iter() };
        for year in from..until {
            if let (Some(start_s), Some(end_s)) = (summer.start.seconds(year), summer.end.seconds(year)) {
                changes.push(((start_s - self.standard_s) * 1_000, summer.ahead_s * 1_000));
                changes.push(((end_s - summer.ahead_s) * 1_000, self.standard_s * 1_000));
            }
        }
        changes.sort_unstable();
        changes.into_iter()
    }
}

impl Date {
    fn read(text: &str) -> Option<Self> {
        let (day, time_s) = match text.split_once('/') {
            Some((day, text)) => match time(text)? {
                (time_s, "") => (day, time_s),
                _ => return None,
            },
            None => (text, 2 * 3_600),
        };
        let number = |text: &str, least, most| text.parse().ok().filter(|n| (least..=most).contains(n));
        let day = if let Some(day) = day.strip_prefix('M') {
            let mut parts = day.split('.');
            let mut part = |least, most| number(parts.next()?, least, most);
            Day::Month { month: part(1, 12)?, week: part(1, 5)?, weekday: part(0, 6)? }
        } else if let Some(day) = day.strip_prefix('J') {
            Day::Julian(number(day, 1, 365)?)
        } else {
            Day::Ordinal(number(day, 0, 365)?)
        };
        Some(Self { day, time_s })
    }

    /// Seconds since 1970 as the clock shows them.
    fn seconds(&self, year: i64) -> Option<i64> {
        let new_year = days_since_1970(year, 1, 1)?;
        let days = match self.day {
            Day::Month { month, week, weekday } => {
                let first = days_since_1970(year, month, 1)?;
                // 1970-01-01 was a Thursday.
                let first_weekday = (first + 4).rem_euclid(7);
                let day = (weekday - first_weekday).rem_euclid(7) + 7 * (week - 1);
                first + if day < days_in_month(year, month) { day } else { day - 7 }
            }
            Day::Julian(day) => new_year + day - 1 + i64::from(day > 59 && days_in_month(year, 2) == 29),
            Day::Ordinal(day) => new_year + day,
        };
        Some(days * DAY_S + self.time_s)
    }
}

/// The text after a zone's abbreviation, which is letters, or anything in angle brackets.
fn skip_name(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('<') {
        return rest.split_once('>').map(|(_, rest)| rest);
    }
    let rest = text.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    (rest.len() < text.len()).then_some(rest)
}

/// `[+-]h[h][h][:mm[:ss]]` → seconds, and what follows.
fn time(text: &str) -> Option<(i64, &str)> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(text.len());
    let (clock, rest) = text.split_at(end);
    let mut seconds = 0;
    let mut unit = 3_600;
    for part in clock.split(':') {
        let number: i64 = part.parse().ok().filter(|number| *number <= 167 && unit > 0)?;
        seconds += number * unit;
        unit /= 60;
    }
    Some((sign * seconds, rest))
}
