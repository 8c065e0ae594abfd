//! When a partition with stations is flushed.
//!
//! A flush writes the partition's state at one offset, and with it every station that changed. Where few did, that costs
//! little, and the windows stay as live as without stations. Where many did, each flush would write them all again: then
//! it waits until it is worth it, at most the user's interval.

/// Rows of stations a second that a process may write to stay live. Beyond that, flushes wait.
const LIVE_ROWS_PER_SECOND: u64 = 1_000;

/// What decides about a flush of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StationPace {
    /// Stations that changed since the last flush.
    pub changed: usize,
    /// Partitions with stations of this process, which share the rate.
    pub partitions: usize,
    /// Since the last flush, ms.
    pub waited_ms: u64,
    /// Longest wait, ms.
    pub interval_ms: u64,
    /// A window has ended since the last flush, or the partition fell silent: its rows are to be final.
    pub is_final: bool,
}

impl StationPace {
    /// Whether the partition is to be flushed now.
    pub fn is_due(self) -> bool {
        let rows = (self.changed as u64).saturating_mul(self.partitions as u64);
        self.is_final
            || self.waited_ms >= self.interval_ms
            || rows.saturating_mul(1_000) <= LIVE_ROWS_PER_SECOND.saturating_mul(self.waited_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_are_written_at_once_and_many_after_the_interval() {
        let pace = |changed, partitions, waited_ms, is_final| StationPace {
            changed,
            partitions,
            waited_ms,
            interval_ms: 10_000,
            is_final,
        };
        for (pace, due) in [
            (pace(0, 1, 0, false), true),
            (pace(250, 1, 250, false), true),
            (pace(251, 1, 250, false), false),
            (pace(251, 1, 250, true), true),
            (pace(100, 6, 250, false), false),
            (pace(100, 6, 600, false), true),
            (pace(100_000, 4, 9_999, false), false),
            (pace(100_000, 4, 10_000, false), true),
        ] {
            assert_eq!(pace.is_due(), due, "{pace:?}");
        }
    }
}
