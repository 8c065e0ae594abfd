//! The whole program: from a topic to the table, from the producer to the topic, from append to visible row.
//!
//! `benches/run` starts real services and runs this; without them (`cargo bench`) the embedded broker serves, and what needs
//! PostgreSQL is named and left out. The environment: `WEATHER_BENCH_KAFKA` (brokers), `WEATHER_BENCH_DATABASE_URL` (of a database
//! that may be filled and emptied), `WEATHER_BENCH_BINARY` (the program to measure, such as the shipped static form),
//! `WEATHER_BENCH_READINGS` and `WEATHER_BENCH_RUNS`.
//!
//! Each part compares what runs side by side in turns, and tells medians: machines are noisy, ratios less so.

#[path = "../common/mod.rs"]
mod common;

use common::{bare, wanted};

mod end_to_end;
mod forms;
mod latency;
mod producer;
mod restart;
mod stations;
#[path = "../../tests/support/mod.rs"]
mod support;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("bare", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return bare::run(rest);
    }
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(async {
        if wanted("end-to-end") {
            end_to_end::run().await;
        }
        if wanted("forms") {
            forms::run().await;
        }
        if wanted("stations") {
            stations::run().await;
        }
        if wanted("producer") {
            producer::run().await;
        }
        if wanted("restart") {
            restart::run().await;
        }
        if wanted("latency") {
            latency::run().await;
        }
    });
}
