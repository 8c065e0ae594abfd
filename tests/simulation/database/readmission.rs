//! The statements of `src/postgres/readmission.rs`, and between them what `src/readmit` does with the engine: a portion of
//! dead letters is locked, judged, marked and added to its windows in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use weather::engine::dead_letter::DeadLetter;
use weather::engine::readmission::{Readmission, Taken, stations_after};
use weather::engine::stations::{StationRow, StationTotals};
use weather::engine::window::{Totals, Window};
use weather::reading::{Format, Reason};

use super::{Answer, Call, Database, Progressed, Request};
use crate::trace::{Checked, Trace, ensure};

/// The partition that readmitted readings are counted under.
pub const READMITTED: i32 = weather::postgres::readmission::READMITTED;
/// Dead letters in one transaction.
const PORTION: usize = 7;

/// The statement that waits for the partials of other runs.
pub(super) const LOCK_PARTIALS: u32 = 2;
/// The statement that waits for the rows of the summary.
pub(super) const LOCK_ROWS: u32 = 4;
const LOCK: u32 = 0;
const RECOMPUTE: u32 = 5;
const COMMIT: u32 = 6;

/// Partition, incarnation and offset of a dead letter.
pub type Key = (i32, i64, i64);

/// A row of `weather_dead_letter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDeadLetter {
    pub reason: Reason,
    pub payload: Option<Arc<[u8]>>,
    pub payload_bytes: i64,
    /// It is marked: its readings are in the partials of [`READMITTED`].
    pub is_readmitted: bool,
}

impl KeptDeadLetter {
    pub fn new(dead_letter: &DeadLetter) -> Self {
        let DeadLetter { reason, payload, payload_bytes, .. } = dead_letter.clone();
        Self { reason, payload, payload_bytes, is_readmitted: false }
    }
}

/// What a transaction has found and will write.
#[derive(Debug, Default)]
pub(super) struct Portion {
    /// The last dead letter that was looked at.
    last: Option<Key>,
    keys: Vec<Key>,
    taken: Taken,
    /// The partials as they were when they were locked.
    before: Vec<Window>,
}

impl Database {
    pub(super) fn readmit(&mut self, call: &mut Call, trace: &mut Trace) -> Checked<Progressed> {
        match call.statement {
            LOCK => {
                self.lock_dead_letters(call);
                if call.portion.keys.is_empty() {
                    return Ok(Progressed::Ended(Ok(Answer::Readmitted(call.portion.last, 0))));
                }
            }
            LOCK_PARTIALS => {
                let touched = &call.transaction.touched;
                self.partial_locks.extend(touched.iter().map(|window| (*window, call.id)));
                let partial = |window: &i64| self.tables.partials.get(&(READMITTED, *window)).copied();
                let before = |start_ms: &i64| Window {
                    start_ms: *start_ms,
                    totals: partial(start_ms).unwrap_or_default(),
                };
                call.portion.before = touched.iter().map(before).collect();
            }
            LOCK_ROWS => {
                self.window_locks.extend(call.transaction.touched.iter().map(|window| (*window, call.id)));
            }
            RECOMPUTE => {
                let sums = call.portion.sums();
                let own = |window: i64| {
                    let sums = &sums;
                    move |partition: i32| {
                        (partition == READMITTED).then(|| sums.get(&window).copied()).flatten()
                    }
                };
                let sum = |window: &i64| (*window, self.recomputed(*window, own(*window)));
                call.transaction.summary = call.transaction.touched.iter().map(sum).collect();
            }
            COMMIT => {
                self.audit_summary(&call.transaction.summary)?;
                self.on_disk = None;
                self.commit_readmission(call);
                trace.note("readmitted", &[call.client as i64, call.portion.keys.len() as i64]);
                self.audit_readmitted()?;
                self.audit_admitted(call)?;
                call.transaction.touched.iter().try_for_each(|window| self.audit_window(*window))?;
                let (last, count) = (call.portion.last, call.portion.keys.len());
                return Ok(Progressed::Ended(Ok(Answer::Readmitted(last, count))));
            }
            // Marked, and the partials stored: seen with the rest.
            _ => {}
        }
        Ok(Progressed::Further)
    }

    /// Locks dead letters that no other run holds, and decides which of them are taken.
    fn lock_dead_letters(&mut self, call: &mut Call) {
        let Request::Readmit { after, reasons, criteria } = &call.request else { return };
        let mut readmission = Readmission::new(*criteria, Format::shared());
        let is_asked = |(key, kept): &(&Key, &KeptDeadLetter)| {
            after.is_none_or(|after| **key > after) && !kept.is_readmitted && reasons.contains(&kept.reason)
        };
        let mut locked = Vec::new();
        let is_free = |(key, _): &(&Key, &KeptDeadLetter)| !self.dead_letter_locks.contains_key(key);
        let found = self.tables.dead_letters.iter().filter(is_asked).filter(is_free).take(PORTION);
        for (key, kept) in found {
            call.portion.last = Some(*key);
            locked.push(*key);
            if readmission.take(key.2, kept.payload.as_deref(), kept.payload_bytes).is_ok() {
                call.portion.keys.push(*key);
            }
        }
        self.dead_letter_locks.extend(locked.into_iter().map(|key| (key, call.id)));
        call.portion.taken = readmission.taken();
        call.transaction.touched = call.portion.taken.windows.iter().map(|window| window.start_ms).collect();
    }

    /// Nothing was taken that lies in the future or outside of what was asked for.
    fn audit_admitted(&self, call: &Call) -> Checked {
        let Request::Readmit { criteria, .. } = &call.request else { return Ok(()) };
        for (start_ms, _, key, reading) in self.readmitted()? {
            let is_inside = criteria.from_ms.is_none_or(|from| start_ms >= from)
                && criteria.to_ms.is_none_or(|to| start_ms < to);
            let is_admitted = reading.event_time_ms <= criteria.future_ms && is_inside;
            ensure!(
                is_admitted || !call.portion.keys.contains(&key),
                "{key:?} was taken against {criteria:?}"
            );
        }
        Ok(())
    }

    fn commit_readmission(&mut self, call: &Call) {
        let portion = &call.portion;
        for key in &portion.keys {
            if let Some(kept) = self.tables.dead_letters.get_mut(key) {
                kept.is_readmitted = true;
            }
        }
        for (window, totals) in portion.sums() {
            self.tables.partials.insert((READMITTED, window), totals);
        }
        self.store_summary(&call.transaction.summary);
        if self.by_station {
            let stored = self.tables.stations.iter();
            let stored =
                stored.filter(|(key, _)| key.0 == READMITTED && call.transaction.touched.contains(&key.1));
            let row = |(key, totals): (&(i32, i64, Box<str>), &StationTotals)| StationRow {
                start_ms: key.1,
                station: key.2.clone(),
                totals: *totals,
            };
            let stored = stored.map(row).collect();
            for row in stations_after(stored, &portion.before, &portion.taken.readings) {
                self.tables.stations.insert((READMITTED, row.start_ms, row.station), row.totals);
            }
        }
    }
}

impl Portion {
    /// The partials with what is taken.
    fn sums(&self) -> BTreeMap<i64, Totals> {
        let mut sums: BTreeMap<i64, Totals> =
            self.before.iter().map(|window| (window.start_ms, window.totals)).collect();
        for window in &self.taken.windows {
            sums.entry(window.start_ms).or_default().merge(&window.totals);
        }
        sums
    }
}
