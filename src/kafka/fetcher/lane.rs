//! One partition: where it is to be read on, and what an answer means for it. No I/O here.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::turn::AnswerPart;
use super::{Event, span};
use crate::engine::state::LogIdentity;
use crate::error::Error;
use crate::kafka::cluster::recently;
use crate::kafka::message::fetch::FetchedPartition;
use crate::retry::Backoff;
use crate::telemetry::log::Outage;

/// Empty answers below the log's end, each waited for longer, before what is left counts as offsets without a record. A
/// broker that fetches from slow storage asks in this way to come again.
const EMPTY_TRIES: u32 = 8;
/// How often the owner of a partition is told that all is read.
const CAUGHT_UP_EVERY: Duration = Duration::from_secs(1);

/// One partition.
#[derive(Debug)]
pub(super) struct FetchLane {
    /// Its number among all lanes that there were.
    pub(super) id: u64,
    events: UnboundedSender<Event>,
    pub(super) outage: Outage,
    /// Raised whenever reading continues elsewhere: earlier requests are of no more use.
    pub(super) generation: u64,
    pub(super) next_offset: i64,
    pub(super) known: LogIdentity,
    pub(super) leader: Option<Leader>,
    /// Whether the log was recognised since something failed last.
    pub(super) checked: bool,
    /// The generation of the last request to its broker; 0 without one.
    pub(super) asked: u64,
    /// Not to be requested, for lack of room or for good.
    pub(super) paused: bool,
    /// When it was lost by its broker, or may be requested again.
    pub(super) since: Instant,
    pub(super) not_before: Instant,
    pub(super) backoff: Backoff,
    /// Empty answers in a row below the log's end.
    pub(super) empty: u32,
    /// When it was served last; the one that waits longest comes first.
    pub(super) served: u64,
    /// When its owner was told last that all is read; None since there were records.
    caught_up: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Leader {
    pub(super) broker: i32,
    pub(super) epoch: i32,
    pub(super) topic_id: [u8; 16],
}

impl FetchLane {
    pub(super) fn new(
        events: UnboundedSender<Event>,
        outage: Outage,
        next_offset: i64,
        known: LogIdentity,
    ) -> Self {
        let now = Instant::now();
        Self {
            id: 0,
            events,
            outage,
            generation: 0,
            next_offset,
            known,
            leader: None,
            checked: false,
            asked: 0,
            paused: false,
            since: recently(),
            not_before: now,
            backoff: Backoff::default(),
            empty: 0,
            served: 0,
            caught_up: None,
        }
    }

    pub(super) fn go_on(&mut self, at: i64) {
        self.paused = false;
        self.next_offset = at;
        self.empty = 0;
    }

    /// Reads on at this offset, after a while and over another connection.
    pub(super) fn read_again(&mut self, at: i64, wait: Duration) {
        self.go_on(at);
        self.leave();
        self.not_before = self.since + wait;
    }

    /// Leaves its broker: the router finds it another, or the same again.
    pub(super) fn leave(&mut self) {
        (self.leader, self.checked, self.asked, self.since) = (None, false, 0, Instant::now());
    }

    /// The receiver may be gone; then the lane goes with it.
    pub(super) fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    pub(super) fn is_led_by(&self, broker: i32) -> bool {
        self.leader.is_some_and(|leader| leader.broker == broker)
    }

    /// Moves on over what an answer holds. Others may have filled it; this is the service of that number.
    pub(super) fn take(
        &mut self,
        fetched: FetchedPartition,
        bytes: &[u8],
        filled: bool,
        served: u64,
    ) -> Option<AnswerPart> {
        self.outage.ok();
        self.backoff.reset();
        if fetched.records.is_empty() {
            self.found_nothing(fetched.last_stable_offset, filled);
            return None;
        }
        let span = span::of(bytes.get(fetched.records.clone())?);
        let part = AnswerPart {
            events: self.events.clone(),
            generation: self.generation,
            range: fetched.records,
            from: self.next_offset,
            end: fetched.last_stable_offset,
            epoch: span.map_or(self.known.leader_epoch, |span| span.epoch),
            aborted: fetched.aborted,
        };
        if let Some(span) = span {
            self.next_offset = span.next_offset.max(self.next_offset);
            self.known.leader_epoch = span.epoch;
        }
        (self.empty, self.served, self.caught_up) = (0, served, None);
        Some(part)
    }

    /// No records in an answer, which others may have filled.
    fn found_nothing(&mut self, end: i64, filled: bool) {
        if end <= self.next_offset {
            self.empty = 0;
            // A broker answers whenever one of the partitions has something.
            if self.caught_up.is_none_or(|told| told.elapsed() >= CAUGHT_UP_EVERY) {
                self.caught_up = Some(Instant::now());
                self.tell(Event::CaughtUp { end });
            }
            return;
        }
        if filled {
            return;
        }
        if self.empty < EMPTY_TRIES {
            self.not_before = Instant::now() + Backoff::FIRST * (1 << self.empty.min(4));
            self.empty += 1;
            return;
        }
        (self.next_offset, self.empty) = (end, 0);
        self.tell(Event::Skipped { to: end });
    }

    /// Reading cannot continue.
    pub(super) fn fail(&mut self, partition: i32, topic: &str, what: &str) {
        self.paused = true;
        self.tell(Event::Failed(Error::failure(format!("partition {partition} of topic {topic}: {what}"))));
    }
}
