//! Kafka as far as the processor can tell: a log a partition, with all that can happen to one.
//!
//! Offsets count from 0 in every generation of a log; a topic that is deleted and made again begins a new one. Whoever was
//! connected before gets an error at its next call, as a broker without the partition gives one.

use std::rc::Rc;

use weather::reading::Reason;

/// What a record really is, for the ledger, which does not parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// A reading: its event time in ms since 1970, its metrics in units of 1e-6, and the number of its station.
    Reading { event_time_ms: i64, metrics: [Option<i64>; 3], station: Option<u8> },
    /// To be refused for what it is.
    Bad(Reason),
}

#[derive(Debug)]
pub struct Record {
    pub truth: Truth,
    pub value: Option<Rc<[u8]>>,
    pub appended_ms: i64,
}

/// What is at an offset.
#[derive(Debug, Clone)]
pub enum Slot {
    Record(Rc<Record>),
    /// Compacted away: what was there before.
    Gone(Rc<Record>),
    /// The end of a transaction: an offset without a record.
    Marker,
    /// A batch that nobody can read.
    Corrupt,
}

/// The records of a fetch, with their offsets.
pub type Records = Vec<(i64, Rc<Record>)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchError {
    OutOfRange,
    /// What stands first cannot be read.
    Unreadable,
}

/// One partition's log, and the logs that it replaced.
#[derive(Debug, Default)]
pub struct Log {
    generations: Vec<Vec<Slot>>,
    earliest: i64,
}

impl Log {
    fn new() -> Self {
        Self { generations: vec![Vec::new()], ..Self::default() }
    }

    pub fn generation(&self) -> i64 {
        self.generations.len() as i64 - 1
    }

    /// The id of the topic that it belongs to.
    pub fn topic_id(&self) -> [u8; 16] {
        [1 + self.generation() as u8; 16]
    }

    fn slots(&self) -> &[Slot] {
        self.generations.last().map_or(&[], Vec::as_slice)
    }

    pub fn earliest(&self) -> i64 {
        self.earliest
    }

    /// The offset after the newest record.
    pub fn latest(&self) -> i64 {
        self.slots().len() as i64
    }

    pub fn append(&mut self, slot: Slot) {
        if let Some(slots) = self.generations.last_mut() {
            slots.push(slot);
        }
    }

    /// What is, or was, at an offset of a generation.
    pub fn slot(&self, generation: i64, offset: i64) -> Option<&Slot> {
        self.generations.get(usize::try_from(generation).ok()?)?.get(usize::try_from(offset).ok()?)
    }

    /// Whether retention has taken the offset, or the whole log was replaced.
    pub fn is_deleted(&self, generation: i64, offset: i64) -> bool {
        generation < self.generation() || offset < self.earliest
    }

    /// Deletes all below an offset, as retention does.
    pub fn delete_below(&mut self, offset: i64) {
        self.earliest = self.earliest.max(offset.min(self.latest()));
    }

    /// Takes a record away and leaves its offset, as compaction does.
    pub fn compact(&mut self, offset: i64) {
        let slot = usize::try_from(offset).ok().and_then(|i| self.generations.last_mut()?.get_mut(i));
        if let Some(slot) = slot
            && let Slot::Record(record) = slot
        {
            *slot = Slot::Gone(Rc::clone(record));
        }
    }

    /// Deletes the topic and makes it again.
    pub fn recreate(&mut self) {
        self.generations.push(Vec::new());
        self.earliest = 0;
    }

    /// The records from an offset on, as many as a fetch holds, up to what cannot be read; and where the next fetch begins.
    pub fn fetch(&self, offset: i64, most: usize) -> Result<(Records, i64), FetchError> {
        if offset < self.earliest || offset > self.latest() {
            return Err(FetchError::OutOfRange);
        }
        let (mut records, mut next) = (Records::new(), offset);
        for (at, slot) in (offset..).zip(&self.slots()[offset as usize..]) {
            match slot {
                Slot::Record(record) => records.push((at, Rc::clone(record))),
                Slot::Gone(_) | Slot::Marker => {}
                Slot::Corrupt if next == offset => return Err(FetchError::Unreadable),
                Slot::Corrupt => break,
            }
            next = at + 1;
            if records.len() == most {
                break;
            }
        }
        Ok((records, next))
    }
}

#[derive(Debug)]
pub struct Kafka {
    pub logs: Vec<Log>,
    pub away: bool,
}

impl Kafka {
    pub fn new(partitions: i32) -> Self {
        Self { logs: (0..partitions).map(|_| Log::new()).collect(), away: false }
    }

    pub fn add_partition(&mut self) {
        self.logs.push(Log::new());
    }

    pub fn log(&self, partition: i32) -> &Log {
        &self.logs[partition as usize]
    }

    pub fn log_mut(&mut self, partition: i32) -> &mut Log {
        &mut self.logs[partition as usize]
    }

    pub fn partitions(&self) -> impl Iterator<Item = i32> + use<> {
        0..self.logs.len() as i32
    }
}
