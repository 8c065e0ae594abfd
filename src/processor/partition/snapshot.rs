//! A partition's state as others in the process see it: lock-free, and always the state of one offset.
//!
//! One writer, any number of readers, a sequence lock over atomics. The writer makes the sequence odd, stores, makes it
//! even; a reader copies between two equal even values or tries again. Ingestion never waits for a reader; a reader
//! repeats only while a write of well under a microsecond is under way.
//!
//! Invariant: a [`PartitionState`] that [`SnapshotReader::read`] returns was passed to [`SnapshotWriter::publish`] as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};

use crate::engine::state::{LogIdentity, PartitionState, Progress, WORDS};
use crate::engine::window::{Cells, TOTALS_WORDS, Totals, Window};

const WINDOW_WORDS: usize = 1 + TOTALS_WORDS;
const LOG_WORDS: usize = 3;

#[derive(Debug)]
struct SharedSnapshot {
    /// Odd while a write is in progress.
    sequence: AtomicU64,
    progress: [AtomicI64; WORDS],
    log: [AtomicI64; LOG_WORDS],
    window_rows: AtomicI64,
    windows: Cells<WINDOW_WORDS>,
}

/// The one side that stores. Not `Clone`: two writers would break the sequence.
#[derive(Debug)]
pub struct SnapshotWriter {
    shared: Arc<SharedSnapshot>,
}

/// A side that copies. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SnapshotReader {
    shared: Arc<SharedSnapshot>,
}

/// A pair of writer and reader that starts with this state.
pub fn channel(state: &PartitionState) -> (SnapshotWriter, SnapshotReader) {
    let shared = Arc::new(SharedSnapshot {
        sequence: AtomicU64::new(0),
        progress: std::array::from_fn(|_| AtomicI64::new(0)),
        log: std::array::from_fn(|_| AtomicI64::new(0)),
        window_rows: AtomicI64::new(0),
        windows: Cells::default(),
    });
    let mut writer = SnapshotWriter { shared: Arc::clone(&shared) };
    writer.publish(state, 0);
    (writer, SnapshotReader { shared })
}

impl SnapshotWriter {
    /// Makes `state` the one that readers see. Windows before the index `windows_from` must be as last published.
    pub fn publish(&mut self, state: &PartitionState, windows_from: usize) {
        let shared = &*self.shared;
        // Relaxed: only this writer changes the sequence.
        let sequence = shared.sequence.load(Ordering::Relaxed);
        shared.sequence.store(sequence + 1, Ordering::Relaxed);
        // Release: a reader that sees any store below, then fences and reads the sequence, sees it odd or later.
        fence(Ordering::Release);
        store_all(&shared.progress, &state.progress.to_words());
        store_all(&shared.log, &log_words(state.log));
        for (i, window) in state.windows.iter().enumerate().skip(windows_from) {
            store_all(shared.windows.row(i), &window_words(window));
        }
        // A Vec's length is within i64.
        shared.window_rows.store(state.windows.len() as i64, Ordering::Relaxed);
        // Release: publishes all stores above to the reader that acquires this value first.
        shared.sequence.store(sequence + 2, Ordering::Release);
    }
}

impl SnapshotReader {
    /// The state that was published last.
    pub fn read(&self) -> PartitionState {
        self.consistent(|shared| PartitionState {
            progress: Progress::from_words(&load_all(&shared.progress)),
            windows: (0..rows(&shared.window_rows))
                .map(|i| window_from(&load_all(shared.windows.row(i))))
                .collect(),
            log: log_from(load_all(&shared.log)),
        })
    }

    /// Only the numbers, without allocating.
    pub fn progress(&self) -> Progress {
        self.consistent(|shared| Progress::from_words(&load_all(&shared.progress)))
    }

    fn consistent<T>(&self, copy: impl Fn(&SharedSnapshot) -> T) -> T {
        loop {
            // Acquire: with the writer's last Release store, everything published up to it is visible below.
            let before = self.shared.sequence.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                let copied = copy(&self.shared);
                // Acquire: orders the copying before the second read of the sequence.
                fence(Ordering::Acquire);
                if self.shared.sequence.load(Ordering::Relaxed) == before {
                    return copied;
                }
            }
            std::hint::spin_loop();
        }
    }
}

// Relaxed in both: the sequence around them orders them.
fn store_all<const N: usize>(cells: &[AtomicI64; N], values: &[i64; N]) {
    for (cell, value) in cells.iter().zip(values) {
        cell.store(*value, Ordering::Relaxed);
    }
}

fn load_all<const N: usize>(cells: &[AtomicI64; N]) -> [i64; N] {
    std::array::from_fn(|i| cells[i].load(Ordering::Relaxed))
}

fn rows(count: &AtomicI64) -> usize {
    usize::try_from(count.load(Ordering::Relaxed)).unwrap_or(0)
}

fn window_words(window: &Window) -> [i64; WINDOW_WORDS] {
    let mut words = [0; WINDOW_WORDS];
    words[0] = window.start_ms;
    words[1..].copy_from_slice(&window.totals.to_words());
    words
}

fn window_from(words: &[i64; WINDOW_WORDS]) -> Window {
    let totals = Totals::from_words(&std::array::from_fn(|i| words[1 + i]));
    Window { start_ms: words[0], totals }
}

fn log_words(log: LogIdentity) -> [i64; LOG_WORDS] {
    let id = u128::from_be_bytes(log.topic_id);
    [(id >> 64) as i64, id as i64, i64::from(log.leader_epoch)]
}

fn log_from([high, low, leader_epoch]: [i64; LOG_WORDS]) -> LogIdentity {
    let id = u128::from(high as u64) << 64 | u128::from(low as u64);
    LogIdentity { topic_id: id.to_be_bytes(), leader_epoch: leader_epoch as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::state::REASONS;

    /// A state in which every number follows from one, so that a mixture of two is detected.
    fn state(n: i64) -> PartitionState {
        let mut words = [n; WORDS];
        words[7] = n % 2;
        let totals = Totals::from_words(&[n; TOTALS_WORDS]);
        PartitionState {
            progress: Progress::from_words(&words),
            windows: (0..n % 40).map(|i| Window { start_ms: n + i, totals }).collect(),
            log: LogIdentity { topic_id: [n as u8; 16], leader_epoch: n as i32 },
        }
    }

    #[test]
    fn reads_what_was_published() {
        let (mut writer, reader) = channel(&state(3));
        assert_eq!(reader.read(), state(3));
        writer.publish(&state(39), 0);
        assert_eq!(reader.read(), state(39));
        assert_eq!(reader.progress().rejected, [39; REASONS]);
        let mut changed = state(39);
        changed.windows[38].totals.readings = 1;
        writer.publish(&changed, 38);
        assert_eq!(reader.read(), changed);
    }

    #[test]
    fn readers_never_see_a_mixture() {
        const LAST: i64 = 20_000;
        let (mut writer, reader) = channel(&state(1));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let reader = reader.clone();
                std::thread::spawn(move || {
                    let mut newest = 0;
                    while newest < LAST {
                        let seen = reader.read();
                        let n = seen.progress.next_offset;
                        assert!(n >= newest, "went back from {newest} to {n}");
                        assert_eq!(seen, state(n));
                        newest = n;
                    }
                })
            })
            .collect();
        for n in 2..=LAST {
            writer.publish(&state(n), 0);
        }
        for reader in readers {
            reader.join().unwrap();
        }
    }
}
