//! `weather inspect`: what state there is, who owns what, how far behind it is, what is wrong and what to do about it.
//!
//! Three places are looked at side by side, each as far as it can be reached: the checkpoint files, the tables, the
//! topic. Nothing is changed: no file is made or locked, the transaction cannot write, no topic comes into being. What
//! could not be looked at is said; if that is a service, the exit code is 1.

mod problems;
mod report;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;

use rskafka::client::partition::OffsetAt;
use tokio::task::spawn_blocking;

use crate::config::{Inspect, Log, LogLevel};
use crate::error::{Error, Result};
use crate::kafka::client::{Cluster, KafkaError};
use crate::postgres::connector;
use crate::postgres::overview::{self, Overview};
use crate::postgres::session::Session;
use crate::processor::checkpoints::store::{CheckpointStore, Found};
use crate::telemetry::log;
use report::Report;

/// What was found, before it is put together.
#[derive(Debug)]
struct Findings {
    topic: std::result::Result<Option<BTreeMap<i32, Range>>, String>,
    tables: std::result::Result<Overview, String>,
    files: std::result::Result<BTreeMap<i32, std::result::Result<Found, Error>>, String>,
}

/// The first offset of a partition that Kafka has, and the one after its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    earliest: i64,
    end: i64,
}

/// Looks and prints.
///
/// # Errors
/// Kafka or PostgreSQL could not be looked at; the rest is printed all the same.
pub async fn run(config: Inspect) -> Result<()> {
    // The report says what is away; that it is being waited for is not even true.
    if config.log.level < LogLevel::Debug {
        log::init(Log { level: LogLevel::Error, ..config.log });
    }
    let cluster = Cluster::new(config.kafka.clone());
    let (topic, tables, files) = tokio::join!(
        look_at_topic(&cluster),
        look_at_tables(&config),
        look_at_files(&config.checkpoint_dir, &config.kafka.topic)
    );
    let report = Report::of(&config, Findings { topic, tables, files });
    let text = if config.json { report.to_json() } else { text::of(&report) };
    // Whoever closed it has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    match report.unreachable() {
        unreachable if unreachable.is_empty() => Ok(()),
        unreachable => Err(Error::failure(format!("could not look at {}", unreachable.join(" and ")))),
    }
}

/// None if there is no such topic.
async fn look_at_topic(cluster: &Cluster) -> std::result::Result<Option<BTreeMap<i32, Range>>, String> {
    let look = async {
        let Some(partitions) = cluster.partitions().await? else { return Ok(None) };
        let mut ranges = BTreeMap::new();
        for partition in partitions {
            let leader = cluster.leader(partition).await?;
            let earliest = cluster.offset(&leader, OffsetAt::Earliest).await?;
            let end = cluster.offset(&leader, OffsetAt::Latest).await?;
            ranges.insert(partition, Range { earliest, end });
        }
        Ok(Some(ranges))
    };
    look.await.map_err(|e: KafkaError| e.to_string())
}

async fn look_at_tables(config: &Inspect) -> std::result::Result<Overview, String> {
    let look = async {
        let session = Session::open(&config.database).await?;
        overview::look(&session, &config.kafka.topic).await
    };
    look.await.map_err(|failure| failure.to_string())
}

async fn look_at_files(
    folder: &Path,
    topic: &str,
) -> std::result::Result<BTreeMap<i32, std::result::Result<Found, Error>>, String> {
    let store = CheckpointStore::for_reading(folder, topic);
    let read = spawn_blocking(move || {
        let partitions = store.partitions()?;
        Ok(partitions.into_iter().map(|partition| (partition, store.read(partition))).collect())
    });
    match read.await {
        Ok(read) => read.map_err(|e: std::io::Error| e.to_string()),
        Err(e) => Err(e.to_string()),
    }
}

impl Findings {
    /// Every partition that any of the three places knows.
    fn partitions(&self) -> BTreeSet<i32> {
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

/// `host:port/database`, for the report.
fn address(config: &Inspect) -> String {
    connector::address(&config.database)
}
