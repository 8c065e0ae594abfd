//! The three places that are read: topic, tables, checkpoint files. Nothing is changed there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::config::Inspect;
use crate::error::Error;
use crate::inspect::records::{self, NewRecord, Range};
use crate::kafka::cluster::Cluster;
use crate::kafka::error::KafkaError;
use crate::kafka::message::offsets::OffsetAt;
use crate::postgres::failure::Failure;
use crate::postgres::overview::{self, Overview};
use crate::postgres::session::Session;
use crate::processor::checkpoints::store::{CheckpointStore, StoredCheckpoints};

/// What was found, before it is put together.
#[derive(Debug)]
pub(super) struct Findings {
    /// The topic's partitions; None if there is no such topic.
    pub topic: Result<Option<BTreeMap<i32, Range>>, String>,
    /// Some of its newest records.
    pub records: Vec<NewRecord>,
    /// The id of the cluster that the brokers are of, if they say one.
    pub cluster_id: Option<String>,
    /// What the tables say.
    pub tables: Result<Overview, Failure>,
    /// The checkpoint files of each partition.
    pub files: Result<BTreeMap<i32, Result<StoredCheckpoints, Error>>, String>,
}

impl Findings {
    /// Reads all three places at the same time.
    pub(super) async fn gather(config: &Inspect) -> Self {
        let cluster = Arc::new(Cluster::new(config.kafka.clone()));
        let topic_and_records = async {
            let topic = look_at_topic(&cluster).await;
            let records = match &topic {
                Ok(Some(topic)) => records::newest(&cluster, topic).await,
                _ => Vec::new(),
            };
            (topic, records)
        };
        let ((topic, records), tables, files) = tokio::join!(
            topic_and_records,
            look_at_tables(config),
            look_at_files(&config.checkpoint_dir, &config.kafka.topic)
        );
        // The answer that the topic was found by.
        let cluster_id = cluster.last_metadata().and_then(|metadata| metadata.cluster_id.clone());
        Self { topic, cluster_id, records, tables, files }
    }

    /// Every partition that any of the three places knows.
    pub(super) fn partitions(&self) -> BTreeSet<i32> {
        let mut partitions = BTreeSet::new();
        if let Ok(Some(topic)) = &self.topic {
            partitions.extend(topic.keys());
        }
        if let Ok(tables) = &self.tables {
            partitions.extend(tables.partitions.iter().map(|row| row.partition));
        }
        if let Ok(files) = &self.files {
            partitions.extend(files.keys());
        }
        partitions
    }
}

/// None if there is no such topic.
async fn look_at_topic(cluster: &Cluster) -> Result<Option<BTreeMap<i32, Range>>, String> {
    let look = async {
        let Some(partitions) = cluster.partitions().await? else { return Ok(None) };
        let partitions: Vec<i32> = partitions.into_iter().collect();
        let earliest = cluster.offsets(&partitions, OffsetAt::Earliest).await?;
        let ends = cluster.offsets(&partitions, OffsetAt::Latest).await?;
        let range =
            |(partition, earliest)| Some((partition, Range { earliest, end: *ends.get(&partition)? }));
        Ok(Some(earliest.into_iter().filter_map(range).collect()))
    };
    look.await.map_err(|e: KafkaError| e.to_string())
}

async fn look_at_tables(config: &Inspect) -> Result<Overview, Failure> {
    let session = Session::open(&config.database).await?;
    overview::look(&session, &config.kafka.topic).await
}

async fn look_at_files(
    folder: &Path,
    topic: &str,
) -> Result<BTreeMap<i32, Result<StoredCheckpoints, Error>>, String> {
    let store = CheckpointStore::for_reading(folder, topic);
    let read = spawn_blocking(move || {
        let partitions = store.partitions()?;
        Ok(partitions.into_iter().map(|partition| (partition, store.read(partition))).collect())
    });
    match read.await {
        Ok(read) => read.map_err(|e: io::Error| e.to_string()),
        Err(e) => Err(e.to_string()),
    }
}
