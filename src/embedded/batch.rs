//! Record batches, format 2, seen from outside: the header is read and checked, the records stay opaque bytes.
//!
//! ```text
//!  0 base offset (8)      12 leader epoch (4)   21 attributes (2)         43 producer id (8)
//!  8 length after it (4)  16 magic (1)          23 last offset delta (4)  51 producer epoch (2)
//!                         17 CRC-32C (4)        27 first timestamp (8)    53 first sequence (4)
//!                                               35 newest timestamp (8)   57 number of records (4), records
//! ```
//! The checksum covers everything from the attributes on, so a broker may set base offset and leader epoch. Batches are
//! refused in Apache Kafka's order and with its codes. Unlike Kafka, this broker does not check single records, nor
//! timestamps far in the future.

use super::codes::ErrorCode;
use super::wire::{MalformedRequest, RequestReader};
use crate::kafka::crc32c::crc32c;

/// Bytes before the records.
pub(super) const HEADER_BYTES: usize = 61;
/// Bytes of the header that `length` does not count.
const LENGTH_END: usize = 12;
/// Where the bytes that the checksum covers begin.
const CHECKED_FROM: usize = 21;
/// The shortest batch that Kafka accepts, in any format.
const SHORTEST: i32 = 14;

const MAGIC: i8 = 2;
const CODEC_MASK: i16 = 0b111;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// What the broker needs to know about a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AppendedHeader {
    pub(super) base_offset: i64,
    /// Bytes of the whole batch.
    pub(super) size: usize,
    magic: i8,
    crc: u32,
    attributes: i16,
    /// Offset of the last record, from the base offset.
    pub(super) last_offset_delta: i32,
    first_timestamp_ms: i64,
    pub(super) max_timestamp_ms: i64,
    /// The producer's id, -1 if it is not idempotent; its epoch; the sequence number of the first record.
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) first_sequence: i32,
    record_count: i32,
}

impl AppendedHeader {
    pub(super) fn read(batch: &[u8]) -> Result<Self, MalformedRequest> {
        let mut reader = RequestReader::new(batch);
        let base_offset = reader.int64()?;
        let size = LENGTH_END + usize::try_from(reader.int32()?).map_err(|_| MalformedRequest)?;
        let _leader_epoch = reader.int32()?;
        let magic = reader.int8()?;
        let crc = reader.int32()?.cast_unsigned();
        let attributes = reader.int16()?;
        let last_offset_delta = reader.int32()?;
        let first_timestamp_ms = reader.int64()?;
        let max_timestamp_ms = reader.int64()?;
        let producer_id = reader.int64()?;
        let producer_epoch = reader.int16()?;
        Ok(Self {
            base_offset,
            size,
            magic,
            crc,
            attributes,
            last_offset_delta,
            first_timestamp_ms,
            max_timestamp_ms,
            producer_id,
            producer_epoch,
            first_sequence: reader.int32()?,
            record_count: reader.int32()?,
        })
    }
}

/// The size of the batch at the front of `records`; `None` if it is cut off.
fn first_batch(records: &[u8]) -> Result<Option<usize>, ErrorCode> {
    let Some(length) = records.get(8..).and_then(|rest| RequestReader::new(rest).int32().ok()) else {
        return Ok(None);
    };
    if length < SHORTEST {
        return Err(ErrorCode::CorruptMessage);
    }
    match records.get(16).map(|magic| magic.cast_signed()) {
        Some(0..=MAGIC) => {}
        Some(_) => return Err(ErrorCode::CorruptMessage),
        None => return Ok(None),
    }
    let size = LENGTH_END + length as usize;
    Ok((size <= records.len()).then_some(size))
}

/// Checks what a producer sent for one partition: exactly one consistent batch. Half a batch that follows is cut off.
///
/// # Errors
/// The code with which Kafka refuses it.
pub(super) fn check_produced(records: &[u8], max_bytes: usize) -> Result<(&[u8], AppendedHeader), ErrorCode> {
    let size = first_batch(records)?.ok_or(ErrorCode::InvalidRecord)?;
    let (batch, rest) = records.split_at(size);
    if batch.get(16) != Some(&MAGIC.cast_unsigned()) || first_batch(rest)?.is_some() {
        return Err(ErrorCode::InvalidRecord);
    }
    let header = AppendedHeader::read(batch).map_err(|MalformedRequest| ErrorCode::CorruptMessage)?;
    if header.attributes & TRANSACTIONAL != 0 {
        // Kafka allows this only after a transaction has been started.
        return Err(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    if header.base_offset != 0 {
        return Err(ErrorCode::InvalidRecord);
    }
    if size > max_bytes {
        return Err(ErrorCode::MessageTooLarge);
    }
    if header.crc != crc32c(batch.get(CHECKED_FROM..).unwrap_or_default()) {
        return Err(ErrorCode::CorruptMessage);
    }
    let counts_agree =
        header.record_count > 0 && i64::from(header.last_offset_delta) + 1 == i64::from(header.record_count);
    let sequence_missing = header.producer_id >= 0 && header.first_sequence < 0;
    if !counts_agree || sequence_missing || header.attributes & CONTROL != 0 {
        return Err(ErrorCode::InvalidRecord);
    }
    Ok((batch, header))
}

/// Sets the fields that belong to the broker: the base offset and the epoch of the partition's leader.
pub(super) fn place(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    if let Some(field) = batch.first_chunk_mut::<8>() {
        *field = base_offset.to_be_bytes();
    }
    if let Some(field) = batch.get_mut(LENGTH_END..LENGTH_END + 4) {
        field.copy_from_slice(&leader_epoch.to_be_bytes());
    }
}

/// Offset and timestamp (ms) of the first record at `timestamp_ms` or later and at `start_offset` or later.
///
/// A compressed batch counts as a whole, from its first record: a reader that seeks to a time gets somewhat older records,
/// never fewer.
pub(super) fn first_record_since(batch: &[u8], timestamp_ms: i64, start_offset: i64) -> Option<(i64, i64)> {
    let header = AppendedHeader::read(batch).ok().filter(|header| header.max_timestamp_ms >= timestamp_ms)?;
    if header.attributes & CODEC_MASK != 0 {
        return Some((header.base_offset.max(start_offset), header.first_timestamp_ms));
    }
    let mut reader = RequestReader::new(batch.get(HEADER_BYTES..)?);
    for _ in 0..header.record_count {
        let length = reader.varlong().ok()?;
        let mut record = reader.clone();
        reader.skip(length).ok()?;
        let _attributes = record.int8().ok()?;
        let timestamp = header.first_timestamp_ms.checked_add(record.varlong().ok()?)?;
        let offset = header.base_offset.checked_add(record.varlong().ok()?)?;
        if timestamp >= timestamp_ms && offset >= start_offset {
            return Some((offset, timestamp));
        }
    }
    None
}

/// A batch made by hand, for what an ordinary producer never sends: transaction markers, other codecs, the remains of
/// compaction. [`Broker::append_unchecked`](super::Broker::append_unchecked) puts it into a log.
#[derive(Debug, Clone)]
pub struct RawBatch {
    /// Codec in the low three bits (0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd), 16 transactional, 32 control.
    pub attributes: i16,
    /// Number of offsets in the batch, minus one.
    pub last_offset_delta: i32,
    /// Timestamp of all its records, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// How many records `records` holds.
    pub record_count: i32,
    /// The encoded records.
    pub records: Vec<u8>,
    /// Id and epoch of an idempotent producer, and the sequence number of the first record.
    pub producer: (i64, i16, i32),
}

/// Marks a batch without an idempotent producer.
pub const NO_PRODUCER: (i64, i16, i32) = (-1, -1, -1);

impl RawBatch {
    /// The marker that ends a transaction: one control record of version 0, type 1 (commit).
    pub fn commit_marker(timestamp_ms: i64) -> Self {
        // Lengths and deltas are zigzag varints: length 16, attributes, two deltas, key of 4, value of 6, no headers.
        let records = [&[32, 0, 0, 0][..], &[8, 0, 0, 0, 1], &[12, 0, 0, 0, 0, 0, 0], &[0]].concat();
        Self {
            attributes: TRANSACTIONAL | CONTROL,
            last_offset_delta: 0,
            timestamp_ms,
            record_count: 1,
            records,
            producer: NO_PRODUCER,
        }
    }

    /// What compaction leaves of a batch whose records are all superseded: offsets without records.
    pub fn compacted_away(offsets: i32, timestamp_ms: i64) -> Self {
        Self {
            attributes: 0,
            last_offset_delta: offsets - 1,
            timestamp_ms,
            record_count: 0,
            records: Vec::new(),
            producer: NO_PRODUCER,
        }
    }

    /// The bytes, with a right checksum and base offset 0.
    pub fn encode(&self) -> Vec<u8> {
        let mut checked = Vec::with_capacity(HEADER_BYTES + self.records.len());
        checked.extend_from_slice(&self.attributes.to_be_bytes());
        checked.extend_from_slice(&self.last_offset_delta.to_be_bytes());
        checked.extend_from_slice(&self.timestamp_ms.to_be_bytes());
        checked.extend_from_slice(&self.timestamp_ms.to_be_bytes());
        let (id, epoch, sequence) = self.producer;
        checked.extend_from_slice(&id.to_be_bytes());
        checked.extend_from_slice(&epoch.to_be_bytes());
        checked.extend_from_slice(&sequence.to_be_bytes());
        checked.extend_from_slice(&self.record_count.to_be_bytes());
        checked.extend_from_slice(&self.records);

        let length = CHECKED_FROM - LENGTH_END + checked.len();
        let mut batch = vec![0; 8];
        batch.extend_from_slice(&(length as u32).to_be_bytes());
        batch.extend_from_slice(&[0; 4]);
        batch.push(MAGIC.cast_unsigned());
        batch.extend_from_slice(&crc32c(&checked).to_be_bytes());
        batch.extend_from_slice(&checked);
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1_000;

    /// A record without key, value and headers.
    fn record(timestamp_delta: u8, offset_delta: u8) -> [u8; 7] {
        [12, 0, timestamp_delta * 2, offset_delta * 2, 1, 1, 0]
    }

    fn batch() -> RawBatch {
        let records = [record(0, 0), record(9, 1), record(5, 2)].concat();
        RawBatch {
            attributes: 0,
            last_offset_delta: 2,
            timestamp_ms: 1_000,
            record_count: 3,
            records,
            producer: NO_PRODUCER,
        }
    }

    fn refused(change: impl FnOnce(&mut RawBatch)) -> Option<ErrorCode> {
        let mut raw = batch();
        change(&mut raw);
        check_produced(&raw.encode(), LIMIT).map(drop).err()
    }

    #[test]
    fn a_whole_batch_passes_and_any_flipped_bit_is_noticed() {
        let good = batch().encode();
        let (_, header) = check_produced(&good, LIMIT).unwrap();
        assert_eq!((header.size, header.last_offset_delta, header.max_timestamp_ms), (good.len(), 2, 1_000));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let epoch_bit = (96..128).contains(&bit);
            assert_eq!(check_produced(&bad, LIMIT).is_ok(), epoch_bit, "bit {bit}");
        }
    }

    #[test]
    fn every_cut_is_refused() {
        let good = batch().encode();
        for end in 0..good.len() {
            assert_eq!(check_produced(&good[..end], LIMIT), Err(ErrorCode::InvalidRecord), "{end} bytes");
            let one_and_part = [&good[..], &good[..end]].concat();
            assert_eq!(check_produced(&one_and_part, LIMIT).unwrap().0, good);
        }
        assert_eq!(check_produced(&good.repeat(2), LIMIT), Err(ErrorCode::InvalidRecord));
    }

    #[test]
    fn refusals_have_kafkas_codes() {
        assert_eq!(refused(|_| {}), None);
        assert_eq!(refused(|b| b.records = vec![0; LIMIT]), Some(ErrorCode::MessageTooLarge));
        assert_eq!(refused(|b| b.record_count = 2), Some(ErrorCode::InvalidRecord));
        assert_eq!(refused(|b| b.record_count = 0), Some(ErrorCode::InvalidRecord));
        assert_eq!(refused(|b| b.last_offset_delta = i32::MAX), Some(ErrorCode::InvalidRecord));
        assert_eq!(refused(|b| b.last_offset_delta = -1), Some(ErrorCode::InvalidRecord));
        assert_eq!(refused(|b| b.attributes = CONTROL), Some(ErrorCode::InvalidRecord));
        let not_named = Some(ErrorCode::TransactionalIdAuthorizationFailed);
        assert_eq!(refused(|b| b.attributes = TRANSACTIONAL), not_named);
        for (magic, code) in [(1, ErrorCode::InvalidRecord), (3, ErrorCode::CorruptMessage)] {
            let mut bytes = batch().encode();
            bytes[16] = magic;
            assert_eq!(check_produced(&bytes, LIMIT), Err(code));
        }
    }

    #[test]
    fn placing_keeps_the_checksum() {
        let mut bytes = batch().encode();
        place(&mut bytes, 77, 3);
        let header = AppendedHeader::read(&bytes).unwrap();
        assert_eq!(header.base_offset, 77);
        assert_eq!(header.crc, crc32c(&bytes[CHECKED_FROM..]));
    }

    #[test]
    fn looks_for_a_time_record_by_record() {
        let mut raw = batch();
        // Timestamps 1000, 1009, 1005; the header names the newest.
        let mut bytes = raw.encode();
        bytes[35..43].copy_from_slice(&1_009_i64.to_be_bytes());
        place(&mut bytes, 50, 0);
        for (timestamp, start, found) in [
            (0, 0, Some((50, 1_000))),
            (1_000, 50, Some((50, 1_000))),
            (1_001, 50, Some((51, 1_009))),
            (1_009, 50, Some((51, 1_009))),
            (1_001, 52, Some((52, 1_005))),
            (1_006, 52, None),
            (1_010, 50, None),
        ] {
            assert_eq!(first_record_since(&bytes, timestamp, start), found, "{timestamp} from {start}");
        }

        raw.attributes = 1;
        let mut bytes = raw.encode();
        place(&mut bytes, 50, 0);
        assert_eq!(first_record_since(&bytes, 999, 0), Some((50, 1_000)));
        // Rubbish instead of records, and a record count far beyond them.
        raw.attributes = 0;
        raw.record_count = i32::MAX;
        raw.records = vec![0xFF; 40];
        assert_eq!(first_record_since(&raw.encode(), 1, 0), None);
    }
}
