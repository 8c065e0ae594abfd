//! The connection to the cluster, and the only file that calls rskafka's network functions.
//!
//! rskafka 0.6 has no time-outs, keeps dead brokers, never goes back to the bootstrap addresses and may keep a stale
//! leader for ever. So each call here runs under a time-out, and a call that fails for a reason that a new connection
//! could mend *discards* the client: the next call builds a new one from the bootstrap addresses. Discarding names the
//! generation that failed, so that several partitions that fail together rebuild once. rskafka's own retries are cut
//! short; the endless retry is the caller's, who can stop.
//!
//! Errors are sorted by what the caller has to do about them: [`ErrorKind`].

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rskafka::BackoffConfig;
use rskafka::client::error::{Error as ClientError, ProtocolError};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder, Credentials, SaslConfig};
use rskafka::record::{Record, RecordAndOffset};
use tokio::time::{Instant, timeout};

use crate::config::{Kafka, SaslMechanism};
use crate::telemetry::log::Outage;

/// Longest wait for a connection with its handshakes and metadata.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest wait for an answer that the broker does not hold back on purpose.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for acknowledgement of a batch by all replicas. The request allows the broker 30 s, but a half-open
/// socket must not hold the partition that long; what was appended all the same is recognised by its sequence.
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(15);
/// After name or password were refused, so long nothing is tried: many tries could lock the user out.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
/// Largest answer accepted: far above any fetch that is asked for, since one batch may exceed the limit.
const MAX_MESSAGE_BYTES: usize = 128 * 1024 * 1024;

/// What a failed call asks of its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// Not reachable, no answer in time, or a state that passes: try again, a little later each time.
    Transient,
    /// The topic or the partition does not exist (now).
    UnknownTopic,
    /// The offset is below the earliest or above the latest record.
    OffsetOutOfRange,
    /// The batch at this offset is compressed in a way that is not built in; the name of the codec.
    Codec(&'static str),
    /// The record at this offset is a transaction marker, which rskafka cannot read: step over it.
    ControlBatch,
    /// The answer at this offset cannot be read: corrupt, or a form that rskafka does not know.
    Unreadable,
    /// A record or batch is larger than the broker takes.
    TooLarge,
    /// Name or password is wrong, or the listener wants another mechanism.
    Authentication,
    /// The user may not do this.
    Authorization,
    /// The topic exists already.
    TopicExists,
    /// Wrong in a way that trying again does not change.
    Fatal,
}

impl ErrorKind {
    /// Whether another connection, or newer metadata, may do better.
    fn is_mended_by_a_new_client(&self) -> bool {
        matches!(
            self,
            Self::Transient
                | Self::UnknownTopic
                | Self::Unreadable
                | Self::Authentication
                | Self::Authorization
        )
    }
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaError {
    /// What the caller has to do.
    pub kind: ErrorKind,
    /// One line for the user.
    pub detail: String,
}

impl KafkaError {
    fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

impl fmt::Display for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for KafkaError {}

/// The cluster, shared by everything in the process that talks to Kafka.
#[derive(Debug)]
pub struct Cluster {
    options: Kafka,
    slot: tokio::sync::Mutex<Slot>,
    /// Generations at or below this are no longer to be used. Written under no lock so that a failing call never waits.
    discarded: std::sync::Mutex<u64>,
    outage: Outage,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u64,
    client: Option<Arc<Client>>,
    /// The last refusal of name or password.
    refused: Option<(Instant, KafkaError)>,
}

/// A connection to the leader of one partition, good until a call on it fails.
#[derive(Debug)]
pub struct Leader {
    client: PartitionClient,
    generation: u64,
}

/// The answer to a fetch.
#[derive(Debug)]
pub struct Fetched {
    /// Records from the asked offset on; empty if there were none in time.
    pub records: Vec<RecordAndOffset>,
    /// The offset after the newest readable record.
    pub high_watermark: i64,
}

impl Cluster {
    /// Remembers where the cluster is; connects at the first call.
    pub fn new(options: Kafka) -> Self {
        let outage = Outage::new(format!("Kafka at {}", options.brokers.join(",")));
        Self { options, slot: tokio::sync::Mutex::default(), discarded: std::sync::Mutex::new(0), outage }
    }

    /// The topic that all calls are about.
    pub fn topic(&self) -> &str {
        &self.options.topic
    }

    /// Why no broker can be reached, if so.
    pub fn outage(&self) -> Option<String> {
        self.outage.reason()
    }

    /// What to tell about the cluster, if no broker can be reached.
    pub fn complaint(&self) -> Option<String> {
        self.outage.complaint()
    }

    /// The topic's partitions as the cluster knows them now; None if there is no such topic.
    ///
    /// Asks for the list of all topics, which is the one metadata request that never creates a topic by itself.
    pub async fn partitions(&self) -> Result<Option<BTreeSet<i32>>, KafkaError> {
        let (client, generation) = self.client().await?;
        let topics = self.call(generation, REQUEST_TIMEOUT, client.list_topics()).await?;
        Ok(topics.into_iter().find(|t| t.name == self.options.topic).map(|t| t.partitions))
    }

    /// Creates the topic. The replication factor is the broker's default.
    pub async fn create_topic(&self, partitions: i32) -> Result<(), KafkaError> {
        let (client, generation) = self.client().await?;
        let controller = client.controller_client().map_err(classify)?;
        let create = controller.create_topic(self.options.topic.clone(), partitions, -1, 5_000);
        self.call(generation, REQUEST_TIMEOUT, create).await
    }

    /// Connects to the leader of a partition.
    ///
    /// Looks first whether the partition is there: rskafka asks for its leader in a way that lets the broker create a
    /// topic that was deleted, with as many partitions as the broker likes.
    pub async fn leader(&self, partition: i32) -> Result<Leader, KafkaError> {
        if !self.partitions().await?.is_some_and(|partitions| partitions.contains(&partition)) {
            let detail = format!("there is no partition {partition} of topic {}", self.options.topic);
            return Err(KafkaError::new(ErrorKind::UnknownTopic, detail));
        }
        let (client, generation) = self.client().await?;
        let topic = self.options.topic.clone();
        let connect = client.partition_client(topic, partition, UnknownTopicHandling::Error);
        let client = self.call(generation, CONNECT_TIMEOUT, connect).await?;
        Ok(Leader { client, generation })
    }

    /// Records from `offset` on, at most about `max_bytes`, waiting up to `wait` for the first.
    pub async fn fetch(
        &self,
        leader: &Leader,
        offset: i64,
        max_bytes: i32,
        wait: Duration,
    ) -> Result<Fetched, KafkaError> {
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        let fetch = leader.client.fetch_records(offset, 1..max_bytes.saturating_add(1), wait_ms);
        let (records, high_watermark) = self.call(leader.generation, wait + REQUEST_TIMEOUT, fetch).await?;
        Ok(Fetched { records, high_watermark })
    }

    /// The offset of the oldest or after the newest record, or of the first one stamped at or after a time.
    ///
    /// A time after the newest record's gives -1.
    pub async fn offset(&self, leader: &Leader, at: OffsetAt) -> Result<i64, KafkaError> {
        self.call(leader.generation, REQUEST_TIMEOUT, leader.client.get_offset(at)).await
    }

    /// Appends a batch and waits for all in-sync replicas; the records' offsets.
    ///
    /// An error leaves open whether the batch was appended.
    pub async fn produce(
        &self,
        leader: &Leader,
        records: Vec<Record>,
        compression: Compression,
    ) -> Result<Vec<i64>, KafkaError> {
        self.call(leader.generation, PRODUCE_TIMEOUT, leader.client.produce(records, compression)).await
    }

    /// The current client, or a new one if there is none or the last was discarded.
    async fn client(&self) -> Result<(Arc<Client>, u64), KafkaError> {
        // Held while connecting, so that several partitions share one attempt and its result.
        let mut slot = self.slot.lock().await;
        if slot.generation <= self.discarded_generation() {
            slot.client = None;
        }
        if let Some(client) = &slot.client {
            return Ok((Arc::clone(client), slot.generation));
        }
        if let Some((at, error)) = &slot.refused
            && at.elapsed() < REFUSED_PAUSE
        {
            return Err(error.clone());
        }
        let built = match timeout(CONNECT_TIMEOUT, self.builder().build()).await {
            Ok(result) => result.map_err(|e| self.explain(classify(e))),
            Err(_) => Err(timed_out(CONNECT_TIMEOUT)),
        };
        slot.refused = match &built {
            Err(e) if e.kind == ErrorKind::Authentication => Some((Instant::now(), e.clone())),
            _ => None,
        };
        match built {
            Ok(client) => {
                let client = Arc::new(client);
                slot.generation = self.discarded_generation() + 1;
                slot.client = Some(Arc::clone(&client));
                self.outage.ok();
                Ok((client, slot.generation))
            }
            Err(e) => {
                self.outage.failed(&e);
                Err(e)
            }
        }
    }

    /// Says of a failed connection what the broker does not.
    fn explain(&self, mut error: KafkaError) -> KafkaError {
        match &self.options.sasl {
            Some(sasl) if error.kind == ErrorKind::Authentication => {
                error.detail = format!(
                    "user {:?} is refused: wrong name, password or --sasl-mechanism ({})",
                    sasl.username, error.detail
                );
            }
            None if error.detail.contains("early eof") => {
                error.detail += "; the listener may expect SASL (--sasl-mechanism, --sasl-username) or TLS";
            }
            _ => {}
        }
        error
    }

    fn builder(&self) -> ClientBuilder {
        // rskafka's default waits up to 500 s and for ever; ours returns soon and lets the caller decide.
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_millis(500),
            base: 2.0,
            // Each nested retry of rskafka counts only its own sleeps: a second here would become half a minute.
            deadline: Some(Duration::from_millis(150)),
        };
        let builder = ClientBuilder::new(self.options.brokers.clone())
            .client_id("weather")
            .max_message_size(MAX_MESSAGE_BYTES)
            .backoff_config(backoff);
        match &self.options.sasl {
            None => builder,
            Some(sasl) => {
                let credentials = Credentials::new(sasl.username.clone(), sasl.password.expose().to_owned());
                builder.sasl_config(match sasl.mechanism {
                    SaslMechanism::Plain => SaslConfig::Plain(credentials),
                    SaslMechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
                    SaslMechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
                })
            }
        }
    }

    /// Runs one call under a time-out and discards the client when a new connection could mend what failed.
    async fn call<T>(
        &self,
        generation: u64,
        limit: Duration,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, KafkaError> {
        let result = match timeout(limit, call).await {
            Ok(result) => result.map_err(classify),
            Err(_) => Err(timed_out(limit)),
        };
        // Nothing is said here: if the cluster is away, building the next client says so, once for all that failed.
        if result.as_ref().is_err_and(|e| e.kind.is_mended_by_a_new_client()) {
            self.discard(generation);
        }
        result
    }

    fn discard(&self, generation: u64) {
        let mut discarded = self.discarded.lock().unwrap_or_else(PoisonError::into_inner);
        *discarded = generation.max(*discarded);
    }

    fn discarded_generation(&self) -> u64 {
        *self.discarded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn timed_out(limit: Duration) -> KafkaError {
    KafkaError::new(ErrorKind::Transient, format!("no answer within {} s", limit.as_secs()))
}

/// Sorts rskafka's error by what the caller has to do.
fn classify(error: ClientError) -> KafkaError {
    let detail = describe(&error);
    let kind = match &error {
        ClientError::ServerError { protocol_error, .. } => server_kind(*protocol_error),
        // Authentication, unreadable batches and lost connections share rskafka's opaque variants; their text is the
        // only thing that tells them apart.
        _ => kind_by_text(&detail),
    };
    KafkaError::new(kind, detail)
}

fn server_kind(error: ProtocolError) -> ErrorKind {
    use ProtocolError as P;
    match error {
        P::UnknownTopicOrPartition | P::UnknownTopicId | P::InconsistentTopicId => ErrorKind::UnknownTopic,
        P::OffsetOutOfRange => ErrorKind::OffsetOutOfRange,
        P::UnsupportedCompressionType => ErrorKind::Codec("zstd"),
        P::CorruptMessage => ErrorKind::Unreadable,
        P::MessageTooLarge | P::RecordListTooLarge => ErrorKind::TooLarge,
        P::SaslAuthenticationFailed | P::UnsupportedSaslMechanism | P::IllegalSaslState => {
            ErrorKind::Authentication
        }
        P::TopicAuthorizationFailed | P::ClusterAuthorizationFailed | P::GroupAuthorizationFailed => {
            ErrorKind::Authorization
        }
        P::TopicAlreadyExists => ErrorKind::TopicExists,
        P::InvalidTopicException
        | P::InvalidPartitions
        | P::InvalidConfig
        | P::InvalidRequest
        | P::InvalidTimestamp
        | P::InvalidRecord
        | P::UnsupportedVersion
        | P::UnsupportedForMessageFormat
        | P::PolicyViolation => ErrorKind::Fatal,
        // Everything else is a state of the cluster that passes: no leader, too few replicas, storage, time-out, quota.
        _ => ErrorKind::Transient,
    }
}

/// The kinds that only the text of rskafka's error tells apart.
fn kind_by_text(text: &str) -> ErrorKind {
    const CODECS: [(&str, &str); 4] =
        [("Gzip", "gzip"), ("Snappy", "snappy"), ("Lz4", "lz4"), ("Zstd", "zstd")];
    if let Some((_, codec)) = text.split_once("Unimplemented compression: ") {
        let codec = CODECS.iter().find(|(name, _)| codec.starts_with(name));
        return ErrorKind::Codec(codec.map_or("of an unknown kind", |(_, codec)| codec));
    }
    if text.contains("Unknown control batch record") {
        ErrorKind::ControlBatch
    } else if text.contains("Malformed data")
        || text.contains("Overflow converting")
        || text.contains("Not a valid timestamp")
        || text.contains("Timestamp overflow")
    {
        ErrorKind::Unreadable
    } else if text.to_ascii_lowercase().contains("sasl") {
        ErrorKind::Authentication
    } else {
        ErrorKind::Transient
    }
}

/// rskafka's message without the layers around the cause.
fn describe(error: &ClientError) -> String {
    if let ClientError::ServerError { protocol_error, error_message, .. } = error {
        return match error_message {
            Some(message) => format!("{protocol_error:?}: {message}"),
            None => format!("{protocol_error:?}"),
        };
    }
    let text = error.to_string();
    let cause = text.rsplit_once("Source: ").map_or(text.as_str(), |(_, cause)| cause);
    cause.strip_prefix("Connection error: ").unwrap_or(cause).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_tells_what_the_variants_do_not() {
        let cases = [
            (
                "Request error: Cannot read versioned data: Malformed data: Unknown control batch record version: 1",
                ErrorKind::ControlBatch,
            ),
            ("Request error: Malformed data: Unimplemented compression: Zstd", ErrorKind::Codec("zstd")),
            ("Request error: Malformed data: Unimplemented compression: Lz4", ErrorKind::Codec("lz4")),
            ("Request error: Malformed data: CRC error, got 0x1, expected 0x2", ErrorKind::Unreadable),
            ("Sasl handshake failed: API error: SaslAuthenticationFailed", ErrorKind::Authentication),
            ("IO Error: Connection refused (os error 111)", ErrorKind::Transient),
        ];
        for (text, kind) in cases {
            assert_eq!(kind_by_text(text), kind, "{text}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_transient_and_quick() {
        // Port 1 of loopback: nothing listens there.
        let cluster =
            Cluster::new(Kafka { brokers: vec!["127.0.0.1:1".into()], topic: "t".into(), sasl: None });
        let e = cluster.partitions().await.unwrap_err();
        assert_eq!(e.kind, ErrorKind::Transient);
        assert!(e.detail.contains("127.0.0.1:1") && e.detail.contains("refused"), "{e}");
        assert!(cluster.outage().is_some());
    }
}
