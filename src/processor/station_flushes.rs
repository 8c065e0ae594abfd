//! When each partition with stations was flushed last, for the decision whether it is worth it again.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::flush_plan::PartitionFlush;
use crate::engine::state::Progress;
use crate::engine::stations::StationPace;
use crate::processor::partition::handle::PartitionHandle;

/// The last flush of each partition.
#[derive(Debug)]
pub struct StationFlushes {
    interval: Duration,
    window_ms: i64,
    /// By partition and epoch.
    last: HashMap<(i32, i64), LastFlush>,
}

/// A confirmed flush.
#[derive(Debug)]
struct LastFlush {
    at: Instant,
    /// What makes rows final.
    ended: (i64, i64),
}

impl StationFlushes {
    /// None yet; the longest wait, and the length of windows in ms.
    pub fn new(interval: Duration, window_ms: i64) -> Self {
        Self { interval, window_ms, last: HashMap::new() }
    }

    /// Whether a partition, one of `partitions`, is to be flushed now.
    pub fn is_due(&self, owned: &PartitionHandle, partitions: usize) -> bool {
        let Some((gauge, last)) = owned.stations.as_ref().zip(self.last.get(&(owned.partition, owned.epoch)))
        else {
            return true;
        };
        let pace = StationPace {
            changed: gauge.counts().changed,
            partitions,
            waited_ms: u64::try_from(last.at.elapsed().as_millis()).unwrap_or(u64::MAX),
            interval_ms: u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX),
            is_final: last.ended != self.ended(&owned.published.progress()),
        };
        pace.is_due()
    }

    /// Notes that these partitions were flushed.
    pub fn flushed(&mut self, portion: &[PartitionFlush]) {
        for part in portion {
            let last = LastFlush { at: Instant::now(), ended: self.ended(&part.state.progress) };
            // An earlier ownership of the partition is over.
            self.last.retain(|(partition, epoch), _| *partition != part.partition || *epoch == part.epoch);
            self.last.insert((part.partition, part.epoch), last);
        }
    }

    /// Changes when a window has ended or the partition falls silent.
    fn ended(&self, progress: &Progress) -> (i64, i64) {
        (progress.watermark_ms.div_euclid(self.window_ms), progress.idle)
    }
}
