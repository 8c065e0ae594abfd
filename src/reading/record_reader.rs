//! What a record's values are read with, whether by a known shape or from simd-json's tape: both fill a reading the same way.

use super::format::{Format, MissingTimestamp};
use super::timestamp;
use super::units::Conversion;
use super::zone::Cursor;
use super::{Cause, Metric, Reading};

/// What reading a record takes besides its bytes.
pub(super) struct RecordReader<'f, 'v> {
    pub(super) format: &'f Format,
    pub(super) cursor: &'f mut Cursor,
    /// When the Kafka record was made, for readings without a time of their own.
    pub(super) record_ms: Option<i64>,
    pub(super) wants_station: bool,
    /// The record's station, once a shape has read it.
    pub(super) station: Option<&'v str>,
}

impl<'f> RecordReader<'f, '_> {
    pub(super) fn new(
        format: &'f Format,
        cursor: &'f mut Cursor,
        record_ms: Option<i64>,
        wants_station: bool,
    ) -> Self {
        Self { format, cursor, record_ms, wants_station, station: None }
    }

    /// The time of a reading without one, if the format takes the Kafka record's.
    pub(super) fn record_time(&self) -> Option<i64> {
        let allowed = self.format.settings.missing_timestamp == MissingTimestamp::Kafka;
        self.record_ms.filter(|ms| allowed && (0..=timestamp::MAX_MS).contains(ms))
    }

    /// Puts a metric into a reading, or the cause that keeps it out.
    #[inline(always)]
    pub(super) fn take(
        &self,
        reading: &mut Reading,
        metric: Metric,
        conversion: Conversion,
        sent: Result<Option<i64>, Cause>,
    ) {
        let limits = &self.format.metrics[metric.index()].limits;
        match sent.and_then(|sent| limits.judge(sent, conversion, &self.format.settings.missing_values)) {
            Ok(value) => reading.metrics[metric.index()] = Some(value),
            Err(cause) => reading.left_out[metric.index()] = Some(cause),
        }
    }
}
