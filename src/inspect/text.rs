//! The report as people read it: what there is, a table of the partitions, what is understood of records, what is wrong.

use std::fmt::Write as _;

use crate::inspect::records::Records;
use crate::inspect::report::{InspectReport, InspectedPartition, Severity};
use crate::telemetry::human::{Grouped, Side, TimeSpan, columns};
use crate::time::SqlTimestamp;

const HEADERS: [&str; 9] = [
    "partition",
    "owner",
    "lease",
    "epoch",
    "next offset",
    "end in Kafka",
    "lag",
    "watermark",
    "checkpoint file",
];

/// The whole text.
pub(super) fn of(report: &InspectReport) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "Topic        {} at {}: {}", report.topic, report.brokers, topic(report));
    let _ = writeln!(out, "PostgreSQL   {}: {}", report.database, windows(report));
    let _ = writeln!(out, "Checkpoints  {}: {}", report.checkpoint_dir, files(report));
    let _ = writeln!(out, "Processes    {}", processes(report));
    if !report.partitions.is_empty() {
        out.push('\n');
        push_table(&mut out, report);
    }
    push_records(&mut out, report);
    out.push('\n');
    if report.problems.is_empty() {
        out.push_str("No problems found.\n");
    }
    for problem in &report.problems {
        let severity = match problem.severity {
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
            Severity::Note => "NOTE",
        };
        let _ = writeln!(out, "{severity:8} {}\n         → {}", problem.what, problem.action);
    }
    out
}

fn topic(report: &InspectReport) -> String {
    if let Some(error) = report.errors.get("kafka") {
        return error.clone();
    }
    let partitions: Vec<_> = report.partitions.iter().filter_map(|p| p.kafka.as_ref()).collect();
    let records: i64 = partitions.iter().map(|k| k.end_offset - k.earliest_offset).sum();
    let lag: i64 = report.partitions.iter().filter_map(|p| p.lag).sum();
    let (records, lag) = (Grouped(records), Grouped(lag));
    format!("{} partitions, {records} records, {lag} not in the table", partitions.len())
}

fn windows(report: &InspectReport) -> String {
    if let Some(error) = report.errors.get("postgresql") {
        return error.clone();
    }
    let Some(windows) = &report.windows else { return "no windows".to_owned() };
    let newest =
        windows.newest_ms.map_or_else(String::new, |ms| format!(", the newest {}", SqlTimestamp(ms)));
    let changed =
        windows.changed_ago_s.map_or_else(String::new, |ago| format!(", changed {} ago", TimeSpan(ago)));
    let readings = Grouped(windows.readings);
    format!("{} windows of {readings} readings, {} not final{newest}{changed}", windows.count, windows.open)
}

fn files(report: &InspectReport) -> String {
    if let Some(error) = report.errors.get("checkpoint_dir") {
        return error.clone();
    }
    format!("files of {} partitions", report.partitions.iter().filter(|p| p.file.is_some()).count())
}

fn processes(report: &InspectReport) -> String {
    if report.errors.contains_key("postgresql") {
        return "unknown".to_owned();
    }
    let live: Vec<&str> = report.processes.iter().filter(|p| p.is_live).map(|p| p.name.as_str()).collect();
    if live.is_empty() { "none running".to_owned() } else { live.join(", ") }
}

fn push_table(out: &mut String, report: &InspectReport) {
    let headers = HEADERS.map(str::to_owned);
    let rows: Vec<[String; 9]> =
        std::iter::once(headers).chain(report.partitions.iter().map(cells)).collect();
    for line in columns(&rows, Side::Left, "  ") {
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

fn push_records(out: &mut String, report: &InspectReport) {
    if report.records.is_empty() {
        return;
    }
    let count: usize = report.records.iter().map(|records| records.count).sum();
    let _ = writeln!(out, "\nThe {count} newest records; averages are in {}", report.output_units);
    for records in &report.records {
        push_alike(out, records);
    }
}

/// What is understood of records that are alike.
fn push_alike(out: &mut String, records: &Records) {
    let Records { count, partition, offset, .. } = records;
    let verdict =
        records.reason.map_or_else(|| "count".to_owned(), |reason| format!("are refused ({reason})"));
    let _ = writeln!(
        out,
        "  {count} {verdict}; the newest is offset {offset} of partition {partition}: {}",
        records.example
    );
    for field in &records.understood {
        let unit = field.unit.map_or_else(String::new, |unit| format!(" in {unit}"));
        let cause = field.cause.map_or_else(String::new, |cause| format!(": does not count, {cause}"));
        let _ = writeln!(out, "    {:<11}  {} {}{unit}{cause}", field.name, field.path, field.example);
    }
    if !records.not_understood.is_empty() {
        let others: Vec<String> =
            records.not_understood.iter().map(|field| format!("{} {}", field.path, field.example)).collect();
        let _ = writeln!(out, "    {:<11}  {}", "not used", others.join(", "));
    }
    if let Some(hint) = &records.hint {
        let _ = writeln!(out, "    → {hint}");
    }
}

fn cells(p: &InspectedPartition) -> [String; 9] {
    let none = || "-".to_owned();
    let number = |n: Option<i64>| n.map_or_else(none, |n| Grouped(n).to_string());
    let table = p.table.as_ref();
    let state = table.and_then(|table| table.state.as_ref());
    let lease = table.and_then(|table| table.lease_seconds).map_or_else(none, |left| match left > 0.0 {
        true => format!("{} left", TimeSpan(left)),
        false => format!("expired {} ago", TimeSpan(-left)),
    });
    let watermark = state.and_then(|state| state.watermark.as_deref()).map_or_else(none, |time| {
        let time = time.get(..19).unwrap_or(time).replace('T', " ");
        if state.is_some_and(|state| state.is_idle) { format!("{time} idle") } else { time }
    });
    let file = p.file.as_ref().map_or_else(none, |file| {
        let is_leased = table.is_some_and(|table| table.is_leased);
        let used = if file.would_be_used == Some(false) && !is_leased { ", not usable" } else { "" };
        format!("at {}, {} old{used}", Grouped(file.next_offset), TimeSpan(file.age_seconds))
    });
    [
        p.partition.to_string(),
        table.and_then(|table| table.owner.clone()).unwrap_or_else(none),
        lease,
        table.map_or_else(none, |table| table.epoch.to_string()),
        number(state.map(|state| state.next_offset)),
        number(p.kafka.as_ref().map(|kafka| kafka.end_offset)),
        number(p.lag),
        watermark,
        file,
    ]
}
