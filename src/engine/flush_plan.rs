//! What a flush has to write, and what PostgreSQL's answer to it means for each partition.
//!
//! A round begins with the owned partitions ([`FlushPlan::begin`]), takes each partition's state ([`FlushPlan::add`]),
//! and sends portions ([`FlushPlan::portion`]): whenever one is full ([`FlushPlan::is_full`]), and at the end until none is
//! left. Each portion is confirmed ([`FlushPlan::confirm`]), or it is refused ([`FlushPlan::refused`]), and the remedy says
//! whether it is sent again, in parts, with less in it, or not in this round. Which partitions a refusal is about:
//! [`FlushPlan::fenced`].
//!
//! Invariants
//! - What counts as written was confirmed, under the epoch that the partition is held under now.
//! - A new connection may be to a database that was set back: windows that were written are then written again.
//! - Only stored copies of dead letters are ever left out (they are counted anyway), and only when PostgreSQL refuses the
//!   partition with them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::engine::assignment::Lost;
use crate::engine::dead_letter::DeadLetter;
use crate::engine::partition::Confirmation;
use crate::engine::state::{PartitionState, Position};
use crate::engine::stations::StationRow;
use crate::engine::window::{Totals, Window};

/// What PostgreSQL has of each partition, as far as this process wrote it, and what is still to be sent in this round.
#[derive(Debug)]
pub struct FlushPlan {
    /// What is written in one transaction, in bytes.
    most_bytes: usize,
    written: BTreeMap<i32, Written>,
    /// Connections there had been when what is written was last relied on.
    connections: u64,
    portions: VecDeque<Vec<PartitionFlush>>,
    /// What the last of them costs.
    filled: usize,
}

impl Default for FlushPlan {
    fn default() -> Self {
        Self::of_portions(MAX_PORTION_BYTES)
    }
}

/// What is written in one transaction, unless a partition alone is more. Every part of it is in memory several times: as
/// rows, as parameters, and as bytes on their way. So a long backlog goes in many portions.
const MAX_PORTION_BYTES: usize = 2 * 1024 * 1024;

/// The pause is a transaction's age divided by this. So while the age grows to e times what it was, there are this many
/// flushes, and their number grows only with its logarithm.
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
    /// A partition of it has another owner or no row any more, or the database was set back or is ahead.
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
    /// Nothing is written yet. A transaction writes at most so many bytes, unless a partition alone is more.
    pub fn of_portions(most_bytes: usize) -> Self {
        Self { most_bytes, written: BTreeMap::new(), connections: 0, portions: VecDeque::new(), filled: 0 }
    }

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
            Some(last) if self.filled + cost <= self.most_bytes => last.push(flush),
            _ => {
                self.portions.push_back(vec![flush]);
                self.filled = 0;
            }
        }
        self.filled += cost;
        true
    }

    /// Whether a portion is to be sent before another partition's state is taken: of all that has changed, only what is
    /// being sent is in memory a second time.
    pub fn is_full(&self) -> bool {
        match self.portions.len() {
            0 => false,
            1 => self.filled >= self.most_bytes,
            _ => true,
        }
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

    /// Only what comes from outside can be refused, and of that only dead letters can be done without: half of them is
    /// left out each time, until PostgreSQL accepts the rest.
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
mod tests;
