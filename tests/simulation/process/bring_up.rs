//! The task of `src/processor/partition/start.rs`: which state a partition that was just claimed continues from.

use std::rc::Rc;

use weather::engine::checkpoint::{Checkpoint, decode_log_memory};
use weather::engine::dead_letter::DeadLetter;
use weather::engine::recovery::{self, StateOrigin, origin, resume};
use weather::engine::state::PartitionState;
use weather::engine::stations::{StationRow, Stations};
use weather::engine::window::Window;
use weather::retry::Backoff;
use weather::time::milliseconds;

use super::Shared;
use super::worker::{Taken, Unit};
use crate::database::{ClaimedRow, Stored};
use crate::env::Env;
use crate::ledger::Ledger;
use crate::trace::{Checked, Violation, ensure};
use crate::volume::{current, previous};

/// A partition that was taken, with its open windows.
#[derive(Debug)]
pub struct Claimed {
    pub row: ClaimedRow,
    pub windows: Vec<Window>,
    pub stations: Vec<StationRow>,
}

impl Claimed {
    /// As the program has it.
    fn decoded(&self) -> Checked<recovery::Claimed> {
        let ClaimedRow { partition, epoch, epoch_before, stored } = &self.row;
        let state = |stored: &Stored| {
            let log = decode_log_memory(&stored.memory).map_err(|e| Violation(format!("log_memory: {e}")))?;
            Ok(PartitionState { progress: stored.progress, windows: self.windows.clone(), log })
        };
        let state = stored.as_ref().map(state).transpose()?;
        let (partition, epoch, epoch_before) = (*partition, *epoch, *epoch_before);
        Ok(recovery::Claimed { partition, epoch, epoch_before, state, stations: self.stations.clone() })
    }
}

#[derive(Debug)]
enum Step {
    ReadPrevious,
    ReadCurrent,
    FirstOffset,
    Backoff { until_ms: i64 },
}

#[derive(Debug)]
pub struct Launch {
    partition: i32,
    claimed: Claimed,
    /// Files that can be read, the newest first.
    found: Vec<(Checkpoint, Rc<Ledger>)>,
    step: Step,
    backoff: Backoff,
}

impl Launch {
    pub fn new(claimed: Claimed) -> Self {
        let (found, backoff) = (Vec::new(), Backoff::default());
        Self { partition: claimed.row.partition, claimed, found, step: Step::ReadPrevious, backoff }
    }

    pub fn is_of(&self, partition: i32, epoch: i64) -> bool {
        (self.partition, self.claimed.row.epoch) == (partition, epoch)
    }

    pub fn due_ms(&self, env: &Env) -> i64 {
        if let Step::Backoff { until_ms } = self.step { until_ms } else { env.now_ms() }
    }

    /// The unit, once it is there.
    pub fn step(&mut self, shared: &Shared, env: &mut Env) -> Checked<Option<Unit>> {
        match self.step {
            Step::ReadPrevious => {
                self.read(&previous(self.partition), shared, env)?;
                self.step = Step::ReadCurrent;
            }
            Step::ReadCurrent => {
                self.read(&current(self.partition), shared, env)?;
                return self.choose(shared, env);
            }
            Step::FirstOffset => return self.start_anew(shared, env),
            Step::Backoff { .. } => self.step = Step::FirstOffset,
        }
        Ok(None)
    }

    fn read(&mut self, name: &str, shared: &Shared, env: &Env) -> Checked {
        let Some(bytes) = env.volumes[shared.volume].read(name) else { return Ok(()) };
        let Ok(checkpoint) = Checkpoint::decode(bytes) else { return Ok(()) };
        // What stands behind its end is not part of it.
        let ledger = env.ledger_of(&checkpoint.encode());
        let ledger =
            ledger.ok_or_else(|| Violation(format!("{name} was accepted, but nobody wrote that")))?;
        if checkpoint.partition == self.partition {
            self.found.insert(0, (checkpoint, ledger));
        }
        Ok(())
    }

    fn choose(&mut self, shared: &Shared, env: &mut Env) -> Checked<Option<Unit>> {
        let row = &self.claimed.row;
        let who = [shared.instance as i64, i64::from(row.partition), row.epoch];
        let claimed = self.claimed.decoded()?;
        let mut found = std::mem::take(&mut self.found);
        let state = match origin(&claimed, &Vec::from_iter(found.iter().map(|(file, _)| file))) {
            StateOrigin::File(index) => {
                let (file, ledger) = found.swap_remove(index);
                let at = file.state.progress.next_offset;
                env.trace.note("going on from the file", &[who[0], who[1], who[2], at]);
                self.audit_file(&file, &ledger)?;
                let (state, pending, changed) = resume(file, &claimed);
                return self.launch(state, (pending, changed), ledger, shared, env).map(Some);
            }
            StateOrigin::Database { state, .. } => state.clone(),
            StateOrigin::Nowhere { .. } => {
                self.step = Step::FirstOffset;
                return Ok(None);
            }
        };
        env.trace.note("going on from the table", &[who[0], who[1], who[2], state.progress.next_offset]);
        let Some(stored) = &row.stored else { return Ok(None) };
        let ledger = Rc::clone(&stored.ledger);
        self.launch(state, Default::default(), ledger, shared, env).map(Some)
    }

    /// A file continues what the table has, and the table has all that the file counts as confirmed.
    fn audit_file(&self, file: &Checkpoint, ledger: &Ledger) -> Checked {
        let stored = self.claimed.row.stored.as_ref().map(|stored| &*stored.ledger);
        let confirmed = file.state.progress.flushed();
        let has = stored.map(Ledger::position);
        ensure!(
            stored.is_none_or(|stored| ledger.continues(stored))
                && has.unwrap_or(ledger.origin()) >= confirmed,
            "partition {}: the file that is used has {confirmed:?} confirmed and is at {:?}, but the table is at {has:?}",
            self.partition,
            file.state.progress.position()
        );
        Ok(())
    }

    fn start_anew(&mut self, shared: &Shared, env: &mut Env) -> Checked<Option<Unit>> {
        if env.kafka.away || env.rng.chance(env.chances.kafka_error) {
            self.step = Step::Backoff { until_ms: env.now_ms() + milliseconds(self.backoff.next_wait()) };
            return Ok(None);
        }
        let log = env.kafka.log(self.partition);
        let offset = if env.plan.from_latest { log.latest() } else { log.earliest() };
        let ledger = Rc::new(Ledger::starting_at(log.generation(), offset));
        env.trace.note("starting anew", &[shared.instance as i64, i64::from(self.partition), offset]);
        self.launch(PartitionState::starting_at(offset), Default::default(), ledger, shared, env).map(Some)
    }

    fn launch(
        &self,
        state: PartitionState,
        (pending, changed): (Vec<DeadLetter>, Vec<StationRow>),
        ledger: Rc<Ledger>,
        shared: &Shared,
        env: &Env,
    ) -> Checked<Unit> {
        let (partition, epoch) = (self.partition, self.claimed.row.epoch);
        let end_offset = shared.bounded.as_ref().and_then(|run| run.end_of(partition));
        ensure!(
            pending.iter().all(|dead_letter| ledger.has(dead_letter)),
            "the checkpoint of partition {partition} has dead letters that its state does not count"
        );
        let confirmed = self.claimed.stations.clone();
        let resume = |limit| Stations::resume(limit, confirmed, changed, &state.windows);
        let stations = env.plan.max_stations.map(resume);
        let taken = Taken { partition, epoch, state, pending, stations, ledger, end_offset };
        Unit::new(taken, shared.settings, &env.plan, env.now_ms())
    }
}
