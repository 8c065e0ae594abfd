//! The task of `src/processor/flusher.rs`: writes whatever changed, at most once an interval, for all partitions together.
//!
//! A partition's state and its letters are two looks at what another thread changes, hence two steps.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use weather::engine::flush_plan::PartitionFlush;
use weather::engine::partition::Confirmation;
use weather::engine::state::{Position, State};
use weather::engine::window::{Totals, Window};
use weather::retry::Backoff;
use weather::time::milliseconds;

use super::{Shared, UnitRef};
use crate::database::{Answer, CallId, Part, Request, Session, Trouble};
use crate::env::{Env, NEVER};
use crate::ledger::Ledger;

/// What PostgreSQL has of a partition, as far as this process wrote it.
#[derive(Debug, Default)]
struct Written {
    epoch: i64,
    position: Option<Position>,
    /// None: to be written again, as the windows are.
    idle: Option<i64>,
    windows: BTreeMap<i64, Totals>,
}

enum Step {
    Waiting,
    /// The states of these, one after the other.
    State {
        units: Vec<UnitRef>,
        at: usize,
    },
    /// Then the letters that belong to each.
    Letters {
        units: Vec<UnitRef>,
        at: usize,
        state: Box<State>,
        ledger: Rc<Ledger>,
    },
    Send,
    Connecting(CallId),
    Flushing(CallId),
    Confirm {
        units: Vec<UnitRef>,
        at: usize,
    },
    Standing(CallId),
    Backoff {
        until_ms: i64,
    },
}

/// A flush that somebody waits for.
pub type Ticket = u64;

/// Questions to the flush and its answers.
#[derive(Debug, Default)]
pub struct Tickets {
    next: Ticket,
    asked: Vec<Ticket>,
    answered: BTreeSet<Ticket>,
}

impl Tickets {
    /// Asks for a flush now.
    pub fn ask(&mut self) -> Ticket {
        self.next += 1;
        self.asked.push(self.next);
        self.next
    }

    pub fn is_answered(&self, ticket: Ticket) -> bool {
        self.answered.contains(&ticket)
    }
}

pub struct Flusher {
    session: Option<Session>,
    written: BTreeMap<i32, Written>,
    /// How many there were when what was written was last doubted.
    connections: u64,
    step: Step,
    work: Vec<Part>,
    ticket: Option<Ticket>,
    backoff: Backoff,
    dirty: bool,
    next_ms: i64,
}

impl Flusher {
    pub fn new(now_ms: i64) -> Self {
        Self {
            session: None,
            written: BTreeMap::new(),
            connections: 0,
            step: Step::Waiting,
            work: Vec::new(),
            ticket: None,
            backoff: Backoff::default(),
            dirty: false,
            next_ms: now_ms,
        }
    }

    pub fn due_ms(&self, shared: &Shared, env: &Env) -> i64 {
        let when = |ready| if ready { env.now_ms() } else { NEVER };
        match self.step {
            Step::Waiting if !shared.tickets.asked.is_empty() => env.now_ms(),
            Step::Waiting if self.dirty => self.next_ms,
            Step::Waiting => when(shared.changed),
            Step::Connecting(call) | Step::Flushing(call) | Step::Standing(call) => {
                when(env.database.answered(call))
            }
            Step::Backoff { until_ms } => until_ms,
            _ => env.now_ms(),
        }
    }

    pub fn step(&mut self, shared: &mut Shared, env: &mut Env) {
        let step = std::mem::replace(&mut self.step, Step::Waiting);
        match step {
            Step::Waiting => self.wait(shared, env),
            Step::State { units, at } => self.read_state(units, at),
            Step::Letters { units, at, state, ledger } => self.read_letters(units, at, *state, ledger),
            Step::Send => self.send(shared, env),
            Step::Connecting(call) => match env.database.take(call) {
                Some(Ok(Answer::Connected(session))) => {
                    self.session = Some(session);
                    shared.connected();
                    self.step = Step::Send;
                }
                _ => self.away(env),
            },
            Step::Flushing(call) => match env.database.take(call) {
                Some(Ok(_)) => {
                    self.step = Step::Confirm { units: shared.registry.values().cloned().collect(), at: 0 };
                }
                Some(Err(Trouble::Fenced)) => {
                    let partitions = self.work.iter().map(|part| part.partition).collect();
                    let request = Request::Standing(partitions);
                    self.step = Step::Standing(env.call(shared.instance, self.session, request));
                }
                _ => self.away(env),
            },
            Step::Confirm { units, at } => self.confirm(units, at, shared),
            Step::Standing(call) => self.drop_fenced(call, shared, env),
            Step::Backoff { .. } => self.collect(shared),
        }
    }

    fn wait(&mut self, shared: &mut Shared, env: &Env) {
        let asked = !shared.tickets.asked.is_empty();
        if !asked && !self.dirty {
            (self.dirty, shared.changed) = (true, false);
            return;
        }
        self.ticket = asked.then(|| shared.tickets.asked.remove(0));
        self.dirty = false;
        self.next_ms = env.now_ms() + env.plan.flush_interval_ms;
        self.backoff.reset();
        self.collect(shared);
    }

    /// Begins to look for what PostgreSQL does not have yet.
    fn collect(&mut self, shared: &Shared) {
        let units: Vec<UnitRef> = shared.registry.values().cloned().collect();
        let owns = |partition: i32, epoch: i64| {
            units.iter().any(|unit| unit.borrow().partition == partition && unit.borrow().epoch == epoch)
        };
        self.written.retain(|partition, written| owns(*partition, written.epoch));
        if std::mem::replace(&mut self.connections, shared.connections) != shared.connections {
            self.written.values_mut().for_each(|written| {
                written.idle = None;
                written.windows.clear();
            });
        }
        self.work.clear();
        self.step = Step::State { units, at: 0 };
    }

    fn read_state(&mut self, units: Vec<UnitRef>, at: usize) {
        let Some(unit) = units.get(at).cloned() else {
            self.step = Step::Send;
            return;
        };
        let unit = unit.borrow();
        let (state, ledger) = (unit.published.read(), Rc::clone(&unit.published_ledger));
        self.step = Step::Letters { units, at, state: Box::new(state), ledger };
    }

    fn read_letters(&mut self, units: Vec<UnitRef>, at: usize, state: State, ledger: Rc<Ledger>) {
        {
            let unit = units[at].borrow();
            let letters = unit.outbox.before(state.progress.position());
            let written = self.written.entry(unit.partition).or_default();
            written.epoch = unit.epoch;
            let has = |window: &&Window| written.windows.get(&window.start_ms) != Some(&window.totals);
            let windows: Vec<Window> = state.windows.iter().filter(has).copied().collect();
            let same = written.position == Some(state.progress.position())
                && written.idle == Some(state.progress.idle);
            if !same || !windows.is_empty() {
                let (partition, epoch) = (unit.partition, unit.epoch);
                let known = written.position.unwrap_or(state.progress.flushed());
                let flush =
                    PartitionFlush { partition, epoch, state, known, high_watermark: 0, windows, letters };
                self.work.push(Part { flush, ledger });
            }
        }
        self.step = Step::State { units, at: at + 1 };
    }

    fn send(&mut self, shared: &mut Shared, env: &mut Env) {
        if self.work.is_empty() {
            return self.finish(shared);
        }
        self.step = match self.session {
            None => Step::Connecting(env.call(shared.instance, None, Request::Connect)),
            session => Step::Flushing(env.call(shared.instance, session, Request::Flush(self.work.clone()))),
        };
    }

    fn finish(&mut self, shared: &mut Shared) {
        shared.tickets.answered.extend(self.ticket.take());
        self.step = Step::Waiting;
    }

    fn away(&mut self, env: &Env) {
        self.session = None;
        self.step = Step::Backoff { until_ms: env.now_ms() + milliseconds(self.backoff.next_wait()) };
    }

    fn confirm(&mut self, units: Vec<UnitRef>, at: usize, shared: &mut Shared) {
        let Some(part) = self.work.get(at) else { return self.finish(shared) };
        let progress = &part.state.progress;
        let position = progress.position();
        let windows = part.state.windows.iter().map(|w| (w.start_ms, w.totals)).collect();
        let idle = Some(progress.idle);
        let written = Written { epoch: part.epoch, position: Some(position), idle, windows };
        self.written.insert(part.partition, written);
        let ours = |unit: &&UnitRef| {
            let unit = unit.borrow();
            (unit.partition, unit.epoch) == (part.partition, part.epoch)
        };
        if let Some(unit) = units.iter().find(ours) {
            let confirmation = Confirmation { position, watermark_ms: progress.watermark_ms };
            unit.borrow_mut().confirm(confirmation);
        }
        self.step = Step::Confirm { units, at: at + 1 };
    }

    /// Lets go of the partitions of this flush that are no longer ours.
    fn drop_fenced(&mut self, call: CallId, shared: &mut Shared, env: &mut Env) {
        let Some(Ok(Answer::Standing(rows))) = env.database.take(call) else { return self.away(env) };
        let mut dropped = false;
        for part in &self.work {
            let row = rows.iter().find(|row| row.partition == part.partition);
            if part.refusal(row).is_none() {
                continue;
            }
            dropped = true;
            if shared.remove(part.partition, part.epoch) {
                env.trace.note(
                    "dropped as fenced",
                    &[shared.instance as i64, i64::from(part.partition), part.epoch],
                );
            }
        }
        if dropped { self.collect(shared) } else { self.away(env) }
    }
}
