//! The report, for people and for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::telemetry::human::{Grouped, TimeSpan};
use crate::verify::findings::{Difference, PartitionFindings, Unknown};

/// What verification can end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// Everything is as the topic says.
    Exact,
    /// Something is not.
    Differs,
    /// Nothing is wrong in what can be checked, but not all can be.
    Unknown,
}

/// How far a partition was compared.
#[derive(Debug, Serialize)]
pub(super) struct ComparedPartition {
    /// Which.
    pub partition: i32,
    /// The first offset that was read.
    pub from_offset: i64,
    /// The offset of the state in the table: up to before it was read.
    pub to_offset: i64,
    /// Windows that are the same.
    pub windows: i64,
    /// Readings in them.
    pub readings: i64,
    /// Rows of stations that are the same.
    pub station_rows: i64,
    /// Dead letters that are the same.
    pub dead_letters: i64,
    /// Dead letters that the table has not kept: of a flood, or deleted since.
    pub dead_letters_not_kept: i64,
}

/// The report.
#[derive(Debug, Serialize)]
pub(super) struct VerifyReport {
    /// What it comes to.
    pub verdict: Verdict,
    /// The topic.
    pub topic: String,
    /// What was compared, by partition.
    pub partitions: Vec<ComparedPartition>,
    /// Rows of the output that were compared.
    pub output_rows: usize,
    /// What differs, the first of each partition.
    pub differences: Vec<Difference>,
    /// How much differs.
    pub differing: i64,
    /// What cannot be checked.
    pub unknown: Vec<Unknown>,
    /// How long it took.
    pub seconds: f64,
}

impl VerifyReport {
    /// Of all partitions, with what else differs or cannot be checked.
    pub(super) fn new(
        topic: &str,
        partitions: Vec<PartitionFindings>,
        output_rows: usize,
        output: Vec<Difference>,
        mut unknown: Vec<Unknown>,
        took: Duration,
    ) -> Self {
        let (mut differences, mut differing, mut compared) = (Vec::new(), output.len() as i64, Vec::new());
        for mut found in partitions {
            unknown.extend(found.take_unknown());
            compared.push(ComparedPartition {
                partition: found.partition,
                from_offset: found.offsets.0,
                to_offset: found.offsets.1,
                windows: found.windows,
                readings: found.readings,
                station_rows: found.station_rows,
                dead_letters: found.dead_letters,
                dead_letters_not_kept: found.dead_letters_not_kept,
            });
            differing += found.differing;
            differences.append(&mut found.differences);
        }
        differences.extend(output);
        // The earliest window first; what is about none comes last.
        differences.sort_by_key(|difference| difference.window_start_ms.unwrap_or(i64::MAX));
        unknown.sort_by_key(|unknown| unknown.partition);
        let verdict = match (differing, unknown.is_empty()) {
            (0, true) => Verdict::Exact,
            (0, false) => Verdict::Unknown,
            _ => Verdict::Differs,
        };
        Self {
            verdict,
            topic: topic.to_owned(),
            partitions: compared,
            output_rows,
            differences,
            differing,
            unknown,
            seconds: took.as_secs_f64(),
        }
    }

    /// One JSON document.
    pub(super) fn to_json(&self) -> String {
        // It has nothing that cannot be serialised; were it otherwise, an empty document would say so.
        simd_json::to_string(self).unwrap_or_else(|_| "{}".to_owned()) + "\n"
    }

    /// For people.
    pub(super) fn to_text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail, here and below.
        for difference in &self.differences {
            let _ = writeln!(out, "DIFFERS  {}", line(difference));
        }
        let more = self.differing - self.differences.len() as i64;
        if more > 0 {
            let _ = writeln!(out, "         and {} more", Grouped(more));
        }
        for unknown in &self.unknown {
            let windows = match (&unknown.between, unknown.windows) {
                (Some((first, last)), n) => format!(", {} windows from {first} to {last}", Grouped(n)),
                (None, 0) => String::new(),
                (None, n) => format!(", {} windows", Grouped(n)),
            };
            let _ = writeln!(out, "UNKNOWN  partition {}{windows}: {}", unknown.partition, unknown.why);
        }
        let _ = writeln!(out, "{}", self.summary());
        out
    }

    fn summary(&self) -> String {
        let sum = |of: fn(&ComparedPartition) -> i64| Grouped(self.partitions.iter().map(of).sum());
        let word = match self.verdict {
            Verdict::Exact => "exact",
            Verdict::Differs => "differs",
            Verdict::Unknown => "exact as far as it can be checked",
        };
        let kept = match self.partitions.iter().map(|p| p.dead_letters_not_kept).sum() {
            0 => String::new(),
            n => format!(" ({} more are counted but not kept)", Grouped(n)),
        };
        let stations = match self.partitions.iter().map(|p| p.station_rows).sum() {
            0 => String::new(),
            n => format!(", {} rows of stations", Grouped(n)),
        };
        format!(
            "{word}: {} offsets of {} partitions read again in {}; {} readings in {} windows of partitions{stations}, {} dead \
             letters{kept} and {} rows of weather_summary are as the topic says",
            sum(|p| p.to_offset - p.from_offset),
            self.partitions.len(),
            TimeSpan(self.seconds),
            sum(|p| p.readings),
            sum(|p| p.windows),
            sum(|p| p.dead_letters),
            Grouped(self.output_rows as i64)
        )
    }

    /// One line about what is wrong first.
    pub(super) fn first_difference(&self) -> String {
        let more = match self.differing - 1 {
            n if n > 0 => format!(" (and {} more)", Grouped(n)),
            _ => String::new(),
        };
        self.differences.first().map_or_else(String::new, |difference| format!("{}{more}", line(difference)))
    }
}

fn line(difference: &Difference) -> String {
    let Difference { partition, window_start, offsets, what, .. } = difference;
    let window = window_start.as_ref().map(|start| format!("window {start}"));
    let partition = partition.map(|partition| format!("partition {partition}"));
    let offsets = offsets.map(|(first, last)| match first == last {
        true => format!("offset {first}"),
        false => format!("offsets {first} to {last}"),
    });
    let place: Vec<String> = [window, partition, offsets].into_iter().flatten().collect();
    format!("{}: {what}", place.join(", "))
}
