//! When a partition is idle: everything is read, and no reading has come for a while. Then it holds no window back.
//!
//! Rejected records move no watermark, so they do not end the silence either.

use crate::engine::partition::Partition;

/// How long a partition has had no reading. Times are ms of any clock that only goes forward.
#[derive(Debug)]
pub struct Silence {
    timeout_ms: i64,
    since_ms: i64,
    /// Readings that there were then.
    aggregated: i64,
}

impl Silence {
    /// It begins now; after `timeout_ms` the partition is idle.
    pub fn new(timeout_ms: i64, partition: &Partition, now_ms: i64) -> Self {
        Self { timeout_ms, since_ms: now_ms, aggregated: partition.state().progress.aggregated }
    }

    /// Records were taken, of a log that ends at `end`.
    pub fn on_records(&mut self, partition: &mut Partition, end: i64, now_ms: i64) {
        let progress = &partition.state().progress;
        let (aggregated, next_offset) = (progress.aggregated, progress.next_offset);
        if aggregated > self.aggregated {
            self.aggregated = aggregated;
            self.since_ms = now_ms;
            partition.set_idle(false);
        } else if next_offset >= end {
            self.on_caught_up(partition, now_ms);
        }
    }

    /// Everything is read. Whether it is news that the partition is idle.
    pub fn on_caught_up(&self, partition: &mut Partition, now_ms: i64) -> bool {
        now_ms - self.since_ms >= self.timeout_ms && partition.set_idle(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::partition::{Incoming, WindowSettings};
    use crate::engine::state::PartitionState;

    fn take(partition: &mut Partition, offset: i64, value: &str) {
        let value = Some(value.as_bytes());
        let bytes = value.map_or(0, <[u8]>::len);
        let record = Incoming { offset, timestamp_ms: -1, append_time_ms: None, value, bytes };
        partition.apply([record].into_iter(), 2_000_000_000_000);
    }

    #[test]
    fn only_a_reading_ends_it_and_only_the_end_of_the_log_makes_idle() {
        let settings = WindowSettings { window_ms: 3_600_000, out_of_orderness_ms: 0, max_future_ms: 0 };
        let mut partition = Partition::new(settings, PartitionState::starting_at(0));
        let mut silence = Silence::new(100, &partition, 0);
        let idle = |partition: &Partition| partition.state().progress.idle == 1;

        assert!(!silence.on_caught_up(&mut partition, 99) && silence.on_caught_up(&mut partition, 100));
        assert!(!silence.on_caught_up(&mut partition, 200), "no news");
        take(&mut partition, 0, "not a reading");
        silence.on_records(&mut partition, 1, 300);
        assert!(idle(&partition));
        take(&mut partition, 1, r#"{"timestamp":1763803617123,"temperature":1}"#);
        silence.on_records(&mut partition, 3, 400);
        assert!(!idle(&partition));
        take(&mut partition, 2, "not a reading");
        silence.on_records(&mut partition, 4, 600);
        assert!(!idle(&partition), "there is more to read");
        silence.on_records(&mut partition, 3, 600);
        assert!(idle(&partition));
    }
}
