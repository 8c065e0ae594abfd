//! What every partition is compared by.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use tokio::sync::Mutex;

use crate::config::Between;
use crate::engine::partition::WindowSettings;
use crate::postgres::session::Session;
use crate::reading::Format;

/// What all partitions are compared by.
#[derive(Debug)]
pub(super) struct ComparisonRules {
    /// The topic.
    pub topic: String,
    /// Of the state machine.
    pub settings: WindowSettings,
    /// How records are read.
    pub format: Arc<Format>,
    /// Which windows count.
    pub between: Between,
    /// Dead letters of records from before this may have been deleted, ms since 1970.
    pub dead_letters_since_ms: i64,
    /// Where the tables are.
    pub session: Session,
    /// Where stations are kept apart.
    pub stations: Option<StationRules>,
    /// Offsets read again so far, of all partitions.
    pub done: AtomicI64,
}

/// What all partitions need to compare stations.
#[derive(Debug)]
pub(super) struct StationRules {
    /// Stations that a window keeps apart.
    pub max_stations: usize,
    /// A connection for these rows alone, which are read in transactions: one partition after the other.
    pub session: Mutex<Session>,
}
