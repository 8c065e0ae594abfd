//! `/progress`: one JSON document, in the shape of Spark's `StreamingQueryProgress`, with everything else under `weather`
//! ([`mod@weather`]).
//!
//! Spark's fields mean what they mean there, of this process: a batch is a flush, a row a reading. Times in `weather`
//! are RFC 3339 or seconds.

mod weather;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::postgres::readmission::Readmittable;
use crate::processor::observe::rates::PerSecond;
use crate::processor::observe::stats::FlushNote;
use crate::processor::observe::status::{PartitionView, ProcessorStatus, event_time};
use crate::reading::Reason;
use crate::time::{Rfc3339, now_ms};
use weather::{FromTables, WeatherProgress};

/// Topic, then partition, then offset.
type Offsets = BTreeMap<String, BTreeMap<String, i64>>;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProgressDocument {
    id: String,
    run_id: String,
    name: String,
    timestamp: String,
    batch_id: Option<u64>,
    batch_duration: Option<u64>,
    num_input_rows: i64,
    input_rows_per_second: f64,
    processed_rows_per_second: f64,
    duration_ms: BTreeMap<&'static str, u64>,
    event_time: BTreeMap<&'static str, String>,
    state_operators: [StateOperator; 1],
    sources: [SourceEntry; 1],
    sink: SinkEntry,
    weather: WeatherProgress,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StateOperator {
    operator_name: &'static str,
    num_rows_total: usize,
    num_rows_updated: usize,
    num_rows_dropped_by_watermark: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SourceEntry {
    description: String,
    start_offset: Offsets,
    end_offset: Offsets,
    latest_offset: Offsets,
    num_input_rows: i64,
    input_rows_per_second: f64,
    processed_rows_per_second: f64,
    metrics: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SinkEntry {
    description: String,
    num_output_rows: Option<usize>,
}

impl ProcessorStatus {
    /// The document.
    pub(super) async fn progress(&self) -> String {
        let (windows, readmittable) = tokio::join!(self.windows(), self.readmittable());
        let partitions = self.partitions();
        let rates = self.rates();
        let batches = self.stats.batches();
        let last = batches.last();
        let topic = self.cluster.topic();
        let milliseconds = |batch: &FlushNote| u64::try_from(batch.took.as_millis()).unwrap_or(u64::MAX);
        let duration_ms = last
            .into_iter()
            .flat_map(|b| [("addBatch", milliseconds(b)), ("triggerExecution", milliseconds(b))]);
        let progress = ProgressDocument {
            id: format!("{topic}@{}", self.address()),
            run_id: self.process.clone(),
            name: topic.to_owned(),
            timestamp: Rfc3339(now_ms()).to_string(),
            batch_id: last.map(|batch| batch.id),
            batch_duration: last.map(milliseconds),
            num_input_rows: last.map_or(0, FlushNote::records),
            input_rows_per_second: rates.read,
            processed_rows_per_second: rates.written,
            duration_ms: duration_ms.collect(),
            event_time: event_times(&partitions),
            state_operators: [StateOperator {
                operator_name: "stateStoreSave",
                num_rows_total: partitions.iter().map(|p| p.open_windows).sum(),
                num_rows_updated: last.map_or(0, |batch| batch.rows),
                num_rows_dropped_by_watermark: partitions.iter().map(late).sum(),
            }],
            sources: [source(topic, &partitions, last, rates)],
            sink: SinkEntry { description: self.sink(), num_output_rows: last.map(|batch| batch.rows) },
            weather: self.weather(
                &partitions,
                FromTables { windows: &windows, readmittable: &readmittable },
                &batches,
                rates,
            ),
        };
        // Maps of text and finite numbers always serialise; otherwise, an empty document would show it.
        simd_json::to_string(&progress).unwrap_or_else(|_| "{}".to_owned())
    }
}

impl ProcessorStatus {
    async fn readmittable(&self) -> Arc<Vec<Readmittable>> {
        match &self.database {
            Some(database) => database.tables.readmittable().await,
            None => Arc::default(),
        }
    }

    /// Where the rows go, for a name.
    fn address(&self) -> String {
        let database = self.database.as_ref();
        database.map_or_else(|| "stdout".to_owned(), |database| database.connector.address())
    }

    /// Where the rows go, for people.
    fn sink(&self) -> String {
        match &self.database {
            Some(database) => format!("PostgreSQL {}, weather_summary", database.connector.address()),
            None => "standard output, without PostgreSQL".to_owned(),
        }
    }
}

fn time(ms: i64) -> String {
    Rfc3339(ms).to_string()
}

fn late(p: &PartitionView) -> i64 {
    p.progress.rejected[Reason::Late.index()]
}

fn event_times(partitions: &[PartitionView]) -> BTreeMap<&'static str, String> {
    let watermark = partitions.iter().filter_map(|p| event_time(p.progress.watermark_ms)).min();
    let max = partitions.iter().filter_map(|p| event_time(p.progress.max_event_time_ms)).max();
    [("watermark", watermark), ("max", max)]
        .into_iter()
        .filter_map(|(name, ms)| Some((name, time(ms?))))
        .collect()
}

fn source(
    topic: &str,
    partitions: &[PartitionView],
    last: Option<&FlushNote>,
    rates: PerSecond,
) -> SourceEntry {
    let offsets = |of: Vec<(i32, i64)>| -> Offsets {
        let by_partition =
            of.into_iter().map(|(partition, offset)| (partition.to_string(), offset)).collect();
        BTreeMap::from([(topic.to_owned(), by_partition)])
    };
    let batch = |of: fn(&(i32, i64, i64)) -> (i32, i64)| {
        offsets(last.iter().flat_map(|b| b.offsets.iter().map(of)).collect())
    };
    let lags = || partitions.iter().map(PartitionView::lag);
    let average = lags().sum::<i64>() as f64 / partitions.len().max(1) as f64;
    SourceEntry {
        description: format!("Kafka[Subscribe[{topic}]]"),
        start_offset: batch(|(partition, from, _)| (*partition, *from)),
        end_offset: batch(|(partition, _, to)| (*partition, *to)),
        latest_offset: offsets(partitions.iter().map(|p| (p.partition, p.high_watermark)).collect()),
        num_input_rows: last.map_or(0, FlushNote::records),
        input_rows_per_second: rates.read,
        processed_rows_per_second: rates.written,
        metrics: BTreeMap::from([
            ("avgOffsetsBehindLatest", average.to_string()),
            ("maxOffsetsBehindLatest", lags().max().unwrap_or(0).to_string()),
            ("minOffsetsBehindLatest", lags().min().unwrap_or(0).to_string()),
        ]),
    }
}
