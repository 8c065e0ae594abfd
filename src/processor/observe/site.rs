//! The HTTP endpoint of `weather process`.

use crate::processor::observe::status::{ProcessorStatus, ShownTables};
use crate::telemetry::http::{HttpAnswer, Site};
use crate::telemetry::{metrics, page};

impl Site for ProcessorStatus {
    async fn answer(&self, path: &str, query: &str) -> Option<HttpAnswer> {
        Some(match path {
            "/" => page::answer(),
            "/livez" => HttpAnswer::health(&self.live()),
            "/readyz" => HttpAnswer::health(&self.ready()),
            "/metrics" => HttpAnswer::ok(metrics::CONTENT_TYPE, self.exposition()),
            "/progress" => HttpAnswer::ok("application/json", self.progress().await),
            "/stations" => match &self.database {
                None => {
                    HttpAnswer::text(404, "stations are searched by PostgreSQL, and --database-url is none")
                }
                Some(ShownTables { stations: Some(stations), .. }) => stations.answer(query).await,
                Some(_) => HttpAnswer::text(
                    404,
                    "stations are not kept apart: start weather process with --by station",
                ),
            },
            _ => return None,
        })
    }
}
