//! Bare frames: what a client other than rskafka could send, or anything else that found the port.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::api::ParsedRequest;
use super::super::wire::RequestReader;
use super::*;

/// A frame without its length field: key, version and correlation id, an empty client id, the body.
fn request(api: Api, version: i16, correlation_id: i32, body: &[&[u8]]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(api.key().to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(correlation_id.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(body.concat());
    frame
}

/// A fetch of one partition of topic `t`.
fn fetch_request(correlation_id: i32, partition: i32, max_wait_ms: i32) -> Vec<u8> {
    let partition = partition.to_be_bytes();
    let max_wait = max_wait_ms.to_be_bytes();
    let body = [
        &[0xFF; 4][..],
        &max_wait,
        &[0, 0, 0, 1],
        &[0, 15, 0, 0],
        &[0],
        &[0, 0, 0, 1],
        &[0, 1, b't'],
        &[0, 0, 0, 1],
        &partition,
        &[0; 8],
        &[0, 15, 0, 0],
    ];
    request(Api::Fetch, 4, correlation_id, &body)
}

async fn send(stream: &mut TcpStream, frame: &[u8]) {
    stream.write_i32(frame.len() as i32).await.unwrap();
    stream.write_all(frame).await.unwrap();
}

/// The next answer, or `None` when the connection is closed.
async fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = stream.read_i32().await.ok()?;
    let mut frame = vec![0; length as usize];
    stream.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

async fn correlation_id(stream: &mut TcpStream) -> Option<i32> {
    receive(stream).await.map(|frame| RequestReader::new(&frame).int32().unwrap())
}

#[tokio::test]
async fn requests_sent_at_once_are_answered_in_order() {
    let broker = start().await;
    let mut stream = TcpStream::connect(broker.address()).await.unwrap();
    // The first waits for data; those behind it wait for the first.
    send(&mut stream, &fetch_request(7, 0, LONG_MS)).await;
    for id in 8..40 {
        send(&mut stream, &request(Api::Metadata, 4, id, &[&[0xFF; 4], &[0]])).await;
    }
    let early = tokio::time::timeout(Duration::from_millis(20), stream.read_u8()).await;
    assert!(early.is_err());
    broker.append_unchecked("t", 0, &RawBatch::compacted_away(1, 0).encode()).unwrap();
    for id in 7..40 {
        assert_eq!(correlation_id(&mut stream).await, Some(id));
    }
}

#[tokio::test]
async fn an_unknown_version_of_the_version_request_is_answered_in_version_0() {
    let broker = start().await;
    let mut stream = TcpStream::connect(broker.address()).await.unwrap();
    send(&mut stream, &request(Api::ApiVersions, 99, 5, &[&[1, 2, 3]])).await;
    // Id, code 35, one api: number 18, versions 0 to 3.
    let expected = [0, 0, 0, 5, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 3];
    assert_eq!(receive(&mut stream).await.unwrap(), expected);
    for version in 0..3 {
        send(&mut stream, &request(Api::ApiVersions, version, 6, &[])).await;
        let frame = receive(&mut stream).await.unwrap();
        assert_eq!(frame.len(), 4 + 2 + 4 + 12 * 6 + if version > 0 { 4 } else { 0 });
    }
}

#[tokio::test]
async fn what_makes_no_sense_closes_the_connection() {
    let broker = start().await;
    let mut trailing = fetch_request(1, 0, 0);
    trailing.push(0);
    let cut = &fetch_request(1, 0, 0)[..40];
    let silent_produce = request(Api::Produce, 7, 1, &[&[0xFF, 0xFF], &[0, 0], &[0; 4], &[0; 4]]);
    let unknown_api = [&99_i16.to_be_bytes()[..], &[0; 8]].concat();
    let frames: [&[u8]; 8] = [
        &trailing,
        cut,
        &silent_produce,
        &unknown_api,
        &request(Api::Fetch, 3, 1, &[]),
        &request(Api::Fetch, 14, 1, &[]),
        b"GET / HTTP/1.1\r\n\r\n",
        b"",
    ];
    for frame in frames {
        let mut stream = TcpStream::connect(broker.address()).await.unwrap();
        send(&mut stream, frame).await;
        assert_eq!(receive(&mut stream).await, None, "{frame:?}");
    }
    // Lengths: negative, far too large, and too large for a request without batches.
    let fetch = [&(2_i32 << 20).to_be_bytes()[..], &Api::Fetch.key().to_be_bytes()].concat();
    let produce = [&i32::MAX.to_be_bytes()[..], &Api::Produce.key().to_be_bytes()].concat();
    for bytes in [&[0xFF; 8][..], &produce, &fetch] {
        let mut stream = TcpStream::connect(broker.address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    }
    assert_eq!(client(&broker).await.list_topics().await.unwrap().len(), 1);
}

#[tokio::test]
async fn several_partitions_in_one_fetch() {
    let broker = start().await;
    let batch = RawBatch::compacted_away(1, 0).encode();
    for partition in [0, 2, 2] {
        broker.append_unchecked("t", partition, &batch).unwrap();
    }
    let one =
        |partition: u8, max_bytes: u8| [&[0, 0, 0, partition][..], &[0; 8], &[0, 0, 0, max_bytes]].concat();
    let body = |max_bytes: u8, partitions: &[Vec<u8>]| {
        let head = [&[0xFF; 4][..], &[0; 4], &[0, 0, 0, 1], &[0, 0, 0, max_bytes], &[0]].concat();
        let count = [0, 0, 0, partitions.len() as u8];
        let topic = [&[0, 0, 0, 1][..], &[0, 1, b't'], &count].concat();
        [head, topic, partitions.concat()].concat()
    };
    let mut stream = TcpStream::connect(broker.address()).await.unwrap();
    // Bytes of records by partition and code, under limits for all and for each.
    for (max_bytes, each, expected) in [
        (255, 255, [(0, 61), (0, 0), (0, 122), (3, 0)]),
        (255, 61, [(0, 61), (0, 0), (0, 61), (3, 0)]),
        (122, 255, [(0, 61), (0, 0), (0, 61), (3, 0)]),
        (1, 1, [(0, 61), (0, 0), (0, 0), (3, 0)]),
    ] {
        let wanted: Vec<_> = [0, 1, 2, 3].map(|partition| one(partition, each)).into();
        send(&mut stream, &request(Api::Fetch, 4, 1, &[&body(max_bytes, &wanted)])).await;
        let frame = receive(&mut stream).await.unwrap();
        let mut reader = RequestReader::new(&frame[4 + 4 + 4 + 3 + 4..]);
        for (partition, (code, bytes)) in (0..).zip(expected) {
            assert_eq!((reader.int32(), reader.int16()), (Ok(partition), Ok(code)));
            reader.skip(8 + 8 + 4).unwrap();
            assert_eq!(reader.nullable_bytes().unwrap().unwrap().len(), bytes, "{partition} of {max_bytes}");
        }
    }
}

/// Forwards connections to a broker and keeps the frames that the clients sent.
async fn record_frames(listener: TcpListener, broker: SocketAddr, frames: Arc<Mutex<Vec<Vec<u8>>>>) {
    while let Ok((client, _)) = listener.accept().await {
        let frames = Arc::clone(&frames);
        tokio::spawn(async move {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_broker, mut to_broker) = TcpStream::connect(broker).await.unwrap().into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_broker, &mut to_client).await });
            while let Ok(length) = from_client.read_i32().await {
                let mut frame = vec![0; length as usize];
                from_client.read_exact(&mut frame).await.unwrap();
                to_broker.write_i32(length).await.unwrap();
                to_broker.write_all(&frame).await.unwrap();
                frames.lock().unwrap().push(frame);
            }
        });
    }
}

/// One frame of each kind, as rskafka writes them.
async fn rskafka_frames() -> Vec<Vec<u8>> {
    use rskafka::client::partition::OffsetAt;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let broker = Broker::start(Options { advertised: Some(proxy), ..Options::default() }).await.unwrap();
    let frames = Arc::default();
    tokio::spawn(record_frames(listener, broker.address(), Arc::clone(&frames)));

    let client = client_at(proxy).await;
    let controller = client.controller_client().unwrap();
    controller.create_topic("t", 1, 1, 1_000).await.unwrap();
    let partition = client.partition_client("t", 0, UnknownTopicHandling::Error).await.unwrap();
    produce(&partition, 0..3).await;
    fetch(&partition, 0).await;
    partition.get_offset(OffsetAt::Latest).await.unwrap();
    partition.delete_records(1, 1_000).await.unwrap();
    controller.delete_topic("t", 1_000).await.unwrap();
    std::mem::take(&mut *frames.lock().unwrap())
}

/// Frames of the kinds and versions that rskafka's client does not make.
fn other_frames() -> Vec<Vec<u8>> {
    let topic = [&[0, 0, 0, 1][..], &[0, 1, b't'], &[0, 0, 0, 1], &[0, 0, 0, 2]].concat();
    let group = [0, 1, b'g'];
    let commit = [&group[..], &[0xFF; 4], &[0, 0], &[0xFF; 2], &topic, &[0; 8], &[0xFF; 4], &[0; 2]].concat();
    // Flexible: tagged fields of the header, then the body with a tagged field that is not known.
    let metadata = [&[0, 2][..], &[0; 16], &[2, b't', 0], &[0, 0, 0]].concat();
    let fetch = |name: &[u8]| {
        let head =
            [&[0][..], &[0xFF; 4], &[0; 4], &[0, 0, 0, 1], &[0, 1, 0, 0], &[1], &[0; 4], &[0xFF; 4]].concat();
        let partition =
            [&[0, 0, 0, 1][..], &[0; 4], &[0; 8], &[0xFF; 4], &[0xFF; 8], &[0, 1, 0, 0], &[0]].concat();
        [&head[..], &[2], name, &[2], &partition, &[0], &[1], &[1], &[1, 9, 2, 7, 7]].concat()
    };
    let list = [&[0][..], &[0xFF; 4], &[1], &[2], &[2, b't'], &[2], &[0; 4], &[0xFF; 4], &[0xFF; 8], &[0; 3]]
        .concat();
    vec![
        request(Api::InitProducerId, 1, 1, &[&[0xFF; 2], &[0; 4]]),
        request(Api::FindCoordinator, 2, 2, &[&group, &[0]]),
        request(Api::OffsetCommit, 7, 3, &[&commit]),
        request(Api::OffsetFetch, 5, 4, &[&group, &topic]),
        request(Api::Metadata, 12, 5, &[&metadata]),
        request(Api::Fetch, 12, 6, &[&fetch(&[2, b't'])]),
        request(Api::Fetch, 13, 7, &[&fetch(&[7; 16])]),
        request(Api::ListOffsets, 6, 8, &[&list]),
    ]
}

#[tokio::test]
async fn every_kind_is_answered() {
    let broker = start().await;
    let mut stream = TcpStream::connect(broker.address()).await.unwrap();
    for (id, frame) in (1..).zip(other_frames()) {
        send(&mut stream, &frame).await;
        assert_eq!(correlation_id(&mut stream).await, Some(id), "{frame:?}");
    }
}

#[tokio::test]
async fn no_damaged_frame_does_harm() {
    let frames = [rskafka_frames().await, other_frames()].concat();
    let seen = |api: &Api| frames.iter().any(|frame| frame[..2] == api.key().to_be_bytes());
    assert!(Api::ALL.iter().all(seen));

    let broker = start().await;
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % below
    };
    let mut understood = 0;
    for _ in 0..20_000 {
        let mut frame = frames[next(frames.len())].clone();
        for _ in 0..=next(3) {
            let position = next(frame.len());
            match next(4) {
                0 => frame[position] = next(256) as u8,
                1 => frame[position] ^= 1 << next(8),
                2 => frame.truncate(position + 1),
                _ => frame[position..].iter_mut().take(4).for_each(|byte| *byte = 0xFF),
            }
        }
        let Ok(request) = ParsedRequest::parse(&frame) else { continue };
        let head = request.head();
        let answer = request.answer(&broker.shared, head);
        if let Ok(answer) = tokio::time::timeout(Duration::ZERO, answer).await {
            answer.write(&mut tokio::io::sink()).await.unwrap();
        }
        understood += 1;
    }
    assert!(understood > 2_000, "{understood}");
    assert!(broker.stored_bytes() <= Options::default().limit_bytes);
}
