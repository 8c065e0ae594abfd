//! The simulation: the processor's core, and its assignment, flush and checkpoint protocol, under seeded schedules.
//!
//! One seed sets everything: topology, configuration, workload, faults and the order of every step ([`plan`], [`world`]).
//! The core is the program's own code; its tasks are modelled step by step ([`process`]), and so are PostgreSQL
//! ([`database`]), Kafka ([`kafka`]) and the volume ([`volume`]). After every step the [`ledger`] of each partition is
//! compared with its state, and after every transaction with the tables; at the end, with the faults off, everything
//! must drain, and the tables must equal a plain second computation ([`verdict`]). README.md beside this file says what
//! is the program's own code, which planted bugs are found in how many schedules, and what is left out.
//!
//! `WEATHER_SEEDS` says which seeds to run: `N` the first N, `A..B` a range. `WEATHER_TRACE=1` replays the first of them,
//! or the first that goes wrong, and shows its plan and its trace.

mod database;
mod env;
mod faults;
mod kafka;
mod ledger;
mod plan;
mod prng;
mod process;
mod producers;
mod readmit;
mod runner;
mod tools;
mod trace;
mod verdict;
mod verification;
mod volume;
mod world;

use std::time::Instant;

use runner::{run, run_all, seeds, show};

#[test]
fn every_schedule_is_exact() {
    let (seeds, began) = (seeds(), Instant::now());
    let tally = run_all(seeds.clone());
    println!("seeds {}..{}: {tally}{:.1} s", seeds.start, seeds.end, began.elapsed().as_secs_f64());
    let first_wrong = tally.first_wrong();
    if std::env::var_os("WEATHER_TRACE").is_some() {
        show(first_wrong.unwrap_or(seeds.start));
    }
    if let Some(seed) = first_wrong {
        panic!(
            "{} schedules went wrong; replay the first, seed {seed}:\n\
             WEATHER_TRACE=1 WEATHER_SEEDS={seed}..{} cargo test --test simulation every_schedule -- --nocapture",
            tally.failed(),
            seed + 1
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..50 {
        let (first, second) = (run(seed, false), run(seed, true));
        assert_eq!(first.digest, second.digest, "seed {seed}");
        assert_eq!(first.steps, second.steps, "seed {seed}");
        assert_ne!(first.digest, run(seed + 1, false).digest, "seeds {seed} and {}", seed + 1);
    }
}
