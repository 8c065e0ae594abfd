//! The parser: one record's value → a reading.
//!
//! It tries the known shapes first; what they cannot read is parsed in full, into buffers that live as long as the parser.

use std::sync::Arc;

use simd_json::{Node, StaticNode};

use super::format::Format;
use super::json::Json;
use super::plan::{Plan, event_time, sent_number, time_of};
use super::record_reader::RecordReader;
use super::search::{FoundReading, Search};
use super::shape::Shapes;
use super::zone::Cursor;
use super::{Metric, Reading, Reason};

/// A zero byte and a schema id of four bytes: the prefix of schema registries. No JSON begins with it.
const REGISTRY_PREFIX: usize = 5;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads values one after the other and reuses its buffers. Each task has its own.
pub struct Parser {
    format: Arc<Format>,
    shapes: Shapes,
    cursor: Cursor,
    json: Json,
    search: Search,
    /// The last station, if its name is not in the value verbatim.
    station: String,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new(Format::shared())
    }
}

/// Where the station's name is, for [`Parser::name`].
#[derive(Debug, Clone, Copy)]
pub enum StationName<'v> {
    /// The record has none.
    None,
    /// In the value.
    InPlace(&'v str),
    /// With the parser, until it reads the next value.
    Kept,
}

impl Parser {
    /// A parser with small buffers, which grow as needed.
    pub fn new(format: Arc<Format>) -> Self {
        Self {
            format,
            shapes: Shapes::default(),
            cursor: Cursor::default(),
            json: Json::default(),
            search: Search::default(),
            station: String::new(),
        }
    }

    /// How this parser reads.
    pub fn format(&self) -> &Arc<Format> {
        &self.format
    }

    /// Reads one record's value. `record_ms` is when the Kafka record was made, ms since 1970, if that is known.
    ///
    /// # Errors
    /// The reason for refusing it: one of `Malformed`, `MissingTimestamp` and `NoMetric`.
    #[inline]
    pub fn parse(&mut self, value: &[u8], record_ms: Option<i64>) -> Result<Reading, Reason> {
        let mut reading = Reading::EMPTY;
        self.parse_into(value, record_ms, &mut reading).map(|()| reading)
    }

    /// As [`Parser::parse`], but writes the reading in place; `into` is valid only if there is one.
    ///
    /// # Errors
    /// As [`Parser::parse`].
    #[inline]
    pub fn parse_into(
        &mut self,
        value: &[u8],
        record_ms: Option<i64>,
        into: &mut Reading,
    ) -> Result<(), Reason> {
        self.read(value, record_ms, false, into).0
    }

    /// As [`Parser::parse_into`], and where the station is, if the record has one: text, or a whole number as text.
    #[inline]
    pub fn parse_with_station_into<'v>(
        &mut self,
        value: &'v [u8],
        record_ms: Option<i64>,
        into: &mut Reading,
    ) -> (Result<(), Reason>, StationName<'v>) {
        self.read(value, record_ms, true, into)
    }

    /// The name of a station that was found in the value that was read last.
    #[inline]
    pub fn name<'n>(&'n self, station: StationName<'n>) -> Option<&'n str> {
        match station {
            StationName::None => None,
            StationName::InPlace(name) => Some(name),
            StationName::Kept => Some(&self.station),
        }
    }

    /// As [`Parser::parse`], and the station's name.
    pub fn parse_with_station<'p>(
        &'p mut self,
        value: &'p [u8],
        record_ms: Option<i64>,
    ) -> (Result<Reading, Reason>, Option<&'p str>) {
        let mut reading = Reading::EMPTY;
        let (read, station) = self.read(value, record_ms, true, &mut reading);
        (read.map(|()| reading), self.name(station))
    }

    #[inline]
    fn read<'v>(
        &mut self,
        value: &'v [u8],
        record_ms: Option<i64>,
        wants_station: bool,
        into: &mut Reading,
    ) -> (Result<(), Reason>, StationName<'v>) {
        let body = body(value);
        let mut reader = RecordReader::new(&self.format, &mut self.cursor, record_ms, wants_station);
        if self.shapes.read(body, &mut reader, into) {
            return (Ok(()), reader.station.map_or(StationName::None, StationName::InPlace));
        }
        let (reading, station) = self.read_whole(body, record_ms, wants_station);
        (reading.map(|reading| *into = reading), station)
    }

    /// As [`Parser::parse`], without the shapes.
    #[cfg(test)]
    pub(super) fn parse_whole(&mut self, value: &[u8], record_ms: Option<i64>) -> Result<Reading, Reason> {
        self.read_whole(body(value), record_ms, false).0
    }

    /// Reads a value with simd-json, whose result defines its meaning. Of a list, returns the first reading that counts.
    #[inline(never)]
    fn read_whole(
        &mut self,
        body: &[u8],
        record_ms: Option<i64>,
        wants_station: bool,
    ) -> (Result<Reading, Reason>, StationName<'static>) {
        let Self { format, shapes, cursor, json, search, station } = self;
        json.parse(body, |nodes, as_it_stands| {
            let mut reader = RecordReader::new(format, cursor, record_ms, wants_station);
            let mut best = Best::default();
            let mut name = None;
            search.each(format, nodes, |FoundReading { plan, is_element, .. }| {
                if best.counts() {
                    return;
                }
                let read = evaluate(&plan, nodes, &mut reader);
                if read.is_ok() && as_it_stands && !is_element {
                    shapes.learn(body, &plan);
                }
                best.see(read);
                name = plan.station;
            });
            let name = name.filter(|_| wants_station).and_then(|at| nodes.get(at as usize));
            (best.result(), keep_station(name, station))
        })
    }

    /// Reads one record's value, which may be a list of readings: each that counts goes to `take`, with its station.
    ///
    /// Returns how many do not count.
    ///
    /// # Errors
    /// None counts: the reason for refusing the record.
    pub fn parse_list(
        &mut self,
        value: &[u8],
        record_ms: Option<i64>,
        mut take: impl FnMut(Reading, Option<&str>),
    ) -> Result<i64, Reason> {
        let Self { format, cursor, json, search, station, .. } = self;
        json.parse(body(value), |nodes, _| {
            let mut reader = RecordReader::new(format, cursor, record_ms, true);
            let mut best = Best::default();
            let mut refused = 0;
            search.each(format, nodes, |FoundReading { plan, .. }| {
                let read = evaluate(&plan, nodes, &mut reader);
                best.see(read);
                let Ok(reading) = read else {
                    refused += 1;
                    return;
                };
                let name = plan.station.and_then(|at| nodes.get(at as usize));
                let is_named = matches!(keep_station(name, station), StationName::Kept);
                take(reading, is_named.then_some(station.as_str()));
            });
            best.result().map(|_| refused)
        })
    }

    #[cfg(test)]
    pub(super) fn json(&self) -> &Json {
        &self.json
    }
}

/// The result for a whole record: its first reading that counts, else the first reason.
#[derive(Default)]
struct Best(Option<Result<Reading, Reason>>);

impl Best {
    fn counts(&self) -> bool {
        matches!(self.0, Some(Ok(_)))
    }

    fn see(&mut self, read: Result<Reading, Reason>) {
        self.0 = Some(match (self.0, read) {
            (Some(Ok(first)), _) => Ok(first),
            (Some(Err(one)), Err(other)) => Err(one.min(other)),
            (_, read) => read,
        });
    }

    /// A record without any reading is malformed.
    fn result(self) -> Result<Reading, Reason> {
        self.0.unwrap_or(Err(Reason::Malformed))
    }
}

/// The JSON of a value: without a byte order mark or a schema registry's prefix.
#[inline]
pub(super) fn body(value: &[u8]) -> &[u8] {
    match value {
        [0, ..] => value.get(REGISTRY_PREFIX..).unwrap_or_default(),
        [0xef, ..] => value.strip_prefix(BYTE_ORDER_MARK).unwrap_or(value),
        _ => value,
    }
}

/// Judges in the order of [`Reason`].
fn evaluate(plan: &Plan, nodes: &[Node<'_>], reader: &mut RecordReader<'_, '_>) -> Result<Reading, Reason> {
    const NULL: &Node<'static> = &Node::Static(StaticNode::Null);
    let node = |at: u32| nodes.get(at as usize).unwrap_or(NULL);
    let said = match plan.time {
        Some(time) => match time_of(node(time.at)) {
            Ok(said) => Some(event_time(said, time.clock, reader.format, reader.cursor)?),
            Err(Reason::MissingTimestamp) => None,
            Err(reason) => return Err(reason),
        },
        None => None,
    };
    let event_time_ms = said.or_else(|| reader.record_time()).ok_or(Reason::MissingTimestamp)?;
    let mut reading = Reading { event_time_ms, metrics: [None; 3], left_out: [None; 3] };
    for metric in Metric::ALL {
        match plan.metrics[metric.index()] {
            Ok(of) => reader.take(&mut reading, metric, of.conversion, sent_number(node(of.at))),
            Err(cause) => reading.left_out[metric.index()] = Some(cause),
        }
    }
    if reading.metrics == [None; 3] { Err(Reason::NoMetric) } else { Ok(reading) }
}

/// Keeps the station's name: the tape that holds it is about to be dropped.
fn keep_station(name: Option<&Node<'_>>, station: &mut String) -> StationName<'static> {
    use std::fmt::Write as _;
    station.clear();
    match name {
        Some(Node::String(text)) => station.push_str(text),
        // Writing to a String cannot fail.
        Some(Node::Static(StaticNode::U64(number))) => drop(write!(station, "{number}")),
        Some(Node::Static(StaticNode::I64(number))) => drop(write!(station, "{number}")),
        _ => return StationName::None,
    }
    StationName::Kept
}
