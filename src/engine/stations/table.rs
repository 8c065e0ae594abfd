//! The stations of one window: found by name in a table of hashes, their totals one after the other.
//!
//! A row takes 96 bytes and its name; the table of hashes 8 to 16 bytes more, as at most half of it is used. `Vec`s grow by
//! doubling, so up to twice as much is reserved: [`Table::reserved_bytes`].

use super::totals::StationTotals;
use super::{NAMELESS, OTHERS};
use crate::reading::Reading;

/// Places of a new table of hashes.
const FIRST_SLOTS: usize = 16;

/// A window's stations.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) start_ms: i64,
    /// The number of a row and 1; 0 where there is none. A power of two long.
    slots: Vec<u32>,
    rows: Vec<Row>,
    names: String,
    /// Rows that changed since the last confirmed flush.
    changed: Vec<u32>,
    /// Stations with a name of their own.
    named: usize,
    /// Readings of all stations.
    pub(super) readings: i64,
}

#[derive(Debug)]
struct Row {
    hash: u32,
    name_from: u32,
    /// The generation of the last change.
    generation: u32,
    name_bytes: u16,
    /// Whether it is in `changed`.
    is_listed: bool,
    totals: StationTotals,
}

impl Table {
    pub(super) fn new(start_ms: i64) -> Self {
        Self { start_ms, ..Self::default() }
    }

    /// Adds a reading to its station, or to all others where there are `limit` already.
    #[inline]
    pub(super) fn add(&mut self, name: &str, limit: usize, generation: u32, reading: &Reading) {
        let index = self.find_or_make(name, limit);
        self.readings += 1;
        self.touch(index, generation);
        self.rows[index].totals.add(reading);
    }

    /// Sets what is stored of a station. A confirmed row counts as unchanged.
    pub(super) fn set(&mut self, name: &str, totals: StationTotals, changed: Option<u32>) {
        let index = self.find_or_make(name, usize::MAX);
        self.readings += totals.readings - self.rows[index].totals.readings;
        self.rows[index].totals = totals;
        if let Some(generation) = changed {
            self.touch(index, generation);
        }
    }

    /// Counts what is known of no station for all others.
    pub(super) fn add_to_others(&mut self, missing: &StationTotals, generation: u32) {
        let index = self.find_or_make(OTHERS, usize::MAX);
        self.readings += missing.readings;
        self.touch(index, generation);
        self.rows[index].totals.add_unknown(missing);
    }

    fn touch(&mut self, index: usize, generation: u32) {
        let row = &mut self.rows[index];
        row.generation = generation;
        if !row.is_listed {
            row.is_listed = true;
            // As many as there are slots, which are counted in 32 bits.
            self.changed.push(index as u32);
        }
    }

    #[inline]
    fn find_or_make(&mut self, name: &str, limit: usize) -> usize {
        let hash = hash(name.as_bytes());
        match self.find(name, hash) {
            Some(index) => index,
            None => self.make(name, hash, limit),
        }
    }

    #[inline]
    fn find(&self, name: &str, hash: u32) -> Option<usize> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        loop {
            let index = (*self.slots.get(at)?).checked_sub(1)? as usize;
            let row = &self.rows[index];
            if row.hash == hash && self.name(row) == name {
                return Some(index);
            }
            at = (at + 1) & mask;
        }
    }

    fn make(&mut self, name: &str, hash: u32, limit: usize) -> usize {
        let is_named = name != NAMELESS && name != OTHERS;
        if is_named && self.named >= limit {
            return self.find_or_make(OTHERS, limit);
        }
        self.named += usize::from(is_named);
        let (name_from, name_bytes) = (self.names.len() as u32, name.len() as u16);
        self.names.push_str(name);
        let totals = StationTotals::default();
        self.rows.push(Row { hash, name_from, generation: 0, name_bytes, is_listed: false, totals });
        if self.rows.len() * 2 > self.slots.len() {
            self.grow();
        } else {
            self.link(self.rows.len() - 1);
        }
        self.rows.len() - 1
    }

    fn grow(&mut self) {
        self.slots = vec![0; (self.slots.len() * 2).max(FIRST_SLOTS)];
        (0..self.rows.len()).for_each(|index| self.link(index));
    }

    /// Enters a row that is not in the table of hashes; there is room.
    fn link(&mut self, index: usize) {
        let mask = self.slots.len() - 1;
        let mut at = self.rows[index].hash as usize & mask;
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = index as u32 + 1;
    }

    fn name(&self, row: &Row) -> &str {
        let from = row.name_from as usize;
        &self.names[from..from + usize::from(row.name_bytes)]
    }

    /// Every row that changed since the last confirmed flush.
    pub(super) fn changed(&self) -> impl Iterator<Item = (&str, StationTotals)> {
        self.changed.iter().map(|index| {
            let row = &self.rows[*index as usize];
            (self.name(row), row.totals)
        })
    }

    pub(super) fn changed_count(&self) -> usize {
        self.changed.len()
    }

    /// Stations with a name of their own.
    pub(super) fn named_count(&self) -> usize {
        self.named
    }

    /// Readings that count for [`OTHERS`].
    pub(super) fn overflow(&self) -> i64 {
        self.find(OTHERS, hash(OTHERS.as_bytes())).map_or(0, |index| self.rows[index].totals.readings)
    }

    pub(super) fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Forgets that rows have changed which have not since this generation.
    pub(super) fn confirm(&mut self, generation: u32) {
        let rows = &mut self.rows;
        self.changed.retain(|index| {
            let row = &mut rows[*index as usize];
            row.is_listed = row.generation > generation;
            row.is_listed
        });
    }

    /// Counts and sums of all stations.
    pub(super) fn sum(&self) -> StationTotals {
        let mut sum = StationTotals::default();
        self.rows.iter().for_each(|row| sum.sum(&row.totals));
        sum
    }

    /// Memory that the table has reserved.
    pub(super) fn reserved_bytes(&self) -> usize {
        size_of::<Self>()
            + self.rows.capacity() * size_of::<Row>()
            + (self.slots.capacity() + self.changed.capacity()) * size_of::<u32>()
            + self.names.capacity()
    }
}

/// Any hash does that spreads names over the table: who sends names that all collide makes lookups slow, for as many names
/// as a window may have, and nothing wrong.
#[inline]
fn hash(name: &[u8]) -> u32 {
    const MULTIPLIER: u64 = 0xe703_7ed1_a0b4_28db;
    let mut hash = name.len() as u64;
    for chunk in name.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let product = u128::from(hash ^ u64::from_le_bytes(word)) * u128::from(MULTIPLIER);
        hash = (product >> 64) as u64 ^ product as u64;
    }
    hash as u32
}
