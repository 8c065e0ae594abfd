//! Which Kafka cluster the offsets in the tables are of, and how they go over to another one.
//!
//! An offset means something in one log only. So the cluster's id stands in `weather_pipeline`, and going over to another
//! cluster is one transaction: where each partition was left goes to `weather_log`, where it goes on in the other log takes
//! its place, the incarnation is raised, and so is the epoch, which fences every process that still reads the old log.
//! What was aggregated stays: windows, counts and watermarks are not of a log.
//!
//! Invariant: a partition's `next_offset` is one of the cluster that `weather_pipeline` names. Coming back to a cluster,
//! reading goes on exactly where it was left.

use std::collections::BTreeMap;

use crate::postgres::failure::{Failure, FailureKind};
use crate::postgres::leases::LeaseSession;
use crate::postgres::session::Session;

/// How many clusters that were left are remembered.
const REMEMBERED: i64 = 8;

/// What is noted, and whether the topic's id, written as Kafka's tools write it, is the one that was noted.
const NOTED: &str = "\
SELECT cluster_id, topic_id IS NOT DISTINCT FROM translate(rtrim(encode($1, 'base64'), '='), '+/', '-_')
FROM weather_pipeline";

const NOTE: &str = "\
UPDATE weather_pipeline SET cluster_id = $1, topic_id = translate(rtrim(encode($2, 'base64'), '='), '+/', '-_')
WHERE cluster_id IS NULL OR cluster_id = $1";

const CURRENT: &str = "SELECT cluster_id FROM weather_pipeline";

/// Everything that a flush of a process on the old cluster could still change is locked before it is looked at.
const LOCK: &str = "\
SELECT 1 FROM weather_partition WHERE topic = $1 ORDER BY partition FOR UPDATE";

const REMEMBER: &str = "\
INSERT INTO weather_log (topic, cluster_id, partition, next_offset, log_memory, left_at)
SELECT topic, $2, partition, next_offset, log_memory, clock_timestamp() FROM weather_partition
WHERE topic = $1 AND next_offset IS NOT NULL
ON CONFLICT (topic, cluster_id, partition) DO UPDATE SET next_offset = EXCLUDED.next_offset,
    log_memory = EXCLUDED.log_memory, left_at = EXCLUDED.left_at";

const FORGET: &str = "\
DELETE FROM weather_log WHERE topic = $1 AND cluster_id NOT IN (
    SELECT cluster_id FROM weather_log WHERE topic = $1 GROUP BY cluster_id ORDER BY max(left_at) DESC LIMIT $2)";

/// A partition that the new cluster does not have (yet) goes on at the beginning of the log that it gets one day.
const GO_OVER: &str = "\
UPDATE weather_partition p SET incarnation = p.incarnation + 1, next_offset = n.next_offset,
    origin_offset = n.next_offset - (p.next_offset - p.origin_offset), log_memory = n.log_memory,
    high_watermark = NULL, idle = false, owner = NULL, lease_expires_at = NULL,
    epoch = greatest(p.epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint),
    updated_at = clock_timestamp()
FROM (SELECT old.partition, coalesce(l.next_offset, s.at, 0) AS next_offset, l.log_memory
    FROM weather_partition old
    LEFT JOIN weather_log l ON (l.topic, l.cluster_id, l.partition) = ($1, $2, old.partition)
    LEFT JOIN unnest($3::int[], $4::bigint[]) AS s(partition, at) ON s.partition = old.partition
    WHERE old.topic = $1 AND old.next_offset IS NOT NULL) n
WHERE p.topic = $1 AND p.partition = n.partition";

/// Notes that the tables are of this cluster unless they are of one already; the cluster that they are of.
pub async fn note(
    session: &Session,
    cluster_id: &str,
    topic_id: Option<[u8; 16]>,
) -> Result<String, Failure> {
    let (client, topic_id) = (&session.client, topic_id.map(|id| id.to_vec()));
    let row = session.call(client.query_opt(NOTED, &[&topic_id])).await?;
    let (before, is_same_topic) = match row {
        Some(row) => (row.try_get::<_, Option<String>>(0)?, row.try_get(1)?),
        None => (None, false),
    };
    match before {
        Some(before) if before != cluster_id || is_same_topic => Ok(before),
        Some(before) => {
            let noted = session.call(client.execute(NOTE, &[&cluster_id, &topic_id])).await;
            match noted {
                // The topic's id is for people; a role that may only read this table does all the rest.
                Err(failure) if failure.kind == FailureKind::Setup => {
                    crate::debug!("cannot note the topic's id", "reason" => failure);
                }
                noted => drop(noted?),
            }
            Ok(before)
        }
        None => {
            session.call(client.execute(NOTE, &[&cluster_id, &topic_id])).await?;
            Ok(current(session).await?.unwrap_or_else(|| cluster_id.to_owned()))
        }
    }
}

/// The cluster that the tables are of, if that is known.
pub async fn current(session: &Session) -> Result<Option<String>, Failure> {
    let row = session.call(session.client.query_opt(CURRENT, &[])).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
}

/// Whether a topic was read on a cluster before another one took its place.
pub async fn is_remembered(session: &Session, topic: &str, cluster_id: &str) -> Result<bool, Failure> {
    let query = "SELECT EXISTS (SELECT 1 FROM weather_log WHERE topic = $1 AND cluster_id = $2)";
    Ok(session.call(session.client.query_one(query, &[&topic, &cluster_id])).await?.try_get(0)?)
}

/// Goes over to a cluster; where it was read before, partitions go on where they were left, else at `starts`. Does nothing
/// where another process has just done it.
pub async fn go_over(
    session: &Session,
    topic: &str,
    cluster_id: &str,
    starts: &BTreeMap<i32, i64>,
) -> Result<(), Failure> {
    let client = &session.client;
    let (partitions, offsets): (Vec<i32>, Vec<i64>) = starts.iter().unzip();
    let statements = async {
        client.batch_execute(&session.begin()).await?;
        let row = client.query_one(&format!("{CURRENT} FOR UPDATE"), &[]).await?;
        if let Some(old) = row.try_get::<_, Option<String>>(0)?.filter(|old| old != cluster_id) {
            client.execute(LOCK, &[&topic]).await?;
            client.execute(REMEMBER, &[&topic, &old]).await?;
            client.execute(GO_OVER, &[&topic, &cluster_id, &partitions, &offsets]).await?;
            client.execute(FORGET, &[&topic, &REMEMBERED]).await?;
            let note = "UPDATE weather_pipeline SET cluster_id = $1, topic_id = NULL";
            client.execute(note, &[&cluster_id]).await?;
        }
        client.batch_execute("COMMIT").await
    };
    session.call(statements).await
}

impl LeaseSession {
    /// The cluster that the tables have gone over to, if that is not this one.
    pub async fn other_cluster(&self, cluster_id: &str) -> Result<Option<String>, Failure> {
        Ok(current(&self.session).await?.filter(|current| current != cluster_id))
    }
}
