//! One record of a batch: varints, key and value as slices of the bytes it was found in.
//!
//! ```text
//! length, then that many bytes: attributes (1), timestamp delta, offset delta, key length, key, value length, value,
//! number of headers, headers (key length, key, value length, value)
//! ```
//! All numbers are zigzag varints; a length of -1 is null. Headers are checked for their form and not given.

/// A record as encoded, relative to its batch.
#[derive(Debug)]
pub(super) struct RawRecord<'a> {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    /// Bytes of the whole value.
    pub(super) value_bytes: usize,
}

/// What is known of a record before it is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordHead {
    pub(super) offset_delta: i32,
    /// Bytes of the whole record.
    pub(super) bytes: usize,
}

/// The error for bytes that are not a record.
pub(super) const MALFORMED: &str = "a record in it cannot be read";

/// The error for bytes after the last record.
pub(super) const TRAILING: &str = "bytes follow its last record";

/// Longest form of a varint.
pub(super) const LONGEST_VARINT: usize = 10;

/// A varint at the front of `bytes`, and how many bytes it takes; `None` if it is cut off or longer than any number.
#[inline]
pub(super) fn varint(bytes: &[u8]) -> Option<(i64, usize)> {
    // Lengths and deltas are mostly of one or two bytes.
    match *bytes {
        [first @ 0..0x80, ..] => Some((unzigzag(u64::from(first)), 1)),
        [first, second @ 0..0x80, ..] => {
            Some((unzigzag(u64::from(first & 0x7F) | u64::from(second) << 7), 2))
        }
        _ => long_varint(bytes),
    }
}

#[inline(never)]
fn long_varint(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut number = 0_u64;
    for (index, byte) in bytes.iter().take(LONGEST_VARINT).enumerate() {
        number |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((unzigzag(number), index + 1));
        }
    }
    None
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

/// Reads numbers from the front of a record.
struct VarintReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl VarintReader<'_> {
    #[inline]
    fn number(&mut self) -> Option<i64> {
        let (number, taken) = varint(self.bytes.get(self.at..)?)?;
        self.at += taken;
        Some(number)
    }

    #[inline]
    fn small_number(&mut self) -> Option<i32> {
        i32::try_from(self.number()?).ok()
    }

    /// Skips a length and the bytes it counts, and returns where they are; `Some(None)` is null.
    #[inline]
    fn bytes_at(&mut self) -> Option<Option<(usize, usize)>> {
        let length = self.small_number()?;
        if length == -1 {
            return Some(None);
        }
        let start = self.at;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        self.at = end;
        (end <= self.bytes.len()).then_some(Some((start, end)))
    }

    /// Steps over the headers, of which most records have none.
    #[inline(always)]
    fn headers(&mut self) -> Option<()> {
        match self.small_number()? {
            0 => Some(()),
            count => self.some_headers(u32::try_from(count).ok()?),
        }
    }

    #[inline(never)]
    fn some_headers(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            // A header has a key always, a value perhaps.
            self.bytes_at()??;
            self.bytes_at()?;
        }
        Some(())
    }
}

/// Reads a record, given without its length; if it is longer than `max_bytes`, only that much of it.
#[inline(always)]
pub(super) fn read_up_to(bytes: &[u8], max_bytes: usize) -> Option<RawRecord<'_>> {
    if bytes.len() > max_bytes { read_cut(&bytes[..max_bytes]) } else { read(bytes) }
}

/// Reads a whole record.
#[inline(always)]
pub(super) fn read(bytes: &[u8]) -> Option<RawRecord<'_>> {
    let mut fields = VarintReader { bytes, at: 1 };
    let timestamp_delta = fields.number()?;
    let offset_delta = fields.small_number()?;
    let key = fields.bytes_at()?;
    let value = fields.bytes_at()?;
    fields.headers()?;
    if fields.at != bytes.len() {
        return None;
    }
    let value_bytes = value.map_or(0, |(start, end)| end - start);
    Some(parts(bytes, timestamp_delta, offset_delta, key, value, value_bytes))
}

/// The offset of a record, from its batch's base offset.
pub(super) fn offset_delta(bytes: &[u8]) -> Option<i32> {
    let mut fields = VarintReader { bytes, at: 1 };
    let _timestamp_delta = fields.number()?;
    fields.small_number()
}

/// Reads a record of which only the beginning is there: what is missing of key and value is left off.
pub(super) fn read_cut(bytes: &[u8]) -> Option<RawRecord<'_>> {
    let end = bytes.len();
    let mut fields = VarintReader { bytes, at: 1 };
    let timestamp_delta = fields.number()?;
    let offset_delta = fields.small_number()?;
    let mut part = || {
        let length = fields.small_number().unwrap_or(0);
        let start = fields.at.min(end);
        let length = usize::try_from(length).ok()?;
        let there = length.min(end - start);
        fields.at = start + there;
        Some(((start, start + there), length))
    };
    let (key, value) = (part(), part());
    let value_bytes = value.map_or(0, |(_, length)| length);
    let (key, value) = (key.map(|(place, _)| place), value.map(|(place, _)| place));
    Some(parts(bytes, timestamp_delta, offset_delta, key, value, value_bytes))
}

/// The type of the first control record in `bytes`: the second number of its key, after the version.
pub(super) fn control_type(bytes: &[u8]) -> Option<i16> {
    let mut fields = VarintReader { bytes, at: 0 };
    let _length = fields.number()?;
    fields.at += 1;
    let (_timestamp_delta, _offset_delta) = (fields.number()?, fields.number()?);
    let (start, end) = fields.bytes_at()??;
    let number = bytes.get(start..end)?.get(2..4)?.first_chunk()?;
    Some(i16::from_be_bytes(*number))
}

#[inline]
fn parts(
    bytes: &[u8],
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<(usize, usize)>,
    value: Option<(usize, usize)>,
    value_bytes: usize,
) -> RawRecord<'_> {
    let slice = |(start, end)| bytes.get(start..end);
    RawRecord {
        timestamp_delta,
        offset_delta,
        key: key.and_then(slice),
        value: value.and_then(slice),
        value_bytes,
    }
}
