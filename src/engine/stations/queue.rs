//! Readings that wait until some have come together, so that their rows are found side by side.
//!
//! With many stations, a row is far away in memory, and so are the place in the table of hashes that leads to it and its
//! name: each has to be waited for before the next can be asked for. For one reading after the other that takes longer than
//! all else; for many together, the waits are one.

use crate::reading::Reading;

/// This many wait: more than a processor can wait for at once.
pub(super) const LENGTH: usize = 32;

/// Readings in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Queue {
    readings: Vec<Waiting>,
    /// Their names, one after the other.
    names: String,
}

#[derive(Debug)]
struct Waiting {
    hash: u32,
    /// Where its name ends.
    name_to: u32,
    reading: Reading,
}

impl Queue {
    /// Adds a reading; whether the queue is full then.
    #[inline]
    pub(super) fn push(&mut self, name: &str, hash: u32, reading: &Reading) -> bool {
        self.names.push_str(name);
        // A record, and so a name, is much shorter than what 32 bits count.
        self.readings.push(Waiting { hash, name_to: self.names.len() as u32, reading: *reading });
        self.readings.len() >= LENGTH
    }

    pub(super) fn is_empty(&self) -> bool {
        self.readings.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.readings.clear();
        self.names.clear();
    }

    /// The hashes of their names.
    pub(super) fn hashes(&self) -> impl Iterator<Item = u32> {
        self.readings.iter().map(|waiting| waiting.hash)
    }

    /// Every reading with its name.
    pub(super) fn readings(&self) -> impl Iterator<Item = (&str, &Reading)> {
        let mut from = 0;
        self.readings.iter().map(move |waiting| {
            let name = from..waiting.name_to as usize;
            from = name.end;
            (&self.names[name], &waiting.reading)
        })
    }

    /// Memory that is reserved.
    pub(super) fn reserved_bytes(&self) -> usize {
        self.readings.capacity() * size_of::<Waiting>() + self.names.capacity()
    }
}
