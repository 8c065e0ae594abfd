//! PostgreSQL: the output, the fence, and the hand-over of partitions between processes.
//!
//! - [`failure`]: what a failed statement asks of its caller, by SQLSTATE.
//! - [`session`]: a connection with its statements prepared, and its settings.
//! - [`schema`]: the tables; set-up that may run in several processes at once; adoption of the old system's table.
//! - [`connector`]: connections for the processor, with the tables checked.
//! - [`mod@write`]: partitions' states into the tables, one transaction in one round trip, fenced by epoch.
//! - `advance`: the fence of such a transaction.
//! - [`leases`]: who owns which partition.
//! - `dead_letters`: dead letters, as columns.
//! - `partials`: what each partition has taken into a window, as columns and back.
//! - [`station_partials`]: the same by station.
//! - [`station_list`]: stations that are searched for, for the dashboard.
//! - [`evidence`]: what the tables say, to be compared with the topic.
//! - [`station_evidence`]: whether stations add up to their windows.
//! - [`clusters`]: which Kafka cluster the offsets are of, and going over to another one.
//! - [`overview`]: what all tables say, for `weather inspect`.
//! - [`readmission`]: dead letters that are taken into their windows.
//! - [`repair`]: rows of the output that others changed.
//! - [`upkeep`]: what one process does now and then for all.
//! - [`summary`]: the output, read back for the dashboard and the log.
//!
//! Times are `TIMESTAMP` in UTC, as the old system stored them, and travel as `SystemTime`.

mod advance;
pub mod clusters;
pub mod connector;
mod dead_letters;
pub mod evidence;
pub mod failure;
pub mod leases;
pub mod overview;
mod partials;
pub mod readmission;
pub mod repair;
pub mod schema;
pub mod session;
pub mod station_evidence;
pub mod station_list;
pub mod station_partials;
pub mod summary;
pub mod upkeep;
pub mod write;

use std::time::SystemTime;

use crate::engine::watermark;
use crate::time::timestamp;

/// An event time that may not exist yet, as a nullable `TIMESTAMP`.
pub fn optional_timestamp(ms: i64) -> Option<SystemTime> {
    (ms > watermark::NONE).then(|| timestamp(ms))
}
