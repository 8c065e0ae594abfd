//! One broker: a connection, and one fetch after the other for all lanes that it leads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::lanes::WantedPartition;
use super::{SharedFetcher, log_check};
use crate::kafka::connection::{Connection, REQUEST_TIMEOUT};
use crate::kafka::error::KafkaError;
use crate::kafka::message::NO_TOPIC_ID;
use crate::kafka::message::fetch::{BY_ID, BY_NAME, FetchAnswer, FetchCall};

/// How long an answer that is held back may still come when another lane wants to be requested. Each one given up doubles
/// it, until it is longer than any answer is held back: where lanes come and go faster than a slow broker answers, some
/// answer must come anyway.
const GRACE: Duration = Duration::from_millis(20);
/// An answer below this has little in it.
const LITTLE: usize = 64 * 1024;
/// Least bytes of an answer, and of one partition in it: smaller ones cost more than they save.
const LEAST_BYTES: i32 = 64 * 1024;
/// An answer is filled from at most this many partitions, so that each has a good share of it.
const PARTITIONS_AT_ONCE: i32 = 4;

/// Serves the lanes that a broker leads. Never ends.
pub(super) async fn serve(shared: Arc<SharedFetcher>, broker: i32) {
    let mut wake = shared.changed.subscribe();
    let mut grace = GRACE;
    loop {
        wake.borrow_and_update();
        if !shared.lanes().are_led_by(broker) {
            if wake.changed().await.is_err() {
                return;
            }
            continue;
        }
        let ended = match shared.cluster.open(broker).await {
            Ok(connection) => work(&shared, broker, &connection, &mut wake, &mut grace).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            shared.lanes().strand_all(broker, &error);
            shared.changed.send_replace(());
        }
    }
}

/// Works over one connection until it fails, has no lanes, or is held by a request for too few. Logs stay
/// checked unless it fails.
async fn work(
    shared: &SharedFetcher,
    broker: i32,
    connection: &Connection,
    wake: &mut watch::Receiver<()>,
    grace: &mut Duration,
) -> Result<(), KafkaError> {
    while shared.lanes().are_led_by(broker) {
        wake.borrow_and_update();
        log_check::check(shared, broker, connection).await?;
        let (wanted, later) = shared.lanes().wanted(broker);
        if wanted.is_empty() {
            let later = later.unwrap_or_else(|| Instant::now() + shared.settings.wait);
            tokio::select! {
                _ = wake.changed() => {}
                () = sleep_until(later) => {}
            }
            continue;
        }
        let Some(answer) = ask(shared, broker, connection, &wanted, wake, *grace).await? else {
            *grace = (*grace * 2).min(shared.settings.wait);
            return Ok(());
        };
        *grace = GRACE;
        KafkaError::check(answer.error, None, format_args!("fetching from broker {broker}"))?;
        // The records before are parsed first.
        let Ok(permit) = Arc::clone(&shared.parsing).acquire_owned().await else { return Ok(()) };
        let (bytes, stranded) = {
            let mut lanes = shared.lanes();
            (lanes.take(&wanted, answer, permit), lanes.stranded().is_some())
        };
        if stranded {
            shared.changed.send_replace(());
        }
        if (1..LITTLE).contains(&bytes) {
            sleep(shared.settings.pause).await;
        }
    }
    Ok(())
}

/// One fetch; None if it was given up because another lane wants to be requested.
async fn ask(
    shared: &SharedFetcher,
    broker: i32,
    connection: &Connection,
    wanted: &[WantedPartition],
    wake: &mut watch::Receiver<()>,
    grace: Duration,
) -> Result<Option<FetchAnswer>, KafkaError> {
    let mut fetch = std::pin::pin!(fetch(shared, broker, connection, wanted));
    loop {
        tokio::select! {
            answer = &mut fetch => return answer.map(Some),
            _ = wake.changed() => {}
        }
        if shared.lanes().wants_more(broker) {
            return match timeout_at(Instant::now() + grace, &mut fetch).await {
                Ok(answer) => answer.map(Some),
                Err(_) => Ok(None),
            };
        }
    }
}

async fn fetch(
    shared: &SharedFetcher,
    broker: i32,
    connection: &Connection,
    wanted: &[WantedPartition],
) -> Result<FetchAnswer, KafkaError> {
    let partitions: Vec<_> = wanted.iter().map(|wanted| wanted.from).collect();
    let (topic_id, brokers) = {
        let lanes = shared.lanes();
        (lanes.topic_id(broker), i32::try_from(lanes.brokers()).unwrap_or(i32::MAX))
    };
    // Half is in parsing while the other half is on its way.
    let max_bytes = (shared.settings.fetch_bytes / 2 / brokers.max(1)).max(LEAST_BYTES);
    let at_once = i32::try_from(partitions.len()).unwrap_or(i32::MAX).clamp(1, PARTITIONS_AT_ONCE);
    let partition_max_bytes = (max_bytes / at_once).max(LEAST_BYTES);
    let topic = shared.cluster.topic();
    let max_wait_ms = i32::try_from(shared.settings.wait.as_millis()).unwrap_or(i32::MAX);
    let limit = shared.settings.wait + REQUEST_TIMEOUT;
    let partitions = &partitions[..];
    if topic_id == NO_TOPIC_ID {
        let call =
            FetchCall::<BY_NAME> { topic, topic_id, max_wait_ms, max_bytes, partition_max_bytes, partitions };
        return connection.call(call, limit).await;
    }
    let call =
        FetchCall::<BY_ID> { topic, topic_id, max_wait_ms, max_bytes, partition_max_bytes, partitions };
    connection.call(call, limit).await
}
