//! Records: in, out, found by offset and by time, waited for, deleted.

use std::time::Instant;

use rskafka::client::partition::OffsetAt;

use super::*;

#[tokio::test]
async fn comes_out_as_it_went_in() {
    let broker = start().await;
    let partition = partition(&broker, 1).await;
    let mut odd = record(3);
    odd.key = None;
    odd.value = None;
    odd.headers.clear();
    let sent = [record(0), odd, Record { value: Some(Vec::new()), ..record(9) }];
    let codecs = [Compression::NoCompression, Compression::Gzip, Compression::Snappy];
    for (round, codec) in (0..).zip(codecs) {
        let given = partition.produce(sent.to_vec(), codec).await.unwrap();
        assert_eq!(given, [round * 3, round * 3 + 1, round * 3 + 2]);
        let (found, high_watermark) = fetch(&partition, round * 3).await;
        assert_eq!(high_watermark, round * 3 + 3);
        assert_eq!(offsets(&found), given);
        assert!(found.iter().map(|found| &found.record).eq(&sent), "{codec:?}");
    }
    assert_eq!([0, 1, 2].map(|p| broker.end_offset("t", p)), [Ok(0), Ok(9), Ok(0)]);
    assert_eq!(broker.requests(Api::Produce), 3);
}

#[tokio::test]
async fn a_fetch_begins_in_the_middle_of_a_batch_and_ends_at_its_limit() {
    let broker = start().await;
    let partition = partition(&broker, 0).await;
    // Numbers of three digits, so that all batches are of one size.
    for batch in 10..20 {
        produce(&partition, batch * 10..batch * 10 + 10).await;
    }
    let one_batch = (broker.stored_bytes() / 10 - partition_log::ENTRY_BYTES) as i32;
    let (found, high_watermark) = fetch(&partition, 37).await;
    assert_eq!((offsets(&found), high_watermark), ((37..100).collect(), 100));
    // A limit of less than a batch still gives one.
    let (found, _) = partition.fetch_records(37, 1..2, 0).await.unwrap();
    assert_eq!(offsets(&found), (37..40).collect::<Vec<_>>());
    let (found, _) = partition.fetch_records(37, 1..one_batch * 3 + 1, 0).await.unwrap();
    assert_eq!(offsets(&found), (37..60).collect::<Vec<_>>());
    let (found, high_watermark) = fetch(&partition, 100).await;
    assert_eq!((found.len(), high_watermark), (0, 100));
}

#[tokio::test]
async fn offsets_outside_the_log_are_out_of_range() {
    let broker = start().await;
    let partition = partition(&broker, 0).await;
    produce(&partition, 0..5).await;
    produce(&partition, 5..10).await;
    partition.delete_records(5, 1_000).await.unwrap();
    for offset in [-1, 0, 4, 11, i64::MAX] {
        assert_eq!(
            code(partition.fetch_records(offset, ANY_BYTES, 0).await),
            ProtocolError::OffsetOutOfRange
        );
    }
    assert_eq!(offsets(&fetch(&partition, 5).await.0), [5, 6, 7, 8, 9]);
    assert_eq!(code(partition.delete_records(11, 1_000).await), ProtocolError::OffsetOutOfRange);
    assert_eq!(partition.get_offset(OffsetAt::Earliest).await.unwrap(), 5);
    assert_eq!(partition.get_offset(OffsetAt::Latest).await.unwrap(), 10);

    assert_eq!(broker.truncate("t", 0, 5), Ok(5));
    assert_eq!(code(partition.fetch_records(10, ANY_BYTES, 0).await), ProtocolError::OffsetOutOfRange);
    assert_eq!(produce(&partition, 0..1).await, 5);
}

#[tokio::test]
async fn finds_the_first_record_since_a_time() {
    let broker = start().await;
    let partition = partition(&broker, 0).await;
    // Timestamps 1010..1019, then 1000..1009, then 1020..1029 compressed.
    produce(&partition, 10..20).await;
    produce(&partition, 0..10).await;
    partition.produce(records(20..30), Compression::Gzip).await.unwrap();
    for (timestamp, offset) in [(0, 0), (1_010, 0), (1_013, 3), (1_020, 20), (1_030, -1)] {
        let at = OffsetAt::Timestamp(DateTime::from_timestamp_millis(timestamp).unwrap());
        assert_eq!(partition.get_offset(at).await.unwrap(), offset, "{timestamp}");
    }
    let at = OffsetAt::Timestamp(DateTime::from_timestamp_millis(-7).unwrap());
    assert_eq!(code(partition.get_offset(at).await), ProtocolError::UnsupportedVersion);
    // Inside a compressed batch only its beginning is known: earlier, never later.
    let at = OffsetAt::Timestamp(DateTime::from_timestamp_millis(1_025).unwrap());
    assert_eq!(partition.get_offset(at).await.unwrap(), 20);
}

#[tokio::test]
async fn a_waiting_fetch_wakes_up_when_something_happens() {
    let broker = start().await;
    let waiting = partition(&broker, 0).await;
    let other = partition(&broker, 0).await;

    let begin = Instant::now();
    let (found, base) = tokio::join!(waiting.fetch_records(0, ANY_BYTES, LONG_MS), async {
        broker.wait_for_requests(Api::Fetch, 1).await;
        produce(&other, 0..2).await
    });
    let (found, high_watermark) = found.unwrap();
    assert_eq!((offsets(&found), high_watermark, base), (vec![0, 1], 2, 0));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());

    // Not by the first batch if that is too little.
    let batch = broker.stored_bytes() as i32;
    let (found, ()) = tokio::join!(waiting.fetch_records(2, batch..1_000_000, LONG_MS), async {
        broker.wait_for_requests(Api::Fetch, 2).await;
        for batch in 0..5 {
            produce(&other, batch..batch + 1).await;
        }
    });
    assert!((2..=5).contains(&found.unwrap().0.len()));

    // By the end of the offsets or of the topic.
    let end = broker.end_offset("t", 0).unwrap();
    let (found, _) = tokio::join!(waiting.fetch_records(end, ANY_BYTES, LONG_MS), async {
        broker.wait_for_requests(Api::Fetch, 3).await;
        broker.truncate("t", 0, 0)
    });
    assert_eq!(code(found), ProtocolError::OffsetOutOfRange);
    let (found, _) = tokio::join!(waiting.fetch_records(0, ANY_BYTES, LONG_MS), async {
        broker.wait_for_requests(Api::Fetch, 4).await;
        broker.delete_topic("t")
    });
    assert_eq!(code(found), ProtocolError::UnknownTopicOrPartition);
}

#[tokio::test]
async fn an_empty_fetch_waits_as_long_as_it_is_allowed_to() {
    let broker = start().await;
    let partition = partition(&broker, 0).await;
    let wait = |offset, bytes, ms| {
        let partition = &partition;
        async move {
            let begin = Instant::now();
            let (found, _) = partition.fetch_records(offset, bytes, ms).await.unwrap();
            (found.len(), begin.elapsed())
        }
    };
    let (found, took) = wait(0, ANY_BYTES, 50).await;
    assert_eq!(found, 0);
    assert!((50..10_000).contains(&took.as_millis()), "{took:?}");
    // Too few bytes in the time: what there is.
    produce(&partition, 0..1).await;
    let (found, took) = wait(0, 500_000..1_000_000, 50).await;
    assert_eq!(found, 1);
    assert!((50..10_000).contains(&took.as_millis()), "{took:?}");
    // Nothing is wanted: at once.
    let (found, took) = wait(1, 0..1_000_000, LONG_MS).await;
    assert_eq!(found, 0);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn a_waiting_fetch_ends_with_its_client() {
    let broker = start().await;
    let partition = partition(&broker, 0).await;
    let open = broker.connections_open();
    let fetch =
        tokio::time::timeout(Duration::from_millis(10), partition.fetch_records(0, ANY_BYTES, LONG_MS));
    assert!(fetch.await.is_err());
    drop(partition);
    while broker.connections_open() == open {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_batch_that_is_too_large_or_corrupt_is_refused() {
    let broker = start().await;
    let partition = partition(&broker, 0).await;
    let large = |bytes: usize| vec![Record { value: Some(vec![0; bytes]), ..record(0) }];
    // Around the value of this size stand 61 + 9 bytes of batch and record, and 3 + 4 of key and header.
    let limit = Options::default().max_message_bytes;
    let fits = partition.produce(large(limit - 100), Compression::NoCompression).await.unwrap();
    assert_eq!(fits, [0]);
    let refused = partition.produce(large(limit), Compression::NoCompression).await;
    assert_eq!(code(refused), ProtocolError::MessageTooLarge);
    assert_eq!(broker.end_offset("t", 0), Ok(1));
    // What counts is the size on the wire.
    partition.produce(large(4 * limit), Compression::Gzip).await.unwrap();
    assert_eq!(broker.end_offset("t", 0), Ok(2));
}

#[tokio::test]
async fn the_oldest_records_go_when_the_limit_is_reached() {
    let options = Options { limit_bytes: 100_000, ..Options::default() };
    let broker = Broker::start(options).await.unwrap();
    broker.create_topic("t", 2).unwrap();
    let (first, second) = (partition(&broker, 0).await, partition(&broker, 1).await);
    produce(&first, 0..100).await;
    for batch in 0..50 {
        produce(&second, batch * 100..batch * 100 + 100).await;
        assert!(broker.stored_bytes() <= 100_000);
    }
    assert_eq!([broker.log_start_offset("t", 0), broker.end_offset("t", 0)], [Ok(100), Ok(100)]);
    let start = broker.log_start_offset("t", 1).unwrap();
    assert!(start > 0 && start % 100 == 0);
    assert_eq!(second.get_offset(OffsetAt::Earliest).await.unwrap(), start);
    assert_eq!(offsets(&fetch(&second, start).await.0), (start..5_000).collect::<Vec<_>>());
    assert_eq!(code(second.fetch_records(start - 1, ANY_BYTES, 0).await), ProtocolError::OffsetOutOfRange);
    assert_eq!(fetch(&first, 100).await.1, 100);
}

#[tokio::test]
async fn batches_made_by_hand_are_served_as_they_are() {
    let broker = start().await;
    let partition = partition(&broker, 0).await;
    produce(&partition, 0..2).await;
    assert_eq!(broker.append_unchecked("t", 0, &RawBatch::compacted_away(3, 0).encode()), Ok(2));
    assert_eq!(broker.append_unchecked("t", 0, &RawBatch::commit_marker(0).encode()), Ok(5));
    produce(&partition, 2..3).await;
    // rskafka cannot read a marker; what is before and behind it, it can.
    let small = 1..2;
    assert_eq!(offsets(&partition.fetch_records(1, small.clone(), 0).await.unwrap().0), [1]);
    assert!(partition.fetch_records(2, small, 0).await.unwrap().0.is_empty());
    let marker = partition.fetch_records(5, ANY_BYTES, 0).await.unwrap_err();
    assert!(marker.to_string().contains("Unknown control batch record version"), "{marker}");
    assert_eq!(fetch(&partition, 6).await.1, 7);

    let mut corrupt = RawBatch::compacted_away(1, 0).encode();
    *corrupt.last_mut().unwrap() ^= 1;
    broker.append_unchecked("t", 0, &corrupt).unwrap();
    assert!(partition.fetch_records(7, ANY_BYTES, 0).await.is_err());
    assert_eq!(broker.append_unchecked("t", 0, &corrupt[..50]), Err(ErrorCode::CorruptMessage));
    assert_eq!(broker.append_unchecked("t", 9, &corrupt), Err(ErrorCode::UnknownTopicOrPartition));
}

#[tokio::test]
async fn many_clients_at_once_lose_nothing() {
    const CLIENTS: i64 = 12;
    const BATCHES: i64 = 30;
    let broker = start().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let partition = partition(&broker, (number % 3) as i32).await;
        tasks.spawn(async move {
            for batch in 0..BATCHES {
                produce(&partition, batch..batch + 5).await;
            }
        });
    }
    let readers = [partition(&broker, 0).await, partition(&broker, 1).await, partition(&broker, 2).await];
    for reader in readers {
        tasks.spawn(async move {
            let mut next = 0;
            while next < CLIENTS / 3 * BATCHES * 5 {
                let (found, _) = reader.fetch_records(next, ANY_BYTES, LONG_MS).await.unwrap();
                for record in found {
                    assert_eq!(record.offset, next);
                    next += 1;
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
