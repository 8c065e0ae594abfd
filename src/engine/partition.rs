//! One partition: records in, state and dead letters out. No I/O, no clock, no randomness.
//!
//! Every record becomes exactly one of rejected or aggregated (as a whole, also if it is a list of readings), decided
//! in this order:
//! 1. *oversized*, *malformed*, *missing_timestamp*, *no_metric*: what the value itself says;
//! 2. *future*: further ahead of `now` than allowed; such a record never moves the watermark;
//! 3. *late*: its window is closed by the watermark as of this record;
//! 4. aggregated, and the watermark moves.
//!
//! All but 2 depend on the partition's own records alone, so a replay decides the same. What a clock has let through or not
//! by 2 can only differ while it is wrong; it is counted as it was decided.
//!
//! Invariants: `next_offset` and the watermark never go back within an incarnation; a window leaves the state only when
//! it is closed and PostgreSQL has confirmed its last totals.

use std::sync::Arc;

use crate::engine::dead_letter::{DeadLetter, FloodGate, MAX_PAYLOAD_BYTES};
use crate::engine::intake::Lacking;
use crate::engine::invariants;
use crate::engine::state::{LogIdentity, PartitionState, Position};
use crate::engine::stations::{StationRow, Stations};
use crate::engine::watermark::Watermark;
use crate::engine::window::{Deltas, METRICS, start_of};
use crate::reading::{Format, Parser, Reading, Reason, StationName};

mod list;

/// A longer value is not a reading; it is rejected before it is parsed.
pub const MAX_READING_BYTES: usize = 64 * 1024;
/// What a partition needs of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSettings {
    /// Length of a window, ms.
    pub window_ms: i64,
    /// How far the watermark trails the greatest event time, ms.
    pub out_of_orderness_ms: i64,
    /// How far ahead of the clock an event time may be, ms.
    pub max_future_ms: i64,
}

/// A record as Kafka gave it.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in Kafka, ms since 1970; below 0 if it has none.
    pub timestamp_ms: i64,
    /// When the broker appended it, ms since 1970, where the topic stamps records with that.
    pub append_time_ms: Option<i64>,
    /// Its value, cut to the longest that a reading may have. None is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Bytes of the whole value.
    pub bytes: usize,
}

/// What PostgreSQL has confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmation {
    /// Position of the confirmed state.
    pub position: Position,
    /// Watermark of the confirmed state.
    pub watermark_ms: i64,
}

/// The state machine of one partition.
pub struct Partition {
    settings: WindowSettings,
    state: PartitionState,
    watermark: Watermark,
    /// Rejected since [`Self::take_rejected`].
    rejected: Vec<DeadLetter>,
    flood: FloodGate,
    /// Index of the first window that changed since [`Self::take_changed`].
    changed_from: usize,
    // Reused from batch to batch.
    parser: Parser,
    deltas: Deltas,
    /// The wall clock as of [`Self::begin`].
    now_ms: i64,
    last_window: (i64, i64),
    lacking: Arc<Lacking>,
    /// Readings of a list, while they are judged, with their stations where these are kept apart.
    list: Vec<(Reading, Option<Box<str>>)>,
    /// Where the user asks for them.
    stations: Option<Stations>,
}

impl Partition {
    /// Continues from a state.
    pub fn new(settings: WindowSettings, state: PartitionState) -> Self {
        assert!(settings.window_ms > 0 && settings.max_future_ms >= 0);
        let watermark = Watermark::restore(
            state.progress.max_event_time_ms,
            state.progress.watermark_ms,
            settings.out_of_orderness_ms,
        );
        Self {
            settings,
            state,
            watermark,
            rejected: Vec::new(),
            flood: FloodGate::default(),
            changed_from: 0,
            parser: Parser::default(),
            deltas: Deltas::default(),
            now_ms: 0,
            last_window: (0, 0),
            lacking: Arc::default(),
            list: Vec::new(),
            stations: None,
        }
    }

    /// Keeps stations apart, going on from these.
    #[must_use]
    pub fn by_station(mut self, stations: Option<Stations>) -> Self {
        self.stations = stations;
        self
    }

    /// The stations, where they are kept apart.
    pub fn stations(&self) -> Option<&Stations> {
        self.stations.as_ref()
    }

    /// The stations, to be taken out of windows that are confirmed next.
    pub fn stations_mut(&mut self) -> Option<&mut Stations> {
        self.stations.as_mut()
    }

    /// The stations that changed since PostgreSQL's last confirmation, to be written with the state as it is now.
    pub fn take_changed_stations(&mut self) -> Vec<StationRow> {
        let position = self.state.progress.position();
        self.stations.as_mut().map(|stations| stations.take_changed(position)).unwrap_or_default()
    }

    /// Reads records in this format instead of the default one.
    #[must_use]
    pub fn reading(mut self, format: Arc<Format>) -> Self {
        self.parser = Parser::new(format);
        self
    }

    /// Hands out every dead letter, also those of a flood.
    #[must_use]
    pub fn unsampled(mut self) -> Self {
        self.flood = FloodGate::open();
        self
    }

    /// How records are read.
    pub fn format(&self) -> &Arc<Format> {
        self.parser.format()
    }

    /// The state after all that was applied.
    pub fn state(&self) -> &PartitionState {
        &self.state
    }

    /// Readings without a metric, to show people.
    pub fn lacking(&self) -> &Arc<Lacking> {
        &self.lacking
    }

    /// Whether there are dead letters to take.
    pub fn has_rejected(&self) -> bool {
        !self.rejected.is_empty()
    }

    /// Dead letters since the last call, by offset. They belong to the state as it is now.
    pub fn take_rejected(&mut self) -> std::vec::Drain<'_, DeadLetter> {
        self.rejected.drain(..)
    }

    /// To be called before the state is published: the index of the first window that changed since the last call.
    ///
    /// # Errors
    /// The state is invalid and must not be published; see [`invariants`].
    pub fn take_changed(&mut self) -> Result<usize, String> {
        invariants::check(&self.state, self.settings.window_ms, self.changed_from)?;
        if let Some(stations) = &self.stations {
            stations.check(&self.state.windows)?;
        }
        Ok(std::mem::replace(&mut self.changed_from, self.state.windows.len()))
    }

    /// Applies records in the order of their offsets. `now_ms` is the wall clock.
    pub fn apply<'a>(&mut self, records: impl Iterator<Item = Incoming<'a>>, now_ms: i64) {
        self.begin(now_ms);
        records.for_each(|record| self.take(record));
        self.settle();
    }

    /// Begins to take records. `now_ms` is the wall clock.
    pub fn begin(&mut self, now_ms: i64) {
        self.flood.refill(now_ms);
        self.now_ms = now_ms;
    }

    /// Takes one record; the state is whole again after [`Self::settle`].
    ///
    /// A record below `next_offset` was taken before and is ignored. An offset without a record counts as skipped.
    #[inline]
    pub fn take(&mut self, record: Incoming<'_>) {
        if record.offset >= self.state.progress.next_offset {
            self.skip_to(record.offset);
            self.take_new(record);
        }
    }

    /// Continues at `offset`; the offsets between have no records.
    pub fn skip_to(&mut self, offset: i64) {
        let progress = &mut self.state.progress;
        progress.skipped += (offset - progress.next_offset).max(0);
        progress.next_offset = progress.next_offset.max(offset);
    }

    /// Continues at `offset`; Kafka no longer has the records between.
    pub fn lose_to(&mut self, offset: i64) {
        let progress = &mut self.state.progress;
        progress.lost += (offset - progress.next_offset).max(0);
        progress.next_offset = progress.next_offset.max(offset);
    }

    /// Continues at `offset` of another log that replaced this one. What was aggregated stays.
    pub fn start_over(&mut self, offset: i64) {
        let progress = &mut self.state.progress;
        progress.incarnation += 1;
        progress.next_offset = offset;
        progress.origin_offset = offset - progress.accounted();
        self.state.log = LogIdentity::UNKNOWN;
    }

    /// Whether the partition is caught up and silent; returns whether that is news.
    pub fn set_idle(&mut self, idle: bool) -> bool {
        let idle = i64::from(idle);
        std::mem::replace(&mut self.state.progress.idle, idle) != idle
    }

    /// Remembers which log is read.
    pub fn remember(&mut self, log: LogIdentity) {
        self.state.log = log;
    }

    /// Drops what PostgreSQL has confirmed.
    pub fn confirm(&mut self, confirmed: Confirmation) {
        let progress = &mut self.state.progress;
        if confirmed.position <= progress.flushed() {
            return;
        }
        progress.flushed_incarnation = confirmed.position.incarnation;
        progress.flushed_offset = confirmed.position.offset;
        // What was closed at the confirmed state has taken no record since, so its confirmed totals are its last.
        let closed = confirmed.watermark_ms - self.settings.window_ms;
        let before = self.state.windows.len();
        self.state.windows.retain(|w| w.start_ms > closed);
        if let Some(stations) = &mut self.stations {
            stations.confirm(confirmed.position, closed);
        }
        if self.state.windows.len() != before {
            self.changed_from = 0;
        }
    }

    /// How many windows have ended and wait for PostgreSQL's confirmation: the reading task bounds their memory.
    pub fn closed_windows(&self) -> usize {
        let closed = self.state.progress.watermark_ms.saturating_sub(self.settings.window_ms);
        self.state.windows.partition_point(|window| window.start_ms <= closed)
    }

    /// How many windows have changed since the state was whole.
    pub fn unsettled_windows(&self) -> usize {
        self.deltas.count()
    }

    fn take_new(&mut self, record: Incoming<'_>) {
        let Incoming { offset, timestamp_ms, append_time_ms, value, bytes } = record;
        self.state.progress.next_offset = offset + 1;
        let Some(value) = value else {
            return self.reject(Reason::Malformed, offset, None, 0);
        };
        // The broker's clock may be right where this one is behind.
        let now_ms = append_time_ms.map_or(self.now_ms, |time_ms| time_ms.max(self.now_ms));
        let future_ms = now_ms.saturating_add(self.settings.max_future_ms);
        let taken = match bytes {
            0..=MAX_READING_BYTES if self.parser.format().has_list() => {
                self.aggregate_list(offset, value, timestamp_ms, future_ms)
            }
            0..=MAX_READING_BYTES => self.aggregate(offset, value, timestamp_ms, future_ms),
            _ => Err(Reason::Oversized),
        };
        if let Err(reason) = taken {
            self.reject(reason, offset, Some(value), bytes);
        }
    }

    /// Aggregates the reading of a value.
    #[inline]
    fn aggregate(
        &mut self,
        offset: i64,
        value: &[u8],
        timestamp_ms: i64,
        future_ms: i64,
    ) -> Result<(), Reason> {
        let (mut reading, mut station) = (Reading::EMPTY, StationName::None);
        match self.stations {
            None => self.parser.parse_into(value, Some(timestamp_ms), &mut reading)?,
            Some(_) => {
                let (read, found) =
                    self.parser.parse_with_station_into(value, Some(timestamp_ms), &mut reading);
                read?;
                station = found;
            }
        }
        let start_ms = self.window_of(reading.event_time_ms, future_ms)?;
        self.watermark.observe(reading.event_time_ms);
        self.add(start_ms, offset, &reading);
        if let Some(stations) = &mut self.stations {
            stations.add(start_ms, self.parser.name(station), &reading);
        }
        self.state.progress.aggregated += 1;
        if reading.left_out != [None; METRICS] {
            self.lacking.see(&reading, value);
        }
        Ok(())
    }

    /// The start of the window that accepts a reading of this time, if one still does.
    #[inline]
    fn window_of(&mut self, time_ms: i64, future_ms: i64) -> Result<i64, Reason> {
        if time_ms > future_ms {
            return Err(Reason::Future);
        }
        let (start, end) = self.last_window;
        if time_ms < start || time_ms >= end {
            let start = start_of(time_ms, self.settings.window_ms);
            self.last_window = (start, start + self.settings.window_ms);
        }
        let (start, end) = self.last_window;
        if self.watermark.closes(end) { Err(Reason::Late) } else { Ok(start) }
    }

    /// Adds a reading to its window.
    #[inline]
    fn add(&mut self, start_ms: i64, offset: i64, reading: &Reading) {
        self.deltas.add(start_ms, offset, reading);
        for (counts, cause) in self.state.progress.left_out.iter_mut().zip(reading.left_out) {
            if let Some(cause) = cause {
                counts[cause.index()] += 1;
            }
        }
    }

    /// Rejects a record; what it begins with is kept. The value, or as much of it as was given, is None for a tombstone.
    #[cold]
    fn reject(&mut self, reason: Reason, offset: i64, value: Option<&[u8]>, bytes: usize) {
        let progress = &mut self.state.progress;
        progress.rejected[reason.index()] += 1;
        if !self.flood.admit(reason) {
            progress.sampled_out += 1;
            return;
        }
        let incarnation = progress.incarnation;
        let payload = value.map(|value| Arc::from(&value[..value.len().min(MAX_PAYLOAD_BYTES)]));
        let payload_bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.rejected.push(DeadLetter { incarnation, offset, reason, payload, payload_bytes });
    }

    /// Moves what was taken since [`Self::begin`] into the state.
    pub fn settle(&mut self) {
        let windows = &mut self.state.windows;
        for mut delta in self.deltas.drain() {
            delta.totals.incarnation = self.state.progress.incarnation;
            let index = match windows.binary_search_by_key(&delta.start_ms, |w| w.start_ms) {
                Ok(index) => {
                    windows[index].totals.merge(&delta.totals);
                    index
                }
                Err(index) => {
                    windows.insert(index, delta);
                    index
                }
            };
            self.changed_from = self.changed_from.min(index);
        }
        if let Some(stations) = &mut self.stations {
            stations.settle();
        }
        self.state.progress.max_event_time_ms = self.watermark.max_event_time_ms();
        self.state.progress.watermark_ms = self.watermark.watermark_ms();
    }
}

#[cfg(test)]
mod tests;
