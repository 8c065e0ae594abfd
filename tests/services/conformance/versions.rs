//! The calls of today's clients, in every version that the embedded broker knows.

mod requests;
mod schemas;

use requests::{batch, commit, create, fetch, list_offsets, metadata, produce};
use schemas::{
    Api, COMMITTED, COORDINATOR, CREATE_TOPICS, CREATED, DESCRIBED, FETCH, FETCHED, FIND_COORDINATOR,
    INIT_PRODUCER_ID, KEPT, LIST_OFFSETS, METADATA, NAMED, OFFSET_COMMIT, OFFSET_FETCH, OFFSETS, PRODUCE,
    PRODUCED,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weather::embedded::{Broker, Options};

use super::TIME_MS;
use super::form::{Body, Field, read};
use crate::support::kafka::Version;
use crate::support::{Kafka, turn, unique};

/// No leader, another leader, and a coordinator that is still loading or not there yet.
const NOT_READY: [&str; 4] = ["error = 5", "error = 6", "error = 14", "error = 15"];

/// A conversation with one broker in bare frames, and what it said.
struct Talk {
    stream: TcpStream,
    lines: Vec<String>,
}

impl Talk {
    async fn ask(&mut self, api: &Api, body: &Body) -> Vec<u8> {
        let mut frame =
            [&api.key.to_be_bytes()[..], &body.version.to_be_bytes(), &[0, 0, 0, 1], &[0xFF; 2]].concat();
        frame.extend(body.is_flexible().then_some(0));
        frame.extend(&body.bytes);
        self.stream.write_i32(frame.len() as i32).await.unwrap();
        self.stream.write_all(&frame).await.unwrap();
        let mut answer = vec![0; self.stream.read_i32().await.unwrap() as usize];
        self.stream.read_exact(&mut answer).await.unwrap();
        answer.split_off(4 + usize::from(body.is_flexible()))
    }

    /// Asks in each version, and notes what is said.
    async fn note(&mut self, step: &str, api: Api, schema: &[Field], write: impl Fn(&mut Body)) {
        for version in api.versions.0..=api.versions.1 {
            let flexible = version >= api.flexible_from;
            let mut body = Body::new(version, flexible);
            write(&mut body);
            let lines = loop {
                let lines = read(schema, version, flexible, &self.ask(&api, &body).await);
                // A broker that has just started is not ready for everything, and on a busy machine one loses the lead of
                // all its partitions for a moment.
                if !lines.iter().any(|line| NOT_READY.iter().any(|error| line.ends_with(error))) {
                    break lines;
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            };
            self.lines.extend(
                lines.into_iter().map(|line| format!("{step}, {} version {version}: {line}", api.key)),
            );
        }
    }

    /// A number that an answer gives at the end of the line that begins so.
    fn number(&self, step: &str) -> Option<i64> {
        let line = self.lines.iter().rev().find(|line| line.contains(step))?;
        line.rsplit_once(" = ")?.1.parse().ok()
    }
}

#[tokio::test]
async fn every_version_of_every_call() {
    let _turn = turn::light().await;
    compare(&Kafka::shared()).await;
}

#[tokio::test]
async fn every_version_of_every_call_on_older_brokers() {
    let _turn = turn::heavy().await;
    for version in [Version::V3_9, Version::V3_5] {
        let kafka = Kafka::private(version, &[]).await;
        // A broker that has just started may not be let into its own cluster yet, and then has no place for a topic.
        kafka.topic("first", 1).await;
        compare(&kafka).await;
    }
}

async fn compare(kafka: &Kafka) {
    let embedded = Broker::start(Options::default()).await.unwrap();
    let topic = unique("versions");
    let expected = script(&kafka.brokers(), &topic, *TIME_MS).await;
    let found = script(&embedded.address().to_string(), &topic, *TIME_MS).await;
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected, found, "Kafka on the left");
    }
    assert_eq!(expected.len(), found.len());
}

/// Everything that is asked of a broker; what it said.
async fn script(address: &str, topic: &str, time_ms: i64) -> Vec<String> {
    let mut talk = Talk { stream: TcpStream::connect(address).await.unwrap(), lines: Vec::new() };
    topics(&mut talk, topic).await;
    let id = topic_id(&mut talk, topic).await;
    records(&mut talk, topic, time_ms).await;
    reading(&mut talk, topic, id).await;
    groups(&mut talk, topic).await;
    talk.lines
}

async fn topics(talk: &mut Talk, topic: &str) {
    talk.note("may be made", CREATE_TOPICS, CREATED, |body| create(body, topic, 1, true)).await;
    talk.note("no partitions", CREATE_TOPICS, CREATED, |body| create(body, topic, 0, true)).await;
    let mut body = Body::new(5, true);
    create(&mut body, topic, 1, false);
    talk.ask(&CREATE_TOPICS, &body).await;
    // Until every part of the broker knows it.
    while topic_id(talk, topic).await == [0; 16] {}
    talk.note("described", METADATA, DESCRIBED, |body| metadata(body, &[topic])).await;
    talk.note("unknown", METADATA, DESCRIBED, |body| metadata(body, &["not.there", "not a name"])).await;
}

/// The topic's id, once its partition has a leader; zeros until then.
async fn topic_id(talk: &mut Talk, topic: &str) -> [u8; 16] {
    let mut body = Body::new(10, true);
    metadata(&mut body, &[topic]);
    let answer = talk.ask(&METADATA, &body).await;
    let lines = read(DESCRIBED, 10, true, &answer);
    let led = lines.iter().filter(|line| line.ends_with("leader = there")).count() == 1;
    let name = [&[topic.len() as u8 + 1], topic.as_bytes()].concat();
    let at =
        answer.windows(name.len()).position(|window| window == name).expect("the topic's name") + name.len();
    if led { answer[at..at + 16].try_into().unwrap() } else { [0; 16] }
}

async fn records(talk: &mut Talk, topic: &str, time_ms: i64) {
    talk.note("a producer", INIT_PRODUCER_ID, NAMED, |body| {
        body.null_text();
        body.put(60_000_i32.to_be_bytes());
    })
    .await;
    // The same six batches in each version: all but the first time they are known, and have their old offsets.
    for sequence in [0, 1, 2, 3, 4, 5, 5, 4, 1] {
        let batch = batch(77, 0, sequence, time_ms);
        talk.note(&format!("record {sequence}"), PRODUCE, PRODUCED, |body| produce(body, topic, &batch))
            .await;
    }
    for (epoch, sequence) in [(0, 7), (0, 0), (1, 3), (1, 0), (0, 6), (1, 1)] {
        let batch = batch(77, epoch, sequence, time_ms);
        let step = format!("record {sequence} of epoch {epoch}");
        talk.note(&step, PRODUCE, PRODUCED, |body| produce(body, topic, &batch)).await;
    }
    // A producer that the broker does not know may begin anywhere.
    let unknown = batch(78, 3, 99, time_ms);
    talk.note("an unknown producer", PRODUCE, PRODUCED, |body| produce(body, topic, &unknown)).await;
    let end = talk.number("base_offset").expect("the offset of the last record") + 1;
    for (time, epoch) in [(-1, -1), (-2, -1), (time_ms, -1), (time_ms + 1, -1), (-1, 0), (-1, 5)] {
        let step = format!("offset at {} of epoch {epoch}", time - time_ms.min(time.max(0)));
        talk.note(&step, LIST_OFFSETS, OFFSETS, |body| list_offsets(body, topic, 0, epoch, time)).await;
    }
    talk.note("no partition", LIST_OFFSETS, OFFSETS, |body| list_offsets(body, topic, 9, -1, -1)).await;
    talk.lines.push(format!("the end is {end}"));
}

async fn reading(talk: &mut Talk, topic: &str, id: [u8; 16]) {
    let end = talk.number("base_offset").expect("an offset") + 1;
    for from in [
        (0, -1, -1),
        (3, 0, -1),
        (3, 0, 0),
        (end, -1, -1),
        (end + 1, -1, -1),
        (-1, -1, -1),
        (3, 1, -1),
        (end + 1, 0, 0),
    ] {
        talk.note(&format!("from {from:?}"), FETCH, FETCHED, |body| fetch(body, topic, id, 0, from)).await;
    }
    talk.note("no partition", FETCH, FETCHED, |body| fetch(body, topic, id, 9, (0, -1, -1))).await;
    talk.note("no topic", FETCH, FETCHED, |body| fetch(body, "not.there", [7; 16], 0, (0, -1, -1))).await;
}

async fn groups(talk: &mut Talk, topic: &str) {
    let group = format!("{topic}.group");
    let find = |body: &mut Body| {
        body.text(&group);
        body.since(1, [0]);
    };
    // The first question makes the place where a cluster keeps offsets.
    loop {
        let mut body = Body::new(2, false);
        find(&mut body);
        if read(COORDINATOR, 2, false, &talk.ask(&FIND_COORDINATOR, &body).await)[1] == "error = 0" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    talk.note("who keeps them", FIND_COORDINATOR, COORDINATOR, find).await;
    let ask = |body: &mut Body| {
        body.text(&group);
        body.length(1);
        body.text(topic);
        body.length(2);
        body.put(0_i32.to_be_bytes());
        body.put(1_i32.to_be_bytes());
    };
    // Old versions of the answer have no place for the error of a coordinator that has only just become one.
    loop {
        let mut body = Body::new(3, false);
        ask(&mut body);
        let lines = read(KEPT, 3, false, &talk.ask(&OFFSET_FETCH, &body).await);
        if lines.iter().any(|line| line == "topics = 1 items") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    talk.note("before", OFFSET_FETCH, KEPT, ask).await;
    for (member, offset) in
        [((-1, ""), (0, 5)), ((-1, ""), (7, 5)), ((-1, "member"), (0, 6)), ((-1, ""), (0, 4))]
    {
        let step = format!("commit {offset:?} by {member:?}");
        talk.note(&step, OFFSET_COMMIT, COMMITTED, |body| commit(body, &group, member, topic, offset)).await;
    }
    talk.note("after", OFFSET_FETCH, KEPT, ask).await;
}
