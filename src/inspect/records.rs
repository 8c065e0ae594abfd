//! The topic's newest records: what is understood of them, by which name and in which unit, and what is not.
//!
//! A few records of a few partitions are read from Kafka; nothing is committed. Records that are understood alike are shown
//! once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use crate::config::OnDataLoss;
use crate::engine::partition::MAX_READING_BYTES;
use crate::engine::state::LogIdentity;
use crate::kafka::batch::{Batches, Expander};
use crate::kafka::cluster::Cluster;
use crate::kafka::fetcher::{Event, FetchSettings, Fetcher, PartitionFeed, Turn};
use crate::reading::explain::explain;
use crate::reading::{Cause, Format, Parser, Reason, Unit};

/// How many partitions are looked at, and how many records of each.
const PARTITIONS: usize = 4;
const RECORDS: i64 = 5;
/// How long Kafka may take for all of them.
const LIMIT: Duration = Duration::from_secs(5);
/// How much of an example is shown, in bytes.
const SHOWN: usize = 300;

/// The first offset of a partition that Kafka has, and the one after its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    /// The first.
    pub earliest: i64,
    /// The one after the last.
    pub end: i64,
}

/// A record as Kafka has it.
#[derive(Debug)]
pub(super) struct NewRecord {
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    /// As much of it as a reading may have.
    value: Vec<u8>,
    bytes: usize,
}

/// Records that are understood alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Records {
    /// How many of those that were read.
    pub count: usize,
    /// Why they are refused; null if they count.
    pub reason: Option<&'static str>,
    /// The partition of the example.
    pub partition: i32,
    /// The offset of the example.
    pub offset: i64,
    /// How it begins.
    pub example: String,
    /// The fields that count.
    pub understood: Vec<UnderstoodField>,
    /// The fields that do not.
    pub not_understood: Vec<OtherField>,
    /// What to set for more to count.
    pub hint: Option<String>,
}

/// A field that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct UnderstoodField {
    /// `station`, `timestamp` or a metric.
    pub name: &'static str,
    /// Where it stands.
    pub path: String,
    /// The unit that it is in.
    pub unit: Option<&'static str>,
    /// Its value.
    pub example: String,
    /// Why this value does not count.
    pub cause: Option<&'static str>,
}

/// A field that does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct OtherField {
    /// Where it stands.
    pub path: String,
    /// Its value.
    pub example: String,
}

/// Reads the newest records of some partitions, the newest last; what cannot be read in time is left out.
pub(super) async fn newest(cluster: &Arc<Cluster>, topic: &BTreeMap<i32, Range>) -> Vec<NewRecord> {
    let settings = FetchSettings {
        fetch_bytes: 1024 * 1024,
        wait: Duration::from_millis(100),
        pause: Duration::ZERO,
        on_data_loss: OnDataLoss::Continue,
    };
    let fetcher = Fetcher::start(Arc::clone(cluster), settings);
    let filled = topic.iter().filter(|(_, range)| range.end > range.earliest);
    let mut records = Vec::new();
    let reading = async {
        for (partition, range) in filled.take(PARTITIONS) {
            let from = range.earliest.max(range.end - RECORDS);
            let feed = fetcher.open(*partition, from, LogIdentity::UNKNOWN);
            read(feed, *partition, range.end, &mut records).await;
        }
    };
    // What was read by then is shown.
    let _ = timeout(LIMIT, reading).await;
    records
}

async fn read(mut feed: PartitionFeed, partition: i32, end: i64, records: &mut Vec<NewRecord>) {
    let mut expander = Expander::default();
    while let Some(event) = feed.next().await {
        let next = match event {
            Event::Records(turn) => take(turn, partition, &mut expander, records),
            Event::Recognised { .. } => continue,
            Event::Skipped { to } | Event::Lost { to } => Some(to),
            Event::CaughtUp { .. } | Event::StartedOver { .. } | Event::Failed(_) => None,
        };
        if next.is_none_or(|next| next >= end) {
            return;
        }
    }
}

/// The offset to read next; `None` if the rest cannot be read.
fn take(
    mut turn: Turn,
    partition: i32,
    expander: &mut Expander,
    records: &mut Vec<NewRecord>,
) -> Option<i64> {
    let (from, aborted) = (turn.from(), turn.take_aborted());
    let mut batches = Batches::new(turn.batches(), from, aborted, MAX_READING_BYTES, expander);
    let mut next = from;
    while let Some(batch) = batches.next_batch() {
        let mut batch = batch.ok()?;
        next = batch.header().next_offset();
        while let Some(record) = batch.next_record() {
            let record = record.ok()?;
            records.push(NewRecord {
                partition,
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                value: record.value.unwrap_or_default().to_vec(),
                bytes: record.value_bytes,
            });
        }
    }
    Some(next)
}

/// What is understood of the records; those that are understood alike once, with the newest as the example.
pub(super) fn understood(records: &[NewRecord], format: &Arc<Format>) -> Vec<Records> {
    let mut parser = Parser::new(Arc::clone(format));
    let mut groups: Vec<Records> = Vec::new();
    for record in records.iter().rev() {
        let read = Records::of(record, format, &mut parser);
        match groups.iter_mut().find(|group| group.is_alike(&read)) {
            Some(group) => group.count += 1,
            None => groups.push(read),
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    groups
}

impl Records {
    fn of(record: &NewRecord, format: &Format, parser: &mut Parser) -> Self {
        let value = record.value.as_slice();
        let reason = match record.bytes {
            0..=MAX_READING_BYTES => parser.parse(value, Some(record.timestamp_ms)).err(),
            _ => Some(Reason::Oversized),
        };
        let explanation = explain(format, value);
        let hint = explanation.hint();
        let others = explanation.candidates.into_iter().map(|(_, field)| field).chain(explanation.others);
        Self {
            count: 1,
            reason: reason.map(Reason::as_str),
            partition: record.partition,
            offset: record.offset,
            example: String::from_utf8_lossy(&value[..value.len().min(SHOWN)]).into_owned(),
            understood: explanation
                .understood
                .into_iter()
                .map(|field| UnderstoodField {
                    name: field.name,
                    path: field.path,
                    unit: field.unit.map(Unit::as_str),
                    example: field.example,
                    cause: field.cause.map(Cause::as_str),
                })
                .collect(),
            not_understood: others
                .map(|field| OtherField { path: field.path, example: field.example })
                .collect(),
            hint,
        }
    }

    /// Whether both have the same fields, understood in the same way.
    fn is_alike(&self, other: &Self) -> bool {
        let understood = |records: &Self| {
            let key = |f: &UnderstoodField| (f.name, f.path.clone(), f.unit, f.cause);
            records.understood.iter().map(key).collect::<Vec<_>>()
        };
        let others =
            |records: &Self| records.not_understood.iter().map(|f| f.path.clone()).collect::<BTreeSet<_>>();
        self.reason == other.reason && understood(self) == understood(other) && others(self) == others(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64, value: &str) -> NewRecord {
        let (value, bytes) = (value.as_bytes().to_vec(), value.len());
        NewRecord { partition: 0, offset, timestamp_ms: 5, value, bytes }
    }

    #[test]
    fn records_that_are_understood_alike_are_shown_once() {
        let records = [
            record(1, r#"{"timestamp":1709633700,"temperature":8,"windspeed":9}"#),
            record(2, "no json"),
            record(3, r#"{"timestamp":1709633701,"temperature":7,"windspeed":4}"#),
        ];
        let groups = understood(&records, &Format::shared());
        assert_eq!(groups.len(), 2, "{groups:#?}");
        let [read, refused] = &groups[..] else { unreachable!() };
        assert_eq!((read.count, read.reason, read.offset), (2, None, 3));
        let fields: Vec<_> = read.understood.iter().map(|f| (f.name, f.unit, f.example.as_str())).collect();
        assert_eq!(fields, [("timestamp", None, "1709633701"), ("temperature", Some("°C"), "7")]);
        assert_eq!(read.not_understood[0].path, "windspeed");
        assert!(read.hint.as_ref().is_some_and(|hint| hint.contains("wind_speed=windspeed:m/s")));
        assert_eq!((refused.count, refused.reason), (1, Some("malformed")));
    }
}
