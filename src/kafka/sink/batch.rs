//! The records of a batch, each already in the form that it has in a request and in the log.
//!
//! A record is copied once, into this form, when it is taken in. What a request needs besides, the batch's header, is of
//! a fixed size and made when the batch is sent. Where a key and a value are is remembered, so that a batch can be
//! divided, compressed or shown.
//!
//! ```text
//! length, attributes (1), timestamp delta (0), offset delta, key length, key, value length, value, number of headers (0)
//! ```
//! All numbers but the attributes are zigzag varints; the key length -1 is no key.

use std::time::Instant;

/// Bytes of the longest number in a record.
const LONGEST_VARINT: usize = 5;
/// What is remembered of a record beside its form, at most.
const BOOKKEEPING: usize = size_of::<RecordSpan>() + size_of::<(Instant, u32)>();

/// Records of one partition, in order.
#[derive(Debug, Default)]
pub struct UnsentBatch {
    records: Vec<u8>,
    entries: Vec<RecordSpan>,
    /// When records were due, and how many in a row were due then: at full speed that is hundreds.
    due: Vec<(Instant, u32)>,
}

/// Where the parts of a record are. A batch is far below 4 GiB: a record may be larger than the limit, but sources bound
/// what they read.
#[derive(Debug, Clone, Copy)]
struct RecordSpan {
    /// 0 is no key. It ends where the length of the value starts.
    key_bytes: u32,
    value_start: u32,
    /// Behind the value comes the number of headers.
    value_end: u32,
}

impl UnsentBatch {
    /// How many records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The values, in order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.entries.iter().map(|entry| self.value(entry))
    }

    fn value(&self, entry: &RecordSpan) -> &[u8] {
        &self.records[entry.value_start as usize..entry.value_end as usize]
    }

    /// Key and value of each record; an empty key is none.
    pub(super) fn records(&self) -> impl Iterator<Item = (Option<&[u8]>, &[u8])> {
        self.entries.iter().map(|entry| {
            let value = self.value(entry);
            let key_end = entry.value_start as usize - varint_bytes(length(value.len()));
            let key = &self.records[key_end - entry.key_bytes as usize..key_end];
            ((!key.is_empty()).then_some(key), value)
        })
    }

    /// The records as a request carries them.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.records
    }

    /// When the records were due, and how many in a row were due then. Empty only if there are no records.
    pub(super) fn due(&self) -> &[(Instant, u32)] {
        &self.due
    }

    /// Bytes of memory that it holds, but for what its blocks have to spare.
    pub(super) fn held_bytes(&self) -> usize {
        self.records.len() + self.entries.len() * BOOKKEEPING
    }

    /// An empty one with room for as much as this one has.
    pub(super) fn another(&self) -> Self {
        Self {
            records: Vec::with_capacity(self.records.len()),
            entries: Vec::with_capacity(self.entries.len()),
            due: Vec::with_capacity(self.due.len()),
        }
    }

    /// Appends a record that was due at this time; an empty key is none.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8], due: Instant) {
        let key_length = if key.is_empty() { -1 } else { length(key.len()) };
        let (offset_delta, value_length) = (length(self.entries.len()), length(value.len()));
        let numbers = varint_bytes(offset_delta) + varint_bytes(key_length) + varint_bytes(value_length);
        // Attributes, timestamp delta and number of headers take a byte each.
        let mut head = Head::default();
        head.varint(length(3 + numbers + key.len() + value.len()));
        head.skip_zeros(2);
        head.varint(offset_delta);
        head.varint(key_length);
        head.append_to(&mut self.records);
        self.records.extend_from_slice(key);
        let mut head = Head::default();
        head.varint(value_length);
        head.append_to(&mut self.records);
        let value_start = self.records.len() as u32;
        self.records.extend_from_slice(value);
        let value_end = self.records.len() as u32;
        self.records.push(0);
        self.entries.push(RecordSpan { key_bytes: key.len() as u32, value_start, value_end });
        match self.due.last_mut() {
            Some((last, count)) if *last == due => *count += 1,
            _ => self.due.push((due, 1)),
        }
    }

    /// The first half of the records and the rest, each a batch of its own.
    pub(super) fn halves(&self) -> [Self; 2] {
        let mut halves = [Self::default(), Self::default()];
        let due = self.due.iter().flat_map(|(due, count)| std::iter::repeat_n(*due, *count as usize));
        for (index, ((key, value), due)) in self.records().zip(due).enumerate() {
            let half = usize::from(index >= self.len() / 2);
            halves[half].push(key.unwrap_or_default(), value, due);
        }
        halves
    }

    /// Empties it; its memory stays.
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.entries.clear();
        self.due.clear();
    }
}

/// Bytes that a record takes at most, in memory and in a request.
pub(super) fn most_bytes(key: &[u8], value: &[u8]) -> usize {
    const NUMBERS: usize = 3 + 4 * LONGEST_VARINT;
    key.len() + value.len() + NUMBERS + BOOKKEEPING
}

/// A length or a number of records, which are far below 2 GiB.
fn length(of: usize) -> i32 {
    i32::try_from(of).unwrap_or(i32::MAX)
}

fn zigzag(number: i32) -> u32 {
    ((number << 1) ^ (number >> 31)).cast_unsigned()
}

fn varint_bytes(number: i32) -> usize {
    let bits = u32::BITS - zigzag(number).leading_zeros();
    (bits.div_ceil(7)).max(1) as usize
}

/// Numbers in a row, appended at once.
#[derive(Default)]
struct Head {
    /// The longest is three numbers and two bytes.
    bytes: [u8; 3 * LONGEST_VARINT + 2],
    length: usize,
}

impl Head {
    fn varint(&mut self, number: i32) {
        let mut rest = zigzag(number);
        while rest >= 0x80 {
            self.bytes[self.length] = rest as u8 | 0x80;
            rest >>= 7;
            self.length += 1;
        }
        self.bytes[self.length] = rest as u8;
        self.length += 1;
    }

    fn skip_zeros(&mut self, count: usize) {
        self.length += count;
    }

    /// All of it, whose size is known, and what is too much goes again: quicker than a copy of some length.
    fn append_to(&self, records: &mut Vec<u8>) {
        let end = records.len() + self.length;
        records.extend_from_slice(&self.bytes);
        records.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn records_come_back_whole_and_in_halves() {
        let due = Instant::now();
        let mut batch = UnsentBatch::default();
        let mut expected = Vec::new();
        // Lengths around the limits of a varint's bytes.
        for (i, bytes) in (0_u64..).zip([0, 1, 63, 64, 65, 8191, 8192, 300, 0]) {
            let (key, value) = (vec![b'k'; bytes / 3], vec![b'v'; bytes]);
            assert!(most_bytes(&key, &value) < 100 + key.len() + value.len());
            let before = batch.held_bytes();
            batch.push(&key, &value, due + Duration::from_millis(i / 3));
            assert!(batch.held_bytes() - before <= most_bytes(&key, &value));
            expected.push(((!key.is_empty()).then_some(key), value));
        }
        let records = |batch: &UnsentBatch| -> Vec<_> {
            batch.records().map(|(key, value)| (key.map(<[u8]>::to_vec), value.to_vec())).collect()
        };
        assert_eq!(records(&batch), expected);
        let ms = |ms| due + Duration::from_millis(ms);
        assert_eq!(batch.due(), [(ms(0), 3), (ms(1), 3), (ms(2), 3)]);
        let [first, rest] = batch.halves();
        assert_eq!((records(&first), records(&rest)), (expected[..4].to_vec(), expected[4..].to_vec()));
        assert_eq!((first.due(), rest.due()), (&[(ms(0), 3), (ms(1), 1)][..], &[(ms(1), 2), (ms(2), 3)][..]));
        batch.clear();
        assert!(batch.is_empty() && batch.held_bytes() == 0 && batch.due().is_empty());
    }

    #[test]
    fn a_varint_takes_the_bytes_that_are_reckoned_for_it() {
        for number in [0, -1, 1, 63, 64, -64, -65, 8191, 8192, i32::MAX, i32::MIN] {
            let mut head = Head::default();
            head.varint(number);
            assert_eq!(head.length, varint_bytes(number), "{number}");
        }
    }
}
