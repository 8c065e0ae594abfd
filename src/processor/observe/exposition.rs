//! `/metrics`: the numbers of [`ProcessorStatus`] under their Prometheus names. A number of each partition is a line of
//! [`COUNTERS`] or [`GAUGES`], one of the process a line of the function that its topic has; `src/telemetry/README.md` lists
//! them all.
//!
//! Counts of records cover the partition's whole history, because that is what its state holds: they continue where a
//! restart or another owner has left them, and the sum over all processes is the topic's.

use crate::processor::observe::stats::ProcessPhase;
use crate::processor::observe::status::{PartitionView, ProcessorStatus, event_time};
use crate::reading::{Cause, Metric, Reason};
use crate::telemetry::metrics::Exposition;

/// A number of a partition: name, help, value. None leaves the sample out.
type PartitionSample = (&'static str, &'static str, fn(&PartitionView) -> Option<i64>);
/// As [`PartitionSample`]; the function gives ms, which are exported as seconds.
type Seconds = PartitionSample;

const COUNTERS: [PartitionSample; 7] = [
    ("weather_records_total", "Records read: aggregated, duplicate or rejected.", |p| Some(p.records())),
    ("weather_aggregated_records_total", "Records that are part of a window.", |p| {
        Some(p.progress.aggregated)
    }),
    (
        "weather_duplicate_records_total",
        "Records that a producer's retry had already sent; only version 0.1 counted them.",
        |p| Some(p.progress.duplicates),
    ),
    (
        "weather_skipped_offsets_total",
        "Offsets without a record: compacted away, transaction markers.",
        |p| Some(p.progress.skipped),
    ),
    ("weather_lost_offsets_total", "Offsets that Kafka had deleted before they were read.", |p| {
        Some(p.progress.lost)
    }),
    (
        "weather_sampled_out_records_total",
        "Rejected records that were counted but not stored, because there were too many at once.",
        |p| Some(p.progress.sampled_out),
    ),
    (
        "weather_refused_in_lists_readings_total",
        "Rejected readings of records whose other readings are part of a window.",
        |p| Some(p.progress.refused_in_lists),
    ),
];

const GAUGES: [PartitionSample; 6] = [
    ("weather_lag_records", "Records in Kafka that have not been read yet.", |p| Some(p.lag())),
    ("weather_unflushed_records", "Records that have been read and are not in the table yet.", |p| {
        p.unflushed
    }),
    ("weather_next_offset", "The offset to read next.", |p| Some(p.progress.next_offset)),
    ("weather_open_windows", "Windows that still accept readings.", |p| i64::try_from(p.open_windows).ok()),
    (
        "weather_partition_idle",
        "1 while the partition is caught up and without records, so that it holds no window open.",
        |p| Some(p.progress.idle),
    ),
    ("weather_epoch", "Epoch under which the partition is owned.", |p| Some(p.epoch)),
];

const TIMES: [Seconds; 4] = [
    (
        "weather_watermark_timestamp_seconds",
        "Windows that end here or before are closed; in seconds since 1970.",
        |p| event_time(p.progress.watermark_ms),
    ),
    ("weather_max_event_time_timestamp_seconds", "Greatest event time, in seconds since 1970.", |p| {
        event_time(p.progress.max_event_time_ms)
    }),
    (
        "weather_window_close_lag_seconds",
        "How long ago the oldest open window ended, by the clock; 0 if none has ended.",
        |p| Some(p.window_close_lag_ms),
    ),
    (
        "weather_checkpoint_age_seconds",
        "How long the checkpoint file has been behind the current state.",
        |p| p.checkpoint_age_ms,
    ),
];

impl ProcessorStatus {
    /// The whole text.
    pub(super) fn exposition(&self) -> String {
        let partitions = self.partitions();
        let mut out = Exposition::default();
        for (name, help, number) in COUNTERS {
            let mut family = out.counter(name, help);
            for p in &partitions {
                number(p).inspect(|n| family.with(&[("partition", &p.partition)], n));
            }
        }
        rejected(&mut out, &partitions);
        if self.database.is_some() {
            dead_letters(&mut out, &partitions);
        }
        for (name, help, number) in GAUGES {
            let mut family = out.gauge(name, help);
            for p in &partitions {
                number(p).inspect(|n| family.with(&[("partition", &p.partition)], n));
            }
        }
        for (name, help, milliseconds) in TIMES {
            let mut family = out.gauge(name, help);
            for p in &partitions {
                milliseconds(p)
                    .inspect(|ms| family.with(&[("partition", &p.partition)], *ms as f64 / 1000.0));
            }
        }
        self.ownership(&mut out, partitions.len());
        self.stations(&mut out);
        self.writing(&mut out);
        out.process("process");
        out.finish()
    }

    fn ownership(&self, out: &mut Exposition, owned: usize) {
        let leases = self.stats.leases().unwrap_or_default();
        let free = leases.owners.values().filter(|owner| owner.is_none()).count();
        out.gauge("weather_owned_partitions", "Partitions whose lease this process holds.").value(owned);
        out.gauge("weather_topic_partitions", "Partitions of the topic.").value(leases.owners.len());
        out.gauge("weather_free_partitions", "Partitions without a lease.").value(free);
        out.gauge("weather_processes", "Live processes that share the topic, this one included.")
            .value(self.processes());
        out.counter(
            "weather_fenced_partitions_total",
            "Partitions dropped because another process had taken them over.",
        )
        .value(self.stats.fenced.get());
        let up = |problem: Option<String>, reached: bool| i32::from(problem.is_none() && reached);
        let phase = self.stats.phase();
        let mut services = out.gauge("weather_service_up", "1 while the service is reachable.");
        let kafka = up(self.cluster.problem(), phase > ProcessPhase::WaitingForTopic);
        services.with(&[("service", &"kafka")], kafka);
        if let Some(postgres) = self.postgres() {
            let postgres = up(postgres.problem(), phase > ProcessPhase::WaitingForDatabase);
            services.with(&[("service", &"postgresql")], postgres);
        }
        services.with(&[("service", &"checkpoint_folder")], up(self.stats.checkpoint_folder.problem(), true));
        out.gauge("weather_ready", "1 while /readyz says ok.").value(i32::from(self.ready().is_ok()));
    }

    /// Totals alone: a label for each station would be as many series as there are stations.
    fn stations(&self, out: &mut Exposition) {
        let Some(counts) = self.registry.station_counts() else { return };
        out.gauge("weather_stations", "Stations in the newest window of each partition, added up.")
            .value(counts.newest);
        out.gauge("weather_station_rows", "Stations of all windows that are held, each partition's own.")
            .value(counts.rows);
        out.gauge(
            "weather_unwritten_station_rows",
            "Those of them that PostgreSQL does not have as they are.",
        )
        .value(counts.changed);
        out.counter(
            "weather_written_station_rows_total",
            "Rows of weather_station_partial that confirmed flushes wrote.",
        )
        .value(self.stats.station_rows.get());
        out.gauge(
            "weather_station_overflow_readings",
            "Readings of the windows that are held which count for station *, beyond --max-stations.",
        )
        .value(counts.overflow);
    }

    fn writing(&self, out: &mut Exposition) {
        let stats = &self.stats;
        out.counter("weather_flushes_total", "Flushes that PostgreSQL confirmed.").value(stats.flushes());
        out.counter("weather_failed_flushes_total", "Flushes that failed and were retried.")
            .value(stats.failed_flushes.get());
        let mut last = out.gauge(
            "weather_last_write_timestamp_seconds",
            "Time of the last confirmed flush, \
                                  in seconds since 1970.",
        );
        if let Some(ms) = stats.last_write_ms() {
            last.with(&[], ms as f64 / 1000.0);
        }
        out.gauge(
            "weather_postgres_oldest_transaction_seconds",
            "Age of the oldest transaction that keeps PostgreSQL from removing old row versions; reported by \
             the process that does the upkeep.",
        )
        .value(stats.oldest_snapshot().as_secs_f64());
        out.histogram(
            "weather_flush_duration_seconds",
            "Time from the start of a flush, including connecting, to PostgreSQL's confirmation.",
            &stats.flush.buckets(),
        );
        out.histogram(
            "weather_checkpoint_duration_seconds",
            "Time from requesting a partition's checkpoint to its file being durable.",
            &stats.checkpoint.buckets(),
        );
        out.histogram(
            "weather_append_to_visible_seconds",
            "Time from Kafka's timestamp of the oldest record of a flush to PostgreSQL's confirmation, per partition.",
            &stats.append_to_visible.buckets(),
        );
    }
}

fn rejected(out: &mut Exposition, partitions: &[PartitionView]) {
    let mut family =
        out.counter("weather_rejected_records_total", "Records that are in no window, by reason.");
    for p in partitions {
        for reason in Reason::ALL {
            let labels: &crate::telemetry::metrics::Labels<'_> =
                &[("partition", &p.partition), ("reason", &reason.as_str())];
            family.with(labels, p.progress.rejected[reason.index()]);
        }
    }
    let mut family = out.counter(
        "weather_left_out_metrics_total",
        "Readings in windows without this metric, by metric and cause.",
    );
    for p in partitions {
        for metric in Metric::ALL {
            for cause in Cause::ALL {
                let labels: &crate::telemetry::metrics::Labels<'_> =
                    &[("partition", &p.partition), ("metric", &metric.as_str()), ("cause", &cause.as_str())];
                family.with(labels, p.progress.left_out[metric.index()][cause.index()]);
            }
        }
    }
}

/// There is a table for them only in PostgreSQL.
fn dead_letters(out: &mut Exposition, partitions: &[PartitionView]) {
    let mut family =
        out.counter("weather_dead_letters_total", "Rejected records that are stored in weather_dead_letter.");
    for p in partitions {
        let kept = p.progress.rejected.iter().sum::<i64>() - p.progress.sampled_out;
        family.with(&[("partition", &p.partition)], kept);
    }
}
