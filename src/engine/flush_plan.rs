//! What a flush writes, and what PostgreSQL's refusal of it means for each partition.

use crate::engine::dead_letter::DeadLetter;
use crate::engine::state::{Position, State};
use crate::engine::window::Window;

/// What one partition adds to a flush.
#[derive(Debug, Clone)]
pub struct PartitionFlush {
    /// Which partition.
    pub partition: i32,
    /// The ownership that its rows must still have.
    pub epoch: i64,
    /// The state to store.
    pub state: State,
    /// Where PostgreSQL is known to be; if it is behind that, it was set back to an older state.
    pub known: Position,
    /// Kafka's end of the partition as last heard; for whoever wants to know the lag.
    pub high_watermark: i64,
    /// The windows of the state whose totals PostgreSQL does not have yet.
    pub windows: Vec<Window>,
    /// The dead letters of the state that PostgreSQL does not have yet.
    pub letters: Vec<DeadLetter>,
}

impl PartitionFlush {
    /// Why PostgreSQL does not take it, by how the partition stands there; None if that is not the reason.
    pub fn refusal(&self, row: Option<&Standing>) -> Option<&'static str> {
        let progress = &self.state.progress;
        let never_flushed = Position { incarnation: 0, offset: progress.origin_offset };
        match row {
            None => Some("its row is gone from weather_partition"),
            Some(row) if row.epoch != self.epoch => Some("another process has taken the partition"),
            Some(Standing { position: None, .. }) if self.known == never_flushed => None,
            Some(Standing { position: Some(at), .. }) if *at > progress.position() => {
                Some("the database is ahead of this process")
            }
            Some(Standing { position: Some(at), .. }) if *at >= self.known => None,
            Some(_) => Some("the database was set back to an older state"),
        }
    }
}

/// How a partition stands in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Which partition.
    pub partition: i32,
    /// The epoch of its owner.
    pub epoch: i64,
    /// Where its state stands; None while it has none.
    pub position: Option<Position>,
}
