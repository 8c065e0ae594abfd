//! The parts of `weather process` in this process, each alone: parsing, aggregating, publishing, checkpoints, flushes.
//!
//! Needs no service; the flush needs a PostgreSQL (`WEATHER_BENCH_DATABASE_URL`) and says so without one. Times of single
//! readings are those of blocks of 16, divided: looking at the clock takes a third of the time of a reading.

#[path = "../common/mod.rs"]
mod common;
mod flush;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use common::figures::{Figures, cpu_time, repeat};
use common::readings::{self, Form};
use common::{program, wanted};
use weather::engine::checkpoint::Checkpoint;
use weather::engine::partition::{Incoming, Partition, WindowSettings};
use weather::engine::state::{PartitionState, Progress};
use weather::engine::window::{Totals, Window};
use weather::processor::checkpoints::store::CheckpointStore;
use weather::processor::partition::snapshot;
use weather::reading::Parser;
use weather::time::now_ms;

/// How long each is repeated.
const LENGTH: Duration = Duration::from_secs(2);
/// Readings of one fetch, about.
const BATCH: u64 = 1_000;
/// Readings between two reads of the clock.
const BLOCK: usize = 16;
const HOUR_MS: i64 = 3_600_000;

fn main() {
    Form::ALL.into_iter().for_each(parse);
    aggregate();
    for readers in [0, 1, 3] {
        publish(readers);
    }
    checkpoint();
    flush::run();
}

/// This many values, one after the other.
fn values(form: Form, count: u64) -> Vec<Vec<u8>> {
    let start_ms = now_ms() - 10 * HOUR_MS;
    let value = |number| {
        let mut value = Vec::new();
        readings::write(form, number, start_ms, &mut value);
        value
    };
    (0..count).map(value).collect()
}

/// Bytes to `Reading`: a reading, and a batch of them.
fn parse(form: Form) {
    let values = values(form, BATCH);
    let mut parser = Parser::new(form.format());
    repeat(&format!("parsing/{}/batch", form.name()), "batch of 1000", BATCH, LENGTH, || {
        for value in &values {
            let _ = std::hint::black_box(parser.parse(value, None));
        }
    });
    let name = format!("parsing/{}/reading", form.name());
    if !wanted(&name) {
        return;
    }
    let mut figures = Figures::new(name, "reading");
    let (start, cpu) = (Instant::now(), cpu_time());
    while start.elapsed() < LENGTH {
        for block in values.chunks_exact(BLOCK) {
            let begin = Instant::now();
            for value in block {
                let _ = std::hint::black_box(parser.parse(value, None));
            }
            figures.record(begin.elapsed() / BLOCK as u32);
        }
        figures.items += BATCH / BLOCK as u64 * BLOCK as u64;
    }
    figures.finish(start, cpu);
}

/// The whole core: parse, judge, add to windows.
fn aggregate() {
    let settings =
        WindowSettings { window_ms: HOUR_MS, out_of_orderness_ms: HOUR_MS / 6, max_future_ms: HOUR_MS / 6 };
    let mut partition = Partition::new(settings, PartitionState::starting_at(0));
    let values = values(Form::EpochMs, BATCH);
    let mut offset = 0;
    let now_ms = now_ms();
    repeat("accumulation/batch", "batch of 1000", BATCH, LENGTH, || {
        let records = values.iter().zip(offset..).map(|(value, offset)| Incoming {
            offset,
            timestamp_ms: -1,
            append_time_ms: None,
            bytes: value.len(),
            value: Some(value.as_slice()),
        });
        partition.apply(records, now_ms);
        offset += BATCH as i64;
    });
}

fn state(windows: i64) -> PartitionState {
    let totals = Totals { readings: 7, counts: [7; 3], sums: [7_000_000; 3], ..Totals::default() };
    let window = |number| Window { start_ms: number * HOUR_MS, totals };
    PartitionState {
        progress: Progress::starting_at(0),
        windows: (0..windows).map(window).collect(),
        ..PartitionState::starting_at(0)
    }
}

/// One state with 100 windows made visible, the last two changed, while others read without pause.
fn publish(readers: usize) {
    let mut state = state(100);
    let (mut writer, reader) = snapshot::channel(&state);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..readers {
            let (reader, stop) = (reader.clone(), &stop);
            scope.spawn(move || {
                // Relaxed: nothing else hangs on when they end.
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::black_box(reader.read());
                }
            });
        }
        repeat(&format!("publishing/{readers}-readers"), "state of 100 windows", 1, LENGTH, || {
            state.progress.next_offset += 1;
            state.windows[99].totals.readings += 1;
            writer.publish(&state, 98);
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// A checkpoint of 100 windows to the disk: written, synced, renamed, synced.
fn checkpoint() {
    let folder = program::Folder::new();
    let store = CheckpointStore::open(folder.path().as_ref(), "bench").expect("a folder that can be written");
    let checkpoint = Checkpoint {
        topic: "bench".into(),
        cluster_id: String::new(),
        partition: 0,
        epoch: 1,
        window_ms: HOUR_MS,
        written_ms: now_ms(),
        state: state(100),
        pending: Vec::new(),
        stations: Vec::new(),
    };
    repeat("checkpoint/100-windows", "file", 1, LENGTH, || {
        store.write(0, &checkpoint.encode()).expect("a disk with room");
    });
}
