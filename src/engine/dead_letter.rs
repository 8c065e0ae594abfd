//! Rejected records on their way to PostgreSQL, where users can inspect them.
//!
//! They are written in the transaction that moves the offset past them, so that none is lost or written twice;
//! only one whose own text PostgreSQL refuses is left out, with a line in the log. Until
//! then they wait here, bounded twice: a flood is sampled ([`FloodGate`]; the counts stay complete), and a partition
//! whose [`Outbox`] is full takes no more records until PostgreSQL has confirmed some. All outboxes of a process share
//! one bound ([`OutboxShares`]); a payload is kept once, however many copies of its dead letter there are.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::engine::state::{Position, REASONS};
use crate::reading::Reason;

/// How much of a rejected value is kept.
pub const MAX_PAYLOAD_BYTES: usize = 4 * 1024;
/// Dead letters of one reason that are kept in a burst; after that they are kept at the rate below, and the rest is only
/// counted.
pub const BURST: i64 = 1_000;
/// Dead letters of one reason that are kept per second after a burst. A flood that lasts must not fill the disk.
const PER_SECOND: i64 = 1;
/// Unconfirmed dead letters of all partitions of a process. A partition takes no more records beyond its share of this;
/// what it has read by then, at most one answer of Kafka, is added to it. Sending them and writing them to files takes
/// several times as much: a process with this full was measured at 64 MiB, with twice as much at 118 MiB.
const MAX_UNCONFIRMED_BYTES: usize = 8 * 1024 * 1024;
/// How much of a payload is kept as an example.
const EXAMPLE_BYTES: usize = 2 * 1024;

/// A rejected record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The incarnation of its log.
    pub incarnation: i64,
    /// Its offset there.
    pub offset: i64,
    /// Why it was rejected.
    pub reason: Reason,
    /// The first [`MAX_PAYLOAD_BYTES`] of its value; None for a tombstone.
    pub payload: Option<Arc<[u8]>>,
    /// Length of the whole value.
    pub payload_bytes: i64,
}

impl DeadLetter {
    fn position(&self) -> Position {
        Position { incarnation: self.incarnation, offset: self.offset }
    }

    /// What it costs to keep, roughly.
    pub fn cost(&self) -> usize {
        size_of::<Self>() + self.payload.as_deref().map_or(0, <[u8]>::len)
    }
}

/// How many outboxes a process has, and so what each may hold.
#[derive(Debug, Clone, Default)]
pub struct OutboxShares(Arc<()>);

impl OutboxShares {
    fn of(&self, whole: usize) -> usize {
        // This one and those of the outboxes; a single outbox has everything.
        whole / (Arc::strong_count(&self.0) - 1).max(1)
    }
}

/// Dead letters that PostgreSQL has not confirmed, by position.
#[derive(Debug, Default)]
pub struct Outbox {
    dead_letters: VecDeque<DeadLetter>,
    bytes: usize,
    shares: OutboxShares,
    /// The first dead letter of each reason, its payload cut.
    examples: [Option<DeadLetter>; Reason::ALL.len()],
}

impl Outbox {
    /// One more outbox of a process.
    pub fn new(shares: &OutboxShares) -> Self {
        Self { shares: shares.clone(), ..Self::default() }
    }

    /// Adds dead letters; their positions are above all that are here.
    pub fn extend(&mut self, dead_letters: impl IntoIterator<Item = DeadLetter>) {
        for dead_letter in dead_letters {
            self.bytes += dead_letter.cost();
            let cut = |payload: &Arc<[u8]>| Arc::from(&payload[..payload.len().min(EXAMPLE_BYTES)]);
            self.examples[dead_letter.reason.index()].get_or_insert_with(|| DeadLetter {
                payload: dead_letter.payload.as_ref().map(cut),
                ..dead_letter.clone()
            });
            self.dead_letters.push_back(dead_letter);
        }
    }

    /// The first dead letter that there was for this reason, with the beginning of its payload.
    pub fn example(&self, reason: Reason) -> Option<&DeadLetter> {
        self.examples[reason.index()].as_ref()
    }

    /// Whether so many wait that no more records may be read.
    pub fn is_full(&self) -> bool {
        self.bytes >= self.shares.of(MAX_UNCONFIRMED_BYTES)
    }

    /// A partition's share of what all partitions of the process have together, dead letters or something else.
    pub fn share_of(&self, whole: usize) -> usize {
        self.shares.of(whole)
    }

    /// The dead letters that belong to a state at this position.
    pub fn before(&self, position: Position) -> Vec<DeadLetter> {
        self.dead_letters
            .iter()
            .take_while(|dead_letter| dead_letter.position() < position)
            .cloned()
            .collect()
    }

    /// The newest dead letters, ascending, at most `count`.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = &DeadLetter> {
        self.dead_letters.iter().skip(self.dead_letters.len().saturating_sub(count))
    }

    /// Forgets the dead letters that belong to a confirmed state.
    pub fn confirm(&mut self, position: Position) {
        while self.dead_letters.front().is_some_and(|dead_letter| dead_letter.position() < position) {
            self.bytes -= self.dead_letters.pop_front().map_or(0, |dead_letter| dead_letter.cost());
        }
    }
}

/// Lets a burst of dead letters through, then a trickle, for each reason separately: a flood of one must not hide another.
#[derive(Debug)]
pub struct FloodGate {
    /// Thousandths of a dead letter, by reason.
    left: [i64; REASONS],
    filled_ms: i64,
    is_open: bool,
}

impl Default for FloodGate {
    fn default() -> Self {
        Self { left: [BURST * 1_000; REASONS], filled_ms: i64::MAX, is_open: false }
    }
}

impl FloodGate {
    /// Lets everything through, for who compares it with what was kept.
    pub fn open() -> Self {
        Self { is_open: true, ..Self::default() }
    }

    /// Adds the time that has passed.
    pub fn refill(&mut self, now_ms: i64) {
        // A clock that was set back counts as no time passed.
        let passed = now_ms.saturating_sub(self.filled_ms).max(0);
        self.filled_ms = now_ms;
        let earned = passed.saturating_mul(PER_SECOND);
        for left in &mut self.left {
            *left = left.saturating_add(earned).min(BURST * 1_000);
        }
    }

    /// Whether one more may pass.
    pub fn admit(&mut self, reason: Reason) -> bool {
        let left = &mut self.left[reason.index()];
        let open = self.is_open || *left >= 1_000;
        *left -= if open && !self.is_open { 1_000 } else { 0 };
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead_letter(incarnation: i64, offset: i64, bytes: usize) -> DeadLetter {
        DeadLetter {
            incarnation,
            offset,
            reason: Reason::Malformed,
            payload: Some(vec![0; bytes].into()),
            payload_bytes: bytes as i64,
        }
    }

    fn at(incarnation: i64, offset: i64) -> Position {
        Position { incarnation, offset }
    }

    #[test]
    fn dead_letters_belong_to_the_state_at_a_position() {
        let mut outbox = Outbox::default();
        outbox.extend([dead_letter(0, 5, 0), dead_letter(0, 9, 0), dead_letter(1, 2, 0)]);
        assert_eq!(outbox.before(at(0, 9)).len(), 1);
        assert_eq!(outbox.before(at(0, 10)).len(), 2);
        assert_eq!(outbox.before(at(1, 3)).len(), 3);
        outbox.confirm(at(1, 2));
        assert_eq!(outbox.before(at(9, 0)), [dead_letter(1, 2, 0)]);
    }

    #[test]
    fn is_full_until_some_are_confirmed() {
        let mut outbox = Outbox::default();
        let mut offset = 0;
        while !outbox.is_full() {
            outbox.extend([dead_letter(0, offset, MAX_PAYLOAD_BYTES)]);
            offset += 1;
        }
        assert!(offset as usize * MAX_PAYLOAD_BYTES <= MAX_UNCONFIRMED_BYTES);
        outbox.confirm(at(0, 1));
        assert!(!outbox.is_full());
        outbox.confirm(at(0, offset));
        assert_eq!(outbox.bytes, 0);
    }

    #[test]
    fn a_process_has_one_bound_however_many_partitions_it_has() {
        for partitions in [1, 30, 1_000] {
            let shares = OutboxShares::default();
            let mut outboxes: Vec<Outbox> = (0..partitions).map(|_| Outbox::new(&shares)).collect();
            for outbox in &mut outboxes {
                let mut offset = 0;
                while !outbox.is_full() {
                    outbox.extend([dead_letter(0, offset, 1_000)]);
                    offset += 1;
                }
            }
            let bytes: usize = outboxes.iter().map(|outbox| outbox.bytes).sum();
            let surplus = partitions * dead_letter(0, 0, 1_000).cost();
            assert!(bytes <= MAX_UNCONFIRMED_BYTES + surplus, "{partitions} partitions: {bytes}");
        }
    }

    #[test]
    fn an_example_of_each_reason_stays() {
        let mut outbox = Outbox::default();
        outbox.extend([dead_letter(0, 5, 4_000), dead_letter(0, 6, 1)]);
        outbox.confirm(at(0, 7));
        let example = outbox.example(Reason::Malformed).unwrap();
        assert_eq!((example.offset, example.payload.as_ref().unwrap().len()), (5, EXAMPLE_BYTES));
        assert_eq!((example.payload_bytes, outbox.example(Reason::Late)), (4_000, None));
    }

    #[test]
    fn the_gate_lets_a_burst_through_then_a_trickle_of_each_reason() {
        let mut gate = FloodGate::default();
        let mut admitted = |now_ms, tries, reason| {
            gate.refill(now_ms);
            (0..tries).filter(|_| gate.admit(reason)).count()
        };
        let now = 1_700_000_000_000;
        assert_eq!(admitted(now, 5_000, Reason::Malformed), 1_000);
        assert_eq!(admitted(now, 5, Reason::Malformed), 0);
        assert_eq!(admitted(now, 5, Reason::Late), 5, "another reason is not hidden");
        assert_eq!(admitted(now + 500, 5, Reason::Malformed), 0);
        assert_eq!(admitted(now + 3_000, 5_000, Reason::Malformed), 3);
        assert_eq!(admitted(now - 3_600_000, 5, Reason::Malformed), 0, "a clock set back earns nothing");
        assert_eq!(admitted(now - 3_600_000 + 1_000, 5, Reason::Malformed), 1);
    }
}
