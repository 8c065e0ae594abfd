//! What the log says about rejected records: a warning for each reason, and the counts at the end.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::LogLevel;
use crate::engine::intake::{Alarm, Counts, Intake};
use crate::processor::partition::handle::Registry;
use crate::reading::Reason;
use crate::telemetry::log;
use crate::time::{Rfc3339, now_ms};

/// How often the counts are checked.
const EVERY: Duration = Duration::from_secs(2);

/// Watches the partitions of this process.
#[derive(Debug)]
pub struct IntakeLog {
    registry: Arc<Registry>,
    intake: Mutex<Intake>,
}

impl IntakeLog {
    /// Of these partitions.
    pub fn new(registry: &Arc<Registry>) -> Arc<Self> {
        Arc::new(Self { registry: Arc::clone(registry), intake: Mutex::default() })
    }

    /// Warns as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.look();
        }
    }

    /// The last line of a run: what became of its records, and what else is known by then.
    pub fn stopped(&self, more: &[(&str, &dyn Display)]) {
        let counts = self.look();
        let numbers = numbers(&counts);
        let mut fields: Vec<(&str, &dyn Display)> = Vec::new();
        fields.extend(numbers.iter().map(|(name, number)| (*name, number as &dyn Display)));
        fields.extend_from_slice(more);
        if log::enabled(LogLevel::Info) {
            log::write(LogLevel::Info, &"stopped", &fields);
        }
    }

    /// Logs the warnings that are due; the counts.
    fn look(&self) -> Counts {
        let held = self.registry.all();
        let mut intake = self.lock();
        intake.look(
            held.iter()
                .map(|owned| ((owned.partition, owned.epoch), owned.began, owned.published.progress())),
        );
        let (counts, alarms) = (intake.counts(), intake.alarms());
        drop(intake);
        alarms.iter().for_each(|alarm| self.warn(alarm));
        counts
    }

    fn warn(&self, alarm: &Alarm) {
        let Alarm { reason, count, share } = *alarm;
        let example = self.registry.all().into_iter().find_map(|owned| {
            let letter = owned.outbox.with(|outbox| outbox.example(reason).cloned())?;
            Some((owned.partition, letter))
        });
        let message = format!("rejected records: {}; {}", reason.as_str(), advice(reason, share));
        let percent = format!("{:.1}%", share * 100.0);
        match example {
            Some((partition, letter)) => {
                let value = letter.payload.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                crate::warn!(message, "count" => count, "share" => percent, "partition" => partition,
                    "offset" => letter.offset, "example" => value);
            }
            None => crate::warn!(message, "count" => count, "share" => percent),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The numbers that are not zero.
fn numbers(counts: &Counts) -> Vec<(&'static str, i64)> {
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

/// What to do about it.
fn advice(reason: Reason, share: f64) -> String {
    let text = match reason {
        Reason::Malformed => "they are not JSON objects or their time cannot be read; check what sends them",
        Reason::MissingTimestamp => {
            "they have no known time field; name it with --fields timestamp=NAME, or use --missing-timestamp kafka"
        }
        Reason::NoMetric => "they have no known metric; name the fields with --fields temperature=NAME,…",
        Reason::OutOfRange => "no metric is in its range",
        Reason::Future if share > 0.5 => {
            let now = Rfc3339(now_ms());
            return format!(
                "most records are ahead of the clock of this machine, which shows {now}: check this clock first"
            );
        }
        Reason::Future => {
            "their time is further ahead than --max-future; check the clocks of the stations and of this machine"
        }
        Reason::Late => "their windows had ended; a longer --watermark waits longer",
        Reason::Oversized => "they are longer than a reading may be; check what sends them",
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_left_out_but_for_the_first_two() {
        let mut counts = Counts { records: 5, ..Counts::default() };
        counts.rejected[Reason::Late.index()] = 5;
        assert_eq!(numbers(&counts), [("records", 5), ("aggregated", 0), ("late", 5)]);
    }

    #[test]
    fn our_own_clock_is_named_when_most_records_are_ahead_of_it() {
        assert!(advice(Reason::Future, 0.9).contains("check this clock first"));
        assert!(!advice(Reason::Future, 0.1).contains("first"));
    }
}
