//! A warning that repeats is one line with a count.
//!
//! The first is written at once. The same line again within a minute is only counted; the count is written with the
//! next line that is logged after that minute.

use std::time::{Duration, Instant};

use crate::config::LogLevel;

/// For this long the same line is only counted.
const QUIET: Duration = Duration::from_secs(60);
/// Lines that are remembered; one more forgets the oldest.
const REMEMBERED: usize = 32;

/// Lines that were written lately.
#[derive(Debug, Default)]
pub(super) struct Repeats(Vec<Line>);

#[derive(Debug)]
struct Line {
    level: LogLevel,
    text: String,
    written: Instant,
    held_back: u64,
}

impl Repeats {
    /// An empty memory.
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Whether this line is to be held back.
    pub(super) fn holds_back(&mut self, level: LogLevel, text: &str, now: Instant) -> bool {
        if let Some(line) = self.0.iter_mut().find(|line| line.text == text) {
            line.held_back += 1;
            return true;
        }
        if self.0.len() == REMEMBERED {
            self.0.remove(0);
        }
        self.0.push(Line { level, text: text.to_owned(), written: now, held_back: 0 });
        false
    }

    /// Lines that were held back and whose minute is over, with how often; they are forgotten.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(LogLevel, String, u64)> {
        let over = |line: &mut Line| now.saturating_duration_since(line.written) >= QUIET;
        let over = self.0.extract_if(.., over);
        over.filter(|line| line.held_back > 0).map(|line| (line.level, line.text, line.held_back)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_line_is_written_once_a_minute_with_its_count() {
        let (mut repeats, start) = (Repeats::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!repeats.holds_back(LogLevel::Warn, "a", at(0)));
        assert!(!repeats.holds_back(LogLevel::Warn, "b", at(0)));
        for second in 1..50 {
            assert!(repeats.holds_back(LogLevel::Warn, "a", at(second)));
        }
        assert_eq!(repeats.due(at(59)), []);
        assert_eq!(repeats.due(at(61)), [(LogLevel::Warn, "a".to_owned(), 49)]);
        assert!(!repeats.holds_back(LogLevel::Warn, "a", at(62)), "and is news again");
    }

    #[test]
    fn memory_is_bounded() {
        let mut repeats = Repeats::new();
        for i in 0..1_000 {
            assert!(!repeats.holds_back(LogLevel::Warn, &i.to_string(), Instant::now()));
        }
        assert_eq!(repeats.0.len(), REMEMBERED);
    }
}
