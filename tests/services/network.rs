//! The network between the program and its services: cut, stalled, half open, slow, and answers that get lost.

use std::time::{Duration, Instant, SystemTime};

use crate::support::kafka::record;
use crate::support::pipeline::RESUMED;
use crate::support::proxy::{Fault, Moment, Network, Protocol};
use crate::support::{Kafka, Pipeline, Postgres, Proxy, Weather, turn};

/// A load that continues until its producer is ended, a little of it late, malformed or ahead of the clock.
const LOAD: [&str; 8] =
    ["--rate", "4000", "--late-ratio", "0.01", "--malformed-ratio", "0.002", "--linger", "20ms"];
/// Times that every short fault comes.
const TIMES: u32 = 5;
/// Between two of them.
const BETWEEN: Duration = Duration::from_millis(700);
/// Longer than any single call may wait for its answer, so that only giving up the connection helps.
const SILENCE: Duration = Duration::from_secs(22);
/// How soon a process ends after SIGTERM; the manifests allow twice as long.
const GRACE: Duration = Duration::from_secs(15);

/// Everything that a network does to connections, one after the other.
async fn trouble(pipeline: &Pipeline, proxy: &Proxy) {
    for _ in 0..TIMES {
        proxy.cut();
        tokio::time::sleep(BETWEEN).await;
    }
    println!("cut: continues after {:?}", pipeline.wait_for_more().await);
    proxy.for_a_while(Network::Cut, Duration::from_secs(3)).await;
    println!("refused for 3 s: continues after {:?}", pipeline.wait_for_more().await);
    proxy.for_a_while(Network::Slow(Duration::from_millis(150)), Duration::from_secs(4)).await;
    println!("slow for 4 s: continues after {:?}", pipeline.wait_for_more().await);
    proxy.for_a_while(Network::Stalled, Duration::from_secs(5)).await;
    println!("stalled for 5 s: continues after {:?}", pipeline.wait_for_more().await);
}

/// Cuts a connection at each of two moments, several times over.
async fn cut_at(pipeline: &Pipeline, proxy: &Proxy, moments: [Moment; 2]) {
    for times in 1..=TIMES {
        for moment in moments {
            proxy.arm(moment, Fault::Cut, 1);
        }
        proxy.wait_for_strikes(2 * u64::from(times)).await;
        pipeline.wait_for_more().await;
    }
}

/// A producer and a process under load, once there are rows.
async fn begin(pipeline: &Pipeline, options: &[&str]) -> [Weather; 2] {
    let runs = [pipeline.producer(&LOAD), pipeline.process("one", options)];
    pipeline.wait_for_more().await;
    runs
}

fn lines(run: &Weather, words: &str) -> usize {
    run.stderr().iter().filter(|line| line.contains(words)).count()
}

#[tokio::test]
async fn postgresql_behind_a_bad_network() {
    let _turn = turn::heavy().await;
    let (proxy, pipeline) = Pipeline::behind_postgres("postgres", 4).await;
    let [producer, process] = begin(&pipeline, &[]).await;
    trouble(&pipeline, &proxy).await;
    // Last: the server's host disappears without a word, then there is another one.
    proxy.for_a_while(Network::HalfOpen, SILENCE).await;
    println!("half open: continues after {:?}", pipeline.wait_for_more().await);
    assert!(lines(&process, "not available") <= 12, "{:#?}", process.stderr());
    pipeline.assert_exact(&[&producer, &process]).await;
}

#[tokio::test]
async fn commits_and_their_answers_get_lost() {
    let _turn = turn::heavy().await;
    let (proxy, pipeline) = Pipeline::behind_postgres("commit", 4).await;
    let [producer, process] = begin(&pipeline, &["--flush-interval", "20ms"]).await;
    cut_at(&pipeline, &proxy, [Moment::Commit, Moment::CommitAnswer]).await;
    pipeline.assert_exact(&[&producer, &process]).await;
}

/// Killed while a flush's COMMIT, or the answer to it, is on its way.
#[tokio::test]
async fn killed_on_either_side_of_a_commit() {
    let _turn = turn::heavy().await;
    let (proxy, pipeline) = Pipeline::behind_postgres("killed", 4).await;
    let producer = pipeline.producer(&LOAD);
    let mut strikes = 0;
    for round in 0..2 * TIMES {
        let process =
            pipeline.process("killed", &["--checkpoint-interval", "50ms", "--flush-interval", "20ms"]);
        pipeline.wait_for_more().await;
        let moment = if round % 2 == 0 { Moment::CommitAnswer } else { Moment::Commit };
        proxy.arm(moment, Fault::Hold, 1);
        strikes += 1;
        proxy.wait_for_strikes(strikes).await;
        // The checkpoint files advance without the answer; every other round waits long enough for one.
        tokio::time::sleep(Duration::from_millis(if round % 4 < 2 { 0 } else { 150 })).await;
        process.kill9().await;
    }
    pipeline.assert_exact(&[&producer]).await;
}

#[tokio::test]
async fn kafka_behind_a_bad_network() {
    let _turn = turn::heavy().await;
    let (proxy, pipeline) = Pipeline::behind_kafka("kafka", 4).await;
    let [producer, process] = begin(&pipeline, &[]).await;
    trouble(&pipeline, &proxy).await;
    proxy.for_a_while(Network::HalfOpen, SILENCE).await;
    println!("half open: continues after {:?}", pipeline.wait_for_more().await);
    for run in [&producer, &process] {
        assert!(lines(run, "not available") <= 12, "{:#?}", run.stderr());
    }
    pipeline.assert_exact(&[&producer, &process]).await;
}

#[tokio::test]
async fn answers_to_the_producer_get_lost() {
    let _turn = turn::heavy().await;
    let (proxy, pipeline) = Pipeline::behind_kafka("answers", 4).await;
    let [producer, process] = begin(&pipeline, &[]).await;
    cut_at(&pipeline, &proxy, [Moment::ProduceAnswer, Moment::Produce]).await;
    pipeline.assert_exact(&[&producer, &process]).await;
}

/// The broker advertises an address that leads nowhere, from some time on and from the start of a command: each names it.
#[tokio::test]
async fn an_advertised_address_that_leads_nowhere_is_named() {
    let _turn = turn::heavy().await;
    let (proxy, pipeline) = Pipeline::behind_kafka("advertised", 2).await;
    let mut runs = Vec::from(begin(&pipeline, &[]).await);
    // Nothing listens at port 1 of loopback.
    proxy.advertise(1);
    proxy.cut();
    let start = Instant::now();
    let named = "127.0.0.1:1 (which broker 1 advertises)";
    for phase in ["while they run", "from the start"] {
        // A client that knew the old address a moment ago may be back there before it asks again.
        while !runs.iter().all(|run| lines(run, named) > 0) {
            assert!(
                start.elapsed() < 2 * RESUMED,
                "{phase}: {:#?}",
                runs.iter().map(Weather::stderr).collect::<Vec<_>>()
            );
            proxy.cut();
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        println!("{phase}: named after {:?}", start.elapsed());
        if runs.len() == 2 {
            runs.extend([pipeline.producer(&LOAD), pipeline.process("two", &[])]);
        }
    }
    proxy.advertise(proxy.port());
    println!("continues after {:?}", pipeline.wait_for_more().await);
    for run in &runs {
        assert!(lines(run, named) <= 3, "{:#?}", run.stderr());
    }
    pipeline.assert_exact(&runs.iter().collect::<Vec<_>>()).await;
}

/// Neither service answers any more.
#[tokio::test]
async fn ended_while_nothing_answers() {
    let _turn = turn::alone().await;
    let (kafka, postgres) = (Kafka::shared(), Postgres::shared());
    let to_kafka = Proxy::start(Protocol::Kafka, kafka.port()).await;
    let to_postgres = Proxy::start(Protocol::Postgres, postgres.port()).await;
    let pipeline = Pipeline::audited(kafka, &postgres, "ended", 4).await;
    let producer = pipeline.producer(&LOAD);
    let pipeline = pipeline.kafka_through(&to_kafka).postgres_through(&to_postgres);
    let process = pipeline.process("one", &["--checkpoint-interval", "100ms"]);
    pipeline.wait_for_more().await;
    to_postgres.set(Network::HalfOpen);
    // So that only the files have the latest progress.
    tokio::time::sleep(Duration::from_secs(1)).await;
    to_kafka.set(Network::HalfOpen);
    let asked = Instant::now();
    process.sigterm();
    process.succeed(GRACE).await;
    println!("SIGTERM while nothing answers: ended after {:?}", asked.elapsed());
    to_kafka.set(Network::Well);
    to_postgres.set(Network::Well);
    let second = pipeline.process("two", &[]);
    second.wait_for_line("continuing from the checkpoint file", RESUMED).await;
    pipeline.assert_exact(&[&producer, &second]).await;
}

/// More dead letters than are kept in memory, and nowhere to write them. Too few of each reason for sampling.
#[tokio::test]
async fn dead_letters_that_cannot_be_written_wait() {
    let _turn = turn::heavy().await;
    let (proxy, pipeline) = Pipeline::behind_postgres("letters", 1).await;
    let process = pipeline.process("one", &[]);
    process.wait_for_line("took a partition", RESUMED).await;
    proxy.set(Network::Cut);
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis();
    let send = async |values: Vec<String>| {
        pipeline.kafka.produce(&pipeline.topic, 0, values.into_iter().map(record).collect()).await;
    };
    send(vec![format!(r#"{{"timestamp":{now_ms},"temperature":20}}"#)]).await;
    // What is kept of each is the first 4 KiB: 18 MB in all, and 8 MiB may wait in memory.
    let rest = "x".repeat(4096);
    let refused = [
        ("malformed", rest.clone()),
        ("missing_timestamp", format!(r#"{{"temperature":20,"rest":"{rest}"}}"#)),
        ("no_metric", format!(r#"{{"timestamp":{now_ms},"rest":"{rest}"}}"#)),
        ("late", format!(r#"{{"timestamp":{},"temperature":20,"rest":"{rest}"}}"#, now_ms - 10_800_000)),
    ];
    let (rounds, of_each, oversized) = (50, 19, 10);
    for _ in 0..rounds {
        send(refused.iter().flat_map(|(_, value)| vec![value.clone(); of_each]).collect()).await;
        send(vec!["x".repeat((64 << 10) + 1); oversized]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    proxy.set(Network::Well);
    let counts = pipeline.assert_exact(&[&process]).await.counts();
    let all = |each: usize| i64::try_from(rounds * each).expect("a small number");
    for (reason, _) in &refused {
        assert_eq!(counts[reason], all(of_each), "{reason}");
    }
    assert_eq!(counts["oversized"], all(oversized));
    let kept = pipeline.database.number("SELECT count(*) FROM weather_dead_letter").await;
    let peak_mib = process.usage().peak_rss_bytes >> 20;
    println!("{kept} dead letters kept, with a peak of {peak_mib} MiB of memory");
    assert_eq!(kept, all(refused.len() * of_each + oversized));
    assert!(peak_mib < 96);
}
