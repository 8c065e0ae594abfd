//! Where one record batch ends and the next begins, and what the header of a batch says.
//!
//! ```text
//!  0 base offset (8)      12 leader epoch (4)   21 attributes (2)         43 producer id (8)
//!  8 length after it (4)  16 magic (1)          23 last offset delta (4)  51 producer epoch (2)
//!                         17 CRC-32C (4)        27 first timestamp (8)    53 first sequence (4)
//!                                               35 newest timestamp (8)   57 number of records (4), records
//! ```
//! The checksum covers everything from the attributes on, so not the base offset, which the broker sets.

use super::{BatchError, BatchErrorKind, Codec, record};
use crate::kafka::crc32c::crc32c;

/// Bytes before the records.
pub(super) const HEADER_BYTES: usize = 61;
/// The part of them that `length` does not count.
const LENGTH_END: usize = 12;
/// Where the magic byte is, in this format and in the two before it.
const MAGIC_AT: usize = 16;
/// Where the bytes that the checksum covers begin.
pub(super) const CHECKED_FROM: usize = 21;
pub(super) const MAGIC: u8 = 2;

const CODEC_MASK: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
/// The key of a control record at the end of an aborted transaction.
const ABORT: i16 = 0;

/// Where the timestamps of a batch come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer, record by record.
    CreateTime,
    /// The broker, when it appended the batch: all its records have this one timestamp.
    LogAppendTime,
}

/// What a batch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchKind {
    /// Records to be read.
    Records,
    /// Records of a transaction that was aborted: none of them is given.
    Aborted,
    /// A marker of the broker's own, such as the end of a transaction: offsets without records.
    Control,
}

/// What the header of a batch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset that its first record had when it was appended; compaction may have removed that record.
    pub base_offset: i64,
    /// Offset that its last record had then.
    pub last_offset: i64,
    /// Where the timestamps come from.
    pub timestamp_type: TimestampType,
    /// Newest timestamp of its records, milliseconds since 1970, as it was sent: not validated.
    pub max_timestamp_ms: i64,
    /// The producer's id, -1 where it has none.
    pub producer_id: i64,
    /// What the batch is for.
    pub kind: BatchKind,
    /// How the records are compressed.
    pub codec: Codec,
    /// Whether it belongs to a transaction.
    pub(super) transactional: bool,
    pub(super) first_timestamp_ms: i64,
    pub(super) record_count: u32,
}

impl BatchHeader {
    /// Where reading continues after this batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset.saturating_add(1)
    }

    /// An error that takes away all its offsets from `from` on.
    pub(super) fn error(&self, from: i64, cause: BatchErrorKind) -> BatchError {
        BatchError { base_offset: self.base_offset.max(from), last_offset: Some(self.last_offset), cause }
    }

    /// Whether this is a control batch that aborts its producer's transaction.
    pub(super) fn aborts(&self, batch: &[u8]) -> bool {
        self.kind == BatchKind::Control
            && batch.get(HEADER_BYTES..).and_then(record::control_type) == Some(ABORT)
    }

    /// Reads the header of a whole batch and checks it.
    ///
    /// # Errors
    /// A checksum that does not fit, numbers that cannot be, a codec that Kafka does not have.
    pub(super) fn read(batch: &[u8]) -> Result<Self, BatchError> {
        let fields: &[u8; HEADER_BYTES] = batch.first_chunk().ok_or_else(|| BatchError {
            base_offset: base_offset(batch),
            last_offset: None,
            cause: BatchErrorKind::Malformed("it is shorter than its header"),
        })?;
        let base_offset = i64::from_be_bytes(field(fields, 0));
        let last_offset_delta = i32::from_be_bytes(field(fields, 23));
        let last_offset = base_offset.checked_add(i64::from(last_offset_delta));
        let error = |cause| BatchError {
            base_offset,
            last_offset: last_offset.filter(|last| *last >= base_offset),
            cause,
        };

        let stored = u32::from_be_bytes(field(fields, 17));
        let computed = crc32c(batch.get(CHECKED_FROM..).unwrap_or_default());
        if stored != computed {
            return Err(error(BatchErrorKind::Checksum { stored, computed }));
        }
        let Some(last_offset) = last_offset.filter(|last| base_offset >= 0 && *last >= base_offset) else {
            return Err(error(BatchErrorKind::Malformed("its offsets are impossible")));
        };
        let attributes = i16::from_be_bytes(field(fields, 21));
        let codec = Codec::from_number(attributes & CODEC_MASK)
            .ok_or_else(|| error(BatchErrorKind::UnknownCodec((attributes & CODEC_MASK) as u8)))?;
        // Some writers give -1 for a batch without records.
        let record_count = u32::try_from(i32::from_be_bytes(field(fields, 57)).max(0)).unwrap_or(0);
        if i64::from(record_count) > i64::from(last_offset_delta) + 1 {
            return Err(error(BatchErrorKind::Malformed("it has more records than offsets")));
        }
        if codec == Codec::None && record_count == 0 && batch.len() > HEADER_BYTES {
            return Err(error(BatchErrorKind::Malformed(record::TRAILING)));
        }
        Ok(Self {
            base_offset,
            last_offset,
            timestamp_type: match attributes & LOG_APPEND_TIME {
                0 => TimestampType::CreateTime,
                _ => TimestampType::LogAppendTime,
            },
            max_timestamp_ms: i64::from_be_bytes(field(fields, 35)),
            producer_id: i64::from_be_bytes(field(fields, 43)),
            kind: if attributes & CONTROL == 0 { BatchKind::Records } else { BatchKind::Control },
            codec,
            transactional: attributes & TRANSACTIONAL != 0,
            first_timestamp_ms: i64::from_be_bytes(field(fields, 27)),
            record_count,
        })
    }
}

fn field<const N: usize>(fields: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&fields[at..at + N]);
    bytes
}

/// The offset at the front of `bytes`; 0 if they are too short for one.
fn base_offset(bytes: &[u8]) -> i64 {
    bytes.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

/// What the front of an answer's bytes is.
pub(super) enum Front {
    /// A batch of this format, of this many bytes.
    Batch(usize),
    /// Too little for a whole batch.
    Cut,
    /// Something else: the error, and how many bytes it takes, if known.
    Unreadable(BatchError, Option<usize>),
}

/// Reads the front of an answer's bytes.
pub(super) fn front(bytes: &[u8]) -> Front {
    let (Some(&magic), Some(&[a, b, c, d])) =
        (bytes.get(MAGIC_AT), bytes.get(8..).and_then(|rest| rest.first_chunk()))
    else {
        return Front::Cut;
    };
    let base_offset = base_offset(bytes);
    let size = usize::try_from(i32::from_be_bytes([a, b, c, d])).ok().map(|length| length + LENGTH_END);
    let error = |last_offset, cause| BatchError { base_offset, last_offset, cause };
    match (size, magic) {
        (None, _) => {
            Front::Unreadable(error(None, BatchErrorKind::Malformed("its length is negative")), None)
        }
        (Some(size), _) if size > bytes.len() => Front::Cut,
        (Some(size), MAGIC) => Front::Batch(size),
        // A message of the old formats is single, or its offset is that of the last one in it.
        (size, 0 | 1) => {
            Front::Unreadable(error(Some(base_offset), BatchErrorKind::OldFormat { magic }), size)
        }
        (size, _) => Front::Unreadable(error(None, BatchErrorKind::UnknownFormat { magic }), size),
    }
}
