//! A record that is a list of readings: which of them count, and what becomes of the record.
//!
//! The record is accounted for once: aggregated if at least one of its readings counts, else rejected for the first of the
//! reasons. Readings that do not count although the record does are counted in `refused_in_lists`. All of a record are
//! judged by the watermark as it was before the record, so their order in the list decides nothing.

use crate::engine::partition::Partition;
use crate::reading::{Reading, Reason};

/// The memory of a longer list is given back.
const KEPT_READINGS: usize = 1_000;

impl Partition {
    /// Aggregates what counts of a list; the reason if nothing does.
    #[cold]
    pub(super) fn aggregate_list(
        &mut self,
        offset: i64,
        value: &[u8],
        timestamp_ms: i64,
        future_ms: i64,
    ) -> Result<(), Reason> {
        let mut readings = std::mem::take(&mut self.list);
        let keeps_stations = self.stations.is_some();
        let result = self.parser.parse_list(value, Some(timestamp_ms), |reading, name| {
            readings.push((reading, name.filter(|_| keeps_stations).map(Box::from)));
        });
        let result = result.and_then(|refused| self.aggregate_all(offset, &readings, refused, future_ms));
        if readings.len() <= KEPT_READINGS {
            readings.clear();
            self.list = readings;
        }
        result
    }

    /// Aggregates what counts of these; `refused` more of the record do not.
    fn aggregate_all(
        &mut self,
        offset: i64,
        readings: &[(Reading, Option<Box<str>>)],
        refused: i64,
        future_ms: i64,
    ) -> Result<(), Reason> {
        let (mut newest_ms, mut first_reason, mut counted) = (None, None::<Reason>, 0);
        for (reading, name) in readings {
            match self.window_of(reading.event_time_ms, future_ms) {
                Ok(start_ms) => {
                    self.add(start_ms, offset, reading);
                    if let Some(stations) = &mut self.stations {
                        stations.add(start_ms, name.as_deref(), reading);
                    }
                    newest_ms = newest_ms.max(Some(reading.event_time_ms));
                    counted += 1;
                }
                Err(reason) => first_reason = Some(first_reason.map_or(reason, |first| first.min(reason))),
            }
        }
        let Some(newest_ms) = newest_ms else {
            // The parser has refused what has no reading at all.
            return Err(first_reason.unwrap_or(Reason::NoMetric));
        };
        self.watermark.observe(newest_ms);
        let progress = &mut self.state.progress;
        progress.aggregated += 1;
        progress.refused_in_lists += refused + readings.len() as i64 - counted;
        Ok(())
    }
}
