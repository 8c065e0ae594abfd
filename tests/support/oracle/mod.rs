//! What the tables have to hold, computed from the topic by code that shares nothing with the program but
//! rskafka and simd-json's grammar.
//!
//! Everything is written as the definitions read, one record after the other in the order of the log, and not for speed:
//!
//! 1. A *dead letter* has a value that [`reading::read`] refuses, or lies in the *future*: more than `max_future_ms` after
//!    `now_ms`.
//! 2. A *late* record's window had ended when it came: `window_end <= max_event_time - watermark`, where `max_event_time`
//!    is that of the aggregated records before it in this partition.
//! 3. What is left is *aggregated*, in the window `[start, start + window_ms)` with `start = floor(event_time / window_ms)`,
//!    and alone moves `max_event_time`.
//!
//! [`Expected::of_topic`] reads a topic, [`Expected::differences`] compares with a database (`table.rs`).

mod reading;
mod table;

use super::Kafka;
use rskafka::record::RecordAndOffset;
use std::collections::BTreeMap;

/// The settings that decide where a record belongs.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// `--window`
    pub window_ms: i64,
    /// `--watermark`
    pub watermark_ms: i64,
    /// `--max-future`
    pub max_future_ms: i64,
    /// The clock by which a record is in the future; without one, none is.
    pub now_ms: Option<i64>,
    /// Offsets that an earlier version, which told retries by their headers, has dropped as seen before.
    pub duplicates: &'static [i64],
    /// An earlier version, which kept neither minima nor maxima, has counted the records before this offset.
    pub extremes_from: i64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            window_ms: 3_600_000,
            watermark_ms: 600_000,
            max_future_ms: 600_000,
            now_ms: None,
            duplicates: &[],
            extremes_from: 0,
        }
    }
}

/// What has to become of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// In the window that starts at `window_start_ms`.
    Aggregated {
        /// Milliseconds since 1970.
        window_start_ms: i64,
    },
    /// In the table of dead letters, with this reason (`late` among them).
    DeadLetter(&'static str),
    /// Nowhere: an earlier version has dropped it.
    Duplicate,
}

/// Counts, sums and extremes of the three metrics, in the order of [`reading::METRICS`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    /// Readings, whatever metrics they have.
    pub readings: i64,
    /// Readings with this metric.
    pub counts: [i64; 3],
    /// The sum of this metric.
    pub sums: [f64; 3],
    /// The least and the greatest value of this metric, if there is one.
    pub extremes: [Option<(f64, f64)>; 3],
    /// Whether an earlier version has counted some of them, so that nobody knows the extremes.
    pub without_extremes: bool,
}

impl Totals {
    fn add(&mut self, other: &Totals) {
        self.readings += other.readings;
        self.without_extremes |= other.without_extremes;
        for metric in 0..3 {
            self.counts[metric] += other.counts[metric];
            self.sums[metric] += other.sums[metric];
            self.extremes[metric] = match (self.extremes[metric], other.extremes[metric]) {
                (Some(own), Some(other)) => Some((own.0.min(other.0), own.1.max(other.1))),
                (own, other) => own.or(other),
            };
        }
    }

    /// What the columns of extremes hold, in the order `min_temp, max_temp, min_humidity, max_humidity, max_wind_speed`.
    pub fn extremes(&self) -> [Option<f64>; 5] {
        let known = self.extremes.map(|extremes| extremes.filter(|_| !self.without_extremes));
        let [least, greatest] =
            [known.map(|e| e.map(|(least, _)| least)), known.map(|e| e.map(|(_, most)| most))];
        [least[0], greatest[0], least[1], greatest[1], greatest[2]]
    }

    /// The metric's average; none without a reading that has it.
    pub fn average(&self, metric: usize) -> Option<f64> {
        (self.counts[metric] > 0).then(|| self.sums[metric] / self.counts[metric] as f64)
    }
}

/// What has to become of one partition.
#[derive(Debug, Clone, Default)]
pub struct Partition {
    /// By offset; every record of the partition is here once.
    pub outcomes: BTreeMap<i64, Outcome>,
    /// By the window's start, in ms since 1970.
    pub windows: BTreeMap<i64, Totals>,
    /// By the window's start and the station, as `--by station` keeps them while no limit is reached.
    pub stations: BTreeMap<(i64, String), Totals>,
    /// That of the aggregated records.
    pub max_event_time_ms: Option<i64>,
    /// After the last record.
    pub next_offset: i64,
}

impl Partition {
    /// The partition that holds these records.
    pub fn of_records<'r>(records: impl IntoIterator<Item = &'r RecordAndOffset>, rules: &Rules) -> Self {
        let mut partition = Self::default();
        records.into_iter().for_each(|record| partition.add(record, rules));
        partition
    }

    /// Takes the next record of the log in.
    pub fn add(&mut self, record: &RecordAndOffset, rules: &Rules) {
        let outcome = self.judge(record, rules);
        self.outcomes.insert(record.offset, outcome);
        self.next_offset = record.offset + 1;
    }

    /// How many records there are of each outcome, as `weather_partition` calls them: `aggregated`, `duplicates` and the
    /// reasons of dead letters.
    pub fn counts(&self) -> BTreeMap<&'static str, i64> {
        let mut counts = BTreeMap::new();
        for outcome in self.outcomes.values() {
            let name = match outcome {
                Outcome::Aggregated { .. } => "aggregated",
                Outcome::DeadLetter(reason) => reason,
                Outcome::Duplicate => "duplicates",
            };
            *counts.entry(name).or_default() += 1;
        }
        counts
    }

    fn judge(&mut self, record: &RecordAndOffset, rules: &Rules) -> Outcome {
        if rules.duplicates.contains(&record.offset) {
            return Outcome::Duplicate;
        }
        let (offset, record) = (record.offset, &record.record);
        let reading = match reading::read(record.value.as_deref()) {
            Ok(reading) => reading,
            Err(reason) => return Outcome::DeadLetter(reason),
        };
        let event_time_ms = reading.event_time_ms;
        if rules.now_ms.is_some_and(|now_ms| event_time_ms > now_ms + rules.max_future_ms) {
            return Outcome::DeadLetter("future");
        }
        let window_start_ms = event_time_ms.div_euclid(rules.window_ms) * rules.window_ms;
        let window_end_ms = window_start_ms + rules.window_ms;
        if self.max_event_time_ms.is_some_and(|max| window_end_ms <= max - rules.watermark_ms) {
            return Outcome::DeadLetter("late");
        }
        self.max_event_time_ms = self.max_event_time_ms.max(Some(event_time_ms));
        let mut totals = reading.totals();
        totals.without_extremes = offset < rules.extremes_from;
        self.windows.entry(window_start_ms).or_default().add(&totals);
        let station = (window_start_ms, station_name(reading.station.unwrap_or_default()));
        self.stations.entry(station).or_default().add(&totals);
        Outcome::Aggregated { window_start_ms }
    }
}

/// A station's name in the table: without what PostgreSQL's text cannot hold, and at most 256 bytes long.
fn station_name(name: String) -> String {
    let mut name = name.replace('\0', "\u{fffd}");
    while name.len() > 256 {
        name.pop();
    }
    name
}

/// What has to become of a topic.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The topic's name.
    pub topic: String,
    /// How it was computed.
    pub rules: Rules,
    /// By partition.
    pub partitions: BTreeMap<i32, Partition>,
}

impl Expected {
    /// Reads all partitions up to their ends as they are now.
    pub async fn of_topic(kafka: &Kafka, topic: &str, rules: Rules) -> Self {
        let numbers = kafka.partitions(topic).await;
        // A thread each: they are read at once.
        let reading = numbers.into_iter().map(|number| {
            let (kafka, topic) = (Kafka::at(kafka.port()), topic.to_owned());
            tokio::task::spawn_blocking(move || (number, read_partition(&kafka, &topic, number, &rules)))
        });
        let reading: Vec<_> = reading.collect();
        let mut partitions = BTreeMap::new();
        for task in reading {
            let (number, partition) = task.await.expect("the partition can be read");
            partitions.insert(number, partition);
        }
        Self { topic: topic.to_owned(), rules, partitions }
    }

    /// Of a topic with one partition whose log was changed: of these records, in the order in which they could be read.
    pub fn of_log(topic: &str, log: &[RecordAndOffset], rules: Rules) -> Self {
        let partitions = BTreeMap::from([(0, Partition::of_records(log, &rules))]);
        Self { topic: topic.to_owned(), rules, partitions }
    }

    /// The windows over all partitions, by their start in ms since 1970.
    pub fn windows(&self) -> BTreeMap<i64, Totals> {
        let mut windows = BTreeMap::<i64, Totals>::new();
        for partition in self.partitions.values() {
            for (start, totals) in &partition.windows {
                windows.entry(*start).or_default().add(totals);
            }
        }
        windows
    }

    /// The stations over all partitions, by the window's start in ms since 1970 and their name.
    pub fn stations(&self) -> BTreeMap<(i64, String), Totals> {
        let mut stations = BTreeMap::<(i64, String), Totals>::new();
        for (station, totals) in self.partitions.values().flat_map(|partition| &partition.stations) {
            stations.entry(station.clone()).or_default().add(totals);
        }
        stations
    }

    /// How many records there are of each outcome, over all partitions.
    pub fn counts(&self) -> BTreeMap<&'static str, i64> {
        let mut counts = BTreeMap::new();
        for (name, count) in self.partitions.values().flat_map(Partition::counts) {
            *counts.entry(name).or_default() += count;
        }
        counts
    }
}

fn read_partition(kafka: &Kafka, topic: &str, number: i32, rules: &Rules) -> Partition {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut partition = Partition::default();
    runtime.block_on(kafka.read_each(topic, number, |record| partition.add(&record, rules)));
    partition
}
