//! zstd, by rskafka's reader (which builds C: feature `zstd`).
//!
//! It expands a batch whole, with a `Vec` for each key and value, and cannot be told when to stop. So what that may take is
//! worked out before, from the heads of the blocks alone: they say how much each becomes, or 128 KiB at most.

use std::io::Cursor;
use std::vec::IntoIter;

use rskafka::protocol::record::{ControlBatchOrRecords, Record, RecordBatch};
use rskafka::protocol::traits::ReadType;

use super::header::HEADER_BYTES;
use super::record::{self, RawRecord, RecordHead};
use super::{BatchErrorKind, BatchHeader, Codec};

/// Memory that a batch may take, bytes.
const LIMIT: u64 = 64 << 20;
const FRAME: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// Most that a block becomes.
const BLOCK: u64 = 128 << 10;

/// The records of a batch, all of them.
#[derive(Debug)]
pub(super) struct Whole {
    records: IntoIter<Record>,
    /// The one that was given last.
    current: Option<Record>,
}

impl Whole {
    /// Expands a batch, header and all.
    pub(super) fn expand(header: &BatchHeader, batch: &[u8]) -> Result<Self, BatchErrorKind> {
        let expanded = bound(batch.get(HEADER_BYTES..).unwrap_or_default())
            .ok_or(BatchErrorKind::Compression(Codec::Zstd, "it does not consist of blocks"))?;
        let bytes = expanded + u64::from(header.record_count) * size_of::<Record>() as u64;
        if bytes > LIMIT {
            return Err(BatchErrorKind::TooLarge { bytes, limit: LIMIT });
        }
        match RecordBatch::read(&mut Cursor::new(batch)).map(|batch| batch.records) {
            Ok(ControlBatchOrRecords::Records(records)) => {
                Ok(Self { records: records.into_iter(), current: None })
            }
            _ => Err(BatchErrorKind::Compression(
                Codec::Zstd,
                "it does not decompress to the records that it should have",
            )),
        }
    }

    /// Moves to the next record.
    pub(super) fn advance(&mut self) -> Result<RecordHead, BatchErrorKind> {
        self.current = self.records.next();
        let record = self.current.as_ref().ok_or(BatchErrorKind::Malformed(record::MALFORMED))?;
        let bytes = [&record.key, &record.value].into_iter().flatten().map(Vec::len).sum();
        Ok(RecordHead { offset_delta: record.offset_delta, bytes })
    }

    /// The record that it moved to.
    pub(super) fn record(&self) -> Option<RawRecord<'_>> {
        let record = self.current.as_ref()?;
        Some(RawRecord {
            timestamp_delta: record.timestamp_delta,
            offset_delta: record.offset_delta,
            key: record.key.as_deref(),
            value_bytes: record.value.as_ref().map_or(0, Vec::len),
            value: record.value.as_deref(),
        })
    }
}

/// What a frame takes to be expanded, at most: its window and its content.
fn bound(input: &[u8]) -> Option<u64> {
    let rest = input.strip_prefix(&FRAME)?;
    let (&descriptor, rest) = rest.split_first()?;
    let single_segment = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content = match descriptor >> 6 {
        0 => usize::from(single_segment),
        size => 1 << size,
    };
    let window = if single_segment { 0 } else { window(*rest.first()?) };
    let mut blocks = rest.get(usize::from(!single_segment) + dictionary + content..)?;
    let mut total = window;
    loop {
        let [a, b, c] = *blocks.first_chunk()?;
        let head = u32::from_le_bytes([a, b, c, 0]);
        let size = head >> 3;
        let (taken, becomes) = match head >> 1 & 3 {
            0 => (size, u64::from(size)),
            1 => (1, u64::from(size)),
            2 => (size, BLOCK),
            _ => return None,
        };
        total += becomes;
        blocks = blocks.get(3 + taken as usize..)?;
        if head & 1 == 1 {
            return Some(total);
        }
    }
}

/// How far back a frame may refer: a power of two and eighths of it.
fn window(descriptor: u8) -> u64 {
    let base = 1_u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}
