//! What of each partition can be read again, by what the table says and what Kafka has.

use std::collections::BTreeMap;

use crate::config::Between;
use crate::engine::state::{LogIdentity, Progress};
use crate::engine::verification::reach::{self, LogNow, Reach};
use crate::error::{Error, Result};
use crate::kafka::cluster::Cluster;
use crate::kafka::error::{ErrorKind, KafkaError};
use crate::kafka::message::offsets::OffsetAt;
use crate::postgres::evidence::StoredPartition;
use crate::retry::Backoff;
use crate::verify::findings::{Difference, Unknown};

/// How often Kafka is asked while a leader moves: for half a minute or so.
const TRIES: u32 = 18;

/// What Kafka has.
#[derive(Debug)]
pub(super) struct TopicEnds {
    id: [u8; 16],
    /// The first offset of each partition.
    pub(super) earliest: BTreeMap<i32, i64>,
    /// The offset behind the last record of each, once it is known.
    ends: BTreeMap<i32, i64>,
}

impl TopicEnds {
    /// Looks for the first offsets, on the cluster that the tables are of, if that is known.
    ///
    /// # Errors
    /// The brokers are of another cluster: what is in its topic says nothing about these tables.
    pub(super) async fn look(cluster: &Cluster, of_tables: Option<&str>) -> Result<Self> {
        let metadata = cluster.metadata().await.map_err(|e| cannot_read(&e))?;
        if let (Some(of_tables), Some(found)) = (of_tables, &metadata.cluster_id) {
            if of_tables != found {
                return Err(other_cluster(of_tables, found, cluster));
            }
            cluster.keep_to(found.clone());
        }
        let Some(topic) = &metadata.topic else {
            return Err(Error::usage(format!("there is no topic {}: correct --topic", cluster.topic())));
        };
        let partitions: Vec<i32> = topic.partitions.keys().copied().collect();
        let earliest = offsets(cluster, &partitions, OffsetAt::Earliest).await?;
        Ok(Self { id: topic.id, earliest, ends: BTreeMap::new() })
    }

    /// Looks for the ends.
    pub(super) async fn with_ends(mut self, cluster: &Cluster) -> Result<Self> {
        let partitions: Vec<i32> = self.earliest.keys().copied().collect();
        self.ends = offsets(cluster, &partitions, OffsetAt::End).await?;
        Ok(self)
    }
}

/// Tries again while leaders move.
async fn offsets(cluster: &Cluster, partitions: &[i32], at: OffsetAt) -> Result<BTreeMap<i32, i64>> {
    let mut backoff = Backoff::default();
    loop {
        match cluster.offsets(partitions, at).await {
            Err(error)
                if matches!(error.kind, ErrorKind::Moved | ErrorKind::Transient)
                    && backoff.failures() < TRIES =>
            {
                backoff.wait().await;
            }
            result => return result.map_err(|error| cannot_read(&error)),
        }
    }
}

fn other_cluster(of_tables: &str, of_brokers: &str, cluster: &Cluster) -> Error {
    Error::usage(format!(
        "the tables hold topic {} of Kafka cluster {of_tables}, but the brokers at {} are of cluster {of_brokers}: correct \
         --brokers or --database-url",
        cluster.topic(),
        cluster.given_brokers(),
    ))
}

fn cannot_read(error: &KafkaError) -> Error {
    Error::unknown(format!("Kafka cannot be read: {error}"))
}

/// A partition that is to be read again.
#[derive(Debug)]
pub(super) struct PlannedReplay {
    /// What the table has.
    pub(super) stored: StoredPartition,
    /// The numbers of its state.
    pub(super) table: Progress,
    /// From where on.
    pub(super) reach: Reach,
    /// Of which log: another one is noticed.
    pub(super) log: LogIdentity,
}

impl PlannedReplay {
    pub(super) fn partition(&self) -> i32 {
        self.stored.partition
    }

    /// How many offsets there are to read.
    pub(super) fn offsets(&self) -> i64 {
        self.table.next_offset - self.reach.from.offset
    }
}

/// What is to be done, and what is known without.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub(super) replays: Vec<PlannedReplay>,
    pub(super) differences: Vec<Difference>,
    pub(super) unknown: Vec<Unknown>,
}

/// Decides for all partitions.
pub(super) fn plan(stored: Vec<StoredPartition>, topic: &TopicEnds, between: &Between) -> Planned {
    let mut planned = Planned::default();
    for stored in stored {
        let partition = stored.partition;
        let Some(table) = stored.progress else {
            if stored.windows > 0 {
                planned.differences.push(about(
                    partition,
                    "weather_partial has windows of it, but weather_partition has no state".to_owned(),
                ));
            }
            continue;
        };
        if !table.accounts_for_every_offset() && between.is_everything() {
            let what = format!(
                "in weather_partition: the counts add up to {}, but offsets {} to {} were read",
                table.accounted(),
                table.origin_offset,
                table.next_offset - 1
            );
            planned.differences.push(about(partition, what));
        }
        match reach(&stored, &table, topic) {
            Ok(reach) => {
                // What the leader's epoch was at the end says nothing of the beginning.
                let log = LogIdentity { leader_epoch: -1, ..stored.log };
                planned.replays.push(PlannedReplay { stored, table, reach, log });
            }
            Err(why) => {
                let (windows, between, gone) = (stored.windows, None, None);
                planned.unknown.push(Unknown { partition, windows, between, gone, why });
            }
        }
    }
    planned
}

fn about(partition: i32, what: String) -> Difference {
    Difference { partition: Some(partition), window_start_ms: None, window_start: None, offsets: None, what }
}

/// From where on a partition can be read again, or why it cannot.
fn reach(stored: &StoredPartition, table: &Progress, topic: &TopicEnds) -> Result<Reach, String> {
    let partition = stored.partition;
    let Some((&earliest, &end)) = topic.earliest.get(&partition).zip(topic.ends.get(&partition)) else {
        return Err("the topic no longer has it".to_owned());
    };
    let log = LogNow { topic_id: topic.id, earliest, end };
    reach::reach(table, &stored.log, stored.sure_from_ms, &log)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(partition: i32, progress: Option<Progress>, id: u8) -> StoredPartition {
        StoredPartition {
            partition,
            progress,
            log: LogIdentity { topic_id: [id; 16], leader_epoch: 7 },
            open: Vec::new(),
            open_stations: None,
            windows: 5,
            sure_from_ms: Some(1),
            futures: 0,
        }
    }

    #[test]
    fn a_partition_that_the_topic_lost_cannot_be_read() {
        let topic =
            TopicEnds { id: [1; 16], earliest: BTreeMap::from([(0, 0)]), ends: BTreeMap::from([(0, 9)]) };
        let progress = Progress { next_offset: 5, ..Progress::starting_at(0) };
        assert!(reach(&stored(0, None, 1), &progress, &topic).is_ok_and(|reach| reach.is_whole));
        assert!(reach(&stored(3, None, 1), &progress, &topic).is_err_and(|why| why.contains("no longer")));
    }

    #[test]
    fn what_needs_no_reading_is_known_at_once() {
        let topic = TopicEnds { id: [1; 16], earliest: BTreeMap::new(), ends: BTreeMap::new() };
        let uneven = Progress { next_offset: 5, ..Progress::starting_at(0) };
        let planned = plan(vec![stored(0, None, 1), stored(1, Some(uneven), 1)], &topic, &Between::default());
        let said: Vec<&str> = planned.differences.iter().map(|d| d.what.as_str()).collect();
        assert!(said[0].contains("no state") && said[1].contains("add up to 0"), "{said:?}");
        assert_eq!((planned.replays.len(), planned.unknown.len()), (0, 1));
    }
}
