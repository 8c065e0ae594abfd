//! Runs seeds, several at a time, and gathers what they came to.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::plan::Plan;
use crate::trace::Violation;
use crate::world::World;

/// Seeds of an ordinary run.
const SEEDS: u64 = 5_000;

/// What a seed came to.
pub struct Outcome {
    /// Hash and number of the events.
    pub digest: (u64, u64),
    pub steps: u32,
    counts: BTreeMap<&'static str, u64>,
    violation: Option<Violation>,
    lines: Vec<String>,
}

/// Runs one seed. Its trace is kept as text if that is wanted.
pub fn run(seed: u64, keep_lines: bool) -> Outcome {
    let mut world = World::new(Plan::of(seed), keep_lines);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let violation = match result {
        Ok(result) => result.err(),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Some(Violation(format!("panicked: {said}")))
        }
    };
    let trace = world.trace();
    let lines = trace.lines().map(str::to_owned).collect();
    Outcome { digest: trace.digest(), steps: world.steps(), counts: trace.counts.clone(), violation, lines }
}

/// What went wrong: in how many schedules, and the first of them.
struct Wrong {
    times: u64,
    seed: u64,
    violation: Violation,
}

/// What all seeds of a run came to.
#[derive(Default)]
pub struct Tally {
    schedules: u64,
    steps: u64,
    counts: BTreeMap<&'static str, u64>,
    /// By what is said up to the first number in it.
    wrong: BTreeMap<String, Wrong>,
}

impl Tally {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.schedules += 1;
        self.steps += u64::from(outcome.steps);
        outcome.counts.iter().for_each(|(what, times)| *self.counts.entry(what).or_default() += times);
        if let Some(violation) = outcome.violation {
            let kind = violation.0.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default().to_owned();
            let wrong =
                self.wrong.entry(kind).or_insert(Wrong { times: 0, seed, violation: violation.clone() });
            wrong.times += 1;
            if seed < wrong.seed {
                (wrong.seed, wrong.violation) = (seed, violation);
            }
        }
    }

    pub fn failed(&self) -> u64 {
        self.wrong.values().map(|wrong| wrong.times).sum()
    }

    pub fn first_wrong(&self) -> Option<u64> {
        self.wrong.values().map(|wrong| wrong.seed).min()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} schedules, {} steps", self.schedules, self.steps)?;
        for (what, times) in &self.counts {
            writeln!(f, "{times:>12} {what}")?;
        }
        for Wrong { times, seed, violation } in self.wrong.values() {
            writeln!(f, "{times} schedules, the first with seed {seed}: {violation}")?;
        }
        Ok(())
    }
}

/// Runs these seeds, one at a time on each processor.
pub fn run_all(seeds: Range<u64>) -> Tally {
    let (next, tally) = (AtomicU64::new(seeds.start), Mutex::new(Tally::default()));
    let work = || {
        loop {
            // Relaxed: each number goes to one thread, and nothing else hangs on it.
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let outcome = run(seed, false);
            tally.lock().expect("no thread panics while it adds").add(seed, outcome);
        }
    };
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get());
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    tally.into_inner().expect("no thread panics while it adds")
}

/// The seeds that `WEATHER_SEEDS` asks for.
pub fn seeds() -> Range<u64> {
    let Ok(wanted) = std::env::var("WEATHER_SEEDS") else { return 0..SEEDS };
    let parsed = match wanted.split_once("..") {
        Some((first, end)) => first.parse().and_then(|first| Ok(first..end.parse()?)),
        None => wanted.parse().map(|count| 0..count),
    };
    parsed.unwrap_or_else(|_| panic!("WEATHER_SEEDS={wanted}: give a number of seeds, or FIRST..END"))
}

/// Runs a seed again and prints its plan and its trace.
pub fn show(seed: u64) {
    println!("{:#?}", Plan::of(seed));
    let outcome = run(seed, true);
    outcome.lines.iter().for_each(|line| println!("{line}"));
    if let Some(violation) = outcome.violation {
        println!("{violation}");
    }
}
