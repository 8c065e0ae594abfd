//! Offset and timestamp of the records of one batch, from what its header and the records themselves say.

use super::record::RawRecord;
use super::{BatchHeader, Record, TimestampType};

/// Where the reader of a batch is.
#[derive(Debug)]
pub(super) struct Place {
    base_offset: i64,
    last_offset: i64,
    first_timestamp_ms: i64,
    /// The one timestamp of all records, where the broker has set it.
    append_time_ms: Option<i64>,
    /// Nothing below this is given, nor may a record go back behind it once one was read.
    next_offset: i64,
    /// Offset after the last record that was read, given or not.
    after_last: i64,
}

impl Place {
    pub(super) fn new(header: &BatchHeader, from: i64) -> Self {
        Self {
            base_offset: header.base_offset,
            last_offset: header.last_offset,
            first_timestamp_ms: header.first_timestamp_ms,
            append_time_ms: (header.timestamp_type == TimestampType::LogAppendTime)
                .then_some(header.max_timestamp_ms),
            next_offset: from.max(header.base_offset),
            after_last: header.base_offset,
        }
    }

    /// The first offset that no record has been read for.
    pub(super) fn next_offset(&self) -> i64 {
        self.next_offset.max(self.after_last)
    }

    /// Passes a record that is below what was requested. Says no if it is not, or is out of place.
    pub(super) fn skips(&mut self, offset_delta: i32) -> bool {
        let offset = self.base_offset.saturating_add(i64::from(offset_delta));
        let skips = (self.after_last..self.next_offset).contains(&offset) && offset <= self.last_offset;
        if skips {
            self.after_last = offset + 1;
        }
        skips
    }

    /// Puts a record in its place; `None` if it is below what was requested.
    ///
    /// # Errors
    /// An offset outside of the batch, or not above the one before.
    #[inline(always)]
    pub(super) fn record<'r>(
        &mut self,
        raw: RawRecord<'r>,
        bytes: usize,
    ) -> Result<Option<Record<'r>>, &'static str> {
        let offset = self.base_offset.saturating_add(i64::from(raw.offset_delta));
        if offset < self.after_last || offset > self.last_offset {
            return Err("the offsets of its records do not increase, or are outside it");
        }
        self.after_last = offset.saturating_add(1);
        if offset < self.next_offset {
            return Ok(None);
        }
        let timestamp_ms = match self.append_time_ms {
            Some(time) => time,
            // A sum beyond every clock is as wrong as one that wraps; whatever judges timestamps refuses both.
            None => self.first_timestamp_ms.saturating_add(raw.timestamp_delta),
        };
        Ok(Some(Record {
            offset,
            timestamp_ms,
            key: raw.key,
            value: raw.value,
            value_bytes: raw.value_bytes,
            bytes,
        }))
    }
}
