//! Batches into the form that they have in a request and in the log: a record batch of format 2.
//!
//! Without compression only the header is made here: the records have their form already. With it, rskafka's own form of
//! a batch is filled and written, as its codecs cannot be had alone.

use std::sync::Arc;

use rskafka::protocol::record::{
    ControlBatchOrRecords, Record, RecordBatch, RecordBatchCompression, RecordBatchTimestampType,
};
use rskafka::protocol::traits::WriteType;

use super::batch::UnsentBatch;
use crate::config::Compression;
use crate::kafka::crc32c;
use crate::kafka::error::{ErrorKind, KafkaError};
use crate::kafka::message::produce::ProducerId;

/// The fields before the records.
const HEADER_BYTES: usize = 61;
/// What the length of a batch does not count: its base offset and the length itself.
const LENGTH_END: usize = 12;
/// The checksum covers what is behind it.
const CHECKSUM_END: usize = 21;

/// The producer of a batch, and its sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchSequence {
    /// The producer's id; -1 for none.
    pub(super) producer_id: i64,
    /// Its epoch.
    pub(super) epoch: i16,
    /// The sequence number of the first record.
    pub(super) sequence: i32,
}

impl BatchSequence {
    /// Of a broker that knows no batch again.
    pub(super) const NONE: Self = Self { producer_id: -1, epoch: -1, sequence: -1 };

    /// Whether this producer gave it.
    pub(super) fn is_of(self, producer: ProducerId) -> bool {
        (self.producer_id, self.epoch) == (producer.id, producer.epoch)
    }
}

/// A batch as it goes into the log.
#[derive(Debug)]
pub(super) enum Encoded {
    /// A header, and the records of the batch itself.
    Plain([u8; HEADER_BYTES], Arc<UnsentBatch>),
    /// All of it.
    Compressed(Vec<u8>),
}

impl Encoded {
    /// Its bytes, in two parts.
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        match self {
            Self::Plain(header, batch) => [header, batch.bytes()],
            Self::Compressed(bytes) => [bytes, &[]],
        }
    }
}

/// Encodes a batch whose records are all stamped with this time, ms since 1970.
pub(super) fn encode(
    batch: &Arc<UnsentBatch>,
    number: BatchSequence,
    timestamp_ms: i64,
    compression: Compression,
) -> Result<Encoded, KafkaError> {
    let codec = match compression {
        Compression::None => {
            return Ok(Encoded::Plain(header(batch, number, timestamp_ms), Arc::clone(batch)));
        }
        Compression::Gzip => RecordBatchCompression::Gzip,
        Compression::Snappy => RecordBatchCompression::Snappy,
    };
    compressed(batch, number, timestamp_ms, codec).map(Encoded::Compressed)
}

fn header(batch: &UnsentBatch, number: BatchSequence, timestamp_ms: i64) -> [u8; HEADER_BYTES] {
    // A batch is far below 2 GiB, and so is the number of its records.
    let count = i32::try_from(batch.len()).unwrap_or(i32::MAX);
    let length = i32::try_from(HEADER_BYTES - LENGTH_END + batch.bytes().len()).unwrap_or(i32::MAX);
    let mut header = [0; HEADER_BYTES];
    let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
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
    let checksum = crc32c::continued(crc32c::crc32c(&header[CHECKSUM_END..]), batch.bytes());
    header[CHECKSUM_END - 4..CHECKSUM_END].copy_from_slice(&checksum.to_be_bytes());
    header
}

fn compressed(
    batch: &UnsentBatch,
    number: BatchSequence,
    timestamp_ms: i64,
    compression: RecordBatchCompression,
) -> Result<Vec<u8>, KafkaError> {
    let last_offset_delta = i32::try_from(batch.len()).unwrap_or(i32::MAX) - 1;
    let records = (0_i32..).zip(batch.records()).map(|(offset_delta, (key, value))| Record {
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

    const NUMBER: BatchSequence = BatchSequence { producer_id: 7, epoch: 1, sequence: 40 };
    const STAMP_MS: i64 = 1_748_736_000_000;

    fn batch(records: usize) -> Arc<UnsentBatch> {
        let now = Instant::now();
        let mut batch = UnsentBatch::default();
        for i in 0..records {
            let key = if i % 3 == 0 { Vec::new() } else { i.to_string().into_bytes() };
            batch.push(&key, &vec![b'v'; i * 7 % 300], now);
        }
        Arc::new(batch)
    }

    #[test]
    fn every_form_is_what_rskafka_reads() {
        for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
            for records in [1, 2, 299, 500] {
                let batch = batch(records);
                let encoded = encode(&batch, NUMBER, STAMP_MS, compression).unwrap();
                let read = RecordBatch::read(&mut Cursor::new(encoded.parts().concat())).unwrap();
                assert_eq!((read.producer_id, read.producer_epoch, read.base_sequence), (7, 1, 40));
                assert_eq!(read.last_offset_delta as usize, records - 1);
                assert_eq!((read.first_timestamp, read.max_timestamp), (STAMP_MS, STAMP_MS));
                let ControlBatchOrRecords::Records(read) = read.records else { panic!("no records") };
                assert_eq!(read.len(), records);
                for ((index, record), (key, value)) in read.iter().enumerate().zip(batch.records()) {
                    assert_eq!((record.key.as_deref(), record.value.as_deref()), (key, Some(value)));
                    assert_eq!((record.offset_delta as usize, record.timestamp_delta), (index, 0));
                }
            }
        }
    }
}
