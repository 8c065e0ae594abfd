//! One process: its tasks as small machines that follow the real ones effect by effect, each wait a step of the schedule.
//!
//! A machine names the file that it follows. What the real tasks call without waiting (the partition, its state, the
//! published state, the checkpoint's format and start rule, the outbox, the fair share) is the program's own code.

mod bring_up;
mod checkpoints;
mod flusher;
mod main_task;
mod ownership;
mod source;
mod worker;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use weather::engine::bounded::BoundedRun;
use weather::engine::partition::WindowSettings;

use crate::env::{Env, NEVER};
use crate::trace::Checked;
use checkpoints::Checkpoints;
use flusher::{Flusher, Tickets};
use main_task::Main;
use ownership::Ownership;
use worker::Unit;

pub type UnitRef = Rc<RefCell<Unit>>;

/// A kind of task, in the order of [`crate::plan::Weights`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    Main,
    Ownership,
    Flusher,
    Checkpoints,
    Watch,
    Launch(usize),
    Source(usize),
    Worker(usize),
}

impl Task {
    /// Its place in the weights.
    pub fn kind(self) -> usize {
        match self {
            Task::Main => 0,
            Task::Ownership => 1,
            Task::Flusher => 2,
            Task::Checkpoints => 3,
            Task::Watch => 4,
            Task::Launch(_) => 5,
            Task::Source(_) => 6,
            Task::Worker(_) => 7,
        }
    }
}

/// A wall clock that may be wrong, read as `weather::time::Clock` reads it before PostgreSQL has told its time: it is never
/// set back.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    pub offset_ms: i64,
    started_ms: i64,
    /// What it showed at the start.
    showed_ms: i64,
}

impl Clock {
    fn now_ms(&self, now_ms: i64) -> i64 {
        (now_ms + self.offset_ms).max(self.showed_ms + now_ms - self.started_ms)
    }
}

/// What the tasks of a process share.
pub struct Shared {
    /// Unique among all processes that ever were.
    pub instance: u64,
    pub name: String,
    pub volume: usize,
    pub clock: Clock,
    pub settings: WindowSettings,
    /// The partitions dealt out to it by hand.
    pub assigned: Option<Vec<i32>>,
    pub registry: BTreeMap<i32, UnitRef>,
    /// Every unit that is still held.
    units: Vec<UnitRef>,
    /// The flush has not heard of a change.
    pub changed: bool,
    pub tickets: Tickets,
    pub topic: BTreeSet<i32>,
    pub topic_changed: bool,
    /// Shutdown was requested.
    pub done: bool,
    pub launched: VecDeque<UnitRef>,
    /// Connections to PostgreSQL so far.
    pub connections: u64,
    /// The run's end, if it has one.
    pub bounded: Option<BoundedRun>,
}

impl Shared {
    pub fn epochs(&self) -> Vec<(i32, i64)> {
        self.registry.values().map(|unit| (unit.borrow().partition, unit.borrow().epoch)).collect()
    }

    /// Removes a partition if it is still held under this epoch; whether it was.
    pub fn remove(&mut self, partition: i32, epoch: i64) -> bool {
        let held = self.registry.get(&partition).is_some_and(|unit| unit.borrow().epoch == epoch);
        if held {
            self.registry.remove(&partition);
        }
        held
    }

    /// Notes that a connection was made.
    pub fn connected(&mut self) {
        self.connections += 1;
    }
}

/// How to start a process.
pub struct Start {
    pub instance: u64,
    pub slot: usize,
    pub name: String,
    pub clock_offset_ms: i64,
    pub settings: WindowSettings,
    pub bounded: bool,
}

pub struct Process {
    pub slot: usize,
    pub shared: Shared,
    main: Main,
    ownership: Ownership,
    flusher: Flusher,
    checkpoints: Checkpoints,
    next_watch_ms: i64,
    /// Stopped until then.
    pub paused_until_ms: i64,
    /// A task that gets no turn, and until when.
    pub starved: (usize, i64),
}

impl Process {
    pub fn start(start: Start, env: &Env) -> Self {
        let now_ms = env.now_ms();
        let Start { instance, slot, name, clock_offset_ms, settings, bounded } = start;
        let dealt = |partition: &i32| *partition as usize % env.plan.processes == slot;
        Self {
            slot,
            shared: Shared {
                instance,
                name,
                volume: env.volume_of(slot),
                clock: Clock {
                    offset_ms: clock_offset_ms,
                    started_ms: now_ms,
                    showed_ms: now_ms + clock_offset_ms,
                },
                settings,
                assigned: env.plan.assigned.then(|| (0..env.plan.partitions_most).filter(dealt).collect()),
                registry: BTreeMap::new(),
                units: Vec::new(),
                changed: false,
                tickets: Tickets::default(),
                topic: BTreeSet::new(),
                topic_changed: false,
                done: false,
                launched: VecDeque::new(),
                connections: 0,
                bounded: bounded.then(|| BoundedRun::new(BTreeMap::new())),
            },
            main: Main::new(),
            ownership: Ownership::new(now_ms),
            flusher: Flusher::new(now_ms),
            checkpoints: Checkpoints::new(now_ms),
            next_watch_ms: now_ms + env.plan.watch_ms,
            paused_until_ms: 0,
            starved: (usize::MAX, 0),
        }
    }

    /// Asks it to end.
    pub fn terminate(&mut self) {
        self.shared.done = true;
    }

    pub fn has_exited(&self) -> bool {
        self.main.has_exited()
    }

    /// When each task can continue.
    pub fn visit(&self, env: &Env, mut visit: impl FnMut(Task, i64)) {
        let mut tell = |task: Task, due_ms: i64| {
            let starved_ms = if self.starved.0 == task.kind() { self.starved.1 } else { 0 };
            visit(task, due_ms.max(self.paused_until_ms).max(starved_ms));
        };
        tell(Task::Main, self.main.due_ms(self, env));
        if !self.main.is_running() {
            return;
        }
        if !self.main.has_given_up_ownership() {
            tell(Task::Ownership, self.ownership.due_ms(&self.shared, env));
            for (index, launch) in self.ownership.launches.iter().enumerate() {
                tell(Task::Launch(index), launch.due_ms(env));
            }
        }
        tell(Task::Flusher, self.flusher.due_ms(&self.shared, env));
        tell(Task::Checkpoints, self.checkpoints.due_ms(&self.shared, env));
        tell(Task::Watch, self.next_watch_ms);
        for (index, unit) in self.shared.units.iter().enumerate() {
            let unit = unit.borrow();
            tell(Task::Source(index), unit.source_due_ms(env));
            tell(Task::Worker(index), if unit.is_ready() { env.now_ms() } else { NEVER });
        }
    }

    /// Gives a task its turn.
    pub fn step(&mut self, task: Task, env: &mut Env) -> Checked {
        match task {
            Task::Main => Main::step(self, env),
            Task::Ownership => self.ownership.step(&mut self.shared, env),
            Task::Flusher => self.flusher.step(&mut self.shared, env),
            Task::Checkpoints => self.checkpoints.step(&self.shared, env),
            Task::Watch => self.watch(env),
            Task::Launch(index) => self.launch(index, env)?,
            Task::Source(index) => self.shared.units[index].borrow_mut().source_step(env),
            Task::Worker(index) => {
                let clock_ms = self.shared.clock.now_ms(env.now_ms());
                self.shared.changed |= self.shared.units[index].borrow_mut().step(clock_ms, env)?;
            }
        }
        // Dropping the last handle ends a unit's tasks.
        self.shared.units.retain(|unit| Rc::strong_count(unit) > 1);
        Ok(())
    }

    fn launch(&mut self, index: usize, env: &mut Env) -> Checked {
        if let Some(unit) = self.ownership.launches[index].step(&self.shared, env)? {
            self.ownership.launches.remove(index);
            let unit = Rc::new(RefCell::new(unit));
            self.shared.units.push(Rc::clone(&unit));
            self.shared.launched.push_back(unit);
        }
        Ok(())
    }

    /// Looks for new partitions.
    fn watch(&mut self, env: &Env) {
        self.next_watch_ms = env.now_ms() + env.plan.watch_ms;
        if !env.kafka.away {
            let before = self.shared.topic.len();
            self.shared.topic.extend(env.kafka.partitions());
            self.shared.topic_changed |= self.shared.topic.len() > before;
        }
    }
}
