//! What one partition holds until Kafka has acknowledged it: a batch being filled, and full ones waiting.
//!
//! Pure bookkeeping: no I/O, no clock (the time is an argument). A batch holds its records in one block of memory, in the
//! form that they are sent in, so that the memory held is the memory counted.
//!
//! Batches linger until the next point of a grid that all partitions share: so one wake-up of the process serves all of
//! them, and a record waits half of the linger on average. It counts from when the sender first looks, not from when the
//! first record was due: a record that came late gets company, too.
//!
//! Invariants: a batch never changes after it was handed out; `held_bytes` covers open, ready and handed-out batches, and
//! stays within the limit unless one record alone is larger.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::batch::{self, UnsentBatch};

/// How much a partition may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct BufferLimits {
    /// A batch is handed out when it has reached this.
    pub(super) batch_bytes: usize,
    /// Nothing more is accepted beyond this.
    pub(super) held_bytes: usize,
    /// How long a batch waits for more.
    pub(super) linger: Duration,
}

/// Whether a record was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// No: wait until something was released.
    Full,
    /// Yes, and there is no more to do for it.
    Kept,
    /// Yes, and the sender has to look: the first record starts its waiting, the one that fills a batch ends it, unless it
    /// will look anyhow.
    Look,
}

/// What the sender has to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this.
    Send(UnsentBatch),
    /// Look again at this time.
    At(Instant),
    /// Wait for a record.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Buffer {
    limits: BufferLimits,
    /// Where the grid of lingering starts.
    epoch: Instant,
    open: UnsentBatch,
    ready: VecDeque<UnsentBatch>,
    /// When to send the open batch; None until the sender has looked.
    send_at: Option<Instant>,
    /// Memory to use again for the next batch.
    spare: Option<UnsentBatch>,
    held_bytes: usize,
    /// Batches that are with the sender.
    handed_out: usize,
    /// Records accepted and not released yet.
    pending: usize,
    /// Counts batches, so that records without a key can tell when their batch has gone.
    batch_number: u64,
    /// Send without waiting for more, until nothing is left.
    hurry: bool,
    /// The sender will look of itself, at the end of a request or of the linger.
    will_look: bool,
    /// The last batch had gathered several records: worth checking again without a wake-up.
    lively: bool,
}

impl Buffer {
    pub(super) fn new(limits: BufferLimits, epoch: Instant) -> Self {
        Self {
            limits,
            epoch,
            open: UnsentBatch::default(),
            ready: VecDeque::new(),
            send_at: None,
            spare: None,
            held_bytes: 0,
            handed_out: 0,
            pending: 0,
            batch_number: 0,
            hurry: false,
            will_look: false,
            lively: false,
        }
    }

    /// Takes a record in. `due` is when it should have been sent: latency counts from there.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8], due: Instant) -> Pushed {
        let most_bytes = batch::most_bytes(key, value);
        if self.held_bytes > 0 && self.held_bytes + most_bytes > self.limits.held_bytes {
            return Pushed::Full;
        }
        let mut filled =
            !self.open.is_empty() && self.open.bytes().len() + most_bytes > self.limits.batch_bytes;
        if filled {
            self.rotate();
        }
        let before = self.open.held_bytes();
        self.open.push(key, value, due);
        self.held_bytes += self.open.held_bytes() - before;
        self.pending += 1;
        if self.open.bytes().len() >= self.limits.batch_bytes {
            self.rotate();
            filled = true;
        }
        let told = std::mem::replace(&mut self.will_look, true);
        // With a batch on its way, the sender looks when that is answered: a wake-up for each full one would cost more than
        // it saves.
        if (filled && self.handed_out == 0) || !told { Pushed::Look } else { Pushed::Kept }
    }

    fn rotate(&mut self) {
        let next = self.next_batch();
        self.ready.push_back(next);
    }

    /// Takes the open batch out and opens the next.
    fn next_batch(&mut self) -> UnsentBatch {
        let fresh = self.spare.take().unwrap_or_else(|| self.open.another());
        self.batch_number += 1;
        self.send_at = None;
        std::mem::replace(&mut self.open, fresh)
    }

    /// The next batch to send, once it is full, has lingered, or is wanted at once.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        self.will_look = true;
        if let Some(batch) = self.ready.pop_front() {
            self.lively = true;
            self.handed_out += 1;
            return Next::Send(batch);
        }
        let Some((first_due, _)) = self.open.due().first() else {
            // Checking again in vain is cheaper than being woken by the first record each time.
            self.will_look = std::mem::take(&mut self.lively);
            self.send_at = self.will_look.then(|| self.end_of_linger(now));
            return self.send_at.map_or(Next::Nothing, Next::At);
        };
        // Nobody looked for as long, because requests were under way.
        let lingered = *first_due + self.limits.linger <= now;
        let until = match self.send_at {
            Some(time) => time,
            None if lingered => now,
            None => *self.send_at.insert(self.end_of_linger(now)),
        };
        if !self.hurry && until > now {
            return Next::At(until);
        }
        self.lively = self.open.len() > 1;
        self.handed_out += 1;
        Next::Send(self.next_batch())
    }

    /// The first point of the grid after a time.
    fn end_of_linger(&self, time: Instant) -> Instant {
        let linger_ns = self.limits.linger.as_nanos();
        let since_ns = time.saturating_duration_since(self.epoch).as_nanos();
        match since_ns.checked_rem(linger_ns) {
            // Below a linger, so it fits.
            Some(into_ns) => time + Duration::from_nanos((linger_ns - into_ns) as u64),
            None => time,
        }
    }

    /// A batch that was handed out is dealt with.
    pub(super) fn release(&mut self, mut batch: UnsentBatch) {
        self.held_bytes -= batch.held_bytes();
        self.handed_out -= 1;
        self.pending -= batch.len();
        if self.pending == 0 {
            self.hurry = false;
        }
        batch.clear();
        self.spare = Some(batch);
    }

    /// A batch that was handed out was divided: its halves will be released in its place.
    pub(super) fn divided(&mut self, batch: &UnsentBatch, halves: &[UnsentBatch; 2]) {
        self.held_bytes += halves.iter().map(UnsentBatch::held_bytes).sum::<usize>();
        self.held_bytes -= batch.held_bytes();
        self.handed_out += 1;
    }

    /// Sends everything at once from now on, until nothing is left.
    pub(super) fn hurry(&mut self) {
        self.hurry = self.pending > 0;
    }

    /// Records accepted and not released yet.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Which batch is being filled; goes up with each.
    pub(super) fn batch_number(&self) -> u64 {
        self.batch_number
    }

    /// Makes later batches smaller: the broker refused one of this many bytes.
    pub(super) fn shrink_batches(&mut self, refused: usize) {
        const SMALLEST: usize = 4 * 1024;
        self.limits.batch_bytes = self.limits.batch_bytes.min(refused / 2).max(SMALLEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_millis(5);
    const LIMITS: BufferLimits = BufferLimits { batch_bytes: 300, held_bytes: 700, linger: LINGER };

    /// An empty buffer, and the start of its grid.
    fn buffer() -> (Buffer, Instant) {
        let epoch = Instant::now();
        (Buffer::new(LIMITS, epoch), epoch)
    }

    fn send(next: Next) -> UnsentBatch {
        match next {
            Next::Send(batch) => batch,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_batch_goes_at_the_next_point_of_the_grid_or_when_it_is_wanted() {
        let (mut buffer, t) = buffer();
        let ms = |ms| t + Duration::from_millis(ms);
        assert!(matches!(buffer.next(t), Next::Nothing));
        assert_eq!(buffer.push(b"k", b"v", ms(3)), Pushed::Look);
        assert!(matches!(buffer.next(ms(3)), Next::At(at) if at == ms(5)));
        assert_eq!(buffer.push(b"k", b"v", ms(4)), Pushed::Kept, "the sender will look at 5 ms");
        let first = send(buffer.next(ms(5)));
        assert_eq!((first.len(), buffer.pending()), (2, 2));
        assert_eq!(buffer.push(b"k", b"v", ms(7)), Pushed::Kept, "and when its request is answered");
        buffer.release(first);
        buffer.hurry();
        let second = send(buffer.next(ms(8)));
        buffer.release(second);
        buffer.push(b"k", b"v", ms(8));
        assert!(matches!(buffer.next(ms(8)), Next::At(_)), "hurry ends when nothing is left");
    }

    #[test]
    fn a_record_that_came_late_lingers_unless_it_has_waited_for_as_long() {
        let (mut buffer, t) = buffer();
        let ms = |ms| t + Duration::from_millis(ms);
        buffer.push(b"k", b"v", ms(4));
        assert!(matches!(buffer.next(ms(6)), Next::At(at) if at == ms(10)));
        assert_eq!(send(buffer.next(ms(10))).len(), 1);
        buffer.push(b"k", b"v", ms(11));
        assert_eq!(send(buffer.next(ms(16))).len(), 1);
    }

    #[test]
    fn a_lively_partition_is_looked_at_once_more_a_quiet_one_is_not() {
        let (mut buffer, t) = buffer();
        buffer.push(b"", b"v", t);
        buffer.push(b"", b"v", t);
        let batch = send(buffer.next(t + LINGER));
        buffer.release(batch);
        assert!(matches!(buffer.next(t + LINGER), Next::At(at) if at == t + LINGER * 2));
        assert_eq!(buffer.push(b"", b"v", t + LINGER), Pushed::Kept);
        let batch = send(buffer.next(t + LINGER * 2));
        buffer.release(batch);
        assert!(matches!(buffer.next(t + LINGER * 2), Next::Nothing));
        assert_eq!(buffer.push(b"", b"v", t + LINGER * 2), Pushed::Look);
    }

    #[test]
    fn without_linger_a_record_goes_at_once() {
        let t = Instant::now();
        let mut buffer = Buffer::new(BufferLimits { linger: Duration::ZERO, ..LIMITS }, t);
        buffer.push(b"", b"v", t + LINGER);
        assert_eq!(send(buffer.next(t + LINGER)).len(), 1);
    }

    #[test]
    fn batches_fill_and_the_buffer_is_bounded() {
        let (mut buffer, t) = buffer();
        // 57 bytes in a request, 93 in memory, and reckoned as 109 before it is there.
        let taken: Vec<Pushed> = (0..8).map(|_| buffer.push(b"", &[b'v'; 50], t)).collect();
        use Pushed::{Full, Kept, Look};
        assert_eq!(taken, [Look, Kept, Kept, Kept, Look, Kept, Kept, Full]);
        let batch = send(buffer.next(t));
        assert_eq!(batch.len(), 4);
        assert_eq!(buffer.push(b"", &[b'v'; 50], t), Full, "held until it is released");
        buffer.release(batch);
        assert_eq!(buffer.push(b"", &[b'v'; 50], t), Kept);
    }

    #[test]
    fn one_record_beyond_every_limit_still_passes() {
        let (mut buffer, t) = buffer();
        assert_eq!(buffer.push(b"", &[0; 5000], t), Pushed::Look);
        assert_eq!(buffer.push(b"", b"v", t), Pushed::Full);
        let batch = send(buffer.next(t));
        assert_eq!(batch.len(), 1);
        buffer.release(batch);
        assert_eq!(buffer.push(b"", b"v", t), Pushed::Kept);
    }

    #[test]
    fn a_batch_that_is_divided_is_released_in_halves() {
        let (mut buffer, t) = buffer();
        for _ in 0..3 {
            buffer.push(b"key", &[b'v'; 50], t);
        }
        buffer.hurry();
        let batch = send(buffer.next(t));
        let halves = batch.halves();
        buffer.divided(&batch, &halves);
        assert_eq!(buffer.pending(), 3);
        halves.into_iter().for_each(|half| buffer.release(half));
        assert_eq!((buffer.pending(), buffer.held_bytes, buffer.handed_out), (0, 0, 0));
    }
}
