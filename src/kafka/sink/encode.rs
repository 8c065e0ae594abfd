//! Records into the form that they have in a request and in the log: a record batch of format 2.
//!
//! Without compression it is written in one pass. With it, rskafka's own form of a batch is filled and written, as its
//! codecs cannot be had alone.

use std::ops::Range;

use rskafka::protocol::record::{
    ControlBatchOrRecords, Record, RecordBatch, RecordBatchCompression, RecordBatchTimestampType,
};
use rskafka::protocol::traits::WriteType;

use super::buffer::Batch;
use crate::config::Compression;
use crate::kafka::crc32c::crc32c;
use crate::kafka::error::{ErrorKind, KafkaError};
use crate::kafka::message::produce::ProducerId;

/// The fields before the records.
const HEADER_BYTES: usize = 61;
/// The checksum covers what is behind it.
const CHECKSUM_END: usize = 21;
/// Bytes of the longest number in a record.
const LONGEST_VARINT: usize = 5;

/// The producer of a batch, and its sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    /// The producer's id; -1 for none.
    pub(super) producer_id: i64,
    /// Its epoch.
    pub(super) epoch: i16,
    /// The sequence number of the first record.
    pub(super) sequence: i32,
}

impl Number {
    /// Of a broker that knows no batch again.
    pub(super) const NONE: Self = Self { producer_id: -1, epoch: -1, sequence: -1 };

    /// Whether this producer gave it.
    pub(super) fn is_of(self, producer: ProducerId) -> bool {
        (self.producer_id, self.epoch) == (producer.id, producer.epoch)
    }
}

/// The batch of some records, all stamped with this time, ms since 1970.
pub(super) fn encode(
    batch: &Batch,
    range: Range<usize>,
    number: Number,
    timestamp_ms: i64,
    compression: Compression,
) -> Result<Vec<u8>, KafkaError> {
    match compression {
        Compression::None => Ok(plain(batch, range, number, timestamp_ms)),
        Compression::Gzip => compressed(batch, range, number, timestamp_ms, RecordBatchCompression::Gzip),
        Compression::Snappy => compressed(batch, range, number, timestamp_ms, RecordBatchCompression::Snappy),
    }
}

fn plain(batch: &Batch, range: Range<usize>, number: Number, timestamp_ms: i64) -> Vec<u8> {
    let count = range.len();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + batch.size_of(range.clone()));
    bytes.resize(HEADER_BYTES, 0);
    // A batch is far below 2 GiB, and so is the number of its records.
    for (offset_delta, (key, value)) in (0_i32..).zip(batch.records(range)) {
        push_record(&mut bytes, offset_delta, key, value);
    }
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    let length = i32::try_from(bytes.len() - 12).unwrap_or(i32::MAX);
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(8, &length.to_be_bytes());
    // The leader's epoch is the broker's to set.
    put(12, &(-1_i32).to_be_bytes());
    put(16, &[2]);
    put(23, &(count - 1).to_be_bytes());
    put(27, &timestamp_ms.to_be_bytes());
    put(35, &timestamp_ms.to_be_bytes());
    put(43, &number.producer_id.to_be_bytes());
    put(51, &number.epoch.to_be_bytes());
    put(53, &number.sequence.to_be_bytes());
    put(57, &count.to_be_bytes());
    let checksum = crc32c(&bytes[CHECKSUM_END..]);
    bytes[CHECKSUM_END - 4..CHECKSUM_END].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// A record without headers, stamped as the batch is.
fn push_record(bytes: &mut Vec<u8>, offset_delta: i32, key: Option<&[u8]>, value: &[u8]) {
    let length_of =
        |part: Option<&[u8]>| part.map_or(-1, |part| i32::try_from(part.len()).unwrap_or(i32::MAX));
    let (key_length, value_length) = (length_of(key), length_of(Some(value)));
    let numbers = varint_bytes(offset_delta) + varint_bytes(key_length) + varint_bytes(value_length);
    // Attributes, timestamp delta and number of headers take a byte each.
    let length = 3 + numbers + key.map_or(0, <[u8]>::len) + value.len();
    push_varint(bytes, i32::try_from(length).unwrap_or(i32::MAX));
    bytes.extend_from_slice(&[0, 0]);
    push_varint(bytes, offset_delta);
    push_varint(bytes, key_length);
    bytes.extend_from_slice(key.unwrap_or_default());
    push_varint(bytes, value_length);
    bytes.extend_from_slice(value);
    bytes.push(0);
}

fn zigzag(number: i32) -> u32 {
    ((number << 1) ^ (number >> 31)).cast_unsigned()
}

fn varint_bytes(number: i32) -> usize {
    let bits = u32::BITS - zigzag(number).leading_zeros();
    (bits.div_ceil(7)).max(1) as usize
}

fn push_varint(bytes: &mut Vec<u8>, number: i32) {
    let mut rest = zigzag(number);
    let mut form = [0; LONGEST_VARINT];
    let mut length = 0;
    while rest >= 0x80 {
        form[length] = rest as u8 | 0x80;
        rest >>= 7;
        length += 1;
    }
    form[length] = rest as u8;
    bytes.extend_from_slice(&form[..=length]);
}

fn compressed(
    batch: &Batch,
    range: Range<usize>,
    number: Number,
    timestamp_ms: i64,
    compression: RecordBatchCompression,
) -> Result<Vec<u8>, KafkaError> {
    let last_offset_delta = i32::try_from(range.len()).unwrap_or(i32::MAX) - 1;
    let records = (0_i32..).zip(batch.records(range)).map(|(offset_delta, (key, value))| Record {
        timestamp_delta: 0,
        offset_delta,
        key: key.map(<[u8]>::to_vec),
        value: Some(value.to_vec()),
        headers: Vec::new(),
    });
    let batch = RecordBatch {
        base_offset: 0,
        partition_leader_epoch: -1,
        last_offset_delta,
        first_timestamp: timestamp_ms,
        max_timestamp: timestamp_ms,
        producer_id: number.producer_id,
        producer_epoch: number.epoch,
        base_sequence: number.sequence,
        records: ControlBatchOrRecords::Records(records.collect()),
        compression,
        is_transactional: false,
        timestamp_type: RecordBatchTimestampType::CreateTime,
    };
    let mut bytes = Vec::new();
    let failed = |error| KafkaError::new(ErrorKind::Fatal, format!("compressing a batch: {error}"));
    batch.write(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Instant;

    use rskafka::protocol::traits::ReadType;

    use super::*;
    use crate::kafka::sink::buffer::{Buffer, Limits, Next};

    const NUMBER: Number = Number { producer_id: 7, epoch: 1, sequence: 40 };

    fn batch(records: usize) -> Batch {
        let now = Instant::now();
        let limits = Limits { batch_bytes: 1 << 24, held_bytes: 1 << 25, linger: std::time::Duration::ZERO };
        let mut buffer = Buffer::new(limits, now);
        for i in 0..records {
            let key = if i % 3 == 0 { Vec::new() } else { i.to_string().into_bytes() };
            buffer.push(&key, &vec![b'v'; i * 7 % 300], now);
        }
        buffer.hurry();
        match buffer.next(now) {
            Next::Send(batch) => batch,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_form_is_what_rskafka_reads() {
        let all = batch(500);
        for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
            for range in [0..500, 3..4, 200..499] {
                let bytes = encode(&all, range.clone(), NUMBER, 1_748_736_000_000, compression).unwrap();
                let read = RecordBatch::read(&mut Cursor::new(bytes)).unwrap();
                assert_eq!((read.producer_id, read.producer_epoch, read.base_sequence), (7, 1, 40));
                assert_eq!(read.last_offset_delta as usize, range.len() - 1);
                assert_eq!(
                    (read.first_timestamp, read.max_timestamp),
                    (1_748_736_000_000, 1_748_736_000_000)
                );
                let ControlBatchOrRecords::Records(records) = read.records else { panic!("no records") };
                let expected: Vec<_> = all.records(range).collect();
                assert_eq!(records.len(), expected.len());
                for (record, (key, value)) in records.iter().zip(expected) {
                    assert_eq!((record.key.as_deref(), record.value.as_deref()), (key, Some(value)));
                }
            }
        }
    }

    #[test]
    fn a_varint_takes_the_bytes_that_are_reckoned_for_it() {
        for number in [0, -1, 1, 63, 64, -64, -65, 8191, 8192, i32::MAX, i32::MIN] {
            let mut bytes = Vec::new();
            push_varint(&mut bytes, number);
            assert_eq!(bytes.len(), varint_bytes(number), "{number}");
        }
    }
}
