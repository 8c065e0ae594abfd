//! The task of `src/processor/lease_keeper.rs`: tells that the process lives, takes what is free, gives up surplus.

use std::collections::{BTreeMap, VecDeque};

use weather::engine::assignment::Leases;
use weather::engine::assignment::{Decision, fair_share, given_share};
use weather::engine::watermark::NONE;
use weather::engine::window::Window;

use super::bring_up::{Claimed, Launch};
use super::flusher::Ticket;
use super::{Shared, UnitRef};
use crate::database::{Answer, CallId, ClaimedRow, Positions, Reply, Request, Session};
use crate::env::{Env, NEVER};

const TICK_MS: i64 = 500;
const BOUNDED_TICK_MS: i64 = 50;
const FINISH_EVERY_MS: i64 = 1_000;
const HAND_OVER_MS: i64 = 10_000;

enum Step {
    Select,
    Connecting(CallId),
    Adding(CallId),
    /// With partition and epoch of all that is held.
    Beating(CallId, Vec<(i32, i64)>),
    Claiming(CallId),
    /// The open windows of what was claimed, one query each.
    Opening {
        call: CallId,
        left: VecDeque<ClaimedRow>,
        ready: Vec<Claimed>,
    },
    Flushing {
        ticket: Ticket,
        until_ms: i64,
        released: Vec<UnitRef>,
    },
    Releasing(CallId, #[allow(dead_code)] Vec<UnitRef>),
    Finishing(CallId),
    Positions(CallId),
    Ended,
}

pub struct Ownership {
    pub session: Option<Session>,
    /// The topic's partitions as this tick began, and those that have rows.
    partitions: Vec<i32>,
    known: Vec<i32>,
    /// Taken, but not running yet.
    pub coming_up: BTreeMap<i32, i64>,
    pub launches: Vec<Launch>,
    decision: Decision,
    /// Where the table stood when a bounded run began.
    begun: Option<Positions>,
    step: Step,
    next_tick_ms: i64,
    finished_ms: i64,
}

impl Ownership {
    pub fn new(now_ms: i64) -> Self {
        Self {
            session: None,
            partitions: Vec::new(),
            known: Vec::new(),
            coming_up: BTreeMap::new(),
            launches: Vec::new(),
            decision: Decision::default(),
            begun: None,
            step: Step::Select,
            next_tick_ms: now_ms,
            finished_ms: now_ms,
        }
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.step, Step::Ended)
    }

    /// The end does not wait for a call that is under way; its connection goes with it.
    pub fn give_up(&mut self) {
        self.launches.clear();
        if !self.has_ended() {
            self.session = None;
            self.coming_up.clear();
        }
    }

    pub fn due_ms(&self, shared: &Shared, env: &Env) -> i64 {
        let when = |ready| if ready { env.now_ms() } else { NEVER };
        match &self.step {
            Step::Select if shared.done || shared.topic_changed || !shared.launched.is_empty() => {
                env.now_ms()
            }
            Step::Select => self.next_tick_ms,
            Step::Flushing { ticket, until_ms, .. } => {
                if shared.tickets.is_answered(*ticket) {
                    env.now_ms()
                } else {
                    *until_ms
                }
            }
            Step::Ended => NEVER,
            Step::Connecting(call)
            | Step::Adding(call)
            | Step::Beating(call, _)
            | Step::Claiming(call)
            | Step::Opening { call, .. }
            | Step::Releasing(call, _)
            | Step::Finishing(call)
            | Step::Positions(call) => when(env.database.answered(*call)),
        }
    }

    pub fn step(&mut self, shared: &mut Shared, env: &mut Env) {
        let step = std::mem::replace(&mut self.step, Step::Select);
        let mut reply =
            |call: CallId| env.database.take(call).unwrap_or(Err(crate::database::Trouble::Outage));
        match step {
            Step::Select => self.select(shared, env),
            Step::Connecting(call) => match reply(call) {
                Ok(Answer::Connected(session)) => {
                    self.session = Some(session);
                    shared.connected();
                    // The flush looks again at what it has written.
                    shared.changed = true;
                    self.begin_tick(shared, env);
                }
                _ => self.fail(env),
            },
            Step::Adding(call) => match reply(call) {
                Ok(_) => {
                    self.known.clone_from(&self.partitions);
                    self.beat(shared, env);
                }
                Err(_) => self.fail(env),
            },
            Step::Beating(call, held) => match reply(call) {
                Ok(Answer::Leases(leases)) => self.decide(held, leases, shared, env),
                _ => self.fail(env),
            },
            Step::Claiming(call) => match reply(call) {
                Ok(Answer::Claimed(rows)) => self.open_next(rows.into(), Vec::new(), shared, env),
                _ => self.fail(env),
            },
            Step::Opening { call, left, ready } => {
                let reply = reply(call);
                self.opened(reply, left, ready, shared, env);
            }
            Step::Flushing { released, .. } => self.hand_over(released, shared, env),
            Step::Releasing(call, _) => match reply(call) {
                Ok(_) => self.housekeep(shared, env),
                Err(_) => self.fail(env),
            },
            Step::Finishing(call) => match reply(call) {
                Ok(_) => {
                    self.finished_ms = env.now_ms();
                    self.look_for_the_end(shared, env);
                }
                Err(_) => self.fail(env),
            },
            Step::Positions(call) => match reply(call) {
                Ok(Answer::Positions(positions)) => {
                    shared.done |= self.has_reached_the_end(&positions, shared);
                    self.end_tick(shared, env);
                }
                _ => self.fail(env),
            },
            Step::Ended => self.step = Step::Ended,
        }
    }

    fn select(&mut self, shared: &mut Shared, env: &mut Env) {
        if shared.done {
            self.step = Step::Ended;
            return;
        }
        if let Some(unit) = shared.launched.pop_front() {
            let (partition, epoch) = (unit.borrow().partition, unit.borrow().epoch);
            // Else it was taken again while it came up.
            if self.coming_up.get(&partition) == Some(&epoch) {
                self.coming_up.remove(&partition);
                shared.registry.insert(partition, unit);
                // What it published before it was on the list was passed over.
                shared.changed = true;
            }
        }
        shared.topic_changed = false;
        self.begin_tick(shared, env);
    }

    fn begin_tick(&mut self, shared: &Shared, env: &mut Env) {
        self.partitions = shared.topic.iter().copied().collect();
        if self.session.is_none() {
            self.step = Step::Connecting(env.call(shared.instance, None, Request::Connect));
        } else if self.partitions != self.known {
            let request = Request::AddPartitions(self.partitions.clone());
            self.step = Step::Adding(env.call(shared.instance, self.session, request));
        } else {
            self.beat(shared, env);
        }
    }

    fn fail(&mut self, env: &Env) {
        self.session = None;
        // The next connection may find an older database.
        self.known.clear();
        self.next_tick_ms = env.now_ms() + TICK_MS;
        self.step = Step::Select;
    }

    fn end_tick(&mut self, shared: &Shared, env: &Env) {
        let every_ms = if shared.end_offsets.is_some() { BOUNDED_TICK_MS } else { TICK_MS };
        self.next_tick_ms = env.now_ms() + every_ms;
        self.step = Step::Select;
    }

    fn beat(&mut self, shared: &Shared, env: &mut Env) {
        let mut held = shared.epochs();
        held.extend(self.coming_up.iter().map(|(partition, epoch)| (*partition, *epoch)));
        let (owner, shares) = (shared.name.clone(), shared.assigned.is_none());
        let request = Request::Beat { owner, owned: held.clone(), shares };
        self.step = Step::Beating(env.call(shared.instance, self.session, request), held);
    }

    fn decide(&mut self, held: Vec<(i32, i64)>, mut leases: Leases, shared: &mut Shared, env: &mut Env) {
        leases.owners.retain(|partition, _| self.partitions.contains(partition));
        let mut kept = Vec::new();
        for (partition, epoch) in held {
            if leases.epochs.get(&partition) == Some(&epoch) {
                kept.push(partition);
            } else {
                if self.coming_up.get(&partition) == Some(&epoch) {
                    self.coming_up.remove(&partition);
                }
                shared.remove(partition, epoch);
                env.trace.note("seen as fenced", &[shared.instance as i64, i64::from(partition), epoch]);
            }
        }
        self.decision = match &shared.assigned {
            None => fair_share(&shared.name, &kept, &leases),
            Some(wanted) => given_share(&shared.name, wanted, &kept, &leases),
        };
        if self.decision.claim.is_empty() {
            return self.release(shared, env);
        }
        let request = Request::Claim { owner: shared.name.clone(), wanted: self.decision.claim.clone() };
        self.step = Step::Claiming(env.call(shared.instance, self.session, request));
    }

    /// Asks for the open windows of the next partition that has a state, or begins to bring all of them up.
    fn open_next(
        &mut self,
        mut left: VecDeque<ClaimedRow>,
        mut ready: Vec<Claimed>,
        shared: &mut Shared,
        env: &mut Env,
    ) {
        while let Some(row) = left.front() {
            if let Some(stored) = &row.stored {
                let after_ms = (stored.progress.watermark_ms - shared.settings.window_ms).max(NONE);
                let request = Request::OpenWindows { partition: row.partition, after_ms };
                let call = env.call(shared.instance, self.session, request);
                self.step = Step::Opening { call, left, ready };
                return;
            }
            ready.extend(left.pop_front().map(|row| Claimed { row, windows: Vec::new() }));
        }
        for claimed in ready {
            self.coming_up.insert(claimed.row.partition, claimed.row.epoch);
            self.launches.push(Launch::new(claimed));
        }
        self.release(shared, env);
    }

    fn opened(
        &mut self,
        reply: Reply,
        mut left: VecDeque<ClaimedRow>,
        mut ready: Vec<Claimed>,
        shared: &mut Shared,
        env: &mut Env,
    ) {
        let windows: Vec<Window> = match reply {
            Ok(Answer::Windows(windows)) => windows,
            // What was claimed stays so in the table, and is claimed again.
            _ => return self.fail(env),
        };
        ready.extend(left.pop_front().map(|row| Claimed { row, windows }));
        self.open_next(left, ready, shared, env);
    }

    /// Hands surplus over: no more records, a last flush, then free for others.
    fn release(&mut self, shared: &mut Shared, env: &mut Env) {
        let released: Vec<UnitRef> =
            self.decision.release.iter().filter_map(|p| shared.registry.get(p)).cloned().collect();
        if self.decision.release.is_empty() {
            return self.housekeep(shared, env);
        }
        released.iter().for_each(|unit| unit.borrow_mut().pause());
        let until_ms = env.now_ms() + HAND_OVER_MS.min(env.plan.lease_ms / 2);
        self.step = Step::Flushing { ticket: shared.tickets.ask(), until_ms, released };
    }

    fn hand_over(&mut self, released: Vec<UnitRef>, shared: &mut Shared, env: &mut Env) {
        let held = |unit: &UnitRef| (unit.borrow().partition, unit.borrow().epoch);
        let owned: Vec<(i32, i64)> = released.iter().map(held).collect();
        for (partition, epoch) in &owned {
            shared.remove(*partition, *epoch);
            env.trace.note("handed over", &[shared.instance as i64, i64::from(*partition), *epoch]);
        }
        let request = Request::Release { owner: shared.name.clone(), owned };
        self.step = Step::Releasing(env.call(shared.instance, self.session, request), released);
    }

    fn housekeep(&mut self, shared: &mut Shared, env: &mut Env) {
        if env.now_ms() - self.finished_ms < FINISH_EVERY_MS {
            return self.look_for_the_end(shared, env);
        }
        let out_of_orderness_ms = shared.settings.out_of_orderness_ms;
        let request = Request::Finish { out_of_orderness_ms, partitions: self.known.clone() };
        self.step = Step::Finishing(env.call(shared.instance, self.session, request));
    }

    fn look_for_the_end(&mut self, shared: &Shared, env: &mut Env) {
        let busy = !self.decision.claim.is_empty() || !self.coming_up.is_empty();
        if shared.end_offsets.is_none() || busy {
            return self.end_tick(shared, env);
        }
        self.step = Step::Positions(env.call(shared.instance, self.session, Request::Positions));
    }

    /// Whether every partition of a bounded run is in the table up to its end, whoever read it.
    fn has_reached_the_end(&mut self, positions: &Positions, shared: &Shared) -> bool {
        let begun = self.begun.get_or_insert_with(|| positions.clone());
        shared.end_offsets.iter().flatten().all(|(partition, end)| {
            let at = positions.get(partition).copied().flatten();
            match shared.registry.get(partition) {
                Some(unit) => unit.borrow().reached.is_some_and(|reached| at >= Some(reached)),
                None => at.is_some_and(|at| at.is_past(*end, begun.get(partition).copied().flatten())),
            }
        })
    }
}
