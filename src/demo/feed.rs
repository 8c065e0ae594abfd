//! The demo's stations: a producer as a task of this process.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::{PARTITIONS, TOPIC};
use crate::config::{
    Compression, Kafka, LogFormat, LogLevel, LogSent, LogSettings, Producer, ReadingSource, SendPace,
};
use crate::error::{Error, Result};
use crate::producer;
use crate::reading::Format;
use crate::shutdown::{self, Trigger};

/// An hour in three seconds.
const SPEEDUP: f64 = 1_200.0;
const BACKFILL: Duration = Duration::from_secs(24 * 60 * 60);

/// The producer, as a task.
#[derive(Debug)]
pub(super) struct ProducerTask {
    stop: Trigger,
    task: JoinHandle<Result<()>>,
}

impl ProducerTask {
    /// Sends to this broker from now on.
    pub(super) fn start(brokers: &str) -> Self {
        let (stop, stopped) = shutdown::channel();
        Self { stop, task: tokio::spawn(producer::run(readings(brokers), stopped)) }
    }

    /// Everything that was accepted is acknowledged.
    pub(super) async fn stop(&mut self) -> Result<()> {
        self.stop.fire();
        let ended = (&mut self.task).await;
        ended.unwrap_or_else(|e| Err(Error::failure(format!("internal error in the producer: {e}"))))
    }
}

impl Drop for ProducerTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is sent: a thousand readings a second, a few in a hundred of them bad.
fn readings(brokers: &str) -> Producer {
    Producer {
        kafka: Kafka {
            brokers: vec![brokers.to_owned()],
            broker_map: Vec::new(),
            topic: TOPIC.to_owned(),
            sasl: None,
        },
        format: Format::shared(),
        listen: None,
        log: LogSettings { level: LogLevel::Warn, format: LogFormat::Text },
        pace: SendPace::Every(Duration::from_millis(1)),
        count: None,
        duration: None,
        source: ReadingSource::Synthetic,
        poll: Duration::from_secs(1),
        stations: 100,
        seed: 1,
        backfill: BACKFILL,
        speedup: SPEEDUP,
        late_ratio: 0.02,
        malformed_ratio: 0.02,
        future_ratio: 0.005,
        partitions: PARTITIONS,
        linger: Duration::from_millis(50),
        compression: Compression::None,
        log_sent: LogSent::Silent,
    }
}
