//! What rskafka never sends: frames made by hand, whose answers are compared field by field or byte for byte.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weather::embedded::{NO_PRODUCER, RawBatch};

use super::{Both, TIME_MS, Talk, produce};
use crate::support::turn;

/// Sends frames made by hand.
struct Bare(TcpStream);

impl Bare {
    async fn connect(talk: &Talk) -> Self {
        Self(TcpStream::connect(&talk.address).await.unwrap())
    }

    /// The answer's body; `None` if the connection was closed.
    async fn ask(&mut self, api: i16, version: i16, body: &[u8]) -> Option<Vec<u8>> {
        // Correlation id 1, no client id.
        let header = [&api.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 1], &[0xFF, 0xFF]].concat();
        self.0.write_i32((header.len() + body.len()) as i32).await.ok()?;
        self.0.write_all(&[&header, body].concat()).await.ok()?;
        let mut answer = vec![0; usize::try_from(self.0.read_i32().await.ok()?).ok()?];
        self.0.read_exact(&mut answer).await.ok()?;
        Some(answer.split_off(4))
    }
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as i16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [&(items.len() as i32).to_be_bytes()[..], &items.concat()].concat()
}

/// The body of a produce of version 7.
fn produce_body(acks: i16, topic: &str, partition: i32, records: &[u8]) -> Vec<u8> {
    let records = [&partition.to_be_bytes()[..], &(records.len() as i32).to_be_bytes(), records].concat();
    let topic = [string(topic), array(&[records])].concat();
    [&[0xFF, 0xFF][..], &acks.to_be_bytes(), &10_000_i32.to_be_bytes(), &array(&[topic])].concat()
}

/// The body of a fetch of version 4 that does not wait: partitions with offset and limit.
fn fetch_body(max_bytes: i32, topic: &str, partitions: &[(i32, i64, i32)]) -> Vec<u8> {
    let partitions: Vec<_> = partitions
        .iter()
        .map(|(partition, offset, max_bytes)| {
            [&partition.to_be_bytes()[..], &offset.to_be_bytes(), &max_bytes.to_be_bytes()].concat()
        })
        .collect();
    let topic = [string(topic), array(&partitions)].concat();
    let head = [&(-1_i32).to_be_bytes()[..], &[0; 4], &[0, 0, 0, 1], &max_bytes.to_be_bytes(), &[1]].concat();
    [head, array(&[topic])].concat()
}

/// What the answer to a produce says: code, base offset and time of the append; without an error the log start offset
/// too, of which Kafka says other things with one error than with another.
fn produced(answer: &[u8]) -> (i16, i64, i64, Option<i64>) {
    let end = answer.len() - 4;
    let number = |at: usize| i64::from_be_bytes(answer[at..at + 8].try_into().unwrap());
    let code = i16::from_be_bytes(answer[end - 26..end - 24].try_into().unwrap());
    (code, number(end - 24), number(end - 16), (code == 0).then(|| number(end - 8)))
}

/// Three records of a key-less, empty kind, as a producer encodes them.
fn batch() -> RawBatch {
    let records = [[12, 0, 0, 0, 1, 1, 0], [12, 0, 0, 2, 1, 1, 0], [12, 0, 0, 4, 1, 1, 0]].concat();
    RawBatch {
        attributes: 0,
        last_offset_delta: 2,
        timestamp_ms: *TIME_MS,
        record_count: 3,
        records,
        producer: NO_PRODUCER,
    }
}

/// Batches with something wrong in each, by name.
fn bad_batches() -> Vec<(String, Vec<u8>)> {
    let good = batch().encode();
    let mut all = vec![
        ("good".to_owned(), good.clone()),
        ("nothing".to_owned(), Vec::new()),
        ("two batches".to_owned(), good.repeat(2)),
        ("large".to_owned(), RawBatch { records: vec![0; 1_048_600], ..batch() }.encode()),
        ("control".to_owned(), RawBatch { attributes: 32, ..batch() }.encode()),
        ("transactional".to_owned(), RawBatch { attributes: 16, ..batch() }.encode()),
        ("commit".to_owned(), RawBatch::commit_marker(*TIME_MS).encode()),
        ("no records".to_owned(), RawBatch::compacted_away(3, *TIME_MS).encode()),
        ("too few".to_owned(), RawBatch { record_count: 2, ..batch() }.encode()),
        ("negative count".to_owned(), RawBatch { record_count: -1, ..batch() }.encode()),
        ("negative offsets".to_owned(), RawBatch { last_offset_delta: -1, ..batch() }.encode()),
    ];
    for cut in [1, 11, 12, 16, 17, 20, 21, 60, 61, good.len() - 1] {
        all.push((format!("first {cut} bytes"), good[..cut].to_vec()));
        all.push((format!("one and {cut} bytes"), [&good[..], &good[..cut]].concat()));
    }
    for (name, position, value) in [
        ("base offset", 7, 1),
        ("length", 11, 13),
        ("length", 11, 14),
        ("length", 11, 40),
        ("length", 8, 0xFF),
        ("leader epoch", 15, 9),
        ("magic", 16, 0),
        ("magic", 16, 1),
        ("magic", 16, 3),
        ("magic", 16, 0xFF),
        ("checksum", 17, 0),
        ("a record", 70, 99),
    ] {
        let mut bad = good.clone();
        bad[position] = value;
        all.push((format!("{name} {value}"), bad));
    }
    all
}

#[tokio::test]
async fn batches_that_no_good_producer_sends() {
    let _turn = turn::light().await;
    let both = Both::start().await;
    both.compare(async |talk| {
        let topic = talk.topic.clone();
        let partition = talk.begin(1).await;
        let mut bare = Bare::connect(talk).await;
        for (name, batch) in bad_batches() {
            let answer = bare.ask(0, 7, &produce_body(-1, &topic, 0, &batch)).await;
            talk.note(name, answer.as_deref().map(produced));
        }
        let good = batch().encode();
        for acks in [1, 2, -2] {
            let answer = bare.ask(0, 7, &produce_body(acks, &topic, 0, &good)).await;
            talk.note(format!("acks {acks}"), answer.as_deref().map(produced));
        }
        for (name, number) in [(topic.as_str(), 1), (&topic, -1), ("not there", 0)] {
            let answer = bare.ask(0, 7, &produce_body(-1, name, number, &good)).await;
            talk.note(format!("to {number} of {name}"), answer.as_deref().map(produced));
        }
        // The batches that went in, as they are stored.
        talk.note_ends(&partition).await;
        let body = fetch_body(1_000_000, &topic, &[(0, 0, 1_000_000)]);
        talk.note("stored", bare.ask(1, 4, &body).await);
    })
    .await;
}

#[tokio::test]
async fn fetches_of_several_partitions() {
    let _turn = turn::light().await;
    let both = Both::start().await;
    both.compare(async |talk| {
        let topic = talk.topic.clone();
        talk.begin(3).await;
        for partition in [0, 2, 2] {
            produce(&talk.partition(partition).await, 0..3).await;
        }
        let mut bare = Bare::connect(talk).await;
        // Each whole batch takes 115 bytes.
        for max_bytes in [0, 1, 114, 115, 116, 230, 345, 1_000] {
            for each in [0, 1, 115, 230, 1_000] {
                let body = fetch_body(max_bytes, &topic, &[(0, 0, each), (1, 0, each), (2, 1, each)]);
                let answer = bare.ask(1, 4, &body).await.map(|answer| whole_batches(&answer));
                talk.note(format!("{max_bytes} and {each}"), answer);
            }
        }
        for (partition, offset) in [(3, 0), (-1, 0), (0, 4), (0, -1), (1, 1)] {
            let body = fetch_body(1_000, &topic, &[(2, 0, 1_000), (partition, offset, 1_000)]);
            let answer = bare.ask(1, 4, &body).await.map(|answer| whole_batches(&answer));
            talk.note(format!("{offset} of {partition}"), answer);
        }
    })
    .await;
}

/// What an answer to a fetch of one topic holds, as a client reads it: by partition the number, code, high
/// watermark and the base offsets of its whole batches. Kafka may cut the last one off, the embedded broker leaves it out.
fn whole_batches(answer: &[u8]) -> Vec<(i32, i16, i64, Vec<i64>)> {
    fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
        let (head, tail) = rest.split_first_chunk::<N>().unwrap();
        *rest = tail;
        *head
    }
    let mut rest = &answer[8..];
    let name = i16::from_be_bytes(take(&mut rest));
    rest = &rest[name as usize + 4..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let partition = i32::from_be_bytes(take(&mut rest));
        let code = i16::from_be_bytes(take(&mut rest));
        let high_watermark = i64::from_be_bytes(take(&mut rest));
        let _last_stable_and_aborted: [u8; 12] = take(&mut rest);
        let size = i32::from_be_bytes(take(&mut rest)) as usize;
        let (mut records, after) = rest.split_at(size);
        rest = after;
        let mut batches = Vec::new();
        while records.len() > 12 {
            let base_offset = i64::from_be_bytes(take(&mut records));
            let length = i32::from_be_bytes(take(&mut records)) as usize;
            let Some((_, next)) = records.split_at_checked(length) else { break };
            records = next;
            batches.push(base_offset);
        }
        found.push((partition, code, high_watermark, batches));
    }
    found
}

#[tokio::test]
async fn connections_that_make_no_sense() {
    let _turn = turn::light().await;
    let both = Both::start().await;
    both.compare(async |talk| {
        // An api or version that neither knows, and a body that ends too early.
        for (api, version, body) in
            [(999, 0, &[][..]), (1, 99, &[]), (-1, 0, &[]), (1, 4, &[0; 3]), (3, 4, &[0xFF; 3])]
        {
            let mut bare = Bare::connect(talk).await;
            talk.note(format!("{api} {version}"), bare.ask(api, version, body).await);
        }
        let mut bare = Bare::connect(talk).await;
        let versions = bare.ask(18, 99, &[0]).await;
        talk.note("version request", versions.map(|answer| answer[..2].to_vec()));
        bare.0.write_i32(-1).await.unwrap();
        talk.note("negative length", bare.0.read_i32().await.is_err());
    })
    .await;
}
