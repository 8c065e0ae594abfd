//! What the format makes of the records that are sent: the key that keeps a station in one partition, and a hint for the
//! user when `weather process` will not understand them.
//!
//! Nothing is changed or held back: the producer sends what it gets.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::reading::explain::explain;
use crate::reading::{Format, Metric, Parser, Reading, Reason, SCALE};
use crate::time::Rfc3339;

/// Checks records against the format of this run.
pub(super) struct Check {
    format: Arc<Format>,
    parser: Parser,
    has_shown: bool,
    not_understood: u64,
}

impl Check {
    pub(super) fn new(format: &Arc<Format>) -> Self {
        Self {
            format: Arc::clone(format),
            parser: Parser::new(Arc::clone(format)),
            has_shown: false,
            not_understood: 0,
        }
    }

    /// Reads a record of the current time.
    pub(super) fn read<'c>(
        &'c mut self,
        record: &'c [u8],
        now_ms: i64,
    ) -> (Result<Reading, Reason>, Option<&'c str>) {
        self.parser.parse_with_station(record, Some(now_ms))
    }

    /// The key of a record: the name of its station, if it has one.
    ///
    /// Logs once how a record is understood, and, less and less often, that others are not.
    pub(super) fn key<'c>(&'c mut self, record: &'c [u8], now_ms: i64) -> Option<&'c [u8]> {
        let (reading, station) = self.parser.parse_with_station(record, Some(now_ms));
        match reading {
            Ok(reading) if !self.has_shown => {
                self.has_shown = true;
                let shown = understood(&reading, station, &self.format);
                let hint = explain(&self.format, record).hint();
                crate::info!(format_args!("The first reading is understood as {shown}"));
                if let Some(hint) = hint {
                    crate::warn!(hint);
                }
            }
            Ok(_) => {}
            Err(reason) => {
                self.not_understood += 1;
                if self.not_understood.is_power_of_two() {
                    let hint = explain(&self.format, record).hint().unwrap_or_default();
                    crate::warn!(
                        format_args!("Sent unchanged, but weather process will not understand it: {hint}"),
                        "reason" => reason.as_str(), "records" => self.not_understood
                    );
                }
            }
        }
        station.filter(|name| !name.is_empty()).map(str::as_bytes)
    }
}

/// A reading as JSON, in the units of the averages.
fn understood(reading: &Reading, station: Option<&str>, format: &Format) -> String {
    let mut json = String::from("{");
    // Writing to a String cannot fail.
    if let Some(station) = station {
        let _ = write!(json, "\"station\":{station:?},");
    }
    let _ = write!(json, "\"timestamp\":\"{}\"", Rfc3339(reading.event_time_ms));
    for metric in Metric::ALL {
        if let Some(value) = reading.metrics[metric.index()] {
            let _ = write!(json, ",\"{}\":{}", metric.as_str(), value as f64 / SCALE as f64);
        }
    }
    let units = Metric::ALL.map(|metric| format.output_unit(metric).as_str());
    let _ = write!(json, "}} in {}", units.join(", "));
    json
}
