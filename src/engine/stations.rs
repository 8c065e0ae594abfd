//! What a partition has taken in of each station, by window: only where the user asks for it.
//!
//! A station's row is what its readings have added to a window of this partition. It changes with the partition's state and
//! is stored with it, at the same offset. Only what changed since the last confirmed flush is written to PostgreSQL and to
//! the checkpoint file; what did not is in PostgreSQL already. So a flush and a file cost what has changed, not what there is.
//!
//! Invariants
//! - The stations' counts and sums of a window add up to the window's: a reading without a station counts for
//!   [`NAMELESS`]; one that comes when a window has its `limit` of stations, and what was counted before stations were
//!   asked for, counts for [`OTHERS`].
//! - A row that is not listed as changed is in PostgreSQL as it is here.

mod pace;
mod queue;
mod table;
mod totals;

use std::collections::VecDeque;

use crate::engine::state::Position;
use crate::engine::window::Window;
use crate::reading::Reading;

pub use pace::StationPace;
pub use totals::StationTotals;

use table::Table;

/// The station of readings that name none.
pub const NAMELESS: &str = "";
/// The station of readings that are counted for no station of their own.
pub const OTHERS: &str = "*";

/// One station in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StationRow {
    /// First ms of the window, since 1970.
    pub start_ms: i64,
    /// The station's name.
    pub station: Box<str>,
    /// What it has added.
    pub totals: StationTotals,
}

impl StationRow {
    /// What it costs to send, roughly, in bytes.
    pub fn cost(&self) -> usize {
        size_of::<Self>() + self.station.len()
    }
}

/// All stations of a partition.
#[derive(Debug, Default)]
pub struct Stations {
    /// Stations of one window that have a row of their own.
    limit: usize,
    /// Ascending by start, as the windows of the state.
    tables: Vec<Table>,
    /// The table that was changed last.
    last: usize,
    /// Raised whenever changed rows are taken.
    generation: u32,
    /// Of which generation the rows were that were taken at a position.
    taken: VecDeque<(Position, u32)>,
}

impl Stations {
    /// None yet, at most `limit` a window.
    pub fn new(limit: usize) -> Self {
        Self { limit, tables: Vec::new(), last: 0, generation: 1, taken: VecDeque::new() }
    }

    /// Goes on from what is stored: `confirmed` in PostgreSQL, and on top of it what changed since then. Windows are those
    /// of the state that both belong to.
    pub fn resume(
        limit: usize,
        confirmed: Vec<StationRow>,
        changed: Vec<StationRow>,
        windows: &[Window],
    ) -> Self {
        let mut stations = Self::new(limit);
        let held = |row: &StationRow| windows.binary_search_by_key(&row.start_ms, |w| w.start_ms).is_ok();
        confirmed.into_iter().filter(held).for_each(|row| stations.set(row, None));
        let generation = Some(stations.generation);
        changed.into_iter().filter(held).for_each(|row| stations.set(row, generation));
        windows.iter().for_each(|window| stations.complete(window));
        stations
    }

    /// Keeps a row as it is stored.
    pub fn store(&mut self, row: StationRow) {
        self.set(row, None);
    }

    /// Sets a row as it is stored; one that changed since PostgreSQL had it did so in this generation.
    fn set(&mut self, row: StationRow, changed: Option<u32>) {
        self.table(row.start_ms).set(&row.station, row.totals, changed);
    }

    /// Counts for [`OTHERS`] what a window has taken in while nobody asked for stations.
    fn complete(&mut self, window: &Window) {
        let generation = self.generation;
        let table = self.table(window.start_ms);
        if table.row_count() == 0 {
            table.set(OTHERS, StationTotals::from(&window.totals), Some(generation));
            return;
        }
        let missing = table.sum().missing_to(&StationTotals::from(&window.totals));
        if !missing.is_nothing() {
            table.add_to_others(&missing, generation);
        }
    }

    /// Adds a reading of this station, in the window that begins then; at the latest with [`Stations::settle`].
    #[inline]
    pub fn add(&mut self, start_ms: i64, station: Option<&str>, reading: &Reading) {
        if self.tables.get(self.last).is_none_or(|table| table.start_ms != start_ms) {
            self.table(start_ms);
        }
        self.tables[self.last].add(station.unwrap_or(NAMELESS), self.limit, self.generation, reading);
    }

    /// Adds all readings that were only taken so far: before that, the rows are not whole.
    pub fn settle(&mut self) {
        let (limit, generation) = (self.limit, self.generation);
        for table in &mut self.tables {
            table.settle(limit, generation);
            // Only the windows of one answer have any, and there may be very many others.
            table.rest();
        }
    }

    /// The table of a window, made where there is none.
    fn table(&mut self, start_ms: i64) -> &mut Table {
        self.last = match self.tables.binary_search_by_key(&start_ms, |table| table.start_ms) {
            Ok(index) => index,
            Err(index) => {
                self.tables.insert(index, Table::new(start_ms));
                index
            }
        };
        &mut self.tables[self.last]
    }

    /// Every row that changed since the last confirmed flush, to be written with the state at this position.
    pub fn take_changed(&mut self, at: Position) -> Vec<StationRow> {
        let rows = self.changed();
        self.taken.push_back((at, self.generation));
        self.generation += 1;
        rows
    }

    /// A copy of every row that changed since the last confirmed flush.
    pub fn changed(&self) -> Vec<StationRow> {
        let mut rows = Vec::with_capacity(self.changed_count());
        let row = |(start_ms, station, totals): (_, &str, _)| StationRow {
            start_ms,
            station: station.into(),
            totals,
        };
        rows.extend(self.changed_in_place().map(row));
        rows
    }

    /// Window, station and totals of every row that changed since the last confirmed flush.
    pub fn changed_in_place(&self) -> impl Iterator<Item = (i64, &str, StationTotals)> {
        self.tables
            .iter()
            .flat_map(|table| table.changed().map(|(station, totals)| (table.start_ms, station, totals)))
    }

    /// Takes a row out, if there is one.
    pub fn take(&mut self, start_ms: i64, station: &str) -> Option<StationTotals> {
        let index = self.tables.binary_search_by_key(&start_ms, |table| table.start_ms).ok()?;
        self.tables[index].take(station)
    }

    /// Every row of a window that was not taken out.
    pub fn rows_of(&self, start_ms: i64) -> impl Iterator<Item = (&str, StationTotals)> {
        let index = self.tables.binary_search_by_key(&start_ms, |table| table.start_ms);
        index.into_iter().flat_map(|index| self.tables[index].rows())
    }

    /// The windows that there are, in ms since 1970.
    pub fn starts_ms(&self) -> impl Iterator<Item = i64> {
        self.tables.iter().map(|table| table.start_ms)
    }

    /// PostgreSQL has the rows that were taken at this position; windows that begin at `closed_ms` or before are final.
    pub fn confirm(&mut self, at: Position, closed_ms: i64) {
        let before = self.tables.len();
        self.tables.retain(|table| table.start_ms > closed_ms);
        if self.tables.len() != before {
            self.last = 0;
        }
        let mut confirmed = None;
        while self.taken.front().is_some_and(|(position, _)| *position <= at) {
            confirmed = self.taken.pop_front();
        }
        if let Some((_, generation)) = confirmed {
            self.tables.iter_mut().for_each(|table| table.confirm(generation));
        }
    }

    /// How many rows changed since the last confirmed flush.
    pub fn changed_count(&self) -> usize {
        self.tables.iter().map(Table::changed_count).sum()
    }

    /// How many rows there are in all windows.
    pub fn row_count(&self) -> usize {
        self.tables.iter().map(Table::row_count).sum()
    }

    /// Stations with a name of their own in the newest window.
    pub fn newest_count(&self) -> usize {
        self.tables.last().map_or(0, Table::named_count)
    }

    /// Readings of all windows that count for [`OTHERS`].
    pub fn overflow(&self) -> i64 {
        self.tables.iter().map(Table::overflow).sum()
    }

    /// Memory that is reserved for them.
    pub fn reserved_bytes(&self) -> usize {
        self.tables.iter().map(Table::reserved_bytes).sum()
    }

    /// Whether the stations of each window have all of its readings.
    ///
    /// # Errors
    /// The first window where they have not.
    pub fn check(&self, windows: &[Window]) -> Result<(), String> {
        let readings = |start_ms: i64| {
            let found = self.tables.binary_search_by_key(&start_ms, |table| table.start_ms);
            found.map_or(0, |index| self.tables[index].readings)
        };
        match windows.iter().find(|window| readings(window.start_ms) != window.totals.readings) {
            None => Ok(()),
            Some(window) => Err(format!(
                "the stations of a window have {} readings: {window:?}",
                readings(window.start_ms)
            )),
        }
    }

    /// Whether the stations' counts and sums are those of their windows: for tests, as it looks at every station.
    pub fn adds_up_to(&self, windows: &[Window]) -> bool {
        self.tables.len() == windows.len()
            && self.tables.iter().zip(windows).all(|(table, window)| {
                let missing = table.sum().missing_to(&StationTotals::from(&window.totals));
                table.start_ms == window.start_ms && missing.is_nothing()
            })
    }
}

#[cfg(test)]
mod tests;
