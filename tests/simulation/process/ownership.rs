//! The task of `src/processor/lease_keeper.rs`: tells that the process lives, takes what is free, gives up surplus.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use weather::engine::assignment::{
    self, BOUNDED_TICK, FINISH_EVERY, Holdings, Leases, Ruling, TICK, Wish, hand_over_limit,
};
use weather::engine::bounded::{BoundedRun, Own};
use weather::engine::watermark::NONE;
use weather::time::milliseconds;

use super::bring_up::{Claimed, Launch};
use super::flusher::Ticket;
use super::{Shared, UnitRef};
use crate::database::{Answer, CallId, ClaimedRow, Reply, Request, Session};
use crate::env::{Env, NEVER};

enum Step {
    Select,
    Connecting(CallId),
    Adding(CallId),
    /// With what is held.
    Beating(CallId, Holdings),
    Claiming(CallId),
    /// The open windows of what was claimed, one query each.
    Opening {
        call: CallId,
        left: VecDeque<ClaimedRow>,
        ready: Vec<Claimed>,
    },
    /// Whether it is still held after that.
    Checking {
        call: CallId,
        ready: Vec<Claimed>,
    },
    Flushing {
        ticket: Ticket,
        until_ms: i64,
        released: Vec<UnitRef>,
    },
    Releasing(CallId, #[allow(dead_code)] Vec<UnitRef>),
    Finishing(CallId),
    /// The flush that a bounded run has to wait for.
    LastOfRun {
        ticket: Ticket,
        until_ms: i64,
    },
    Positions(CallId),
    Ended,
}

pub struct Ownership {
    pub session: Option<Session>,
    /// The topic's partitions as this tick began, and those that have rows.
    partitions: BTreeSet<i32>,
    known: BTreeSet<i32>,
    /// Taken, but not running yet.
    pub coming_up: BTreeMap<i32, i64>,
    pub launches: Vec<Launch>,
    ruling: Ruling,
    step: Step,
    next_tick_ms: i64,
    finished_ms: i64,
}

impl Ownership {
    pub fn new(now_ms: i64) -> Self {
        Self {
            session: None,
            partitions: BTreeSet::new(),
            known: BTreeSet::new(),
            coming_up: BTreeMap::new(),
            launches: Vec::new(),
            ruling: Ruling::default(),
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
            Step::Flushing { ticket, until_ms, .. } | Step::LastOfRun { ticket, until_ms } => {
                if shared.tickets.is_answered(*ticket) { env.now_ms() } else { *until_ms }
            }
            Step::Ended => NEVER,
            Step::Connecting(call)
            | Step::Adding(call)
            | Step::Beating(call, _)
            | Step::Claiming(call)
            | Step::Opening { call, .. }
            | Step::Checking { call, .. }
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
                    // The flusher checks again what it has written.
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
                Ok(Answer::Leases(leases)) => self.decide(&held, leases, shared, env),
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
            Step::Checking { call, ready } => match reply(call) {
                Ok(Answer::Standing(rows)) => {
                    let held = |claimed: &Claimed| {
                        let row = rows.iter().find(|row| row.partition == claimed.row.partition);
                        row.is_some_and(|row| row.epoch == claimed.row.epoch)
                    };
                    let is_whole = |claimed: &Claimed| claimed.row.stored.is_none() || held(claimed);
                    self.launch(ready.into_iter().filter(is_whole).collect(), shared, env);
                }
                _ => self.fail(env),
            },
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
                    let own = own(shared);
                    if let Some(run) = &mut shared.bounded {
                        shared.done |= run.left(&positions, &own, &self.partitions) == 0;
                    }
                    self.end_tick(shared, env);
                }
                _ => self.fail(env),
            },
            Step::LastOfRun { .. } => self.ask_positions(shared, env),
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
                // What it published before it was on the list was ignored.
                shared.changed = true;
            }
        }
        shared.topic_changed = false;
        self.begin_tick(shared, env);
    }

    fn begin_tick(&mut self, shared: &Shared, env: &mut Env) {
        self.partitions.clone_from(&shared.topic);
        if self.session.is_none() {
            self.step = Step::Connecting(env.call(shared.instance, None, Request::Connect));
        } else if self.partitions != self.known {
            let request = Request::AddPartitions(self.partitions.iter().copied().collect());
            self.step = Step::Adding(env.call(shared.instance, self.session, request));
        } else {
            self.beat(shared, env);
        }
    }

    fn fail(&mut self, env: &Env) {
        self.session = None;
        // The next connection may find an older database.
        self.known.clear();
        self.next_tick_ms = env.now_ms() + milliseconds(TICK);
        self.step = Step::Select;
    }

    fn end_tick(&mut self, shared: &Shared, env: &Env) {
        let every = if shared.bounded.is_some() { BOUNDED_TICK } else { TICK };
        self.next_tick_ms = env.now_ms() + milliseconds(every);
        self.step = Step::Select;
    }

    fn beat(&mut self, shared: &Shared, env: &mut Env) {
        let coming_up = self.coming_up.iter().map(|(partition, epoch)| (*partition, *epoch)).collect();
        let held = Holdings { running: shared.epochs(), coming_up };
        let (owner, shares) = (shared.name.clone(), shared.assigned.is_none());
        let request = Request::Beat { owner, owned: held.all().collect(), shares };
        self.step = Step::Beating(env.call(shared.instance, self.session, request), held);
    }

    fn decide(&mut self, held: &Holdings, mut leases: Leases, shared: &mut Shared, env: &mut Env) {
        let wish = shared.assigned.as_deref().map_or(Wish::Share, Wish::Given);
        self.ruling = assignment::rule(&shared.name, wish, held, &self.partitions, &mut leases);
        if self.ruling.rows_missing {
            self.known.clear();
        }
        for lost in self.ruling.lost.clone() {
            self.stop_launch(lost.partition, lost.epoch);
            shared.remove(lost.partition, lost.epoch);
            let who = [shared.instance as i64, i64::from(lost.partition), lost.epoch];
            env.trace.note("seen as fenced", &who);
        }
        if self.ruling.claim.is_empty() {
            return self.release(shared, env);
        }
        let request = Request::Claim { owner: shared.name.clone(), wanted: self.ruling.claim.clone() };
        self.step = Step::Claiming(env.call(shared.instance, self.session, request));
    }

    fn stop_launch(&mut self, partition: i32, epoch: i64) {
        if self.coming_up.get(&partition) == Some(&epoch) {
            self.coming_up.remove(&partition);
            self.launches.retain(|launch| !launch.is_of(partition, epoch));
        }
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
            ready.extend(left.pop_front().map(|row| Claimed {
                row,
                windows: Vec::new(),
                stations: Vec::new(),
            }));
        }
        let with_state = ready.iter().filter(|claimed| claimed.row.stored.is_some());
        let partitions: Vec<i32> = with_state.map(|claimed| claimed.row.partition).collect();
        if partitions.is_empty() {
            return self.launch(ready, shared, env);
        }
        let call = env.call(shared.instance, self.session, Request::Standing(partitions));
        self.step = Step::Checking { call, ready };
    }

    /// Brings up what was claimed.
    fn launch(&mut self, ready: Vec<Claimed>, shared: &mut Shared, env: &mut Env) {
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
        let (windows, stations) = match reply {
            Ok(Answer::Windows(windows, stations)) => (windows, stations),
            // What was claimed stays so in the table, and is claimed again.
            _ => return self.fail(env),
        };
        ready.extend(left.pop_front().map(|row| Claimed { row, windows, stations }));
        self.open_next(left, ready, shared, env);
    }

    /// Frees partitions for others: running ones stop reading and are flushed first.
    fn release(&mut self, shared: &mut Shared, env: &mut Env) {
        for (partition, epoch) in self.ruling.give_back.clone() {
            self.stop_launch(partition, epoch);
            env.trace.note("given back", &[shared.instance as i64, i64::from(partition), epoch]);
        }
        let is_released = |unit: &UnitRef| {
            let unit = unit.borrow();
            self.ruling.hand_over.contains(&(unit.partition, unit.epoch))
        };
        let released: Vec<UnitRef> =
            shared.registry.values().filter(|unit| is_released(unit)).cloned().collect();
        if released.is_empty() {
            return self.hand_over(released, shared, env);
        }
        released.iter().for_each(|unit| unit.borrow_mut().pause());
        self.step = Step::Flushing { ticket: shared.tickets.ask(), until_ms: flush_until_ms(env), released };
    }

    fn hand_over(&mut self, released: Vec<UnitRef>, shared: &mut Shared, env: &mut Env) {
        for unit in &released {
            let (partition, epoch) = (unit.borrow().partition, unit.borrow().epoch);
            shared.remove(partition, epoch);
            env.trace.note("handed over", &[shared.instance as i64, i64::from(partition), epoch]);
        }
        let owned = [self.ruling.hand_over.as_slice(), &self.ruling.give_back].concat();
        if owned.is_empty() {
            return self.housekeep(shared, env);
        }
        let request = Request::Release { owner: shared.name.clone(), owned };
        self.step = Step::Releasing(env.call(shared.instance, self.session, request), released);
    }

    fn housekeep(&mut self, shared: &mut Shared, env: &mut Env) {
        if env.now_ms() - self.finished_ms < milliseconds(FINISH_EVERY) {
            return self.look_for_the_end(shared, env);
        }
        let out_of_orderness_ms = shared.settings.out_of_orderness_ms;
        let request =
            Request::Finish { out_of_orderness_ms, partitions: self.partitions.iter().copied().collect() };
        self.step = Step::Finishing(env.call(shared.instance, self.session, request));
    }

    fn look_for_the_end(&mut self, shared: &mut Shared, env: &mut Env) {
        let busy = !self.ruling.claim.is_empty() || !self.coming_up.is_empty();
        if shared.bounded.is_none() || busy {
            return self.end_tick(shared, env);
        }
        if BoundedRun::wants_flush(&own(shared)) {
            self.step = Step::LastOfRun { ticket: shared.tickets.ask(), until_ms: flush_until_ms(env) };
            return;
        }
        self.ask_positions(shared, env);
    }

    fn ask_positions(&mut self, shared: &Shared, env: &mut Env) {
        self.step = Step::Positions(env.call(shared.instance, self.session, Request::Positions));
    }
}

fn flush_until_ms(env: &Env) -> i64 {
    let lease = Duration::from_millis(env.plan.lease_ms.unsigned_abs());
    env.now_ms() + milliseconds(hand_over_limit(lease))
}

/// How far each partition of a bounded run is here.
fn own(shared: &Shared) -> Vec<Own> {
    let own = |unit: &UnitRef| {
        let unit = unit.borrow();
        let flushed = unit.published.progress().flushed();
        Own { partition: unit.partition, reached: unit.reached, flushed }
    };
    shared.registry.values().map(own).collect()
}
