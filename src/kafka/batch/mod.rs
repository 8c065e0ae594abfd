//! The record batches of one partition in a fetch answer, decoded where they are.
//!
//! [`Batches`] walks over the bytes, batch after batch, and a [`FetchedBatch`] over its records. Keys and values are slices of
//! these bytes; nothing is allocated for a record. A compressed batch is expanded piece by piece into an [`Expander`],
//! which a worker keeps for all its batches: its memory is bounded by the longest record that is wanted, whatever a batch
//! expands to.
//!
//! - Only format 2 (Kafka 0.11 and later) is read. A batch's length and format are looked at, then its checksum is
//!   compared ([`BatchHeader`]), and only then is anything else in it used but the offsets that an error names.
//! - A batch that is cut off ends the walk: a broker fills an answer up with half a batch. It always sends the first one
//!   whole, so if that is cut off it is an error.
//! - Offsets only grow: what is below the offset that was requested, or below a batch before, is left out (a broker sends
//!   whole batches). Records of a batch whose offsets do not grow, or leave the batch, are an error.
//! - Markers and batches of aborted transactions are given as headers without records, so that their offsets can be
//!   accounted for. So is a batch that compaction has emptied, in one step, whatever its span.
//! - Each error names the offsets that it affects. The walk can continue behind it, for callers that decide to skip them.
//! - Timestamps are given as they were sent, not validated.

mod aborted;
mod copies;
mod expand;
#[cfg(test)]
mod fuzz;
mod header;
mod inflate;
mod lz4;
mod place;
mod record;
mod sliding_window;
mod snappy;
#[cfg(test)]
mod tests;
#[cfg(feature = "zstd")]
mod zstd;

use std::fmt;

use self::aborted::Aborted;
pub use self::aborted::AbortedTransaction;
pub use self::expand::Expander;
use self::expand::Expansion;
pub use self::header::{BatchHeader, BatchKind, TimestampType};
use self::header::{Front, HEADER_BYTES};
use self::place::Place;
use self::record::RawRecord;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    fn from_number(number: i16) -> Option<Self> {
        [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd]
            .get(usize::try_from(number).ok()?)
            .copied()
    }

    /// The name that Kafka's settings give it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Offsets that could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchError {
    /// The first offset that is missing. Records of the batch before it have been given.
    pub base_offset: i64,
    /// The last offset that is missing, if the batch has a possible one.
    pub last_offset: Option<i64>,
    /// What is wrong.
    pub cause: BatchErrorKind,
}

/// Why a batch cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchErrorKind {
    /// The first batch of an answer is not whole.
    Cut,
    /// A message of the formats before Kafka 0.11.
    OldFormat {
        /// Which one: 0 or 1.
        magic: u8,
    },
    /// A format that is not known.
    UnknownFormat {
        /// The number that it gives itself.
        magic: u8,
    },
    /// The checksum shows that bytes have changed.
    Checksum {
        /// The checksum in the batch.
        stored: u32,
        /// The checksum of its bytes.
        computed: u32,
    },
    /// A codec that Kafka does not have.
    UnknownCodec(u8),
    /// A codec that this program was built without.
    CodecNotBuiltIn(Codec),
    /// Compressed bytes that are no such thing: the codec, and what is wrong.
    Compression(Codec, &'static str),
    /// Expanding the batch would take more memory than it may.
    TooLarge {
        /// Bytes that it needs at most.
        bytes: u64,
        /// Bytes that it may take.
        limit: u64,
    },
    /// Bytes that are no batch or no records although nothing has changed them: a fault of the producer.
    Malformed(&'static str),
}

impl BatchError {
    /// The last offset that it affects, of a log that was read up to `at` and ends before `end`. Nothing vouches for the
    /// offsets of a damaged batch: by themselves, they could take all that follows for lost.
    pub fn last_within(&self, at: i64, end: i64) -> i64 {
        self.last_offset.unwrap_or(at).min(end.saturating_sub(1)).max(at)
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last_offset {
            Some(last) if last == self.base_offset => write!(f, "offset {last}: ")?,
            Some(last) => write!(f, "offsets {} to {last}: ", self.base_offset)?,
            None => write!(f, "offset {} and after: ", self.base_offset)?,
        }
        self.cause.fmt(f)
    }
}

impl fmt::Display for BatchErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("the answer ends in the middle of its first batch"),
            Self::OldFormat { magic } => {
                write!(f, "a message of format {magic}; only format 2 (Kafka 0.11 and later) can be read")
            }
            Self::UnknownFormat { magic } => write!(f, "a batch of the unknown format {magic}"),
            Self::Checksum { stored, computed } => {
                write!(f, "the batch is damaged (checksum {computed:08x}, expected {stored:08x})")
            }
            Self::UnknownCodec(number) => write!(f, "a batch compressed with the unknown codec {number}"),
            Self::CodecNotBuiltIn(codec) => write!(
                f,
                "a batch compressed with {name}, which this program was built without; build it with --features {name}",
                name = codec.name()
            ),
            Self::Compression(codec, what) => write!(f, "a batch that is not valid {}: {what}", codec.name()),
            Self::TooLarge { bytes, limit } => {
                write!(f, "a batch of {bytes} bytes when decompressed, more than {limit}")
            }
            Self::Malformed(what) => write!(f, "a malformed batch: {what}"),
        }
    }
}

impl std::error::Error for BatchError {}

/// The batches of one partition in a fetch answer.
#[derive(Debug)]
pub struct Batches<'a> {
    /// What is left of the answer.
    bytes: &'a [u8],
    expander: &'a mut Expander,
    aborted: Aborted,
    max_record_bytes: usize,
    /// Nothing below this is given any more.
    next_offset: i64,
    /// Nothing has been read yet.
    first: bool,
}

/// A batch and the records in it that are still to be read.
#[derive(Debug)]
pub struct FetchedBatch<'a> {
    header: BatchHeader,
    body: RemainingRecords<'a>,
    records_left: u32,
    place: Place,
    max_record_bytes: usize,
}

/// The records of a batch that are left.
#[derive(Debug)]
enum RemainingRecords<'a> {
    Plain(&'a [u8]),
    Compressed(Expansion<'a>),
}

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp as sent, milliseconds since 1970: the broker's where the topic stamps by LogAppendTime.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Bytes of the whole value.
    pub value_bytes: usize,
    /// Bytes of the whole record. Above the limit, key and value hold what there is up to the limit.
    pub bytes: usize,
}

impl<'a> Batches<'a> {
    /// The batches in `bytes`, the records of one partition in an answer to a fetch from `fetch_offset`.
    ///
    /// `aborted` is the answer's list of aborted transactions (none when uncommitted ones were requested), in any order.
    /// A record of more than `max_record_bytes` is given as what it begins with.
    pub fn new(
        bytes: &'a [u8],
        fetch_offset: i64,
        aborted: Vec<AbortedTransaction>,
        max_record_bytes: usize,
        expander: &'a mut Expander,
    ) -> Self {
        let aborted = Aborted::new(aborted);
        Self { bytes, expander, aborted, max_record_bytes, next_offset: fetch_offset, first: true }
    }

    /// Where the next fetch continues, after the batches that were given so far or could not be.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The next batch that has offsets not yet read; `None` at the end of the answer.
    ///
    /// After an error the walk continues behind the batch; it ends if that position is unknown.
    pub fn next_batch(&mut self) -> Option<Result<FetchedBatch<'_>, BatchError>> {
        let (header, size) = loop {
            match self.next_header()? {
                Ok((header, size)) if header.last_offset < self.next_offset => self.skip(size),
                Ok(found) => break found,
                Err(error) => return Some(Err(error)),
            }
        };
        let from = std::mem::replace(&mut self.next_offset, header.next_offset());
        let bytes = self.take(size);
        let place = Place::new(&header, from);
        Some(match RemainingRecords::of(&header, bytes, self.expander) {
            Ok(body) => Ok(FetchedBatch::new(header, body, place, self.max_record_bytes)),
            Err(cause) => Err(header.error(from, cause)),
        })
    }

    /// The header at the front, and the size of its batch.
    fn next_header(&mut self) -> Option<Result<(BatchHeader, usize), BatchError>> {
        if self.bytes.is_empty() {
            return None;
        }
        let first = std::mem::take(&mut self.first);
        match header::front(self.bytes) {
            Front::Batch(size) => {
                let header = self.header(size);
                if let Err(error) = &header {
                    self.skip(size);
                    self.step_over(error);
                }
                Some(header.map(|header| (header, size)))
            }
            Front::Cut if first => {
                self.bytes = &[];
                Some(Err(BatchError {
                    base_offset: self.next_offset,
                    last_offset: None,
                    cause: BatchErrorKind::Cut,
                }))
            }
            Front::Cut => {
                self.bytes = &[];
                None
            }
            Front::Unreadable(error, size) => {
                self.skip(size.unwrap_or(self.bytes.len()));
                self.step_over(&error);
                Some(Err(error))
            }
        }
    }

    /// Reads the header of the batch at the front, and sorts the batch among transactions.
    fn header(&mut self, size: usize) -> Result<BatchHeader, BatchError> {
        let batch = self.bytes.get(..size).unwrap_or_default();
        let mut header = BatchHeader::read(batch)?;
        match header.kind {
            BatchKind::Control if header.aborts(batch) => {
                self.aborted.end(header.producer_id, header.last_offset)
            }
            BatchKind::Records
                if header.transactional && self.aborted.holds(header.producer_id, header.last_offset) =>
            {
                header.kind = BatchKind::Aborted;
            }
            _ => {}
        }
        Ok(header)
    }

    /// Counts offsets that cannot be read as read.
    fn step_over(&mut self, error: &BatchError) {
        if let Some(last) = error.last_offset {
            self.next_offset = self.next_offset.max(last.saturating_add(1));
        }
    }

    fn skip(&mut self, size: usize) {
        self.take(size);
    }

    /// Takes `size` bytes from the front.
    fn take(&mut self, size: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(size.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }
}

impl<'a> RemainingRecords<'a> {
    /// The records of a whole batch that are to be given.
    fn of(header: &BatchHeader, batch: &'a [u8], expander: &'a mut Expander) -> Result<Self, BatchErrorKind> {
        if header.kind != BatchKind::Records || header.record_count == 0 {
            Ok(Self::Plain(&[]))
        } else if header.codec == Codec::None {
            Ok(Self::Plain(batch.get(HEADER_BYTES..).unwrap_or_default()))
        } else {
            expander.begin(header, batch).map(Self::Compressed)
        }
    }
}

impl<'a> FetchedBatch<'a> {
    fn new(header: BatchHeader, body: RemainingRecords<'a>, place: Place, max_record_bytes: usize) -> Self {
        let records_left = if header.kind == BatchKind::Records { header.record_count } else { 0 };
        Self { header, body, records_left, place, max_record_bytes }
    }

    /// Its header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The next record at or above the offset that was requested; `None` after the last one.
    ///
    /// An error takes the place of all records that are left.
    #[inline]
    pub fn next_record(&mut self) -> Option<Result<Record<'_>, BatchError>> {
        while self.records_left > 0 {
            let RemainingRecords::Plain(rest) = &mut self.body else { return self.next_expanded() };
            self.records_left -= 1;
            let found = take_record(rest, self.records_left == 0, self.max_record_bytes)
                .and_then(|(raw, bytes)| self.place.record(raw, bytes));
            match found {
                Ok(Some(record)) => return Some(Ok(record)),
                Ok(None) => {}
                Err(what) => return Some(Err(self.fail(BatchErrorKind::Malformed(what)))),
            }
        }
        None
    }

    /// As `next_record`, for a compressed batch.
    fn next_expanded(&mut self) -> Option<Result<Record<'_>, BatchError>> {
        let head = loop {
            let RemainingRecords::Compressed(expansion) = &mut self.body else { return None };
            self.records_left = self.records_left.checked_sub(1)?;
            match expansion.advance(self.max_record_bytes, self.records_left == 0) {
                Ok(head) if self.place.skips(head.offset_delta) => {}
                Ok(head) => break head,
                Err(cause) => return Some(Err(self.fail(cause))),
            }
        };
        let RemainingRecords::Compressed(expansion) = &mut self.body else { return None };
        let placed =
            expansion.record().ok_or(record::MALFORMED).and_then(|raw| self.place.record(raw, head.bytes));
        match placed {
            Ok(record) => record.map(Ok),
            Err(what) => {
                self.records_left = 0;
                Some(Err(self.header.error(self.place.next_offset(), BatchErrorKind::Malformed(what))))
            }
        }
    }

    /// Drops what is left.
    #[cold]
    fn fail(&mut self, cause: BatchErrorKind) -> BatchError {
        self.records_left = 0;
        self.header.error(self.place.next_offset(), cause)
    }
}

/// Takes a record from the front of `records`, which have no more than it if it is the last one; gives its length too.
#[inline(always)]
fn take_record<'a>(
    records: &mut &'a [u8],
    is_last: bool,
    max_bytes: usize,
) -> Result<(RawRecord<'a>, usize), &'static str> {
    let (length, taken) = record::varint(records).ok_or(record::MALFORMED)?;
    let length = usize::try_from(length).map_err(|_| record::MALFORMED)?;
    let (found, rest) =
        records.get(taken..).and_then(|rest| rest.split_at_checked(length)).ok_or(record::MALFORMED)?;
    if is_last && !rest.is_empty() {
        return Err(record::TRAILING);
    }
    *records = rest;
    let raw = record::read_up_to(found, max_bytes).ok_or(record::MALFORMED)?;
    Ok((raw, length))
}
