//! What the benchmarks share.
//!
//! - [`figures`]: a histogram with throughput, CPU time and memory; its lines on the terminal and its files.
//! - [`readings`]: the messages, the same in every run.
//! - [`kafka`]: a broker (embedded, or the one that `WEATHER_BENCH_KAFKA` names) and topics filled with readings.
//! - [`program`]: the built `weather` as a process of its own, with what it used.
//! - [`table`]: the database to fill and empty.
//! - [`bare`]: the floor to compare with: rskafka and simd-json in a loop, and nothing else.

// Each benchmark is a crate of its own, which uses only some of this.
#![allow(dead_code, unreachable_pub)]

pub mod bare;
pub mod figures;
pub mod kafka;
pub mod program;
pub mod readings;
pub mod table;

/// Whether a benchmark, or one of its group, was selected: `cargo bench -- WORDS…` runs those whose names
/// begin with one of the words, or one of whose words they begin with.
pub fn wanted(name: &str) -> bool {
    // What cargo adds begins with a dash.
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-')).peekable();
    words.peek().is_none() || words.any(|word| name.starts_with(&word) || word.starts_with(name))
}

/// A setting of the environment, if it is there and not empty.
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A setting that is a number.
///
/// # Panics
/// When it is none.
pub fn number(name: &str, default: u64) -> u64 {
    setting(name).map_or(default, |value| value.parse().unwrap_or_else(|e| panic!("{name}={value}: {e}")))
}

/// The one in the middle of several runs.
pub fn median<T: Copy>(runs: &[T], key: impl Fn(&T) -> f64) -> T {
    let mut sorted = runs.to_vec();
    sorted.sort_by(|a, b| key(a).total_cmp(&key(b)));
    sorted[sorted.len() / 2]
}
