//! Each fault, as rskafka meets it.

use std::time::Instant;

use rskafka::client::partition::OffsetAt;

use super::*;

/// The fault hits the first produce of three records; rskafka's answer, produces seen, and records stored.
async fn produce_under(fault: Fault) -> (Result<Vec<i64>, Error>, u64, i64) {
    let broker = start().await;
    let partition = partition(&broker, 0).await;
    broker.faults().arm(FaultRule::next(Api::Produce, fault));
    let result = partition.produce(records(0..3), Compression::NoCompression).await;
    assert_eq!(broker.faults().armed(), 0);
    (result, broker.requests(Api::Produce), broker.end_offset("t", 0).unwrap())
}

#[tokio::test]
async fn a_cut_before_loses_and_a_cut_after_doubles() {
    let (result, requests, stored) = produce_under(Fault::CutBefore).await;
    assert_eq!((result.unwrap(), requests, stored), (vec![0, 1, 2], 2, 3));
    // Stored, the answer lost, sent again.
    let (result, requests, stored) = produce_under(Fault::CutAfter).await;
    assert_eq!((result.unwrap(), requests, stored), (vec![3, 4, 5], 2, 6));
}

#[tokio::test]
async fn codes_that_rskafka_retries_and_codes_that_it_gives_back() {
    for error in
        [ErrorCode::NotLeaderOrFollower, ErrorCode::LeaderNotAvailable, ErrorCode::OffsetNotAvailable]
    {
        let (result, requests, stored) = produce_under(Fault::Error(error)).await;
        assert_eq!((result.unwrap(), requests, stored), (vec![0, 1, 2], 2, 3));
    }
    for (error, expected) in [
        (ErrorCode::RequestTimedOut, ProtocolError::RequestTimedOut),
        (ErrorCode::NotEnoughReplicas, ProtocolError::NotEnoughReplicas),
        (ErrorCode::StorageError, ProtocolError::KafkaStorageError),
        (ErrorCode::TopicAuthorizationFailed, ProtocolError::TopicAuthorizationFailed),
    ] {
        let (result, requests, stored) = produce_under(Fault::Error(error)).await;
        assert_eq!((code(result), requests, stored), (expected, 1, 0));
    }
    // Said to have failed, and stored all the same.
    for (error, expected) in [
        (ErrorCode::RequestTimedOut, ProtocolError::RequestTimedOut),
        (ErrorCode::NotEnoughReplicasAfterAppend, ProtocolError::NotEnoughReplicasAfterAppend),
    ] {
        let (result, requests, stored) = produce_under(Fault::ErrorAfter(error)).await;
        assert_eq!((code(result), requests, stored), (expected, 1, 3));
    }
}

#[tokio::test]
async fn a_throttled_success_is_sent_again() {
    let (result, requests, stored) = produce_under(Fault::Throttle(1)).await;
    assert_eq!((result.unwrap(), requests, stored), (vec![3, 4, 5], 2, 6));
}

#[tokio::test]
async fn a_stall_never_answers() {
    for (fault, stored) in [(Fault::StallBefore, 0), (Fault::StallAfter, 3)] {
        let broker = start().await;
        let partition = partition(&broker, 0).await;
        broker.faults().arm(FaultRule::next(Api::Produce, fault));
        let produce = partition.produce(records(0..3), Compression::NoCompression);
        abandon(produce, &broker, Api::Produce, 1).await;
        assert_eq!(broker.end_offset("t", 0), Ok(stored));
        // The connection is dead for good, the broker is not.
        let fetch = partition.fetch_records(0, ANY_BYTES, 0);
        assert!(tokio::time::timeout(Duration::from_millis(30), fetch).await.is_err());
        broker.drop_connections().await;
        assert_eq!(partition.get_offset(OffsetAt::Latest).await.unwrap(), stored);
    }
}

#[tokio::test]
async fn a_delay_delays() {
    let broker = start().await;
    let partition = partition(&broker, 0).await;
    broker.faults().arm(FaultRule::next(Api::ListOffsets, Fault::Delay(Duration::from_millis(30))));
    let begin = Instant::now();
    assert_eq!(partition.get_offset(OffsetAt::Latest).await.unwrap(), 0);
    assert!(begin.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn every_kind_of_request_can_be_refused() {
    let broker = start().await;
    let client = client(&broker).await;
    let controller = client.controller_client().unwrap();
    let partition = partition(&broker, 0).await;
    let arm = |api, error| broker.faults().arm(FaultRule::next(api, Fault::Error(error)));

    arm(Api::Fetch, ErrorCode::OffsetOutOfRange);
    assert_eq!(code(partition.fetch_records(0, ANY_BYTES, LONG_MS).await), ProtocolError::OffsetOutOfRange);
    arm(Api::ListOffsets, ErrorCode::StorageError);
    assert_eq!(code(partition.get_offset(OffsetAt::Latest).await), ProtocolError::KafkaStorageError);
    arm(Api::DeleteRecords, ErrorCode::RequestTimedOut);
    assert_eq!(code(partition.delete_records(0, 1_000).await), ProtocolError::RequestTimedOut);
    arm(Api::CreateTopics, ErrorCode::RequestTimedOut);
    assert_eq!(code(controller.create_topic("u", 1, 1, 1_000).await), ProtocolError::RequestTimedOut);
    arm(Api::CreateTopics, ErrorCode::NotController);
    controller.create_topic("u", 1, 1, 1_000).await.unwrap();
    arm(Api::DeleteTopics, ErrorCode::TopicAuthorizationFailed);
    assert_eq!(code(controller.delete_topic("u", 1_000).await), ProtocolError::TopicAuthorizationFailed);
    // The client knows all topics already, so its one request is that to the leader itself.
    arm(Api::Metadata, ErrorCode::TopicAuthorizationFailed);
    let refused = client.partition_client("t", 0, UnknownTopicHandling::Error).await;
    assert_eq!(code(refused), ProtocolError::TopicAuthorizationFailed);
    arm(Api::Metadata, ErrorCode::LeaderNotAvailable);
    client.partition_client("t", 0, UnknownTopicHandling::Error).await.unwrap();
    arm(Api::ApiVersions, ErrorCode::UnsupportedVersion);
    // Asks again with an older version.
    client.partition_client("t", 0, UnknownTopicHandling::Error).await.unwrap();
    assert_eq!(broker.faults().armed(), 0);
}

#[tokio::test]
async fn rules_choose_their_requests() {
    let broker = start().await;
    let (first, second) = (partition(&broker, 0).await, partition(&broker, 1).await);
    let timed_out = Fault::Error(ErrorCode::RequestTimedOut);
    broker.faults().arm(FaultRule::next(Api::Produce, timed_out).partition(1).skip(1).times(2));
    for _ in 0..5 {
        produce(&first, 0..1).await;
    }
    let mut outcomes = Vec::new();
    for _ in 0..5 {
        outcomes.push(second.produce(records(0..1), Compression::NoCompression).await.is_ok());
    }
    assert_eq!(outcomes, [true, false, false, true, true]);

    // The first rule that matches hits; a fetch matches none.
    broker.faults().arm(FaultRule::next(Api::Produce, Fault::Error(ErrorCode::StorageError)));
    broker.faults().arm(FaultRule::next(Api::Produce, timed_out).always());
    fetch(&first, 0).await;
    let produce = async || code(first.produce(records(0..1), Compression::NoCompression).await);
    assert_eq!(produce().await, ProtocolError::KafkaStorageError);
    for _ in 0..3 {
        assert_eq!(produce().await, ProtocolError::RequestTimedOut);
    }
    assert_eq!(broker.faults().armed(), 1);
    broker.faults().clear();
    assert_eq!(broker.faults().armed(), 0);
    first.produce(records(0..1), Compression::NoCompression).await.unwrap();
}

#[tokio::test]
async fn dropped_connections_are_opened_again() {
    let broker = start().await;
    let partition = partition(&broker, 0).await;
    let before = broker.connections_accepted();
    let (found, ()) = tokio::join!(partition.fetch_records(0, ANY_BYTES, LONG_MS), async {
        broker.wait_for_requests(Api::Fetch, 1).await;
        broker.drop_connections().await;
        assert_eq!(broker.connections_open(), 0);
        let again =
            client(&broker).await.partition_client("t", 0, UnknownTopicHandling::Error).await.unwrap();
        produce(&again, 0..1).await;
    });
    assert_eq!(found.unwrap().0.len(), 1);
    assert!(broker.connections_accepted() > before);
}

#[tokio::test]
async fn a_paused_broker_is_silent_until_it_goes_on() {
    let broker = start().await;
    broker.pause_accepting().await;
    let connecting = client(&broker);
    tokio::pin!(connecting);
    assert!(tokio::time::timeout(Duration::from_millis(30), &mut connecting).await.is_err());
    assert_eq!(broker.connections_accepted(), 0);
    broker.resume_accepting().await;
    assert_eq!(connecting.await.list_topics().await.unwrap().len(), 1);
}
