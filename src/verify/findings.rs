//! What the comparison of a partition came to, kept small: the first differences are listed, the others counted.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::engine::state::Progress;
use crate::engine::verification::dead_letters::DeadLetterComparison;
use crate::engine::verification::stations::{DifferenceKind, StationDifference, StationVerdict};
use crate::engine::verification::{ComparedValue, Reach};
use crate::engine::window::Totals;
use crate::time::{Rfc3339, SqlTimestamp};

/// At most this many differences of a partition are listed.
const MAX_LISTED: usize = 20;

/// Something that the tables and the topic do not agree in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    /// The partition; null where it is about the output as a whole.
    pub partition: Option<i32>,
    /// First ms of the window, since 1970, if it is about one.
    pub window_start_ms: Option<i64>,
    /// The same, as the table shows it.
    pub window_start: Option<String>,
    /// The first and the last offset of the records that it is about, as far as that is known.
    pub offsets: Option<(i64, i64)>,
    /// What it is.
    pub what: String,
}

/// Windows that cannot be checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Unknown {
    /// The partition.
    pub partition: i32,
    /// How many windows.
    pub windows: i64,
    /// The first and the last of them, as the table shows them, if they were looked at.
    pub between: Option<(String, String)>,
    /// Offsets that Kafka no longer has, the first and the last, if that is why.
    pub gone: Option<(i64, i64)>,
    /// Why.
    pub why: String,
}

/// What is known of a partition.
#[derive(Debug)]
pub(super) struct PartitionFindings {
    pub(super) partition: i32,
    /// Where reading begins and where it ends.
    pub(super) offsets: (i64, i64),
    pub(super) is_whole: bool,
    /// Where counting began.
    origin_offset: i64,
    incarnation: i64,
    pub(super) windows: i64,
    pub(super) readings: i64,
    /// Rows of stations that are the same.
    pub(super) station_rows: i64,
    pub(super) dead_letters: i64,
    pub(super) dead_letters_not_kept: i64,
    /// Whether none of its dead letters was deleted.
    pub(super) dead_letters_are_kept: bool,
    pub(super) differences: Vec<Difference>,
    /// All differences, listed or not.
    pub(super) differing: i64,
    unknown_windows: i64,
    unknown_between: Option<(i64, i64)>,
    /// Windows whose stations differ.
    differing_stations: BTreeSet<i64>,
    /// Windows whose stations may have been kept apart only from some reading on.
    unknown_stations: BTreeSet<i64>,
    /// Why nothing is proved by a difference.
    excuse: Option<String>,
    /// Why it was not read to the end.
    given_up: Option<String>,
}

impl PartitionFindings {
    pub(super) fn new(partition: i32, table: &Progress, reach: &Reach) -> Self {
        Self {
            partition,
            offsets: (reach.from.offset, table.next_offset),
            is_whole: reach.is_whole,
            origin_offset: table.origin_offset,
            incarnation: table.incarnation,
            windows: 0,
            readings: 0,
            station_rows: 0,
            dead_letters: 0,
            dead_letters_not_kept: 0,
            dead_letters_are_kept: false,
            differences: Vec::new(),
            differing: 0,
            unknown_windows: 0,
            unknown_between: None,
            differing_stations: BTreeSet::new(),
            unknown_stations: BTreeSet::new(),
            excuse: None,
            given_up: None,
        }
    }

    /// A window is the same on both sides.
    pub(super) fn equal(&mut self, totals: Option<&Totals>) {
        self.windows += 1;
        self.readings += totals.map_or(0, |totals| totals.readings);
    }

    /// A window cannot be checked.
    pub(super) fn unknown(&mut self, start_ms: i64, _table: Option<&Totals>) {
        self.unknown_windows += 1;
        let (first, last) = self.unknown_between.unwrap_or((start_ms, start_ms));
        self.unknown_between = Some((first.min(start_ms), last.max(start_ms)));
    }

    /// A window is not the same.
    pub(super) fn differs(
        &mut self,
        start_ms: i64,
        table: Option<&Totals>,
        log: Option<&Totals>,
        values: Vec<ComparedValue>,
    ) {
        let what = match (table, log) {
            (None, _) => "weather_partial has no row of it".to_owned(),
            (_, None) => "the topic has no reading of it".to_owned(),
            _ => describe(&values),
        };
        self.find_in(start_ms, offsets(table, log), what);
    }

    /// What the stations of a window came to, whose readings are at these offsets.
    pub(super) fn stations(&mut self, start_ms: i64, offsets: Option<(i64, i64)>, verdict: StationVerdict) {
        match verdict {
            StationVerdict::Equal(rows) => self.station_rows += rows,
            StationVerdict::Unknown => {
                self.unknown_stations.insert(start_ms);
            }
            StationVerdict::Differs(differing, listed) => {
                self.differing_stations.insert(start_ms);
                self.differing += differing - listed.len() as i64;
                for difference in &listed {
                    self.find_in(start_ms, offsets, describe_station(difference));
                }
            }
        }
    }

    /// Whether differing stations of a window are listed.
    pub(super) fn has_listed_stations(&self, start_ms: i64) -> bool {
        self.excuse.is_none() && self.differing_stations.contains(&start_ms)
    }

    /// Something about a window.
    fn find_in(&mut self, start_ms: i64, offsets: Option<(i64, i64)>, what: String) {
        self.find(Difference {
            partition: Some(self.partition),
            window_start_ms: Some(start_ms),
            window_start: Some(SqlTimestamp(start_ms).to_string()),
            offsets,
            what,
        });
    }

    /// What the numbers of the state came to.
    pub(super) fn counts(&mut self, values: &[ComparedValue]) {
        if !values.is_empty() {
            let what = format!("in weather_partition: {}", describe(values));
            self.find_at(Some(self.offsets), what);
        }
    }

    /// Something about the partition as a whole.
    pub(super) fn find_at(&mut self, offsets: Option<(i64, i64)>, what: String) {
        let partition = Some(self.partition);
        self.find(Difference { partition, window_start_ms: None, window_start: None, offsets, what });
    }

    /// What the dead letters came to.
    pub(super) fn dead_letters(&mut self, outcome: DeadLetterComparison) {
        self.dead_letters = outcome.equal;
        self.dead_letters_not_kept = outcome.not_kept;
        self.dead_letters_are_kept = self.is_whole && outcome.deleted == 0;
        for finding in outcome.findings {
            self.find_at(Some((finding.first_offset, finding.last_offset)), finding.what);
        }
    }

    fn find(&mut self, difference: Difference) {
        self.differing += 1;
        if self.differences.len() < MAX_LISTED {
            self.differences.push(difference);
        }
    }

    /// Nothing is proved by a difference, for this reason.
    pub(super) fn lose(&mut self, why: String) {
        self.excuse.get_or_insert(why);
    }

    /// The rest cannot be read.
    pub(super) fn give_up(&mut self, why: String) {
        self.given_up = Some(why);
    }

    /// All that cannot be checked; differences that prove nothing are taken from the others.
    pub(super) fn take_unknown(&mut self) -> Vec<Unknown> {
        let mut unknown = Vec::new();
        let about = |windows, between: Option<(i64, i64)>, gone, why| Unknown {
            partition: self.partition,
            windows,
            between: between.map(|(a, b)| (SqlTimestamp(a).to_string(), SqlTimestamp(b).to_string())),
            gone,
            why,
        };
        if self.unknown_windows > 0 || (!self.is_whole && self.given_up.is_none()) {
            let (gone, why) = self.gone();
            unknown.push(about(self.unknown_windows, self.unknown_between, gone, why));
        }
        let windows = std::mem::take(&mut self.unknown_stations);
        if let Some(between) = windows.first().copied().zip(windows.last().copied()) {
            let why = "of their stations only the sums: before --by station was set, or under another --max-stations, readings \
                       counted for station * that by the topic have one of their own";
            unknown.push(about(windows.len() as i64, Some(between), None, why.to_owned()));
        }
        if let Some(why) = self.given_up.take() {
            unknown.push(about(0, None, None, why));
        }
        if let Some(why) = self.excuse.take().filter(|_| self.differing > 0) {
            let windows = self.differences.iter().filter_map(|d| d.window_start_ms);
            let between = windows.clone().min().zip(windows.max());
            unknown.push(about(self.differing, between, None, why));
            self.differing = 0;
            self.differences.clear();
        }
        unknown
    }

    /// What the beginning was that is gone, and how that is said.
    fn gone(&self) -> (Option<(i64, i64)>, String) {
        let from = self.offsets.0;
        match self.incarnation {
            0 => {
                let gone = (self.origin_offset, from - 1);
                let why = format!("Kafka no longer has offsets {} to {}", gone.0, gone.1);
                (Some(gone), why)
            }
            _ => (None, format!("the topic was recreated or cut; what it had before offset {from} is gone")),
        }
    }
}

/// The first and the last offset of a window's readings, as far as either side knows them.
pub(super) fn offsets(table: Option<&Totals>, log: Option<&Totals>) -> Option<(i64, i64)> {
    let sides = [table, log].into_iter().flatten().filter(|totals| totals.is_traced());
    sides.map(|totals| (totals.first_offset, totals.last_offset)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

/// `station "a": b is 1, 2 by the topic; …`
fn describe_station(difference: &StationDifference) -> String {
    // Names are anything: no control character of one may reach a terminal.
    let station = &difference.station;
    match &difference.how {
        DifferenceKind::Values(values) => format!("station {station:?}: {}", describe(values)),
        DifferenceKind::NoRow => format!("station {station:?}: weather_station_partial has no row of it"),
        DifferenceKind::NoReading => format!("station {station:?}: the topic has no reading of it"),
    }
}

/// `a is 1 in the table, 2 by the topic; …`
pub(super) fn describe(values: &[ComparedValue]) -> String {
    let one = |value: &ComparedValue| {
        let text = |side: Option<i64>| match side {
            None => "null".to_owned(),
            Some(ms) if ["watermark", "max_event_time"].contains(&value.name) => Rfc3339(ms).to_string(),
            Some(number) => number.to_string(),
        };
        format!("{} is {}, {} by the topic", value.name, text(value.table), text(value.log))
    };
    values.iter().map(one).collect::<Vec<_>>().join("; ")
}
