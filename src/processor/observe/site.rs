//! The HTTP endpoint of `weather process`.

use crate::processor::observe::status::ProcessorStatus;
use crate::telemetry::http::{Answer, Site};
use crate::telemetry::{metrics, page};

impl Site for ProcessorStatus {
    async fn answer(&self, path: &str, query: &str) -> Option<Answer> {
        Some(match path {
            "/" => page::answer(),
            "/livez" => Answer::health(&self.live()),
            "/readyz" => Answer::health(&self.ready()),
            "/metrics" => Answer::ok(metrics::CONTENT_TYPE, self.exposition()),
            "/progress" => Answer::ok("application/json", self.progress().await),
            "/stations" => match &self.stations {
                Some(stations) => stations.answer(query).await,
                None => {
                    Answer::text(404, "stations are not kept apart: start weather process with --by station")
                }
            },
            _ => return None,
        })
    }
}
