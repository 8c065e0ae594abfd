//! Apache Kafka: the broker that all tests share, or a private one of any version, to be stopped and killed.

use super::service::{Served, Service, port as port_of};
use super::{setting, unique, within};
use rskafka::BackoffConfig;
use rskafka::chrono::DateTime;
use rskafka::client::controller::ControllerClient;
use rskafka::client::error::Error;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::{Record, RecordAndOffset};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The most that one call to a healthy broker may take.
const CALL_LIMIT: Duration = Duration::from_secs(30);
const FETCH_BYTES_MAX: i32 = 4 * 1024 * 1024;

/// Which Apache Kafka to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 4.1.0, KRaft: what `shared` is.
    V4_1,
    /// 3.9.1, KRaft.
    V3_9,
    /// 3.5.2 with ZooKeeper: the replaced system's.
    V3_5,
}

impl Version {
    /// All of them.
    pub const ALL: [Version; 3] = [Version::V4_1, Version::V3_9, Version::V3_5];

    /// As in the names of its jars.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V4_1 => "4.1.0",
            Version::V3_9 => "3.9.1",
            Version::V3_5 => "3.5.2",
        }
    }
}

/// A broker. A private one ends with this value.
pub struct Kafka {
    version: Version,
    port: u16,
    folder: PathBuf,
    private: Option<Private>,
}

/// In the order in which they are dropped: a broker without its ZooKeeper would not end gracefully.
struct Private {
    broker: Service,
    _zookeeper: Option<Service>,
}

impl Served for Kafka {
    fn service(&mut self) -> &mut Service {
        let private = self.private.as_mut();
        &mut private.expect("this is the broker of all tests; use Kafka::private to stop or kill one").broker
    }
}

impl Kafka {
    /// The broker that `tests/run` started for all tests.
    pub fn shared() -> Self {
        let folder = Path::new(&setting("WEATHER_TEST_DIR")).join("kafka");
        Self { version: Version::V4_1, port: port_of(&folder), folder, private: None }
    }

    /// A broker that is already running, such as an embedded one.
    pub fn at(port: u16) -> Self {
        Self { version: Version::V4_1, port, folder: PathBuf::new(), private: None }
    }

    /// A broker of this test alone. `settings` are lines of `server.properties`, such as `num.partitions=6` or
    /// `log.retention.check.interval.ms=500`, which win over those of `service.sh`.
    pub async fn private(version: Version, settings: &[&str]) -> Self {
        let mut settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let zookeeper = match version {
            Version::V3_5 => {
                let mut zookeeper = Service::new(&["zookeeper", version.as_str()], &[], "TERM", "KILL");
                zookeeper.start().await;
                settings.insert(0, format!("zookeeper.connect=127.0.0.1:{}", port_of(zookeeper.path())));
                Some(zookeeper)
            }
            _ => None,
        };
        let mut broker = Service::new(&["kafka", version.as_str()], &settings, "TERM", "KILL");
        broker.start().await;
        let (port, folder) = (port_of(broker.path()), broker.path().to_owned());
        Self { version, port, folder, private: Some(Private { broker, _zookeeper: zookeeper }) }
    }

    /// Another broker of a private one's cluster, with this node id; that one keeps the controller.
    pub async fn another(&self, node: u32, settings: &[&str]) -> Self {
        let port = std::fs::read_to_string(self.folder.join("controller-port")).expect("it has a controller");
        let mut all = vec![
            "process.roles=broker".to_owned(),
            format!("node.id={node}"),
            format!("controller.quorum.voters=1@127.0.0.1:{}", port.trim()),
        ];
        all.extend(settings.iter().map(ToString::to_string));
        let mut broker = Service::new(&["kafka", self.version.as_str()], &all, "TERM", "KILL");
        broker.start().await;
        let (port, folder) = (port_of(broker.path()), broker.path().to_owned());
        Self { version: self.version, port, folder, private: Some(Private { broker, _zookeeper: None }) }
    }

    /// What `--brokers` takes.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The id of its cluster. Not of an embedded one.
    pub fn cluster_id(&self) -> String {
        let path = self.folder.join("data/meta.properties");
        let text = std::fs::read_to_string(path).expect("the broker has noted its cluster");
        let id = text.lines().find_map(|line| line.strip_prefix("cluster.id="));
        id.expect("an id").to_owned()
    }

    /// Its port, the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A new client of this broker: an old one trusts what it learnt before a restart.
    pub async fn client(&self) -> Client {
        let backoff = BackoffConfig {
            max_backoff: Duration::from_millis(500),
            deadline: Some(CALL_LIMIT),
            ..BackoffConfig::default()
        };
        let build = ClientBuilder::new(vec![self.brokers()]).backoff_config(backoff).build();
        within(CALL_LIMIT, "connecting to Kafka", build).await.expect("Kafka is there")
    }

    async fn controller(&self) -> ControllerClient {
        self.client().await.controller_client().expect("a controller client")
    }

    /// A client of one partition.
    pub async fn partition(&self, topic: &str, partition: i32) -> PartitionClient {
        persist("finding a partition", async || {
            self.client().await.partition_client(topic, partition, UnknownTopicHandling::Retry).await
        })
        .await
    }

    /// Creates a topic with a name that no other test uses, and gives the name.
    pub async fn topic(&self, label: &str, partitions: i32) -> String {
        let topic = unique(label);
        self.create_topic(&topic, partitions).await;
        topic
    }

    /// Creates a topic. A broker that has just started may not know its controller yet.
    pub async fn create_topic(&self, topic: &str, partitions: i32) {
        self.create_replicated_topic(topic, partitions, 1).await;
    }

    /// The same with so many replicas of each partition.
    pub async fn create_replicated_topic(&self, topic: &str, partitions: i32, replicas: i16) {
        persist("creating a topic", async || {
            self.controller().await.create_topic(topic, partitions, replicas, 10_000).await
        })
        .await;
    }

    /// Deletes a topic.
    pub async fn delete_topic(&self, topic: &str) {
        persist("deleting a topic", async || self.controller().await.delete_topic(topic, 10_000).await).await;
    }

    /// The topic's partitions, in order.
    pub async fn partitions(&self, topic: &str) -> Vec<i32> {
        let client = self.client().await;
        let topics = within(CALL_LIMIT, "listing topics", client.list_topics()).await.expect("Kafka answers");
        let found = topics.into_iter().find(|found| found.name == topic);
        found.unwrap_or_else(|| panic!("no topic {topic}")).partitions.into_iter().collect()
    }

    /// Appends records to a partition; their offsets.
    pub async fn produce(&self, topic: &str, partition: i32, records: Vec<Record>) -> Vec<i64> {
        let client = self.partition(topic, partition).await;
        let produced = client.produce(records, Compression::NoCompression);
        within(CALL_LIMIT, "producing", produced).await.expect("the records are taken")
    }

    /// The first offset that a partition still has, and the one that the next record will get.
    pub async fn offsets(&self, topic: &str, partition: i32) -> (i64, i64) {
        let client = self.partition(topic, partition).await;
        let asked = async {
            (client.get_offset(OffsetAt::Earliest).await, client.get_offset(OffsetAt::Latest).await)
        };
        let (earliest, latest) = within(CALL_LIMIT, "asking for offsets", asked).await;
        (earliest.expect("an earliest offset"), latest.expect("a latest offset"))
    }

    /// All records of a partition up to its end as it is now.
    pub async fn read(&self, topic: &str, partition: i32) -> Vec<RecordAndOffset> {
        let mut records = Vec::new();
        self.read_each(topic, partition, |record| records.push(record)).await;
        records
    }

    /// The same without keeping them.
    pub async fn read_each(&self, topic: &str, partition: i32, mut each: impl FnMut(RecordAndOffset)) {
        let (mut offset, end) = self.offsets(topic, partition).await;
        let client = self.partition(topic, partition).await;
        while offset < end {
            let fetched = client.fetch_records(offset, 1..FETCH_BYTES_MAX, 1_000);
            let (batch, _) = within(CALL_LIMIT, "fetching", fetched).await.expect("the records can be read");
            // An offset that compaction or a transaction left empty returns no record.
            offset = batch.last().map_or(offset + 1, |record| record.offset + 1);
            batch.into_iter().filter(|record| record.offset < end).for_each(&mut each);
        }
    }

    /// Gives a topic more partitions.
    pub fn add_partitions(&self, topic: &str, partitions: u32) {
        let partitions = partitions.to_string();
        let class = if self.version == Version::V3_5 {
            "kafka.admin.TopicCommand"
        } else {
            "org.apache.kafka.tools.TopicCommand"
        };
        let server = ["--bootstrap-server", &self.brokers()];
        self.tool(
            class,
            &[&server[..], &["--alter", "--topic", topic, "--partitions", &partitions]].concat(),
        );
    }

    /// Runs a program of Kafka's own, a class of its jars, and gives its output: for what rskafka cannot do, such as settings of
    /// topics (`kafka.admin.ConfigCommand`), transactions and codecs (`org.apache.kafka.tools.ProducerPerformance`).
    pub fn tool(&self, class: &str, arguments: &[&str]) -> String {
        let jars = format!("{}/kafka-{}/*", setting("WEATHER_TEST_JARS"), self.version.as_str());
        let log = concat!(
            "-Dlog4j.configuration=file:",
            env!("CARGO_MANIFEST_DIR"),
            "/tests/support/log4j.properties"
        );
        let output = Command::new(setting("WEATHER_TEST_JAVA"))
            .args([
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-XX:-UsePerfData",
                log,
                "-cp",
                &jars,
                class,
            ])
            .args(arguments)
            .output()
            .expect("java runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{class} {arguments:?} failed:\n{text}{errors}");
        text
    }
}

/// Calls again until it succeeds: only for calls that may be carried out twice, or fail the second time.
async fn persist<T>(what: &str, call: impl AsyncFn() -> Result<T, Error>) -> T {
    let start = Instant::now();
    loop {
        match within(CALL_LIMIT, what, call()).await {
            Ok(answer) => return answer,
            Err(error) => assert!(start.elapsed() < CALL_LIMIT, "{what}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A record with this value and nothing else, stamped now.
pub fn record(value: impl Into<Vec<u8>>) -> Record {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_millis();
    let timestamp = DateTime::from_timestamp_millis(now_ms as i64).expect("it is before the year 262142");
    Record { key: None, value: Some(value.into()), headers: BTreeMap::new(), timestamp }
}
