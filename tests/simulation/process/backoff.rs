//! Waits between tries, as `src/kafka/source.rs` has them.

#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait this time, ms.
    pub fn next_ms(&mut self) -> i64 {
        let wait_ms = (100 << self.failures.min(10)).min(2_000);
        self.failures += 1;
        wait_ms
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }
}
