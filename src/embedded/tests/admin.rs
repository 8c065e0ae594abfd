//! Topics, and the broker's own coming and going.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::*;

#[tokio::test]
async fn topics_are_created_listed_deleted_and_recreated() {
    let broker = Broker::start(Options::default()).await.unwrap();
    let client = client(&broker).await;
    let controller = client.controller_client().unwrap();
    controller.create_topic("t", 2, 1, 1_000).await.unwrap();
    controller.create_topic("u", -1, -1, 1_000).await.unwrap();
    let listed: Vec<_> =
        client.list_topics().await.unwrap().into_iter().map(|t| (t.name, t.partitions.len())).collect();
    assert_eq!(listed, [("t".to_owned(), 2), ("u".to_owned(), 1)]);

    let partition = client.partition_client("t", 1, UnknownTopicHandling::Error).await.unwrap();
    produce(&partition, 0..7).await;
    controller.delete_topic("t", 1_000).await.unwrap();
    assert_eq!(code(partition.fetch_records(0, ANY_BYTES, 0).await), ProtocolError::UnknownTopicOrPartition);
    assert_eq!(broker.stored_bytes(), 0);
    controller.create_topic("t", 2, 1, 1_000).await.unwrap();
    assert_eq!(fetch(&partition, 0).await.1, 0);
    assert_eq!(code(partition.fetch_records(7, ANY_BYTES, 0).await), ProtocolError::OffsetOutOfRange);

    broker.add_partitions("t", 4).unwrap();
    let listed = client.list_topics().await.unwrap();
    assert_eq!(listed[0].partitions, (0..4).collect());
}

#[tokio::test]
async fn bad_topics_are_refused_with_kafkas_codes() {
    let broker = start().await;
    let client = client(&broker).await;
    let controller = client.controller_client().unwrap();
    for (name, partitions, replicas, expected) in [
        ("t", 1, 1, ProtocolError::TopicAlreadyExists),
        ("t", 0, 9, ProtocolError::TopicAlreadyExists),
        ("new", 0, 1, ProtocolError::InvalidPartitions),
        ("new", -2, 1, ProtocolError::InvalidPartitions),
        ("new", 1, 0, ProtocolError::InvalidReplicationFactor),
        ("new", 1, 2, ProtocolError::InvalidReplicationFactor),
        ("not a name", 1, 1, ProtocolError::InvalidTopicException),
        ("new", 1_000_000, 1, ProtocolError::PolicyViolation),
    ] {
        let refused = controller.create_topic(name, partitions, replicas, 1_000).await;
        assert_eq!(code(refused), expected, "{name} {partitions} {replicas}");
    }
    assert_eq!(code(controller.delete_topic("new", 1_000).await), ProtocolError::UnknownTopicOrPartition);
    assert_eq!(client.list_topics().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_unknown_topic_is_created_only_if_an_option_says_so() {
    let unknown = UnknownTopicHandling::Error;
    let broker = start().await;
    let strict = client(&broker).await;
    let refused = strict.partition_client("new", 0, unknown).await;
    assert_eq!(code(refused), ProtocolError::UnknownTopicOrPartition);
    assert!(matches!(
        strict.partition_client("t", 3, unknown).await,
        Err(rskafka::client::error::Error::InvalidResponse(_))
    ));

    let options = Options { auto_create_partitions: Some(2), ..Options::default() };
    let broker = Broker::start(options).await.unwrap();
    let lenient = client(&broker).await;
    // As with Kafka: the request that creates it does not know it yet.
    let refused = lenient.partition_client("new", 1, unknown).await;
    assert_eq!(code(refused), ProtocolError::UnknownTopicOrPartition);
    lenient.partition_client("new", 1, unknown).await.unwrap();
    let refused = lenient.partition_client("not a name", 0, unknown).await;
    assert_eq!(code(refused), ProtocolError::InvalidTopicException);
}

#[tokio::test]
async fn a_restarted_broker_keeps_its_port_and_its_records() {
    let broker = start().await;
    let partition = partition(&broker, 0).await;
    produce(&partition, 0..3).await;
    let port = broker.address().port();
    broker.stop().await;
    assert_eq!(broker.connections_open(), 0);
    assert!(TcpStream::connect(broker.address()).await.is_err());
    broker.restart().await.unwrap();
    assert_eq!(produce(&partition, 3..4).await, 3);
    assert_eq!(fetch(&partition, 0).await.0.len(), 4);

    broker.stop().await;
    broker.restart_elsewhere().await.unwrap();
    assert_ne!(broker.address().port(), port);
    let partition = super::partition(&broker, 0).await;
    assert_eq!(fetch(&partition, 0).await.0.len(), 4);

    // Another broker on a port that was given up is another log.
    broker.stop().await;
    let port = broker.address().port();
    let other = Broker::start(Options { port, ..Options::default() }).await.unwrap();
    assert_eq!(other.end_offset("t", 0), Err(ErrorCode::UnknownTopicOrPartition));
    assert!(broker.restart().await.is_err());
}

#[tokio::test]
async fn dropping_the_broker_closes_everything() {
    let broker = start().await;
    let address = broker.address();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let partition = partition(&broker, 0).await;
    let (fetched, ()) = tokio::join!(
        tokio::time::timeout(Duration::from_millis(50), partition.fetch_records(0, ANY_BYTES, LONG_MS)),
        async move {
            broker.wait_for_requests(Api::Fetch, 1).await;
            drop(broker);
        }
    );
    assert!(!matches!(fetched, Ok(Ok(_))));
    assert_eq!(idle.read(&mut [0]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn too_many_connections_are_closed_at_once() {
    let options = Options { max_connections: 2, ..Options::default() };
    let broker = Broker::start(options).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(TcpStream::connect(broker.address()).await.unwrap());
    }
    assert_eq!(streams[2].read(&mut [0]).await.unwrap(), 0);
    assert_eq!(broker.connections_accepted(), 2);
}
