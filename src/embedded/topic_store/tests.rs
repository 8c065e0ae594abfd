//! What the store keeps, drops and refuses.

use super::super::batch::RawBatch;
use super::*;

fn append(store: &TopicStore, partition: i32, bytes: usize) -> Appended {
    let mut raw = RawBatch::compacted_away(1, 0);
    raw.records = vec![0; bytes];
    let bytes = raw.encode();
    let header = AppendedHeader::read(&bytes).unwrap();
    store.append("t", partition, Arc::from(bytes), header).unwrap()
}

fn store(limit_bytes: usize) -> TopicStore {
    let store = TopicStore::new(limit_bytes);
    store.create_topic("t", 3, false).unwrap();
    store
}

#[test]
fn the_oldest_batch_goes_wherever_it_is() {
    let store = store(3_000);
    append(&store, 0, 700);
    append(&store, 1, 700);
    append(&store, 0, 700);
    assert_eq!([0, 1].map(|p| store.bounds("t", p)), [Ok((0, 2)), Ok((0, 1))]);
    // Needs the room of partition 0's first and partition 1's only batch.
    append(&store, 2, 1_600);
    assert_eq!([0, 1, 2].map(|p| store.bounds("t", p)), [Ok((1, 2)), Ok((1, 1)), Ok((0, 1))]);
    assert!(store.bytes() <= 3_000);
    // Larger than the limit: it alone stays.
    append(&store, 1, 5_000);
    assert_eq!([0, 1, 2].map(|p| store.bounds("t", p)), [Ok((2, 2)), Ok((1, 2)), Ok((1, 1))]);
}

#[test]
fn bytes_are_counted_through_every_way_of_leaving() {
    let store = store(usize::MAX);
    for partition in [0, 1, 2, 2, 2] {
        append(&store, partition, 100);
    }
    let one = store.bytes() / 5;
    assert_eq!(store.truncate("t", 2, 2), Ok(2));
    assert_eq!(store.bytes(), 4 * one);
    assert_eq!(store.delete_before("t", 2, 1), Ok(1));
    assert_eq!(store.delete_before("t", 2, -1), Ok(2));
    assert_eq!(store.delete_before("t", 2, 3), Err(ErrorCode::OffsetOutOfRange));
    assert_eq!(store.delete_before("t", 2, -2), Err(ErrorCode::OffsetOutOfRange));
    assert_eq!(store.bytes(), 2 * one);
    store.delete_topic("t").unwrap();
    assert_eq!(store.bytes(), 0);
    assert_eq!(store.bounds("t", 0), Err(ErrorCode::UnknownTopicOrPartition));
}

#[test]
fn tiny_batches_cannot_go_past_the_limit() {
    let store = store(1 << 20);
    for _ in 0..50_000 {
        append(&store, 0, 0);
    }
    let (start, end) = store.bounds("t", 0).unwrap();
    assert!(store.bytes() <= 1 << 20);
    // Each batch is counted with what it takes beyond its 61 bytes.
    assert!(((1 << 20) / 200..(1 << 20) / 150).contains(&(end - start)), "{}", end - start);
}

#[test]
fn topics_are_bounded_and_named_as_kafka_does() {
    let store = TopicStore::new(1_000);
    let create = |name: &str, partitions| store.create_topic(name, partitions, false);
    for name in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
        assert_eq!(create(name, 1), Err(ErrorCode::InvalidTopic), "{name}");
    }
    assert_eq!(create(&"x".repeat(249), 1), Ok(()));
    assert_eq!(create("a", 0), Err(ErrorCode::InvalidPartitions));
    assert_eq!(create("a", i32::MAX), Err(ErrorCode::PolicyViolation));
    assert_eq!(store.create_topic("a", 1, true), Ok(()));
    assert_eq!(create("a", 2), Ok(()));
    assert_eq!(create("a", 2), Err(ErrorCode::TopicAlreadyExists));
    assert_eq!(store.add_partitions("a", 2), Err(ErrorCode::InvalidPartitions));
    assert_eq!(store.add_partitions("a", i32::MAX), Err(ErrorCode::PolicyViolation));
    assert_eq!(store.add_partitions("b", 2), Err(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(store.add_partitions("a", 5), Ok(()));
    assert_eq!(store.topic("a").unwrap().leader_epochs, [0; 5]);
    assert_eq!(store.topics().len(), 2);
}
