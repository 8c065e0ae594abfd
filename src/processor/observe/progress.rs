//! `/progress`: one JSON document, in the shape of Spark's `StreamingQueryProgress`, with everything else under `weather`.
//!
//! Spark's fields mean what they mean there, of this process: a batch is a flush, a row a reading. Times in `weather`
//! are RFC 3339 or seconds.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use crate::postgres::summary::SummaryRow;
use crate::processor::observe::rates::PerSecond;
use crate::processor::observe::stats::{FlushNote, Phase, Sample};
use crate::processor::observe::status::{PartitionView, ProcessorStatus, event_time};
use crate::reading::{Cause, Metric, Reason};
use crate::telemetry::latency::Percentiles;
use crate::telemetry::process::{self, Usage};
use crate::time::{Rfc3339, now_ms};

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
    weather: Weather,
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

#[derive(Debug, Serialize)]
struct Weather {
    version: &'static str,
    process: String,
    processes: usize,
    phase: &'static str,
    ready: bool,
    problems: Vec<String>,
    advice: Vec<String>,
    units: BTreeMap<&'static str, &'static str>,
    uptime_seconds: f64,
    window_seconds: f64,
    read_per_second: f64,
    written_per_second: f64,
    lag: i64,
    unflushed: i64,
    watermark: Option<String>,
    last_write: Option<String>,
    totals: RecordCounts,
    stations: Option<StationCounts>,
    partitions: Vec<PartitionEntry>,
    owners: BTreeMap<i32, Option<String>>,
    windows: Vec<WindowEntry>,
    dead_letters: Vec<Sample>,
    latency: Latencies,
    batches: Vec<BatchLine>,
    flushes: u64,
    failed_flushes: u64,
    fenced_partitions: u64,
    usage: Option<Usage>,
}

/// With `--by station`: rows of all windows that are held, and those that PostgreSQL does not have as they are.
#[derive(Debug, Serialize)]
struct StationCounts {
    rows: usize,
    unwritten: usize,
}

#[derive(Debug, Default, Serialize)]
struct RecordCounts {
    records: i64,
    aggregated: i64,
    duplicates: i64,
    skipped: i64,
    lost: i64,
    sampled_out: i64,
    refused_in_lists: i64,
    rejected: BTreeMap<&'static str, i64>,
    /// By metric, then by cause.
    left_out: BTreeMap<&'static str, BTreeMap<&'static str, i64>>,
}

#[derive(Debug, Serialize)]
struct PartitionEntry {
    partition: i32,
    epoch: i64,
    next_offset: i64,
    flushed_offset: i64,
    high_watermark: i64,
    lag: i64,
    unflushed: i64,
    watermark: Option<String>,
    max_event_time: Option<String>,
    idle: bool,
    open_windows: usize,
    window_close_lag_seconds: f64,
    checkpoint_age_seconds: Option<f64>,
    late: i64,
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct WindowEntry {
    start: String,
    end: String,
    avg_temp: Option<f64>,
    avg_humidity: Option<f64>,
    avg_wind_speed: Option<f64>,
    readings: i64,
    is_final: bool,
}

#[derive(Debug, Serialize)]
struct Latencies {
    append_to_visible: Percentiles,
    flush: Percentiles,
    checkpoint: Percentiles,
}

#[derive(Debug, Serialize)]
struct BatchLine {
    id: u64,
    at: String,
    records: i64,
    rows: usize,
    dead_letters: usize,
    seconds: f64,
    visible_after_seconds: Option<f64>,
}

impl ProcessorStatus {
    /// The document.
    pub(super) async fn progress(&self) -> String {
        let windows = self.windows.newest().await;
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
            id: format!("{topic}@{}", self.database.address()),
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
            sink: SinkEntry {
                description: format!("PostgreSQL {}, weather_summary", self.database.address()),
                num_output_rows: last.map(|batch| batch.rows),
            },
            weather: self.weather(&partitions, &windows, &batches, rates),
        };
        // Maps of text and finite numbers always serialise; otherwise, an empty document would show it.
        simd_json::to_string(&progress).unwrap_or_else(|_| "{}".to_owned())
    }

    /// How fast readings come and go.
    pub fn rates(&self) -> PerSecond {
        let (now, look) = (Instant::now(), self.registry.counts());
        let rates = self.stats.rates.per_second(now, &look);
        self.stats.rates.note(now, || look);
        rates
    }

    fn weather(
        &self,
        partitions: &[PartitionView],
        windows: &[SummaryRow],
        batches: &[FlushNote],
        rates: PerSecond,
    ) -> Weather {
        let ready = self.ready();
        let mut problems = ready.problems().to_vec();
        problems.extend(self.stats.checkpoint_folder.problem());
        Weather {
            version: env!("CARGO_PKG_VERSION"),
            process: self.process.clone(),
            processes: self.processes(),
            phase: match self.stats.phase() {
                Phase::WaitingForDatabase | Phase::WaitingForTopic => "waiting",
                Phase::Running => "running",
                Phase::Stopping => "stopping",
            },
            ready: ready.is_ok(),
            problems,
            advice: self.stats.advice(),
            units: Metric::ALL.map(|m| (m.as_str(), self.format.output_unit(m).as_str())).into(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            window_seconds: self.window_ms as f64 / 1000.0,
            read_per_second: rates.read,
            written_per_second: rates.written,
            lag: partitions.iter().map(PartitionView::lag).sum(),
            unflushed: partitions.iter().map(PartitionView::unflushed).sum(),
            watermark: self.watermark_ms(partitions).map(time),
            last_write: self.stats.last_write_ms().map(time),
            totals: RecordCounts::of(partitions),
            stations: self.registry.station_rows().map(|(rows, unwritten)| StationCounts { rows, unwritten }),
            partitions: partitions.iter().map(PartitionEntry::of).collect(),
            owners: self.stats.leases().unwrap_or_default().owners,
            windows: windows.iter().map(WindowEntry::of).collect(),
            dead_letters: self.samples(),
            latency: Latencies {
                append_to_visible: self.stats.append_to_visible.percentiles(),
                flush: self.stats.flush.percentiles(),
                checkpoint: self.stats.checkpoint.percentiles(),
            },
            batches: batches.iter().map(BatchLine::of).collect(),
            flushes: self.stats.flushes(),
            failed_flushes: self.stats.failed_flushes.get(),
            fenced_partitions: self.stats.fenced.get(),
            usage: process::usage(),
        }
    }

    /// The least watermark of the partitions that are not idle; of all if all are.
    pub fn watermark_ms(&self, partitions: &[PartitionView]) -> Option<i64> {
        let least = |idle_too: bool| {
            let counted = partitions.iter().filter(|p| idle_too || p.progress.idle == 0);
            counted.filter_map(|p| event_time(p.progress.watermark_ms)).min()
        };
        least(false).or_else(|| least(true))
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

impl RecordCounts {
    fn of(partitions: &[PartitionView]) -> Self {
        let sum = |of: fn(&PartitionView) -> i64| partitions.iter().map(of).sum();
        let rejected = |reason: &Reason| {
            (reason.as_str(), partitions.iter().map(|p| p.progress.rejected[reason.index()]).sum())
        };
        let left_out = |metric: &Metric| {
            let of = |cause: Cause| {
                partitions.iter().map(|p| p.progress.left_out[metric.index()][cause.index()]).sum()
            };
            (metric.as_str(), Cause::ALL.iter().map(|cause| (cause.as_str(), of(*cause))).collect())
        };
        Self {
            records: sum(PartitionView::records),
            aggregated: sum(|p| p.progress.aggregated),
            duplicates: sum(|p| p.progress.duplicates),
            skipped: sum(|p| p.progress.skipped),
            lost: sum(|p| p.progress.lost),
            sampled_out: sum(|p| p.progress.sampled_out),
            refused_in_lists: sum(|p| p.progress.refused_in_lists),
            rejected: Reason::ALL.iter().map(rejected).collect(),
            left_out: Metric::ALL.iter().map(left_out).collect(),
        }
    }
}

impl PartitionEntry {
    fn of(p: &PartitionView) -> Self {
        Self {
            partition: p.partition,
            epoch: p.epoch,
            next_offset: p.progress.next_offset,
            flushed_offset: p.progress.flushed_offset,
            high_watermark: p.high_watermark,
            lag: p.lag(),
            unflushed: p.unflushed(),
            watermark: event_time(p.progress.watermark_ms).map(time),
            max_event_time: event_time(p.progress.max_event_time_ms).map(time),
            idle: p.progress.idle != 0,
            open_windows: p.open_windows,
            window_close_lag_seconds: p.window_close_lag_ms as f64 / 1000.0,
            checkpoint_age_seconds: p.checkpoint_age_ms.map(|ms| ms as f64 / 1000.0),
            late: late(p),
            problem: p.problem.clone(),
        }
    }
}

impl WindowEntry {
    fn of(row: &SummaryRow) -> Self {
        let [avg_temp, avg_humidity, avg_wind_speed] = row.averages;
        Self {
            start: time(row.start_ms),
            end: time(row.end_ms),
            avg_temp,
            avg_humidity,
            avg_wind_speed,
            readings: row.reading_count,
            is_final: row.is_final,
        }
    }
}

impl BatchLine {
    fn of(batch: &FlushNote) -> Self {
        Self {
            id: batch.id,
            at: time(batch.at_ms),
            records: batch.records(),
            rows: batch.rows,
            dead_letters: batch.dead_letters,
            seconds: batch.took.as_secs_f64(),
            visible_after_seconds: batch.visible_after.map(|waited| waited.as_secs_f64()),
        }
    }
}
