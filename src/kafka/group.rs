//! Offsets under the name of a consumer group, so that Kafka's own tools, dashboards and autoscalers see how far reading is.
//!
//! No process joins the group, and nothing is read back: which process reads what, and from where, is decided in PostgreSQL.

use std::sync::Arc;

use super::cluster::Cluster;
use super::error::{ErrorKind, KafkaError};
use super::message::group::{FindCoordinatorCall, OffsetCommitCall};

/// Commits offsets of the cluster's topic.
#[derive(Debug)]
pub struct Group {
    cluster: Arc<Cluster>,
    name: String,
    /// The broker that keeps the group's offsets, as last seen.
    coordinator: Option<i32>,
}

impl Group {
    /// A group of this name; it is created by the first commit.
    pub fn new(cluster: Arc<Cluster>, name: String) -> Self {
        Self { cluster, name, coordinator: None }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stores the offset to read next of each partition.
    pub async fn commit(&mut self, offsets: &[(i32, i64)]) -> Result<(), KafkaError> {
        let coordinator = match self.coordinator.take() {
            Some(coordinator) => coordinator,
            None => self.find_coordinator().await?,
        };
        let call = OffsetCommitCall { group: &self.name, topic: self.cluster.topic(), offsets };
        for (partition, error) in self.cluster.call(coordinator, call).await? {
            let what = format_args!("committing offset of partition {partition} under group {}", self.name);
            KafkaError::check(error, None, what)?;
        }
        // Only one that has just answered is asked again.
        self.coordinator = Some(coordinator);
        Ok(())
    }

    async fn find_coordinator(&self) -> Result<i32, KafkaError> {
        let metadata = self.cluster.metadata().await?;
        let any = metadata.brokers.keys().next().copied();
        let any = any.ok_or_else(|| KafkaError::new(ErrorKind::Moved, "the cluster lists no brokers"))?;
        let found = self.cluster.call(any, FindCoordinatorCall { group: &self.name }).await?;
        let what = format_args!("finding the coordinator of group {}", self.name);
        KafkaError::check(found.error, found.message.as_deref(), what)?;
        Ok(found.broker)
    }
}
