//! What is wrong, and what to do about it: pure rules over the report.

use std::collections::BTreeMap;

use crate::inspect::findings::Findings;
use crate::inspect::report::{InspectReport, InspectedPartition, Problem, Severity};
use crate::postgres::overview::Overview;
use crate::postgres::readmission::{self, Readmittable};
use crate::postgres::schema::SCHEMA_VERSION;
use crate::telemetry::human::{Grouped, TimeSpan};

/// A partition that is further behind than this gets a line.
const MUCH_LAG: i64 = 100_000;

impl Problem {
    fn error(what: impl Into<String>, action: impl Into<String>) -> Self {
        Self { severity: Severity::Error, what: what.into(), action: action.into() }
    }

    fn warning(what: impl Into<String>, action: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(what, action) }
    }

    fn note(what: impl Into<String>, action: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::error(what, action) }
    }
}

/// All problems, the worst first.
pub(super) fn of(report: &InspectReport, findings: &Findings) -> Vec<Problem> {
    let mut problems = Vec::new();
    places(report, findings, &mut problems);
    if let Ok(tables) = &findings.tables {
        made_for(report, tables, &mut problems);
        cluster(tables, findings.cluster_id.as_deref(), &mut problems);
        snapshots(tables, &mut problems);
        owners(report, &mut problems);
    }
    for partition in &report.partitions {
        offsets(partition, &mut problems);
        files(partition, &mut problems);
    }
    totals(report, &mut problems);
    left_out(report, &mut problems);
    if let Ok(tables) = &findings.tables {
        readmittable(tables, &mut problems);
    }
    problems.sort_by_key(|problem| problem.severity);
    problems
}

fn places(report: &InspectReport, findings: &Findings, problems: &mut Vec<Problem>) {
    if let Err(error) = &findings.topic {
        problems.push(Problem::error(
            format!("Kafka at {} is not available: {error}", report.brokers),
            "check that the broker runs and that --brokers, --sasl-mechanism and the password are right; a \
             broker takes up to a minute to start",
        ));
    }
    if let Err(failure) = &findings.tables {
        problems.push(Problem::error(
            format!("PostgreSQL at {} {}", report.database, failure.verdict()),
            "check that it runs and that --database-url (or PGHOST, PGUSER, PGPASSWORD) is right; `weather process` \
             keeps reading and writes when it is back",
        ));
    }
    if let Err(error) = &findings.files {
        problems.push(Problem::note(
            format!("the checkpoint folder {} cannot be read: {error}", report.checkpoint_dir),
            "set --checkpoint-dir to the folder of `weather process`; without files it continues from PostgreSQL's state",
        ));
    }
    if let Ok(None) = &findings.topic {
        problems.push(Problem::error(
            format!("there is no topic {}", report.topic),
            "start `weather producer`, which creates it, or correct --topic",
        ));
    }
}

/// What makes each flush slower than the one before.
fn snapshots(tables: &Overview, problems: &mut Vec<Problem>) {
    if let Some(oldest) = tables.oldest_snapshot.as_ref().filter(|oldest| oldest.is_old()) {
        problems.push(Problem::warning(
            format!(
                "a transaction open for {} keeps PostgreSQL from removing old row versions: {}",
                TimeSpan(oldest.seconds),
                oldest.who
            ),
            "end it (SELECT pg_terminate_backend(…)), or set idle_in_transaction_session_timeout",
        ));
    }
}

/// Whether the tables are there, and for this topic.
fn made_for(report: &InspectReport, tables: &Overview, problems: &mut Vec<Problem>) {
    if let Some(refusal) = &tables.refusal {
        problems.push(Problem::error(refusal.to_string(), "run the statement, then start `weather process`"));
    }
    if !tables.missing.is_empty() {
        problems.push(Problem::error(
            format!("the database lacks {}", tables.missing.join(", ")),
            "start `weather process` once with a role that may create tables",
        ));
    }
    let Some(made_for) = &tables.made_for else { return };
    if made_for.topic != report.topic {
        problems.push(Problem::error(
            format!("the tables belong to topic {}, not {}", made_for.topic, report.topic),
            "correct --topic, or use another database",
        ));
    }
    if made_for.schema_version > SCHEMA_VERSION {
        problems.push(Problem::error(
            format!(
                "the tables were created by a newer version of weather (schema {})",
                made_for.schema_version
            ),
            "use that version",
        ));
    }
}

/// Whether the tables' offsets are of the cluster that the brokers are of.
fn cluster(tables: &Overview, of_brokers: Option<&str>, problems: &mut Vec<Problem>) {
    let of_tables = tables.made_for.as_ref().and_then(|made_for| made_for.cluster_id.as_deref());
    let (Some(of_tables), Some(of_brokers)) = (of_tables, of_brokers) else { return };
    if of_tables != of_brokers {
        problems.push(Problem::error(
            format!(
                "the tables are of Kafka cluster {of_tables}, but the brokers are of cluster {of_brokers}"
            ),
            format!(
                "correct --brokers, or continue there with `weather process --accept-cluster {of_brokers}`"
            ),
        ));
    }
}

/// Whether processes are running.
fn owners(report: &InspectReport, problems: &mut Vec<Problem>) {
    let live = report.processes.iter().filter(|process| process.is_live).count();
    let free: Vec<String> = report
        .partitions
        .iter()
        .filter(|p| p.kafka.is_some() && p.table.as_ref().is_none_or(|table| !table.is_leased))
        .map(|p| p.partition.to_string())
        .collect();
    if live == 0 && !report.partitions.is_empty() {
        let last =
            report.processes.iter().map(|process| process.good_for_seconds).fold(f64::NEG_INFINITY, f64::max);
        let since = if last.is_finite() { format!(" since {}", TimeSpan(-last)) } else { String::new() };
        problems.push(Problem::error(
            format!("no process is running{since}"),
            "start `weather process`; it continues where the last one stopped",
        ));
    } else if !free.is_empty() {
        problems.push(Problem::warning(
            format!("no process owns partition {}", free.join(", ")),
            "a live process takes it within a second, unless --assign excludes it; check their logs",
        ));
    }
}

/// Where Kafka and the table contradict each other.
fn offsets(p: &InspectedPartition, problems: &mut Vec<Problem>) {
    let (Some(table), n) = (&p.table, p.partition) else { return };
    let Some(state) = &table.state else { return };
    let Some(kafka) = &p.kafka else {
        return problems.push(Problem::note(
            format!("partition {n} is in the tables but not in the topic"),
            "nothing to do if the topic was recreated with fewer partitions; its windows stay in the averages",
        ));
    };
    if state.next_offset < kafka.earliest_offset {
        let lost = Grouped(kafka.earliest_offset - state.next_offset);
        problems.push(Problem::error(
            format!("Kafka has deleted {lost} records of partition {n} that were not read"),
            "increase the topic's retention; they count as lost, and with --on-data-loss stop the process ends",
        ));
    } else if state.next_offset > kafka.end_offset {
        problems.push(Problem::warning(
            format!(
                "partition {n} ends at {} in Kafka, but {} records were read",
                kafka.end_offset, state.next_offset
            ),
            "the topic was recreated or cut; `weather process` notices and reads what is there now",
        ));
    }
    if p.lag.is_some_and(|lag| lag >= MUCH_LAG) {
        let lag = Grouped(p.lag.unwrap_or(0));
        problems.push(Problem::warning(
            format!("partition {n} is {lag} records behind"),
            "check again in a minute: if it does not shrink, check the owner's log, or add processes and partitions",
        ));
    }
    if state.lost > 0 {
        problems.push(Problem::warning(
            format!("partition {n} has lost {} records", Grouped(state.lost)),
            "Kafka had deleted them before they were read: increase the topic's retention",
        ));
    }
}

fn files(p: &InspectedPartition, problems: &mut Vec<Problem>) {
    for problem in &p.file_problems {
        problems.push(Problem::warning(
            format!("a checkpoint file of partition {} cannot be used: {problem}", p.partition),
            "nothing to do: the previous file or PostgreSQL's state is used, and Kafka is read again from there",
        ));
    }
    // While a process is running, the tables are ahead of the file most of the time.
    let is_leased = p.table.as_ref().is_some_and(|table| table.is_leased);
    if let Some(why) = p.file.as_ref().and_then(|file| file.why_not).filter(|_| !is_leased) {
        problems.push(Problem::note(
            format!("the checkpoint file of partition {} would not be used at a start: {why}", p.partition),
            "nothing to do: PostgreSQL's state is used, and Kafka is read again from there",
        ));
    }
}

/// Metrics that do not count, of readings that do.
fn left_out(report: &InspectReport, problems: &mut Vec<Problem>) {
    let states = || report.partitions.iter().filter_map(|p| p.table.as_ref()?.state.as_ref());
    let mut by_metric = BTreeMap::<_, BTreeMap<_, i64>>::new();
    for (metric, causes) in states().flat_map(|state| &state.left_out) {
        for (cause, count) in causes.iter().filter(|(_, count)| **count > 0) {
            *by_metric.entry(*metric).or_default().entry(*cause).or_default() += count;
        }
    }
    for (metric, causes) in by_metric {
        let parts: Vec<String> =
            causes.iter().map(|(cause, count)| format!("{} {cause}", Grouped(*count))).collect();
        problems.push(Problem::note(
            format!("readings without {metric}: {}", parts.join(", ")),
            "their other metrics count; if records carry it, the newest records above show under which name",
        ));
    }
}

/// What is not lost, although it is in no window.
fn readmittable(tables: &Overview, problems: &mut Vec<Problem>) {
    let Some(command) = readmission::command(&tables.readmittable) else { return };
    let count = |of: &Readmittable| {
        let least = if of.or_more { "at least " } else { "" };
        format!("{least}{} {}", Grouped(of.count), of.reason)
    };
    let counts: Vec<String> = tables.readmittable.iter().map(count).collect();
    problems.push(Problem::note(
        format!("dead letters that can be taken into their windows: {}", counts.join(", ")),
        format!("{command} (with --dry-run, it only counts)"),
    ));
}

fn totals(report: &InspectReport, problems: &mut Vec<Problem>) {
    let states = || report.partitions.iter().filter_map(|p| p.table.as_ref()?.state.as_ref());
    let rejected: i64 = states().flat_map(|state| state.rejected.values()).sum();
    let aggregated: i64 = states().map(|state| state.aggregated).sum();
    if rejected == 0 {
        return;
    }
    let mut by_reason = BTreeMap::new();
    for (reason, count) in states().flat_map(|state| &state.rejected) {
        *by_reason.entry(reason).or_insert(0) += count;
    }
    let parts: Vec<String> = by_reason
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(reason, count)| format!("{} {reason}", Grouped(*count)))
        .collect();
    let problem = Problem::note(
        format!("{} records are in no window: {}", Grouped(rejected), parts.join(", ")),
        "SELECT * FROM weather_dead_letter ORDER BY recorded_at DESC LIMIT 10 shows the newest",
    );
    let is_much = rejected > 100 && rejected > aggregated / 10;
    problems.push(if is_much { Problem { severity: Severity::Warning, ..problem } } else { problem });
}
