//! The bodies of the requests, in any version.

use weather::embedded::RawBatch;

use crate::conformance::form::Body;

/// One record of an idempotent producer.
pub fn batch(producer: i64, epoch: i16, sequence: i32, time_ms: i64) -> Vec<u8> {
    let records = vec![12, 0, 0, 0, 1, 1, 0];
    let raw = RawBatch {
        attributes: 0,
        last_offset_delta: 0,
        timestamp_ms: time_ms,
        record_count: 1,
        records,
        producer: (producer, epoch, sequence),
    };
    raw.encode()
}

pub fn produce(body: &mut Body, topic: &str, batch: &[u8]) {
    body.null_text();
    body.put((-1_i16).to_be_bytes());
    body.put(10_000_i32.to_be_bytes());
    body.length(1);
    body.text(topic);
    body.length(1);
    body.put([0; 4]);
    body.length(batch.len());
    body.bytes.extend(batch);
}

/// A fetch of one partition: offset, the leader's epoch, and the epoch that was read last.
pub fn fetch(body: &mut Body, topic: &str, id: [u8; 16], partition: i32, from: (i64, i32, i32)) {
    body.put((-1_i32).to_be_bytes());
    body.put([0; 4]);
    body.put(1_i32.to_be_bytes());
    body.put(1_000_000_i32.to_be_bytes());
    body.put([1]);
    body.since(7, [0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    body.length(1);
    if body.version >= 13 {
        body.put(id)
    } else {
        body.text(topic)
    }
    body.length(1);
    body.put(partition.to_be_bytes());
    body.since(9, from.1.to_be_bytes());
    body.put(from.0.to_be_bytes());
    body.since(12, from.2.to_be_bytes());
    body.since(5, (-1_i64).to_be_bytes());
    body.put(1_000_000_i32.to_be_bytes());
    body.tags();
    body.tags();
    if body.version >= 7 {
        body.length(0);
    }
    if body.version >= 11 {
        body.text("");
    }
    body.tags();
}

pub fn list_offsets(body: &mut Body, topic: &str, partition: i32, epoch: i32, time: i64) {
    body.put((-1_i32).to_be_bytes());
    body.put([1]);
    body.length(1);
    body.text(topic);
    body.length(1);
    body.put(partition.to_be_bytes());
    body.since(4, epoch.to_be_bytes());
    body.put(time.to_be_bytes());
    body.tags();
    body.tags();
    body.tags();
}

pub fn metadata(body: &mut Body, topics: &[&str]) {
    body.length(topics.len());
    for topic in topics {
        body.since(10, [0; 16]);
        body.text(topic);
        body.tags();
    }
    body.put([0]);
    if (8..=10).contains(&body.version) {
        body.put([0]);
    }
    body.since(8, [0]);
    body.tags();
}

pub fn commit(body: &mut Body, group: &str, member: (i32, &str), topic: &str, offset: (i32, i64)) {
    body.text(group);
    body.put(member.0.to_be_bytes());
    body.text(member.1);
    if body.version <= 4 {
        body.put((-1_i64).to_be_bytes());
    }
    if body.version >= 7 {
        body.null_text();
    }
    body.length(1);
    body.text(topic);
    body.length(1);
    body.put(offset.0.to_be_bytes());
    body.put(offset.1.to_be_bytes());
    body.since(6, (-1_i32).to_be_bytes());
    body.text("");
}

pub fn create(body: &mut Body, topic: &str, partitions: i32, only_check: bool) {
    body.length(1);
    body.text(topic);
    body.put(partitions.to_be_bytes());
    body.put(1_i16.to_be_bytes());
    body.length(0);
    body.length(0);
    body.tags();
    body.put(10_000_i32.to_be_bytes());
    body.put([only_check.into()]);
    body.tags();
}
