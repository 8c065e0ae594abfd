//! What one partition holds until Kafka has acknowledged it: a batch being filled, and full ones waiting.
//!
//! Pure bookkeeping: no I/O, no clock (the time is an argument). Keys and values are one after the other in one block of
//! memory per batch, so that the memory held is the memory counted.
//!
//! Batches linger until the next point of a grid that all partitions share: so one wake-up of the process serves all of
//! them, and a record waits half of the linger on average.
//!
//! Invariants: a batch never changes after it was handed out; `held_bytes` covers open, ready and handed-out batches, and
//! stays within the limit unless one record alone is larger.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// What a record takes in a request besides key and value, at most: lengths and deltas.
const RECORD_OVERHEAD: usize = 24;

/// Records of one partition, in order.
#[derive(Debug)]
pub struct Batch {
    /// Keys and values, one after the other.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where the key ends in `bytes`; it starts where the entry before ends.
    key_end: u32,
    value_end: u32,
    due: Instant,
}

impl Batch {
    fn new() -> Self {
        Self { bytes: Vec::new(), entries: Vec::new() }
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The values of some of the records.
    pub fn values(&self, range: Range<usize>) -> impl DoubleEndedIterator<Item = &[u8]> {
        range.map(|i| {
            let entry = &self.entries[i];
            &self.bytes[entry.key_end as usize..entry.value_end as usize]
        })
    }

    /// When each of some of the records was due.
    pub(super) fn due(&self, range: Range<usize>) -> impl Iterator<Item = Instant> + '_ {
        self.entries[range].iter().map(|entry| entry.due)
    }

    /// Bytes of the batch as a request carries it, about.
    fn size(&self) -> usize {
        self.bytes.len() + self.entries.len() * RECORD_OVERHEAD
    }

    /// Bytes of some of the records as a request carries them, about.
    pub(super) fn size_of(&self, range: Range<usize>) -> usize {
        let count = range.len();
        let end = |i: usize| self.entries.get(i).map_or(0, |entry| entry.value_end as usize);
        let start = range.start.checked_sub(1).map_or(0, end);
        range.end.checked_sub(1).map_or(0, end) - start + count * RECORD_OVERHEAD
    }

    fn push(&mut self, key: &[u8], value: &[u8], due: Instant) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        // A batch is far below 4 GiB: a record may be larger than the limit, but sources bound what they read.
        self.entries.push(Entry { key_end, value_end: self.bytes.len() as u32, due });
    }

    /// Key and value of some of the records; an empty key is none.
    pub(super) fn records(&self, range: Range<usize>) -> impl Iterator<Item = (Option<&[u8]>, &[u8])> {
        let mut start = match range.start {
            0 => 0,
            i => self.entries[i - 1].value_end as usize,
        };
        self.entries[range].iter().map(move |entry| {
            let (key_end, value_end) = (entry.key_end as usize, entry.value_end as usize);
            let key = (key_end > start).then(|| &self.bytes[start..key_end]);
            start = value_end;
            (key, &self.bytes[key_end..value_end])
        })
    }
}

/// How much a partition may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
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
    /// Yes, and the sender has to look: the first record starts its waiting, the one that fills a batch ends it.
    Look,
}

/// What the sender has to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this.
    Send(Batch),
    /// Look again at this time.
    At(Instant),
    /// Wait for a record.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Buffer {
    limits: Limits,
    /// Where the grid of lingering starts.
    epoch: Instant,
    open: Batch,
    ready: VecDeque<Batch>,
    /// Memory to use again for the next batch.
    spare: Option<Batch>,
    held_bytes: usize,
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
    pub(super) fn new(limits: Limits, epoch: Instant) -> Self {
        Self {
            limits,
            epoch,
            open: Batch::new(),
            ready: VecDeque::new(),
            spare: None,
            held_bytes: 0,
            pending: 0,
            batch_number: 0,
            hurry: false,
            will_look: false,
            lively: false,
        }
    }

    /// Takes a record in. `due` is when it should have been sent: latency counts from there.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8], due: Instant) -> Pushed {
        let size = key.len() + value.len() + RECORD_OVERHEAD;
        if self.held_bytes > 0 && self.held_bytes + size > self.limits.held_bytes {
            return Pushed::Full;
        }
        if !self.open.is_empty() && self.open.size() + size > self.limits.batch_bytes {
            self.rotate();
        }
        self.open.push(key, value, due);
        self.held_bytes += size;
        self.pending += 1;
        let full = self.open.size() >= self.limits.batch_bytes;
        if full {
            self.rotate();
        }
        let told = std::mem::replace(&mut self.will_look, true);
        if full || !told { Pushed::Look } else { Pushed::Kept }
    }

    fn rotate(&mut self) {
        let next = self.next_batch();
        self.ready.push_back(next);
    }

    /// Takes the open batch out and opens the next.
    fn next_batch(&mut self) -> Batch {
        let fresh = self.spare.take().unwrap_or_else(Batch::new);
        self.batch_number += 1;
        std::mem::replace(&mut self.open, fresh)
    }

    /// The next batch to send, once it is full, has lingered, or is wanted at once.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        self.will_look = true;
        if let Some(batch) = self.ready.pop_front() {
            self.lively = true;
            return Next::Send(batch);
        }
        let Some(first) = self.open.entries.first() else {
            // Checking again in vain is cheaper than being woken by the first record each time.
            self.will_look = std::mem::take(&mut self.lively);
            return if self.will_look { Next::At(self.end_of_linger(now)) } else { Next::Nothing };
        };
        let until = self.end_of_linger(first.due);
        if !self.hurry && until > now {
            return Next::At(until);
        }
        self.lively = self.open.len() > 1;
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
    pub(super) fn release(&mut self, mut batch: Batch) {
        self.held_bytes -= batch.size();
        self.pending -= batch.len();
        if self.pending == 0 {
            self.hurry = false;
        }
        batch.bytes.clear();
        batch.entries.clear();
        self.spare = Some(batch);
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
    const LIMITS: Limits = Limits { batch_bytes: 300, held_bytes: 700, linger: LINGER };

    /// An empty buffer, and the start of its grid.
    fn buffer() -> (Buffer, Instant) {
        let epoch = Instant::now();
        (Buffer::new(LIMITS, epoch), epoch)
    }

    fn send(next: Next) -> Batch {
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
        let mut buffer = Buffer::new(Limits { linger: Duration::ZERO, ..LIMITS }, t);
        buffer.push(b"", b"v", t + LINGER);
        assert_eq!(send(buffer.next(t + LINGER)).len(), 1);
    }

    #[test]
    fn batches_fill_and_the_buffer_is_bounded() {
        let (mut buffer, t) = buffer();
        let value = [b'v'; 100 - RECORD_OVERHEAD];
        let taken: Vec<Pushed> = (0..8).map(|_| buffer.push(b"", &value, t)).collect();
        use Pushed::{Full, Kept, Look};
        assert_eq!(taken, [Look, Kept, Look, Kept, Kept, Look, Kept, Full]);
        let batch = send(buffer.next(t));
        assert_eq!(batch.len(), 3);
        assert_eq!(buffer.push(b"", &value, t), Full, "held until it is released");
        buffer.release(batch);
        assert_eq!(buffer.push(b"", &value, t), Kept);
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
    fn a_batch_gives_back_its_records_whole_or_in_part() {
        let (mut buffer, t) = buffer();
        for i in 0..5u8 {
            buffer.push(&vec![i; usize::from(i)], &[i, i], t);
        }
        buffer.hurry();
        let batch = send(buffer.next(t));
        let records: Vec<_> = batch.records(0..5).collect();
        assert_eq!(records[0], (None, &[0, 0][..]));
        assert_eq!(records[3], (Some(&[3, 3, 3][..]), &[3, 3][..]));
        assert_eq!(batch.records(2..5).collect::<Vec<_>>(), records[2..]);
        assert_eq!(batch.values(1..3).collect::<Vec<_>>(), [[1, 1], [2, 2]]);
        assert_eq!(batch.size_of(0..2) + batch.size_of(2..batch.len()), batch.size());
        buffer.release(batch);
        buffer.push(b"", b"", t);
        assert_eq!(send(buffer.next(t + LINGER)).records(0..1).next(), Some((None, &[][..])));
    }
}
