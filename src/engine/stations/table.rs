//! The stations of one window: found by name in a table of hashes, their totals one after the other.
//!
//! Where stations send one after the other in an order that comes again, the next one is the one that came next before: it
//! is looked at first, as that costs neither a hash nor a look at a place in memory that nobody has looked at for long. All
//! others wait in a [`Queue`], until the table is settled.
//!
//! A row takes 96 bytes, its name, and 4 bytes when it has changed; the table of hashes 16 to 32 bytes more, as at most half
//! of it is used. `Vec`s grow by doubling, so up to twice as much is reserved: [`Table::reserved_bytes`]. What is reserved
//! and was never used takes no memory of the machine.

use std::borrow::Cow;

use super::queue::{LENGTH, Queue};
use super::totals::StationTotals;
use super::{NAMELESS, OTHERS};
use crate::reading::Reading;

/// Longer names are cut.
const MAX_NAME_BYTES: usize = 256;
/// Places of a new table of hashes.
const FIRST_SLOTS: usize = 16;
/// So often in a row, or more, the order has to come again before it is believed.
const BELIEVED: u8 = 8;

/// A window's stations.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) start_ms: i64,
    /// A power of two long, or empty.
    slots: Vec<NameSlot>,
    rows: Vec<StationEntry>,
    names: String,
    /// Rows that changed since the last confirmed flush.
    changed: Vec<u32>,
    /// Stations with a name of their own.
    named: usize,
    /// Readings of all stations.
    pub(super) readings: i64,
    /// The row that was found last.
    last: usize,
    /// How often the order has come again lately.
    belief: u8,
    /// Readings that are not in the rows yet.
    queue: Queue,
}

/// Where a row is, by its name's hash.
#[derive(Debug, Clone, Copy, Default)]
struct NameSlot {
    hash: u32,
    /// The number of the row and 1; 0 where there is none.
    row: u32,
}

#[derive(Debug)]
struct StationEntry {
    name_from: u32,
    /// The row that was found after this one last.
    next: u32,
    /// The generation of the last change.
    generation: u32,
    name_bytes: u16,
    /// Whether it is in `changed`.
    is_listed: bool,
    totals: StationTotals,
}

impl StationEntry {
    /// From where to where its name is.
    #[inline]
    fn name_range(&self) -> (usize, usize) {
        let from = self.name_from as usize;
        (from, from + usize::from(self.name_bytes))
    }
}

impl Table {
    pub(super) fn new(start_ms: i64) -> Self {
        Self { start_ms, ..Self::default() }
    }

    /// Adds a reading to its station, or to all others where there are `limit` already; at the latest when the table is
    /// settled.
    #[inline]
    pub(super) fn add(&mut self, name: &str, limit: usize, generation: u32, reading: &Reading) {
        let name = cut(name);
        self.readings += 1;
        let expected = self.expected();
        if self.belief >= BELIEVED && self.rows.get(expected).is_some_and(|row| self.name(row) == name) {
            self.last = expected;
            return self.count(expected, generation, reading);
        }
        // Those that come next wait, too, until it is known after which row they come.
        self.belief = 0;
        if self.queue.push(name, hash(name.as_bytes()), reading) {
            self.settle(limit, generation);
        }
    }

    /// Adds all readings that wait. Only then are the rows whole.
    pub(super) fn settle(&mut self, limit: usize, generation: u32) {
        if self.queue.is_empty() {
            return;
        }
        let mut queue = std::mem::take(&mut self.queue);
        // Each of these loops asks for many places in memory at once. Rows stay where they are and as they are called.
        let (mut rows, mut names) = ([None; LENGTH], [(0, 0); LENGTH]);
        for (row, hash) in rows.iter_mut().zip(queue.hashes()) {
            *row = self.find_hash(hash);
        }
        for (name, row) in names.iter_mut().zip(&rows) {
            *name = row.map_or((0, 0), |index| self.rows[index].name_range());
        }
        for ((name, reading), (row, (from, to))) in queue.readings().zip(rows.into_iter().zip(names)) {
            let index = match row {
                Some(index) if &self.names[from..to] == name => index,
                _ => self.find_or_make(name, limit),
            };
            self.follow(index);
            self.count(index, generation, reading);
        }
        queue.clear();
        self.queue = queue;
    }

    /// Gives back the memory of readings that wait, of which there are none now.
    pub(super) fn rest(&mut self) {
        self.queue = Queue::default();
    }

    #[inline]
    fn count(&mut self, index: usize, generation: u32, reading: &Reading) {
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

    #[inline]
    fn touch(&mut self, index: usize, generation: u32) {
        let row = &mut self.rows[index];
        row.generation = generation;
        if !row.is_listed {
            row.is_listed = true;
            // As many as there are slots, which are counted in 32 bits.
            self.changed.push(index as u32);
        }
    }

    /// The row of a station; a name that cannot be stored is looked for as it is stored.
    fn find_or_make(&mut self, name: &str, limit: usize) -> usize {
        match self.find(name, hash(name.as_bytes())) {
            Some(index) => index,
            None => self.make(name, limit),
        }
    }

    /// The row that came after the last one before.
    #[inline]
    fn expected(&self) -> usize {
        self.rows.get(self.last).map_or(0, |row| row.next as usize)
    }

    /// Remembers that this row came after the last one.
    #[inline]
    fn follow(&mut self, index: usize) {
        if index == self.expected() {
            self.belief = self.belief.saturating_add(1);
        } else {
            self.belief = 0;
            if let Some(row) = self.rows.get_mut(self.last) {
                // Counted in 32 bits, as slots are.
                row.next = index as u32;
            }
        }
        self.last = index;
    }

    fn find(&self, name: &str, hash: u32) -> Option<usize> {
        self.rows_of(hash).find(|index| self.name(&self.rows[*index]) == name)
    }

    /// The first row of a name with this hash: nearly always the only one.
    #[inline]
    fn find_hash(&self, hash: u32) -> Option<usize> {
        self.rows_of(hash).next()
    }

    /// The rows of names with this hash.
    #[inline]
    fn rows_of(&self, hash: u32) -> impl Iterator<Item = usize> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        std::iter::from_fn(move || {
            loop {
                let slot = self.slots.get(at)?;
                let index = slot.row.checked_sub(1)? as usize;
                at = (at + 1) & mask;
                if slot.hash == hash {
                    return Some(index);
                }
            }
        })
    }

    #[cold]
    fn make(&mut self, name: &str, limit: usize) -> usize {
        let stored = storable(name);
        let hash = hash(stored.as_bytes());
        if let Some(index) = self.find(&stored, hash) {
            return index;
        }
        let is_named = *stored != *NAMELESS && *stored != *OTHERS;
        if is_named && self.named >= limit {
            return self.make(OTHERS, limit);
        }
        self.named += usize::from(is_named);
        let (name_from, name_bytes) = (self.names.len() as u32, stored.len() as u16);
        self.names.push_str(&stored);
        let totals = StationTotals::default();
        // Counted in 32 bits, as slots are.
        let next = self.rows.len() as u32 + 1;
        self.rows.push(StationEntry { name_from, next, generation: 0, name_bytes, is_listed: false, totals });
        if self.rows.len() * 2 > self.slots.len() {
            self.grow();
        }
        self.link(NameSlot { hash, row: next });
        self.rows.len() - 1
    }

    /// Makes room in the table of hashes.
    fn grow(&mut self) {
        let larger = vec![NameSlot::default(); (self.slots.len() * 2).max(FIRST_SLOTS)];
        let slots = std::mem::replace(&mut self.slots, larger);
        slots.into_iter().filter(|slot| slot.row != 0).for_each(|slot| self.link(slot));
    }

    /// Enters a row that is not in the table of hashes; there is room.
    fn link(&mut self, slot: NameSlot) {
        let mask = self.slots.len() - 1;
        let mut at = slot.hash as usize & mask;
        while self.slots[at].row != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    #[inline]
    fn name(&self, row: &StationEntry) -> &str {
        let (from, to) = row.name_range();
        &self.names[from..to]
    }

    /// Takes a row out, if there is one: it counts nothing any more.
    pub(super) fn take(&mut self, name: &str) -> Option<StationTotals> {
        let index = self.find(name, hash(name.as_bytes()))?;
        let totals = std::mem::take(&mut self.rows[index].totals);
        self.readings -= totals.readings;
        Some(totals).filter(|totals| totals.readings != 0)
    }

    /// Every row that counts something.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&str, StationTotals)> {
        let rows = self.rows.iter().filter(|row| row.totals.readings != 0);
        rows.map(|row| (self.name(row), row.totals))
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
            + self.rows.capacity() * size_of::<StationEntry>()
            + self.slots.capacity() * size_of::<NameSlot>()
            + self.changed.capacity() * size_of::<u32>()
            + self.names.capacity()
            + self.queue.reserved_bytes()
    }
}

/// A name as it is stored: not longer than allowed, and without the one character that PostgreSQL's text cannot hold. A name
/// that was stored stays as it is.
fn storable(name: &str) -> Cow<'_, str> {
    let name = cut(name);
    if !name.contains('\0') {
        return name.into();
    }
    let replaced = name.replace('\0', "\u{fffd}");
    cut(&replaced).to_owned().into()
}

/// The beginning of a name, as much as is allowed.
#[inline]
fn cut(name: &str) -> &str {
    if name.len() <= MAX_NAME_BYTES {
        return name;
    }
    let mut end = MAX_NAME_BYTES;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// Any hash does that spreads names over the table: who sends names that all collide makes lookups slow, for as many names
/// as a window may have, and nothing wrong.
#[inline]
fn hash(name: &[u8]) -> u32 {
    let length = name.len() as u64;
    let Some(last) = name.last_chunk() else {
        // Too short for a whole word.
        return mix(name.iter().fold(length, |word, byte| word << 8 | u64::from(*byte)), length);
    };
    let words = name.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
    let hash = words.fold(length, |hash, word| u64::from(mix(word, hash)));
    // It overlaps the one before, unless it is that one.
    mix(u64::from_le_bytes(*last), hash)
}

/// Spreads the bits of a word, and of the hash before it.
#[inline]
fn mix(word: u64, hash: u64) -> u32 {
    const MULTIPLIER: u64 = 0xe703_7ed1_a0b4_28db;
    let product = u128::from(word ^ hash.rotate_left(32)) * u128::from(MULTIPLIER);
    let folded = (product >> 64) as u64 ^ product as u64;
    (folded >> 32 ^ folded) as u32
}
