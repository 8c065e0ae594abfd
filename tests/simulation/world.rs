//! One run: processes, services and faults under one seeded schedule.
//!
//! Whatever can happen next is a [`Turn`] with the time from which on it can. The schedule picks one of those that are due,
//! by weights that the seed sets, and time passes a little; when none is due, time moves on to the next. First the safety
//! phase, with faults; then the faults are off, everything must drain, and the tables must be right ([`crate::verdict`]).

use crate::database::{PartitionRow, Session};
use crate::env::{Env, NEVER};
use crate::plan::{Fault, Plan};
use crate::process::{Process, Start, Task};
use crate::producers::Producers;
use crate::readmit::Readmission;
use crate::trace::{Checked, Trace, ensure};
use crate::verification::Verification;

/// How long the drain may take, ms: longer than any lease, backoff and idle time-out together.
const DRAIN_MS: i64 = 120_000;
/// Steps between two looks whether all is done.
const LOOK_EVERY: u32 = 64;
/// Steps after which a run that does not end is given up.
const MOST_STEPS: u32 = 3_000_000;
/// Readings for the bounded run at the end.
const LAST_READINGS: u32 = 30;

#[derive(Debug, Clone, Copy)]
enum Turn {
    Produce,
    Call(usize),
    Fault(usize),
    Start(usize),
    DatabaseBack,
    KafkaBack,
    Task(usize, Task),
    Readmission(usize),
    Verification,
}

/// A place for a process.
#[derive(Debug)]
pub(crate) struct Slot {
    /// When a process is to be started here.
    pub start_ms: i64,
    pub clock_offset_ms: i64,
}

pub struct World {
    pub(crate) env: Env,
    pub(crate) processes: Vec<Process>,
    pub(crate) slots: Vec<Slot>,
    producers: Producers,
    /// Kind, mean time between two, time of the next.
    faults: Vec<(Fault, i64, i64)>,
    pub(crate) database_back_ms: i64,
    pub(crate) kafka_back_ms: i64,
    pub(crate) instances: u64,
    /// Runs of `readmit`, and the one of `verify` with its connection.
    pub(crate) readmissions: Vec<Readmission>,
    pub(crate) verification: Option<(Session, Verification)>,
    /// What the run of `readmit` that ended last has taken.
    pub(crate) taken: usize,
    /// A process that ends is started again.
    restarts: bool,
    /// Processes that were asked to end when nothing was wrong: they must leave nothing behind.
    pub(crate) leaving: Vec<String>,
    /// Processes that are started now end by themselves.
    bounded: bool,
    steps: u32,
    turns: Vec<(Turn, u64)>,
}

impl World {
    pub fn new(plan: Plan, keep_lines: bool) -> Self {
        let mut env = Env::new(plan, keep_lines);
        let now_ms = env.now_ms();
        let (plan, rng) = (&env.plan, &mut env.rng);
        let slot = |_| Slot {
            start_ms: now_ms + rng.between(0, 2_000),
            clock_offset_ms: rng.between(-plan.skew_ms, plan.skew_ms),
        };
        let slots = (0..plan.processes).map(slot).collect();
        let faults = plan
            .faults
            .iter()
            .map(|(fault, mean_ms)| (*fault, *mean_ms, now_ms + rng.between(0, 2 * mean_ms)));
        let faults = faults.collect();
        let producers = Producers::new(plan, rng, now_ms);
        Self {
            processes: Vec::new(),
            slots,
            producers,
            faults,
            database_back_ms: NEVER,
            kafka_back_ms: NEVER,
            instances: 0,
            readmissions: Vec::new(),
            verification: None,
            taken: 0,
            restarts: true,
            leaving: Vec::new(),
            bounded: false,
            steps: 0,
            turns: Vec::new(),
            env,
        }
    }

    /// The whole run.
    pub fn run(&mut self) -> Checked {
        let end_ms = self.env.now_ms() + self.env.plan.duration_ms;
        while self.env.now_ms() < end_ms {
            self.step()?;
        }
        self.calm_down();
        self.run_until("drain", Self::is_settled)?;
        if self.env.plan.has(Fault::Readmit) {
            self.readmit_all()?;
        }
        self.terminate_all();
        self.run_until("end", |world| world.all_have_exited())?;
        if self.env.plan.bounded_end {
            self.bounded_run()?;
        }
        self.judge()?;
        self.verify_all()
    }

    pub fn trace(&self) -> &Trace {
        &self.env.trace
    }

    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Some more readings, and processes that end by themselves once they are in the table.
    fn bounded_run(&mut self) -> Checked {
        self.producers.more(LAST_READINGS);
        self.run_until("last readings", |world| world.is_silent())?;
        self.bounded = true;
        let now_ms = self.env.now_ms();
        self.slots.iter_mut().for_each(|slot| slot.start_ms = now_ms);
        self.run_until("bounded run", |world| world.all_have_exited())?;
        let behind = self.is_behind();
        ensure!(behind.is_none(), "the bounded run has ended, but {}", behind.unwrap_or_default());
        Ok(())
    }

    /// The faults are off, and what they did is put right.
    fn calm_down(&mut self) {
        let now_ms = self.env.now_ms();
        self.env.trace.note("calm", &[]);
        self.faults.clear();
        self.env.chances = Default::default();
        if !self.env.database.is_up() {
            self.database_back_ms = now_ms;
        }
        self.kafka_back_ms = now_ms;
        self.producers.stop();
        for process in &mut self.processes {
            (process.paused_until_ms, process.starved) = (0, (usize::MAX, 0));
        }
        self.readmissions.iter_mut().for_each(|run| run.killed_ms = NEVER);
        for slot in self.slots.iter_mut().filter(|slot| slot.start_ms != NEVER) {
            slot.start_ms = slot.start_ms.min(now_ms + 1_000);
        }
    }

    fn terminate_all(&mut self) {
        self.restarts = false;
        self.slots.iter_mut().for_each(|slot| slot.start_ms = NEVER);
        for process in self.processes.iter_mut().filter(|process| !process.shared.done) {
            self.leaving.push(process.shared.name.clone());
            process.terminate();
        }
    }

    pub(crate) fn run_until(&mut self, phase: &str, done: impl Fn(&Self) -> bool) -> Checked {
        let until_ms = self.env.now_ms() + DRAIN_MS;
        while !done(self) {
            for _ in 0..LOOK_EVERY {
                self.step()?;
            }
            ensure!(self.env.now_ms() < until_ms, "{phase} does not come to its end: {}", self.stuck());
        }
        Ok(())
    }

    /// One turn.
    fn step(&mut self) -> Checked {
        self.steps += 1;
        ensure!(self.steps < MOST_STEPS, "the run does not end");
        let soonest_ms = self.gather();
        if self.turns.is_empty() {
            // Nobody waits for anything: all have exited.
            let idle_ms = self.env.now_ms() + 100;
            self.env.trace.now_ms = soonest_ms.min(idle_ms);
            return Ok(());
        }
        let total: u64 = self.turns.iter().map(|(_, weight)| weight).sum();
        let mut lot = self.env.rng.next() % total;
        let picked = self.turns.iter().find(|(_, weight)| {
            let found = lot < *weight;
            lot = lot.wrapping_sub(*weight);
            found
        });
        if let Some((turn, _)) = picked.copied() {
            self.take(turn)?;
        }
        if self.env.rng.chance(300) {
            self.env.trace.now_ms += self.env.rng.between(0, self.env.plan.step_ms);
        }
        Ok(())
    }

    /// Finds what is due; if nothing is, when something will be.
    fn gather(&mut self) -> i64 {
        let verification_due_ms = self.verification_due_ms();
        let Self { env, turns, processes, .. } = self;
        let now_ms = env.now_ms();
        let mut soonest_ms = NEVER;
        turns.clear();
        let mut offer = |turn: Turn, due_ms: i64, weight: u64| {
            if due_ms <= now_ms {
                turns.push((turn, weight));
            } else {
                soonest_ms = soonest_ms.min(due_ms);
            }
        };
        offer(Turn::Produce, self.producers.due_ms(), 4);
        offer(Turn::DatabaseBack, self.database_back_ms, 4);
        offer(Turn::KafkaBack, self.kafka_back_ms, 4);
        for index in 0..env.database.calls() {
            offer(Turn::Call(index), env.database.due_ms(index), 4);
        }
        for (index, (.., next_ms)) in self.faults.iter().enumerate() {
            offer(Turn::Fault(index), *next_ms, 4);
        }
        for (index, slot) in self.slots.iter().enumerate() {
            offer(Turn::Start(index), slot.start_ms, 4);
        }
        for (index, run) in self.readmissions.iter().enumerate() {
            offer(Turn::Readmission(index), run.due_ms(env), 4);
        }
        offer(Turn::Verification, verification_due_ms, 1);
        for (index, process) in processes.iter().enumerate() {
            process.visit(env, |task, due_ms| {
                offer(Turn::Task(index, task), due_ms, env.plan.weights[task.kind()]);
            });
        }
        soonest_ms
    }

    fn take(&mut self, turn: Turn) -> Checked {
        let env = &mut self.env;
        let now_ms = env.now_ms();
        match turn {
            Turn::Produce => {
                let (partition, count) = self.producers.step(&env.plan, &mut env.kafka, &mut env.rng, now_ms);
                env.trace.note("produced", &[i64::from(partition), count]);
            }
            Turn::Call(index) => {
                let with = (&env.kafka, &mut env.rng, &mut env.trace);
                env.database.progress(index, &env.chances, with)?;
            }
            Turn::Fault(index) => {
                let (fault, mean_ms, next_ms) = &mut self.faults[index];
                *next_ms = now_ms + env.rng.between(1, 2 * *mean_ms);
                let fault = *fault;
                self.strike(fault);
            }
            Turn::Start(slot) => self.start(slot),
            Turn::DatabaseBack => {
                env.database.come_back(now_ms);
                self.database_back_ms = NEVER;
            }
            Turn::KafkaBack => {
                env.kafka.away = false;
                env.database.disturb(now_ms);
                self.kafka_back_ms = NEVER;
            }
            Turn::Task(index, task) => self.give_turn(index, task)?,
            Turn::Readmission(index) => self.step_readmission(index),
            Turn::Verification => self.step_verification()?,
        }
        Ok(())
    }

    fn start(&mut self, slot: usize) {
        self.instances += 1;
        let (env, place) = (&mut self.env, &mut self.slots[slot]);
        place.start_ms = NEVER;
        let mut settings = env.plan.settings;
        if env.plan.changing_delay {
            settings.out_of_orderness_ms = env.rng.pick(&[0, 300, 1_000, 3_000]);
        }
        let (instance, clock_offset_ms) = (self.instances, place.clock_offset_ms);
        env.trace.note("started", &[instance as i64, slot as i64]);
        let name = free_name(env, &self.processes, slot);
        let start = Start { instance, slot, name, clock_offset_ms, settings, bounded: self.bounded };
        self.processes.push(Process::start(start, env));
    }

    fn give_turn(&mut self, index: usize, task: Task) -> Checked {
        let process = &mut self.processes[index];
        process.step(task, &mut self.env)?;
        if process.has_exited() {
            let process = self.processes.swap_remove(index);
            let env = &mut self.env;
            env.trace.note("exited", &[process.shared.instance as i64]);
            env.database.hang_up(process.shared.instance, &mut env.rng);
            if self.restarts {
                let wait_ms = self.env.rng.between(100, 6_000);
                self.put_down(process.slot, process.shared.volume, wait_ms);
            }
        }
        Ok(())
    }

    fn all_have_exited(&self) -> bool {
        self.processes.is_empty() && self.slots.iter().all(|slot| slot.start_ms == NEVER)
    }

    fn is_silent(&self) -> bool {
        self.producers.due_ms() == NEVER
    }

    /// Whether all that there is has been read, written and closed, and the work is shared out.
    fn is_settled(&self) -> bool {
        let beside = self.readmissions.is_empty() && self.verification.is_none();
        beside
            && self.is_silent()
            && self.env.database.is_calm(self.env.now_ms())
            && self.unsettled().is_none()
    }

    /// A partition that PostgreSQL does not have to its end.
    fn is_behind(&self) -> Option<String> {
        let rows = &self.env.database.tables.partitions;
        let complete = |partition: &i32, row: &PartitionRow| {
            let log = self.env.kafka.log(*partition);
            row.stored.as_ref().is_some_and(|stored| stored.ledger.is_at_the_end_of(log))
        };
        let behind = |partition: &i32| !rows.get(partition).is_some_and(|row| complete(partition, row));
        let partition = self.env.kafka.partitions().find(behind)?;
        Some(format!("partition {partition} is at {:?}", rows.get(&partition).map(PartitionRow::position)))
    }

    fn unsettled(&self) -> Option<String> {
        let database = &self.env.database;
        if let Some(behind) = self.is_behind() {
            return Some(behind);
        }
        if let Some((window, row)) = database.tables.summary.iter().find(|(_, row)| !row.is_final) {
            return Some(format!("window {window} is not final: {row:?}"));
        }
        let owners = database.owners(self.env.now_ms());
        let holds = |process: &&Process| {
            process.shared.epochs().iter().all(|(partition, epoch)| {
                owners.get(partition) == Some(&Some(&process.shared.name))
                    && database.tables.partitions.get(partition).is_some_and(|row| row.epoch == *epoch)
            })
        };
        if self.processes.iter().any(|process| !holds(&process)) {
            return Some(format!("a process holds what it does not own: {owners:?}"));
        }
        let shares: Vec<usize> = self.processes.iter().map(|process| process.shared.registry.len()).collect();
        let dealt = self.env.plan.assigned
            || shares.iter().max() <= shares.iter().min().map(|least| least + 1).as_ref();
        let all: usize = shares.iter().sum();
        (!dealt || all != owners.len())
            .then(|| format!("the partitions are shared out as {shares:?}: {owners:?}"))
    }

    fn stuck(&self) -> String {
        let mut left = Vec::new();
        for process in &self.processes {
            let mut waits = Vec::new();
            process.visit(&self.env, |task, due_ms| waits.push((task, due_ms)));
            waits.retain(|(_, due_ms)| *due_ms != NEVER);
            left.push((process.shared.instance, waits));
        }
        let unsettled = self.unsettled().unwrap_or_default();
        let calls = self.env.database.waiting();
        format!("{unsettled}; processes and what they wait for: {left:?}; calls: {calls:?}")
    }
}

/// The first name of the slot's folder that nobody holds locked, as `src/processor/identity.rs` takes it. Where the
/// folder was emptied its names are created again.
fn free_name(env: &Env, processes: &[Process], slot: usize) -> String {
    let volume = env.volume_of(slot);
    let name = |lock: usize| format!("v{volume}.{}-{lock}", env.volumes[volume].life);
    let held = |name: &String| processes.iter().any(|process| process.shared.name == *name);
    (0..=processes.len()).map(name).find(|name| !held(name)).unwrap_or_default()
}
