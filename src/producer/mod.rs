//! `weather producer`: readings from a source, at a pace, to the topic.
//!
//! ```text
//! source (synthetic | lines | api) → pace → kafka::sink → Kafka
//!                                              └→ report: Sent: {...}, summary
//! ```
//!
//! One loop takes readings from the source when they are due and hands them to the sink, which batches, sends and
//! retries; a full sink makes the loop wait. The run ends when the source does, after `--count` or `--duration`, on a
//! signal, or when standard output is closed. Whatever the reason, everything that was accepted is then
//! flushed and acknowledged; only a signal limits that time (`GRACE`), and what could not be sent by then is reported.

mod api;
mod check;
mod event_time;
mod http;
mod line;
mod lines;
mod pace;
mod records;
mod report;
mod status;
mod synthetic;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::config::{Producer, ReadingSource};
use crate::error::{Error, Result};
use crate::kafka::cluster::Cluster;
use crate::kafka::error::{ErrorKind, KafkaError};
use crate::kafka::sink::{Sink, SinkSettings};
use crate::shutdown::Shutdown;
use crate::telemetry;
use crate::time::now_ms;
use api::PolledApi;
use check::Check;
use event_time::EventTime;
use lines::LineReader;
use pace::{Due, Pacer};
use report::SentLines;
use status::ProducerStatus;
use synthetic::{Synthetic, UnusableShares};

/// After a signal, how long what was accepted may take to be acknowledged. Below the 30 s that Kubernetes gives.
const GRACE: Duration = Duration::from_secs(10);
/// After the end, how long standard output may take to accept the last lines.
const PRINT_GRACE: Duration = Duration::from_secs(2);
/// Between attempts to find or create the topic.
const TOPIC_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Runs until the source ends, a limit is reached or shutdown is requested.
///
/// # Errors
/// The source cannot be opened or read, Kafka refuses the user or the topic, or after a signal not all readings could
/// be sent in time.
pub async fn run(config: Producer, mut shutdown: Shutdown) -> Result<()> {
    let mut source = Source::open(&config).await?;
    let cluster = Arc::new(Cluster::new(config.kafka.clone()));
    let status = Arc::new(ProducerStatus::new(&cluster));
    let _serving = telemetry::http::start(config.listen, &status)?;
    let partitions = tokio::select! {
        partitions = topic(&cluster, config.partitions) => partitions?,
        // Nothing was accepted yet, so nothing is lost.
        () = shutdown.wait() => return Ok(()),
    };
    let sent = SentLines::new(config.log_sent, telemetry::terminal::is_live());
    let options = SinkSettings {
        linger: config.linger,
        compression: config.compression,
        acknowledged: sent.acknowledged(),
    };
    let mut sink = Sink::start(&cluster, partitions, options).map_err(|e| refused(&config, &e))?;
    let monitor = status.watch(&sink);
    let mut printer = tokio::spawn(Arc::clone(&sent).print());
    let live = line::start(&config, &cluster, monitor.clone(), Arc::clone(&sent));

    let started = Instant::now();
    let outcome = tokio::select! {
        outcome = produce(&config, &mut source, &mut sink, &sent) => outcome,
        () = limit(config.duration) => Ok(()),
        () = shutdown.wait() => Ok(()),
        // Standard output was closed: nobody wants to see more.
        _ = &mut printer => Ok(()),
    };
    let outcome = outcome.and(flush(&config, &mut sink, &mut shutdown).await);
    let took = started.elapsed();
    drop(live);
    let latency_us = monitor.latency_us();
    let totals = sink.close().await;
    say_goodbye(&sent, printer, report::summary(totals, &latency_us, took)).await;
    outcome?;
    match totals.unsent() {
        0 => Ok(()),
        unsent => Err(Error::failure(format!(
            "{unsent} readings were not acknowledged within {} s after the signal: {}",
            GRACE.as_secs(),
            cluster.outage().unwrap_or_else(|| "Kafka gave no answer in time".into())
        ))),
    }
}

async fn limit(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// Takes readings from the source to the sink until the source ends or the count is reached.
async fn produce(config: &Producer, source: &mut Source, sink: &mut Sink, sent: &SentLines) -> Result<()> {
    let mut left = config.count.unwrap_or(u64::MAX);
    if let Source::Synthetic { stations, time } = source {
        send_history(config, stations, time, sink, sent, &mut left).await?;
    }
    let waits = !matches!(source, Source::Synthetic { .. });
    // What is read from elsewhere is passed on at once.
    let gather = if waits { Duration::ZERO } else { config.linger / 2 };
    let mut pacer = Pacer::new(config.pace, waits, gather);
    let mut value = Vec::with_capacity(256);
    let mut check = Check::new(&config.format);
    while left > 0 {
        sent.room().await;
        let due = pacer.due().await;
        // The clocks are read once per round: the age of each reading follows from the schedule.
        let (now, now_ms) = (Instant::now(), now_ms());
        for n in 0..due.count {
            let due = due.at(n);
            let sending = match source {
                Source::Synthetic { stations, time } => {
                    let event_ms = time.at(due, now.saturating_duration_since(due), now_ms);
                    let key = stations.reading(event_ms, &mut value);
                    sink.send(Some(key.as_bytes()), &value, due).await
                }
                Source::Lines(lines) => match lines.next().await? {
                    None => return Ok(()),
                    Some(line) => sink.send(check.key(&line, now_ms), &line, Instant::now()).await,
                },
                Source::Api(api) => {
                    let reading = api.next().await;
                    sink.send(check.key(&reading, now_ms), &reading, Instant::now()).await
                }
            };
            sending.map_err(|e| refused(config, &e))?;
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// Sends the history, as fast as possible.
async fn send_history(
    config: &Producer,
    stations: &mut Synthetic,
    time: &mut EventTime,
    sink: &mut Sink,
    sent: &SentLines,
    left: &mut u64,
) -> Result<()> {
    let mut value = Vec::with_capacity(256);
    while *left > 0 {
        sent.room().await;
        tokio::task::yield_now().await;
        let (due, now_ms) = (Due::now(), now_ms());
        for n in 0..due.count {
            let Some(event_ms) = time.history(now_ms) else { return Ok(()) };
            let key = stations.reading(event_ms, &mut value);
            sink.send(Some(key.as_bytes()), &value, due.at(n)).await.map_err(|e| refused(config, &e))?;
            *left -= 1;
            if *left == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// Waits until everything is acknowledged; after a signal only for `GRACE`.
async fn flush(config: &Producer, sink: &mut Sink, shutdown: &mut Shutdown) -> Result<()> {
    let grace = async {
        shutdown.wait().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        flushed = sink.flush() => flushed.map_err(|e| refused(config, &e)),
        () = grace => Ok(()),
    }
}

/// Lets the printer end; a standard output that blocks does not hold up the process.
async fn say_goodbye(sent: &SentLines, printer: JoinHandle<()>, summary: String) {
    sent.close(summary);
    if !printer.is_finished() {
        // Nothing is left to do about either failure.
        let _ = tokio::time::timeout(PRINT_GRACE, printer).await;
    }
}

/// The number of the topic's partitions; creates the topic if it is missing, waits for Kafka if it is away.
async fn topic(cluster: &Cluster, partitions: i32) -> Result<i32> {
    let (mut backoff, longest) = TOPIC_BACKOFF;
    loop {
        match find_or_create(cluster, partitions).await {
            Ok(Some(count)) => return Ok(count),
            // Just created, by this or another process: soon every broker has it.
            Ok(None) => {}
            Err(e) => match e.kind {
                ErrorKind::Authentication
                | ErrorKind::Authorization
                | ErrorKind::Unsupported
                | ErrorKind::Fatal => {
                    return Err(Error::usage(format!(
                        "Kafka refuses topic {}: {e}; check the user, its permissions and --topic",
                        cluster.topic()
                    )));
                }
                // `Cluster` says that Kafka is away.
                _ => {}
            },
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(longest);
    }
}

async fn find_or_create(cluster: &Cluster, partitions: i32) -> Result<Option<i32>, KafkaError> {
    if let Some(found) = cluster.partitions().await? {
        // Kafka numbers partitions from 0 without gaps; a topic of none is one that is being deleted.
        return Ok(i32::try_from(found.len()).ok().filter(|count| *count > 0));
    }
    match cluster.create_topic(partitions).await {
        Ok(()) => crate::info!("Topic created", "topic" => cluster.topic(), "partitions" => partitions),
        Err(e) if e.kind == ErrorKind::TopicExists => {}
        Err(e) => return Err(e),
    }
    Ok(None)
}

fn refused(config: &Producer, error: &KafkaError) -> Error {
    let topic = &config.kafka.topic;
    Error::usage(format!(
        "Kafka refuses readings for topic {topic}: {error}; check the user and its permissions"
    ))
}

/// Where readings come from.
enum Source {
    Synthetic { stations: Synthetic, time: EventTime },
    Lines(LineReader),
    Api(Box<PolledApi>),
}

impl Source {
    async fn open(config: &Producer) -> Result<Self> {
        Ok(match &config.source {
            ReadingSource::Synthetic => Source::Synthetic {
                stations: Synthetic::new(
                    config.stations,
                    config.seed,
                    UnusableShares {
                        late: config.late_ratio,
                        malformed: config.malformed_ratio,
                        future: config.future_ratio,
                    },
                ),
                time: EventTime::new(config, now_ms(), Instant::now()),
            },
            ReadingSource::Stdin => Source::Lines(LineReader::stdin()),
            ReadingSource::File(path) => Source::Lines(LineReader::file(path).await?),
            ReadingSource::Http(url) => {
                Source::Api(Box::new(PolledApi::new(url, config.poll, &config.format)))
            }
        })
    }
}

#[cfg(test)]
mod tests;
