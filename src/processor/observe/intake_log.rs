//! What the log says about records: a warning for each reason to reject them and for a metric that never comes, and the
//! counts at the end. The dashboard shows the warnings, too.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::LogLevel;
use crate::engine::intake::{Alarm, Intake, IntakeCounts};
use crate::engine::window::METRICS;
use crate::processor::observe::advice;
use crate::processor::observe::stats::Stats;
use crate::processor::partition::handle::Registry;
use crate::reading::{Format, Metric, Reason};
use crate::telemetry::log;

/// How often the counts are checked.
const EVERY: Duration = Duration::from_secs(2);
/// How much of an example a line shows, in bytes.
const SHOWN: usize = 200;

/// Watches the partitions of this process.
#[derive(Debug)]
pub struct IntakeLog {
    registry: Arc<Registry>,
    stats: Arc<Stats>,
    format: Arc<Format>,
    intake: Mutex<Intake>,
}

impl IntakeLog {
    /// Of these partitions, whose records are read in this format.
    pub fn new(registry: &Arc<Registry>, stats: &Arc<Stats>, format: &Arc<Format>) -> Arc<Self> {
        Arc::new(Self {
            registry: Arc::clone(registry),
            stats: Arc::clone(stats),
            format: Arc::clone(format),
            intake: Mutex::default(),
        })
    }

    /// Warns as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.look(false);
        }
    }

    /// The last line of a run: what became of its records, and what else is known by then.
    pub fn stopped(&self, more: &[(&str, &dyn Display)]) {
        let counts = self.look(true);
        let numbers = numbers(&counts);
        let mut fields: Vec<(&str, &dyn Display)> = Vec::new();
        fields.extend(numbers.iter().map(|(name, number)| (*name, number as &dyn Display)));
        fields.extend_from_slice(more);
        if log::enabled(LogLevel::Info) {
            log::write(LogLevel::Info, &"stopped", &fields);
        }
    }

    /// Logs the warnings that are due; the counts.
    fn look(&self, is_end: bool) -> IntakeCounts {
        let held = self.registry.all();
        let mut intake = self.lock();
        intake.look(
            held.iter()
                .map(|owned| ((owned.partition, owned.epoch), owned.began, owned.published.progress())),
        );
        let (counts, alarms) = (intake.counts(), intake.alarms(is_end));
        drop(intake);
        let mut missing = Vec::new();
        for alarm in alarms {
            match alarm {
                Alarm::Rejected { reason, count, share } => self.warn_of_rejected(reason, count, share),
                Alarm::Missing { metric, count } => missing.push((metric, count)),
            }
        }
        self.warn_of_missing(&missing);
        counts
    }

    fn warn_of_rejected(&self, reason: Reason, count: i64, share: f64) {
        let example = self.registry.all().into_iter().find_map(|owned| {
            let dead_letter = owned.outbox.with(|outbox| outbox.example(reason).cloned())?;
            Some((owned.partition, dead_letter))
        });
        let dead_letter = example.as_ref().map(|(_, dead_letter)| dead_letter);
        let advice = advice::on_rejected(reason, share, dead_letter, &self.format);
        let message = format!("rejected records: {}; {advice}", reason.as_str());
        self.stats.advise(reason.as_str(), message.clone());
        let percent = format!("{:.1}%", share * 100.0);
        match example {
            Some((partition, dead_letter)) => crate::warn!(message, "count" => count, "share" => percent,
                "partition" => partition, "offset" => dead_letter.offset, "example" => shown(dead_letter.payload.as_deref())),
            None => crate::warn!(message, "count" => count, "share" => percent),
        }
    }

    /// One line for all of them: an example says the same of each.
    fn warn_of_missing(&self, alarms: &[(Metric, i64)]) {
        let held = self.registry.all();
        let is_in_a_window = |metric: Metric| {
            let has = |counts: [i64; METRICS]| counts[metric.index()] > 0;
            held.iter().any(|owned| owned.published.read().windows.iter().any(|w| has(w.totals.counts)))
        };
        let missing: Vec<_> = alarms.iter().filter(|(metric, _)| !is_in_a_window(*metric)).collect();
        let Some((first, count)) = missing.first() else { return };
        let metrics: Vec<Metric> = missing.iter().map(|(metric, _)| *metric).collect();
        let example = held.iter().find_map(|owned| owned.lacking.of(*first));
        let advice = advice::on_missing(&metrics, example, &self.format);
        let names: Vec<&str> = metrics.iter().map(|metric| metric.as_str()).collect();
        let message = format!("no reading has {}; {advice}", names.join(" or "));
        self.stats.advise(first.as_str(), message.clone());
        crate::warn!(message, "count" => count, "example" => shown(example));
    }

    fn lock(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The beginning of a value, as text.
fn shown(value: Option<&[u8]>) -> String {
    let value = value.unwrap_or_default();
    String::from_utf8_lossy(&value[..value.len().min(SHOWN)]).into_owned()
}

/// The numbers that are not zero.
fn numbers(counts: &IntakeCounts) -> Vec<(&'static str, i64)> {
    let mut numbers = vec![("records", counts.records), ("aggregated", counts.aggregated)];
    let rejected = Reason::ALL.iter().map(|reason| (reason.as_str(), counts.rejected[reason.index()]));
    let rest = [
        ("duplicates", counts.duplicates),
        ("lost", counts.lost),
        ("refused_in_lists", counts.refused_in_lists),
    ];
    let rest = rest.into_iter().chain(rejected);
    numbers.extend(rest.filter(|(_, number)| *number > 0));
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_left_out_but_for_the_first_two() {
        let mut counts = IntakeCounts { records: 5, ..IntakeCounts::default() };
        counts.rejected[Reason::Late.index()] = 5;
        assert_eq!(numbers(&counts), [("records", 5), ("aggregated", 0), ("late", 5)]);
    }
}
