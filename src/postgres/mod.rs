//! PostgreSQL: the output, the fence, and the hand-over of partitions between processes.
//!
//! - [`failure`]: what a failed statement asks of its caller, by SQLSTATE.
//! - [`session`]: a connection with its statements prepared, and its settings.
//! - [`schema`]: the tables; set-up that may run in several processes at once; adoption of the old system's table.
//! - [`flush`]: partitions' states into the tables, one transaction in one round trip, fenced by epoch.
//! - [`leases`]: who owns which partition.
//! - [`overview`]: what all tables say, for those who look at them.
//! - [`summary`]: the output, read back for those who look at it.
//!
//! Times are `TIMESTAMP` in UTC, as the old system stored them, and travel as `SystemTime`.

pub mod failure;
pub mod flush;
pub mod leases;
pub mod overview;
pub mod schema;
pub mod session;
pub mod summary;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::engine::watermark;

/// Milliseconds since 1970 as PostgreSQL's client wants a `TIMESTAMP`.
pub fn timestamp(ms: i64) -> SystemTime {
    let distance = Duration::from_millis(ms.unsigned_abs());
    let time = if ms >= 0 { UNIX_EPOCH.checked_add(distance) } else { UNIX_EPOCH.checked_sub(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

/// A `TIMESTAMP` as milliseconds since 1970.
pub fn milliseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// An event time that may not exist yet, as a nullable `TIMESTAMP`.
pub fn optional_timestamp(ms: i64) -> Option<SystemTime> {
    (ms > watermark::NONE).then(|| timestamp(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_as_they_went() {
        for ms in [0, 1, -1, 1_700_000_000_123, -62_135_596_800_000] {
            assert_eq!(milliseconds(timestamp(ms)), ms);
        }
        assert_eq!(optional_timestamp(watermark::NONE), None);
    }
}
