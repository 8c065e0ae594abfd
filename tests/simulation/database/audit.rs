//! What must hold of the tables after every change.

use std::collections::{BTreeMap, BTreeSet};

use weather::engine::watermark::NONE;
use weather::engine::window::Totals;
use weather::reading::Reading;

use super::{Database, Key, Part, PartitionRow, READMITTED};
use crate::kafka::{Kafka, Log, Slot, Truth};
use crate::ledger::{Ledger, add, without_offsets};
use crate::trace::{Checked, ensure};

/// A partition was taken.
pub(super) fn claim(partition: i32, before: &PartitionRow, after: &PartitionRow, now_ms: i64) -> Checked {
    let leased = before.lease_expires_ms.is_some_and(|at| at > now_ms);
    let another = before.owner.is_some() && before.owner != after.owner;
    ensure!(
        !leased || !another,
        "partition {partition} was taken from {:?} before its lease ran out",
        before.owner
    );
    ensure!(after.epoch > before.epoch, "partition {partition} was taken without a new epoch");
    Ok(())
}

impl Database {
    /// Checks a flush before it takes effect: that it continues from what is there.
    pub(super) fn audit_continuity(
        &self,
        client: u64,
        parts: &[Part],
        summary: &BTreeMap<i64, Totals>,
    ) -> Checked {
        self.audit_summary(summary)?;
        parts.iter().try_for_each(|part| self.audit_part(client, part))
    }

    /// Checks rows of the output before they are written: none loses readings.
    pub(super) fn audit_summary(&self, summary: &BTreeMap<i64, Totals>) -> Checked {
        for (window, totals) in summary {
            let before = self.tables.summary.get(window).map_or(0, |row| row.totals.readings);
            ensure!(
                before <= totals.readings,
                "reading_count of window {window} goes back from {before} to {}",
                totals.readings
            );
        }
        Ok(())
    }

    fn audit_part(&self, client: u64, part: &Part) -> Checked {
        let Some(row) = self.tables.partitions.get(&part.partition) else { return Ok(()) };
        let (partition, epoch) = (part.partition, part.epoch);
        ensure!(
            row.epoch == epoch && row.taken_by == client,
            "process {client} wrote partition {partition} under epoch {epoch}, which process {} holds under {}",
            row.taken_by,
            row.epoch
        );
        let Some(stored) = &row.stored else { return Ok(()) };
        let (old, new) = (&stored.progress, &part.state.progress);
        ensure!(
            old.position() <= new.position(),
            "partition {partition} went back from {:?} to {:?}",
            old.position(),
            new.position()
        );
        ensure!(
            old.watermark_ms <= new.watermark_ms,
            "the watermark of partition {partition} went back from {} to {}",
            old.watermark_ms,
            new.watermark_ms
        );
        ensure!(
            part.ledger.continues(&stored.ledger),
            "what is written of partition {partition} at {:?} does not continue what is there at {:?}",
            new.position(),
            old.position()
        );
        Ok(())
    }

    /// Checks the tables after a flush.
    pub(super) fn audit_flush(&mut self, client: u64, parts: &[Part], touched: &BTreeSet<i64>) -> Checked {
        for part in parts {
            let writer = *self.writers.entry((part.partition, part.epoch)).or_insert(client);
            ensure!(
                writer == client,
                "processes {writer} and {client} both wrote partition {} under epoch {}",
                part.partition,
                part.epoch
            );
            self.audit_partition(part.partition, &part.ledger)?;
        }
        touched.iter().try_for_each(|window| self.audit_window(*window))
    }

    /// What is stored of a partition is what its ledger says.
    pub fn audit_partition(&self, partition: i32, ledger: &Ledger) -> Checked {
        let rows = self.tables.partials.range((partition, i64::MIN)..(partition + 1, i64::MIN));
        let rows: Vec<_> = rows.map(|((_, window), totals)| (*window, *totals)).collect();
        let known: Vec<_> = ledger.windows.iter().map(|(window, totals)| (*window, *totals)).collect();
        ensure!(rows == known, "partials of partition {partition}: {rows:?}, the ledger {known:?}");
        let rows = self.tables.stations.iter().filter(|(key, _)| key.0 == partition);
        let rows: Vec<_> = rows.map(|(key, totals)| (key.1, &*key.2, *totals)).collect();
        let known = ledger.stations.iter();
        let known: Vec<_> = known.map(|((start_ms, name), t)| (*start_ms, name.as_str(), t.into())).collect();
        ensure!(rows == known, "stations of partition {partition}: {rows:?}, the ledger {known:?}");
        let from = (partition, i64::MIN, i64::MIN);
        let dead_letters = self.tables.dead_letters.range(from..(partition + 1, i64::MIN, i64::MIN));
        let dead_letters: Vec<_> =
            dead_letters.map(|((_, log, offset), kept)| ((*log, *offset), kept.reason)).collect();
        let known: Vec<_> = ledger.dead_letters.iter().map(|(at, refused)| (*at, refused.reason)).collect();
        ensure!(
            dead_letters == known,
            "dead letters of partition {partition}: {dead_letters:?}, the ledger {known:?}"
        );
        Ok(())
    }

    /// A row of the summary is the sum of its partials.
    pub fn audit_window(&self, window: i64) -> Checked {
        let sum = self.recomputed(window, |_| None);
        let row = self.tables.summary.get(&window).copied().unwrap_or_default();
        ensure!(row.totals == sum, "the summary of {window} says {:?}, its partials {sum:?}", row.totals);
        Ok(())
    }

    /// What readmission has added is what the marked dead letters really are, each once.
    pub fn audit_readmitted(&self) -> Checked {
        let (mut windows, mut stations) = (BTreeMap::<i64, Totals>::new(), BTreeMap::<_, i64>::new());
        for (start_ms, station, key, reading) in self.readmitted()? {
            add(windows.entry(start_ms).or_default(), (0, key.2), &reading);
            *stations.entry((start_ms, station)).or_default() += 1;
        }
        let rows = self.tables.partials.range((READMITTED, i64::MIN)..(READMITTED + 1, i64::MIN));
        let rows: Vec<_> = rows.map(|(key, totals)| (key.1, without_offsets(totals))).collect();
        let known: Vec<_> =
            windows.iter().map(|(window, totals)| (*window, without_offsets(totals))).collect();
        ensure!(rows == known, "readmitted: {rows:?}, the marked dead letters {known:?}");
        let rows = self.tables.stations.iter().filter(|(key, _)| key.0 == READMITTED);
        let rows: BTreeMap<_, _> =
            rows.map(|(key, totals)| ((key.1, key.2.to_string()), totals.readings)).collect();
        let is_asked = self.by_station;
        ensure!(
            !is_asked || rows == stations,
            "readmitted stations: {rows:?}, the dead letters {stations:?}"
        );
        Ok(())
    }

    /// The readings of the marked dead letters, with their windows, stations and keys.
    pub fn readmitted(&self) -> Checked<Vec<(i64, String, Key, Reading)>> {
        let marked = self.tables.dead_letters.iter().filter(|(_, kept)| kept.is_readmitted);
        let mut readings = Vec::new();
        for (key, kept) in marked {
            let row = self.tables.partitions.get(&key.0).and_then(|row| row.stored.as_ref());
            let known = row.and_then(|stored| stored.ledger.dead_letters.get(&(key.1, key.2)));
            let reading = known.and_then(|refused| refused.reading);
            let Some((reading, station)) = reading else {
                return Err(crate::trace::Violation(format!("{key:?} was readmitted: {kept:?}, {known:?}")));
            };
            let start_ms = reading.event_time_ms - reading.event_time_ms.rem_euclid(self.window_ms);
            let station = station.map_or_else(String::new, |number| format!("s{number}"));
            readings.push((start_ms, station, *key, reading));
        }
        Ok(readings)
    }

    /// No window may be closed over records that were there to be read for long.
    pub(super) fn audit_finished(
        &self,
        finished: &[i64],
        known: &[i32],
        now_ms: i64,
        kafka: &Kafka,
    ) -> Checked {
        let known_by_ms = now_ms - self.grace_ms;
        for partition in kafka.partitions() {
            let row = self.tables.partitions.get(&partition);
            let leased = row.and_then(|row| row.lease_expires_ms);
            let leased = leased.is_some_and(|at| at > now_ms + self.clock_offset_ms);
            // An owner may be held up, and so may be who has yet to hear of a new partition; nobody cannot.
            if (leased || !known.contains(&partition)) && self.undisturbed_since_ms > known_by_ms {
                continue;
            }
            let stored = row.and_then(|row| row.stored.as_ref());
            let unread = self.unread(kafka.log(partition), stored.map(|s| &*s.ledger), known_by_ms);
            let closed = unread.iter().find(|(start_ms, _)| finished.contains(start_ms));
            ensure!(
                closed.is_none(),
                "window {closed:?} became final at {now_ms}, before partition {partition} had read its records"
            );
        }
        Ok(())
    }

    /// The windows, with offsets, of on-time records that were appended before a time and are not in the tables.
    fn unread(&self, log: &Log, ledger: Option<&Ledger>, before_ms: i64) -> Vec<(i64, i64)> {
        let same = ledger.filter(|ledger| ledger.generation == log.generation());
        let mut offset = same.map_or(0, |ledger| ledger.next_offset).max(log.earliest());
        let mut watermark_ms = ledger.map_or(NONE, |ledger| ledger.watermark_ms);
        let mut windows = Vec::new();
        while let Some(slot) = log.slot(log.generation(), offset) {
            let Slot::Record(record) = slot else {
                offset += 1;
                continue;
            };
            if record.appended_ms > before_ms {
                break;
            }
            if let Truth::Reading { event_time_ms, .. } = record.truth {
                let start_ms = event_time_ms - event_time_ms.rem_euclid(self.window_ms);
                if start_ms + self.window_ms > watermark_ms {
                    windows.push((start_ms, offset));
                }
                // Without the delay, so that whatever may be late counts as late.
                watermark_ms = watermark_ms.max(event_time_ms);
            }
            offset += 1;
        }
        windows
    }
}
