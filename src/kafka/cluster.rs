//! The cluster as a whole: which brokers there are, who leads what, and the connections for short calls.
//!
//! Metadata is requested for one topic only, and never creates it. The brokers that the user gave are tried first each time
//! that a connection for metadata is needed; those that the cluster has named since come last. Callers that need newer
//! metadata at the same time share one request. A connection for calls that are held back (a fetch) is the
//! caller's own: [`Cluster::open`].
//!
//! A broker that cannot be reached is reported once, here, for all tasks that need it. So is a broker of another cluster
//! than the one that [`Cluster::keep_to`] named: an address may lead elsewhere tomorrow.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connection::{Address, AddressOrigin, CONNECT_TIMEOUT, Connection, REQUEST_TIMEOUT};
use super::error::{ErrorKind, KafkaError};
use super::message::metadata::{BrokerNode, MetadataCall, PartitionMetadata, TopicMetadata};
use super::message::offsets::{OffsetAt, OffsetsCall};
use super::message::topics::CreateTopicCall;
use super::message::{Call, NO_TOPIC_ID};
use crate::config::Kafka;
use crate::telemetry::log::Outage;

/// Pause after name or password were refused: many attempts could lock the user out.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
/// Shortest time that a connection to one of several given brokers gets.
const LEAST_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// What is this old is new enough for a first try; after an error newer metadata is requested.
const RECENT: Duration = Duration::from_secs(1);
/// How long a broker may take to create a topic.
const CREATE_TIMEOUT_MS: i32 = 5_000;

/// What the cluster's metadata has about itself and the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterMetadata {
    /// When it was asked.
    pub asked: Instant,
    /// The cluster's id, if the broker has one.
    pub cluster_id: Option<String>,
    /// The brokers by their numbers.
    pub brokers: BTreeMap<i32, BrokerNode>,
    /// The broker that creates topics, or passes that on.
    pub controller: i32,
    /// The topic; None if there is none of this name.
    pub topic: Option<KnownTopic>,
}

/// What is known of the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownTopic {
    /// Its id; [`NO_TOPIC_ID`] where the broker gives none.
    pub id: [u8; 16],
    /// Its partitions by their numbers.
    pub partitions: BTreeMap<i32, PartitionMetadata>,
}

/// The cluster, shared by everything in the process that talks to Kafka.
#[derive(Debug)]
pub struct Cluster {
    options: Kafka,
    outage: Outage,
    /// The only cluster that is talked to, once it is known.
    id: OnceLock<String>,
    /// The connection for metadata. Held while asking, so that callers share the answer.
    bootstrap: tokio::sync::Mutex<Bootstrap>,
    last: Mutex<Option<Arc<ClusterMetadata>>>,
    brokers: Mutex<HashMap<i32, Arc<LeadingBroker>>>,
}

#[derive(Debug, Default)]
struct Bootstrap {
    connection: Option<Connection>,
    /// The last refusal of name or password.
    refused: Option<(Instant, KafkaError)>,
}

/// A broker that leads something.
#[derive(Debug)]
struct LeadingBroker {
    connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
    outage: Outage,
}

impl Cluster {
    /// Remembers where the cluster is; connects at the first call.
    pub fn new(options: Kafka) -> Self {
        let outage = Outage::new(format!("Kafka at {}", options.brokers.join(",")));
        let (id, bootstrap, last, brokers) = Default::default();
        Self { options, outage, id, bootstrap, last, brokers }
    }

    /// Talks to no broker of another cluster from now on.
    pub fn keep_to(&self, id: String) {
        // Told once, at start-up.
        let _ = self.id.set(id);
    }

    /// The cluster that is kept to, if there is one.
    pub fn id(&self) -> Option<&str> {
        self.id.get().map(String::as_str)
    }

    /// Where the cluster is, as the user gave it.
    pub fn given_brokers(&self) -> String {
        self.options.brokers.join(",")
    }

    /// The topic that all calls are about.
    pub fn topic(&self) -> &str {
        &self.options.topic
    }

    /// Why a broker that is needed cannot be reached, if so.
    pub fn outage(&self) -> Option<String> {
        self.outage.reason().or_else(|| self.known().values().find_map(|broker| broker.outage.reason()))
    }

    /// What to report about the cluster if a broker that is needed cannot be reached.
    pub fn problem(&self) -> Option<String> {
        self.outage.problem().or_else(|| self.known().values().find_map(|broker| broker.outage.problem()))
    }

    /// Metadata as of now.
    pub async fn metadata(&self) -> Result<Arc<ClusterMetadata>, KafkaError> {
        self.metadata_since(Instant::now()).await
    }

    /// Metadata that is at most a second old: partitions that come up together share one request.
    async fn recent_metadata(&self) -> Result<Arc<ClusterMetadata>, KafkaError> {
        self.metadata_since(recently()).await
    }

    /// Metadata that was requested at this time or later.
    pub async fn metadata_since(&self, since: Instant) -> Result<Arc<ClusterMetadata>, KafkaError> {
        let mut bootstrap = self.bootstrap.lock().await;
        if let Some(last) = self.last_metadata().filter(|last| last.asked >= since) {
            return Ok(last);
        }
        let asked = Instant::now();
        let connection = self.bootstrap_connection(&mut bootstrap).await?;
        let answer = connection.call(MetadataCall { topic: self.topic() }, REQUEST_TIMEOUT).await?;
        let brokers: BTreeMap<i32, BrokerNode> =
            answer.brokers.into_iter().map(|broker| (broker.id, broker)).collect();
        let topic = self.topic_of(answer.topics)?;
        let leads =
            |broker| topic.iter().flat_map(|topic| topic.partitions.values()).any(|p| p.leader == broker);
        // One that is away and leads nothing any more is not waited for.
        self.known().retain(|broker, known| known.outage.reason().is_none() || leads(*broker));
        let (cluster_id, controller) = (answer.cluster_id, answer.controller);
        let metadata = Arc::new(ClusterMetadata { asked, cluster_id, brokers, controller, topic });
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&metadata));
        Ok(metadata)
    }

    /// The newest metadata that are here, if there are any.
    pub fn last_metadata(&self) -> Option<Arc<ClusterMetadata>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn topic_of(&self, topics: Vec<TopicMetadata>) -> Result<Option<KnownTopic>, KafkaError> {
        let Some(topic) = topics.into_iter().find(|topic| topic.name == self.topic()) else {
            return Ok(None);
        };
        match ErrorKind::of(topic.error) {
            Some(ErrorKind::UnknownTopic) => Ok(None),
            _ => {
                KafkaError::check(topic.error, None, format_args!("topic {}", self.topic()))?;
                let partitions = topic.partitions.into_iter().map(|found| (found.partition, found)).collect();
                Ok(Some(KnownTopic { id: topic.id, partitions }))
            }
        }
    }

    /// The connection for metadata, or a new one to the first broker that takes one.
    async fn bootstrap_connection<'a>(
        &self,
        bootstrap: &'a mut Bootstrap,
    ) -> Result<&'a Connection, KafkaError> {
        if bootstrap.connection.as_ref().is_none_or(Connection::is_broken) {
            bootstrap.connection = None;
            if let Some((at, error)) = &bootstrap.refused
                && at.elapsed() < REFUSED_PAUSE
            {
                return Err(error.clone());
            }
            let opened = self.of_this_cluster(self.open_any(self.last_metadata().as_deref()).await).await;
            bootstrap.refused = match &opened {
                Err(e) if e.kind == ErrorKind::Authentication => Some((Instant::now(), e.clone())),
                _ => None,
            };
            match opened {
                Ok(connection) => bootstrap.connection = Some(connection),
                Err(error) => {
                    self.outage.failed(&error);
                    return Err(error);
                }
            }
            self.outage.ok();
        }
        bootstrap.connection.as_ref().ok_or_else(|| KafkaError::new(ErrorKind::Connection, "no connection"))
    }

    async fn open_any(&self, last: Option<&ClusterMetadata>) -> Result<Connection, KafkaError> {
        let given = self
            .options
            .brokers
            .iter()
            .map(|reachable| Address { reachable: reachable.clone(), origin: AddressOrigin::Given });
        let named = last.into_iter().flat_map(|last| last.brokers.values()).map(|node| self.address(node));
        let share = CONNECT_TIMEOUT / u32::try_from(self.options.brokers.len()).unwrap_or(1).max(1);
        let mut errors = Vec::new();
        for address in given.chain(named) {
            let limit = share.max(LEAST_CONNECT_TIMEOUT);
            match Connection::open(address, self.options.sasl.as_ref(), limit).await {
                Ok(connection) => return Ok(connection),
                // Another broker of the cluster knows the same users.
                Err(error) if error.kind == ErrorKind::Authentication => return Err(error),
                Err(error) => errors.push(error),
            }
        }
        let mut details: Vec<String> = errors.iter().map(|error| error.detail.clone()).collect();
        details.dedup();
        let kind = errors.first().map_or(ErrorKind::Connection, |error| error.kind);
        Err(KafkaError::new(kind, details.join("; ")))
    }

    /// Lets go of a connection to a broker of another cluster than the one that is kept to.
    async fn of_this_cluster(
        &self,
        opened: Result<Connection, KafkaError>,
    ) -> Result<Connection, KafkaError> {
        let connection = opened?;
        let Some(id) = self.id() else { return Ok(connection) };
        let found = connection.call(MetadataCall { topic: self.topic() }, REQUEST_TIMEOUT).await?.cluster_id;
        match found {
            Some(found) if found != id => Err(KafkaError::new(
                ErrorKind::Connection,
                format!("the broker is of cluster {found} now, not of {id}; nothing is read from it"),
            )),
            _ => Ok(connection),
        }
    }

    /// Where a broker is, by what it advertises and by the user's map.
    fn address(&self, node: &BrokerNode) -> Address {
        let advertised = match node.host.contains(':') {
            true => format!("[{}]:{}", node.host, node.port),
            false => format!("{}:{}", node.host, node.port),
        };
        let mapped = self.options.broker_map.iter().find(|(from, _)| *from == advertised);
        Address {
            reachable: mapped.map_or_else(|| advertised.clone(), |(_, to)| to.clone()),
            origin: AddressOrigin::Advertised { broker: node.id, address: advertised },
        }
    }

    /// Opens a connection of the caller's own to a broker.
    pub async fn open(&self, broker: i32) -> Result<Connection, KafkaError> {
        let known = self.broker(broker);
        let Some(node) = self.last_metadata().and_then(|last| last.brokers.get(&broker).cloned()) else {
            return Err(KafkaError::new(ErrorKind::Moved, format!("broker {broker} is not in the cluster")));
        };
        let opened = Connection::open(self.address(&node), self.options.sasl.as_ref(), CONNECT_TIMEOUT).await;
        let opened = self.of_this_cluster(opened).await;
        match &opened {
            Ok(_) => known.outage.ok(),
            Err(error) => known.outage.failed(error),
        }
        opened
    }

    /// A connection to a broker that all callers share.
    pub async fn connection(&self, broker: i32) -> Result<Arc<Connection>, KafkaError> {
        let known = self.broker(broker);
        // Held while connecting, so that callers share one attempt.
        let mut slot = known.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_broken()) {
            return Ok(Arc::clone(connection));
        }
        let connection = Arc::new(self.open(broker).await?);
        *slot = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Makes a short call to a broker, over the connection that all callers share.
    pub async fn call<C: Call + Send + Sync>(&self, broker: i32, call: C) -> Result<C::Answer, KafkaError> {
        self.connection(broker).await?.call(call, REQUEST_TIMEOUT).await
    }

    fn broker(&self, broker: i32) -> Arc<LeadingBroker> {
        let name = || format!("Kafka's broker {broker}");
        let fresh =
            || LeadingBroker { connection: tokio::sync::Mutex::default(), outage: Outage::new(name()) };
        Arc::clone(self.known().entry(broker).or_insert_with(|| Arc::new(fresh())))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<i32, Arc<LeadingBroker>>> {
        self.brokers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topic's partitions as the cluster knows them now; None if there is no such topic.
    pub async fn partitions(&self) -> Result<Option<BTreeSet<i32>>, KafkaError> {
        Ok(self.metadata().await?.partitions())
    }

    /// Creates the topic. The replication factor is the broker's default.
    pub async fn create_topic(&self, partitions: i32) -> Result<(), KafkaError> {
        let metadata = self.metadata().await?;
        let call = CreateTopicCall { topic: self.topic(), partitions, timeout_ms: CREATE_TIMEOUT_MS };
        let answer = self.call(metadata.controller, call).await?;
        let what = format_args!("creating topic {}", self.topic());
        KafkaError::check(answer.error, answer.message.as_deref(), what)
    }

    /// The offset of each of some partitions, from the brokers that lead them.
    pub async fn offsets(&self, partitions: &[i32], at: OffsetAt) -> Result<BTreeMap<i32, i64>, KafkaError> {
        let metadata = self.recent_metadata().await?;
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in partitions {
            by_leader.entry(metadata.leader(*partition, self.topic())?).or_default().push(*partition);
        }
        let mut offsets = BTreeMap::new();
        for (leader, partitions) in by_leader {
            let call = OffsetsCall { topic: self.topic(), partitions: &partitions, at };
            for found in self.call(leader, call).await? {
                let what =
                    format_args!("the offsets of partition {} of topic {}", found.partition, self.topic());
                KafkaError::check(found.error, None, what)?;
                offsets.insert(found.partition, found.offset);
            }
        }
        Ok(offsets)
    }

    /// The offset of one partition.
    pub async fn offset(&self, partition: i32, at: OffsetAt) -> Result<i64, KafkaError> {
        let found = self.offsets(&[partition], at).await?;
        found.get(&partition).copied().ok_or_else(|| {
            KafkaError::new(
                ErrorKind::Transient,
                format!("the answer has no offset for partition {partition}"),
            )
        })
    }
}

/// So long ago that metadata from then is new enough if nothing has failed yet.
pub fn recently() -> Instant {
    let now = Instant::now();
    now.checked_sub(RECENT).unwrap_or(now)
}

impl ClusterMetadata {
    /// The broker that leads a partition.
    pub fn leader(&self, partition: i32, topic: &str) -> Result<i32, KafkaError> {
        match self.topic.as_ref().and_then(|topic| topic.partitions.get(&partition)) {
            None => Err(KafkaError::new(
                ErrorKind::UnknownTopic,
                format!("there is no partition {partition} of topic {topic}"),
            )),
            Some(found) if found.leader < 0 => Err(KafkaError::new(
                ErrorKind::Moved,
                format!("partition {partition} of topic {topic} has no leader at the moment"),
            )),
            Some(found) => Ok(found.leader),
        }
    }

    /// The topic's partitions; None if there is no such topic.
    pub fn partitions(&self) -> Option<BTreeSet<i32>> {
        self.topic.as_ref().map(|topic| topic.partitions.keys().copied().collect())
    }

    /// The topic's id, where the broker gives one.
    pub fn topic_id(&self) -> Option<[u8; 16]> {
        self.topic.as_ref().map(|topic| topic.id).filter(|id| *id != NO_TOPIC_ID)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_there_is_an_outage_and_quick() {
        // Port 1 of loopback: nothing listens there.
        let brokers = vec!["127.0.0.1:1".into()];
        let cluster = Cluster::new(Kafka { brokers, broker_map: Vec::new(), topic: "t".into(), sasl: None });
        let error = cluster.partitions().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Connection);
        assert!(error.detail.contains("127.0.0.1:1") && error.detail.contains("refused"), "{error}");
        assert!(cluster.outage().is_some());
    }
}
