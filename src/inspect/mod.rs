//! `weather inspect`: what state there is, who owns what, how far behind it is, what is wrong and what to do about it.
//!
//! Three places are compared, each as far as it can be reached: the checkpoint files, the tables, the topic, with what is
//! understood of its newest records. Nothing is changed: no file is created or locked, the transaction is read-only, no
//! topic is created. What could not be checked is reported; if that is a service, the exit code is 1.

mod findings;
mod problems;
mod records;
mod report;
mod text;

use crate::config::{Inspect, LogLevel, LogSettings};
use crate::error::{Error, Result};
use crate::telemetry::{log, output};
use findings::Findings;
use report::InspectReport;

/// Reads everything and prints the report.
///
/// # Errors
/// Kafka or PostgreSQL could not be checked; the rest is still printed.
pub async fn run(config: Inspect) -> Result<()> {
    // The report says what is away; a log line about retrying would be wrong.
    if config.log.level < LogLevel::Debug {
        log::init(LogSettings { level: LogLevel::Error, ..config.log });
    }
    let findings = Findings::gather(&config).await;
    let mut report = InspectReport::of(&config, &findings);
    report.problems = problems::of(&report, &findings);
    let text = if config.json { report.to_json() } else { text::of(&report) };
    output::deliver(text).await;
    match report.unreachable() {
        unreachable if unreachable.is_empty() => Ok(()),
        unreachable => Err(Error::failure(format!("could not check {}", unreachable.join(" and ")))),
    }
}
