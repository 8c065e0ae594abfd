//! One answer's bytes on their way through the partitions that it holds records of.
//!
//! Records are parsed where they are, by one partition after the other. A [`Turn`] is one partition's right to the bytes;
//! when it ends, however it ends, the next partition gets its own, and after the last the bytes are given back and the
//! next answer may be handed out. So there is never more than one answer in parsing, and nothing is copied.

use std::fmt;
use std::ops::Range;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use super::{Event, span};
use crate::kafka::batch::AbortedTransaction;

/// What an answer holds of one partition.
#[derive(Debug)]
pub(super) struct AnswerPart {
    /// Who gets it.
    pub(super) events: UnboundedSender<Event>,
    /// Which state of the lane asked for it; it is no use to a later one.
    pub(super) generation: u64,
    /// Where in the answer the batches are.
    pub(super) range: Range<usize>,
    /// The offset that was asked for.
    pub(super) from: i64,
    /// Behind the newest record that can be read.
    pub(super) end: i64,
    /// The epoch of the leader that took the last batch.
    pub(super) epoch: i32,
    /// The aborted transactions that the batches touch.
    pub(super) aborted: Vec<AbortedTransaction>,
}

/// An answer, and whose turn is still to come.
struct PendingAnswer {
    bytes: Vec<u8>,
    /// The next one last.
    waiting: Vec<AnswerPart>,
    /// Given back with the bytes.
    _permit: OwnedSemaphorePermit,
}

/// One partition's turn with the bytes of an answer.
pub struct Turn {
    answer: Option<Box<PendingAnswer>>,
    part: AnswerPart,
}

impl Turn {
    /// Hands an answer out; `parts` come to their turn in this order.
    pub(super) fn begin(bytes: Vec<u8>, mut parts: Vec<AnswerPart>, permit: OwnedSemaphorePermit) {
        parts.reverse();
        pass_on(Box::new(PendingAnswer { bytes, waiting: parts, _permit: permit }));
    }

    /// The record batches.
    pub fn batches(&self) -> &[u8] {
        let range = self.part.range.clone();
        self.answer.as_ref().and_then(|answer| answer.bytes.get(range)).unwrap_or_default()
    }

    /// The offset that was asked for: batches may begin before it.
    pub fn from(&self) -> i64 {
        self.part.from
    }

    /// Behind the last offset of the batches; None if there is no whole one.
    pub fn next_offset(&mut self) -> Option<i64> {
        span::of(self.batches()).map(|span| span.next_offset)
    }

    /// Behind the newest record that can be read.
    pub fn end(&self) -> i64 {
        self.part.end
    }

    /// The epoch of the leader that took the last batch.
    pub fn epoch(&self) -> i32 {
        self.part.epoch
    }

    /// Takes the list of aborted transactions that the batches touch.
    pub fn take_aborted(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.part.aborted)
    }

    /// Which state of the lane asked for it.
    pub(super) fn generation(&self) -> u64 {
        self.part.generation
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            pass_on(answer);
        }
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("from", &self.part.from).field("range", &self.part.range).finish()
    }
}

/// Gives the bytes to the next partition that is still there.
fn pass_on(mut answer: Box<PendingAnswer>) {
    while let Some(part) = answer.waiting.pop() {
        let events = part.events.clone();
        match events.send(Event::Records(Turn { answer: Some(answer), part })) {
            Ok(()) => return,
            // Nobody reads this partition any more: its turn is over before it began.
            Err(returned) => match returned.0 {
                Event::Records(mut turn) => match turn.answer.take() {
                    Some(left) => answer = left,
                    None => return,
                },
                _ => return,
            },
        }
    }
}
