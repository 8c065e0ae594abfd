//! The same result by other code: the log read from its start and counted record by record, as plainly as can be.
//!
//! Nothing of the processor is used here, not even its reading format: other parser, other arithmetic, no state except
//! totals. It follows the log while the demo runs, so the log need not be kept. It knows only what the demo's stations
//! send.

use std::collections::BTreeMap;
use std::time::Duration;

use rskafka::client::partition::{PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::RecordAndOffset;
use simd_json::OwnedValue;
use simd_json::prelude::*;
use tokio::time::timeout;

use super::outcome::{RecordFates, WindowAverages};
use crate::error::{Error, Result};
use crate::time::now_ms;

const HOUR_MS: i64 = 3_600_000;
const TEN_MINUTES_MS: i64 = 600_000;
/// Name and range of each metric.
const METRICS: [(&str, f64, f64); 3] =
    [("temperature", -90.0, 60.0), ("humidity", 0.0, 105.0), ("wind_speed", 0.0, 150.0)];
const FETCH_BYTES: i32 = 1 << 20;
const FETCH_LIMIT: Duration = Duration::from_secs(10);

/// The recomputation so far.
#[derive(Debug)]
pub(super) struct Recount {
    partitions: Vec<CheckedPartition>,
    sums: AllSums,
    fates: BTreeMap<&'static str, i64>,
}

/// Number and sum: of the readings, then of each metric.
type Sums = [(i64, f64); 4];

#[derive(Debug, Default)]
struct AllSums {
    windows: BTreeMap<i64, Sums>,
    stations: BTreeMap<(i64, String), Sums>,
}

/// What a record says.
#[derive(Debug, PartialEq)]
struct PlainReading {
    station: String,
    time_ms: i64,
    metrics: [Option<f64>; 3],
}

#[derive(Debug)]
struct CheckedPartition {
    log: PartitionClient,
    next_offset: i64,
    newest_ms: i64,
}

impl Recount {
    /// From the first record of a topic.
    pub(super) async fn start(broker: &str, topic: &str, partitions: i32) -> Result<Self> {
        let client: Client =
            ClientBuilder::new(vec![broker.to_owned()]).build().await.map_err(|e| unread(&e))?;
        let mut all = Vec::new();
        for partition in 0..partitions {
            let log = client.partition_client(topic, partition, UnknownTopicHandling::Error);
            let log = log.await.map_err(|e| unread(&e))?;
            all.push(CheckedPartition { log, next_offset: 0, newest_ms: i64::MIN });
        }
        Ok(Self { partitions: all, sums: AllSums::default(), fates: BTreeMap::new() })
    }

    /// Counts the records below these offsets, one of each partition.
    pub(super) async fn catch_up(&mut self, ends: &[i64]) -> Result<()> {
        for (partition, end) in self.partitions.iter_mut().zip(ends) {
            while partition.next_offset < *end {
                let fetch = partition.log.fetch_records(partition.next_offset, 1..FETCH_BYTES, 100);
                let answer = timeout(FETCH_LIMIT, fetch).await.map_err(|e| unread(&e))?;
                let (records, _) = answer.map_err(|e| unread(&e))?;
                let new = |record: &RecordAndOffset| record.offset >= partition.next_offset;
                for record in records.into_iter().filter(new).collect::<Vec<_>>() {
                    partition.next_offset = record.offset + 1;
                    let fate = partition.fate(record, &mut self.sums);
                    *self.fates.entry(fate).or_default() += 1;
                }
            }
        }
        Ok(())
    }

    /// What the processor's result must be.
    pub(super) fn outcome(&self) -> RecordFates {
        let row = |[readings, metrics @ ..]: &Sums| {
            let averages = metrics.map(|(count, sum)| (count > 0).then(|| sum / count as f64));
            WindowAverages { readings: readings.0, averages, is_final: false }
        };
        RecordFates {
            offsets: (0..).zip(self.partitions.iter().map(|partition| partition.next_offset)).collect(),
            windows: self.sums.windows.iter().map(|(start, sums)| (*start, row(sums))).collect(),
            stations: self.sums.stations.iter().map(|(key, sums)| (key.clone(), row(sums))).collect(),
            fates: self.fates.clone(),
        }
    }
}

impl CheckedPartition {
    /// What becomes of a record; an averaged one is added to its window and to its station's.
    fn fate(&mut self, record: RecordAndOffset, sums: &mut AllSums) -> &'static str {
        let PlainReading { station, time_ms, metrics } = match read(record.record.value) {
            Ok(reading) => reading,
            Err(reason) => return reason,
        };
        if time_ms > now_ms() + TEN_MINUTES_MS {
            return "future";
        }
        let start_ms = time_ms.div_euclid(HOUR_MS) * HOUR_MS;
        if start_ms + HOUR_MS <= self.newest_ms.saturating_sub(TEN_MINUTES_MS) {
            return "late";
        }
        self.newest_ms = self.newest_ms.max(time_ms);
        add(sums.windows.entry(start_ms).or_default(), metrics);
        add(sums.stations.entry((start_ms, station)).or_default(), metrics);
        "aggregated"
    }
}

fn add(sums: &mut Sums, metrics: [Option<f64>; 3]) {
    sums[0].0 += 1;
    for (sum, value) in sums[1..].iter_mut().zip(metrics) {
        sum.0 += i64::from(value.is_some());
        sum.1 += value.unwrap_or(0.0);
    }
}

/// A reading, or why it is rejected.
fn read(value: Option<Vec<u8>>) -> std::result::Result<PlainReading, &'static str> {
    let mut value = value.filter(|value| !value.is_empty()).ok_or("malformed")?;
    // A map, because the last of a repeated field counts.
    let fields: BTreeMap<String, OwnedValue> =
        simd_json::serde::from_slice(&mut value).map_err(|_| "malformed")?;
    let mut metrics = [None; 3];
    for (metric, (name, low, high)) in metrics.iter_mut().zip(METRICS) {
        let number = fields.get(name).and_then(ValueAsScalar::cast_f64);
        *metric = number.filter(|number| (low..=high).contains(number));
    }
    let time_ms = match fields.get("timestamp") {
        Some(value) if !value.is_null() => value.as_i64().ok_or("malformed")?,
        _ => return Err("missing_timestamp"),
    };
    if metrics.iter().all(Option::is_none) {
        return Err("no_metric");
    }
    // A wet hygrometer shows a little more than there can be.
    metrics[1] = metrics[1].map(|humidity| humidity.min(100.0));
    let station = fields.get("station").and_then(|name| name.as_str()).unwrap_or_default().to_owned();
    Ok(PlainReading { station, time_ms, metrics })
}

fn unread(e: &dyn std::fmt::Display) -> Error {
    Error::failure(format!("the embedded broker's log cannot be read: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_and_reasons() {
        let read = |text: &str| read(Some(text.as_bytes().to_vec()));
        assert_eq!(
            read(r#"{"station":"s","timestamp":7,"temperature":-1.5,"humidity":50,"wind_speed":null}"#),
            Ok(PlainReading { station: "s".to_owned(), time_ms: 7, metrics: [Some(-1.5), Some(50.0), None] })
        );
        for (text, reason) in [
            ("", "malformed"),
            ("[]", "malformed"),
            ("sensor rebooting", "malformed"),
            (r#"{"timestamp":1,"temperature":21.5,"timestamp":"soon"}"#, "malformed"),
            (r#"{"temperature":21.5}"#, "missing_timestamp"),
            (r#"{"timestamp":1,"temperature":null}"#, "no_metric"),
            (r#"{"timestamp":1,"temperature":1.0,"temperature":9999.9}"#, "no_metric"),
            (r#"{"timestamp":1,"temperature":1.0,"temperature":"warm"}"#, "no_metric"),
        ] {
            assert_eq!(read(text), Err(reason), "{text}");
        }
    }
}
