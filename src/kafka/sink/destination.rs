//! A partition of the cluster's topic, as a sender's destination.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::encode::Encoded;
use super::sender::{Acknowledgement, Destination};
use crate::kafka::cluster::Cluster;
use crate::kafka::connection::Connection;
use crate::kafka::error::{ErrorKind, KafkaError};
use crate::kafka::message::produce::{InitProducerIdCall, ProduceCall, ProducerId};

/// How long the broker may wait for the replicas, ms.
const REPLICAS_TIMEOUT_MS: i32 = 10_000;
/// Longest wait for an acknowledgement.
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(15);

/// Where the batches of one partition go.
pub(super) struct ToKafka {
    cluster: Arc<Cluster>,
    partition: i32,
    partitions: i32,
    /// The connection to the leader; None: find the leader first.
    leader: Option<Arc<Connection>>,
    /// The metadata must be newer than this.
    since: Instant,
}

impl ToKafka {
    pub(super) fn new(cluster: Arc<Cluster>, partition: i32, partitions: i32) -> Self {
        Self { cluster, partition, partitions, leader: None, since: Instant::now() }
    }

    async fn find_leader(&self) -> Result<Arc<Connection>, KafkaError> {
        let metadata = self.cluster.metadata_since(self.since).await?;
        if metadata.topic.is_none() {
            // Deleted while readings are sent: created again with as many partitions. Several partitions may try at once;
            // what is wrong shows when the leader is looked for the next time.
            let _ = self.cluster.create_topic(self.partitions).await;
        }
        let leader = metadata.leader(self.partition, self.cluster.topic())?;
        self.cluster.connection(leader).await
    }
}

impl Destination for ToKafka {
    async fn connect(&mut self) -> Result<(), KafkaError> {
        if self.leader.as_ref().is_none_or(|leader| leader.is_broken()) {
            self.leader = None;
            let found = self.find_leader().await;
            if found.is_err() {
                self.since = Instant::now();
            }
            self.leader = Some(found?);
        }
        Ok(())
    }

    async fn producer_id(&mut self) -> Result<Option<ProducerId>, KafkaError> {
        let Some(leader) = &self.leader else {
            return Err(KafkaError::new(ErrorKind::Connection, "no connection"));
        };
        let answer = match leader.call(InitProducerIdCall, PRODUCE_TIMEOUT).await {
            Ok(answer) => answer,
            Err(error) if error.kind == ErrorKind::Unsupported => return Ok(None),
            Err(error) => return Err(error),
        };
        match KafkaError::check(answer.error, None, "requesting a producer id") {
            Ok(()) => Ok(Some(answer)),
            // A user of an older cluster may write to a topic and yet have no right to this.
            Err(error) if matches!(error.kind, ErrorKind::Authorization | ErrorKind::Unsupported) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn append(&mut self, batch: Arc<Encoded>) -> Acknowledgement {
        let (cluster, partition) = (Arc::clone(&self.cluster), self.partition);
        let leader = self.leader.clone();
        Box::pin(async move {
            let Some(leader) = leader else {
                return Err(KafkaError::new(ErrorKind::Connection, "no connection"));
            };
            let topic = cluster.topic();
            let call =
                ProduceCall { topic, partition, timeout_ms: REPLICAS_TIMEOUT_MS, batch: batch.parts() };
            let answer = leader.call(call, PRODUCE_TIMEOUT).await?;
            let what = format_args!("sending to partition {partition} of topic {topic}");
            KafkaError::check(answer.error, answer.message.as_deref(), what)
        })
    }

    fn lost(&mut self) {
        self.leader = None;
        self.since = Instant::now();
    }

    fn is_away(&self) -> bool {
        self.cluster.outage().is_some()
    }
}
