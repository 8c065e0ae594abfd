//! The statements of `src/postgres/write.rs` beside other processes: one transaction, seen by others when it commits, and on
//! disk when a second one is.

use std::collections::{BTreeMap, BTreeSet};

use weather::engine::checkpoint::encode_log_memory;
use weather::engine::state::Position;
use weather::engine::window::Totals;

use super::{
    Answer, Call, Database, KeptDeadLetter, Part, Progressed, READMITTED, Request, Stored, Trouble, touched,
};
use crate::trace::{Checked, Trace};

/// The statement that checks the epochs and moves the offsets.
pub(super) const ADVANCE: u32 = 0;
/// The statement that waits for the rows of the summary.
pub(super) const LOCK_ROWS: u32 = 2;
const RECOMPUTE: u32 = 3;
/// Seen by others from here on, and gone if the server crashes before the next.
const COMMIT: u32 = 4;
/// The second transaction, which is over when both are on disk.
const WAIT_FOR_DISK: u32 = 5;

/// What a transaction has written and others do not see yet.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// Windows whose rows it changes.
    pub touched: BTreeSet<i64>,
    pub summary: BTreeMap<i64, Totals>,
}

impl Database {
    pub(super) fn flush(&mut self, call: &mut Call, now_ms: i64, trace: &mut Trace) -> Checked<Progressed> {
        let Request::Flush(parts) = &call.request else { return Ok(Progressed::Ended(Ok(Answer::Done))) };
        match call.statement {
            ADVANCE => {
                if !parts.iter().all(|part| self.may_advance(part)) {
                    trace.note("fenced in the database", &[call.client as i64]);
                    return Ok(Progressed::Ended(Err(Trouble::Fenced)));
                }
                for part in parts {
                    self.row_locks.insert(part.partition, call.id);
                }
                call.transaction.touched = touched(parts);
            }
            LOCK_ROWS => {
                for window in &call.transaction.touched {
                    self.window_locks.insert(*window, call.id);
                }
            }
            RECOMPUTE => {
                let sum = |window: &i64| {
                    (*window, self.recomputed(*window, |partition| own(parts, partition, *window)))
                };
                call.transaction.summary = call.transaction.touched.iter().map(sum).collect();
            }
            COMMIT => {
                self.audit_continuity(call.client, parts, &call.transaction.summary)?;
                self.on_disk.get_or_insert_with(|| self.tables.clone());
                self.commit(parts, &call.transaction, now_ms);
                self.unlock(call.id);
                trace.note("flush committed", &numbers(call.client, parts));
                self.audit_flush(call.client, parts, &call.transaction.touched)?;
            }
            WAIT_FOR_DISK => {
                self.on_disk = None;
                return Ok(Progressed::Ended(Ok(Answer::Done)));
            }
            // The partials are written, and seen with the rest.
            _ => {}
        }
        Ok(Progressed::Further)
    }

    /// The fence: the epoch is ours, and the table is neither ahead of us nor behind what it once confirmed.
    fn may_advance(&self, part: &Part) -> bool {
        let progress = &part.state.progress;
        let never_flushed = Position { incarnation: 0, offset: progress.origin_offset };
        self.tables.partitions.get(&part.partition).is_some_and(|row| {
            let in_range = match row.position() {
                None => part.known == never_flushed,
                Some(at) => (part.known..=progress.position()).contains(&at),
            };
            row.epoch == part.epoch && in_range
        })
    }

    /// The sum of a window's partials: what others have committed, with what a transaction writes over it.
    pub(super) fn recomputed(&self, window: i64, own: impl Fn(i32) -> Option<Totals>) -> Totals {
        let mut sum = Totals::default();
        for partition in [READMITTED].iter().chain(self.tables.partitions.keys()) {
            let stored = || self.tables.partials.get(&(*partition, window)).copied();
            if let Some(totals) = own(*partition).or_else(stored) {
                sum.merge(&totals);
            }
        }
        sum
    }

    fn commit(&mut self, parts: &[Part], transaction: &Transaction, now_ms: i64) {
        for part in parts {
            if let Some(row) = self.tables.partitions.get_mut(&part.partition) {
                row.lease_expires_ms = Some(now_ms + self.lease_ms);
                row.stored = Some(stored(part, row.stored.as_ref()));
            }
            for window in &part.windows {
                self.tables.partials.insert((part.partition, window.start_ms), window.totals);
            }
            for row in &part.stations {
                let key = (part.partition, row.start_ms, row.station.clone());
                self.tables.stations.insert(key, row.totals);
            }
            for dead_letter in &part.dead_letters {
                let key = (part.partition, dead_letter.incarnation, dead_letter.offset);
                self.tables.dead_letters.entry(key).or_insert_with(|| KeptDeadLetter::new(dead_letter));
            }
        }
        self.store_summary(&transaction.summary);
    }

    /// Writes rows of the output.
    pub(super) fn store_summary(&mut self, summary: &BTreeMap<i64, Totals>) {
        for (window, totals) in summary {
            self.tables.summary.entry(*window).or_default().totals = *totals;
        }
    }
}

/// What parts write of a window of a partition.
fn own(parts: &[Part], partition: i32, window: i64) -> Option<Totals> {
    let part = parts.iter().find(|part| part.partition == partition)?;
    part.windows.iter().find(|w| w.start_ms == window).map(|w| w.totals)
}

/// A part's columns, as a claim reads them back.
fn stored(part: &Part, before: Option<&Stored>) -> Stored {
    let mut progress = part.state.progress;
    // A flush that arrives late takes nothing back.
    let idle = before.is_some_and(|b| b.progress.idle != 0 && b.progress.position() == progress.position());
    progress.idle = progress.idle.max(i64::from(idle));
    // Not columns: what is in the table is flushed.
    progress.flushed_incarnation = progress.incarnation;
    progress.flushed_offset = progress.next_offset;
    Stored { progress, memory: encode_log_memory(part.state.log), ledger: part.ledger.clone() }
}

fn numbers(client: u64, parts: &[Part]) -> Vec<i64> {
    let mut numbers = vec![client as i64];
    for part in parts {
        let windows: i64 = part.windows.iter().map(|w| w.totals.readings).sum();
        let progress = &part.state.progress;
        numbers.extend([i64::from(part.partition), part.epoch, progress.next_offset, progress.idle, windows]);
    }
    numbers
}
