//! What a flush has to write, and what PostgreSQL's answer to it means for each partition.
//!
//! A round begins with the owned partitions ([`FlushPlan::begin`]), takes each partition's state ([`FlushPlan::add`]),
//! and sends portions ([`FlushPlan::portion`]) until none is left. Each portion ends as confirmed
//! ([`FlushPlan::confirm`]) or refused ([`FlushPlan::refused`]).
//!
//! Invariants
//! - What counts as written was confirmed, under the epoch that the partition is held under now.
//! - A new connection may be to a database that was set back: windows that were written are then written again.
//! - Only samples of dead letters are ever left out, and only when PostgreSQL refuses the partition with them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::engine::assignment::Lost;
use crate::engine::dead_letter::DeadLetter;
use crate::engine::partition::Confirmation;
use crate::engine::state::{PartitionState, Position};
use crate::engine::stations::StationRow;
use crate::engine::window::{Totals, Window};

/// What PostgreSQL has of each partition, as far as this process wrote it, and what is still to be sent in this round.
#[derive(Debug, Default)]
pub struct FlushPlan {
    written: BTreeMap<i32, Written>,
    /// Connections there had been when what is written was last relied on.
    connections: u64,
    portions: VecDeque<Vec<PartitionFlush>>,
    /// What the last of them costs.
    filled: usize,
}

/// What is written in one transaction, unless a partition alone is more. Every part of it is in memory several times: as
/// rows, as parameters, and as bytes on their way. A backlog must not be all at once.
const MAX_PORTION_BYTES: usize = 2 * 1024 * 1024;

/// The number of flushes grows with the logarithm of a transaction's age, and this times.
const FLUSHES_UNDER_ONE_SNAPSHOT: u32 = 150;
/// However old a transaction is, the next flush is not further away.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// From one flush to the next; `oldest_snapshot` is how long PostgreSQL's longest transaction has lasted. For its sake
/// PostgreSQL keeps every version of the rows that are written here, and each flush steps over all of them: were they
/// written as often as otherwise, flushes would take longer and longer.
pub fn pause(interval: Duration, oldest_snapshot: Duration) -> Duration {
    interval.max((oldest_snapshot / FLUSHES_UNDER_ONE_SNAPSHOT).min(LONGEST_PAUSE))
}

/// What PostgreSQL has of a partition.
#[derive(Debug, Default)]
struct Written {
    epoch: i64,
    position: Option<Position>,
    /// None: to be written again, as the windows are.
    idle: Option<i64>,
    windows: BTreeMap<i64, Totals>,
}

/// One partition as it is when a round begins.
#[derive(Debug)]
pub struct Offer {
    /// Which partition.
    pub partition: i32,
    /// The epoch it is held under.
    pub epoch: i64,
    /// Its state.
    pub state: PartitionState,
    /// The dead letters that belong to the state and are not confirmed.
    pub dead_letters: Vec<DeadLetter>,
    /// The stations that changed since PostgreSQL's last confirmation.
    pub stations: Vec<StationRow>,
    /// Kafka's end of the partition as last heard.
    pub high_watermark: i64,
}

/// What PostgreSQL has now, for the owner of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// Which partition.
    pub partition: i32,
    /// The epoch it was written under.
    pub epoch: i64,
    /// How far.
    pub confirmation: Confirmation,
}

/// How PostgreSQL refused a portion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A partition of it has another owner, or the database was set back.
    Fenced,
    /// A value cannot be stored.
    BadValue,
    /// Anything else: away, busy, not willing.
    NotNow,
}

/// What to do about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Send the next portion: the partitions go one by one now, to find the one that is refused.
    SendApart,
    /// Send the portion again, which has this many dead letters fewer.
    SendWithout {
        /// Which partition.
        partition: i32,
        /// How many dead letters were left out.
        left_out: usize,
    },
    /// Read the rows of the portion's partitions, for [`FlushPlan::fenced`].
    AskStanding,
    /// Wait, then begin another round on a new connection.
    TryAgain,
}

impl FlushPlan {
    /// Begins a round for the owned partitions, each with its epoch; `connections` counts the connections so far.
    pub fn begin(&mut self, held: &[(i32, i64)], connections: u64) {
        self.portions.clear();
        self.written.retain(|partition, written| held.contains(&(*partition, written.epoch)));
        // Whatever is new makes a database noticed that was set back; nothing new must not leave it so.
        if std::mem::replace(&mut self.connections, connections) != connections {
            for written in self.written.values_mut() {
                written.idle = None;
                written.windows.clear();
            }
        }
    }

    /// Adds what PostgreSQL does not have of a partition; whether that is anything.
    pub fn add(&mut self, offer: Offer) -> bool {
        let Offer { partition, epoch, state, dead_letters, stations, high_watermark } = offer;
        let written = self.written.entry(partition).or_default();
        written.epoch = epoch;
        let has = |window: &&Window| written.windows.get(&window.start_ms) != Some(&window.totals);
        let windows: Vec<Window> = state.windows.iter().filter(has).copied().collect();
        let position = state.progress.position();
        if written.position == Some(position)
            && written.idle == Some(state.progress.idle)
            && windows.is_empty()
            && stations.is_empty()
        {
            return false;
        }
        let known = written.position.unwrap_or(state.progress.flushed());
        let flush = PartitionFlush {
            partition,
            epoch,
            state,
            known,
            high_watermark,
            windows,
            dead_letters,
            stations,
        };
        let cost = flush.cost();
        match self.portions.back_mut() {
            Some(last) if self.filled + cost <= MAX_PORTION_BYTES => last.push(flush),
            _ => {
                self.portions.push_back(vec![flush]);
                self.filled = 0;
            }
        }
        self.filled += cost;
        true
    }

    /// What to send now, in one transaction; empty if the round is done.
    pub fn portion(&self) -> &[PartitionFlush] {
        self.portions.front().map_or(&[], Vec::as_slice)
    }

    /// PostgreSQL has committed the portion.
    pub fn confirm(&mut self) -> Vec<Confirmed> {
        let portion = self.portions.pop_front().unwrap_or_default();
        portion.into_iter().map(|part| self.confirm_one(&part)).collect()
    }

    fn confirm_one(&mut self, part: &PartitionFlush) -> Confirmed {
        let progress = &part.state.progress;
        let (position, watermark_ms) = (progress.position(), progress.watermark_ms);
        let windows = part.state.windows.iter().map(|w| (w.start_ms, w.totals)).collect();
        let (partition, epoch) = (part.partition, part.epoch);
        let written = Written { epoch, position: Some(position), idle: Some(progress.idle), windows };
        self.written.insert(partition, written);
        Confirmed { partition, epoch, confirmation: Confirmation { position, watermark_ms } }
    }

    /// PostgreSQL has not taken the portion.
    pub fn refused(&mut self, refusal: Refusal) -> Remedy {
        match refusal {
            Refusal::Fenced => Remedy::AskStanding,
            Refusal::NotNow => Remedy::TryAgain,
            Refusal::BadValue => self.isolate(),
        }
    }

    /// Only what comes from outside can be refused, and only the samples of it can be done without.
    fn isolate(&mut self) -> Remedy {
        let Some(mut portion) = self.portions.pop_front() else { return Remedy::TryAgain };
        let remedy = match portion.as_mut_slice() {
            [part] if part.dead_letters.is_empty() => Remedy::TryAgain,
            [part] => {
                let kept = part.dead_letters.len() / 2;
                let left_out = part.dead_letters.len() - kept;
                part.dead_letters.truncate(kept);
                Remedy::SendWithout { partition: part.partition, left_out }
            }
            _ => {
                portion.into_iter().rev().for_each(|part| self.portions.push_front(vec![part]));
                return Remedy::SendApart;
            }
        };
        self.portions.push_front(portion);
        remedy
    }

    /// Which partitions of the fenced portion this process has lost, by their rows. Begin another round without them;
    /// if there are none, something else refuses: [`Remedy::TryAgain`].
    pub fn fenced(&self, rows: &[Standing]) -> Vec<Lost> {
        let lost = |part: &PartitionFlush| {
            let row = rows.iter().find(|row| row.partition == part.partition);
            let why = part.refusal(row)?;
            let epoch_now = row.map(|row| row.epoch);
            Some(Lost { partition: part.partition, epoch: part.epoch, epoch_now, why })
        };
        self.portion().iter().filter_map(lost).collect()
    }
}

/// What one partition adds to a flush.
#[derive(Debug, Clone)]
pub struct PartitionFlush {
    /// Which partition.
    pub partition: i32,
    /// The ownership that its rows must still have.
    pub epoch: i64,
    /// The state to store.
    pub state: PartitionState,
    /// Where PostgreSQL is known to be; if it is behind that, it was set back to an older state.
    pub known: Position,
    /// Kafka's end of the partition as last seen; for the lag.
    pub high_watermark: i64,
    /// The windows of the state whose totals PostgreSQL does not have yet.
    pub windows: Vec<Window>,
    /// The dead letters of the state that PostgreSQL does not have yet.
    pub dead_letters: Vec<DeadLetter>,
    /// The stations of the state that PostgreSQL does not have as they are.
    pub stations: Vec<StationRow>,
}

impl PartitionFlush {
    /// What it costs to send, roughly, in bytes.
    fn cost(&self) -> usize {
        let dead_letters: usize = self.dead_letters.iter().map(DeadLetter::cost).sum();
        let stations: usize = self.stations.iter().map(StationRow::cost).sum();
        dead_letters + stations + size_of::<Window>() * self.windows.len()
    }

    /// Why PostgreSQL does not accept it, by the partition's row and the rule of [`Position`]; None if that is not the
    /// reason. It has to judge as the statement `ADVANCE` in `src/postgres/advance.rs` does.
    pub fn refusal(&self, row: Option<&Standing>) -> Option<&'static str> {
        let progress = &self.state.progress;
        let never_flushed = Position { incarnation: 0, offset: progress.origin_offset };
        match row {
            None => Some("its row is gone from weather_partition"),
            Some(row) if row.epoch != self.epoch => Some("another process has taken the partition"),
            Some(Standing { position: None, .. }) if self.known == never_flushed => None,
            Some(Standing { position: Some(at), .. }) if *at > progress.position() => {
                Some("the database is ahead of this process")
            }
            Some(Standing { position: Some(at), .. }) if *at >= self.known => None,
            Some(_) => Some("the database was set back to an older state"),
        }
    }
}

/// A partition's row in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Which partition.
    pub partition: i32,
    /// The epoch of its owner.
    pub epoch: i64,
    /// The position of its state; None while it has none.
    pub position: Option<Position>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Reason;

    #[test]
    fn under_an_old_snapshot_flushes_stay_few() {
        let interval = Duration::from_millis(250);
        assert_eq!(pause(interval, Duration::ZERO), interval);
        assert_eq!(pause(interval, Duration::from_secs(30)), interval);
        let (mut age, mut flushes) = (Duration::ZERO, 0);
        while age < Duration::from_secs(60 * 60) {
            age += pause(interval, age);
            flushes += 1;
        }
        assert!((500..1_000).contains(&flushes), "{flushes} in an hour, of 14,400");
        assert_eq!(pause(interval, Duration::from_secs(24 * 60 * 60)), LONGEST_PAUSE);
    }

    fn offer(partition: i32, next_offset: i64, dead_letters: usize) -> Offer {
        let mut state = PartitionState::starting_at(0);
        state.progress.next_offset = next_offset;
        let totals = Totals { readings: next_offset, ..Totals::default() };
        state.windows =
            vec![Window { start_ms: 0, totals }, Window { start_ms: 10, totals: Totals::default() }];
        let dead_letter = |offset| DeadLetter {
            incarnation: 0,
            offset,
            reason: Reason::Malformed,
            payload: None,
            payload_bytes: 0,
        };
        let dead_letters = (0..dead_letters as i64).map(dead_letter).collect();
        Offer { partition, epoch: 5, state, dead_letters, stations: Vec::new(), high_watermark: 0 }
    }

    fn sent(plan: &FlushPlan) -> Vec<i32> {
        plan.portion().iter().map(|part| part.partition).collect()
    }

    #[test]
    fn only_what_changed_is_written() {
        let mut plan = FlushPlan::default();
        plan.begin(&[(0, 5), (1, 5)], 1);
        assert!(plan.add(offer(0, 3, 0)) && plan.add(offer(1, 3, 0)));
        assert_eq!(sent(&plan), [0, 1]);
        assert_eq!(plan.confirm().len(), 2);
        assert!(plan.portion().is_empty());
        plan.begin(&[(0, 5), (1, 5)], 1);
        assert!(!plan.add(offer(0, 3, 0)) && plan.add(offer(1, 4, 0)));
        let part = &plan.portion()[0];
        assert_eq!((part.known.offset, part.windows.len(), part.windows[0].start_ms), (3, 1, 0));
    }

    #[test]
    fn a_backlog_goes_in_portions() {
        let mut plan = FlushPlan::default();
        let held: Vec<(i32, i64)> = (0..5).map(|partition| (partition, 5)).collect();
        plan.begin(&held, 1);
        let half = MAX_PORTION_BYTES / size_of::<DeadLetter>() / 2;
        for (partition, dead_letters) in [(0, 0), (1, half), (2, 3 * half), (3, half), (4, half / 2)] {
            plan.add(offer(partition, 3, dead_letters));
        }
        let mut portions = Vec::new();
        while !plan.portion().is_empty() {
            portions.push(sent(&plan));
            plan.confirm();
        }
        assert_eq!(portions, [vec![0, 1], vec![2], vec![3, 4]]);
    }

    #[test]
    fn nothing_counts_as_written_before_it_is_confirmed() {
        let mut plan = FlushPlan::default();
        plan.begin(&[(0, 5)], 1);
        plan.add(offer(0, 3, 0));
        assert_eq!(plan.refused(Refusal::NotNow), Remedy::TryAgain);
        plan.begin(&[(0, 5)], 1);
        assert!(plan.add(offer(0, 3, 0)));
    }

    #[test]
    fn a_new_connection_or_a_new_epoch_puts_what_was_written_in_doubt() {
        let mut plan = FlushPlan::default();
        plan.begin(&[(0, 5)], 1);
        plan.add(offer(0, 3, 0));
        plan.confirm();
        plan.begin(&[(0, 5)], 2);
        assert!(plan.add(offer(0, 3, 0)));
        assert_eq!((plan.portion()[0].windows.len(), plan.portion()[0].known.offset), (2, 3));
        plan.confirm();
        plan.begin(&[(0, 6)], 2);
        assert!(plan.add(Offer { epoch: 6, ..offer(0, 3, 0) }));
        assert_eq!(plan.portion()[0].known.offset, 0, "as its own state says");
    }

    #[test]
    fn a_bad_value_is_found_partition_by_partition_and_costs_only_dead_letters() {
        let mut plan = FlushPlan::default();
        plan.begin(&[(0, 5), (1, 5)], 1);
        plan.add(offer(0, 3, 0));
        plan.add(offer(1, 3, 3));
        assert_eq!(plan.refused(Refusal::BadValue), Remedy::SendApart);
        assert_eq!(sent(&plan), [0]);
        plan.confirm();
        assert_eq!(plan.refused(Refusal::BadValue), Remedy::SendWithout { partition: 1, left_out: 2 });
        assert_eq!(plan.refused(Refusal::BadValue), Remedy::SendWithout { partition: 1, left_out: 1 });
        assert_eq!(plan.portion()[0].windows.len(), 2, "windows are never left out");
        assert_eq!(plan.refused(Refusal::BadValue), Remedy::TryAgain);
        assert_eq!(plan.confirm().len(), 1);
    }

    #[test]
    fn who_is_fenced_is_told_from_the_rest() {
        let mut plan = FlushPlan::default();
        plan.begin(&[(0, 5), (1, 5), (2, 5), (3, 5), (4, 5)], 1);
        (0..5).for_each(|partition| assert!(plan.add(offer(partition, 3, 0))));
        assert_eq!(plan.refused(Refusal::Fenced), Remedy::AskStanding);
        let at = |offset| Some(Position { incarnation: 0, offset });
        let row = |partition, epoch, position| Standing { partition, epoch, position };
        let rows = [row(0, 5, None), row(1, 6, None), row(2, 5, at(4)), row(3, 5, at(3))];
        let lost: Vec<(i32, Option<i64>)> =
            plan.fenced(&rows).iter().map(|lost| (lost.partition, lost.epoch_now)).collect();
        assert_eq!(lost, [(1, Some(6)), (2, Some(5)), (4, None)]);
    }
}
