//! Before anything is read: whether the brokers are of the Kafka cluster whose offsets the tables hold.
//!
//! A topic of the same name on another cluster is another topic, whatever its offsets are: reading it by mistake would mix
//! the two, and reading the right one afterwards would count it again. So another cluster is refused unless the user names
//! it. From then on the process talks to no broker of any other. A broker that says no id is taken as it is.

use std::collections::BTreeMap;

use crate::config::{Process, StartFrom};
use crate::error::{Error, Result};
use crate::kafka::cluster::Cluster;
use crate::kafka::topic;
use crate::postgres::clusters;
use crate::postgres::connector::{Caller, Connector};
use crate::postgres::schema::SetupError;
use crate::processor::checkpoints::store::CheckpointStore;
use crate::processor::observe::stats::Stats;
use crate::retry::Backoff;

/// Waits until the cluster is known and is the one of the tables, or becomes it.
///
/// # Errors
/// It is another one, and `--accept-cluster` does not name it.
pub(super) async fn agree(
    config: &Process,
    database: &Connector,
    cluster: &Cluster,
    stats: &Stats,
) -> Result<()> {
    let found = topic::wait_for_cluster(cluster, &stats.topic).await?;
    let Some(id) = &found.cluster_id else { return Ok(()) };
    let mut backoff = Backoff::default();
    while let Err(error) = try_agree(config, database, cluster, stats, (id, found.topic_id())).await {
        database.wait_or_refuse(error, &mut backoff).await?;
    }
    database.ok(Caller::SetUp);
    Ok(())
}

async fn try_agree(
    config: &Process,
    database: &Connector,
    cluster: &Cluster,
    stats: &Stats,
    (id, topic_id): (&str, Option<[u8; 16]>),
) -> std::result::Result<(), SetupError> {
    let session = database.session().await?;
    let of_tables = clusters::note(&session, id, topic_id).await?;
    if of_tables == id {
        cluster.keep_to(id.to_owned());
        return Ok(());
    }
    if config.accept_cluster.as_deref() != Some(id) {
        return Err(other_tables(&of_tables, id, cluster).into());
    }
    cluster.keep_to(id.to_owned());
    let topic = cluster.topic();
    let is_remembered = clusters::is_remembered(&session, topic, id).await?;
    // As everywhere: what is new in a topic that was read before is read from its beginning.
    let start = if is_remembered { StartFrom::Earliest } else { config.from };
    let mut starts = BTreeMap::new();
    for partition in topic::wait_for(cluster, &stats.topic).await? {
        starts.insert(partition, topic::first_offset(cluster, partition, start).await);
    }
    clusters::go_over(&session, topic, id, &starts).await?;
    crate::info!("continuing on another Kafka cluster; what is in the tables stays", "from" => of_tables,
        "to" => id, "was_read_before" => is_remembered);
    Ok(())
}

/// The tables are of another cluster than the brokers.
pub(super) fn other_tables(of_tables: &str, of_brokers: &str, cluster: &Cluster) -> Error {
    Error::usage(format!(
        "the tables hold topic {} of Kafka cluster {of_tables}, but the brokers at {} are of cluster {of_brokers}: correct \
         --brokers; or, to continue on that cluster, give --accept-cluster {of_brokers}: reading starts there at --from, or \
         where it was left, and what is in the tables stays",
        cluster.topic(),
        cluster.given_brokers(),
    ))
}

/// The checkpoint files are all there is, and they are of another cluster.
pub(super) fn other_files(of_files: &str, of_brokers: &str, store: &CheckpointStore) -> Error {
    Error::usage(format!(
        "the checkpoint folder {} is of Kafka cluster {of_files}, but the brokers are of cluster {of_brokers}: correct \
         --brokers, or give another folder with --checkpoint-dir",
        store.folder().display()
    ))
}
