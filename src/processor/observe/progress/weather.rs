//! What Spark does not have: everything under `weather`, which the dashboard shows.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use super::{late, time};
use crate::postgres::readmission::{self, Readmittable};
use crate::postgres::summary::WindowRow;
use crate::processor::observe::history::HistoryLines;
use crate::processor::observe::measures::Measures;
use crate::processor::observe::rates::PerSecond;
use crate::processor::observe::stats::{FlushNote, ProcessPhase, Sample};
use crate::processor::observe::status::{PartitionView, ProcessorStatus, event_time};
use crate::processor::partition::handle;
use crate::reading::{Cause, Metric, Reason};
use crate::telemetry::latency::Percentiles;
use crate::telemetry::process::{self, Usage};

/// What was read of the tables.
pub(super) struct FromTables<'a> {
    pub(super) windows: &'a [WindowRow],
    pub(super) readmittable: &'a [Readmittable],
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct WeatherProgress {
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
    /// Not in the table; null where there is none, as of each partition.
    unflushed: Option<i64>,
    history: HistoryLines,
    watermark: Option<String>,
    last_write: Option<String>,
    totals: RecordCounts,
    stations: Option<StationsSummary>,
    partitions: Vec<PartitionEntry>,
    owners: BTreeMap<i32, Option<String>>,
    windows: Vec<WindowEntry>,
    dead_letters: Vec<Sample>,
    readmittable: Vec<Readmittable>,
    /// The command that takes them into their windows.
    readmit: Option<String>,
    latency: Latencies,
    batches: Vec<BatchLine>,
    flushes: u64,
    failed_flushes: u64,
    fenced_partitions: u64,
    usage: Option<Usage>,
}

/// With `--by station`; no names, of which there may be any number.
#[derive(Debug, Serialize)]
struct StationsSummary {
    /// In the newest window of each partition, added up.
    newest: usize,
    /// Of all windows that are held.
    rows: usize,
    /// Those that PostgreSQL does not have as they are.
    unwritten: usize,
    /// Rows that were written since the start.
    written: u64,
    /// Readings of the windows that are held which count for no station of their own.
    overflow: i64,
}

impl StationsSummary {
    fn of(counts: handle::StationCounts, written: u64) -> Self {
        let handle::StationCounts { rows, changed, newest, overflow } = counts;
        Self { newest, rows, unwritten: changed, written, overflow }
    }
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
    unflushed: Option<i64>,
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
    #[serde(flatten)]
    measures: Measures,
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
    /// How fast readings come and go.
    pub fn rates(&self) -> PerSecond {
        let (now, look) = (Instant::now(), self.registry.counts());
        let rates = self.stats.rates.per_second(now, &look);
        self.stats.rates.note(now, || look);
        rates
    }

    fn station_totals(&self) -> Option<StationsSummary> {
        let written = self.stats.station_rows.get();
        self.registry.station_counts().map(|counts| StationsSummary::of(counts, written))
    }

    pub(super) fn weather(
        &self,
        partitions: &[PartitionView],
        tables: FromTables<'_>,
        batches: &[FlushNote],
        rates: PerSecond,
    ) -> WeatherProgress {
        let ready = self.ready();
        let mut problems = ready.problems().to_vec();
        problems.extend(self.stats.checkpoint_folder.problem());
        WeatherProgress {
            version: env!("CARGO_PKG_VERSION"),
            process: self.process.clone(),
            processes: self.processes(),
            phase: match self.stats.phase() {
                ProcessPhase::WaitingForDatabase | ProcessPhase::WaitingForTopic => "waiting",
                ProcessPhase::Running => "running",
                ProcessPhase::Stopping => "stopping",
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
            unflushed: partitions.iter().map(|p| p.unflushed).sum(),
            history: self.history.lines(),
            watermark: self.watermark_ms(partitions).map(time),
            last_write: self.stats.last_write_ms().map(time),
            totals: RecordCounts::of(partitions),
            stations: self.station_totals(),
            partitions: partitions.iter().map(PartitionEntry::of).collect(),
            owners: self.stats.leases().unwrap_or_default().owners,
            windows: tables.windows.iter().map(WindowEntry::of).collect(),
            dead_letters: self.samples(),
            readmittable: tables.readmittable.to_vec(),
            readmit: readmission::command(tables.readmittable),
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
            unflushed: p.unflushed,
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
    fn of(window: &WindowRow) -> Self {
        let WindowRow { summary: row, minima, maxima } = window;
        Self {
            start: time(row.start_ms),
            end: time(row.end_ms),
            measures: Measures::of(row.averages, *minima, *maxima),
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
