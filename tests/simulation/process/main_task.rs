//! The run of a process after `src/processor/mod.rs`: waits for both services, lets the tasks run, and in the end flushes,
//! writes the last checkpoints and frees the partitions.

use std::collections::VecDeque;

use weather::engine::bounded::BoundedRun;
use weather::processor::{LAST_FLUSH, LAST_TICK, LAST_WORDS};
use weather::retry::Backoff;
use weather::time::milliseconds;

use super::flusher::Ticket;
use super::{Process, UnitRef};
use crate::database::{Answer, CallId, Request};
use crate::env::{Env, NEVER};

enum Step {
    Prepare,
    Connecting(CallId),
    WaitForTopic,
    Backoff { until_ms: i64, then_topic: bool },
    Running,
    WaitForOwnership { until_ms: i64 },
    WaitForCheckpoints,
    Flushing { ticket: Ticket, until_ms: i64 },
    Writing,
    Speaking { call: CallId, left: VecDeque<Request>, until_ms: i64 },
    Exited,
}

pub struct Main {
    step: Step,
    backoff: Backoff,
    /// Held until the end.
    last: Vec<UnitRef>,
}

impl Main {
    pub fn new() -> Self {
        Self { step: Step::Prepare, backoff: Backoff::default(), last: Vec::new() }
    }

    pub fn has_exited(&self) -> bool {
        matches!(self.step, Step::Exited)
    }

    /// Whether the tasks have been started.
    pub fn is_running(&self) -> bool {
        !matches!(
            self.step,
            Step::Prepare | Step::Connecting(_) | Step::WaitForTopic | Step::Backoff { .. } | Step::Exited
        )
    }

    pub fn has_given_up_ownership(&self) -> bool {
        !matches!(self.step, Step::Running | Step::WaitForOwnership { .. })
    }

    pub fn due_ms(&self, process: &Process, env: &Env) -> i64 {
        let when = |ready| if ready { env.now_ms() } else { NEVER };
        match &self.step {
            Step::Exited => NEVER,
            // The wait for the services ends at once.
            _ if !self.is_running() && process.shared.done => env.now_ms(),
            Step::Connecting(call) => when(env.database.answered(*call)),
            Step::Backoff { until_ms, .. } => *until_ms,
            Step::Running => when(process.shared.done),
            Step::WaitForOwnership { until_ms } => {
                if process.ownership.has_ended() {
                    env.now_ms()
                } else {
                    *until_ms
                }
            }
            Step::WaitForCheckpoints => when(process.checkpoints.ended),
            Step::Flushing { ticket, until_ms } => {
                if process.shared.tickets.is_answered(*ticket) {
                    env.now_ms()
                } else {
                    *until_ms
                }
            }
            Step::Writing => when(process.checkpoints.is_at_rest()),
            Step::Speaking { call, until_ms, .. } => {
                if env.database.answered(*call) {
                    env.now_ms()
                } else {
                    *until_ms
                }
            }
            Step::Prepare | Step::WaitForTopic => env.now_ms(),
        }
    }

    pub fn step(process: &mut Process, env: &mut Env) {
        let step = std::mem::replace(&mut process.main.step, Step::Exited);
        let (instance, now_ms) = (process.shared.instance, env.now_ms());
        process.main.step = match step {
            Step::Prepare | Step::Connecting(_) | Step::WaitForTopic | Step::Backoff { .. }
                if process.shared.done =>
            {
                Step::Exited
            }
            Step::Prepare => Step::Connecting(env.call(instance, None, Request::Connect)),
            Step::Connecting(call) => match env.database.take(call) {
                Some(Ok(_)) => Step::WaitForTopic,
                _ => process.main.wait(now_ms, false),
            },
            Step::Backoff { then_topic: false, .. } => Step::Prepare,
            Step::Backoff { .. } => Step::WaitForTopic,
            Step::WaitForTopic if env.kafka.away => process.main.wait(now_ms, true),
            Step::WaitForTopic => {
                process.begin(env);
                Step::Running
            }
            Step::Running => Step::WaitForOwnership { until_ms: now_ms + milliseconds(LAST_TICK) },
            Step::WaitForOwnership { .. } => {
                process.ownership.give_up();
                process.last_flush(now_ms)
            }
            Step::Flushing { .. } => Step::WaitForCheckpoints,
            Step::WaitForCheckpoints => {
                process.checkpoints.write_all(&process.shared);
                Step::Writing
            }
            Step::Writing => process.last_words(env),
            Step::Speaking { call, left, until_ms } => process.speak(call, left, until_ms, env),
            Step::Exited => Step::Exited,
        };
    }

    fn wait(&mut self, now_ms: i64, then_topic: bool) -> Step {
        Step::Backoff { until_ms: now_ms + milliseconds(self.backoff.next_wait()), then_topic }
    }
}

impl Process {
    fn begin(&mut self, env: &Env) {
        self.shared.topic.extend(env.kafka.partitions());
        if let Some(run) = &mut self.shared.bounded {
            let end = |partition| (partition, env.kafka.log(partition).latest());
            *run = BoundedRun::new(env.kafka.partitions().map(end).collect());
        }
    }

    fn last_flush(&mut self, now_ms: i64) -> Step {
        self.main.last = self.shared.registry.values().cloned().collect();
        self.main.last.iter().for_each(|unit| unit.borrow_mut().pause());
        Step::Flushing { ticket: self.shared.tickets.ask(), until_ms: now_ms + milliseconds(LAST_FLUSH) }
    }

    fn last_words(&mut self, env: &mut Env) -> Step {
        let out_of_orderness_ms = self.shared.settings.out_of_orderness_ms;
        let partitions = self.shared.topic.iter().copied().collect();
        let owner = self.shared.name.clone();
        let mut owned = self.shared.epochs();
        owned.extend(std::mem::take(&mut self.ownership.coming_up));
        let mut left = VecDeque::from([
            Request::Finish { out_of_orderness_ms, partitions },
            Request::Release { owner: owner.clone(), owned },
            Request::Leave { owner },
        ]);
        let session = self.ownership.session;
        let first = if session.is_some() { left.pop_front() } else { None };
        let call = env.call(self.shared.instance, session, first.unwrap_or(Request::Connect));
        Step::Speaking { call, left, until_ms: env.now_ms() + milliseconds(LAST_WORDS) }
    }

    fn speak(&mut self, call: CallId, mut left: VecDeque<Request>, until_ms: i64, env: &mut Env) -> Step {
        match env.database.take(call) {
            Some(Ok(Answer::Connected(session))) => self.ownership.session = Some(session),
            Some(Ok(_)) => {}
            _ => return Step::Exited,
        }
        let Some(request) = left.pop_front() else { return Step::Exited };
        let call = env.call(self.shared.instance, self.ownership.session, request);
        Step::Speaking { call, left, until_ms }
    }
}
