//! What was found, put together: one value for both the text and the JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::Inspect;
use crate::engine::checkpoint::Checkpoint;
use crate::engine::recovery::{Choice, choose};
use crate::engine::state::Progress;
use crate::engine::watermark;
use crate::inspect::findings::Findings;
use crate::inspect::records::{self, Range, Records};
use crate::postgres::connector;
use crate::postgres::failure::Failure;
use crate::postgres::overview::{PartitionRow, Windows};
use crate::processor::checkpoints::store::StoredCheckpoints;
use crate::reading::{Cause, Metric, Reason};
use crate::time::{Rfc3339, now_ms};

/// The report.
#[derive(Debug, Serialize)]
pub(super) struct InspectReport {
    /// The topic.
    pub topic: String,
    /// Where Kafka is.
    pub brokers: String,
    /// Where PostgreSQL is.
    pub database: String,
    /// Where the files are.
    pub checkpoint_dir: String,
    /// Why a place could not be read, by its name.
    pub errors: BTreeMap<&'static str, String>,
    /// Processes that share the topic.
    pub processes: Vec<InspectedProcess>,
    /// Every partition that any place knows, ascending.
    pub partitions: Vec<InspectedPartition>,
    /// What is understood of some of the topic's newest records, those alike once.
    pub records: Vec<Records>,
    /// The units of the averages, as `--output-units` takes them.
    pub output_units: String,
    /// The output; null if there is none.
    pub windows: Option<Windows>,
    /// What is wrong, the worst first.
    pub problems: Vec<Problem>,
}

/// How bad it is; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Nothing is processed.
    Error,
    /// Needs attention.
    Warning,
    /// As it should be, but worth knowing.
    Note,
}

/// Something to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub action: String,
}

/// A process.
#[derive(Debug, Serialize)]
pub(super) struct InspectedProcess {
    /// Its name.
    pub name: String,
    /// Whether it has renewed its entry in time.
    pub is_live: bool,
    /// Seconds until its entry expires; below 0: since it expired.
    pub good_for_seconds: f64,
}

/// A partition as the three places have it; null where one does not.
#[derive(Debug, Serialize)]
pub(super) struct InspectedPartition {
    /// Which.
    pub partition: i32,
    /// Kafka's first and next offset.
    pub kafka: Option<KafkaRange>,
    /// PostgreSQL's row.
    pub table: Option<PartitionTable>,
    /// The newest file that can be read.
    pub file: Option<InspectedFile>,
    /// What is wrong with files.
    pub file_problems: Vec<String>,
    /// Records in Kafka that are not in the table.
    pub lag: Option<i64>,
}

/// What Kafka has.
#[derive(Debug, Serialize)]
pub(super) struct KafkaRange {
    /// The oldest record's offset.
    pub earliest_offset: i64,
    /// The offset after the newest record.
    pub end_offset: i64,
}

/// What PostgreSQL has.
#[derive(Debug, Serialize)]
pub(super) struct PartitionTable {
    /// The owner of the lease, or its last owner.
    pub owner: Option<String>,
    /// Whether the lease is valid.
    pub is_leased: bool,
    /// Seconds until the lease expires; below 0: since it expired.
    pub lease_seconds: Option<f64>,
    /// Raised each time that a process claims the partition.
    pub epoch: i64,
    /// Seconds since the row was changed.
    pub changed_ago_seconds: f64,
    /// The state; null while nothing was flushed.
    pub state: Option<StoredState>,
}

/// The numbers of a state.
#[derive(Debug, Serialize)]
pub(super) struct StoredState {
    /// The offset to read next.
    pub next_offset: i64,
    /// Raised when the topic was recreated.
    pub incarnation: i64,
    /// Windows that end here or before are closed.
    pub watermark: Option<String>,
    /// Greatest event time.
    pub max_event_time: Option<String>,
    /// Whether it holds no window open.
    pub is_idle: bool,
    /// Readings in windows.
    pub aggregated: i64,
    /// Dropped as duplicates.
    pub duplicates: i64,
    /// Offsets without a record.
    pub skipped: i64,
    /// Offsets that Kafka no longer had.
    pub lost: i64,
    /// Rejected, by reason.
    pub rejected: BTreeMap<&'static str, i64>,
    /// Readings in windows whose metric does not count, by metric and cause.
    pub left_out: BTreeMap<&'static str, BTreeMap<&'static str, i64>>,
    /// Readings that do not count, of lists that are aggregated.
    pub refused_in_lists: i64,
}

/// What a checkpoint file has.
#[derive(Debug, Serialize)]
pub(super) struct InspectedFile {
    /// The epoch under which it was written.
    pub epoch: i64,
    /// The offset to read next.
    pub next_offset: i64,
    /// The offset that PostgreSQL had confirmed.
    pub flushed_offset: i64,
    /// When it was written.
    pub written: String,
    /// Seconds since.
    pub age_seconds: f64,
    /// Windows in it.
    pub windows: usize,
    /// Dead letters that PostgreSQL had not confirmed.
    pub pending_dead_letters: usize,
    /// Whether the next owner on this folder would continue from it; else why not. Null if the tables were not read.
    pub would_be_used: Option<bool>,
    /// Why it would not be.
    pub why_not: Option<&'static str>,
}

impl InspectReport {
    /// Puts the findings together; what is wrong with them is for `problems` to add.
    pub(super) fn of(config: &Inspect, findings: &Findings) -> Self {
        let partitions = findings.partitions();
        let partitions =
            partitions.into_iter().map(|partition| InspectedPartition::of(partition, findings)).collect();
        let mut errors = BTreeMap::new();
        let mut note = |place, error: Option<String>| errors.extend(error.map(|e| (place, e)));
        note("kafka", findings.topic.as_ref().err().cloned());
        note("postgresql", findings.tables.as_ref().err().map(Failure::to_string));
        note("checkpoint_dir", findings.files.as_ref().err().cloned());
        let tables = findings.tables.as_ref().ok();
        let process = |(name, left): &(String, f64)| InspectedProcess {
            name: name.clone(),
            is_live: *left > 0.0,
            good_for_seconds: *left,
        };
        Self {
            topic: config.kafka.topic.clone(),
            brokers: config.kafka.brokers.join(","),
            database: connector::address(&config.database),
            checkpoint_dir: config.checkpoint_dir.display().to_string(),
            errors,
            processes: tables.iter().flat_map(|t| t.processes.iter().map(process)).collect(),
            partitions,
            records: records::understood(&findings.records, &config.format),
            output_units: config.format.output_units(),
            windows: tables.and_then(|t| t.windows),
            problems: Vec::new(),
        }
    }

    /// The services that could not be reached. A folder that is not here may be on another machine.
    pub(super) fn unreachable(&self) -> Vec<&'static str> {
        let services = [("kafka", "Kafka"), ("postgresql", "PostgreSQL")];
        services
            .into_iter()
            .filter(|(place, _)| self.errors.contains_key(place))
            .map(|(_, name)| name)
            .collect()
    }

    /// One JSON document.
    pub(super) fn to_json(&self) -> String {
        // It has nothing that cannot be serialised; otherwise, an empty document would show it.
        simd_json::to_string(self).unwrap_or_else(|_| "{}".to_owned()) + "\n"
    }
}

impl InspectedPartition {
    fn of(partition: i32, findings: &Findings) -> Self {
        let range = findings.topic.as_ref().ok().and_then(|topic| topic.as_ref()?.get(&partition).copied());
        let tables = findings.tables.as_ref().ok();
        let row = tables.and_then(|tables| tables.partitions.iter().find(|row| row.partition == partition));
        let found = findings.files.as_ref().ok().and_then(|files| files.get(&partition));
        let (file, file_problems) = match found {
            None => (None, Vec::new()),
            Some(Err(error)) => (None, vec![error.to_string()]),
            Some(Ok(StoredCheckpoints { checkpoints, problems })) => (
                checkpoints.first().map(|file| InspectedFile::of(file, tables.map(|_| row))),
                problems.clone(),
            ),
        };
        let lag =
            range.zip(row.and_then(|row| row.progress)).map(|(range, p)| (range.end - p.next_offset).max(0));
        // The lag of a partition that has not been read yet is everything that Kafka has.
        let lag = lag.or(range.filter(|_| tables.is_some()).map(|range| range.end - range.earliest));
        let kafka =
            range.map(|Range { earliest, end }| KafkaRange { earliest_offset: earliest, end_offset: end });
        Self { partition, kafka, table: row.map(PartitionTable::of), file, file_problems, lag }
    }
}

impl PartitionTable {
    fn of(row: &PartitionRow) -> Self {
        Self {
            owner: row.owner.clone(),
            is_leased: row.owner.is_some() && row.lease_left_s.is_some_and(|left| left > 0.0),
            lease_seconds: row.lease_left_s,
            epoch: row.epoch,
            changed_ago_seconds: row.changed_ago_s,
            state: row.progress.as_ref().map(StoredState::of),
        }
    }
}

impl StoredState {
    fn of(progress: &Progress) -> Self {
        let left_out = |metric: Metric| {
            let of = |cause: &Cause| (cause.as_str(), progress.left_out[metric.index()][cause.index()]);
            Cause::ALL.iter().map(of).collect()
        };
        let time = |ms: i64| Some(ms).filter(|ms| *ms > watermark::NONE).map(|ms| Rfc3339(ms).to_string());
        Self {
            next_offset: progress.next_offset,
            incarnation: progress.incarnation,
            watermark: time(progress.watermark_ms),
            max_event_time: time(progress.max_event_time_ms),
            is_idle: progress.idle != 0,
            aggregated: progress.aggregated,
            duplicates: progress.duplicates,
            skipped: progress.skipped,
            lost: progress.lost,
            rejected: Reason::ALL.iter().map(|r| (r.as_str(), progress.rejected[r.index()])).collect(),
            left_out: Metric::ALL.iter().map(|m| (m.as_str(), left_out(*m))).collect(),
            refused_in_lists: progress.refused_in_lists,
        }
    }
}

impl InspectedFile {
    /// Of the file and the partition's row, if the tables were read.
    fn of(file: &Checkpoint, row: Option<Option<&PartitionRow>>) -> Self {
        let progress = &file.state.progress;
        let choice = row.map(|row| {
            let position = row.and_then(|row| row.progress.as_ref()).map(Progress::position);
            choose(file, row.map_or(0, |row| row.epoch), position)
        });
        Self {
            epoch: file.epoch,
            next_offset: progress.next_offset,
            flushed_offset: progress.flushed_offset,
            written: Rfc3339(file.written_ms).to_string(),
            age_seconds: (now_ms() - file.written_ms).max(0) as f64 / 1000.0,
            windows: file.state.windows.len(),
            pending_dead_letters: file.pending.len(),
            would_be_used: choice.map(|choice| choice == Choice::File),
            why_not: match choice {
                Some(Choice::Database(why)) => Some(why),
                _ => None,
            },
        }
    }
}
