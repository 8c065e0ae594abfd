//! A run of `src/readmit`: portion after portion of dead letters, each one transaction, until none is left.
//!
//! What a portion is and becomes is in `database/readmission.rs`; here is what the run remembers from one to the next, and
//! what it does when PostgreSQL is gone.

use weather::engine::readmission::Criteria;
use weather::reading::Reason;
use weather::retry::Backoff;
use weather::time::milliseconds;

use crate::database::{Answer, CallId, Key, Request, Session, Trouble};
use crate::env::{Env, NEVER};

/// After so many failures in a row it gives up.
const TRIES: u32 = 10;

#[derive(Debug)]
enum Step {
    Connecting(CallId),
    Taking(CallId),
    Backoff { until_ms: i64 },
    Ended,
}

#[derive(Debug)]
pub struct Readmission {
    /// Unique among all processes that ever were.
    pub instance: u64,
    /// When it is killed.
    pub killed_ms: i64,
    /// Dead letters that it knows to be taken.
    pub taken: usize,
    reasons: Vec<Reason>,
    criteria: Criteria,
    session: Option<Session>,
    after: Option<Key>,
    backoff: Backoff,
    step: Step,
}

impl Readmission {
    /// For these reasons, by these criteria.
    pub fn start(
        instance: u64,
        reasons: Vec<Reason>,
        criteria: Criteria,
        killed_ms: i64,
        env: &mut Env,
    ) -> Self {
        Self {
            instance,
            killed_ms,
            taken: 0,
            reasons,
            criteria,
            session: None,
            after: None,
            backoff: Backoff::default(),
            step: Step::Connecting(env.call(instance, None, Request::Connect)),
        }
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.step, Step::Ended)
    }

    pub fn due_ms(&self, env: &Env) -> i64 {
        let due_ms = match self.step {
            Step::Connecting(call) | Step::Taking(call) if env.database.answered(call) => env.now_ms(),
            Step::Connecting(_) | Step::Taking(_) | Step::Ended => NEVER,
            Step::Backoff { until_ms } => until_ms,
        };
        due_ms.min(self.killed_ms)
    }

    pub fn step(&mut self, env: &mut Env) {
        if env.now_ms() >= self.killed_ms {
            env.trace.note("readmission killed", &[self.instance as i64]);
            self.step = Step::Ended;
            return;
        }
        self.step = match self.step {
            Step::Connecting(call) => match env.database.take(call) {
                Some(Ok(Answer::Connected(session))) => {
                    self.session = Some(session);
                    self.take(env)
                }
                _ => self.fail(env),
            },
            Step::Taking(call) => match env.database.take(call) {
                Some(Ok(Answer::Readmitted(last, count))) => {
                    self.taken += count;
                    self.backoff.reset();
                    if last.is_some() {
                        self.after = last;
                        self.take(env)
                    } else {
                        Step::Ended
                    }
                }
                Some(Err(Trouble::Fenced)) => Step::Ended,
                _ => self.fail(env),
            },
            Step::Backoff { .. } => Step::Connecting(env.call(self.instance, None, Request::Connect)),
            Step::Ended => Step::Ended,
        };
    }

    fn take(&self, env: &mut Env) -> Step {
        let (after, reasons, criteria) = (self.after, self.reasons.clone(), self.criteria);
        Step::Taking(env.call(self.instance, self.session, Request::Readmit { after, reasons, criteria }))
    }

    /// What was asked for may have been done all the same: then those dead letters are marked.
    fn fail(&mut self, env: &Env) -> Step {
        if self.backoff.failures() >= TRIES {
            return Step::Ended;
        }
        Step::Backoff { until_ms: env.now_ms() + milliseconds(self.backoff.next_wait()) }
    }
}
