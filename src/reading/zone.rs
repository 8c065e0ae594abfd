//! Time zones: local time → UTC.
//!
//! Text without an offset is a local time. Its zone is UTC, a fixed offset or a place, whose history is in a zone
//! file of the IANA database ([`file`]). Such a file is read once, at start, into a table of the offsets by local time,
//! so that a look-up is a comparison with the one found last.
//!
//! A local time that occurs twice, when clocks are set back, means the first of the two; one that never occurs, when they
//! are set forward, is read with the offset from before. Java and Spark do the same.
//! Invariants: the table is sorted and never empty; nothing here panics on any file or time.

mod file;

use std::fmt;
use std::path::PathBuf;

/// Folders of zone files: on most systems, and in the image.
const FOLDERS: [&str; 3] = ["/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/share/zoneinfo"];
/// The Gregorian calendar repeats itself, weekdays included, after 400 years.
const CYCLE_MS: i64 = 146_097 * 86_400_000;
const DAY_MS: i64 = 86_400_000;
/// 2000-01-01: offsets that were given up before do not count where days are cut into windows. Some have odd minutes.
const DAYS_FROM_MS: i64 = 946_684_800_000;

/// The zone of times without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Zone {
    /// A fixed offset, ms ahead of UTC.
    Fixed(i64),
    /// The local time of a region.
    Region(Region),
}

impl Zone {
    /// UTC.
    pub const UTC: Zone = Zone::Fixed(0);

    /// Reads `UTC`, an offset such as `+07:00`, or the name of a place such as `Asia/Kolkata`, whose file is looked for
    /// in `folder` (the value of `TZDIR`), then where systems have these files.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn from_text(text: &str, folder: Option<PathBuf>) -> Result<Self, String> {
        if matches!(text, "UTC" | "utc" | "Z" | "GMT" | "Etc/UTC") {
            return Ok(Zone::UTC);
        }
        if text.starts_with(['+', '-']) {
            return super::timestamp::offset_from_text(text)
                .map(Zone::Fixed)
                .ok_or_else(|| String::from("an offset such as +07:00"));
        }
        let is_name = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-+".contains(c))
        };
        if !text.split('/').all(is_name) {
            return Err(String::from("UTC, an offset such as +07:00, or an IANA name such as Asia/Kolkata"));
        }
        let folders: Vec<PathBuf> = folder.into_iter().chain(FOLDERS.map(PathBuf::from)).collect();
        let found = folders.iter().filter(|folder| folder.is_dir()).map(|folder| folder.join(text));
        let Some(path) = found.clone().find(|path| path.is_file()) else {
            return Err(match found.count() {
                0 => format!(
                    "a zone whose file exists: none of {} is a folder; set TZDIR to the folder of the zone files, or \
                     use an offset such as +07:00",
                    FOLDERS.join(", ")
                ),
                _ => String::from(
                    "UTC, an offset such as +07:00, or an existing IANA name such as Asia/Kolkata",
                ),
            });
        };
        let bytes = std::fs::read(&path).map_err(|e| format!("a zone file that can be read ({e})"))?;
        let place =
            file::read(&bytes).ok_or_else(|| format!("a zone: {} is not a zone file", path.display()))?;
        Ok(Zone::Region(Region { name: text.to_owned(), ..place }))
    }

    /// Whether every day here since 2000 begins and ends with a window of this length in ms, aligned to 1970 UTC.
    pub fn has_whole_windows(&self, window_ms: i64) -> bool {
        let fits = |ahead_ms: i64| ahead_ms % window_ms == 0;
        window_ms > 0
            && DAY_MS % window_ms == 0
            && match self {
                Zone::Fixed(ahead_ms) => fits(*ahead_ms),
                Zone::Region(place) => place.since(DAYS_FROM_MS).all(fits),
            }
    }

    /// The instant at which clocks here show `local_ms`, both in ms since 1970.
    #[inline]
    pub(super) fn to_utc(&self, local_ms: i64, cursor: &mut Cursor) -> i64 {
        match self {
            Zone::Fixed(ahead_ms) => local_ms.saturating_sub(*ahead_ms),
            Zone::Region(place) => place.to_utc(local_ms, cursor),
        }
    }
}

/// As [`Zone::from_text`] reads it.
impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Zone::Fixed(0) => f.write_str("UTC"),
            Zone::Fixed(ahead_ms) => {
                let sign = if *ahead_ms < 0 { '-' } else { '+' };
                let minutes = ahead_ms.abs() / 60_000;
                write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
            Zone::Region(place) => f.write_str(&place.name),
        }
    }
}

/// The offset that was found last, and the local times for which it is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cursor {
    from_ms: i64,
    until_ms: i64,
    ahead_ms: i64,
}

/// The offsets of a region by its local time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// In the IANA database; letters, digits and `/_-+` only.
    name: String,
    /// `(local ms from which it holds, ms ahead of UTC)`, ascending; the first holds before its time, too.
    offsets: Vec<(i64, i64)>,
    /// From this local time on, the offsets repeat every [`CYCLE_MS`].
    repeats_from_ms: i64,
}

impl Region {
    /// `changes`: `(UTC ms, ms ahead of UTC from there)`, ascending; `first_ms`: the offset before all of them.
    fn new(first_ms: i64, changes: &[(i64, i64)], repeats_from_ms: i64) -> Self {
        let mut offsets = vec![(i64::MIN, first_ms)];
        for &(utc_ms, ahead_ms) in changes {
            let before_ms = offsets.last().map_or(first_ms, |(_, ahead_ms)| *ahead_ms);
            // Set back: the hour that comes twice is the first of the two, so the new offset holds after it. Set
            // forward: the hour that never comes is read with the offset from before.
            let local_ms = utc_ms.saturating_add(before_ms.max(ahead_ms));
            // Two changes within hours, as history has a few: the later one holds.
            while offsets.len() > 1 && offsets.last().is_some_and(|(from_ms, _)| *from_ms >= local_ms) {
                offsets.pop();
            }
            offsets.push((local_ms, ahead_ms));
        }
        Self { name: String::new(), offsets, repeats_from_ms }
    }

    /// The offsets from this local time on, in ms.
    fn since(&self, local_ms: i64) -> impl Iterator<Item = i64> {
        let after = self.offsets.partition_point(|(from_ms, _)| *from_ms <= local_ms).max(1);
        self.offsets[after - 1..].iter().map(|(_, ahead_ms)| *ahead_ms)
    }

    #[inline]
    fn to_utc(&self, local_ms: i64, cursor: &mut Cursor) -> i64 {
        if !(cursor.from_ms..cursor.until_ms).contains(&local_ms) {
            *cursor = self.find(local_ms);
        }
        local_ms.saturating_sub(cursor.ahead_ms)
    }

    fn find(&self, local_ms: i64) -> Cursor {
        if local_ms >= self.repeats_from_ms {
            let cycles = (local_ms - self.repeats_from_ms) / CYCLE_MS + 1;
            let found = self.find(local_ms - cycles * CYCLE_MS);
            // Valid for this one time only: the range around it may span the end of a cycle.
            return Cursor { from_ms: local_ms, until_ms: local_ms.saturating_add(1), ..found };
        }
        let after = self.offsets.partition_point(|(from_ms, _)| *from_ms <= local_ms).max(1);
        let (from_ms, ahead_ms) = self.offsets[after - 1];
        let next_ms = self.offsets.get(after).map_or(i64::MAX, |(from_ms, _)| *from_ms);
        Cursor { from_ms, until_ms: next_ms.min(self.repeats_from_ms), ahead_ms }
    }
}

#[cfg(test)]
mod tests;
