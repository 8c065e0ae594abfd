//! What the producer reports over HTTP: `/metrics`, `/livez`, `/readyz`.

use std::sync::{Arc, OnceLock};

use crate::kafka::cluster::Cluster;
use crate::kafka::sink::{Monitor, Sink};
use crate::telemetry::health::Health;
use crate::telemetry::http::{HttpAnswer, Site};
use crate::telemetry::latency::Buckets;
use crate::telemetry::metrics::{self, Exposition};

/// A snapshot of the producer.
#[derive(Debug)]
pub(super) struct ProducerStatus {
    cluster: Arc<Cluster>,
    /// Once the topic is found.
    sink: OnceLock<Monitor>,
}

impl ProducerStatus {
    /// Nothing sent yet.
    pub(super) fn new(cluster: &Arc<Cluster>) -> Self {
        Self { cluster: Arc::clone(cluster), sink: OnceLock::new() }
    }

    /// The topic was found; `sink` sends to it.
    pub(super) fn watch(&self, sink: &Sink) -> Monitor {
        self.sink.get_or_init(|| sink.monitor()).clone()
    }

    fn ready(&self) -> Health {
        let sink = match self.sink.get() {
            Some(sink) => sink.problem(),
            None => Some(format!("topic {} has not been found or created yet", self.cluster.topic())),
        };
        Health::new(self.cluster.problem().into_iter().chain(sink))
    }

    fn exposition(&self) -> String {
        let mut out = Exposition::default();
        if let Some(sink) = self.sink.get() {
            out.counter(
                "weather_acknowledged_records_total",
                "Readings acknowledged by all in-sync replicas.",
            )
            .value(sink.acknowledged());
            out.counter("weather_retried_records_total", "Readings sent again; each time counts.")
                .value(sink.retried());
            out.counter("weather_dropped_records_total", "Readings dropped: larger than the broker accepts.")
                .value(sink.dropped());
            out.gauge("weather_waiting_records", "Readings accepted and not yet acknowledged or dropped.")
                .value(sink.waiting());
            out.histogram(
                "weather_acknowledge_duration_seconds",
                "Time from when a reading was due to its acknowledgement.",
                &Buckets::of(&sink.latency_us()),
            );
        }
        out.gauge("weather_service_up", "1 while the service is reachable.").with(
            &[("service", &"kafka")],
            i32::from(self.cluster.outage().is_none() && self.sink.get().is_some()),
        );
        out.gauge("weather_ready", "1 while /readyz says ok.").value(i32::from(self.ready().is_ok()));
        out.process("producer");
        out.finish()
    }
}

impl Site for ProducerStatus {
    async fn answer(&self, path: &str, _: &str) -> Option<HttpAnswer> {
        Some(match path {
            // The request is being answered, so the runtime works.
            "/livez" => HttpAnswer::health(&Health::default()),
            "/readyz" => HttpAnswer::health(&self.ready()),
            "/metrics" => HttpAnswer::ok(metrics::CONTENT_TYPE, self.exposition()),
            _ => return None,
        })
    }
}
