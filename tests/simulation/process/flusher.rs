//! The task of `src/processor/flusher.rs`: writes whatever changed, at most once an interval, for all partitions together.
//!
//! What to write and what a refusal means is the program's own `FlushPlan`. A partition's state and its dead letters are two
//! reads of what another thread changes, so two steps; where stations are kept apart, its worker gives
//! both at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use weather::engine::flush_plan::{Confirmed, FlushPlan, Offer, PartitionFlush, Refusal, Remedy};
use weather::engine::state::PartitionState;
use weather::retry::Backoff;
use weather::time::milliseconds;

use super::worker::FlushImage;
use super::{Shared, UnitRef};
use crate::database::{Answer, CallId, Part, Request, Session, Trouble};
use crate::env::{Env, NEVER};
use crate::ledger::Ledger;

/// What is written in one transaction, so that a round is now and then more than one: a window is 200 bytes, a station 120.
const MOST_BYTES: usize = 1_500;

enum Step {
    Waiting,
    /// The states of these, one after the other.
    State {
        units: Vec<UnitRef>,
        at: usize,
    },
    /// Where stations are kept apart, the worker is asked for all at once.
    Image {
        units: Vec<UnitRef>,
        at: usize,
    },
    /// Then the dead letters that belong to each.
    DeadLetters {
        units: Vec<UnitRef>,
        at: usize,
        state: Box<PartitionState>,
        ledger: Rc<Ledger>,
    },
    Send,
    Connecting(CallId),
    Flushing(CallId),
    /// Each owner hears of it.
    Confirm {
        units: Vec<UnitRef>,
        left: VecDeque<Confirmed>,
    },
    Standing(CallId),
    Backoff {
        until_ms: i64,
    },
}

/// A flush that a task waits for.
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
    plan: FlushPlan,
    /// The ledgers of the states that are written.
    ledgers: BTreeMap<i32, Rc<Ledger>>,
    step: Step,
    /// Where a round continues once the portion that is full is sent.
    rest: Option<(Vec<UnitRef>, usize)>,
    ticket: Option<Ticket>,
    backoff: Backoff,
    dirty: bool,
    next_ms: i64,
}

impl Flusher {
    pub fn new(now_ms: i64) -> Self {
        Self {
            session: None,
            plan: FlushPlan::of_portions(MOST_BYTES),
            ledgers: BTreeMap::new(),
            step: Step::Waiting,
            rest: None,
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
            Step::Image { ref units, at } => when(units[at].borrow().flush_image.is_some()),
            _ => env.now_ms(),
        }
    }

    pub fn step(&mut self, shared: &mut Shared, env: &mut Env) {
        let step = std::mem::replace(&mut self.step, Step::Waiting);
        match step {
            Step::Waiting => self.wait(shared, env),
            Step::State { units, at } => self.read_state(units, at, env),
            Step::Image { units, at } => self.take_image(units, at),
            Step::DeadLetters { units, at, state, ledger } => {
                self.read_dead_letters(units, at, *state, ledger)
            }
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
                    let units = shared.registry.values().cloned().collect();
                    self.step = Step::Confirm { units, left: self.plan.confirm().into() };
                }
                Some(Err(Trouble::Fenced)) => self.refused(Refusal::Fenced, shared, env),
                _ => self.refused(Refusal::NotNow, shared, env),
            },
            Step::Confirm { units, left } => self.confirm(units, left),
            Step::Standing(call) => self.drop_lost(call, shared, env),
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
        self.plan.begin(&shared.epochs(), shared.connections);
        self.rest = None;
        self.step = Step::State { units, at: 0 };
    }

    fn read_state(&mut self, units: Vec<UnitRef>, at: usize, env: &mut Env) {
        let Some(unit) = units.get(at).cloned() else {
            self.step = Step::Send;
            return;
        };
        if env.plan.max_stations.is_some() {
            // Where many stations have changed, a flush that nobody asked for is left for later.
            if self.ticket.is_none() && env.rng.chance(200) {
                self.dirty = true;
                self.step = Step::State { units, at: at + 1 };
            } else {
                unit.borrow_mut().asked_for_flush = true;
                self.step = Step::Image { units, at };
            }
            return;
        }
        let unit = unit.borrow();
        let (state, ledger) = (unit.published.read(), Rc::clone(&unit.published_ledger));
        self.step = Step::DeadLetters { units, at, state: Box::new(state), ledger };
    }

    /// After a partition was added.
    fn go_on(&mut self, units: Vec<UnitRef>, at: usize) {
        self.step = match self.plan.is_full() {
            true => {
                self.rest = Some((units, at + 1));
                Step::Send
            }
            false => Step::State { units, at: at + 1 },
        };
    }

    fn take_image(&mut self, units: Vec<UnitRef>, at: usize) {
        let image = units[at].borrow_mut().flush_image.take();
        if let Some(FlushImage { state, dead_letters, stations, ledger }) = image {
            let (partition, epoch) = (units[at].borrow().partition, units[at].borrow().epoch);
            self.ledgers.insert(partition, ledger);
            self.plan.add(Offer { partition, epoch, state, dead_letters, stations, high_watermark: 0 });
        }
        self.go_on(units, at);
    }

    fn read_dead_letters(
        &mut self,
        units: Vec<UnitRef>,
        at: usize,
        state: PartitionState,
        ledger: Rc<Ledger>,
    ) {
        {
            let unit = units[at].borrow();
            let dead_letters = unit.outbox.before(state.progress.position());
            let (partition, epoch) = (unit.partition, unit.epoch);
            self.ledgers.insert(partition, ledger);
            let stations = Vec::new();
            self.plan.add(Offer { partition, epoch, state, dead_letters, stations, high_watermark: 0 });
        }
        self.go_on(units, at);
    }

    fn send(&mut self, shared: &mut Shared, env: &mut Env) {
        if let Some((units, at)) = self.rest.take_if(|_| !self.plan.is_full()) {
            self.step = Step::State { units, at };
            return;
        }
        if self.plan.portion().is_empty() {
            return self.finish(shared);
        }
        self.step = match self.session {
            None => Step::Connecting(env.call(shared.instance, None, Request::Connect)),
            session => {
                let part = |flush: &PartitionFlush| Part {
                    flush: flush.clone(),
                    ledger: Rc::clone(&self.ledgers[&flush.partition]),
                };
                let parts = self.plan.portion().iter().map(part).collect();
                Step::Flushing(env.call(shared.instance, session, Request::Flush(parts)))
            }
        };
    }

    fn refused(&mut self, refusal: Refusal, shared: &Shared, env: &mut Env) {
        self.step = match self.plan.refused(refusal) {
            Remedy::AskStanding => {
                let partitions = self.plan.portion().iter().map(|part| part.partition).collect();
                let request = Request::Standing(partitions);
                Step::Standing(env.call(shared.instance, self.session, request))
            }
            Remedy::SendApart | Remedy::SendWithout { .. } => Step::Send,
            Remedy::TryAgain => return self.away(env),
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

    fn confirm(&mut self, units: Vec<UnitRef>, mut left: VecDeque<Confirmed>) {
        let Some(confirmed) = left.pop_front() else {
            self.step = Step::Send;
            return;
        };
        let ours = |unit: &&UnitRef| {
            let unit = unit.borrow();
            (unit.partition, unit.epoch) == (confirmed.partition, confirmed.epoch)
        };
        if let Some(unit) = units.iter().find(ours) {
            unit.borrow_mut().confirm(confirmed.confirmation);
        }
        self.step = Step::Confirm { units, left };
    }

    /// Lets go of the partitions of this flush that this process has lost.
    fn drop_lost(&mut self, call: CallId, shared: &mut Shared, env: &mut Env) {
        let Some(Ok(Answer::Standing(rows))) = env.database.take(call) else { return self.away(env) };
        let lost = self.plan.fenced(&rows);
        for lost in &lost {
            if shared.remove(lost.partition, lost.epoch) {
                env.trace.note(
                    "dropped as fenced",
                    &[shared.instance as i64, i64::from(lost.partition), lost.epoch],
                );
            }
        }
        if lost.is_empty() { self.away(env) } else { self.collect(shared) }
    }
}
