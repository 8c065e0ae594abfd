//! One lane of `src/kafka/fetcher`: the records of one partition from an offset on.
//!
//! Every call to Kafka is a step, and may fail. An event is handed over when the channel of one has room. A fetch here ends
//! before what cannot be read.

use std::collections::VecDeque;

use weather::engine::state::LogIdentity;
use weather::retry::Backoff;
use weather::time::milliseconds;

use super::worker::{Event, Read};
use crate::env::{Env, NEVER};
use crate::kafka::{FetchError, Log, Records, Slot};

/// Tries at a batch that cannot be read before it counts as lost.
const UNREADABLE_TRIES: u32 = 3;

#[derive(Debug, Clone, Copy)]
enum Step {
    Connect,
    Backoff {
        until_ms: i64,
    },
    Earliest,
    Latest {
        earliest: i64,
    },
    /// Asks only when what came before was taken.
    Room,
    Poll {
        until_ms: i64,
    },
}

#[derive(Debug)]
pub struct Source {
    partition: i32,
    next_offset: i64,
    known: LogIdentity,
    unreadable: u32,
    backoff: Backoff,
    step: Step,
    /// Which log it is connected to.
    generation: i64,
    /// Waits for room in the channel.
    sending: VecDeque<Read>,
}

impl Source {
    pub fn new(partition: i32, next_offset: i64, known: LogIdentity) -> Self {
        Self {
            partition,
            next_offset,
            known,
            unreadable: 0,
            backoff: Backoff::default(),
            step: Step::Connect,
            generation: 0,
            sending: VecDeque::new(),
        }
    }

    pub fn due_ms(&self, room: bool, env: &Env) -> i64 {
        let when = |ready| if ready { env.now_ms() } else { NEVER };
        if !self.sending.is_empty() {
            return when(room);
        }
        match self.step {
            Step::Backoff { until_ms } => until_ms,
            Step::Room => when(room),
            Step::Poll { until_ms } => {
                let log = env.kafka.log(self.partition);
                let answer = log.latest() > self.next_offset || self.is_cut_off(env);
                if answer { env.now_ms() } else { until_ms }
            }
            _ => env.now_ms(),
        }
    }

    fn is_cut_off(&self, env: &Env) -> bool {
        env.kafka.away || env.kafka.log(self.partition).generation() != self.generation
    }

    pub fn step(&mut self, channel: &mut Option<Read>, env: &mut Env) {
        if let Some(read) = self.sending.pop_front() {
            *channel = Some(read);
            return;
        }
        match self.step {
            Step::Backoff { .. } => self.step = Step::Connect,
            Step::Room => self.step = Step::Poll { until_ms: env.now_ms() + env.plan.fetch_wait_ms },
            _ => self.call(env),
        }
    }

    /// A call to Kafka.
    fn call(&mut self, env: &mut Env) {
        if matches!(self.step, Step::Connect) {
            self.generation = env.kafka.log(self.partition).generation();
        }
        if self.is_cut_off(env) || env.rng.chance(env.chances.kafka_error) {
            env.database.disturb(env.now_ms());
            return self.fail(env.now_ms());
        }
        let log = env.kafka.log(self.partition);
        match self.step {
            Step::Connect => self.step = Step::Earliest,
            Step::Earliest => self.step = Step::Latest { earliest: log.earliest() },
            Step::Latest { earliest } => {
                let (topic_id, latest) = (log.topic_id(), log.latest());
                self.decide(topic_id, (earliest, latest));
            }
            _ => self.poll(env),
        }
    }

    fn fail(&mut self, now_ms: i64) {
        self.step = Step::Backoff { until_ms: now_ms + milliseconds(self.backoff.next_wait()) };
    }

    fn send(&mut self, event: Event) {
        self.sending.push_back(Read { generation: self.generation, event });
    }

    /// What became of the log, by the topic's id and the log's ends.
    fn decide(&mut self, topic_id: [u8; 16], (earliest, latest): (i64, i64)) {
        let known = self.known.topic_id != LogIdentity::UNKNOWN.topic_id;
        let another = known && self.known.topic_id != topic_id;
        self.known.topic_id = topic_id;
        if another {
            self.start_over(earliest, latest);
        } else if self.next_offset > latest {
            let at = if known || earliest > 0 { latest } else { earliest };
            self.start_over(at, latest);
        } else if self.next_offset < earliest {
            self.next_offset = earliest;
            self.send(Event::Lost { to: earliest });
        }
        self.send(Event::Recognised { topic_id });
        self.step = Step::Room;
    }

    fn start_over(&mut self, at: i64, end: i64) {
        self.next_offset = at;
        self.send(Event::StartedOver { at, end });
    }

    fn poll(&mut self, env: &mut Env) {
        let log = env.kafka.log(self.partition);
        self.step = Step::Room;
        match log.fetch(self.next_offset, env.plan.fetch_records) {
            Ok((records, next)) => {
                self.backoff.reset();
                self.unreadable = 0;
                let again = if env.rng.chance(env.chances.replay) { env.rng.between(1, 5) } else { 0 };
                self.pass_on(env.kafka.log(self.partition), records, next, again);
            }
            Err(FetchError::Unreadable) => {
                if self.unreadable < UNREADABLE_TRIES {
                    self.unreadable += 1;
                    return self.fail(env.now_ms());
                }
                self.next_offset += 1;
                self.send(Event::Lost { to: self.next_offset });
            }
            Err(FetchError::OutOfRange) => self.fail(env.now_ms()),
        }
    }

    fn pass_on(&mut self, log: &Log, records: Records, next: i64, again: i64) {
        if next > self.next_offset {
            let mut batch = before(log, self.next_offset, again);
            batch.extend(records);
            self.next_offset = next;
            self.send(Event::Records { records: batch, next, high_watermark: log.latest() });
        } else {
            self.send(Event::CaughtUp);
        }
    }
}

/// Records just before an offset: a broker gives whole batches.
fn before(log: &Log, offset: i64, count: i64) -> Records {
    let offsets = (offset - count).max(log.earliest())..offset;
    let record = |at| match log.slot(log.generation(), at) {
        Some(Slot::Record(record)) => Some((at, std::rc::Rc::clone(record))),
        _ => None,
    };
    offsets.filter_map(record).collect()
}
