//! The decoder against rskafka's own: the same records of the same bytes, or both refuse.
//!
//! Batches of every codec that is built in, plain or with bytes changed under a right checksum, so that the damage reaches
//! codecs and records. Where the two may differ is spelt out in `may_differ`, case by case.

use std::io::Cursor;
use std::string::FromUtf8Error;

use rskafka::protocol::record::{
    ControlBatchOrRecords, Record as TheirRecord, RecordBatch, RecordBatchCompression,
    RecordBatchTimestampType, RecordHeader,
};
use rskafka::protocol::traits::{ReadError, ReadType, WriteType};

use super::header::{CHECKED_FROM, HEADER_BYTES};
use super::*;
use crate::kafka::crc32c::crc32c;

/// Offset, timestamp, key, value.
type Given = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// Numbers that look random and are the same each time (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// Bytes that compress well, badly or not at all.
    fn bytes(&mut self, longest: u64) -> Vec<u8> {
        let length = self.below(longest + 1);
        let alphabet = [2, 20, 256][self.below(3) as usize];
        (0..length).map(|_| self.below(alphabet) as u8).collect()
    }

    fn record(&mut self, offset_delta: i32, longest: u64) -> TheirRecord {
        let headers = if self.one_in(4) { self.below(3) } else { 0 };
        TheirRecord {
            timestamp_delta: self.below(1 << 40).cast_signed() - (1 << 39),
            offset_delta,
            key: (!self.one_in(3)).then(|| self.bytes(20)),
            value: (!self.one_in(9)).then(|| self.bytes(longest)),
            headers: (0..headers)
                .map(|_| RecordHeader { key: "name".to_owned(), value: self.bytes(9) })
                .collect(),
        }
    }

    fn batch(&mut self, compression: RecordBatchCompression) -> RecordBatch {
        let (count, longest) = if self.one_in(50) { (3_000, 300) } else { (self.below(9), 60) };
        let mut delta = -1;
        let records = (0..count).map(|_| {
            delta += 1 + self.below(3) as i32;
            self.record(delta, longest)
        });
        let records = ControlBatchOrRecords::Records(records.collect());
        RecordBatch {
            base_offset: self.below(1 << 40).cast_signed(),
            partition_leader_epoch: 1,
            last_offset_delta: delta.max(0) + self.below(3) as i32,
            first_timestamp: 1_700_000_000_000,
            max_timestamp: 1_700_000_000_999,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            records,
            compression,
            is_transactional: self.one_in(5),
            timestamp_type: if self.one_in(4) {
                RecordBatchTimestampType::LogAppendTime
            } else {
                RecordBatchTimestampType::CreateTime
            },
        }
    }

    /// Changes a few bytes behind the attributes; the codec and what the batch is for stay.
    fn damage(&mut self, batch: &mut [u8]) {
        for _ in 0..=self.below(3) {
            let from = if self.one_in(8) { CHECKED_FROM + 2 } else { HEADER_BYTES };
            if let Some(length) = batch.len().checked_sub(from).filter(|length| *length > 0) {
                batch[from + self.below(length as u64) as usize] ^= 1 << self.below(8);
            }
        }
        let crc = crc32c(&batch[CHECKED_FROM..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

fn ours(batch: Vec<u8>, expander: &mut Expander) -> Result<Vec<Given>, BatchError> {
    let mut batches = Batches::new(&batch, 0, Vec::new(), usize::MAX, expander);
    let mut batch = batches.next_batch().expect("the answer is not empty")?;
    let mut given = Vec::new();
    while let Some(record) = batch.next_record() {
        let record = record?;
        given.push((
            record.offset,
            record.timestamp_ms,
            record.key.map(<[u8]>::to_vec),
            record.value.map(<[u8]>::to_vec),
        ));
    }
    Ok(given)
}

fn theirs(batch: &RecordBatch) -> Vec<Given> {
    let ControlBatchOrRecords::Records(records) = &batch.records else { return Vec::new() };
    let given = records.iter().map(|record| {
        let timestamp_ms = match batch.timestamp_type {
            RecordBatchTimestampType::CreateTime => {
                batch.first_timestamp.saturating_add(record.timestamp_delta)
            }
            RecordBatchTimestampType::LogAppendTime => batch.max_timestamp,
        };
        (
            batch.base_offset + i64::from(record.offset_delta),
            timestamp_ms,
            record.key.clone(),
            record.value.clone(),
        )
    });
    given.collect()
}

/// Whether the two may differ: they refuse headers that Kafka allows and check the heads, checksums and lengths that gzip
/// and lz4 have beside the batch's, we refuse offsets that contradict themselves.
fn may_differ(ours: &Result<Vec<Given>, BatchError>, theirs: &Result<RecordBatch, ReadError>) -> bool {
    match (ours, theirs) {
        // A batch without records, by its header, is not decompressed.
        (Ok(records), Err(_)) if records.is_empty() => true,
        // A header's name that is not UTF-8, or its value that is null.
        (Ok(_), Err(ReadError::Malformed(error))) => {
            error.is::<FromUtf8Error>() || error.is::<std::num::TryFromIntError>()
        }
        (Ok(_), Err(ReadError::IO(error))) => {
            let error = error.to_string();
            ["gzip", "hecksum_invalid", "frameSize_wrong", "reservedFlag_set", "maxBlockSize"]
                .iter()
                .any(|known| error.contains(known))
        }
        // A stream that has no end behind its last record.
        (Err(BatchError { cause: BatchErrorKind::Compression(_, what), .. }), Ok(_)) => {
            ["it ends early", "it does not consist of blocks"].contains(what)
        }
        (Err(_), Ok(batch)) => {
            let ControlBatchOrRecords::Records(records) = &batch.records else { return false };
            let deltas = records.iter().map(|record| record.offset_delta);
            let grow = deltas.clone().is_sorted_by(|one, next| one < next);
            !grow
                || deltas.clone().any(|delta| !(0..=batch.last_offset_delta).contains(&delta))
                || batch.last_offset_delta < 0
        }
        _ => false,
    }
}

#[test]
fn the_same_records_or_both_refuse() {
    let codecs = [
        RecordBatchCompression::NoCompression,
        RecordBatchCompression::Gzip,
        RecordBatchCompression::Snappy,
        #[cfg(feature = "lz4")]
        RecordBatchCompression::Lz4,
        #[cfg(feature = "zstd")]
        RecordBatchCompression::Zstd,
    ];
    let mut expander = Expander::default();
    let (mut agreed, mut refused) = (0, 0);
    for seed in 0..6_000 {
        let mut random = Random(seed);
        let mut bytes = Vec::new();
        random.batch(codecs[seed as usize % codecs.len()]).write(&mut bytes).unwrap();
        if random.one_in(2) {
            random.damage(&mut bytes);
        }
        let theirs_read = RecordBatch::read(&mut Cursor::new(&bytes[..]));
        let ours_read = ours(bytes, &mut expander);
        match (&ours_read, &theirs_read) {
            (Ok(ours), Ok(batch)) => {
                assert_eq!(*ours, theirs(batch), "seed {seed}");
                agreed += 1;
            }
            (Err(_), Err(_)) => refused += 1,
            (ours, their) => assert!(may_differ(ours, their), "seed {seed}: {ours:?}\n{their:?}"),
        }
    }
    assert!(agreed > 2_000 && refused > 1_000, "{agreed} read alike, {refused} refused by both");
}

#[test]
fn rubbish_is_survived() {
    let mut expander = Expander::default();
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let mut bytes = random.bytes(300);
        if let Some(magic) = bytes.get_mut(16).filter(|_| seed % 2 == 0) {
            *magic = 2;
        }
        let mut batches = Batches::new(&bytes, 0, Vec::new(), 100, &mut expander);
        let mut steps = 0;
        while let Some(batch) = batches.next_batch() {
            steps += 1;
            assert!(steps < 100, "seed {seed} does not end");
            let Ok(mut batch) = batch else { continue };
            while batch.next_record().is_some() {}
        }
    }
}
