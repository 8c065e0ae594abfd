//! The topic as a whole: whether it exists, which partitions it has, where they end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::cluster::{Cluster, ClusterMetadata};
use super::error::{ErrorKind, KafkaError};
use super::message::offsets::OffsetAt;
use crate::config::StartFrom;
use crate::error::{Error, Result};
use crate::retry::Backoff;
use crate::telemetry::log::Outage;

/// How often Kafka is checked for new partitions.
const WATCH_EVERY: Duration = Duration::from_secs(10);

/// Waits until the topic exists and returns its partitions; `outage` reports that it does not.
///
/// # Errors
/// The broker speaks no version of a call that is needed: waiting does not change that.
pub async fn wait_for(cluster: &Cluster, outage: &Outage) -> Result<BTreeSet<i32>> {
    let mut backoff = Backoff::default();
    loop {
        let metadata = wait_for_cluster(cluster, outage).await?;
        match metadata.partitions() {
            Some(partitions) if !partitions.is_empty() => {
                outage.ok();
                return Ok(partitions);
            }
            _ => outage.failed(&"it does not exist; `weather producer` creates it"),
        }
        backoff.wait().await;
    }
}

/// Waits until the cluster answers, whether it has the topic or not; `outage` reports why it says nothing about the topic.
///
/// # Errors
/// As [`wait_for`].
pub async fn wait_for_cluster(cluster: &Cluster, outage: &Outage) -> Result<Arc<ClusterMetadata>> {
    let mut backoff = Backoff::default();
    loop {
        match cluster.metadata().await {
            Ok(metadata) => return Ok(metadata),
            Err(error) if error.kind == ErrorKind::Unsupported => {
                return Err(Error::usage(format!("Kafka cannot be used: {error}")));
            }
            Err(error) if backoff.failures() > 1 && cluster.outage().is_none() => outage.failed(&error),
            // Reported by `Cluster`.
            Err(_) => {}
        }
        backoff.wait().await;
    }
}

/// The end of each partition; waits until all are known, and `outage` reports why they are not.
pub async fn end_offsets(
    cluster: &Cluster,
    partitions: &BTreeSet<i32>,
    outage: &Outage,
) -> BTreeMap<i32, i64> {
    let partitions: Vec<i32> = partitions.iter().copied().collect();
    let mut backoff = Backoff::default();
    loop {
        match cluster.offsets(&partitions, OffsetAt::Latest).await {
            Ok(ends) => {
                outage.ok();
                return ends;
            }
            // The first failure is often a leader that moves; a broker that is away is reported by `Cluster`.
            Err(error) if backoff.failures() > 1 && cluster.outage().is_none() => outage.failed(&error),
            Err(_) => {}
        }
        backoff.wait().await;
    }
}

/// The offset at which reading starts where no state exists; waits until it is known.
pub async fn first_offset(cluster: &Cluster, partition: i32, from: StartFrom) -> i64 {
    let mut backoff = Backoff::default();
    let outage = Outage::new(format!("partition {partition} of topic {}", cluster.topic()));
    loop {
        match start_offset(cluster, partition, from).await {
            Ok(offset) => {
                outage.ok();
                return offset;
            }
            // The first failure is often a leader that moves; a broker that is away is reported by `Cluster`.
            Err(error) if backoff.failures() > 1 && cluster.outage().is_none() => outage.failed(&error),
            Err(_) => {}
        }
        backoff.wait().await;
    }
}

async fn start_offset(
    cluster: &Cluster,
    partition: i32,
    from: StartFrom,
) -> std::result::Result<i64, KafkaError> {
    let at = match from {
        StartFrom::Earliest => OffsetAt::Earliest,
        StartFrom::Latest => OffsetAt::Latest,
        StartFrom::Timestamp(ms) => OffsetAt::Time(ms),
    };
    match cluster.offset(partition, at).await? {
        // No record is that new.
        -1 => cluster.offset(partition, OffsetAt::Latest).await,
        offset => Ok(offset),
    }
}

/// Keeps `known` current as long as it runs.
pub async fn watch(cluster: Arc<Cluster>, known: watch::Sender<BTreeSet<i32>>) {
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        if let Ok(Some(partitions)) = cluster.partitions().await {
            known.send_if_modified(|known| {
                let news = *known != partitions;
                *known = partitions;
                news
            });
        }
    }
}
