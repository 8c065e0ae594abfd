//! The end: the tables against a plain second computation from the log, which knows nothing of states or ledgers but which
//! records were lost, which were ahead of the clock, and which dead letters were readmitted.

use std::collections::BTreeMap;

use weather::engine::window::Totals;
use weather::reading::{Reading, Reason};

use crate::database::SummaryRow;
use crate::env::Env;
use crate::kafka::{Record, Slot, Truth};
use crate::ledger::{Entry, Ledger, Outcome, add, without_offsets};
use crate::trace::{Checked, ensure};
use crate::world::World;

impl World {
    /// Whether the tables are exact, and everything was given back.
    pub(crate) fn judge(&self) -> Checked {
        let tables = &self.env.database.tables;
        let mut windows: BTreeMap<i64, Totals> = BTreeMap::new();
        for partition in self.env.kafka.partitions() {
            let row = tables.partitions.get(&partition);
            let Some(stored) = row.and_then(|row| row.stored.as_ref()) else { continue };
            self.env.database.audit_partition(partition, &stored.ledger)?;
            once_each(&stored.ledger, &self.env, partition)?;
            let fold = Fold::of(&self.env, partition, &stored.ledger.entries)?;
            let (sampled_out, flood) = (stored.ledger.sampled_out(), self.env.plan.workload.flood);
            ensure!(
                sampled_out == 0 || flood > 0,
                "{sampled_out} dead letters were sampled out without a flood"
            );
            for (window, totals) in fold.windows {
                windows.entry(window).or_default().merge(&totals);
            }
        }
        self.env.database.audit_readmitted()?;
        for (window, _, key, reading) in self.env.database.readmitted()? {
            add(windows.entry(window).or_default(), (0, key.2), &reading);
        }
        let windows: BTreeMap<i64, Totals> =
            windows.iter().map(|(window, totals)| (*window, without_offsets(totals))).collect();
        let row = |(window, row): (&i64, &SummaryRow)| (*window, without_offsets(&row.totals));
        let summary: BTreeMap<i64, Totals> = tables.summary.iter().map(row).collect();
        ensure!(summary == windows, "the summary is {summary:?}, the log gives {windows:?}");
        tables.summary.keys().try_for_each(|window| self.env.database.audit_window(*window))?;
        let left = |owner: &String| self.leaving.contains(owner);
        let held = tables.partitions.iter().find(|(_, row)| row.owner.as_ref().is_some_and(left));
        ensure!(
            held.is_none(),
            "after the end a partition is still held by {:?}",
            held.map(|(_, row)| &row.owner)
        );
        Ok(())
    }
}

/// Every offset from where reading began to the end of the log is there once.
fn once_each(ledger: &Ledger, env: &Env, partition: i32) -> Checked {
    for pair in ledger.entries.windows(2) {
        let [before, after] = pair else { continue };
        let next = match after.generation == before.generation {
            true => after.offset == before.offset + 1,
            false => after.generation > before.generation && after.offset == 0,
        };
        ensure!(next, "partition {partition}: {after:?} follows {before:?}");
    }
    let at_the_end = ledger.is_at_the_end_of(env.kafka.log(partition));
    ensure!(at_the_end, "partition {partition} was read up to {}, not to its end", ledger.next_offset);
    Ok(())
}

/// The plain computation.
#[derive(Default)]
struct Fold {
    windows: BTreeMap<i64, Totals>,
    watermark_ms: Option<i64>,
}

impl Fold {
    fn of(env: &Env, partition: i32, entries: &[Entry]) -> Checked<Self> {
        let mut fold = Self::default();
        for entry in entries {
            let slot = env.kafka.log(partition).slot(entry.generation, entry.offset);
            // A record that is gone was compacted before it was read, or after.
            let expected = match slot {
                Some(Slot::Record(record) | Slot::Gone(record)) => fold.record(env, entry, record),
                _ if entry.outcome == Outcome::Lost => Outcome::Lost,
                _ => Outcome::Skipped,
            };
            let sampled_out =
                matches!(entry.outcome, Outcome::SampledOut(reason) if expected == Outcome::Rejected(reason));
            ensure!(
                expected == entry.outcome || sampled_out,
                "partition {partition}: {entry:?} should be {expected:?}"
            );
        }
        Ok(fold)
    }

    fn record(&mut self, env: &Env, entry: &Entry, record: &Record) -> Outcome {
        if matches!(entry.outcome, Outcome::Lost | Outcome::Skipped) {
            return entry.outcome;
        }
        self.expect(env, entry, record.truth)
    }

    fn expect(&mut self, env: &Env, entry: &Entry, truth: Truth) -> Outcome {
        let settings = &env.plan.settings;
        let (event_time_ms, metrics) = match truth {
            Truth::Bad(reason) => return Outcome::Rejected(reason),
            Truth::Reading { event_time_ms, metrics, .. } => (event_time_ms, metrics),
        };
        if matches!(entry.outcome, Outcome::Rejected(Reason::Future) | Outcome::SampledOut(Reason::Future)) {
            return Outcome::Rejected(Reason::Future);
        }
        let start_ms = event_time_ms.div_euclid(settings.window_ms) * settings.window_ms;
        let late = match env.plan.changing_delay {
            // Which delay was in force is not known here.
            true => {
                matches!(entry.outcome, Outcome::Rejected(Reason::Late) | Outcome::SampledOut(Reason::Late))
            }
            false => self.watermark_ms.is_some_and(|at| start_ms + settings.window_ms <= at),
        };
        if late {
            return Outcome::Rejected(Reason::Late);
        }
        self.watermark_ms = self.watermark_ms.max(Some(event_time_ms - settings.out_of_orderness_ms));
        let reading = Reading { event_time_ms, metrics, left_out: [None; 3] };
        add(self.windows.entry(start_ms).or_default(), (0, entry.offset), &reading);
        Outcome::Aggregated
    }
}
