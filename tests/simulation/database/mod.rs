//! PostgreSQL as far as the processor can tell: the tables, row locks, sessions, and calls that may be lost on either way.
//!
//! A call is carried out statement by statement, each a step of the schedule, so that two processes' calls mix as their
//! statements would. A statement that needs a locked row waits. What a call does is in [`leases`], [`flush`] and
//! [`readmission`], after the statements of `src/postgres`; whether it was right is in [`audit`].
//!
//! One thing is simpler than in PostgreSQL: a statement that locks several rows takes all of them or waits, so there are
//! no deadlocks to be detected (the real ones end as outages, which there are enough of).

mod audit;
mod calls;
mod flush;
mod leases;
mod readmission;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use weather::engine::state::{Position, Progress};
use weather::engine::stations::StationTotals;
use weather::engine::window::Totals;

pub use calls::{Answer, CallId, ClaimedRow, Part, Reply, Request, Session, Trouble};
pub use readmission::{KeptDeadLetter, Key, READMITTED};

use crate::kafka::Kafka;
use crate::ledger::Ledger;
use crate::plan::{Chances, Plan};
use crate::prng::Prng;
use crate::trace::{Checked, Trace};
use calls::{Call, Progressed};

/// A row of `weather_partition`.
#[derive(Debug, Clone, Default)]
pub struct PartitionRow {
    pub owner: Option<String>,
    pub epoch: i64,
    pub lease_expires_ms: Option<i64>,
    pub stored: Option<Stored>,
    /// Not in the real table: which process took it under this epoch.
    taken_by: u64,
}

/// The columns that are NULL until the first flush.
#[derive(Debug, Clone)]
pub struct Stored {
    pub progress: Progress,
    pub memory: Vec<u8>,
    pub ledger: Rc<Ledger>,
}

impl PartitionRow {
    pub fn position(&self) -> Option<Position> {
        self.stored.as_ref().map(|stored| stored.progress.position())
    }
}

/// A row of `weather_summary`, with what its averages are computed from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SummaryRow {
    pub totals: Totals,
    pub is_final: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Tables {
    pub partitions: BTreeMap<i32, PartitionRow>,
    /// By partition and start of the window.
    pub partials: BTreeMap<(i32, i64), Totals>,
    /// By partition, start of the window and station.
    pub stations: BTreeMap<(i32, i64, Box<str>), StationTotals>,
    /// By start of the window.
    pub summary: BTreeMap<i64, SummaryRow>,
    pub dead_letters: BTreeMap<Key, KeptDeadLetter>,
    pub processes: BTreeMap<String, i64>,
}

#[derive(Debug)]
pub struct Database {
    pub tables: Tables,
    /// What a crash leaves; None: all of it.
    on_disk: Option<Tables>,
    /// What there is to go back to.
    backups: Vec<Tables>,
    up: bool,
    /// How far its clock is off, ms.
    pub clock_offset_ms: i64,
    window_ms: i64,
    lease_ms: i64,
    latency_ms: i64,
    /// There are tables of stations.
    by_station: bool,
    session: Session,
    calls: Vec<Call>,
    answers: BTreeMap<CallId, (u64, Reply)>,
    next_call: u64,
    row_locks: BTreeMap<i32, CallId>,
    window_locks: BTreeMap<i64, CallId>,
    /// Of dead letters and of the partials of readmitted readings.
    dead_letter_locks: BTreeMap<Key, CallId>,
    partial_locks: BTreeMap<i64, CallId>,
    /// Since when nothing but crashes has kept a process from saying what it knows, ms.
    undisturbed_since_ms: i64,
    /// How old an unread record must be for a window not to be closed over it, ms.
    grace_ms: i64,
    /// Who wrote under an epoch of a partition.
    writers: BTreeMap<(i32, i64), u64>,
}

/// Backups kept to go back to.
const BACKUPS: usize = 6;

impl Database {
    pub fn new(plan: &Plan) -> Self {
        // Longest that it may take from a record's arrival to a row that is not idle, if nobody is held up: an owner that
        // was killed is missed for the length of its lease.
        let grace_ms = plan.lease_ms + 2 * plan.flush_interval_ms + 2_000;
        Self {
            tables: Tables::default(),
            on_disk: None,
            backups: vec![Tables::default()],
            up: true,
            clock_offset_ms: 0,
            window_ms: plan.settings.window_ms,
            lease_ms: plan.lease_ms,
            latency_ms: plan.latency_ms,
            by_station: plan.max_stations.is_some(),
            session: Session(0),
            calls: Vec::new(),
            answers: BTreeMap::new(),
            next_call: 0,
            row_locks: BTreeMap::new(),
            window_locks: BTreeMap::new(),
            dead_letter_locks: BTreeMap::new(),
            partial_locks: BTreeMap::new(),
            undisturbed_since_ms: 0,
            grace_ms,
            writers: BTreeMap::new(),
        }
    }

    /// Sends a call; what becomes of it is for [`Self::take`].
    pub fn send(
        &mut self,
        client: u64,
        session: Option<Session>,
        request: Request,
        (now_ms, chances, rng): (i64, &Chances, &mut Prng),
    ) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += 1;
        let connected = session == Some(self.session) || matches!(request, Request::Connect);
        if !self.up || !connected || rng.chance(chances.call_lost) {
            self.disturb(now_ms);
            self.answers.insert(id, (client, Err(Trouble::Outage)));
            return id;
        }
        let late = rng.chance(chances.call_late);
        let wait_ms = if late { 3_000 } else { self.latency_ms };
        if late {
            self.disturb(now_ms);
            self.answers.insert(id, (client, Err(Trouble::Outage)));
        }
        self.calls.push(Call {
            id,
            client,
            request,
            statement: 0,
            due_ms: now_ms + rng.between(0, wait_ms),
            unheard: late,
            transaction: Default::default(),
            portion: Default::default(),
        });
        id
    }

    /// Whether the answer of a call is there.
    pub fn answered(&self, call: CallId) -> bool {
        self.answers.contains_key(&call)
    }

    /// Whether a connection is still good.
    pub fn is_connected(&self, session: Session) -> bool {
        self.up && session == self.session
    }

    /// A connection as things are now, if there is a server.
    pub fn connect(&self) -> Option<Session> {
        self.up.then_some(self.session)
    }

    /// The answer of a call, once.
    pub fn take(&mut self, call: CallId) -> Option<Reply> {
        self.answers.remove(&call).map(|(_, reply)| reply)
    }

    /// Whether every process has had the time to connect again.
    pub fn is_calm(&self, now_ms: i64) -> bool {
        self.up && self.undisturbed_since_ms + 3_000 < now_ms && !self.calls.iter().any(|call| call.unheard)
    }

    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// The calls under way, with their clients and statements, for people.
    pub fn waiting(&self) -> Vec<(u64, u32, &Request)> {
        self.calls.iter().map(|call| (call.client, call.statement, &call.request)).collect()
    }

    /// When a call can continue, if no lock holds it.
    pub fn due_ms(&self, index: usize) -> i64 {
        let call = &self.calls[index];
        if self.is_blocked(call) { i64::MAX } else { call.due_ms }
    }

    fn is_blocked(&self, call: &Call) -> bool {
        let locked = |partition: &i32| self.row_locks.get(partition).is_some_and(|holder| *holder != call.id);
        match (&call.request, call.statement) {
            (Request::Release { owned, .. }, 0) => owned.iter().any(|(partition, _)| locked(partition)),
            (Request::Claim { wanted, .. }, 0) => wanted.iter().any(locked),
            (Request::Flush(parts), flush::ADVANCE) => parts.iter().any(|part| locked(&part.partition)),
            (Request::Readmit { .. }, readmission::LOCK_PARTIALS) => {
                is_held(&self.partial_locks, &call.transaction.touched, call.id)
            }
            (Request::Flush(_), flush::LOCK_ROWS) | (Request::Readmit { .. }, readmission::LOCK_ROWS) => {
                is_held(&self.window_locks, &call.transaction.touched, call.id)
            }
            _ => false,
        }
    }

    /// Carries out the next statement of a call.
    pub fn progress(
        &mut self,
        index: usize,
        chances: &Chances,
        (kafka, rng, trace): (&Kafka, &mut Prng, &mut Trace),
    ) -> Checked {
        let mut call = self.calls.remove(index);
        match self.execute(&mut call, kafka, trace)? {
            Progressed::Further => {
                call.statement += 1;
                call.due_ms = trace.now_ms + rng.between(0, self.latency_ms);
                self.calls.insert(index, call);
            }
            Progressed::Ended(reply) => {
                self.unlock(call.id);
                if !call.unheard {
                    let lost = rng.chance(chances.answer_lost);
                    if lost {
                        self.disturb(trace.now_ms);
                    }
                    let reply = if lost { Err(Trouble::Outage) } else { reply };
                    self.answers.insert(call.id, (call.client, reply));
                }
            }
        }
        Ok(())
    }

    fn execute(&mut self, call: &mut Call, kafka: &Kafka, trace: &mut Trace) -> Checked<Progressed> {
        let now_ms = trace.now_ms + self.clock_offset_ms;
        if call.request.waits_for_disk() {
            self.on_disk = None;
        }
        let answer = match &call.request {
            Request::Connect => Answer::Connected(self.session),
            Request::AddPartitions(partitions) => self.add_partitions(partitions),
            Request::Beat { owner, owned, shares } if call.statement == 0 => {
                self.beat(owner, owned, *shares, now_ms);
                return Ok(Progressed::Further);
            }
            Request::Beat { owner, shares, .. } => self.look(owner, *shares, now_ms),
            Request::Claim { owner, wanted } => self.claim(call.client, owner, wanted, now_ms, trace)?,
            Request::OpenWindows { partition, after_ms } => self.open_windows(*partition, *after_ms),
            Request::Release { owner, owned } => self.release(owner, owned),
            Request::Leave { owner } => {
                self.tables.processes.remove(owner);
                Answer::Done
            }
            Request::Finish { out_of_orderness_ms, partitions } => {
                self.finish(*out_of_orderness_ms, partitions, now_ms, kafka, trace)?
            }
            Request::Positions => {
                let rows = &self.tables.partitions;
                Answer::Positions(rows.iter().map(|(partition, row)| (*partition, row.position())).collect())
            }
            Request::Standing(partitions) => self.standing(partitions),
            Request::Flush(_) => return self.flush(call, now_ms, trace),
            Request::Readmit { .. } => return self.readmit(call, trace),
        };
        Ok(Progressed::Ended(Ok(answer)))
    }

    fn unlock(&mut self, call: CallId) {
        self.row_locks.retain(|_, holder| *holder != call);
        self.window_locks.retain(|_, holder| *holder != call);
        self.dead_letter_locks.retain(|_, holder| *holder != call);
        self.partial_locks.retain(|_, holder| *holder != call);
    }

    /// A client is gone: what it sent may still be carried out, or not.
    pub fn hang_up(&mut self, client: u64, rng: &mut Prng) {
        self.answers.retain(|_, (asker, _)| *asker != client);
        let mut dropped = Vec::new();
        for call in self.calls.iter_mut().filter(|call| call.client == client) {
            call.unheard = true;
            if rng.chance(500) {
                dropped.push(call.id);
            }
        }
        self.calls.retain(|call| !dropped.contains(&call.id));
        dropped.into_iter().for_each(|call| self.unlock(call));
    }

    /// The server goes away: every call under way is rolled back. If it crashes, so is what is not on disk.
    pub fn go_away(&mut self, rng: &mut Prng) {
        self.up = false;
        if let Some(on_disk) = self.on_disk.take().filter(|_| rng.chance(500)) {
            self.tables = on_disk;
        }
        self.session.0 += 1;
        for call in std::mem::take(&mut self.calls).into_iter().filter(|call| !call.unheard) {
            self.answers.insert(call.id, (call.client, Err(Trouble::Outage)));
        }
        self.row_locks.clear();
        self.window_locks.clear();
        self.dead_letter_locks.clear();
        self.partial_locks.clear();
    }

    pub fn come_back(&mut self, now_ms: i64) {
        self.up = true;
        self.disturb(now_ms);
    }

    /// Something other than a crash keeps a process from saying what it knows, until then.
    pub fn disturb(&mut self, until_ms: i64) {
        self.undisturbed_since_ms = self.undisturbed_since_ms.max(until_ms);
    }

    pub fn is_up(&self) -> bool {
        self.up
    }

    pub fn back_up(&mut self, rng: &mut Prng) {
        if self.backups.len() == BACKUPS {
            self.backups.remove(rng.below(BACKUPS));
        }
        self.backups.push(self.tables.clone());
    }

    /// Goes back to one of the backups: what came after it is gone, epochs and leases as well.
    pub fn restore(&mut self, rng: &mut Prng) {
        let at = rng.below(self.backups.len());
        self.backups.truncate(at + 1);
        self.on_disk = None;
        self.tables = self.backups[at].clone();
        // Epochs are counted from there again.
        self.writers.clear();
    }

    /// Owners whose lease has not expired, by partition.
    pub fn owners(&self, now_ms: i64) -> BTreeMap<i32, Option<&str>> {
        let valid =
            |row: &PartitionRow| row.lease_expires_ms.is_some_and(|at| at > now_ms + self.clock_offset_ms);
        let owner = |row| if valid(row) { row.owner.as_deref() } else { None };
        self.tables.partitions.iter().map(|(partition, row)| (*partition, owner(row))).collect()
    }
}

/// Whether another call holds one of these windows.
fn is_held(locks: &BTreeMap<i64, CallId>, windows: &BTreeSet<i64>, call: CallId) -> bool {
    windows.iter().any(|window| locks.get(window).is_some_and(|holder| *holder != call))
}

/// The windows that parts touch, ascending.
fn touched(parts: &[Part]) -> BTreeSet<i64> {
    parts.iter().flat_map(|part| part.windows.iter().map(|window| window.start_ms)).collect()
}
