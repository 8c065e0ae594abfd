//! The records of one partition from an offset on, whatever happens to the broker, the leader or the topic.
//!
//! A [`Source`] runs as a task of its own and hands [`Event`]s over a channel of one: the next fetch is under way while
//! the last batch is parsed, and there is never more than that in memory. Before the first fetch and after every lost
//! connection it looks whether the log is still the one it knows, by comparing a record that it has read before: a topic
//! that was recreated and filled again looks healthy to Kafka's protocol.
//!
//! What rskafka cannot read fails a whole answer, good batches before it included. So a failed answer is asked for again
//! in the smallest size, one batch at a time, until the batch that cannot be read stands alone; only then it is stepped
//! over (a transaction marker), counted as lost (corrupt) or named (a codec that is not built in).
//!
//! Errors that pass are retried for ever here, and said once: by `Cluster` when no broker can be reached, else here.

use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

use rskafka::client::partition::OffsetAt;
use rskafka::record::RecordAndOffset;
use tokio::sync::mpsc;

use crate::config::{LogLevel, OnDataLoss, StartFrom};
use crate::engine::state::Mark;
use crate::error::Error;
use crate::kafka::client::{Cluster, ErrorKind, Fetched, KafkaError, Leader};
use crate::retry::Backoff;
use crate::telemetry::log::Outage;

/// Most bytes of a fetch that shall return one batch only.
const ONE_BATCH: i32 = 1;
/// Batches taken one at a time after an answer that could not be read.
const ISOLATED_FETCHES: u32 = 64;
/// Tries at a batch that cannot be read, each on a new connection and later than the last, before it counts as lost.
const UNREADABLE_TRIES: u32 = 8;
/// Empty answers below the log's end before an offset counts as one that has no record.
const EMPTY_TRIES: u32 = 3;

/// What a source has to know of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Most bytes of one fetch.
    pub fetch_bytes: i32,
    /// How long the broker may hold back the answer while there is nothing.
    pub wait: Duration,
    /// What to do about records that Kafka no longer has.
    pub on_data_loss: OnDataLoss,
}

/// What happened to the partition, in the order of its log.
#[derive(Debug)]
pub enum Event {
    /// Records, ascending by offset; at least one.
    Records {
        /// The records.
        records: Vec<RecordAndOffset>,
        /// The first and the last of them, to be remembered.
        marks: [Mark; 2],
        /// The offset after the newest readable record.
        high_watermark: i64,
    },
    /// All is read, and nothing came while the broker waited.
    CaughtUp {
        /// The offset after the newest readable record.
        high_watermark: i64,
    },
    /// Offsets up to here hold no record.
    Skipped {
        /// Reading goes on here.
        to: i64,
    },
    /// Offsets up to here were lost.
    Lost {
        /// Reading goes on here.
        to: i64,
    },
    /// The log is the one that was read before, and the next offset is in it; said after each new connection.
    Recognised,
    /// The log is another one, or was cut: reading goes on there.
    StartedOver {
        /// Reading goes on here.
        at: i64,
        /// The offset after the newest record that the log has now.
        end: i64,
    },
    /// The older remembered record is gone from the log.
    FirstMarkGone,
    /// Reading cannot go on.
    Failed(Error),
}

/// Reads one partition.
#[derive(Debug)]
pub struct Source {
    cluster: Arc<Cluster>,
    partition: i32,
    settings: Settings,
    next_offset: i64,
    marks: [Option<Mark>; 2],
    /// How many more fetches ask for one batch only.
    isolated: u32,
    /// Failed tries at the batch at `next_offset`; stays at its limit from one lost offset to the next.
    unreadable: u32,
    /// Where the last loss ended.
    last_lost: Option<i64>,
    /// Empty answers in a row below the log's end; stays at its limit from one empty offset to the next.
    empty: u32,
    /// Says once that this partition cannot be read although the cluster is there.
    outage: Outage,
    events: mpsc::Sender<Event>,
}

/// Why the source's task ends: its owner no longer listens, or it has told a failure.
struct Ended;

impl Source {
    /// A source that goes on at `next_offset`, knowing these records of the log.
    pub fn new(
        cluster: Arc<Cluster>,
        partition: i32,
        settings: Settings,
        next_offset: i64,
        marks: [Option<Mark>; 2],
    ) -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(1);
        let outage = Outage::new(format!("partition {partition} of topic {}", cluster.topic()));
        let source = Self {
            cluster,
            partition,
            settings,
            next_offset,
            marks,
            isolated: 0,
            unreadable: 0,
            empty: 0,
            last_lost: None,
            outage,
            events,
        };
        (source, receiver)
    }

    /// Whether this partition can be read while the cluster is there, for whoever wants to know.
    pub fn outage(&self) -> Outage {
        self.outage.clone()
    }

    /// Reads until the receiver is gone or a [`Event::Failed`] was sent.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let error = match self.cluster.leader(self.partition).await {
                Ok(leader) => match self.read(&leader, &mut backoff).await {
                    Ok(error) => error,
                    Err(Ended) => return,
                },
                Err(error) => error,
            };
            if error.kind == ErrorKind::Fatal {
                let _ = self.fail(format!("reading: {error}")).await;
                return;
            }
            // The first failure is often a broker that moves or restarts; a cluster that is away says so itself.
            if backoff.failures() > 0 && self.cluster.outage().is_none() {
                self.outage.failed(&error);
            }
            backoff.wait().await;
        }
    }

    /// Reads through one connection until a call on it fails; that error.
    async fn read(&mut self, leader: &Leader, backoff: &mut Backoff) -> Result<KafkaError, Ended> {
        if let Err(error) = self.recognise(leader).await? {
            return Ok(error);
        }
        loop {
            // Room first: the next answer is asked for only when its predecessor was taken.
            let Ok(permit) = self.events.reserve().await else { return Err(Ended) };
            drop(permit);
            let bytes = if self.isolated > 0 { ONE_BATCH } else { self.settings.fetch_bytes };
            match self.cluster.fetch(leader, self.next_offset, bytes, self.settings.wait).await {
                Ok(fetched) => {
                    backoff.reset();
                    self.outage.ok();
                    self.unreadable = 0;
                    if let Err(error) = self.pass_on(leader, fetched).await? {
                        return Ok(error);
                    }
                }
                Err(error) => {
                    let unreadable = matches!(
                        error.kind,
                        ErrorKind::ControlBatch | ErrorKind::Unreadable | ErrorKind::Codec(_)
                    );
                    if !unreadable || !self.step_past(&error).await? {
                        return Ok(error);
                    }
                }
            }
        }
    }

    async fn pass_on(&mut self, leader: &Leader, fetched: Fetched) -> Result<Result<(), KafkaError>, Ended> {
        let Fetched { records, high_watermark } = fetched;
        if let (Some(first), Some(last)) = (records.first(), records.last()) {
            let marks = [mark_of(first), mark_of(last)];
            self.next_offset = marks[1].offset + 1;
            self.marks = [self.marks[0].or(Some(marks[0])), Some(marks[1])];
            self.isolated = self.isolated.saturating_sub(1);
            self.empty = 0;
            return self.send(Event::Records { records, marks, high_watermark }).await.map(Ok);
        }
        if high_watermark <= self.next_offset {
            return self.send(Event::CaughtUp { high_watermark }).await.map(Ok);
        }
        // Nothing though there should be: an open transaction holds the end back, or the records here are gone.
        match self.cluster.offset(leader, OffsetAt::Latest).await {
            Ok(readable) if readable <= self.next_offset => {
                self.send(Event::CaughtUp { high_watermark: readable }).await.map(Ok)
            }
            // An answer may be empty for once: a broker that fetches from slow storage asks to come again.
            Ok(_) if self.empty < EMPTY_TRIES => {
                tokio::time::sleep(Backoff::FIRST * (1 << self.empty)).await;
                self.empty += 1;
                Ok(Ok(()))
            }
            Ok(_) => {
                self.next_offset += 1;
                self.send(Event::Skipped { to: self.next_offset }).await.map(Ok)
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Deals with an answer that rskafka could not read; whether this connection shall go on.
    async fn step_past(&mut self, error: &KafkaError) -> Result<bool, Ended> {
        if self.isolated == 0 {
            self.isolated = ISOLATED_FETCHES;
            return Ok(true);
        }
        match error.kind {
            ErrorKind::ControlBatch => {
                self.next_offset += 1;
                self.send(Event::Skipped { to: self.next_offset }).await.map(|()| true)
            }
            ErrorKind::Codec(codec) => {
                let feature = match codec {
                    "lz4" | "zstd" => format!("build with `--features {codec}`, or "),
                    _ => String::new(),
                };
                self.fail(format!(
                    "the batch at offset {} is compressed with {codec}, which this build cannot read; {feature}let producers \
                     (and the topic's compression.type) use none, gzip or snappy",
                    self.next_offset
                ))
                .await
                .map(|()| true)
            }
            // Another leader or a repaired replica may have it whole.
            _ if self.unreadable < UNREADABLE_TRIES => {
                self.unreadable += 1;
                Ok(false)
            }
            _ => {
                let why = format!("the batch at offset {} cannot be read ({error})", self.next_offset);
                self.lose_to(self.next_offset + 1, &why).await.map(|()| true)
            }
        }
    }

    /// Looks whether the log is still the one that was read before, and whether the next offset is in it.
    async fn recognise(&mut self, leader: &Leader) -> Result<Result<(), KafkaError>, Ended> {
        let range = match self.range(leader).await {
            Ok(range) => range,
            Err(error) => return Ok(Err(error)),
        };
        let (earliest, latest) = range;
        if self.marks[0].is_some_and(|m| m.offset < earliest) && self.marks[0] != self.marks[1] {
            self.marks[0] = self.marks[1];
            self.send(Event::FirstMarkGone).await?;
        }
        let (newest, oldest) = match self.compare_marks(leader, range).await {
            Ok(known) => known,
            Err(error) => return Ok(Err(error)),
        };
        match (newest, oldest) {
            (Some(false), Some(true)) => {
                let at = self.next_offset.min(latest);
                self.start_over(at, latest, "the log was cut and filled again").await?;
            }
            (Some(false), _) | (None, Some(false)) => {
                self.start_over(earliest, latest, "the topic was recreated").await?;
            }
            // A recreated log begins at 0; one that does not is the old one, cut behind all that is known of it.
            (_, Some(true)) | (Some(true), _) if self.next_offset > latest => {
                self.start_over(latest, latest, "the log was cut behind what was read").await?;
            }
            _ if self.next_offset > latest && earliest > 0 => {
                self.start_over(latest, latest, "the log was cut behind what was read").await?;
            }
            _ if self.next_offset > latest => {
                self.start_over(earliest, latest, "the topic was recreated").await?;
            }
            _ if self.next_offset < earliest => {
                self.lose_to(earliest, "Kafka has deleted records before they were read").await?;
            }
            _ => {}
        }
        self.send(Event::Recognised).await.map(Ok)
    }

    /// Whether the log still has the newest known record, and the oldest.
    async fn compare_marks(
        &self,
        leader: &Leader,
        range: (i64, i64),
    ) -> Result<(Option<bool>, Option<bool>), KafkaError> {
        let newest = match self.marks[1] {
            Some(mark) => self.compare(leader, mark, range).await?,
            None => None,
        };
        let oldest = match self.marks[0] {
            // The newest is there: that is answer enough.
            Some(mark) if newest != Some(true) && self.marks[0] != self.marks[1] => {
                self.compare(leader, mark, range).await?
            }
            _ => None,
        };
        Ok((newest, oldest))
    }

    async fn range(&self, leader: &Leader) -> Result<(i64, i64), KafkaError> {
        let earliest = self.cluster.offset(leader, OffsetAt::Earliest).await?;
        Ok((earliest, self.cluster.offset(leader, OffsetAt::Latest).await?))
    }

    /// Whether the log still has this record; None if it cannot be told.
    async fn compare(
        &self,
        leader: &Leader,
        mark: Mark,
        (earliest, latest): (i64, i64),
    ) -> Result<Option<bool>, KafkaError> {
        if mark.offset < earliest || mark.offset >= latest {
            return Ok(None);
        }
        match self.cluster.fetch(leader, mark.offset, ONE_BATCH, self.settings.wait).await {
            Ok(fetched) => Ok(fetched
                .records
                .first()
                .map(mark_of)
                .filter(|m| m.offset == mark.offset)
                .map(|m| m == mark)),
            // Compacted to nothing, or in another form than when it was read: it says nothing.
            Err(e)
                if matches!(
                    e.kind,
                    ErrorKind::ControlBatch | ErrorKind::Unreadable | ErrorKind::Codec(_)
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    async fn start_over(&mut self, at: i64, end: i64, why: &str) -> Result<(), Ended> {
        if self.settings.on_data_loss == OnDataLoss::Stop {
            return self
                .fail(format!("{why}; reading would go on at offset {at}, but --on-data-loss is stop"))
                .await;
        }
        crate::warn!(format_args!("{why}; going on at offset {at}"), "topic" => self.cluster.topic(),
            "partition" => self.partition, "next_offset" => self.next_offset);
        self.next_offset = at;
        self.marks = [None; 2];
        self.send(Event::StartedOver { at, end }).await
    }

    async fn lose_to(&mut self, to: i64, why: &str) -> Result<(), Ended> {
        if self.settings.on_data_loss == OnDataLoss::Stop {
            let from = self.next_offset;
            return self
                .fail(format!("{why}: offsets {from} to {} are lost, and --on-data-loss is stop", to - 1))
                .await;
        }
        // In a batch that cannot be read each offset is lost by itself; the first is said.
        let level = if self.last_lost == Some(self.next_offset) { LogLevel::Debug } else { LogLevel::Warn };
        self.last_lost = Some(to);
        crate::log_at!(level, format_args!("{why}; they count as lost"), "topic" => self.cluster.topic(),
            "partition" => self.partition, "from" => self.next_offset, "to" => to, "lost" => to - self.next_offset);
        self.next_offset = to;
        self.send(Event::Lost { to }).await
    }

    async fn fail(&self, what: String) -> Result<(), Ended> {
        let (topic, partition) = (self.cluster.topic(), self.partition);
        let error = Error::failure(format!("partition {partition} of topic {topic}: {what}"));
        let _ = self.events.send(Event::Failed(error)).await;
        Err(Ended)
    }

    async fn send(&self, event: Event) -> Result<(), Ended> {
        self.events.send(event).await.map_err(|_| Ended)
    }
}

/// The offset at which reading starts where no state exists.
pub async fn start_offset(cluster: &Cluster, partition: i32, from: StartFrom) -> Result<i64, KafkaError> {
    let leader = cluster.leader(partition).await?;
    let at = match from {
        StartFrom::Earliest => OffsetAt::Earliest,
        StartFrom::Latest => OffsetAt::Latest,
        StartFrom::Timestamp(ms) => match rskafka::chrono::DateTime::from_timestamp_millis(ms) {
            Some(time) => OffsetAt::Timestamp(time),
            None => OffsetAt::Latest,
        },
    };
    match cluster.offset(&leader, at).await? {
        // Kafka's way to say that no record is that new.
        -1 => cluster.offset(&leader, OffsetAt::Latest).await,
        offset => Ok(offset),
    }
}

/// The offset after the newest readable record.
pub async fn end_offset(cluster: &Cluster, partition: i32) -> Result<i64, KafkaError> {
    let leader = cluster.leader(partition).await?;
    cluster.offset(&leader, OffsetAt::Latest).await
}

/// What is remembered of a record to know it again: FNV-1a over time stamp, key and value.
fn mark_of(record: &RecordAndOffset) -> Mark {
    let mut hash = Fnv1a(0xcbf2_9ce4_8422_2325);
    hash.write(&record.record.timestamp.timestamp_millis().to_le_bytes());
    for part in [&record.record.key, &record.record.value] {
        // A length first, so that bytes do not move from one part to the other unnoticed.
        let part = part.as_deref().unwrap_or_default();
        hash.write(&(part.len() as u64).to_le_bytes());
        hash.write(part);
    }
    Mark { offset: record.offset, hash: hash.finish() }
}

/// A hash that stays the same from build to build, as the standard library's does not promise to.
struct Fnv1a(u64);

impl Hasher for Fnv1a {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rskafka::chrono::DateTime;
    use rskafka::record::Record;

    fn record(key: &str, value: &str) -> RecordAndOffset {
        RecordAndOffset {
            record: Record {
                key: Some(key.into()),
                value: Some(value.into()),
                headers: Default::default(),
                timestamp: DateTime::from_timestamp_millis(1).unwrap(),
            },
            offset: 5,
        }
    }

    #[test]
    fn a_mark_knows_its_record_again() {
        assert_eq!(mark_of(&record("ab", "c")), mark_of(&record("ab", "c")));
        assert_ne!(mark_of(&record("ab", "c")), mark_of(&record("a", "bc")));
        assert_ne!(mark_of(&record("ab", "c")), mark_of(&record("ab", "d")));
    }
}
