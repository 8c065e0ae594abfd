//! What the producer sends while its requests and their answers get lost, brokers go away and leaders move: each reading is in
//! the topic once, and in its partition in order, by reading the topic back. And what it may hold meanwhile.
//!
//! The readings are lines of a file, each with a number. `process` reads them at the same time, through the same trouble.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::kafka::Version;
use crate::support::pipeline::{END_LIMIT, RUN_LIMIT};
use crate::support::proxy::{Fault, Moment};
use crate::support::{Folder, Kafka, Pipeline, Postgres, Served, Weather, turn, unique};

/// Readings a second.
const RATE: u32 = 500;
const PARTITIONS: i32 = 4;
/// More readings than are sent before all trouble is over, on a busy machine too.
const READINGS: usize = RATE as usize * 600;
/// Times that every fault comes.
const TIMES: u64 = 3;
/// After this time a request without an answer has been sent again.
const GIVEN_UP: Duration = Duration::from_secs(12);
/// How long a broker is suspended.
const SUSPENDED: Duration = Duration::from_secs(40);

/// Numbered readings on their way into a topic, and out of it.
struct Sending {
    pipeline: Pipeline,
    producer: Weather,
    process: Weather,
    /// With the file in it.
    _folder: Folder,
}

impl Sending {
    async fn start(pipeline: Pipeline) -> Self {
        let folder = Folder::new("numbered");
        let file = numbered(&folder, READINGS);
        let file = file.to_str().expect("its name is UTF-8");
        let rate = RATE.to_string();
        let producer = pipeline.producer(&["--source", file, "--rate", &rate, "--linger", "20ms"]);
        let process = pipeline.process("one", &[]);
        pipeline.wait_for_more().await;
        Self { pipeline, producer, process, _folder: folder }
    }

    /// Ends the producer, and compares the topic with the file up to there, and the tables with the topic.
    async fn assert_each_once(&self) {
        assert!(self.producer.status().is_none(), "the trouble came while it was sending");
        self.producer.sigterm();
        self.producer.succeed(END_LIMIT).await;
        let Pipeline { kafka, topic, .. } = &self.pipeline;
        let mut seen = vec![false; READINGS];
        for partition in 0..PARTITIONS {
            let mut last = None;
            for record in kafka.read(topic, partition).await {
                let number = number(&record.record.value.expect("a value"));
                assert!(last < Some(number), "partition {partition}: {number} behind {last:?}");
                assert!(!std::mem::replace(&mut seen[number], true), "{number} is there twice");
                last = Some(number);
            }
        }
        let end = seen.iter().rposition(|seen| *seen).map_or(0, |last| last + 1);
        let missing: Vec<usize> = (0..end).filter(|number| !seen[*number]).take(10).collect();
        assert!(missing.is_empty(), "not in the topic: {missing:?}, …");
        let summary = format!("acknowledged={end} ");
        assert!(
            self.producer.stdout().iter().any(|line| line.contains(&summary)),
            "{summary}: {:#?}",
            self.producer.stdout()
        );
        self.process.sigterm();
        self.process.succeed(END_LIMIT).await;
        self.pipeline.assert_exact(&[]).await;
    }
}

/// A file of numbered readings of some stations, all of now.
fn numbered(folder: &Folder, count: usize) -> PathBuf {
    let path = folder.path().join("readings");
    let mut file = BufWriter::new(std::fs::File::create(&path).expect("a new file"));
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_millis();
    for number in 0..count {
        let station = number % 23;
        writeln!(
            file,
            r#"{{"station":"s{station}","timestamp":{now_ms},"temperature":20.5,"number":{number}}}"#
        )
        .expect("room on the disk");
    }
    path
}

/// Waits until this broker leads partitions of the topic.
async fn wait_for_leader(pipeline: &Pipeline, node: u32) {
    let leads = format!("Leader: {node}\t");
    let start = Instant::now();
    let arguments =
        ["--bootstrap-server", &pipeline.kafka.brokers(), "--describe", "--topic", &pipeline.topic];
    while !pipeline.kafka.tool("org.apache.kafka.tools.TopicCommand", &arguments).contains(&leads) {
        assert!(start.elapsed() < RUN_LIMIT, "no leader has moved to broker {node}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn number(value: &[u8]) -> usize {
    let text = std::str::from_utf8(value).expect("a line");
    let (_, number) = text.rsplit_once(':').expect("its last field is the number");
    number.trim_end_matches('}').parse().expect("a number")
}

#[tokio::test]
async fn requests_and_answers_get_lost() {
    let _turn = turn::heavy().await;
    let (proxy, pipeline) = Pipeline::behind_kafka("answers", PARTITIONS).await;
    let sending = Sending::start(pipeline).await;
    let mut strikes = 0;
    for _ in 0..TIMES {
        for moment in [Moment::ProduceAnswer, Moment::Produce] {
            proxy.arm(moment, Fault::Cut, 1);
            strikes += 1;
            proxy.wait_for_strikes(strikes).await;
            sending.pipeline.wait_for_more().await;
        }
    }
    // Never answered: given up after a time.
    proxy.arm(Moment::ProduceAnswer, Fault::Hold, 1);
    proxy.wait_for_strikes(strikes + 1).await;
    tokio::time::sleep(GIVEN_UP).await;
    sending.pipeline.wait_for_more().await;
    sending.assert_each_once().await;
}

#[tokio::test]
async fn the_broker_is_killed_and_stopped() {
    let _turn = turn::heavy().await;
    let kafka = Kafka::private(Version::V4_1, &[]).await;
    let pipeline = Pipeline::audited(kafka, &Postgres::shared(), "restarted", PARTITIONS).await;
    let mut sending = Sending::start(pipeline).await;
    for _ in 0..2 {
        sending.pipeline.kafka.kill().await;
        sending.pipeline.kafka.start().await;
        println!("killed: continues after {:?}", sending.pipeline.wait_for_more().await);
        sending.pipeline.kafka.restart().await;
        println!("stopped: continues after {:?}", sending.pipeline.wait_for_more().await);
    }
    sending.assert_each_once().await;
}

/// It keeps its connections, and answers nothing.
#[tokio::test]
async fn the_broker_is_suspended() {
    let _turn = turn::heavy().await;
    let kafka = Kafka::private(Version::V4_1, &[]).await;
    let pipeline = Pipeline::audited(kafka, &Postgres::shared(), "suspended", PARTITIONS).await;
    let mut sending = Sending::start(pipeline).await;
    let signal = |kafka: &mut Kafka, name| kafka.service().process().expect("it runs").signal(name);
    signal(&mut sending.pipeline.kafka, "STOP");
    tokio::time::sleep(SUSPENDED).await;
    signal(&mut sending.pipeline.kafka, "CONT");
    println!("suspended: continues after {:?}", sending.pipeline.wait_for_more().await);
    for run in [&sending.producer, &sending.process] {
        let said = run.stderr().iter().filter(|line| line.contains("not available")).count();
        assert!((1..=4).contains(&said), "{:#?}", run.stderr());
    }
    sending.assert_each_once().await;
}

/// Of two brokers with all partitions on both, one leaves and comes back, and leaders return to it.
#[tokio::test]
async fn leaders_move_between_two_brokers() {
    let _turn = turn::heavy().await;
    let rebalance = ["leader.imbalance.check.interval.seconds=1", "leader.imbalance.per.broker.percentage=1"];
    let kafka = Kafka::private(Version::V4_1, &rebalance).await;
    let mut second = kafka.another(2, &[]).await;
    let topic = unique("leaders");
    kafka.create_replicated_topic(&topic, PARTITIONS, 2).await;
    let mut pipeline = Pipeline::of_topic(kafka, &Postgres::shared(), &topic).await;
    pipeline.brokers = format!("{},{}", pipeline.brokers, second.brokers());
    pipeline.drain().await;
    let sending = Sending::start(pipeline).await;
    wait_for_leader(&sending.pipeline, 2).await;
    for round in 0..3 {
        if round % 2 == 0 {
            second.stop().await
        } else {
            second.kill().await
        }
        println!("moved away: continues after {:?}", sending.pipeline.wait_for_more().await);
        second.start().await;
        wait_for_leader(&sending.pipeline, 2).await;
        println!("moved back: continues after {:?}", sending.pipeline.wait_for_more().await);
    }
    sending.assert_each_once().await;
}

/// However many partitions there are, what waits for acknowledgements is bounded for all of them together.
#[tokio::test]
async fn memory_is_bounded_over_200_partitions() {
    const MOST_BYTES: u64 = 64 << 20;
    let _turn = turn::heavy().await;
    let pipeline = Pipeline::new("wide").await;
    let arguments = ["--rate", "0", "--count", "1000000", "--stations", "2000", "--partitions", "200"];
    let producer = pipeline.producer(&arguments);
    producer.succeed(RUN_LIMIT).await;
    let peak_bytes = producer.usage().peak_rss_bytes;
    println!("200 partitions: a peak of {} MiB of memory", peak_bytes >> 20);
    assert!(peak_bytes < MOST_BYTES);
}
