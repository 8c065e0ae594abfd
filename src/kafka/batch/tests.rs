//! What the decoder gives for batches as Kafka sends them: whole, in part, emptied, aborted, damaged.

use rskafka::protocol::record::{
    ControlBatchOrRecords, Record as TheirRecord, RecordBatch, RecordBatchCompression,
    RecordBatchTimestampType,
};
use rskafka::protocol::traits::WriteType;

use super::header::{CHECKED_FROM, MAGIC};
use super::*;
use crate::kafka::crc32c::crc32c;

const LIMIT: usize = 1_000;
const COMMIT: u8 = 1;
const ABORT: u8 = 0;

fn their_record(offset_delta: i32, value: &str) -> TheirRecord {
    TheirRecord {
        timestamp_delta: i64::from(offset_delta) * 10,
        offset_delta,
        key: Some(b"station".to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: Vec::new(),
    }
}

/// A batch from `base_offset` on with records at these offset deltas; the last one ends it.
fn batch(base_offset: i64, deltas: &[i32]) -> RecordBatch {
    RecordBatch {
        base_offset,
        partition_leader_epoch: 3,
        last_offset_delta: deltas.last().copied().unwrap_or(0),
        first_timestamp: 1_000,
        max_timestamp: 5_000,
        producer_id: 7,
        producer_epoch: 0,
        base_sequence: 0,
        records: ControlBatchOrRecords::Records(
            deltas
                .iter()
                .map(|delta| their_record(*delta, &format!("value {}", base_offset + i64::from(*delta))))
                .collect(),
        ),
        compression: RecordBatchCompression::NoCompression,
        is_transactional: false,
        timestamp_type: RecordBatchTimestampType::CreateTime,
    }
}

fn bytes(batches: &[RecordBatch]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for batch in batches {
        batch.write(&mut bytes).unwrap();
    }
    bytes
}

/// A batch of any kind, with a right checksum.
fn raw(
    base_offset: i64,
    attributes: i16,
    last_offset_delta: i32,
    record_count: i32,
    records: &[u8],
) -> Vec<u8> {
    let mut checked = attributes.to_be_bytes().to_vec();
    checked.extend(last_offset_delta.to_be_bytes());
    checked.extend(1_000_i64.to_be_bytes());
    checked.extend(5_000_i64.to_be_bytes());
    checked.extend(1_i64.to_be_bytes());
    checked.extend([0; 6]);
    checked.extend(record_count.to_be_bytes());
    checked.extend(records);
    let mut batch = base_offset.to_be_bytes().to_vec();
    batch.extend((checked.len() as u32 + 9).to_be_bytes());
    batch.extend([0, 0, 0, 0, MAGIC]);
    batch.extend(crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    batch
}

/// The end of producer 1's transaction.
fn marker(base_offset: i64, kind: u8) -> Vec<u8> {
    // Length 16, attributes, two deltas, key of 4 (version, type), value of 6, no headers.
    let records = [&[32, 0, 0, 0][..], &[8, 0, 0, 0, kind], &[12, 0, 0, 0, 0, 0, 0], &[0]].concat();
    raw(base_offset, 0b11_0000, 0, 1, &records)
}

/// All that an answer gives, as text: a line for each batch, record and error.
fn read(answer: Vec<u8>, from: i64, aborted: &[AbortedTransaction]) -> Vec<String> {
    let mut expander = Expander::default();
    let mut batches = Batches::new(&answer, from, aborted.to_vec(), LIMIT, &mut expander);
    let mut lines = Vec::new();
    while let Some(batch) = batches.next_batch() {
        let mut batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                lines.push(error.to_string());
                continue;
            }
        };
        let header = batch.header();
        lines.push(format!("{:?} {}-{}", header.kind, header.base_offset, header.last_offset));
        while let Some(record) = batch.next_record() {
            lines.push(match record {
                Ok(record) => {
                    let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                    format!("{} {} {value}", record.offset, record.timestamp_ms)
                }
                Err(error) => error.to_string(),
            });
        }
    }
    lines.push(format!("next {}", batches.next_offset()));
    lines
}

#[test]
fn records_from_the_wanted_offset_on() {
    let answer = bytes(&[batch(10, &[0, 1, 2]), batch(13, &[0])]);
    let all = [
        "Records 10-12",
        "10 1000 value 10",
        "11 1010 value 11",
        "12 1020 value 12",
        "Records 13-13",
        "13 1000 value 13",
        "next 14",
    ];
    assert_eq!(read(answer.clone(), 0, &[]), all);
    assert_eq!(read(answer.clone(), 10, &[]), all);
    assert_eq!(read(answer.clone(), 12, &[]), [&all[..1], &all[3..]].concat());
    assert_eq!(read(answer.clone(), 13, &[]), all[4..]);
    assert_eq!(read(answer, 14, &[]), ["next 14"]);
    assert_eq!(read(Vec::new(), 14, &[]), ["next 14"]);
}

#[test]
fn a_batch_that_is_cut_off_ends_the_answer() {
    let first = bytes(&[batch(10, &[0])]);
    let answer = bytes(&[batch(10, &[0]), batch(11, &[0, 1])]);
    let whole = ["Records 10-10", "10 1000 value 10", "next 11"];
    for end in first.len()..answer.len() {
        assert_eq!(read(answer[..end].to_vec(), 10, &[]), whole, "{end} bytes");
    }
    for end in 1..first.len() {
        let error = "offset 10 and after: the answer ends in the middle of its first batch";
        assert_eq!(read(first[..end].to_vec(), 10, &[]), [error, "next 10"], "{end} bytes");
    }
}

#[test]
fn the_broker_s_time_is_that_of_every_record() {
    let mut stamped = batch(0, &[0, 1]);
    stamped.timestamp_type = RecordBatchTimestampType::LogAppendTime;
    let lines = read(bytes(&[stamped]), 0, &[]);
    assert_eq!(lines[1..3], ["0 5000 value 0", "1 5000 value 1"]);
}

#[test]
fn any_time_of_a_record_is_only_a_number() {
    for time in [i64::MIN, -1, 0, 1_750_000_000_000_000_000, i64::MAX] {
        let mut odd = batch(0, &[0, 1]);
        (odd.first_timestamp, odd.max_timestamp) = (time, time);
        let lines = read(bytes(&[odd, batch(2, &[0])]), 0, &[]);
        let records: Vec<&str> =
            lines.iter().filter_map(|line| line.split_once(" value ")).map(|(_, n)| n).collect();
        assert_eq!(
            (records, lines.last().map(String::as_str)),
            (vec!["0", "1", "2"], Some("next 3")),
            "{time}"
        );
    }
}

#[test]
fn what_compaction_has_removed_is_passed_in_one_step() {
    let mut emptied = batch(20, &[]);
    emptied.last_offset_delta = 299_999;
    let mut thinned = batch(300_020, &[5, 9]);
    thinned.last_offset_delta = 19;
    assert_eq!(
        read(bytes(&[emptied, thinned]), 0, &[]),
        [
            "Records 20-300019",
            "Records 300020-300039",
            "300025 1050 value 300025",
            "300029 1090 value 300029",
            "next 300040"
        ]
    );
}

#[test]
fn records_of_aborted_transactions_are_left_out() {
    let of = |producer_id, is_transactional, base_offset| {
        bytes(&[RecordBatch { is_transactional, producer_id, ..batch(base_offset, &[0]) }])
    };
    let answer = [
        of(1, true, 0),
        of(2, true, 1),
        of(1, false, 2),
        marker(3, ABORT),
        of(1, true, 4),
        marker(5, COMMIT),
        of(2, true, 6),
        of(1, true, 7),
    ]
    .concat();
    let aborted = [
        AbortedTransaction { producer_id: 1, first_offset: 7 },
        AbortedTransaction { producer_id: 1, first_offset: 0 },
    ];
    let expected = [
        "Aborted 0-0",
        "Records 1-1",
        "1 1000 value 1",
        "Records 2-2",
        "2 1000 value 2",
        "Control 3-3",
        "Records 4-4",
        "4 1000 value 4",
        "Control 5-5",
        "Records 6-6",
        "6 1000 value 6",
        "Aborted 7-7",
        "next 8",
    ];
    assert_eq!(read(answer, 0, &aborted), expected);
}

#[test]
fn any_flipped_bit_is_noticed_and_can_be_stepped_over() {
    let (first, second) = (bytes(&[batch(10, &[0, 1])]), bytes(&[batch(12, &[0])]));
    for bit in CHECKED_FROM * 8..first.len() * 8 {
        let mut damaged = [first.clone(), second.clone()].concat();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let lines = read(damaged, 10, &[]);
        assert!(lines[0].contains("the batch is damaged (checksum "), "bit {bit}: {lines:?}");
        if !(23 * 8..27 * 8).contains(&bit) {
            assert_eq!(lines[1..], ["Records 12-12", "12 1000 value 12", "next 13"], "bit {bit}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let good = bytes(&[batch(10, &[0])]);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let record = [14, 0, 0, 0, 1, 2, b'v', 0];
    let of = |attributes, last_offset_delta, count, records: &[u8]| {
        raw(10, attributes, last_offset_delta, count, records)
    };
    for (answer, error) in [
        (with(16, 0), "offset 10: a message of format 0; only format 2 (Kafka 0.11 and later) can be read"),
        (with(16, 1), "offset 10: a message of format 1; only format 2 (Kafka 0.11 and later) can be read"),
        (with(16, 3), "offset 10 and after: a batch of the unknown format 3"),
        (with(8, 0xFF), "offset 10 and after: a malformed batch: its length is negative"),
        (of(5, 3, 1, &record), "offsets 10 to 13: a batch compressed with the unknown codec 5"),
        (of(0, -1, 1, &record), "offset 10 and after: a malformed batch: its offsets are impossible"),
        (of(0, 0, 2, &record.repeat(2)), "offset 10: a malformed batch: it has more records than offsets"),
        (of(0, 1, 0, &record), "offsets 10 to 11: a malformed batch: bytes follow its last record"),
    ] {
        assert_eq!(read(answer, 0, &[])[0], error);
    }
}

#[test]
fn a_malformed_record_takes_the_rest_of_its_batch() {
    let good = |delta: u8| vec![14, 0, 0, delta * 2, 1, 2, b'v', 0];
    let start = ["Records 10-13", "10 1000 v"];
    let cannot = "offsets 11 to 13: a malformed batch: a record in it cannot be read";
    let disorder =
        "offsets 11 to 13: a malformed batch: the offsets of its records do not increase, or are outside it";
    for (second, error) in [
        (vec![], cannot),
        (vec![0x80], cannot),
        (vec![0xFF; 20], cannot),
        (vec![1], cannot),
        (vec![14, 0, 0, 2, 1, 2], cannot),
        (vec![14, 0, 0, 2, 1, 4, b'v', 0], cannot),
        (vec![14, 0, 0, 2, 1, 2, b'v', 2], cannot),
        (vec![14, 0, 0, 2, 3, 2, b'v', 0], cannot),
        (vec![16, 0, 0, 2, 1, 2, b'v', 0, 0], cannot),
        (good(0), disorder),
        (good(4), disorder),
        (vec![14, 0, 0, 1, 1, 2, b'v', 0], disorder),
        ([good(1), vec![0]].concat(), "offsets 11 to 13: a malformed batch: bytes follow its last record"),
    ] {
        let answer = raw(10, 0, 3, 2, &[good(0), second].concat());
        assert_eq!(read(answer, 0, &[]), [&start[..], &[error, "next 14"]].concat());
    }
}

#[test]
fn a_record_above_the_limit_is_given_in_part() {
    let mut large = batch(0, &[0, 1]);
    large.records = ControlBatchOrRecords::Records(vec![
        TheirRecord { value: Some(vec![b'x'; 2 * LIMIT]), ..their_record(0, "") },
        their_record(1, "small"),
    ]);
    let answer = bytes(&[large]);
    let mut expander = Expander::default();
    let mut batches = Batches::new(&answer, 0, Vec::new(), LIMIT, &mut expander);
    let mut batch = batches.next_batch().unwrap().unwrap();
    let record = batch.next_record().unwrap().unwrap();
    let value = record.value.unwrap();
    assert!(record.bytes > 2 * LIMIT && value.len() < LIMIT && value.iter().all(|byte| *byte == b'x'));
    assert_eq!(batch.next_record().unwrap().unwrap().value, Some(&b"small"[..]));
    assert!(batch.next_record().is_none());
}

/// A record of 20 letters, and the same as an lz4 block: a literal, a copy of its last byte 19 times, a literal.
const LETTERS: [u8; 27] = *b"\x34\0\0\0\x01\x28xxxxxxxxxxxxxxxxxxxx\0";
const LZ4_BLOCK: [u8; 13] = *b"\x7F\x34\0\0\0\x01\x28x\x01\0\0\x10\0";

#[test]
fn lz4_frames_of_all_forms() {
    let frame =
        |flags: u8, body: &[&[u8]]| [&[0x04, 0x22, 0x4D, 0x18, flags, 0x40][..], &body.concat()].concat();
    let length = |bytes: &[u8], flag: u32| (bytes.len() as u32 | flag).to_le_bytes();
    let (block, plain) = (length(&LZ4_BLOCK, 0), length(&LETTERS, 1 << 31));
    let (front, back) = LETTERS.split_at(9);
    for stream in [
        frame(0x60, &[b"c", &block, &LZ4_BLOCK, &[0; 4]]),
        frame(0x60, &[b"c", &plain, &LETTERS, &[0; 4]]),
        frame(0x40, &[b"c", &length(front, 1 << 31), front, &length(back, 1 << 31), back, &[0; 4]]),
        // With the length of the content, and checksums of blocks and content.
        frame(0x7C, &[b"12345678c", &block, &LZ4_BLOCK, b"sum1", &[0; 4], b"sum2"]),
    ] {
        let expected = ["Records 0-0", "0 1000 xxxxxxxxxxxxxxxxxxxx", "next 1"];
        assert_eq!(read(raw(0, 3, 0, 1, &stream), 0, &[]), expected, "{stream:?}");
    }
    for (what, stream) in [
        ("it does not start with an lz4 header", vec![1, 2, 3, 4, 5]),
        ("its frame is of an unknown version or needs a dictionary", frame(0x61, &[b"c", &[0; 8]])),
        ("it ends before its last record", frame(0x60, &[b"c", &[0; 4]])),
        ("it ends early", frame(0x60, &[b"c", &block, &LZ4_BLOCK])),
        ("it ends early", frame(0x60, &[b"c", &[9, 0, 0, 0, 1]])),
        (
            "it refers back further than there are bytes",
            frame(0x60, &[b"c", &length(&[0; 4], 0), &[0, 1, 0, 0]]),
        ),
    ] {
        let lines = read(raw(0, 3, 0, 1, &stream), 0, &[]);
        assert_eq!(lines[1], format!("offset 0: a batch that is not valid lz4: {what}"), "{stream:?}");
    }
}

#[test]
fn snappy_in_java_s_frame() {
    // Two blocks: 9 bytes as a literal; 18 as a literal and a copy of its last letter.
    let (front, back) = LETTERS.split_at(9);
    let blocks: [&[u8]; 4] = [b"\x09\x20", front, b"\x12\0x\x3E\x01\0\0\0", b""];
    let frame = |version: u8, first: u8, rest: &[&[u8]]| {
        [b"\x82SNAPPY\0\0\0\0\x01\0\0\0", &[version][..], &[0, 0, 0, first], &rest.concat()].concat()
    };
    assert_eq!(back, b"xxxxxxxxxxxxxxxxx\0");
    let good = frame(1, 11, &[blocks[0], blocks[1], &[0, 0, 0, 8], blocks[2]]);
    let expected = ["Records 0-0", "0 1000 xxxxxxxxxxxxxxxxxxxx", "next 1"];
    assert_eq!(read(raw(0, 2, 0, 1, &good), 0, &[]), expected);
    for (what, stream) in [
        ("its frame is of an unknown version", frame(2, 0, &[])),
        ("it ends early", frame(1, 99, &[blocks[0], blocks[1]])),
        ("it ends early", frame(1, 5, &[blocks[0], &front[..3]])),
        ("a block is longer than it says", frame(1, 11, &[b"\x08\x20", front])),
        // A copy may not leave its block.
        ("it refers back further than there are bytes", frame(1, 4, &[b"\x09\x42\x01\0"])),
        ("the length of a block is impossible", frame(1, 6, &[&[0xFF; 6]])),
    ] {
        let lines = read(raw(0, 2, 0, 1, &stream), 0, &[]);
        assert_eq!(lines[1], format!("offset 0: a batch that is not valid snappy: {what}"), "{stream:?}");
    }
}

#[test]
fn a_compressed_record_above_the_limit_takes_no_memory() {
    let mut large = batch(0, &[0, 1]);
    large.compression = RecordBatchCompression::Gzip;
    large.records = ControlBatchOrRecords::Records(vec![
        TheirRecord { value: Some(vec![b'x'; 30 << 20]), ..their_record(0, "") },
        their_record(1, "small"),
    ]);
    let answer = bytes(&[large]);
    assert!(answer.len() < 40_000);
    let mut expander = Expander::default();
    let mut batches = Batches::new(&answer, 0, Vec::new(), LIMIT, &mut expander);
    let mut batch = batches.next_batch().unwrap().unwrap();
    let record = batch.next_record().unwrap().unwrap();
    assert!(record.bytes > 30 << 20 && record.value.unwrap().len() < LIMIT);
    assert_eq!(batch.next_record().unwrap().unwrap().value, Some(&b"small"[..]));
    assert!(batch.next_record().is_none());
    assert!(expander.bytes() < 250_000);
}

#[test]
fn what_a_damaged_batch_affects_stays_within_the_log() {
    let error = |last_offset| BatchError {
        base_offset: 90,
        last_offset,
        cause: BatchErrorKind::Checksum { stored: 1, computed: 2 },
    };
    for (last_offset, expected) in [(Some(120), 120), (Some(i64::MAX), 199), (Some(95), 100), (None, 100)] {
        assert_eq!(error(last_offset).last_within(100, 200), expected, "{last_offset:?}");
    }
    assert_eq!(error(Some(120)).last_within(100, 50), 100, "the end that was seen may be older");
}
