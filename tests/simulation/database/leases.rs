//! The statements of `src/postgres/leases.rs`.

use weather::engine::assignment::Leases;
use weather::engine::flush_plan::Standing;
use weather::engine::stations::StationRow;
use weather::engine::watermark::NONE;
use weather::engine::window::Window;

use super::{Answer, ClaimedRow, Database, PartitionRow};
use crate::kafka::Kafka;
use crate::trace::{Checked, Trace};

impl Database {
    pub(super) fn add_partitions(&mut self, partitions: &[i32]) -> Answer {
        for partition in partitions {
            self.tables.partitions.entry(*partition).or_default();
        }
        Answer::Done
    }

    /// The first statement of a beat: this process lives, and keeps what it owns. A locked row is skipped.
    pub(super) fn beat(&mut self, owner: &str, owned: &[(i32, i64)], shares: bool, now_ms: i64) {
        let expires_ms = now_ms + self.lease_ms;
        if shares {
            self.tables.processes.insert(owner.to_owned(), expires_ms);
        }
        let locks = &self.row_locks;
        let free = |(partition, _): &&(i32, i64)| !locks.contains_key(partition);
        let free: Vec<(i32, i64)> = owned.iter().filter(free).copied().collect();
        for row in self.owned(owner, &free) {
            row.lease_expires_ms = Some(expires_ms);
        }
    }

    fn owned<'a>(
        &'a mut self,
        owner: &'a str,
        owned: &'a [(i32, i64)],
    ) -> impl Iterator<Item = &'a mut PartitionRow> {
        self.tables.partitions.iter_mut().filter_map(move |(partition, row)| {
            let ours = row.owner.as_deref() == Some(owner) && owned.contains(&(*partition, row.epoch));
            ours.then_some(row)
        })
    }

    /// The second: who lives and who owns what.
    pub(super) fn look(&self, owner: &str, shares: bool, now_ms: i64) -> Answer {
        let valid = |row: &PartitionRow| row.lease_expires_ms.is_some_and(|at| at > now_ms);
        let owner_of = |row: &PartitionRow| if valid(row) { row.owner.clone() } else { None };
        let live = self.tables.processes.iter().filter(|(_, expires_ms)| **expires_ms > now_ms);
        let mut processes: Vec<String> = live.map(|(name, _)| name.clone()).collect();
        if shares {
            processes.push(owner.to_owned());
        }
        processes.sort_unstable();
        processes.dedup();
        let rows = &self.tables.partitions;
        Answer::Leases(Leases {
            processes,
            owners: rows.iter().map(|(partition, row)| (*partition, owner_of(row))).collect(),
            epochs: rows.iter().map(|(partition, row)| (*partition, row.epoch)).collect(),
        })
    }

    pub(super) fn claim(
        &mut self,
        client: u64,
        owner: &str,
        wanted: &[i32],
        now_ms: i64,
        trace: &mut Trace,
    ) -> Checked<Answer> {
        let mut claimed = Vec::new();
        for (partition, row) in self.tables.partitions.iter_mut().filter(|(p, _)| wanted.contains(p)) {
            let before = row.clone();
            let free = row.owner.is_none()
                || row.owner.as_deref() == Some(owner)
                || row.lease_expires_ms.is_none_or(|at| at <= now_ms);
            if !free {
                continue;
            }
            row.owner = Some(owner.to_owned());
            // Never one that was there before, not even in a database that was set back.
            row.epoch = now_ms.max(row.epoch + 1);
            row.lease_expires_ms = Some(now_ms + self.lease_ms);
            row.taken_by = client;
            if let Some(stored) = &mut row.stored {
                stored.progress.idle = 0;
            }
            super::audit::claim(*partition, &before, row, now_ms)?;
            trace.note("claimed", &[client as i64, i64::from(*partition), row.epoch]);
            claimed.push(ClaimedRow {
                partition: *partition,
                epoch: row.epoch,
                epoch_before: before.epoch,
                stored: row.stored.clone(),
            });
        }
        Ok(Answer::Claimed(claimed))
    }

    pub(super) fn open_windows(&self, partition: i32, after_ms: i64) -> Answer {
        let rows = self.tables.partials.range((partition, after_ms + 1)..(partition + 1, i64::MIN));
        let windows = rows.map(|((_, start_ms), totals)| Window { start_ms: *start_ms, totals: *totals });
        let open = |key: &(i32, i64, Box<str>)| key.0 == partition && key.1 > after_ms;
        let stations = self
            .tables
            .stations
            .iter()
            .filter(|(key, _)| open(key))
            .map(|(key, totals)| StationRow { start_ms: key.1, station: key.2.clone(), totals: *totals });
        Answer::Windows(windows.collect(), stations.collect())
    }

    pub(super) fn release(&mut self, owner: &str, owned: &[(i32, i64)]) -> Answer {
        for row in self.owned(owner, owned) {
            (row.owner, row.lease_expires_ms) = (None, None);
        }
        Answer::Done
    }

    pub(super) fn standing(&self, partitions: &[i32]) -> Answer {
        let rows = self.tables.partitions.iter().filter(|(partition, _)| partitions.contains(partition));
        let standing = |(partition, row): (&i32, &PartitionRow)| Standing {
            partition: *partition,
            epoch: row.epoch,
            position: row.position(),
        };
        Answer::Standing(rows.map(standing).collect())
    }

    /// Marks windows final; a locked one is skipped.
    pub(super) fn finish(
        &mut self,
        out_of_orderness_ms: i64,
        partitions: &[i32],
        now_ms: i64,
        kafka: &Kafka,
        trace: &mut Trace,
    ) -> Checked<Answer> {
        let passed = |row: &PartitionRow| match &row.stored {
            // Without an owner nobody knows what has come since.
            Some(stored)
                if stored.progress.idle != 0 && row.lease_expires_ms.is_some_and(|at| at > now_ms) =>
            {
                stored.progress.watermark_ms.max(now_ms - out_of_orderness_ms)
            }
            Some(stored) => stored.progress.watermark_ms,
            None => NONE,
        };
        // A partition that has no row yet has passed nothing.
        let rows =
            partitions.iter().map(|partition| self.tables.partitions.get(partition).map_or(NONE, passed));
        let Some(passed_ms) = rows.min() else { return Ok(Answer::Done) };
        let mut finished = Vec::new();
        for (start_ms, row) in &mut self.tables.summary {
            let ended = start_ms + self.window_ms <= passed_ms && row.totals.readings > 0;
            if ended && !row.is_final && !self.window_locks.contains_key(start_ms) {
                row.is_final = true;
                finished.push(*start_ms);
            }
        }
        if !finished.is_empty() {
            trace.note("finished", &finished);
            self.audit_finished(&finished, partitions, trace.now_ms, kafka)?;
        }
        Ok(Answer::Done)
    }
}
