//! How far event time has come in one partition, and what is late by it.
//!
//! The watermark trails the greatest event time by a fixed out-of-orderness. A window is *closed* once its end is at or
//! below the watermark, and a record of a closed window is late. Both depend on nothing but the records of this
//! partition that were not rejected as future, in their order, so a replay decides the same.
//!
//! Invariant: neither value ever goes back, not even when a later run is given a longer out-of-orderness, because
//! windows that were closed have left the state and could not be continued from nothing.

/// Event-time progress of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    max_event_time_ms: i64,
    watermark_ms: i64,
    out_of_orderness_ms: i64,
}

/// "No record yet": below every event time, and far enough from the edge that subtracting stays in range.
pub const NONE: i64 = i64::MIN / 2;

impl Watermark {
    /// No record seen yet.
    pub fn new(out_of_orderness_ms: i64) -> Self {
        assert!(out_of_orderness_ms >= 0, "a watermark does not run ahead of the events");
        Self { max_event_time_ms: NONE, watermark_ms: NONE, out_of_orderness_ms }
    }

    /// Continues from stored values ([`NONE`] where there was none).
    pub fn restore(max_event_time_ms: i64, watermark_ms: i64, out_of_orderness_ms: i64) -> Self {
        let mut restored = Self::new(out_of_orderness_ms);
        restored.watermark_ms = watermark_ms.max(NONE);
        restored.observe(max_event_time_ms.max(NONE));
        restored
    }

    /// Records an event time.
    #[inline]
    pub fn observe(&mut self, event_time_ms: i64) {
        if event_time_ms > self.max_event_time_ms {
            self.max_event_time_ms = event_time_ms;
            self.watermark_ms = self.watermark_ms.max(event_time_ms - self.out_of_orderness_ms);
        }
    }

    /// Whether a window with this end takes no more records.
    #[inline]
    pub fn closes(&self, window_end_ms: i64) -> bool {
        window_end_ms <= self.watermark_ms
    }

    /// The greatest event time seen, or [`NONE`].
    pub fn max_event_time_ms(&self) -> i64 {
        self.max_event_time_ms
    }

    /// The watermark, or a value below any event time while there is none.
    pub fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trails_the_greatest_event_time() {
        let mut w = Watermark::new(600);
        assert!(!w.closes(0));
        w.observe(10_000);
        w.observe(5_000);
        assert_eq!((w.max_event_time_ms(), w.watermark_ms()), (10_000, 9_400));
        assert!(w.closes(9_400));
        assert!(!w.closes(9_401));
    }

    #[test]
    fn never_goes_back_when_the_delay_grows() {
        let w = Watermark::restore(10_000, 9_400, 5_000);
        assert_eq!(w.watermark_ms(), 9_400);
        let mut w = w;
        w.observe(12_000);
        assert_eq!(w.watermark_ms(), 9_400);
        w.observe(15_000);
        assert_eq!(w.watermark_ms(), 10_000);
    }

    #[test]
    fn nothing_is_late_before_the_first_record() {
        let w = Watermark::restore(NONE, NONE, 600_000);
        assert!(!w.closes(-1_000_000));
    }
}
