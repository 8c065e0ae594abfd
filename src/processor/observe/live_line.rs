//! The live line of `weather process`, and the bar of a bounded run.

use crate::processor::observe::status::{PartitionView, ProcessorStatus};
use crate::telemetry::human::{Grouped, TimeSpan};
use crate::telemetry::terminal::{Colour, per_second, progress_bar};
use crate::time::{SqlTimestamp, now_ms};

impl ProcessorStatus {
    /// One line: rate, total, lag, watermark, last write.
    pub fn live_line(&self) -> String {
        let partitions = self.partitions();
        let mut parts = Vec::new();
        if let Some(bounded) = self.stats.bounded() {
            let done = 1.0 - bounded.left as f64 / bounded.total.max(1) as f64;
            parts.push(progress_bar(done, self.started.elapsed()));
        }
        if let Some(problem) = self.ready().problems().first() {
            parts.push(Colour::Red.paint(problem).into_owned());
        }
        let rates = self.rates();
        let records: i64 = partitions.iter().map(PartitionView::records).sum();
        let lag: i64 = partitions.iter().map(PartitionView::lag).sum();
        parts.push(format!("{} read", per_second(rates.read)));
        parts.push(format!("{} in all", Grouped(records)));
        parts.push(format!("lag {}", Grouped(lag)));
        if let Some(ms) = self.watermark_ms(&partitions) {
            parts.push(format!("watermark {}", SqlTimestamp(ms)));
        }
        if let Some(ms) = self.stats.last_write_ms() {
            parts.push(format!("written {} ago", TimeSpan((now_ms() - ms) as f64 / 1000.0)));
        }
        parts.join(&Colour::Dim.paint(" | "))
    }
}
