//! Windows: their [`Totals`], what a batch adds to them, and the table of atomics that publishes them without a lock.
//!
//! [`Cells`] is a grow-only table of atomics, in chunks that never move: a reader may walk it while the one writer adds
//! rows. On its own it promises nothing about several values at once; the processor's snapshot puts a sequence lock around it.

use std::sync::OnceLock;
use std::sync::atomic::AtomicI64;

use crate::reading::Reading;

mod totals;

pub use totals::{FIRST_TOTALS_WORDS, METRICS, TOTALS_WORDS, Totals, fingerprint};

/// One window of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First ms of the window, since 1970; its end is one window length later, exclusive.
    pub start_ms: i64,
    /// What it has taken in.
    pub totals: Totals,
}

/// The window that an event time falls into: its first ms. Windows are aligned to 1970-01-01T00:00:00Z.
#[inline]
pub fn start_of(event_time_ms: i64, window_ms: i64) -> i64 {
    event_time_ms.div_euclid(window_ms) * window_ms
}

/// What a batch adds, before it is published: few windows, the last one hit first.
#[derive(Debug, Default)]
pub struct Deltas {
    windows: Vec<Window>,
    last: usize,
}

impl Deltas {
    /// Adds the reading at an offset to the window that holds it. Searches nothing while readings stay in one window.
    #[inline]
    pub fn add(&mut self, start_ms: i64, offset: i64, reading: &Reading) {
        match self.windows.get_mut(self.last) {
            Some(window) if window.start_ms == start_ms => window.totals.add(offset, reading),
            _ => self.add_elsewhere(start_ms, offset, reading),
        }
    }

    fn add_elsewhere(&mut self, start_ms: i64, offset: i64, reading: &Reading) {
        self.last = self.windows.iter().position(|w| w.start_ms == start_ms).unwrap_or_else(|| {
            self.windows.push(Window { start_ms, totals: Totals::default() });
            self.windows.len() - 1
        });
        self.windows[self.last].totals.add(offset, reading);
    }

    /// In how many windows something was added.
    pub fn count(&self) -> usize {
        self.windows.len()
    }

    /// Returns what was added and starts again, keeping the memory.
    pub fn drain(&mut self) -> impl Iterator<Item = Window> + '_ {
        self.last = 0;
        self.windows.drain(..)
    }
}

/// Rows of the first chunk; each further chunk is twice as long.
const FIRST_CHUNK: usize = 16;
/// 16 · (2^28 - 1) rows are beyond any memory.
const CHUNKS: usize = 28;

/// A grow-only table of rows of `W` atomics. Rows never move, so that a reader needs no lock.
#[derive(Debug)]
pub struct Cells<const W: usize> {
    chunks: [OnceLock<Box<[[AtomicI64; W]]>>; CHUNKS],
}

impl<const W: usize> Default for Cells<W> {
    fn default() -> Self {
        Self { chunks: [const { OnceLock::new() }; CHUNKS] }
    }
}

impl<const W: usize> Cells<W> {
    /// A row; memory for it and its neighbours is made at the first use.
    pub fn row(&self, index: usize) -> &[AtomicI64; W] {
        let (chunk, within) = Self::place(index);
        let rows = self.chunks[chunk].get_or_init(|| {
            (0..FIRST_CHUNK << chunk).map(|_| std::array::from_fn(|_| AtomicI64::new(0))).collect()
        });
        &rows[within]
    }

    fn place(index: usize) -> (usize, usize) {
        let chunk = (index / FIRST_CHUNK + 1).ilog2() as usize;
        (chunk, index - FIRST_CHUNK * ((1 << chunk) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_half_open_and_aligned_before_1970_too() {
        assert_eq!(start_of(0, 3_600_000), 0);
        assert_eq!(start_of(3_599_999, 3_600_000), 0);
        assert_eq!(start_of(3_600_000, 3_600_000), 3_600_000);
        assert_eq!(start_of(-1, 3_600_000), -3_600_000);
    }

    #[test]
    fn deltas_keep_windows_apart() {
        let mut d = Deltas::default();
        let reading = Reading { event_time_ms: 0, metrics: [Some(1), None, None], left_out: [None; 3] };
        for (offset, start) in [0, 10, 0, 10, 10].into_iter().enumerate() {
            d.add(start, offset as i64, &reading);
        }
        let counts: Vec<_> = d.drain().map(|w| (w.start_ms, w.totals.readings)).collect();
        assert_eq!(counts, [(0, 2), (10, 3)]);
        assert_eq!(d.drain().count(), 0);
    }

    #[test]
    fn every_row_has_a_place_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for i in 0..10_000 {
            let (chunk, within) = Cells::<1>::place(i);
            assert!(within < FIRST_CHUNK << chunk, "{i}");
            assert!(seen.insert((chunk, within)), "{i}");
        }
        let cells = Cells::<2>::default();
        cells.row(1_000)[1].store(7, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(cells.row(1_000)[1].load(std::sync::atomic::Ordering::Relaxed), 7);
    }
}
